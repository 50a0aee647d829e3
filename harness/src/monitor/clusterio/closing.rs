//! `close`, and what follows it (sections 2.3, 3 and 6: A10, A11).

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{ENVELOPE, IN_FLIGHT, has_only, message, sides};
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// A message larger than this may be too large for its reader.
const LIMIT: usize = 1 << 20;

#[derive(Default)]
struct End {
    /// When each side said `close`, by name.
    said: BTreeMap<String, Time>,
    ready: bool,
    /// When each side said anything else, by name.
    talked: BTreeMap<String, Time>,
    /// Somebody who is not judged has ended the link, or said what may be answered in many ways.
    excused: bool,
    over: bool,
}

pub(super) struct Closings {
    slack: Duration,
    ends: BTreeMap<LinkId, End>,
}

impl Closings {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Closings { slack: config.slack, ends: BTreeMap::new() }
    }

    fn said_something(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(end) = self.ends.get_mut(&seen.link) else { return };
        let (party, at) = (seen.from, seen.at);
        let read = message(&seen.what);
        let actual = || read.map_or(Value::Null, |message| message.whole.clone());
        if end.said.contains_key(&party.name) {
            let text = format!("{} goes on talking after it has said `close`", party.name);
            rulings.broken("CLUSTERIO-CLOSE-3", party, at, text, "nothing more", actual());
        }
        // One that is not as it has to be is answered like any other rubbish.
        let sound = |whole: &Value| {
            whole.get("seq").and_then(Value::as_u64).is_some_and(|seq| seq <= 1 << 53)
                && whole.pointer("/data/reason").is_some_and(Value::is_string)
                && has_only(whole, ENVELOPE)
                && has_only(&whole["data"], &["reason"])
        };
        let rubbish = |kind: &str, whole: &Value| kind == "close" && !party.under_test && !sound(whole);
        let read = read.filter(|message| !rubbish(message.kind, message.whole));
        let kind = read.map(|message| message.kind);
        // Told to close at a time at which nothing of this side was on its way: what comes now answers it.
        let grace = IN_FLIGHT + self.slack;
        let told = end.said.iter().find(|(name, _)| **name != party.name).map(|(_, told)| *told);
        // What it was told shortly before may have made it say `close` of its own accord, at the same moment.
        let crossed = told.is_some_and(|told| {
            let others = end.talked.iter().filter(|(name, _)| **name != party.name);
            others.map(|(_, talked)| *talked).any(|talked| told.since(talked) <= grace)
        });
        if let Some(told) = told
            && !(crossed && at.since(told) <= grace)
            && end.ready
            && !end.excused
            && party.under_test
            && (kind == Some("close") || at.since(told) > grace)
        {
            let text = format!("{} is told `close` and says {}", party.name, kind.unwrap_or("something"));
            rulings.broken("CLUSTERIO-CLOSE-5", party, at, text, "the end, and no message", actual());
        }
        if let What::Text { text, .. } = &seen.what
            && !party.under_test
        {
            // Beyond a limit, or no UTF-8: the WebSocket is closed for it, and no message can be sent.
            end.excused |= text.len() > LIMIT || text.contains(char::REPLACEMENT_CHARACTER);
        }
        match kind {
            Some("close") => {
                end.said.entry(party.name.clone()).or_insert(at);
            }
            Some("ready") if party.role == "master" => {
                end.ready = true;
                end.talked.insert(party.name.clone(), at);
            }
            Some(_) => {
                end.talked.insert(party.name.clone(), at);
            }
            None if !party.under_test => end.excused = true,
            _ => {}
        }
    }

    fn ended(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(end) = self.ends.get_mut(&seen.link) else { return };
        let party: &Party = seen.from;
        if end.over {
            return;
        }
        end.over = true;
        let told = end.said.keys().any(|name| *name != party.name);
        if end.said.contains_key(&party.name) {
            rulings.kept("CLUSTERIO-CLOSE-1", party, seen.at);
            rulings.kept("CLUSTERIO-CLOSE-3", party, seen.at);
        } else if party.under_test && end.ready && !end.excused && !told {
            let text = format!("{} ends the connection without having said `close`", party.name);
            rulings.broken("CLUSTERIO-CLOSE-1", party, seen.at, text, "`close` before the end", Value::Null);
        } else if told {
            rulings.kept("CLUSTERIO-CLOSE-5", party, seen.at);
        }
    }
}

impl Monitor for Closings {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if sides(seen).is_none() {
            return;
        }
        match &seen.what {
            What::Opened { .. } => {
                self.ends.insert(seen.link, End::default());
            }
            What::Text { .. } | What::Binary(_) => self.said_something(seen, rulings),
            What::Raw(_) | What::Stalled => {
                if let Some(end) = self.ends.get_mut(&seen.link) {
                    end.excused |= !seen.from.under_test;
                }
            }
            What::Closing { .. } | What::Closed => self.ended(seen, rulings),
            What::Requested { .. } | What::Asked(_) | What::Answered(_) | What::Ping(_) | What::Pong(_) => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
