//! The channels a node knows of, and who is in them (section 3.6).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use super::guid::Guid;
use super::peers::PeerKey;
use crate::machine::Time;

/// One channel.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    /// Its name; empty as long as nobody told.
    pub(super) name: String,
    /// This node is a member.
    pub(super) joined: bool,
    /// Its messages need a key.
    pub(super) closed: bool,
    /// The key, if this node has it.
    pub(super) key: Option<Vec<u8>>,
    /// The other members, and where they were when they joined.
    pub(super) members: BTreeMap<PeerKey, Option<SocketAddrV4>>,
    /// When a CHANNEL is due if none is seen before.
    pub(super) next_news: Time,
}

/// All channels known.
#[derive(Clone, Debug, Default)]
pub(super) struct Channels {
    by_id: BTreeMap<Guid, Channel>,
}

/// Channels that strangers can make a node remember.
const LIMIT: usize = 1024;

impl Channels {
    pub(super) fn get(&self, id: Guid) -> Option<&Channel> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: Guid) -> Option<&mut Channel> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn is_joined(&self, id: Guid) -> bool {
        self.get(id).is_some_and(|channel| channel.joined)
    }

    /// This node enters a channel, which need not have been known.
    pub(super) fn enter(&mut self, id: Guid, name: &str, next_news: Time) -> &mut Channel {
        let channel = self.by_id.entry(id).or_insert_with(|| Channel::new(name, next_news));
        channel.joined = true;
        channel.next_news = next_news;
        if channel.name.is_empty() {
            name.clone_into(&mut channel.name);
        }
        channel
    }

    /// Somebody else speaks of a channel; `None` when there are too many to remember one more.
    pub(super) fn learn(&mut self, id: Guid, name: &str, next_news: Time) -> Option<&mut Channel> {
        if !self.by_id.contains_key(&id) && self.by_id.len() >= LIMIT {
            return None;
        }
        let channel = self.by_id.entry(id).or_insert_with(|| Channel::new(name, next_news));
        if channel.name.is_empty() {
            name.clone_into(&mut channel.name);
        }
        Some(channel)
    }

    /// The channels this node is in.
    pub(super) fn joined(&self) -> Vec<Guid> {
        self.by_id.iter().filter(|(_, channel)| channel.joined).map(|(id, _)| *id).collect()
    }

    /// The channels whose CHANNEL is due.
    pub(super) fn due(&self, now: Time) -> Vec<Guid> {
        let due = self.by_id.iter().filter(|(_, channel)| channel.joined && channel.next_news <= now);
        due.map(|(id, _)| *id).collect()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.by_id.values().filter(|channel| channel.joined).map(|channel| channel.next_news).min()
    }
}

impl Channel {
    fn new(name: &str, next_news: Time) -> Channel {
        let (name, members) = (name.to_owned(), BTreeMap::new());
        Channel { name, joined: false, closed: false, key: None, members, next_news }
    }
}
