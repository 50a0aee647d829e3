//! What a client may say: whom it addresses, of what types, and that it answers Pings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{sides, strings};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// How long a client may take to answer a Ping (HANGOUT-CLIENT-4).
const PONG: Duration = Duration::from_secs(2);

struct Line {
    client: Party,
    /// Tokens it was told on this connection.
    known: BTreeSet<String>,
    open: bool,
}

pub(super) struct ClientRules {
    config: MonitorConfig,
    wildcard: String,
    lines: BTreeMap<LinkId, Line>,
    /// Pings that wait for an answer, the oldest first.
    pings: VecDeque<(Time, LinkId, Vec<u8>)>,
    /// Tokens that a client was told were its own, by client.
    own: BTreeMap<String, BTreeSet<String>>,
    /// Addresses that a client was asked to use, by client.
    ordered: BTreeMap<String, BTreeSet<String>>,
}

impl ClientRules {
    pub(super) fn new(config: MonitorConfig) -> Self {
        let wildcard = config.settings.get("wildcard").cloned().unwrap_or_else(|| "*".to_owned());
        ClientRules {
            config,
            wildcard,
            lines: BTreeMap::new(),
            pings: VecDeque::new(),
            own: BTreeMap::new(),
            ordered: BTreeMap::new(),
        }
    }

    fn client_said(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let Some(packet) = whole.get("packet").and_then(Value::as_object) else { return };
        let Some(kind) = packet.get("type").and_then(Value::as_str) else { return };
        if packet.contains_key(kind) {
            rulings.kept("HANGOUT-CLIENT-1", seen.from, seen.at);
        } else {
            let message = format!("the packet of type `{kind}` has no member `{kind}`");
            let expected = "the payload under the name of the type";
            rulings.broken("HANGOUT-CLIENT-1", seen.from, seen.at, message, expected, actual(whole));
        }
        self.addresses(seen, whole, rulings);
    }

    fn addresses(&self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let Some(line) = self.lines.get(&seen.link) else { return };
        let to = match whole.get("to") {
            Some(Value::String(one)) => vec![one.as_str()],
            many => strings(many),
        };
        let old = self.own.get(&line.client.name);
        let ordered = self.ordered.get(&line.client.name);
        for address in to {
            if address == "server" || address == self.wildcard || line.known.contains(address) {
                continue;
            }
            if ordered.is_some_and(|ordered| ordered.contains(address)) {
                continue;
            }
            let was_own = old.is_some_and(|tokens| tokens.contains(address));
            let (id, message) = if was_own {
                ("HANGOUT-CLIENT-7", format!("it still uses {address}, its token before the reconnect"))
            } else {
                ("HANGOUT-CLIENT-3", format!("it was never told of {address:?}"))
            };
            rulings.broken(
                id,
                seen.from,
                seen.at,
                message,
                "a token it was told, the wildcard, or `server`",
                actual(whole),
            );
            return;
        }
        rulings.kept("HANGOUT-CLIENT-3", seen.from, seen.at);
    }

    fn server_said(&mut self, seen: &Seen<'_>, whole: &Value) {
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let mut told = strings(whole.pointer("/metadata/indexes"));
        told.extend(strings(whole.pointer("/changes/opened")));
        told.extend(whole.get("from").and_then(Value::as_str));
        if let Some(index) = whole.pointer("/metadata/index").and_then(Value::as_str) {
            told.push(index);
            self.own.entry(line.client.name.clone()).or_default().insert(index.to_owned());
        }
        for token in told {
            if !line.known.contains(token) {
                line.known.insert(token.to_owned());
            }
        }
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let limit = PONG + self.config.slack;
        while let Some((_, link, _)) = self.pings.pop_front_if(|(at, _, _)| now.since(*at) > limit) {
            let Some(line) = self.lines.get(&link) else { continue };
            let message = "a Ping was not answered within 2 s";
            let expected = "a Pong with the same payload";
            rulings.broken("HANGOUT-CLIENT-4", &line.client, now, message, expected, Value::Null);
        }
    }
}

impl Monitor for ClientRules {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        self.overdue(seen.at - Duration::from_nanos(1), rulings);
        let Some((_, client, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Opened { .. } => {
                self.lines
                    .insert(seen.link, Line { client: client.clone(), known: BTreeSet::new(), open: true });
            }
            What::Closing { .. } | What::Closed => {
                self.pings.retain(|(_, link, _)| *link != seen.link);
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.open = false;
                }
            }
            What::Text { json: Ok(whole), .. } if from_server => self.server_said(seen, whole),
            What::Text { json: Ok(whole), .. } => self.client_said(seen, whole, rulings),
            What::Ping(payload)
                if from_server
                    && client.under_test
                    && self.lines.get(&seen.link).is_some_and(|line| line.open) =>
            {
                self.pings.push_back((seen.at, seen.link, payload.to_vec()));
            }
            What::Pong(payload) if !from_server => {
                let answered =
                    |(_, link, sent): &(Time, LinkId, Vec<u8>)| *link == seen.link && sent == payload;
                if let Some(place) = self.pings.iter().position(answered) {
                    // A Pong answers this Ping and those before it (RFC 6455, 5.5.3).
                    let mut number = 0..;
                    self.pings.retain(|(_, link, _)| number.next() > Some(place) || *link != seen.link);
                    rulings.kept("HANGOUT-CLIENT-4", seen.from, seen.at);
                }
            }
            _ => {}
        }
    }

    fn ordered(&mut self, who: &Party, with: &Value) {
        let ordered = self.ordered.entry(who.name.clone()).or_default();
        ordered.extend(with.get("to").and_then(Value::as_str).map(str::to_owned));
        ordered.extend(strings(with.get("to")).into_iter().map(str::to_owned));
    }

    fn deadline(&self) -> Option<Time> {
        let limit = PONG + self.config.slack + Duration::from_nanos(1);
        self.pings.front().map(|(at, _, _)| *at + limit)
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }
}
