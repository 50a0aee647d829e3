//! What a judge found: a requirement kept or broken, by whom, at which message, and why.

use flowproof_reference::machine::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which of the four judges speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// An expectation that a flow states.
    Arrow,
    /// The message catalogue.
    Schema,
    /// A rule over the whole conversation.
    Monitor,
    /// A bystander must still be served.
    Liveness,
}

/// What a judge says about one requirement at one place. Whether a broken one fails the flow or only warns
/// depends on its level, which the catalogue knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ruling {
    /// It was put to the test and held.
    Kept,
    /// It was broken.
    Broken,
    /// A lawful but poorer reading was seen; the verdict is a warning.
    Tolerated,
    /// Worth telling, but no breach; the verdict stands as it is.
    Noted,
    /// The timing on this machine cannot decide it.
    Undecided,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The requirement it is about; none when a step without citation failed.
    pub requirement: Option<String>,
    /// What is said about it.
    pub ruling: Ruling,
    /// The participant it is about.
    pub by: String,
    /// Which judge speaks.
    pub judge: Judge,
    /// When the decisive message arrived, or the decisive silence ended.
    pub at: Time,
    /// The line of the flow, where an arrow or a step is the judge.
    pub line: Option<usize>,
    /// One sentence: what happened, where.
    pub message: String,
    /// What was expected, in words or in flow syntax.
    pub expected: String,
    /// What was found: the message, or null.
    pub actual: Value,
}
