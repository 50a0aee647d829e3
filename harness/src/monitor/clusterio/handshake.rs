//! What comes before `ready`, and in which order (sections 3.1 to 3.3).

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{ANSWER, IN_FLIGHT, is_beyond, is_register, message, sides};
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

struct Progress {
    master: Party,
    client: Party,
    opened_at: Time,
    /// When the client was greeted, if plainly so.
    greeted_at: Option<Time>,
    /// When the slave was told `ready`, if plainly so.
    ready_at: Option<Time>,
    /// Who ended the link.
    ended_by: Option<String>,
    /// The client has said `close`, or something was sent that can be taken in many ways.
    excused: bool,
    /// Something was sent that readers read differently: what stands in it may be anything.
    beyond: bool,
    /// Messages of the master so far.
    from_master: u32,
    /// Messages of the client so far.
    from_client: u32,
    greeted: bool,
    /// The client's first message was a register message; none as long as it has said nothing.
    began_well: Option<bool>,
    registered: u32,
    ready: u32,
    /// The master has said `close`.
    told_to_close: bool,
    /// When it said so, right behind its greeting: what answers the greeting may cross it.
    crossed_at: Option<Time>,
    /// Events with all instances since `ready`, as long as the master has said nothing more.
    reports: u32,
    asked_since_ready: bool,
    /// The client has said `close`.
    gone: bool,
}

pub(super) struct Handshakes {
    alpha: bool,
    slack: Duration,
    links: BTreeMap<LinkId, Progress>,
}

impl Handshakes {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Handshakes { alpha: config.edition != "seed", slack: config.slack, links: BTreeMap::new() }
    }

    /// What should have come and did not, in a conversation that waited for it or was broken off.
    fn judge_absent(&self, now: Time, rulings: &mut Rulings) {
        for progress in self.links.values() {
            let late = |since: Time| now.since(since) >= ANSWER;
            let left = |party: &Party| progress.ended_by.as_ref() == Some(&party.name);
            let (master, client) = (&progress.master, &progress.client);
            if progress.from_master == 0
                && (late(progress.opened_at) || left(master))
                && progress.ended_by_nobody_else(master)
            {
                let text = "the master has not greeted";
                rulings.broken("CLUSTERIO-HS-1", master, now, text, "`hello` unasked", Value::Null);
            }
            if progress.excused {
                continue;
            }
            if let Some(at) = progress.greeted_at
                && progress.from_client == 0
                && (late(at) || left(client))
                && progress.ended_by_nobody_else(client)
            {
                let (requirement, wanted) = register_of(client);
                let text = format!("{} has not registered", client.name);
                rulings.broken(requirement, client, now, text, format!("`{wanted}`"), Value::Null);
            }
            if let Some(at) = progress.ready_at
                && client.role == "slave"
                && self.alpha
                && progress.reports == 0
                && progress.registered > 0
                && progress.greeted_at.is_some()
                && progress.ended_by.is_none()
                && late(at)
            {
                let text = format!("{} has not reported its instances", client.name);
                rulings.broken(
                    "CLUSTERIO-EVT-4",
                    client,
                    now,
                    text,
                    "one `update_instances_event`",
                    Value::Null,
                );
            }
        }
    }

    fn master_says(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let (master, at) = (seen.from, seen.at);
        let grace = IN_FLIGHT + self.slack;
        let Some(progress) = self.links.get_mut(&seen.link) else { return };
        let first = progress.from_master == 0;
        progress.from_master += 1;
        progress.beyond |= is_binary_of_ours(seen);
        let Some(message) = message(&seen.what) else {
            progress.excused = true;
            progress.beyond |= is_beyond(&seen.what);
            if first && !progress.beyond {
                let text = "the first message of the master cannot be read";
                rulings.broken("CLUSTERIO-HS-1", master, at, text, "`hello`", Value::Null);
            }
            return;
        };
        let actual = || message.whole.clone();
        if first && message.kind != "hello" {
            let text = format!("the first message of the master is `{}`", message.kind);
            rulings.broken("CLUSTERIO-HS-1", master, at, text, "`hello`", actual());
        } else if first {
            rulings.kept("CLUSTERIO-HS-1", master, at);
        } else if message.kind == "hello" {
            let text = "the master greets a second time";
            rulings.broken("CLUSTERIO-HS-1", master, at, text, "one `hello`, at the beginning", actual());
        }
        match message.kind {
            "close" => {
                progress.told_to_close = true;
                progress.excused = true;
                let behind = progress.greeted_at.is_some_and(|greeted| at.since(greeted) <= grace);
                progress.crossed_at = behind.then_some(at);
            }
            kind if kind != "ready" && progress.ready > 0 => progress.asked_since_ready = true,
            "hello" => {
                progress.greeted = true;
                let plain =
                    message.data.len() == 1 && message.data.get("version").is_some_and(Value::is_string);
                progress.greeted_at = plain.then_some(at);
            }
            "ready" => {
                progress.ready += 1;
                progress.ready_at = message.data.is_empty().then_some(at);
                if progress.ready > 1 {
                    let text = format!("`ready` number {} on this connection", progress.ready);
                    rulings.broken("CLUSTERIO-HS-10", master, at, text, "one `ready`", actual());
                } else if progress.beyond {
                    // The client may have registered, or may not.
                } else if progress.began_well != Some(true) && progress.registered == 0 {
                    let text = "`ready` came although the client has not registered";
                    let expected = "`ready` after a register message only";
                    rulings.broken("CLUSTERIO-HS-10", master, at, text, expected, actual());
                    if progress.began_well == Some(false) {
                        let text = "somebody who began with another message is told `ready`";
                        rulings.broken("CLUSTERIO-HS-13", master, at, text, "no service", actual());
                    }
                } else {
                    rulings.kept("CLUSTERIO-HS-10", master, at);
                }
            }
            kind if progress.ready == 0
                && progress.began_well == Some(false)
                && !progress.told_to_close
                && !progress.beyond =>
            {
                // An error response is no service (A15).
                let served = !message.data.contains_key("error");
                if served {
                    let text = format!("somebody who began with another message is served: `{kind}`");
                    rulings.broken("CLUSTERIO-HS-13", master, at, text, "no service", actual());
                }
            }
            _ => {}
        }
    }

    fn client_says(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let (client, at) = (seen.from, seen.at);
        let grace = IN_FLIGHT + self.slack;
        let Some(progress) = self.links.get_mut(&seen.link) else { return };
        let first = progress.from_client == 0;
        progress.from_client += 1;
        if progress.gone {
            // What it says after `close` is judged elsewhere.
            return;
        }
        let read = message(&seen.what);
        let (kind, actual) = match &read {
            Some(message) => (message.kind, message.whole.clone()),
            None => ("", Value::Null),
        };
        progress.excused |= read.is_none();
        progress.beyond |= is_beyond(&seen.what) || is_binary_of_ours(seen);
        // Whoever gives up may say so.
        if progress.beyond {
            // It may have been greeted, or may not.
        } else if !progress.greeted && kind != "close" {
            let text = "a message was sent before `hello` had come";
            rulings.broken("CLUSTERIO-HS-5", client, at, text, "silence", actual.clone());
        } else if first {
            rulings.kept("CLUSTERIO-HS-5", client, at);
        }
        progress.gone |= kind == "close";
        if first {
            progress.began_well = Some(is_register(kind));
            if !progress.beyond {
                first_message(client, kind, at, &actual, rulings);
            }
        }
        let crossed = first && progress.crossed_at.is_some_and(|told| at.since(told) <= grace);
        if progress.told_to_close && progress.ready == 0 && !kind.is_empty() && kind != "close" && !crossed {
            let text = format!("`{kind}` was sent although the handshake had been ended with `close`");
            rulings.broken("CLUSTERIO-HS-19", client, at, text, "nothing more", actual.clone());
        }
        if is_register(kind) {
            progress.registered += 1;
            if progress.registered > 1 {
                let text = format!("register message number {} on this connection", progress.registered);
                rulings.broken("CLUSTERIO-HS-12", client, at, text, "one register message", actual);
            } else {
                rulings.kept("CLUSTERIO-HS-12", client, at);
            }
            return;
        }
        let asks_or_tells = kind.ends_with("_request") || kind.ends_with("_event");
        if asks_or_tells && progress.ready == 0 && progress.greeted && !progress.beyond {
            let text = format!("`{kind}` was sent before `ready` had come");
            rulings.broken("CLUSTERIO-HS-11", client, at, text, "no request and no event", actual.clone());
        } else if asks_or_tells {
            rulings.kept("CLUSTERIO-HS-11", client, at);
        }
        // Under a shortened name it is a report as well.
        progress.reports += u32::from(kind == "update_instances" && progress.ready > 0);
        let unasked = progress.ready > 0 && !progress.asked_since_ready;
        if kind == "update_instances_event" && progress.ready > 0 && self.alpha {
            progress.reports += 1;
            if progress.reports > 1 && unasked {
                let text = "the slave reports its instances a second time";
                rulings.broken("CLUSTERIO-EVT-4", client, at, text, "one `update_instances_event`", actual);
            }
        }
    }
}

/// A binary message that we send may be read as a text, or not.
fn is_binary_of_ours(seen: &Seen<'_>) -> bool {
    matches!(seen.what, What::Binary(_)) && !seen.from.under_test
}

fn register_of(client: &Party) -> (&'static str, &'static str) {
    match client.role.as_str() {
        "slave" => ("CLUSTERIO-HS-3", "register_slave"),
        _ => ("CLUSTERIO-HS-4", "register_control"),
    }
}

impl Progress {
    fn ended_by_nobody_else(&self, party: &Party) -> bool {
        self.ended_by.as_ref().is_none_or(|by| *by == party.name)
    }
}

fn first_message(client: &Party, kind: &str, at: Time, actual: &Value, rulings: &mut Rulings) {
    let (requirement, wanted) = register_of(client);
    if kind == wanted {
        rulings.kept(requirement, client, at);
    } else if kind != "close" {
        let text = format!("the first message of {} is `{kind}`", client.name);
        rulings.broken(requirement, client, at, text, format!("`{wanted}`"), actual.clone());
    }
}

impl Monitor for Handshakes {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, from_master)) = sides(seen) else { return };
        // On live traffic only its first message tells what a client is.
        let client = if from_master { seen.to } else { seen.from };
        if let Some(progress) =
            self.links.get_mut(&seen.link).filter(|known| known.client.name != client.name)
        {
            progress.client = client.clone();
        }
        match &seen.what {
            What::Opened { .. } => {
                let progress = Progress {
                    master: seen.to.clone(),
                    client: seen.from.clone(),
                    opened_at: seen.at,
                    greeted_at: None,
                    ready_at: None,
                    ended_by: None,
                    excused: false,
                    beyond: false,
                    from_master: 0,
                    from_client: 0,
                    greeted: false,
                    began_well: None,
                    registered: 0,
                    ready: 0,
                    told_to_close: false,
                    crossed_at: None,
                    reports: 0,
                    asked_since_ready: false,
                    gone: false,
                };
                self.links.insert(seen.link, progress);
            }
            What::Closing { .. } | What::Closed => {
                if let Some(progress) = self.links.get_mut(&seen.link) {
                    progress.ended_by.get_or_insert_with(|| seen.from.name.clone());
                }
            }
            What::Raw(_) | What::Stalled => {
                if let Some(progress) = self.links.get_mut(&seen.link) {
                    progress.excused = true;
                }
            }
            What::Text { .. } | What::Binary(_) if from_master => self.master_says(seen, rulings),
            What::Text { .. } | What::Binary(_) => self.client_says(seen, rulings),
            _ => {}
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.judge_absent(now, rulings);
    }
}
