//! What one says is passed on: to everybody, to everybody else, or back to the one who said it. Those who may get it
//! are all who are connected, or, where a protocol has rooms or the like, those who joined: the variables that joining
//! and saying share tell which.
//!
//! Who joined or left a moment ago may or may not get it; of nobody else is anything left open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{Reaches, Scope, Whom, is_over, message};
use crate::flow::format::pattern_text;
use crate::judge::schema::actual;
use crate::monitor::{Monitor, Party, Rulings, Seen, What};
use crate::pattern::{Bindings, fits};

/// What was said is remembered so long beyond its limit, to know a second copy.
const REMEMBERED: Duration = Duration::from_secs(10);
/// More is not remembered; then it cannot be told any more who said what.
const MOST: usize = 4096;

/// A connection of somebody who may get it.
struct Member {
    party: Party,
    /// The other end: whoever passes on.
    relay: String,
    /// Since when it is connected.
    since: Time,
    /// What joining bound, since when, and whether the relay itself has said so.
    joined: Vec<(Bindings, Time, bool)>,
    /// What was left, and when.
    left: Vec<(Bindings, Time)>,
    /// False when it says nothing whether something arrives here.
    reads: bool,
}

/// How sure it is that a connection gets something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    No,
    Perhaps,
    Yes,
}

struct Said {
    at: Time,
    relay: Party,
    sender: LinkId,
    bindings: Bindings,
    what: Value,
    /// Who has to get it and has not yet.
    waiting: BTreeSet<LinkId>,
    /// Who may get it.
    may: BTreeSet<LinkId>,
    /// Who has got it.
    got: BTreeSet<LinkId>,
    overdue: bool,
}

pub(super) struct Passing {
    scope: Scope,
    rule: Reaches,
    settle: Duration,
    members: BTreeMap<LinkId, Member>,
    said: VecDeque<Said>,
    /// Not everything that was said is remembered.
    forgot: bool,
    next: Option<Time>,
}

impl Passing {
    pub(super) fn new(scope: Scope, rule: Reaches) -> Self {
        let settle = scope.protocol.settings.timing.settle;
        Passing {
            scope,
            rule,
            settle,
            members: BTreeMap::new(),
            said: VecDeque::new(),
            forgot: false,
            next: None,
        }
    }

    /// Does a connection get what was said, with these variables, now?
    fn membership(&self, member: &Member, bindings: &Bindings, now: Time) -> Sure {
        let settled = |since: Time| now.since(since) >= self.settle;
        if self.rule.joins.is_none() {
            return if settled(member.since) { Sure::Yes } else { Sure::Perhaps };
        }
        let joined = member.joined.iter().filter(|(room, ..)| agree(room, bindings));
        let joined =
            joined.map(|(_, since, told)| if *told || settled(*since) { Sure::Yes } else { Sure::Perhaps });
        let left = member.left.iter().any(|(room, since)| agree(room, bindings) && !settled(*since));
        joined.max().unwrap_or(if left { Sure::Perhaps } else { Sure::No })
    }

    /// Who joins or leaves by a message.
    fn moves(&mut self, seen: &Seen<'_>, value: &Value) {
        let from_relay = self.scope.plays(seen.from, self.scope.rule.to.as_ref());
        let base = std::rc::Rc::clone(&self.scope.base);
        let Some(member) = self.members.get_mut(&seen.link) else { return };
        if let Some(joins) = &self.rule.joins
            && let Some(room) = fits(joins, value, &base)
        {
            member.left.retain(|(left, _)| *left != room);
            if !member.joined.iter().any(|(joined, _, told)| *joined == room && (*told || !from_relay)) {
                member.joined.retain(|(joined, ..)| *joined != room);
                member.joined.push((room, seen.at, from_relay));
            }
        }
        if let Some(leaves) = &self.rule.leaves
            && let Some(room) = fits(leaves, value, &base)
        {
            member.joined.retain(|(joined, ..)| !agree(joined, &room));
            member.left.push((room.clone(), seen.at));
            // What was said before may still come, or not.
            for said in self.said.iter_mut().filter(|said| agree(&room, &said.bindings)) {
                if said.waiting.remove(&seen.link) {
                    said.may.insert(seen.link);
                }
            }
        }
    }

    fn says(&mut self, seen: &Seen<'_>, value: &Value, bindings: Bindings) {
        let sure = |link: &LinkId| {
            let member = self.members.get(link);
            member.map_or(Sure::No, |member| self.membership(member, &bindings, seen.at))
        };
        let sender = match (&self.rule.joins, sure(&seen.link)) {
            // Whoever is connected may speak.
            (None, _) => Sure::Yes,
            (Some(_), sure) => sure,
        };
        let (mut waiting, mut may) = (BTreeSet::new(), BTreeSet::new());
        for (link, member) in self.members.iter().filter(|(_, member)| member.relay == seen.to.name) {
            let own = *link == seen.link;
            let wanted = match self.rule.whom {
                Whom::All => true,
                Whom::Others => !own,
                Whom::Sender => own,
            };
            let certain = if own { sender } else { self.membership(member, &bindings, seen.at) };
            match certain.min(if member.reads { Sure::Yes } else { Sure::Perhaps }).min(match sender {
                // It may be refused.
                Sure::No | Sure::Perhaps => Sure::Perhaps,
                Sure::Yes => Sure::Yes,
            }) {
                Sure::Yes if wanted => drop(waiting.insert(*link)),
                Sure::Perhaps if wanted => drop(may.insert(*link)),
                _ => {}
            }
        }
        let at = seen.at;
        let (relay, sender, what) = (seen.to.clone(), seen.link, actual(value));
        let overdue = waiting.is_empty();
        let said = Said { at, relay, sender, bindings, what, waiting, may, got: BTreeSet::new(), overdue };
        self.said.push_back(said);
        let limit = at + self.rule.within + self.scope.slack + Duration::from_nanos(1);
        self.next = self.next.or(Some(limit));
        if self.said.len() > MOST {
            self.said.pop_front();
            self.forgot = true;
        }
    }

    /// Something like a copy arrives at a connection.
    fn arrives(&mut self, seen: &Seen<'_>, value: &Value, rulings: &mut Rulings) {
        if !self.scope.fits(&self.rule.arrives, value) {
            return;
        }
        let (link, by, at) = (seen.link, seen.from, seen.at);
        let fits = |said: &Said| {
            said.relay.name == by.name && fits(&self.rule.arrives, value, &said.bindings).is_some()
        };
        let mut about: Vec<&mut Said> = self.said.iter_mut().filter(|said| fits(said)).collect();
        if let Some(said) = about.iter_mut().find(|said| said.waiting.contains(&link)) {
            said.waiting.remove(&link);
            said.got.insert(link);
            let took = at.since(said.at);
            if took <= self.rule.within + self.scope.slack {
                rulings.kept(self.scope.id(), by, at);
                let others = [&self.rule.twice, &self.rule.strangers, &self.rule.unasked];
                others.into_iter().flatten().for_each(|id| rulings.kept(id, by, at));
            } else if !said.overdue {
                let text = format!("it was passed on after {took:?}");
                let expected = format!("within {:?}", self.rule.within);
                rulings.broken(self.scope.id(), by, at, text, expected, actual(value));
            }
            return;
        }
        if let Some(said) = about.iter_mut().find(|said| said.may.contains(&link)) {
            said.may.remove(&link);
            said.got.insert(link);
            return;
        }
        let to = &seen.to.name;
        // Where others may talk to the relay, it may be the copy of something that they said.
        if !self.scope.exclusive {
            return;
        }
        if about.iter().any(|said| said.got.contains(&link)) {
            if let Some(twice) = &self.rule.twice {
                let text = format!("{to} gets this a second time");
                rulings.broken(twice, by, at, text, "one copy", actual(value));
            }
        } else if !about.is_empty() {
            if let Some(strangers) = &self.rule.strangers {
                let own = about.iter().any(|said| said.sender == link);
                let text = if own {
                    format!("{to} gets back what it sent itself")
                } else {
                    format!("{to} gets what is not meant for it")
                };
                rulings.broken(strangers, by, at, text, "nothing", actual(value));
            }
        } else if let Some(unasked) = self.rule.unasked.as_ref().filter(|_| !self.forgot) {
            let text = format!("{to} gets what nobody sent");
            rulings.broken(unasked, by, at, text, "what somebody sent", actual(value));
        }
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let limit = self.rule.within + self.scope.slack;
        let mut next = None;
        for said in self.said.iter_mut().filter(|said| !said.overdue) {
            if now.since(said.at) <= limit {
                next = Some(said.at + limit + Duration::from_nanos(1));
                break;
            }
            said.overdue = true;
            let Some(link) = said.waiting.first() else { continue };
            let name = self.members.get(link).map_or("a client", |member| member.party.name.as_str());
            let text = match said.waiting.len() {
                1 => format!("it does not reach {name}"),
                more => format!("it does not reach {name} and {} more", more - 1),
            };
            let expected = format!("{} within {:?}", pattern_text(&self.rule.arrives), self.rule.within);
            rulings.broken(self.scope.id(), &said.relay, now, text, expected, said.what.clone());
        }
        while self.said.front().is_some_and(|said| said.overdue && now.since(said.at) > limit + REMEMBERED) {
            // A copy that comes after all was told as one that does not come.
            self.forgot |= self.said.pop_front().is_some_and(|said| !said.waiting.is_empty());
        }
        self.next = next;
    }
}

/// True when two sets of variables say the same of those that both have.
fn agree(a: &Bindings, b: &Bindings) -> bool {
    a.iter().all(|(name, bound)| b.get(name).is_none_or(|other| other == bound))
}

impl Monitor for Passing {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        self.overdue(seen.at, rulings);
        if matches!(seen.what, What::Closed) {
            self.members.remove(&seen.link);
        }
        if is_over(&seen.what) {
            if let Some(member) = self.members.get_mut(&seen.link) {
                member.reads = false;
            }
            for said in &mut self.said {
                if said.waiting.remove(&seen.link) {
                    said.may.insert(seen.link);
                }
                // Whether it was read before the sender left is not known.
                if said.sender == seen.link {
                    let waiting = std::mem::take(&mut said.waiting);
                    said.may.extend(waiting);
                }
            }
            return;
        }
        if let What::Opened { .. } = seen.what
            && self.scope.between(seen.from, seen.to)
        {
            let (party, relay) = (seen.from.clone(), seen.to.name.clone());
            let (since, reads) = (seen.at, true);
            let member = Member { party, relay, since, joined: Vec::new(), left: Vec::new(), reads };
            self.members.insert(seen.link, member);
        }
        let Some(value) = message(seen) else { return };
        if self.scope.between(seen.to, seen.from) {
            self.arrives(seen, value, rulings);
        }
        if let Some((value, bindings)) = self.scope.takes(seen) {
            self.says(seen, value, bindings);
        }
        self.moves(seen, value);
    }

    fn deadline(&self) -> Option<Time> {
        self.next
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }
}
