//! One end of an exchange of datagrams with one other address: each message is one datagram, nothing is opened and
//! nothing is closed.

use std::collections::VecDeque;

use super::websocket::WireEvent;
use crate::machine::Message;

/// One end of such an exchange.
#[derive(Debug, Default)]
pub struct DatagramEnd {
    outgoing: VecDeque<Vec<u8>>,
    events: VecDeque<WireEvent>,
}

impl DatagramEnd {
    /// Takes one datagram that arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.events.push_back(WireEvent::Text(bytes.to_vec()));
    }

    /// The next event, oldest first.
    pub fn poll(&mut self) -> Option<WireEvent> {
        self.events.pop_front()
    }

    /// Sends a message as one datagram. Pings and pongs do not exist here.
    pub fn send(&mut self, message: &Message) {
        match message {
            Message::Text(text) => self.send_raw(text.as_bytes()),
            Message::Binary(bytes) => self.send_raw(bytes),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }

    /// Sends bytes as one datagram.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.outgoing.push_back(bytes.to_vec());
    }

    /// Takes the next datagram to be sent.
    pub fn take_datagram(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }
}
