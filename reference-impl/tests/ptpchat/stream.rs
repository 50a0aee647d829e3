//! Nodes over TCP: a star of nodes around one or two servers, in memory.

use std::collections::{BTreeMap, VecDeque};

use flowproof_reference::machine::{Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Time};
use flowproof_reference::ptpchat::{
    Edition, Guid, NodeCommand, NodeConfig, NodeEvent, NodeName, StreamNode, Whom,
};
use serde_json::{Value, json};

/// Nodes and the connections between them.
struct Star {
    nodes: Vec<StreamNode>,
    events: Vec<Vec<NodeEvent>>,
    /// From one end of a connection to the other.
    ends: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    on_the_way: VecDeque<(usize, LinkId, String)>,
    /// Frames to the test's own connections.
    received: BTreeMap<LinkId, Vec<Value>>,
}

/// The number that stands for the test itself.
const TEST: usize = usize::MAX;

impl Star {
    fn new(names: &[NodeName]) -> Star {
        let node = |(seed, name): (usize, &NodeName)| {
            StreamNode::new(NodeConfig {
                seed: seed as u64,
                edition: Edition::Tcp201604,
                node_name: *name,
                intermediary: true,
                ..NodeConfig::default()
            })
        };
        let nodes: Vec<StreamNode> = names.iter().enumerate().map(node).collect();
        let events = nodes.iter().map(|_| Vec::new()).collect();
        Star { nodes, events, ends: BTreeMap::new(), on_the_way: VecDeque::new(), received: BTreeMap::new() }
    }

    /// Connects two nodes; the first one speaks first.
    fn connect(&mut self, one: usize, other: usize) {
        let number = self.ends.len() as u64;
        let (near, far) = (LinkId(number), LinkId(number + 1));
        self.ends.insert((one, near), (other, far));
        self.ends.insert((other, far), (one, near));
        self.feed(other, Input::Requested { link: far, request: &Request::default() });
        self.feed(one, Input::Opened { link: near });
        self.settle();
    }

    /// Connects the test itself, as a node called `id`.
    fn enter(&mut self, to: usize, id: &str) -> LinkId {
        let link = LinkId(1000 + self.ends.len() as u64);
        self.ends.insert((to, link), (TEST, link));
        self.feed(to, Input::Requested { link, request: &Request::default() });
        self.say(
            to,
            link,
            json!({"msg_type": "HELLO", "ttl": 1, "flood": false, "sender_id": id, "msg_id": fresh(link.0),
            "msg_data": {"version": "test", "attributes": {"node_type": "client"}}}),
        );
        link
    }

    fn say(&mut self, to: usize, link: LinkId, message: Value) {
        self.feed(to, Input::Received { link, frame: Frame::Text(message.to_string().as_bytes()) });
        self.settle();
    }

    fn take(&mut self, link: LinkId, verb: &str) -> Vec<Value> {
        let all = self.received.entry(link).or_default();
        all.extract_if(.., |message| message["msg_type"] == verb).collect()
    }

    fn feed(&mut self, number: usize, input: Input<'_, NodeCommand>) {
        let mut out = Outbox::default();
        self.nodes[number].handle(Time::ZERO, input, &mut out);
        while let Some(action) = out.pop() {
            match action {
                Action::Send { link, message: Message::Text(text) } => {
                    let (to, far) = self.ends[&(number, link)];
                    self.on_the_way.push_back((to, far, text));
                }
                Action::Event(event) => self.events[number].push(event),
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some((to, link, text)) = self.on_the_way.pop_front() else { return };
            match to {
                TEST => {
                    let message = serde_json::from_str(&text).expect("nodes send JSON");
                    self.received.entry(link).or_default().push(message);
                }
                to => self.feed(to, Input::Received { link, frame: Frame::Text(text.as_bytes()) }),
            }
        }
        panic!("the nodes do not come to rest");
    }
}

fn fresh(number: u64) -> String {
    format!("0d3d0000-0000-4000-8000-{number:012}")
}

fn message(to: &str, number: u64, ttl: i64) -> Value {
    json!({"msg_type": "MESSAGE", "ttl": ttl, "flood": false, "sender_id": ANNA, "target_id": to, "msg_id": fresh(number),
        "mood": "fine", "msg_data": {"recipient": [{"node_id": to}], "timestamp": "2016-04-29T12:00:00Z",
        "channel": "lobby", "channel_id": "c0ffee00-0000-4000-8000-000000000001", "message": "aGVsbG8="}})
}

const ANNA: &str = "7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11";
const BOB: &str = "bob@b0b00000-0000-4000-8000-000000000002";

#[test]
fn a_message_goes_on_unchanged_but_for_its_hops_and_each_hop_acknowledges() {
    let mut star = Star::new(&[NodeName::Guid, NodeName::NameAtGuid]);
    star.connect(0, 1);
    let (anna, bob) = (star.enter(0, ANNA), star.enter(1, BOB));
    let sent = message(BOB, 500, 32);
    star.say(0, anna, sent.clone());
    let mut wanted = sent;
    wanted["ttl"] = json!(30);
    assert_eq!(star.take(bob, "MESSAGE"), [wanted]);
    let acks = star.take(anna, "ACK");
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0]["msg_data"]["msg_id"], fresh(500));
    assert!(
        star.events[0].iter().any(|event| matches!(event, NodeEvent::Delivered(_))),
        "the second hop told the first"
    );
}

#[test]
fn what_finds_no_path_or_has_no_hops_left_comes_back_as_nack() {
    let mut star = Star::new(&[NodeName::Guid, NodeName::Guid]);
    star.connect(0, 1);
    let (anna, bob) = (star.enter(0, ANNA), star.enter(1, BOB));
    for (number, to, ttl) in [
        (501, "99999999-9999-4999-8999-999999999999", 32),
        (502, BOB, 1),
        (503, BOB, 2),
        (504, BOB, 0),
        (505, BOB, i64::MIN),
    ] {
        star.say(0, anna, message(to, number, ttl));
        let nacks = star.take(anna, "NACK");
        assert_eq!(nacks.len(), 1, "{number}");
        assert_eq!(nacks[0]["msg_data"]["msg_id"], fresh(number));
        assert_eq!(nacks[0]["target_id"], ANNA);
    }
    assert_eq!(star.take(bob, "MESSAGE").len(), 0);
    star.say(
        0,
        anna,
        json!({"msg_type": "NACK", "ttl": 32, "flood": false, "sender_id": ANNA, "msg_id": fresh(506),
        "target_id": "99999999-9999-4999-8999-999999999999", "msg_data": {"msg_id": fresh(1)}}),
    );
    assert_eq!(star.take(anna, "NACK").len(), 0, "a NACK is not answered by another");
}

#[test]
fn a_flood_goes_round_a_ring_once() {
    let mut star = Star::new(&[NodeName::Guid, NodeName::Guid, NodeName::Guid]);
    star.connect(0, 1);
    star.connect(1, 2);
    star.connect(2, 0);
    let (anna, bob) = (star.enter(0, ANNA), star.enter(2, BOB));
    star.say(
        0,
        anna,
        json!({"msg_type": "JOIN", "ttl": 32, "flood": true, "sender_id": ANNA, "msg_id": fresh(600),
        "msg_data": {"channel": "lobby", "channel_id": "c0ffee00-0000-4000-8000-000000000001"}}),
    );
    assert_eq!(star.take(bob, "JOIN").len(), 1);
    assert_eq!(star.take(anna, "JOIN").len(), 0);
}

#[test]
fn routing_counts_hops_and_forgets_who_is_gone() {
    let mut star = Star::new(&[NodeName::Guid, NodeName::Guid]);
    star.connect(0, 1);
    let anna = star.enter(0, ANNA);
    let bob = star.enter(0, BOB);
    let hops = |lists: &[Value], id: &str| {
        let nodes =
            lists.last().and_then(|list| list["msg_data"]["nodes"].as_array().cloned()).unwrap_or_default();
        nodes.iter().find(|node| node["node_id"] == id).map(|node| node["ttl"].clone())
    };
    let lists = star.take(anna, "ROUTING");
    let bob_id = BOB.split_once('@').expect("a name").1;
    assert_eq!(hops(&lists, bob_id), Some(json!(1)));
    assert_eq!(hops(&lists, &star.nodes[1].id().to_string()), Some(json!(1)));
    star.feed(0, Input::Closed { link: bob });
    star.settle();
    assert_eq!(hops(&star.take(anna, "ROUTING"), bob_id), None);
}

#[test]
fn two_nodes_talk_through_a_server_and_exchange_a_key() {
    let mut star = Star::new(&[NodeName::Guid, NodeName::Guid, NodeName::NameAtGuid]);
    star.connect(1, 0);
    star.connect(2, 0);
    let channel_id = Guid::parse("c0ffee00-0000-4000-8000-000000000001").expect("a GUID");
    let (alice, bob) = (star.nodes[1].id(), star.nodes[2].id());
    let channel = || "lobby".to_owned();
    star.feed(
        1,
        Input::Command(NodeCommand::Create {
            channel: channel(),
            channel_id: Some(channel_id),
            closed: true,
        }),
    );
    star.feed(2, Input::Command(NodeCommand::Join { channel: channel(), channel_id, target: None }));
    star.settle();
    star.feed(2, Input::Command(NodeCommand::Key { of: Whom::Id(alice), channel: channel(), channel_id }));
    star.settle();
    assert!(star.events[2].contains(&NodeEvent::KeyReceived(channel_id)), "{:?}", star.events[2]);
    let to = vec![Whom::Id(bob)];
    star.feed(
        1,
        Input::Command(NodeCommand::Message { channel: None, channel_id, text: "hello bob".into(), to }),
    );
    star.settle();
    assert!(
        star.events[2].iter().any(|event| matches!(event, NodeEvent::Received(_))),
        "{:?}",
        star.events[2]
    );
}
