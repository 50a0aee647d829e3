//! How messages travel, without any IO: bytes in, bytes out.

pub mod datagrams;
pub mod frames;
mod http_body;
pub mod websocket;

use self::datagrams::DatagramEnd;
use self::frames::FrameEnd;
use self::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};
use crate::machine::{Message, Request, Response};

/// How messages are told apart on a stream.
#[derive(Clone, Debug)]
pub enum Framing {
    /// WebSocket, and plain HTTP beside it.
    WebSocket(WebSocketConfig),
    /// Four bytes of length before each message.
    LengthPrefixed {
        /// Largest message that is read, in bytes.
        max_message: usize,
    },
}

impl Framing {
    /// The end of the side that was connected to.
    pub fn listening(&self) -> LinkEnd {
        match self {
            Framing::WebSocket(config) => {
                LinkEnd::WebSocket(Box::new(WebSocketEnd::listening(config.clone())))
            }
            Framing::LengthPrefixed { max_message } => LinkEnd::Frames(FrameEnd::listening(*max_message)),
        }
    }

    /// The end of the side that connects; `host` goes into the upgrade, `seed` gives its key and masks.
    pub fn connecting(&self, host: &str, request: &Request, seed: u64) -> LinkEnd {
        match self {
            Framing::WebSocket(config) => {
                LinkEnd::WebSocket(Box::new(WebSocketEnd::connecting(config.clone(), host, request, seed)))
            }
            Framing::LengthPrefixed { max_message } => LinkEnd::Frames(FrameEnd::connecting(*max_message)),
        }
    }

    /// An end without upgrade or framing: what is sent raw goes out, what arrives is handed up.
    pub fn raw(&self) -> LinkEnd {
        let config = match self {
            Framing::WebSocket(config) => config.clone(),
            Framing::LengthPrefixed { .. } => WebSocketConfig::default(),
        };
        LinkEnd::WebSocket(Box::new(WebSocketEnd::raw(config)))
    }
}

/// One end of a link. What its framing does not have, it leaves out.
#[derive(Debug)]
pub enum LinkEnd {
    /// A WebSocket.
    WebSocket(Box<WebSocketEnd>),
    /// Length-prefixed messages.
    Frames(FrameEnd),
    /// Datagrams to and from one address.
    Datagrams(DatagramEnd),
}

impl LinkEnd {
    /// Takes bytes that arrived; for datagrams, one whole datagram. What they mean is polled.
    pub fn receive(&mut self, bytes: &[u8]) {
        match self {
            LinkEnd::WebSocket(end) => end.receive(bytes),
            LinkEnd::Frames(end) => end.receive(bytes),
            LinkEnd::Datagrams(end) => end.receive(bytes),
        }
    }

    /// The stream has ended, in order or not.
    pub fn end_of_stream(&mut self) {
        match self {
            LinkEnd::WebSocket(end) => end.end_of_stream(),
            LinkEnd::Frames(end) => end.end_of_stream(),
            LinkEnd::Datagrams(_) => {}
        }
    }

    /// The next event, oldest first.
    pub fn poll(&mut self) -> Option<WireEvent> {
        match self {
            LinkEnd::WebSocket(end) => end.poll(),
            LinkEnd::Frames(end) => end.poll(),
            LinkEnd::Datagrams(end) => end.poll(),
        }
    }

    /// Grants the connection that was requested. A framing without upgrade has nothing to say.
    pub fn accept(&mut self, subprotocol: Option<&str>) {
        if let LinkEnd::WebSocket(end) = self {
            end.accept(subprotocol);
        }
    }

    /// Answers a request without opening a link, and ends the stream.
    pub fn respond(&mut self, response: &Response) {
        match self {
            LinkEnd::WebSocket(end) => end.respond(response),
            LinkEnd::Frames(end) => end.finish(),
            LinkEnd::Datagrams(_) => {}
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) {
        match self {
            LinkEnd::WebSocket(end) => end.send(message),
            LinkEnd::Frames(end) => end.send(message),
            LinkEnd::Datagrams(end) => end.send(message),
        }
    }

    /// Sends one text message in as many frames as there are parts; in one where the framing knows no fragments.
    pub fn send_fragments(&mut self, parts: &[&[u8]]) {
        match self {
            LinkEnd::WebSocket(end) => end.send_fragments(parts),
            LinkEnd::Frames(end) => end.send(&Message::Binary(parts.concat())),
            LinkEnd::Datagrams(end) => end.send_raw(&parts.concat()),
        }
    }

    /// Sends a text message that need not be UTF-8.
    pub fn send_text_bytes(&mut self, bytes: &[u8]) {
        match self {
            LinkEnd::WebSocket(end) => end.send_text_bytes(bytes),
            LinkEnd::Frames(end) => end.send(&Message::Binary(bytes.to_vec())),
            LinkEnd::Datagrams(end) => end.send_raw(bytes),
        }
    }

    /// Sends bytes below any framing.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        match self {
            LinkEnd::WebSocket(end) => end.send_raw(bytes),
            LinkEnd::Frames(end) => end.send_raw(bytes),
            LinkEnd::Datagrams(end) => end.send_raw(bytes),
        }
    }

    /// Takes leave in order: a Close frame where there is one, else the end of the stream.
    pub fn close(&mut self, code: Option<u16>, reason: &str) {
        match self {
            LinkEnd::WebSocket(end) => end.close(code, reason),
            LinkEnd::Frames(end) => end.finish(),
            LinkEnd::Datagrams(_) => {}
        }
    }

    /// Waits for nothing more: the stream is to end once everything is written.
    pub fn finish(&mut self) {
        match self {
            LinkEnd::WebSocket(end) => end.finish(),
            LinkEnd::Frames(end) => end.finish(),
            LinkEnd::Datagrams(_) => {}
        }
    }

    /// Takes the bytes to be written on a stream.
    pub fn take_output(&mut self) -> Vec<u8> {
        match self {
            LinkEnd::WebSocket(end) => end.take_output(),
            LinkEnd::Frames(end) => end.take_output(),
            LinkEnd::Datagrams(_) => Vec::new(),
        }
    }

    /// Takes the next datagram to be sent.
    pub fn take_datagram(&mut self) -> Option<Vec<u8>> {
        match self {
            LinkEnd::Datagrams(end) => end.take_datagram(),
            LinkEnd::WebSocket(_) | LinkEnd::Frames(_) => None,
        }
    }

    /// True when the stream is to end once the output is written.
    pub fn wants_end(&self) -> bool {
        match self {
            LinkEnd::WebSocket(end) => end.wants_end(),
            LinkEnd::Frames(end) => end.wants_end(),
            LinkEnd::Datagrams(_) => false,
        }
    }
}
