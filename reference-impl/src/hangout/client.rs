//! The client: keeps its copy of the table, hands packets to its owner, answers pings, comes back after a loss.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::config::{ClientConfig, Fault};
use super::message::{Envelope, SERVER, ServerPacket};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Time, WireFault};

/// What the owner of a client can ask (section 3.3).
#[derive(Clone, Debug, PartialEq)]
pub enum ClientCommand {
    /// Leave in order.
    Close,
    /// Send a packet.
    Send {
        /// `to`, as it is to stand in the envelope.
        to: Value,
        /// The packet's type.
        kind: String,
        /// Its payload.
        payload: Value,
    },
    /// Write properties, now and after every reconnect.
    SetProperties(Map<String, Value>),
}

/// What a client tells its owner (section 3.3).
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// Something came that it cannot read.
    BadPacket,
    /// Connections and properties that changed; the values follow.
    Changed(ServerPacket),
    /// The connection is over.
    Closed,
    /// The connection is open.
    Opened,
    /// A packet of another client, its sender known or not.
    Received(ServerPacket),
    /// The table as it is now.
    Synced(ServerPacket),
}

#[derive(Debug)]
enum State {
    /// No connection; the next attempt is made then.
    Closed { reconnect_at: Option<Time> },
    /// Asked for a connection.
    Connecting,
    /// Messages flow. The own token is known once the first `metadata` has come.
    Open { link: LinkId, token: Option<String> },
    /// Said goodbye.
    Leaving,
}

/// The client of hangout.md section 3.3.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    links: u64,
    properties: Map<String, Value>,
    /// Asked for before there was a connection.
    waiting: Vec<(Value, String, Value)>,
    /// Asked to leave before there was a connection.
    leaving: bool,
    known: BTreeSet<String>,
    /// The connection ends with a Close, not with a reset.
    was_closed: bool,
}

impl Client {
    /// A client that connects at its first tick.
    pub fn new(config: ClientConfig) -> Self {
        Client {
            config,
            state: State::Closed { reconnect_at: Some(Time::ZERO) },
            links: 0,
            properties: Map::new(),
            waiting: Vec::new(),
            leaving: false,
            known: BTreeSet::new(),
            was_closed: false,
        }
    }

    /// The own token, once it is known.
    pub fn token(&self) -> Option<&str> {
        match &self.state {
            State::Open { token, .. } => token.as_deref(),
            _ => None,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    fn connect(&mut self, out: &mut Outbox<ClientEvent>) {
        let link = LinkId(self.links);
        self.links += 1;
        self.state = State::Connecting;
        out.connect(link, Request { path: self.config.path.clone(), ..Request::default() });
    }

    fn opened(&mut self, link: LinkId, out: &mut Outbox<ClientEvent>) {
        self.state = State::Open { link, token: None };
        out.event(ClientEvent::Opened);
        if !self.properties.is_empty() {
            let properties = Value::Object(self.properties.clone());
            out.send(link, Message::Text(Envelope::encode(&Value::from(SERVER), "properties", &properties)));
        }
        for (to, kind, payload) in std::mem::take(&mut self.waiting) {
            out.send(link, Message::Text(Envelope::encode(&to, &kind, &payload)));
        }
        if self.leaving {
            self.leave(out);
        }
    }

    fn obey(&mut self, command: ClientCommand, out: &mut Outbox<ClientEvent>) {
        match command {
            ClientCommand::Close => {
                self.leaving = true;
                self.leave(out);
            }
            ClientCommand::Send { to, kind, payload } => match &self.state {
                State::Open { link, .. } => {
                    out.send(*link, Message::Text(Envelope::encode(&to, &kind, &payload)));
                }
                _ => self.waiting.push((to, kind, payload)),
            },
            ClientCommand::SetProperties(written) => {
                if let State::Open { link, .. } = &self.state {
                    let written = Value::Object(written.clone());
                    out.send(
                        *link,
                        Message::Text(Envelope::encode(&Value::from(SERVER), "properties", &written)),
                    );
                }
                for (name, value) in written {
                    if value.is_null() {
                        self.properties.shift_remove(&name);
                    } else {
                        self.properties.insert(name, value);
                    }
                }
            }
        }
    }

    fn leave(&mut self, out: &mut Outbox<ClientEvent>) {
        if let State::Open { link, .. } = &self.state {
            out.close(*link, Some(1000), "");
            self.state = State::Leaving;
        }
    }

    fn received(&mut self, link: LinkId, frame: Frame<'_>, out: &mut Outbox<ClientEvent>) {
        match frame {
            Frame::Text(bytes) => match ServerPacket::decode(bytes) {
                Some(packet) => self.packet(packet, out),
                None => self.bad_packet(out),
            },
            Frame::Binary(_) => self.bad_packet(out),
            Frame::Ping(payload) => out.send(link, Message::Pong(payload.to_vec())),
            Frame::Pong(_) => {}
            Frame::Broken(fault) => {
                let code = if fault == WireFault::TooBig { 1009 } else { 1002 };
                out.close(link, Some(code), "");
            }
        }
    }

    fn packet(&mut self, packet: ServerPacket, out: &mut Outbox<ClientEvent>) {
        match &packet {
            ServerPacket::Metadata { index, indexes, .. } => {
                self.known = indexes.iter().cloned().collect();
                if let State::Open { token, .. } = &mut self.state {
                    *token = Some(index.clone());
                }
                out.event(ClientEvent::Synced(packet));
            }
            ServerPacket::Changes { .. } => out.event(ClientEvent::Changed(packet)),
            ServerPacket::Relayed { from, .. } => {
                if self.has(Fault::GivesUpOnStrangers) && !self.known.contains(from) {
                    self.give_up(out);
                }
                out.event(ClientEvent::Received(packet));
            }
        }
    }

    /// Leaves for good (planted faults).
    fn give_up(&mut self, out: &mut Outbox<ClientEvent>) {
        if let State::Open { link, .. } = self.state {
            self.leaving = true;
            self.state = State::Leaving;
            out.abort(link);
        }
    }

    fn bad_packet(&mut self, out: &mut Outbox<ClientEvent>) {
        out.event(ClientEvent::BadPacket);
        if self.has(Fault::GivesUpOnMalformed) {
            self.give_up(out);
        }
    }

    fn lost(&mut self, now: Time, out: &mut Outbox<ClientEvent>) {
        out.event(ClientEvent::Closed);
        let reset = !std::mem::take(&mut self.was_closed);
        let forgets = self.has(Fault::ForgetsPropertiesAfterReconnect)
            || (reset && self.has(Fault::ForgetsPropertiesAfterReset));
        if forgets {
            self.properties.clear();
        }
        let reconnect_at = (!self.leaving).then(|| now + self.config.reconnect);
        self.state = State::Closed { reconnect_at };
    }
}

impl Machine for Client {
    type Command = ClientCommand;
    type Event = ClientEvent;

    fn handle(&mut self, now: Time, input: Input<'_, ClientCommand>, out: &mut Outbox<ClientEvent>) {
        match input {
            Input::Opened { link } => self.opened(link, out),
            Input::Refused { .. } => self.lost(now, out),
            Input::Received { link, frame } => self.received(link, frame, out),
            Input::Closing { link, code, .. } => {
                self.was_closed = true;
                out.close(link, Some(code.unwrap_or(1000)), "");
            }
            Input::Closed { .. } => self.lost(now, out),
            Input::Command(command) => self.obey(command, out),
            Input::Tick => {
                if let State::Closed { reconnect_at: Some(at) } = self.state
                    && at <= now
                {
                    self.connect(out);
                }
            }
            // Nobody connects to a client, and it knows no datagrams and no plain requests.
            Input::Requested { .. }
            | Input::Answered { .. }
            | Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Datagram { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Closed { reconnect_at } => reconnect_at,
            _ => None,
        }
    }

    /// `send` with `to`, `type` and `payload`, `properties` with a map, `close`.
    fn command(name: &str, with: &Value) -> Result<ClientCommand, String> {
        match (name, with) {
            ("send", Value::Object(with)) => Ok(ClientCommand::Send {
                to: with.get("to").cloned().unwrap_or(Value::Null),
                kind: with.get("type").and_then(Value::as_str).unwrap_or_default().to_owned(),
                payload: with.get("payload").cloned().unwrap_or(Value::Null),
            }),
            ("properties", Value::Object(properties)) => Ok(ClientCommand::SetProperties(properties.clone())),
            ("close", _) => Ok(ClientCommand::Close),
            _ => Err(format!("a hangout client cannot `{name}`; it can `send`, `properties` and `close`")),
        }
    }

    fn leave() -> Option<ClientCommand> {
        Some(ClientCommand::Close)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Closed { reconnect_at: None })
    }
}
