//! The computation of permissions: the vectors of polfan.md section 2.9, and its laws.

use flowproof_reference::polfan::permission::{Setting, compute, cumulate};
use proptest::prelude::*;
use serde_json::json;

use crate::world::World;

/// A layer as the document writes it: `T`, `F`, `T*`, `-`; several roles as `F,T`.
fn layer(text: &str) -> Option<Setting> {
    let one = |text: &str| Setting { value: text.starts_with('T'), skip: text.ends_with('*') };
    if text == "-" { None } else { cumulate(text.split(',').map(one)) }
}

#[test]
fn the_vectors_of_the_document() {
    for (number, layers, result) in [
        (1, "F - - - - - -", false),
        (2, "F T - - - - -", true),
        (3, "F F,T - - - - -", true),
        (4, "F T F - - - -", false),
        (5, "F T* F F F F F", true),
        (6, "F - T F - - -", false),
        (7, "F - T* F F - F", true),
        (8, "T* F F F F F F", true),
        (9, "F T F T F T -", true),
        (10, "F T F* T* T T T", false),
        (11, "T F,F - - - - -", false),
        (12, "T - - - - - F", false),
        (13, "F T,F* - F - - -", false),
        (14, "F T*,F - F - - -", true),
    ] {
        let found = compute(layers.split(' ').map(layer));
        assert_eq!(found, Some(result), "vector {number}");
    }
}

fn setting() -> impl Strategy<Value = Setting> {
    (any::<bool>(), any::<bool>()).prop_map(|(value, skip)| Setting { value, skip })
}

proptest! {
    #[test]
    fn a_defined_first_layer_always_gives_a_result(
        first in setting(),
        rest in prop::collection::vec(prop::option::of(setting()), 0..7),
    ) {
        prop_assert!(compute(std::iter::once(Some(first)).chain(rest)).is_some());
    }

    #[test]
    fn nothing_after_a_skip_is_heard(
        before in prop::collection::vec(prop::option::of(setting()), 0..3),
        value in any::<bool>(),
        after in prop::collection::vec(prop::option::of(setting()), 0..4),
        other in prop::collection::vec(prop::option::of(setting()), 0..4),
    ) {
        let upto: Vec<_> = before.into_iter().chain([Some(Setting { value, skip: true })]).collect();
        let one = compute(upto.iter().copied().chain(after));
        prop_assert_eq!(one, compute(upto.into_iter().chain(other)));
    }

    #[test]
    fn without_skip_the_last_defined_layer_counts(layers in prop::collection::vec(prop::option::of(any::<bool>()), 1..8)) {
        let settings = layers.iter().map(|layer| layer.map(|value| Setting { value, skip: false }));
        prop_assert_eq!(compute(settings), layers.iter().rev().copied().flatten().next());
    }

    #[test]
    fn one_permit_among_roles_is_enough_and_their_order_means_nothing(mut roles in prop::collection::vec(setting(), 1..6)) {
        let together = cumulate(roles.clone()).expect("there is a role");
        prop_assert_eq!(together.value, roles.iter().any(|role| role.value));
        prop_assert_eq!(together.skip, roles.iter().any(|role| role.value == together.value && role.skip));
        roles.reverse();
        prop_assert_eq!(cumulate(roles), Some(together));
    }
}

#[test]
fn what_is_granted_in_a_room_can_be_done_there_and_nowhere_else() {
    let mut world = World::new();
    let place = world.furnished(&["bob"]);
    let other = json!({ "spaceId": place.space, "name": "Garden", "description": "" });
    let garden = world.does("alice", "CreateRoom", other)["summary"]["id"].clone();
    let granted = json!([{ "name": "ManageRoom", "value": true, "skip": false }]);
    let grant = json!({ "userId": "1002", "layer": "Room", "layerId": place.room, "permissions": granted });
    world.does("alice", "SetMemberPermissions", grant.clone());
    world.heard("bob");
    assert_eq!(world.fails("bob", "SetMemberPermissions", grant), "AccessDeniedException");
    assert_eq!(world.fails("bob", "DeleteRoom", json!({ "id": garden })), "AccessDeniedException");
    world.does("bob", "DeleteRoom", json!({ "id": place.room }));
}

#[test]
fn ids_of_different_places_contradict_each_other() {
    let mut world = World::new();
    let place = world.furnished(&[]);
    let other = world.does("alice", "CreateSpace", json!({ "name": "Market" }))["space"]["id"].clone();
    let asked = json!({ "spaceId": other, "roomId": place.room });
    assert_eq!(world.fails("alice", "GetComputedPermissions", asked), "ProtocolException");
    let asked = json!({ "topicId": place.topic, "names": ["CreateMessage", "Nonsense"] });
    let known = json!([{ "name": "CreateMessage", "value": true, "skip": false }]);
    assert_eq!(world.does("alice", "GetComputedPermissions", asked)["permissions"], known);
}
