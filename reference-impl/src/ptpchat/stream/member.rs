//! What a node of the TCP edition does for its user: channels, certificates, keys and messages.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::command::{NodeCommand, NodeEvent, Whom};
use super::super::config::Fault;
use super::super::guid::Guid;
use super::super::identity::{Identity, PublicKey};
use super::super::message::{
    CertificateAnswer, ChannelNews, Chat, Head, Ids, KeyAnswer, Membership, Message,
};
use super::super::peers::PeerKey;
use super::super::timestamp;
use super::{Out, StreamNode};
use crate::machine::{LinkId, Time};

/// What channel keys are for. The protocol leaves the text free.
const CIPHER: &str = "AES-256-GCM";
/// Bytes of a channel's key.
const KEY: usize = 32;
/// A machine knows no calendar: its run begins on the day of the text, as seconds since 1970.
const EPOCH: Duration = Duration::from_secs(1_461_888_000);
/// CHANNEL has no period here.
const NEVER: Time = Time::from_start(Duration::MAX);

impl StreamNode {
    pub(super) fn take_members(
        &mut self,
        now: Time,
        link: LinkId,
        head: &Head,
        message: Message,
        out: &mut Out,
    ) {
        let _ = now;
        match message {
            Message::Join(say) => {
                let name = say.channel.as_deref().unwrap_or_default();
                if let Some(channel) = self.channels.learn(say.channel_id, name, NEVER) {
                    channel.members.insert(PeerKey::Id(head.sender), None);
                }
            }
            Message::Leave(say) => {
                if let Some(channel) = self.channels.get_mut(say.channel_id) {
                    channel.members.remove(&PeerKey::Id(head.sender));
                }
            }
            Message::Channel(news) => self.take_channel(&news, out),
            Message::GetCertificate(_) if !self.has(Fault::NoCertificate) => {
                let certificate = self.identity().certificate().to_vec();
                let ids = Ids { msg_id: Some(head.msg_id), node_id: Some(self.id) };
                let answer = CertificateAnswer { ids, recipient_id: Some(head.sender), certificate };
                let back = self.path(head.sender).unwrap_or(link);
                let target = Some(head.sender_name.clone());
                self.post(back, &Message::Certificate(answer), target, Some(head.msg_id), out);
            }
            Message::Certificate(answer) => {
                if let Ok(key) = PublicKey::from_certificate(&answer.certificate)
                    && self.certificates.len() < self.config.peers
                {
                    self.certificates.insert(head.sender, key);
                    out.event(NodeEvent::Certified(head.sender));
                }
            }
            Message::GetKey(asked) => self.take_get_key(link, head, &asked, out),
            Message::Key(answer) => {
                let Some(key) = self.identity().open(answer.channel_id, &answer.key) else { return };
                if let Some(channel) = self.channels.get_mut(answer.channel_id) {
                    channel.key = Some(key);
                    out.event(NodeEvent::KeyReceived(answer.channel_id));
                }
            }
            Message::Chat(chat) if self.channels.is_joined(chat.channel_id) => {
                out.event(NodeEvent::Received(chat));
            }
            _ => {}
        }
    }

    fn take_channel(&mut self, news: &ChannelNews, out: &mut Out) {
        let own = self.id;
        let Some(channel) = self.channels.learn(news.channel_id, &news.channel, NEVER) else { return };
        channel.closed |= news.closed;
        for id in news.members.iter().filter(|id| **id != own) {
            channel.members.entry(PeerKey::Id(*id)).or_insert(None);
        }
        let (joined, listed) = (channel.joined, news.members.contains(&own));
        if joined == listed {
            return;
        }
        let say = Membership {
            ids: Ids::default(),
            channel: Some(news.channel.clone()),
            channel_id: news.channel_id,
        };
        self.flood(&if joined { Message::Join(say) } else { Message::Leave(say) }, out);
    }

    /// The key goes to members only, encrypted for the certificate that they showed before.
    fn take_get_key(&mut self, link: LinkId, head: &Head, asked: &Membership, out: &mut Out) {
        let Some(channel) = self.channels.get(asked.channel_id).filter(|channel| channel.joined) else {
            return;
        };
        let (name, key) = (channel.name.clone(), channel.key.clone());
        let (Some(public), Some(key)) = (self.certificates.get(&head.sender).cloned(), key) else { return };
        let sealed = self.identity().seal(&public, asked.channel_id, &key);
        let answer = Message::Key(KeyAnswer {
            ids: Ids::default(),
            recipient_id: Some(head.sender),
            channel: Some(name),
            channel_id: asked.channel_id,
            cipher: CIPHER.to_owned(),
            key: sealed,
        });
        let back = self.path(head.sender).unwrap_or(link);
        self.post(back, &answer, Some(head.sender_name.clone()), None, out);
    }

    /// Sends a message of our own to all neighbours.
    fn flood(&mut self, message: &Message, out: &mut Out) {
        let msg_id = Guid::draw(&mut self.dice);
        let near: Vec<LinkId> = self.links.keys().copied().collect();
        for link in near {
            self.post(link, message, None, Some(msg_id), out);
        }
    }

    /// Sends a message of our own to one node; false when nobody knows the way.
    fn direct(&mut self, to: Guid, message: &Message, out: &mut Out) -> bool {
        let Some(link) = self.path(to) else { return false };
        self.post(link, message, Some(to.to_string()), None, out);
        true
    }

    fn identity(&mut self) -> &mut Identity {
        let (seed, id) = (self.config.seed, self.id);
        self.identity.get_or_insert_with(|| Identity::new(seed, id))
    }

    pub(super) fn obey(&mut self, now: Time, command: NodeCommand, out: &mut Out) {
        let done = match command {
            NodeCommand::Certificate { of: Whom::Id(of) } => {
                self.direct(of, &Message::GetCertificate(Ids::default()), out)
            }
            NodeCommand::Create { channel, channel_id, closed } => {
                self.create(channel, channel_id, closed, out);
                true
            }
            NodeCommand::Join { channel, channel_id, .. } => {
                self.channels.enter(channel_id, &channel, NEVER);
                let say = Membership { ids: Ids::default(), channel: Some(channel), channel_id };
                self.flood(&Message::Join(say), out);
                true
            }
            NodeCommand::Key { of: Whom::Id(of), channel, channel_id } => {
                self.channels.learn(channel_id, &channel, NEVER);
                let certificate = self.identity().certificate().to_vec();
                let shown = CertificateAnswer { ids: Ids::default(), recipient_id: Some(of), certificate };
                let asked = Membership { ids: Ids::default(), channel: Some(channel), channel_id };
                self.direct(of, &Message::Certificate(shown), out)
                    && self.direct(of, &Message::GetKey(asked), out)
            }
            NodeCommand::Leave { channel_id } => self.leave_channel(channel_id, out),
            NodeCommand::Message { channel, channel_id, text, to } => {
                self.say(now, channel, channel_id, &text, &to, out)
            }
            NodeCommand::Stop => {
                for channel in self.channels.joined() {
                    self.leave_channel(channel, out);
                }
                self.over = true;
                self.dial_at = None;
                self.links.keys().for_each(|link| out.close(*link, None, ""));
                out.event(NodeEvent::Stopped);
                true
            }
            NodeCommand::Certificate { .. } | NodeCommand::Connect { .. } | NodeCommand::Key { .. } => false,
        };
        if !done {
            out.event(NodeEvent::CannotDo(
                "nobody of that name can be reached, or this edition cannot do it",
            ));
        }
    }

    fn create(&mut self, channel: String, channel_id: Option<Guid>, closed: bool, out: &mut Out) {
        let channel_id = channel_id.unwrap_or_else(|| Guid::draw(&mut self.dice));
        let key = closed.then(|| std::iter::repeat_with(|| self.dice.u8(..)).take(KEY).collect());
        let entered = self.channels.enter(channel_id, &channel, NEVER);
        entered.closed = closed;
        entered.key = key;
        // A closed channel is told to its members only, and there are none yet.
        if !closed {
            let members = vec![self.id];
            let news = ChannelNews { ids: Ids::default(), channel, channel_id, members, closed };
            self.flood(&Message::Channel(news), out);
        }
    }

    fn leave_channel(&mut self, channel_id: Guid, out: &mut Out) -> bool {
        let Some(channel) = self.channels.get_mut(channel_id).filter(|channel| channel.joined) else {
            return false;
        };
        channel.joined = false;
        let say = Membership { ids: Ids::default(), channel: Some(channel.name.clone()), channel_id };
        self.flood(&Message::Leave(say), out);
        true
    }

    fn say(
        &mut self,
        now: Time,
        channel: Option<String>,
        channel_id: Guid,
        text: &str,
        to: &[Whom],
        out: &mut Out,
    ) -> bool {
        let known = self.channels.get(channel_id);
        let name = channel.or_else(|| known.map(|channel| channel.name.clone()));
        let member = |key: &PeerKey| match key {
            PeerKey::Id(id) => Some(*id),
            PeerKey::At(_) => None,
        };
        let mut readers: Vec<Guid> = to
            .iter()
            .filter_map(|whom| match whom {
                Whom::Id(id) => Some(*id),
                Whom::Address(_) | Whom::Ip(_) => None,
            })
            .collect();
        if to.is_empty() {
            readers =
                known.map(|channel| channel.members.keys().filter_map(member).collect()).unwrap_or_default();
        }
        let chat = Chat {
            ids: Ids::default(),
            channel: name.or_else(|| Some(channel_id.to_string())),
            channel_id,
            recipients: readers.clone(),
            timestamp: Some(timestamp::at(now.since_start() + EPOCH)),
            message: STANDARD.encode(text),
            attached: false,
        };
        let message = Message::Chat(chat);
        readers.into_iter().filter(|reader| self.direct(*reader, &message, out)).count() > 0
    }
}
