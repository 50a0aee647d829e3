//! What slaves tell (2.7, 4.1, 4.7, 4.8).

use serde_json::{Map, Value};

use super::state::{Phase, Waiting};
use super::{Master, MasterEvent};
use crate::clusterio::catalogue::whole;
use crate::clusterio::config::Fault;
use crate::clusterio::instance::InstanceConfig;
use crate::clusterio::message::Envelope;
use crate::machine::{LinkId, Outbox, Time};

impl Master {
    /// Acts on an event whose form has been found good. Trouble stays with us (4.11).
    pub(super) fn event(
        &mut self,
        now: Time,
        link: LinkId,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) {
        match envelope.kind.as_str() {
            "update_instances_event" => self.update_instances(now, link, envelope, out),
            "instance_output_event" => self.output(envelope, out),
            _ => self.plugin_event(now, link, envelope, out),
        }
    }

    /// First what is assigned to the slave already, then what it has and nobody knew (4.1).
    fn update_instances(
        &mut self,
        now: Time,
        link: LinkId,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) {
        let Some(Phase::Slave { id: slave, .. }) = self.connections.get(&link).map(|known| &known.phase)
        else {
            return;
        };
        let slave = *slave;
        let of_slave = |config: &InstanceConfig| config.assigned_slave() == Some(slave);
        let assigned = self.cluster.instances.iter().filter(|(_, config)| of_slave(config));
        let mut series: Vec<i64> = assigned.map(|(id, _)| *id).collect();
        if self.has(Fault::NeverReassigns) {
            series.clear();
        }
        let reported = envelope.data.get("instances").and_then(Value::as_array);
        for one in reported.into_iter().flatten() {
            let Some(serialized) = one.get("serialized_config").and_then(Value::as_object) else { continue };
            let fresh = self.rng.i64(0..1 << 31);
            let Ok(mut config) = InstanceConfig::load(serialized, self.config.plugins, fresh) else {
                if self.has(Fault::EndsLinkOnBadEvent) {
                    self.invalid(link, "Event failed", out);
                    return;
                }
                continue;
            };
            let id = config.id();
            if self.cluster.instances.contains_key(&id) || self.has(Fault::NeverAdopts) {
                continue;
            }
            config.assign(slave);
            self.cluster.instances.insert(id, config);
            series.push(id);
        }
        let Some(connection) = self.connections.get_mut(&link) else { return };
        let Phase::Slave { series: waiting, .. } = &mut connection.phase else { return };
        let idle = waiting.is_empty();
        waiting.extend(series);
        if idle {
            self.next_of_series(now, link, out);
        }
    }

    /// One of the series has been answered; an error ends it.
    pub(super) fn go_on(&mut self, now: Time, link: LinkId, well: bool, out: &mut Outbox<MasterEvent>) {
        if let Some(connection) = self.connections.get_mut(&link)
            && let Phase::Slave { series, .. } = &mut connection.phase
        {
            series.pop_front();
            if !well {
                series.clear();
            }
            self.next_of_series(now, link, out);
        }
    }

    fn next_of_series(&mut self, now: Time, link: LinkId, out: &mut Outbox<MasterEvent>) {
        let next = match self.connections.get(&link).map(|connection| &connection.phase) {
            Some(Phase::Slave { series, .. }) => series.front().copied(),
            _ => None,
        };
        if let Some(id) = next {
            self.send_assignment(now, link, id, Waiting::Series, out);
        }
    }

    /// To every control that subscribed to the instance (4.7).
    fn output(&mut self, envelope: &Envelope, out: &mut Outbox<MasterEvent>) {
        let Some(instance) = envelope.data.get("instance_id").and_then(whole) else { return };
        let leaks = self.has(Fault::LeaksOutput);
        for connection in self.connections.values_mut() {
            if let Phase::Control { subscriptions } = &connection.phase
                && (subscriptions.contains(&instance) || leaks)
            {
                connection.line.send(&envelope.kind, &envelope.data, out);
            }
        }
    }

    /// Tells slaves something, all but one.
    pub(super) fn tell_slaves(
        &mut self,
        slaves: &[LinkId],
        but: Option<LinkId>,
        kind: &str,
        data: &Map<String, Value>,
        out: &mut Outbox<MasterEvent>,
    ) {
        for link in slaves.iter().filter(|link| Some(**link) != but) {
            if let Some(connection) = self.connections.get_mut(link) {
                connection.line.send(kind, data, out);
            }
        }
    }
}
