//! The server: gives tokens, relays at once, announces changes at checks 500 ms apart, pings every 20 s.

mod announce;
mod relay;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Map, Value};

use super::config::{Fault, ServerConfig};
use super::error::{CloseReason, DecodeError};
use super::message::{EVERYONE, Envelope, SERVER, To};
use super::state::{ChangeSet, Connection, Table};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time, WireFault};

/// How long a server that is slow to listen takes (planted fault).
const LISTENS_AFTER: Duration = Duration::from_millis(20);

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
    /// What planted faults remember.
    memory: Memory,
    dead: bool,
}

/// What a server remembers only to commit a planted fault.
#[derive(Debug, Default)]
struct Memory {
    /// Of whoever left last.
    last_properties: Map<String, Value>,
    /// Who left since the last check.
    ghosts: Vec<Connection>,
    /// Links that were not greeted yet, and when they will be.
    ungreeted: BTreeMap<LinkId, Time>,
}

impl Server {
    /// A server that nobody has connected to yet.
    pub fn new(mut config: ServerConfig) -> Self {
        if config.faults.contains(&Fault::SlowPings) {
            config.ping = config.ping * 3 / 2;
        }
        Server {
            rng: Rng::with_seed(config.seed),
            config,
            table: Table::default(),
            changes: ChangeSet::default(),
            check_at: None,
            ping_at: None,
            closing: BTreeSet::new(),
            used_tokens: BTreeSet::new(),
            memory: Memory::default(),
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
        if self.has(Fault::RefusesThird) && self.table.links().len() == 2 {
            out.respond(link, Response { status: 503, headers: Vec::new(), body: Vec::new() });
            return;
        }
        let token = self.new_token();
        let properties = match self.has(Fault::InheritsProperties) {
            true => self.memory.last_properties.clone(),
            false => Map::new(),
        };
        self.table.insert(link, Connection { token: token.clone(), properties });
        self.changes.open(&token);
        out.accept(link, None);
        out.event(ServerEvent::Joined(token));
        if self.has(Fault::DeafBeforeGreeting) {
            self.memory.ungreeted.insert(link, now + LISTENS_AFTER);
        } else {
            self.greet(link, out);
        }
        self.ping_at.get_or_insert(next_beat(now, self.config.ping));
        self.changed(now, out);
    }

    fn greet(&mut self, link: LinkId, out: &mut Outbox<ServerEvent>) {
        if self.config.greet
            && let Some(packet) = self.table.metadata_for(link, &self.config.version)
        {
            out.send(link, Message::Text(packet));
        }
    }

    /// Sixteen random bytes in hex, never the same twice in a run (section 2.1).
    fn new_token(&mut self) -> String {
        let shared = self.has(Fault::SharedToken)
            || (self.has(Fault::SharedTokenInCrowd) && self.table.links().len() > 6);
        if shared && let Some(token) = self.table.first_token() {
            return token;
        }
        loop {
            let mut token = format!("{:016x}{:016x}", self.rng.u64(..), self.rng.u64(..));
            if self.has(Fault::SequentialTokens) {
                token = format!("{:032x}", self.used_tokens.len() + 1);
            } else if self.has(Fault::TokensShareBeginning) {
                token.replace_range(..24, "5eed5eed5eed5eed5eed5eed");
            } else if self.has(Fault::UpperCaseTokens) {
                token = token.to_uppercase();
            }
            if !self.table.has_token(&token) && self.used_tokens.insert(token.clone()) {
                return token;
            }
        }
    }

    fn changed(&mut self, now: Time, out: &mut Outbox<ServerEvent>) {
        let at = next_beat(now, self.config.check);
        self.check_at = Some(self.check_at.map_or(at, |known| known.min(at)));
        if self.has(Fault::ImmediateSync) {
            self.announce(now, out);
        }
    }

    fn received(&mut self, now: Time, link: LinkId, frame: Frame<'_>, out: &mut Outbox<ServerEvent>) {
        if self.closing.contains(&link) || self.table.get(link).is_none() {
            return;
        }
        if matches!(frame, Frame::Text(_)) && self.memory.ungreeted.contains_key(&link) {
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
                let (deadly, reason) = match fault {
                    WireFault::Protocol => (Fault::DiesOnWireError, CloseReason::Protocol),
                    WireFault::TooBig => (Fault::DiesOnTooBig, CloseReason::TooBig),
                };
                if self.has(deadly) {
                    self.die(out);
                } else {
                    self.close(now, link, reason, out);
                }
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
            DecodeError::Malformed { .. } if std::str::from_utf8(bytes).is_ok() => {
                (Fault::DiesOnMalformed, false)
            }
            DecodeError::Malformed { .. } => (Fault::DiesOnWireError, false),
            _ => (Fault::DiesOnWrongShape, true),
        };
        if self.has(fault) {
            self.die(out);
            return;
        }
        if shape && self.has(Fault::ArrayBecomesProperties) {
            self.write_array(now, link, bytes, out);
        }
        if *error == DecodeError::Type && self.has(Fault::RelaysAnyType) {
            self.relay_untyped(link, bytes, out);
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
                let known = |address: &String| self.table.link_of(address).is_some();
                let unknown = |one: &String| one != EVERYONE && !known(one);
                if self.has(Fault::ClosesOnUnknownAddress)
                    && addresses.len() == 1
                    && addresses.iter().any(unknown)
                {
                    self.close(now, link, CloseReason::Malformed, out);
                    return;
                }
                let counts = self.has(Fault::PropertiesToPeersCount) && addresses.iter().any(known);
                if packet.kind == "properties" && counts {
                    self.write(now, link, &packet, out);
                }
                self.relay(link, &addresses, packet, out);
            }
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
        self.memory.ungreeted.remove(&link);
        let short_lived = self.changes.opened.contains(&gone.token);
        if short_lived && (self.has(Fault::ForgetsShortLived) || self.has(Fault::SlowJoins)) {
            self.changes.opened.retain(|token| *token != gone.token);
        }
        if !short_lived || !self.has(Fault::SlowJoins) {
            self.changes.close(&gone.token);
        }
        self.memory.last_properties.clone_from(&gone.properties);
        out.event(ServerEvent::Left(gone.token.clone()));
        if self.has(Fault::KeepsGhosts) {
            self.memory.ghosts.push(gone);
        }
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

    fn is_over(&self) -> bool {
        self.dead
    }

    fn has_failed(&self) -> bool {
        self.dead
    }

    fn deadline(&self) -> Option<Time> {
        let greeting = self.memory.ungreeted.values().min().copied();
        [self.check_at, self.ping_at, greeting].into_iter().flatten().min()
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
