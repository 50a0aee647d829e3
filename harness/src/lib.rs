//! flowproof: checks that programs which talk to each other in JSON messages follow the documented flows.

pub mod flow;
pub mod judge;
pub mod monitor;
