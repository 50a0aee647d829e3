//! Channels, certificates and keys among real nodes.

use std::time::Duration;

use flowproof_reference::ptpchat::{Edition, Guid, NodeCommand, NodeEvent, Whom};

use crate::net::{Net, config};

fn lobby() -> Guid {
    Guid::parse("c0ffee00-0000-4000-8000-000000000001").expect("a GUID")
}

/// Three nodes that know one another.
fn three() -> (Net, usize, usize, usize) {
    let mut net = Net::fair();
    let all = ["127.0.0.2:9001", "127.0.0.3:9001", "127.0.0.4:9001"];
    let mut node = |address: &str, seed| {
        let others: Vec<&str> = all.into_iter().filter(|other| !other.starts_with(address)).collect();
        let mut settings = config(Edition::Udp201603, seed, &others);
        settings.port = Some(9001);
        net.add(address, settings)
    };
    let (alice, bob, carol) = (node("127.0.0.2", 1), node("127.0.0.3", 2), node("127.0.0.4", 3));
    net.pass(Duration::from_secs(3));
    (net, alice, bob, carol)
}

fn create(net: &mut Net, one: usize, closed: bool) {
    net.command(one, NodeCommand::Create { channel: "lobby".into(), channel_id: Some(lobby()), closed });
    net.pass(Duration::from_millis(100));
}

fn join(net: &mut Net, one: usize, target: usize) {
    let target = Some(Whom::Address(net.address(target)));
    net.command(one, NodeCommand::Join { channel: "lobby".into(), channel_id: lobby(), target });
    net.pass(Duration::from_secs(2));
}

fn sent(net: &Net, verb: &str, from: usize, to: usize) -> usize {
    let ends = (net.address(from), net.address(to));
    net.seen.iter().filter(|(_, one)| (one.from, one.to) == ends && one.is(verb)).count()
}

fn heard(net: &Net, one: usize) -> usize {
    net.events(one).iter().filter(|event| matches!(event, NodeEvent::Received(_))).count()
}

fn say(net: &mut Net, one: usize) {
    net.command(
        one,
        NodeCommand::Message { channel: None, channel_id: lobby(), text: "hello all".into(), to: Vec::new() },
    );
    net.pass(Duration::from_secs(1));
}

#[test]
fn members_hear_one_another_and_whoever_leaves_tells_all_and_is_silent() {
    let (mut net, alice, bob, carol) = three();
    create(&mut net, alice, false);
    join(&mut net, bob, alice);
    join(&mut net, carol, alice);
    // By now alice's CHANNEL has told bob of carol.
    say(&mut net, bob);
    assert_eq!((heard(&net, alice), heard(&net, bob), heard(&net, carol)), (1, 0, 1));
    net.command(bob, NodeCommand::Leave { channel_id: lobby() });
    net.pass(Duration::from_millis(100));
    assert_eq!((sent(&net, "LEAVE", bob, alice), sent(&net, "LEAVE", bob, carol)), (1, 1));
    say(&mut net, bob);
    assert!(matches!(net.events(bob).last(), Some(NodeEvent::CannotDo(_))));
    say(&mut net, alice);
    assert_eq!((heard(&net, bob), heard(&net, carol)), (0, 2));
}

#[test]
fn the_key_of_a_closed_channel_reaches_whoever_shows_a_certificate() {
    let (mut net, alice, bob, _) = three();
    create(&mut net, alice, true);
    join(&mut net, bob, alice);
    let of = Whom::Id(net.node(alice).id());
    net.command(bob, NodeCommand::Key { of, channel: "lobby".into(), channel_id: lobby() });
    net.pass(Duration::from_secs(1));
    assert!(net.events(alice).contains(&NodeEvent::Certified(net.node(bob).id())));
    assert!(net.events(bob).contains(&NodeEvent::KeyReceived(lobby())));
    let acks = (sent(&net, "ACK", alice, bob), sent(&net, "ACK", bob, alice));
    assert_eq!(acks, (2, 1), "CERTIFICATE and GETKEY one way, KEY the other");
}

#[test]
fn a_certificate_that_is_asked_for_comes_and_is_believed() {
    let (mut net, alice, bob, _) = three();
    let of = Whom::Id(net.node(bob).id());
    net.command(alice, NodeCommand::Certificate { of });
    net.pass(Duration::from_secs(5));
    assert!(net.events(alice).contains(&NodeEvent::Certified(net.node(bob).id())));
    assert_eq!(sent(&net, "CERTIFICATE", bob, alice), 1, "acknowledged, so not sent again");
}

#[test]
fn who_is_left_out_joins_again_and_who_is_listed_by_mistake_leaves() {
    let (mut net, alice, bob, carol) = three();
    join(&mut net, bob, alice);
    // Alice is no member; carol makes the channel and does not know bob.
    create(&mut net, carol, false);
    net.pass(Duration::from_secs(1));
    assert_eq!(sent(&net, "JOIN", bob, carol), 1);
    let news = serde_json::json!({"msg_type": "CHANNEL", "msg_data": {
        "msg_id": "0d3c0000-0000-4000-8000-000000000001", "node_id": "7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11",
        "channel": "lobby", "channel_id": lobby().to_string(), "members": [{"node_id": net.node(alice).id().to_string()}],
    }});
    let to = net.address(alice);
    net.send("127.0.0.9:9", to, &news.to_string());
    net.pass(Duration::from_millis(10));
    assert!(net.received("127.0.0.9:9").iter().any(|datagram| datagram.is("LEAVE")));
}
