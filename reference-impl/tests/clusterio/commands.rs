//! What controls ask for has a true effect, which later requests show.

use std::time::Duration;

use flowproof_reference::clusterio::{ControlEvent, SlaveCommand, SlaveEvent};
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, master};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn config(id: i64, name: &str) -> Value {
    json!({ "serialized_config": { "groups": [{ "name": "instance", "fields": { "id": id, "name": name } }] } })
}

#[test]
fn every_request_of_the_catalogue_does_what_it_says() {
    let mut cluster = Cluster::new(master());
    cluster.plain_slave(41);
    let alice = cluster.plain_control();
    let nothing = || Ok(Map::new());

    let slaves = cluster.ask(alice, "list_slaves", json!({})).expect("a list");
    assert_eq!(slaves["list"][0]["id"], 41);
    assert_eq!(slaves["list"][0]["connected"], true);
    assert_eq!(cluster.ask(alice, "create_instance", config(9, "nauvis")), nothing());
    let listed = cluster.ask(alice, "list_instances", json!({})).expect("a list");
    assert_eq!(listed["list"], json!([{ "name": "nauvis", "id": 9, "assigned_slave": null }]));

    let rename = json!({ "instance_id": 9, "field": "instance.name", "value": "nauvis-2" });
    assert_eq!(cluster.ask(alice, "set_instance_config_field", rename), nothing());
    let read =
        cluster.ask(alice, "get_instance_config", json!({ "instance_id": 9 })).expect("a configuration");
    assert_eq!(read["serialized_config"]["groups"][0]["fields"]["name"], "nauvis-2");

    assert_eq!(
        cluster.ask(alice, "assign_instance_command", json!({ "instance_id": 9, "slave_id": 41 })),
        nothing()
    );
    let rcon = |command: &str| json!({ "instance_id": 9, "command": command });
    assert!(cluster.ask(alice, "send_rcon", rcon("/time")).is_err(), "it does not run yet");
    assert_eq!(cluster.ask(alice, "create_save", json!({ "instance_id": 9 })), nothing());
    assert_eq!(cluster.ask(alice, "start_instance", json!({ "instance_id": 9 })), nothing());
    assert!(cluster.ask(alice, "start_instance", json!({ "instance_id": 9 })).is_err(), "it runs already");
    assert_eq!(cluster.ask(alice, "send_rcon", rcon("/saves")), Ok(object(json!({ "result": "1\n" }))));
    assert!(cluster.ask(alice, "delete_instance", json!({ "instance_id": 9 })).is_err(), "it runs");
    assert_eq!(cluster.ask(alice, "stop_instance", json!({ "instance_id": 9 })), nothing());
    assert_eq!(cluster.ask(alice, "delete_instance", json!({ "instance_id": 9 })), nothing());
    assert_eq!(cluster.ask(alice, "list_instances", json!({})).expect("a list")["list"], json!([]));
}

#[test]
fn output_reaches_subscribers_only() {
    let mut cluster = Cluster::new(master());
    let north = cluster.plain_slave(41);
    let (alice, bob) = (cluster.plain_control(), cluster.plain_control());
    let subscribed = cluster.ask(bob, "set_instance_output_subscriptions", json!({ "instance_ids": [9] }));
    assert_eq!(subscribed, Ok(Map::new()));
    let output = json!({ "instance_id": 9, "output": {
        "source": "stdout", "received": 1, "format": "none", "type": "generic", "message": "hello",
    } });
    cluster.tell_slave(north, SlaveCommand::Output(object(output.clone())));
    let heard = ControlEvent::Heard("instance_output_event".to_owned(), object(output));
    assert!(cluster.controls_told[bob].contains(&heard));
    assert!(!cluster.controls_told[alice].contains(&heard));
}

#[test]
fn instances_that_a_slave_reports_are_taken_over_and_come_back_to_it() {
    let mut cluster = Cluster::new(master());
    let groups = json!({ "groups": [{ "name": "instance", "fields": { "id": 9, "name": "nauvis" } }] });
    let slave = flowproof_reference::clusterio::SlaveConfig {
        token: Some(crate::cluster::TOKEN.to_owned()),
        instances: vec![object(groups)],
        ..Default::default()
    };
    let north = cluster.slave(slave);
    let alice = cluster.plain_control();
    let listed = cluster.ask(alice, "list_instances", json!({})).expect("a list");
    assert_eq!(listed["list"], json!([{ "name": "nauvis", "id": 9, "assigned_slave": 41 }]));

    // A slave that comes back without it is told of it, and can start it.
    cluster.cut_slave(north);
    cluster.plain_slave(41);
    assert_eq!(cluster.ask(alice, "start_instance", json!({ "instance_id": 9 })), Ok(Map::new()));
}

#[test]
fn whoever_asks_over_a_lost_slave_is_told() {
    let mut cluster = Cluster::new(master());
    let north = cluster.plain_slave(41);
    let alice = cluster.plain_control();
    assert!(cluster.ask(alice, "create_instance", config(9, "nauvis")).is_ok());
    assert!(
        cluster.ask(alice, "assign_instance_command", json!({ "instance_id": 9, "slave_id": 41 })).is_ok()
    );
    cluster.cut_slave(north);
    let refused = cluster.ask(alice, "start_instance", json!({ "instance_id": 9 }));
    assert_eq!(refused, Err("slave 41 of instance 9 is not connected".to_owned()));
}

#[test]
fn progress_is_told_a_second_later_and_a_finished_technology_at_once() {
    let mut cluster = Cluster::new(master());
    let north = cluster.plain_slave(41);
    let contribute = |amount: f64| {
        let data = json!({ "name": "rockets", "level": 1, "contribution": amount });
        SlaveCommand::Tell("research_sync:contribution_event".to_owned(), object(data))
    };
    cluster.tell_slave(north, contribute(0.5));
    cluster.pass(Duration::from_secs(1));
    cluster.tell_slave(north, contribute(0.5));
    let known = json!({ "technologies": [] });
    cluster.tell_slave(
        north,
        SlaveCommand::Request("research_sync:sync_technologies".to_owned(), object(known)),
    );
    let answered = SlaveEvent::Answered("research_sync:sync_technologies".to_owned(), true);
    assert!(cluster.slaves_told[north].contains(&answered));
}
