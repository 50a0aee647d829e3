//! Over TCP: what a node makes itself has the hops, and goes to as many, as its verb says (section 8.3).

use std::collections::BTreeMap;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{message, same_id};
use crate::monitor::{Monitor, Rulings, Seen};

#[derive(Default)]
pub(super) struct Hops {
    /// Who each watched node said it is, by connection.
    ids: BTreeMap<LinkId, String>,
}

/// `ttl` and, where it is the same for all messages of the verb, `flood`.
fn wanted(verb: &str) -> Option<(i64, Option<bool>)> {
    Some(match verb {
        "HELLO" | "ACK" | "ROUTING" => (1, Some(false)),
        "JOIN" | "LEAVE" => (32, Some(true)),
        // Public ones are floods, private ones are not.
        "CHANNEL" => (32, None),
        "NACK" | "GETCERTIFICATE" | "CERTIFICATE" | "GETKEY" | "KEY" | "MESSAGE" | "CONNECT" => {
            (32, Some(false))
        }
        _ => return None,
    })
}

/// A node's id may have a name before it.
fn guid(id: &str) -> &str {
    id.rsplit_once('@').map_or(id, |(_, guid)| guid)
}

impl Monitor for Hops {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(said) = message(&seen.what).filter(|_| seen.from.under_test) else { return };
        let Some(sender) = said.whole.get("sender_id").and_then(Value::as_str) else { return };
        if said.verb == "HELLO" {
            self.ids.entry(seen.link).or_insert_with(|| guid(sender).to_owned());
        }
        // What others made has come some way already.
        if self.ids.get(&seen.link).is_none_or(|own| !same_id(own, guid(sender))) {
            return;
        }
        let Some((ttl, flood)) = wanted(said.verb) else { return };
        let has_ttl = said.whole.get("ttl").and_then(Value::as_i64);
        let has_flood = said.whole.get("flood").and_then(Value::as_bool);
        let (Some(has_ttl), Some(has_flood)) = (has_ttl, has_flood) else { return };
        if has_ttl == ttl && flood.is_none_or(|flood| flood == has_flood) {
            rulings.kept("PTPCHAT-TCP-5", seen.from, seen.at);
        } else {
            let message = format!("{} has `ttl` {has_ttl} and `flood` {has_flood}", said.verb);
            let flood = flood.map_or(String::new(), |flood| format!(" and `flood` {flood}"));
            let expected = format!("`ttl` {ttl}{flood}");
            rulings.broken("PTPCHAT-TCP-5", seen.from, seen.at, message, expected, said.whole.clone());
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        let _ = (now, rulings);
    }
}
