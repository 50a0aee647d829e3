//! Messages that come again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{Scope, is_over};
use crate::monitor::{Monitor, Party, Rulings, Seen};

struct Beat {
    by: Party,
    last: Time,
    /// A gap that is too long was told.
    told: bool,
}

pub(super) struct Every {
    scope: Scope,
    shortest: Duration,
    longest: Duration,
    beats: BTreeMap<(LinkId, String), Beat>,
}

impl Every {
    pub(super) fn new(scope: Scope, shortest: Duration, longest: Duration) -> Self {
        Every { scope, shortest, longest, beats: BTreeMap::new() }
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let limit = self.longest + self.scope.slack;
        for beat in self.beats.values_mut().filter(|beat| !beat.told && now.since(beat.last) > limit) {
            beat.told = true;
            let text = format!("{} has not come again", self.scope.subject());
            let expected = format!("one within {:?} of the last", self.longest);
            rulings.broken(self.scope.id(), &beat.by, now, text, expected, Value::Null);
        }
    }
}

impl Monitor for Every {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if is_over(&seen.what) {
            self.beats.retain(|(link, _), _| *link != seen.link);
            return;
        }
        let Some((value, _)) = self.scope.takes(seen) else { return };
        let key = (seen.link, seen.from.name.clone());
        let fresh = Beat { by: seen.from.clone(), last: seen.at, told: false };
        let Some(beat) = self.beats.insert(key, fresh) else { return };
        let gap = seen.at.since(beat.last);
        if gap + self.scope.slack < self.shortest {
            let text = format!("{} comes again after {gap:?}", self.scope.subject());
            let expected = format!("no sooner than {:?}", self.shortest);
            let found = crate::judge::schema::actual(value);
            rulings.broken(self.scope.id(), seen.from, seen.at, text, expected, found);
        } else if gap <= self.longest + self.scope.slack {
            rulings.kept(self.scope.id(), seen.from, seen.at);
        } else if !beat.told {
            let text = format!("{} comes again only after {gap:?}", self.scope.subject());
            let expected = format!("one within {:?} of the last", self.longest);
            rulings.broken(self.scope.id(), seen.from, seen.at, text, expected, Value::Null);
        }
    }

    fn deadline(&self) -> Option<Time> {
        let limit = self.longest + self.scope.slack + Duration::from_nanos(1);
        self.beats.values().filter(|beat| !beat.told).map(|beat| beat.last + limit).min()
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }
}
