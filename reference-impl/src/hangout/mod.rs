//! hangout, edition `v1`: a hub that gives every connection a random token, keeps everybody's copy of one table of
//! tokens and properties in sync, and relays packets from token to token.
//!
//! Source: the document "Protocol V1" of 2016-10-07 and the rulings of `hangout.md`, whose sections are cited.
//!
//! Roles: a [`Server`] and any number of [`Client`]s. The server's links are handshaking, open or gone (section 3.2);
//! the client's one link is closed, connecting, open or leaving (section 3.3).
//!
//! Choices where the document is silent: malformed messages close their link (1007, 1003, 1009), well-formed ones of
//! a wrong shape are dropped; ticks and pings keep the phase of the server's start.

mod client;
mod config;
mod error;
mod message;
mod server;
mod state;

pub use client::{Client, ClientCommand, ClientEvent};
pub use config::{ClientConfig, Fault, ServerConfig};
pub use error::{CloseReason, DecodeError};
pub use message::{Envelope, Packet, ServerPacket, To};
pub use server::{Server, ServerCommand, ServerEvent};
