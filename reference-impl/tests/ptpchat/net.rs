//! A network of nodes in memory. Time jumps to the next thing that happens; the seed decides what the network does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use flowproof_reference::machine::{Action, Input, Machine, Outbox, SocketId, Time};
use flowproof_reference::ptpchat::{
    Edition, Filtering, Mapping, Nat, Node, NodeCommand, NodeConfig, NodeEvent,
};
use serde_json::Value;

/// Things that happen before a test is given up.
const STEPS: usize = 200_000;
/// The well-known port.
pub(crate) const PORT: u16 = 9001;

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Of a hundred datagrams, so many are lost.
    pub(crate) lost: u8,
    /// Of a hundred datagrams, so many arrive twice.
    pub(crate) twice: u8,
    /// The longest time on the way; what is sent later may arrive earlier.
    pub(crate) delay: Duration,
}

/// A datagram on its way, as the receiver's side of the world sees it.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("nodes send JSON")
    }

    pub(crate) fn is(&self, verb: &str) -> bool {
        self.json()["msg_type"] == verb
    }
}

struct Station {
    ip: Ipv4Addr,
    node: Node,
    sockets: BTreeMap<SocketId, SocketAddrV4>,
    events: Vec<NodeEvent>,
}

/// The nodes, the boxes in front of them, and what is on the way.
pub(crate) struct Net {
    pub(crate) now: Time,
    stations: Vec<Station>,
    nats: BTreeMap<Ipv4Addr, (Ipv4Addr, Nat)>,
    on_the_way: BTreeMap<(Time, u64), Datagram>,
    /// Everything that was delivered to somebody, or to a test's own address.
    pub(crate) seen: Vec<(Time, Datagram)>,
    weather: Weather,
    dice: fastrand::Rng,
    sent: u64,
    port: u16,
}

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an IP address")
}

pub(crate) fn at(text: &str) -> SocketAddrV4 {
    text.parse().expect("an address")
}

pub(crate) fn config(edition: Edition, seed: u64, knows: &[&str]) -> NodeConfig {
    NodeConfig {
        seed,
        edition,
        bootstrap: knows.iter().map(|text| at(text)).collect(),
        ..NodeConfig::default()
    }
}

/// S, on the well-known port.
pub(crate) fn server(edition: Edition) -> NodeConfig {
    NodeConfig { intermediary: true, port: Some(PORT), ..config(edition, 99, &[]) }
}

impl Net {
    pub(crate) fn new(seed: u64, weather: Weather) -> Net {
        Net {
            now: Time::ZERO,
            stations: Vec::new(),
            nats: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            seen: Vec::new(),
            weather,
            dice: fastrand::Rng::with_seed(seed),
            sent: 0,
            port: 40_000,
        }
    }

    /// A network without faults.
    pub(crate) fn fair() -> Net {
        Net::new(1, Weather::default())
    }

    /// Adds a node; its number.
    pub(crate) fn add(&mut self, address: &str, config: NodeConfig) -> usize {
        let (node, sockets, events) = (Node::new(config), BTreeMap::new(), Vec::new());
        self.stations.push(Station { ip: ip(address), node, sockets, events });
        self.stations.len() - 1
    }

    /// Puts a box in front of the nodes on `inside`; the world sees them at `outside`.
    pub(crate) fn translate(&mut self, inside: &str, outside: &str, mapping: Mapping, filtering: Filtering) {
        let outside = ip(outside);
        self.nats.insert(ip(inside), (outside, Nat::new(outside, mapping, filtering)));
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.stations[number].node
    }

    /// Where a node's ordinary socket is, as it sees it itself.
    pub(crate) fn address(&self, number: usize) -> SocketAddrV4 {
        self.stations[number].sockets[&SocketId(0)]
    }

    /// The sockets that a node has open.
    pub(crate) fn sockets(&self, number: usize) -> usize {
        self.stations[number].sockets.len()
    }

    pub(crate) fn events(&self, number: usize) -> &[NodeEvent] {
        &self.stations[number].events
    }

    pub(crate) fn command(&mut self, number: usize, command: NodeCommand) {
        self.feed(number, Input::Command(command));
    }

    /// A datagram of the test's own, from an address where nobody is.
    pub(crate) fn send(&mut self, from: &str, to: SocketAddrV4, text: &str) {
        self.launch(Datagram { from: at(from), to, bytes: text.as_bytes().to_vec() });
    }

    pub(crate) fn send_bytes(&mut self, from: &str, to: SocketAddrV4, bytes: &[u8]) {
        self.launch(Datagram { from: at(from), to, bytes: bytes.to_vec() });
    }

    /// What came to one of the test's own addresses.
    pub(crate) fn received(&self, address: &str) -> Vec<Datagram> {
        let address = at(address);
        self.seen
            .iter()
            .filter(|(_, datagram)| datagram.to == address)
            .map(|(_, datagram)| datagram.clone())
            .collect()
    }

    /// Lets `time` pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..STEPS {
            let due = self.stations.iter().filter_map(|station| station.node.deadline()).min();
            let arrival = self.on_the_way.keys().next().map(|(at, _)| *at);
            let Some(next) = [due, arrival].into_iter().flatten().min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if arrival.is_some_and(|arrival| arrival <= self.now) {
                let (_, datagram) = self.on_the_way.pop_first().expect("something is due");
                self.arrive(datagram);
                continue;
            }
            for number in 0..self.stations.len() {
                if self.stations[number].node.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.feed(number, Input::Tick);
                    let deadline = self.stations[number].node.deadline();
                    assert!(deadline.is_none_or(|deadline| deadline > self.now), "the deadline lies ahead");
                }
            }
        }
        panic!("the network does not come to rest");
    }

    fn feed(&mut self, number: usize, input: Input<'_, NodeCommand>) {
        let mut out = Outbox::default();
        self.stations[number].node.handle(self.now, input, &mut out);
        while let Some(action) = out.pop() {
            match action {
                Action::Bind { socket, port } => {
                    self.port += 1;
                    let local = SocketAddrV4::new(self.stations[number].ip, port.unwrap_or(self.port));
                    self.stations[number].sockets.insert(socket, local);
                    self.feed(number, Input::Bound { socket, local: local.into() });
                }
                Action::SendTo { socket, to: SocketAddr::V4(to), bytes } => {
                    let from =
                        self.stations[number].sockets.get(&socket).copied().expect("the socket is open");
                    let from = match self.nats.get_mut(from.ip()) {
                        Some((_, nat)) => nat.outbound(from, to).expect("the box has ports left"),
                        None => from,
                    };
                    self.launch(Datagram { from, to, bytes });
                }
                Action::Unbind { socket } => {
                    self.stations[number].sockets.remove(&socket);
                }
                Action::Event(event) => self.stations[number].events.push(event),
                other => panic!("a node over UDP does not {other:?}"),
            }
        }
    }

    fn launch(&mut self, datagram: Datagram) {
        let copies = if self.dice.u8(..100) < self.weather.twice { 2 } else { 1 };
        for _ in 0..copies {
            if self.dice.u8(..100) < self.weather.lost {
                continue;
            }
            let longest = u64::try_from(self.weather.delay.as_micros()).expect("a short delay");
            let delay = Duration::from_micros(self.dice.u64(..=longest));
            self.sent += 1;
            self.on_the_way.insert((self.now + delay, self.sent), datagram.clone());
        }
    }

    fn arrive(&mut self, datagram: Datagram) {
        let inside = self.nats.values().find(|(outside, _)| outside == datagram.to.ip());
        let to = match inside {
            Some((_, nat)) => nat.inbound(datagram.from, datagram.to.port()),
            None => Some(datagram.to),
        };
        let Some(to) = to else { return };
        self.seen.push((self.now, datagram.clone()));
        let reader = self.stations.iter().enumerate().find_map(|(number, station)| {
            let socket = station.sockets.iter().find(|(_, local)| **local == to);
            socket.map(|(socket, _)| (number, *socket))
        });
        if let Some((number, socket)) = reader {
            self.feed(number, Input::Datagram { socket, from: datagram.from.into(), bytes: &datagram.bytes });
        }
    }
}
