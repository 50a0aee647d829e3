//! Spaces, rooms, topics, messages and roles: who is answered, and who is told.

use serde_json::{Value, json};

use crate::world::World;

#[test]
fn a_session_comes_first_and_tells_where_the_user_is() {
    let mut world = World::new();
    let session = world.join("alice");
    assert_eq!(session["meta"], json!({ "type": "Session", "ref": null }));
    assert_eq!(session["data"]["user"]["nick"], "alice");
    assert_eq!(session["data"]["state"]["spaces"][0]["name"], "Harbour");
    assert_eq!(session["data"]["state"]["rooms"][0]["topics"][0]["name"], "Weather");
    assert_eq!(world.join("bob")["data"]["state"], json!({ "spaces": [], "rooms": [] }));
}

#[test]
fn a_message_reaches_the_members_of_its_room_and_nobody_else() {
    let mut world = World::new();
    let place = world.furnished(&["bob", "carol"]);
    world.join("dave");
    world.does("dave", "JoinSpace", json!({ "id": place.space }));
    for name in ["alice", "bob", "carol"] {
        world.heard(name);
    }
    let own = world.does("bob", "CreateMessage", json!({ "topicId": place.topic, "content": "cześć" }));
    assert_eq!(own["message"]["content"], "cześć");
    assert_eq!(own["message"]["author"]["id"], "1002");
    for name in ["alice", "carol"] {
        let heard = world.heard(name);
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0]["meta"], json!({ "type": "NewMessage", "ref": null }));
        assert_eq!(heard[0]["data"], own);
    }
    assert_eq!(world.heard("dave"), Vec::<Value>::new());
}

#[test]
fn a_join_is_answered_with_the_room_and_told_to_its_members() {
    let mut world = World::new();
    let place = world.furnished(&["carol"]);
    world.join("bob");
    assert_eq!(world.fails("bob", "JoinRoom", json!({ "id": place.room })), "UserNotFoundException");
    world.does("bob", "JoinSpace", json!({ "id": place.space }));
    assert_eq!(world.kinds("alice"), ["SpaceMemberJoined"]);
    world.heard("carol");
    let joined = world.does("bob", "JoinRoom", json!({ "id": place.room }));
    assert_eq!(joined["room"]["topics"][0]["id"], place.topic);
    for name in ["alice", "carol"] {
        let heard = world.heard(name);
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0]["meta"]["type"], "RoomMemberJoined");
        assert_eq!(heard[0]["data"]["member"]["user"]["id"], "1002");
    }
    assert_eq!(world.fails("bob", "JoinRoom", json!({ "id": place.room })), "UserExistsAlreadyException");
}

#[test]
fn another_connection_of_the_same_user_is_told_once_without_the_ref() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    world.connect("twin", "token=tok-bob");
    world.heard("twin");
    world.does("bob", "LeaveRoom", json!({ "id": place.room }));
    assert_eq!(
        world.heard("twin"),
        [json!({ "meta": { "type": "RoomLeft", "ref": null }, "data": { "id": place.room } })]
    );
    world.does("bob", "JoinRoom", json!({ "id": place.room }));
    assert_eq!(world.kinds("twin"), ["RoomJoined"]);
}

#[test]
fn to_leave_a_space_is_to_leave_its_rooms() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    world.does("bob", "LeaveSpace", json!({ "id": place.space }));
    assert_eq!(world.kinds("alice"), ["RoomMemberLeft", "SpaceMemberLeft"]);
    let members = world.does("alice", "GetRoomMembers", json!({ "id": place.room }));
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.fails("bob", "LeaveSpace", json!({ "id": place.space })), "UserNotFoundException");
}

#[test]
fn memberships_outlive_connections() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    world.vanishes("bob");
    assert_eq!(world.kinds("alice"), Vec::<String>::new());
    let session = world.join("bob");
    assert_eq!(session["data"]["state"]["rooms"][0]["id"], place.room);
}

#[test]
fn a_denied_deletion_changes_nothing_and_is_told_to_nobody() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    assert_eq!(world.fails("bob", "DeleteRoom", json!({ "id": place.room })), "AccessDeniedException");
    assert_eq!(world.heard("alice"), Vec::<Value>::new());
    let rooms = world.does("alice", "GetSpaceRooms", json!({ "id": place.space }));
    assert_eq!(rooms["summaries"][0]["id"], place.room);
}

#[test]
fn a_deleted_space_takes_its_rooms_and_topics_with_it() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    world.does("alice", "DeleteSpace", json!({ "id": place.space }));
    assert_eq!(world.kinds("bob"), ["SpaceDeleted"]);
    assert_eq!(world.fails("bob", "JoinSpace", json!({ "id": place.space })), "SpaceNotFoundException");
    assert_eq!(world.fails("bob", "JoinRoom", json!({ "id": place.room })), "RoomNotFoundException");
    let message = json!({ "topicId": place.topic, "content": "hello" });
    assert_eq!(world.fails("bob", "CreateMessage", message), "TopicNotFoundException");
}

#[test]
fn roles_are_given_and_taken_once_and_end_with_their_deletion() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    let role = json!({ "spaceId": place.space, "name": "pilot", "color": "#00aaff" });
    let role = world.does("alice", "CreateRole", role)["role"]["id"].clone();
    let held = json!({ "roleId": role, "userId": "1002", "spaceId": place.space });
    let update = world.does("alice", "AssignRole", held.clone());
    assert_eq!(update["member"]["roles"], json!([role]));
    assert_eq!(world.kinds("bob"), ["NewRole", "SpaceMemberUpdate"]);
    assert_eq!(world.fails("alice", "AssignRole", held.clone()), "RoleExistsAlreadyException");
    assert_eq!(world.fails("bob", "AssignRole", held.clone()), "AccessDeniedException");
    world.does("alice", "DeleteRole", json!({ "roleId": role, "spaceId": place.space }));
    let members = world.does("alice", "GetSpaceMembers", json!({ "id": place.space }));
    assert_eq!(members["members"][1]["roles"], json!([]));
    assert_eq!(world.fails("alice", "DeassignRole", held), "RoleNotFoundException");
}

#[test]
fn a_shut_down_server_says_goodbye() {
    use flowproof_reference::machine::Input;
    use flowproof_reference::polfan::ServerCommand;
    let mut world = World::new();
    world.join("alice");
    world.input(Input::Command(ServerCommand::ShutDown));
    let heard = world.heard("alice");
    assert_eq!(heard[0]["meta"]["type"], "Bye");
    assert_eq!(heard[1], "close 1001");
}
