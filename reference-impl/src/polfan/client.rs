//! The client: sends commands over its WebSocket or by POST, finds their answers by ref, and comes back after a loss.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::config::{ClientConfig, Fault};
use super::message::{COMMANDS, Id, envelope};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time, WireFault};

/// Events of the catalogue (section 2.5), those of the seed and of client types included.
const EVENTS: [&str; 26] = [
    "Session",
    "Error",
    "Ok",
    "Bye",
    "SpaceJoined",
    "SpaceMemberJoined",
    "SpaceLeft",
    "SpaceMemberLeft",
    "SpaceMemberUpdate",
    "SpaceMembers",
    "SpaceRooms",
    "SpaceDeleted",
    "RoomJoined",
    "JoinedRoom",
    "RoomMemberJoined",
    "RoomLeft",
    "RoomMemberLeft",
    "RoomMembers",
    "NewRoom",
    "RoomDeleted",
    "NewTopic",
    "TopicDeleted",
    "NewMessage",
    "NewRole",
    "RoleDeleted",
    "Permissions",
];

/// A command and what follows from how it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The command's type.
    pub kind: String,
    /// Its `data`.
    pub data: Value,
    /// True for the WebAPI.
    pub by_http: bool,
    /// Sent when it has succeeded.
    pub then: Option<Box<Step>>,
    /// Sent when it has failed: an `Error`, or a connection that was lost.
    pub otherwise: Option<Box<Step>>,
}

/// What the owner of a client can ask.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientCommand {
    /// Leave in order.
    Close,
    /// Send a command.
    Send(Step),
}

impl ClientCommand {
    /// The command for a stimulus: a command's name with its `data`; `api` with `type` and `data`, the same by HTTP;
    /// `chain` with `do`, `then` and `otherwise`, each of them an object of `type`, `data` and, for HTTP, `api: true`;
    /// `close`.
    fn from_stimulus(name: &str, with: &Value) -> Option<ClientCommand> {
        let first = match name {
            "close" => return Some(ClientCommand::Close),
            "api" => Step { by_http: true, ..step(with)? },
            "chain" => {
                let then = with.get("then").map(step).map(|step| step.map(Box::new));
                let otherwise = with.get("otherwise").map(step).map(|step| step.map(Box::new));
                let (then, otherwise) = (
                    then.map_or(Some(None), |step| step.map(Some))?,
                    otherwise.map_or(Some(None), |step| step.map(Some))?,
                );
                Step { then, otherwise, ..step(with.get("do")?)? }
            }
            _ => step(&json!({ "type": name, "data": with }))?,
        };
        Some(ClientCommand::Send(first))
    }
}

fn step(value: &Value) -> Option<Step> {
    let kind = value.get("type")?.as_str().filter(|kind| COMMANDS.contains(kind))?.to_owned();
    let data = match value.get("data") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(data) => data.clone(),
    };
    let by_http = value.get("api").and_then(Value::as_bool).unwrap_or(false);
    Some(Step { kind, data, by_http, then: None, otherwise: None })
}

/// What a client tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// Something came that it cannot read.
    BadMessage,
    /// A command has succeeded; the answer.
    Completed(Value),
    /// A command has failed: the code of the `Error`, or none when the connection was lost.
    Failed(Option<String>),
    /// The connection is over, or did not come about.
    Lost,
    /// The session has begun: the event.
    Ready(Value),
    /// Something happened that is no answer: the event.
    Told(Value),
}

#[derive(Debug)]
enum State {
    /// No connection; the next attempt is made then.
    Disconnected { retry_at: Option<Time> },
    /// Asked for a connection, or waiting for `Session`.
    Connecting { give_up_at: Time, link: LinkId },
    /// Commands and events flow.
    Ready { link: LinkId },
    /// Said goodbye.
    Leaving,
}

#[derive(Debug)]
struct Pending {
    reference: String,
    then: Option<Box<Step>>,
    otherwise: Option<Box<Step>>,
}

/// The client of polfan.md section 3.4.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rng: Rng,
    state: State,
    links: u64,
    /// Attempts since the last session.
    attempts: u32,
    /// True once there is no point in coming back.
    through: bool,
    leaving: bool,
    /// Commands that wait for a session.
    queue: VecDeque<Step>,
    pending: Vec<Pending>,
    /// Requests that wait for their answers.
    requests: BTreeMap<LinkId, Pending>,
}

impl Client {
    /// A client that connects at its first tick.
    pub fn new(config: ClientConfig) -> Self {
        Client {
            rng: Rng::with_seed(config.seed),
            config,
            state: State::Disconnected { retry_at: Some(Time::ZERO) },
            links: 0,
            attempts: 0,
            through: false,
            leaving: false,
            queue: VecDeque::new(),
            pending: Vec::new(),
            requests: BTreeMap::new(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn next_link(&mut self) -> LinkId {
        self.links += 1;
        LinkId(self.links - 1)
    }

    fn connect(&mut self, now: Time, out: &mut Outbox<ClientEvent>) {
        let link = self.next_link();
        self.state = State::Connecting { give_up_at: now + self.config.session, link };
        let name = if self.has(Fault::ClientTokenElsewhere) { "access_token" } else { "token" };
        let kept: &[u8] = if self.has(Fault::ClientTokenRaw) { b"-._~&=+" } else { b"-._~" };
        let query = format!("{name}={}", percent_encoded(&self.config.token, kept));
        out.connect(link, Request { path: self.config.path.clone(), query, ..Request::default() });
    }

    fn reference(&mut self) -> String {
        if self.has(Fault::ClientOneRef) {
            return "1".to_owned();
        }
        let id = Id::drawn(self.rng.u128(..)).as_str().to_owned();
        if self.has(Fault::ClientLongRefs) { format!("ref-{id}") } else { id }
    }

    fn carry_out(&mut self, step: Step, out: &mut Outbox<ClientEvent>) {
        if step.by_http {
            self.request(step, out);
            return;
        }
        match self.state {
            State::Ready { link } => self.send(link, step, out),
            _ => self.queue.push_back(step),
        }
    }

    fn text(&self, reference: &str, step: &Step) -> String {
        let kind = match step.kind.as_str() {
            "SetMemberPermissions" if self.has(Fault::ClientOldNames) => "SetUserPermissions",
            "GetMemberPermissions" if self.has(Fault::ClientOldNames) => "GetUserPermissions",
            kind => kind,
        };
        if self.has(Fault::ClientFlatEnvelopes) {
            return json!({ "type": kind, "ref": reference, "data": step.data }).to_string();
        }
        envelope(kind, Some(reference), &step.data)
    }

    fn send(&mut self, link: LinkId, step: Step, out: &mut Outbox<ClientEvent>) {
        let reference = self.reference();
        out.send(link, Message::Text(self.text(&reference, &step)));
        self.pending.push(Pending { reference, then: step.then, otherwise: step.otherwise });
    }

    /// Section 1.3, WebAPI.
    fn request(&mut self, step: Step, out: &mut Outbox<ClientEvent>) {
        let reference = self.reference();
        let mut body = self.text(&reference, &step);
        if self.has(Fault::ClientDoublyEncodes) {
            body = Value::from(body).to_string();
        }
        let scheme = if self.has(Fault::ClientWithoutBearer) { "Token" } else { "Bearer" };
        let mut headers = vec![("Authorization".to_owned(), format!("{scheme} {}", self.config.token))];
        if !self.has(Fault::ClientWithoutContentType) {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        let link = self.next_link();
        let path = self.config.api_path.clone();
        let request = Request {
            method: "POST".to_owned(),
            path,
            headers,
            body: body.into_bytes(),
            ..Request::default()
        };
        out.connect(link, request);
        self.requests.insert(link, Pending { reference, then: step.then, otherwise: step.otherwise });
    }

    fn received(&mut self, now: Time, link: LinkId, frame: Frame<'_>, out: &mut Outbox<ClientEvent>) {
        match frame {
            Frame::Text(bytes) => match event(bytes) {
                Some(event) => self.event(now, link, event, out),
                None => self.rubbish(link, out),
            },
            Frame::Binary(_) => self.rubbish(link, out),
            Frame::Ping(payload) => out.send(link, Message::Pong(payload.to_vec())),
            Frame::Pong(_) => {}
            Frame::Broken(WireFault::TooBig) => out.close(link, Some(1009), ""),
            Frame::Broken(WireFault::Protocol) => out.close(link, Some(1002), ""),
        }
    }

    fn rubbish(&mut self, link: LinkId, out: &mut Outbox<ClientEvent>) {
        out.event(ClientEvent::BadMessage);
        if self.has(Fault::ClientFearsRubbish) {
            self.flee(link, out);
        }
    }

    /// Leaves without a word, for good.
    fn flee(&mut self, link: LinkId, out: &mut Outbox<ClientEvent>) {
        self.through = true;
        self.state = State::Leaving;
        out.abort(link);
    }

    fn event(&mut self, now: Time, link: LinkId, event: Value, out: &mut Outbox<ClientEvent>) {
        let kind = event.pointer("/meta/type").and_then(Value::as_str).unwrap_or_default();
        if let State::Connecting { .. } = self.state {
            if kind == "Session" {
                self.begin(link, event, out);
            } else if kind == "Error" || kind == "Bye" {
                let code = event.pointer("/data/code").and_then(Value::as_str);
                self.through |= code == Some("AuthenticationException") && !self.has(Fault::ClientHammers);
                out.close(link, Some(1000), "");
                self.lost(now, out);
            }
            return;
        }
        if (kind == "NewRole" && self.has(Fault::ClientFearsRoles))
            || (!EVENTS.contains(&kind) && self.has(Fault::ClientFearsStrangers))
        {
            self.flee(link, out);
            return;
        }
        let reference = event.pointer("/meta/ref").and_then(Value::as_str);
        let place = if self.has(Fault::ClientAnswersInOrder) {
            (reference.is_some() && !self.pending.is_empty()).then_some(0)
        } else {
            self.pending.iter().position(|pending| Some(pending.reference.as_str()) == reference)
        };
        match place {
            Some(_) if kind == "Error" && self.has(Fault::ClientWaitsThroughErrors) => {}
            Some(place) => {
                let pending = self.pending.remove(place);
                self.answered(pending, event, out);
            }
            None => out.event(ClientEvent::Told(event)),
        }
    }

    fn begin(&mut self, link: LinkId, session: Value, out: &mut Outbox<ClientEvent>) {
        self.state = State::Ready { link };
        self.attempts = 0;
        out.event(ClientEvent::Ready(session));
        while let Some(step) = self.queue.pop_front() {
            self.send(link, step, out);
        }
        self.leave(out);
    }

    fn answered(&mut self, pending: Pending, event: Value, out: &mut Outbox<ClientEvent>) {
        let failed = event.pointer("/meta/type").and_then(Value::as_str) == Some("Error");
        let follower = if failed { pending.otherwise } else { pending.then };
        if failed {
            let code = event.pointer("/data/code").and_then(Value::as_str).map(str::to_owned);
            out.event(ClientEvent::Failed(code));
        } else {
            out.event(ClientEvent::Completed(event));
        }
        if let Some(step) = follower {
            self.carry_out(*step, out);
        }
    }

    fn unanswered(&mut self, pending: Pending, out: &mut Outbox<ClientEvent>) {
        out.event(ClientEvent::Failed(None));
        if let Some(step) = pending.otherwise {
            self.carry_out(*step, out);
        }
    }

    fn responded(&mut self, link: LinkId, response: &Response, out: &mut Outbox<ClientEvent>) {
        let Some(pending) = self.requests.remove(&link) else { return };
        if self.has(Fault::ClientDropsApiErrors) && response.status != 200 {
            return;
        }
        match event(&response.body) {
            Some(event) => self.answered(pending, event, out),
            None => {
                out.event(ClientEvent::BadMessage);
                self.unanswered(pending, out);
            }
        }
    }

    /// The connection is over, or did not come about: what was pending has failed, and there will be another try.
    fn lost(&mut self, now: Time, out: &mut Outbox<ClientEvent>) {
        out.event(ClientEvent::Lost);
        let wait = if self.has(Fault::ClientHammers) {
            self.config.backoff / 20
        } else {
            self.config.backoff.saturating_mul(1 << self.attempts.min(16)).min(self.config.backoff_limit)
        };
        self.attempts += 1;
        let back = !self.through && !self.leaving;
        self.state = State::Disconnected { retry_at: back.then(|| now + wait) };
        if self.has(Fault::ClientWaitsThroughLoss) {
            return;
        }
        for pending in std::mem::take(&mut self.pending) {
            self.unanswered(pending, out);
        }
    }

    fn leave(&mut self, out: &mut Outbox<ClientEvent>) {
        if let (true, State::Ready { link }) = (self.leaving, &self.state) {
            out.close(*link, Some(1000), "");
            self.state = State::Leaving;
        }
    }

    fn is_current(&self, other: LinkId) -> bool {
        match self.state {
            State::Connecting { link, .. } | State::Ready { link } => link == other,
            State::Leaving => true,
            State::Disconnected { .. } => false,
        }
    }
}

/// A message that is an event: an object with a `meta.type`.
fn event(bytes: &[u8]) -> Option<Value> {
    let event: Value = serde_json::from_slice(bytes).ok()?;
    event.pointer("/meta/type")?.as_str()?;
    Some(event)
}

/// Percent-encodes everything but letters, digits and the bytes that are kept.
fn percent_encoded(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl Machine for Client {
    type Command = ClientCommand;
    type Event = ClientEvent;

    fn handle(&mut self, now: Time, input: Input<'_, ClientCommand>, out: &mut Outbox<ClientEvent>) {
        match input {
            Input::Refused { link, .. } if self.requests.contains_key(&link) => {
                if let Some(pending) = self.requests.remove(&link) {
                    self.unanswered(pending, out);
                }
            }
            Input::Refused { link, status } if self.is_current(link) => {
                self.through |= status == Some(401) && !self.has(Fault::ClientHammers);
                self.lost(now, out);
            }
            Input::Answered { link, response } => self.responded(link, response, out),
            Input::Received { link, frame } if self.is_current(link) => self.received(now, link, frame, out),
            Input::Closing { link, code, .. } => out.close(link, Some(code.unwrap_or(1000)), ""),
            Input::Closed { link } if self.is_current(link) => self.lost(now, out),
            Input::Command(ClientCommand::Close) => {
                self.leaving = true;
                self.leave(out);
            }
            Input::Command(ClientCommand::Send(step)) => self.carry_out(step, out),
            Input::Tick => match self.state {
                State::Disconnected { retry_at: Some(at) } if at <= now => self.connect(now, out),
                State::Connecting { give_up_at, link } if give_up_at <= now => {
                    out.abort(link);
                    self.lost(now, out);
                }
                _ => {}
            },
            // Nobody connects to a client; a connection that is open still waits for its `Session`; links that it has
            // given up say nothing to it.
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Disconnected { retry_at } => retry_at,
            State::Connecting { give_up_at, .. } => Some(give_up_at),
            State::Ready { .. } | State::Leaving => None,
        }
    }

    fn command(name: &str, with: &Value) -> Result<ClientCommand, String> {
        let known = "each command by its name with its `data`, `api`, `chain` and `close`";
        ClientCommand::from_stimulus(name, with)
            .ok_or_else(|| format!("a polfan client cannot `{name}` with {with}; it knows {known}"))
    }

    fn leave() -> Option<ClientCommand> {
        Some(ClientCommand::Close)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Disconnected { retry_at: None }) && self.requests.is_empty()
    }
}
