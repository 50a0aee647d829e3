//! ptpchat: peers that greet one another, tell whom they know, talk in channels with an ACK for each hop, and open direct
//! paths through NAT with the help of a third.
//!
//! Source: the project document of 2016-03-01 and the rulings of `ptpchat.md`, whose sections are cited. Editions: `seed`
//! and the catalogue `udp-2016-03` over datagrams ([`Node`]), and `tcp-2016-04` over length-prefixed frames
//! ([`StreamNode`]).
//!
//! Roles: the protocol knows only nodes. A node is neighbour to all it hears of (section 3.1), A or B of a path (3.2, 3.4),
//! and member of channels (3.6); one that is configured as intermediary is S as well (3.3).
//!
//! Choices where the document is silent: all machines are greeted in turn at one beat; ROUTING is one list for everybody;
//! a node's X.509 certificate is self-signed over P-256, and channel keys travel in HPKE to that key; MESSAGE carries the
//! base64 of its text, as the example does, and no signature, whose form nobody gives; the key of a closed channel is asked
//! for after showing the own certificate. [`Nat`] is what CONNECT is for: it stands before a node in tests.

mod address;
mod channels;
mod command;
mod config;
mod delivery;
mod error;
mod guid;
mod identity;
mod message;
mod nat;
mod node;
mod peers;
mod stream;
mod timestamp;

pub use address::End;
pub use command::{NodeCommand, NodeEvent, Whom};
pub use config::{Addressing, Edition, Fault, NodeConfig, NodeName};
pub use error::DecodeError;
pub use guid::Guid;
pub use identity::{CertificateError, Identity, PublicKey};
pub use message::{
    CertificateAnswer, ChannelNews, Chat, Connect, Head, Ids, KeyAnswer, Membership, Message, Route,
};
pub use nat::{Filtering, Mapping, Nat};
pub use node::Node;
pub use stream::StreamNode;
