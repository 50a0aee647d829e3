//! Rules over a hangout conversation.

use super::{Monitor, MonitorConfig};

/// All monitors of the protocol.
pub fn monitors(_config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    Vec::new()
}
