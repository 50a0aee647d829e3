//! CONNECT does what it is for.

use std::time::Duration;

use flowproof_reference::ptpchat::{
    Addressing, Edition, Fault, Filtering, Guid, Mapping, NodeCommand, NodeConfig, NodeEvent, Whom,
};
use serde_json::json;

use crate::net::{Net, Weather, at, config, ip, server};

const SAM: &str = "192.0.2.1:9001";

fn channel() -> Guid {
    Guid::parse("c0ffee00-0000-4000-8000-000000000001").expect("a GUID")
}

/// Alice and bob, each behind a box, and sam whom both know.
fn two_boxes(mapping: Mapping, change: impl Fn(&mut NodeConfig), weather: Weather) -> (Net, usize, usize) {
    let mut net = Net::new(7, weather);
    let node = |net: &mut Net, address: &str, seed| {
        let mut settings = config(Edition::Udp201603, seed, &[SAM]);
        change(&mut settings);
        net.add(address, settings)
    };
    let (alice, bob) = (node(&mut net, "10.0.0.2", 1), node(&mut net, "10.0.1.3", 2));
    let mut settings = server(Edition::Udp201603);
    change(&mut settings);
    net.add("192.0.2.1", settings);
    net.translate("10.0.0.2", "198.51.100.2", mapping, Filtering::AddressAndPort);
    net.translate("10.0.1.3", "203.0.113.3", mapping, Filtering::AddressAndPort);
    net.pass(Duration::from_secs(5));
    (net, alice, bob)
}

fn say(net: &mut Net, from: usize, to: Whom, text: &str) {
    let command = NodeCommand::Message {
        channel: Some("lobby".into()),
        channel_id: channel(),
        text: text.into(),
        to: vec![to],
    };
    net.command(from, command);
}

fn join(net: &mut Net, one: usize) {
    let command = NodeCommand::Join { channel: "lobby".into(), channel_id: channel(), target: None };
    net.command(one, command);
}

fn heard(net: &Net, one: usize) -> usize {
    net.events(one).iter().filter(|event| matches!(event, NodeEvent::Received(_))).count()
}

fn connect(net: &mut Net, one: usize) {
    net.command(
        one,
        NodeCommand::Connect { to: Whom::Ip(ip("203.0.113.3")), through: Some(Whom::Address(at(SAM))) },
    );
}

fn talk_both_ways(net: &mut Net, alice: usize, bob: usize) -> (usize, usize) {
    let (alice_id, bob_id) = (net.node(alice).id(), net.node(bob).id());
    join(net, alice);
    join(net, bob);
    say(net, alice, Whom::Id(bob_id), "hello bob");
    say(net, bob, Whom::Id(alice_id), "hello alice");
    net.pass(Duration::from_secs(12));
    (heard(net, alice), heard(net, bob))
}

/// Alice speaks, and bob sends nothing to her that would open his box: how much of it reaches him.
fn talk_one_way(net: &mut Net, alice: usize, bob: usize) -> usize {
    let delivered =
        |net: &Net| net.events(alice).iter().filter(|event| matches!(event, NodeEvent::Delivered(_))).count();
    let bob_id = net.node(bob).id();
    join(net, alice);
    net.pass(Duration::from_secs(5));
    let before = delivered(net);
    say(net, alice, Whom::Id(bob_id), "hello bob");
    net.pass(Duration::from_secs(12));
    delivered(net) - before
}

#[test]
fn nothing_passes_two_boxes_without_connect() {
    let (mut net, alice, bob) = two_boxes(Mapping::Preserving, |_| {}, Weather::default());
    assert_eq!(talk_one_way(&mut net, alice, bob), 0);
}

#[test]
fn connect_lets_one_speak_who_was_not_spoken_to() {
    let (mut net, alice, bob) = two_boxes(Mapping::Preserving, |_| {}, Weather::default());
    connect(&mut net, alice);
    net.pass(Duration::from_secs(5));
    assert_eq!(talk_one_way(&mut net, alice, bob), 1);
}

#[test]
fn connect_opens_a_path_through_two_boxes_in_both_directions() {
    let (mut net, alice, bob) = two_boxes(Mapping::Preserving, |_| {}, Weather::default());
    connect(&mut net, alice);
    net.pass(Duration::from_secs(5));
    for one in [alice, bob] {
        assert!(
            net.events(one).iter().any(|event| matches!(event, NodeEvent::PathOpen(_))),
            "{:?}",
            net.events(one)
        );
    }
    assert_eq!(talk_both_ways(&mut net, alice, bob), (1, 1));
}

#[test]
fn connect_gets_through_a_network_that_loses_repeats_and_mixes() {
    let weather = Weather { lost: 20, twice: 20, delay: Duration::from_millis(150) };
    let (mut net, alice, bob) = two_boxes(Mapping::Preserving, |_| {}, weather);
    connect(&mut net, alice);
    net.pass(Duration::from_secs(12));
    assert_eq!(talk_both_ways(&mut net, alice, bob), (1, 1));
}

#[test]
fn fixed_addresses_lead_there_too() {
    let fixed = |settings: &mut NodeConfig| settings.addressing = Addressing::Fixed;
    let (mut net, alice, bob) = two_boxes(Mapping::Preserving, fixed, Weather::default());
    let to = Whom::Id(net.node(bob).id());
    net.command(alice, NodeCommand::Connect { to, through: Some(Whom::Address(at(SAM))) });
    net.pass(Duration::from_secs(5));
    assert_eq!(talk_both_ways(&mut net, alice, bob), (1, 1));
}

#[test]
fn an_intermediary_that_does_not_swap_helps_nobody() {
    for fault in [Fault::SwapsNotAtSecond, Fault::SwapsNotAtFourth, Fault::BelievesSourcePort] {
        let plant = |settings: &mut NodeConfig| {
            settings.faults.insert(fault);
        };
        let (mut net, alice, bob) = two_boxes(Mapping::Preserving, plant, Weather::default());
        connect(&mut net, alice);
        net.pass(Duration::from_secs(5));
        assert_eq!(talk_one_way(&mut net, alice, bob), 0, "{fault:?}");
    }
}

#[test]
fn boxes_that_change_ports_by_destination_are_not_overcome() {
    let (mut net, alice, bob) = two_boxes(Mapping::PerDestination, |_| {}, Weather::default());
    connect(&mut net, alice);
    net.pass(Duration::from_secs(40));
    assert_eq!(talk_both_ways(&mut net, alice, bob), (0, 0));
    assert_eq!((net.sockets(alice), net.sockets(bob)), (1, 1), "the new sockets are given back");
}

#[test]
fn a_path_that_nobody_answers_is_asked_for_four_times_and_given_up() {
    let mut net = Net::fair();
    let alice = net.add("127.0.0.2", config(Edition::Seed, 1, &["127.0.0.1:9001"]));
    net.pass(Duration::from_secs(1));
    let to = Whom::Ip(ip("127.0.0.3"));
    net.command(alice, NodeCommand::Connect { to, through: None });
    net.pass(Duration::from_secs(20));
    let asked = net.received("127.0.0.1:9001").into_iter().filter(|datagram| datagram.is("CONNECT"));
    let asked: Vec<_> = asked.map(|datagram| datagram.json()).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked.iter().all(|one| *one == asked[0]), "repeated unchanged");
    assert_eq!(asked[0]["msg_data"]["dst"], "127.0.0.3");
    assert_eq!(net.events(alice).last(), Some(&NodeEvent::PathFailed));
    assert_eq!(net.sockets(alice), 1);
}

#[test]
fn only_the_intermediary_that_was_asked_is_believed() {
    let mut net = Net::fair();
    let alice = net.add("127.0.0.2", config(Edition::Seed, 1, &["127.0.0.1:9001"]));
    net.pass(Duration::from_secs(1));
    net.command(alice, NodeCommand::Connect { to: Whom::Ip(ip("127.0.0.3")), through: None });
    net.pass(Duration::from_millis(10));
    let first =
        net.received("127.0.0.1:9001").into_iter().rfind(|datagram| datagram.is("CONNECT")).expect("C1");
    let port = first.json()["msg_data"]["src"].as_str().expect("a port").to_owned();
    let fourth = json!({"msg_type": "CONNECT", "msg_data": {"dst": "127.0.0.66:66", "src": format!("127.0.0.2:{port}")}});
    let to = net.address(alice);
    net.send("127.0.0.66:9001", to, &fourth.to_string());
    net.send("127.0.0.1:9001", to, &fourth.to_string().replace(&port, "1"));
    net.pass(Duration::from_secs(1));
    assert_eq!(net.received("127.0.0.66:66").len(), 0);
    net.send("127.0.0.1:9001", to, &fourth.to_string());
    net.pass(Duration::from_millis(10));
    let knocks = net.received("127.0.0.66:66");
    assert_eq!(knocks.len(), 1);
    assert_eq!(knocks[0].from.port().to_string(), port);
}

#[test]
fn a_question_from_a_stranger_is_not_answered() {
    let mut net = Net::fair();
    let bob = net.add("127.0.0.3", config(Edition::Seed, 1, &[]));
    net.pass(Duration::from_secs(1));
    let second = json!({"msg_type": "CONNECT", "msg_data": {"dst": "127.0.0.2:50001", "src": "127.0.0.3"}});
    let to = net.address(bob);
    net.send("127.0.0.66:9001", to, &second.to_string());
    net.pass(Duration::from_millis(100));
    assert!(net.received("127.0.0.66:9001").iter().all(|datagram| !datagram.is("CONNECT")));
    assert_eq!(net.received("127.0.0.2:50001").len(), 0);
}

#[test]
fn sam_reflects_nothing_towards_addresses_that_nobody_asked_from() {
    let mut net = Net::fair();
    let sam = net.add("127.0.0.1", server(Edition::Seed));
    net.pass(Duration::from_secs(1));
    let to = net.address(sam);
    for (dst, src) in
        [("127.0.0.99:80", "50002"), ("127.0.0.99", "50001"), ("1", "2"), ("", ""), ("127.0.0.99:80", "0")]
    {
        let connect = json!({"msg_type": "CONNECT", "msg_data": {"dst": dst, "src": src}});
        net.send("127.0.0.3:5000", to, &connect.to_string());
    }
    net.pass(Duration::from_secs(3));
    let forwarded: Vec<_> = net.seen.iter().filter(|(_, one)| one.from == to && one.is("CONNECT")).collect();
    assert!(forwarded.is_empty(), "{forwarded:?}");
}
