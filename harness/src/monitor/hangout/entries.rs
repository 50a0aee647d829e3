//! Whose entry a write changes: what one client wrote never turns up in the entry of another, who said nothing of the
//! kind.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{packet, sides};
use crate::monitor::{Monitor, Rulings, Seen, What};

/// Texts that are remembered of one client.
const SAID: usize = 4000;
/// How deep a message is looked into.
const DEPTH: usize = 8;
/// Shorter names and values may come from anywhere.
const SHORTEST: usize = 2;

/// One client's connection.
#[derive(Default)]
struct Link {
    token: Option<String>,
    /// Whose entry is whose is not certain.
    confused: bool,
    open: bool,
    /// Every text that it said, as a name or as a value, in small letters; none when not everything could be read.
    said: Option<HashSet<String>>,
    /// What it said under which name.
    values: HashSet<(String, String)>,
    /// Its entry was shown, and these names in it.
    shown: Option<BTreeSet<String>>,
}

/// Watches the entries of the table.
pub(super) struct Entries {
    links: BTreeMap<LinkId, Link>,
}

impl Entries {
    pub(super) fn new() -> Entries {
        Entries { links: BTreeMap::new() }
    }

    fn client_said(&mut self, link: LinkId, what: &What<'_>) {
        let Some(link) = self.links.get_mut(&link) else { return };
        let What::Text { json: Ok(whole), .. } = what else {
            link.said = None;
            return;
        };
        let mut readable = true;
        if let Some(said) = &mut link.said {
            pairs(whole, DEPTH, &mut link.values);
            readable = texts(whole, DEPTH, said) && said.len() <= SAID && link.values.len() <= SAID;
        }
        if !readable {
            link.said = None;
        }
    }

    fn metadata(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let Some(body) = whole.get("metadata") else { return };
        if let Some(index) = body.get("index").and_then(Value::as_str) {
            self.token(seen.link, index);
        }
        let Some(entries) = body.get("properties").and_then(Value::as_object) else { return };
        let mut strange = Vec::new();
        for (id, link) in self.links.iter().filter(|(_, link)| link.open && !link.confused) {
            let Some(token) = &link.token else { continue };
            let Some(entry) = entries.get(token).and_then(Value::as_object) else { continue };
            // A name that was there from the beginning the server gave it itself.
            let (Some(shown), Some(said)) = (&link.shown, &link.said) else { continue };
            let by_another = |pair: &(String, String)| {
                self.links.iter().any(|(other, link)| other != id && link.values.contains(pair))
            };
            let new = entry.iter().filter(|(name, _)| !shown.contains(*name) && name.len() >= SHORTEST);
            let foreign = new.into_iter().find_map(|(name, value)| {
                let value = value.as_str().filter(|value| value.len() >= SHORTEST)?;
                let small = name.trim().to_lowercase();
                let own = said.iter().any(|text| text.contains(&small));
                let pair = (name.clone(), value.to_owned());
                (!own && by_another(&pair)).then_some(pair)
            });
            strange.extend(foreign.map(|(name, _)| (token.clone(), name)));
        }
        match strange.first() {
            Some((token, name)) => rulings.broken(
                "HANGOUT-PROP-3",
                seen.from,
                seen.at,
                format!("{name:?} stands in the entry of {token}, who never wrote it; another did"),
                "a write changes the entry of its sender alone",
                whole.clone(),
            ),
            None if self.links.values().any(|link| !link.values.is_empty()) && entries.len() > 1 => {
                rulings.kept("HANGOUT-PROP-3", seen.from, seen.at);
            }
            None => {}
        }
        for link in self.links.values_mut() {
            let entry = link.token.as_ref().and_then(|token| entries.get(token)).and_then(Value::as_object);
            if let Some(entry) = entry {
                link.shown.get_or_insert_default().extend(entry.keys().cloned());
            }
        }
    }

    /// A client is told its token.
    fn token(&mut self, reader: LinkId, index: &str) {
        let shared =
            self.links.iter().any(|(id, link)| *id != reader && link.token.as_deref() == Some(index));
        if shared {
            let same = self.links.values_mut().filter(|link| link.token.as_deref() == Some(index));
            same.for_each(|link| link.confused = true);
        }
        let Some(link) = self.links.get_mut(&reader) else { return };
        link.confused |= shared || link.token.as_ref().is_some_and(|known| known != index);
        link.token.get_or_insert_with(|| index.to_owned());
    }

    fn ended(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.open = false;
        }
    }
}

/// Every text in a value, in small letters; false when it is too deep to be read.
fn texts(value: &Value, depth: usize, found: &mut HashSet<String>) -> bool {
    match value {
        Value::String(text) => {
            found.insert(text.to_lowercase());
            true
        }
        Value::Array(items) => depth > 0 && items.iter().all(|item| texts(item, depth - 1, found)),
        Value::Object(members) => {
            found.extend(members.keys().map(|name| name.to_lowercase()));
            depth > 0 && members.values().all(|value| texts(value, depth - 1, found))
        }
        _ => true,
    }
}

/// Every name in a value with the text that it has.
fn pairs(value: &Value, depth: usize, found: &mut HashSet<(String, String)>) {
    match value {
        Value::Array(items) if depth > 0 => items.iter().for_each(|item| pairs(item, depth - 1, found)),
        Value::Object(members) if depth > 0 => {
            for (name, value) in members {
                match value {
                    Value::String(text) => drop(found.insert((name.clone(), text.clone()))),
                    value => pairs(value, depth - 1, found),
                }
            }
        }
        _ => {}
    }
}

impl Monitor for Entries {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, _, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Opened { .. } => {
                let link = Link { open: true, said: Some(HashSet::new()), ..Link::default() };
                self.links.insert(seen.link, link);
            }
            What::Closing { .. } | What::Closed => self.ended(seen.link),
            what if from_server => {
                let open = self.links.get(&seen.link).is_some_and(|link| link.open);
                if let Some(packet) = packet(what).filter(|packet| open && packet.from == "server")
                    && packet.kind == "metadata"
                {
                    self.metadata(seen, packet.whole, rulings);
                }
            }
            what @ (What::Text { .. } | What::Binary(_) | What::Raw(_)) => self.client_said(seen.link, what),
            _ => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
