//! Rules over one field: it counts, it stays, it is unique.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{Among, Scope};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, Rulings, Seen, What};
use crate::pattern::json;

/// A series is one sender's on one link.
type Series = (LinkId, String);

fn series(seen: &Seen<'_>) -> Series {
    (seen.link, seen.from.name.clone())
}

/// A whole number, however it is written.
fn integer(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let found = number.as_f64()?;
        (found.fract() == 0.0 && found.abs() <= 9_007_199_254_740_992.0).then_some(found as i64)
    })
}

/// A value as a key: numbers that are the same number are the same key.
fn key(value: &Value) -> String {
    integer(value).map_or_else(|| value.to_string(), |number| number.to_string())
}

pub(super) struct Counts {
    scope: Scope,
    field: String,
    first: Option<i64>,
    by: i64,
    last: BTreeMap<Series, i64>,
}

impl Counts {
    pub(super) fn new(scope: Scope, field: String, first: Option<i64>, by: i64) -> Self {
        Counts { scope, field, first, by, last: BTreeMap::new() }
    }
}

impl Monitor for Counts {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if matches!(seen.what, What::Closed) {
            self.last.retain(|(link, _), _| *link != seen.link);
        }
        let Some((value, _)) = self.scope.takes(seen) else { return };
        // What is no number is for the schema to judge.
        let Some(number) = value.pointer(&self.field).and_then(integer) else { return };
        let last = self.last.insert(series(seen), number);
        let expected = last.map_or(self.first, |last| Some(last.saturating_add(self.by)));
        match expected {
            Some(expected) if expected != number => {
                let text = match last {
                    Some(last) => format!("`{}` is {number} after {last}", self.field),
                    None => format!("`{}` begins with {number}", self.field),
                };
                rulings.broken(
                    self.scope.id(),
                    seen.from,
                    seen.at,
                    text,
                    expected.to_string(),
                    actual(value),
                );
            }
            Some(_) => rulings.kept(self.scope.id(), seen.from, seen.at),
            None => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}

pub(super) struct Stays {
    scope: Scope,
    field: String,
    first: BTreeMap<Series, Value>,
}

impl Stays {
    pub(super) fn new(scope: Scope, field: String) -> Self {
        Stays { scope, field, first: BTreeMap::new() }
    }
}

impl Monitor for Stays {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if matches!(seen.what, What::Closed) {
            self.first.retain(|(link, _), _| *link != seen.link);
        }
        let Some((value, _)) = self.scope.takes(seen) else { return };
        let Some(found) = value.pointer(&self.field) else { return };
        match self.first.get(&series(seen)) {
            None => drop(self.first.insert(series(seen), found.clone())),
            Some(first) if json::same(first, found) => rulings.kept(self.scope.id(), seen.from, seen.at),
            Some(first) => {
                let text = format!("`{}` has changed on this connection", self.field);
                let expected = format!("{}, as before", json::short(first, 200));
                rulings.broken(self.scope.id(), seen.from, seen.at, text, expected, actual(value));
            }
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}

pub(super) struct Unique {
    scope: Scope,
    field: String,
    among: Among,
    used: BTreeMap<Series, BTreeSet<String>>,
}

impl Unique {
    pub(super) fn new(scope: Scope, field: String, among: Among) -> Self {
        Unique { scope, field, among, used: BTreeMap::new() }
    }
}

impl Monitor for Unique {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if matches!(seen.what, What::Closed) && self.among != Among::Everything {
            self.used.retain(|(link, _), _| *link != seen.link);
        }
        let Some((value, _)) = self.scope.takes(seen) else { return };
        let Some(found) = value.pointer(&self.field) else { return };
        let (mine, key) = (series(seen), key(found));
        let holds = |used: &BTreeSet<String>| used.contains(&key);
        let taken = match self.among {
            Among::Connection => self.used.get(&mine).is_some_and(holds),
            Among::Connections => {
                self.used.iter().any(|(other, used)| other.0 != mine.0 && used.contains(&key))
            }
            Among::Everything => self.used.values().any(holds),
        };
        self.used.entry(mine).or_default().insert(key);
        if taken {
            let place = match self.among {
                Among::Connection => "on this connection",
                Among::Connections => "on another connection that is open",
                Among::Everything => "before",
            };
            let text = format!("`{}` is {}, as {place}", self.field, json::short(found, 200));
            rulings.broken(self.scope.id(), seen.from, seen.at, text, "a value of its own", actual(value));
        } else {
            rulings.kept(self.scope.id(), seen.from, seen.at);
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
