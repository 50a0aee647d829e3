//! `close`, exit statuses, and the end of the master.

use std::time::Duration;

use flowproof_reference::clusterio::{ControlCommand, MasterCommand, MasterEvent, SlaveCommand, SlaveEvent};
use serde_json::json;

use crate::cluster::{Cluster, master};

#[test]
fn a_control_whose_requests_went_well_says_so() {
    let mut cluster = Cluster::new(master());
    let alice = cluster.plain_control();
    assert!(cluster.ask(alice, "list_slaves", json!({})).is_ok());
    assert_eq!(cluster.control_ended(alice), None);
    cluster.tell_control(alice, ControlCommand::Quit);
    assert_eq!(cluster.control_ended(alice), Some(false));
}

#[test]
fn a_control_that_was_told_an_error_says_that_it_failed() {
    let mut cluster = Cluster::new(master());
    let alice = cluster.plain_control();
    assert!(cluster.ask(alice, "get_instance_config", json!({ "instance_id": 9 })).is_err());
    cluster.tell_control(alice, ControlCommand::Quit);
    assert_eq!(cluster.control_ended(alice), Some(true));
}

#[test]
fn a_slave_that_leaves_is_listed_as_gone() {
    let mut cluster = Cluster::new(master());
    let north = cluster.plain_slave(41);
    let alice = cluster.plain_control();
    cluster.tell_slave(north, SlaveCommand::Quit);
    assert!(cluster.slaves_told[north].contains(&SlaveEvent::Over));
    assert!(cluster.master_told.contains(&MasterEvent::SlaveLost(41)));
    let slaves = cluster.ask(alice, "list_slaves", json!({})).expect("a list");
    assert_eq!(slaves["list"][0]["connected"], false);
}

#[test]
fn a_request_fails_when_nobody_answers_it_in_time() {
    let mut cluster = Cluster::new(master());
    let alice = cluster.plain_control();
    cluster.tell_master(MasterCommand::ShutDown);
    assert_eq!(cluster.control_ended(alice), Some(false), "nothing was left to be done");
    cluster.pass(Duration::from_secs(60));
    assert_eq!(cluster.control_ended(alice), Some(false));
}

#[test]
fn a_master_that_stops_takes_leave_of_everybody_and_takes_nobody_more() {
    let mut cluster = Cluster::new(master());
    let north = cluster.plain_slave(41);
    let alice = cluster.plain_control();
    cluster.tell_master(MasterCommand::ShutDown);
    assert!(cluster.slaves_told[north].contains(&SlaveEvent::Over));
    assert!(cluster.control_ended(alice).is_some());
    let south = cluster.plain_slave(42);
    assert!(!cluster.slaves_told[south].contains(&SlaveEvent::Ready));
}
