//! One afternoon of a herd, written down.

use std::time::Duration;

use flowproof_reference::cow::{PeerCommand, PeerConfig, StoreKey, SyncType};
use serde_json::Value;

use crate::herd::{Herd, change, users};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// Tells the log since it had so many lines: what peers say, what the relay says of its own. What it passes on is told
/// once, where it was said.
fn tell(herd: &Herd, since: usize) -> String {
    let ids: Vec<String> = herd
        .peers
        .iter()
        .map(|peer| peer.id().map(|id| id.as_str().to_owned()).unwrap_or_default())
        .collect();
    let name = |id: &Value| {
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        ids.iter()
            .position(|known| *known == id)
            .map_or("somebody who left".to_owned(), |place| NAMES[place].to_owned())
    };
    let mut story = String::new();
    for line in &herd.log[since..] {
        let mut words = line.splitn(4, ' ');
        let (Some(from), Some(_), Some(to), Some(text)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            panic!("a line of the log is `from -> to text`, not {line}");
        };
        let value: Value = serde_json::from_str(text).expect("peers and relay say JSON");
        let who = |number: &str| number.parse::<usize>().map_or("relay", |place| NAMES[place]).to_owned();
        if from == "relay" && value.get("sender").is_some() {
            continue;
        }
        let target = match value.get("target") {
            Some(target) if from != "relay" => name(target),
            _ if from != "relay" => "all".to_owned(),
            _ => who(to),
        };
        story += &format!("{:>5} -> {target}: {}\n", who(from), sentence(&value, &name));
    }
    story
}

fn sentence(value: &Value, name: &dyn Fn(&Value) -> String) -> String {
    let payload = &value["payload"];
    let kind = payload["syncType"].as_str().unwrap_or_default();
    let about = match payload["project"].as_str() {
        Some(project) => format!("{kind} of {project}"),
        None => kind.to_owned(),
    };
    let of_peers = kind == "peers";
    let id = |id: &Value| if of_peers { name(id) } else { id.as_str().unwrap_or("?").to_owned() };
    let ids = |list: &Value, member: Option<&str>| {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<String> = list.iter().map(|one| id(member.map_or(one, |member| &one[member]))).collect();
        if ids.is_empty() { "nothing".to_owned() } else { ids.join(", ") }
    };
    let action = value["action"].as_str().unwrap_or_default();
    match action {
        "connected" => "you are connected".to_owned(),
        "peerGone" => format!("{} is gone", name(&payload["gonePeerID"])),
        "newList" => format!("of {about} I have {}", ids(&payload["list"], Some("_id"))),
        "syncinfo" => {
            let info = &payload["syncinfo"];
            let (send, want) = (ids(&info["IWillSent"], None), ids(&info["IShallReceive"], None));
            format!("of {about} I shall send you {send}, and you me {want}")
        }
        "wantedList" => format!("of {about} give us {}", ids(&payload["list"], None)),
        "missingItems" => format!("of {about} take {}", ids(&payload["items"], Some("_id"))),
        "updatedRecord" => {
            let record = &payload["record"];
            let state = match (&record["deleted"], &record["data"]["name"]) {
                (Value::Bool(true), _) => " is deleted".to_owned(),
                (_, Value::String(name)) => format!(" is \"{name}\""),
                _ => " is here".to_owned(),
            };
            format!("of {about}, {}{state}", id(&record["_id"]))
        }
        _ => format!("{action} {payload}"),
    }
}

#[test]
fn an_afternoon_of_three() {
    let mut herd = Herd::new(vec![PeerConfig::default(); NAMES.len()]);
    // Which message moves next is drawn from a seed: lines are lossless, and their order among each other is free.
    let mut seed: usize = 7;
    let mut told = 0;
    let mut story = String::new();
    let mut chapter = |herd: &mut Herd, title: &str| {
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if !herd.step(|_| seed >> 33) {
                break;
            }
        }
        story += &format!("--- {title}\n{}\n", tell(herd, told));
        told = herd.log.len();
        herd.now = herd.now + Duration::from_secs(1);
    };
    let projects = StoreKey::herd(SyncType::Projects);
    let items = StoreKey::of_project(SyncType::Items, "farm");
    herd.start(0);
    chapter(&mut herd, "alice is the first");
    herd.command(0, change(projects, "farm", "the farm"));
    herd.command(0, change(items.clone(), "gate", "a gate"));
    chapter(&mut herd, "alice begins to work");
    herd.start(1);
    chapter(&mut herd, "bob joins, and learns of the farm");
    herd.cut(1);
    chapter(&mut herd, "bob's line is cut");
    herd.command(1, change(items.clone(), "well", "a well"));
    herd.command(0, change(items.clone(), "gate", "a green gate"));
    chapter(&mut herd, "both go on, bob alone");
    herd.start(2);
    chapter(&mut herd, "carol joins meanwhile");
    herd.pass(Duration::from_secs(6));
    chapter(&mut herd, "bob is back, with news, and hears some");
    herd.command(2, PeerCommand::Delete { store: items.clone(), id: "gate".to_owned() });
    chapter(&mut herd, "carol deletes the gate");
    herd.command(0, PeerCommand::Close);
    chapter(&mut herd, "alice leaves");
    assert_eq!(herd.holdings(1), herd.holdings(2), "bob and carol hold the same");
    story += "--- what bob and carol hold\n";
    for (store, id, record) in herd.peers[1].stores().iter() {
        if store.kind != SyncType::Peers {
            let state = if record.deleted { "deleted" } else { "there" };
            let of = store.project.as_deref().map(|project| format!(" of {project}")).unwrap_or_default();
            story += &format!("{}{of}: {id} {state}\n", store.kind.name());
        }
    }
    assert!(
        herd.holdings(1).iter().all(|record| !record.starts_with(users().kind.name())),
        "nobody made a user"
    );
    insta::assert_snapshot!(story);
}
