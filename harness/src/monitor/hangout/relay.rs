//! Packets between clients: who gets what, from whom, unchanged, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{Said, packet, said, sides};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, Rulings, Seen, What};
use crate::pattern::json;

/// Packets that are remembered; older ones can no longer be told from strangers'.
const REMEMBERED: usize = 2048;
/// How long a packet may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// A packet that a played client sent.
struct Sent {
    number: u64,
    at: Time,
    sender: LinkId,
    /// Connections addressed by token.
    named: BTreeSet<LinkId>,
    /// Addressed to everybody.
    everyone: bool,
    kind: String,
    payload: Value,
    forged: bool,
    /// It named the server among others (6.9), or an address we cannot place.
    vague: bool,
    delivered: BTreeSet<LinkId>,
}

#[derive(Default)]
struct Link {
    token: Option<String>,
    open: bool,
    /// It has sent something of which nobody knows what a server makes.
    unclear: bool,
}

pub(super) struct Relay {
    wildcard: String,
    links: BTreeMap<LinkId, Link>,
    sent: VecDeque<Sent>,
    next: u64,
    /// The last packet delivered, by sender and reader.
    last: BTreeMap<(LinkId, LinkId), u64>,
}

impl Relay {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        let wildcard = config.settings.get("wildcard").cloned().unwrap_or_else(|| "*".to_owned());
        Relay { wildcard, links: BTreeMap::new(), sent: VecDeque::new(), next: 0, last: BTreeMap::new() }
    }

    fn client_said(&mut self, seen: &Seen<'_>) {
        let json = match &seen.what {
            What::Text { json, .. } => said(json),
            _ => Said::Unclear,
        };
        let Said::Envelope(envelope) = json else {
            self.links.entry(seen.link).or_default().unclear = true;
            return;
        };
        if envelope.to.contains(&"server") && envelope.to.len() == 1 {
            return;
        }
        let mut named = BTreeSet::new();
        let mut vague = envelope.to.contains(&"server");
        for address in &envelope.to {
            let owner = self.links.iter().find(|(_, link)| link.token.as_deref() == Some(*address));
            match owner {
                Some((id, link)) if link.open => {
                    named.insert(*id);
                }
                Some(_) => {}
                // It may be the token of one whose `index` was not read yet.
                None => vague |= self.links.values().any(|link| link.token.is_none()),
            }
        }
        self.next += 1;
        self.sent.push_back(Sent {
            number: self.next,
            at: seen.at,
            sender: seen.link,
            named,
            everyone: envelope.to.contains(&self.wildcard.as_str()),
            kind: envelope.kind.to_owned(),
            payload: envelope.payload.clone(),
            forged: envelope.forged,
            vague,
            delivered: BTreeSet::new(),
        });
        while self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
    }

    fn server_said(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(packet) = packet(&seen.what) else { return };
        let own = packet.kind == "metadata" || packet.kind == "changes";
        if packet.from == "server" {
            if own {
                rulings.kept("HANGOUT-FROM-3", seen.from, seen.at);
                if let Some(index) = packet.whole.pointer("/metadata/index").and_then(Value::as_str) {
                    self.links.entry(seen.link).or_default().token.get_or_insert_with(|| index.to_owned());
                }
            } else {
                let forged = self.sent.iter().any(|sent| sent.forged && sent.kind == packet.kind);
                let (id, message) = if forged {
                    ("HANGOUT-FROM-2", "a client's packet arrived as one of the server")
                } else {
                    ("HANGOUT-FROM-3", "a packet from `server` that is neither `metadata` nor `changes`")
                };
                rulings.broken(id, seen.from, seen.at, message, "the sender's token as `from`", actual(packet.whole));
            }
            return;
        }
        if own {
            rulings.broken(
                "HANGOUT-RELAY-9",
                seen.from,
                seen.at,
                format!("a client's packet of type `{}` was relayed", packet.kind),
                "no relay of the server's own types",
                actual(packet.whole),
            );
            return;
        }
        let payload = packet.whole.get(packet.kind);
        self.match_up(seen, packet.from, packet.kind, payload, packet.whole, rulings);
    }

    /// Finds the packet that was sent for one that arrived, and says how it differs.
    fn match_up(
        &mut self,
        seen: &Seen<'_>,
        from: &str,
        kind: &str,
        payload: Option<&Value>,
        whole: &Value,
        rulings: &mut Rulings,
    ) {
        let reader = seen.link;
        let token_of = |id: LinkId| self.links.get(&id).and_then(|link| link.token.clone());
        let fresh = |sent: &&mut Sent| seen.at.since(sent.at) < ON_ITS_WAY;
        let tokens: BTreeMap<u64, Option<String>> =
            self.sent.iter().map(|sent| (sent.number, token_of(sent.sender))).collect();
        let token = |sent: &Sent| tokens.get(&sent.number).cloned().flatten();
        let by = |sent: &Sent| token(sent).as_deref() == Some(from);
        let same = |sent: &Sent| sent.kind == kind && payload.is_some_and(|payload| json::same(&sent.payload, payload));
        let meant = |sent: &Sent| sent.everyone || sent.vague || sent.named.contains(&reader);
        let found = self
            .sent
            .iter_mut()
            .filter(fresh)
            .find(|sent| by(sent) && same(sent) && meant(sent) && !sent.delivered.contains(&reader));
        if let Some(sent) = found {
            sent.delivered.insert(reader);
            for id in ["HANGOUT-FROM-1", "HANGOUT-RELAY-4"] {
                rulings.kept(id, seen.from, seen.at);
            }
            if sent.forged {
                rulings.kept("HANGOUT-FROM-2", seen.from, seen.at);
            }
            let number = sent.number;
            let last = self.last.entry((sent.sender, reader)).or_insert(0);
            if number < *last {
                rulings.broken(
                    "HANGOUT-RELAY-8",
                    seen.from,
                    seen.at,
                    "it arrived after a packet that the same client sent later",
                    "packets of one sender in the order sent",
                    actual(whole),
                );
            } else {
                *last = number;
            }
            return;
        }
        // Whoever has not read its token yet can be heard all the same (6.37).
        let early = self.sent.iter().any(|sent| same(sent) && meant(sent) && token(sent).is_none());
        if early || self.links.values().any(|link| link.unclear) {
            return;
        }
        let mut say = |id: &'static str, message: &str, expected: &str| {
            rulings.broken(id, seen.from, seen.at, message.to_owned(), expected.to_owned(), actual(whole));
        };
        let candidates: Vec<&Sent> = self.sent.iter().filter(|sent| seen.at.since(sent.at) < ON_ITS_WAY).collect();
        if let Some(twice) = candidates.iter().find(|sent| by(sent) && same(sent) && meant(sent)) {
            if !(twice.everyone && twice.named.contains(&reader)) {
                say("HANGOUT-ADDR-4", "the same packet arrived twice", "each packet once");
            }
        } else if candidates.iter().any(|sent| by(sent) && same(sent)) {
            say("HANGOUT-RELAY-2", "a packet for somebody else arrived", "packets only for those addressed");
        } else if let Some(sent) = candidates.iter().find(|sent| same(sent) && meant(sent)) {
            let id = if sent.forged { "HANGOUT-FROM-2" } else { "HANGOUT-FROM-1" };
            say(id, "`from` is not the token of the one who sent it", "the sender's token as `from`");
        } else {
            let mut altered = candidates
                .iter()
                .filter(|sent| by(sent) && sent.kind == kind && meant(sent) && !sent.delivered.contains(&reader));
            if let (Some(sent), None) = (altered.next(), altered.next()) {
                let simple = matches!(&sent.payload, Value::Null | Value::Bool(false))
                    || sent.payload.as_f64() == Some(0.0)
                    || sent.payload.as_str() == Some("");
                let id = if simple { "HANGOUT-RELAY-5" } else { "HANGOUT-RELAY-4" };
                let message = format!("the payload was {} when it was sent", json::short(&sent.payload, 200));
                say(id, &message, "the payload unchanged");
            }
        }
    }
}

impl Monitor for Relay {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, _, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Opened { .. } => {
                self.links.entry(seen.link).or_default().open = true;
            }
            What::Closing { .. } | What::Closed => {
                if let Some(link) = self.links.get_mut(&seen.link) {
                    link.open = false;
                }
            }
            What::Text { .. } if from_server => self.server_said(seen, rulings),
            What::Text { .. } | What::Binary(_) | What::Raw(_) if !from_server => self.client_said(seen),
            _ => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
