//! What a JSON Schema tells about the messages that fit it: how to know one, and how to make one, as patterns.

use serde_json::{Map, Value};

/// A place in an object, as the names on the way there.
type Path = Vec<String>;

/// Schemas that refer to each other deeper than this are not followed.
const DEPTH: usize = 12;

/// The document that references lead into.
pub(super) struct Document<'a>(pub(super) &'a Value);

impl<'a> Document<'a> {
    /// What a value that may be a reference stands for. The error is the reference that leads nowhere.
    pub(super) fn resolve(&self, mut value: &'a Value) -> Result<&'a Value, String> {
        for _ in 0..DEPTH {
            let Some(to) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
            let inside = to.strip_prefix('#').ok_or_else(|| to.to_owned())?;
            value = self.0.pointer(inside).ok_or_else(|| to.to_owned())?;
        }
        Err("references that lead to each other".to_owned())
    }

    /// The properties of a schema, those of its parts too, with whether they are required.
    fn properties(&self, schema: &'a Value, depth: usize) -> Vec<(&'a str, &'a Value, bool)> {
        let Ok(schema) = self.resolve(schema) else { return Vec::new() };
        if depth > DEPTH {
            return Vec::new();
        }
        let required: Vec<&str> =
            list(schema.get("required")).iter().filter_map(|name| name.as_str()).collect();
        let mut found: Vec<(&str, &Value, bool)> = Vec::new();
        for part in list(schema.get("allOf")) {
            found.extend(self.properties(part, depth + 1));
        }
        for (name, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            found.push((name, value, false));
        }
        for (name, _, needed) in &mut found {
            *needed |= required.contains(name);
        }
        found
    }

    /// Members with one fixed value, which tell a kind of message from others.
    pub(super) fn marks(&self, schema: &'a Value) -> Vec<(Path, String)> {
        let mut marks = Vec::new();
        self.collect_marks(schema, &mut Vec::new(), &mut marks);
        // The fewer and the less deep, the better they read.
        marks.sort_by_key(|(path, _)| path.len());
        let least = marks.first().map_or(0, |(path, _)| path.len());
        marks.retain(|(path, _)| path.len() == least);
        marks
    }

    fn collect_marks(&self, schema: &'a Value, path: &mut Path, marks: &mut Vec<(Path, String)>) {
        if path.len() > 2 {
            return;
        }
        for (name, property, _) in self.properties(schema, 0) {
            let Ok(property) = self.resolve(property) else { continue };
            path.push(name.to_owned());
            match fixed(property) {
                Some(value) if value.is_string() || value.is_number() || value.is_boolean() => {
                    marks.push((path.clone(), value.to_string()));
                }
                _ => self.collect_marks(property, path, marks),
            }
            path.pop();
        }
    }

    /// The names of members that must be there.
    pub(super) fn required(&self, schema: &'a Value) -> Vec<(Path, String)> {
        let properties = self.properties(schema, 0).into_iter().filter(|(_, _, needed)| *needed);
        properties.map(|(name, ..)| (vec![name.to_owned()], "_".to_owned())).collect()
    }

    /// A pattern that makes a message of this form. `given` are members whose value is known.
    pub(super) fn maker(&self, schema: &'a Value, given: &[(Path, String)]) -> String {
        self.make(schema, given, &mut Vec::new(), 0)
    }

    fn make(&self, schema: &'a Value, given: &[(Path, String)], path: &mut Path, depth: usize) -> String {
        if let Some((_, value)) = given.iter().find(|(place, _)| place == path) {
            return value.clone();
        }
        let Ok(schema) = self.resolve(schema) else { return "_".to_owned() };
        if depth > DEPTH {
            return "null".to_owned();
        }
        if let Some(value) = fixed(schema) {
            return value.to_string();
        }
        let inside = given.iter().any(|(place, _)| place.len() > path.len() && place.starts_with(path));
        let sample = list(schema.get("examples")).first().copied();
        if let Some(value) = sample.or(schema.get("default")).filter(|_| !inside) {
            return value.to_string();
        }
        let choices = list(schema.get("enum"));
        if !choices.is_empty() {
            return format!(
                "({})",
                choices.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" | ")
            );
        }
        for word in ["oneOf", "anyOf"] {
            let parts = list(schema.get(word));
            if let Some(part) = parts.iter().find(|part| kind(part) != Some("null"))
                && self.properties(schema, 0).is_empty()
            {
                return self.make(part, given, path, depth + 1);
            }
        }
        let properties = self.properties(schema, 0);
        match kind(schema) {
            Some("string") => string(schema),
            Some("integer") => range(schema).unwrap_or_else(|| "integer".to_owned()),
            Some("number") => range(schema).unwrap_or_else(|| "number".to_owned()),
            Some("boolean") => "boolean".to_owned(),
            Some("null") => "null".to_owned(),
            Some("array") => {
                let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(16);
                let item = schema.get("items").filter(|items| items.is_object());
                let item = item.map_or_else(
                    || "string".to_owned(),
                    |items| self.make(items, &[], &mut Vec::new(), depth + 1),
                );
                let items: Vec<String> = (0..least).map(|_| item.clone()).collect();
                format!("[{}]", items.join(", "))
            }
            Some("object") | None if !properties.is_empty() || kind(schema).is_some() => {
                let mut members = Vec::new();
                for (name, property, needed) in properties {
                    path.push(name.to_owned());
                    if needed || given.iter().any(|(place, _)| place.starts_with(path)) {
                        let value = self.make(property, given, path, depth + 1);
                        members.push(format!("{}: {value}", Value::from(name)));
                    }
                    path.pop();
                }
                format!("{{{}}}", members.join(", "))
            }
            _ => "string".to_owned(),
        }
    }

    /// The schema on its own: what it refers to in the document comes along in it. The error is the reference that
    /// leads out of the document.
    pub(super) fn alone(&self, schema: &'a Value) -> Result<Value, String> {
        let mut definitions = Map::new();
        let mut waiting = Vec::new();
        let schema = self.resolve(schema)?;
        let mut alone = moved(schema, &mut waiting);
        while let Some(to) = waiting.pop() {
            let name = definition(&to);
            if definitions.contains_key(&name) {
                continue;
            }
            let inside = to.strip_prefix('#').ok_or_else(|| to.clone())?;
            let target = self.0.pointer(inside).ok_or_else(|| to.clone())?;
            definitions.insert(name.clone(), Value::Null);
            let target = moved(target, &mut waiting);
            definitions.insert(name, target);
        }
        if let Value::Object(members) = &mut alone {
            // The dialect that AsyncAPI's own schemas are of.
            let mut first = Map::new();
            first.insert("$schema".to_owned(), Value::from("http://json-schema.org/draft-07/schema#"));
            first.extend(
                std::mem::take(members).into_iter().filter(|(name, _)| name != "$schema" && name != "$id"),
            );
            if !definitions.is_empty() {
                first.insert("definitions".to_owned(), Value::Object(definitions));
            }
            *members = first;
        }
        Ok(alone)
    }
}

/// The name of a schema among the definitions, made of the reference to it.
fn definition(to: &str) -> String {
    to.trim_start_matches("#/components/schemas/").trim_start_matches("#/").replace('/', "-")
}

/// A schema whose references lead to its own definitions; where they led before is added to `waiting`.
fn moved(schema: &Value, waiting: &mut Vec<String>) -> Value {
    match schema {
        Value::Object(members) => {
            let mut copy = Map::new();
            for (name, value) in members {
                let value = match (name.as_str(), value) {
                    ("$ref", Value::String(to)) => {
                        waiting.push(to.clone());
                        Value::from(format!("#/definitions/{}", definition(to)))
                    }
                    // Tools add what is nothing to a validator.
                    (name, _) if name.starts_with("x-") => continue,
                    _ => moved(value, waiting),
                };
                copy.insert(name.clone(), value);
            }
            Value::Object(copy)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| moved(item, waiting)).collect()),
        other => other.clone(),
    }
}

fn list(value: Option<&Value>) -> Vec<&Value> {
    value.and_then(Value::as_array).map(|items| items.iter().collect()).unwrap_or_default()
}

/// The one value that fits, where there is only one.
fn fixed(schema: &Value) -> Option<&Value> {
    match (schema.get("const"), list(schema.get("enum")).as_slice()) {
        (Some(value), _) => Some(value),
        (None, [only]) => Some(only),
        _ => None,
    }
}

fn kind(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => Some(one),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).find(|one| *one != "null"),
        _ => None,
    }
}

fn string(schema: &Value) -> String {
    let regex = schema.get("pattern").and_then(Value::as_str);
    if let Some(regex) = regex {
        let written = format!("/{}/", regex.replace("\\/", "/").replace('/', "\\/"));
        if crate::flow::parse_pattern(&written).is_ok() {
            return written;
        }
    }
    let least = schema.get("minLength").and_then(Value::as_u64);
    let most = schema.get("maxLength").and_then(Value::as_u64);
    match (schema.get("format").and_then(Value::as_str), least, most) {
        (Some("uuid"), ..) => "uuid".to_owned(),
        (Some("date-time"), ..) => "timestamp".to_owned(),
        (Some("date"), ..) => "\"2024-02-29\"".to_owned(),
        (Some("email"), ..) => "\"somebody@example.org\"".to_owned(),
        (Some("uri"), ..) => "\"https://example.org/\"".to_owned(),
        (_, Some(least), _) if least > 8 => format!("/^[a-z]{{{least}}}$/"),
        (_, _, Some(most)) if most < 16 => format!("/^[a-z]{{{}}}$/", most.max(least.unwrap_or(0))),
        _ => "string".to_owned(),
    }
}

fn range(schema: &Value) -> Option<String> {
    let end = |name: &str| schema.get(name).filter(|value| value.is_number());
    let whole = kind(schema) == Some("integer");
    let low = end("minimum").map(Value::to_string);
    let beyond = |value: &Value, by: i64| value.as_i64().map(|value| (value + by).to_string());
    let low = low.or_else(|| end("exclusiveMinimum").and_then(|value| beyond(value, 1)));
    let high = end("maximum").map(Value::to_string);
    let high = high.or_else(|| end("exclusiveMaximum").and_then(|value| beyond(value, -1)));
    if low.is_none() && high.is_none() {
        return None;
    }
    // Made from a range is a number; of these one with a fraction may be drawn unless both ends are whole.
    if whole && let (Some(low), None) = (&low, &high) {
        return Some(low.clone());
    }
    Some(format!("{}..{}", low.unwrap_or_default(), high.unwrap_or_default()))
}
