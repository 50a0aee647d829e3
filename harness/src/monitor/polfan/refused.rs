//! What must not happen: service without a token, and effects of what is no command.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{COMMANDS, Envelope, Lately, Reference, content, envelope, sides, text};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, Rulings, Seen, What};

/// Texts shorter than this may be in two messages by chance.
const TELLING: usize = 6;

pub(super) struct Refused {
    invalid: Option<String>,
    exclusive: bool,
    /// Connections and requests without a valid token.
    barred: BTreeSet<LinkId>,
    /// Texts of messages that were sent in order.
    lawful: Lately<String, ()>,
    /// Texts that only something unlawful held, and the requirement that keeps them from spreading.
    unlawful: BTreeMap<String, &'static str>,
}

impl Refused {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Refused {
            invalid: config.settings.get("token-invalid").cloned(),
            exclusive: config.exclusive,
            barred: BTreeSet::new(),
            lawful: Lately::new(),
            unlawful: BTreeMap::new(),
        }
    }

    /// True for a token that is known to be no good.
    fn is_bad(&self, token: Option<&str>) -> bool {
        match token {
            None | Some("") => self.exclusive,
            Some(token) => self.invalid.as_deref() == Some(token),
        }
    }

    fn said(&mut self, said: &Envelope<'_>) {
        let texts = [text(said.data, "/content"), text(said.data, "/message/content")];
        let Some(text) = texts.into_iter().flatten().find(|text| text.chars().count() >= TELLING) else {
            return;
        };
        let long = matches!(said.reference, Reference::Text(own) if own.chars().count() > 36);
        if !COMMANDS.contains(&said.kind) {
            self.unlawful.entry(text.to_owned()).or_insert("POLFAN-ERR-2");
        } else if long {
            self.unlawful.entry(text.to_owned()).or_insert("POLFAN-REF-7");
        } else {
            self.lawful.insert(text.to_owned(), ());
        }
    }

    fn told(&self, seen: &Seen<'_>, event: &Envelope<'_>, rulings: &mut Rulings) {
        if event.kind != "NewMessage" {
            return;
        }
        let Some(text) = text(event.data, "/message/content") else { return };
        if let Some(requirement) = self.unlawful.get(text).filter(|_| self.lawful.get(text).is_none()) {
            let message = "a message came of what should have been refused without effect";
            let expected = "an `Error` for the sender, and nothing else";
            rulings.broken(requirement, seen.from, seen.at, message, expected, actual(event.whole));
        }
    }

    fn served(&self, seen: &Seen<'_>, what: String, whole: &Value, rulings: &mut Rulings) {
        let expected = "no session and no service without a valid token";
        rulings.broken("POLFAN-CONN-3", seen.from, seen.at, what, expected, actual(whole));
    }
}

impl Monitor for Refused {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, _, from_server)) = sides(seen) else { return };
        let barred = self.barred.contains(&seen.link);
        match &seen.what {
            What::Opened { target } => {
                let query = target.split_once('?').map_or("", |(_, query)| query);
                let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
                if self.is_bad(token) {
                    self.barred.insert(seen.link);
                }
            }
            What::Asked(request) => {
                let header = request.header("authorization").and_then(|header| header.split_once(' '));
                // A token in the query may be good enough for a server (section 6.25).
                if self.is_bad(header.map(|(_, token)| token)) && !request.query.contains("token") {
                    self.barred.insert(seen.link);
                }
            }
            What::Answered(response) if barred => {
                let body = content(&seen.what);
                let event = body.as_deref().and_then(envelope);
                if let Some(event) = event.filter(|event| event.kind != "Error" && response.status < 300) {
                    let message =
                        format!("a request without a valid token was answered with `{}`", event.kind);
                    self.served(seen, message, event.whole, rulings);
                } else {
                    rulings.kept("POLFAN-CONN-3", seen.from, seen.at);
                }
                return;
            }
            What::Text { json: Ok(whole), .. } if barred && from_server => {
                match envelope(whole) {
                    Some(event) if !matches!(event.kind, "Error" | "Bye") => {
                        let message = format!("a connection without a valid token was told `{}`", event.kind);
                        self.served(seen, message, whole, rulings);
                    }
                    _ => rulings.kept("POLFAN-CONN-3", seen.from, seen.at),
                }
                return;
            }
            What::Closing { .. } | What::Closed if barred && from_server => {
                rulings.kept("POLFAN-CONN-3", seen.from, seen.at);
            }
            _ => {}
        }
        let Some(whole) = content(&seen.what) else { return };
        match envelope(&whole) {
            Some(event) if from_server => self.told(seen, &event, rulings),
            Some(said) if !barred => self.said(&said),
            _ => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
