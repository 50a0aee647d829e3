//! cow, editions `seed` and `cow2`: a relay that passes messages between peers, and peers that keep the same records
//! in six kinds of store without any database.
//!
//! Source: the messaging chapter of COW's documentation of 2014-09-12 and the rulings of `cow.md`, whose sections are
//! cited.
//!
//! Roles: a [`Relay`] and any number of [`Peer`]s. The relay's links are upgrading, open or gone (section 3.1); the
//! peer's one link is offline, connecting, waiting for its id, or joined (section 3.2). The alpha is no role of its
//! own: every peer works out for itself whether it is the one that answers lists (section 3.3).
//!
//! Choices where the document is silent: the relay drops what is no message and keeps the connection; broken UTF-8,
//! broken framing and messages over the limit end it (1007, 1002, 1009). A peer that was told that somebody is gone
//! keeps that person's record deleted, whoever sends it again on this connection.

mod config;
mod error;
mod message;
mod peer;
mod relay;
mod state;

pub use config::{Edition, Fault, PeerConfig, RelayConfig};
pub use error::{CloseReason, DecodeError};
pub use message::{Command, Heard, ListEntry, PeerId, PeerMessage, Routing, StoreKey, SyncType, Target};
pub use peer::{Peer, PeerCommand, PeerEvent};
pub use relay::{Relay, RelayCommand, RelayEvent};
pub use state::{Delta, Record, Stores};
