//! The server: commands come by WebSocket or by POST, answers go back the same way, and what others have to know goes
//! to their WebSockets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::accounts::{AUTH_PATH, Accounts, plain, text_response};
use super::config::{Fault, ServerConfig};
use super::error::{CommandError, DecodeError};
use super::message::{Asked, Event, command, envelope};
use super::state::{Outcome, World};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Time, WireFault};

/// How long a server that takes one command at a time thinks about it.
const THINKING: Duration = Duration::from_millis(20);

/// What the owner of a server can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCommand {
    /// Say `Bye` and close every link with 1001.
    ShutDown,
}

/// What a server tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A user has opened a connection.
    Connected(String),
    /// A user's connection is over.
    Disconnected(String),
}

#[derive(Debug)]
struct Connection {
    user: String,
    token: String,
    used_references: BTreeSet<String>,
    /// The command that a slow server thinks about.
    thinking: Option<(Time, Vec<u8>)>,
}

/// The server of polfan.md section 3.
#[derive(Debug)]
pub struct Server {
    message_limit: usize,
    faults: BTreeSet<Fault>,
    accounts: Accounts,
    world: World,
    connections: BTreeMap<LinkId, Connection>,
}

/// A command's ref in the answer, and what came of the command.
struct Answer {
    reference: Option<String>,
    result: Result<Outcome, CommandError>,
}

impl Server {
    /// A server that nobody has connected to yet.
    pub fn new(config: &ServerConfig) -> Self {
        Server {
            message_limit: config.message_limit,
            faults: config.faults.clone(),
            accounts: Accounts::new(&config.users, config.tokens, config.seed, &config.faults),
            world: World::new(config),
            connections: BTreeMap::new(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn requested(&mut self, link: LinkId, request: &Request, out: &mut Outbox<ServerEvent>) {
        match request.path.as_str() {
            "/ws" if request.upgrade => self.connect(link, request, out),
            "/ws" => out.respond(link, plain(426)),
            "/api" if request.method == "POST" => self.api(link, request, out),
            "/api" => {
                let mut response = plain(405);
                response.headers.push(("Allow".to_owned(), "POST".to_owned()));
                out.respond(link, response);
            }
            AUTH_PATH => {
                let (response, revoked) = self.accounts.answer(request);
                out.respond(link, response);
                self.revoke(&revoked, out);
            }
            _ => out.respond(link, plain(404)),
        }
    }

    /// Section 3.1, handshake.
    fn connect(&mut self, link: LinkId, request: &Request, out: &mut Outbox<ServerEvent>) {
        let token = parameter(&request.query, "token").unwrap_or_default();
        let anybody = self.has(Fault::AcceptsAnyToken).then(|| self.accounts.anybody()).flatten();
        let user = self.accounts.user(&token).or(anybody).map(str::to_owned);
        out.accept(link, None);
        let Some(user) = user else {
            if !self.has(Fault::SilentRefusal) {
                let event = error_event(&CommandError::Authentication);
                out.send(link, Message::Text(event.encode(None)));
            }
            out.close(link, Some(1008), "");
            return;
        };
        out.send(link, Message::Text(self.world.session(&user).encode(None)));
        if self.has(Fault::SpeaksInCommands) {
            out.send(link, Message::Text(envelope("GetSession", None, &json!({}))));
        }
        out.event(ServerEvent::Connected(user.clone()));
        let connection = Connection { user, token, used_references: BTreeSet::new(), thinking: None };
        self.connections.insert(link, connection);
    }

    /// Section 1.3, WebAPI: authenticate, parse, execute, answer.
    fn api(&mut self, link: LinkId, request: &Request, out: &mut Outbox<ServerEvent>) {
        let token = request.header("authorization").and_then(bearer);
        let user = token.and_then(|token| self.accounts.user(token)).map(str::to_owned);
        let Some(user) = user else {
            let error = CommandError::Authentication;
            let reference = self.world.new_reference();
            let body = error_event(&error).encode(Some(&reference));
            out.respond(link, text_response(self.status(&error), body));
            return;
        };
        if request.body.len() > self.message_limit {
            let error = CommandError::Protocol(DecodeError::Malformed("too long".to_owned()));
            let reference = self.world.new_reference();
            out.respond(link, text_response(413, error_event(&error).encode(Some(&reference))));
            return;
        }
        let mut answer = self.answer(&user, &request.body, None, out);
        if self.has(Fault::ApiLosesRefs) {
            answer.reference = Some(self.world.new_reference());
        }
        let reference = answer.reference.as_deref();
        match answer.result {
            Ok(outcome) => {
                let status = if self.has(Fault::ApiSays201) { 201 } else { 200 };
                out.respond(link, text_response(status, outcome.reply.encode(reference)));
                if !self.has(Fault::ApiTellsNobody) {
                    self.tell(&user, None, reference, &outcome, out);
                }
            }
            Err(error) => {
                let body = error_event(&error).encode(reference);
                out.respond(link, text_response(self.status(&error), body));
            }
        }
    }

    fn status(&self, error: &CommandError) -> u16 {
        match error.status() {
            400..=403 if self.has(Fault::ApiErrorsAre422) => 422,
            422 if self.has(Fault::ApiFailuresAre400) => 400,
            status => status,
        }
    }

    /// A command by WebSocket.
    fn text(&mut self, now: Time, link: LinkId, bytes: &[u8], out: &mut Outbox<ServerEvent>) {
        if std::str::from_utf8(bytes).is_err() {
            self.end(link, 1007, out);
            return;
        }
        let one_at_a_time = self.has(Fault::OneAtATime);
        let Some(connection) = self.connections.get_mut(&link) else { return };
        if one_at_a_time {
            // What comes while it thinks is lost.
            connection.thinking.get_or_insert_with(|| (now + THINKING, bytes.to_vec()));
            return;
        }
        self.perform(link, bytes, out);
    }

    fn perform(&mut self, link: LinkId, bytes: &[u8], out: &mut Outbox<ServerEvent>) {
        let Some(user) = self.connections.get(&link).map(|connection| connection.user.clone()) else {
            return;
        };
        let answer = self.answer(&user, bytes, Some(link), out);
        let reference = answer.reference.as_deref();
        match answer.result {
            Ok(outcome) => {
                out.send(link, Message::Text(outcome.reply.encode(reference)));
                self.tell(&user, Some(link), reference, &outcome, out);
            }
            Err(error) => {
                out.send(link, Message::Text(error_event(&error).encode(reference)));
                if self.has(Fault::ClosesAfterError) {
                    self.end(link, 1000, out);
                }
            }
        }
    }

    /// Sections 2.2 and 3.2: which ref the answer has, and what the command does.
    fn answer(
        &mut self,
        user: &str,
        bytes: &[u8],
        link: Option<LinkId>,
        out: &mut Outbox<ServerEvent>,
    ) -> Answer {
        let mut asked = Asked::decode(bytes);
        self.misread(bytes, &mut asked, link, out);
        let reference = match asked.reference {
            Some(reference) if !reference.is_empty() || self.has(Fault::KeepsEmptyRefs) => Some(reference),
            None if self.has(Fault::KeepsNullRefs) && !asked.unreferenced && asked.command.is_ok() => None,
            _ => Some(self.world.new_reference()),
        };
        let result = match asked.command {
            Ok(command) => self.world.execute(user, command),
            Err(DecodeError::Field(_)) if self.has(Fault::MissingFieldNotFound) => {
                Err(CommandError::UserNotFound)
            }
            Err(DecodeError::MalformedId(_)) if self.has(Fault::MalformedIdUnexpected) => {
                Err(CommandError::Unexpected)
            }
            Err(DecodeError::Type) if self.has(Fault::UnknownTypesDenied) && asked.kind.is_some() => {
                Err(CommandError::AccessDenied)
            }
            Err(DecodeError::Malformed(_)) if self.has(Fault::BadJsonUnexpected) => {
                Err(CommandError::Unexpected)
            }
            Err(error) => Err(CommandError::Protocol(error)),
        };
        Answer { reference, result }
    }

    /// The planted faults of reading.
    fn misread(
        &mut self,
        bytes: &[u8],
        asked: &mut Asked,
        link: Option<LinkId>,
        out: &mut Outbox<ServerEvent>,
    ) {
        if self.has(Fault::FoldsRefs) {
            asked.reference = asked.reference.as_ref().map(|reference| reference.to_lowercase());
        }
        if self.has(Fault::TrimsRefs) {
            asked.reference = asked.reference.as_ref().map(|reference| reference.trim().to_owned());
        }
        if self.has(Fault::RefusesAbsentRefs) && asked.unreferenced {
            asked.command = Err(DecodeError::Reference);
        }
        if self.has(Fault::RefusesUnknownMembers) && has_strange_members(bytes) {
            asked.command = Err(DecodeError::UnknownMember);
        }
        if asked.command == Err(DecodeError::Reference)
            && let Some(kind) = &asked.kind
            && !asked.unreferenced
        {
            let whole: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let text = whole.pointer("/meta/ref").is_some_and(Value::is_string);
            if self.has(Fault::AcceptsLongRefs) && text {
                asked.reference = whole.pointer("/meta/ref").and_then(Value::as_str).map(str::to_owned);
                asked.command = command(kind, &asked.data);
            } else if self.has(Fault::LongRefsTakeEffect)
                && let Some(link) = link
                && let Ok(command) = command(kind, &asked.data)
                && let Some(user) = self.connections.get(&link).map(|connection| connection.user.clone())
                && let Ok(outcome) = self.world.execute(&user, command)
            {
                self.tell(&user, Some(link), None, &outcome, out);
            }
        }
        if self.has(Fault::EventsAsCommands) && asked.kind.as_deref() == Some("NewMessage") {
            let news = Event::new("NewMessage", asked.data.clone());
            let others = self.connections.keys().filter(|other| Some(**other) != link);
            others.for_each(|other| out.send(*other, Message::Text(news.encode(None))));
        }
        if self.has(Fault::RefusesRepeatedRefs)
            && let Some(connection) = link.and_then(|link| self.connections.get_mut(&link))
            && let Some(reference) = asked.reference.clone().filter(|reference| !reference.is_empty())
            && !connection.used_references.insert(reference)
        {
            asked.command = Err(DecodeError::Reference);
        }
    }

    /// Tells the sender's other connections, and other users (section 3.3).
    fn tell(
        &self,
        user: &str,
        link: Option<LinkId>,
        reference: Option<&str>,
        outcome: &Outcome,
        out: &mut Outbox<ServerEvent>,
    ) {
        let own = outcome.changed.then(|| outcome.reply.encode(None));
        for (other, connection) in &self.connections {
            if let Some(text) = &own
                && connection.user == user
                && Some(*other) != link
            {
                out.send(*other, Message::Text(text.clone()));
            }
        }
        let reference = reference.filter(|_| self.has(Fault::LeaksRefs));
        for (users, event) in &outcome.others {
            let text = event.encode(reference);
            for (other, connection) in &self.connections {
                if users.contains(&connection.user) {
                    out.send(*other, Message::Text(text.clone()));
                }
            }
        }
    }

    fn received(&mut self, now: Time, link: LinkId, frame: Frame<'_>, out: &mut Outbox<ServerEvent>) {
        if !self.connections.contains_key(&link) {
            return;
        }
        match frame {
            Frame::Text(bytes) => self.text(now, link, bytes, out),
            Frame::Binary(_) => {
                let event = error_event(&CommandError::Protocol(DecodeError::Binary));
                let reference = self.world.new_reference();
                out.send(link, Message::Text(event.encode(Some(&reference))));
            }
            Frame::Ping(payload) => out.send(link, Message::Pong(payload.to_vec())),
            Frame::Pong(_) => {}
            Frame::Broken(WireFault::TooBig) => self.end(link, 1009, out),
            Frame::Broken(WireFault::Protocol) => self.end(link, 1002, out),
        }
    }

    fn think(&mut self, now: Time, out: &mut Outbox<ServerEvent>) {
        let mut ready = Vec::new();
        for (link, connection) in &mut self.connections {
            if let Some((_, bytes)) = connection.thinking.take_if(|(due, _)| *due <= now) {
                ready.push((*link, bytes));
            }
        }
        for (link, bytes) in ready {
            self.perform(link, &bytes, out);
        }
    }

    fn revoke(&mut self, tokens: &[String], out: &mut Outbox<ServerEvent>) {
        let links = self.connections.iter().filter(|(_, connection)| tokens.contains(&connection.token));
        for link in links.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.farewell(link, "the token was revoked", 1008, out);
        }
    }

    fn farewell(&mut self, link: LinkId, reason: &str, code: u16, out: &mut Outbox<ServerEvent>) {
        let bye = Event::new("Bye", json!({ "reason": reason }));
        out.send(link, Message::Text(bye.encode(None)));
        self.end(link, code, out);
    }

    fn end(&mut self, link: LinkId, code: u16, out: &mut Outbox<ServerEvent>) {
        out.close(link, Some(code), "");
        self.forget(link, out);
    }

    fn forget(&mut self, link: LinkId, out: &mut Outbox<ServerEvent>) {
        if let Some(connection) = self.connections.remove(&link) {
            out.event(ServerEvent::Disconnected(connection.user));
        }
    }
}

fn error_event(error: &CommandError) -> Event {
    Event::new("Error", json!({ "code": error.code(), "message": error.to_string() }))
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Members at the top or in `meta` that no envelope has.
fn has_strange_members(bytes: &[u8]) -> bool {
    let whole: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let strange = |value: Option<&Value>, known: [&str; 2]| {
        let members = value.and_then(Value::as_object);
        members.is_some_and(|members| members.keys().any(|name| !known.contains(&name.as_str())))
    };
    strange(Some(&whole), ["meta", "data"]) || strange(whole.get("meta"), ["type", "ref"])
}

/// The first query parameter of a name, decoded: `%xx`, and `+` for a blank.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(byte) = bytes.get(place) {
        let hex = bytes.get(place + 1..place + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                plain.push(value);
                place += 2;
            }
            (b'+', _) => plain.push(b' '),
            (other, _) => plain.push(*other),
        }
        place += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

impl Machine for Server {
    type Command = ServerCommand;
    type Event = ServerEvent;

    fn handle(&mut self, now: Time, input: Input<'_, ServerCommand>, out: &mut Outbox<ServerEvent>) {
        self.think(now, out);
        match input {
            Input::Requested { link, request } => self.requested(link, request, out),
            Input::Received { link, frame } => self.received(now, link, frame, out),
            Input::Closing { link, code, .. } => {
                out.close(link, Some(code.unwrap_or(1000)), "");
                self.forget(link, out);
            }
            Input::Closed { link } => self.forget(link, out),
            Input::Command(ServerCommand::ShutDown) => {
                for link in self.connections.keys().copied().collect::<Vec<_>>() {
                    self.farewell(link, "shutdown", 1001, out);
                }
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.connections
            .values()
            .filter_map(|connection| connection.thinking.as_ref().map(|(due, _)| *due))
            .min()
    }

    fn command(name: &str, _with: &Value) -> Result<ServerCommand, String> {
        match name {
            "shut-down" => Ok(ServerCommand::ShutDown),
            _ => Err(format!("a polfan server cannot `{name}`; it can `shut-down`")),
        }
    }

    fn leave() -> Option<ServerCommand> {
        Some(ServerCommand::ShutDown)
    }
}
