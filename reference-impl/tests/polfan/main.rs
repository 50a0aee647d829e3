//! polfan: server, client and auth service, in memory and in virtual time.

mod auth;
mod chat;
mod client;
mod hostile;
mod permission;
mod webapi;
mod world;
