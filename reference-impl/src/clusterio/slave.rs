//! The slave: registers, tells of its instances, and does what the master asks of them. The instances are simulated:
//! they can be assigned, started, saved, stopped and deleted, and answer commands by saying them back.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::catalogue::{Direction, Kind, Reading, classify, whole};
use super::config::{Fault, SlaveConfig};
use super::error::{CloseReason, DecodeError};
use super::instance::{InstanceConfig, is_directory_name};
use super::line::Line;
use super::message::{Envelope, object};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Time, WireFault};

/// What the owner of a slave can ask.
#[derive(Clone, Debug, PartialEq)]
pub enum SlaveCommand {
    /// An instance says something: the data of an `instance_output_event`.
    Output(Map<String, Value>),
    /// Leave in order.
    Quit,
    /// Ask the master something: a stem, and the data of the request.
    Request(String, Map<String, Value>),
    /// Tell the master something: a type, and the data of the event.
    Tell(String, Map<String, Value>),
}

/// What a slave tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlaveEvent {
    /// A request of ours was answered: its stem, and whether it went well.
    Answered(String, bool),
    /// The link is over.
    Over,
    /// Registered.
    Ready,
}

#[derive(Debug)]
struct Instance {
    config: InstanceConfig,
    running: bool,
    saves: u64,
}

#[derive(Debug)]
enum State {
    /// Nothing has been asked for yet.
    Idle,
    Connecting,
    AwaitHello(Line<String>),
    AwaitReady(Line<String>),
    Ready(Line<String>),
    /// We have said `close`, or heard it.
    Leaving,
    Over,
}

/// The slave of clusterio.md section 3.2.
#[derive(Debug)]
pub struct Slave {
    config: SlaveConfig,
    state: State,
    instances: BTreeMap<i64, Instance>,
    /// Told to do before there was a link to do it on.
    waiting: Vec<SlaveCommand>,
    heard: Option<i64>,
    failed: bool,
}

const LINK: LinkId = LinkId(0);

impl Slave {
    /// A slave that connects at its first tick.
    pub fn new(config: SlaveConfig) -> Self {
        let mut instances = BTreeMap::new();
        for serialized in &config.instances {
            let fresh = i64::try_from(instances.len()).unwrap_or_default();
            // A configuration of our own that cannot be loaded is an instance we do not have.
            if let Ok(loaded) = InstanceConfig::load(serialized, config.plugins, fresh) {
                instances.insert(loaded.id(), Instance { config: loaded, running: false, saves: 0 });
            }
        }
        Slave { config, state: State::Idle, instances, waiting: Vec::new(), heard: None, failed: false }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn line(&mut self) -> Option<&mut Line<String>> {
        match &mut self.state {
            State::AwaitHello(line) | State::AwaitReady(line) | State::Ready(line) => Some(line),
            State::Idle | State::Connecting | State::Leaving | State::Over => None,
        }
    }

    fn is_strict(&self) -> bool {
        self.config.edition.is_strict()
    }

    fn received(&mut self, frame: Frame<'_>, out: &mut Outbox<SlaveEvent>) {
        if self.line().is_none() {
            return;
        }
        match frame {
            Frame::Text(bytes) if std::str::from_utf8(bytes).is_err() => self.lose(Some(1007), out),
            Frame::Text(bytes) => match Envelope::decode(bytes, self.is_strict()) {
                Ok(_) if self.has(Fault::WantsFixedOrder) && !bytes.starts_with(b"{\"seq\"") => {
                    self.invalid("Malformed", out);
                }
                Ok(envelope) => self.message(&envelope, out),
                Err(DecodeError::Malformed(_)) if self.has(Fault::CrashesOnMalformed) => self.crash(out),
                Err(_) => self.invalid("Malformed", out),
            },
            Frame::Binary(_) => {
                self.close(&CloseReason::InvalidMessage("Binary".to_owned()), Some(1003), out)
            }
            Frame::Ping(payload) => out.send(LINK, Message::Pong(payload.to_vec())),
            Frame::Pong(_) => {}
            Frame::Broken(fault) => {
                self.lose(Some(if fault == WireFault::TooBig { 1009 } else { 1002 }), out)
            }
        }
    }

    fn message(&mut self, envelope: &Envelope, out: &mut Outbox<SlaveEvent>) {
        let before = self.heard.replace(envelope.seq);
        if self.has(Fault::WantsSuccessors) && before.is_some_and(|before| envelope.seq != before + 1) {
            self.invalid("Malformed", out);
            return;
        }
        if self.has(Fault::CounterOfBothDirections)
            && let Some(line) = self.line()
        {
            line.count_from(envelope.seq);
        }
        let ready = matches!(self.state, State::Ready(_));
        if envelope.kind == "close" {
            let ignores = if ready { Fault::IgnoresClose } else { Fault::IgnoresCloseInHandshake };
            if !self.has(ignores) {
                // 3.2: in the handshake it is a failure, later the end of the work.
                self.failed |= !ready;
                self.state = State::Leaving;
                out.abort(LINK);
            }
            return;
        }
        match std::mem::replace(&mut self.state, State::Leaving) {
            State::AwaitHello(line) => self.greeted(line, envelope, out),
            State::AwaitReady(line) => self.accepted(line, envelope, out),
            State::Ready(line) => {
                self.state = State::Ready(line);
                self.served(envelope, out);
            }
            state => self.state = state,
        }
    }

    fn greeted(&mut self, mut line: Line<String>, envelope: &Envelope, out: &mut Outbox<SlaveEvent>) {
        let version = envelope.data.get("version").and_then(Value::as_str);
        let strange = envelope.kind != "hello"
            || version.is_none()
            || (self.is_strict() && envelope.data.len() != 1)
            || (self.has(Fault::RefusesVersions) && version != Some(&self.config.version));
        if strange {
            self.state = State::AwaitHello(line);
            self.strange(out);
            return;
        }
        if !self.has(Fault::RegistersUnasked) {
            self.register(&mut line, out);
        }
        self.state = State::AwaitReady(line);
        if self.has(Fault::TalksBeforeReady) {
            self.report(out);
        }
    }

    fn register(&self, line: &mut Line<String>, out: &mut Outbox<SlaveEvent>) {
        let mut data = object([
            ("agent", Value::from(self.config.agent.as_str())),
            ("version", Value::from(self.config.version.as_str())),
            ("name", Value::from(self.config.name.as_str())),
            ("id", Value::from(self.config.id)),
        ]);
        if let Some(token) = &self.config.token {
            data.insert("token".to_owned(), Value::from(token.as_str()));
        }
        line.send("register_slave", &data, out);
    }

    fn accepted(&mut self, line: Line<String>, envelope: &Envelope, out: &mut Outbox<SlaveEvent>) {
        if envelope.kind != "ready" || (self.is_strict() && !envelope.data.is_empty()) {
            self.state = State::AwaitReady(line);
            self.strange(out);
            return;
        }
        self.state = State::Ready(line);
        if self.has(Fault::RegistersTwice) {
            self.again(out);
        }
        out.event(SlaveEvent::Ready);
        if !self.has(Fault::TalksBeforeReady) {
            self.report(out);
        }
        for command in std::mem::take(&mut self.waiting) {
            self.obey(command, out);
        }
    }

    fn again(&mut self, out: &mut Outbox<SlaveEvent>) {
        let State::Ready(mut line) = std::mem::replace(&mut self.state, State::Leaving) else { return };
        self.register(&mut line, out);
        self.state = State::Ready(line);
    }

    /// Tells of all instances (3.2).
    fn report(&mut self, out: &mut Outbox<SlaveEvent>) {
        let instances: Vec<Value> = self
            .instances
            .values()
            .map(|instance| json!({ "serialized_config": instance.config.serialized() }))
            .collect();
        let data = object([("instances", Value::from(instances))]);
        if let Some(line) = self.line() {
            line.send("update_instances_event", &data, out);
        }
    }

    fn served(&mut self, envelope: &Envelope, out: &mut Outbox<SlaveEvent>) {
        let reading = Reading { strict: self.is_strict(), plugins: self.config.plugins };
        let kind = &envelope.kind;
        if self.has(Fault::RegistersAgain) && matches!(kind.as_str(), "hello" | "ready") {
            return;
        }
        let classified = classify(Direction::MasterToSlave, reading, kind, &envelope.data);
        let waiting = self.line().is_some_and(|line| line.is_waiting());
        match classified {
            Ok(Kind::Request(_)) if waiting && self.has(Fault::ServesNobodyWhileWaiting) => {}
            Ok(Kind::Request(stem)) => {
                let result = self.execute(stem, envelope);
                let failed = result.is_err();
                if let Some(line) = self.line() {
                    line.respond(stem, envelope.seq, result, out);
                }
                if failed && self.has(Fault::EndsLinkOnFailedRequest) {
                    self.invalid("Request failed", out);
                }
            }
            // 2.8: a simulated instance shows nothing of what the cluster tells it.
            Ok(Kind::Event) if self.has(Fault::EndsLinkOnBadEvent) => self.invalid("Event failed", out),
            Ok(Kind::Event) if self.has(Fault::RepliesToEvents) => {
                let stem = kind.strip_suffix("_event").unwrap_or(kind);
                if let Some(line) = self.line() {
                    line.respond(stem, envelope.seq, Ok(Map::new()), out);
                }
            }
            Ok(Kind::Event) => {}
            Ok(Kind::Response) => self.answered(envelope, out),
            Err(_) if self.has(Fault::IgnoresInvalid) => {}
            Err(_)
                if self.has(Fault::IgnoresWrongDirection)
                    && Direction::ALL
                        .iter()
                        .any(|other| classify(*other, reading, kind, &envelope.data).is_ok()) => {}
            Err(_) => self.invalid(&format!("No validator for {kind} on slave-master"), out),
        }
    }

    fn answered(&mut self, envelope: &Envelope, out: &mut Outbox<SlaveEvent>) {
        let to = envelope.data.get("seq").and_then(whole).unwrap_or_default();
        let in_order = self.has(Fault::AnswersInOrder);
        let found = self.line().and_then(|line| {
            if in_order {
                // Takes any answer for the oldest question, and notices that it is not what it asked for.
                line.oldest().filter(|stem| envelope.kind == format!("{stem}_response"))
            } else {
                line.matching(&envelope.kind, to)
            }
        });
        match found {
            Some(stem) => out.event(SlaveEvent::Answered(stem, !envelope.data.contains_key("error"))),
            None if self.has(Fault::IgnoresUnmatchedResponses) => {}
            None => self.invalid(&format!("Unhandled message {}", envelope.kind), out),
        }
    }

    /// Does what a request asks for (4.6).
    fn execute(&mut self, stem: &str, envelope: &Envelope) -> Result<Map<String, Value>, String> {
        if stem == "statistics_exporter:get_metrics" {
            let results: Vec<Value> = self
                .instances
                .iter()
                .map(|(id, one)| json!({ "instance_id": id, "running": one.running }))
                .collect();
            return Ok(object([("results", Value::from(results))]));
        }
        let id = envelope.data.get("instance_id").and_then(whole).unwrap_or_default();
        if stem == "assign_instance" {
            return self.assign(id, envelope);
        }
        if self.has(Fault::KnowsEveryInstance) && !self.instances.contains_key(&id) {
            return Ok(if stem == "send_rcon" { object([("result", Value::from(""))]) } else { Map::new() });
        }
        let unknown = format!("there is no instance {id} here");
        let instance = self.instances.get_mut(&id).ok_or(unknown)?;
        match (stem, instance.running) {
            ("start_instance" | "create_save", true) => return Err(format!("instance {id} is running")),
            ("stop_instance" | "send_rcon", false) => return Err(format!("instance {id} is not running")),
            ("delete_instance", true) => {
                return Err(format!("instance {id} is running and cannot be deleted"));
            }
            ("start_instance", false) => instance.running = true,
            ("stop_instance", true) => instance.running = false,
            ("create_save", false) => instance.saves += 1,
            ("delete_instance", false) => {
                self.instances.remove(&id);
            }
            ("send_rcon", true) => {
                let command = envelope.data.get("command").and_then(Value::as_str).unwrap_or_default();
                let saves = instance.saves;
                let result = if command == "/saves" { format!("{saves}\n") } else { format!("{command}\n") };
                return Ok(object([("result", Value::from(result))]));
            }
            _ => return Err(format!("nobody serves {stem}")),
        }
        Ok(Map::new())
    }

    fn assign(&mut self, id: i64, envelope: &Envelope) -> Result<Map<String, Value>, String> {
        let empty = Map::new();
        let serialized = envelope.data.get("serialized_config").and_then(Value::as_object).unwrap_or(&empty);
        let config = InstanceConfig::load(serialized, self.config.plugins, id)?;
        let (takes_any, loses) = (self.has(Fault::TakesAnyName), self.has(Fault::LosesAssigned));
        match self.instances.get_mut(&id) {
            Some(known) => known.config = config,
            None if !is_directory_name(config.name()) && !takes_any => {
                return Err(format!("{:?} cannot be the name of a directory", config.name()));
            }
            None if loses => {}
            None => {
                self.instances.insert(id, Instance { config, running: false, saves: 0 });
            }
        }
        Ok(Map::new())
    }

    /// Something in the handshake that does not belong there (3.2).
    fn strange(&mut self, out: &mut Outbox<SlaveEvent>) {
        if self.has(Fault::IgnoresStrangeHandshake) {
            return;
        }
        self.failed = true;
        self.close(&CloseReason::InvalidHandshake, None, out);
    }

    fn invalid(&mut self, detail: &str, out: &mut Outbox<SlaveEvent>) {
        if matches!(self.state, State::AwaitHello(_) | State::AwaitReady(_)) {
            self.strange(out);
        } else if !self.has(Fault::IgnoresInvalid) {
            self.failed = true;
            self.close(&CloseReason::InvalidMessage(detail.to_owned()), None, out);
        }
    }

    fn close(&mut self, reason: &CloseReason, code: Option<u16>, out: &mut Outbox<SlaveEvent>) {
        let lingers = self.has(Fault::LingersAfterClose);
        if let Some(line) = self.line() {
            line.close(reason, code, lingers, out);
        }
        if !self.has(Fault::ActsAfterClose) {
            self.state = State::Leaving;
        }
    }

    /// Ends the WebSocket without a message: the framing is lost.
    fn lose(&mut self, code: Option<u16>, out: &mut Outbox<SlaveEvent>) {
        self.failed = true;
        self.state = State::Leaving;
        out.close(LINK, code, "");
    }

    fn crash(&mut self, out: &mut Outbox<SlaveEvent>) {
        self.failed = true;
        self.state = State::Leaving;
        out.abort(LINK);
    }

    fn obey(&mut self, command: SlaveCommand, out: &mut Outbox<SlaveEvent>) {
        if !matches!(self.state, State::Ready(_)) && command != SlaveCommand::Quit {
            self.waiting.push(command);
            return;
        }
        match command {
            SlaveCommand::Output(data) => {
                if let Some(line) = self.line() {
                    line.send("instance_output_event", &data, out);
                }
            }
            SlaveCommand::Tell(kind, data) => {
                if let Some(line) = self.line() {
                    line.send(&kind, &data, out);
                }
            }
            SlaveCommand::Request(stem, data) => {
                if let Some(line) = self.line() {
                    // 3.5 gives a request no limit of its own, and a simulated slave has nobody to tell of one.
                    line.request(&stem, &data, Time::from_start(std::time::Duration::MAX), stem.clone(), out);
                }
            }
            SlaveCommand::Quit => self.quit(out),
        }
    }

    fn quit(&mut self, out: &mut Outbox<SlaveEvent>) {
        match &self.state {
            State::Idle => self.state = State::Over,
            State::Connecting => self.waiting.push(SlaveCommand::Quit),
            State::AwaitHello(_) | State::AwaitReady(_) | State::Ready(_) => {
                if self.has(Fault::LeavesSilently) {
                    self.state = State::Leaving;
                    out.close(LINK, None, "");
                } else {
                    self.close(&CloseReason::Quit, None, out);
                }
            }
            State::Leaving | State::Over => {}
        }
    }

    fn opened(&mut self, out: &mut Outbox<SlaveEvent>) {
        let mut line = Line::new(LINK).faulty(&self.config.faults);
        if self.has(Fault::RegistersUnasked) {
            self.register(&mut line, out);
        }
        self.state = State::AwaitHello(line);
        if self.waiting.contains(&SlaveCommand::Quit) {
            self.quit(out);
        }
    }

    /// No reconnect in this edition (3.2).
    fn over(&mut self, out: &mut Outbox<SlaveEvent>) {
        self.failed |= !matches!(self.state, State::Leaving);
        self.state = State::Over;
        out.event(SlaveEvent::Over);
    }
}

impl Machine for Slave {
    type Command = SlaveCommand;
    type Event = SlaveEvent;

    fn handle(&mut self, _now: Time, input: Input<'_, SlaveCommand>, out: &mut Outbox<SlaveEvent>) {
        match input {
            Input::Opened { .. } => self.opened(out),
            Input::Received { frame, .. } => self.received(frame, out),
            Input::Closing { code, .. } => {
                out.close(LINK, code, "");
                if self.line().is_some() {
                    self.failed |= !matches!(self.state, State::Ready(_));
                    self.state = State::Leaving;
                }
            }
            Input::Refused { .. } | Input::Closed { .. } => self.over(out),
            Input::Command(command) => self.obey(command, out),
            Input::Tick if matches!(self.state, State::Idle) => {
                self.state = State::Connecting;
                out.connect(LINK, Request { path: self.config.path.clone(), ..Request::default() });
            }
            // Nobody connects to a slave, and it knows no datagrams.
            Input::Tick
            | Input::Requested { .. }
            | Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Answered { .. }
            | Input::Datagram { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        matches!(self.state, State::Idle).then_some(Time::ZERO)
    }

    /// `output` with the data of the event, `chat` with `instance_name` and `content`, `tell` and `request` with `type`
    /// and `data`, `quit`.
    fn command(name: &str, with: &Value) -> Result<SlaveCommand, String> {
        let data = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let typed = || with["type"].as_str().map(str::to_owned).ok_or(format!("`{name}` needs a `type`"));
        match name {
            "output" => Ok(SlaveCommand::Output(data(with))),
            "chat" => Ok(SlaveCommand::Tell("global_chat:chat_event".to_owned(), data(with))),
            "tell" => Ok(SlaveCommand::Tell(typed()?, data(&with["data"]))),
            "request" => Ok(SlaveCommand::Request(typed()?, data(&with["data"]))),
            "quit" => Ok(SlaveCommand::Quit),
            _ => Err(format!(
                "a clusterio slave cannot `{name}`; it can `output`, `chat`, `tell`, `request` and `quit`"
            )),
        }
    }

    fn leave() -> Option<SlaveCommand> {
        Some(SlaveCommand::Quit)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn has_failed(&self) -> bool {
        self.failed
    }
}
