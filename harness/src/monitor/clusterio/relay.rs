//! What passes the master from one link to another: commands and their answers, output, broadcasts (sections 4.3 to
//! 4.8). Only what went through conversations that we saw is judged; the master may serve others beside them.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::machine::{LinkId, Time};
use serde_json::{Map, Value};

use super::{Message, integer, message, results, sides};
use crate::monitor::{Monitor, Rulings, Seen, What};
use crate::pattern::json;

/// Commands that the master passes on as they are.
const FORWARDED: &[&str] =
    &["start_instance", "create_save", "stop_instance", "delete_instance", "send_rcon"];
/// Events that go to all other slaves.
const BROADCAST: &[&str] = &["global_chat:chat_event", "research_sync:finished_event"];

/// A command of a control.
struct Command {
    link: LinkId,
    seq: i64,
    stem: String,
    data: Map<String, Value>,
    /// The link and number under which it was passed on.
    passed: Option<(LinkId, i64)>,
    /// What the slave answered.
    answer: Option<Map<String, Value>>,
    done: bool,
}

#[derive(Default)]
struct Subscriptions {
    now: BTreeSet<i64>,
    /// Asked for and not yet confirmed.
    asked: Vec<(i64, BTreeSet<i64>)>,
    ever: BTreeSet<i64>,
}

#[derive(Default)]
pub(super) struct Relay {
    commands: Vec<Command>,
    /// Links of slaves that are over, or on which a slave said what the master may leave over.
    lost: BTreeSet<LinkId>,
    subscriptions: BTreeMap<LinkId, Subscriptions>,
    /// Output that slaves told of.
    outputs: Vec<Map<String, Value>>,
    /// Broadcasts, with the links they came from.
    broadcasts: Vec<(String, Map<String, Value>, BTreeSet<LinkId>)>,
    /// Requests that assign an instance, by link and number: the instance, and whether they were answered.
    assignments: BTreeMap<(LinkId, i64), (i64, bool)>,
}

/// The same data: the order of members and the way in which a number is written do not count.
fn alike(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, value)| other.get(name).is_some_and(|found| json::same(value, found)))
}

/// The data of an answer to a forwarded request as the catalogue has them.
fn is_answer(stem: &str, data: &Map<String, Value>) -> bool {
    let result = if stem == "send_rcon" { "result" } else { "seq" };
    let holds = |name: &str| data.get(name).is_some_and(Value::is_string);
    match data.len() {
        1 => result == "seq",
        2 => holds("error") || (result == "result" && holds("result")),
        _ => false,
    }
}

fn instance(data: &Map<String, Value>) -> Option<i64> {
    data.get("instance_id").and_then(integer)
}

impl Relay {
    fn control_says(&mut self, seen: &Seen<'_>, message: Message<'_>) {
        let Some(seq) = message.seq else { return };
        let Some(stem) = message.kind.strip_suffix("_request") else { return };
        if stem == "set_instance_output_subscriptions" {
            let ids = message.data.get("instance_ids").and_then(Value::as_array);
            let ids: BTreeSet<i64> = ids.into_iter().flatten().filter_map(integer).collect();
            let known = self.subscriptions.entry(seen.link).or_default();
            known.ever.extend(ids.iter().copied());
            known.asked.push((seq, ids));
        }
        if FORWARDED.contains(&stem) || stem == "assign_instance_command" {
            self.commands.push(Command {
                link: seen.link,
                seq,
                stem: stem.to_owned(),
                data: message.data.clone(),
                passed: None,
                answer: None,
                done: false,
            });
        }
    }

    fn control_hears(&mut self, seen: &Seen<'_>, message: Message<'_>, rulings: &mut Rulings) {
        let (master, at) = (seen.from, seen.at);
        if message.kind == "instance_output_event" {
            self.output(seen, message, rulings);
        } else if BROADCAST.contains(&message.kind) {
            let text = format!("a control is told `{}`", message.kind);
            rulings.broken(
                "CLUSTERIO-EVT-7",
                master,
                at,
                text,
                "that slaves are told only",
                message.whole.clone(),
            );
        }
        let Some(stem) = message.kind.strip_suffix("_response") else { return };
        let to = message.data.get("seq").and_then(integer);
        if stem == "set_instance_output_subscriptions" {
            let known = self.subscriptions.entry(seen.link).or_default();
            if let Some(place) = known.asked.iter().position(|(seq, _)| Some(*seq) == to) {
                let (_, ids) = known.asked.remove(place);
                if !message.data.contains_key("error") {
                    known.now = ids;
                }
            }
            return;
        }
        let mut found = self.commands.iter_mut().filter(|command| {
            !command.done && command.link == seen.link && Some(command.seq) == to && command.stem == stem
        });
        let Some(command) = found.next() else { return };
        command.done = true;
        // Two that wait under one number cannot be told apart.
        let mut others = found.peekable();
        if others.peek().is_some() {
            others.for_each(|other| other.done = true);
            return;
        }
        let failed = message.data.contains_key("error");
        match (&command.answer, command.passed) {
            (Some(answer), Some(_)) if FORWARDED.contains(&stem) => {
                let told = results(message.data);
                if failed && command.passed.is_some_and(|(link, _)| self.lost.contains(&link)) {
                    // What the slave said may not have been taken any more.
                } else if alike(&told, answer) {
                    rulings.kept("CLUSTERIO-REQ-16", master, at);
                } else {
                    let text = "the asker is told something else than the slave said";
                    let expected = Value::Object(answer.clone()).to_string();
                    rulings.broken("CLUSTERIO-REQ-16", master, at, text, expected, message.whole.clone());
                }
            }
            (None, Some(_)) if !failed && FORWARDED.contains(&stem) => {
                let text = "the asker is answered before the slave has answered";
                let expected = "what the slave says";
                rulings.broken("CLUSTERIO-REQ-16", master, at, text, expected, message.whole.clone());
            }
            _ if stem == "assign_instance_command" && !failed => {
                let id = instance(&command.data);
                let mut assignments = self.assignments.values().filter(|(instance, _)| Some(*instance) == id);
                if assignments.clone().next().is_some() && !assignments.any(|(_, answered)| *answered) {
                    let text = "the control is answered before the slave has answered";
                    let expected = "the answer after the slave's";
                    rulings.broken("CLUSTERIO-CAT-6", master, at, text, expected, message.whole.clone());
                } else {
                    rulings.kept("CLUSTERIO-CAT-6", master, at);
                }
            }
            _ => {}
        }
    }

    fn output(&mut self, seen: &Seen<'_>, message: Message<'_>, rulings: &mut Rulings) {
        let (master, at) = (seen.from, seen.at);
        let Some(id) = instance(message.data) else { return };
        let known = self.subscriptions.entry(seen.link).or_default();
        let subscribed = known.now.contains(&id) || known.asked.iter().any(|(_, ids)| ids.contains(&id));
        let actual = || message.whole.clone();
        if !subscribed && known.ever.contains(&id) {
            let text = format!("output of {id}, to which this connection has subscribed no longer");
            rulings.broken("CLUSTERIO-CAT-8", master, at, text, "output of the latest list only", actual());
        } else if !subscribed {
            let text = format!("output of {id}, to which this connection has not subscribed");
            rulings.broken("CLUSTERIO-EVT-6", master, at, text, "no output of it", actual());
        }
        let of_it = || self.outputs.iter().filter(|output| instance(output) == Some(id));
        if of_it().any(|output| alike(output, message.data)) {
            rulings.kept("CLUSTERIO-EVT-5", master, at);
        } else if of_it().next().is_some() {
            let text = format!("output of {id} that its slave did not tell so");
            rulings.broken("CLUSTERIO-EVT-5", master, at, text, "the output as the slave told it", actual());
        }
    }

    fn slave_says(&mut self, seen: &Seen<'_>, message: Message<'_>) {
        if message.kind == "instance_output_event" {
            self.outputs.push(message.data.clone());
        }
        if BROADCAST.contains(&message.kind) {
            let same = |(kind, data, _): &&mut (String, Map<String, Value>, _)| {
                kind == message.kind && alike(data, message.data)
            };
            match self.broadcasts.iter_mut().find(same) {
                Some((.., links)) => {
                    links.insert(seen.link);
                }
                None => {
                    let links = BTreeSet::from([seen.link]);
                    self.broadcasts.push((message.kind.to_owned(), message.data.clone(), links));
                }
            }
        }
        let Some(to) = message.data.get("seq").and_then(integer) else {
            if message.kind.ends_with("_response") {
                self.lost.insert(seen.link);
            }
            return;
        };
        if message.kind == "assign_instance_response"
            && let Some((_, answered)) = self.assignments.get_mut(&(seen.link, to))
        {
            *answered = true;
        }
        for command in self.commands.iter_mut().filter(|command| command.passed == Some((seen.link, to))) {
            if message.kind == format!("{}_response", command.stem) {
                command.answer = Some(results(message.data));
                // What has not the form of an answer is an invalid message, and need not be passed on.
                command.done |=
                    FORWARDED.contains(&command.stem.as_str()) && !is_answer(&command.stem, message.data);
            }
        }
    }

    fn slave_hears(&mut self, seen: &Seen<'_>, message: Message<'_>, rulings: &mut Rulings) {
        let (master, at) = (seen.from, seen.at);
        if BROADCAST.contains(&message.kind) {
            let back = self
                .broadcasts
                .iter()
                .find(|(kind, data, _)| kind == message.kind && alike(data, message.data))
                .is_some_and(|(.., links)| links.len() == 1 && links.contains(&seen.link));
            if back {
                let text = format!("a slave is told its own `{}`", message.kind);
                rulings.broken(
                    "CLUSTERIO-EVT-7",
                    master,
                    at,
                    text,
                    "that the others are told",
                    message.whole.clone(),
                );
            }
        }
        let (Some(stem), Some(seq)) = (message.kind.strip_suffix("_request"), message.seq) else { return };
        if stem == "assign_instance"
            && let Some(id) = instance(message.data)
        {
            self.assignments.insert((seen.link, seq), (id, false));
        }
        if !FORWARDED.contains(&stem) {
            return;
        }
        let waiting =
            |command: &&mut Command| command.stem == stem && command.passed.is_none() && !command.done;
        if let Some(command) =
            self.commands.iter_mut().filter(waiting).find(|command| alike(&command.data, message.data))
        {
            command.passed = Some((seen.link, seq));
            rulings.kept("CLUSTERIO-REQ-15", master, at);
        } else if let Some(command) = self.commands.iter_mut().filter(waiting).find(|command| {
            instance(message.data).is_none() || instance(&command.data) == instance(message.data)
        }) {
            command.passed = Some((seen.link, seq));
            let text = "the slave is asked something else than the control asked";
            let expected = Value::Object(command.data.clone()).to_string();
            rulings.broken("CLUSTERIO-REQ-15", master, at, text, expected, message.whole.clone());
        }
    }
}

impl Monitor for Relay {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((client, from_master)) = sides(seen) else { return };
        let Some(message) = message(&seen.what) else {
            let calm = matches!(
                seen.what,
                What::Requested { .. } | What::Opened { .. } | What::Ping(_) | What::Pong(_)
            );
            if client.role == "slave" && !calm {
                self.lost.insert(seen.link);
            }
            return;
        };
        if client.role == "slave" && message.kind == "close" {
            self.lost.insert(seen.link);
        }
        match (client.role.as_str(), from_master) {
            ("control", true) => self.control_hears(seen, message, rulings),
            ("control", false) => self.control_says(seen, message),
            (_, true) => self.slave_hears(seen, message, rulings),
            (_, false) => self.slave_says(seen, message),
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
