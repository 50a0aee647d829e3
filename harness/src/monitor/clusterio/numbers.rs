//! The numbers of messages (section 2.1, ambiguity A5): one series for each connection and direction.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::machine::{LinkId, Time};

use super::{Message, message};
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// A number of the other side so high that no series of one's own gets there by itself.
const FAR: i64 = 100;

#[derive(Default)]
struct Series {
    last: Option<i64>,
    /// The number that the other side used last on this link.
    heard: Option<i64>,
    requests: BTreeSet<i64>,
    sent: u64,
    /// Its first number went on where another connection stood.
    shared: bool,
    /// What was said last had no number, or one that was used already: the next may be any.
    lost: bool,
}

pub(super) struct Numbers {
    seed: bool,
    series: BTreeMap<(LinkId, String), Series>,
    /// The number that a party used last on each of its links.
    latest: BTreeMap<String, BTreeMap<LinkId, i64>>,
}

impl Numbers {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Numbers { seed: config.edition == "seed", series: BTreeMap::new(), latest: BTreeMap::new() }
    }

    /// True when a number goes on counting where another link of the same party, or the other direction, stands. Later
    /// gaps say nothing of other links, unless the series began like that.
    fn counts_elsewhere(&self, party: &Party, link: LinkId, series: &Series, seq: i64) -> bool {
        let others = self.latest.get(&party.name);
        let follows = (series.last.is_none() || series.shared)
            && others.is_some_and(|links| {
                links.iter().any(|(other, last)| *other != link && seq == last.saturating_add(1) && seq > 1)
            });
        let heard = series.heard.is_some_and(|heard| heard >= FAR && seq == heard.saturating_add(1));
        follows || heard
    }

    /// Section 6, A2: the seed's own examples of the handshake have no number.
    fn unnumbered(&self, seen: &Seen<'_>, message: Message<'_>, rulings: &mut Rulings) {
        let handshake = matches!(message.kind, "hello" | "ready" | "register_slave" | "register_control");
        if self.seed && handshake && message.whole.get("seq").is_none() {
            let text = format!("`{}` has no number", message.kind);
            let actual = message.whole.clone();
            rulings.tolerated("CLUSTERIO-WIRE-3", seen.from, seen.at, text, "an integer `seq`", actual);
        }
    }
}

impl Monitor for Numbers {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if !matches!(seen.what, What::Text { .. } | What::Binary(_)) {
            return;
        }
        let key = (seen.link, seen.from.name.clone());
        let read = message(&seen.what);
        let Some((message, seq)) = read.and_then(|message| Some((message, message.seq?))) else {
            self.series.entry(key).or_default().lost = true;
            if let Some(message) = read {
                self.unnumbered(seen, message, rulings);
            }
            return;
        };
        let series = self.series.remove(&key).unwrap_or_default();
        let (party, at) = (seen.from, seen.at);
        let elsewhere = self.counts_elsewhere(party, seen.link, &series, seq);
        let actual = || message.whole.clone();
        let mut series = series;
        let lost = std::mem::take(&mut series.lost);
        if message.kind.ends_with("_request") && !series.requests.insert(seq) {
            series.lost = true;
            let text = format!("two requests of {} on this connection have the number {seq}", party.name);
            rulings.broken(
                "CLUSTERIO-SEQ-1",
                party,
                at,
                text,
                "a number of its own for each request",
                actual(),
            );
        } else if message.kind.ends_with("_request") {
            rulings.kept("CLUSTERIO-SEQ-1", party, at);
        }
        let expected = series.last.map_or(1, |last| last.saturating_add(1));
        match (seq == expected, series.last) {
            _ if lost || series.lost => {}
            (true, None) => rulings.kept("CLUSTERIO-SEQ-2", party, at),
            (true, Some(_)) => rulings.kept("CLUSTERIO-SEQ-3", party, at),
            (false, _) if elsewhere => {
                series.shared = true;
                let text = format!(
                    "the number {seq} goes on where another connection, or the other direction, of {} stands",
                    party.name
                );
                rulings.broken("CLUSTERIO-SEQ-4", party, at, text, format!("{expected}"), actual());
            }
            (false, None) => {
                let text =
                    format!("the first message of {} on this connection has the number {seq}", party.name);
                rulings.broken("CLUSTERIO-SEQ-2", party, at, text, "1", actual());
            }
            (false, Some(last)) => {
                let text = format!("the number {seq} follows {last}");
                rulings.broken("CLUSTERIO-SEQ-3", party, at, text, format!("{expected}"), actual());
            }
        }
        series.last = Some(seq);
        series.sent += 1;
        self.series.insert(key, series);
        self.latest.entry(party.name.clone()).or_default().insert(seen.link, seq);
        self.series.entry((seen.link, seen.to.name.clone())).or_default().heard = Some(seq);
        let links =
            self.series.iter().filter(|((_, name), series)| *name == party.name && series.sent > 1).count();
        if links > 1 {
            rulings.kept("CLUSTERIO-SEQ-4", party, at);
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
