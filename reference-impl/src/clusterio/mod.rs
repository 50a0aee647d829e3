//! clusterio, editions `seed` and `alpha0`: one master joins many slaves, each with instances of a game server, into a
//! cluster; controls tell it what to do. Messages carry the sender's number, requests are answered by `data.seq`.
//!
//! Source: `docs/socket.md` of Clusterio at the revision 67751251 and the rulings of `clusterio.md`, whose sections are
//! cited.
//!
//! Roles: a [`Master`], any number of [`Slave`]s and [`Control`]s. The master's links await their register message, are
//! ready or closing (3.1); a client's one link awaits `hello`, then `ready`, is ready, or over (3.2, 3.3).
//!
//! Choices where the documents are silent: what arrives after we said `close` is ignored; a slave whose link is closing
//! counts as gone; an instance that its slave has deleted is forgotten by the master too; instances of a slave are
//! simulated, and a control goes on until it is told to quit.

mod catalogue;
mod config;
mod control;
mod error;
mod instance;
mod line;
mod master;
mod message;
mod slave;
mod token;

pub use catalogue::Direction;
pub use config::{ControlConfig, Edition, Fault, MasterConfig, SlaveConfig};
pub use control::{Control, ControlCommand, ControlEvent};
pub use error::{CloseReason, DecodeError};
pub use instance::InstanceConfig;
pub use master::{Master, MasterCommand, MasterEvent};
pub use message::{Envelope, Registration};
pub use slave::{Slave, SlaveCommand, SlaveEvent};
pub use token::Tokens;
