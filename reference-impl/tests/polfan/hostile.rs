//! Bad input: refs, envelopes, fields, and what never reaches the world behind them.

use flowproof_reference::machine::{Frame, WireFault};
use flowproof_reference::polfan::ServerConfig;
use serde_json::{Value, json};

use crate::world::{World, faulty};

const NOWHERE: &str = "b6f0f1de-6a1e-4a55-9d0c-7a8c2f3b1e01";

/// Sends one text and looks at the code and the ref of the answer.
fn check(text: &str) -> (String, Value) {
    let mut world = World::new();
    world.join("alice");
    world.sends("alice", text);
    let heard = world.heard("alice");
    assert_eq!(heard.len(), 1, "one answer to {text}: {heard:?}");
    let code = heard[0]["data"]["code"].as_str().unwrap_or_default().to_owned();
    // The connection goes on.
    world.does("alice", "GetSession", json!({}));
    (code, heard[0]["meta"]["ref"].clone())
}

fn is_made(reference: &Value) -> bool {
    reference.as_str().is_some_and(|text| text.len() == 36)
}

#[test]
fn what_cannot_be_read_gets_a_ref_of_the_servers_making() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for text in ["{", "", "5", "[]", "null", r#"{"data":{}}"#, r#"{"meta":[],"data":{}}"#, &deep] {
        let (code, reference) = check(text);
        assert_eq!(code, "ProtocolException", "{text}");
        assert!(is_made(&reference), "{text}: {reference}");
    }
}

#[test]
fn what_can_be_read_in_part_keeps_its_ref() {
    for text in [
        r#"{"meta":{"ref":"r"},"data":{}}"#,
        r#"{"meta":{"type":"","ref":"r"},"data":{}}"#,
        r#"{"meta":{"type":"joinroom","ref":"r"},"data":{}}"#,
        r#"{"meta":{"type":"NewMessage","ref":"r"},"data":{}}"#,
        r#"{"meta":{"type":"GetDebug","ref":"r"},"data":{}}"#,
        r#"{"meta":{"type":"JoinRoom","ref":"r"}}"#,
        r#"{"meta":{"type":"JoinRoom","ref":"r"},"data":[]}"#,
        r#"{"meta":{"type":"JoinRoom","ref":"r"},"data":{"id":5}}"#,
        r#"{"meta":{"type":"JoinRoom","ref":"r"},"data":{"id":"xyz"}}"#,
        r#"{"meta":{"type":"CreateSpace","ref":"r"},"data":{"name":" "}}"#,
    ] {
        assert_eq!(check(text), ("ProtocolException".to_owned(), json!("r")), "{text}");
    }
}

#[test]
fn refs_are_text_of_at_most_36_characters_or_null() {
    let with = |reference: &str| {
        format!(r#"{{"meta":{{"type":"JoinRoom","ref":{reference}}},"data":{{"id":"{NOWHERE}"}}}}"#)
    };
    let wide = format!("\"{}\"", "ż".repeat(36));
    for reference in ["\"1\"", "\" A-z \"", &wide] {
        let (code, found) = check(&with(reference));
        assert_eq!(code, "RoomNotFoundException");
        assert_eq!(found.to_string(), reference.replace('\\', ""));
    }
    for reference in ["null", "\"\""] {
        let (code, found) = check(&with(reference));
        assert_eq!(code, "RoomNotFoundException");
        assert!(is_made(&found));
    }
    let long = format!("\"{}\"", "a".repeat(37));
    for reference in ["5", "true", "{}", &long] {
        let (code, found) = check(&with(reference));
        assert_eq!(code, "ProtocolException");
        assert!(is_made(&found));
    }
}

#[test]
fn a_long_ref_keeps_its_command_from_being_carried_out() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    let long = "a".repeat(37);
    let message = json!({
        "meta": { "type": "CreateMessage", "ref": long },
        "data": { "topicId": place.topic, "content": "hello" },
    });
    world.sends("alice", &message.to_string());
    assert_eq!(world.heard("bob"), Vec::<Value>::new());
}

#[test]
fn ids_are_taken_in_either_case_and_compared_as_one() {
    let mut world = World::new();
    let place = world.furnished(&[]);
    let upper = place.space.as_str().map(str::to_uppercase);
    world.does("alice", "GetSpaceRooms", json!({ "id": upper }));
}

#[test]
fn wrong_frames_end_the_connection_or_are_told_of() {
    let mut world = World::new();
    world.join("alice");
    world.frame("alice", Frame::Binary(b"{}"));
    assert_eq!(world.kinds("alice"), ["Error"]);
    world.frame("alice", Frame::Text(&[0xff]));
    assert_eq!(world.heard("alice"), [json!("close 1007")]);
    for (fault, code) in [(WireFault::TooBig, "close 1009"), (WireFault::Protocol, "close 1002")] {
        world.join("bob");
        world.frame("bob", Frame::Broken(fault));
        assert_eq!(world.heard("bob"), [json!(code)]);
    }
}

#[test]
fn strangers_are_told_why_they_are_turned_away() {
    let mut world = World::new();
    for query in ["", "token=", "token=no-such-token", "access_token=tok-alice"] {
        world.connect("mallory", query);
        let heard = world.heard("mallory");
        assert_eq!(heard[0]["data"]["code"], "AuthenticationException", "{query}");
        assert_eq!(heard[1], "close 1008");
    }
}

#[test]
fn a_token_is_what_its_encoding_means() {
    for query in ["token=tok%20dave%26co%3D%231%2B%C5%BC", "a=b&token=tok+dave%26co%3d%231%2b%c5%bc"] {
        let mut world = World::new();
        world.connect("dave", query);
        assert_eq!(world.kinds("dave"), ["Session"], "{query}");
    }
}

#[test]
fn the_older_spelling_can_be_had() {
    let mut world = World::with(&ServerConfig { joined_room: true, ..ServerConfig::default() });
    let place = world.furnished(&[]);
    world.does("alice", "LeaveRoom", json!({ "id": place.room }));
    assert_eq!(world.says("alice", "JoinRoom", json!({ "id": place.room }))["meta"]["type"], "JoinedRoom");
}

#[test]
fn a_slow_server_answers_the_first_of_two_commands() {
    use flowproof_reference::machine::{Input, Machine};
    let mut world = World::with(&faulty("one-at-a-time"));
    world.join("alice");
    for reference in ["one", "two"] {
        world.sends(
            "alice",
            &format!(r#"{{"meta":{{"type":"GetSession","ref":"{reference}"}},"data":{{}}}}"#),
        );
    }
    world.now = world.server.deadline().expect("it thinks");
    world.input(Input::Tick);
    let heard = world.heard("alice");
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0]["meta"]["ref"], "one");
}
