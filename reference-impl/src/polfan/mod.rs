//! polfan, edition `polfan-2023-01`: a chat of spaces, rooms and topics, over WebSocket and HTTP. Clients send
//! commands; the server answers and tells others in events; a `ref` ties an answer to its command.
//!
//! Source: the protocol chapter of the vendor's documentation of January 2023, and the rulings of `polfan.md`, whose
//! sections are cited.
//!
//! Roles: a [`Server`] (WebSocket at `/ws`, WebAPI at `/api`, tokens at `/webservice/auth/token`), any number of
//! [`Client`]s, and [`Auth`], the token service by itself. A server's link is open for one user or gone (section 3.1);
//! a client is disconnected, connecting or ready (section 3.4).
//!
//! Choices where the document is silent: memberships outlive connections; a list of permissions that is set replaces
//! the one before; whoever creates a space may do everything in it.

mod accounts;
mod auth;
mod client;
mod config;
mod error;
mod message;
pub mod permission;
mod server;
mod setup;
mod state;

pub use auth::{Auth, AuthCommand, AuthEvent};
pub use client::{Client, ClientCommand, ClientEvent, Step};
pub use config::{
    AuthConfig, ClientConfig, Fault, RoomConfig, ServerConfig, SpaceConfig, TopicConfig, UserConfig,
};
pub use error::{CommandError, DecodeError};
pub use message::{Asked, COMMANDS, Command, Event, Id, Place};
pub use server::{Server, ServerCommand, ServerEvent};
pub use setup::SetupError;
