//! Live traffic and recordings: the same judges over conversations that flowproof does not play itself.

pub mod as_flow;
pub mod har;
pub mod http;
pub mod proxy;
pub mod session;
pub mod trace;
pub mod tracer;
