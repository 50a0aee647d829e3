//! The relay against puppets.

use std::time::Duration;

use flowproof_reference::cow::{Relay, RelayConfig};
use flowproof_reference::machine::{
    Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Time, WireFault,
};
use serde_json::{Value, json};

struct Puppets {
    relay: Relay,
    now: Time,
    said: Vec<(LinkId, String)>,
    accepted: Vec<Option<String>>,
    closed: Vec<(LinkId, Option<u16>)>,
    pinged: Vec<LinkId>,
}

impl Puppets {
    fn new() -> Puppets {
        let relay = Relay::new(RelayConfig::default());
        Puppets {
            relay,
            now: Time::ZERO,
            said: Vec::new(),
            accepted: Vec::new(),
            closed: Vec::new(),
            pinged: Vec::new(),
        }
    }

    fn feed(&mut self, input: Input<'_, flowproof_reference::cow::RelayCommand>) {
        let mut out = Outbox::default();
        self.relay.handle(self.now, input, &mut out);
        while let Some(action) = out.pop() {
            match action {
                Action::Accept { subprotocol, .. } => self.accepted.push(subprotocol),
                Action::Send { link, message: Message::Text(text) } => self.said.push((link, text)),
                Action::Send { link, message: Message::Ping(_) } => self.pinged.push(link),
                Action::Close { link, code, .. } => self.closed.push((link, code)),
                Action::Abort { link } => self.closed.push((link, None)),
                _ => {}
            }
        }
    }

    /// Connects, and tells the id that was given.
    fn join(&mut self, link: u64, offered: &str) -> u64 {
        let headers = vec![("sec-websocket-protocol".to_owned(), offered.to_owned())];
        let request = Request { upgrade: true, headers, ..Request::default() };
        self.feed(Input::Requested { link: LinkId(link), request: &request });
        let told = self.take(link);
        let told: Value = serde_json::from_str(&told[0]).expect("JSON");
        assert_eq!(told["action"], "connected");
        told["payload"]["peerID"].as_u64().expect("a number")
    }

    fn say(&mut self, link: u64, text: &str) {
        self.feed(Input::Received { link: LinkId(link), frame: Frame::Text(text.as_bytes()) });
    }

    /// What a puppet has heard since it was last asked.
    fn take(&mut self, link: u64) -> Vec<String> {
        let (own, rest) = std::mem::take(&mut self.said).into_iter().partition(|(to, _)| *to == LinkId(link));
        self.said = rest;
        let own: Vec<(LinkId, String)> = own;
        own.into_iter().map(|(_, text)| text).collect()
    }
}

#[test]
fn ids_of_the_same_millisecond_differ_and_grow() {
    let mut puppets = Puppets::new();
    let ids: Vec<u64> = (0..5).map(|link| puppets.join(link, "connect")).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
}

#[test]
fn the_subprotocol_is_repeated_as_it_was_written() {
    let mut puppets = Puppets::new();
    for (link, offer) in ["connect", "chat, CONNECT", "chat", ""].iter().enumerate() {
        puppets.join(link as u64, offer);
    }
    assert_eq!(puppets.accepted, [Some("connect".to_owned()), Some("CONNECT".to_owned()), None, None]);
}

#[test]
fn messages_are_passed_on_byte_for_byte() {
    let mut puppets = Puppets::new();
    let ids: Vec<u64> = (0..3).map(|link| puppets.join(link, "connect")).collect();
    let text = format!(
        " {{\"action\":\"x\" , \"n\":1.50, \"deep\":{}{}, \"target\":\"{}\"}}",
        "[".repeat(5000),
        "]".repeat(5000),
        ids[1]
    );
    puppets.say(0, &text);
    assert_eq!(puppets.take(1), [text]);
    assert!(puppets.take(0).is_empty() && puppets.take(2).is_empty());
    let text = r#"{"action":"x","target":null,"a":1,"a":2}"#;
    puppets.say(0, text);
    for link in 0..3 {
        assert_eq!(puppets.take(link), [text], "to {link}");
    }
}

#[test]
fn odd_targets_name_nobody() {
    let mut puppets = Puppets::new();
    let id = puppets.join(0, "connect");
    puppets.join(1, "connect");
    let odd = [
        json!(0),
        json!(""),
        json!(false),
        json!(1),
        json!(format!("{id}x")),
        json!(format!("0{id}")),
        json!([id]),
        json!({}),
    ];
    for target in odd {
        puppets.say(1, &json!({ "action": "command", "target": target, "payload": {} }).to_string());
        assert!(puppets.said.is_empty(), "{target}");
    }
    puppets.say(1, &json!({ "action": "command", "target": id as f64, "payload": {} }).to_string());
    assert_eq!(puppets.take(0).len(), 1, "a float without a fraction is the number");
}

#[test]
fn what_is_no_message_is_dropped_and_the_connection_goes_on() {
    let mut puppets = Puppets::new();
    let id = puppets.join(0, "connect");
    puppets.join(1, "connect");
    let forged = json!({ "action": "command", "sender": id, "payload": {} }).to_string();
    let gone = json!({ "action": "peerGone", "payload": { "gonePeerID": id } }).to_string();
    for junk in ["hello", "", "[]", "5", "null", "{}", r#"{"action":7}"#, "{\"action\":", &forged, &gone] {
        puppets.say(1, junk);
        assert!(puppets.said.is_empty(), "{junk}");
    }
    puppets.feed(Input::Received { link: LinkId(1), frame: Frame::Binary(b"{\"action\":\"x\"}") });
    assert!(puppets.said.is_empty() && puppets.closed.is_empty());
    puppets.say(1, r#"{"action":"command","payload":{}}"#);
    assert_eq!(puppets.take(0).len(), 1);
}

#[test]
fn a_leave_is_told_once_however_it_comes_about() {
    let mut puppets = Puppets::new();
    let ids: Vec<u64> = (0..6).map(|link| puppets.join(link, "connect")).collect();
    puppets.feed(Input::Closing { link: LinkId(1), code: Some(1000), reason: "" });
    puppets.feed(Input::Closed { link: LinkId(1) });
    puppets.feed(Input::Closed { link: LinkId(2) });
    puppets.feed(Input::Received { link: LinkId(3), frame: Frame::Broken(WireFault::Protocol) });
    puppets.feed(Input::Received { link: LinkId(4), frame: Frame::Broken(WireFault::TooBig) });
    puppets.feed(Input::Received { link: LinkId(5), frame: Frame::Text(b"\xff\xfe") });
    puppets.feed(Input::Closed { link: LinkId(3) });
    let heard: Vec<Value> =
        puppets.take(0).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let gone: Vec<u64> = heard.iter().filter_map(|one| one["payload"]["gonePeerID"].as_u64()).collect();
    assert_eq!(gone, ids[1..]);
    let codes: Vec<Option<u16>> = puppets.closed.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [Some(1000), Some(1002), Some(1009), Some(1007)]);
}

#[test]
fn a_silent_line_is_pinged_and_then_given_up() {
    let mut puppets = Puppets::new();
    puppets.join(0, "connect");
    let id = puppets.join(1, "connect");
    puppets.now = Time::from_start(Duration::from_secs(20));
    assert_eq!(puppets.relay.deadline(), Some(puppets.now));
    puppets.feed(Input::Tick);
    assert_eq!(puppets.pinged, [LinkId(0), LinkId(1)]);
    puppets.feed(Input::Received { link: LinkId(0), frame: Frame::Pong(b"") });
    puppets.now = Time::from_start(Duration::from_secs(30));
    puppets.feed(Input::Tick);
    assert_eq!(puppets.closed, [(LinkId(1), None)]);
    assert!(puppets.take(0)[0].contains(&id.to_string()));
    assert!(puppets.relay.deadline().is_some_and(|deadline| deadline > puppets.now));
}
