//! Tokens are told to the master and to nobody else (section 2.4).

use std::collections::BTreeSet;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::{is_register, message, sides};
use crate::monitor::{Monitor, Rulings, Seen, What};

/// Shorter texts may turn up by chance, and so may words.
const LENGTH: usize = 12;
/// Texts of clients that are remembered.
const REMEMBERED: usize = 4096;

#[derive(Default)]
pub(super) struct Secrets {
    tokens: BTreeSet<String>,
    /// What clients said beside their tokens: it may be told, and with it a token that is part of it.
    told: BTreeSet<String>,
}

/// True for a token that is no word, and that nothing else is likely to hold.
fn may_be_secret(token: &str) -> bool {
    let has = |is: fn(&u8) -> bool| token.as_bytes().iter().any(is);
    token.len() >= LENGTH && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

impl Secrets {
    fn tells(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() >= LENGTH && self.told.len() < REMEMBERED => {
                self.told.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| self.tells(item)),
            Value::Object(members) => {
                members
                    .iter()
                    .filter(|(name, _)| *name != "token")
                    .for_each(|(_, member)| self.tells(member));
            }
            _ => {}
        }
    }

    fn is_secret(&self, token: &str) -> bool {
        self.told.len() < REMEMBERED && !self.told.iter().any(|told| told.contains(token))
    }
}

impl Monitor for Secrets {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, from_master)) = sides(seen) else { return };
        if let What::Text { json: Ok(whole), .. } = &seen.what
            && !from_master
        {
            self.tells(whole);
        }
        if !from_master {
            if let Some(message) = message(&seen.what)
                && is_register(message.kind)
                && let Some(token) = message.data.get("token").and_then(Value::as_str)
                && may_be_secret(token)
            {
                self.tokens.insert(token.to_owned());
            }
            return;
        }
        let What::Text { text, .. } = &seen.what else { return };
        if self.tokens.iter().any(|token| text.contains(token.as_str()) && self.is_secret(token)) {
            let said = "the master tells a token that a client registered with";
            // The message itself stays out of the report.
            rulings.broken("CLUSTERIO-ROB-7", seen.from, seen.at, said, "no token", Value::Null);
        } else if !self.tokens.is_empty() {
            rulings.kept("CLUSTERIO-ROB-7", seen.from, seen.at);
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
