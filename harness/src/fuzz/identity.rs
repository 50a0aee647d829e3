//! Which finding is which: by what saw it, the rule, how far the conversation had come, the kind of message and the place
//! in it; never by bytes, so that the same fault is told once.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kind::Kinds;
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::runner::transcript::Transcript;
use crate::runner::verdict::FlowResult;

/// What saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oracle {
    /// An expectation of a flow as it is written.
    Arrow,
    /// The message catalogue.
    Schema,
    /// A rule over the whole conversation.
    Monitor,
    /// A bystander who was not served.
    Liveness,
    /// The target ended, or went away.
    Crash,
    /// The target answers nobody.
    Hang,
    /// The target's memory grew without end.
    Memory,
    /// The target's answers became slow.
    Slow,
}

impl Oracle {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Oracle::Arrow => "arrow",
            Oracle::Schema => "schema",
            Oracle::Monitor => "monitor",
            Oracle::Liveness => "liveness",
            Oracle::Crash => "crash",
            Oracle::Hang => "hang",
            Oracle::Memory => "memory",
            Oracle::Slow => "slow",
        }
    }
}

/// Which finding it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// What saw it.
    pub oracle: Oracle,
    /// The requirement that is broken; a word where there is none.
    pub rule: String,
    /// How far the conversation had come on the connection.
    pub state: String,
    /// The kind of the decisive message.
    pub kind: String,
    /// The place in the message, where the judge names one.
    pub place: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.rule, self.oracle.word())?;
        for part in [&self.state, &self.kind, &self.place].into_iter().filter(|part| !part.is_empty()) {
            write!(f, ", {part}")?;
        }
        f.write_str(")")
    }
}

impl Identity {
    /// True for what is the same when it shows again: whoever dies serves nobody, and which of the two is seen first is a
    /// matter of chance.
    pub fn is_like(&self, other: &Identity) -> bool {
        let gone = |oracle| matches!(oracle, Oracle::Crash | Oracle::Liveness | Oracle::Hang);
        self == other || (self.rule == other.rule && gone(self.oracle) && gone(other.oracle))
    }

    /// One that is about the target as a whole.
    pub fn of_target(oracle: Oracle, rule: &str) -> Identity {
        Identity {
            oracle,
            rule: rule.to_owned(),
            state: String::new(),
            kind: String::new(),
            place: String::new(),
        }
    }

    /// The identity of what a judge said in a conversation.
    pub fn of(finding: &Finding, result: &FlowResult, kinds: &Kinds) -> Identity {
        let dead = finding.message.contains(ENDED);
        let oracle = match finding.judge {
            Judge::Liveness if dead => Oracle::Crash,
            Judge::Liveness => Oracle::Liveness,
            Judge::Arrow => Oracle::Arrow,
            Judge::Schema => Oracle::Schema,
            Judge::Monitor => Oracle::Monitor,
        };
        let rule = finding.requirement.clone().unwrap_or_else(|| oracle.word().to_owned());
        if matches!(oracle, Oracle::Crash | Oracle::Liveness) {
            return Identity::of_target(oracle, &rule);
        }
        let (kind, state) = match &finding.actual {
            Value::Null => ("nothing".to_owned(), String::new()),
            actual => (kinds.of_value(actual), state(&result.transcript, actual, &finding.by)),
        };
        let place = if oracle == Oracle::Schema { place(&finding.message) } else { String::new() };
        Identity { oracle, rule, state, kind, place }
    }
}

/// How the judges say that a program died.
const ENDED: &str = "ended by itself";

/// What a conversation found: everything that accuses somebody, each once.
pub fn findings(result: &FlowResult, kinds: &Kinds) -> Vec<(Identity, Finding)> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for finding in result.findings.iter().filter(|finding| finding.ruling == Ruling::Broken) {
        let identity = Identity::of(finding, result, kinds);
        if known.insert(identity.clone()) {
            found.push((identity, finding.clone()));
        }
    }
    found
}

/// How far the conversation had come on the connection that carried a message.
fn state(transcript: &Transcript, actual: &Value, by: &str) -> String {
    let text = actual.to_string();
    let lines = transcript.lines();
    let Some(place) = lines.iter().position(|line| line.from == by && line.text == text) else {
        return String::new();
    };
    let link = lines[place].link;
    let mut state = "new";
    for line in lines[..place].iter().filter(|line| line.link == link && line.from != by) {
        let word: String = line.text.chars().take_while(char::is_ascii_alphabetic).collect();
        match word.as_str() {
            "connects" | "connected" | "opens" | "accepts" | "ping" | "pong" | "stops" | "reads" => {}
            "close" | "vanishes" => state = "leaving",
            _ if state == "new" => state = "talking",
            _ => {}
        }
    }
    state.to_owned()
}

/// The JSON pointer that the message catalogue names, without what is different every time.
fn place(message: &str) -> String {
    let Some((_, rest)) = message.split_once("form: ") else { return String::new() };
    let pointer = rest.split(": ").next().unwrap_or_default();
    let parts: Vec<&str> = pointer
        .split('/')
        .map(|part| if part.chars().any(|c| c.is_ascii_digit()) || part.len() > 24 { "#" } else { part })
        .collect();
    parts.join("/")
}
