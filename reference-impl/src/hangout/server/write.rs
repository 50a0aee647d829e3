//! Writes of properties (section 2.3).

use serde_json::{Map, Value};

use super::super::config::Fault;
use super::super::message::{Packet, SERVER};
use super::{Server, ServerEvent};
use crate::machine::{LinkId, Outbox, Time};

impl Server {
    /// A `properties` packet for the server.
    pub(super) fn write(&mut self, now: Time, link: LinkId, packet: &Packet, out: &mut Outbox<ServerEvent>) {
        let Some(Value::Object(written)) = packet.payload() else {
            if self.has(Fault::DiesOnWrongShape) {
                self.die(out);
            } else if self.has(Fault::ArrayBecomesProperties) {
                let written = indexed(packet.payload());
                self.apply(now, link, &written, out);
            }
            return;
        };
        let written = written.clone();
        if self.has(Fault::WritesToOthers) {
            for (token, properties) in &written {
                if let (Some(other), Value::Object(properties)) = (self.table.link_of(token), properties) {
                    self.apply(now, other, &properties.clone(), out);
                }
            }
        }
        let claimed =
            packet.members.get("from").and_then(Value::as_str).and_then(|from| self.table.link_of(from));
        let writer = claimed.filter(|_| self.has(Fault::TrustsClaimedWriter)).unwrap_or(link);
        self.apply(now, writer, &written, out);
    }

    pub(super) fn write_array(
        &mut self,
        now: Time,
        link: LinkId,
        bytes: &[u8],
        out: &mut Outbox<ServerEvent>,
    ) {
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes) else { return };
        if object.get("to").and_then(Value::as_str) == Some(SERVER) {
            let written = indexed(object.get("packet").and_then(|packet| packet.get("properties")));
            self.apply(now, link, &written, out);
        }
    }

    /// Merges by name, in the order of the document; `null` deletes, objects and arrays are passed over.
    fn apply(
        &mut self,
        now: Time,
        link: LinkId,
        written: &Map<String, Value>,
        out: &mut Outbox<ServerEvent>,
    ) {
        let limit = self.limit();
        let faults = self.config.faults.clone();
        let has = |fault| faults.contains(&fault);
        let Some(connection) = self.table.get_mut(link) else { return };
        let properties = &mut connection.properties;
        if has(Fault::ReplacesProperties) {
            properties.clear();
        }
        for (name, value) in written {
            match value {
                Value::Null if has(Fault::NullBecomesText) => {
                    properties.insert(name.clone(), Value::from("null"));
                }
                Value::Null => {
                    properties.shift_remove(name);
                }
                Value::Array(_) | Value::Object(_) if has(Fault::NestedBecomesText) => {
                    properties.insert(name.clone(), Value::from(value.to_string()));
                }
                Value::Array(_) | Value::Object(_) => {}
                _ if has(Fault::KeepsFirstValue) && properties.contains_key(name) => {}
                scalar => {
                    properties.insert(name.clone(), scalar.clone());
                }
            }
        }
        if has(Fault::DropsOldestProperty) {
            let surplus = properties.len().saturating_sub(limit);
            *properties = std::mem::take(properties).into_iter().skip(surplus).collect();
        }
        if properties.len() > limit {
            properties.clear();
            if has(Fault::SilentAboveLimit) {
                return;
            }
        }
        let token = connection.token.clone();
        self.changes.write(&token);
        self.changed(now, out);
    }

    fn limit(&self) -> usize {
        if self.has(Fault::LimitTenProperties) {
            10
        } else if self.has(Fault::LimitOffByOne) {
            self.config.properties - 1
        } else {
            self.config.properties
        }
    }
}

/// The elements of an array, or the characters of a string, under the names `0`, `1` ...
fn indexed(value: Option<&Value>) -> Map<String, Value> {
    let elements: Vec<Value> = match value {
        Some(Value::Array(elements)) => elements.clone(),
        Some(Value::String(text)) => text.chars().map(|c| Value::from(c.to_string())).collect(),
        _ => Vec::new(),
    };
    elements.into_iter().enumerate().map(|(place, value)| (place.to_string(), value)).collect()
}
