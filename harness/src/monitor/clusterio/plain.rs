//! Which messages are plainly what the catalogue says (sections 2.6 to 2.8). What comes of any other may be `close`, an
//! error or nothing, so nothing is concluded from it.

use serde_json::Value;

use super::{Message, integer};
use crate::monitor::Party;

#[derive(Clone, Copy)]
enum Form {
    Integer,
    Integers,
    Object,
    Output,
    Reports,
    Text,
}

/// A type, the roles between which it goes, and all its members.
type Entry = (&'static str, &'static [(&'static str, &'static str)], &'static [(&'static str, Form)]);

/// Requests and events.
const KNOWN: &[Entry] = &[
    ("list_slaves_request", &[("control", "master")], &[]),
    ("list_instances_request", &[("control", "master")], &[]),
    (
        "set_instance_output_subscriptions_request",
        &[("control", "master")],
        &[("instance_ids", Form::Integers)],
    ),
    ("create_instance_request", &[("control", "master")], &[("serialized_config", Form::Object)]),
    ("get_instance_config_request", &[("control", "master")], &[("instance_id", Form::Integer)]),
    (
        "set_instance_config_field_request",
        &[("control", "master")],
        &[("instance_id", Form::Integer), ("field", Form::Text), ("value", Form::Text)],
    ),
    (
        "assign_instance_command_request",
        &[("control", "master")],
        &[("instance_id", Form::Integer), ("slave_id", Form::Integer)],
    ),
    (
        "assign_instance_request",
        &[("master", "slave")],
        &[("instance_id", Form::Integer), ("serialized_config", Form::Object)],
    ),
    (
        "start_instance_request",
        &[("control", "master"), ("master", "slave")],
        &[("instance_id", Form::Integer)],
    ),
    ("create_save_request", &[("control", "master"), ("master", "slave")], &[("instance_id", Form::Integer)]),
    (
        "stop_instance_request",
        &[("control", "master"), ("master", "slave")],
        &[("instance_id", Form::Integer)],
    ),
    (
        "delete_instance_request",
        &[("control", "master"), ("master", "slave")],
        &[("instance_id", Form::Integer)],
    ),
    (
        "send_rcon_request",
        &[("control", "master"), ("master", "slave")],
        &[("instance_id", Form::Integer), ("command", Form::Text)],
    ),
    ("statistics_exporter:get_metrics_request", &[("master", "slave")], &[]),
    ("update_instances_event", &[("slave", "master")], &[("instances", Form::Reports)]),
    (
        "instance_output_event",
        &[("slave", "master"), ("master", "control")],
        &[("instance_id", Form::Integer), ("output", Form::Output)],
    ),
    (
        "global_chat:chat_event",
        &[("slave", "master"), ("master", "slave")],
        &[("instance_name", Form::Text), ("content", Form::Text)],
    ),
    (
        "research_sync:finished_event",
        &[("slave", "master"), ("master", "slave")],
        &[("name", Form::Text), ("level", Form::Integer)],
    ),
];

/// True for a request or an event that may go from one to the other, in an envelope as it should be, with data of the
/// form of its type and nothing else in them.
pub(super) fn is_plain(from: &Party, to: &Party, message: &Message<'_>) -> bool {
    let Some((_, ways, members)) = KNOWN.iter().find(|(known, ..)| *known == message.kind) else {
        return false;
    };
    let data = message.data;
    let envelope = message.whole.as_object().is_some_and(|whole| whole.len() == 3);
    envelope
        && message.seq.is_some_and(|seq| seq.abs() < 1 << 53)
        && ways.contains(&(from.role.as_str(), to.role.as_str()))
        && members.len() == data.len()
        && members.iter().all(|(name, form)| data.get(*name).is_some_and(|value| fits(*form, value)))
}

fn fits(form: Form, value: &Value) -> bool {
    let exact = |value: &Value| integer(value).is_some_and(|found| found.abs() < 1 << 53);
    match form {
        Form::Integer => exact(value),
        Form::Integers => value.as_array().is_some_and(|items| items.iter().all(exact)),
        Form::Object => value.is_object(),
        Form::Text => value.is_string(),
        Form::Output => {
            let texts = ["source", "format", "type", "message"];
            let optional = ["received", "time", "level", "file", "action"];
            value.as_object().is_some_and(|output| {
                texts.iter().all(|name| output.get(*name).is_some_and(Value::is_string))
                    && output.get("received").is_some_and(Value::is_number)
                    && output.iter().all(|(name, value)| {
                        texts.contains(&name.as_str())
                            || name == "received"
                            || (optional.contains(&name.as_str()) && value.is_string())
                    })
            })
        }
        Form::Reports => {
            let report = |one: &Value| {
                one.as_object().is_some_and(|one| {
                    one.len() == 1 && one.get("serialized_config").is_some_and(Value::is_object)
                })
            };
            value.as_array().is_some_and(|items| items.iter().all(report))
        }
    }
}
