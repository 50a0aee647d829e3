//! Rules over the whole conversation, one file a protocol. A monitor reads raw JSON and arrival times, never the
//! reference implementation's types: the judge shares no code with the judged. The same monitor judges a flow, a
//! fuzz case, proxied traffic and a recording.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Request, Response, Time};
use serde_json::Value;

use crate::corpus::Protocol;
use crate::judge::finding::{Finding, Judge, Ruling};

pub mod clusterio;
pub mod cow;
pub mod hangout;
pub mod polfan;
pub mod ptpchat;
pub mod rules;

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// The participant's name in the flow, or an address on live traffic.
    pub name: String,
    /// Its role.
    pub role: String,
    /// True when it is to be judged. What others do is only context.
    pub under_test: bool,
}

/// Something that happened on a link, in the order of arrival at whoever watches.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// When: for what we received, the arrival time taken by the reader; for what we sent, when it was handed over.
    pub at: Time,
    /// Which connection. A participant that reconnects gets a new number.
    pub link: LinkId,
    /// Who did it.
    pub from: &'a Party,
    /// The other end.
    pub to: &'a Party,
    /// Where `from` sent it from, where that is known and matters: datagrams.
    pub from_address: Option<SocketAddr>,
    /// Where it was sent to.
    pub to_address: Option<SocketAddr>,
    /// What.
    pub what: What<'a>,
}

/// What happened on a link.
#[derive(Clone, Debug)]
pub enum What<'a> {
    /// `from` asks for a connection; whether `to` grants it is not known yet.
    Requested {
        /// Path and query asked for.
        target: &'a str,
    },
    /// `from` asked for the connection and `to` granted it.
    Opened {
        /// Path and query asked for.
        target: &'a str,
    },
    /// A text message. `json` is its value, or why it has none.
    Text {
        /// The text, invalid UTF-8 replaced.
        text: &'a str,
        /// The value, if it is JSON.
        json: Result<&'a Value, NotJson>,
    },
    /// A plain HTTP request; the only thing on its link beside its answer.
    Asked(&'a Request),
    /// The answer to a plain HTTP request.
    Answered(&'a Response),
    /// A binary message.
    Binary(&'a [u8]),
    /// A WebSocket Ping.
    Ping(&'a [u8]),
    /// A WebSocket Pong.
    Pong(&'a [u8]),
    /// `from` announced the end of the link (a Close frame).
    Closing {
        /// The status code, if one was given.
        code: Option<u16>,
        /// The reason.
        reason: &'a str,
    },
    /// The connection is gone; `from` ended it. Always the last thing on a link.
    Closed,
    /// Bytes below the framing, or that break it.
    Raw(&'a [u8]),
    /// `from` stops reading what `to` sends; from now on arrival times on this link say nothing.
    Stalled,
}

/// Why a text message has no JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJson {
    /// It is not JSON at all, or not UTF-8.
    Malformed,
    /// It is JSON, but nested too deeply to be looked into, or one that readers read differently. Nothing can be said
    /// about its inside.
    BeyondUs,
}

/// What a monitor needs to know about the run.
#[derive(Clone, Debug)]
pub struct MonitorConfig {
    /// Allowance on every time limit.
    pub slack: Duration,
    /// True when nobody but the participants of this conversation uses the target.
    pub exclusive: bool,
    /// The edition in force.
    pub edition: String,
    /// Addresses that the party under test was told before it began; none where nobody knows which.
    pub told: Option<std::collections::BTreeSet<std::net::SocketAddr>>,
    /// Protocol settings (`--var`, defaults in protocol.toml), e.g. hangout's `wildcard`.
    pub settings: std::collections::BTreeMap<String, String>,
}

/// Collects what a monitor says.
#[derive(Debug, Default)]
pub struct Rulings {
    /// In the order said.
    pub findings: Vec<Finding>,
    /// Why nothing more can be judged: the party under test plainly speaks another edition.
    pub other_edition: Option<String>,
    /// What was kept already, by role: most of what is seen is kept again and again.
    kept: HashMap<String, HashSet<String>>,
}

impl Rulings {
    /// The requirement was put to the test and held. Said once a conversation is enough; repeats are merged.
    pub fn kept(&mut self, requirement: &str, by: &Party, at: Time) {
        if !by.under_test || self.kept.get(&by.role).is_some_and(|kept| kept.contains(requirement)) {
            return;
        }
        self.kept.entry(by.role.clone()).or_default().insert(requirement.to_owned());
        self.push(requirement, Ruling::Kept, by, at, String::new(), String::new(), Value::Null);
    }

    /// The requirement was broken.
    pub fn broken(
        &mut self,
        requirement: &str,
        by: &Party,
        at: Time,
        message: impl Into<String>,
        expected: impl Into<String>,
        actual: Value,
    ) {
        self.push(requirement, Ruling::Broken, by, at, message.into(), expected.into(), actual);
    }

    /// The party under test plainly speaks another edition of the protocol: what it says cannot be judged by this one.
    pub fn speaks(&mut self, edition: &str, by: &Party, sign: &str) {
        if by.under_test {
            let text = format!(
                "{} speaks edition {edition} ({sign}); run with --edition {edition} to judge it",
                by.name
            );
            self.other_edition.get_or_insert(text);
        }
    }

    /// The party under test plainly speaks an edition of the protocol that nobody here knows.
    pub fn speaks_unknown(&mut self, edition: &str, by: &Party, sign: &str) {
        if by.under_test {
            let text = format!("{} speaks edition {edition} ({sign}), which cannot be judged here", by.name);
            self.other_edition.get_or_insert(text);
        }
    }

    /// A lawful but poorer reading was seen; the verdict is a warning.
    pub fn tolerated(
        &mut self,
        requirement: &str,
        by: &Party,
        at: Time,
        message: impl Into<String>,
        expected: impl Into<String>,
        actual: Value,
    ) {
        self.push(requirement, Ruling::Tolerated, by, at, message.into(), expected.into(), actual);
    }

    /// Lawful, but worth telling; the verdict stands as it is.
    pub fn noted(
        &mut self,
        requirement: &str,
        by: &Party,
        at: Time,
        message: impl Into<String>,
        expected: impl Into<String>,
        actual: Value,
    ) {
        self.push(requirement, Ruling::Noted, by, at, message.into(), expected.into(), actual);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a finding, filled in one place")]
    fn push(
        &mut self,
        requirement: &str,
        ruling: Ruling,
        by: &Party,
        at: Time,
        message: String,
        expected: String,
        actual: Value,
    ) {
        if !by.under_test {
            return;
        }
        let requirement = Some(requirement.to_owned());
        let by = by.name.clone();
        self.findings.push(Finding {
            requirement,
            ruling,
            by,
            judge: Judge::Monitor,
            at,
            line: None,
            message,
            expected,
            actual,
        });
    }
}

/// A rule, or a family of rules, over one conversation.
pub trait Monitor {
    /// Takes what was seen, in order of arrival.
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings);

    /// A client under test is asked to do something with this, in a conversation that has left the path: that it then does
    /// so is no fault of its own.
    fn ordered(&mut self, _who: &Party, _with: &Value) {}

    /// When the monitor wants [`Monitor::due`], because something must have happened by then.
    fn deadline(&self) -> Option<Time> {
        None
    }

    /// Time has passed with nothing seen.
    fn due(&mut self, _now: Time, _rulings: &mut Rulings) {}

    /// The conversation is over: nothing will be seen any more. What could not be decided stays unsaid.
    fn finish(&mut self, now: Time, rulings: &mut Rulings);
}

/// The monitors of a protocol: its rules that are data, and for a built-in one what no data expresses.
pub fn monitors_of(protocol: &Arc<Protocol>, config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    let mut all = rules::monitors(protocol, config);
    all.extend(monitors(&protocol.settings.name, config));
    all
}

/// The requirements that the monitors of a protocol judge.
pub fn watched_of(protocol: &Protocol) -> Vec<&str> {
    let by_data = protocol.rules.iter().flat_map(rules::Rule::requirements);
    watched(&protocol.settings.name).iter().copied().chain(by_data).collect()
}

/// The monitors in code of a built-in protocol; none for an unknown name.
pub fn monitors(protocol: &str, config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    match protocol {
        "cow" => cow::monitors(config),
        "clusterio" => clusterio::monitors(config),
        "hangout" => hangout::monitors(config),
        "polfan" => polfan::monitors(config),
        "ptpchat" => ptpchat::monitors(config),
        _ => Vec::new(),
    }
}

/// The requirements that the monitors in code of a protocol judge.
pub fn watched(protocol: &str) -> &'static [&'static str] {
    match protocol {
        "cow" => cow::WATCHED,
        "clusterio" => clusterio::WATCHED,
        "hangout" => hangout::WATCHED,
        "polfan" => polfan::WATCHED,
        "ptpchat" => ptpchat::WATCHED,
        _ => &[],
    }
}
