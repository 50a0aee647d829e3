//! The trace format: JSON lines, the first of which names the version, each further one something that happened on a
//! link. `docs/trace.schema.json` is its JSON Schema.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::mpsc;

use flowproof_reference::machine::{Request, Response};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the format that is written, and read.
pub const VERSION: u32 = 1;
/// The longest line that is read, in bytes: a message of 64 MiB in hexadecimal digits fits, or one of 16 MiB each byte of
/// which is written as `\u0000` is.
const LINE_LIMIT: usize = 160 << 20;
/// Events, and bytes, that are read at once ahead of the judges.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// The first line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    pub flowproof_trace: u32,
    /// The protocol that is spoken.
    pub protocol: String,
    /// Its edition, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
}

/// Which end of a link did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The end that connected.
    Client,
    /// The end that was connected to.
    Server,
}

impl End {
    /// The other one.
    pub fn other(self) -> End {
        match self {
            End::Client => End::Server,
            End::Server => End::Client,
        }
    }
}

/// One further line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line")]
pub struct Event {
    /// When, in milliseconds since the trace began.
    pub at_ms: f64,
    /// On which link; a client that comes again has a new one.
    pub link: u64,
    /// Who did it.
    pub from: End,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// A line as it is read: flat, so that nothing is kept before it is known what it is.
#[derive(Deserialize)]
struct Line {
    at_ms: f64,
    link: u64,
    from: End,
    kind: Kind,
    #[serde(default)]
    target: String,
    #[serde(default)]
    subprotocols: Vec<String>,
    text: Option<String>,
    hex: Option<String>,
    code: Option<u16>,
    #[serde(default)]
    reason: String,
    detail: Option<String>,
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
    method: Option<String>,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Addresses,
    Asked,
    Answered,
    Opened,
    Text,
    Binary,
    Ping,
    Pong,
    Closing,
    Closed,
    Broken,
    Unseen,
}

impl TryFrom<Line> for Event {
    type Error = String;

    fn try_from(line: Line) -> Result<Event, String> {
        let needed =
            |member: Option<String>, name: &str| member.ok_or_else(|| format!("`{name}` is missing"));
        let hex = |hex: Option<String>| {
            let hex = needed(hex, "hex")?;
            if is_hex(&hex) { Ok(hex) } else { Err("`hex` is pairs of hexadecimal digits".to_owned()) }
        };
        let what = match line.kind {
            Kind::Addresses => Happening::Addresses {
                client: line.client.ok_or("`client` is missing")?,
                server: line.server.ok_or("`server` is missing")?,
            },
            Kind::Asked => Happening::Asked {
                method: needed(line.method, "method")?,
                target: line.target,
                headers: line.headers,
                body: line.body,
            },
            Kind::Answered => Happening::Answered {
                status: line.status.ok_or("`status` is missing")?,
                headers: line.headers,
                body: line.body,
            },
            Kind::Opened => Happening::Opened { target: line.target, subprotocols: line.subprotocols },
            Kind::Text => Happening::Text { text: needed(line.text, "text")? },
            Kind::Binary => Happening::Binary { hex: hex(line.hex)? },
            Kind::Ping => Happening::Ping { hex: hex(line.hex)? },
            Kind::Pong => Happening::Pong { hex: hex(line.hex)? },
            Kind::Closing => Happening::Closing { code: line.code, reason: line.reason },
            Kind::Closed => Happening::Closed,
            Kind::Broken => Happening::Broken { detail: needed(line.detail, "detail")? },
            Kind::Unseen => Happening::Unseen,
        };
        Ok(Event { at_ms: line.at_ms, link: line.link, from: line.from, what })
    }
}

/// What happened on a link.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Happening {
    /// A plain HTTP request, beside WebSockets.
    Asked {
        /// `GET`, `POST` ...
        method: String,
        /// Path and query.
        target: String,
        /// Its headers, names in small letters.
        headers: BTreeMap<String, String>,
        /// Its body, invalid UTF-8 replaced.
        body: String,
    },
    /// The answer to the oldest request of its link that has none.
    Answered {
        /// The status code.
        status: u16,
        /// Its headers, names in small letters.
        headers: BTreeMap<String, String>,
        /// Its body, invalid UTF-8 replaced.
        body: String,
    },
    /// The link is open: asked for by the client, granted by the server.
    Opened {
        /// Path and query.
        target: String,
        /// The subprotocols that were offered.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        subprotocols: Vec<String>,
    },
    /// Where the two ends of a link of datagrams are, as each sees the other. The first thing on such a link; without it
    /// nothing is said about who sent what to where.
    Addresses {
        /// The client's, as the server sees it.
        client: SocketAddr,
        /// The server's.
        server: SocketAddr,
    },
    /// A text message, invalid UTF-8 replaced.
    Text {
        /// The text.
        text: String,
    },
    /// A binary message.
    Binary {
        /// Its bytes in hexadecimal digits.
        hex: String,
    },
    /// A WebSocket Ping.
    Ping {
        /// Its bytes in hexadecimal digits.
        hex: String,
    },
    /// A WebSocket Pong.
    Pong {
        /// Its bytes in hexadecimal digits.
        hex: String,
    },
    /// A Close frame.
    Closing {
        /// The code, if one was given.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<u16>,
        /// The reason.
        #[serde(skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The connection is gone. The last thing on a link.
    Closed,
    /// Bytes that break the framing.
    Broken {
        /// What is wrong with them.
        detail: String,
    },
    /// Nothing more of this link was recorded: whether it went on, and how it ended, is not known.
    Unseen,
}

fn by_name(headers: &[(String, String)]) -> BTreeMap<String, String> {
    headers.iter().cloned().collect()
}

impl Happening {
    /// A request that was overheard.
    pub fn asked(request: &Request) -> Happening {
        let target = match request.query.is_empty() {
            true => request.path.clone(),
            false => format!("{}?{}", request.path, request.query),
        };
        let body = String::from_utf8_lossy(&request.body).into_owned();
        Happening::Asked { method: request.method.clone(), target, headers: by_name(&request.headers), body }
    }

    /// An answer that was overheard.
    pub fn answered(response: &Response) -> Happening {
        let body = String::from_utf8_lossy(&response.body).into_owned();
        Happening::Answered { status: response.status, headers: by_name(&response.headers), body }
    }
}

fn is_hex(digits: &str) -> bool {
    digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hexadecimal digits as bytes; `None` where they are none.
pub fn from_hex(digits: &str) -> Option<Vec<u8>> {
    if !is_hex(digits) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

/// What is wrong with a trace.
#[derive(Debug, Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("the trace cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// There is nothing in it.
    #[error("the trace is empty: its first line should be a header such as {{\"flowproof_trace\": 1, ...}}")]
    Empty,
    /// A line is not what it should be.
    #[error("line {line}: {detail}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// It was written by another version.
    #[error("this trace is of version {0}, and this flowproof reads version {VERSION}")]
    Version(u32),
}

/// Reads a trace line by line, so that the longest one takes little memory.
pub struct Reader<R> {
    source: R,
    /// The line that is read; kept for its room.
    bytes: Vec<u8>,
    line: usize,
    /// The last line had no end: the recorder was cut off in the middle.
    pub cut: bool,
    /// The first line.
    pub header: Header,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn new(mut source: R) -> Result<Reader<R>, TraceError> {
        let mut bytes = Vec::new();
        if std::io::Read::take(&mut source, LINE_LIMIT as u64).read_until(b'\n', &mut bytes)? == 0 {
            return Err(TraceError::Empty);
        }
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| TraceError::Line { line: 1, detail: format!("no trace header: {error}") })?;
        if let Some(version) = value.get("flowproof_trace").and_then(serde_json::Value::as_u64)
            && version != u64::from(VERSION)
        {
            return Err(TraceError::Version(u32::try_from(version).unwrap_or(u32::MAX)));
        }
        let header = serde_json::from_value(value)
            .map_err(|error| TraceError::Line { line: 1, detail: format!("no trace header: {error}") })?;
        Ok(Reader { source, bytes, line: 1, cut: false, header })
    }
}

impl<R: BufRead + Send> Reader<R> {
    /// Reads to the end, or to the first line that is no event, on a thread of its own, while `take` has what was read
    /// before. `prepare` is done there, too.
    pub fn ahead<T: Send>(
        &mut self,
        prepare: impl Fn(&Event) -> T + Send,
        mut take: impl FnMut(Event, T),
    ) -> Result<(), TraceError> {
        std::thread::scope(|scope| {
            let (ahead, behind) = mpsc::sync_channel::<Vec<(Event, T)>>(1);
            let reading = scope.spawn(move || {
                let mut end = None;
                while end.is_none() {
                    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
                    while end.is_none() && batch.len() < BATCH && bytes < BATCH_BYTES {
                        match self.next() {
                            Some(Ok(event)) => {
                                bytes += self.bytes.len();
                                let prepared = prepare(&event);
                                batch.push((event, prepared));
                            }
                            Some(Err(error)) => end = Some(Err(error)),
                            None => end = Some(Ok(())),
                        }
                    }
                    // Nobody takes any more only when whoever took has died.
                    if ahead.send(batch).is_err() {
                        break;
                    }
                }
                end.unwrap_or(Ok(()))
            });
            behind.into_iter().flatten().for_each(|(event, prepared)| take(event, prepared));
            reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bytes = &mut self.bytes;
            bytes.clear();
            let read = std::io::Read::take(&mut self.source, LINE_LIMIT as u64).read_until(b'\n', bytes);
            self.line += 1;
            match read {
                Ok(0) => return None,
                Err(error) => return Some(Err(error.into())),
                Ok(_) => {}
            }
            let whole = bytes.ends_with(b"\n");
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match serde_json::from_slice(bytes) {
                Ok(event) => Some(Ok(event)),
                // What the recorder could not finish is no mistake of anybody.
                Err(_) if !whole && bytes.len() < LINE_LIMIT => {
                    self.cut = true;
                    None
                }
                Err(error) => Some(Err(TraceError::Line { line: self.line, detail: error.to_string() })),
            };
        }
    }
}

/// Writes a trace.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub fn new(mut out: W, header: &Header) -> std::io::Result<Writer<W>> {
        serde_json::to_writer(&mut out, header)?;
        out.write_all(b"\n")?;
        Ok(Writer { out })
    }

    /// Writes one event.
    pub fn write(&mut self, event: &Event) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.out, event)?;
        self.out.write_all(b"\n")
    }

    /// Sees to it that everything is written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: Happening) -> Event {
        Event { at_ms: 1.5, link: 3, from: End::Server, what }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let header = Header { flowproof_trace: VERSION, protocol: "hangout".to_owned(), edition: None };
        let events = [
            event(Happening::Opened { target: "/".to_owned(), subprotocols: vec!["x".to_owned()] }),
            event(Happening::Text { text: "{\"a\":\"\u{1f600}\n\"}".to_owned() }),
            event(Happening::Addresses {
                client: "127.0.0.2:9002".parse().unwrap(),
                server: "127.0.0.1:9001".parse().unwrap(),
            }),
            event(Happening::Binary { hex: to_hex(&[0, 255]) }),
            event(Happening::Closing { code: None, reason: String::new() }),
            event(Happening::Closed),
        ];
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &header).unwrap();
        events.iter().for_each(|event| writer.write(event).unwrap());
        let reader = Reader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.header, header);
        let read: Vec<Event> = reader.map(Result::unwrap).collect();
        assert_eq!(read, events);
    }

    #[test]
    fn what_comes_before_the_first_mistake_is_taken_in_order() {
        let header = Header { flowproof_trace: VERSION, protocol: "x".to_owned(), edition: None };
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &header).unwrap();
        let many = 2 * BATCH as u64 + 7;
        let text = |link: u64| Happening::Text { text: link.to_string() };
        (0..many).for_each(|link| writer.write(&Event { link, ..event(text(link)) }).unwrap());
        bytes.extend_from_slice(b"no event\n");
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        let mut taken = Vec::new();
        let ended = reader.ahead(|event| event.link + 1, |event, next| taken.push((event.link, next)));
        let line = many as usize + 2;
        assert!(matches!(ended, Err(TraceError::Line { line: at, .. }) if at == line), "{ended:?}");
        assert_eq!(taken, (0..many).map(|link| (link, link + 1)).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_kind_needs_must_be_there() {
        let read = |line: &str| {
            let text = format!("{{\"flowproof_trace\":1,\"protocol\":\"x\"}}\n{line}\n");
            Reader::new(text.as_bytes()).unwrap().next().unwrap().map_err(|error| error.to_string())
        };
        let line = |rest: &str| format!("{{\"at_ms\":0,\"link\":0,\"from\":\"client\",{rest}}}");
        assert!(read(&line("\"kind\":\"text\"")).unwrap_err().contains("`text` is missing"));
        assert!(
            read(&line("\"kind\":\"binary\",\"hex\":\"0\"")).unwrap_err().contains("pairs of hexadecimal")
        );
        assert!(read(&line("\"kind\":\"sneeze\"")).unwrap_err().contains("unknown variant `sneeze`"));
        assert_eq!(
            read(&line("\"kind\":\"closed\",\"more\":1")),
            Ok(Event { at_ms: 0.0, link: 0, from: End::Client, what: Happening::Closed })
        );
    }

    #[test]
    fn a_trace_cut_in_its_last_line_is_read_up_to_there() {
        let text = "{\"flowproof_trace\":1,\"protocol\":\"x\"}\n{\"at_ms\":0,\"link\":0,\"from\":\"client\",\"kind\":\"closed\"}\n{\"at_ms\":1,\"li";
        let mut reader = Reader::new(text.as_bytes()).unwrap();
        assert!(reader.next().is_some_and(|event| event.is_ok()));
        assert!(reader.next().is_none());
        assert!(reader.cut);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let broken = "{\"flowproof_trace\":1,\"protocol\":\"x\"}\n{\"at_ms\":0,\"link\":0,\"from\":\"nobody\",\"kind\":\"closed\"}\n";
        let error = Reader::new(broken.as_bytes()).unwrap().next().unwrap().unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
        let newer = Reader::new("{\"flowproof_trace\":2,\"protocol\":\"x\"}\n".as_bytes());
        assert!(matches!(newer, Err(TraceError::Version(2))));
        assert!(matches!(Reader::new("".as_bytes()), Err(TraceError::Empty)));
    }

    #[test]
    fn hexadecimal_digits_are_read_whole_or_not_at_all() {
        assert_eq!(from_hex("00ff"), Some(vec![0, 255]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(from_hex("\u{e9}x"), None);
    }
}
