//! Who may register, and what becomes of those who may not.

use std::time::Duration;

use flowproof_reference::clusterio::{
    ControlConfig, ControlEvent, Edition, Master, MasterConfig, MasterEvent, SlaveConfig, SlaveEvent, Tokens,
};
use flowproof_reference::machine::{Action, Input, LinkId, Machine, Message, Outbox, Request, Time};
use serde_json::json;

use crate::cluster::{Cluster, master};

/// Signed with HS256 by another implementation: with this key, good until 2100; the same, expired in 2020; unsigned; and
/// with another key.
const KEY: &str = "the reference's secret, known to everybody";
const GOOD: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                    eyJpZCI6ImFwaSIsImlhdCI6MTU4NDc0ODgwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.\
                    rLKXw2m0Brsful2DWQZMv2NNppTbKMwy8dRY3pFHdMs";
const EXPIRED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                       eyJpZCI6ImFwaSIsImlhdCI6MTU4NDc0ODgwMCwiZXhwIjoxNTg0NzQ5NDAwfQ.\
                       pojJGrAIpQ-6Y7CKkPo70_j__qzY30LJr4G8kqCxEoM";
const UNSIGNED: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.\
                        eyJpZCI6ImFwaSIsImlhdCI6MTU4NDc0ODgwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.";
const OTHER_KEY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                         eyJpZCI6ImFwaSIsImlhdCI6MTU4NDc0ODgwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.\
                         b9kNy4WJY1tPhsEv7IyrPRBvajchKAbkko1aVLodabc";

fn check_token(token: &str, accepted: bool) {
    let tokens = Tokens { secret: Some(KEY.to_owned()), began: 1_750_000_000, ..Tokens::default() };
    let mut cluster = Cluster::new(MasterConfig { tokens, ..MasterConfig::default() });
    let alice = cluster.control(ControlConfig { token: Some(token.to_owned()), ..ControlConfig::default() });
    assert_eq!(cluster.controls_told[alice].contains(&ControlEvent::Ready), accepted, "{token}");
}

#[test]
fn tokens_are_good_when_signed_with_the_key_and_not_expired() {
    check_token(GOOD, true);
    for bad in [EXPIRED, UNSIGNED, OTHER_KEY, "", "x", "x.y.z", &GOOD[..GOOD.len() - 1], &format!("{GOOD}.")]
    {
        check_token(bad, false);
    }
}

#[test]
fn a_refused_control_ends_and_says_that_it_failed() {
    let mut cluster = Cluster::new(master());
    let alice =
        cluster.control(ControlConfig { token: Some("wrong".to_owned()), ..ControlConfig::default() });
    assert_eq!(cluster.control_ended(alice), Some(true));
}

#[test]
fn the_edition_of_the_seed_needs_no_token() {
    let mut seed = Cluster::new(MasterConfig { edition: Edition::Seed, ..master() });
    let north = seed.slave(SlaveConfig { edition: Edition::Seed, ..SlaveConfig::default() });
    assert!(seed.slaves_told[north].contains(&SlaveEvent::Ready));
    let mut alpha = Cluster::new(master());
    let north = alpha.slave(SlaveConfig::default());
    assert!(!alpha.slaves_told[north].contains(&SlaveEvent::Ready));
}

#[test]
fn the_newest_connection_of_a_slave_wins() {
    let mut cluster = Cluster::new(master());
    let older = cluster.plain_slave(41);
    let newer = cluster.plain_slave(41);
    assert!(cluster.slaves_told[older].contains(&SlaveEvent::Over));
    assert!(!cluster.slaves_told[newer].contains(&SlaveEvent::Over));
    let alice = cluster.plain_control();
    let slaves = cluster.ask(alice, "list_slaves", json!({})).expect("a list");
    assert_eq!(slaves["list"].as_array().map(Vec::len), Some(1));
    assert_eq!(slaves["list"][0]["connected"], true);
}

#[test]
fn whoever_takes_too_long_to_register_is_told_so() {
    let timeout = Some(Duration::from_secs(30));
    let mut master = Master::new(MasterConfig { handshake_timeout: timeout, ..master() });
    let (mut out, link) = (Outbox::default(), LinkId(0));
    let request = Request { upgrade: true, path: "/api/socket".to_owned(), ..Request::default() };
    master.handle(Time::ZERO, Input::Requested { link, request: &request }, &mut out);
    let at = master.deadline().expect("a limit");
    assert_eq!(at, Time::from_start(Duration::from_secs(30)));
    master.handle(at, Input::Tick, &mut out);
    let said: Vec<Action<MasterEvent>> = std::iter::from_fn(|| out.pop()).collect();
    let close = |action: &Action<MasterEvent>| matches!(action, Action::Send { message: Message::Text(text), .. } if text.contains("Handshake timeout"));
    assert!(said.iter().any(close));
    assert!(matches!(said.last(), Some(Action::Close { code: None, .. })));
    assert_eq!(master.deadline(), None);
}
