//! The relay: gives ids, passes messages on byte for byte, tells who has left, gives up lines that died.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::config::{Fault, RelayConfig};
use super::error::{CloseReason, DecodeError};
use super::message::{PeerId, Routing, Target, relay_says};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time, WireFault};

/// The subprotocol that clients offer (section 1).
const SUBPROTOCOL: &str = "connect";
/// How much later a fault delivers.
const LATE: Duration = Duration::from_millis(50);
/// What a fault sends to a reader that says nothing before it waits for it.
const BEHIND: usize = 1 << 20;
/// What a fault takes for too long.
const LONG: usize = 64 << 10;

/// What the owner of a relay can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayCommand {
    /// Close every link with 1001.
    ShutDown,
}

/// What a relay tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// A peer has this id.
    Joined(u64),
    /// The peer with this id is gone.
    Left(u64),
}

#[derive(Debug)]
struct Connection {
    id: u64,
    /// When something last came from it.
    heard: Time,
    /// When it was pinged, if nothing has come since.
    pinged: Option<Time>,
    /// Sent to it since it was last heard; only a fault asks.
    unheard: usize,
}

/// The relay of cow.md section 3.1.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    connections: BTreeMap<LinkId, Connection>,
    by_id: BTreeMap<u64, LinkId>,
    last_id: Option<u64>,
    /// Links whose Close was sent or seen, or that a fault is deaf to: their input is ignored.
    closing: BTreeSet<LinkId>,
    /// What faults deliver later.
    late: VecDeque<(Time, LinkId, Message)>,
    dead: bool,
}

impl Relay {
    /// A relay that nobody has connected to yet.
    pub fn new(config: RelayConfig) -> Self {
        Relay {
            config,
            connections: BTreeMap::new(),
            by_id: BTreeMap::new(),
            last_id: None,
            closing: BTreeSet::new(),
            late: VecDeque::new(),
            dead: false,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn requested(&mut self, now: Time, link: LinkId, request: &Request, out: &mut Outbox<RelayEvent>) {
        if !request.upgrade {
            let headers = vec![("Sec-WebSocket-Version".to_owned(), "13".to_owned())];
            out.respond(link, Response { status: 426, headers, body: Vec::new() });
            return;
        }
        let offered = request.header("sec-websocket-protocol").unwrap_or_default();
        let offered = offered.split(',').map(str::trim).find(|one| one.eq_ignore_ascii_case(SUBPROTOCOL));
        let selected = offered.filter(|_| !self.has(Fault::NoSubprotocol)).map(str::to_owned);
        let id = self.new_id(now);
        self.connections.insert(link, Connection { id, heard: now, pinged: None, unheard: 0 });
        self.by_id.entry(id).or_insert(link);
        out.accept(link, selected);
        let told = json!({
            "peerID": id,
            "server_ip": self.config.ip,
            "server_key": self.config.key,
            "server_version": self.config.version,
        });
        out.send(link, Message::Text(relay_says("connected", told)));
        out.event(RelayEvent::Joined(id));
    }

    /// Milliseconds since 1970, or the next number that was not given yet (section 2.1).
    fn new_id(&mut self, now: Time) -> u64 {
        if self.has(Fault::SharedId)
            && let Some(first) = self.connections.values().next()
        {
            return first.id;
        }
        let epoch = self.config.epoch;
        if self.has(Fault::ReusesIds) && self.connections.is_empty() {
            self.last_id = Some(epoch);
            return epoch;
        }
        if self.has(Fault::DecreasingIds) {
            let id = self.last_id.map_or(epoch, |last| last - 1);
            self.last_id = Some(id);
            return id;
        }
        let time = epoch.saturating_add(u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX));
        let id = self.last_id.map_or(time, |last| time.max(last + 1));
        self.last_id = Some(id);
        id
    }

    fn received(&mut self, now: Time, link: LinkId, frame: Frame<'_>, out: &mut Outbox<RelayEvent>) {
        if self.closing.contains(&link) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&link) else { return };
        connection.heard = now;
        connection.pinged = None;
        connection.unheard = 0;
        match frame {
            Frame::Text(bytes) => self.text(now, link, bytes, out),
            Frame::Binary(bytes) => self.binary(link, bytes, out),
            Frame::Ping(payload) => out.send(link, Message::Pong(payload.to_vec())),
            Frame::Pong(_) => {}
            Frame::Broken(WireFault::Protocol) if self.has(Fault::DiesOnWireError) => self.die(out),
            Frame::Broken(WireFault::TooBig) if self.has(Fault::DeafAfterOverlong) => {
                self.closing.insert(link);
            }
            Frame::Broken(fault) => {
                let reason = match fault {
                    WireFault::Protocol => CloseReason::Protocol,
                    WireFault::TooBig => CloseReason::TooBig,
                };
                self.close(link, reason, out);
            }
        }
    }

    fn text(&mut self, now: Time, link: LinkId, bytes: &[u8], out: &mut Outbox<RelayEvent>) {
        if bytes.len() > LONG && self.has(Fault::EndsLongMessages) {
            self.close(link, CloseReason::TooBig, out);
            return;
        }
        match Routing::decode(bytes) {
            Ok(routing) => self.route(now, link, &routing, &String::from_utf8_lossy(bytes), out),
            Err(DecodeError::Encoding) => self.close(link, CloseReason::Encoding, out),
            Err(DecodeError::Malformed(_)) if self.has(Fault::DiesOnMalformed) => self.die(out),
            Err(DecodeError::Malformed(_)) if self.has(Fault::DeafAfterMalformed) => {
                self.closing.insert(link);
            }
            Err(DecodeError::Malformed(_)) => {}
            Err(_) if self.has(Fault::DiesOnWrongShape) => self.die(out),
            Err(DecodeError::NotObject) if self.has(Fault::PassesNonObjects) => {
                let message = Message::Text(String::from_utf8_lossy(bytes).into_owned());
                self.broadcast(now, &message, out);
            }
            Err(_) => {}
        }
    }

    fn binary(&mut self, link: LinkId, bytes: &[u8], out: &mut Outbox<RelayEvent>) {
        if self.has(Fault::DiesOnBinary) {
            self.die(out);
        } else if self.has(Fault::PassesBinary) {
            for other in self.connections.keys().filter(|other| **other != link) {
                out.send(*other, Message::Binary(bytes.to_vec()));
            }
        }
    }

    fn route(
        &mut self,
        now: Time,
        link: LinkId,
        routing: &Routing,
        text: &str,
        out: &mut Outbox<RelayEvent>,
    ) {
        let own = matches!(routing.action(), "connected" | "peerGone");
        if own && !self.has(Fault::PassesOwnActions) {
            return;
        }
        if self.is_forged(link, routing) && !self.has(Fault::PassesForged) {
            return;
        }
        let message = Message::Text(text.to_owned());
        let null = routing.target.as_ref().is_some_and(Value::is_null);
        let string = routing.target.as_ref().is_some_and(Value::is_string);
        match routing.target() {
            Target::Everybody if null && self.has(Fault::NullIsNobody) => {}
            Target::Everybody => self.broadcast(now, &message, out),
            Target::Peer(_) if string && self.has(Fault::StringsAreNobody) => {}
            Target::Peer(id) => match self.link_of(&id) {
                Some(target) => self.deliver(now, target, message, false, out),
                None => self.nobody(now, &message, out),
            },
            Target::Nobody => self.nobody(now, &message, out),
        }
    }

    /// A message under the id of somebody else who is there (section 5).
    fn is_forged(&self, link: LinkId, routing: &Routing) -> bool {
        let claimed = routing.sender.as_ref().and_then(PeerId::from_value);
        let owner = claimed.and_then(|claimed| self.link_of(&claimed));
        owner.is_some_and(|owner| owner != link)
    }

    fn link_of(&self, id: &PeerId) -> Option<LinkId> {
        let number: u64 = id.as_str().parse().ok()?;
        // `007` is no way to write 7.
        self.by_id.get(&number).copied().filter(|_| number.to_string() == id.as_str())
    }

    fn nobody(&mut self, now: Time, message: &Message, out: &mut Outbox<RelayEvent>) {
        if self.has(Fault::UnknownIsEverybody) {
            self.broadcast(now, message, out);
        }
    }

    /// To all, the sender too (section 6.3).
    fn broadcast(&mut self, now: Time, message: &Message, out: &mut Outbox<RelayEvent>) {
        let links: Vec<LinkId> = self.connections.keys().copied().collect();
        for link in links {
            self.deliver(now, link, message.clone(), true, out);
        }
    }

    fn deliver(
        &mut self,
        now: Time,
        link: LinkId,
        message: Message,
        to_all: bool,
        out: &mut Outbox<RelayEvent>,
    ) {
        if self.has(Fault::DeliversLate) || (to_all && self.has(Fault::BroadcastsLate)) {
            self.late.push_back((now + LATE, link, message));
            return;
        }
        if self.has(Fault::HeldUpBySlow) {
            self.late.push_back((now, link, message));
            self.deliver_late(now, out);
            return;
        }
        out.send(link, message);
    }

    /// What faults have held back; nothing where there is none.
    fn deliver_late(&mut self, now: Time, out: &mut Outbox<RelayEvent>) {
        while let Some((due, link, message)) = self.late.pop_front() {
            let held = self.connections.values().any(|one| one.unheard > BEHIND);
            if due > now || (held && self.has(Fault::HeldUpBySlow)) {
                self.late.push_front((due, link, message));
                return;
            }
            if let (Some(connection), Message::Text(text)) = (self.connections.get_mut(&link), &message) {
                connection.unheard += text.len();
                out.send(link, message);
            }
        }
    }

    fn close(&mut self, link: LinkId, reason: CloseReason, out: &mut Outbox<RelayEvent>) {
        out.close(link, Some(reason.code()), "");
        self.leave(link, out);
    }

    /// The peer is taken out first; then all who remain are told, once (section 3.1).
    fn leave(&mut self, link: LinkId, out: &mut Outbox<RelayEvent>) {
        self.closing.insert(link);
        let Some(gone) = self.connections.remove(&link) else { return };
        if self.by_id.get(&gone.id) == Some(&link) {
            self.by_id.remove(&gone.id);
        }
        self.tell_gone(gone.id, out);
        if self.has(Fault::BuriesTheLiving)
            && let Some(living) = self.connections.values().next().map(|one| one.id)
        {
            self.tell_gone(living, out);
        }
        out.event(RelayEvent::Left(gone.id));
    }

    fn tell_gone(&self, id: u64, out: &mut Outbox<RelayEvent>) {
        let id = if self.has(Fault::GoneIdAsString) { Value::from(id.to_string()) } else { Value::from(id) };
        let notice = relay_says("peerGone", json!({ "gonePeerID": id }));
        for link in self.connections.keys() {
            out.send(*link, Message::Text(notice.clone()));
        }
    }

    /// Pings whoever is silent, and gives up whoever stays so (section 1).
    fn look_after_lines(&mut self, now: Time, out: &mut Outbox<RelayEvent>) {
        if self.has(Fault::NoPings) {
            return;
        }
        let mut dead = Vec::new();
        for (link, connection) in &mut self.connections {
            match connection.pinged {
                Some(pinged) if pinged + self.config.grace <= now => dead.push(*link),
                None if connection.heard + self.config.ping <= now => {
                    connection.pinged = Some(now);
                    out.send(*link, Message::Ping(Vec::new()));
                }
                _ => {}
            }
        }
        for link in dead {
            out.abort(link);
            self.leave(link, out);
        }
    }

    fn die(&mut self, out: &mut Outbox<RelayEvent>) {
        self.dead = true;
        self.late.clear();
        self.by_id.clear();
        for (link, _) in std::mem::take(&mut self.connections) {
            out.abort(link);
        }
    }
}

/// The same code, or 1000 for none; a code that may not be sent is a protocol error.
pub(super) fn closing_answer(code: Option<u16>) -> u16 {
    match code {
        None => 1000,
        Some(code @ (1000..=1003 | 1007..=1011 | 3000..=4999)) => code,
        Some(_) => CloseReason::Protocol.code(),
    }
}

impl Machine for Relay {
    type Command = RelayCommand;
    type Event = RelayEvent;

    fn handle(&mut self, now: Time, input: Input<'_, RelayCommand>, out: &mut Outbox<RelayEvent>) {
        if self.dead {
            if let Input::Requested { link, .. } = input {
                out.abort(link);
            }
            return;
        }
        self.deliver_late(now, out);
        match input {
            Input::Requested { link, request } => self.requested(now, link, request, out),
            Input::Received { link, frame } => self.received(now, link, frame, out),
            Input::Closing { link, code, .. } => {
                out.close(link, Some(closing_answer(code)), "");
                self.leave(link, out);
            }
            Input::Closed { link } => {
                self.leave(link, out);
                self.closing.remove(&link);
            }
            Input::Command(RelayCommand::ShutDown) => {
                let links: Vec<LinkId> = self.connections.keys().copied().collect();
                for link in links {
                    self.close(link, CloseReason::GoingAway, out);
                }
            }
            Input::Opened { .. }
            | Input::Refused { .. }
            | Input::Answered { .. }
            | Input::Tick
            | Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Datagram { .. } => {}
        }
        self.look_after_lines(now, out);
        self.deliver_late(now, out);
    }

    fn deadline(&self) -> Option<Time> {
        if self.dead {
            return None;
        }
        let no_pings = self.has(Fault::NoPings);
        let lines = self.connections.values().filter(|_| !no_pings).map(|one| match one.pinged {
            Some(pinged) => pinged + self.config.grace,
            None => one.heard + self.config.ping,
        });
        // What waits for a slow reader waits for an input, not for a time.
        let late = self.late.front().map(|(due, ..)| *due).filter(|_| !self.has(Fault::HeldUpBySlow));
        lines.chain(late).min()
    }

    fn command(name: &str, _with: &Value) -> Result<RelayCommand, String> {
        match name {
            "shut-down" => Ok(RelayCommand::ShutDown),
            _ => Err(format!("a cow relay cannot `{name}`; it can `shut-down`")),
        }
    }

    fn leave() -> Option<RelayCommand> {
        Some(RelayCommand::ShutDown)
    }
}
