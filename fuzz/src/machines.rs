//! Role machines fed raw frames by several peers: no panic, a deadline that moves on, and no more held than was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use flowproof::corpus::TransportKind;
use flowproof::world::reference::{ReferenceOptions, reference};
use flowproof_reference::driver::host::{HostOutput, Station};
use flowproof_reference::machine::{LinkId, Message, Request, SocketId, Time};
use flowproof_reference::transport::LinkEnd;

use super::protocol;

/// Peers that talk to the machine.
const PEERS: u64 = 4;
/// Largest message of a peer.
const LARGEST: usize = 1 << 20;
/// Ticks that a machine may want at one moment.
const TICKS: usize = 1000;
/// Bytes that a machine may send for each byte it was sent, beside what it says by itself.
const GROWTH: usize = 2000;

struct World {
    station: Box<dyn Station>,
    now: Time,
    ends: BTreeMap<LinkId, LinkEnd>,
    host: String,
    next: u64,
    sent: usize,
    received: usize,
    datagrams: bool,
}

/// Feeds a role of a protocol. Each line of the input is what one peer does: the first byte says who and what, the rest is
/// the message.
pub fn feed(name: &str, role: &str, data: &[u8]) {
    let protocol = protocol(name);
    let edition = protocol.settings.default_edition.clone();
    let mut settings = protocol.settings.values(&edition);
    settings.extend(flowproof::runner::variables::variables(&protocol.settings, BTreeMap::new(), true));
    let transport = protocol.settings.transport(&edition);
    let options = ReferenceOptions {
        edition: &edition,
        seed: 1,
        authority: if transport.kind == TransportKind::Udp { "" } else { "reference" },
        path: &transport.default_path,
        settings,
        ..ReferenceOptions::default()
    };
    let station = reference(name, role, &options).expect("every role has a reference");
    let mut world = World {
        station,
        now: Time::ZERO,
        ends: BTreeMap::new(),
        host: "reference".to_owned(),
        next: 1,
        sent: 0,
        received: 0,
        datagrams: transport.kind == TransportKind::Udp,
    };
    let listens = protocol.settings.roles.iter().any(|known| known.name == role && known.listens);
    world.station.tick(world.now);
    world.settle(&protocol.settings.transport(&edition).framing(LARGEST));
    let framing = protocol.settings.transport(&edition).framing(LARGEST);
    for line in data.split(|byte| *byte == b'\n').take(400) {
        let Some((head, message)) = line.split_first() else { continue };
        let peer = u64::from(*head) % PEERS;
        world.act(&framing, peer, head / 4, message, listens);
        world.settle(&framing);
    }
    world.wait(Duration::from_secs(60), &framing);
}

impl World {
    fn link(
        &mut self,
        framing: &flowproof_reference::transport::Framing,
        peer: u64,
        listens: bool,
    ) -> Option<LinkId> {
        let known = self.ends.keys().find(|link| link.0 % PEERS == peer).copied();
        if known.is_some() || !listens {
            return known;
        }
        let link = LinkId(self.next * PEERS + peer);
        self.next += 1;
        let request =
            Request { method: "GET".to_owned(), path: "/".to_owned(), upgrade: true, ..Request::default() };
        let end = framing.connecting(&self.host, &request, link.0);
        self.ends.insert(link, end);
        self.station.incoming(self.now, link);
        self.carry(link);
        self.settle(framing);
        Some(link)
    }

    fn act(
        &mut self,
        framing: &flowproof_reference::transport::Framing,
        peer: u64,
        what: u8,
        message: &[u8],
        listens: bool,
    ) {
        self.sent += message.len() + 1;
        if self.datagrams {
            let from = SocketAddr::from(([127, 0, 0, 2], 40_000 + u16::try_from(peer).unwrap_or(0)));
            match what % 8 {
                7 => self.wait(Duration::from_millis(u64::from(message.len() as u32) * 100), framing),
                _ => self.station.datagram(self.now, SocketId(0), from, message),
            }
            return;
        }
        let Some(link) = self.link(framing, peer, listens) else { return };
        let text = String::from_utf8_lossy(message).into_owned();
        if let Some(end) = self.ends.get_mut(&link) {
            match what % 16 {
                0..=8 => end.send(&Message::Text(text)),
                9 => end.send_text_bytes(message),
                10 => end.send(&Message::Binary(message.to_vec())),
                11 => {
                    let (first, second) = message.split_at(message.len() / 2);
                    end.send_fragments(&[first, second, b""]);
                }
                12 => end.send(&Message::Ping(message.iter().copied().take(125).collect())),
                13 => end.send_raw(message),
                14 => end.close(Some(1000), ""),
                _ => {
                    self.ends.remove(&link);
                    self.station.ended(self.now, link);
                    return;
                }
            }
        }
        self.carry(link);
    }

    /// What a peer wants written reaches the machine.
    fn carry(&mut self, link: LinkId) {
        let bytes = self.ends.get_mut(&link).map(LinkEnd::take_output).unwrap_or_default();
        if !bytes.is_empty() {
            self.station.bytes(self.now, link, &bytes);
        }
    }

    /// Everything that the machine wants done is done.
    fn settle(&mut self, framing: &flowproof_reference::transport::Framing) {
        while let Some(output) = self.station.poll_output() {
            match output {
                HostOutput::Write(link, bytes) => {
                    self.received += bytes.len();
                    assert!(
                        self.received <= (self.sent + 1000) * GROWTH,
                        "{} bytes were answered by {}",
                        self.sent,
                        self.received
                    );
                    if let Some(end) = self.ends.get_mut(&link) {
                        end.receive(&bytes);
                        while let Some(event) = end.poll() {
                            if let flowproof_reference::transport::websocket::WireEvent::Request(_) = event {
                                end.accept(None);
                            }
                        }
                    }
                    self.carry(link);
                }
                HostOutput::Dial(link) => {
                    self.ends.insert(link, framing.listening());
                    self.station.connected(self.now, link);
                }
                HostOutput::End(link) | HostOutput::Abort(link) => {
                    self.ends.remove(&link);
                    self.station.ended(self.now, link);
                }
                HostOutput::Bind(socket, port) => {
                    let port = port.unwrap_or(9001);
                    self.station.bound(self.now, socket, Some(SocketAddr::from(([127, 0, 0, 1], port))));
                }
                HostOutput::SendTo(_, _, bytes) => self.received += bytes.len(),
                HostOutput::Unbind(_) => {}
            }
        }
    }

    /// Time passes, and every deadline on the way is kept; each lies after the one before.
    fn wait(&mut self, long: Duration, framing: &flowproof_reference::transport::Framing) {
        let until = self.now + long;
        let mut ticks = 0;
        while let Some(deadline) = self.station.deadline().filter(|deadline| *deadline <= until) {
            ticks = if deadline > self.now { 0 } else { ticks + 1 };
            assert!(ticks < TICKS, "the deadline stands still at {deadline}");
            self.now = self.now.max(deadline);
            self.station.tick(self.now);
            self.settle(framing);
        }
        self.now = until;
    }
}
