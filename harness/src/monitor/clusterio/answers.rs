//! Requests get one response each, events none (sections 2.5 and 7).

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::plain::is_plain;
use super::{ANSWER, Message, integer, is_beyond, message, sides};
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// Requests that their receiver answers by itself, without asking somebody else.
const DIRECT: &[&str] = &[
    "list_slaves",
    "list_instances",
    "set_instance_output_subscriptions",
    "get_instance_config",
    "statistics_exporter:get_metrics",
];

struct Asked {
    stem: String,
    seq: i64,
    at: Time,
    answered: bool,
    overdue: bool,
    /// Its number does not follow the one before, and one that did was answered.
    leapt: bool,
    /// Whoever was asked waited for an answer itself.
    meanwhile: bool,
}

/// What one side of a link has been asked and told by the other.
struct Ear {
    party: Party,
    asked: Vec<Asked>,
    /// Numbers and stems of events told to it.
    told: Vec<(i64, String)>,
    open: bool,
    ready: bool,
    heard: Option<i64>,
    /// Its own requests that are not answered.
    asking: Vec<(String, i64)>,
}

pub(super) struct Answers {
    slack: Duration,
    ears: BTreeMap<(LinkId, String), Ear>,
    /// Links on which something was sent that may be answered in many ways.
    strange: Vec<LinkId>,
    /// Links on which something was sent that may have been a request, or an event, of any number.
    beyond: Vec<LinkId>,
    /// Links on which somebody under test said something that cannot be read: it may have been the answer.
    unread: Vec<LinkId>,
}

impl Answers {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Answers {
            slack: config.slack,
            ears: BTreeMap::new(),
            strange: Vec::new(),
            beyond: Vec::new(),
            unread: Vec::new(),
        }
    }

    fn ear(&mut self, link: LinkId, party: &Party) -> &mut Ear {
        let fresh = || Ear {
            party: party.clone(),
            asked: Vec::new(),
            told: Vec::new(),
            open: true,
            ready: false,
            heard: None,
            asking: Vec::new(),
        };
        self.ears.entry((link, party.name.clone())).or_insert_with(fresh)
    }

    /// A response of `seen.from`: which request is it for?
    fn response(&mut self, seen: &Seen<'_>, message: Message<'_>, stem: &str, rulings: &mut Rulings) {
        let strange = self.strange.contains(&seen.link);
        let beyond = self.beyond.contains(&seen.link);
        let ear = self.ear(seen.link, seen.from);
        let to = message.data.get("seq").and_then(integer);
        let (party, at) = (seen.from, seen.at);
        let actual = || message.whole.clone();
        let same = |asked: &Asked| Some(asked.seq) == to;
        if let Some(asked) =
            ear.asked.iter_mut().find(|asked| !asked.answered && same(asked) && asked.stem == stem)
        {
            asked.answered = true;
            for id in ["CLUSTERIO-REQ-1", "CLUSTERIO-REQ-2", "CLUSTERIO-REQ-3", "CLUSTERIO-REQ-4"] {
                rulings.kept(id, party, at);
            }
        } else if beyond {
            // It may be for that.
        } else if ear.asked.iter().any(|asked| same(asked) && asked.stem == stem) {
            let text = format!("the `{stem}_request` is responded to a second time");
            rulings.broken("CLUSTERIO-REQ-2", party, at, text, "one response", actual());
        } else if let Some(asked) = ear.asked.iter_mut().find(|asked| !asked.answered && same(asked)) {
            asked.answered = true;
            let text = format!("a `{}_request` is answered with `{}`", asked.stem, message.kind);
            let expected = format!("`{}_response`", asked.stem);
            rulings.broken("CLUSTERIO-REQ-3", party, at, text, expected, actual());
        } else if ear.told.iter().any(|(_, told)| told == stem) {
            let text = format!("the event `{stem}` is replied to with `{}`", message.kind);
            rulings.broken("CLUSTERIO-EVT-1", party, at, text, "no reply", actual());
        } else if let Some(asked) = ear.asked.iter_mut().find(|asked| !asked.answered && asked.stem == stem) {
            asked.answered = true;
            let text = format!(
                "the response refers to {}, the request has the number {}",
                message.data.get("seq").unwrap_or(&Value::Null),
                asked.seq
            );
            rulings.broken("CLUSTERIO-REQ-4", party, at, text, format!("data.seq {}", asked.seq), actual());
        } else if let Some((_, told)) = ear.told.iter().find(|(seq, _)| Some(*seq) == to) {
            let text = format!("the event `{told}` is replied to with `{}`", message.kind);
            rulings.broken("CLUSTERIO-EVT-1", party, at, text, "no reply", actual());
        } else if !strange {
            let text = "a response to a request that nobody made";
            rulings.broken("CLUSTERIO-REQ-4", party, at, text, "data.seq of a request", actual());
        }
    }

    fn judge_overdue(&mut self, now: Time, limit: Duration, rulings: &mut Rulings) {
        for ((link, _), ear) in &mut self.ears {
            if !ear.open || self.strange.contains(link) || self.unread.contains(link) {
                continue;
            }
            for asked in ear.asked.iter_mut().filter(|asked| !asked.answered && !asked.overdue) {
                if now.since(asked.at) >= limit && DIRECT.contains(&asked.stem.as_str()) {
                    asked.overdue = true;
                    let text = format!("the `{}_request` number {} is not answered", asked.stem, asked.seq);
                    let expected = "a response within 5 s";
                    let requirement = match (asked.leapt, asked.meanwhile) {
                        (true, _) => "CLUSTERIO-SEQ-5",
                        (false, true) => "CLUSTERIO-REQ-8",
                        (false, false) => "CLUSTERIO-REQ-1",
                    };
                    rulings.broken(requirement, &ear.party, now, text, expected, Value::Null);
                }
            }
        }
    }
}

impl Monitor for Answers {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if sides(seen).is_none() {
            return;
        }
        match &seen.what {
            What::Closing { .. } | What::Closed => {
                for ((link, _), ear) in &mut self.ears {
                    ear.open &= *link != seen.link;
                }
            }
            What::Binary(_) | What::Raw(_) | What::Stalled if !seen.from.under_test => {
                self.strange.push(seen.link);
                self.beyond.push(seen.link);
            }
            what if is_beyond(what) && !seen.from.under_test => self.beyond.push(seen.link),
            _ => {}
        }
        let Some(message) = message(&seen.what) else {
            match seen.what {
                What::Text { .. } if !seen.from.under_test => self.strange.push(seen.link),
                What::Text { .. } | What::Binary(_) => self.unread.push(seen.link),
                _ => {}
            }
            return;
        };
        if message.kind == "close" {
            for ((link, _), ear) in &mut self.ears {
                ear.open &= *link != seen.link;
            }
            return;
        }
        if let Some(stem) = message.kind.strip_suffix("_response") {
            let to = message.data.get("seq").and_then(integer);
            self.ear(seen.link, seen.to).asking.retain(|(asked, seq)| asked != stem || Some(*seq) != to);
            if let Some(seq) = message.seq {
                self.ear(seen.link, seen.to).heard = Some(seq);
            }
            if seen.from.under_test {
                self.response(seen, message, stem, rulings);
            }
            return;
        }
        // A message of another kind that refers to an event by its number is a reply as well.
        if seen.from.under_test
            && let Some(to) = message.data.get("seq").and_then(integer)
        {
            let ear = self.ear(seen.link, seen.from);
            if let Some((_, told)) = ear.told.iter().find(|(seq, _)| *seq == to) {
                let text = format!("the event `{told}` is replied to with `{}`", message.kind);
                let actual = message.whole.clone();
                rulings.broken("CLUSTERIO-EVT-1", seen.from, seen.at, text, "no reply", actual);
            }
        }
        if message.kind == "ready" && seen.from.role == "master" {
            // From here on both ends are asked.
            self.ear(seen.link, seen.from).ready = true;
            self.ear(seen.link, seen.to).ready = true;
        }
        let Some(seq) = message.seq else { return };
        let at = seen.at;
        let before = self.ear(seen.link, seen.to).heard.replace(seq);
        let follows = before.is_none_or(|before| seq == before.saturating_add(1));
        if let Some(stem) = message.kind.strip_suffix("_request") {
            self.ear(seen.link, seen.from).asking.push((stem.to_owned(), seq));
            let ear = self.ear(seen.link, seen.to);
            // Anything else may be answered with `close` (A15, A16).
            let plain = is_plain(seen.from, seen.to, &message) && ear.ready;
            let known = |asked: &Asked| asked.answered && asked.stem == stem && !asked.leapt;
            let leapt = !follows && ear.asked.iter().any(known);
            let meanwhile = !ear.asking.is_empty();
            let stem = stem.to_owned();
            ear.asked.push(Asked { stem, seq, at, answered: false, overdue: !plain, leapt, meanwhile });
        } else if let Some(stem) = message.kind.strip_suffix("_event") {
            self.ear(seen.link, seen.to).told.push((seq, stem.to_owned()));
        } else if !matches!(message.kind, "hello" | "ready" | "register_slave" | "register_control") {
            self.strange.push(seen.link);
        }
    }

    fn deadline(&self) -> Option<Time> {
        let limit = ANSWER + self.slack;
        let judged = |link: &LinkId| !self.strange.contains(link) && !self.unread.contains(link);
        let open = self.ears.iter().filter(|((link, _), ear)| ear.open && judged(link));
        open.flat_map(|(_, ear)| &ear.asked)
            .filter(|asked| !asked.answered && !asked.overdue && DIRECT.contains(&asked.stem.as_str()))
            .map(|asked| asked.at + limit)
            .min()
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.judge_overdue(now, ANSWER + self.slack, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        // A flow that waited for the answer has waited no longer than this.
        self.judge_overdue(now, ANSWER, rulings);
        for ear in self.ears.values().filter(|ear| ear.open && !ear.told.is_empty()) {
            rulings.kept("CLUSTERIO-EVT-1", &ear.party, now);
        }
    }
}
