//! The peer: joins, keeps its stores, answers what is wanted of it, comes back after a loss. Its duty as alpha is in
//! [`alpha`], the core commands are in [`commands`].

mod alpha;
mod commands;
mod stimulus;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Number, Value};

pub use self::stimulus::PeerCommand;
use super::config::{Edition, Fault, PeerConfig};
use super::error::DecodeError;
use super::message::{Command, Heard, PeerId, PeerMessage, StoreKey, SyncType, Target, about, peer_says};
use super::relay::closing_answer;
use super::state::{Delta, MergeRules, Record, Stores, Wins, compare};
use crate::machine::{Frame, Input, LinkId, Machine, Message, Outbox, Request, Time, WireFault};

/// How long a fault waits for its id before it speaks.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a peer tells its owner (section 3.2).
#[derive(Clone, Debug, PartialEq)]
pub enum PeerEvent {
    /// The relay gave this id.
    Joined(PeerId),
    /// A command arrived, known or not.
    Commanded(PeerId, Command),
    /// The alpha announced so many records, and wants so many.
    SyncAnnounced(StoreKey, usize, usize),
    /// A record is new or has changed.
    RecordChanged(StoreKey, String),
    /// Somebody is gone.
    Gone(PeerId),
    /// Something came that was ignored.
    Ignored(DecodeError),
    /// The relay belongs to another herd.
    WrongHerd(String),
    /// The connection is over.
    Left,
}

#[derive(Debug)]
enum State {
    /// No connection; the next attempt is made then.
    Offline { reconnect_at: Option<Time> },
    /// Asked for a connection.
    Connecting,
    /// Open, but without an id. Nothing is sent.
    Waiting { link: LinkId, since: Time },
    /// Has an id.
    Joined { link: LinkId, id: PeerId },
    /// Said goodbye.
    Leaving,
    /// A planted fault killed it.
    Dead,
}

/// The peer of cow.md sections 3.2 to 3.4.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    state: State,
    links: u64,
    stores: Stores,
    /// Ids that the relay has reported gone on this connection.
    gone: BTreeSet<PeerId>,
    /// It was told to leave, or kicked: it does not come back by itself.
    leaving: bool,
    /// The id of the first connection; a fault goes on with it.
    first_id: Option<PeerId>,
    /// It was once seen that somebody else is the alpha; a fault remembers.
    saw_other_alpha: bool,
    /// Who announced itself last; a fault answers to it.
    latest: Option<PeerId>,
    /// A fault that speaks first has not done so yet.
    impatient: bool,
}

impl Peer {
    /// A peer that connects at its first tick.
    pub fn new(config: PeerConfig) -> Self {
        let mut stores = Stores::default();
        for (store, id, record) in &config.records {
            stores.put(store, id, record.clone());
        }
        let impatient = config.faults.contains(&Fault::SpeaksFirst);
        Peer {
            config,
            state: State::Offline { reconnect_at: Some(Time::ZERO) },
            links: 0,
            stores,
            gone: BTreeSet::new(),
            leaving: false,
            first_id: None,
            saw_other_alpha: false,
            latest: None,
            impatient,
        }
    }

    /// Its own id, while it has one.
    pub fn id(&self) -> Option<&PeerId> {
        match &self.state {
            State::Joined { id, .. } => Some(id),
            _ => None,
        }
    }

    /// What it knows.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.contains(&fault)
    }

    /// Milliseconds since 1970 on its own clock.
    fn clock(&self, now: Time) -> u64 {
        self.config.epoch.saturating_add(u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX))
    }

    fn connect(&mut self, out: &mut Outbox<PeerEvent>) {
        let link = LinkId(self.links);
        self.links += 1;
        self.state = State::Connecting;
        let mut request = Request { path: self.config.path.clone(), ..Request::default() };
        if !self.has(Fault::NoSubprotocol) {
            request.headers.push(("Sec-WebSocket-Protocol".to_owned(), "connect".to_owned()));
        }
        out.connect(link, request);
    }

    fn opened(&mut self, now: Time, link: LinkId, out: &mut Outbox<PeerEvent>) {
        if self.leaving {
            out.close(link, Some(1000), "");
            self.state = State::Leaving;
            return;
        }
        self.state = State::Waiting { link, since: now };
    }

    /// A planted fault does not wait for its id.
    fn speak_first(&mut self, out: &mut Outbox<PeerEvent>) {
        let State::Waiting { link, .. } = self.state else { return };
        self.impatient = false;
        let nobody = PeerId::from_value(&Value::from(1)).expect("1 is an id");
        let mut payload = about(&StoreKey::herd(SyncType::Users), None);
        payload.insert("list".to_owned(), Value::Array(Vec::new()));
        out.send(link, Message::Text(peer_says(&nobody, None, "newList", Value::Object(payload))));
    }

    /// Says something, if it has joined.
    fn say(
        &self,
        target: Option<Value>,
        action: &str,
        payload: Map<String, Value>,
        out: &mut Outbox<PeerEvent>,
    ) {
        let State::Joined { link, id } = &self.state else { return };
        let sender = self.first_id.as_ref().filter(|_| self.has(Fault::KeepsOldId)).unwrap_or(id);
        out.send(*link, Message::Text(peer_says(sender, target, action, Value::Object(payload))));
    }

    fn joined(&mut self, now: Time, link: LinkId, id: PeerId, out: &mut Outbox<PeerEvent>) {
        self.first_id.get_or_insert_with(|| id.clone());
        self.gone.remove(&id);
        self.state = State::Joined { link, id: id.clone() };
        out.event(PeerEvent::Joined(id.clone()));
        let mut data = Map::new();
        data.insert("family".to_owned(), Value::from(self.config.family.as_str()));
        data.insert("userid".to_owned(), Value::Null);
        let peers = StoreKey::herd(SyncType::Peers);
        self.stores.put(&peers, id.as_str(), Record::new(self.clock(now), data));
        self.broadcast_record(&peers, id.as_str(), out);
        for kind in SyncType::HERD {
            self.send_list(&StoreKey::herd(kind), out);
        }
        for project in self.stores.projects() {
            self.send_project_lists(&project, out);
        }
    }

    fn send_project_lists(&mut self, project: &str, out: &mut Outbox<PeerEvent>) {
        for kind in SyncType::PROJECT {
            self.send_list(&StoreKey::of_project(kind, project), out);
        }
    }

    /// `newList`, and in cow2 what nobody has heard of yet (section 8).
    fn send_list(&mut self, store: &StoreKey, out: &mut Outbox<PeerEvent>) {
        let mut payload = about(store, None);
        let held = self.held(store);
        let list = self.stores.records(&held).map(|(id, record)| record.to_entry(id)).collect();
        payload.insert("list".to_owned(), Value::Array(list));
        self.say(None, "newList", payload, out);
        let dirty: Vec<String> =
            self.stores.records(store).filter(|(_, record)| record.dirty).map(|(id, _)| id.clone()).collect();
        if self.config.edition == Edition::Cow2 && !dirty.is_empty() {
            self.give(store, &dirty, out);
        }
    }

    /// The store in which the records of `store` lie: itself, but for a fault.
    fn held(&self, store: &StoreKey) -> StoreKey {
        if store.project.is_some() && self.has(Fault::MixesProjects) {
            return StoreKey::of_project(store.kind, "");
        }
        store.clone()
    }

    /// `updatedRecord`.
    fn broadcast_record(&mut self, store: &StoreKey, id: &str, out: &mut Outbox<PeerEvent>) {
        let joined = matches!(self.state, State::Joined { .. });
        let held = self.held(store);
        let Some(record) = self.stores.get_mut(&held, id) else { return };
        record.dirty = record.dirty && !joined;
        let value = record.to_value(id);
        let mut payload = about(store, None);
        payload.insert("record".to_owned(), value);
        self.say(None, "updatedRecord", payload, out);
    }

    /// Broadcasts wanted records: one by one, or in cow2 all in one message, even when there is none.
    fn give(&mut self, store: &StoreKey, ids: &[String], out: &mut Outbox<PeerEvent>) {
        if self.config.edition == Edition::Seed {
            ids.iter().for_each(|id| self.broadcast_record(store, id, out));
            return;
        }
        let mut list = Vec::new();
        for id in ids {
            if let Some(record) = self.stores.get_mut(store, id) {
                record.dirty = false;
                list.push(record.to_value(id));
            }
        }
        let mut payload = about(store, None);
        payload.insert("list".to_owned(), Value::Array(list));
        self.say(None, "requestedRecords", payload, out);
    }

    fn received(&mut self, now: Time, link: LinkId, frame: Frame<'_>, out: &mut Outbox<PeerEvent>) {
        match frame {
            Frame::Text(bytes) => match Heard::decode(bytes) {
                Ok(heard) => self.heard(now, link, heard, out),
                Err(error) => {
                    let deadly = match error {
                        DecodeError::Encoding | DecodeError::Malformed(_) => Fault::DiesOnMalformed,
                        _ => Fault::DiesOnWrongShape,
                    };
                    if self.has(deadly) {
                        self.die(link, out);
                    } else if error == DecodeError::Encoding {
                        // Text that is no UTF-8 breaks the transport's rules (section 5).
                        out.close(link, Some(1007), "");
                    }
                    out.event(PeerEvent::Ignored(error));
                }
            },
            Frame::Binary(_) if self.has(Fault::DiesOnBinary) => self.die(link, out),
            Frame::Binary(_) | Frame::Pong(_) => {}
            Frame::Ping(payload) => out.send(link, Message::Pong(payload.to_vec())),
            Frame::Broken(fault) => {
                let code = if fault == WireFault::TooBig { 1009 } else { 1002 };
                out.close(link, Some(code), "");
            }
        }
    }

    fn heard(&mut self, now: Time, link: LinkId, heard: Heard, out: &mut Outbox<PeerEvent>) {
        match heard {
            Heard::Connected { id, key, unknown_members } => {
                // A second `connected` is ignored (section 3.2).
                if !matches!(self.state, State::Waiting { .. }) {
                    return;
                }
                if unknown_members && self.has(Fault::RefusesUnknownMembers) {
                    return;
                }
                match (key, self.config.herd.clone()) {
                    (Some(key), Some(herd)) if key != herd => self.strangers(now, link, id, key, out),
                    _ => self.joined(now, link, id, out),
                }
            }
            Heard::Gone(id) => self.on_gone(link, id, out),
            Heard::FromPeer { sender, target, message } => {
                let Some(own) = self.id().cloned() else { return };
                if sender == own {
                    self.on_echo(&own, message, out);
                } else {
                    self.peer_says(now, &own, sender, target, message, out);
                }
            }
        }
    }

    /// The relay belongs to another herd: leave, and say nothing.
    fn strangers(&mut self, now: Time, link: LinkId, id: PeerId, key: String, out: &mut Outbox<PeerEvent>) {
        if self.has(Fault::StaysWithStrangers) {
            self.joined(now, link, id, out);
            return;
        }
        if self.has(Fault::WavesToStrangers) {
            self.joined(now, link, id, out);
        }
        out.event(PeerEvent::WrongHerd(key));
        self.leave(link, out);
    }

    /// One's own message came back: nothing, but for planted faults.
    fn on_echo(&mut self, own: &PeerId, message: PeerMessage, out: &mut Outbox<PeerEvent>) {
        match message {
            PeerMessage::NewList { store, project, list, .. } if self.has(Fault::AnswersOwnList) => {
                self.answer_list(own, &store, project.as_ref(), &list, out);
            }
            PeerMessage::Command(command) if self.has(Fault::ObeysItsEcho) => {
                self.obey(own, own, &Target::Everybody, command, out);
            }
            PeerMessage::Updated { store, records } if self.has(Fault::FollowsItsEcho) => {
                for (id, _) in records {
                    self.broadcast_record(&store, &id, out);
                }
            }
            _ => {}
        }
    }

    fn peer_says(
        &mut self,
        now: Time,
        own: &PeerId,
        sender: PeerId,
        target: Target,
        message: PeerMessage,
        out: &mut Outbox<PeerEvent>,
    ) {
        let for_me = target == Target::Peer(own.clone());
        let for_another = matches!(target, Target::Peer(_)) && !for_me;
        match message {
            PeerMessage::NewList { bad_entries: true, .. } if self.has(Fault::RejectsBadEntries) => {}
            PeerMessage::NewList { store, project, list, .. } => {
                if self.is_alpha(own) {
                    self.answer_list(&sender, &store, project.as_ref(), &list, out);
                }
            }
            PeerMessage::Syncinfo { store, coming, wanted } if for_me => {
                out.event(PeerEvent::SyncAnnounced(store, coming, wanted));
            }
            PeerMessage::Syncinfo { .. } => {}
            PeerMessage::Wanted { store, ids } => {
                if for_me || (for_another && self.has(Fault::AnswersOthersWanted)) {
                    self.on_wanted(now, &store, ids, out);
                }
            }
            PeerMessage::Missing { store, records } => {
                if for_me || (for_another && self.has(Fault::StoresOthersMissing)) {
                    self.merge(&store, records, out);
                }
            }
            // A broadcast by its nature; where it was sent makes no difference to the record.
            PeerMessage::Updated { store, records } => {
                if store.kind == SyncType::Peers {
                    self.latest = Some(sender);
                }
                self.merge(&store, records, out);
            }
            PeerMessage::Command(command) => {
                out.event(PeerEvent::Commanded(sender.clone(), command.clone()));
                if !for_another || self.has(Fault::ActsOnOthersCommands) {
                    self.obey(own, &sender, &target, command, out);
                }
            }
        }
    }

    /// Each wanted record that is there, once, in the order of the list.
    fn on_wanted(&mut self, now: Time, store: &StoreKey, ids: Vec<String>, out: &mut Outbox<PeerEvent>) {
        let held = self.held(store);
        let mut asked = BTreeSet::new();
        let mut wanted: Vec<String> = ids.into_iter().filter(|id| asked.insert(id.clone())).collect();
        if self.has(Fault::BroadcastsWholeStore) {
            wanted = self.stores.records(&held).map(|(id, _)| id.clone()).collect();
        }
        if self.has(Fault::MakesUpWanted) {
            for id in &wanted {
                if self.stores.get(&held, id).is_none() {
                    self.stores.put(&held, id, Record::new(self.clock(now), Map::new()));
                }
            }
        }
        let known: Vec<String> =
            wanted.into_iter().filter(|id| self.stores.get(&held, id).is_some()).collect();
        self.give(store, &known, out);
    }

    fn merge(&mut self, store: &StoreKey, records: Vec<(String, Record)>, out: &mut Outbox<PeerEvent>) {
        const BUILT_IN: [&str; 3] = ["__proto__", "constructor", "toString"];
        let wins = match (self.has(Fault::LastWins), self.has(Fault::KeepsFirst)) {
            (true, _) => Wins::Last,
            (_, true) => Wins::First,
            _ => Wins::Newer,
        };
        let rules = MergeRules { wins, deltas: !self.has(Fault::NoDeltas) };
        let held = self.held(store);
        for (id, mut record) in records {
            if self.has(Fault::RejectsOddIds) && BUILT_IN.contains(&id.as_str()) {
                continue;
            }
            if self.has(Fault::DropsTombstones) && record.deleted && store.kind != SyncType::Peers {
                self.stores.remove(&held, &id);
                continue;
            }
            if self.has(Fault::NoDeltas) {
                record.deltas.clear();
            }
            let deleted = record.deleted;
            let is_new = self.stores.merge(&held, &id, record, rules);
            if store.kind == SyncType::Peers {
                self.bury(&id);
            }
            out.event(PeerEvent::RecordChanged(store.clone(), id.clone()));
            if is_new && !deleted && store.kind == SyncType::Projects && !self.has(Fault::NoCascade) {
                self.send_project_lists(&id, out);
            }
        }
    }

    /// Whoever the relay has reported gone stays so, whoever sends the record again.
    fn bury(&mut self, id: &str) {
        let is_gone = PeerId::from_value(&Value::from(id)).is_some_and(|id| self.gone.contains(&id));
        let peers = StoreKey::herd(SyncType::Peers);
        if let Some(record) = self.stores.get_mut(&peers, id).filter(|record| is_gone && !record.deleted) {
            record.deleted = true;
            record.updated = after(&record.updated);
        }
    }

    fn on_gone(&mut self, link: LinkId, id: PeerId, out: &mut Outbox<PeerEvent>) {
        let State::Joined { id: own, .. } = &self.state else { return };
        if id == *own {
            return;
        }
        let known = self.stores.get(&StoreKey::herd(SyncType::Peers), id.as_str()).is_some();
        if !known && self.has(Fault::DiesOnUnknownGone) {
            self.die(link, out);
            return;
        }
        if self.has(Fault::SaysGone) {
            let mut payload = Map::new();
            payload.insert("gonePeerID".to_owned(), id.to_value());
            self.say(None, "peerGone", payload, out);
        }
        self.gone.insert(id.clone());
        if !self.has(Fault::TheGoneCount) {
            self.bury(id.as_str());
        }
        out.event(PeerEvent::Gone(id));
    }

    /// A change made here: newer than whatever it replaces (section 3.2).
    fn change(
        &mut self,
        now: Time,
        store: &StoreKey,
        id: &str,
        data: Option<Map<String, Value>>,
        deleted: bool,
        out: &mut Outbox<PeerEvent>,
    ) {
        let clock = self.clock(now);
        let is_new = self.stores.get(store, id).is_none();
        let mut record =
            self.stores.get(store, id).cloned().unwrap_or_else(|| Record::new(clock, Map::new()));
        if !is_new {
            let next = after(&record.updated);
            let now = Number::from(clock);
            record.updated = if compare(&next, &now).is_gt() { next } else { now };
        }
        record.deleted = deleted;
        record.dirty = true;
        if let Some(data) = data {
            record.data = data;
        }
        if store.kind == SyncType::Items {
            let delta = Delta { timestamp: record.updated.clone(), data: Value::Object(record.data.clone()) };
            record.deltas.push(delta);
        }
        self.stores.put(store, id, record);
        self.broadcast_record(store, id, out);
        if is_new && !deleted && store.kind == SyncType::Projects {
            self.send_project_lists(id, out);
        }
    }

    fn leave(&mut self, link: LinkId, out: &mut Outbox<PeerEvent>) {
        self.leaving = true;
        self.state = State::Leaving;
        out.close(link, Some(1000), "");
    }

    fn die(&mut self, link: LinkId, out: &mut Outbox<PeerEvent>) {
        self.state = State::Dead;
        out.abort(link);
    }

    fn lost(&mut self, now: Time, out: &mut Outbox<PeerEvent>) {
        if matches!(self.state, State::Dead) {
            return;
        }
        self.stores.clear(&StoreKey::herd(SyncType::Peers));
        self.gone.clear();
        let stays_away = self.leaving || (self.has(Fault::NeverReturns) && self.first_id.is_some());
        self.state = State::Offline { reconnect_at: (!stays_away).then(|| now + self.config.reconnect) };
        out.event(PeerEvent::Left);
    }
}

/// The next whole timestamp.
fn after(timestamp: &Number) -> Number {
    match (timestamp.as_i64(), timestamp.as_f64()) {
        (Some(whole), _) => Number::from(whole.saturating_add(1)),
        (None, Some(float)) => Number::from_f64(float.floor() + 1.0).unwrap_or_else(|| timestamp.clone()),
        (None, None) => timestamp.clone(),
    }
}

impl Machine for Peer {
    type Command = PeerCommand;
    type Event = PeerEvent;

    fn handle(&mut self, now: Time, input: Input<'_, PeerCommand>, out: &mut Outbox<PeerEvent>) {
        match input {
            Input::Opened { link } => self.opened(now, link, out),
            Input::Refused { .. } => self.lost(now, out),
            Input::Received { link, frame } => self.received(now, link, frame, out),
            Input::Closing { link, code, .. } => out.close(link, Some(closing_answer(code)), ""),
            Input::Closed { .. } => self.lost(now, out),
            Input::Command(command) => self.act(now, command, out),
            Input::Tick => match self.state {
                State::Offline { reconnect_at: Some(at) } if at <= now => self.connect(out),
                State::Waiting { .. } if self.impatient => self.speak_first(out),
                _ => {}
            },
            // Nobody connects to a peer, and it knows no datagrams.
            Input::Requested { .. }
            | Input::Answered { .. }
            | Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Datagram { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Offline { reconnect_at } => reconnect_at,
            State::Waiting { since, .. } if self.impatient => Some(since + PATIENCE),
            _ => None,
        }
    }
    fn command(name: &str, with: &Value) -> Result<PeerCommand, String> {
        PeerCommand::from_stimulus(name, with)
    }

    fn leave() -> Option<PeerCommand> {
        Some(PeerCommand::Close)
    }

    /// One that left, or was kicked, stays away.
    fn is_over(&self) -> bool {
        self.leaving && matches!(self.state, State::Offline { reconnect_at: None })
            || matches!(self.state, State::Dead)
    }
}
