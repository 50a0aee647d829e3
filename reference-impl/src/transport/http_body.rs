//! How long an HTTP body is, and taking it in piece by piece (RFC 9112, section 6). Trailers are read and dropped.

use std::collections::VecDeque;

/// The longest line of chunked framing that is read.
const LINE: usize = 4 << 10;

/// A body that is being read.
#[derive(Debug)]
pub(super) struct BodyReader {
    framing: Framing,
    body: Vec<u8>,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are still to come.
    Length(usize),
    /// The size of a chunk comes next.
    ChunkSize,
    /// So many bytes of a chunk are still to come.
    Chunk(usize),
    /// The line end behind a chunk comes next.
    ChunkEnd,
    /// Trailers, up to an empty line.
    Trailers,
    /// Everything up to the end of the stream.
    UntilEnd,
}

/// Whether a body is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Complete,
    NeedsMore,
}

impl BodyReader {
    /// The body that headers announce; `until_end` for answers, whose length need not be told. The error is text for
    /// a person.
    pub(super) fn new(
        header: impl Fn(&str) -> Option<String>,
        until_end: bool,
        limit: usize,
    ) -> Result<BodyReader, &'static str> {
        let framing = match (header("transfer-encoding"), header("content-length")) {
            (Some(coding), _) if coding.trim().eq_ignore_ascii_case("chunked") => Framing::ChunkSize,
            (Some(_), _) => return Err("a transfer coding that is not known"),
            (None, Some(length)) => {
                let length = Some(length).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let length = length.and_then(|text| text.parse::<usize>().ok());
                Framing::Length(
                    length.filter(|length| *length <= limit).ok_or("a body of a length that is not taken")?,
                )
            }
            (None, None) if until_end => Framing::UntilEnd,
            (None, None) => Framing::Length(0),
        };
        Ok(BodyReader { framing, body: Vec::new(), limit })
    }

    /// A body without any bytes.
    pub(super) fn empty() -> BodyReader {
        BodyReader { framing: Framing::Length(0), body: Vec::new(), limit: 0 }
    }

    /// Takes what belongs to the body from `input`.
    pub(super) fn read(&mut self, input: &mut VecDeque<u8>) -> Result<Progress, &'static str> {
        loop {
            match self.framing {
                Framing::Length(0) => return Ok(Progress::Complete),
                Framing::Length(left) => {
                    let taken = self.take(input, left);
                    self.framing = Framing::Length(left - taken);
                    if taken < left {
                        return Ok(Progress::NeedsMore);
                    }
                }
                Framing::UntilEnd => {
                    let all = input.len();
                    self.take(input, all);
                    return if self.body.len() > self.limit {
                        Err("a body that is too long")
                    } else {
                        Ok(Progress::NeedsMore)
                    };
                }
                Framing::ChunkSize => {
                    let Some(line) = line(input)? else { return Ok(Progress::NeedsMore) };
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk without a size")?;
                    if size > self.limit.saturating_sub(self.body.len()) {
                        return Err("a body that is too long");
                    }
                    self.framing = if size == 0 { Framing::Trailers } else { Framing::Chunk(size) };
                }
                Framing::Chunk(left) => {
                    let taken = self.take(input, left);
                    if taken < left {
                        self.framing = Framing::Chunk(left - taken);
                        return Ok(Progress::NeedsMore);
                    }
                    self.framing = Framing::ChunkEnd;
                }
                Framing::ChunkEnd => {
                    let Some(line) = line(input)? else { return Ok(Progress::NeedsMore) };
                    if !line.is_empty() {
                        return Err("a chunk that is longer than its size");
                    }
                    self.framing = Framing::ChunkSize;
                }
                Framing::Trailers => {
                    let Some(line) = line(input)? else { return Ok(Progress::NeedsMore) };
                    if line.is_empty() {
                        self.framing = Framing::Length(0);
                    }
                }
            }
        }
    }

    /// The stream has ended: the body, if that is how it ends or if it was complete.
    pub(super) fn ended(&self) -> Option<Vec<u8>> {
        matches!(self.framing, Framing::UntilEnd | Framing::Length(0)).then(|| self.body.clone())
    }

    /// The body so far.
    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }

    fn take(&mut self, input: &mut VecDeque<u8>, most: usize) -> usize {
        let count = most.min(input.len());
        self.body.extend(input.drain(..count));
        count
    }
}

fn line(input: &mut VecDeque<u8>) -> Result<Option<String>, &'static str> {
    let Some(end) = input.iter().take(LINE).position(|byte| *byte == b'\n') else {
        return if input.len() >= LINE { Err("a line that is too long") } else { Ok(None) };
    };
    let bytes: Vec<u8> = input.drain(..=end).collect();
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` byte by byte; the body and what is left over.
    fn check(headers: &[(&str, &str)], text: &str) -> Result<(String, usize), &'static str> {
        let header = |name: &str| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let mut reader = BodyReader::new(header, false, 100)?;
        let mut input = VecDeque::new();
        let mut left = text.len();
        for byte in text.bytes() {
            if reader.read(&mut input)? == Progress::Complete {
                break;
            }
            input.push_back(byte);
            left -= 1;
        }
        match reader.read(&mut input)? {
            Progress::Complete => Ok((String::from_utf8_lossy(&reader.into_body()).into_owned(), left)),
            Progress::NeedsMore => Err("unfinished"),
        }
    }

    #[test]
    fn a_body_of_a_known_length_ends_there() {
        assert_eq!(check(&[("content-length", "5")], "helloGET"), Ok(("hello".to_owned(), 3)));
    }

    #[test]
    fn chunks_are_joined() {
        let text = "3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\nGET";
        assert_eq!(check(&[("transfer-encoding", "chunked")], text), Ok(("hello".to_owned(), 3)));
    }

    #[test]
    fn a_chunk_that_lies_is_refused() {
        let text = "3\r\nhello\r\n0\r\n\r\n";
        assert_eq!(
            check(&[("transfer-encoding", "chunked")], text),
            Err("a chunk that is longer than its size")
        );
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        assert!(check(&[("content-length", "101")], "").is_err());
        assert!(check(&[("transfer-encoding", "chunked")], "65\r\n").is_err());
        assert!(check(&[("content-length", "+5")], "hello").is_err());
    }
}
