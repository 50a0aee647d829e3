//! The node over UDP: greets, listens, acknowledges, and tells whom it knows. The hats it wears besides are in files of
//! their own: [`connect`] for A, S and B, [`channel`] for a member.

mod channel;
mod command;
mod connect;
mod planted;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use serde_json::Value;

use self::connect::Paths;
use super::address::version_4;
use super::channels::Channels;
use super::command::{NodeCommand, NodeEvent};
use super::config::{Edition, Fault, NodeConfig};
use super::delivery::{Deliveries, Overdue, Remembered};
use super::error::DecodeError;
use super::guid::Guid;
use super::identity::{Identity, PublicKey};
use super::message::{Ids, Message, Route};
use super::peers::{Heard, Peer, Peers};
use crate::machine::{Input, Machine, Outbox, SocketId, Time};

/// The socket that everybody knows.
const ORDINARY: SocketId = SocketId(0);
/// The longest datagram that every node reads (section 5).
const DATAGRAM: usize = 8192;
/// Nodes in one ROUTING: as many as keep the datagram below 1400 bytes, whatever their addresses (section 5).
const ROUTES: usize = 12;

type Out = Outbox<NodeEvent>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been asked for yet.
    New,
    /// The ordinary socket is being opened.
    Opening,
    /// On the air since the ordinary socket opened.
    Open { next_hello: Time, next_routing: Time },
    /// For good.
    Over,
}

/// A node of the UDP editions.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    id: Guid,
    dice: fastrand::Rng,
    identity: Option<Identity>,
    state: State,
    sockets: u64,
    peers: Peers,
    paths: Paths,
    deliveries: Deliveries,
    acted_on: Remembered,
    channels: Channels,
    certificates: BTreeMap<Guid, PublicKey>,
    /// Where the next ROUTING begins in the list of those heard.
    listed: usize,
    planted: planted::Memory,
}

impl Node {
    /// A node that opens its socket at its first tick.
    pub fn new(config: NodeConfig) -> Node {
        let mut dice = fastrand::Rng::with_seed(config.seed);
        let id = Guid::draw(&mut dice);
        Node {
            config,
            id,
            dice,
            identity: None,
            state: State::New,
            sockets: ORDINARY.0 + 1,
            peers: Peers::default(),
            paths: Paths::default(),
            deliveries: Deliveries::default(),
            acted_on: Remembered::default(),
            channels: Channels::default(),
            certificates: BTreeMap::new(),
            listed: 0,
            planted: planted::Memory::default(),
        }
    }

    /// The node's own id.
    pub fn id(&self) -> Guid {
        self.id
    }

    /// True when this machine is heard of.
    pub fn hears(&self, address: SocketAddrV4) -> bool {
        self.peers.at(address).is_some_and(Peer::is_alive)
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn bound(&mut self, now: Time, socket: SocketId, local: SocketAddrV4, out: &mut Out) {
        if socket != ORDINARY {
            self.path_bound(now, socket, local.port(), out);
            return;
        }
        self.state =
            State::Open { next_hello: now + self.config.hello, next_routing: now + self.config.routing };
        self.planted.local_port = local.port();
        out.event(NodeEvent::Ready(local));
        for address in self.config.bootstrap.clone() {
            self.peers.know(now, address, ORDINARY, true);
        }
        self.greet_all(now, out);
    }

    fn not_bound(&mut self, socket: SocketId, out: &mut Out) {
        if socket == ORDINARY {
            self.state = State::Over;
            out.event(NodeEvent::Stopped);
        } else {
            self.path_not_bound(socket, out);
        }
    }

    fn datagram(&mut self, now: Time, socket: SocketId, from: SocketAddrV4, bytes: &[u8], out: &mut Out) {
        if self.planted_before_reading(bytes, out) {
            return;
        }
        match Message::decode(bytes, self.config.edition) {
            Ok(message) if message.author() == Some(self.id) => {
                out.event(NodeEvent::Dropped(DecodeError::Field { field: "node_id" }));
            }
            Ok(message) => self.take(now, socket, from, message, out),
            Err(error) => {
                self.planted_on_error(socket, from, bytes, &error, out);
                out.event(NodeEvent::Dropped(error));
            }
        }
    }

    fn take(&mut self, now: Time, socket: SocketId, from: SocketAddrV4, message: Message, out: &mut Out) {
        // As it was before this message introduced its sender.
        let stranger = self.peers.at(from).is_none_or(|known| !known.is_alive() && !known.configured);
        self.hear(now, socket, from, &message, out);
        self.planted_acks(socket, from, &message, out);
        if let Some(ids) = message.acknowledged() {
            self.acknowledge(socket, from, ids, out);
            if ids
                .msg_id
                .is_some_and(|id| !self.acted_on.insert(id) && !matches!(message, Message::Certificate(_)))
            {
                return;
            }
        }
        match message {
            Message::Relay => self.planted_relay(from, out),
            Message::Hello { .. } | Message::Nack { .. } => {}
            Message::Ack { msg_id } => {
                if let Some(copy) = msg_id.and_then(|id| self.deliveries.acknowledge(id, from)) {
                    out.event(NodeEvent::Delivered(copy.msg_id));
                }
            }
            Message::Routing { nodes, .. } => {
                for node in nodes.iter().filter(|node| node.node_id != Some(self.id)) {
                    if let Some(address) = node.address {
                        self.peers.list(node.node_id, address);
                    }
                }
                self.cap(out);
            }
            Message::Connect(connect) => self.take_connect(now, from, stranger, connect, out),
            Message::Join(say) => self.take_join(now, from, &say),
            Message::Leave(say) => self.take_leave(from, &say),
            Message::Channel(news) => self.take_channel(now, socket, from, &news, out),
            Message::GetCertificate(ids) => self.take_get_certificate(now, socket, from, ids, out),
            Message::Certificate(answer) => self.take_certificate(answer, out),
            Message::GetKey(asked) => self.take_get_key(now, socket, from, &asked, out),
            Message::Key(answer) => self.take_key(&answer, out),
            Message::Chat(chat) => {
                self.planted_forward(from, &chat, out);
                if self.channels.is_joined(chat.channel_id) {
                    out.event(NodeEvent::Received(chat));
                }
            }
        }
    }

    /// Whoever sends something valid is there. S takes only HELLO for an introduction (section 3.1).
    fn hear(&mut self, now: Time, socket: SocketId, from: SocketAddrV4, message: &Message, out: &mut Out) {
        let hello = matches!(message, Message::Hello { .. });
        if !hello && self.config.intermediary {
            return;
        }
        let id = match message {
            Message::Hello { node_id, .. } => *node_id,
            _ => None,
        };
        if !hello && self.peers.at(from).is_some_and(Peer::is_alive) {
            // Only HELLO keeps a machine alive.
            return;
        }
        let follow = hello && !self.has(Fault::OldAddress);
        let waiting =
            self.peers.at(from).filter(|peer| peer.socket != ORDINARY && !peer.is_alive()).is_some();
        let heard = self.peers.hear(now, id, from, socket, follow);
        if heard != Heard::Again {
            out.event(NodeEvent::Heard(from));
        }
        if waiting {
            self.path_open(from, out);
        }
        self.cap(out);
    }

    fn cap(&mut self, out: &mut Out) {
        for gone in self.peers.cap(self.config.peers) {
            self.forget(&gone, out);
        }
        self.planted_crowd();
    }

    /// Nobody is spoken to at that machine any more.
    fn forget(&mut self, gone: &Peer, out: &mut Out) {
        out.event(NodeEvent::Gone(gone.address));
        if self.has(Fault::ListsTheGone) {
            self.planted.gone.push(Route { node_id: gone.id, address: Some(gone.address), hops: None });
        }
        if gone.socket != ORDINARY && !self.peers.iter().any(|peer| peer.socket == gone.socket) {
            self.path_over(gone, out);
        }
    }

    fn acknowledge(&mut self, socket: SocketId, from: SocketAddrV4, ids: Ids, out: &mut Out) {
        if self.planted_instead_of_ack(socket, from, ids, out) {
            return;
        }
        self.send(socket, from, &Message::Ack { msg_id: ids.msg_id }, out);
    }

    fn greet_all(&mut self, now: Time, out: &mut Out) {
        if self.planted_silence(now) {
            return;
        }
        // Nobody is greeted twice in a breath because it came to be known just before the others' turn.
        let breath = self.config.hello / 2;
        let greeting = self.greeting().encode(self.config.edition);
        let config = &self.config;
        for peer in self.peers.iter_mut().filter(|peer| peer.is_greeted() && planted::greets(config, peer)) {
            if peer.greeted.is_none_or(|greeted| now >= greeted + breath) {
                peer.greeted = Some(now);
                out.send_to(peer.socket, peer.address.into(), greeting.clone());
            }
        }
    }

    /// Greets one machine out of turn.
    fn greet(&mut self, now: Time, address: SocketAddrV4, out: &mut Out) {
        let greeting = self.greeting().encode(self.config.edition);
        for peer in self.peers.iter_mut().filter(|peer| peer.address == address) {
            peer.greeted = Some(now);
            out.send_to(peer.socket, address.into(), greeting.clone());
        }
    }

    fn greeting(&self) -> Message {
        let version = Some(self.config.version.clone());
        Message::Hello { node_id: Some(self.id), version, node_type: None }
    }

    /// Tells all neighbours whom it hears of. Everybody gets the same list: receivers pass over their own entry. Where
    /// not all have room in one datagram, the next list begins where this one ended.
    fn route_all(&mut self, out: &mut Out) {
        let named = self.config.edition == Edition::Udp201603;
        let heard: Vec<&Peer> = self.peers.iter().filter(|peer| peer.is_alive()).collect();
        let listed: Vec<Route> = self
            .peers
            .iter()
            .filter(|peer| peer.is_alive() || self.has(Fault::ListsTheGone))
            .filter(|peer| peer.id.is_some() || !named)
            .map(|peer| {
                self.planted_route(Route { node_id: peer.id, address: Some(peer.address), hops: None })
            })
            .chain(self.planted.gone.iter().copied())
            .collect();
        let first = self.listed % listed.len().max(1);
        let room = self.planted_room(ROUTES);
        let nodes: Vec<Route> =
            listed.iter().cycle().skip(first).take(listed.len().min(room)).copied().collect();
        let told = nodes.len();
        let message = Message::Routing { node_id: named.then_some(self.id), nodes };
        let bytes = message.encode(self.config.edition);
        for peer in heard {
            out.send_to(peer.socket, peer.address.into(), bytes.clone());
        }
        self.listed = first + told;
    }

    fn tick(&mut self, now: Time, out: &mut Out) {
        let State::Open { next_hello, next_routing } = &mut self.state else {
            if self.state == State::New {
                self.state = State::Opening;
                out.bind(ORDINARY, self.config.port);
            }
            return;
        };
        let hello = now >= *next_hello;
        if hello {
            *next_hello = now + self.config.hello;
        }
        let routing = now >= *next_routing;
        if routing {
            *next_routing = now + self.config.routing;
        }
        if hello {
            if !self.has(Fault::ForgetsNobody) {
                for gone in self.peers.age(now, planted::dead(&self.config)) {
                    self.forget(&gone, out);
                }
            }
            self.planted.acked_this_turn = false;
            self.greet_all(now, out);
        }
        if routing {
            self.route_all(out);
        }
        for overdue in self.deliveries.overdue(now, self.config.ack) {
            match overdue {
                Overdue::Again(copy) => out.send_to(copy.socket, copy.to.into(), copy.bytes),
                Overdue::Failed(copy) => out.event(NodeEvent::Failed(copy.msg_id)),
            }
        }
        self.paths_due(now, out);
        for channel in self.channels.due(now) {
            self.tell_channel(now, channel, out);
        }
    }

    fn send(&self, socket: SocketId, to: SocketAddrV4, message: &Message, out: &mut Out) {
        self.put(socket, to, message.encode(self.config.edition), out);
    }

    /// Sends what fits into a datagram that everybody reads (WIRE-5); what does not is left unsaid. True when it was sent.
    fn put(&self, socket: SocketId, to: SocketAddrV4, bytes: Vec<u8>, out: &mut Out) -> bool {
        if bytes.len() > DATAGRAM && !self.has(Fault::EndlessRouting) {
            out.event(NodeEvent::CannotDo("send: the message does not fit into a datagram"));
            return false;
        }
        out.send_to(socket, to.into(), bytes);
        true
    }

    /// Sends what is to be acknowledged, and again until it is (section 3.5).
    fn deliver(&mut self, now: Time, socket: SocketId, to: SocketAddrV4, message: &Message, out: &mut Out) {
        let bytes = message.encode(self.config.edition);
        if self.put(socket, to, bytes.clone(), out)
            && let Some(id) = message.acknowledged().and_then(|ids| ids.msg_id)
        {
            let patience = (self.config.ack, self.config.ack_retries);
            self.deliveries.push(now, id, (socket, to), bytes, patience);
        }
    }

    fn new_ids(&mut self) -> Ids {
        Ids { msg_id: Some(Guid::draw(&mut self.dice)), node_id: Some(self.id) }
    }

    fn identity(&mut self) -> &mut Identity {
        let (seed, id) = (self.config.seed, self.id);
        self.identity.get_or_insert_with(|| Identity::new(seed, id))
    }

    /// A number for one more socket.
    fn new_socket(&mut self) -> SocketId {
        let socket = SocketId(self.sockets);
        self.sockets += 1;
        socket
    }

    fn stop(&mut self, out: &mut Out) {
        if matches!(self.state, State::Open { .. }) {
            self.close_sockets(out);
        }
        self.state = State::Over;
        self.peers.clear();
        out.event(NodeEvent::Stopped);
    }

    fn close_sockets(&mut self, out: &mut Out) {
        out.unbind(ORDINARY);
        for socket in self.paths.sockets() {
            out.unbind(socket);
        }
        self.paths = Paths::default();
    }
}

impl Machine for Node {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Time, input: Input<'_, NodeCommand>, out: &mut Out) {
        if self.state == State::Over {
            return;
        }
        match input {
            Input::Bound { socket, local } => match version_4(local) {
                Some(local) => self.bound(now, socket, local, out),
                None => self.not_bound(socket, out),
            },
            Input::NotBound { socket } => self.not_bound(socket, out),
            Input::Datagram { socket, from, bytes } => {
                if let Some(from) = version_4(from).filter(|_| matches!(self.state, State::Open { .. })) {
                    self.datagram(now, socket, from, bytes, out);
                }
            }
            Input::Command(command) => self.obey(now, command, out),
            Input::Tick => self.tick(now, out),
            // Datagrams know no links.
            Input::Requested { .. }
            | Input::Opened { .. }
            | Input::Refused { .. }
            | Input::Answered { .. }
            | Input::Received { .. }
            | Input::Closing { .. }
            | Input::Closed { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::New => Some(Time::ZERO),
            State::Opening | State::Over => None,
            State::Open { next_hello, next_routing } => {
                let others = [self.deliveries.deadline(), self.paths.deadline(), self.channels.deadline()];
                others.into_iter().flatten().chain([next_hello, next_routing]).min()
            }
        }
    }

    fn command(name: &str, with: &Value) -> Result<NodeCommand, String> {
        NodeCommand::from_stimulus(name, with)
    }

    fn leave() -> Option<NodeCommand> {
        Some(NodeCommand::Stop)
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }
}
