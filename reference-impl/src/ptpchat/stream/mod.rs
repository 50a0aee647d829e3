//! The node over TCP (section 8.3): neighbours are connections, messages have hops, and what is for somebody else is
//! handed on. [`forward`] holds the handing on, [`member`] what a node does for its user.
//!
//! Choices where the text is silent: whoever is connected to speaks second; ROUTING is sent when the neighbours change;
//! a flood that was seen is not sent on again; nobody is told that an ACK or a NACK could not be delivered; CONNECT is
//! handed on like any other message, and nothing else is done about it.

mod forward;
mod member;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::channels::Channels;
use super::command::{NodeCommand, NodeEvent};
use super::config::{Edition, Fault, NodeConfig, NodeName};
use super::delivery::Remembered;
use super::error::DecodeError;
use super::guid::Guid;
use super::identity::{Identity, PublicKey};
use super::message::{Head, Message, Route, decode_object};
use crate::machine::{Frame, Input, LinkId, Machine, Outbox, Request, Time};

/// Hops that a message has where its verb does not say otherwise.
const HOPS: i64 = 32;

type Out = Outbox<NodeEvent>;

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Neighbour {
    /// Who it is, once it has said so.
    id: Option<Guid>,
    /// We have said who we are.
    greeted: bool,
}

/// A node of the TCP edition.
#[derive(Debug)]
pub struct StreamNode {
    config: NodeConfig,
    id: Guid,
    dice: fastrand::Rng,
    identity: Option<Identity>,
    links: BTreeMap<LinkId, Neighbour>,
    /// For a node that connects: when it does so next, and the number of the link.
    dial_at: Option<Time>,
    dialled: u64,
    /// Nodes that neighbours told of: through whom, and how far.
    routes: BTreeMap<Guid, (LinkId, u32)>,
    floods: Remembered,
    acted_on: Remembered,
    channels: Channels,
    certificates: BTreeMap<Guid, PublicKey>,
    /// Nodes that were neighbours once.
    gone: Vec<Guid>,
    over: bool,
}

impl StreamNode {
    /// A node that waits to be connected to, or connects at its first tick.
    pub fn new(config: NodeConfig) -> StreamNode {
        let mut dice = fastrand::Rng::with_seed(config.seed);
        let id = Guid::draw(&mut dice);
        StreamNode {
            id,
            dice,
            identity: None,
            links: BTreeMap::new(),
            dial_at: config.connects.then_some(Time::ZERO),
            dialled: 0,
            routes: BTreeMap::new(),
            floods: Remembered::default(),
            acted_on: Remembered::default(),
            channels: Channels::default(),
            certificates: BTreeMap::new(),
            gone: Vec::new(),
            over: false,
            config,
        }
    }

    /// The node's own id.
    pub fn id(&self) -> Guid {
        self.id
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    /// How the node writes its id.
    fn name(&self) -> String {
        match self.config.node_name {
            NodeName::Guid => self.id.to_string(),
            NodeName::NameAtGuid => format!("refnode@{}", self.id),
        }
    }

    fn greet(&mut self, link: LinkId, out: &mut Out) {
        let Some(neighbour) = self.links.get_mut(&link).filter(|neighbour| !neighbour.greeted) else {
            return;
        };
        neighbour.greeted = true;
        let node_type = Some(if self.config.intermediary { "server" } else { "client" });
        let version = Some(self.config.version.clone());
        self.post(link, &Message::Hello { node_id: None, version, node_type }, None, None, out);
    }

    /// Sends a message of our own to a neighbour.
    fn post(
        &mut self,
        link: LinkId,
        message: &Message,
        target: Option<String>,
        msg_id: Option<Guid>,
        out: &mut Out,
    ) {
        let msg_id = msg_id.unwrap_or_else(|| Guid::draw(&mut self.dice));
        let near = matches!(message, Message::Hello { .. } | Message::Ack { .. } | Message::Routing { .. });
        let mut object = Map::new();
        object.insert("msg_type".to_owned(), Value::from(message.verb()));
        object.insert("ttl".to_owned(), Value::from(if near { 1 } else { HOPS }));
        object.insert("flood".to_owned(), Value::from(is_flood(message)));
        object.insert("sender_id".to_owned(), Value::from(self.name()));
        if let Some(target) = target {
            object.insert("target_id".to_owned(), Value::from(target));
        }
        object.insert("msg_id".to_owned(), Value::from(msg_id.to_string()));
        let data = message.data(Edition::Tcp201604).unwrap_or_else(|| Value::Object(Map::new()));
        object.insert("msg_data".to_owned(), data);
        if is_flood(message) {
            self.floods.insert(msg_id);
        }
        out.send(link, crate::machine::Message::Text(Value::Object(object).to_string()));
    }

    fn frame(&mut self, now: Time, link: LinkId, bytes: &[u8], out: &mut Out) {
        if bytes.is_empty() {
            // A sign of life of the authors' client.
            if self.has(Fault::ClosesOnEmptyFrame) {
                out.close(link, None, "");
            }
            return;
        }
        let read = decode_object(bytes).and_then(|object| {
            let head = Head::decode(&object)?;
            let message = Message::from_object(&object, Edition::Tcp201604, Some(&head))?;
            Ok((object, head, message))
        });
        match read {
            Ok((object, head, message)) if head.sender != self.id => {
                self.take(now, link, (&object, &head), message, out);
            }
            Ok(_) => out.event(NodeEvent::Dropped(DecodeError::Field { field: "sender_id" })),
            Err(error) => {
                if self.has(Fault::ClosesOnBadJson) && matches!(error, DecodeError::Malformed { .. }) {
                    out.close(link, None, "");
                }
                out.event(NodeEvent::Dropped(error));
            }
        }
    }

    fn take(
        &mut self,
        now: Time,
        link: LinkId,
        (object, head): (&Map<String, Value>, &Head),
        message: Message,
        out: &mut Out,
    ) {
        if self.has(Fault::OnlyVersion4) && !head.msg_id.is_random() {
            return;
        }
        if message.acknowledged().is_some() || self.acks_too_much(&message) {
            self.post(link, &Message::Ack { msg_id: Some(head.msg_id) }, None, None, out);
        }
        if head.flood {
            if !self.floods.insert(head.msg_id) && !self.has(Fault::FloodsAgain) {
                return;
            }
            self.flood_on(link, object, head, out);
        } else if let Some(target) = head.target.filter(|target| *target != self.id) {
            self.forward(link, object, head, target, &message, out);
            return;
        }
        if message.acknowledged().is_some() && !self.acted_on.insert(head.msg_id) {
            return;
        }
        match message {
            Message::Hello { .. } => self.take_hello(link, head.sender, out),
            Message::Routing { nodes, .. } => self.take_routing(link, &nodes),
            Message::Ack { msg_id } => msg_id.into_iter().for_each(|id| out.event(NodeEvent::Delivered(id))),
            Message::Nack { msg_id } => msg_id.into_iter().for_each(|id| out.event(NodeEvent::Failed(id))),
            Message::Relay | Message::Connect(_) => {}
            other => self.take_members(now, link, head, other, out),
        }
    }

    fn take_hello(&mut self, link: LinkId, sender: Guid, out: &mut Out) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        let news = neighbour.id != Some(sender);
        neighbour.id = Some(sender);
        self.gone.retain(|gone| *gone != sender);
        self.routes.remove(&sender);
        self.greet(link, out);
        if news {
            self.route_all(out);
        }
    }

    fn take_routing(&mut self, link: LinkId, nodes: &[Route]) {
        for node in nodes {
            let (Some(id), Some(hops)) = (node.node_id, node.hops) else { continue };
            let near = self.links.values().any(|neighbour| neighbour.id == Some(id));
            if id == self.id || near || self.routes.len() >= self.config.peers {
                continue;
            }
            let hops = hops.saturating_add(1);
            let known = self.routes.entry(id).or_insert((link, hops));
            if hops < known.1 || known.0 == link {
                *known = (link, hops);
            }
        }
    }

    /// Tells all neighbours whom it can reach.
    fn route_all(&mut self, out: &mut Out) {
        let near = self.links.values().filter_map(|neighbour| neighbour.id);
        let kept = self.gone.iter().copied().filter(|_| self.has(Fault::ListsTheGone));
        let route = |node_id, hops| Route { node_id: Some(node_id), address: None, hops: Some(hops) };
        let mut nodes: Vec<Route> = near.chain(kept).map(|id| route(id, 1)).collect();
        nodes.extend(self.routes.iter().map(|(id, (_, hops))| route(*id, *hops)));
        let routing = Message::Routing { node_id: Some(self.id), nodes };
        let greeted: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, neighbour)| neighbour.id.is_some())
            .map(|(link, _)| *link)
            .collect();
        for link in greeted {
            self.post(link, &routing, None, None, out);
        }
    }

    fn closed(&mut self, now: Time, link: LinkId, out: &mut Out) {
        let Some(neighbour) = self.links.remove(&link) else { return };
        self.routes.retain(|_, (through, _)| *through != link);
        self.gone.extend(neighbour.id);
        if self.config.connects && !self.over {
            self.dial_at = Some(now + self.config.reconnect);
        }
        if neighbour.id.is_some() {
            self.route_all(out);
        }
    }

    /// Where a node is reached.
    fn path(&self, to: Guid) -> Option<LinkId> {
        let near = self.links.iter().find(|(_, neighbour)| neighbour.id == Some(to)).map(|(link, _)| *link);
        near.or_else(|| self.routes.get(&to).map(|(link, _)| *link))
    }

    fn acks_too_much(&self, message: &Message) -> bool {
        match message {
            Message::Ack { .. } => self.has(Fault::AcksAck),
            Message::Join(_) | Message::Leave(_) => self.has(Fault::AcksJoin),
            Message::Channel(_) => self.has(Fault::AcksChannel),
            _ => false,
        }
    }
}

/// The verbs that go to everybody.
fn is_flood(message: &Message) -> bool {
    match message {
        Message::Join(_) | Message::Leave(_) => true,
        Message::Channel(news) => !news.closed,
        _ => false,
    }
}

impl Machine for StreamNode {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Time, input: Input<'_, NodeCommand>, out: &mut Out) {
        match input {
            Input::Requested { link, .. } if self.over => out.abort(link),
            Input::Requested { link, .. } => {
                self.links.insert(link, Neighbour::default());
                out.accept(link, None);
            }
            Input::Opened { link } => {
                self.links.insert(link, Neighbour::default());
                self.greet(link, out);
            }
            Input::Refused { .. } => {
                self.dial_at =
                    Some(now + self.config.reconnect).filter(|_| self.config.connects && !self.over);
            }
            Input::Received { link, frame: Frame::Text(bytes) | Frame::Binary(bytes) } => {
                self.frame(now, link, bytes, out);
            }
            // A length that nobody can mean: where the next frame begins is not known any more.
            Input::Received { link, frame: Frame::Broken(_) } => out.close(link, None, ""),
            Input::Received { .. } => {}
            Input::Closing { link, .. } => out.close(link, None, ""),
            Input::Closed { link } => self.closed(now, link, out),
            Input::Command(command) => self.obey(now, command, out),
            Input::Tick => {
                if self.dial_at.take_if(|at| *at <= now).is_some() {
                    let link = LinkId(self.dialled);
                    self.dialled += 1;
                    out.connect(link, Request::default());
                }
            }
            // Streams know no datagrams.
            Input::Answered { .. }
            | Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Datagram { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.dial_at
    }

    fn command(name: &str, with: &Value) -> Result<NodeCommand, String> {
        NodeCommand::from_stimulus(name, with)
    }

    fn leave() -> Option<NodeCommand> {
        Some(NodeCommand::Stop)
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
