//! What a peer knows: records in stores, and how two versions of a record become one (sections 2.2 and 3.4).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Number, Value, json};

use super::message::{PeerId, StoreKey, SyncType, record_id, timestamp};

/// One change of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// When.
    pub timestamp: Number,
    /// What became of its data.
    pub data: Value,
}

/// A record without its id, which is the key it is stored under.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it was made.
    pub created: Option<Number>,
    /// When it was last changed.
    pub updated: Number,
    /// It is a tombstone.
    pub deleted: bool,
    /// It was changed here and nobody has heard of it yet.
    pub dirty: bool,
    /// What it is about.
    pub data: Map<String, Value>,
    /// Its history.
    pub deltas: Vec<Delta>,
}

impl Record {
    /// A record made at `now`.
    pub fn new(now: u64, data: Map<String, Value>) -> Record {
        Record {
            created: Some(now.into()),
            updated: now.into(),
            deleted: false,
            dirty: false,
            data,
            deltas: Vec::new(),
        }
    }

    /// Reads a record and its id.
    pub fn from_value(value: &Value) -> Option<(String, Record)> {
        let whole = value.as_object()?;
        let id = record_id(whole.get("_id")?)?;
        let created = match whole.get("created") {
            Some(Value::Number(number)) => Some(number.clone()),
            _ => None,
        };
        let deleted = match whole.get("deleted") {
            Some(Value::Bool(deleted)) => *deleted,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        let deltas = whole.get("deltas").and_then(Value::as_array);
        let deltas =
            deltas.map(|deltas| deltas.iter().filter_map(Delta::from_value).collect()).unwrap_or_default();
        let data = whole.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
        let updated = timestamp(whole.get("updated"));
        Some((id, Record { created, updated, deleted, dirty: false, data, deltas }))
    }

    /// The record as it is sent.
    pub fn to_value(&self, id: &str) -> Value {
        let mut whole = Map::new();
        whole.insert("_id".to_owned(), Value::from(id));
        let created = self.created.clone().unwrap_or_else(|| self.updated.clone());
        whole.insert("created".to_owned(), Value::Number(created));
        whole.insert("updated".to_owned(), Value::Number(self.updated.clone()));
        whole.insert("deleted".to_owned(), Value::Bool(self.deleted));
        whole.insert("status".to_owned(), Value::from("clean"));
        whole.insert("data".to_owned(), Value::Object(self.data.clone()));
        if !self.deltas.is_empty() {
            let deltas =
                self.deltas.iter().map(|delta| json!({ "timestamp": delta.timestamp, "data": delta.data }));
            whole.insert("deltas".to_owned(), deltas.collect());
        }
        Value::Object(whole)
    }

    /// The record as an entry of a list.
    pub fn to_entry(&self, id: &str) -> Value {
        let status = if self.dirty { "dirty" } else { "clean" };
        json!({ "_id": id, "timestamp": self.updated, "deleted": self.deleted, "status": status })
    }

    /// Takes over what another version knows: the newer one whole, of the history all, the smaller `created`.
    fn merge(&mut self, other: Record, rules: MergeRules) {
        let newer = match rules.wins {
            Wins::Newer => compare(&other.updated, &self.updated) == Ordering::Greater,
            Wins::Last => true,
            Wins::First => false,
        };
        if rules.deltas {
            for delta in other.deltas {
                if !self
                    .deltas
                    .iter()
                    .any(|known| compare(&known.timestamp, &delta.timestamp) == Ordering::Equal)
                {
                    self.deltas.push(delta);
                }
            }
            self.deltas.sort_by(|a, b| compare(&a.timestamp, &b.timestamp));
        } else if newer {
            self.deltas = other.deltas;
        }
        self.created = match (self.created.take(), other.created) {
            (Some(mine), Some(theirs)) => {
                Some(if compare(&theirs, &mine) == Ordering::Less { theirs } else { mine })
            }
            (mine, theirs) => mine.or(theirs),
        };
        if newer {
            self.updated = other.updated;
            self.deleted = other.deleted;
            self.data = other.data;
            self.dirty = other.dirty;
        }
    }
}

impl Delta {
    fn from_value(value: &Value) -> Option<Delta> {
        let whole = value.as_object()?;
        let data = whole.get("data").cloned().unwrap_or_else(|| json!({}));
        // What has not the form of a change is none, and is not told to others.
        if !data.is_object() {
            return None;
        }
        Some(Delta { timestamp: timestamp(Some(whole.get("timestamp")?)), data })
    }
}

/// Orders timestamps; whole numbers exactly, others as doubles.
pub(super) fn compare(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// Which version of a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wins {
    First,
    Last,
    Newer,
}

/// How versions are merged; anything but the newer with all deltas is a planted fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct MergeRules {
    pub(super) wins: Wins,
    pub(super) deltas: bool,
}

/// All records of a peer, by store and id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stores {
    stores: BTreeMap<StoreKey, BTreeMap<String, Record>>,
}

impl Stores {
    /// A record.
    pub fn get(&self, store: &StoreKey, id: &str) -> Option<&Record> {
        self.stores.get(store)?.get(id)
    }

    /// The records of a store, by id.
    pub fn records<'s>(
        &'s self,
        store: &StoreKey,
    ) -> impl Iterator<Item = (&'s String, &'s Record)> + use<'s> {
        self.stores.get(store).into_iter().flatten()
    }

    /// Every record with its store.
    pub fn iter(&self) -> impl Iterator<Item = (&StoreKey, &String, &Record)> {
        self.stores
            .iter()
            .flat_map(|(store, records)| records.iter().map(move |(id, record)| (store, id, record)))
    }

    /// The projects that have a record which is not deleted.
    pub fn projects(&self) -> Vec<String> {
        let records = self.records(&StoreKey::herd(SyncType::Projects));
        records.filter(|(_, record)| !record.deleted).map(|(id, _)| id.clone()).collect()
    }

    /// The peer that answers lists (section 3.3): of the family, not deleted, the oldest; of two the smaller id.
    pub fn alpha(&self) -> Option<PeerId> {
        self.oldest(|record| {
            !record.deleted && record.data.get("family").and_then(Value::as_str) == Some("alpha")
        })
    }

    /// The oldest of the peers whose record fits.
    pub(super) fn oldest(&self, fits: impl Fn(&Record) -> bool) -> Option<PeerId> {
        let peers = self.records(&StoreKey::herd(SyncType::Peers));
        let known = peers.filter(|(_, record)| fits(record)).filter_map(|(id, record)| {
            let created = record.created.as_ref().and_then(Number::as_f64).unwrap_or(f64::INFINITY);
            PeerId::from_value(&Value::from(id.as_str())).map(|id| (created, id))
        });
        let oldest = known.min_by(|(created, id), (other_created, other)| {
            created.total_cmp(other_created).then_with(|| id.rank().cmp(&other.rank()))
        });
        oldest.map(|(_, id)| id)
    }

    pub(super) fn get_mut(&mut self, store: &StoreKey, id: &str) -> Option<&mut Record> {
        self.stores.get_mut(store)?.get_mut(id)
    }

    pub(super) fn put(&mut self, store: &StoreKey, id: &str, record: Record) {
        self.stores.entry(store.clone()).or_default().insert(id.to_owned(), record);
    }

    pub(super) fn remove(&mut self, store: &StoreKey, id: &str) {
        if let Some(records) = self.stores.get_mut(store) {
            records.remove(id);
        }
    }

    /// Merges a version; true when the record was not known.
    pub(super) fn merge(&mut self, store: &StoreKey, id: &str, record: Record, rules: MergeRules) -> bool {
        match self.get_mut(store, id) {
            Some(known) => {
                known.merge(record, rules);
                false
            }
            None => {
                self.put(store, id, record);
                true
            }
        }
    }

    /// Forgets a whole store.
    pub(super) fn clear(&mut self, store: &StoreKey) {
        self.stores.remove(store);
    }

    /// Forgets every store that fits.
    pub(super) fn clear_where(&mut self, fits: impl Fn(&StoreKey) -> bool) {
        self.stores.retain(|store, _| !fits(store));
    }
}
