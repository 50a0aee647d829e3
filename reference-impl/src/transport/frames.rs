//! One end of a TCP stream of length-prefixed messages: four bytes of length, most significant first, then that many
//! bytes. Nothing is asked before the first message, so both ends are open at once.

use std::collections::VecDeque;

use super::websocket::WireEvent;
use crate::machine::{Message, Request, Response, WireFault};

/// Bytes of the length.
const PREFIX: usize = 4;

/// One end of such a stream.
#[derive(Debug)]
pub struct FrameEnd {
    max_message: usize,
    input: VecDeque<u8>,
    output: Vec<u8>,
    events: VecDeque<WireEvent>,
    deaf: bool,
    gone: bool,
    finishing: bool,
}

impl FrameEnd {
    /// The side that was connected to. Its request has nothing in it.
    pub fn listening(max_message: usize) -> Self {
        FrameEnd::new(max_message, WireEvent::Request(Request::default()))
    }

    /// The side that connects.
    pub fn connecting(max_message: usize) -> Self {
        FrameEnd::new(max_message, WireEvent::Opened(Response::default()))
    }

    fn new(max_message: usize, first: WireEvent) -> Self {
        FrameEnd {
            max_message,
            input: VecDeque::new(),
            output: Vec::new(),
            events: VecDeque::from([first]),
            deaf: false,
            gone: false,
            finishing: false,
        }
    }

    /// Takes bytes that arrived. What they mean is polled.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.deaf || self.gone {
            return;
        }
        self.input.extend(bytes);
        while self.input.len() >= PREFIX {
            let mut prefix = [0; PREFIX];
            prefix.iter_mut().zip(&self.input).for_each(|(to, from)| *to = *from);
            // A length that the platform cannot count is too big all the same.
            let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
            if length > self.max_message {
                self.events
                    .push_back(WireEvent::Fault(WireFault::TooBig, format!("a message of {length} bytes")));
                self.deafen();
                return;
            }
            if self.input.len() < PREFIX + length {
                return;
            }
            self.input.drain(..PREFIX);
            self.events.push_back(WireEvent::Text(self.input.drain(..length).collect()));
        }
    }

    /// The stream has ended.
    pub fn end_of_stream(&mut self) {
        if !self.gone {
            self.gone = true;
            self.finishing = true;
            self.events.push_back(WireEvent::Ended);
        }
    }

    /// The next event, oldest first.
    pub fn poll(&mut self) -> Option<WireEvent> {
        self.events.pop_front()
    }

    /// Sends a message with its length before it. Pings and pongs do not exist here.
    pub fn send(&mut self, message: &Message) {
        let bytes = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => return,
        };
        // Longer messages than the prefix can say are longer than anything reads.
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        self.send_raw(&length.to_be_bytes());
        self.send_raw(bytes);
    }

    /// Sends bytes below any framing.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if !self.gone {
            self.output.extend_from_slice(bytes);
        }
    }

    /// Waits for nothing more: the stream is to end once everything is written.
    pub fn finish(&mut self) {
        self.finishing = true;
        self.deafen();
    }

    /// Takes the bytes to be written.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// True when the stream is to end once the output is written.
    pub fn wants_end(&self) -> bool {
        self.finishing
    }

    fn deafen(&mut self) {
        self.deaf = true;
        self.input = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(end: &mut FrameEnd) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| end.poll())
            .filter_map(|event| match event {
                WireEvent::Text(bytes) => Some(bytes),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn split_and_joined_segments_give_the_same_messages() {
        let bytes = b"\0\0\0\x02{}\0\0\0\0\0\0\0\x03abc";
        let wanted = vec![b"{}".to_vec(), Vec::new(), b"abc".to_vec()];
        let mut whole = FrameEnd::listening(100);
        whole.receive(bytes);
        assert_eq!(texts(&mut whole), wanted);
        let mut by_bytes = FrameEnd::listening(100);
        bytes.iter().for_each(|byte| by_bytes.receive(&[*byte]));
        assert_eq!(texts(&mut by_bytes), wanted);
    }

    #[test]
    fn what_one_end_sends_the_other_reads() {
        let mut sender = FrameEnd::connecting(100);
        sender.send(&Message::Text("hello".to_owned()));
        let mut receiver = FrameEnd::listening(100);
        receiver.receive(&sender.take_output());
        assert_eq!(texts(&mut receiver), [b"hello".to_vec()]);
    }

    #[test]
    fn an_absurd_length_is_a_fault_and_not_an_allocation() {
        let mut end = FrameEnd::listening(99_999);
        end.receive(&[0xff; 9]);
        end.receive(b"\0\0\0\x02{}");
        let events: Vec<WireEvent> = std::iter::from_fn(|| end.poll()).collect();
        assert!(
            matches!(events[..], [WireEvent::Request(_), WireEvent::Fault(WireFault::TooBig, _)]),
            "{events:?}"
        );
    }
}
