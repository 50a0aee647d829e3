//! What controls ask for (2.6, 4.3 to 4.7).

use serde_json::{Map, Value};

use super::state::{Phase, Waiting};
use super::{Master, MasterEvent};
use crate::clusterio::catalogue::whole;
use crate::clusterio::config::Fault;
use crate::clusterio::instance::InstanceConfig;
use crate::clusterio::message::{Envelope, object};
use crate::machine::{LinkId, Outbox, Time};

/// What comes of a request at once.
enum Served {
    /// It is done, or has failed.
    Now(Result<Map<String, Value>, String>),
    /// A slave has been asked.
    Later,
}

impl Served {
    fn done() -> Served {
        Served::Now(Ok(Map::new()))
    }

    fn failed(why: impl Into<String>) -> Served {
        Served::Now(Err(why.into()))
    }
}

fn integer(envelope: &Envelope, name: &str) -> i64 {
    envelope.data.get(name).and_then(whole).unwrap_or_default()
}

fn text<'a>(envelope: &'a Envelope, name: &str) -> &'a str {
    envelope.data.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Master {
    /// Serves a request whose form has been found good.
    pub(super) fn serve(
        &mut self,
        now: Time,
        link: LinkId,
        stem: &'static str,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) {
        let served = match stem {
            "list_slaves" => Served::Now(Ok(object([("list", self.cluster.list_slaves())]))),
            "list_instances" => Served::Now(Ok(object([("list", self.cluster.list_instances())]))),
            "set_instance_output_subscriptions" => self.subscribe(link, envelope),
            "create_instance" => self.create(envelope),
            "get_instance_config" => match self.cluster.instances.get(&integer(envelope, "instance_id")) {
                Some(config) => {
                    Served::Now(Ok(object([("serialized_config", Value::Object(config.serialized()))])))
                }
                None => unknown_instance(envelope),
            },
            "set_instance_config_field" => self.set_field(now, link, stem, envelope, out),
            "assign_instance_command" => self.assign(now, link, stem, envelope, out),
            "start_instance" | "create_save" | "stop_instance" | "delete_instance" | "send_rcon" => {
                self.forward(now, link, stem, envelope, out)
            }
            _ => Served::Now(self.plugin_request(link, stem, envelope, out)),
        };
        if let Served::Now(result) = served {
            self.respond(link, stem, envelope.seq, result, out);
        }
    }

    fn subscribe(&mut self, link: LinkId, envelope: &Envelope) -> Served {
        let adds = self.has(Fault::AddsSubscriptions);
        let ids = envelope.data.get("instance_ids").and_then(Value::as_array);
        let ids = ids.into_iter().flatten().filter_map(whole);
        if let Some(connection) = self.connections.get_mut(&link)
            && let Phase::Control { subscriptions } = &mut connection.phase
        {
            if !adds {
                subscriptions.clear();
            }
            subscriptions.extend(ids);
        }
        Served::done()
    }

    fn create(&mut self, envelope: &Envelope) -> Served {
        let fresh = self.rng.i64(0..1 << 31);
        let empty = Map::new();
        let serialized = envelope.data.get("serialized_config").and_then(Value::as_object).unwrap_or(&empty);
        let mut config = match InstanceConfig::load(serialized, self.config.plugins, fresh) {
            Ok(config) => config,
            Err(error) => return Served::failed(error),
        };
        if self.has(Fault::ForgetsUnknownGroups) {
            config.forget_unknown(self.config.plugins);
        }
        let id = config.id();
        if self.cluster.instances.contains_key(&id) && !self.has(Fault::OverwritesInstances) {
            return Served::failed(format!("there is an instance {id} already"));
        }
        self.cluster.instances.insert(id, config);
        Served::done()
    }

    fn set_field(
        &mut self,
        now: Time,
        link: LinkId,
        stem: &'static str,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) -> Served {
        let id = integer(envelope, "instance_id");
        let plugins = self.config.plugins;
        let (protects, forgets) = (!self.has(Fault::SetsProtectedFields), self.has(Fault::ForgetsFields));
        let Some(config) = self.cluster.instances.get_mut(&id) else { return unknown_instance(envelope) };
        let mut changed = config.clone();
        if let Err(error) = changed.set(text(envelope, "field"), text(envelope, "value"), plugins, protects) {
            return Served::failed(error);
        }
        if !forgets {
            *config = changed;
        }
        let slave = config.assigned_slave().and_then(|slave| self.cluster.link_of(slave));
        match slave {
            Some(slave) => {
                self.send_assignment(now, slave, id, asked(link, stem, envelope, id), out);
                Served::Later
            }
            None => Served::done(),
        }
    }

    fn assign(
        &mut self,
        now: Time,
        link: LinkId,
        stem: &'static str,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) -> Served {
        let (id, slave) = (integer(envelope, "instance_id"), integer(envelope, "slave_id"));
        if !self.cluster.instances.contains_key(&id) {
            return unknown_instance(envelope);
        }
        let Some(to) = self.cluster.link_of(slave) else {
            return Served::failed(format!("slave {slave} is not connected"));
        };
        let Some(config) = self.cluster.instances.get_mut(&id) else { return unknown_instance(envelope) };
        config.assign(slave);
        if self.has(Fault::AnswersAssignEarly) {
            self.send_assignment(now, to, id, Waiting::Series, out);
            return Served::done();
        }
        self.send_assignment(now, to, id, asked(link, stem, envelope, id), out);
        Served::Later
    }

    /// Tells a slave the configuration of an instance that is assigned to it.
    pub(super) fn send_assignment(
        &mut self,
        now: Time,
        slave: LinkId,
        id: i64,
        waiting: Waiting,
        out: &mut Outbox<MasterEvent>,
    ) {
        let until = self.until(now);
        let Some(config) = self.cluster.instances.get(&id) else { return };
        let data = object([
            ("instance_id", Value::from(id)),
            ("serialized_config", Value::Object(config.serialized())),
        ]);
        if let Some(connection) = self.connections.get_mut(&slave) {
            connection.line.request("assign_instance", &data, until, waiting, out);
        }
    }

    /// Passes a command on to the slave that has the instance (4.4).
    fn forward(
        &mut self,
        now: Time,
        link: LinkId,
        stem: &'static str,
        envelope: &Envelope,
        out: &mut Outbox<MasterEvent>,
    ) -> Served {
        let id = integer(envelope, "instance_id");
        let until = self.until(now);
        let anybody = self.cluster.connected().next().filter(|_| self.has(Fault::ForwardsToAnybody));
        let assigned = match self.cluster.instances.get(&id) {
            Some(config) => {
                config.assigned_slave().ok_or(format!("instance {id} is not assigned to a slave"))
            }
            None => Err(format!("there is no instance {id}")),
        };
        let to = assigned.and_then(|slave| {
            self.cluster.link_of(slave).ok_or(format!("slave {slave} of instance {id} is not connected"))
        });
        let to = match (to, anybody) {
            (Ok(to), _) => to,
            (Err(_), Some((_, to))) => to,
            (Err(error), None) => return Served::failed(error),
        };
        if let Some(connection) = self.connections.get_mut(&to) {
            let waiting = asked(link, stem, envelope, id);
            connection.line.request(stem, &envelope.data, until, waiting, out);
        }
        Served::Later
    }

    /// A slave has answered what we asked it.
    pub(super) fn answered(
        &mut self,
        now: Time,
        slave: LinkId,
        waiting: Waiting,
        result: Result<Map<String, Value>, String>,
        out: &mut Outbox<MasterEvent>,
    ) {
        match waiting {
            Waiting::Asked { asker, stem, seq, instance } => {
                if stem == "delete_instance" && result.is_ok() {
                    self.cluster.instances.remove(&instance);
                }
                self.respond(asker, stem, seq, result, out);
            }
            Waiting::Series => self.go_on(now, slave, result.is_ok(), out),
        }
    }
}

fn asked(asker: LinkId, stem: &'static str, envelope: &Envelope, instance: i64) -> Waiting {
    Waiting::Asked { asker, stem, seq: envelope.seq, instance }
}

fn unknown_instance(envelope: &Envelope) -> Served {
    Served::failed(format!("there is no instance {}", integer(envelope, "instance_id")))
}
