//! Peers with a relay, step by step.

use std::time::Duration;

use flowproof_reference::cow::{Edition, PeerCommand, PeerConfig, StoreKey, SyncType};
use serde_json::{Value, json};

use crate::herd::{Herd, change, users};

fn herd(peers: usize) -> Herd {
    let mut herd = Herd::new(vec![PeerConfig::default(); peers]);
    for peer in 0..peers {
        herd.start(peer);
        herd.settle();
        herd.now = herd.now + Duration::from_millis(1);
    }
    herd
}

/// The actions that a peer has said since the log had so many lines.
fn said(herd: &Herd, peer: usize, since: usize) -> Vec<String> {
    let start = format!("{peer} -> relay ");
    let texts = herd.log[since..].iter().filter_map(|line| line.strip_prefix(&start));
    texts
        .map(|text| {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let store = value["payload"]["syncType"].as_str().unwrap_or_default().to_owned();
            format!("{} {store}", value["action"].as_str().unwrap_or_default()).trim().to_owned()
        })
        .collect()
}

#[test]
fn the_first_peer_announces_itself_and_is_answered_by_nobody() {
    let herd = herd(1);
    assert_eq!(
        said(&herd, 0, 0),
        [
            "updatedRecord peers",
            "newList socketservers",
            "newList peers",
            "newList users",
            "newList projects"
        ]
    );
}

#[test]
fn a_newcomer_gets_what_it_lacks_and_gives_what_it_has() {
    let mut herd = herd(1);
    let items = StoreKey::of_project(SyncType::Items, "p1");
    herd.command(0, change(StoreKey::herd(SyncType::Projects), "p1", "one"));
    herd.command(0, change(items.clone(), "i1", "gate"));
    herd.peers.push(flowproof_reference::cow::Peer::new(PeerConfig::default()));
    herd.command(1, change(users(), "u1", "Ann"));
    herd.settle();
    let before = herd.log.len();
    herd.start(1);
    herd.settle();
    assert_eq!(herd.holdings(0), herd.holdings(1));
    assert!(said(&herd, 1, before).contains(&"newList items".to_owned()), "the project's lists follow");
    assert!(said(&herd, 0, before).contains(&"wantedList users".to_owned()));
    assert!(herd.peers[1].stores().get(&items, "i1").is_some());
}

#[test]
fn a_deletion_reaches_a_peer_that_was_away() {
    let mut herd = herd(2);
    herd.command(0, change(users(), "u1", "Ann"));
    herd.settle();
    herd.cut(1);
    herd.settle();
    herd.now = herd.now + Duration::from_millis(5);
    herd.command(0, PeerCommand::Delete { store: users(), id: "u1".to_owned() });
    herd.pass(Duration::from_secs(6));
    herd.settle();
    let record = herd.peers[1].stores().get(&users(), "u1").expect("kept as a tombstone");
    assert!(record.deleted);
    assert_ne!(herd.peers[1].id(), None, "it came back");
}

#[test]
fn the_next_oldest_takes_over() {
    let mut herd = herd(3);
    herd.cut(0);
    herd.settle();
    let before = herd.log.len();
    herd.command(2, PeerCommand::Sync(users()));
    herd.settle();
    assert_eq!(said(&herd, 1, before), ["syncinfo users"]);
    assert_eq!(said(&herd, 2, before), ["newList users"]);
}

#[test]
fn commands_do_what_they_say_to_whom_they_name() {
    let mut herd = herd(3);
    let id = |herd: &Herd, peer: usize| herd.peers[peer].id().map(|id| id.to_value()).expect("joined");
    let command = |payload: Value, target: Option<Value>| PeerCommand::Command {
        target,
        payload: payload.as_object().cloned().expect("an object"),
    };
    let before = herd.log.len();
    let target = Some(id(&herd, 1));
    herd.command(0, command(json!({ "command": "ping" }), target));
    herd.settle();
    assert_eq!((said(&herd, 1, before).len(), said(&herd, 2, before).len()), (1, 0));
    herd.command(0, change(users(), "u1", "Ann"));
    herd.settle();
    let named = id(&herd, 1);
    herd.command(0, command(json!({ "command": "purgePeer", "targetuser": named }), None));
    herd.settle();
    assert_eq!(herd.peers[1].stores().records(&users()).count(), 0);
    assert_eq!(herd.peers[2].stores().records(&users()).count(), 1);
    herd.command(0, command(json!({ "command": "kickPeer", "targetuser": named }), None));
    herd.settle();
    herd.pass(Duration::from_secs(20));
    assert_eq!(herd.peers[1].id(), None, "it stays away");
    assert!(herd.peers[2].id().is_some());
}

#[test]
fn a_peer_of_another_herd_leaves_without_a_word() {
    let stranger = PeerConfig { herd: Some("another".to_owned()), ..PeerConfig::default() };
    let mut herd = Herd::new(vec![PeerConfig::default(), stranger]);
    herd.start(0);
    herd.start(1);
    herd.settle();
    assert_eq!(said(&herd, 1, 0), Vec::<String>::new());
    assert_eq!(herd.peers[1].id(), None);
}

#[test]
fn edition_cow2_names_the_messages_its_way() {
    let config = PeerConfig { edition: Edition::Cow2, ..PeerConfig::default() };
    let mut herd = Herd::new(vec![config; 2]);
    herd.command(1, change(users(), "u1", "Ann"));
    herd.start(0);
    herd.settle();
    herd.now = herd.now + Duration::from_millis(1);
    herd.start(1);
    herd.settle();
    assert_eq!(herd.holdings(0), herd.holdings(1));
    assert!(said(&herd, 0, 0).contains(&"missingRecords peers".to_owned()));
    assert!(said(&herd, 1, 0).contains(&"requestedRecords users".to_owned()));
}
