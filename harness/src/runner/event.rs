//! What a run tells: an append-only log of events, from which every report is made, also after a crash.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::verdict::FlowResult;

/// What is tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// `reference`, `url` or `exec`.
    pub kind: String,
    /// The role under test; several are joined with commas.
    pub role: String,
    /// The URL, the command line, or the sinner's name.
    pub address: String,
}

/// One thing that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// A run over one protocol begins.
    Begun {
        /// The version of flowproof.
        flowproof: String,
        /// The protocol.
        protocol: String,
        /// The edition in force.
        edition: String,
        /// What is tested.
        target: TargetInfo,
        /// The seed of everything that was drawn.
        seed: u64,
        /// How many flows are going to run.
        planned: usize,
        /// How many are skipped, by reason.
        skipped: BTreeMap<String, usize>,
    },
    /// A flow has begun.
    FlowStarted {
        /// Its name.
        name: String,
    },
    /// A flow has ended, or was not run.
    FlowEnded(Box<FlowResult>),
    /// The run is over.
    Ended {
        /// True when it was interrupted.
        cut_short: bool,
        /// How long it took.
        took: Duration,
    },
}
