//! A relay and peers on lossless lines. Whoever runs the herd says which line moves next.

use std::collections::VecDeque;
use std::time::Duration;

use flowproof_reference::cow::{Peer, PeerCommand, PeerConfig, Relay, RelayConfig, StoreKey, SyncType};
use flowproof_reference::machine::{Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Time};

/// Moves after which a herd that finds no rest is given up.
const MOVES: usize = 200_000;

enum Wire {
    Request(Request),
    Opened,
    Text(String),
    Ping,
    Pong,
    Close,
    End,
}

struct Line {
    peer: usize,
    /// The peer's number for it, and the relay's.
    ends: (LinkId, LinkId),
    to_relay: VecDeque<Wire>,
    to_peer: VecDeque<Wire>,
    over: bool,
}

/// A relay, its peers, and the lines between them.
pub(crate) struct Herd {
    pub(crate) now: Time,
    relay: Relay,
    pub(crate) peers: Vec<Peer>,
    lines: Vec<Line>,
    /// Every text message, with its sender and receiver, as it is delivered.
    pub(crate) log: Vec<String>,
}

impl Herd {
    pub(crate) fn new(configs: Vec<PeerConfig>) -> Herd {
        let relay = Relay::new(RelayConfig::default());
        let peers = configs.into_iter().map(Peer::new).collect();
        Herd { now: Time::ZERO, relay, peers, lines: Vec::new(), log: Vec::new() }
    }

    /// Lets time pass; whoever wants a tick by then has it.
    pub(crate) fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            let peers = self.peers.iter().filter_map(Machine::deadline);
            let Some(next) = peers.chain(self.relay.deadline()).min().filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            for peer in 0..self.peers.len() {
                if self.peers[peer].deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.tell_peer(peer, Input::Tick);
                }
            }
            if self.relay.deadline().is_some_and(|deadline| deadline <= self.now) {
                self.tell_relay(Input::Tick);
            }
            self.settle();
        }
        self.now = until;
    }

    /// A peer begins to connect, if it is not there.
    pub(crate) fn start(&mut self, peer: usize) {
        if self.peers[peer].deadline().is_some() {
            self.tell_peer(peer, Input::Tick);
        }
    }

    pub(crate) fn command(&mut self, peer: usize, command: PeerCommand) {
        self.tell_peer(peer, Input::Command(command));
    }

    /// Cuts a peer's line; what is under way on it is lost.
    pub(crate) fn cut(&mut self, peer: usize) {
        for line in self.lines.iter_mut().filter(|line| line.peer == peer && !line.over) {
            line.to_peer.clear();
            line.to_relay.clear();
            line.to_peer.push_back(Wire::End);
            line.to_relay.push_back(Wire::End);
        }
    }

    /// Moves one message; `pick` chooses among the queues that hold one. False when all is quiet.
    pub(crate) fn step(&mut self, pick: impl FnOnce(usize) -> usize) -> bool {
        let full: Vec<(usize, bool)> = (0..self.lines.len())
            .flat_map(|line| [(line, true), (line, false)])
            .filter(|(line, up)| {
                let line = &self.lines[*line];
                if *up { !line.to_relay.is_empty() } else { !line.to_peer.is_empty() }
            })
            .collect();
        if full.is_empty() {
            return false;
        }
        let (line, up) = full[pick(full.len()) % full.len()];
        let (peer, (own, relays)) = (self.lines[line].peer, self.lines[line].ends);
        let wire =
            if up { self.lines[line].to_relay.pop_front() } else { self.lines[line].to_peer.pop_front() };
        match (wire.expect("the queue holds one"), up) {
            (Wire::Request(request), _) => {
                self.tell_relay(Input::Requested { link: relays, request: &request })
            }
            (Wire::Opened, _) => self.tell_peer(peer, Input::Opened { link: own }),
            (Wire::Text(text), true) => {
                self.log.push(format!("{peer} -> relay {text}"));
                self.tell_relay(Input::Received { link: relays, frame: Frame::Text(text.as_bytes()) });
            }
            (Wire::Text(text), false) => {
                self.log.push(format!("relay -> {peer} {text}"));
                self.tell_peer(peer, Input::Received { link: own, frame: Frame::Text(text.as_bytes()) });
            }
            (Wire::Ping, _) => self.tell_peer(peer, Input::Received { link: own, frame: Frame::Ping(b"") }),
            (Wire::Pong, _) => self.tell_relay(Input::Received { link: relays, frame: Frame::Pong(b"") }),
            (Wire::Close, true) => {
                self.tell_relay(Input::Closing { link: relays, code: Some(1000), reason: "" });
                self.tell_relay(Input::Closed { link: relays });
                self.lines[line].to_peer.push_back(Wire::End);
            }
            (Wire::Close, false) => {
                self.tell_peer(peer, Input::Closing { link: own, code: Some(1000), reason: "" });
                self.tell_peer(peer, Input::Closed { link: own });
                self.lines[line].over = true;
                self.lines[line].to_relay.push_back(Wire::End);
            }
            (Wire::End, true) => self.tell_relay(Input::Closed { link: relays }),
            (Wire::End, false) => {
                self.lines[line].over = true;
                self.tell_peer(peer, Input::Closed { link: own });
            }
        }
        true
    }

    /// Until all is quiet, oldest line first.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MOVES {
            if !self.step(|_| 0) {
                return;
            }
        }
        panic!("the herd finds no rest; the last words were {:?}", self.log.last());
    }

    fn tell_relay(&mut self, input: Input<'_, flowproof_reference::cow::RelayCommand>) {
        let mut out = Outbox::default();
        self.relay.handle(self.now, input, &mut out);
        let at = |lines: &[Line], link: LinkId| lines.iter().position(|line| line.ends.1 == link);
        while let Some(action) = out.pop() {
            let (link, wire) = match action {
                Action::Accept { link, .. } => (link, Wire::Opened),
                Action::Send { link, message: Message::Text(text) } => (link, Wire::Text(text)),
                Action::Send { link, message: Message::Ping(_) } => (link, Wire::Ping),
                Action::Close { link, .. } => (link, Wire::Close),
                Action::Abort { link } => (link, Wire::End),
                _ => continue,
            };
            if let Some(line) = at(&self.lines, link) {
                self.lines[line].to_peer.push_back(wire);
            }
        }
        assert!(self.relay.deadline().is_none_or(|deadline| deadline > self.now), "deadlines lie ahead");
    }

    fn tell_peer(&mut self, peer: usize, input: Input<'_, PeerCommand>) {
        let mut out = Outbox::default();
        self.peers[peer].handle(self.now, input, &mut out);
        while let Some(action) = out.pop() {
            let (link, wire) = match action {
                Action::Connect { link, request } => {
                    let ends = (link, LinkId(self.lines.len() as u64));
                    let request = Wire::Request(Request { upgrade: true, ..request });
                    self.lines.push(Line {
                        peer,
                        ends,
                        to_relay: VecDeque::from([request]),
                        to_peer: VecDeque::new(),
                        over: false,
                    });
                    continue;
                }
                Action::Send { link, message: Message::Text(text) } => (link, Wire::Text(text)),
                Action::Send { link, message: Message::Pong(_) } => (link, Wire::Pong),
                Action::Close { link, .. } => (link, Wire::Close),
                Action::Abort { link } => (link, Wire::End),
                _ => continue,
            };
            let line =
                self.lines.iter_mut().find(|line| line.peer == peer && line.ends.0 == link && !line.over);
            if let Some(line) = line {
                line.to_relay.push_back(wire);
            }
        }
    }

    /// What all peers that are there hold, apart from tombstones: one line a record.
    pub(crate) fn holdings(&self, peer: usize) -> Vec<String> {
        let records = self.peers[peer].stores().iter().filter(|(_, _, record)| !record.deleted);
        records
            .map(|(store, id, record)| {
                let data = serde_json::Value::Object(record.data.clone());
                format!("{}/{:?}/{id} {} {data}", store.kind.name(), store.project, record.updated)
            })
            .collect()
    }
}

pub(crate) fn users() -> StoreKey {
    StoreKey::herd(SyncType::Users)
}

/// A change of a record's name.
pub(crate) fn change(store: StoreKey, id: &str, name: &str) -> PeerCommand {
    let mut data = serde_json::Map::new();
    data.insert("name".to_owned(), name.into());
    PeerCommand::Change { store, id: id.to_owned(), data }
}
