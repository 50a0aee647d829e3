//! The monitors of hangout, each rule with a conversation that keeps it and one that breaks it, written by hand as JSON
//! lines. What the documents tolerate is accused of nothing.
//!
//! A line says when (`at`, in seconds) and what:
//! `{"open": "alice"}` - `{"close": "alice", "by": "server", "code": 1000}` - `{"gone": "alice", "by": "alice"}` -
//! `{"stall": "alice"}` - `{"from": "server", "to": "alice", ...}` with one of `changes` and `metadata` (short forms:
//! names stand for tokens, what is left out is as usual), `packet` (any JSON), `text`, `ping`, `pong`. `{"end": true}`
//! ends the conversation.

mod in_memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use flowproof::corpus::Protocol;
use flowproof::judge::finding::Ruling;
use flowproof::monitor::{
    Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What, monitors_of, watched_of,
};
use flowproof_reference::machine::{LinkId, Time};
use in_memory::hangout;
use serde_json::{Map, Value, json};

static PROTOCOL: LazyLock<Arc<Protocol>> = LazyLock::new(hangout);

const TOKENS: [(&str, &str); 4] = [
    ("alice", "a11ce000000000000000000000000001"),
    ("bob", "b0b00000000000000000000000000002"),
    ("carol", "ca401000000000000000000000000003"),
    ("dave", "da4e0000000000000000000000000004"),
];

/// A name stands for its token; anything else for itself.
fn token(name: &str) -> String {
    TOKENS.iter().find(|(known, _)| *known == name).map_or(name, |(_, token)| token).to_owned()
}

/// Puts tokens in place of `<alice>` and the like, wherever they stand.
fn with_tokens(text: &str) -> String {
    TOKENS.iter().fold(text.to_owned(), |text, (name, token)| text.replace(&format!("<{name}>"), token))
}

fn tokens(names: &Value) -> Value {
    let names = names.as_array().expect("a list of names");
    names.iter().map(|name| name.as_str().map_or_else(|| name.clone(), |name| token(name).into())).collect()
}

/// The whole of a `changes` of which the line names what is not empty.
fn changes(short: &Value) -> Value {
    let list = |name: &str| short.get(name).map_or_else(|| json!([]), tokens);
    json!({"from": "server", "type": "changes", "changes":
        {"opened": list("opened"), "closed": list("closed"), "properties": list("properties")}})
}

/// The whole of a `metadata` of which the line says what is special.
fn metadata(reader: &str, short: &Value) -> Value {
    let indexes = tokens(&short["indexes"]);
    let index = short.get("index").and_then(Value::as_str).map_or_else(|| token(reader), token);
    let mut properties = Map::new();
    for one in indexes.as_array().expect("a list") {
        properties.insert(one.as_str().unwrap_or_default().to_owned(), json!({}));
    }
    for (name, entry) in short.get("properties").and_then(Value::as_object).into_iter().flatten() {
        match entry {
            Value::Null => properties.remove(&token(name)),
            entry => properties.insert(token(name), entry.clone()),
        };
    }
    let version = short.get("version").cloned().unwrap_or_else(|| "DEV".into());
    json!({"from": "server", "type": "metadata", "metadata":
        {"index": index, "indexes": indexes, "properties": properties, "version": version}})
}

/// What the monitors make of a conversation: ids by ruling.
#[derive(Default)]
struct Heard {
    accused: BTreeSet<String>,
    tolerated: BTreeSet<String>,
    kept: BTreeSet<String>,
    messages: Vec<String>,
}

struct Trace {
    role: &'static str,
    monitors: Vec<Box<dyn Monitor>>,
    rulings: Rulings,
    /// The latest connection of each client.
    links: BTreeMap<String, LinkId>,
    next: u64,
}

impl Trace {
    fn party(&self, name: &str) -> Party {
        let role = if name == "server" { "server" } else { "client" };
        Party { name: name.to_owned(), role: role.to_owned(), under_test: role == self.role }
    }

    fn see(&mut self, at: Time, from: &str, to: &str, what: What<'_>) {
        let client = if from == "server" { to } else { from };
        let link = *self.links.get(client).unwrap_or_else(|| panic!("{client} is not connected"));
        let (from, to) = (self.party(from), self.party(to));
        let seen = Seen { at, link, from: &from, to: &to, from_address: None, to_address: None, what };
        for monitor in &mut self.monitors {
            // Time passes for a monitor before it sees what comes next.
            while let Some(deadline) = monitor.deadline().filter(|deadline| *deadline <= at) {
                monitor.due(deadline, &mut self.rulings);
                assert!(monitor.deadline().is_none_or(|next| next > deadline), "the deadline stands still");
            }
            monitor.observe(&seen, &mut self.rulings);
        }
    }

    fn line(&mut self, line: &Value) {
        let at = Time::ZERO + Duration::from_secs_f64(line["at"].as_f64().expect("every line has a time"));
        let word = |name: &str| line.get(name).and_then(Value::as_str);
        if let Some(client) = word("open") {
            self.next += 1;
            self.links.insert(client.to_owned(), LinkId(self.next));
            return self.see(at, client, "server", What::Opened { target: "/" });
        }
        if let Some(client) = word("stall") {
            return self.see(at, client, "server", What::Stalled);
        }
        if let Some(client) = word("close").or(word("gone")) {
            let by = word("by").expect("somebody ends it");
            let to = if by == "server" { client } else { "server" };
            let code =
                line.get("code").and_then(Value::as_u64).map(|code| u16::try_from(code).expect("a code"));
            let what =
                if word("close").is_some() { What::Closing { code, reason: "" } } else { What::Closed };
            return self.see(at, by, to, what);
        }
        if line.get("end").is_some() {
            for monitor in &mut self.monitors {
                while let Some(deadline) = monitor.deadline().filter(|deadline| *deadline <= at) {
                    monitor.due(deadline, &mut self.rulings);
                }
                monitor.finish(at, &mut self.rulings);
            }
            return;
        }
        let (from, to) = (word("from").expect("a sender"), word("to").expect("a receiver"));
        if let Some(payload) = word("ping") {
            return self.see(at, from, to, What::Ping(payload.as_bytes()));
        }
        if let Some(payload) = word("pong") {
            return self.see(at, from, to, What::Pong(payload.as_bytes()));
        }
        if let Some(text) = word("text") {
            return self.see(at, from, to, What::Text { text, json: Err(NotJson::Malformed) });
        }
        let whole = match (line.get("changes"), line.get("metadata"), line.get("packet")) {
            (Some(short), _, _) => changes(short),
            (_, Some(short), _) => metadata(to, short),
            (_, _, Some(packet)) => packet.clone(),
            _ => panic!("nothing happens in {line}"),
        };
        let text = whole.to_string();
        self.see(at, from, to, What::Text { text: &text, json: Ok(&whole) });
    }
}

/// Shows a conversation to all monitors of hangout, `role` being under test.
fn hear(role: &'static str, trace: &str) -> Heard {
    let config = MonitorConfig {
        slack: Duration::ZERO,
        exclusive: true,
        told: None,
        edition: "v1".to_owned(),
        settings: BTreeMap::from([("wildcard".to_owned(), "*".to_owned())]),
    };
    let monitors = monitors_of(&PROTOCOL, &config);
    let mut all = Trace { role, monitors, rulings: Rulings::default(), links: BTreeMap::new(), next: 0 };
    let mut lines: Vec<Value> = trace
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let line = with_tokens(line.trim());
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
        })
        .collect();
    // Pieces of a trace are put together; their lines are in the order of time.
    lines.sort_by(|a, b| a["at"].as_f64().partial_cmp(&b["at"].as_f64()).expect("times are numbers"));
    assert!(lines.last().is_some_and(|line| line.get("end").is_some()), "a trace ends with its end");
    lines.iter().for_each(|line| all.line(line));
    let mut heard = Heard::default();
    for finding in all.rulings.findings {
        let id = finding.requirement.expect("monitors name requirements");
        assert!(watched_of(&PROTOCOL).contains(&id.as_str()), "{id} is judged and not listed as watched");
        if finding.ruling != Ruling::Kept {
            heard.messages.push(format!("{:?} {id} at {}: {}", finding.ruling, finding.at, finding.message));
        }
        match finding.ruling {
            Ruling::Broken => heard.accused.insert(id),
            Ruling::Tolerated | Ruling::Undecided => heard.tolerated.insert(id),
            Ruling::Kept => heard.kept.insert(id),
            Ruling::Noted => false,
        };
    }
    heard
}

/// A lawful conversation: nobody is accused of anything, and `id` was put to the test.
fn check_lawful(role: &'static str, id: &str, trace: &str) {
    let heard = hear(role, trace);
    assert!(heard.accused.is_empty() && heard.tolerated.is_empty(), "{id}: {:#?}", heard.messages);
    // That something stayed the same, or did not happen, is not said of a conversation in which nothing could show.
    let silent = [
        "HANGOUT-META-8",
        "HANGOUT-RELAY-5",
        "HANGOUT-RELAY-9",
        "HANGOUT-SYNC-7",
        "HANGOUT-ADDR-2",
        "HANGOUT-ADDR-3",
        "HANGOUT-ADDR-4",
        "HANGOUT-RELAY-1",
        "HANGOUT-CLIENT-7",
    ];
    assert!(
        silent.contains(&id) || heard.kept.contains(id),
        "{id} was not put to the test: {:?}",
        heard.kept
    );
}

/// A conversation that breaks one rule: that one is accused, and no other.
fn check_broken(role: &'static str, id: &str, trace: &str) {
    check_accused(role, id, trace);
    // The same conversation judged for the other role accuses nobody.
    let other = if role == "server" { "client" } else { "server" };
    let heard = hear(other, trace);
    assert!(heard.accused.is_empty(), "the {other} is accused: {:#?}", heard.messages);
}

/// The same, where the other role is not without fault either.
fn check_accused(role: &'static str, id: &str, trace: &str) {
    let heard = hear(role, trace);
    assert_eq!(heard.accused, BTreeSet::from([id.to_owned()]), "{:#?}", heard.messages);
}

/// alice is alone and synced.
const ALICE: &str = r#"
{"at": 0, "open": "alice"}
{"at": 0, "from": "server", "to": "alice", "metadata": {"indexes": ["alice"]}}
{"at": 0.5, "from": "server", "to": "alice", "changes": {"opened": ["alice"]}}
{"at": 0.5, "from": "server", "to": "alice", "metadata": {"indexes": ["alice"]}}
"#;

/// alice, bob and carol are synced, two seconds into the conversation.
const THREE: &str = r#"
{"at": 0, "open": "alice"}
{"at": 0, "from": "server", "to": "alice", "metadata": {"indexes": ["alice"]}}
{"at": 0.1, "open": "bob"}
{"at": 0.1, "from": "server", "to": "bob", "metadata": {"indexes": ["alice", "bob"]}}
{"at": 0.2, "open": "carol"}
{"at": 0.2, "from": "server", "to": "carol", "metadata": {"indexes": ["alice", "bob", "carol"]}}
{"at": 0.5, "from": "server", "to": "alice", "changes": {"opened": ["alice", "bob", "carol"]}}
{"at": 0.5, "from": "server", "to": "alice", "metadata": {"indexes": ["alice", "bob", "carol"]}}
{"at": 0.5, "from": "server", "to": "bob", "changes": {"opened": ["alice", "bob", "carol"]}}
{"at": 0.5, "from": "server", "to": "bob", "metadata": {"indexes": ["alice", "bob", "carol"]}}
{"at": 0.5, "from": "server", "to": "carol", "changes": {"opened": ["alice", "bob", "carol"]}}
{"at": 0.5, "from": "server", "to": "carol", "metadata": {"indexes": ["alice", "bob", "carol"]}}
"#;

/// A sync for each of `readers`, with the same lists and the same table.
fn sync(at: f64, readers: &[&str], lists: Value, table: Value) -> String {
    let mut lines = String::new();
    for reader in readers {
        lines.push_str(&format!(
            "{}\n{}\n",
            json!({"at": at, "from": "server", "to": reader, "changes": lists}),
            json!({"at": at, "from": "server", "to": reader, "metadata": table})
        ));
    }
    lines
}

fn line(line: Value) -> String {
    format!("{line}\n")
}

fn end(at: f64) -> String {
    line(json!({"at": at, "end": true}))
}

/// bob closes his connection at 3 s.
fn bob_leaves() -> String {
    line(json!({"at": 3, "close": "bob", "by": "bob", "code": 1000}))
        + &line(json!({"at": 3, "close": "bob", "by": "server", "code": 1000}))
}

/// alice writes a property at 3 s.
const ALICE_WRITES: &str = r#"
{"at": 3, "from": "alice", "to": "server", "packet": {"to": "server", "packet": {"type": "properties", "properties": {"name": "Alice"}}}}
"#;

fn written() -> Value {
    json!({"indexes": ["alice", "bob", "carol"], "properties": {"alice": {"name": "Alice"}}})
}

fn all_three() -> Value {
    json!({"indexes": ["alice", "bob", "carol"]})
}

/// An envelope of alice to `to`, and what is delivered.
fn chat(at: f64, from: &str, to: Value, payload: Value) -> String {
    line(
        json!({"at": at, "from": from, "to": "server", "packet": {"to": to, "packet": {"type": "chat", "chat": payload}}}),
    )
}

fn relay(at: f64, from: &str, to: &str, payload: Value) -> String {
    line(
        json!({"at": at, "from": "server", "to": to, "packet": {"from": token(from), "type": "chat", "chat": payload}}),
    )
}

const EVERYBODY: [&str; 3] = ["alice", "bob", "carol"];

#[test]
fn connections_and_tokens() {
    // An idle connection stays open.
    let pings = |at: f64| line(json!({"at": at, "from": "server", "to": "alice", "ping": ""}));
    check_lawful("server", "HANGOUT-CONN-3", &(ALICE.to_owned() + &pings(20.0) + &end(25.0)));
    let cut = line(json!({"at": 10, "close": "alice", "by": "server", "code": 1001}));
    check_broken("server", "HANGOUT-CONN-3", &(ALICE.to_owned() + &cut + &end(12.0)));

    // The own token stays the same.
    check_lawful("server", "HANGOUT-TOKEN-1", &(ALICE.to_owned() + &end(2.0)));
    let other = ALICE_WRITES.to_owned()
        + &sync(
            3.5,
            &["alice"],
            json!({"properties": ["alice"]}),
            json!({"index": "dave", "indexes": ["alice", "dave"]}),
        );
    check_broken("server", "HANGOUT-TOKEN-1", &(ALICE.to_owned() + &other + &end(4.0)));

    // Each connection has a token of its own, and none is an address.
    check_lawful("server", "HANGOUT-TOKEN-2", &(THREE.to_owned() + &end(3.0)));
    let shared = r#"
{"at": 1, "open": "bob"}
{"at": 1, "from": "server", "to": "bob", "metadata": {"index": "alice", "indexes": ["alice"]}}
"#;
    check_broken("server", "HANGOUT-TOKEN-2", &(ALICE.to_owned() + shared + &end(1.5)));

    // Tokens are 32 lower-case hex digits.
    check_lawful("server", "HANGOUT-TOKEN-3", &(THREE.to_owned() + &end(3.0)));
    let odd = ALICE
        .replace("\"alice\"]", "\"A11CE\"]")
        .replace("{\"indexes\"", "{\"index\": \"A11CE\", \"indexes\"");
    check_broken("server", "HANGOUT-TOKEN-3", &(odd + &end(2.0)));

    // Tokens do not follow one another.
    check_lawful("server", "HANGOUT-TOKEN-4", &(THREE.to_owned() + &end(3.0)));
    let mut counting = THREE.to_owned();
    for (number, (_, token)) in TOKENS[..3].iter().enumerate() {
        let name = TOKENS[number].0;
        let one = format!("{:032x}", 0xfff7_u64 + number as u64);
        counting = counting.replace(&format!("\"{name}\"]"), &format!("\"{one}\"]"));
        counting = counting.replace(&format!("[\"{name}\","), &format!("[\"{one}\","));
        counting = counting.replace(&format!(", \"{name}\","), &format!(", \"{one}\","));
        let own = format!("\"to\": \"{name}\", \"metadata\": {{");
        counting = counting.replace(&own, &format!("{own}\"index\": \"{one}\", "));
        assert!(!counting.contains(token));
    }
    check_broken("server", "HANGOUT-TOKEN-4", &(counting + &end(3.0)));
}

#[test]
fn syncs() {
    let join = THREE.to_owned() + "{\"at\": 3, \"open\": \"dave\"}\n";
    let four = json!({"indexes": ["alice", "bob", "carol", "dave"]});
    let told = |at: f64, readers: &[&str]| sync(at, readers, json!({"opened": ["dave"]}), four.clone());
    let everybody = ["alice", "bob", "carol", "dave"];
    check_lawful("server", "HANGOUT-SYNC-1", &(join.clone() + &told(4.0, &everybody) + &end(6.0)));
    check_broken("server", "HANGOUT-SYNC-1", &(join.clone() + &told(4.1, &everybody) + &end(6.0)));

    let left = THREE.to_owned() + &bob_leaves();
    let two = json!({"indexes": ["alice", "carol"]});
    let told = |at: f64, readers: &[&str]| sync(at, readers, json!({"closed": ["bob"]}), two.clone());
    check_lawful("server", "HANGOUT-SYNC-2", &(left.clone() + &told(4.0, &["alice", "carol"]) + &end(6.0)));
    check_broken("server", "HANGOUT-SYNC-2", &(left.clone() + &told(4.1, &["alice", "carol"]) + &end(6.0)));

    let wrote = THREE.to_owned() + ALICE_WRITES;
    let told = |at: f64, readers: &[&str]| sync(at, readers, json!({"properties": ["alice"]}), written());
    check_lawful("server", "HANGOUT-SYNC-3", &(wrote.clone() + &told(4.0, &EVERYBODY) + &end(6.0)));
    check_broken("server", "HANGOUT-SYNC-3", &(wrote.clone() + &told(4.1, &EVERYBODY) + &end(6.0)));

    // Writes are gathered: nine announcements within 3 s are too many, six are not.
    let writes = |count: u32, gap: f64| {
        let mut lines = THREE.to_owned();
        for round in 0..count {
            let at = 3.0 + f64::from(round) * gap;
            let name = format!("Alice {round}");
            lines.push_str(&line(json!({"at": at, "from": "alice", "to": "server",
                "packet": {"to": "server", "packet": {"type": "properties", "properties": {"name": name}}}})));
            let table = json!({"indexes": EVERYBODY, "properties": {"alice": {"name": name}}});
            lines.push_str(&sync(at + 0.1, &EVERYBODY, json!({"properties": ["alice"]}), table));
        }
        lines + &end(9.0)
    };
    check_lawful("server", "HANGOUT-SYNC-4", &writes(6, 0.5));
    check_broken("server", "HANGOUT-SYNC-4", &writes(9, 0.3));

    check_lawful("server", "HANGOUT-SYNC-5", &(wrote.clone() + &told(3.5, &EVERYBODY) + &end(6.0)));
    let alone =
        line(json!({"at": 3.5, "from": "server", "to": "alice", "changes": {"properties": ["alice"]}}));
    check_broken(
        "server",
        "HANGOUT-SYNC-5",
        &(wrote.clone() + &alone + &told(3.5, &["bob", "carol"]) + &end(6.0)),
    );

    check_lawful("server", "HANGOUT-SYNC-6", &(wrote.clone() + &told(3.5, &EVERYBODY) + &end(6.0)));
    let twice = line(json!({"at": 3.6, "from": "server", "to": "alice", "metadata": written()}));
    check_broken("server", "HANGOUT-SYNC-6", &(wrote.clone() + &told(3.5, &EVERYBODY) + &twice + &end(6.0)));

    check_lawful("server", "HANGOUT-SYNC-7", &(THREE.to_owned() + &end(8.0)));
    let empty = sync(5.0, &["alice"], json!({}), all_three());
    check_broken("server", "HANGOUT-SYNC-7", &(THREE.to_owned() + &empty + &end(8.0)));
    let idle = line(json!({"at": 6, "from": "server", "to": "alice", "metadata": all_three()}));
    check_broken("server", "HANGOUT-SYNC-7", &(THREE.to_owned() + &idle + &end(8.0)));

    check_lawful("server", "HANGOUT-SYNC-8", &(wrote.clone() + &told(3.5, &EVERYBODY) + &end(6.0)));
    check_broken("server", "HANGOUT-SYNC-8", &(wrote + &told(3.5, &["alice", "carol"]) + &end(6.0)));
}

#[test]
fn changes_name_what_changed() {
    let four = json!({"indexes": ["alice", "bob", "carol", "dave"]});
    let everybody = ["alice", "bob", "carol", "dave"];
    let join = THREE.to_owned()
        + "{\"at\": 3, \"open\": \"dave\"}\n"
        + &line(json!({"at": 3, "from": "server", "to": "dave", "metadata": four}));
    let told = sync(3.5, &everybody, json!({"opened": ["dave"]}), four.clone());
    check_lawful("server", "HANGOUT-CHG-2", &(join.clone() + &told + &end(6.0)));
    // Something was told in time, and dave is not named.
    let unnamed = sync(3.5, &everybody, json!({"properties": ["alice"]}), four.clone());
    check_broken("server", "HANGOUT-CHG-2", &(join.clone() + ALICE_WRITES + &unnamed + &end(9.0)));

    let two = json!({"indexes": ["alice", "carol"]});
    let left = THREE.to_owned() + &bob_leaves();
    let told = sync(3.5, &["alice", "carol"], json!({"closed": ["bob"]}), two.clone());
    check_lawful("server", "HANGOUT-CHG-3", &(left.clone() + &told + &end(6.0)));
    let unnamed = sync(3.5, &["alice", "carol"], json!({"properties": ["alice"]}), two);
    check_broken("server", "HANGOUT-CHG-3", &(left + ALICE_WRITES + &unnamed + &end(9.0)));

    let wrote = THREE.to_owned() + ALICE_WRITES;
    let told = |lists: Value| sync(3.5, &EVERYBODY, lists, written());
    check_lawful(
        "server",
        "HANGOUT-CHG-4",
        &(wrote.clone() + &told(json!({"properties": ["alice"]})) + &end(6.0)),
    );
    let too_many = told(json!({"properties": ["alice", "bob"]}));
    check_broken("server", "HANGOUT-CHG-4", &(wrote.clone() + &too_many + &end(6.0)));

    check_lawful(
        "server",
        "HANGOUT-CHG-5",
        &(wrote.clone() + &told(json!({"properties": ["alice"]})) + &end(6.0)),
    );
    let twice = told(json!({"properties": ["alice", "alice"]}));
    check_broken("server", "HANGOUT-CHG-5", &(wrote.clone() + &twice + &end(6.0)));

    check_lawful(
        "server",
        "HANGOUT-CHG-6",
        &(wrote.clone() + &told(json!({"properties": ["alice"]})) + &end(6.0)),
    );
    let again = sync(4.0, &EVERYBODY, json!({"properties": ["alice"]}), written());
    check_broken(
        "server",
        "HANGOUT-CHG-6",
        &(wrote + &told(json!({"properties": ["alice"]})) + &again + &end(6.0)),
    );

    // dave comes and goes between two checks: both lists.
    let visit = "{\"at\": 3, \"open\": \"dave\"}\n{\"at\": 3.05, \"gone\": \"dave\", \"by\": \"dave\"}\n";
    let both = sync(3.5, &EVERYBODY, json!({"opened": ["dave"], "closed": ["dave"]}), all_three());
    check_lawful("server", "HANGOUT-CHG-7", &(THREE.to_owned() + visit + &both + &end(6.0)));
    // Only in `closed`: told as gone without ever having come.
    let closed = sync(3.5, &EVERYBODY, json!({"closed": ["<dave>"]}), all_three());
    check_broken("server", "HANGOUT-CHG-7", &(THREE.to_owned() + &closed + &end(6.0)));
}

#[test]
fn the_table() {
    check_lawful("server", "HANGOUT-META-2", &(THREE.to_owned() + &end(3.0)));
    let theirs = r#"
{"at": 1, "open": "bob"}
{"at": 1, "from": "server", "to": "bob", "metadata": {"index": "alice", "indexes": ["alice", "bob"]}}
"#;
    check_broken("server", "HANGOUT-META-2", &(ALICE.to_owned() + theirs + &end(1.5)));

    let wrote = THREE.to_owned() + ALICE_WRITES;
    let told = |table: Value| sync(3.5, &EVERYBODY, json!({"properties": ["alice"]}), table);
    check_lawful("server", "HANGOUT-META-3", &(wrote.clone() + &told(written()) + &end(6.0)));
    let without_bob = |reader: &str| {
        sync(3.5, &[reader], json!({"properties": ["alice"]}), json!({"indexes": ["alice", "carol"]}))
    };
    let broken = without_bob("alice")
        + &without_bob("carol")
        + &sync(3.5, &["bob"], json!({"properties": ["alice"]}), written());
    check_broken("server", "HANGOUT-META-3", &(wrote.clone() + &broken + &end(6.0)));

    check_lawful("server", "HANGOUT-META-5", &(wrote.clone() + &told(written()) + &end(6.0)));

    // A write changes the entry of its sender alone, whoever it names.
    check_lawful("server", "HANGOUT-PROP-3", &(wrote.clone() + &told(written()) + &end(6.0)));
    let mut another = written();
    another["properties"] = json!({"alice": {"name": "Alice"}, "bob": {"name": "Alice"}});
    check_broken("server", "HANGOUT-PROP-3", &(wrote.clone() + &told(another.clone()) + &end(6.0)));
    // Who wrote the same has it from his own write, or may have.
    let too = wrote.replace("\"at\": 3,", "\"at\": 3.1,").replace("\"from\": \"alice\"", "\"from\": \"bob\"");
    let both = sync(3.5, &EVERYBODY, json!({"properties": ["alice", "bob"]}), another);
    check_lawful("server", "HANGOUT-PROP-3", &(wrote.clone() + &too[THREE.len()..] + &both + &end(6.0)));
    let no_entry = json!({"indexes": EVERYBODY, "properties": {"alice": {"name": "Alice"}, "carol": null}});
    check_broken("server", "HANGOUT-META-5", &(wrote.clone() + &told(no_entry) + &end(6.0)));

    let left = THREE.to_owned() + &bob_leaves();
    let told_left = |table: Value| sync(3.5, &["alice", "carol"], json!({"closed": ["bob"]}), table);
    check_lawful(
        "server",
        "HANGOUT-META-6",
        &(left.clone() + &told_left(json!({"indexes": ["alice", "carol"]})) + &end(6.0)),
    );
    check_broken("server", "HANGOUT-META-6", &(left + &told_left(all_three()) + &end(6.0)));

    let join = THREE.to_owned()
        + "{\"at\": 3, \"open\": \"dave\"}\n"
        + &line(
            json!({"at": 3, "from": "server", "to": "dave", "metadata": {"indexes": ["alice", "bob", "carol", "dave"]}}),
        );
    let opened = json!({"opened": ["dave"]});
    let four = json!({"indexes": ["alice", "bob", "carol", "dave"]});
    let everybody = ["alice", "bob", "carol", "dave"];
    check_lawful(
        "server",
        "HANGOUT-META-7",
        &(join.clone() + &sync(3.5, &everybody, opened.clone(), four.clone()) + &end(6.0)),
    );
    let missing = sync(3.5, &EVERYBODY, opened.clone(), all_three()) + &sync(3.5, &["dave"], opened, four);
    check_broken("server", "HANGOUT-META-7", &(join + &missing + &end(6.0)));

    check_lawful("server", "HANGOUT-META-8", &(wrote.clone() + &told(written()) + &end(6.0)));
    let mut newer = written();
    newer["version"] = "NEW".into();
    check_broken("server", "HANGOUT-META-8", &(wrote + &told(newer) + &end(6.0)));
}

#[test]
fn relays() {
    let hello = || json!("hello");
    let to_bob = || chat(3.0, "alice", json!(["<bob>"]), hello());
    let direct = |at: f64, what: &str| chat(at, "alice", json!("<bob>"), json!(what));
    // A form of the address that once worked works again.
    let worked = || THREE.to_owned() + &direct(2.5, "first") + &relay(2.5, "alice", "bob", json!("first"));
    check_lawful(
        "server",
        "HANGOUT-RELAY-1",
        &(worked() + &direct(3.0, "hello") + &relay(3.9, "alice", "bob", hello()) + &end(6.0)),
    );
    check_broken(
        "server",
        "HANGOUT-RELAY-1",
        &(worked() + &direct(3.0, "hello") + &relay(4.2, "alice", "bob", hello()) + &end(6.0)),
    );
    check_broken("server", "HANGOUT-RELAY-1", &(worked() + &direct(3.0, "hello") + &end(6.0)));

    check_lawful(
        "server",
        "HANGOUT-RELAY-2",
        &(THREE.to_owned() + &to_bob() + &relay(3.0, "alice", "bob", hello()) + &end(6.0)),
    );
    let leak = to_bob() + &relay(3.0, "alice", "bob", hello()) + &relay(3.0, "alice", "carol", hello());
    check_broken("server", "HANGOUT-RELAY-2", &(THREE.to_owned() + &leak + &end(6.0)));

    check_lawful(
        "server",
        "HANGOUT-RELAY-4",
        &(THREE.to_owned() + &to_bob() + &relay(3.0, "alice", "bob", hello()) + &end(6.0)),
    );
    let altered = to_bob() + &relay(3.0, "alice", "bob", json!("HELLO"));
    check_broken("server", "HANGOUT-RELAY-4", &(THREE.to_owned() + &altered + &end(6.0)));

    for simple in [json!(null), json!(false), json!(0), json!("")] {
        let sent = chat(3.0, "alice", json!("<bob>"), simple.clone());
        check_lawful(
            "server",
            "HANGOUT-RELAY-5",
            &(THREE.to_owned() + &sent + &relay(3.0, "alice", "bob", simple) + &end(6.0)),
        );
        let altered = relay(3.0, "alice", "bob", json!({}));
        check_broken("server", "HANGOUT-RELAY-5", &(THREE.to_owned() + &sent + &altered + &end(6.0)));
    }

    let two = direct(3.0, "one") + &direct(3.1, "two");
    let in_order = relay(3.2, "alice", "bob", json!("one")) + &relay(3.3, "alice", "bob", json!("two"));
    check_lawful("server", "HANGOUT-RELAY-8", &(THREE.to_owned() + &two + &in_order + &end(6.0)));
    let swapped = relay(3.2, "alice", "bob", json!("two")) + &relay(3.3, "alice", "bob", json!("one"));
    check_broken("server", "HANGOUT-RELAY-8", &(THREE.to_owned() + &two + &swapped + &end(6.0)));

    let forged = line(json!({"at": 3, "from": "alice", "to": "server",
        "packet": {"to": "*", "packet": {"type": "metadata", "metadata": {"index": "<bob>"}}}}));
    check_lawful("server", "HANGOUT-RELAY-9", &(THREE.to_owned() + &forged + &end(6.0)));
    let relayed = line(json!({"at": 3, "from": "server", "to": "bob",
        "packet": {"from": "<alice>", "type": "metadata", "metadata": {"index": "<bob>"}}}));
    // The client has no business sending such a packet; nor has the server relaying it.
    check_accused("server", "HANGOUT-RELAY-9", &(THREE.to_owned() + &forged + &relayed + &end(6.0)));
}

#[test]
fn addresses() {
    let several = |at: f64, what: &str| chat(at, "alice", json!(["<bob>", "<carol>"]), json!(what));
    let both = |at: f64, what: &str| {
        relay(at, "alice", "bob", json!(what)) + &relay(at, "alice", "carol", json!(what))
    };
    let worked = || THREE.to_owned() + &several(2.5, "first") + &both(2.5, "first");
    check_lawful(
        "server",
        "HANGOUT-ADDR-2",
        &(worked() + &several(3.0, "hello") + &both(3.0, "hello") + &end(6.0)),
    );
    let one = relay(3.0, "alice", "bob", json!("hello"));
    check_broken("server", "HANGOUT-ADDR-2", &(worked() + &several(3.0, "hello") + &one + &end(6.0)));

    let all = |at: f64, what: &str| chat(at, "alice", json!("*"), json!(what));
    let worked = || THREE.to_owned() + &all(2.5, "first") + &both(2.5, "first");
    check_lawful(
        "server",
        "HANGOUT-ADDR-3",
        &(worked() + &all(3.0, "hello") + &both(3.0, "hello") + &end(6.0)),
    );
    check_broken("server", "HANGOUT-ADDR-3", &(worked() + &all(3.0, "hello") + &one + &end(6.0)));

    let doubled = chat(3.0, "alice", json!(["<bob>", "<bob>"]), json!("hello"));
    check_lawful("server", "HANGOUT-ADDR-4", &(THREE.to_owned() + &doubled + &one + &end(6.0)));
    check_broken("server", "HANGOUT-ADDR-4", &(THREE.to_owned() + &doubled + &one + &one + &end(6.0)));
}

#[test]
fn senders() {
    let sent = chat(3.0, "alice", json!("<bob>"), json!("hello"));
    check_lawful(
        "server",
        "HANGOUT-FROM-1",
        &(THREE.to_owned() + &sent + &relay(3.0, "alice", "bob", json!("hello")) + &end(6.0)),
    );
    check_broken(
        "server",
        "HANGOUT-FROM-1",
        &(THREE.to_owned() + &sent + &relay(3.0, "carol", "bob", json!("hello")) + &end(6.0)),
    );

    let forged = line(json!({"at": 3, "from": "alice", "to": "server",
        "packet": {"to": "<bob>", "packet": {"from": "<carol>", "type": "chat", "chat": "hello"}}}));
    check_lawful(
        "server",
        "HANGOUT-FROM-2",
        &(THREE.to_owned() + &forged + &relay(3.0, "alice", "bob", json!("hello")) + &end(6.0)),
    );
    check_broken(
        "server",
        "HANGOUT-FROM-2",
        &(THREE.to_owned() + &forged + &relay(3.0, "carol", "bob", json!("hello")) + &end(6.0)),
    );
    let wrapped = line(json!({"at": 3, "from": "server", "to": "bob",
        "packet": {"from": token("alice"), "to": token("bob"), "type": "chat", "chat": "hello"}}));
    let sent = chat(3.0, "alice", json!("<bob>"), json!("hello"));
    let delivered = relay(3.0, "alice", "bob", json!("hello"));
    check_lawful("server", "HANGOUT-RELAY-3", &(THREE.to_owned() + &sent + &delivered + &end(6.0)));
    check_broken("server", "HANGOUT-RELAY-3", &(THREE.to_owned() + &sent + &wrapped + &end(6.0)));

    let as_server = line(
        json!({"at": 3, "from": "server", "to": "bob", "packet": {"from": "server", "type": "chat", "chat": "hello"}}),
    );
    // Nobody asked for `server` here: it is the server's own doing.
    check_broken("server", "HANGOUT-FROM-3", &(THREE.to_owned() + &forged + &as_server + &end(6.0)));
    let forged = forged.replace("<carol>", "server");
    check_broken("server", "HANGOUT-FROM-2", &(THREE.to_owned() + &forged + &as_server + &end(6.0)));

    check_lawful("server", "HANGOUT-FROM-3", &(THREE.to_owned() + &end(3.0)));
    let notice = line(
        json!({"at": 3, "from": "server", "to": "bob", "packet": {"from": "server", "type": "notice", "notice": 1}}),
    );
    check_broken("server", "HANGOUT-FROM-3", &(THREE.to_owned() + &notice + &end(6.0)));
}

#[test]
fn pings_and_closes() {
    let ping = |at: f64| {
        line(json!({"at": at, "from": "server", "to": "alice", "ping": ""}))
            + &line(json!({"at": at, "from": "alice", "to": "server", "pong": ""}))
    };
    // 6.32: the phase is free, so the first may come at once.
    check_lawful(
        "server",
        "HANGOUT-PING-1",
        &(ALICE.to_owned() + &ping(3.0) + &ping(23.0) + &ping(43.9) + &end(50.0)),
    );
    check_broken("server", "HANGOUT-PING-1", &(ALICE.to_owned() + &ping(20.0) + &ping(38.9) + &end(40.0)));
    check_broken("server", "HANGOUT-PING-1", &(ALICE.to_owned() + &ping(21.1) + &end(30.0)));
    check_broken("server", "HANGOUT-PING-1", &(ALICE.to_owned() + &end(22.0)));

    let answered = |code: u16| {
        ALICE.to_owned()
            + &line(json!({"at": 1, "close": "alice", "by": "alice", "code": 1000}))
            + &line(json!({"at": 1, "close": "alice", "by": "server", "code": code}))
            + &end(3.0)
    };
    check_lawful("server", "HANGOUT-ROBUST-7", &answered(1000));
    check_broken("server", "HANGOUT-ROBUST-7", &answered(1005));
}

#[test]
fn clients() {
    let says =
        |at: f64, packet: Value| line(json!({"at": at, "from": "alice", "to": "server", "packet": packet}));
    let envelope = |to: &str, packet: Value| json!({"to": to, "packet": packet});
    let lawful =
        THREE.to_owned() + &says(3.0, envelope("<bob>", json!({"type": "chat", "chat": 1}))) + &end(4.0);
    check_lawful("client", "HANGOUT-CLIENT-1", &lawful);
    let broken = says(3.0, envelope("<bob>", json!({"type": "chat", "text": 1})));
    check_broken("client", "HANGOUT-CLIENT-1", &(THREE.to_owned() + &broken + &end(4.0)));

    check_lawful("client", "HANGOUT-CLIENT-3", &lawful);
    let broken = says(3.0, envelope("<dave>", json!({"type": "chat", "chat": 1})));
    check_broken("client", "HANGOUT-CLIENT-3", &(THREE.to_owned() + &broken + &end(4.0)));

    check_lawful("client", "HANGOUT-CLIENT-5", &lawful);
    let broken = says(3.0, envelope("*", json!({"type": "changes", "changes": {}})));
    check_broken("client", "HANGOUT-CLIENT-5", &(THREE.to_owned() + &broken + &end(4.0)));

    let ping =
        |at: f64, payload: &str| line(json!({"at": at, "from": "server", "to": "alice", "ping": payload}));
    let pong =
        |at: f64, payload: &str| line(json!({"at": at, "from": "alice", "to": "server", "pong": payload}));
    check_lawful(
        "client",
        "HANGOUT-CLIENT-4",
        &(ALICE.to_owned() + &ping(3.0, "x") + &pong(5.0, "x") + &end(8.0)),
    );
    // A Pong answers the Pings before its own as well.
    check_lawful(
        "client",
        "HANGOUT-CLIENT-4",
        &(ALICE.to_owned() + &ping(3.0, "x") + &ping(3.5, "y") + &pong(4.0, "y") + &end(8.0)),
    );
    check_broken(
        "client",
        "HANGOUT-CLIENT-4",
        &(ALICE.to_owned() + &ping(3.0, "x") + &pong(5.1, "x") + &end(8.0)),
    );
    check_broken(
        "client",
        "HANGOUT-CLIENT-4",
        &(ALICE.to_owned() + &ping(3.0, "x") + &pong(3.1, "z") + &end(8.0)),
    );

    let again = "{\"at\": 3, \"gone\": \"alice\", \"by\": \"server\"}\n{\"at\": 3.5, \"open\": \"alice\"}\n"
        .to_owned()
        + &line(
            json!({"at": 3.5, "from": "server", "to": "alice", "metadata": {"index": "dave", "indexes": ["dave", "bob"]}}),
        );
    let new = says(4.0, envelope("<dave>", json!({"type": "chat", "chat": 1})));
    check_lawful("client", "HANGOUT-CLIENT-7", &(ALICE.to_owned() + &again + &new + &end(5.0)));
    let old = says(4.0, envelope("<alice>", json!({"type": "chat", "chat": 1})));
    check_broken("client", "HANGOUT-CLIENT-7", &(ALICE.to_owned() + &again + &old + &end(5.0)));
}

/// Everything the document calls lawful, however odd, accuses nobody.
fn check_tolerated(what: &str, trace: &str) {
    for role in ["server", "client"] {
        let heard = hear(role, trace);
        assert!(heard.accused.is_empty(), "{what}: {:#?}", heard.messages);
    }
}

#[test]
fn what_the_document_tolerates_is_not_accused() {
    let visit = "{\"at\": 3, \"open\": \"dave\"}\n{\"at\": 3.05, \"gone\": \"dave\", \"by\": \"dave\"}\n";
    check_tolerated(
        "F17: nothing is said of a visit between two checks",
        &(THREE.to_owned() + visit + &end(6.0)),
    );
    let both = sync(3.5, &EVERYBODY, json!({"opened": ["dave"], "closed": ["dave"]}), all_three());
    check_tolerated("F17: both lists", &(THREE.to_owned() + visit + &both + &end(6.0)));

    let closed = sync(3.5, &EVERYBODY, json!({"closed": ["dave"]}), all_three());
    check_tolerated("6.19: only in `closed`", &(THREE.to_owned() + visit + &closed + &end(6.0)));

    let speaks =
        "{\"at\": 3, \"open\": \"dave\"}\n".to_owned() + &chat(3.0, "dave", json!("*"), json!("early"));
    let heard: String = EVERYBODY.iter().map(|reader| relay(3.0, "dave", reader, json!("early"))).collect();
    let four = json!({"indexes": ["alice", "bob", "carol", "dave"]});
    let everybody = ["alice", "bob", "carol", "dave"];
    let told = |at: f64| sync(at, &everybody, json!({"opened": ["dave"]}), four.clone());
    let greeting = line(json!({"at": 3, "from": "server", "to": "dave", "metadata": four}));
    check_tolerated(
        "F24: heard before announced",
        &(THREE.to_owned() + &speaks + &greeting + &heard + &told(3.5) + &end(6.0)),
    );
    let later: String = EVERYBODY.iter().map(|reader| relay(3.2, "dave", reader, json!("early"))).collect();
    check_tolerated(
        "F24: announced before heard",
        &(THREE.to_owned() + &speaks + &told(3.1) + &later + &end(6.0)),
    );

    let chat_after = chat(3.0, "alice", json!("*"), json!("after the write"));
    let relays = |at: f64| {
        ["bob", "carol"].map(|reader| relay(at, "alice", reader, json!("after the write"))).concat()
    };
    let wrote = THREE.to_owned() + ALICE_WRITES + &chat_after;
    let told = |at: f64| sync(at, &EVERYBODY, json!({"properties": ["alice"]}), written());
    check_tolerated(
        "F25: the relay overtakes the write",
        &(wrote.clone() + &relays(3.0) + &told(3.5) + &end(6.0)),
    );
    check_tolerated("F25: the sync comes first", &(wrote + &told(3.1) + &relays(3.2) + &end(6.0)));

    let no_greeting = THREE.lines().filter(|line| {
        !line.starts_with("{\"at\": 0, \"from\"")
            && !line.starts_with("{\"at\": 0.1, \"from\"")
            && !line.starts_with("{\"at\": 0.2, \"from\"")
    });
    check_tolerated("6.17: no greeting", &(no_greeting.collect::<Vec<_>>().join("\n") + "\n" + &end(3.0)));

    let echo = chat(3.0, "alice", json!("*"), json!("hello"));
    let others = ["bob", "carol"].map(|reader| relay(3.0, "alice", reader, json!("hello"))).concat();
    check_tolerated("6.6: no echo", &(THREE.to_owned() + &echo + &others + &end(6.0)));
    let own = relay(3.0, "alice", "alice", json!("hello"));
    check_tolerated("6.6: an echo", &(THREE.to_owned() + &echo + &others + &own + &end(6.0)));

    let twice = chat(3.0, "alice", json!(["*", "<bob>"]), json!("hello"));
    let again = relay(3.0, "alice", "bob", json!("hello"));
    check_tolerated(
        "6.4: wildcard and token, twice",
        &(THREE.to_owned() + &twice + &others + &again + &end(6.0)),
    );

    let mixed = line(json!({"at": 3, "from": "alice", "to": "server",
        "packet": {"to": ["server", "<bob>"], "packet": {"type": "chat", "chat": "hello"}}}));
    check_tolerated("6.9: for the server only", &(THREE.to_owned() + &mixed + &end(6.0)));
    check_tolerated("6.9: and the others too", &(THREE.to_owned() + &mixed + &again + &end(6.0)));

    let same = ALICE_WRITES.to_owned() + &ALICE_WRITES.replace("\"at\": 3", "\"at\": 5");
    let once = sync(3.5, &EVERYBODY, json!({"properties": ["alice"]}), written());
    check_tolerated(
        "6.16: writing the same again in silence",
        &(THREE.to_owned() + &same + &once + &end(8.0)),
    );
    let loud = sync(5.5, &EVERYBODY, json!({"properties": ["alice"]}), written());
    check_tolerated("6.16: announcing it", &(THREE.to_owned() + &same + &once + &loud + &end(8.0)));

    let burst = ALICE_WRITES.to_owned()
        + &ALICE_WRITES.replace("\"at\": 3", "\"at\": 3.02").replace("\"Alice\"", "\"Alicia\"");
    let final_value = json!({"indexes": EVERYBODY, "properties": {"alice": {"name": "Alicia"}}});
    let gathered = sync(3.5, &EVERYBODY, json!({"properties": ["alice"]}), final_value);
    check_tolerated("F6: writes are gathered", &(THREE.to_owned() + &burst + &gathered + &end(6.0)));

    // 6.23: who is gone may still be named as a writer.
    let last_words = THREE.to_owned()
        + &ALICE_WRITES.replace("\"alice\"", "\"bob\"").replace("\"at\": 3", "\"at\": 2.9")
        + &bob_leaves();
    let two = json!({"indexes": ["alice", "carol"]});
    let named =
        sync(3.5, &["alice", "carol"], json!({"closed": ["bob"], "properties": ["bob"]}), two.clone());
    check_tolerated("6.23: a gone writer is named", &(last_words.clone() + &named + &end(6.0)));
    let not_named = sync(3.5, &["alice", "carol"], json!({"closed": ["bob"]}), two);
    check_tolerated("6.23: a gone writer is not named", &(last_words + &not_named + &end(6.0)));

    // 6.35: the table may be newer than its announcement.
    let newer = "{\"at\": 3.4, \"open\": \"dave\"}\n".to_owned()
        + ALICE_WRITES
        + &sync(
            3.5,
            &EVERYBODY,
            json!({"properties": ["alice"]}),
            json!({"indexes": ["alice", "bob", "carol", "dave"], "properties": {"alice": {"name": "Alice"}}}),
        )
        + &sync(
            4.0,
            &everybody,
            json!({"opened": ["dave"]}),
            json!({"indexes": ["alice", "bob", "carol", "dave"], "properties": {"alice": {"name": "Alice"}}}),
        );
    check_tolerated("6.35: a table newer than its announcement", &(THREE.to_owned() + &newer + &end(6.0)));

    let between = THREE.to_owned()
        + ALICE_WRITES
        + &chat(3.4, "bob", json!("<alice>"), json!("hi"))
        + &line(json!({"at": 3.5, "from": "server", "to": "alice", "changes": {"properties": ["alice"]}}))
        + &relay(3.5, "bob", "alice", json!("hi"))
        + &line(json!({"at": 3.5, "from": "server", "to": "alice", "metadata": written()}))
        + &sync(3.5, &["bob", "carol"], json!({"properties": ["alice"]}), written());
    check_tolerated("6.15: a relay between `changes` and `metadata`", &(between + &end(6.0)));

    let lost = line(json!({"at": 3, "from": "bob", "to": "server", "text": "not JSON"}))
        + &line(json!({"at": 3, "close": "bob", "by": "server", "code": 1007}));
    let told =
        sync(3.5, &["alice", "carol"], json!({"closed": ["bob"]}), json!({"indexes": ["alice", "carol"]}));
    check_tolerated("F21: who talks garbage is cut off", &(THREE.to_owned() + &lost + &told + &end(6.0)));
    let ignored = line(json!({"at": 3, "from": "bob", "to": "server", "text": "not JSON"}));
    check_tolerated("5: garbage is ignored", &(THREE.to_owned() + &ignored + &end(6.0)));
}

/// A rule that is watched and has no trace here would go untested.
#[test]
fn every_watched_requirement_has_its_traces() {
    let source = include_str!("hangout_monitor.rs");
    for id in watched_of(&PROTOCOL) {
        for doors in [&["check_lawful"][..], &["check_broken", "check_accused"]] {
            let found = doors.iter().flat_map(|door| source.match_indices(door)).any(|(at, _)| {
                source[at..].chars().take(120).collect::<String>().contains(&format!("\"{id}\""))
            });
            assert!(found, "no {doors:?} for {id}");
        }
    }
}
