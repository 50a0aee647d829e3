//! A machine with the ends of its streams: bytes in, bytes out, no IO. The in-memory world and the socket driver both
//! run hosts, so a machine behaves alike in either.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::machine::{
    Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, SocketId, Time, WireFault,
};
use crate::transport::websocket::WireEvent;
use crate::transport::{Framing, LinkEnd};

/// How long the other side may take to answer our Close frame before the stream is cut.
const CLOSING: Duration = Duration::from_secs(5);

/// What a host wants done on the network.
#[derive(Debug, PartialEq, Eq)]
pub enum HostOutput {
    /// Connect to the other side.
    Dial(LinkId),
    /// Write bytes.
    Write(LinkId, Vec<u8>),
    /// End the stream once everything is written.
    End(LinkId),
    /// Cut the stream.
    Abort(LinkId),
    /// Open a datagram socket, on this port if one is given.
    Bind(SocketId, Option<u16>),
    /// Send a datagram.
    SendTo(SocketId, SocketAddr, Vec<u8>),
    /// Close a datagram socket.
    Unbind(SocketId),
}

/// Links that a filter is shown for datagrams are numbered from here on, so that they are never those of streams.
const DATAGRAM_LINKS: u64 = 1 << 32;

/// A reference implementation without its types: what whoever puts it on a network has to know.
pub trait Station {
    /// A stranger's stream has come in; `link` must be new.
    fn incoming(&mut self, now: Time, link: LinkId);
    /// A stream that was asked for with [`HostOutput::Dial`] is there.
    fn connected(&mut self, now: Time, link: LinkId);
    /// A stream that was asked for did not come about.
    fn not_connected(&mut self, now: Time, link: LinkId);
    /// Bytes arrived.
    fn bytes(&mut self, now: Time, link: LinkId, bytes: &[u8]);
    /// The stream has ended, in order or not.
    fn ended(&mut self, now: Time, link: LinkId);
    /// A datagram socket that was asked for is there, or cannot be had.
    fn bound(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>);
    /// A datagram arrived.
    fn datagram(&mut self, now: Time, socket: SocketId, from: SocketAddr, bytes: &[u8]);
    /// The deadline has come.
    fn tick(&mut self, now: Time);
    /// When [`Station::tick`] is wanted.
    fn deadline(&self) -> Option<Time>;
    /// The next thing to do on the network.
    fn poll_output(&mut self) -> Option<HostOutput>;
    /// Somebody tells it what to do: the name of a stimulus, and what comes with it (`null` for nothing). The error
    /// tells a person what it can be told.
    fn stimulus(&mut self, now: Time, name: &str, with: &Value) -> Result<(), String>;
    /// It is to take leave in order, if it knows how.
    fn leave(&mut self, now: Time);
    /// True once it will never want anything again.
    fn is_over(&self) -> bool;
    /// True when it could not do what it was made for.
    fn has_failed(&self) -> bool;
}

/// What a machine does on one link, as a [`Filter`] sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireAction {
    /// Grants a connection.
    Accept(Option<String>),
    /// Answers without granting one.
    Respond(Response),
    /// Sends a message.
    Send(Message),
    /// Sends a Close frame.
    Close(Option<u16>, String),
    /// Cuts the link.
    Abort,
}

/// A whole frame that arrived, as a [`Filter`] sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceivedFrame {
    /// A text message.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// A Ping.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
}

/// Stands between a machine and its links and may change what passes: how planted faults are described.
pub trait Filter: Send {
    /// The machine does something. What is pushed to `out` is done instead; `open` are the links that are open.
    fn outgoing(
        &mut self,
        now: Time,
        link: LinkId,
        action: WireAction,
        open: &[LinkId],
        out: &mut Vec<(LinkId, WireAction)>,
    );

    /// Something arrived. What is pushed to `out` reaches the machine instead.
    fn incoming(&mut self, now: Time, link: LinkId, frame: ReceivedFrame, out: &mut Vec<ReceivedFrame>);

    /// Bytes arrived, before they are put together to frames. False: they are lost.
    fn segment(&mut self, _now: Time, _link: LinkId, _bytes: &[u8]) -> bool {
        true
    }

    /// When [`Filter::due`] is wanted.
    fn deadline(&self) -> Option<Time>;

    /// Its deadline has come.
    fn due(&mut self, now: Time, out: &mut Vec<(LinkId, WireAction)>);
}

struct Slot {
    end: LinkEnd,
    open: bool,
    /// When our Close frame was sent.
    closing: Option<Time>,
    /// The machine has been told that the link is gone, or never knew it.
    forgotten: bool,
}

/// A machine with its ends.
pub struct Host<M: Machine> {
    machine: M,
    framing: Framing,
    /// The `Host` header of links that the machine asks for.
    authority: String,
    slots: BTreeMap<LinkId, Slot>,
    dialling: BTreeMap<LinkId, Request>,
    outbox: Outbox<M::Event>,
    outputs: VecDeque<HostOutput>,
    events: VecDeque<M::Event>,
    filter: Option<Box<dyn Filter>>,
    /// The links that the filter is shown for datagrams.
    datagram_links: BTreeMap<(SocketId, SocketAddr), LinkId>,
    /// Links that were granted just now: what came with the request waits there to be read.
    granted: Vec<LinkId>,
}

impl<M: Machine> Host<M> {
    /// A host for `machine`; `authority` is host and port of the other side, for a machine that connects.
    pub fn new(machine: M, framing: Framing, authority: impl Into<String>) -> Self {
        Host {
            machine,
            framing,
            authority: authority.into(),
            slots: BTreeMap::new(),
            dialling: BTreeMap::new(),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            filter: None,
            datagram_links: BTreeMap::new(),
            granted: Vec::new(),
        }
    }

    /// Puts a filter between the machine and its links.
    pub fn with_filter(mut self, filter: Box<dyn Filter>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// A stranger's stream has come in; `link` must be new.
    pub fn incoming(&mut self, now: Time, link: LinkId) {
        let end = self.framing.listening();
        self.slots.insert(link, Slot { end, open: false, closing: None, forgotten: true });
        self.drain(now, link);
        self.flush(now);
    }

    /// A stream that was asked for with [`HostOutput::Dial`] is there.
    pub fn connected(&mut self, now: Time, link: LinkId) {
        let Some(request) = self.dialling.remove(&link) else { return };
        let end = self.framing.connecting(&self.authority, &request, link.0);
        self.slots.insert(link, Slot { end, open: false, closing: None, forgotten: true });
        self.drain(now, link);
        self.flush(now);
    }

    /// A stream that was asked for did not come about.
    pub fn not_connected(&mut self, now: Time, link: LinkId) {
        if self.dialling.remove(&link).is_some() {
            self.feed(now, Input::Refused { link, status: None });
        }
        self.flush(now);
    }

    /// Bytes arrived.
    pub fn bytes(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        let lost = self.filter.as_mut().is_some_and(|filter| !filter.segment(now, link, bytes));
        if let Some(slot) = self.slots.get_mut(&link).filter(|_| !lost) {
            slot.end.receive(bytes);
            self.drain(now, link);
        }
        self.flush(now);
    }

    /// The stream has ended, in order or not.
    pub fn ended(&mut self, now: Time, link: LinkId) {
        if let Some(slot) = self.slots.get_mut(&link) {
            slot.end.end_of_stream();
            self.drain(now, link);
        }
        self.flush(now);
    }

    /// A datagram socket that was asked for is there, or cannot be had.
    pub fn bound(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>) {
        match local {
            Some(local) => self.feed(now, Input::Bound { socket, local }),
            None => self.feed(now, Input::NotBound { socket }),
        }
        self.flush(now);
    }

    /// A datagram arrived.
    pub fn datagram(&mut self, now: Time, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        if self.filter.is_some() {
            let link = self.datagram_link(socket, from);
            let mut frames = Vec::new();
            if let Some(filter) = &mut self.filter {
                filter.incoming(now, link, ReceivedFrame::Text(bytes.to_vec()), &mut frames);
            }
            for frame in frames {
                if let ReceivedFrame::Text(bytes) | ReceivedFrame::Binary(bytes) = frame {
                    self.feed(now, Input::Datagram { socket, from, bytes: &bytes });
                }
            }
        } else {
            self.feed(now, Input::Datagram { socket, from, bytes });
        }
        self.flush(now);
    }

    /// The link that a filter is shown for datagrams between a socket and an address.
    fn datagram_link(&mut self, socket: SocketId, other: SocketAddr) -> LinkId {
        let next = LinkId(DATAGRAM_LINKS + self.datagram_links.len() as u64);
        *self.datagram_links.entry((socket, other)).or_insert(next)
    }

    /// The owner wants something.
    pub fn command(&mut self, now: Time, command: M::Command) {
        self.feed(now, Input::Command(command));
        self.flush(now);
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Time) {
        if let Some(filter) = &mut self.filter
            && filter.deadline().is_some_and(|deadline| deadline <= now)
        {
            let mut done = Vec::new();
            filter.due(now, &mut done);
            done.into_iter().for_each(|(link, action)| self.perform(now, link, action));
        }
        let late: Vec<LinkId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.closing.is_some_and(|since| now >= since + CLOSING))
            .map(|(link, _)| *link)
            .collect();
        for link in late {
            self.perform(now, link, WireAction::Abort);
        }
        if self.machine.deadline().is_some_and(|deadline| deadline <= now) {
            self.feed(now, Input::Tick);
            debug_assert!(
                self.machine.deadline().is_none_or(|deadline| deadline > now),
                "after a tick the machine's deadline lies ahead"
            );
        }
        self.flush(now);
    }

    /// When [`Host::tick`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        let closing = self.slots.values().filter_map(|slot| slot.closing.map(|since| since + CLOSING)).min();
        let filter = self.filter.as_ref().and_then(|filter| filter.deadline());
        [self.machine.deadline(), closing, filter].into_iter().flatten().min()
    }

    /// The next thing to do on the network.
    pub fn poll_output(&mut self) -> Option<HostOutput> {
        self.outputs.pop_front()
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The next thing the machine tells its owner.
    pub fn poll_event(&mut self) -> Option<M::Event> {
        self.events.pop_front()
    }

    fn feed(&mut self, now: Time, input: Input<'_, M::Command>) {
        self.machine.handle(now, input, &mut self.outbox);
        while let Some(action) = self.outbox.pop() {
            match action {
                Action::Accept { link, subprotocol } => self.act(now, link, WireAction::Accept(subprotocol)),
                Action::Respond { link, response } => self.act(now, link, WireAction::Respond(response)),
                Action::Connect { link, request } => {
                    self.dialling.insert(link, request);
                    self.outputs.push_back(HostOutput::Dial(link));
                }
                Action::Send { link, message } => self.act(now, link, WireAction::Send(message)),
                Action::Close { link, code, reason } => self.act(now, link, WireAction::Close(code, reason)),
                Action::Abort { link } => self.act(now, link, WireAction::Abort),
                Action::Bind { socket, port } => self.outputs.push_back(HostOutput::Bind(socket, port)),
                Action::SendTo { socket, to, bytes } => self.send_to(now, socket, to, bytes),
                Action::Unbind { socket } => {
                    self.datagram_links.retain(|(known, _), _| *known != socket);
                    self.outputs.push_back(HostOutput::Unbind(socket));
                }
                Action::Event(event) => self.events.push_back(event),
            }
        }
    }

    fn send_to(&mut self, now: Time, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) {
        if self.filter.is_none() {
            self.outputs.push_back(HostOutput::SendTo(socket, to, bytes));
            return;
        }
        let link = self.datagram_link(socket, to);
        let message = match String::from_utf8(bytes) {
            Ok(text) => Message::Text(text),
            Err(error) => Message::Binary(error.into_bytes()),
        };
        self.act(now, link, WireAction::Send(message));
    }

    fn act(&mut self, now: Time, link: LinkId, action: WireAction) {
        let Some(filter) = &mut self.filter else {
            self.perform(now, link, action);
            return;
        };
        let streams = self.slots.iter().filter(|(_, slot)| slot.open).map(|(link, _)| *link);
        let open: Vec<LinkId> = streams.chain(self.datagram_links.values().copied()).collect();
        let mut done = Vec::new();
        filter.outgoing(now, link, action, &open, &mut done);
        done.into_iter().for_each(|(link, action)| self.perform(now, link, action));
    }

    fn perform(&mut self, now: Time, link: LinkId, action: WireAction) {
        if link.0 >= DATAGRAM_LINKS {
            let ends = self.datagram_links.iter().find(|(_, known)| **known == link).map(|(ends, _)| *ends);
            let bytes = match action {
                WireAction::Send(Message::Text(text)) => text.into_bytes(),
                WireAction::Send(Message::Binary(bytes)) => bytes,
                // Datagrams know nothing else.
                _ => return,
            };
            if let Some((socket, to)) = ends {
                self.outputs.push_back(HostOutput::SendTo(socket, to, bytes));
            }
            return;
        }
        let Some(slot) = self.slots.get_mut(&link) else { return };
        match action {
            WireAction::Accept(subprotocol) => {
                slot.end.accept(subprotocol.as_deref());
                slot.open = true;
                slot.forgotten = false;
                self.granted.push(link);
            }
            WireAction::Respond(response) => slot.end.respond(&response),
            WireAction::Send(message) => slot.end.send(&message),
            WireAction::Close(code, reason) => {
                slot.end.close(code, &reason);
                slot.open = false;
                slot.closing.get_or_insert(now);
            }
            WireAction::Abort => {
                let forgotten = slot.forgotten;
                self.slots.remove(&link);
                self.outputs.push_back(HostOutput::Abort(link));
                if !forgotten {
                    self.feed(now, Input::Closed { link });
                }
            }
        }
    }

    /// Shows the machine what the transport made of the bytes.
    fn drain(&mut self, now: Time, link: LinkId) {
        while let Some(event) = self.slots.get_mut(&link).and_then(|slot| slot.end.poll()) {
            match event {
                WireEvent::Request(request) => {
                    self.feed(now, Input::Requested { link, request: &request });
                    // What came in the same breath as the upgrade follows now.
                }
                WireEvent::Opened(_) => {
                    if let Some(slot) = self.slots.get_mut(&link) {
                        slot.open = true;
                        slot.forgotten = false;
                    }
                    self.feed(now, Input::Opened { link });
                }
                WireEvent::Refused(response, _) => {
                    let status = (response.status != 0).then_some(response.status);
                    self.feed(now, Input::Refused { link, status });
                }
                WireEvent::Answered(response) => {
                    self.feed(now, Input::Answered { link, response: &response })
                }
                WireEvent::Text(bytes) => self.received(now, link, ReceivedFrame::Text(bytes)),
                WireEvent::Binary(bytes) => self.received(now, link, ReceivedFrame::Binary(bytes)),
                WireEvent::Ping(bytes) => self.received(now, link, ReceivedFrame::Ping(bytes)),
                WireEvent::Pong(bytes) => self.received(now, link, ReceivedFrame::Pong(bytes)),
                WireEvent::Closing { code, reason } => {
                    self.feed(now, Input::Closing { link, code, reason: &reason });
                    if let Some(slot) = self.slots.get_mut(&link) {
                        slot.open = false;
                        // Whether or not it was answered, there is nothing left to wait for but the end.
                        slot.closing.get_or_insert(now);
                    }
                }
                WireEvent::Fault(fault, _) => self.broken(now, link, fault),
                WireEvent::Bytes(_) => {}
                WireEvent::Ended => self.gone(now, link),
            }
        }
    }

    fn received(&mut self, now: Time, link: LinkId, frame: ReceivedFrame) {
        let mut frames = Vec::new();
        match &mut self.filter {
            Some(filter) => filter.incoming(now, link, frame, &mut frames),
            None => frames.push(frame),
        }
        for frame in &frames {
            let frame = match frame {
                ReceivedFrame::Text(bytes) => Frame::Text(bytes),
                ReceivedFrame::Binary(bytes) => Frame::Binary(bytes),
                ReceivedFrame::Ping(bytes) => Frame::Ping(bytes),
                ReceivedFrame::Pong(bytes) => Frame::Pong(bytes),
            };
            self.feed(now, Input::Received { link, frame });
        }
    }

    fn broken(&mut self, now: Time, link: LinkId, fault: WireFault) {
        self.feed(now, Input::Received { link, frame: Frame::Broken(fault) });
        // Nothing more can be read, so the other side's Close frame is not waited for.
        if let Some(slot) = self.slots.get_mut(&link)
            && slot.closing.is_some()
        {
            slot.end.finish();
        }
    }

    fn gone(&mut self, now: Time, link: LinkId) {
        if let Some(slot) = self.slots.get_mut(&link) {
            let output = slot.end.take_output();
            if !output.is_empty() {
                self.outputs.push_back(HostOutput::Write(link, output));
            }
        }
        let Some(slot) = self.slots.remove(&link) else { return };
        self.outputs.push_back(HostOutput::End(link));
        if !slot.forgotten {
            self.feed(now, Input::Closed { link });
        }
    }

    /// Moves what the ends want written to the outputs, and ends the streams that are through.
    fn flush(&mut self, now: Time) {
        while let Some(link) = self.granted.pop() {
            self.drain(now, link);
        }
        let mut ended = Vec::new();
        for (link, slot) in &mut self.slots {
            let output = slot.end.take_output();
            if !output.is_empty() {
                self.outputs.push_back(HostOutput::Write(*link, output));
            }
            if slot.end.wants_end() {
                ended.push(*link);
            }
        }
        for link in ended {
            self.gone(now, link);
        }
    }
}

impl<M: Machine> Station for Host<M> {
    fn incoming(&mut self, now: Time, link: LinkId) {
        self.incoming(now, link);
    }

    fn connected(&mut self, now: Time, link: LinkId) {
        self.connected(now, link);
    }

    fn not_connected(&mut self, now: Time, link: LinkId) {
        self.not_connected(now, link);
    }

    fn bytes(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        self.bytes(now, link, bytes);
    }

    fn ended(&mut self, now: Time, link: LinkId) {
        self.ended(now, link);
    }

    fn bound(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>) {
        self.bound(now, socket, local);
    }

    fn datagram(&mut self, now: Time, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        self.datagram(now, socket, from, bytes);
    }

    fn tick(&mut self, now: Time) {
        self.tick(now);
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline()
    }

    fn poll_output(&mut self) -> Option<HostOutput> {
        // Nobody asks a station what its machine tells.
        self.events.clear();
        self.poll_output()
    }

    fn stimulus(&mut self, now: Time, name: &str, with: &Value) -> Result<(), String> {
        let command = M::command(name, with)?;
        self.command(now, command);
        Ok(())
    }

    fn leave(&mut self, now: Time) {
        if let Some(command) = M::leave() {
            self.command(now, command);
        }
    }

    fn is_over(&self) -> bool {
        self.machine.is_over()
    }

    fn has_failed(&self) -> bool {
        self.machine.has_failed()
    }
}
