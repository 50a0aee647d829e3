//! What carries the bytes of a conversation: an in-memory world with virtual time, or the network.

pub mod lag;
pub mod memory;
pub mod network;
pub mod passing;
pub mod process;
pub mod reference;
