//! A protocol as an AsyncAPI 3 document: a channel a direction, a message a kind, with its schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::corpus::{MessageRule, Protocol, TransportKind};
use crate::flow::format::pattern_text;

/// Writes the document of a protocol in one edition.
pub fn document(protocol: &Protocol, edition: &str) -> Value {
    let settings = &protocol.settings;
    let transport = settings.transport(edition);
    let in_force = |editions: &[String]| editions.is_empty() || editions.iter().any(|known| known == edition);
    let rules: Vec<&MessageRule> = protocol.messages.iter().filter(|rule| in_force(&rule.editions)).collect();
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    let mut directions: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for rule in rules {
        let name = key(&format!("{} {}", rule.name, rule.schema.trim_end_matches(".json")));
        let schema = key(rule.schema.trim_end_matches(".json"));
        schemas.insert(schema.clone(), placed(&rule.document, &schema));
        let requirement = protocol.catalogue.get(&rule.requirement);
        messages.insert(
            name.clone(),
            json!({
                "name": rule.name,
                "title": rule.name,
                "summary": requirement.map(|one| one.text.as_str()).unwrap_or_default(),
                "description": format!("Judged under {}, for messages like `{}`.", rule.requirement, pattern_text(&rule.when)),
                "contentType": "application/json",
                "payload": {"$ref": format!("#/components/schemas/{schema}")},
            }),
        );
        let named = directions.entry((rule.from.clone(), rule.to.clone())).or_default();
        if !named.contains(&name) {
            named.push(name);
        }
    }
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for ((from, to), names) in &directions {
        let channel = key(&format!("{from} to {to}"));
        let of_channel: Map<String, Value> = names
            .iter()
            .map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})))
            .collect();
        channels.insert(
            channel.clone(),
            json!({
                "address": if transport.kind == TransportKind::Websocket { Some(&transport.default_path) } else { None },
                "title": format!("What a {from} says to a {to}"),
                "messages": of_channel,
            }),
        );
        // The document speaks for the role that others connect to: what it says it sends, the rest it receives.
        let listens = settings.roles.iter().any(|role| role.listens && role.name == *from);
        let references: Vec<Value> = names
            .iter()
            .map(|name| json!({"$ref": format!("#/channels/{channel}/messages/{name}")}))
            .collect();
        operations.insert(
            key(&format!("{} {from} to {to}", if listens { "send" } else { "receive" })),
            json!({
                "action": if listens { "send" } else { "receive" },
                "channel": {"$ref": format!("#/channels/{channel}")},
                "summary": format!("Messages from a {from} to a {to}"),
                "messages": references,
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": settings.name,
            "version": edition,
            "description": format!("{}. Made by flowproof from its corpus.", settings.title),
        },
        "defaultContentType": "application/json",
        "servers": {
            "target": {
                "host": "localhost:{port}",
                "protocol": transport.kind.scheme(),
                "description": "Wherever the program under test listens.",
                "variables": {"port": {"description": "Its port."}},
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    })
}

/// A name that may be a key of a component.
fn key(name: &str) -> String {
    let mut key = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            key.push(c.to_ascii_lowercase());
        } else if !key.ends_with('-') {
            key.push('-');
        }
    }
    key.trim_matches('-').to_owned()
}

/// A schema as a component: its own name of the dialect goes, and what it refers to in itself is found under its new
/// place. Tuples are written as the dialect of AsyncAPI, draft 7, writes them.
fn placed(schema: &Value, name: &str) -> Value {
    match schema {
        Value::Object(members) => {
            let mut placed_members = Map::new();
            let tuple = members.contains_key("prefixItems");
            for (member, value) in members {
                match (member.as_str(), value) {
                    ("$schema" | "$id", _) => {}
                    ("$defs", _) => {
                        drop(placed_members.insert("definitions".to_owned(), placed(value, name)))
                    }
                    ("prefixItems", _) => {
                        drop(placed_members.insert("items".to_owned(), placed(value, name)))
                    }
                    ("items", _) if tuple => {
                        placed_members.insert("additionalItems".to_owned(), placed(value, name));
                    }
                    ("$ref", Value::String(to)) => {
                        let to = match to.strip_prefix('#') {
                            Some(inside) => {
                                format!(
                                    "#/components/schemas/{name}{}",
                                    inside.replace("/$defs/", "/definitions/")
                                )
                            }
                            None => to.clone(),
                        };
                        placed_members.insert(member.clone(), Value::from(to));
                    }
                    _ => drop(placed_members.insert(member.clone(), placed(value, name))),
                }
            }
            Value::Object(placed_members)
        }
        Value::Array(items) => Value::from(items.iter().map(|item| placed(item, name)).collect::<Vec<_>>()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;

    #[test]
    fn a_schema_finds_itself_in_its_new_place() {
        let schema = json!({
            "$schema": "x", "$defs": {"any": {"prefixItems": [{"$ref": "#/$defs/any"}], "items": false}},
        });
        assert_eq!(
            placed(&schema, "name"),
            json!({"definitions": {"any": {
                "items": [{"$ref": "#/components/schemas/name/definitions/any"}], "additionalItems": false,
            }}})
        );
    }

    #[test]
    fn every_reference_of_every_protocol_leads_somewhere() {
        let corpus = Corpus::embedded().expect("the corpus in the binary is whole");
        let mut seen = 0;
        for protocol in corpus.protocols() {
            for edition in &protocol.settings.editions {
                let document = document(&protocol, edition);
                let mut waiting = vec![&document];
                while let Some(value) = waiting.pop() {
                    match value {
                        Value::Object(members) => {
                            if let Some(Value::String(to)) = members.get("$ref") {
                                let there = document.pointer(to.trim_start_matches('#'));
                                assert!(there.is_some(), "{} {edition}: {to}", protocol.settings.name);
                                seen += 1;
                            }
                            waiting.extend(members.values());
                        }
                        Value::Array(items) => waiting.extend(items),
                        _ => {}
                    }
                }
            }
        }
        assert!(seen > 0);
    }
}
