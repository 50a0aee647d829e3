//! The in-memory world: the reference implementation and a conversation, joined by streams without delay, in virtual
//! time. The same seed gives the same transcript, byte for byte.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flowproof_reference::driver::host::{HostOutput, Station};
use flowproof_reference::machine::{LinkId, SocketId, Time};

use super::reference::{ReferenceOptions, reference};
use crate::corpus::Protocol;
use crate::runner::conversation::{Conversation, Input, Outcome, Output};
use crate::runner::plan::{self, Participant, Plan};
use crate::sinner::Sinner;

/// Rounds after which a world that finds no rest is given up.
const ROUNDS: u32 = 5_000_000;
/// The address of the party under test.
const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);
/// Ports of its further sockets begin here.
const FIRST_PORT: u16 = 50_001;
/// Bytes that may wait for a reader that stopped reading, before the reference cuts it off as its driver would.
const BACKLOG: usize = 4 << 20;

struct World {
    now: Time,
    conversation: Conversation,
    /// Those under test: the participant, its machine, and its name for each of the conversation's links.
    references: Vec<Side>,
    stalled: BTreeMap<LinkId, VecDeque<u8>>,
    /// Whose datagram socket is at an address.
    sockets: BTreeMap<SocketAddr, Owner>,
    /// The next port of a socket that a machine asks for.
    next_port: u16,
}

/// Whose datagram socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The conversation's, for this participant.
    Played(usize),
    /// A machine's.
    Watched(usize, SocketId),
}

struct Side {
    participant: usize,
    listens: bool,
    machine: Box<dyn Station>,
    /// The conversation has been told that it is over.
    exited: bool,
    /// From the machine's own numbers to the conversation's.
    links: BTreeMap<LinkId, LinkId>,
}

/// Runs one flow against the reference implementation.
pub fn run(
    plan: Rc<Plan>,
    protocol: Arc<Protocol>,
    sinner: Option<&Sinner>,
    began: Time,
    stop: &AtomicBool,
) -> Result<Outcome, String> {
    let mut references = Vec::new();
    let addresses = addresses(&plan);
    let machines = plan.cast.iter().enumerate().filter(|(_, one)| one.under_test && one.socket_of.is_none());
    for (participant, one) in machines {
        let mut settings = protocol.settings.values(&plan.settings.edition);
        settings.extend(plan.settings.variables.clone());
        let known =
            plan::known_before(&plan).into_iter().filter_map(|one| addresses.get(one).copied().flatten());
        let known: Vec<String> = known.map(|address| address.to_string()).collect();
        let options = ReferenceOptions {
            edition: &plan.settings.edition,
            seed: plan.settings.seed,
            epoch: None,
            authority: if plan.datagrams { &known.join(",") } else { "reference" },
            path: &plan.settings.path,
            settings,
            sinner,
            varied: plan.settings.varied,
        };
        let machine = reference(&protocol.settings.name, &one.role, &options)?;
        references.push(Side {
            participant,
            listens: one.listens,
            machine,
            exited: false,
            links: BTreeMap::new(),
        });
    }
    let mut sockets = BTreeMap::new();
    for (one, address) in addresses.iter().enumerate() {
        let played = plan.cast.get(one).is_none_or(|one| !one.under_test);
        if let (true, Some(address)) = (played, address) {
            sockets.insert(*address, Owner::Played(one));
        }
    }
    let datagrams = plan.datagrams;
    let conversation = Conversation::new(plan, protocol, began, &addresses);
    let stalled = BTreeMap::new();
    let mut world = World { now: began, conversation, references, stalled, sockets, next_port: FIRST_PORT };
    if datagrams {
        world.open_sockets();
    }
    for round in 0..ROUNDS {
        if round % 1024 == 0 && stop.load(Ordering::Relaxed) {
            world.conversation.interrupt();
        }
        let moved = world.move_bytes();
        if world.conversation.is_over() {
            return Ok(world.conversation.into_outcome());
        }
        if !moved && !world.next_moment() {
            return Err("nothing would ever happen again in this flow".to_owned());
        }
    }
    Err("the flow does not come to rest".to_owned())
}

/// Where the datagram sockets are: the party under test on the first loopback address, everybody else on one of
/// their own.
fn addresses(plan: &Plan) -> Vec<Option<SocketAddr>> {
    if !plan.datagrams {
        return Vec::new();
    }
    let neighbourhoods = plan::neighbourhoods(plan);
    neighbourhoods
        .into_iter()
        .enumerate()
        .map(|(one, neighbourhood)| match plan.cast.get(one) {
            Some(Participant { under_test: true, socket_of: None, .. }) => Some(TARGET),
            Some(Participant { under_test: true, .. }) => None,
            _ => {
                let place =
                    u32::from(Ipv4Addr::LOCALHOST) + u32::try_from(neighbourhood).unwrap_or(u32::MAX >> 8);
                let port = u16::try_from(40_001 + one).unwrap_or(u16::MAX);
                Some(SocketAddr::from((Ipv4Addr::from(place), port)))
            }
        })
        .collect()
}

impl World {
    /// The party under test has its sockets before anybody sends to it, as a program that was waited for has.
    fn open_sockets(&mut self) {
        for place in 0..self.references.len() {
            self.references[place].machine.tick(self.now);
            while let Some(output) = self.references[place].machine.poll_output() {
                self.carry_from(place, output);
            }
        }
    }

    /// Carries what either side wants carried; false when nothing was.
    fn move_bytes(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.conversation.poll_output() {
            moved = true;
            self.carry_out(output);
        }
        for place in 0..self.references.len() {
            while let Some(output) = self.references[place].machine.poll_output() {
                moved = true;
                self.carry_from(place, output);
            }
            let side = &mut self.references[place];
            if side.machine.is_over() && !std::mem::replace(&mut side.exited, true) {
                moved = true;
                let well = !side.machine.has_failed();
                self.conversation.handle(self.now, Input::Exited(side.participant, well));
            }
        }
        moved
    }

    /// The machine behind a link, and its own number for it.
    fn owner(&self, link: LinkId) -> Option<(usize, LinkId)> {
        self.references.iter().enumerate().find_map(|(place, side)| {
            side.links.iter().find(|(_, known)| **known == link).map(|(own, _)| (place, *own))
        })
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now;
        match output {
            Output::Dial(link) => {
                let Some(place) = self.references.iter().position(|side| side.listens) else { return };
                self.references[place].links.insert(link, link);
                self.references[place].machine.incoming(now, link);
                self.conversation.handle(now, Input::Connected(link));
            }
            Output::Write(link, bytes) => {
                if let Some((place, own)) = self.owner(link) {
                    self.references[place].machine.bytes(now, own, &bytes);
                }
                self.conversation.handle(now, Input::Written(link, bytes.len()));
            }
            Output::Shutdown(link) | Output::Reset(link) => {
                if let Some((place, own)) = self.owner(link) {
                    self.references[place].machine.ended(now, own);
                }
            }
            Output::Stall(link, true) => {
                self.stalled.entry(link).or_default();
            }
            Output::Stall(link, false) => {
                if let Some(waiting) = self.stalled.remove(&link) {
                    let bytes: Vec<u8> = waiting.into();
                    self.conversation.handle(now, Input::Bytes(link, &bytes));
                }
            }
            Output::Quit(participant) => {
                if let Some(side) = self.references.iter_mut().find(|side| side.participant == participant) {
                    side.machine.leave(now);
                }
            }
            Output::SendTo(one, to, bytes) => {
                let Some(Owner::Watched(place, socket)) = self.sockets.get(&to).copied() else { return };
                let from = self.sockets.iter().find(|(_, owner)| **owner == Owner::Played(one));
                if let Some(from) = from.map(|(address, _)| *address) {
                    self.references[place].machine.datagram(now, socket, from, &bytes);
                }
            }
            Output::Unbind(one) => self.sockets.retain(|_, owner| *owner != Owner::Played(one)),
            Output::Stimulus(participant, order) => {
                let Some(side) = self.references.iter_mut().find(|side| side.participant == participant)
                else {
                    return;
                };
                // A stimulus that is not known is not acted on, and that is what the flow sees.
                let _ = side.machine.stimulus(now, &order.does, &order.with);
            }
        }
    }

    fn carry_from(&mut self, place: usize, output: HostOutput) {
        let now = self.now;
        let known = |side: &Side, own: LinkId| side.links.get(&own).copied();
        match output {
            HostOutput::Dial(own) => {
                let participant = self.references[place].participant;
                let link = self.conversation.incoming(now, participant);
                self.references[place].links.insert(own, link);
                self.references[place].machine.connected(now, own);
            }
            HostOutput::Write(own, bytes) => {
                let Some(link) = known(&self.references[place], own) else { return };
                match self.stalled.get_mut(&link) {
                    Some(waiting) => {
                        waiting.extend(bytes);
                        if waiting.len() > BACKLOG {
                            self.references[place].machine.ended(now, own);
                        }
                    }
                    None => self.conversation.handle(now, Input::Bytes(link, &bytes)),
                }
            }
            HostOutput::End(own) | HostOutput::Abort(own) => {
                let reset = matches!(output, HostOutput::Abort(_));
                if let Some(link) = self.references[place].links.remove(&own) {
                    self.conversation.handle(now, Input::Ended(link, reset));
                }
            }
            HostOutput::Bind(socket, port) => {
                let port = match (socket, port) {
                    (SocketId(0), _) => TARGET.port(),
                    (_, Some(port)) => port,
                    (_, None) => {
                        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
                        self.next_port
                    }
                };
                let local = SocketAddr::new(TARGET.ip(), port);
                let free = !self.sockets.contains_key(&local);
                if free {
                    self.sockets.insert(local, Owner::Watched(place, socket));
                }
                self.references[place].machine.bound(now, socket, free.then_some(local));
            }
            HostOutput::SendTo(socket, to, bytes) => {
                let from = self.sockets.iter().find(|(_, owner)| **owner == Owner::Watched(place, socket));
                let from = from.map(|(address, _)| *address);
                if let (Some(from), Some(Owner::Played(one))) = (from, self.sockets.get(&to).copied()) {
                    self.conversation.handle(now, Input::Datagram(one, from, &bytes));
                }
            }
            HostOutput::Unbind(socket) => {
                self.sockets.retain(|_, owner| *owner != Owner::Watched(place, socket))
            }
        }
    }

    /// Goes to the next moment at which somebody wants something; false when there is none.
    fn next_moment(&mut self) -> bool {
        let machines = self.references.iter().filter_map(|side| side.machine.deadline());
        let Some(next) = machines.chain(self.conversation.deadline()).min() else { return false };
        self.now = self.now.max(next);
        for side in &mut self.references {
            if side.machine.deadline().is_some_and(|deadline| deadline <= self.now) {
                side.machine.tick(self.now);
            }
        }
        if self.conversation.deadline().is_some_and(|deadline| deadline <= self.now) {
            // What arrives at this very moment arrives before the limit that ends at it.
            self.move_bytes();
            self.conversation.handle(self.now, Input::Tick);
        }
        true
    }
}
