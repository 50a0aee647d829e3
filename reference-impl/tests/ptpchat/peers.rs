//! Whom a node greets, hears, lists and forgets; and what it acknowledges.

use std::time::Duration;

use flowproof_reference::ptpchat::{Edition, Guid, NodeCommand, NodeConfig, NodeEvent, Whom};
use serde_json::{Value, json};

use crate::net::{Net, Weather, config, server};

const BOTH: [Edition; 2] = [Edition::Seed, Edition::Udp201603];
const ANNA: &str = "127.0.0.9:5000";

fn hello(id: Option<&str>) -> String {
    match id {
        Some(id) => json!({"msg_type": "HELLO", "msg_data": {"node_id": id}}).to_string(),
        None => json!({"msg_type": "HELLO"}).to_string(),
    }
}

fn message(id: &str) -> Value {
    json!({"msg_type": "MESSAGE", "msg_data": {
        "msg_id": id, "node_id": "7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11",
        "recipient": [{"node_id": "b0b00000-0000-4000-8000-000000000002"}], "timestamp": "2016-03-01T16:26:00Z",
        "channel": "lobby", "channel_id": "c0ffee00-0000-4000-8000-000000000001", "message": "aGVsbG8=",
    }})
}

#[test]
fn two_nodes_greet_each_other_once_a_second() {
    for edition in BOTH {
        let mut net = Net::fair();
        let sam = net.add("127.0.0.1", server(edition));
        let alice = net.add("127.0.0.2", config(edition, 1, &["127.0.0.1:9001"]));
        net.pass(Duration::from_secs(10));
        let (one, other) = (net.address(sam), net.address(alice));
        assert!(net.node(sam).hears(other) && net.node(alice).hears(one));
        for (from, to) in [(one, other), (other, one)] {
            let greetings =
                net.seen.iter().filter(|(_, sent)| (sent.from, sent.to) == (from, to) && sent.is("HELLO"));
            let times: Vec<_> = greetings.map(|(at, _)| *at).collect();
            assert!(times.len() >= 9, "{times:?}");
            for pair in times.windows(2) {
                let gap = pair[1].since(pair[0]);
                assert!((Duration::from_millis(500)..=Duration::from_secs(2)).contains(&gap), "{gap:?}");
            }
        }
    }
}

#[test]
fn the_seed_greets_without_data_and_its_successor_with_an_id() {
    for edition in BOTH {
        let mut net = Net::fair();
        let bob = net.add("127.0.0.3", config(edition, 1, &[ANNA]));
        net.pass(Duration::from_secs(3));
        let id = net.node(bob).id().to_string();
        for greeting in net.received(ANNA) {
            let data = &greeting.json()["msg_data"];
            match edition {
                Edition::Seed => assert_eq!(*data, Value::Null),
                _ => assert_eq!(data["node_id"], id.as_str()),
            }
        }
    }
}

#[test]
fn a_node_that_moves_is_followed() {
    let mut net = Net::fair();
    let bob = net.add("127.0.0.3", config(Edition::Udp201603, 1, &[]));
    net.pass(Duration::from_secs(1));
    let (to, id) = (net.address(bob), Some("7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11"));
    net.send(ANNA, to, &hello(id));
    net.pass(Duration::from_secs(3));
    net.send("127.0.0.9:6000", to, &hello(id));
    let before = net.received(ANNA).len();
    net.pass(Duration::from_secs(3));
    assert_eq!(net.received(ANNA).len(), before, "nothing more goes to the old address");
    assert!(!net.received("127.0.0.9:6000").is_empty());
}

#[test]
fn who_falls_silent_leaves_the_list_and_is_forgotten_but_not_if_configured() {
    let mut net = Net::fair();
    let bob = net.add("127.0.0.3", config(Edition::Seed, 1, &["127.0.0.8:8000"]));
    net.pass(Duration::from_secs(1));
    let to = net.address(bob);
    net.send(ANNA, to, &hello(None));
    net.pass(Duration::from_secs(10));
    let last = net.received(ANNA).len();
    assert!(last > 8, "greeted all the while: {last}");
    net.pass(Duration::from_secs(60));
    let all = net.received(ANNA).len();
    net.pass(Duration::from_secs(60));
    assert_eq!(net.received(ANNA).len(), all, "forgotten");
    assert!(net.received("127.0.0.8:8000").len() > 120, "the configured one is greeted for ever");
    net.send(ANNA, to, &hello(None));
    net.pass(Duration::from_secs(2));
    assert!(net.received(ANNA).len() > all, "back again");
}

#[test]
fn the_table_has_a_limit_and_the_stalest_go_first() {
    let mut net = Net::fair();
    let small = NodeConfig { peers: 10, ..config(Edition::Seed, 1, &["127.0.0.8:8000"]) };
    let bob = net.add("127.0.0.3", small);
    net.pass(Duration::from_secs(1));
    let to = net.address(bob);
    for port in 1000..1100 {
        net.send(&format!("127.0.0.9:{port}"), to, &hello(None));
        net.pass(Duration::from_millis(1));
    }
    assert!(!net.node(bob).hears("127.0.0.9:1000".parse().expect("an address")));
    assert!(net.node(bob).hears("127.0.0.9:1099".parse().expect("an address")));
    let before = net.received("127.0.0.8:8000").len();
    net.pass(Duration::from_secs(3));
    assert!(net.received("127.0.0.8:8000").len() > before, "the configured one stays");
}

#[test]
fn every_copy_is_acknowledged_to_where_it_came_from() {
    for edition in BOTH {
        let mut net = Net::fair();
        let bob = net.add("127.0.0.3", config(edition, 1, &[]));
        net.pass(Duration::from_secs(1));
        let (to, id) = (net.address(bob), "2b8f4a6e-13c5-4df0-8a2b-9e0c5a7d1f42");
        for from in [ANNA, ANNA, "127.0.0.9:6000"] {
            net.send(from, to, &message(id).to_string());
        }
        net.pass(Duration::from_millis(10));
        let acks = |address: &str| {
            let all = net.received(address).into_iter().filter(|datagram| datagram.is("ACK"));
            all.map(|datagram| datagram.json()["msg_data"]["msg_id"].as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(acks(ANNA), [id, id]);
        assert_eq!(acks("127.0.0.9:6000"), [id]);
    }
}

#[test]
fn a_message_without_id_has_a_bare_ack() {
    let mut net = Net::fair();
    let bob = net.add("127.0.0.3", config(Edition::Seed, 1, &[]));
    net.pass(Duration::from_secs(1));
    let to = net.address(bob);
    let minimal = json!({"msg_type": "MESSAGE", "msg_data": {"channel_id": "c0ffee00-0000-4000-8000-000000000001", "message": "hello bob"}});
    net.send(ANNA, to, &minimal.to_string());
    net.pass(Duration::from_millis(10));
    let acks: Vec<Value> = net.received(ANNA).iter().map(|datagram| datagram.json()).collect();
    assert_eq!(acks, [json!({"msg_type": "ACK"})]);
}

#[test]
fn nothing_else_is_acknowledged() {
    let mut net = Net::fair();
    let bob = net.add("127.0.0.3", config(Edition::Udp201603, 1, &[]));
    net.pass(Duration::from_secs(1));
    let to = net.address(bob);
    let mut cases =
        vec![json!({"msg_type": "HELLO"}), json!({"msg_type": "ACK"}), json!({"msg_type": "RELAY"})];
    for verb in ["ACK", "JOIN", "LEAVE", "CHANNEL", "ROUTING", "RELAY", "CONNECT", "HELLO"] {
        let mut case = message("2b8f4a6e-13c5-4df0-8a2b-9e0c5a7d1f42");
        case["msg_type"] = json!(verb);
        case["msg_data"]["members"] = json!([]);
        case["msg_data"]["nodes"] = json!([]);
        cases.push(case);
    }
    for case in cases {
        net.send(ANNA, to, &case.to_string());
    }
    net.pass(Duration::from_secs(2));
    assert!(net.received(ANNA).iter().all(|datagram| !datagram.is("ACK")));
}

#[test]
fn what_gets_lost_is_sent_again_and_shown_once() {
    let weather = Weather { lost: 40, twice: 30, delay: Duration::from_millis(50) };
    let (mut shown, mut done) = (0, 0);
    for seed in 0..20 {
        let mut net = Net::new(seed, weather);
        let alice = net.add("127.0.0.2", config(Edition::Seed, 1, &[]));
        let bob = net.add("127.0.0.3", config(Edition::Seed, 2, &[]));
        net.pass(Duration::from_millis(100));
        let id = Guid::parse("c0ffee00-0000-4000-8000-000000000001").expect("a GUID");
        net.command(bob, NodeCommand::Join { channel: "lobby".into(), channel_id: id, target: None });
        let to = vec![Whom::Address(net.address(bob))];
        net.command(alice, NodeCommand::Message { channel: None, channel_id: id, text: "hello".into(), to });
        net.pass(Duration::from_secs(20));
        let received = net.events(bob).iter().filter(|event| matches!(event, NodeEvent::Received(_))).count();
        assert!(received <= 1, "shown once, not {received} times");
        shown += received;
        let end = net
            .events(alice)
            .iter()
            .filter(|event| matches!(event, NodeEvent::Delivered(_) | NodeEvent::Failed(_)));
        done += end.count();
    }
    assert_eq!(done, 20, "each is delivered or given up");
    assert!(shown >= 18, "four copies get through nearly always: {shown}");
}

#[test]
fn routing_tells_addresses_as_the_node_sees_them() {
    let mut net = Net::fair();
    let sam = net.add("127.0.0.1", server(Edition::Udp201603));
    net.pass(Duration::from_secs(1));
    let to = net.address(sam);
    let odd = "11111111-1111-1111-1111-111111111111";
    net.send(ANNA, to, &hello(Some("7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11")));
    net.send("127.0.0.4:7000", to, &hello(Some(odd)));
    net.pass(Duration::from_secs(3));
    let mut lists = net.received(ANNA).into_iter().filter(|datagram| datagram.is("ROUTING"));
    let last = lists.next_back().expect("ROUTING comes").json();
    assert_eq!(last["msg_data"]["node_id"], net.node(sam).id().to_string());
    let nodes = last["msg_data"]["nodes"].as_array().expect("a list").clone();
    assert!(nodes.contains(&json!({"node_id": odd, "address": "127.0.0.4:7000"})), "{nodes:?}");
}

#[test]
fn the_same_seed_says_the_same() {
    let run = || {
        let weather = Weather { lost: 10, twice: 10, delay: Duration::from_millis(80) };
        let mut net = Net::new(3, weather);
        net.add("127.0.0.1", server(Edition::Udp201603));
        let alice = net.add("127.0.0.2", config(Edition::Udp201603, 1, &["127.0.0.1:9001"]));
        net.pass(Duration::from_secs(3));
        net.command(
            alice,
            NodeCommand::Certificate { of: Whom::Address("127.0.0.1:9001".parse().expect("an address")) },
        );
        net.pass(Duration::from_secs(10));
        net.seen
            .iter()
            .map(|(at, one)| format!("{at} {} {} {:?}", one.from, one.to, one.bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_node_that_stops_gives_its_sockets_back_and_is_over() {
    use flowproof_reference::machine::Machine;
    let mut net = Net::fair();
    let bob = net.add("127.0.0.3", config(Edition::Seed, 1, &[ANNA]));
    net.pass(Duration::from_secs(1));
    net.command(bob, NodeCommand::Stop);
    let before = net.seen.len();
    net.pass(Duration::from_secs(5));
    assert!(net.node(bob).is_over());
    assert_eq!((net.sockets(bob), net.seen.len()), (0, before));
}
