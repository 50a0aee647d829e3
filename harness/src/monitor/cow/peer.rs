//! A peer: who it says it is, what it may say, and what its lists must name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::answers::Answers;
use super::records::Given;
use super::{Store, is_deleted, peer_id, record_id, sides, store, store_name, timestamp};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What};
use crate::pattern::json;

/// `updatedRecord` follows a `wantedList` within this time (section 3.5).
const GIVEN: Duration = Duration::from_secs(3);
/// The first list follows `connected` within this time (section 3.5).
const LISTED: Duration = Duration::from_secs(3);
/// The actions of a peer in each edition (sections 2.3 and 8).
const SEED: [&str; 6] = ["command", "newList", "syncinfo", "wantedList", "missingItems", "updatedRecord"];
const COW2: [&str; 7] =
    ["command", "newList", "syncinfo", "wantedList", "missingRecords", "updatedRecord", "requestedRecords"];
/// What the programs of 2015 and later say instead (section 8).
const COW2_1: [&str; 2] = ["missingRecord", "requestedRecord"];

struct Line {
    peer: Party,
    opened_at: Time,
    /// When it was given its id.
    greeted_at: Option<Time>,
    /// The relay has announced a key that is not the herd's.
    strangers: bool,
    /// It was greeted in a way that may be read differently: what it makes of it is its own business.
    misled: bool,
    /// It has said anything on this connection.
    spoke: bool,
    /// That it sent no list was told.
    reported: bool,
    open: bool,
    id: Option<String>,
    /// It has announced its own record here.
    announced: bool,
    listed: bool,
    answers: Answers,
    /// Records that it was asked for: which, of which store, when.
    wanted: Vec<(Time, Store, BTreeSet<String>)>,
    /// Bytes came to it that may have broken the framing: who knows what it heard after them.
    garbled: bool,
    /// Messages that reached it.
    heard: u64,
    /// Whom it was told of, when they were made, and where among what it heard; without those who are gone.
    family: BTreeMap<String, (f64, u64)>,
    /// Those of whom it was told something else before, or who were gone: what it kept of them is its own business.
    doubted: BTreeSet<String>,
    /// Its own record as it announced it: of the family, and made when.
    own: Option<(bool, f64)>,
}

/// What is known of a peer over all its connections.
#[derive(Default)]
struct Known {
    ids: BTreeSet<String>,
    given: Given,
    last_end: Option<Time>,
}

pub(super) struct Peers {
    config: MonitorConfig,
    cow2: bool,
    lines: BTreeMap<LinkId, Line>,
    known: BTreeMap<String, Known>,
}

impl Peers {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        let cow2 = config.edition == "cow2";
        Peers { config: config.clone(), cow2, lines: BTreeMap::new(), known: BTreeMap::new() }
    }

    // --- what reaches the peer

    fn heard(&mut self, seen: &Seen<'_>, whole: &Value) {
        let Some(line) = self.lines.get_mut(&seen.link).filter(|line| !line.garbled) else { return };
        line.heard += 1;
        let known = self.known.entry(line.peer.name.clone()).or_default();
        let (Some(action), Some(payload)) =
            (whole.get("action").and_then(Value::as_str), whole.get("payload"))
        else {
            // A greeting without what belongs into it.
            line.misled |= whole.get("action").and_then(Value::as_str) == Some("connected");
            return;
        };
        let sender = whole.get("sender");
        match (action, sender) {
            ("connected", None) => {
                if line.id.is_none() {
                    line.id = payload.get("peerID").and_then(id_as_read);
                    line.misled |= !line.id.as_deref().is_some_and(is_plain_id);
                    line.greeted_at = line.id.is_some().then_some(seen.at);
                    let key = payload.get("server_key").and_then(Value::as_str).filter(|key| !key.is_empty());
                    let own = self.config.settings.get("key");
                    line.strangers = key.is_some_and(|key| own.is_none_or(|own| own != key));
                }
                return;
            }
            ("connected", Some(_)) => line.misled = true,
            ("peerGone", None) => {
                if let Some(id) = payload.get("gonePeerID").and_then(peer_id) {
                    line.family.remove(&id);
                    line.doubted.insert(id);
                }
                return;
            }
            _ => {}
        }
        let (Some(own), Some(sender)) = (line.id.clone(), sender.and_then(peer_id)) else { return };
        if sender == own {
            return;
        }
        let target = whole.get("target").filter(|target| !target.is_null());
        let for_me = target.and_then(peer_id).as_deref() == Some(own.as_str());
        match action {
            "newList" => line.answers.asked(seen, line.heard, &sender, payload, &known.given),
            "wantedList" if for_me => {
                if let Some(store) = store(payload) {
                    let list = payload.get("list").and_then(Value::as_array).into_iter().flatten();
                    let ids = list.filter_map(|id| record_id(Some(id))).collect();
                    line.wanted.push((seen.at, store, ids));
                }
            }
            "updatedRecord" | "requestedRecords" => {
                known.given.add_message(action, payload, seen.at);
                for record in records(action, payload).filter(|_| is_peers(payload)) {
                    line.told_of(record);
                }
            }
            "missingItems" | "missingRecords" if for_me => {
                known.given.add_message(action, payload, seen.at);
                for record in records(action, payload).filter(|_| is_peers(payload)) {
                    line.told_of(record);
                }
            }
            "command"
                if matches!(
                    payload.get("command").and_then(Value::as_str),
                    Some("purgePeer" | "flushProject")
                ) =>
            {
                known.given.forget();
            }
            _ => {}
        }
    }

    // --- what the peer says

    fn said(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        // What crosses our Close on its way says nothing.
        let Some(line) = self.lines.get_mut(&seen.link).filter(|line| line.open) else { return };
        line.spoke = true;
        if line.misled {
            // Its words are those of the document all the same.
            if let (Some(action), None) =
                (whole.get("action").and_then(Value::as_str), packed(whole.get("payload")))
            {
                self.known_action(seen, action, whole, rulings);
            }
            return;
        }
        let known = self.known.entry(line.peer.name.clone()).or_default();
        let Some(own) = line.id.clone() else {
            let message = "it speaks before it was given an id";
            rulings.broken("COW-LIST-6", seen.from, seen.at, message, "silence", actual(whole));
            return;
        };
        rulings.kept("COW-LIST-6", seen.from, seen.at);
        signed(seen, whole, &own, &known.ids, rulings);
        let Some(action) = whole.get("action").and_then(Value::as_str) else { return };
        if let Some(edition) = packed(whole.get("payload")) {
            rulings.speaks_unknown(edition, seen.from, "its payload is packed");
            return;
        }
        if !self.known_action(seen, action, whole, rulings) {
            return;
        }
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let known = self.known.entry(line.peer.name.clone()).or_default();
        let Some(payload) = whole.get("payload").filter(|payload| payload.is_object()) else { return };
        misplaced_project(seen, payload, whole, rulings);
        match action {
            "newList" => {
                line.list(seen, &own, payload, whole, rulings);
                known.list(seen, line, payload, whole, self.cow2, rulings);
            }
            "updatedRecord" | "requestedRecords" => {
                for record in records(action, payload) {
                    line.gave(seen, &own, payload, record, known, whole, self.cow2, rulings);
                }
                known.given.add_message(action, payload, seen.at);
            }
            "syncinfo" | "wantedList" | "missingItems" | "missingRecords" => {
                line.answer(seen, &own, payload, whole, rulings);
                line.answers.answered(seen, action, whole, &own, &known.given, rulings);
            }
            _ => {}
        }
    }

    fn known_action(&self, seen: &Seen<'_>, action: &str, whole: &Value, rulings: &mut Rulings) -> bool {
        if action == "connected" || action == "peerGone" {
            let message = format!("a peer sends `{action}`");
            rulings.broken(
                "COW-MSG-3",
                seen.from,
                seen.at,
                message,
                "what only the relay says",
                actual(whole),
            );
            return false;
        }
        rulings.kept("COW-MSG-3", seen.from, seen.at);
        let (here, there, other): (&[&str], &[&str], &str) =
            if self.cow2 { (&COW2, &SEED, "seed") } else { (&SEED, &COW2, "cow2") };
        if here.contains(&action) {
            rulings.kept("COW-MSG-4", seen.from, seen.at);
            return true;
        }
        let message = format!("unknown action `{action}`");
        if there.contains(&action) {
            rulings.speaks(other, seen.from, &format!("it sends `{action}`"));
            return false;
        }
        if COW2_1.contains(&action) {
            rulings.speaks_unknown("cow2.1", seen.from, &format!("it sends `{action}`"));
            return false;
        }
        let expected = format!("one of {}", here.join(", "));
        rulings.broken("COW-MSG-4", seen.from, seen.at, message, expected, actual(whole));
        false
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let limit = LISTED + self.config.slack;
        for line in self.lines.values_mut() {
            let due = line.greeted_at.is_some_and(|at| now.since(at) > limit);
            if due && line.open && !line.listed && !line.strangers && !line.misled && !line.reported {
                line.reported = true;
                let message = "it has sent no list within 3 s";
                rulings.broken("COW-LIST-1", &line.peer, now, message, "`newList`", Value::Null);
            }
            line.answers.overdue(now, self.config.slack, &line.peer, rulings);
        }
    }
}

/// The edition of a payload that is packed by LZW (section 8): as text, or as codes.
fn packed(payload: Option<&Value>) -> Option<&'static str> {
    match payload? {
        // It begins like JSON, and has codes where it repeats itself.
        Value::String(text) => (text.starts_with("{\"") && text.chars().any(|one| one as u32 > 0xff))
            .then_some("cow2.2")
            .filter(|_| serde_json::from_str::<Value>(text).is_err()),
        Value::Array(codes) => {
            let first: Vec<Option<u64>> = codes.iter().take(2).map(Value::as_u64).collect();
            (first == [Some(u64::from(b'{')), Some(u64::from(b'"'))]).then_some("cow2.3")
        }
        _ => None,
    }
}

/// The id that a peer reads in `connected`: a whole number is one, however it is written.
fn id_as_read(value: &Value) -> Option<String> {
    let whole = value.as_f64().filter(|id| id.fract() == 0.0 && (1.0..9_007_199_254_740_992.0).contains(id));
    peer_id(value).or_else(|| whole.map(|id| format!("{id:.0}")))
}

/// True for an id that nobody reads in another way: a whole number, above 0 and written plainly.
fn is_plain_id(id: &str) -> bool {
    id.parse::<u64>().is_ok_and(|number| (1..1 << 53).contains(&number) && number.to_string() == id)
}

fn is_peers(payload: &Value) -> bool {
    payload.get("syncType").and_then(Value::as_str) == Some("peers")
}

/// The records of a message.
fn records<'a>(action: &str, payload: &'a Value) -> impl Iterator<Item = &'a Value> + use<'a> {
    let one = payload.get("record").filter(|_| action == "updatedRecord");
    let member = if action == "missingItems" { "items" } else { "list" };
    let many = payload.get(member).and_then(Value::as_array).filter(|_| action != "updatedRecord");
    one.into_iter().chain(many.into_iter().flatten())
}

/// The sender of every message is the id that `connected` gave.
fn signed(seen: &Seen<'_>, whole: &Value, own: &str, ids: &BTreeSet<String>, rulings: &mut Rulings) {
    let sender = whole.get("sender").and_then(peer_id);
    match sender {
        Some(sender) if sender == own => {
            rulings.kept("COW-MSG-2", seen.from, seen.at);
            if !ids.is_empty() {
                rulings.kept("COW-CONN-11", seen.from, seen.at);
            }
        }
        Some(sender) if ids.contains(&sender) => {
            let message = format!("it still calls itself {sender}, its id before the reconnect");
            rulings.broken(
                "COW-CONN-11",
                seen.from,
                seen.at,
                message,
                format!("the sender {own}"),
                actual(whole),
            );
        }
        _ => {
            let message = "`sender` is not its own id";
            rulings.broken(
                "COW-MSG-2",
                seen.from,
                seen.at,
                message,
                format!("the sender {own}"),
                actual(whole),
            );
        }
    }
}

/// A project beside a store of the herd is a poorer reading (section 6.19).
fn misplaced_project(seen: &Seen<'_>, payload: &Value, whole: &Value, rulings: &mut Rulings) {
    let herd = matches!(
        payload.get("syncType").and_then(Value::as_str),
        Some("peers" | "users" | "projects" | "socketservers")
    );
    if herd && payload.get("project").is_some_and(|project| !project.is_null()) {
        let message = "a `project` beside a store of the herd";
        rulings.tolerated("COW-LIST-4", seen.from, seen.at, message, "no `project`", actual(whole));
    }
}

impl Line {
    /// The peer was told of another one.
    fn told_of(&mut self, record: &Value) {
        let Some(id) = record_id(record.get("_id")) else { return };
        let family = record.pointer("/data/family").and_then(Value::as_str) == Some("alpha");
        let time = |name: &str| record.get(name).and_then(Value::as_f64).filter(|time| *time > 0.0);
        // A record that is not whole, or of nobody who can be a peer, may be taken or not.
        let whole = record.get("_id").is_some_and(|id| peer_id(id).is_some()) && time("updated").is_some();
        let created = time("created").filter(|_| whole);
        match created {
            Some(created) if family && !is_deleted(record) && !self.doubted.contains(&id) => {
                let place = self.family.get(&id).map_or(self.heard, |(_, place)| *place);
                self.family.insert(id, (created, place));
            }
            _ => {
                self.family.remove(&id);
                self.doubted.insert(id);
            }
        }
    }

    fn list(&mut self, seen: &Seen<'_>, own: &str, payload: &Value, whole: &Value, rulings: &mut Rulings) {
        if whole.get("target").is_some_and(|target| !target.is_null()) {
            let message = "a list has a target";
            rulings.broken("COW-LIST-7", seen.from, seen.at, message, "no target", actual(whole));
        } else {
            rulings.kept("COW-LIST-7", seen.from, seen.at);
        }
        if !self.listed {
            if self.announced {
                rulings.kept("COW-CONN-12", seen.from, seen.at);
            } else {
                let message = "it sends a list before it has announced itself";
                let expected = format!("`updatedRecord` in peers with the _id {own} first");
                rulings.broken("COW-CONN-12", seen.from, seen.at, message, expected, actual(whole));
            }
        }
        self.listed = true;
        let entries = payload.get("list").and_then(Value::as_array).into_iter().flatten();
        let mut seen_ids = BTreeSet::new();
        for id in entries.filter_map(|entry| record_id(entry.get("_id"))) {
            if !seen_ids.insert(id.clone()) {
                let message = format!("{id} is named twice in one list");
                rulings.broken("COW-LIST-5", seen.from, seen.at, message, "each record once", actual(whole));
                return;
            }
        }
    }

    /// A record that the peer broadcasts.
    #[expect(clippy::too_many_arguments, reason = "what was seen, and everything it is compared with")]
    fn gave(
        &mut self,
        seen: &Seen<'_>,
        own: &str,
        payload: &Value,
        record: &Value,
        known: &Known,
        whole: &Value,
        cow2: bool,
        rulings: &mut Rulings,
    ) {
        let (Some(id), Some(store)) = (record_id(record.get("_id")), store(payload)) else { return };
        if store.0 == "peers" {
            if id == own {
                let wanted = self
                    .wanted
                    .iter()
                    .any(|(at, of, ids)| *of == store && ids.contains(own) && seen.at.since(*at) <= GIVEN);
                let one = whole.get("action").and_then(Value::as_str) == Some("updatedRecord");
                if cow2 && one && wanted && self.announced {
                    rulings.speaks("seed", seen.from, "it answers `wantedList` with `updatedRecord`");
                }
                self.announced = true;
                let family = record.pointer("/data/family").and_then(Value::as_str) == Some("alpha");
                let created = record.get("created").and_then(Value::as_f64);
                self.own = created.map(|created| (family, created));
            }
            return;
        }
        let recent = self.wanted.iter().filter(|(at, of, _)| *of == store && seen.at.since(*at) <= GIVEN);
        let mut asked = recent.peekable();
        if asked.peek().is_none() {
            return;
        }
        if cow2 {
            // Programs of cow2 put what is wanted into one message, whatever else they say at that moment.
            let wanted = asked.any(|(_, _, ids)| ids.contains(&id));
            let updated = timestamp(record.get("updated"));
            let versions = known.given.of(&store, &id);
            let given = versions.iter().any(|version| version.updated == updated)
                && versions.iter().all(|version| !version.deltas);
            if wanted && given && whole.get("action").and_then(Value::as_str) == Some("updatedRecord") {
                rulings.speaks("seed", seen.from, "it answers `wantedList` with `updatedRecord`");
            }
            return;
        }
        if asked.any(|(_, _, ids)| ids.contains(&id)) {
            rulings.kept("COW-SYNC-12", seen.from, seen.at);
            return;
        }
        // A version that it was given, unchanged: not its own news, and no merged history.
        let versions = known.given.of(&store, &id);
        let updated = timestamp(record.get("updated"));
        let unchanged = versions.iter().any(|version| version.updated == updated);
        if unchanged && versions.iter().all(|version| !version.deltas) {
            let message = format!("{id} was broadcast, which nobody asked for");
            let expected = format!("only what is wanted of {}", store_name(&store));
            rulings.broken("COW-SYNC-12", seen.from, seen.at, message, expected, actual(whole));
        }
    }

    /// An answer to a list: only the alpha gives one.
    fn answer(&self, seen: &Seen<'_>, own: &str, payload: &Value, whole: &Value, rulings: &mut Rulings) {
        let Some((true, created)) = self.own else { return };
        let Some(store) = store(payload) else { return };
        let Some(asked) = self.answers.asked_at(&store, seen.at) else { return };
        // Of one that it was told of after the list it may not have known when it answered.
        let older = self
            .family
            .iter()
            .find(|(id, (other, place))| id.as_str() != own && *other < created && *place < asked);
        if let Some((alpha, _)) = older {
            let message = format!("it answers a list of {}, though {alpha} is the alpha", store_name(&store));
            rulings.broken("COW-ALPHA-2", seen.from, seen.at, message, "nothing", actual(whole));
        } else {
            rulings.kept("COW-ALPHA-2", seen.from, seen.at);
        }
    }
}

impl Known {
    /// A list after a reconnect names what the peer was given before.
    fn list(
        &self,
        seen: &Seen<'_>,
        line: &Line,
        payload: &Value,
        whole: &Value,
        cow2: bool,
        rulings: &mut Rulings,
    ) {
        let (Some(store), Some(list)) = (store(payload), payload.get("list").and_then(Value::as_array))
        else {
            return;
        };
        if store.0 == "peers" {
            return;
        }
        let mut listed = BTreeMap::new();
        for entry in list {
            if let Some(id) = record_id(entry.get("_id")) {
                let time = entry.get("timestamp").or_else(|| entry.get("updated")).and_then(Value::as_f64);
                listed.insert(id, time);
            }
        }
        for (id, time) in &listed {
            let (versions, Some(time)) = (self.given.of(&store, id), time) else { continue };
            let newest = versions.iter().map(|version| version.updated).fold(f64::MIN, f64::max);
            // What was given just before may not have been read when the list was made.
            let fresh = versions.iter().any(|version| version.at + GIVEN > seen.at);
            if versions.is_empty() || *time > newest || (fresh && *time < newest) {
                continue;
            }
            if *time == newest {
                rulings.kept("COW-LIST-8", seen.from, seen.at);
                if versions.len() > 1 && !cow2 {
                    rulings.kept("COW-SYNC-6", seen.from, seen.at);
                }
            } else if let Some(place) = versions.iter().position(|version| version.updated == *time) {
                // The last to arrive won over a newer one, or a newer one that came later was not taken.
                let last = versions[place..].iter().all(|version| version.updated <= *time);
                let requirement = if last { "COW-SYNC-6" } else { "COW-SYNC-11" };
                if !(last && cow2) {
                    let message = format!("{id} is listed with an older version than it was given");
                    let expected = format!("the timestamp {newest}");
                    rulings.broken(requirement, seen.from, seen.at, message, expected, actual(whole));
                }
            } else {
                let message = format!("the timestamp of {id} is none of its versions'");
                rulings.broken("COW-LIST-8", seen.from, seen.at, message, format!("{newest}"), actual(whole));
            }
        }
        let Some(end) = self.last_end.filter(|end| *end <= line.opened_at) else { return };
        let certain = self.given.certain(&store, end);
        match certain.iter().find(|id| !listed.contains_key(**id)) {
            Some(missing) => {
                let message = format!("{missing} is not in the list of {}", store_name(&store));
                rulings.broken(
                    "COW-LIST-5",
                    seen.from,
                    seen.at,
                    message,
                    "every record of the store",
                    actual(whole),
                );
            }
            None if !certain.is_empty() => rulings.kept("COW-LIST-5", seen.from, seen.at),
            None => {}
        }
    }
}

impl Monitor for Peers {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, peer, from_relay)) = sides(seen) else { return };
        self.overdue(seen.at, rulings);
        match &seen.what {
            What::Opened { .. } => {
                let line = Line {
                    peer: peer.clone(),
                    opened_at: seen.at,
                    greeted_at: None,
                    strangers: false,
                    misled: false,
                    spoke: false,
                    reported: false,
                    open: true,
                    id: None,
                    announced: false,
                    listed: false,
                    answers: Answers::new(self.cow2),
                    wanted: Vec::new(),
                    garbled: false,
                    heard: 0,
                    family: BTreeMap::new(),
                    doubted: BTreeSet::new(),
                    own: None,
                };
                self.lines.insert(seen.link, line);
            }
            What::Text { json: Ok(whole), .. } if from_relay => self.heard(seen, whole),
            What::Text { json: Err(NotJson::BeyondUs), .. } if from_relay => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.misled = true;
                }
            }
            What::Raw(_) if from_relay => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.garbled = true;
                    line.misled = true;
                }
            }
            What::Text { json: Ok(whole), .. } => self.said(seen, whole, rulings),
            What::Text { text, json: Err(NotJson::Malformed) } if !from_relay => {
                let found = Value::from(json::cut(text, 1000));
                rulings.broken(
                    "COW-MSG-1",
                    seen.from,
                    seen.at,
                    "a text that is no JSON",
                    "one JSON object",
                    found,
                );
            }
            What::Binary(bytes) if !from_relay => {
                let found = Value::from(json::cut(&String::from_utf8_lossy(bytes), 1000));
                rulings.broken("COW-MSG-1", seen.from, seen.at, "a binary message", "a text message", found);
            }
            What::Closing { .. } | What::Closed => {
                let Some(line) = self.lines.get_mut(&seen.link) else { return };
                if line.open && line.strangers && !from_relay {
                    if line.spoke {
                        let message = "it spoke to another herd before it left";
                        rulings.broken("COW-CONN-8", seen.from, seen.at, message, "silence", Value::Null);
                    } else {
                        rulings.kept("COW-CONN-8", seen.from, seen.at);
                    }
                }
                line.open = false;
                let known = self.known.entry(line.peer.name.clone()).or_default();
                known.ids.extend(line.id.clone());
                known.last_end = Some(seen.at);
                known.given.ended(seen.at);
                known.given.forget_peers();
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        let slack = self.config.slack + Duration::from_nanos(1);
        let answers = self.lines.values().filter_map(|line| line.answers.deadline());
        let silent = self
            .lines
            .values()
            .filter(|line| line.open && !line.listed && !line.strangers && !line.misled && !line.reported);
        let lists = silent.filter_map(|line| line.greeted_at.map(|at| at + LISTED));
        answers.chain(lists).min().map(|at| at + slack)
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }
}
