//! Rules over what comes first, what comes only afterwards, and what never comes.

use std::collections::BTreeSet;

use flowproof_reference::machine::{LinkId, Time};

use super::{Scope, message};
use crate::flow::ast::Pattern;
use crate::flow::format::pattern_text;
use crate::judge::schema::actual;
use crate::monitor::{Monitor, Rulings, Seen, What};

pub(super) struct First {
    scope: Scope,
    first: Pattern,
    /// Links on which the sender has said something.
    begun: BTreeSet<LinkId>,
}

impl First {
    pub(super) fn new(scope: Scope, first: Pattern) -> Self {
        First { scope, first, begun: BTreeSet::new() }
    }
}

impl Monitor for First {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        match &seen.what {
            What::Closed => drop(self.begun.remove(&seen.link)),
            What::Text { json, .. }
                if self.scope.between(seen.from, seen.to) && self.begun.insert(seen.link) =>
            {
                // What is no JSON is for another judge, but it was first all the same.
                let Ok(value) = json else { return };
                if self.scope.fits(&self.first, value) {
                    rulings.kept(self.scope.id(), seen.from, seen.at);
                } else {
                    let text =
                        format!("the first message of {} on this connection is another", seen.from.name);
                    let expected = pattern_text(&self.first);
                    rulings.broken(self.scope.id(), seen.from, seen.at, text, expected, actual(value));
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}

pub(super) struct After {
    scope: Scope,
    after: Pattern,
    of: Option<String>,
    /// Links on which it was seen.
    ready: BTreeSet<LinkId>,
}

impl After {
    pub(super) fn new(scope: Scope, after: Pattern, of: Option<String>) -> Self {
        After { scope, after, of, ready: BTreeSet::new() }
    }
}

impl Monitor for After {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if matches!(seen.what, What::Closed) {
            self.ready.remove(&seen.link);
        }
        let Some(value) = message(seen) else { return };
        if self.scope.takes(seen).is_some() {
            if self.ready.contains(&seen.link) {
                rulings.kept(self.scope.id(), seen.from, seen.at);
            } else {
                let text = format!("{} comes too early", self.scope.subject());
                let expected = format!("first {}", pattern_text(&self.after));
                rulings.broken(self.scope.id(), seen.from, seen.at, text, expected, actual(value));
            }
        }
        if self.scope.plays(seen.from, self.of.as_ref()) && self.scope.fits(&self.after, value) {
            self.ready.insert(seen.link);
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}

pub(super) struct Never {
    scope: Scope,
    among: Option<Pattern>,
}

impl Never {
    pub(super) fn new(scope: Scope, among: Option<Pattern>) -> Self {
        Never { scope, among }
    }
}

impl Monitor for Never {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(value) = message(seen).filter(|_| self.scope.between(seen.from, seen.to)) else { return };
        if !self.among.as_ref().is_none_or(|among| self.scope.fits(among, value)) {
            return;
        }
        if self.scope.takes(seen).is_some() {
            let text = format!("{} is never sent here", self.scope.subject());
            rulings.broken(self.scope.id(), seen.from, seen.at, text, "no such message", actual(value));
        } else {
            rulings.kept(self.scope.id(), seen.from, seen.at);
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
