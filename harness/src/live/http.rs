//! Overhears plain HTTP/1.1 on one connection: requests and answers with their bodies, one after the other, as
//! keep-alive connections carry them.

use std::collections::VecDeque;

use flowproof_reference::machine::{Request, Response};

use super::trace::End;

/// The longest head that is read.
const HEAD: usize = 64 << 10;
/// Headers of a head.
const HEADERS: usize = 128;

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A whole request.
    Asked(Request),
    /// A whole answer.
    Answered(Response),
    /// A request for a WebSocket: these bytes, and all that follow, are its.
    Upgrade(Vec<u8>),
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Chunked,
    Length(usize),
    ToTheEnd,
}

/// The head of a message that waits for its body.
#[derive(Debug)]
struct Head {
    request: Option<Request>,
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    length: usize,
}

/// The ears on one connection.
#[derive(Debug)]
pub struct HttpEars {
    limit: usize,
    asked: Vec<u8>,
    answered: Vec<u8>,
    waiting: Option<Head>,
    answering: Option<Head>,
    /// The methods of requests that are not answered yet.
    open: VecDeque<String>,
    /// Something could not be read: nothing more is heard.
    deaf: bool,
}

impl HttpEars {
    /// Ears that hear bodies up to so many bytes.
    pub fn new(limit: usize) -> HttpEars {
        HttpEars {
            limit,
            asked: Vec::new(),
            answered: Vec::new(),
            waiting: None,
            answering: None,
            open: VecDeque::new(),
            deaf: false,
        }
    }

    /// Takes bytes that one end sent.
    pub fn bytes(&mut self, from: End, bytes: &[u8], out: &mut Vec<Heard>) {
        if self.deaf {
            return;
        }
        match from {
            End::Client => self.asked.extend_from_slice(bytes),
            End::Server => self.answered.extend_from_slice(bytes),
        }
        while !self.deaf {
            let heard = match from {
                End::Client => self.request(),
                End::Server => self.response(),
            };
            let Some(heard) = heard else { break };
            let over = matches!(heard, Heard::Upgrade(_));
            out.push(heard);
            if over {
                self.deaf = true;
            }
        }
        if self.asked.len().max(self.answered.len()) > self.limit + HEAD {
            self.deaf = true;
        }
        if self.deaf {
            (self.asked, self.answered) = (Vec::new(), Vec::new());
        }
    }

    /// The stream of one end has ended.
    pub fn ended(&mut self, from: End, out: &mut Vec<Heard>) {
        let ends_body = self.answering.as_ref().is_some_and(|head| head.body == Body::ToTheEnd);
        if from == End::Server && ends_body && !self.deaf {
            let Some(head) = self.answering.take() else { return };
            let body = self.answered.split_off(head.length);
            self.open.pop_front();
            out.push(Heard::Answered(Response { status: head.status, headers: head.headers, body }));
        }
        self.deaf = true;
    }

    fn request(&mut self) -> Option<Heard> {
        if self.waiting.is_none() {
            let mut room = [httparse::EMPTY_HEADER; HEADERS];
            let mut head = httparse::Request::new(&mut room);
            let length = match head.parse(&self.asked) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if self.asked.len() < HEAD => return None,
                Ok(httparse::Status::Partial) | Err(_) => {
                    self.deaf = true;
                    return None;
                }
            };
            let headers = named(head.headers);
            let target = head.path.unwrap_or_default();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let request = Request {
                method: head.method.unwrap_or_default().to_owned(),
                path: path.to_owned(),
                query: query.to_owned(),
                headers: headers.clone(),
                upgrade: false,
                body: Vec::new(),
            };
            if value(&headers, "upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket")) {
                // An answer that is still awaited would be read as one to this.
                if !self.open.is_empty() {
                    self.deaf = true;
                    return None;
                }
                return Some(Heard::Upgrade(std::mem::take(&mut self.asked)));
            }
            let body = length_of(&headers).unwrap_or(Body::Length(0));
            self.waiting = Some(Head { request: Some(request), status: 0, headers, body, length });
        }
        let head = self.waiting.as_ref()?;
        let (body, end) = whole(&self.asked, head, &mut self.deaf)?;
        self.asked.drain(..end);
        let mut request = self.waiting.take()?.request?;
        request.body = body;
        self.open.push_back(request.method.clone());
        Some(Heard::Asked(request))
    }

    fn response(&mut self) -> Option<Heard> {
        if self.answering.is_none() {
            let mut room = [httparse::EMPTY_HEADER; HEADERS];
            let mut head = httparse::Response::new(&mut room);
            let length = match head.parse(&self.answered) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if self.answered.len() < HEAD => return None,
                Ok(httparse::Status::Partial) | Err(_) => {
                    self.deaf = true;
                    return None;
                }
            };
            let status = head.code.unwrap_or_default();
            let headers = named(head.headers);
            let bare = self.open.front().is_some_and(|method| method == "HEAD")
                || matches!(status, 100..=199 | 204 | 304);
            let body = if bare { Body::Length(0) } else { length_of(&headers).unwrap_or(Body::ToTheEnd) };
            self.answering = Some(Head { request: None, status, headers, body, length });
        }
        let head = self.answering.as_ref()?;
        let (body, end) = whole(&self.answered, head, &mut self.deaf)?;
        self.answered.drain(..end);
        let head = self.answering.take()?;
        // `100 Continue` and the like announce the answer.
        if (100..200).contains(&head.status) {
            return self.response();
        }
        self.open.pop_front();
        Some(Heard::Answered(Response { status: head.status, headers: head.headers, body }))
    }
}

fn named(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let named = headers.iter().map(|header| {
        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned())
    });
    named.collect()
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn length_of(headers: &[(String, String)]) -> Option<Body> {
    if value(headers, "transfer-encoding")
        .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
    {
        return Some(Body::Chunked);
    }
    value(headers, "content-length")?.trim().parse().ok().map(Body::Length)
}

/// The body behind a head, and where it ends, when all of it is there.
fn whole(bytes: &[u8], head: &Head, broken: &mut bool) -> Option<(Vec<u8>, usize)> {
    match head.body {
        Body::Length(length) => {
            let end = head.length.checked_add(length)?;
            Some((bytes.get(head.length..end)?.to_vec(), end))
        }
        Body::ToTheEnd => None,
        Body::Chunked => {
            let mut body = Vec::new();
            let mut at = head.length;
            loop {
                let (skipped, size) = match httparse::parse_chunk_size(bytes.get(at..)?) {
                    Ok(httparse::Status::Complete(found)) => found,
                    Ok(httparse::Status::Partial) => return None,
                    Err(_) => {
                        *broken = true;
                        return None;
                    }
                };
                at += skipped;
                if size == 0 {
                    // Trailers up to an empty line.
                    loop {
                        let line = bytes.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
                        at += line + 2;
                        if line == 0 {
                            return Some((body, at));
                        }
                    }
                }
                let end = at.checked_add(usize::try_from(size).ok()?)?;
                body.extend_from_slice(bytes.get(at..end)?);
                at = end + 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard of both directions, each in chunks of that size; the client speaks first.
    fn hear(asked: &str, answered: &str, chunk: usize) -> Vec<String> {
        let mut ears = HttpEars::new(1 << 20);
        let mut out = Vec::new();
        asked.as_bytes().chunks(chunk).for_each(|part| ears.bytes(End::Client, part, &mut out));
        answered.as_bytes().chunks(chunk).for_each(|part| ears.bytes(End::Server, part, &mut out));
        ears.ended(End::Server, &mut out);
        out.iter()
            .map(|heard| match heard {
                Heard::Asked(request) => {
                    format!("{} {} {}", request.method, request.path, String::from_utf8_lossy(&request.body))
                }
                Heard::Answered(response) => {
                    format!("{} {}", response.status, String::from_utf8_lossy(&response.body))
                }
                Heard::Upgrade(bytes) => format!("upgrade {}", bytes.len()),
            })
            .collect()
    }

    #[test]
    fn requests_and_answers_of_one_connection_are_heard_whatever_the_chunks() {
        let asked = "POST /api?x=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET /a HTTP/1.1\r\n\r\nHEAD /b HTTP/1.1\r\n\r\n";
        let answered = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
                        HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        for chunk in [1, 7, 4096] {
            let heard = hear(asked, answered, chunk);
            assert_eq!(
                heard,
                ["POST /api {}", "GET /a ", "HEAD /b ", "200 abcde", "204 ", "200 "],
                "{chunk}"
            );
        }
    }

    #[test]
    fn a_body_may_last_until_the_end() {
        assert_eq!(hear("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nall", 2), ["GET / ", "200 all"]);
    }

    #[test]
    fn a_websocket_after_plain_requests_is_handed_over() {
        let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        let mut ears = HttpEars::new(1 << 20);
        let mut out = Vec::new();
        ears.bytes(End::Client, b"GET / HTTP/1.1\r\n\r\n", &mut out);
        ears.bytes(End::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &mut out);
        ears.bytes(End::Client, upgrade.as_bytes(), &mut out);
        assert_eq!(out.last(), Some(&Heard::Upgrade(upgrade.as_bytes().to_vec())));
    }

    #[test]
    fn what_is_no_http_is_passed_over() {
        assert_eq!(
            hear("\u{0}\u{1}\u{2} no HTTP\r\n\r\n", "neither is this\r\n\r\n", 5),
            Vec::<String>::new()
        );
        let sized = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        assert_eq!(hear(sized, "", 5), Vec::<String>::new());
    }
}
