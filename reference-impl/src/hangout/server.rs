//! The server: gives tokens, relays at once, announces changes at checks 500 ms apart, pings every 20 s.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Map, Value};

use super::config::{Fault, ServerConfig};
use super::error::{CloseReason, DecodeError};
use super::message::{EVERYONE, Envelope, Packet, SERVER, To};
use super::state::{ChangeSet, Connection, Table};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time, WireFault};

/// What the owner of a server can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCommand {
    /// Close every link with 1001.
    ShutDown,
}

/// What a server tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A client has this token.
    Joined(String),
    /// The token is dead.
    Left(String),
}

/// The server of hangout.md section 3.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    rng: Rng,
    table: Table,
    changes: ChangeSet,
    /// The next check; only while there is something to announce.
    check_at: Option<Time>,
    /// The next ping; only while somebody is connected.
    ping_at: Option<Time>,
    /// Links whose Close was sent or seen: their input is ignored.
    closing: BTreeSet<LinkId>,
    used_tokens: BTreeSet<String>,
    last_properties: Map<String, Value>,
    dead: bool,
}

impl Server {
    /// A server that nobody has connected to yet.
    pub fn new(config: ServerConfig) -> Self {
        Server {
            rng: Rng::with_seed(config.seed),
            config,
            table: Table::default(),
            changes: ChangeSet::default(),
            check_at: None,
            ping_at: None,
            closing: BTreeSet::new(),
            used_tokens: BTreeSet::new(),
            last_properties: Map::new(),
            dead: false,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn requested(&mut self, now: Time, link: LinkId, request: &Request, out: &mut Outbox<ServerEvent>) {
        if !request.upgrade {
            // Section 5: a plain request, another upgrade or another version.
            let headers = vec![("Sec-WebSocket-Version".to_owned(), "13".to_owned())];
            out.respond(link, Response { status: 426, headers, body: Vec::new() });
            return;
        }
        let token = self.new_token();
        let properties =
            if self.has(Fault::InheritsProperties) { self.last_properties.clone() } else { Map::new() };
        self.table.insert(link, Connection { token: token.clone(), properties });
        self.changes.open(&token);
        out.accept(link, None);
        out.event(ServerEvent::Joined(token));
        if self.config.greet
            && let Some(packet) = self.table.metadata_for(link, &self.config.version)
        {
            out.send(link, Message::Text(packet));
        }
        self.ping_at.get_or_insert(next_beat(now, self.config.ping));
        self.changed(now, out);
    }

    /// Sixteen random bytes in hex, never the same twice in a run (section 2.1).
    fn new_token(&mut self) -> String {
        if self.has(Fault::SharedToken)
            && let Some(token) = self.table.first_token()
        {
            return token;
        }
        loop {
            let token = if self.has(Fault::SequentialTokens) {
                format!("{:032x}", self.used_tokens.len() + 1)
            } else {
                format!("{:016x}{:016x}", self.rng.u64(..), self.rng.u64(..))
            };
            if !self.table.has_token(&token) && self.used_tokens.insert(token.clone()) {
                return token;
            }
        }
    }

    fn changed(&mut self, now: Time, out: &mut Outbox<ServerEvent>) {
        self.check_at.get_or_insert(next_beat(now, self.config.check));
        if self.has(Fault::ImmediateSync) {
            self.announce(out);
        }
    }

    /// `changes` to all, then `metadata` to each (section 3.1, tick).
    fn announce(&mut self, out: &mut Outbox<ServerEvent>) {
        self.check_at = None;
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return;
        }
        let packet = changes.packet();
        let metadata = self.table.metadata(&self.config.version);
        for (link, _) in &metadata {
            out.send(*link, Message::Text(packet.clone()));
        }
        for (link, packet) in metadata {
            out.send(link, Message::Text(packet));
        }
    }

    fn beat(&mut self, now: Time, out: &mut Outbox<ServerEvent>) {
        if self.check_at.is_some_and(|at| at <= now) {
            self.announce(out);
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping_at = (!self.table.is_empty()).then(|| next_beat(now, self.config.ping));
            for link in self.table.links() {
                out.send(link, Message::Ping(Vec::new()));
            }
        }
    }

    fn received(&mut self, now: Time, link: LinkId, frame: Frame<'_>, out: &mut Outbox<ServerEvent>) {
        if self.closing.contains(&link) || self.table.get(link).is_none() {
            return;
        }
        match frame {
            Frame::Text(bytes) => match Envelope::decode(bytes) {
                Ok(envelope) => self.envelope(now, link, envelope, out),
                Err(error) => self.undecodable(now, link, bytes, &error, out),
            },
            Frame::Binary(_) => self.close(now, link, CloseReason::Unsupported, out),
            Frame::Ping(payload) => out.send(link, Message::Pong(payload.to_vec())),
            Frame::Pong(_) => {}
            Frame::Broken(fault) => {
                if self.has(Fault::DiesOnWireError) && fault == WireFault::Protocol {
                    self.die(out);
                    return;
                }
                let reason = match fault {
                    WireFault::Protocol => CloseReason::Protocol,
                    WireFault::TooBig => CloseReason::TooBig,
                };
                self.close(now, link, reason, out);
            }
        }
    }

    fn undecodable(
        &mut self,
        now: Time,
        link: LinkId,
        bytes: &[u8],
        error: &DecodeError,
        out: &mut Outbox<ServerEvent>,
    ) {
        let (fault, shape) = match error {
            DecodeError::Malformed { deep: true, .. } => (Fault::DiesOnDeepNesting, false),
            DecodeError::Malformed { .. } => (Fault::DiesOnMalformed, false),
            _ => (Fault::DiesOnWrongShape, true),
        };
        if self.has(fault) {
            self.die(out);
            return;
        }
        if shape && self.has(Fault::ArrayBecomesProperties) {
            self.write_array(now, link, bytes, out);
        }
        let Some(reason) = error.close_reason() else { return };
        if self.has(Fault::DeafAfterBadInput) {
            self.closing.insert(link);
        } else {
            self.close(now, link, reason, out);
        }
    }

    fn envelope(&mut self, now: Time, link: LinkId, envelope: Envelope, out: &mut Outbox<ServerEvent>) {
        let Envelope { mut to, packet } = envelope;
        if self.has(Fault::CaseInsensitiveServerAddress)
            && let To::Peers(addresses) = &to
            && addresses.iter().any(|address| address.to_lowercase().contains(SERVER))
        {
            to = To::Server;
        }
        match to {
            To::Server if packet.kind == "properties" => self.write(now, link, &packet, out),
            To::Server => {}
            To::Peers(addresses) => {
                if packet.kind == "properties" && self.has(Fault::PropertiesToPeersCount) {
                    self.write(now, link, &packet, out);
                }
                self.relay(link, &addresses, packet, out);
            }
        }
    }

    /// A `properties` packet for the server (section 2.3).
    fn write(&mut self, now: Time, link: LinkId, packet: &Packet, out: &mut Outbox<ServerEvent>) {
        let Some(Value::Object(written)) = packet.payload() else {
            if self.has(Fault::DiesOnWrongShape) {
                self.die(out);
            } else if self.has(Fault::ArrayBecomesProperties) {
                let written = indexed(packet.payload());
                self.apply(now, link, &written, out);
            }
            return;
        };
        let written = written.clone();
        if self.has(Fault::WritesToOthers) {
            for (token, properties) in &written {
                if let (Some(other), Value::Object(properties)) = (self.table.link_of(token), properties) {
                    self.apply(now, other, &properties.clone(), out);
                }
            }
        }
        self.apply(now, link, &written, out);
    }

    fn write_array(&mut self, now: Time, link: LinkId, bytes: &[u8], out: &mut Outbox<ServerEvent>) {
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes) else { return };
        if object.get("to").and_then(Value::as_str) == Some(SERVER) {
            let written = indexed(object.get("packet").and_then(|packet| packet.get("properties")));
            self.apply(now, link, &written, out);
        }
    }

    /// Merges by name, in the order of the document; `null` deletes, objects and arrays are passed over.
    fn apply(
        &mut self,
        now: Time,
        link: LinkId,
        written: &Map<String, Value>,
        out: &mut Outbox<ServerEvent>,
    ) {
        let replaces = self.has(Fault::ReplacesProperties);
        let limit = if self.has(Fault::LimitTenProperties) { 10 } else { self.config.properties };
        let limit = if self.has(Fault::NoPropertyLimit) { usize::MAX } else { limit };
        let Some(connection) = self.table.get_mut(link) else { return };
        if replaces {
            connection.properties.clear();
        }
        for (name, value) in written {
            match value {
                Value::Null => {
                    connection.properties.shift_remove(name);
                }
                Value::Array(_) | Value::Object(_) => {}
                scalar => {
                    connection.properties.insert(name.clone(), scalar.clone());
                }
            }
        }
        if connection.properties.len() > limit {
            connection.properties.clear();
        }
        let token = connection.token.clone();
        self.changes.write(&token);
        self.changed(now, out);
    }

    /// To every distinct live addressee, at once (section 3.1).
    fn relay(&mut self, link: LinkId, addresses: &[String], packet: Packet, out: &mut Outbox<ServerEvent>) {
        if packet.kind == "metadata" || packet.kind == "changes" {
            return;
        }
        let Some(sender) = self.table.get(link) else { return };
        let mut targets = BTreeSet::new();
        for address in addresses {
            if address == EVERYONE {
                targets.extend(self.table.links());
            } else {
                targets.extend(self.table.link_of(address));
            }
        }
        let text = packet.relayed(&sender.token);
        for target in targets {
            out.send(target, Message::Text(text.clone()));
        }
    }

    fn close(&mut self, now: Time, link: LinkId, reason: CloseReason, out: &mut Outbox<ServerEvent>) {
        out.close(link, Some(reason.code()), "");
        self.leave(now, link, out);
    }

    /// From the moment a Close is seen or sent the peer counts as gone (section 3.1).
    fn leave(&mut self, now: Time, link: LinkId, out: &mut Outbox<ServerEvent>) {
        self.closing.insert(link);
        let Some(gone) = self.table.remove(link) else { return };
        self.changes.close(&gone.token);
        self.last_properties = gone.properties;
        out.event(ServerEvent::Left(gone.token));
        if self.table.is_empty() {
            self.ping_at = None;
        }
        self.changed(now, out);
    }

    fn die(&mut self, out: &mut Outbox<ServerEvent>) {
        self.dead = true;
        self.check_at = None;
        self.ping_at = None;
        for link in self.table.links() {
            self.table.remove(link);
            out.abort(link);
        }
    }
}

/// The elements of an array, or the characters of a string, under the names `0`, `1` ...
fn indexed(value: Option<&Value>) -> Map<String, Value> {
    let elements: Vec<Value> = match value {
        Some(Value::Array(elements)) => elements.clone(),
        Some(Value::String(text)) => text.chars().map(|c| Value::from(c.to_string())).collect(),
        _ => Vec::new(),
    };
    elements.into_iter().enumerate().map(|(place, value)| (place.to_string(), value)).collect()
}

/// The first multiple of `every` after `now`: the phase is that of the start (section 3.1).
fn next_beat(now: Time, every: Duration) -> Time {
    let beats = now.since_start().as_nanos() / every.as_nanos() + 1;
    let nanos = u64::try_from(beats * every.as_nanos()).unwrap_or(u64::MAX);
    Time::from_start(Duration::from_nanos(nanos))
}

/// The same code, or 1000 for none (section 2.8); a code that may not be sent is a protocol error.
fn closing_answer(code: Option<u16>) -> u16 {
    match code {
        None => 1000,
        Some(code @ (1000..=1003 | 1007..=1011 | 3000..=4999)) => code,
        Some(_) => CloseReason::Protocol.code(),
    }
}

impl Machine for Server {
    type Command = ServerCommand;
    type Event = ServerEvent;

    fn handle(&mut self, now: Time, input: Input<'_, ServerCommand>, out: &mut Outbox<ServerEvent>) {
        if self.dead {
            if let Input::Requested { link, .. } = input {
                out.abort(link);
            }
            return;
        }
        self.beat(now, out);
        match input {
            Input::Requested { link, request } => self.requested(now, link, request, out),
            Input::Received { link, frame } => self.received(now, link, frame, out),
            Input::Closing { link, code, .. } => {
                out.close(link, Some(closing_answer(code)), "");
                self.leave(now, link, out);
            }
            Input::Closed { link } => {
                self.leave(now, link, out);
                self.closing.remove(&link);
            }
            Input::Command(ServerCommand::ShutDown) => {
                for link in self.table.links() {
                    self.close(now, link, CloseReason::GoingAway, out);
                }
            }
            Input::Opened { .. } | Input::Refused { .. } | Input::Answered { .. } | Input::Tick => {}
            Input::Bound { .. } | Input::NotBound { .. } | Input::Datagram { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        [self.check_at, self.ping_at].into_iter().flatten().min()
    }

    fn command(name: &str, _with: &Value) -> Result<ServerCommand, String> {
        match name {
            "shut-down" => Ok(ServerCommand::ShutDown),
            _ => Err(format!("a hangout server cannot `{name}`; it can `shut-down`")),
        }
    }

    fn leave() -> Option<ServerCommand> {
        Some(ServerCommand::ShutDown)
    }
}
