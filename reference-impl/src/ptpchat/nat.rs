//! A box that translates addresses in front of a node, and lets in only what was asked for: what CONNECT is for. It owns
//! no socket: datagrams go in, and come out translated or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Which addresses may answer through a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Those that were sent to, port and all.
    AddressAndPort,
    /// Every port of an IP that was sent to.
    Address,
}

/// Which outer port an inner one gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The same, as long as nobody else has it: what the protocol counts on.
    Preserving,
    /// Another for each machine that is sent to: the procedure fails there (section 6.20).
    PerDestination,
}

/// One box.
#[derive(Clone, Debug)]
pub struct Nat {
    outside: Ipv4Addr,
    mapping: Mapping,
    filtering: Filtering,
    next_port: u16,
    /// From inner socket (and destination, where that matters) to outer port.
    out: BTreeMap<(SocketAddrV4, Option<SocketAddrV4>), u16>,
    /// From outer port to inner socket, and who was sent to from there.
    back: BTreeMap<u16, (SocketAddrV4, BTreeSet<SocketAddrV4>)>,
}

/// Where made-up outer ports begin.
const FIRST_PORT: u16 = 61_000;

impl Nat {
    /// A box whose outer side is `outside`.
    pub fn new(outside: Ipv4Addr, mapping: Mapping, filtering: Filtering) -> Nat {
        let (out, back) = (BTreeMap::new(), BTreeMap::new());
        Nat { outside, mapping, filtering, next_port: FIRST_PORT, out, back }
    }

    /// A datagram leaves: the source that the world sees. `None` when the box has no port left.
    pub fn outbound(&mut self, from: SocketAddrV4, to: SocketAddrV4) -> Option<SocketAddrV4> {
        let destination = (self.mapping == Mapping::PerDestination).then_some(to);
        let port = match self.out.get(&(from, destination)) {
            Some(port) => *port,
            None => self.open(from, destination)?,
        };
        if let Some((_, sent_to)) = self.back.get_mut(&port) {
            sent_to.insert(to);
        }
        Some(SocketAddrV4::new(self.outside, port))
    }

    /// A datagram arrives at an outer port: the inner socket that gets it, if it may pass.
    pub fn inbound(&self, from: SocketAddrV4, port: u16) -> Option<SocketAddrV4> {
        let (inside, sent_to) = self.back.get(&port)?;
        let passes = match self.filtering {
            Filtering::AddressAndPort => sent_to.contains(&from),
            Filtering::Address => sent_to.iter().any(|known| known.ip() == from.ip()),
        };
        passes.then_some(*inside)
    }

    fn open(&mut self, from: SocketAddrV4, destination: Option<SocketAddrV4>) -> Option<u16> {
        let wanted = Some(from.port()).filter(|port| destination.is_none() && !self.back.contains_key(port));
        let port = match wanted {
            Some(port) => port,
            None => {
                let free = (self.next_port..=u16::MAX).find(|port| !self.back.contains_key(port))?;
                self.next_port = free.saturating_add(1);
                free
            }
        };
        self.out.insert((from, destination), port);
        self.back.insert(port, (from, BTreeSet::new()));
        Some(port)
    }
}
