//! A server machine and the connections of its users, without any bytes: what the machine puts into its outbox is
//! what they have heard.

use std::collections::BTreeMap;

use flowproof_reference::machine::{
    Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time,
};
use flowproof_reference::polfan::{Fault, Server, ServerConfig};
use serde_json::{Value, json};

/// The server under test, and what each connection has heard.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) now: Time,
    links: BTreeMap<String, LinkId>,
    heard: BTreeMap<LinkId, Vec<Value>>,
    answers: BTreeMap<LinkId, Response>,
    next_link: u64,
}

/// A configuration with one planted fault.
pub(crate) fn faulty(name: &str) -> ServerConfig {
    let fault = Fault::from_name(name).expect("a known fault");
    ServerConfig { faults: [fault].into(), ..ServerConfig::default() }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(&ServerConfig::default())
    }

    pub(crate) fn with(config: &ServerConfig) -> World {
        World {
            server: Server::new(config),
            now: Time::ZERO,
            links: BTreeMap::new(),
            heard: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_link: 0,
        }
    }

    /// The user of that name connects, and has read its `Session`.
    pub(crate) fn join(&mut self, name: &str) -> Value {
        self.connect(name, &format!("token=tok-{name}"));
        let mut heard = self.heard(name);
        assert_eq!(heard.len(), 1, "a session and nothing else: {heard:?}");
        heard.remove(0)
    }

    /// A connection is asked for, with this query.
    pub(crate) fn connect(&mut self, name: &str, query: &str) {
        let link = self.link(name);
        let request = Request {
            method: "GET".to_owned(),
            path: "/ws".to_owned(),
            query: query.to_owned(),
            upgrade: true,
            ..Request::default()
        };
        self.input(Input::Requested { link, request: &request });
    }

    fn link(&mut self, name: &str) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(name.to_owned(), link);
        link
    }

    /// A command; what its sender hears of it. The ref is the name of the command.
    pub(crate) fn says(&mut self, name: &str, kind: &str, data: Value) -> Value {
        self.sends(name, &json!({ "meta": { "type": kind, "ref": kind }, "data": data }).to_string());
        let mut heard = self.heard(name);
        assert_eq!(heard.len(), 1, "one answer to {kind}: {heard:?}");
        heard.remove(0)
    }

    /// A command that is expected to work.
    pub(crate) fn does(&mut self, name: &str, kind: &str, data: Value) -> Value {
        let answer = self.says(name, kind, data);
        assert_ne!(answer["meta"]["type"], "Error", "{kind}: {answer}");
        assert_eq!(answer["meta"]["ref"], kind);
        answer["data"].clone()
    }

    /// A command that is expected to fail; its code.
    pub(crate) fn fails(&mut self, name: &str, kind: &str, data: Value) -> String {
        let answer = self.says(name, kind, data);
        assert_eq!(answer["meta"]["type"], "Error", "{kind}: {answer}");
        answer["data"]["code"].as_str().expect("a code").to_owned()
    }

    pub(crate) fn sends(&mut self, name: &str, text: &str) {
        self.frame(name, Frame::Text(text.as_bytes()));
    }

    pub(crate) fn frame(&mut self, name: &str, frame: Frame<'_>) {
        let link = self.links[name];
        self.input(Input::Received { link, frame });
    }

    pub(crate) fn vanishes(&mut self, name: &str) {
        let link = self.links[name];
        self.input(Input::Closed { link });
    }

    /// What a connection has heard since it was last asked: events as JSON, ends in words.
    pub(crate) fn heard(&mut self, name: &str) -> Vec<Value> {
        let link = self.links[name];
        self.heard.remove(&link).unwrap_or_default()
    }

    /// The types of what a connection has heard.
    pub(crate) fn kinds(&mut self, name: &str) -> Vec<String> {
        let heard = self.heard(name);
        let kind =
            |event: &Value| event["meta"]["type"].as_str().map_or_else(|| event.to_string(), str::to_owned);
        heard.iter().map(kind).collect()
    }

    /// A plain HTTP request and its answer.
    pub(crate) fn asks(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let link = self.link("");
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.as_bytes().to_vec(),
            ..Request::default()
        };
        self.input(Input::Requested { link, request: &request });
        self.answers.remove(&link).expect("every request is answered")
    }

    /// A command by WebAPI: status and event.
    pub(crate) fn posts(&mut self, name: &str, body: &str) -> (u16, Value) {
        let bearer = format!("Bearer tok-{name}");
        let answer = self.asks("POST", "/api", &[("authorization", &bearer)], body);
        (answer.status, serde_json::from_slice(&answer.body).expect("an event"))
    }

    pub(crate) fn input(&mut self, input: Input<'_, <Server as Machine>::Command>) {
        let mut out = Outbox::default();
        self.server.handle(self.now, input, &mut out);
        while let Some(action) = out.pop() {
            match action {
                Action::Send { link, message: Message::Text(text) } => {
                    let event = serde_json::from_str(&text).expect("servers send JSON");
                    self.heard.entry(link).or_default().push(event);
                }
                Action::Close { link, code, .. } => {
                    self.heard.entry(link).or_default().push(json!(format!("close {}", code.unwrap_or(0))));
                }
                Action::Respond { link, response } => {
                    self.answers.insert(link, response);
                }
                _ => {}
            }
        }
    }

    /// A space with a room and a topic that alice has made, with these users in space and room; nobody has unread
    /// events.
    pub(crate) fn furnished(&mut self, users: &[&str]) -> Place {
        self.join("alice");
        let space = self.does("alice", "CreateSpace", json!({ "name": "Harbour" }))["space"]["id"].clone();
        let made =
            self.does("alice", "CreateRoom", json!({ "spaceId": space, "name": "Pier", "description": "" }));
        let room = made["summary"]["id"].clone();
        self.does("alice", "JoinRoom", json!({ "id": room }));
        let made = self.does(
            "alice",
            "CreateTopic",
            json!({ "roomId": room, "name": "Weather", "description": "" }),
        );
        let topic = made["topic"]["id"].clone();
        for user in users {
            self.join(user);
            self.does(user, "JoinSpace", json!({ "id": space }));
            self.does(user, "JoinRoom", json!({ "id": room }));
        }
        self.heard.clear();
        Place { space, room, topic }
    }
}

/// Ids of a furnished space.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) space: Value,
    pub(crate) room: Value,
    pub(crate) topic: Value,
}
