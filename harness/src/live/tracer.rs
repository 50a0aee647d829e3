//! Makes trace events of the bytes that pass between two others on one link. It only listens: nothing is changed, and
//! what it cannot read is told once and passed over from then on.

use std::net::SocketAddr;

use flowproof_reference::machine::Time;
use flowproof_reference::transport::datagrams::DatagramEnd;
use flowproof_reference::transport::frames::FrameEnd;
use flowproof_reference::transport::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};
use flowproof_reference::transport::{Framing, LinkEnd};

use super::http::{Heard, HttpEars};
use super::trace::{End, Event, Happening, to_hex};

/// The longest beginning of a stream that is looked at to see whether a WebSocket is asked for.
const BEGINNING: usize = 64 << 10;

/// What is spoken on a link where WebSockets are, and plain HTTP beside them.
enum Speech {
    /// The beginning of what the client says.
    Unknown(Vec<u8>),
    Frames,
    Http(Box<HttpEars>),
}

/// The ears on one link.
pub struct Tracer {
    link: u64,
    framing: Framing,
    speech: Speech,
    client: LinkEnd,
    /// Known once the client has asked.
    server: Option<LinkEnd>,
    target: String,
    subprotocols: Vec<String>,
    open: bool,
    closed: bool,
}

impl Tracer {
    /// Ears on a link of a stream.
    pub fn stream(link: u64, framing: Framing) -> Tracer {
        let (client, server) = match &framing {
            Framing::WebSocket(config) => {
                (LinkEnd::WebSocket(Box::new(WebSocketEnd::overhearing_requests(config.clone()))), None)
            }
            Framing::LengthPrefixed { max_message } => (
                LinkEnd::Frames(FrameEnd::connecting(*max_message)),
                Some(LinkEnd::Frames(FrameEnd::connecting(*max_message))),
            ),
        };
        Tracer::new(link, framing, client, server)
    }

    /// Ears on datagrams between two addresses, which are told first.
    pub fn datagrams(
        at: Time,
        link: u64,
        client: SocketAddr,
        server: SocketAddr,
        out: &mut Vec<Event>,
    ) -> Tracer {
        let end = || LinkEnd::Datagrams(DatagramEnd::default());
        let mut tracer =
            Tracer::new(link, Framing::WebSocket(WebSocketConfig::default()), end(), Some(end()));
        tracer.speech = Speech::Frames;
        tracer.open = true;
        tracer.push(at, End::Client, Happening::Addresses { client, server }, out);
        tracer
    }

    fn new(link: u64, framing: Framing, client: LinkEnd, server: Option<LinkEnd>) -> Tracer {
        let speech = match framing {
            Framing::WebSocket(_) => Speech::Unknown(Vec::new()),
            Framing::LengthPrefixed { .. } => Speech::Frames,
        };
        Tracer {
            link,
            framing,
            speech,
            client,
            server,
            target: String::new(),
            subprotocols: Vec::new(),
            open: false,
            closed: false,
        }
    }

    /// Takes bytes that one end sent, in the order they passed.
    pub fn bytes(&mut self, at: Time, from: End, bytes: &[u8], out: &mut Vec<Event>) {
        match (&mut self.speech, from) {
            (Speech::Frames, _) => self.frames(at, from, bytes, out),
            (Speech::Http(ears), _) => {
                let mut heard = Vec::new();
                ears.bytes(from, bytes, &mut heard);
                self.heard(at, heard, out);
            }
            (Speech::Unknown(start), End::Client) => {
                start.extend_from_slice(bytes);
                let head = start.windows(4).position(|four| four == b"\r\n\r\n");
                if head.is_none() && start.len() < BEGINNING {
                    return;
                }
                let start = std::mem::take(start);
                if asks_for_a_websocket(&start[..head.unwrap_or(start.len())]) {
                    self.speech = Speech::Frames;
                    self.frames(at, from, &start, out);
                } else {
                    let limit = match &self.framing {
                        Framing::WebSocket(config) => config.max_message,
                        Framing::LengthPrefixed { max_message } => *max_message,
                    };
                    self.speech = Speech::Http(Box::new(HttpEars::new(limit)));
                    self.bytes(at, from, &start, out);
                }
            }
            // A server that speaks first speaks no HTTP.
            (Speech::Unknown(_), End::Server) => {}
        }
    }

    fn heard(&mut self, at: Time, heard: Vec<Heard>, out: &mut Vec<Event>) {
        for heard in heard {
            let (from, what) = match heard {
                Heard::Asked(request) => (End::Client, Happening::asked(&request)),
                Heard::Answered(response) => (End::Server, Happening::answered(&response)),
                Heard::Upgrade(bytes) => {
                    self.speech = Speech::Frames;
                    self.frames(at, End::Client, &bytes, out);
                    return;
                }
            };
            self.push(at, from, what, out);
        }
    }

    fn frames(&mut self, at: Time, from: End, bytes: &[u8], out: &mut Vec<Event>) {
        match from {
            End::Client => self.client.receive(bytes),
            End::Server => {
                if let Some(server) = &mut self.server {
                    server.receive(bytes);
                }
            }
        }
        self.drain(at, from, out);
    }

    /// The stream of one end has ended; the first to do so ended the link.
    pub fn ended(&mut self, at: Time, from: End, out: &mut Vec<Event>) {
        if let Speech::Http(ears) = &mut self.speech {
            let mut heard = Vec::new();
            ears.ended(from, &mut heard);
            self.heard(at, heard, out);
            return;
        }
        if self.open && !self.closed {
            self.push(at, from, Happening::Closed, out);
        }
        self.closed = true;
    }

    fn push(&self, at: Time, from: End, what: Happening, out: &mut Vec<Event>) {
        if !self.closed {
            // To the microsecond: more digits tell nothing.
            let at_ms = (at.since_start().as_secs_f64() * 1e6).round() / 1000.0;
            out.push(Event { at_ms, link: self.link, from, what });
        }
    }

    fn drain(&mut self, at: Time, from: End, out: &mut Vec<Event>) {
        loop {
            let event = match from {
                End::Client => self.client.poll(),
                End::Server => self.server.as_mut().and_then(LinkEnd::poll),
            };
            let Some(event) = event else { return };
            let what = match event {
                WireEvent::Request(request) => {
                    self.target = match request.query.is_empty() {
                        true => request.path.clone(),
                        false => format!("{}?{}", request.path, request.query),
                    };
                    let offered = request.header("sec-websocket-protocol").unwrap_or_default();
                    let offered = offered.split(',').map(str::trim).filter(|one| !one.is_empty());
                    self.subprotocols = offered.map(str::to_owned).collect();
                    if let Framing::WebSocket(config) = &self.framing {
                        let key = request.header("sec-websocket-key").unwrap_or_default();
                        let end = WebSocketEnd::overhearing_answers(config.clone(), key);
                        self.server = Some(LinkEnd::WebSocket(Box::new(end)));
                    }
                    continue;
                }
                WireEvent::Opened(response) => {
                    let extensions =
                        response.headers.iter().filter(|(name, _)| name == "sec-websocket-extensions");
                    let agreed: String =
                        extensions.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",");
                    if agreed.contains("permessage-deflate") {
                        if let LinkEnd::WebSocket(end) = &mut self.client {
                            end.expect_compression(agreed.contains("client_no_context_takeover"));
                        }
                        if let Some(LinkEnd::WebSocket(end)) = &mut self.server {
                            end.expect_compression(agreed.contains("server_no_context_takeover"));
                        }
                    }
                    if self.open {
                        continue;
                    }
                    self.open = true;
                    let (target, subprotocols) = (self.target.clone(), self.subprotocols.clone());
                    self.push(at, End::Client, Happening::Opened { target, subprotocols }, out);
                    continue;
                }
                // Neither a refusal nor what is no link at all is part of a conversation.
                WireEvent::Answered(_) | WireEvent::Refused(..) | WireEvent::Bytes(_) | WireEvent::Ended => {
                    continue;
                }
                WireEvent::Text(bytes) => {
                    if !self.open {
                        self.open = true;
                        let opened = Happening::Opened { target: String::new(), subprotocols: Vec::new() };
                        self.push(at, End::Client, opened, out);
                    }
                    Happening::Text { text: String::from_utf8_lossy(&bytes).into_owned() }
                }
                WireEvent::Binary(bytes) => Happening::Binary { hex: to_hex(&bytes) },
                WireEvent::Ping(bytes) => Happening::Ping { hex: to_hex(&bytes) },
                WireEvent::Pong(bytes) => Happening::Pong { hex: to_hex(&bytes) },
                WireEvent::Closing { code, reason } => Happening::Closing { code, reason },
                WireEvent::Fault(_, detail) => Happening::Broken { detail },
            };
            self.push(at, from, what, out);
        }
    }
}

/// Whether the head of a request asks for a WebSocket.
fn asks_for_a_websocket(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().any(|line| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        name.trim() == "upgrade" && value.trim() == "websocket"
    })
}

#[cfg(test)]
mod tests {
    use flowproof_reference::machine::{Message, Request};

    use super::*;

    fn kinds(events: &[Event]) -> Vec<(End, Happening)> {
        events.iter().map(|event| (event.from, event.what.clone())).collect()
    }

    #[test]
    fn both_directions_of_a_websocket_are_overheard_whatever_the_chunks() {
        let config = WebSocketConfig::default();
        let mut client = WebSocketEnd::connecting(
            config.clone(),
            "x",
            &Request { path: "/a".to_owned(), ..Request::default() },
            7,
        );
        let mut server = WebSocketEnd::listening(config.clone());
        let mut tracer = Tracer::stream(5, Framing::WebSocket(config));
        let mut events = Vec::new();
        for round in 0..4 {
            let bytes = client.take_output();
            bytes.chunks(3).for_each(|chunk| tracer.bytes(Time::ZERO, End::Client, chunk, &mut events));
            server.receive(&bytes);
            while let Some(event) = server.poll() {
                if matches!(event, WireEvent::Request(_)) {
                    server.accept(None);
                }
            }
            if round == 1 {
                server.send(&Message::Text("{\"from\":\"server\"}".to_owned()));
                client.send(&Message::Text("hello".to_owned()));
            }
            let bytes = server.take_output();
            bytes.chunks(2).for_each(|chunk| tracer.bytes(Time::ZERO, End::Server, chunk, &mut events));
            client.receive(&bytes);
        }
        tracer.ended(Time::ZERO, End::Server, &mut events);
        tracer.ended(Time::ZERO, End::Client, &mut events);
        let wanted = [
            (End::Client, Happening::Opened { target: "/a".to_owned(), subprotocols: Vec::new() }),
            (End::Server, Happening::Text { text: "{\"from\":\"server\"}".to_owned() }),
            (End::Client, Happening::Text { text: "hello".to_owned() }),
            (End::Server, Happening::Closed),
        ];
        assert_eq!(kinds(&events), wanted);
    }
}
