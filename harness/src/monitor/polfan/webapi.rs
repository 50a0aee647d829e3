//! Commands by HTTP: the answer is the event, under the ref of the command, and the status tells how it went.

use std::collections::BTreeMap;

use flowproof_reference::machine::{LinkId, Response};
use serde_json::Value;

use super::answers::{DEPTH, is_deep};
use super::{COMMANDS, Reference, content, envelope, sides};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, Rulings, Seen, What};
use flowproof_reference::machine::Time;

/// Longer bodies are refused, with 413 or 400 (section 5).
const LIMIT: usize = 64 << 10;

/// What was asked on a link.
struct Asked {
    /// A command of the catalogue, with a ref of its own when it has one.
    command: bool,
    reference: Option<String>,
}

pub(super) struct WebApi {
    path: String,
    asked: BTreeMap<LinkId, Asked>,
}

impl WebApi {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        let path = config.settings.get("api-path").cloned().unwrap_or_else(|| "/api".to_owned());
        WebApi { path, asked: BTreeMap::new() }
    }

    fn asked(&mut self, seen: &Seen<'_>) {
        let What::Asked(request) = &seen.what else { return };
        if request.method != "POST" || request.path != self.path {
            return;
        }
        let body = content(&seen.what);
        // What is nested too deeply for a reader is no JSON to it, and what is too long is not read.
        let read = request.body.len() <= LIMIT;
        let said = body.as_deref().and_then(envelope).filter(|said| read && !is_deep(said.whole, DEPTH));
        let command = said.as_ref().is_some_and(|said| COMMANDS.contains(&said.kind));
        let reference = said.and_then(|said| match said.reference {
            Reference::Text(own) if !own.is_empty() && own.chars().count() <= 36 => Some(own.to_owned()),
            _ => None,
        });
        self.asked.insert(seen.link, Asked { command, reference });
    }

    fn answered(&mut self, seen: &Seen<'_>, response: &Response, rulings: &mut Rulings) {
        let Some(asked) = self.asked.remove(&seen.link) else { return };
        let body = content(&seen.what);
        let Some(event) = body.as_deref().and_then(envelope) else { return };
        let shown = actual(event.whole);
        if event.kind == "Error" {
            status(seen, response.status, event.data, &shown, rulings);
        } else if response.status != 200 {
            let message = format!("`{}` came with HTTP {}", event.kind, response.status);
            rulings.broken("POLFAN-API-1", seen.from, seen.at, message, "HTTP 200", shown.clone());
        }
        let found = match event.reference {
            Reference::Text(found) if !found.is_empty() => Some(found),
            _ => None,
        };
        let id = if event.kind == "Error" { "POLFAN-REF-2" } else { "POLFAN-API-1" };
        match (&asked.reference, found) {
            (Some(own), Some(found)) if own == found => rulings.kept(id, seen.from, seen.at),
            // Who was not let in may not have been listened to either.
            (Some(_), _) if response.status >= 500 => {}
            // A body that was not looked into (section 5).
            (Some(_), _) if matches!(response.status, 413 | 415) => {}
            (Some(_), _) if super::text(event.data, "/code") == Some("AuthenticationException") => {}
            (Some(own), _) => {
                let message = format!("the command has the ref {own:?}, its answer by HTTP has another");
                rulings.broken(id, seen.from, seen.at, message, "the same ref", shown);
            }
            (None, None) if asked.command && event.kind != "Error" => {
                let message = "the answer by HTTP to a command without a ref has none either";
                rulings.broken(
                    "POLFAN-API-1",
                    seen.from,
                    seen.at,
                    message,
                    "a ref that the server made",
                    shown,
                );
            }
            (None, _) => {}
        }
    }
}

/// Section 2.7: code and status belong together.
fn status(seen: &Seen<'_>, status: u16, data: &Value, shown: &Value, rulings: &mut Rulings) {
    let Some(code) = super::text(data, "/code") else { return };
    // 413 and 415 tell of bodies that were not looked into (section 5).
    let (id, allowed): (_, &[u16]) = match code {
        "ProtocolException" => ("POLFAN-API-2", &[400, 404, 405, 413, 415]),
        "AuthenticationException" => ("POLFAN-API-2", &[401]),
        "AccessDeniedException" => ("POLFAN-API-2", &[403]),
        "UnexpectedServerException" => ("POLFAN-API-2", &[500]),
        code if code.ends_with("NotFoundException") || code.ends_with("ExistsAlreadyException") => {
            ("POLFAN-API-3", &[422])
        }
        _ => return,
    };
    if allowed.contains(&status) {
        rulings.kept(id, seen.from, seen.at);
    } else {
        let message = format!("`{code}` came with HTTP {status}");
        rulings.broken(id, seen.from, seen.at, message, format!("HTTP {}", allowed[0]), shown.clone());
    }
}

impl Monitor for WebApi {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if sides(seen).is_none() {
            return;
        }
        match &seen.what {
            What::Asked(_) => self.asked(seen),
            What::Answered(response) => self.answered(seen, response, rulings),
            _ => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flowproof_reference::machine::Request;
    use serde_json::json;

    use super::*;
    use crate::judge::finding::Ruling;
    use crate::monitor::Party;

    /// What is said of a server that answers a command with an error under a ref of its own.
    fn accused(padding: &str, status: u16) -> Vec<Option<String>> {
        let config = MonitorConfig {
            slack: Duration::ZERO,
            exclusive: true,
            edition: "polfan-2023-01".to_owned(),
            told: None,
            settings: BTreeMap::new(),
        };
        let party =
            |role: &str| Party { name: role.to_owned(), role: role.to_owned(), under_test: role == "server" };
        let (client, server) = (party("client"), party("server"));
        let command = json!({"meta": {"type": "Ping", "ref": "mine"}, "data": {"padding": padding}});
        let request = Request {
            method: "POST".to_owned(),
            path: "/api".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            upgrade: false,
            body: command.to_string().into_bytes(),
        };
        let error =
            json!({"meta": {"type": "Error", "ref": "its own"}, "data": {"code": "ProtocolException"}});
        let response = Response { status, headers: Vec::new(), body: error.to_string().into_bytes() };
        let mut monitor = WebApi::new(&config);
        let mut rulings = Rulings::default();
        for (from, to, what) in
            [(&client, &server, What::Asked(&request)), (&server, &client, What::Answered(&response))]
        {
            let (from_address, to_address) = (None, None);
            let seen = Seen { at: Time::ZERO, link: LinkId(1), from, to, from_address, to_address, what };
            monitor.observe(&seen, &mut rulings);
        }
        let broken = rulings.findings.into_iter().filter(|one| one.ruling == Ruling::Broken);
        broken.map(|one| one.requirement).collect()
    }

    #[test]
    fn a_body_that_was_not_read_keeps_its_ref() {
        let long = "x".repeat(LIMIT);
        assert_eq!(accused("", 400), [Some("POLFAN-REF-2".to_owned())]);
        assert!(accused(&long, 400).is_empty());
        assert!(accused(&long, 413).is_empty());
        assert!(accused("", 415).is_empty());
    }
}
