//! The in-memory world: the reference implementation and a conversation, joined by streams without delay, in virtual
//! time. The same seed gives the same transcript, byte for byte.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flowproof_reference::driver::host::{HostOutput, Station};
use flowproof_reference::machine::{LinkId, Time};

use super::reference::{ReferenceOptions, reference};
use crate::corpus::Protocol;
use crate::runner::conversation::{Conversation, Input, Outcome, Output};
use crate::runner::plan::Plan;
use crate::sinner::Sinner;

/// Rounds after which a world that finds no rest is given up.
const ROUNDS: u32 = 5_000_000;
/// Bytes that may wait for a reader that stopped reading, before the reference cuts it off as its driver would.
const BACKLOG: usize = 4 << 20;

struct World {
    now: Time,
    conversation: Conversation,
    /// Those under test: the participant, its machine, and its name for each of the conversation's links.
    references: Vec<Side>,
    stalled: BTreeMap<LinkId, VecDeque<u8>>,
}

struct Side {
    participant: usize,
    listens: bool,
    machine: Box<dyn Station>,
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
    for (participant, one) in plan.cast.iter().enumerate().filter(|(_, one)| one.under_test) {
        let mut settings = protocol.settings.settings.clone();
        settings.extend(plan.settings.variables.clone());
        let options = ReferenceOptions {
            edition: &plan.settings.edition,
            seed: plan.settings.seed,
            authority: "reference",
            path: &plan.settings.path,
            settings,
            sinner,
        };
        let machine = reference(&protocol.settings.name, &one.role, &options)?;
        references.push(Side { participant, listens: one.listens, machine, links: BTreeMap::new() });
    }
    let conversation = Conversation::new(plan, protocol, began);
    let mut world = World { now: began, conversation, references, stalled: BTreeMap::new() };
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

impl World {
    /// Carries what either side wants carried; false when nothing was.
    fn move_bytes(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.conversation.poll_output() {
            moved = true;
            self.from_conversation(output);
        }
        for place in 0..self.references.len() {
            while let Some(output) = self.references[place].machine.poll_output() {
                moved = true;
                self.from_reference(place, output);
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

    fn from_conversation(&mut self, output: Output) {
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

    fn from_reference(&mut self, place: usize, output: HostOutput) {
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
            // Datagrams have no world yet.
            HostOutput::Bind(..) | HostOutput::SendTo(..) | HostOutput::Unbind(..) => {}
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
