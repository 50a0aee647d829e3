//! How messages travel, without any IO: bytes in, bytes out.

pub mod frames;
mod http_body;
pub mod websocket;

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
    pub fn listening(&self) -> StreamEnd {
        match self {
            Framing::WebSocket(config) => StreamEnd::WebSocket(Box::new(WebSocketEnd::listening(config.clone()))),
            Framing::LengthPrefixed { max_message } => StreamEnd::Frames(FrameEnd::listening(*max_message)),
        }
    }

    /// The end of the side that connects; `host` goes into the upgrade, `seed` gives its key and masks.
    pub fn connecting(&self, host: &str, request: &Request, seed: u64) -> StreamEnd {
        match self {
            Framing::WebSocket(config) => {
                StreamEnd::WebSocket(Box::new(WebSocketEnd::connecting(config.clone(), host, request, seed)))
            }
            Framing::LengthPrefixed { max_message } => StreamEnd::Frames(FrameEnd::connecting(*max_message)),
        }
    }

    /// An end without upgrade or framing: what is sent raw goes out, what arrives is handed up.
    pub fn raw(&self) -> StreamEnd {
        let config = match self {
            Framing::WebSocket(config) => config.clone(),
            Framing::LengthPrefixed { .. } => WebSocketConfig::default(),
        };
        StreamEnd::WebSocket(Box::new(WebSocketEnd::raw(config)))
    }
}

/// One end of a stream. What a framing does not have, it leaves out.
#[derive(Debug)]
pub enum StreamEnd {
    /// A WebSocket.
    WebSocket(Box<WebSocketEnd>),
    /// Length-prefixed messages.
    Frames(FrameEnd),
}

macro_rules! either {
    ($end:expr, $inner:ident => $call:expr) => {
        match $end {
            StreamEnd::WebSocket($inner) => $call,
            StreamEnd::Frames($inner) => $call,
        }
    };
}

impl StreamEnd {
    /// Takes bytes that arrived. What they mean is polled.
    pub fn receive(&mut self, bytes: &[u8]) {
        either!(self, end => end.receive(bytes));
    }

    /// The stream has ended, in order or not.
    pub fn end_of_stream(&mut self) {
        either!(self, end => end.end_of_stream());
    }

    /// The next event, oldest first.
    pub fn poll(&mut self) -> Option<WireEvent> {
        either!(self, end => end.poll())
    }

    /// Grants the connection that was requested. A framing without upgrade has nothing to say.
    pub fn accept(&mut self, subprotocol: Option<&str>) {
        if let StreamEnd::WebSocket(end) = self {
            end.accept(subprotocol);
        }
    }

    /// Answers a request without opening a link, and ends the stream.
    pub fn respond(&mut self, response: &Response) {
        match self {
            StreamEnd::WebSocket(end) => end.respond(response),
            StreamEnd::Frames(end) => end.finish(),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) {
        either!(self, end => end.send(message));
    }

    /// Sends one text message in as many frames as there are parts; in one where the framing knows no fragments.
    pub fn send_fragments(&mut self, parts: &[&[u8]]) {
        match self {
            StreamEnd::WebSocket(end) => end.send_fragments(parts),
            StreamEnd::Frames(end) => end.send(&Message::Binary(parts.concat())),
        }
    }

    /// Sends a text message that need not be UTF-8.
    pub fn send_text_bytes(&mut self, bytes: &[u8]) {
        match self {
            StreamEnd::WebSocket(end) => end.send_text_bytes(bytes),
            StreamEnd::Frames(end) => end.send(&Message::Binary(bytes.to_vec())),
        }
    }

    /// Sends bytes below any framing.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        either!(self, end => end.send_raw(bytes));
    }

    /// Takes leave in order: a Close frame where there is one, else the end of the stream.
    pub fn close(&mut self, code: Option<u16>, reason: &str) {
        match self {
            StreamEnd::WebSocket(end) => end.close(code, reason),
            StreamEnd::Frames(end) => end.finish(),
        }
    }

    /// Waits for nothing more: the stream is to end once everything is written.
    pub fn finish(&mut self) {
        either!(self, end => end.finish());
    }

    /// Takes the bytes to be written.
    pub fn take_output(&mut self) -> Vec<u8> {
        either!(self, end => end.take_output())
    }

    /// True when the stream is to end once the output is written.
    pub fn wants_end(&self) -> bool {
        either!(self, end => end.wants_end())
    }
}
