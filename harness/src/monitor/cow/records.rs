//! The records that a peer was given, and what must be in its stores for it.

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::{Store, is_deleted, record_id, store, timestamp};

/// What was given so shortly before a connection ended may never have been read.
const READ: Duration = Duration::from_millis(300);

/// One version of a record.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) updated: f64,
    pub(super) deleted: bool,
    /// When it was given, or said by the peer itself.
    pub(super) at: Time,
    /// It carries a history, which peers may merge and tell.
    pub(super) deltas: bool,
    /// Its place among all versions; none when it may never have been read.
    place: Option<usize>,
}

/// Everything that a peer was given or has said of its own, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Given {
    versions: BTreeMap<Store, BTreeMap<String, Vec<Version>>>,
    count: usize,
}

impl Given {
    /// A record went to the peer, or came from it.
    pub(super) fn add(&mut self, store: &Store, record: &Value, at: Time) {
        let Some(id) = record_id(record.get("_id")) else { return };
        let version = Version {
            updated: timestamp(record.get("updated")),
            deleted: is_deleted(record),
            at,
            deltas: record.get("deltas").and_then(Value::as_array).is_some_and(|deltas| !deltas.is_empty()),
            place: Some(self.count),
        };
        self.count += 1;
        self.versions.entry(store.clone()).or_default().entry(id).or_default().push(version);
    }

    /// The records of a message; `missing` when they are for one peer alone.
    pub(super) fn add_message(&mut self, action: &str, payload: &Value, at: Time) {
        let Some(store) = store(payload) else { return };
        if let Some(record) = payload.get("record").filter(|_| action == "updatedRecord") {
            self.add(&store, record, at);
        }
        let member = match action {
            "missingItems" => "items",
            "missingRecords" | "requestedRecords" => "list",
            _ => return,
        };
        for record in payload.get(member).and_then(Value::as_array).into_iter().flatten() {
            self.add(&store, record, at);
        }
    }

    /// The peer was told to forget things: nothing is certain about what came before.
    pub(super) fn forget(&mut self) {
        self.versions.clear();
    }

    /// A connection ended: what was given shortly before may never have been read.
    pub(super) fn ended(&mut self, at: Time) {
        let versions = self.versions.values_mut().flat_map(BTreeMap::values_mut).flatten();
        for version in versions.filter(|version| version.at + READ > at) {
            version.place = None;
        }
    }

    /// How many versions were given so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// When a record was last changed as the peer knows it, in answer to what came when so many versions were given.
    /// Nobody knows which of several was kept, nor whether one was there that came later.
    pub(super) fn certain_of(&self, store: &Store, id: &str, count: usize) -> Option<f64> {
        let versions = self.of(store, id);
        let first = versions.first()?.updated;
        let same = versions.iter().all(|version| version.updated == first);
        let before = versions.iter().any(|version| version.place.is_some_and(|place| place < count));
        (same && before).then_some(first)
    }

    /// Who is there is forgotten when a connection ends (section 2.2).
    pub(super) fn forget_peers(&mut self) {
        self.versions.remove(&("peers".to_owned(), None));
    }

    /// The versions of a record.
    pub(super) fn of(&self, store: &Store, id: &str) -> &[Version] {
        self.versions.get(store).and_then(|records| records.get(id)).map_or(&[], Vec::as_slice)
    }

    /// The records that must be in a store by now: given in time before `end`, alive in their last version, and of a
    /// project that was given too.
    pub(super) fn certain(&self, store: &Store, end: Time) -> Vec<&String> {
        if let Some(project) = &store.1 {
            let known = self.of(&("projects".to_owned(), None), project);
            if !known.iter().any(|version| !version.deleted && version.at + READ <= end) {
                return Vec::new();
            }
        }
        let records = self.versions.get(store).into_iter().flatten();
        let certain = records.filter(|(_, versions)| {
            versions.iter().all(|version| !version.deleted && version.at + READ <= end)
        });
        certain.map(|(id, _)| id).collect()
    }
}
