//! Configurations of instances (clusterio.md 2.9): groups of fields, some of them known, the others kept as they come.

use serde_json::{Map, Value, json};

use super::catalogue::whole;
use super::message::object;

/// The types of known fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldType {
    Boolean,
    Number,
    NumberOrNull,
    Object,
    Text,
    TextOrNull,
}

impl FieldType {
    fn takes(self, value: &Value) -> bool {
        match value {
            Value::Null => matches!(self, FieldType::NumberOrNull | FieldType::TextOrNull),
            Value::Bool(_) => self == FieldType::Boolean,
            Value::Number(_) => matches!(self, FieldType::Number | FieldType::NumberOrNull),
            Value::String(_) => matches!(self, FieldType::Text | FieldType::TextOrNull),
            Value::Object(_) => self == FieldType::Object,
            Value::Array(_) => false,
        }
    }

    /// What a text stands for, as `set_instance_config_field` reads it.
    fn read(self, text: &str) -> Result<Value, String> {
        match self {
            FieldType::NumberOrNull | FieldType::TextOrNull if text.is_empty() => Ok(Value::Null),
            _ if text.is_empty() => Err("the field cannot be null".to_owned()),
            FieldType::Boolean => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(format!("`{text}` is neither true nor false")),
            },
            FieldType::Number | FieldType::NumberOrNull => match serde_json::from_str::<Value>(text.trim()) {
                Ok(number @ Value::Number(_)) => Ok(number),
                _ => Err(format!("`{text}` is not a number")),
            },
            FieldType::Object => match serde_json::from_str::<Value>(text) {
                Ok(value @ Value::Object(_)) => Ok(value),
                _ => Err("the value is not a JSON object".to_owned()),
            },
            FieldType::Text | FieldType::TextOrNull => Ok(Value::from(text)),
        }
    }
}

/// The known fields: group, name, type.
const FIELDS: &[(&str, &str, FieldType)] = &[
    ("instance", "name", FieldType::Text),
    ("instance", "id", FieldType::Number),
    ("instance", "assigned_slave", FieldType::NumberOrNull),
    ("factorio", "game_port", FieldType::NumberOrNull),
    ("factorio", "rcon_port", FieldType::NumberOrNull),
    ("factorio", "rcon_password", FieldType::TextOrNull),
    ("factorio", "settings", FieldType::Object),
];

/// The fields that plugins of instances add.
const PLUGIN_FIELDS: &[(&str, &str, FieldType)] = &[
    ("global_chat", "enabled", FieldType::Boolean),
    ("research_sync", "enabled", FieldType::Boolean),
    ("statistics_exporter", "enabled", FieldType::Boolean),
    ("subspace_storage", "enabled", FieldType::Boolean),
    ("subspace_storage", "log_item_transfers", FieldType::Boolean),
];

fn known(plugins: bool) -> impl Iterator<Item = &'static (&'static str, &'static str, FieldType)> {
    FIELDS.iter().chain(if plugins { PLUGIN_FIELDS } else { &[] })
}

fn default_of(group: &str, field: &str, fresh_id: i64) -> Value {
    match (group, field) {
        ("instance", "name") => Value::from("New Instance"),
        ("instance", "id") => Value::from(fresh_id),
        ("factorio", "settings") => json!({ "tags": ["clusterio"], "auto_pause": false }),
        (_, "enabled") => Value::Bool(true),
        (_, "log_item_transfers") => Value::Bool(false),
        _ => Value::Null,
    }
}

/// The configuration of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceConfig {
    groups: Vec<(String, Map<String, Value>)>,
}

impl InstanceConfig {
    /// Loads a serialized configuration. Missing groups and fields get defaults, unknown ones are kept, a known field
    /// of a wrong type is passed over.
    pub(super) fn load(
        serialized: &Map<String, Value>,
        plugins: bool,
        fresh_id: i64,
    ) -> Result<InstanceConfig, String> {
        let Some(Value::Array(written)) = serialized.get("groups") else {
            return Err("the configuration has no array `groups`".to_owned());
        };
        let mut config = InstanceConfig { groups: Vec::new() };
        for (group, field, _) in known(plugins) {
            config.group_mut(group).insert((*field).to_owned(), default_of(group, field, fresh_id));
        }
        for group in written {
            let (Some(Value::String(name)), Some(Value::Object(fields))) =
                (group.get("name"), group.get("fields"))
            else {
                return Err("a group of the configuration has no `name` or no `fields`".to_owned());
            };
            for (field, value) in fields {
                let form = known(plugins).find(|(of, known, _)| of == name && known == field);
                let id = name == "instance" && (field == "id" || field == "assigned_slave");
                let fits = form.is_none_or(|(.., form)| form.takes(value))
                    && (!id || value.is_null() || whole(value).is_some());
                if fits {
                    config.group_mut(name).insert(field.clone(), value.clone());
                }
            }
            config.group_mut(name);
        }
        Ok(config)
    }

    /// Drops groups that nobody knows.
    pub(super) fn forget_unknown(&mut self, plugins: bool) {
        self.groups.retain(|(name, _)| known(plugins).any(|(group, ..)| group == name));
    }

    fn group_mut(&mut self, name: &str) -> &mut Map<String, Value> {
        let place = self.groups.iter().position(|(known, _)| known == name);
        let place = place.unwrap_or_else(|| {
            self.groups.push((name.to_owned(), Map::new()));
            self.groups.len() - 1
        });
        &mut self.groups[place].1
    }

    fn field(&self, group: &str, field: &str) -> Option<&Value> {
        self.groups.iter().find(|(name, _)| name == group)?.1.get(field)
    }

    /// `instance.id`
    pub(super) fn id(&self) -> i64 {
        self.field("instance", "id").and_then(whole).unwrap_or_default()
    }

    /// `instance.name`
    pub(super) fn name(&self) -> &str {
        self.field("instance", "name").and_then(Value::as_str).unwrap_or_default()
    }

    /// `instance.assigned_slave`
    pub(super) fn assigned_slave(&self) -> Option<i64> {
        self.field("instance", "assigned_slave").and_then(whole)
    }

    /// Puts the instance under a slave.
    pub(super) fn assign(&mut self, slave: i64) {
        self.group_mut("instance").insert("assigned_slave".to_owned(), Value::from(slave));
    }

    /// Sets a known field from text, as a control asks for it; id and slave are protected from that.
    pub(super) fn set(
        &mut self,
        path: &str,
        text: &str,
        plugins: bool,
        protects: bool,
    ) -> Result<(), String> {
        let Some((group, field)) = path.split_once('.') else {
            return Err(format!("`{path}` is not a field: a group, a point and a name"));
        };
        if protects && group == "instance" && (field == "id" || field == "assigned_slave") {
            return Err(format!("{path} cannot be set"));
        }
        let form = known(plugins).find(|(of, known, _)| *of == group && *known == field);
        let (.., form) = form.ok_or_else(|| format!("there is no field {path}"))?;
        let value = form.read(text).map_err(|error| format!("{path}: {error}"))?;
        self.group_mut(group).insert(field.to_owned(), value);
        Ok(())
    }

    /// The serialized configuration.
    pub(super) fn serialized(&self) -> Map<String, Value> {
        let groups: Vec<Value> =
            self.groups.iter().map(|(name, fields)| json!({ "name": name, "fields": fields })).collect();
        object([("groups", Value::from(groups))])
    }
}

/// True when a directory can have this name (4.6).
pub(super) fn is_directory_name(name: &str) -> bool {
    const RESERVED: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered = ["COM", "LPT"].iter().any(|device| {
        stem.strip_prefix(device)
            .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    let strange = |c: char| c.is_control() || "<>:\"/\\|?*".contains(c);
    !name.is_empty()
        && !name.contains(strange)
        && !RESERVED.contains(&stem.as_str())
        && !numbered
        && !name.ends_with('.')
        && !name.ends_with(' ')
}
