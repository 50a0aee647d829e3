//! What holds for hangout's machines whatever happens to them. What they do for well-behaved peers is seen by the flows
//! of the corpus, which run against them in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use flowproof_reference::driver::host::{Host, HostOutput, Station};
use flowproof_reference::hangout::{
    Client, ClientCommand, ClientConfig, ClientEvent, Fault, Server, ServerCommand, ServerConfig,
};
use flowproof_reference::machine::{
    Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Time, WireFault,
};
use flowproof_reference::transport::Framing;
use flowproof_reference::transport::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Something that could happen to a machine, as data that can be drawn and shown.
#[derive(Clone, Debug)]
enum Step {
    Requested {
        upgrade: bool,
    },
    Opened,
    Refused,
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Broken(WireFault),
    Closing(Option<u16>),
    Closed,
    /// The n-th command that the machine knows.
    Command(u8),
    Nothing,
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let to = prop::sample::select(vec![
        r#""server""#,
        r#""*""#,
        r#"["*", "server"]"#,
        "5",
        "[]",
        "null",
        r#"["x", 1]"#,
    ]);
    let kind = prop::sample::select(vec!["properties", "chat", "from", "metadata", "changes", ""]);
    let payload =
        prop::sample::select(vec![r#"{"a": 1}"#, r#"{"a": null, "b": {}}"#, "[]", "0", "1e400", "[[[["]);
    let envelope = (to, kind, payload).prop_map(|(to, kind, payload)| {
        format!(r#"{{"to": {to}, "packet": {{"type": "{kind}", "{kind}": {payload}}}}}"#).into_bytes()
    });
    let server = prop::sample::select(vec![
        r#"{"from": "server", "type": "metadata", "metadata": {"index": "x", "indexes": ["x"], "properties": {"x": {}}}}"#,
        r#"{"from": "server", "type": "changes", "changes": {"opened": ["x"], "closed": [], "properties": []}}"#,
        r#"{"from": "x", "type": "chat", "chat": null}"#,
    ]);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..40),
        4 => envelope,
        1 => server.prop_map(|text| text.as_bytes().to_vec()),
        1 => Just("[".repeat(100_000).into_bytes()),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..10);
    prop_oneof![
        4 => any::<bool>().prop_map(|upgrade| Step::Requested { upgrade }),
        1 => Just(Step::Opened),
        1 => Just(Step::Refused),
        8 => any_text().prop_map(Step::Text),
        1 => bytes().prop_map(Step::Binary),
        1 => bytes().prop_map(Step::Ping),
        1 => bytes().prop_map(Step::Pong),
        1 => prop_oneof![Just(WireFault::Protocol), Just(WireFault::TooBig)].prop_map(Step::Broken),
        1 => proptest::option::of(any::<u16>()).prop_map(Step::Closing),
        2 => Just(Step::Closed),
        2 => any::<u8>().prop_map(Step::Command),
        1 => Just(Step::Nothing),
    ]
}

/// A life of a machine: a link, what happens there, and how long after the thing before.
fn any_life() -> impl Strategy<Value = Vec<(u64, Step, u64)>> {
    prop::collection::vec((0..4_u64, any_step(), prop_oneof![0..20_u64, 0..30_000_u64]), 0..60)
}

fn any_faults() -> impl Strategy<Value = BTreeSet<Fault>> {
    let names = vec![
        "replaces-properties",
        "inherits-properties",
        "shared-token",
        "sequential-tokens",
        "immediate-sync",
        "deaf-after-bad-input",
        "array-becomes-properties",
        "dies-on-malformed",
        "dies-on-wire-error",
    ];
    prop::collection::btree_set(prop::sample::select(names), 0..2)
        .prop_map(|names| names.into_iter().filter_map(Fault::from_name).collect())
}

/// Leads a machine through a life, as a host would: links open before anything arrives on them, and are closed once.
/// Whatever happens, the deadline lies ahead, and nothing is said on a link that is gone. All that it wanted done.
fn check_life<M: Machine>(
    machine: &mut M,
    life: &[(u64, Step, u64)],
    commands: &[M::Command],
) -> Result<Vec<Action<M::Event>>, TestCaseError>
where
    M::Command: Clone,
    M::Event: std::fmt::Debug,
{
    let mut now = Time::ZERO;
    let mut out = Outbox::default();
    let mut done = Vec::new();
    let mut open: BTreeSet<LinkId> = BTreeSet::new();
    let mut dialled: BTreeSet<LinkId> = BTreeSet::new();
    // Links get new numbers when they are used again.
    let mut numbers = [0_u64; 4];
    for (place, step, pause) in life {
        let until = now + Duration::from_millis(*pause);
        let mut ticks = 0;
        while let Some(due) = machine.deadline().filter(|due| *due <= until) {
            now = due.max(now);
            machine.handle(now, Input::Tick, &mut out);
            check_done(&mut out, &mut open, &mut dialled, &mut done)?;
            prop_assert!(
                machine.deadline().is_none_or(|due| due > now),
                "after a tick the deadline stands still"
            );
            ticks += 1;
            prop_assert!(ticks < 10_000, "it does not come to rest");
        }
        now = until;
        let number = &mut numbers[usize::try_from(*place).expect("small")];
        let asked = dialled.iter().next().copied();
        let link = LinkId(1_000 + *place + 4 * *number);
        let link = open
            .iter()
            .copied()
            .filter(|one| one.0 < 1_000)
            .nth(usize::try_from(*place).expect("small"))
            .unwrap_or(link);
        let request = |upgrade| Request {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            upgrade,
            ..Request::default()
        };
        let plain;
        let input = match step {
            Step::Requested { upgrade } if !open.contains(&link) => {
                plain = request(*upgrade);
                open.insert(link);
                Input::Requested { link, request: &plain }
            }
            Step::Opened | Step::Refused => {
                let Some(asked) = asked else { continue };
                dialled.remove(&asked);
                if matches!(step, Step::Opened) {
                    open.insert(asked);
                    Input::Opened { link: asked }
                } else {
                    Input::Refused { link: asked, status: Some(403) }
                }
            }
            Step::Command(which) => {
                let Some(command) = commands.get(usize::from(*which) % commands.len().max(1)) else {
                    continue;
                };
                Input::Command(command.clone())
            }
            Step::Nothing => Input::Tick,
            _ if !open.contains(&link) => continue,
            Step::Requested { .. } => continue,
            Step::Text(bytes) => Input::Received { link, frame: Frame::Text(bytes) },
            Step::Binary(bytes) => Input::Received { link, frame: Frame::Binary(bytes) },
            Step::Ping(bytes) => Input::Received { link, frame: Frame::Ping(bytes) },
            Step::Pong(bytes) => Input::Received { link, frame: Frame::Pong(bytes) },
            Step::Broken(fault) => Input::Received { link, frame: Frame::Broken(*fault) },
            Step::Closing(code) => Input::Closing { link, code: *code, reason: "" },
            Step::Closed => {
                open.remove(&link);
                *number += 1;
                Input::Closed { link }
            }
        };
        machine.handle(now, input, &mut out);
        prop_assert!(
            machine.deadline().is_none_or(|due| due > now),
            "after {step:?} at {now} the deadline lies behind"
        );
        check_done(&mut out, &mut open, &mut dialled, &mut done)?;
        if matches!(step, Step::Requested { upgrade: false }) && open.remove(&link) {
            // It was answered, or not; no more comes on it.
            numbers[usize::try_from(*place).expect("small")] += 1;
        }
    }
    // In the end everybody goes.
    for link in std::mem::take(&mut open) {
        machine.handle(now, Input::Closed { link }, &mut out);
    }
    while let Some(action) = out.pop() {
        done.push(action);
    }
    Ok(done)
}

/// Takes what a machine wants done: nothing is said where nobody listens, and no link gets the number of another.
fn check_done<E: std::fmt::Debug>(
    out: &mut Outbox<E>,
    open: &mut BTreeSet<LinkId>,
    dialled: &mut BTreeSet<LinkId>,
    done: &mut Vec<Action<E>>,
) -> Result<(), TestCaseError> {
    while let Some(action) = out.pop() {
        match &action {
            Action::Send { link, .. } | Action::Close { link, .. } | Action::Abort { link } => {
                prop_assert!(open.contains(link), "{action:?} on a link that is gone");
            }
            Action::Connect { link, .. } => {
                prop_assert!(dialled.insert(*link) && !open.contains(link), "{action:?} uses a number again");
            }
            _ => {}
        }
        done.push(action);
    }
    Ok(())
}

fn client_commands() -> Vec<ClientCommand> {
    let told = |name: &str, with: Value| Client::command(name, &with).expect("a client knows this");
    vec![
        told("send", json!({"to": "*", "type": "chat", "payload": "hi"})),
        told("send", json!({"to": ["x"], "type": "dice", "payload": [3, 5]})),
        told("properties", json!({"name": "Alice", "color": null})),
        told("close", Value::Null),
    ]
}

proptest! {
    #[test]
    fn a_server_lives_through_anything_and_forgets_who_is_gone(life in any_life(), faults in any_faults(), seed in any::<u64>()) {
        let config = ServerConfig { seed, faults, ..ServerConfig::default() };
        let mut server = Server::new(config);
        check_life(&mut server, &life, &[ServerCommand::ShutDown])?;
        // The last changes are told to nobody; then there is nothing left to do.
        if let Some(due) = server.deadline() {
            let mut out = Outbox::default();
            server.handle(due, Input::Tick, &mut out);
            prop_assert!(out.pop().is_none(), "somebody is still spoken to");
        }
        prop_assert_eq!(server.deadline(), None, "a server that nobody uses waits for nothing");
    }

    #[test]
    fn a_client_lives_through_anything(life in any_life()) {
        let mut client = Client::new(ClientConfig::default());
        check_life(&mut client, &life, &client_commands())?;
    }

    #[test]
    fn the_same_seed_leads_the_same_life(life in any_life(), seed in any::<u64>()) {
        let live = |seed| {
            let mut server = Server::new(ServerConfig { seed, ..ServerConfig::default() });
            check_life(&mut server, &life, &[])
        };
        let first = live(seed)?;
        prop_assert_eq!(&first, &live(seed)?);
        let greeted = first.iter().any(|action| matches!(action, Action::Send { message: Message::Text(_), .. }));
        if greeted {
            prop_assert_ne!(&first, &live(seed ^ 1)?, "tokens come from the seed");
        }
    }

    #[test]
    fn whatever_a_stranger_sends_the_others_are_served(
        upgrades in any::<bool>(),
        parts in prop::collection::vec(prop_oneof![prop::collection::vec(any::<u8>(), 0..50), any_text()], 0..5),
    ) {
        let mut room = Room::new();
        room.join("alice");
        room.rest();
        let stranger = room.open("stranger", upgrades);
        for part in parts {
            room.bytes(stranger, &part);
        }
        room.server.ended(room.now, stranger);
        room.rest();
        room.heard("alice");
        room.send("alice", json!({"to": "*", "packet": {"type": "chat", "chat": "still here"}}));
        let heard = room.heard("alice");
        prop_assert!(heard.iter().any(|one| one["chat"] == "still here"), "{heard:?}");
        prop_assert_eq!(room.deadlines_after_everybody_left(), None);
    }
}

/// A server and clients that a test plays, wired in memory.
struct Room {
    server: Host<Server>,
    now: Time,
    peers: Vec<(String, LinkId, WebSocketEnd, Vec<Value>)>,
    next: u64,
}

impl Room {
    fn new() -> Room {
        let framing =
            Framing::WebSocket(WebSocketConfig { max_message: 1 << 16, ..WebSocketConfig::default() });
        let server = Host::new(Server::new(ServerConfig::default()), framing, "");
        Room { server, now: Time::ZERO, peers: Vec::new(), next: 0 }
    }

    /// A stream, and the bytes of an upgrade on it.
    fn open(&mut self, name: &str, upgrades: bool) -> LinkId {
        let link = LinkId(self.next);
        self.next += 1;
        let request =
            Request { method: "GET".to_owned(), path: "/".to_owned(), upgrade: true, ..Request::default() };
        let mut end = WebSocketEnd::connecting(WebSocketConfig::default(), "localhost", &request, link.0);
        let upgrade = end.take_output();
        self.server.incoming(self.now, link);
        self.peers.push((name.to_owned(), link, end, Vec::new()));
        if upgrades {
            self.bytes(link, &upgrade);
        }
        link
    }

    fn join(&mut self, name: &str) {
        self.open(name, true);
    }

    fn bytes(&mut self, link: LinkId, bytes: &[u8]) {
        self.server.bytes(self.now, link, bytes);
        self.carry();
    }

    fn send(&mut self, name: &str, message: Value) {
        let peer = self.peers.iter_mut().find(|peer| peer.0 == name).expect("it joined");
        peer.2.send(&Message::Text(message.to_string()));
        let (link, bytes) = (peer.1, peer.2.take_output());
        self.bytes(link, &bytes);
    }

    /// The texts that a peer got since it was last asked.
    fn heard(&mut self, name: &str) -> Vec<Value> {
        let peer = self.peers.iter_mut().find(|peer| peer.0 == name).expect("it joined");
        std::mem::take(&mut peer.3)
    }

    /// Lets the next check pass.
    fn rest(&mut self) {
        self.now = self.now + Duration::from_millis(500);
        self.server.tick(self.now);
        self.carry();
    }

    fn carry(&mut self) {
        while let Some(output) = self.server.poll_output() {
            let HostOutput::Write(link, bytes) = output else { continue };
            let Some(peer) = self.peers.iter_mut().find(|peer| peer.1 == link) else { continue };
            peer.2.receive(&bytes);
            while let Some(event) = peer.2.poll() {
                if let WireEvent::Text(bytes) = event {
                    peer.3.push(serde_json::from_slice(&bytes).expect("a server sends JSON"));
                }
            }
        }
    }

    /// What the server still waits for when all streams have ended and a check has passed.
    fn deadlines_after_everybody_left(&mut self) -> Option<Time> {
        for place in 0..self.peers.len() {
            let link = self.peers[place].1;
            self.server.ended(self.now, link);
        }
        self.rest();
        Station::deadline(&self.server)
    }
}

/// A client that is told things, and what it says; its server is played.
struct Stage {
    client: Host<Client>,
    now: Time,
    server: WebSocketEnd,
    link: Option<LinkId>,
    connections: usize,
    said: Vec<Value>,
    events: Vec<ClientEvent>,
}

impl Stage {
    fn new(config: ClientConfig) -> Stage {
        let framing = Framing::WebSocket(WebSocketConfig::default());
        let mut stage = Stage {
            client: Host::new(Client::new(config), framing, "localhost"),
            now: Time::ZERO,
            server: WebSocketEnd::listening(WebSocketConfig::default()),
            link: None,
            connections: 0,
            said: Vec::new(),
            events: Vec::new(),
        };
        stage.wait(Duration::ZERO);
        stage
    }

    /// Lets time pass, and carries bytes both ways.
    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(due) = self.client.deadline().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.client.tick(self.now);
            self.carry();
        }
        self.now = until;
    }

    fn play(&mut self, act: impl FnOnce(&mut WebSocketEnd)) {
        act(&mut self.server);
        self.carry();
    }

    fn told(&mut self, name: &str, with: Value) {
        let command = Client::command(name, &with).expect("a client knows this");
        self.client.command(self.now, command);
        self.carry();
    }

    /// The server cuts the stream.
    fn cut(&mut self) {
        let link = self.link.take().expect("it is connected");
        self.client.ended(self.now, link);
        self.carry();
    }

    fn said(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.said)
    }

    fn carry(&mut self) {
        for _ in 0..1000 {
            let mut quiet = true;
            if let Some(link) = self.link {
                let bytes = self.server.take_output();
                if !bytes.is_empty() {
                    quiet = false;
                    self.client.bytes(self.now, link, &bytes);
                }
            }
            while let Some(output) = self.client.poll_output() {
                quiet = false;
                match output {
                    HostOutput::Dial(link) => {
                        self.connections += 1;
                        self.link = Some(link);
                        self.server = WebSocketEnd::listening(WebSocketConfig::default());
                        self.client.connected(self.now, link);
                    }
                    HostOutput::Write(_, bytes) => self.server.receive(&bytes),
                    HostOutput::End(_) | HostOutput::Abort(_) => self.server.end_of_stream(),
                    other => panic!("{other:?}"),
                }
            }
            while let Some(event) = self.client.poll_event() {
                self.events.push(event);
            }
            while let Some(event) = self.server.poll() {
                quiet = false;
                match event {
                    WireEvent::Request(_) => self.server.accept(None),
                    WireEvent::Text(bytes) => {
                        self.said.push(serde_json::from_slice(&bytes).expect("a client sends JSON"));
                    }
                    WireEvent::Pong(payload) => {
                        self.said.push(json!(format!("pong {}", String::from_utf8_lossy(&payload))))
                    }
                    WireEvent::Closing { code, .. } => self.said.push(json!(format!("close {code:?}"))),
                    WireEvent::Ended => {}
                    other => panic!("{other:?}"),
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the stage does not come to rest");
    }
}

const RECONNECT: Duration = Duration::from_millis(500);

fn writes(properties: Value) -> Value {
    json!({"to": "server", "packet": {"type": "properties", "properties": properties}})
}

#[test]
fn a_client_sends_what_it_is_told_to() {
    let mut stage = Stage::new(ClientConfig::default());
    stage.told("send", json!({"to": "*", "type": "chat", "payload": null}));
    stage.told("send", json!({"to": ["a", "b"], "type": "dice", "payload": [3, 5]}));
    stage.told("properties", json!({"a": 1}));
    let expected = [
        json!({"to": "*", "packet": {"type": "chat", "chat": null}}),
        json!({"to": ["a", "b"], "packet": {"type": "dice", "dice": [3, 5]}}),
        writes(json!({"a": 1})),
    ];
    assert_eq!(stage.said(), expected);
    assert!(Client::command("dance", &json!({})).is_err_and(|error| error.contains("dance")));
    assert!(Client::command("properties", &json!([])).is_err());
}

#[test]
fn a_client_answers_pings_and_lives_through_bad_packets() {
    let mut stage = Stage::new(ClientConfig::default());
    for text in ["", "{", "[]", r#"{"from": 5}"#, r#"{"from": "x", "type": "chat"}"#, "\u{feff}{}"] {
        stage.play(|end| end.send_text_bytes(text.as_bytes()));
    }
    stage.play(|end| end.send(&Message::Binary(vec![1])));
    stage.play(|end| end.send_text_bytes(b"\xff"));
    stage.play(|end| end.send(&Message::Ping(b"p".to_vec())));
    assert_eq!(stage.said(), ["pong p"]);
    assert_eq!(stage.connections, 1, "{:?}", stage.events);
}

#[test]
fn a_client_comes_back_with_its_properties() {
    let mut stage = Stage::new(ClientConfig::default());
    stage.told("properties", json!({"name": "Alice", "color": "red"}));
    stage.told("properties", json!({"color": null, "age": 41}));
    stage.said();
    stage.cut();
    assert!(stage.events.contains(&ClientEvent::Closed));
    stage.wait(RECONNECT - Duration::from_millis(1));
    assert_eq!(stage.connections, 1);
    stage.wait(Duration::from_millis(1));
    assert_eq!(stage.connections, 2);
    assert_eq!(stage.said(), [writes(json!({"name": "Alice", "age": 41}))]);
}

#[test]
fn what_a_client_is_told_while_it_is_away_is_sent_when_it_is_back() {
    let mut stage = Stage::new(ClientConfig::default());
    stage.cut();
    stage.told("send", json!({"to": "*", "type": "chat", "payload": "later"}));
    assert_eq!(stage.said(), [] as [Value; 0]);
    stage.wait(RECONNECT);
    assert_eq!(stage.said(), [json!({"to": "*", "packet": {"type": "chat", "chat": "later"}})]);
}

#[test]
fn a_client_that_left_stays_away() {
    let mut stage = Stage::new(ClientConfig::default());
    stage.told("close", Value::Null);
    assert_eq!(stage.said(), ["close Some(1000)"]);
    stage.play(|end| end.close(Some(1000), ""));
    stage.cut();
    stage.wait(Duration::from_secs(60));
    assert_eq!((stage.connections, stage.client.deadline()), (1, None));
}
