//! The alpha's duty: to compare the list of another with its own store, and to say what is missing on either side
//! (section 3.3).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Number, Value, json};

use super::super::config::{Edition, Fault};
use super::super::message::{ListEntry, PeerId, StoreKey, SyncType, about};
use super::super::state::{Record, compare};
use super::{Peer, PeerEvent};
use crate::machine::Outbox;

/// What came of comparing two lists: ids, in the order of the alphabet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Comparison {
    send: Vec<String>,
    want: Vec<String>,
}

impl Peer {
    pub(super) fn is_alpha(&mut self, own: &PeerId) -> bool {
        if self.has(Fault::AnswersAlways) {
            return true;
        }
        let alpha = if self.has(Fault::IgnoresFamily) {
            self.stores.oldest(|record| !record.deleted)
        } else {
            self.stores.alpha()
        };
        let mine = alpha.as_ref() == Some(own);
        self.saw_other_alpha |= alpha.is_some() && !mine;
        mine && !(self.saw_other_alpha && self.has(Fault::NeverTakesOver))
    }

    pub(super) fn answer_list(
        &mut self,
        asker: &PeerId,
        store: &StoreKey,
        project: Option<&Value>,
        list: &[ListEntry],
        out: &mut Outbox<PeerEvent>,
    ) {
        if self.has(Fault::CreatesProjects)
            && let Some(project) = &store.project
        {
            let projects = StoreKey::herd(SyncType::Projects);
            if self.stores.get(&projects, project).is_none() {
                self.stores.put(&projects, project, Record::new(1, Map::new()));
            }
        }
        let held = self.held(store);
        let Comparison { send, want } = self.compare_lists(&held, list);
        let asker = match &self.latest {
            Some(latest) if self.has(Fault::SwapsAskers) => latest.clone(),
            _ => asker.clone(),
        };
        let target = Some(asker.to_value());
        let mut info = about(store, project);
        info.insert("syncinfo".to_owned(), json!({ "IWillSent": send, "IShallReceive": want }));
        if !self.has(Fault::SyncinfoLast) {
            self.say(target.clone(), "syncinfo", info.clone(), out);
        }
        if !want.is_empty() || self.has(Fault::SendsEmptyLists) {
            let mut payload = about(store, project);
            payload.insert("list".to_owned(), json!(want));
            self.say(target.clone(), "wantedList", payload, out);
        }
        if !send.is_empty() || self.has(Fault::SendsEmptyLists) {
            let records: Vec<Value> = send
                .iter()
                .filter_map(|id| self.stores.get(&held, id).map(|record| record.to_value(id)))
                .collect();
            let (action, member) = match self.config.edition {
                Edition::Seed => ("missingItems", "items"),
                Edition::Cow2 => ("missingRecords", "list"),
            };
            let mut payload = about(store, project);
            payload.insert(member.to_owned(), Value::Array(records));
            self.say(target.clone(), action, payload, out);
        }
        if self.has(Fault::SyncinfoLast) {
            self.say(target, "syncinfo", info, out);
        }
    }

    /// The table of section 3.3 over the union of both lists.
    fn compare_lists(&self, held: &StoreKey, list: &[ListEntry]) -> Comparison {
        let mut theirs: BTreeMap<&str, &Number> = BTreeMap::new();
        for entry in list {
            let latest = theirs.entry(&entry.id).or_insert(&entry.timestamp);
            if compare(&entry.timestamp, latest) == Ordering::Greater {
                *latest = &entry.timestamp;
            }
        }
        let mut comparison = Comparison::default();
        for (id, record) in self.stores.records(held) {
            match theirs.get(id.as_str()) {
                None if record.deleted => {
                    // The programs of edition cow2 send them (section 8).
                    if self.config.edition == Edition::Cow2 {
                        comparison.send.push(id.clone());
                    }
                }
                None => comparison.send.push(id.clone()),
                Some(timestamp) => match compare(&record.updated, timestamp) {
                    Ordering::Greater => comparison.send.push(id.clone()),
                    Ordering::Less => comparison.want.push(id.clone()),
                    Ordering::Equal if self.has(Fault::SendsEqual) => comparison.send.push(id.clone()),
                    Ordering::Equal => {}
                },
            }
        }
        let unknown = theirs.keys().filter(|id| self.stores.get(held, id).is_none());
        comparison.want.extend(unknown.map(|id| (*id).to_owned()));
        comparison.want.sort();
        comparison
    }
}
