//! The member of channels (section 3.6), certificates and keys.

use std::net::SocketAddrV4;

use super::super::command::NodeEvent;
use super::super::config::{Edition, Fault};
use super::super::guid::Guid;
use super::super::identity::PublicKey;
use super::super::message::{CertificateAnswer, ChannelNews, Ids, KeyAnswer, Membership, Message};
use super::super::peers::PeerKey;
use super::{Node, ORDINARY, Out};
use crate::machine::{SocketId, Time};

/// What channel keys are for. The protocol leaves the text free.
pub(super) const CIPHER: &str = "AES-256-GCM";

impl Node {
    pub(super) fn take_join(&mut self, now: Time, from: SocketAddrV4, say: &Membership) {
        let (next_news, name) = (now + self.config.channel, say.channel.as_deref().unwrap_or_default());
        let Some(channel) = self.channels.learn(say.channel_id, name, next_news) else { return };
        channel.members.insert(member(say.ids, from), Some(from));
        if channel.joined && !channel.name.is_empty() {
            // The others hear of the newcomer soon, not only when the channel's turn comes.
            channel.next_news = channel.next_news.min(now + self.config.hello);
        }
    }

    pub(super) fn take_leave(&mut self, from: SocketAddrV4, say: &Membership) {
        if let Some(channel) = self.channels.get_mut(say.channel_id) {
            channel.members.remove(&member(say.ids, from));
        }
    }

    pub(super) fn take_channel(
        &mut self,
        now: Time,
        socket: SocketId,
        from: SocketAddrV4,
        news: &ChannelNews,
        out: &mut Out,
    ) {
        let (own, next_news) = (self.id, now + self.config.channel);
        let listed = news.members.contains(&own);
        let Some(channel) = self.channels.learn(news.channel_id, &news.channel, next_news) else { return };
        channel.closed |= news.closed;
        channel.next_news = next_news;
        let others = news.members.iter().filter(|id| **id != own).map(|id| PeerKey::Id(*id));
        others.for_each(|key| {
            channel.members.entry(key).or_insert(None);
        });
        let joined = channel.joined;
        if joined == listed {
            return;
        }
        let say = Membership {
            ids: self.new_ids(),
            channel: Some(news.channel.clone()),
            channel_id: news.channel_id,
        };
        let answer = if joined { Message::Join(say) } else { Message::Leave(say) };
        self.send(socket, from, &answer, out);
    }

    /// Sends CHANNEL to whom it concerns: the neighbours, or the members of a closed channel.
    pub(super) fn tell_channel(&mut self, now: Time, channel_id: Guid, out: &mut Out) {
        let ids = self.new_ids();
        let next_news = now + self.config.channel;
        let Some(channel) = self.channels.get_mut(channel_id) else { return };
        channel.next_news = next_news;
        // The seed leaves open what CHANNEL says, and whether it exists.
        if self.config.edition == Edition::Seed || channel.name.is_empty() {
            return;
        }
        let named = channel.members.keys().filter_map(|member| match member {
            PeerKey::Id(id) => Some(*id),
            PeerKey::At(_) => None,
        });
        let members = std::iter::once(self.id).chain(named).collect();
        let (name, closed) = (channel.name.clone(), channel.closed);
        let news = Message::Channel(ChannelNews { ids, channel: name, channel_id, members, closed });
        let readers: Vec<(SocketId, SocketAddrV4)> = match closed {
            true => self.members(channel_id),
            false => self
                .peers
                .iter()
                .filter(|peer| peer.is_alive())
                .map(|peer| (peer.socket, peer.address))
                .collect(),
        };
        for (socket, address) in readers {
            self.send(socket, address, &news, out);
        }
    }

    /// Where the other members of a channel are.
    pub(super) fn members(&self, channel_id: Guid) -> Vec<(SocketId, SocketAddrV4)> {
        let Some(channel) = self.channels.get(channel_id) else { return Vec::new() };
        let place = |(key, joined_at): (&PeerKey, &Option<SocketAddrV4>)| match self.peers.get(*key) {
            Some(peer) => Some((peer.socket, peer.address)),
            None => joined_at.map(|address| (ORDINARY, address)),
        };
        channel.members.iter().filter_map(place).collect()
    }

    pub(super) fn take_get_certificate(
        &mut self,
        now: Time,
        socket: SocketId,
        from: SocketAddrV4,
        ids: Ids,
        out: &mut Out,
    ) {
        if self.has(Fault::NoCertificate) {
            return;
        }
        let certificate = self.identity().certificate().to_vec();
        let answer = CertificateAnswer {
            ids: Ids { msg_id: ids.msg_id, node_id: Some(self.id) },
            recipient_id: ids.node_id,
            certificate,
        };
        self.deliver(now, socket, from, &Message::Certificate(answer), out);
    }

    pub(super) fn take_certificate(&mut self, answer: CertificateAnswer, out: &mut Out) {
        let Some(owner) = answer.ids.node_id else { return };
        if let Ok(key) = PublicKey::from_certificate(&answer.certificate)
            && self.certificates.len() < self.config.peers
        {
            self.certificates.insert(owner, key);
            out.event(NodeEvent::Certified(owner));
        }
    }

    /// The key goes to members only, encrypted for the certificate that they showed before; nobody else is answered.
    pub(super) fn take_get_key(
        &mut self,
        now: Time,
        socket: SocketId,
        from: SocketAddrV4,
        asked: &Membership,
        out: &mut Out,
    ) {
        let Some(reader) = asked.ids.node_id else { return };
        let Some(channel) = self.channels.get(asked.channel_id).filter(|channel| channel.joined) else {
            return;
        };
        let (name, key) = (channel.name.clone(), channel.key.clone());
        let (Some(public), Some(key)) = (self.certificates.get(&reader).cloned(), key) else { return };
        let ids = self.new_ids();
        let sealed = self.identity().seal(&public, asked.channel_id, &key);
        let answer = KeyAnswer {
            ids,
            recipient_id: Some(reader),
            channel: Some(name),
            channel_id: asked.channel_id,
            cipher: CIPHER.to_owned(),
            key: sealed,
        };
        self.deliver(now, socket, from, &Message::Key(answer), out);
    }

    pub(super) fn take_key(&mut self, answer: &KeyAnswer, out: &mut Out) {
        let channel_id = answer.channel_id;
        let Some(key) = self.identity().open(channel_id, &answer.key) else { return };
        if let Some(channel) = self.channels.get_mut(channel_id) {
            channel.key = Some(key);
            out.event(NodeEvent::KeyReceived(channel_id));
        }
    }
}

/// Who a member is: the id it gave, or where it is.
fn member(ids: Ids, from: SocketAddrV4) -> PeerKey {
    ids.node_id.map_or(PeerKey::At(from), PeerKey::Id)
}
