//! Each message of one kind is answered by the other end with one of another kind, once, and in time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{Scope, is_over, message};
use crate::flow::ast::Pattern;
use crate::flow::format::pattern_text;
use crate::judge::schema::actual;
use crate::monitor::{Monitor, Party, Rulings, Seen, What};
use crate::pattern::{Bindings, fits};

/// Answered questions that are remembered on a link, to know a second answer.
const REMEMBERED: usize = 256;

struct Asked {
    at: Time,
    /// What the variables of the question stand for.
    bindings: Bindings,
    question: Value,
    /// That no answer came was told.
    overdue: bool,
}

/// What one end of a link was asked.
struct Ear {
    party: Party,
    open: VecDeque<Asked>,
    answered: VecDeque<Bindings>,
    /// Not every answered question is remembered, or something was said that may be answered in any way.
    unsure: bool,
}

pub(super) struct Answered {
    scope: Scope,
    answer: Pattern,
    within: Option<Duration>,
    twice: Option<String>,
    unasked: Option<String>,
    ears: BTreeMap<(LinkId, String), Ear>,
    /// Nothing is overdue before this.
    next: Option<Time>,
}

impl Answered {
    pub(super) fn new(
        scope: Scope,
        answer: Pattern,
        within: Option<Duration>,
        twice: Option<String>,
        unasked: Option<String>,
    ) -> Self {
        Answered { scope, answer, within, twice, unasked, ears: BTreeMap::new(), next: None }
    }

    fn ear(&mut self, link: LinkId, party: &Party) -> &mut Ear {
        let fresh =
            || Ear { party: party.clone(), open: VecDeque::new(), answered: VecDeque::new(), unsure: false };
        self.ears.entry((link, party.name.clone())).or_insert_with(fresh)
    }

    /// The time after which an answer to something asked at `at` is too late.
    fn limit(&self, at: Time) -> Option<Time> {
        self.within.map(|within| at + within + self.scope.slack + Duration::from_nanos(1))
    }

    /// Something that the party which is asked says.
    fn said(&mut self, seen: &Seen<'_>, value: &Value, rulings: &mut Rulings) {
        let Some(ear) = self.ears.get_mut(&(seen.link, seen.from.name.clone())) else {
            if let Some(unasked) = &self.unasked
                && self.scope.fits(&self.answer, value)
            {
                let text = "an answer, and nothing was asked";
                rulings.broken(unasked, seen.from, seen.at, text, "no answer", actual(value));
            }
            return;
        };
        let answers = |bindings: &Bindings| fits(&self.answer, value, bindings).is_some();
        if let Some(place) = ear.open.iter().position(|asked| answers(&asked.bindings)) {
            let Some(asked) = ear.open.remove(place) else { return };
            let took = seen.at.since(asked.at);
            match self.within.filter(|within| took > *within + self.scope.slack) {
                Some(_) if asked.overdue => {}
                Some(within) => {
                    let text = format!("the answer came after {took:?}");
                    let expected = format!("an answer within {within:?}");
                    rulings.broken(self.scope.id(), seen.from, seen.at, text, expected, actual(value));
                }
                None => {
                    rulings.kept(self.scope.id(), seen.from, seen.at);
                    let others = self.twice.iter().chain(&self.unasked);
                    others.for_each(|id| rulings.kept(id, seen.from, seen.at));
                }
            }
            ear.answered.push_back(asked.bindings);
            if ear.answered.len() > REMEMBERED {
                ear.answered.pop_front();
                ear.unsure = true;
            }
        } else if ear.answered.iter().any(answers) {
            if let Some(twice) = &self.twice {
                let text = "this was answered before";
                rulings.broken(twice, seen.from, seen.at, text, "one answer", actual(value));
            }
        } else if let Some(unasked) = self.unasked.as_ref().filter(|_| !ear.unsure)
            && answers(&self.scope.base)
        {
            let text = "an answer to something that nobody asked";
            rulings.broken(unasked, seen.from, seen.at, text, "an answer to what was asked", actual(value));
        }
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let Some(within) = self.within.filter(|_| self.next.is_some_and(|next| next <= now)) else { return };
        let limit = within + self.scope.slack;
        let mut next = None;
        for ear in self.ears.values_mut() {
            for asked in ear.open.iter_mut().filter(|asked| !asked.overdue) {
                if now.since(asked.at) <= limit {
                    let then = asked.at + limit + Duration::from_nanos(1);
                    next = Some(next.map_or(then, |next: Time| next.min(then)));
                    break;
                }
                asked.overdue = true;
                let text = format!("{} is not answered", self.scope.subject());
                let expected = format!("{} within {within:?}", pattern_text(&self.answer));
                rulings.broken(self.scope.id(), &ear.party, now, text, expected, asked.question.clone());
            }
        }
        self.next = next;
    }
}

impl Monitor for Answered {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        self.overdue(seen.at, rulings);
        if is_over(&seen.what) {
            if matches!(seen.what, What::Closed) {
                self.ears.retain(|(link, _), _| *link != seen.link);
            }
            // Whoever leaves, or is left, owes nothing any more; nor does one who was sent nonsense.
            for ((link, _), ear) in &mut self.ears {
                if *link == seen.link {
                    ear.open.clear();
                    ear.unsure = true;
                }
            }
            return;
        }
        let asks = self.scope.between(seen.from, seen.to);
        let Some(value) = message(seen) else {
            if asks && matches!(seen.what, What::Text { .. } | What::Binary(_)) {
                self.ear(seen.link, seen.to).unsure = true;
            }
            return;
        };
        // The same message may answer one question and ask another.
        if self.scope.between(seen.to, seen.from) {
            self.said(seen, value, rulings);
        }
        if let Some((value, bindings)) = self.scope.takes(seen) {
            let asked = Asked { at: seen.at, bindings, question: actual(value), overdue: false };
            self.ear(seen.link, seen.to).open.push_back(asked);
            let limit = self.limit(seen.at);
            self.next = self.next.or(limit);
        }
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
