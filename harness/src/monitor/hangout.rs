//! Rules over a hangout conversation.

use super::{Monitor, MonitorConfig};

/// All monitors of the protocol.
pub fn monitors(_config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    Vec::new()
}

/// The requirements these monitors judge.
pub const WATCHED: &[&str] = &[];
