//! What the owner asks for.

use std::net::SocketAddrV4;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::command::{NodeCommand, NodeEvent, Whom};
use super::super::config::{Edition, Fault};
use super::super::guid::Guid;
use super::super::message::{CertificateAnswer, Chat, Membership, Message};
use super::super::timestamp;
use super::{Node, ORDINARY, Out};
use crate::machine::{SocketId, Time};

/// Bytes of a channel's key.
const KEY: usize = 32;

impl Node {
    pub(super) fn obey(&mut self, now: Time, command: NodeCommand, out: &mut Out) {
        match command {
            NodeCommand::Certificate { of } => self.ask_certificate(now, of, out),
            NodeCommand::Connect { to, through } => self.ask_for_path(to, through, out),
            NodeCommand::Create { channel, channel_id, closed } => {
                let id = channel_id.unwrap_or_else(|| Guid::draw(&mut self.dice));
                let key = closed.then(|| std::iter::repeat_with(|| self.dice.u8(..)).take(KEY).collect());
                let entered = self.channels.enter(id, &channel, now + self.config.channel);
                entered.closed = closed;
                entered.key = key;
                self.tell_channel(now, id, out);
            }
            NodeCommand::Join { channel, channel_id, target } => {
                self.join(now, channel, channel_id, target, out)
            }
            NodeCommand::Key { of, channel, channel_id } => self.ask_key(now, of, channel, channel_id, out),
            NodeCommand::Leave { channel_id } => self.leave_channel(channel_id, out),
            NodeCommand::Message { channel, channel_id, text, to } => {
                self.say(now, channel, channel_id, &text, &to, out);
            }
            NodeCommand::Stop => {
                for channel in self.channels.joined() {
                    self.leave_channel(channel, out);
                }
                self.stop(out);
            }
        }
    }

    /// Where somebody is. An IP alone means the node there that was heard last.
    pub(super) fn resolve(&self, whom: Whom) -> Option<SocketAddrV4> {
        match whom {
            Whom::Address(address) => Some(address),
            Whom::Id(id) => self.peers.with_id(id).map(|peer| peer.address),
            Whom::Ip(ip) => self.peers.on_ip(ip).map(|peer| peer.address),
        }
    }

    /// Where somebody is, and the socket to speak from.
    fn place(&self, whom: Whom) -> Option<(SocketId, SocketAddrV4)> {
        let address = self.resolve(whom)?;
        Some((self.peers.at(address).map_or(ORDINARY, |peer| peer.socket), address))
    }

    fn neighbours(&self) -> Vec<(SocketId, SocketAddrV4)> {
        let near = self.peers.iter().filter(|peer| peer.is_alive() || peer.configured);
        near.map(|peer| (peer.socket, peer.address)).collect()
    }

    fn ask_certificate(&mut self, now: Time, of: Whom, out: &mut Out) {
        let ids = self.new_ids();
        match self.place(of) {
            Some((socket, to)) => self.deliver(now, socket, to, &Message::GetCertificate(ids), out),
            None => out.event(NodeEvent::CannotDo("certificate: nobody of that name is known")),
        }
    }

    /// Shows the own certificate first, without which nobody could encrypt the key.
    fn ask_key(&mut self, now: Time, of: Whom, channel: String, channel_id: Guid, out: &mut Out) {
        let Some((socket, to)) = self.place(of) else {
            out.event(NodeEvent::CannotDo("key: nobody of that name is known"));
            return;
        };
        self.channels.learn(channel_id, &channel, now + self.config.channel);
        let holder = self.peers.at(to).and_then(|peer| peer.id);
        if holder.is_some() || self.config.edition == Edition::Seed {
            let certificate = self.identity().certificate().to_vec();
            let shown = CertificateAnswer { ids: self.new_ids(), recipient_id: holder, certificate };
            self.deliver(now, socket, to, &Message::Certificate(shown), out);
        }
        let asked = Membership { ids: self.new_ids(), channel: Some(channel), channel_id };
        self.deliver(now, socket, to, &Message::GetKey(asked), out);
    }

    fn join(&mut self, now: Time, channel: String, channel_id: Guid, target: Option<Whom>, out: &mut Out) {
        self.channels.enter(channel_id, &channel, now + self.config.channel);
        let mut told: Vec<(SocketId, SocketAddrV4)> = match target {
            Some(target) => self.place(target).into_iter().collect(),
            None => self.members(channel_id),
        };
        if told.is_empty() {
            told = self.neighbours();
        }
        let say = Message::Join(Membership { ids: self.new_ids(), channel: Some(channel), channel_id });
        for (socket, to) in told {
            self.send(socket, to, &say, out);
        }
    }

    fn leave_channel(&mut self, channel_id: Guid, out: &mut Out) {
        let members = self.members(channel_id);
        let Some(channel) = self.channels.get_mut(channel_id).filter(|channel| channel.joined) else {
            out.event(NodeEvent::CannotDo("leave: not a member of that channel"));
            return;
        };
        channel.joined = false;
        let name = channel.name.clone();
        let say = Message::Leave(Membership { ids: self.new_ids(), channel: Some(name), channel_id });
        let told = if self.has(Fault::LeavesOneMember) { 1 } else { members.len() };
        for (socket, to) in members.into_iter().take(told) {
            self.send(socket, to, &say, out);
        }
    }

    fn say(
        &mut self,
        now: Time,
        channel: Option<String>,
        channel_id: Guid,
        text: &str,
        to: &[Whom],
        out: &mut Out,
    ) {
        let known = self.channels.get(channel_id);
        if known.is_some_and(|channel| !channel.joined) && !self.has(Fault::TalksAfterLeaving) {
            out.event(NodeEvent::CannotDo("message: not a member of that channel"));
            return;
        }
        let name =
            channel.or_else(|| known.map(|channel| channel.name.clone()).filter(|name| !name.is_empty()));
        let mut places: Vec<(SocketId, SocketAddrV4)> =
            to.iter().filter_map(|whom| self.place(*whom)).collect();
        if to.is_empty() {
            places = self.members(channel_id);
        }
        if places.is_empty() {
            out.event(NodeEvent::CannotDo("message: nobody to send it to"));
            return;
        }
        let named =
            |(_, address): &(SocketId, SocketAddrV4)| self.peers.at(*address).and_then(|peer| peer.id);
        let mut recipients: Vec<Guid> = places.iter().filter_map(named).collect();
        recipients.extend(
            to.iter()
                .filter_map(|whom| match whom {
                    Whom::Id(id) if !recipients.contains(id) => Some(*id),
                    _ => None,
                })
                .collect::<Vec<_>>(),
        );
        let seed = self.config.edition == Edition::Seed;
        if recipients.is_empty() && self.config.edition == Edition::Udp201603 {
            out.event(NodeEvent::CannotDo("message: nobody's id is known yet"));
            return;
        }
        let chat = Chat {
            ids: self.new_ids(),
            channel: name.or_else(|| (!seed).then(|| channel_id.to_string())),
            channel_id,
            recipients,
            timestamp: Some(timestamp::at(now.since_start() + EPOCH)),
            message: if seed { text.to_owned() } else { STANDARD.encode(text) },
            attached: false,
        };
        for (socket, to) in places {
            self.deliver(now, socket, to, &Message::Chat(chat.clone()), out);
        }
    }
}

/// A machine knows no calendar: its run begins at the hour of the document, as seconds since 1970.
const EPOCH: Duration = Duration::from_secs(1_456_849_560);
