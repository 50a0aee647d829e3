//! Commands by HTTP.

use flowproof_reference::polfan::{CommandError, DecodeError};
use serde_json::{Value, json};

use crate::world::World;

fn command(kind: &str, data: Value) -> String {
    json!({ "meta": { "type": kind, "ref": "r" }, "data": data }).to_string()
}

#[test]
fn a_command_is_answered_with_its_event_and_told_to_others() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    let body = command("CreateMessage", json!({ "topicId": place.topic, "content": "by post" }));
    let (status, event) = world.posts("alice", &body);
    assert_eq!((status, &event["meta"]), (200, &json!({ "type": "NewMessage", "ref": "r" })));
    for name in ["alice", "bob"] {
        let heard = world.heard(name);
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0]["meta"], json!({ "type": "NewMessage", "ref": null }));
    }
}

#[test]
fn each_kind_of_error_has_its_status() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    for (name, body, status, code) in [
        ("alice", "{".to_owned(), 400, "ProtocolException"),
        ("alice", command("Nothing", json!({})), 400, "ProtocolException"),
        ("nobody", command("GetSession", json!({})), 401, "AuthenticationException"),
        ("bob", command("DeleteRoom", json!({ "id": place.room })), 403, "AccessDeniedException"),
        ("bob", command("JoinRoom", json!({ "id": place.room })), 422, "UserExistsAlreadyException"),
    ] {
        let (found, event) = world.posts(name, &body);
        assert_eq!((found, event["data"]["code"].as_str()), (status, Some(code)));
    }
    assert_eq!(CommandError::Unexpected.status(), 500);
    assert_eq!(CommandError::Protocol(DecodeError::Meta).status(), 400);
}

#[test]
fn other_methods_paths_and_sizes_are_refused() {
    let mut world = World::new();
    let bearer = [("authorization", "bearer tok-alice")];
    assert_eq!(world.asks("GET", "/api", &bearer, "").status, 405);
    assert_eq!(world.asks("POST", "/elsewhere", &bearer, "").status, 404);
    assert_eq!(world.asks("GET", "/ws", &bearer, "").status, 426);
    assert_eq!(world.asks("POST", "/api", &bearer, &"x".repeat(70_000)).status, 413);
    assert_eq!(world.asks("POST", "/api", &[("authorization", "Basic tok-alice")], "{}").status, 401);
    assert_eq!(world.asks("POST", "/api", &[], "{}").status, 401);
}
