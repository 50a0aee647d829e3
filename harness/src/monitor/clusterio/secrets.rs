//! Tokens are told to the master and to nobody else (section 2.4).

use std::collections::BTreeSet;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::{is_register, message, sides};
use crate::monitor::{Monitor, Rulings, Seen, What};

/// Shorter texts may turn up by chance.
const LENGTH: usize = 8;

#[derive(Default)]
pub(super) struct Secrets {
    tokens: BTreeSet<String>,
}

impl Monitor for Secrets {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, from_master)) = sides(seen) else { return };
        if !from_master {
            if let Some(message) = message(&seen.what)
                && is_register(message.kind)
                && let Some(token) = message.data.get("token").and_then(Value::as_str)
                && token.len() >= LENGTH
            {
                self.tokens.insert(token.to_owned());
            }
            return;
        }
        let What::Text { text, .. } = &seen.what else { return };
        if self.tokens.iter().any(|token| text.contains(token.as_str())) {
            let said = "the master tells a token that a client registered with";
            // The message itself stays out of the report.
            rulings.broken("CLUSTERIO-ROB-7", seen.from, seen.at, said, "no token", Value::Null);
        } else if !self.tokens.is_empty() {
            rulings.kept("CLUSTERIO-ROB-7", seen.from, seen.at);
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
