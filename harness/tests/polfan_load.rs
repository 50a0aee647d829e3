//! A crowd talks in many polfan rooms, every other message by HTTP: each message comes to each member of its room once
//! and to nobody else, and no monitor has anything to say. `POLFAN_LOAD=full` makes it two hundred users in twenty
//! rooms who talk for four minutes, and looks at the memory as well: what the monitors remember has reached its full size
//! in half of that.

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof::judge::finding::Ruling;
use flowproof::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What, monitors};
use flowproof_reference::machine::{
    Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time,
};
use flowproof_reference::polfan::{RoomConfig, Server, ServerConfig, SpaceConfig, TopicConfig, UserConfig};
use serde_json::{Value, json};

const SPACE: &str = "0b6f2a52-6a1e-4a55-9d0c-7a8c2f3b1e01";

fn uuid(kind: u32, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}

fn config(users: usize, rooms: usize) -> ServerConfig {
    let user = |number: usize| UserConfig {
        id: format!("{}", 1000 + number),
        nick: format!("user {number}"),
        avatar: String::new(),
        flags: Vec::new(),
        login: format!("user{number}"),
        password: "secret".to_owned(),
        tokens: vec![format!("tok-{number}")],
        permissions: Vec::new(),
    };
    let room = |number: usize| RoomConfig {
        id: uuid(1, number),
        name: format!("room {number}"),
        description: String::new(),
        members: Vec::new(),
        topics: vec![TopicConfig {
            id: uuid(2, number),
            name: "talk".to_owned(),
            description: String::new(),
        }],
    };
    let space = SpaceConfig {
        id: SPACE.to_owned(),
        name: "Harbour".to_owned(),
        owner: "1000".to_owned(),
        members: Vec::new(),
        rooms: (0..rooms).map(room).collect(),
    };
    ServerConfig { users: (0..users).map(user).collect(), spaces: vec![space], ..ServerConfig::default() }
}

struct Crowd {
    server: Server,
    monitors: Vec<Box<dyn Monitor>>,
    now: Time,
    parties: Vec<Party>,
    at_server: Party,
    next_link: u64,
    next_ref: u64,
    /// Who is at the other end of a link.
    users: BTreeMap<LinkId, usize>,
    /// Messages that came by WebSocket since they were last asked for: receiver and text.
    told: Vec<(usize, String)>,
    /// Everything that came.
    heard: usize,
}

impl Crowd {
    fn new(users: usize, rooms: usize) -> Crowd {
        let rules = MonitorConfig {
            slack: Duration::from_millis(250),
            exclusive: true,
            told: None,
            edition: "polfan-2023-01".to_owned(),
            settings: BTreeMap::new(),
        };
        let party = |name: String, role: &str| Party { name, role: role.to_owned(), under_test: true };
        Crowd {
            server: Server::new(&config(users, rooms)),
            monitors: monitors("polfan", &rules),
            now: Time::ZERO,
            parties: (0..users).map(|user| party(format!("user {user}"), "client")).collect(),
            at_server: party("server".to_owned(), "server"),
            next_link: 0,
            next_ref: 0,
            users: BTreeMap::new(),
            told: Vec::new(),
            heard: 0,
        }
    }

    /// Hands something to all monitors. They have nothing to say.
    fn watch(&mut self, link: LinkId, user: usize, from_server: bool, what: What<'_>) {
        let (server, client) = (&self.at_server, &self.parties[user]);
        let (from, to) = if from_server { (server, client) } else { (client, server) };
        let seen = Seen { at: self.now, link, from, to, from_address: None, to_address: None, what };
        let mut rulings = Rulings::default();
        for monitor in &mut self.monitors {
            while let Some(deadline) = monitor.deadline().filter(|deadline| *deadline <= self.now) {
                monitor.due(deadline, &mut rulings);
            }
            monitor.observe(&seen, &mut rulings);
        }
        silent(&rulings);
    }

    fn link(&mut self, user: usize) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.users.insert(link, user);
        link
    }

    fn connects(&mut self, user: usize) -> LinkId {
        let link = self.link(user);
        let query = format!("token=tok-{user}");
        let request = Request {
            method: "GET".to_owned(),
            path: "/ws".to_owned(),
            query: query.clone(),
            upgrade: true,
            ..Request::default()
        };
        self.watch(link, user, false, What::Opened { target: &format!("/ws?{query}") });
        self.input(Input::Requested { link, request: &request });
        link
    }

    fn input(&mut self, input: Input<'_, flowproof_reference::polfan::ServerCommand>) -> Option<Response> {
        let mut out = Outbox::default();
        self.server.handle(self.now, input, &mut out);
        let mut answer = None;
        while let Some(action) = out.pop() {
            match action {
                Action::Accept { link, .. } => {
                    assert!(self.input(Input::Opened { link }).is_none());
                }
                Action::Send { link, message: Message::Text(text) } => self.hears(link, &text),
                Action::Respond { link, response } => {
                    let user = self.users.remove(&link).expect("a user asked");
                    self.watch(link, user, true, What::Answered(&response));
                    answer = Some(response);
                }
                Action::Event(_) => {}
                other => panic!("the server does what nobody expects: {other:?}"),
            }
        }
        answer
    }

    fn hears(&mut self, link: LinkId, text: &str) {
        let user = *self.users.get(&link).expect("somebody is there");
        let event: Value = serde_json::from_str(text).expect("JSON");
        self.watch(link, user, true, What::Text { text, json: Ok(&event) });
        assert_ne!(event["meta"]["type"], "Error", "{event}");
        self.heard += 1;
        if event["meta"]["type"] == "NewMessage" {
            let content = event.pointer("/data/message/content").and_then(Value::as_str);
            self.told.push((user, content.expect("a text").to_owned()));
        }
    }

    fn envelope(&mut self, kind: &str, data: &Value) -> Value {
        self.next_ref += 1;
        json!({ "meta": { "type": kind, "ref": self.next_ref.to_string() }, "data": data })
    }

    fn says(&mut self, link: LinkId, kind: &str, data: &Value) {
        let user = self.users[&link];
        let command = self.envelope(kind, data);
        let text = command.to_string();
        self.watch(link, user, false, What::Text { text: &text, json: Ok(&command) });
        assert!(self.input(Input::Received { link, frame: Frame::Text(text.as_bytes()) }).is_none());
    }

    fn posts(&mut self, user: usize, kind: &str, data: &Value) {
        let link = self.link(user);
        let body = self.envelope(kind, data).to_string().into_bytes();
        let headers = vec![
            ("authorization".to_owned(), format!("Bearer tok-{user}")),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        let request = Request {
            method: "POST".to_owned(),
            path: "/api".to_owned(),
            headers,
            body,
            ..Request::default()
        };
        self.watch(link, user, false, What::Asked(&request));
        let answer = self.input(Input::Requested { link, request: &request });
        assert_eq!(answer.map(|answer| answer.status), Some(200));
    }
}

fn silent(rulings: &Rulings) {
    let loud = rulings.findings.iter().find(|finding| finding.ruling != Ruling::Kept);
    assert!(loud.is_none(), "a monitor says: {loud:?}");
}

/// Resident memory in KiB, where the system tells.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn each_message_comes_once_to_each_member_and_no_monitor_says_a_word() {
    let full = std::env::var("POLFAN_LOAD").is_ok_and(|form| form == "full");
    let (users, rooms, seconds) = if full { (200, 20, 240) } else { (24, 4, 3) };
    let mut crowd = Crowd::new(users, rooms);
    let room_of = |user: usize| user % rooms;
    let links: Vec<LinkId> = (0..users).map(|user| crowd.connects(user)).collect();
    for (user, link) in links.iter().enumerate() {
        crowd.says(*link, "JoinSpace", &json!({ "id": SPACE }));
        crowd.says(*link, "JoinRoom", &json!({ "id": uuid(1, room_of(user)) }));
    }
    let (mut sent, mut delivered, mut early) = (0, 0, None);
    for second in 0..seconds {
        for (user, link) in links.iter().enumerate() {
            crowd.now = crowd.now + Duration::from_micros(1_000_000 / users as u64);
            let content = format!("zażółć {second}: {user}");
            let data = json!({ "topicId": uuid(2, room_of(user)), "content": content });
            if (second + user) % 2 == 0 {
                crowd.says(*link, "CreateMessage", &data);
            } else {
                crowd.posts(user, "CreateMessage", &data);
            }
            let mut told = std::mem::take(&mut crowd.told);
            told.sort();
            let members = (0..users).filter(|other| room_of(*other) == room_of(user));
            let expected: Vec<(usize, String)> = members.map(|member| (member, content.clone())).collect();
            assert_eq!(told, expected);
            (sent, delivered) = (sent + 1, delivered + told.len());
        }
        if second == seconds / 2 {
            early = memory();
        }
    }
    let mut rulings = Rulings::default();
    let end = crowd.now + Duration::from_secs(10);
    for monitor in &mut crowd.monitors {
        while let Some(deadline) = monitor.deadline() {
            monitor.due(deadline, &mut rulings);
        }
        monitor.finish(end, &mut rulings);
    }
    silent(&rulings);
    assert_eq!(delivered, seconds * users * (users / rooms));
    assert!(sent > 0 && crowd.heard > sent, "{sent} messages made {} events", crowd.heard);
    if let (true, Some(early), Some(late)) = (full, early, memory()) {
        assert!(late < early + early / 10, "{early} KiB half way, {late} KiB at the end");
    }
}
