//! What the master knows: its links, the slaves it has ever seen, the instances and who has them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::clusterio::instance::InstanceConfig;
use crate::clusterio::line::Line;
use crate::machine::{LinkId, Time};

/// One link.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) line: Line<Waiting>,
    pub(super) phase: Phase,
    /// The number of the message heard last.
    pub(super) heard: Option<i64>,
}

/// How far a link has come (3.1).
#[derive(Debug)]
pub(super) enum Phase {
    AwaitRegister {
        since: Time,
    },
    Slave {
        id: i64,
        /// Instances that are still to be assigned to it, one after another (4.1).
        series: VecDeque<i64>,
    },
    Control {
        subscriptions: BTreeSet<i64>,
    },
    /// We have said `close`, or heard it. What it was is kept for a planted fault only.
    Closing(Option<Box<Phase>>),
}

/// What a request of ours to a slave was for.
#[derive(Debug)]
pub(super) enum Waiting {
    /// For a control that asked.
    Asked { asker: LinkId, stem: &'static str, seq: i64, instance: i64 },
    /// For nobody: one of the series of 4.1.
    Series,
}

#[derive(Debug)]
struct KnownSlave {
    agent: String,
    version: String,
    name: String,
    link: Option<LinkId>,
}

/// Slaves and instances.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    slaves: BTreeMap<i64, KnownSlave>,
    pub(super) instances: BTreeMap<i64, InstanceConfig>,
}

impl Cluster {
    pub(super) fn arrived(&mut self, id: i64, agent: String, version: String, name: String, link: LinkId) {
        self.slaves.insert(id, KnownSlave { agent, version, name, link: Some(link) });
    }

    pub(super) fn left(&mut self, id: i64) {
        if let Some(slave) = self.slaves.get_mut(&id) {
            slave.link = None;
        }
    }

    pub(super) fn forget(&mut self, id: i64) {
        self.slaves.remove(&id);
    }

    /// True for a slave that has been here.
    pub(super) fn knows(&self, id: i64) -> bool {
        self.slaves.contains_key(&id)
    }

    /// The link of a slave that is connected.
    pub(super) fn link_of(&self, id: i64) -> Option<LinkId> {
        self.slaves.get(&id)?.link
    }

    /// Ids and links of all connected slaves.
    pub(super) fn connected(&self) -> impl Iterator<Item = (i64, LinkId)> {
        self.slaves.iter().filter_map(|(id, slave)| Some((*id, slave.link?)))
    }

    /// Every slave ever seen, as `list_slaves` tells.
    pub(super) fn list_slaves(&self) -> Value {
        let list = self.slaves.iter().map(|(id, slave)| {
            json!({
                "agent": slave.agent, "version": slave.version, "name": slave.name, "id": id,
                "connected": slave.link.is_some(),
            })
        });
        list.collect()
    }

    /// Every instance, as `list_instances` tells.
    pub(super) fn list_instances(&self) -> Value {
        let list = self.instances.iter().map(|(id, config)| {
            json!({ "name": config.name(), "id": id, "assigned_slave": config.assigned_slave() })
        });
        list.collect()
    }
}
