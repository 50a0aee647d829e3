//! The master: takes links, sees that everybody registers, serves controls and passes on what is for slaves (3.1).

mod plugins;
mod requests;
mod slaves;
mod state;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Map, Value};

use self::plugins::Plugins;
use self::state::{Cluster, Connection, Phase, Waiting};
use super::catalogue::{Direction, Illegal, Kind, Reading, classify, whole};
use super::config::{Fault, MasterConfig};
use super::error::{CloseReason, DecodeError};
use super::line::Line;
use super::message::{Envelope, Registration, object};
use super::token::Worth;
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time, WireFault};

/// What the owner of a master can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterCommand {
    /// Say `close` on every link and end it.
    ShutDown,
}

/// What a master tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterEvent {
    /// A control has registered.
    ControlRegistered(LinkId),
    /// A slave has registered under this id.
    SlaveRegistered(i64),
    /// The slave of this id is gone.
    SlaveLost(i64),
}

/// The master of clusterio.md section 3.1.
#[derive(Debug)]
pub struct Master {
    config: MasterConfig,
    rng: Rng,
    connections: BTreeMap<LinkId, Connection>,
    cluster: Cluster,
    plugins: Plugins,
    /// The counter that all links share when that fault is planted.
    counter: Rc<Cell<i64>>,
    /// Told to stop: nobody is taken any more.
    stopping: bool,
    dead: bool,
}

impl Master {
    /// A master that nobody has connected to yet.
    pub fn new(config: MasterConfig) -> Self {
        Master {
            rng: Rng::with_seed(config.seed),
            config,
            connections: BTreeMap::new(),
            cluster: Cluster::default(),
            plugins: Plugins::default(),
            counter: Rc::default(),
            stopping: false,
            dead: false,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn requested(&mut self, now: Time, link: LinkId, request: &Request, out: &mut Outbox<MasterEvent>) {
        let respond = |out: &mut Outbox<MasterEvent>, status| {
            out.respond(link, Response { status, ..Response::default() });
        };
        if self.stopping {
            respond(out, 503);
            return;
        }
        if !request.upgrade {
            // Section 1: a plain request is not found.
            respond(out, 404);
            return;
        }
        let elsewhere = request.path != self.config.path && !self.has(Fault::ServesEveryPath);
        if elsewhere || (self.has(Fault::RefusesQuery) && !request.query.is_empty()) {
            respond(out, 400);
            return;
        }
        out.accept(link, None);
        let counter = if self.has(Fault::SharedCounter) { Rc::clone(&self.counter) } else { Rc::default() };
        let mut line = Line::counted_by(link, counter).faulty(&self.config.faults);
        line.send("hello", &object([("version", Value::from(self.config.version.as_str()))]), out);
        let phase = Phase::AwaitRegister { since: now };
        self.connections.insert(link, Connection { line, phase, heard: None });
    }

    fn received(&mut self, now: Time, link: LinkId, frame: Frame<'_>, out: &mut Outbox<MasterEvent>) {
        let Some(connection) = self.connections.get_mut(&link) else { return };
        let closing = matches!(connection.phase, Phase::Closing(_));
        match frame {
            Frame::Ping(payload) if !closing => out.send(link, Message::Pong(payload.to_vec())),
            Frame::Text(bytes) if closing && self.has(Fault::ActsAfterClose) => {
                if let (Ok(envelope), Some(connection)) =
                    (Envelope::decode(bytes, true), self.connections.get_mut(&link))
                    && let Phase::Closing(Some(was)) = &mut connection.phase
                {
                    // Whatever it answers is not heard any more: the WebSocket is closed.
                    connection.phase = *std::mem::replace(was, Box::new(Phase::Closing(None)));
                    self.message(now, link, envelope, out);
                    self.retire(link, out);
                }
            }
            _ if closing => {}
            Frame::Text(bytes) => self.text(now, link, bytes, out),
            Frame::Binary(_) => {
                self.close(link, &CloseReason::InvalidMessage("Binary".to_owned()), Some(1003), out)
            }
            Frame::Ping(_) | Frame::Pong(_) => {}
            Frame::Broken(fault) => {
                if self.has(Fault::DiesOnWireError) {
                    self.die(out);
                    return;
                }
                // Section 5: no `close` message, for the framing is lost.
                out.close(link, Some(if fault == WireFault::TooBig { 1009 } else { 1002 }), "");
                self.retire(link, out);
            }
        }
    }

    fn text(&mut self, now: Time, link: LinkId, bytes: &[u8], out: &mut Outbox<MasterEvent>) {
        if std::str::from_utf8(bytes).is_err() {
            if self.has(Fault::DiesOnMalformed) {
                self.die(out);
                return;
            }
            out.close(link, Some(1007), "");
            self.retire(link, out);
            return;
        }
        match Envelope::decode(bytes, self.config.edition.is_strict()) {
            Ok(envelope) => {
                if self.has(Fault::WantsFixedOrder) && !bytes.starts_with(b"{\"seq\"") {
                    self.invalid(link, "Malformed", out);
                    return;
                }
                self.message(now, link, envelope, out);
            }
            Err(error) => {
                if self.has(Fault::DiesOnMalformed) && matches!(error, DecodeError::Malformed(_)) {
                    self.die(out);
                    return;
                }
                self.invalid(link, "Malformed", out);
            }
        }
    }

    fn message(&mut self, now: Time, link: LinkId, envelope: Envelope, out: &mut Outbox<MasterEvent>) {
        let follows = {
            let Some(connection) = self.connections.get_mut(&link) else { return };
            let before = connection.heard.replace(envelope.seq);
            before.is_none_or(|before| envelope.seq == before + 1)
        };
        if self.has(Fault::WantsSuccessors) && !follows {
            self.invalid(link, "Malformed", out);
            return;
        }
        if self.has(Fault::CounterOfBothDirections)
            && let Some(connection) = self.connections.get(&link)
        {
            connection.line.count_from(envelope.seq);
        }
        if envelope.kind == "close" {
            if !self.has(Fault::IgnoresClose) {
                // 3.1: dropped at once, nothing is answered.
                self.retire(link, out);
                out.abort(link);
            }
            return;
        }
        let direction = match self.connections.get(&link).map(|connection| &connection.phase) {
            Some(Phase::AwaitRegister { .. }) => {
                self.register(now, link, &envelope, out);
                return;
            }
            Some(Phase::Slave { .. }) => Direction::SlaveToMaster,
            Some(Phase::Control { .. }) => Direction::ControlToMaster,
            Some(Phase::Closing(_)) | None => return,
        };
        self.ready(now, link, direction, envelope, out);
    }

    /// The first message of a connection (3.1, AWAIT_REGISTER).
    fn register(&mut self, now: Time, link: LinkId, envelope: &Envelope, out: &mut Outbox<MasterEvent>) {
        let strict = self.config.edition.is_strict();
        let mut registration = Registration::decode(envelope, strict);
        let is_register = matches!(envelope.kind.as_str(), "register_slave" | "register_control");
        let tokenless = self.has(Fault::AcceptsMissingToken) && !envelope.data.contains_key("token");
        if registration.is_none() && is_register && tokenless {
            registration = Registration::decode(envelope, false);
        }
        if registration.is_none() && is_register && self.has(Fault::AcceptsPartialRegistration) {
            registration = Some(partial(envelope));
        }
        let Some(registration) = registration else {
            self.unregistered(now, link, envelope, out);
            return;
        };
        if self.has(Fault::RefusesVersions) && registration.version != self.config.version {
            self.close(link, &CloseReason::InvalidHandshake, None, out);
            return;
        }
        if !self.admits(now, &registration) {
            if self.has(Fault::RefusedSlaveDisplaces)
                && let Some((_, id)) = &registration.slave
                && let Some(older) = self.cluster.link_of(*id)
            {
                self.close(older, &CloseReason::RegisteredAgain, None, out);
            }
            self.close(link, &CloseReason::AuthenticationFailed, None, out);
            return;
        }
        let phase = match registration.slave.clone() {
            Some((name, id)) => {
                if self.has(Fault::OneSlaveOnly) && self.cluster.connected().any(|(other, _)| other != id) {
                    self.close(link, &CloseReason::InvalidHandshake, None, out);
                    return;
                }
                if self.has(Fault::RefusesReturn) && self.cluster.knows(id) {
                    self.close(link, &CloseReason::InvalidHandshake, None, out);
                    return;
                }
                if let Some(older) = self.cluster.link_of(id)
                    && older != link
                    && !self.has(Fault::KeepsOlderConnection)
                {
                    self.close(older, &CloseReason::RegisteredAgain, None, out);
                }
                let tells = self.has(Fault::TellsTokens);
                let agent = registration.token.filter(|_| tells).unwrap_or(registration.agent);
                self.cluster.arrived(id, agent, registration.version, name, link);
                out.event(MasterEvent::SlaveRegistered(id));
                Phase::Slave { id, series: Default::default() }
            }
            None => {
                out.event(MasterEvent::ControlRegistered(link));
                Phase::Control { subscriptions: Default::default() }
            }
        };
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.phase = phase;
            connection.line.send("ready", &Map::new(), out);
        }
    }

    fn admits(&self, now: Time, registration: &Registration) -> bool {
        let Some(token) = &registration.token else {
            // The edition `seed` knows no token; `alpha0` has refused the message already.
            return true;
        };
        match self.config.tokens.worth(token, now.since_start().as_secs()) {
            Worth::Good => true,
            Worth::Expired => self.has(Fault::AcceptsExpiredTokens) || self.has(Fault::AcceptsAnyToken),
            Worth::Unsigned => self.has(Fault::AcceptsUnsignedTokens) || self.has(Fault::AcceptsAnyToken),
            Worth::Worthless => self.has(Fault::AcceptsAnyToken),
        }
    }

    /// What comes first and is no register message.
    fn unregistered(&mut self, now: Time, link: LinkId, envelope: &Envelope, out: &mut Outbox<MasterEvent>) {
        if self.has(Fault::ServesUnregistered)
            && let Ok(Kind::Request(stem)) =
                classify(Direction::ControlToMaster, self.reading(), &envelope.kind, &envelope.data)
        {
            self.serve(now, link, stem, envelope, out);
            return;
        }
        if self.has(Fault::IgnoresStrangeHandshake) {
            return;
        }
        self.close(link, &CloseReason::InvalidHandshake, None, out);
    }

    fn reading(&self) -> Reading {
        Reading { strict: self.config.edition.is_strict(), plugins: self.config.plugins }
    }

    /// A message of somebody who is registered (3.1, READY).
    fn ready(
        &mut self,
        now: Time,
        link: LinkId,
        direction: Direction,
        envelope: Envelope,
        out: &mut Outbox<MasterEvent>,
    ) {
        let kind = &envelope.kind;
        if self.has(Fault::RegistersAgain) && kind.starts_with("register_") {
            return;
        }
        match classify(direction, self.reading(), kind, &envelope.data) {
            Ok(Kind::Response) => self.response(now, link, &envelope, out),
            Ok(_) if self.has(Fault::ServesNobodyWhileWaiting) && self.is_waiting(link) => {}
            Ok(Kind::Request(stem)) => self.serve(now, link, stem, &envelope, out),
            Ok(Kind::Event) => {
                self.event(now, link, &envelope, out);
                if let Some(stem) = kind.strip_suffix("_event").filter(|_| self.has(Fault::RepliesToEvents)) {
                    self.respond(link, stem, envelope.seq, Ok(Map::new()), out);
                }
            }
            Err(_) if self.has(Fault::IgnoresInvalid) => {}
            Err(Illegal::NoValidator)
                if self.has(Fault::IgnoresWrongDirection)
                    && Direction::ALL
                        .iter()
                        .any(|other| classify(*other, self.reading(), kind, &envelope.data).is_ok()) => {}
            Err(illegal) => {
                let other = if direction == Direction::SlaveToMaster { "slave" } else { "control" };
                let detail = match illegal {
                    Illegal::NoValidator => format!("No validator for {kind} on master-{other}"),
                    Illegal::Validation => format!("Validation failed for {kind}"),
                };
                self.invalid(link, &detail, out);
            }
        }
    }

    fn is_waiting(&self, link: LinkId) -> bool {
        self.connections.get(&link).is_some_and(|connection| connection.line.is_waiting())
    }

    fn response(&mut self, now: Time, link: LinkId, envelope: &Envelope, out: &mut Outbox<MasterEvent>) {
        let Some(to) = envelope.data.get("seq").and_then(whole) else { return };
        let in_order = self.has(Fault::AnswersInOrder);
        let Some(connection) = self.connections.get_mut(&link) else { return };
        let waiting =
            if in_order { connection.line.oldest() } else { connection.line.matching(&envelope.kind, to) };
        match waiting {
            Some(waiting) => {
                let mut results = envelope.data.clone();
                results.shift_remove("seq");
                let result = match results.get("error") {
                    Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
                    None => Ok(results),
                };
                self.answered(now, link, waiting, result, out);
            }
            None if self.has(Fault::IgnoresUnmatchedResponses) => {}
            None => self.invalid(link, &format!("Unhandled message {}", envelope.kind), out),
        }
    }

    /// Answers a request; whoever is gone is not answered.
    fn respond(
        &mut self,
        link: LinkId,
        stem: &str,
        to: i64,
        result: Result<Map<String, Value>, String>,
        out: &mut Outbox<MasterEvent>,
    ) {
        let failed = result.is_err();
        let Some(connection) = self.connections.get_mut(&link) else { return };
        if matches!(connection.phase, Phase::Closing(_)) {
            return;
        }
        connection.line.respond(stem, to, result, out);
        if failed && self.has(Fault::EndsLinkOnFailedRequest) {
            self.invalid(link, "Request failed", out);
        }
    }

    /// Ends a link for something that is not acceptable.
    fn invalid(&mut self, link: LinkId, detail: &str, out: &mut Outbox<MasterEvent>) {
        let handshake = match self.connections.get(&link).map(|connection| &connection.phase) {
            Some(Phase::AwaitRegister { .. }) => true,
            Some(Phase::Closing(_)) | None => return,
            _ => false,
        };
        if handshake && self.has(Fault::IgnoresStrangeHandshake)
            || !handshake && self.has(Fault::IgnoresInvalid)
        {
            return;
        }
        let reason = if handshake {
            CloseReason::InvalidHandshake
        } else {
            CloseReason::InvalidMessage(detail.to_owned())
        };
        self.close(link, &reason, None, out);
    }

    fn close(
        &mut self,
        link: LinkId,
        reason: &CloseReason,
        code: Option<u16>,
        out: &mut Outbox<MasterEvent>,
    ) {
        if let Some(connection) = self.connections.get_mut(&link) {
            let lingers = self.config.faults.contains(&Fault::LingersAfterClose);
            connection.line.close(reason, code, lingers, out);
        }
        self.retire(link, out);
    }

    /// From the moment a link is closing or gone its client counts as gone.
    fn retire(&mut self, link: LinkId, out: &mut Outbox<MasterEvent>) {
        let Some(connection) = self.connections.get_mut(&link) else { return };
        let was = std::mem::replace(&mut connection.phase, Phase::Closing(None));
        let lost = connection.line.take_waiting();
        if let Phase::Slave { id, .. } = &was {
            let id = *id;
            let forgets = self.has(Fault::EndOfOldEndsNew);
            if (self.cluster.link_of(id) == Some(link) || forgets) && !self.has(Fault::ListsGoneAsConnected) {
                self.cluster.left(id);
                out.event(MasterEvent::SlaveLost(id));
                if self.has(Fault::ForgetsGoneSlaves) {
                    self.cluster.forget(id);
                }
            }
        }
        if self.has(Fault::ActsAfterClose)
            && matches!(was, Phase::Slave { .. } | Phase::Control { .. })
            && let Some(connection) = self.connections.get_mut(&link)
        {
            connection.phase = Phase::Closing(Some(Box::new(was)));
        }
        for waiting in lost {
            self.unanswered(waiting, "the slave was lost before it answered", out);
        }
    }

    /// A request of ours gets no answer any more.
    fn unanswered(&mut self, waiting: Waiting, why: &str, out: &mut Outbox<MasterEvent>) {
        if let Waiting::Asked { asker, stem, seq, .. } = waiting
            && !self.has(Fault::ForgetsForwarded)
        {
            self.respond(asker, stem, seq, Err(why.to_owned()), out);
        }
    }

    fn gone(&mut self, link: LinkId, out: &mut Outbox<MasterEvent>) {
        self.retire(link, out);
        self.connections.remove(&link);
    }

    fn shut_down(&mut self, out: &mut Outbox<MasterEvent>) {
        self.stopping = true;
        let links: Vec<LinkId> = self.connections.keys().copied().collect();
        for link in links {
            match self.connections.get(&link).map(|connection| &connection.phase) {
                Some(Phase::AwaitRegister { .. }) => {
                    out.abort(link);
                    self.retire(link, out);
                }
                Some(Phase::Closing(_)) | None => {}
                Some(_) if self.has(Fault::LeavesSilently) => {
                    out.close(link, None, "");
                    self.retire(link, out);
                }
                Some(_) => self.close(link, &CloseReason::Shutdown, None, out),
            }
        }
    }

    /// Crashes, as it looks from outside.
    fn die(&mut self, out: &mut Outbox<MasterEvent>) {
        self.dead = true;
        for link in std::mem::take(&mut self.connections).into_keys() {
            out.abort(link);
        }
    }

    fn beat(&mut self, now: Time, out: &mut Outbox<MasterEvent>) {
        let links: Vec<LinkId> = self.connections.keys().copied().collect();
        for link in &links {
            let late = self.connections.get_mut(link).map(|connection| connection.line.take_late(now));
            for waiting in late.unwrap_or_default() {
                self.unanswered(waiting, "the slave did not answer in time", out);
            }
            if self.register_limit(*link).is_some_and(|limit| limit <= now) {
                self.close(*link, &CloseReason::HandshakeTimeout, None, out);
            }
        }
        let slaves: Vec<LinkId> = self.cluster.connected().map(|(_, link)| link).collect();
        if let Some(technologies) = self.plugins.progress(now) {
            self.tell_slaves(&slaves, None, "research_sync:progress_event", &technologies, out);
        }
    }

    fn register_limit(&self, link: LinkId) -> Option<Time> {
        match (&self.connections.get(&link)?.phase, self.config.handshake_timeout) {
            (Phase::AwaitRegister { since }, Some(timeout)) => Some(*since + timeout),
            _ => None,
        }
    }

    fn until(&self, now: Time) -> Time {
        now + self.config.request_timeout.max(Duration::from_millis(1))
    }
}

/// A register message read as far as it goes, for a planted fault.
fn partial(envelope: &Envelope) -> Registration {
    let text = |name: &str| envelope.data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = envelope.data.get("id").and_then(whole).unwrap_or_default();
    Registration {
        agent: text("agent"),
        version: text("version"),
        slave: (envelope.kind == "register_slave").then(|| (text("name"), id)),
        token: envelope.data.get("token").and_then(Value::as_str).map(str::to_owned),
    }
}

impl Machine for Master {
    type Command = MasterCommand;
    type Event = MasterEvent;

    fn handle(&mut self, now: Time, input: Input<'_, MasterCommand>, out: &mut Outbox<MasterEvent>) {
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
                out.close(link, code, "");
                self.retire(link, out);
            }
            Input::Closed { link } => self.gone(link, out),
            Input::Command(MasterCommand::ShutDown) => self.shut_down(out),
            Input::Opened { .. }
            | Input::Refused { .. }
            | Input::Tick
            | Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Answered { .. }
            | Input::Datagram { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        if self.dead {
            return None;
        }
        let lines = self
            .connections
            .iter()
            .flat_map(|(link, connection)| [connection.line.deadline(), self.register_limit(*link)]);
        lines.chain([self.plugins.deadline()]).flatten().min()
    }

    fn command(name: &str, _with: &Value) -> Result<MasterCommand, String> {
        match name {
            "shut-down" => Ok(MasterCommand::ShutDown),
            _ => Err(format!("a clusterio master cannot `{name}`; it can `shut-down`")),
        }
    }

    fn leave() -> Option<MasterCommand> {
        Some(MasterCommand::ShutDown)
    }

    fn is_over(&self) -> bool {
        let strangers = |connection: &Connection| matches!(connection.phase, Phase::AwaitRegister { .. });
        let waits = self.has(Fault::WaitsForStrangers) && self.connections.values().any(strangers);
        self.stopping && self.connections.is_empty() && !waits
    }
}
