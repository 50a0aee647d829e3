//! The plugins of 2.8 as far as the master knows them: a chat that everybody hears, a table of technologies, a store of
//! items.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Master, MasterEvent};
use crate::clusterio::catalogue::whole;
use crate::clusterio::config::Fault;
use crate::clusterio::message::{Envelope, object};
use crate::machine::{LinkId, Outbox, Time};

/// At most this often is progress told.
const PROGRESS: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Technology {
    level: i64,
    progress: Option<f64>,
    researched: bool,
}

/// What the plugins keep.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    items: BTreeMap<String, i64>,
    technologies: BTreeMap<String, Technology>,
    /// Technologies whose progress has changed since it was told.
    changed: Vec<String>,
    tell_at: Option<Time>,
}

impl Plugins {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.tell_at
    }

    /// The data of a progress event that is due.
    pub(super) fn progress(&mut self, now: Time) -> Option<Map<String, Value>> {
        self.tell_at.filter(|at| *at <= now)?;
        self.tell_at = None;
        let changed = std::mem::take(&mut self.changed);
        let technologies: Vec<Value> = changed
            .into_iter()
            .filter_map(|name| {
                let known = self.technologies.get(&name)?;
                Some(json!({ "name": name, "level": known.level, "progress": known.progress? }))
            })
            .collect();
        Some(object([("technologies", Value::from(technologies))]))
    }

    fn contribute(&mut self, now: Time, name: &str, level: i64, amount: f64) -> bool {
        let fresh = || Technology { level, progress: None, researched: false };
        let technology = self.technologies.entry(name.to_owned()).or_insert_with(fresh);
        if technology.level != level || technology.researched {
            return false;
        }
        let progress = technology.progress.unwrap_or_default() + amount;
        technology.researched = progress >= 1.0;
        technology.progress = (progress < 1.0).then_some(progress);
        if !technology.researched {
            if !self.changed.iter().any(|known| known == name) {
                self.changed.push(name.to_owned());
            }
            self.tell_at.get_or_insert(now + PROGRESS);
        }
        self.technologies.get(name).is_some_and(|technology| technology.researched)
    }

    fn finish(&mut self, name: &str, level: i64) {
        self.technologies.insert(name.to_owned(), Technology { level, progress: None, researched: true });
    }

    /// Takes what a slave knows of technologies, and tells what the cluster knows.
    fn merge(&mut self, told: &[Value]) -> Value {
        for one in told {
            let (Some(name), Some(level)) = (one[0].as_str(), whole(&one[1])) else { continue };
            let theirs =
                Technology { level, progress: one[2].as_f64(), researched: one[3].as_bool() == Some(true) };
            let known = self.technologies.entry(name.to_owned()).or_insert_with(|| theirs.clone());
            if theirs.level > known.level || (theirs.level == known.level && theirs.researched) {
                *known = theirs;
            }
        }
        let all = self
            .technologies
            .iter()
            .map(|(name, one)| json!([name, one.level, one.progress, one.researched]));
        all.collect()
    }

    fn all_items(&self) -> Value {
        self.items.iter().map(|(name, count)| json!([name, count])).collect()
    }
}

fn pairs(data: &Map<String, Value>) -> Vec<(String, i64)> {
    let items = data.get("items").and_then(Value::as_array);
    let pair = |item: &Value| Some((item[0].as_str()?.to_owned(), whole(&item[1])?));
    items.into_iter().flatten().filter_map(pair).collect()
}

fn as_pairs(pairs: &[(String, i64)]) -> Value {
    pairs.iter().map(|(name, count)| json!([name, count])).collect()
}

impl Master {
    fn slave_links(&self) -> Vec<LinkId> {
        self.cluster.connected().map(|(_, link)| link).collect()
    }

    /// An event of a plugin.
    pub(super) fn plugin_event(
        &mut self,
        now: Time,
        link: LinkId,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) {
        let slaves = self.slave_links();
        let data = &envelope.data;
        let technology =
            || (data["name"].as_str().unwrap_or_default(), whole(&data["level"]).unwrap_or_default());
        match envelope.kind.as_str() {
            "global_chat:chat_event" => {
                let but = (!self.has(Fault::EchoesBroadcast)).then_some(link);
                self.tell_slaves(&slaves, but, &envelope.kind, data, out);
            }
            "research_sync:contribution_event" => {
                let (name, level) = technology();
                let amount = data["contribution"].as_f64().unwrap_or_default();
                if self.plugins.contribute(now, name, level, amount) {
                    let finished = object([("name", Value::from(name)), ("level", Value::from(level))]);
                    self.tell_slaves(&slaves, None, "research_sync:finished_event", &finished, out);
                }
            }
            "research_sync:finished_event" => {
                let (name, level) = technology();
                self.plugins.finish(name, level);
                self.tell_slaves(&slaves, Some(link), &envelope.kind, data, out);
            }
            "subspace_storage:place_event" => {
                let mut totals = Vec::new();
                for (name, count) in pairs(data) {
                    let total = self.plugins.items.entry(name.clone()).or_default();
                    *total = total.saturating_add(count);
                    totals.push((name, *total));
                }
                self.tell_storage(&slaves, &totals, out);
            }
            _ => {}
        }
    }

    fn tell_storage(&mut self, slaves: &[LinkId], totals: &[(String, i64)], out: &mut Outbox<MasterEvent>) {
        let data = object([("items", as_pairs(totals))]);
        self.tell_slaves(slaves, None, "subspace_storage:update_storage_event", &data, out);
    }

    /// A request of a plugin.
    pub(super) fn plugin_request(
        &mut self,
        _link: LinkId,
        stem: &str,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) -> Result<Map<String, Value>, String> {
        match stem {
            "research_sync:sync_technologies" => {
                let told = envelope.data["technologies"].as_array().cloned().unwrap_or_default();
                Ok(object([("technologies", self.plugins.merge(&told))]))
            }
            "subspace_storage:get_storage" => Ok(object([("items", self.plugins.all_items())])),
            "subspace_storage:remove" => {
                let (mut removed, mut totals) = (Vec::new(), Vec::new());
                for (name, wanted) in pairs(&envelope.data) {
                    let Some(there) = self.plugins.items.get_mut(&name) else { continue };
                    let taken = wanted.clamp(0, *there);
                    *there -= taken;
                    totals.push((name.clone(), *there));
                    removed.push((name, taken));
                }
                // 2.8: everybody hears of it before the asker has its answer.
                if !totals.is_empty() {
                    let slaves = self.slave_links();
                    self.tell_storage(&slaves, &totals, out);
                }
                Ok(object([("items", as_pairs(&removed))]))
            }
            _ => Err(format!("nobody serves {stem}")),
        }
    }
}
