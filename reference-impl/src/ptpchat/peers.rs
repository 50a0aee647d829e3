//! Whom a node knows: one entry a remote machine (section 3.1).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::guid::Guid;
use crate::machine::{SocketId, Time};

/// What tells one machine from another: its id once it gave one, before that its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PeerKey {
    Id(Guid),
    At(SocketAddrV4),
}

/// How a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// We greet it, and have not heard of it yet.
    Known { since: Time },
    /// Somebody told us of it.
    Listed,
    /// We hear of it.
    Alive { last_seen: Time },
    /// We heard of it once.
    Stale { since: Time },
}

/// One remote machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its id, if it gave one.
    pub(super) id: Option<Guid>,
    /// Where it is.
    pub(super) address: SocketAddrV4,
    /// Which of our sockets it is spoken to from.
    pub(super) socket: SocketId,
    /// How it stands.
    pub(super) standing: Standing,
    /// It was known before the start and is not forgotten.
    pub(super) configured: bool,
    /// When it was greeted last.
    pub(super) greeted: Option<Time>,
}

impl Peer {
    fn heard(&self) -> Option<Time> {
        match self.standing {
            Standing::Alive { last_seen } => Some(last_seen),
            _ => None,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.heard().is_some()
    }

    /// True when it is greeted.
    pub(super) fn is_greeted(&self) -> bool {
        self.standing != Standing::Listed
    }

    /// When it was last of interest; what is least so is forgotten first.
    fn freshness(&self) -> (bool, Option<Time>) {
        let at = match self.standing {
            Standing::Alive { last_seen } => Some(last_seen),
            Standing::Known { since } | Standing::Stale { since } => Some(since),
            Standing::Listed => None,
        };
        (self.configured, at)
    }
}

/// All machines known.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    by_key: BTreeMap<PeerKey, Peer>,
    by_address: BTreeMap<SocketAddrV4, PeerKey>,
}

impl Peers {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn clear(&mut self) {
        self.by_key.clear();
        self.by_address.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.by_key.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_key.values_mut()
    }

    pub(super) fn at(&self, address: SocketAddrV4) -> Option<&Peer> {
        self.by_key.get(self.by_address.get(&address)?)
    }

    pub(super) fn with_id(&self, id: Guid) -> Option<&Peer> {
        self.by_key.get(&PeerKey::Id(id))
    }

    /// Whom `name` means: somebody with that id, or at that address.
    pub(super) fn get(&self, key: PeerKey) -> Option<&Peer> {
        match key {
            PeerKey::Id(id) => self.with_id(id),
            PeerKey::At(address) => self.at(address),
        }
    }

    /// The node on an IP that was heard last.
    pub(super) fn on_ip(&self, ip: Ipv4Addr) -> Option<&Peer> {
        self.by_key
            .values()
            .filter(|peer| *peer.address.ip() == ip && peer.is_alive())
            .max_by_key(|peer| peer.heard())
    }

    /// The node that was heard last.
    pub(super) fn heard_last(&self) -> Option<&Peer> {
        self.by_key.values().filter(|peer| peer.is_alive()).max_by_key(|peer| peer.heard())
    }

    /// Somebody at `address` gave a sign of life. Follows a node that moved; `move_it` only for HELLO.
    pub(super) fn hear(
        &mut self,
        now: Time,
        id: Option<Guid>,
        address: SocketAddrV4,
        socket: SocketId,
        move_it: bool,
    ) -> Heard {
        let here = self.by_address.get(&address).copied();
        let key = match (id, here) {
            (Some(id), _) => PeerKey::Id(id),
            (None, Some(known)) => known,
            (None, None) => PeerKey::At(address),
        };
        let standing = Standing::Alive { last_seen: now };
        // A machine that was known by its address only now says who it is.
        let nameless = here.filter(|here| *here != key && matches!(here, PeerKey::At(_)));
        let nameless = nameless.and_then(|here| self.remove(here));
        let Some(mut peer) = self.by_key.remove(&key).or(nameless) else {
            self.insert(key, Peer { id, address, socket, standing, configured: false, greeted: None });
            return Heard::New;
        };
        let was_alive = peer.is_alive();
        self.by_address.remove(&peer.address);
        peer.standing = standing;
        peer.id = id.or(peer.id);
        if move_it && (peer.address != address || peer.socket != socket) {
            (peer.address, peer.socket) = (address, socket);
        }
        self.insert(key, peer);
        if was_alive { Heard::Again } else { Heard::Returned }
    }

    /// Adds a machine that is to be greeted, or changes where and from where a known one is.
    pub(super) fn know(&mut self, now: Time, address: SocketAddrV4, socket: SocketId, configured: bool) {
        if let Some(key) = self.by_address.get(&address)
            && let Some(peer) = self.by_key.get_mut(key)
        {
            peer.socket = socket;
            peer.configured |= configured;
            if peer.standing == Standing::Listed {
                peer.standing = Standing::Known { since: now };
            }
            return;
        }
        let standing = Standing::Known { since: now };
        self.insert(
            PeerKey::At(address),
            Peer { id: None, address, socket, standing, configured, greeted: None },
        );
    }

    /// Adds a machine that somebody told of, unless it is known.
    pub(super) fn list(&mut self, id: Option<Guid>, address: SocketAddrV4) {
        let key = id.map_or(PeerKey::At(address), PeerKey::Id);
        if self.by_key.contains_key(&key) || self.by_address.contains_key(&address) {
            return;
        }
        let standing = Standing::Listed;
        let peer = Peer { id, address, socket: SocketId(0), standing, configured: false, greeted: None };
        self.insert(key, peer);
    }

    /// Ages every entry; returns those that are forgotten.
    pub(super) fn age(&mut self, now: Time, dead: Duration) -> Vec<Peer> {
        let mut gone = Vec::new();
        for (key, peer) in &mut self.by_key {
            match peer.standing {
                Standing::Alive { last_seen } if now >= last_seen + dead => {
                    peer.standing = match peer.configured {
                        true => Standing::Known { since: now },
                        false => Standing::Stale { since: now },
                    };
                }
                Standing::Known { since } | Standing::Stale { since }
                    if !peer.configured && now >= since + dead =>
                {
                    gone.push(*key);
                }
                _ => {}
            }
        }
        gone.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Forgets the stalest until no more than `limit` are left.
    pub(super) fn cap(&mut self, limit: usize) -> Vec<Peer> {
        let mut gone = Vec::new();
        while self.by_key.len() > limit {
            let stalest = self.by_key.iter().min_by_key(|(_, peer)| peer.freshness()).map(|(key, _)| *key);
            let Some(peer) = stalest.and_then(|key| self.remove(key)) else { break };
            gone.push(peer);
        }
        gone
    }

    fn insert(&mut self, key: PeerKey, peer: Peer) {
        self.by_address.insert(peer.address, key);
        self.by_key.insert(key, peer);
    }

    fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        let peer = self.by_key.remove(&key)?;
        if self.by_address.get(&peer.address) == Some(&key) {
            self.by_address.remove(&peer.address);
        }
        Some(peer)
    }
}

/// What a sign of life was news of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A machine that was not known.
    New,
    /// One that was known, and silent until now.
    Returned,
    /// One that was heard before.
    Again,
}
