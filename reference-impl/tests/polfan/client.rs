//! The client against a scripted server.

use std::time::Duration;

use flowproof_reference::machine::{
    Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time,
};
use flowproof_reference::polfan::{Client, ClientConfig, ClientEvent};
use serde_json::{Value, json};

struct Desk {
    client: Client,
    now: Time,
    requests: Vec<(LinkId, Request)>,
    sent: Vec<Value>,
    events: Vec<ClientEvent>,
}

impl Desk {
    fn new() -> Desk {
        let client = Client::new(ClientConfig { token: "a b&c".to_owned(), ..ClientConfig::default() });
        let mut desk =
            Desk { client, now: Time::ZERO, requests: Vec::new(), sent: Vec::new(), events: Vec::new() };
        desk.input(Input::Tick);
        desk
    }

    /// A desk whose client has its session.
    fn ready() -> Desk {
        let mut desk = Desk::new();
        desk.opens();
        desk
    }

    fn opens(&mut self) {
        let link = self.requests.last().expect("it asked for a connection").0;
        self.input(Input::Opened { link });
        self.tells(&json!({
            "meta": { "type": "Session", "ref": null },
            "data": { "serverVersion": "", "state": { "spaces": [], "rooms": [] }, "user": { "id": "1" } },
        }));
        self.events.clear();
    }

    fn tells(&mut self, event: &Value) {
        let link = self.requests.last().expect("it asked for a connection").0;
        let text = event.to_string();
        self.input(Input::Received { link, frame: Frame::Text(text.as_bytes()) });
    }

    fn does(&mut self, name: &str, with: Value) {
        let command = Client::command(name, &with).expect("a known stimulus");
        self.input(Input::Command(command));
    }

    fn input(&mut self, input: Input<'_, <Client as Machine>::Command>) {
        let mut out = Outbox::default();
        self.client.handle(self.now, input, &mut out);
        while let Some(action) = out.pop() {
            match action {
                Action::Connect { link, request } => self.requests.push((link, request)),
                Action::Send { message: Message::Text(text), .. } => {
                    self.sent.push(serde_json::from_str(&text).expect("clients send JSON"));
                }
                Action::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    /// The types of the commands that were sent.
    fn kinds(&self) -> Vec<&str> {
        self.sent.iter().filter_map(|command| command["meta"]["type"].as_str()).collect()
    }

    fn reference(&self, place: usize) -> Value {
        self.sent[place]["meta"]["ref"].clone()
    }
}

#[test]
fn the_token_is_percent_encoded() {
    let desk = Desk::new();
    assert_eq!(desk.requests[0].1.query, "token=a%20b%26c");
}

#[test]
fn commands_wait_for_the_session() {
    let mut desk = Desk::new();
    desk.does("GetSession", json!({}));
    assert!(desk.sent.is_empty());
    desk.opens();
    assert_eq!(desk.kinds(), ["GetSession"]);
}

#[test]
fn answers_are_found_by_their_refs() {
    let mut desk = Desk::ready();
    for (first, then) in [("JoinSpace", "GetSpaceRooms"), ("JoinRoom", "GetRoomMembers")] {
        desk.does("chain", json!({ "do": { "type": first }, "then": { "type": then } }));
    }
    let second = desk.reference(1);
    desk.tells(&json!({ "meta": { "type": "RoomJoined", "ref": second }, "data": {} }));
    assert_eq!(desk.kinds(), ["JoinSpace", "JoinRoom", "GetRoomMembers"]);
}

#[test]
fn errors_and_losses_end_what_waits() {
    let mut desk = Desk::ready();
    desk.does("chain", json!({ "do": { "type": "JoinRoom" }, "otherwise": { "type": "GetSession" } }));
    let own = desk.reference(0);
    desk.tells(&json!({ "meta": { "type": "Error", "ref": own }, "data": { "code": "X", "message": "" } }));
    assert_eq!(desk.kinds(), ["JoinRoom", "GetSession"]);
    assert_eq!(desk.events, [ClientEvent::Failed(Some("X".to_owned()))]);
    let link = desk.requests[0].0;
    desk.input(Input::Closed { link });
    assert!(desk.events.contains(&ClientEvent::Failed(None)));
}

#[test]
fn it_waits_longer_from_try_to_try_and_not_at_all_for_a_token_that_is_refused() {
    let mut desk = Desk::new();
    for wait in [1, 2, 4] {
        let link = desk.requests.last().expect("it asked").0;
        desk.input(Input::Refused { link, status: Some(503) });
        let due = desk.client.deadline().expect("it comes back");
        assert_eq!(due.since(desk.now), Duration::from_secs(wait));
        desk.now = due;
        desk.input(Input::Tick);
    }
    let link = desk.requests.last().expect("it asked").0;
    desk.input(Input::Refused { link, status: Some(401) });
    assert_eq!(desk.client.deadline(), None);
    assert!(desk.client.is_over());
}

#[test]
fn without_a_session_it_gives_up_after_ten_seconds() {
    let mut desk = Desk::new();
    let link = desk.requests[0].0;
    desk.input(Input::Opened { link });
    desk.now = desk.client.deadline().expect("it does not wait for ever");
    assert_eq!(desk.now.since_start(), Duration::from_secs(10));
    desk.input(Input::Tick);
    assert_eq!(desk.events, [ClientEvent::Lost]);
}

#[test]
fn strange_and_broken_events_change_nothing() {
    let mut desk = Desk::ready();
    for event in
        [json!(5), json!({}), json!({ "meta": null }), json!({ "meta": { "type": "Tide", "ref": 7 } })]
    {
        desk.tells(&event);
    }
    let link = desk.requests[0].0;
    desk.input(Input::Received { link, frame: Frame::Text(&[0xff]) });
    desk.input(Input::Received { link, frame: Frame::Binary(&[0]) });
    desk.does("GetSession", json!({}));
    assert_eq!(desk.kinds(), ["GetSession"]);
}

#[test]
fn commands_by_http_are_posted_and_their_events_handed_on() {
    let mut desk = Desk::ready();
    let posted = json!({ "type": "JoinRoom", "data": { "id": "x" }, "api": true });
    desk.does("chain", json!({ "do": posted, "otherwise": { "type": "GetSession" } }));
    let (link, request) = desk.requests[1].clone();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api"));
    let header =
        |name: &str| request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(header("Authorization"), Some("Bearer a b&c"));
    assert_eq!(header("Content-Type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&request.body).expect("an envelope");
    let error = json!({ "meta": { "type": "Error", "ref": body["meta"]["ref"] }, "data": { "code": "X" } });
    let response = Response { status: 422, body: error.to_string().into_bytes(), ..Response::default() };
    desk.input(Input::Answered { link, response: &response });
    assert_eq!(desk.kinds(), ["GetSession"]);
}
