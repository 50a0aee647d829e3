//! A machine with its WebSocket ends: bytes in, bytes out, no IO. The in-memory world and the socket driver both run
//! hosts, so a machine behaves alike in either.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::machine::{Action, Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time, WireFault};
use crate::transport::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};

/// How long the other side may take to answer our Close frame before the stream is cut.
const CLOSING: Duration = Duration::from_secs(5);

/// What a host wants done on the network.
#[derive(Debug, PartialEq, Eq)]
pub enum HostOutput<E> {
    /// Connect to the other side.
    Dial(LinkId),
    /// Write bytes.
    Write(LinkId, Vec<u8>),
    /// End the stream once everything is written.
    End(LinkId),
    /// Cut the stream.
    Abort(LinkId),
    /// Tell the owner.
    Event(E),
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

    /// When [`Filter::due`] is wanted.
    fn deadline(&self) -> Option<Time>;

    /// Its deadline has come.
    fn due(&mut self, now: Time, out: &mut Vec<(LinkId, WireAction)>);
}

struct Slot {
    end: WebSocketEnd,
    open: bool,
    /// When our Close frame was sent.
    closing: Option<Time>,
    /// The machine has been told that the link is gone, or never knew it.
    forgotten: bool,
}

/// A machine with its ends.
pub struct Host<M: Machine> {
    machine: M,
    config: WebSocketConfig,
    /// The `Host` header of links that the machine asks for.
    authority: String,
    slots: BTreeMap<LinkId, Slot>,
    dialling: BTreeMap<LinkId, Request>,
    outbox: Outbox<M::Event>,
    outputs: VecDeque<HostOutput<M::Event>>,
    filter: Option<Box<dyn Filter>>,
}

impl<M: Machine> Host<M> {
    /// A host for `machine`; `authority` is host and port of the other side, for a machine that connects.
    pub fn new(machine: M, config: WebSocketConfig, authority: impl Into<String>) -> Self {
        Host {
            machine,
            config,
            authority: authority.into(),
            slots: BTreeMap::new(),
            dialling: BTreeMap::new(),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            filter: None,
        }
    }

    /// Puts a filter between the machine and its links.
    pub fn with_filter(mut self, filter: Box<dyn Filter>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// A stranger's stream has come in; `link` must be new.
    pub fn incoming(&mut self, link: LinkId) {
        let end = WebSocketEnd::listening(self.config.clone());
        self.slots.insert(link, Slot { end, open: false, closing: None, forgotten: true });
    }

    /// A stream that was asked for with [`HostOutput::Dial`] is there.
    pub fn connected(&mut self, now: Time, link: LinkId) {
        let Some(request) = self.dialling.remove(&link) else { return };
        let end = WebSocketEnd::connecting(self.config.clone(), &self.authority, &request, link.0);
        self.slots.insert(link, Slot { end, open: false, closing: None, forgotten: true });
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
        if let Some(slot) = self.slots.get_mut(&link) {
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
    pub fn poll_output(&mut self) -> Option<HostOutput<M::Event>> {
        self.outputs.pop_front()
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
                Action::Event(event) => self.outputs.push_back(HostOutput::Event(event)),
            }
        }
    }

    fn act(&mut self, now: Time, link: LinkId, action: WireAction) {
        let Some(filter) = &mut self.filter else {
            self.perform(now, link, action);
            return;
        };
        let open: Vec<LinkId> = self.slots.iter().filter(|(_, slot)| slot.open).map(|(link, _)| *link).collect();
        let mut done = Vec::new();
        filter.outgoing(now, link, action, &open, &mut done);
        done.into_iter().for_each(|(link, action)| self.perform(now, link, action));
    }

    fn perform(&mut self, now: Time, link: LinkId, action: WireAction) {
        let Some(slot) = self.slots.get_mut(&link) else { return };
        match action {
            WireAction::Accept(subprotocol) => {
                slot.end.accept(subprotocol.as_deref());
                slot.open = true;
                slot.forgotten = false;
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
                WireEvent::Answered(response) => self.feed(now, Input::Answered { link, response: &response }),
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
