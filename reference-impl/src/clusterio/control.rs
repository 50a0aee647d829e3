//! The control: registers, asks what it is told to ask, and leaves when it is told to quit. Its exit tells whether every
//! request went well (3.3, REQ-12).

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::catalogue::{Direction, Kind, Reading, classify, requests, whole};
use super::config::{ControlConfig, Fault};
use super::error::{CloseReason, DecodeError};
use super::line::Line;
use super::message::{Envelope, object};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Time, WireFault};

/// What the owner of a control can ask.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlCommand {
    /// Say `close` and leave, once every answer is there.
    Quit,
    /// Ask the master: a stem of the catalogue, and the data of the request.
    Request(&'static str, Map<String, Value>),
}

/// What a control tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlEvent {
    /// A request was answered: its stem, and the results or the error.
    Answered(&'static str, Result<Map<String, Value>, String>),
    /// An event of the master: its type and data.
    Heard(String, Map<String, Value>),
    /// The link is over.
    Over,
    /// Registered.
    Ready,
}

#[derive(Debug)]
enum State {
    /// Nothing has been asked for yet.
    Idle,
    Connecting,
    AwaitHello(Line<&'static str>),
    AwaitReady(Line<&'static str>),
    Ready(Line<&'static str>),
    /// We have said `close`, or heard it.
    Leaving,
    Over,
}

/// The control of clusterio.md section 3.3.
#[derive(Debug)]
pub struct Control {
    config: ControlConfig,
    state: State,
    /// Told to do before there was a link to do it on.
    waiting: VecDeque<ControlCommand>,
    quitting: bool,
    heard: Option<i64>,
    failed: bool,
}

const LINK: LinkId = LinkId(0);

impl Control {
    /// A control that connects at its first tick.
    pub fn new(config: ControlConfig) -> Self {
        Control {
            config,
            state: State::Idle,
            waiting: VecDeque::new(),
            quitting: false,
            heard: None,
            failed: false,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn line(&mut self) -> Option<&mut Line<&'static str>> {
        match &mut self.state {
            State::AwaitHello(line) | State::AwaitReady(line) | State::Ready(line) => Some(line),
            State::Idle | State::Connecting | State::Leaving | State::Over => None,
        }
    }

    fn is_strict(&self) -> bool {
        self.config.edition.is_strict()
    }

    fn received(&mut self, now: Time, frame: Frame<'_>, out: &mut Outbox<ControlEvent>) {
        if self.line().is_none() {
            return;
        }
        match frame {
            Frame::Text(bytes) if std::str::from_utf8(bytes).is_err() => self.lose(Some(1007), out),
            Frame::Text(bytes) => match Envelope::decode(bytes, self.is_strict()) {
                Ok(_) if self.has(Fault::WantsFixedOrder) && !bytes.starts_with(b"{\"seq\"") => {
                    self.invalid("Malformed", out);
                }
                Ok(envelope) => self.message(now, &envelope, out),
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

    fn message(&mut self, now: Time, envelope: &Envelope, out: &mut Outbox<ControlEvent>) {
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
                // Whatever was to be done is not done.
                let undone = !ready || self.line().is_some_and(|line| line.is_waiting());
                self.failed |= undone;
                self.state = State::Leaving;
                out.abort(LINK);
            }
            return;
        }
        match std::mem::replace(&mut self.state, State::Leaving) {
            State::AwaitHello(line) => self.greeted(now, line, envelope, out),
            State::AwaitReady(line) => self.accepted(now, line, envelope, out),
            State::Ready(line) => {
                self.state = State::Ready(line);
                self.told(now, envelope, out);
            }
            state => self.state = state,
        }
    }

    fn greeted(
        &mut self,
        now: Time,
        mut line: Line<&'static str>,
        envelope: &Envelope,
        out: &mut Outbox<ControlEvent>,
    ) {
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
            self.go_on(now, out);
        }
    }

    fn register(&self, line: &mut Line<&'static str>, out: &mut Outbox<ControlEvent>) {
        let mut data = object([
            ("agent", Value::from(self.config.agent.as_str())),
            ("version", Value::from(self.config.version.as_str())),
        ]);
        if let Some(token) = &self.config.token {
            data.insert("token".to_owned(), Value::from(token.as_str()));
        }
        line.send("register_control", &data, out);
    }

    fn accepted(
        &mut self,
        now: Time,
        mut line: Line<&'static str>,
        envelope: &Envelope,
        out: &mut Outbox<ControlEvent>,
    ) {
        if envelope.kind != "ready" || (self.is_strict() && !envelope.data.is_empty()) {
            self.state = State::AwaitReady(line);
            self.strange(out);
            return;
        }
        if self.has(Fault::RegistersTwice) {
            self.register(&mut line, out);
        }
        self.state = State::Ready(line);
        out.event(ControlEvent::Ready);
        self.go_on(now, out);
    }

    /// Asks what it was told to ask, and leaves when nothing is left to wait for.
    fn go_on(&mut self, now: Time, out: &mut Outbox<ControlEvent>) {
        let until = now + self.config.request_timeout;
        let early = self.has(Fault::TalksBeforeReady);
        while let Some(command) = self.waiting.pop_front() {
            match command {
                ControlCommand::Quit => self.quitting = true,
                ControlCommand::Request(stem, data) => {
                    if let State::Ready(line) = &mut self.state {
                        line.request(stem, &data, until, stem, out);
                    } else if early && let Some(line) = self.line() {
                        line.request(stem, &data, until, stem, out);
                    }
                }
            }
        }
        let idle = match &self.state {
            State::Ready(line) => !line.is_waiting(),
            State::AwaitHello(_) | State::AwaitReady(_) => true,
            _ => false,
        };
        if self.quitting && idle {
            if self.has(Fault::LeavesSilently) {
                self.state = State::Leaving;
                out.close(LINK, None, "");
            } else {
                self.close(&CloseReason::Quit, None, out);
            }
        }
    }

    fn told(&mut self, now: Time, envelope: &Envelope, out: &mut Outbox<ControlEvent>) {
        // 2.8: the link of a control carries no plugin message.
        let reading = Reading { strict: self.is_strict(), plugins: false };
        let kind = &envelope.kind;
        if self.has(Fault::RegistersAgain) && matches!(kind.as_str(), "hello" | "ready") {
            return;
        }
        match classify(Direction::MasterToControl, reading, kind, &envelope.data) {
            Ok(Kind::Response) => self.answered(now, envelope, out),
            Ok(Kind::Event) if self.has(Fault::EndsLinkOnBadEvent) => self.invalid("Event failed", out),
            Ok(Kind::Event)
                if self.has(Fault::ServesNobodyWhileWaiting)
                    && self.line().is_some_and(|line| line.is_waiting()) =>
            {
                self.invalid("Unhandled message", out);
            }
            Ok(Kind::Event) if self.has(Fault::RepliesToEvents) => {
                let stem = kind.strip_suffix("_event").unwrap_or(kind);
                if let Some(line) = self.line() {
                    line.respond(stem, envelope.seq, Ok(Map::new()), out);
                }
            }
            Ok(Kind::Event) => out.event(ControlEvent::Heard(kind.clone(), envelope.data.clone())),
            Err(_) if self.has(Fault::IgnoresInvalid) => {}
            Err(_)
                if self.has(Fault::IgnoresWrongDirection)
                    && Direction::ALL
                        .iter()
                        .any(|other| classify(*other, reading, kind, &envelope.data).is_ok()) => {}
            Ok(Kind::Request(_)) | Err(_) => {
                self.invalid(&format!("No validator for {kind} on control-master"), out);
            }
        }
    }

    fn answered(&mut self, now: Time, envelope: &Envelope, out: &mut Outbox<ControlEvent>) {
        let to = envelope.data.get("seq").and_then(whole).unwrap_or_default();
        let in_order = self.has(Fault::AnswersInOrder);
        let found = self.line().and_then(|line| {
            if in_order {
                // Takes any answer for the oldest question, and notices that it is not what it asked for.
                let oldest = line.oldest()?;
                (envelope.kind == format!("{oldest}_response")).then_some(oldest)
            } else {
                line.matching(&envelope.kind, to)
            }
        });
        let Some(stem) = found else {
            if !self.has(Fault::IgnoresUnmatchedResponses) {
                self.invalid(&format!("Unhandled message {}", envelope.kind), out);
            }
            return;
        };
        let mut results = envelope.data.clone();
        results.shift_remove("seq");
        let result = match results.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(results),
        };
        self.failed |= result.is_err() && !self.has(Fault::IgnoresErrors);
        if result.is_err() && self.has(Fault::EndsLinkOnFailedRequest) {
            self.invalid("Request failed", out);
            return;
        }
        out.event(ControlEvent::Answered(stem, result));
        self.go_on(now, out);
    }

    /// Something in the handshake that does not belong there (3.2, 3.3).
    fn strange(&mut self, out: &mut Outbox<ControlEvent>) {
        if self.has(Fault::IgnoresStrangeHandshake) {
            return;
        }
        self.failed = true;
        self.close(&CloseReason::InvalidHandshake, None, out);
    }

    fn invalid(&mut self, detail: &str, out: &mut Outbox<ControlEvent>) {
        if matches!(self.state, State::AwaitHello(_) | State::AwaitReady(_)) {
            self.strange(out);
        } else if !self.has(Fault::IgnoresInvalid) {
            self.failed = true;
            self.close(&CloseReason::InvalidMessage(detail.to_owned()), None, out);
        }
    }

    fn close(&mut self, reason: &CloseReason, code: Option<u16>, out: &mut Outbox<ControlEvent>) {
        let lingers = self.has(Fault::LingersAfterClose);
        if let Some(line) = self.line() {
            line.close(reason, code, lingers, out);
        }
        self.state = State::Leaving;
    }

    /// Ends the WebSocket without a message: the framing is lost.
    fn lose(&mut self, code: Option<u16>, out: &mut Outbox<ControlEvent>) {
        self.failed = true;
        self.state = State::Leaving;
        out.close(LINK, code, "");
    }

    fn crash(&mut self, out: &mut Outbox<ControlEvent>) {
        self.failed = true;
        self.state = State::Leaving;
        out.abort(LINK);
    }

    fn opened(&mut self, now: Time, out: &mut Outbox<ControlEvent>) {
        let mut line = Line::new(LINK).faulty(&self.config.faults);
        if self.has(Fault::RegistersUnasked) {
            self.register(&mut line, out);
        }
        self.state = State::AwaitHello(line);
        if matches!(self.waiting.front(), Some(ControlCommand::Quit)) {
            self.go_on(now, out);
        }
    }

    fn over(&mut self, out: &mut Outbox<ControlEvent>) {
        self.failed |= !matches!(self.state, State::Leaving) || !self.waiting.is_empty();
        self.state = State::Over;
        out.event(ControlEvent::Over);
    }

    fn beat(&mut self, now: Time, out: &mut Outbox<ControlEvent>) {
        let late = self.line().map(|line| line.take_late(now)).unwrap_or_default();
        for stem in late {
            // 3.5: it fails here, and nothing is sent for it.
            self.failed = true;
            out.event(ControlEvent::Answered(stem, Err("no answer in time".to_owned())));
            self.go_on(now, out);
        }
    }
}

impl Machine for Control {
    type Command = ControlCommand;
    type Event = ControlEvent;

    fn handle(&mut self, now: Time, input: Input<'_, ControlCommand>, out: &mut Outbox<ControlEvent>) {
        self.beat(now, out);
        match input {
            Input::Opened { .. } => self.opened(now, out),
            Input::Received { frame, .. } => self.received(now, frame, out),
            Input::Closing { code, .. } => {
                out.close(LINK, code, "");
                if self.line().is_some() {
                    let undone = !matches!(self.state, State::Ready(_))
                        || self.line().is_some_and(|line| line.is_waiting());
                    self.failed |= undone;
                    self.state = State::Leaving;
                }
            }
            Input::Refused { .. } | Input::Closed { .. } => self.over(out),
            Input::Command(command) => {
                self.waiting.push_back(command);
                if matches!(self.state, State::Ready(_)) {
                    self.go_on(now, out);
                }
            }
            Input::Tick if matches!(self.state, State::Idle) => {
                self.state = State::Connecting;
                out.connect(LINK, Request { path: self.config.path.clone(), ..Request::default() });
            }
            // Nobody connects to a control, and it knows no datagrams.
            Input::Tick
            | Input::Requested { .. }
            | Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Answered { .. }
            | Input::Datagram { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Idle => Some(Time::ZERO),
            State::Ready(line) => line.deadline(),
            _ => None,
        }
    }

    /// `request` with a `type` (a stem of the catalogue) and `data`, or `quit`.
    fn command(name: &str, with: &Value) -> Result<ControlCommand, String> {
        if name == "quit" {
            return Ok(ControlCommand::Quit);
        }
        if name != "request" {
            return Err(format!("a clusterio control cannot `{name}`; it can `request` and `quit`"));
        }
        let wanted = with["type"].as_str().unwrap_or_default();
        let stem = requests(Direction::ControlToMaster).find(|stem| *stem == wanted).ok_or_else(|| {
            let known: Vec<&str> = requests(Direction::ControlToMaster).collect();
            format!("a clusterio control cannot request `{wanted}`; it can request {}", known.join(", "))
        })?;
        Ok(ControlCommand::Request(stem, with["data"].as_object().cloned().unwrap_or_default()))
    }

    fn leave() -> Option<ControlCommand> {
        Some(ControlCommand::Quit)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn has_failed(&self) -> bool {
        self.failed
    }
}
