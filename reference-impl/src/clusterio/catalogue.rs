//! Which messages there are (clusterio.md 2.6 to 2.8): their types, the links and directions they belong to, and the
//! form of their data. One table, from which both ends of a link read what is legal.

use serde_json::{Map, Value};

/// Largest integer that is taken or sent (2.1): every whole number up to here is exact in a double.
pub(super) const LARGEST: i64 = 1 << 53;

/// One direction of one kind of link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From a control to the master.
    ControlToMaster,
    /// From the master to a control.
    MasterToControl,
    /// From the master to a slave.
    MasterToSlave,
    /// From a slave to the master.
    SlaveToMaster,
}

impl Direction {
    /// All of them.
    pub(super) const ALL: [Direction; 4] = [
        Direction::ControlToMaster,
        Direction::MasterToControl,
        Direction::MasterToSlave,
        Direction::SlaveToMaster,
    ];

    /// The other direction of the same link.
    pub fn back(self) -> Direction {
        match self {
            Direction::ControlToMaster => Direction::MasterToControl,
            Direction::MasterToControl => Direction::ControlToMaster,
            Direction::MasterToSlave => Direction::SlaveToMaster,
            Direction::SlaveToMaster => Direction::MasterToSlave,
        }
    }
}

/// The form of one value.
#[derive(Clone, Copy, Debug)]
enum Form {
    Any,
    ArrayOf(&'static Form),
    Boolean,
    Integer,
    IntegerOrNull,
    /// An object with these members.
    Members(&'static [Member]),
    Number,
    NumberOrNull,
    Object,
    Text,
    /// An array of exactly these.
    Tuple(&'static [Form]),
}

#[derive(Clone, Copy, Debug)]
struct Member {
    name: &'static str,
    form: Form,
    required: bool,
}

const fn member(name: &'static str, form: Form) -> Member {
    Member { name, form, required: true }
}

const fn optional(name: &'static str, form: Form) -> Member {
    Member { name, form, required: false }
}

/// A request or an event.
#[derive(Debug)]
struct Entry {
    /// The type, for a request without `_request`.
    stem: &'static str,
    /// The form of a response beside `seq`; none for an event.
    response: Option<&'static [Member]>,
    data: &'static [Member],
    directions: &'static [Direction],
    /// Only where the plugins are loaded.
    plugin: bool,
}

use Direction::{ControlToMaster, MasterToControl, MasterToSlave, SlaveToMaster};

const NOTHING: &[Member] = &[];
const INSTANCE_ID: &[Member] = &[member("instance_id", Form::Integer)];
const SLAVE: Form = Form::Members(&[
    member("agent", Form::Text),
    member("version", Form::Text),
    member("name", Form::Text),
    member("id", Form::Integer),
    member("connected", Form::Boolean),
]);
const INSTANCE: Form = Form::Members(&[
    member("name", Form::Text),
    member("id", Form::Integer),
    member("assigned_slave", Form::IntegerOrNull),
]);
const OUTPUT: Form = Form::Members(&[
    member("source", Form::Text),
    member("received", Form::Number),
    member("format", Form::Text),
    member("type", Form::Text),
    member("message", Form::Text),
    optional("time", Form::Text),
    optional("level", Form::Text),
    optional("file", Form::Text),
    optional("action", Form::Text),
]);
const REPORTED: Form = Form::Members(&[member("serialized_config", Form::Object)]);
const ITEMS: Form = Form::ArrayOf(&Form::Tuple(&[Form::Text, Form::Integer]));
const TECHNOLOGIES: Form =
    Form::ArrayOf(&Form::Tuple(&[Form::Text, Form::Integer, Form::NumberOrNull, Form::Boolean]));
const PROGRESS: Form = Form::ArrayOf(&Form::Members(&[
    member("name", Form::Text),
    member("level", Form::Integer),
    member("progress", Form::Number),
]));

const fn request(
    stem: &'static str,
    directions: &'static [Direction],
    data: &'static [Member],
    response: &'static [Member],
) -> Entry {
    Entry { stem, response: Some(response), data, directions, plugin: false }
}

const fn event(stem: &'static str, directions: &'static [Direction], data: &'static [Member]) -> Entry {
    Entry { stem, response: None, data, directions, plugin: false }
}

const fn plugin(entry: Entry) -> Entry {
    Entry { plugin: true, ..entry }
}

const ENTRIES: &[Entry] = &[
    request("list_slaves", &[ControlToMaster], NOTHING, &[member("list", Form::ArrayOf(&SLAVE))]),
    request("list_instances", &[ControlToMaster], NOTHING, &[member("list", Form::ArrayOf(&INSTANCE))]),
    request(
        "set_instance_output_subscriptions",
        &[ControlToMaster],
        &[member("instance_ids", Form::ArrayOf(&Form::Integer))],
        NOTHING,
    ),
    request("create_instance", &[ControlToMaster], &[member("serialized_config", Form::Object)], NOTHING),
    request(
        "get_instance_config",
        &[ControlToMaster],
        INSTANCE_ID,
        &[member("serialized_config", Form::Object)],
    ),
    request(
        "set_instance_config_field",
        &[ControlToMaster],
        &[member("instance_id", Form::Integer), member("field", Form::Text), member("value", Form::Text)],
        NOTHING,
    ),
    request(
        "assign_instance_command",
        &[ControlToMaster],
        &[member("instance_id", Form::Integer), member("slave_id", Form::Integer)],
        NOTHING,
    ),
    request(
        "assign_instance",
        &[MasterToSlave],
        &[member("instance_id", Form::Integer), member("serialized_config", Form::Object)],
        NOTHING,
    ),
    request("start_instance", &[ControlToMaster, MasterToSlave], INSTANCE_ID, NOTHING),
    request("create_save", &[ControlToMaster, MasterToSlave], INSTANCE_ID, NOTHING),
    request("stop_instance", &[ControlToMaster, MasterToSlave], INSTANCE_ID, NOTHING),
    request("delete_instance", &[ControlToMaster, MasterToSlave], INSTANCE_ID, NOTHING),
    request(
        "send_rcon",
        &[ControlToMaster, MasterToSlave],
        &[member("instance_id", Form::Integer), member("command", Form::Text)],
        &[member("result", Form::Text)],
    ),
    request(
        "statistics_exporter:get_metrics",
        &[MasterToSlave],
        NOTHING,
        &[member("results", Form::ArrayOf(&Form::Any))],
    ),
    event("update_instances_event", &[SlaveToMaster], &[member("instances", Form::ArrayOf(&REPORTED))]),
    event(
        "instance_output_event",
        &[SlaveToMaster, MasterToControl],
        &[member("instance_id", Form::Integer), member("output", OUTPUT)],
    ),
    plugin(event(
        "global_chat:chat_event",
        &[SlaveToMaster, MasterToSlave],
        &[member("instance_name", Form::Text), member("content", Form::Text)],
    )),
    plugin(event(
        "research_sync:contribution_event",
        &[SlaveToMaster],
        &[member("name", Form::Text), member("level", Form::Integer), member("contribution", Form::Number)],
    )),
    plugin(event("research_sync:progress_event", &[MasterToSlave], &[member("technologies", PROGRESS)])),
    plugin(event(
        "research_sync:finished_event",
        &[SlaveToMaster, MasterToSlave],
        &[member("name", Form::Text), member("level", Form::Integer)],
    )),
    plugin(request(
        "research_sync:sync_technologies",
        &[SlaveToMaster],
        &[member("technologies", TECHNOLOGIES)],
        &[member("technologies", TECHNOLOGIES)],
    )),
    plugin(event(
        "subspace_storage:place_event",
        &[SlaveToMaster],
        &[member("instance_id", Form::Integer), member("items", ITEMS)],
    )),
    plugin(request(
        "subspace_storage:remove",
        &[SlaveToMaster],
        &[member("instance_id", Form::Integer), member("items", ITEMS)],
        &[member("items", ITEMS)],
    )),
    plugin(request("subspace_storage:get_storage", &[SlaveToMaster], NOTHING, &[member("items", ITEMS)])),
    plugin(event("subspace_storage:update_storage_event", &[MasterToSlave], &[member("items", ITEMS)])),
];

/// What a message after `ready` is, once it has been found legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One way.
    Event,
    /// To be answered with this stem and `_response`.
    Request(&'static str),
    /// An answer.
    Response,
}

/// Why a message after `ready` is not acceptable (2.3, the details of `Invalid message`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Illegal {
    /// No such type in this direction.
    NoValidator,
    /// The data do not have the form of the type.
    Validation,
}

/// How strictly messages are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Members that the catalogue does not know are refused.
    pub(super) strict: bool,
    /// The plugin messages are known.
    pub(super) plugins: bool,
}

/// What a message is in `direction`, or why it is not acceptable there.
pub(super) fn classify(
    direction: Direction,
    reading: Reading,
    kind: &str,
    data: &Map<String, Value>,
) -> Result<Kind, Illegal> {
    let known = |entry: &&Entry| reading.plugins || !entry.plugin;
    for entry in ENTRIES.iter().filter(known) {
        match entry.response {
            None if kind == entry.stem && entry.directions.contains(&direction) => {
                return form(entry.data, data, reading).map(|()| Kind::Event);
            }
            Some(_) if is(kind, entry.stem, "_request") && entry.directions.contains(&direction) => {
                return form(entry.data, data, reading).map(|()| Kind::Request(entry.stem));
            }
            Some(members)
                if is(kind, entry.stem, "_response") && entry.directions.contains(&direction.back()) =>
            {
                return response(members, data, reading).map(|()| Kind::Response);
            }
            _ => {}
        }
    }
    Err(Illegal::NoValidator)
}

/// The requests that may be sent in `direction`.
pub(super) fn requests(direction: Direction) -> impl Iterator<Item = &'static str> {
    let fits = move |entry: &&Entry| entry.response.is_some() && entry.directions.contains(&direction);
    ENTRIES.iter().filter(fits).map(|entry| entry.stem)
}

fn is(kind: &str, stem: &str, suffix: &str) -> bool {
    kind.strip_suffix(suffix) == Some(stem)
}

fn response(members: &[Member], data: &Map<String, Value>, reading: Reading) -> Result<(), Illegal> {
    if data.get("seq").is_none_or(|seq| whole(seq).is_none()) {
        return Err(Illegal::Validation);
    }
    if let Some(error) = data.get("error") {
        // 2.5: exactly `seq` and `error`.
        let alone = data.len() == 2 || !reading.strict;
        return if error.is_string() && alone { Ok(()) } else { Err(Illegal::Validation) };
    }
    let mut rest = data.clone();
    rest.shift_remove("seq");
    form(members, &rest, reading)
}

fn form(members: &[Member], data: &Map<String, Value>, reading: Reading) -> Result<(), Illegal> {
    if members_fit(members, data, reading.strict) { Ok(()) } else { Err(Illegal::Validation) }
}

fn members_fit(members: &[Member], data: &Map<String, Value>, strict: bool) -> bool {
    let present = members.iter().all(|member| match data.get(member.name) {
        Some(value) => fits(&member.form, value, strict),
        None => !member.required,
    });
    present && (!strict || data.keys().all(|key| members.iter().any(|member| member.name == key)))
}

fn fits(form: &Form, value: &Value, strict: bool) -> bool {
    match (form, value) {
        (Form::Any, _)
        | (Form::Boolean, Value::Bool(_))
        | (Form::Number | Form::NumberOrNull, Value::Number(_))
        | (Form::NumberOrNull | Form::IntegerOrNull, Value::Null)
        | (Form::Object, Value::Object(_))
        | (Form::Text, Value::String(_)) => true,
        (Form::Integer | Form::IntegerOrNull, value) => whole(value).is_some(),
        (Form::ArrayOf(form), Value::Array(items)) => items.iter().all(|item| fits(form, item, strict)),
        (Form::Tuple(forms), Value::Array(items)) => {
            forms.len() == items.len() && forms.iter().zip(items).all(|(form, item)| fits(form, item, strict))
        }
        (Form::Members(members), Value::Object(object)) => members_fit(members, object, strict),
        _ => false,
    }
}

/// A JSON number without fraction in the range that is exact (2.1); `2.0` and `2e0` are 2.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    let found = match number.as_i64() {
        Some(found) => found,
        None => {
            let found =
                number.as_f64().filter(|found| found.fract() == 0.0 && found.abs() <= LARGEST as f64)?;
            found as i64
        }
    };
    (-LARGEST..=LARGEST).contains(&found).then_some(found)
}
