//! Who acknowledges what to whom. Whether an ACK comes at all is for the flows to say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use flowproof_reference::machine::Time;

use super::{Message, ends, message, same_id};
use crate::monitor::{Monitor, Rulings, Seen};

/// The verbs that are acknowledged.
const ACKNOWLEDGED: [&str; 5] = ["MESSAGE", "GETCERTIFICATE", "CERTIFICATE", "GETKEY", "KEY"];
/// Messages that are remembered; more are sent only by what floods.
const REMEMBERED: usize = 4096;

/// A message to a watched node that is to be acknowledged.
struct Sent {
    id: Option<String>,
    from: SocketAddr,
    to: SocketAddr,
}

#[derive(Default)]
pub(super) struct Acks {
    sent: Vec<Sent>,
    /// What each socket has sent to watched nodes: the verbs.
    verbs: BTreeMap<SocketAddr, BTreeSet<String>>,
}

impl Acks {
    fn acknowledged(&self, seen: &Seen<'_>, ack: &Message<'_>, rulings: &mut Rulings) {
        let Some((from, to)) = ends(seen) else { return };
        let by = seen.from;
        let actual = || ack.whole.clone();
        let id = ack.text("msg_id");
        let same = |sent: &&Sent| match (id, &sent.id) {
            (Some(id), Some(known)) => same_id(id, known),
            (None, None) => sent.from == to,
            _ => false,
        };
        if let Some(sent) = self.sent.iter().find(same) {
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
            let message = match id {
                Some(id) => format!("the ACK is for {id}, and nothing of that id was sent"),
                None => "the ACK does not say what it is for, and every message had an id".to_owned(),
            };
            rulings.broken("PTPCHAT-ACK-8", by, seen.at, message, "the id of the message", actual());
        } else if verbs.is_some_and(|verbs| verbs.iter().all(|verb| verb == "HELLO")) {
            let message = "an ACK came to somebody who had sent nothing but HELLO";
            rulings.broken("PTPCHAT-HELLO-5", by, seen.at, message, "no ACK for HELLO", actual());
        }
    }
}

impl Monitor for Acks {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(said) = message(&seen.what) else { return };
        if seen.from.under_test {
            if said.verb == "ACK" {
                self.acknowledged(seen, &said, rulings);
            }
            return;
        }
        let Some((from, to)) = ends(seen).filter(|_| seen.to.under_test) else { return };
        self.verbs.entry(from).or_default().insert(said.verb.to_owned());
        if ACKNOWLEDGED.contains(&said.verb) && self.sent.len() < REMEMBERED {
            self.sent.push(Sent { id: said.text("msg_id").map(str::to_owned), from, to });
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        let _ = (now, rulings);
    }
}
