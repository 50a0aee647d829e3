//! What puts machines on their feet. A [`host::Host`] joins a machine with its WebSocket ends and still does no IO;
//! [`run_loop`] puts a host on sockets. Neither knows a rule of any protocol.

pub mod host;
pub mod run_loop;
