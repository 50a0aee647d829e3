//! CONNECT (sections 3.2 to 3.4): A asks S for a path to B, S completes what either says and hands it on, B answers with
//! a port of its own, and then both knock until one gets through.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::super::address::End;
use super::super::command::{NodeEvent, Whom};
use super::super::config::{Addressing, Fault};
use super::super::guid::Guid;
use super::super::message::{Connect, Message};
use super::super::peers::Peer;
use super::{Node, ORDINARY, Out};
use crate::machine::{SocketId, Time};

/// Paths that one node opens at once.
const PATHS: usize = 64;

/// A path of ours, as A.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    ip: Ipv4Addr,
    id: Option<Guid>,
    through: SocketAddrV4,
    socket: SocketId,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The new socket is being opened.
    Opening,
    /// C1 is out.
    Waiting { port: u16, again: Time, left: u32 },
    /// C4 came; we knock there.
    Punching,
}

/// A path that somebody asked us for, as B.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answered {
    /// C2, as it came.
    second: Connect,
    /// Where A waits.
    peer: SocketAddrV4,
    from: SocketAddrV4,
    socket: SocketId,
    /// Known once the socket is open.
    port: Option<u16>,
}

/// Who asked us for whom, as S.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    target: Ipv4Addr,
    asker: SocketAddrV4,
    port: u16,
    nodes: Option<(Guid, Guid)>,
    since: Time,
}

/// All paths in the making.
#[derive(Debug, Default)]
pub(super) struct Paths {
    asked: Vec<Asked>,
    answered: Vec<Answered>,
    pending: Vec<Pending>,
}

impl Paths {
    pub(super) fn deadline(&self) -> Option<Time> {
        let again = |asked: &Asked| match asked.stage {
            Stage::Waiting { again, .. } => Some(again),
            _ => None,
        };
        self.asked.iter().filter_map(again).min()
    }

    pub(super) fn sockets(&self) -> Vec<SocketId> {
        let asked = self.asked.iter().map(|asked| asked.socket);
        asked.chain(self.answered.iter().map(|answered| answered.socket)).collect()
    }
}

impl Node {
    /// Starts a path to `to`: the first thing is a socket for it.
    pub(super) fn ask_for_path(&mut self, to: Whom, through: Option<Whom>, out: &mut Out) {
        let target = match to {
            Whom::Ip(ip) => Some((ip, None)),
            Whom::Address(address) => Some((*address.ip(), None)),
            Whom::Id(id) => self.peers.with_id(id).map(|peer| (*peer.address.ip(), Some(id))),
        };
        let through = match through {
            Some(through) => self.resolve(through),
            None => {
                self.peers.iter().find(|peer| peer.configured || peer.is_alive()).map(|peer| peer.address)
            }
        };
        let (Some((ip, id)), Some(through)) = (target, through) else {
            out.event(NodeEvent::CannotDo("connect: neither the target nor anybody in between is known"));
            return;
        };
        let id = id.or_else(|| self.peers.on_ip(ip).and_then(|peer| peer.id));
        if self.config.addressing == Addressing::Fixed && id.is_none() {
            out.event(NodeEvent::CannotDo("connect: the target's node id is not known"));
            return;
        }
        if self.paths.asked.len() >= PATHS {
            out.event(NodeEvent::CannotDo("connect: too many paths at once"));
            return;
        }
        let socket = self.new_socket();
        self.paths.asked.push(Asked { ip, id, through, socket, stage: Stage::Opening });
        out.bind(socket, None);
    }

    pub(super) fn path_bound(&mut self, now: Time, socket: SocketId, port: u16, out: &mut Out) {
        let (again, left) = (now + self.config.connect, self.config.connect_retries);
        let not_open = self.has(Fault::PortNotOpen);
        if let Some(place) = self.paths.asked.iter().position(|asked| asked.socket == socket) {
            let asked = &mut self.paths.asked[place];
            let told = if not_open { port ^ 1 } else { port };
            asked.stage = Stage::Waiting { port: told, again, left };
            let asked = asked.clone();
            self.send_first(&asked, told, out);
        } else if let Some(place) = self.paths.answered.iter().position(|answered| answered.socket == socket)
        {
            self.paths.answered[place].port = Some(port);
            let answered = self.paths.answered[place].clone();
            self.send_third(&answered, port, out);
            self.knock(now, answered.peer, socket, out);
        }
    }

    pub(super) fn path_not_bound(&mut self, socket: SocketId, out: &mut Out) {
        self.paths.asked.retain(|asked| asked.socket != socket);
        self.paths.answered.retain(|answered| answered.socket != socket);
        out.event(NodeEvent::PathFailed);
    }

    fn send_first(&self, asked: &Asked, port: u16, out: &mut Out) {
        let nodes = self.fixed(asked.id.map(|id| (self.id, id)));
        let first = Connect { dst: End::Ip(asked.ip), src: End::Port(port), nodes };
        self.send(ORDINARY, asked.through, &Message::Connect(first), out);
    }

    fn send_third(&self, answered: &Answered, port: u16, out: &mut Out) {
        let told = if self.has(Fault::PunchesOrdinaryPort) { self.planted.local_port } else { port };
        let third = match (self.config.addressing, answered.second.dst) {
            (Addressing::Fixed, End::Ip(own)) => {
                Connect { dst: End::Full(SocketAddrV4::new(own, told)), ..answered.second }
            }
            _ => Connect { src: End::Port(told), ..answered.second },
        };
        self.send(ORDINARY, answered.from, &Message::Connect(third), out);
    }

    /// Makes the other end of a path known at its new address and greets it there at once, from the new socket.
    fn knock(&mut self, now: Time, peer: SocketAddrV4, socket: SocketId, out: &mut Out) {
        let asked = self.paths.asked.iter().any(|asked| asked.socket == socket);
        let has = |as_a, as_b| self.has(if asked { as_a } else { as_b });
        if has(Fault::ADoesNotCome, Fault::BDoesNotKnock) {
            return;
        }
        let astray = has(Fault::AComesFromOrdinary, Fault::BKnocksFromOrdinary);
        let socket = if astray { ORDINARY } else { socket };
        self.peers.know(now, peer, socket, false);
        self.greet(now, peer, out);
    }

    pub(super) fn take_connect(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        stranger: bool,
        connect: Connect,
        out: &mut Out,
    ) {
        match self.config.addressing {
            Addressing::Swap => match (connect.dst, connect.src) {
                (End::Ip(target), End::Port(port)) => self.forward_first(now, from, target, port, None, out),
                (End::Full(peer), End::Ip(_)) if !stranger => self.answer_second(from, connect, peer, out),
                (End::Full(_), End::Ip(_)) => {}
                (End::Full(asker), End::Port(port)) => self.forward_third(now, from, asker, port, out),
                (End::Full(peer), End::Full(own)) => self.take_fourth(now, from, peer, own.port(), out),
                _ => self.planted_any_shape(from, connect, out),
            },
            Addressing::Fixed => match (connect.dst, connect.src, connect.nodes) {
                (End::Ip(target), End::Port(port), Some(nodes)) => {
                    self.forward_first(now, from, target, port, Some(nodes), out);
                }
                (End::Ip(_), End::Full(peer), Some((_, dst))) if dst == self.id && !stranger => {
                    self.answer_second(from, connect, peer, out);
                }
                (End::Full(peer), End::Full(own), Some((src, _))) if src == self.id => {
                    self.take_fourth(now, from, peer, own.port(), out);
                }
                (End::Full(target), End::Full(asker), Some(_)) => {
                    self.forward_fixed_third(now, from, target, asker, connect, out);
                }
                _ => {}
            },
        }
    }

    /// C1 at S: completed with the source IP, it becomes C2.
    fn forward_first(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        target: Ipv4Addr,
        port: u16,
        nodes: Option<(Guid, Guid)>,
        out: &mut Out,
    ) {
        if !self.config.intermediary {
            return;
        }
        let by_id = nodes.and_then(|(_, dst)| self.peers.with_id(dst)).filter(|peer| peer.is_alive());
        let known = by_id.or_else(|| self.peers.on_ip(target).filter(|_| nodes.is_none()));
        let stranger = || self.peers.heard_last().filter(|_| self.has(Fault::ForwardsToStrangers));
        let Some(peer) = known.or_else(stranger).copied() else { return };
        let asker = self.planted_asker(from, port);
        let second = match nodes {
            Some(_) => Connect { dst: End::Ip(target), src: End::Full(asker), nodes },
            None if self.has(Fault::SwapsNotAtSecond) => {
                Connect { dst: End::Ip(target), src: End::Full(asker), nodes }
            }
            None => Connect { dst: End::Full(asker), src: End::Ip(target), nodes },
        };
        self.paths.pending.retain(|pending| now < pending.since + self.config.pending);
        self.paths
            .pending
            .retain(|pending| pending.asker != from || pending.target != target || pending.port != port);
        if self.paths.pending.len() >= self.config.peers {
            self.paths.pending.remove(0);
        }
        self.paths.pending.push(Pending { target, asker: from, port, nodes, since: now });
        self.send(peer.socket, peer.address, &Message::Connect(second), out);
    }

    /// C3 at S: completed with the source IP and turned round, it becomes C4.
    fn forward_third(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        asker: SocketAddrV4,
        port: u16,
        out: &mut Out,
    ) {
        if !self.config.intermediary {
            return;
        }
        let answers = |pending: &&Pending| {
            now < pending.since + self.config.pending
                && pending.asker.ip() == asker.ip()
                && pending.port == asker.port()
                && pending.target == *from.ip()
        };
        let remembered = self.paths.pending.iter().find(answers).map(|pending| pending.asker);
        let alive = || self.peers.on_ip(*asker.ip()).map(|peer| peer.address);
        let stranger = || Some(asker).filter(|_| self.has(Fault::ForwardsToStrangers));
        let Some(to) = remembered.or_else(alive).or_else(stranger) else { return };
        let completed = End::Full(SocketAddrV4::new(*from.ip(), port));
        let fourth = match self.has(Fault::SwapsNotAtFourth) {
            false => Connect { dst: completed, src: End::Full(asker), nodes: None },
            true => Connect { dst: End::Full(asker), src: completed, nodes: None },
        };
        let socket = self.peers.at(to).map_or(ORDINARY, |peer| peer.socket);
        self.send(socket, to, &Message::Connect(fourth), out);
    }

    /// C3 at S with fixed addresses: it is whole, and goes on as it is.
    fn forward_fixed_third(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        target: SocketAddrV4,
        asker: SocketAddrV4,
        connect: Connect,
        out: &mut Out,
    ) {
        let answers = |pending: &&Pending| {
            now < pending.since + self.config.pending
                && pending.nodes == connect.nodes
                && pending.port == asker.port()
        };
        let remembered = self.paths.pending.iter().find(answers).map(|pending| pending.asker);
        // Where B is, is what S sees, not what B believes.
        let seen = Connect { dst: End::Full(SocketAddrV4::new(*from.ip(), target.port())), ..connect };
        if let Some(to) = remembered.filter(|_| self.config.intermediary) {
            self.send(ORDINARY, to, &Message::Connect(seen), out);
        }
    }

    /// C2 at B: a socket for A, then the answer. The same question gets the same answer (section 3.4).
    fn answer_second(&mut self, from: SocketAddrV4, second: Connect, peer: SocketAddrV4, out: &mut Out) {
        let again = !self.has(Fault::NewPortEachTime);
        let known = self.paths.answered.iter().find(|answered| answered.peer == peer && again).cloned();
        if let Some(answered) = known {
            if let Some(port) = answered.port {
                self.send_third(&answered, port, out);
            }
            return;
        }
        if self.paths.answered.len() >= PATHS {
            return;
        }
        let socket = self.new_socket();
        self.paths.answered.push(Answered { second, peer, from, socket, port: None });
        out.bind(socket, None);
    }

    /// C4 at A: now it knows where to knock.
    fn take_fourth(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        peer: SocketAddrV4,
        own_port: u16,
        out: &mut Out,
    ) {
        let ours = |asked: &&mut Asked| {
            asked.through == from && matches!(asked.stage, Stage::Waiting { port, .. } if port == own_port)
        };
        let Some(asked) = self.paths.asked.iter_mut().find(ours) else { return };
        asked.stage = Stage::Punching;
        let socket = asked.socket;
        self.knock(now, peer, socket, out);
    }

    /// Asks again where no C4 came, and gives up in the end.
    pub(super) fn paths_due(&mut self, now: Time, out: &mut Out) {
        let wait = self.config.connect;
        let (mut repeat, mut failed) = (Vec::new(), Vec::new());
        for asked in &mut self.paths.asked {
            let Stage::Waiting { port, again, left } = asked.stage else { continue };
            if again > now {
                continue;
            }
            match left.checked_sub(1) {
                Some(left) => {
                    asked.stage = Stage::Waiting { port, again: now + wait, left };
                    repeat.push((asked.clone(), port));
                }
                None => failed.push(asked.socket),
            }
        }
        for (asked, port) in repeat {
            self.send_first(&asked, port, out);
        }
        for socket in failed {
            self.paths.asked.retain(|asked| asked.socket != socket);
            out.unbind(socket);
            out.event(NodeEvent::PathFailed);
        }
    }

    /// Somebody answered at the end of a new path.
    pub(super) fn path_open(&mut self, peer: SocketAddrV4, out: &mut Out) {
        out.event(NodeEvent::PathOpen(peer));
    }

    /// The other end of a path is gone, or never came: its socket goes too.
    pub(super) fn path_over(&mut self, gone: &Peer, out: &mut Out) {
        self.paths.asked.retain(|asked| asked.socket != gone.socket);
        self.paths.answered.retain(|answered| answered.socket != gone.socket);
        out.unbind(gone.socket);
        out.event(NodeEvent::PathFailed);
    }

    fn fixed(&self, nodes: Option<(Guid, Guid)>) -> Option<(Guid, Guid)> {
        nodes.filter(|_| self.config.addressing == Addressing::Fixed)
    }
}
