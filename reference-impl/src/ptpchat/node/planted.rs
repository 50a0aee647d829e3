//! Where planted faults act that no rule over messages could express. Without faults nothing here does anything.

use std::net::SocketAddrV4;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::config::{Fault, NodeConfig};
use super::super::error::DecodeError;
use super::super::guid::Guid;
use super::super::message::{Chat, Connect, Ids, Message, Route};
use super::super::peers::{Peer, Standing};
use super::{DATAGRAM, Node, ORDINARY, Out, State};
use crate::machine::{SocketId, Time};

/// Nodes that are a crowd to a node that minds.
const CROWD: usize = 500;
/// Silence that a node takes offence at.
const SILENCE: Duration = Duration::from_secs(3);

/// When a node rests that does, and how long.
const REST_AT: Duration = Duration::from_millis(8900);
const REST: Duration = Duration::from_millis(2500);
/// Silence that is too long for a node without patience.
const BREATH: Duration = Duration::from_millis(1500);

/// What faults remember.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The port of the ordinary socket.
    pub(super) local_port: u16,
    /// A message was acknowledged since the last HELLO.
    pub(super) acked_this_turn: bool,
    /// Machines that are gone.
    pub(super) gone: Vec<Route>,
    elsewhere: Option<SocketId>,
    deaf: bool,
    acknowledged: Vec<Guid>,
}

/// False for whom a fault leaves out of the greetings.
pub(super) fn greets(config: &NodeConfig, peer: &Peer) -> bool {
    let gone = matches!(peer.standing, Standing::Stale { .. });
    !(config.faults.contains(&Fault::GreetsNoStrangers) && !peer.configured)
        && !(config.faults.contains(&Fault::ForgetsAtOnce) && gone)
}

/// The silence after which a machine counts as gone.
pub(super) fn dead(config: &NodeConfig) -> Duration {
    if config.faults.contains(&Fault::ForgetsAtOnce) { BREATH } else { config.dead }
}

impl Node {
    fn die(&mut self, out: &mut Out) {
        self.close_sockets(out);
        self.state = State::Over;
    }

    /// True when a fault keeps the datagram from being read.
    pub(super) fn planted_before_reading(&mut self, bytes: &[u8], out: &mut Out) -> bool {
        if self.config.faults.is_empty() {
            return false;
        }
        if self.has(Fault::AcksFromElsewhere) && self.planted.elsewhere.is_none() {
            let elsewhere = self.new_socket();
            self.planted.elsewhere = Some(elsewhere);
            out.bind(elsewhere, None);
        }
        if self.has(Fault::DiesOnExcess) && bytes.len() > DATAGRAM {
            self.die(out);
            return true;
        }
        if self.planted.deaf {
            return true;
        }
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes) else { return false };
        self.planted_picky(&object)
    }

    /// True when the message has something that this node cannot bear.
    fn planted_picky(&self, object: &Map<String, Value>) -> bool {
        let verb = object.get("msg_type").and_then(Value::as_str).unwrap_or_default();
        let data = object.get("msg_data");
        let fields = data.and_then(Value::as_object);
        let lacks = |field: &&str| fields.is_none_or(|fields| !fields.contains_key(*field));
        let minds = |fault, when: bool| self.has(fault) && when;
        minds(Fault::VerbMustComeFirst, object.keys().next().is_some_and(|first| first != "msg_type"))
            || minds(Fault::HelloNeedsNull, verb == "HELLO" && data.is_none())
            || minds(Fault::HelloMustBeBare, verb == "HELLO" && data.is_some_and(|data| !data.is_null()))
            || minds(Fault::NoUnknownHead, object.keys().any(|key| key != "msg_type" && key != "msg_data"))
            || minds(
                Fault::NoUnknownFields,
                fields.is_some_and(|fields| fields.keys().any(|field| !FIELDS.contains(&field.as_str()))),
            )
            || minds(Fault::OneBadEntrySpoilsAll, verb == "ROUTING" && has_bad_entry(fields))
            || minds(Fault::NoAttachments, fields.is_some_and(|fields| fields.contains_key("attachment")))
            || minds(
                Fault::MessageNeedsAll,
                verb == "MESSAGE" && ["msg_id", "node_id", "recipient"].iter().any(lacks),
            )
    }

    pub(super) fn planted_on_error(
        &mut self,
        socket: SocketId,
        from: SocketAddrV4,
        bytes: &[u8],
        error: &DecodeError,
        out: &mut Out,
    ) {
        if self.config.faults.is_empty() {
            return;
        }
        let unread =
            matches!(error, DecodeError::Malformed { .. } | DecodeError::NotObject | DecodeError::TooDeep);
        let head = matches!(error, DecodeError::Verb | DecodeError::UnknownVerb { .. } | DecodeError::Data);
        let field = matches!(error, DecodeError::Missing { .. } | DecodeError::Field { .. });
        let brace = matches!(error, DecodeError::Malformed { .. })
            && bytes.windows(CONNECT.len()).any(|part| part == CONNECT)
            && bytes.ends_with(b"}");
        let malformed = matches!(error, DecodeError::Malformed { .. } | DecodeError::NotObject);
        if self.has(Fault::DiesOnMalformed) && malformed && !brace && bytes.len() <= DATAGRAM
            || self.has(Fault::DiesOnBadHead) && head
            || self.has(Fault::DiesOnBadField) && field
            || self.has(Fault::DiesOnMissingBrace) && brace
            || self.has(Fault::DiesOnExcess) && *error == DecodeError::TooDeep
        {
            self.die(out);
            return;
        }
        self.planted.deaf |= self.has(Fault::DeafAfterBadInput);
        if self.has(Fault::AnswersJunk) && unread {
            self.send(socket, from, &self.greeting(), out);
        }
        if self.has(Fault::AcksMalformed) && field {
            let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
            if ACKNOWLEDGED.contains(&value["msg_type"].as_str().unwrap_or_default()) {
                let msg_id = value["msg_data"]["msg_id"].as_str().and_then(Guid::parse);
                self.send(socket, from, &Message::Ack { msg_id }, out);
            }
        }
    }

    /// Acknowledges what nobody asked to.
    pub(super) fn planted_acks(
        &mut self,
        socket: SocketId,
        from: SocketAddrV4,
        message: &Message,
        out: &mut Out,
    ) {
        if self.has(Fault::DiesOnChannel) && matches!(message, Message::Channel(_)) {
            self.die(out);
            return;
        }
        let (fault, msg_id) = match message {
            Message::Ack { msg_id } => (Fault::AcksAck, *msg_id),
            Message::Channel(news) => (Fault::AcksChannel, news.ids.msg_id),
            Message::Connect(_) => (Fault::AcksConnect, None),
            Message::Hello { .. } => (Fault::AcksHello, None),
            Message::Join(say) | Message::Leave(say) => (Fault::AcksJoin, say.ids.msg_id),
            Message::Relay => (Fault::AcksRelay, None),
            Message::Routing { .. } => (Fault::AcksRouting, None),
            _ => return,
        };
        if self.has(fault) {
            self.send(socket, from, &Message::Ack { msg_id }, out);
        }
    }

    /// True when a fault has dealt with the ACK.
    pub(super) fn planted_instead_of_ack(
        &mut self,
        socket: SocketId,
        from: SocketAddrV4,
        ids: Ids,
        out: &mut Out,
    ) -> bool {
        if self.config.faults.is_empty() {
            return false;
        }
        let ack = Message::Ack { msg_id: ids.msg_id };
        if self.has(Fault::OneAckPerId)
            && let Some(id) = ids.msg_id
        {
            if self.planted.acknowledged.contains(&id) {
                return true;
            }
            self.planted.acknowledged.push(id);
        }
        if self.has(Fault::AcksOncePerTurn) && std::mem::replace(&mut self.planted.acked_this_turn, true) {
            return true;
        }
        if self.has(Fault::AcksFromElsewhere) {
            self.send(self.planted.elsewhere.unwrap_or(socket), from, &ack, out);
            return true;
        }
        if self.has(Fault::AcksToKnownAddress) {
            let known = self.peers.iter().filter(|peer| peer.address.ip() == from.ip());
            let first = known.map(|peer| peer.address).min_by_key(|address| *address == from);
            self.send(socket, first.unwrap_or(from), &ack, out);
            return true;
        }
        false
    }

    pub(super) fn planted_forward(&self, from: SocketAddrV4, chat: &Chat, out: &mut Out) {
        if self.has(Fault::ForwardsMessages) {
            for peer in self.peers.iter().filter(|peer| peer.address != from) {
                self.send(peer.socket, peer.address, &Message::Chat(chat.clone()), out);
            }
        }
    }

    pub(super) fn planted_relay(&self, from: SocketAddrV4, out: &mut Out) {
        if self.has(Fault::ForwardsRelay) {
            for peer in self.peers.iter().filter(|peer| peer.address != from) {
                self.send(peer.socket, peer.address, &Message::Relay, out);
            }
        }
    }

    /// True when somebody's silence keeps this node from greeting at all.
    pub(super) fn planted_silence(&self, now: Time) -> bool {
        let silent =
            |standing| matches!(standing, Standing::Alive { last_seen } if now >= last_seen + SILENCE);
        let rest = now.since_start() > REST_AT && now.since_start() < REST_AT + REST;
        self.has(Fault::TakesARest) && rest
            || self.has(Fault::DeadMachineStopsGreeting)
                && self.peers.iter().any(|peer| silent(peer.standing))
    }

    pub(super) fn planted_crowd(&mut self) {
        if self.has(Fault::LosesTableWhenCrowded) && self.peers.len() > CROWD {
            self.peers.clear();
            self.planted.deaf = true;
        }
    }

    pub(super) fn planted_route(&self, mut route: Route) -> Route {
        if self.has(Fault::ListsOtherAddresses)
            && let Some(address) = &mut route.address
        {
            address.set_port(address.port() ^ 1);
        }
        if self.has(Fault::NormalisesIds) {
            route.node_id = route.node_id.map(Guid::normalised);
        }
        route
    }

    /// How many nodes stand in one ROUTING.
    pub(super) fn planted_room(&self, room: usize) -> usize {
        if self.has(Fault::EndlessRouting) { usize::MAX } else { room }
    }

    /// What S takes for A's address.
    pub(super) fn planted_asker(&self, from: SocketAddrV4, port: u16) -> SocketAddrV4 {
        let mut asker = SocketAddrV4::new(*from.ip(), port);
        if self.has(Fault::BelievesSourcePort) {
            asker.set_port(from.port());
        }
        if self.has(Fault::BelievesOtherIp)
            && let Some(other) = self.peers.iter().find(|peer| peer.address.ip() != from.ip())
        {
            asker.set_ip(*other.address.ip());
        }
        asker
    }

    pub(super) fn planted_any_shape(&self, from: SocketAddrV4, connect: Connect, out: &mut Out) {
        let other = self.peers.iter().find(|peer| peer.address != from);
        if let Some(other) = other.filter(|_| self.has(Fault::ForwardsAnyShape)) {
            self.send(ORDINARY, other.address, &Message::Connect(connect), out);
        }
    }
}

fn has_bad_entry(fields: Option<&Map<String, Value>>) -> bool {
    let entries = fields.and_then(|fields| fields.get("nodes")).and_then(Value::as_array);
    let good = |entry: &Value| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str);
        text("node_id").and_then(Guid::parse).is_some()
            && text("address").is_some_and(|text| text.contains(':'))
    };
    entries.is_some_and(|entries| !entries.iter().all(good))
}

/// How the document prints CONNECT's verb.
const CONNECT: &[u8] = b"\"CONNECT\"";
const ACKNOWLEDGED: &[&str] = &["MESSAGE", "GETCERTIFICATE", "CERTIFICATE", "GETKEY", "KEY"];
/// The fields of all verbs.
const FIELDS: &[&str] = &[
    "msg_id",
    "node_id",
    "recipient_id",
    "src_node_id",
    "dst_node_id",
    "version",
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
];
