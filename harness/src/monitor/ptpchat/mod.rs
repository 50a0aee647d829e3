//! Rules over a ptpchat conversation (ptpchat.md sections 2, 3, 5 and 7). Each file holds one family: [`wire`]
//! what a datagram is, [`hello`] greetings and who a node says it is, [`ack`] who acknowledges what to whom, [`connect`]
//! what S makes of CONNECT, [`hops`] how far messages go over TCP. What the document tolerates is tolerated here; what is not certain stays unsaid.

mod ack;
mod connect;
mod hello;
mod hops;
mod wire;

use std::net::SocketAddr;

use serde_json::Value;

use super::{Monitor, MonitorConfig, Seen, What};

/// All monitors of the protocol.
pub fn monitors(config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    if config.edition == TCP {
        return vec![Box::new(wire::Wire::new(config)), Box::new(hops::Hops::default())];
    }
    vec![
        Box::new(wire::Wire::new(config)),
        Box::new(hello::Hello::new(config.clone())),
        Box::new(ack::Acks::new(config)),
        Box::new(connect::Connects::new(config)),
    ]
}

/// The requirements these monitors judge.
pub const WATCHED: &[&str] = &[
    "PTPCHAT-WIRE-1",
    "PTPCHAT-WIRE-2",
    "PTPCHAT-WIRE-3",
    "PTPCHAT-WIRE-4",
    "PTPCHAT-WIRE-5",
    "PTPCHAT-HELLO-2",
    "PTPCHAT-HELLO-3",
    "PTPCHAT-HELLO-4",
    "PTPCHAT-HELLO-5",
    "PTPCHAT-HELLO-9",
    "PTPCHAT-HELLO-12",
    "PTPCHAT-ACK-6",
    "PTPCHAT-ACK-7",
    "PTPCHAT-ACK-8",
    "PTPCHAT-CONN-2",
    "PTPCHAT-CONN-3",
    "PTPCHAT-CONN-4",
    "PTPCHAT-CONN-5",
    "PTPCHAT-CONN-7",
    "PTPCHAT-CONN-8",
    "PTPCHAT-CONN-18",
    "PTPCHAT-ROUT-5",
    "PTPCHAT-ROBUST-2",
    "PTPCHAT-TCP-1",
    "PTPCHAT-TCP-5",
];

/// The edition over streams.
const TCP: &str = "tcp-2016-04";

/// A message: its verb, its data if that is an object, and all of it.
struct Message<'a> {
    verb: &'a str,
    data: Option<&'a Value>,
    whole: &'a Value,
}

impl<'a> Message<'a> {
    /// A text field of its data.
    fn text(&self, field: &str) -> Option<&'a str> {
        self.data?.get(field)?.as_str()
    }
}

/// The message that was seen, if it is one: a JSON object with a string `msg_type`.
fn message<'a>(what: &What<'a>) -> Option<Message<'a>> {
    let What::Text { json: Ok(whole), .. } = what else { return None };
    let verb = whole.get("msg_type")?.as_str()?;
    let data = whole.get("msg_data").filter(|data| data.is_object());
    Some(Message { verb, data, whole })
}

/// Source and destination of a datagram.
fn ends(seen: &Seen<'_>) -> Option<(SocketAddr, SocketAddr)> {
    seen.from_address.zip(seen.to_address)
}

/// The protocol compares ids without regard to case.
fn same_id(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}
