//! Who acknowledges what to whom. Whether an ACK comes at all is for the flows to say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::{Message, ends, message, same_id};
use crate::monitor::{Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What};

/// The verbs that are acknowledged.
const ACKNOWLEDGED: [&str; 5] = ["MESSAGE", "GETCERTIFICATE", "CERTIFICATE", "GETKEY", "KEY"];
/// Stands for the verb of what readers read differently.
const UNREAD: &str = "";
/// Messages that are remembered; more are sent only by what floods.
const REMEMBERED: usize = 4096;

/// A message to a watched node that is to be acknowledged.
struct Sent {
    id: Option<String>,
    from: SocketAddr,
    to: SocketAddr,
}

pub(super) struct Acks {
    /// In this edition messages have ids.
    knows_ids: bool,
    sent: Vec<Sent>,
    /// What each socket has sent to watched nodes: the verbs.
    verbs: BTreeMap<SocketAddr, BTreeSet<String>>,
    /// How many ACKs went from a watched socket to one of ours.
    acks: BTreeMap<(SocketAddr, SocketAddr), usize>,
    /// The first ACK on that way that fits no message.
    doubtful: BTreeMap<(SocketAddr, SocketAddr), Doubtful>,
}

/// An ACK that fits no message.
struct Doubtful {
    by: Party,
    at: Time,
    id: Option<String>,
    ack: Value,
}

impl Acks {
    pub(super) fn new(config: &MonitorConfig) -> Acks {
        Acks {
            knows_ids: config.edition != "seed",
            sent: Vec::new(),
            verbs: BTreeMap::new(),
            acks: BTreeMap::new(),
            doubtful: BTreeMap::new(),
        }
    }

    fn acknowledged(&mut self, seen: &Seen<'_>, ack: &Message<'_>, rulings: &mut Rulings) {
        let Some((from, to)) = ends(seen) else { return };
        *self.acks.entry((from, to)).or_default() += 1;
        let by = seen.from;
        let actual = || ack.whole.clone();
        let id = ack.text("msg_id");
        let same = |sent: &&Sent| match (id, &sent.id) {
            (Some(id), Some(known)) => same_id(id, known),
            (None, None) => sent.from == to,
            _ => false,
        };
        let alike: Vec<&Sent> = self.sent.iter().filter(same).collect();
        let own = alike.iter().find(|sent| sent.from == to && sent.to == from);
        let own = own.or_else(|| alike.iter().find(|sent| sent.from == to)).copied();
        // Of two messages with one id nobody can say which was acknowledged.
        let several = alike.iter().any(|sent| sent.from != alike[0].from || sent.to != alike[0].to);
        // Nor whether it was for something that we cannot read ourselves.
        let unread = self.verbs.get(&to).is_some_and(|verbs| verbs.contains(UNREAD));
        let forgotten = self.sent.len() >= REMEMBERED;
        if own.is_none() && (several || unread || forgotten) {
            return;
        }
        if let Some(sent) = own.or(alike.first().copied()) {
            if sent.from != to {
                let message = format!("a message from {} was acknowledged to {to}", sent.from);
                rulings.broken(
                    "PTPCHAT-ACK-7",
                    by,
                    seen.at,
                    message,
                    "an ACK to the source of the message",
                    actual(),
                );
            } else {
                rulings.kept("PTPCHAT-ACK-7", by, seen.at);
            }
            if sent.to != from {
                let message = format!("a message to {} was acknowledged from {from}", sent.to);
                let expected = "an ACK from the socket that the message went to";
                rulings.broken("PTPCHAT-ACK-6", by, seen.at, message, expected, actual());
            } else {
                rulings.kept("PTPCHAT-ACK-6", by, seen.at);
            }
            if id.is_some() {
                rulings.kept("PTPCHAT-ACK-8", by, seen.at);
            }
            return;
        }
        let asked = self.sent.iter().any(|sent| sent.from == to && sent.to == from);
        let verbs = self.verbs.get(&to);
        let others = |verb: &String| !ACKNOWLEDGED.contains(&verb.as_str()) && verb != "HELLO";
        if asked && verbs.is_some_and(|verbs| !verbs.iter().any(others)) {
            let id = id.map(str::to_owned);
            self.doubtful.entry((from, to)).or_insert_with(|| Doubtful {
                by: by.clone(),
                at: seen.at,
                id,
                ack: ack.whole.clone(),
            });
        } else if verbs.is_some_and(|verbs| verbs.iter().all(|verb| verb == "HELLO")) {
            let message = "an ACK came to somebody who had sent nothing but HELLO";
            rulings.broken("PTPCHAT-HELLO-5", by, seen.at, message, "no ACK for HELLO", actual());
        }
    }

    /// An ACK that fits no message, to somebody who sent HELLO and messages. Where there are no more ACKs than messages,
    /// it was for one of them.
    fn judge(&self, doubtful: &Doubtful, messages: usize, acks: usize, rulings: &mut Rulings) {
        let Doubtful { by, at, id, ack } = doubtful;
        if acks > messages {
            let message =
                format!("{acks} ACKs came for {messages} messages, and HELLO was all that was sent besides");
            rulings.broken("PTPCHAT-HELLO-5", by, *at, message, "no ACK for HELLO", ack.clone());
            return;
        }
        let expected = "the id of the message";
        match id {
            Some(id) => {
                let message = format!("the ACK is for {id}, and nothing of that id was sent");
                rulings.broken("PTPCHAT-ACK-8", by, *at, message, expected, ack.clone());
            }
            None => {
                let message = "the ACK does not say what it is for, and every message had an id";
                if self.knows_ids {
                    rulings.broken("PTPCHAT-ACK-8", by, *at, message, expected, ack.clone());
                } else {
                    // The seed's ACK has no content at all; ids of messages came with the next revision.
                    rulings.tolerated("PTPCHAT-ACK-8", by, *at, message, expected, ack.clone());
                }
            }
        }
    }
}

impl Monitor for Acks {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(said) = message(&seen.what) else {
            // What readers read differently may have been a message.
            if let (What::Text { json: Err(NotJson::BeyondUs), .. }, Some((from, _))) =
                (&seen.what, ends(seen))
            {
                self.verbs.entry(from).or_default().insert(UNREAD.to_owned());
            }
            return;
        };
        if seen.from.under_test && said.verb == "ACK" {
            self.acknowledged(seen, &said, rulings);
        }
        let Some((from, to)) = ends(seen).filter(|_| seen.to.under_test) else { return };
        self.verbs.entry(from).or_default().insert(said.verb.to_owned());
        if ACKNOWLEDGED.contains(&said.verb) && self.sent.len() < REMEMBERED {
            self.sent.push(Sent { id: said.text("msg_id").map(str::to_owned), from, to });
        }
    }

    fn finish(&mut self, _now: Time, rulings: &mut Rulings) {
        if self.sent.len() >= REMEMBERED {
            return;
        }
        for (&(node, other), doubtful) in &self.doubtful {
            let messages = self.sent.iter().filter(|sent| sent.from == other && sent.to == node).count();
            let acks = self.acks.get(&(node, other)).copied().unwrap_or_default();
            self.judge(doubtful, messages, acks, rulings);
        }
    }
}
