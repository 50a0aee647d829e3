//! Whatever comes, a node goes on as before and answers nothing that it did not understand.

use std::time::Duration;

use flowproof_reference::machine::{Input, Machine, Outbox, SocketId, Time};
use flowproof_reference::ptpchat::{Edition, Message, Node, NodeConfig, StreamNode};
use proptest::prelude::*;
use serde_json::json;

use crate::net::{Net, config};

const MALLORY: &str = "127.0.0.66:666";

fn junk() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        " ",
        "HELLO",
        "{",
        "[]",
        "5",
        "null",
        "\"HELLO\"",
        "{}",
        "{\"msg_type\":\"HELLO\"",
        "{\"msg_type\":5}",
        "{\"msg_type\":\"HELLO\"} x",
        "{\"msg_type\":\"HELLO\"}{\"msg_type\":\"HELLO\"}",
        "{\"msg_type\":\"hello\"}",
        "{\"MSG_TYPE\":\"HELLO\"}",
        "{\"msg_type\":\"MESSAGE\",\"msg_data\":[]}",
        "{\"msg_type\":\"NACK\"}",
        "{\"msg_type\":\"CONNECT\", \"msg_data\":{\"dst\":\"127.0.0.3\", \"src\":\"50001\"}",
        "\u{feff}{\"msg_type\":\"HELLO\"}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    all.push(vec![0xff; 100]);
    all.push(vec![b'x'; 65_507]);
    all.push(vec![b'['; 60_000]);
    let deep =
        format!("{{\"msg_type\":\"RELAY\",\"msg_data\":{{\"x\":{}{}}}}}", "[".repeat(64), "]".repeat(64));
    all.push(deep.into_bytes());
    all
}

#[test]
fn junk_is_not_answered_and_changes_nothing() {
    let mut net = Net::fair();
    let bob = net.add("127.0.0.3", config(Edition::Udp201603, 1, &["127.0.0.8:8000"]));
    net.pass(Duration::from_secs(1));
    let to = net.address(bob);
    for bytes in junk() {
        net.send_bytes(MALLORY, to, &bytes);
    }
    let before = net.received("127.0.0.8:8000").len();
    net.pass(Duration::from_secs(10));
    assert_eq!(net.received(MALLORY).len(), 0);
    assert_eq!(net.received("127.0.0.8:8000").len(), before + 10);
}

#[test]
fn mistyped_fields_are_not_acknowledged() {
    let good = json!({
        "msg_id": "2b8f4a6e-13c5-4df0-8a2b-9e0c5a7d1f42", "node_id": "7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11",
        "recipient_id": "b0b00000-0000-4000-8000-000000000002", "certificate": "TUlJQg==", "key": "c2VjcmV0",
        "cipher": "AES-256-CBC", "channel": "lobby", "channel_id": "c0ffee00-0000-4000-8000-000000000001",
        "recipient": [{"node_id": "b0b00000-0000-4000-8000-000000000002"}], "message": "aGVsbG8=",
        "timestamp": "2016-03-01T16:26:00Z",
    });
    let needs = [
        ("MESSAGE", vec!["msg_id", "node_id", "recipient", "timestamp", "channel", "channel_id", "message"]),
        ("GETCERTIFICATE", vec!["msg_id", "node_id"]),
        ("CERTIFICATE", vec!["msg_id", "node_id", "recipient_id", "certificate"]),
        ("GETKEY", vec!["msg_id", "node_id", "channel", "channel_id"]),
        ("KEY", vec!["msg_id", "node_id", "recipient_id", "channel", "channel_id", "cipher", "key"]),
    ];
    for (verb, fields) in needs {
        let read = |data: &serde_json::Value| {
            let text = json!({"msg_type": verb, "msg_data": data}).to_string();
            Message::decode(text.as_bytes(), Edition::Udp201603)
        };
        assert!(read(&good).is_ok(), "{verb}");
        for field in fields {
            for bad in [json!(null), json!(5), json!({}), json!("")] {
                let mut data = good.clone();
                data[field] = bad.clone();
                let lawful = bad == json!("")
                    && matches!(field, "message" | "timestamp" | "cipher" | "key" | "certificate");
                assert_eq!(read(&data).is_ok(), lawful, "{verb} {field} {bad}");
            }
        }
    }
}

#[test]
fn what_is_written_is_read_again() {
    let texts = [
        r#"{"msg_type":"MESSAGE","msg_data":{"msg_id":"2b8f4a6e-13c5-4df0-8a2b-9e0c5a7d1f42","node_id":"7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11","recipient":[{"node_id":"b0b00000-0000-4000-8000-000000000002"}],"timestamp":"2016-03-01T16:26:00Z","channel":"lobby","channel_id":"c0ffee00-0000-4000-8000-000000000001","message":"aGVsbG8="}}"#,
        r#"{"msg_type":"CONNECT","msg_data":{"dst":"127.0.0.2:50001","src":"50002"}}"#,
        r#"{"msg_type":"ROUTING","msg_data":{"node_id":"7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11","nodes":[{"node_id":"b0b00000-0000-4000-8000-000000000002","address":"127.0.0.3:41002"}]}}"#,
        r#"{"msg_type":"ACK","msg_data":{"msg_id":"2b8f4a6e-13c5-4df0-8a2b-9e0c5a7d1f42"}}"#,
        r#"{"msg_type":"ACK"}"#,
    ];
    for text in texts {
        let message = Message::decode(text.as_bytes(), Edition::Udp201603).expect(text);
        assert_eq!(String::from_utf8(message.encode(Edition::Udp201603)).expect("UTF-8"), text);
    }
}

/// Bytes that look like messages, in whole or in part.
fn nearly_messages() -> impl Strategy<Value = Vec<u8>> {
    let verb = prop::sample::select(vec![
        "HELLO",
        "ACK",
        "JOIN",
        "CHANNEL",
        "LEAVE",
        "GETCERTIFICATE",
        "CERTIFICATE",
        "GETKEY",
        "KEY",
        "MESSAGE",
        "RELAY",
        "CONNECT",
        "ROUTING",
        "NACK",
    ]);
    let field = prop::sample::select(vec![
        "msg_id",
        "node_id",
        "recipient_id",
        "channel",
        "channel_id",
        "members",
        "closed",
        "certificate",
        "cipher",
        "key",
        "message",
        "recipient",
        "timestamp",
        "attachment",
        "src",
        "dst",
        "nodes",
        "ttl",
    ]);
    let value = prop_oneof![
        Just(json!(null)),
        Just(json!("7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11")),
        Just(json!("127.0.0.3")),
        Just(json!("50001")),
        Just(json!("127.0.0.2:50001")),
        Just(json!([{"node_id": "7f1c2f9e-0b1d-4c53-9d0e-3a8c6f0f7a11", "address": "127.0.0.5:5"}])),
        Just(json!("lobby")),
        Just(json!(true)),
        Just(json!([])),
        any::<i64>().prop_map(|number| json!(number)),
    ];
    let data = prop::collection::vec((field, value), 0..8);
    (verb, data, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(verb, data, cut, whole)| {
        let data: serde_json::Map<_, _> = data.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        let mut bytes = json!({
            "msg_type": verb, "ttl": 32, "flood": verb == "JOIN", "sender_id": "b0b00000-0000-4000-8000-000000000002",
            "msg_id": "2b8f4a6e-13c5-4df0-8a2b-9e0c5a7d1f42", "msg_data": data,
        })
        .to_string()
        .into_bytes();
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

proptest! {
    #[test]
    fn no_datagrams_bring_a_node_down(all in prop::collection::vec(nearly_messages(), 1..30), intermediary: bool, seed: bool) {
        let edition = if seed { Edition::Seed } else { Edition::Udp201603 };
        let mut node = Node::new(NodeConfig { intermediary, ..config(edition, 1, &[]) });
        let mut out = Outbox::default();
        let local = "127.0.0.3:9001".parse().expect("an address");
        node.handle(Time::ZERO, Input::Tick, &mut out);
        node.handle(Time::ZERO, Input::Bound { socket: SocketId(0), local }, &mut out);
        for (number, bytes) in all.iter().enumerate() {
            let from = format!("127.0.0.{}:5000", number % 3 + 4).parse().expect("an address");
            let now = Time::from_start(Duration::from_millis(number as u64));
            node.handle(now, Input::Datagram { socket: SocketId(0), from, bytes }, &mut out);
        }
        let now = node.deadline().expect("it goes on greeting");
        node.handle(now, Input::Tick, &mut out);
        prop_assert!(node.deadline().is_some_and(|deadline| deadline > now));
    }

    #[test]
    fn no_frames_bring_a_stream_node_down(all in prop::collection::vec(nearly_messages(), 1..30)) {
        use flowproof_reference::machine::{Frame, LinkId, Request};
        let mut node = StreamNode::new(NodeConfig { intermediary: true, ..config(Edition::Tcp201604, 1, &[]) });
        let mut out = Outbox::default();
        for link in 0..3 {
            node.handle(Time::ZERO, Input::Requested { link: LinkId(link), request: &Request::default() }, &mut out);
        }
        for (number, bytes) in all.iter().enumerate() {
            let link = LinkId(number as u64 % 3);
            node.handle(Time::ZERO, Input::Received { link, frame: Frame::Text(bytes) }, &mut out);
        }
        for link in 0..3 {
            node.handle(Time::ZERO, Input::Closed { link: LinkId(link) }, &mut out);
        }
    }
}
