//! What a client may say: whom it addresses, of what types, and that it answers Pings.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Pings that wait for an answer.
    pings: Vec<(Time, Vec<u8>)>,
    open: bool,
}

pub(super) struct ClientRules {
    config: MonitorConfig,
    wildcard: String,
    lines: BTreeMap<LinkId, Line>,
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
        line.known.extend(told.into_iter().map(str::to_owned));
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let limit = PONG + self.config.slack;
        for line in self.lines.values_mut().filter(|line| line.open) {
            let before = line.pings.len();
            line.pings.retain(|(at, _)| now.since(*at) <= limit);
            if line.pings.len() < before {
                let message = "a Ping was not answered within 2 s";
                rulings.broken(
                    "HANGOUT-CLIENT-4",
                    &line.client,
                    now,
                    message,
                    "a Pong with the same payload",
                    Value::Null,
                );
            }
        }
    }
}

impl Monitor for ClientRules {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        self.overdue(seen.at - Duration::from_nanos(1), rulings);
        let Some((_, client, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Opened { .. } => {
                let line =
                    Line { client: client.clone(), known: BTreeSet::new(), pings: Vec::new(), open: true };
                self.lines.insert(seen.link, line);
            }
            What::Closing { .. } | What::Closed => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.open = false;
                }
            }
            What::Text { json: Ok(whole), .. } if from_server => self.server_said(seen, whole),
            What::Text { json: Ok(whole), .. } => self.client_said(seen, whole, rulings),
            What::Ping(payload) if from_server => {
                if let Some(line) = self.lines.get_mut(&seen.link).filter(|line| line.client.under_test) {
                    line.pings.push((seen.at, payload.to_vec()));
                }
            }
            What::Pong(payload) if !from_server => {
                if let Some(line) = self.lines.get_mut(&seen.link)
                    && let Some(place) = line.pings.iter().position(|(_, sent)| sent == payload)
                {
                    // A Pong answers this Ping and those before it (RFC 6455, 5.5.3).
                    line.pings.drain(..=place);
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
        let open = self.lines.values().filter(|line| line.open);
        open.flat_map(|line| line.pings.iter().map(|(at, _)| *at + limit)).min()
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }
}
