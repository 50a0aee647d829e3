//! What a client may say: its refs, its way of connecting, and its requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Request, Time};
use serde_json::Value;

use super::{Reference, content, envelope, sides};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// CONN-7: so many attempts are too many in so short a time.
const ATTEMPTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(5);

pub(super) struct ClientRules {
    path: String,
    /// Refs used, by connection.
    used: BTreeMap<LinkId, BTreeSet<String>>,
    /// When each client asked for connections since its last session.
    attempts: BTreeMap<Party, VecDeque<Time>>,
}

impl ClientRules {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        let path = config.settings.get("api-path").cloned().unwrap_or_else(|| "/api".to_owned());
        ClientRules { path, used: BTreeMap::new(), attempts: BTreeMap::new() }
    }

    fn said(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let Some(said) = envelope(whole) else { return };
        if matches!(said.kind, "SetUserPermissions" | "GetUserPermissions") {
            let message = format!("`{}` is the name of other editions", said.kind);
            let expected = "`SetMemberPermissions` or `GetMemberPermissions`";
            rulings.noted("POLFAN-CLI-1", seen.from, seen.at, message, expected, actual(whole));
        }
        let Reference::Text(own) = said.reference else { return };
        if self.used.entry(seen.link).or_default().insert(own.to_owned()) {
            rulings.kept("POLFAN-REF-13", seen.from, seen.at);
        } else {
            let message = format!("the ref {own:?} was used on this connection before");
            rulings.broken("POLFAN-REF-13", seen.from, seen.at, message, "a fresh ref", actual(whole));
        }
    }

    fn request(&self, seen: &Seen<'_>, request: &Request, rulings: &mut Rulings) {
        if request.path != self.path {
            return;
        }
        let mut broken = |id, message: String, expected: &str| {
            let shown = Value::from(String::from_utf8_lossy(&request.body).into_owned());
            rulings.broken(id, seen.from, seen.at, message, expected, actual(&shown));
        };
        let token = request.header("authorization").and_then(|header| header.split_once(' '));
        let bearer =
            token.is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty());
        let object = content(&seen.what).is_some_and(|body| body.is_object());
        if request.method != "POST" {
            broken("POLFAN-API-5", format!("the method is {}", request.method), "POST");
        } else if !bearer {
            broken("POLFAN-API-5", "there is no Bearer token".to_owned(), "`Authorization: Bearer TOKEN`");
        } else if !object {
            broken("POLFAN-API-5", "the body is no JSON object".to_owned(), "the envelope as a JSON object");
        } else {
            rulings.kept("POLFAN-API-5", seen.from, seen.at);
        }
        let label = request.header("content-type").unwrap_or_default();
        if label.split(';').next().is_some_and(|label| label.trim().eq_ignore_ascii_case("application/json"))
        {
            rulings.kept("POLFAN-API-6", seen.from, seen.at);
        } else {
            let message = format!("the body is labelled {label:?}");
            let shown = Value::from(label);
            rulings.broken("POLFAN-API-6", seen.from, seen.at, message, "`application/json`", shown);
        }
    }

    fn attempt(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let attempts = self.attempts.entry(seen.from.clone()).or_default();
        attempts.push_back(seen.at);
        attempts.retain(|at| seen.at.since(*at) < WINDOW);
        if attempts.len() > ATTEMPTS {
            let message = format!("{} attempts to connect in {WINDOW:?}", attempts.len());
            let expected = "a pause before the next attempt";
            rulings.broken("POLFAN-CONN-7", seen.from, seen.at, message, expected, Value::Null);
        }
    }
}

impl Monitor for ClientRules {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((client, _, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Requested { .. } => self.attempt(seen, rulings),
            What::Opened { target } if !from_server => {
                let query = target.split_once('?').map_or("", |(_, query)| query);
                if query.split('&').any(|pair| pair.starts_with("token=") && pair.len() > "token=".len()) {
                    rulings.kept("POLFAN-CONN-5", seen.from, seen.at);
                } else {
                    let message = "the connection was asked for without a token";
                    let shown = Value::from(*target);
                    rulings.broken(
                        "POLFAN-CONN-5",
                        seen.from,
                        seen.at,
                        message,
                        "the parameter `token`",
                        shown,
                    );
                }
            }
            What::Text { json: Ok(whole), .. } if !from_server => self.said(seen, whole, rulings),
            // A session begins: the attempts before it are forgiven.
            What::Text { json: Ok(whole), .. } if super::text(whole, "/meta/type") == Some("Session") => {
                self.attempts.remove(client);
            }
            What::Asked(request) if !from_server => self.request(seen, request, rulings),
            _ => {}
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        for (client, attempts) in &self.attempts {
            // Somebody who was turned away and had the time to come back.
            if attempts.back().is_some_and(|last| now.since(*last) >= Duration::from_secs(1)) {
                rulings.kept("POLFAN-CONN-7", client, now);
            }
        }
    }
}
