//! A folder made of an AsyncAPI 3 document: channels, messages and operations become kinds of message with their
//! schemas, requirements, and a first flow for each message that the application receives.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thiserror::Error;

use super::schema::Document;
use super::{Files, prefix};
use crate::flow::format::format;
use crate::flow::{parse, parse_pattern};

/// Whom the document describes: its operations say what that one sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Describes {
    /// The program that others connect to.
    Server,
    /// A program that connects.
    Client,
}

/// Why no folder can be made of a document.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FromAsyncapiError {
    /// It is something else.
    #[error("this is no AsyncAPI document: it has no member `asyncapi`")]
    NotAsyncapi,
    /// It is of another version.
    #[error(
        "this document is of AsyncAPI {0}; version 3 is read (`asyncapi convert` makes it of older ones)"
    )]
    Version(String),
    /// Messages travel in another way.
    #[error("{place}: flowproof does not speak `{protocol}`; it speaks ws, wss, tcp and udp")]
    Protocol {
        /// Which server says so.
        place: String,
        /// What it says.
        protocol: String,
    },
    /// Something that is referred to is not there.
    #[error("{place}: `{to}` leads nowhere in this document{}", elsewhere(.to))]
    Reference {
        /// What refers to it.
        place: String,
        /// Where to.
        to: String,
    },
    /// There is nothing to make a folder of.
    #[error("this document has no message with a payload")]
    NoMessages,
}

/// What to do about a reference that leads out of the document.
fn elsewhere(to: &str) -> &'static str {
    if to.starts_with('#') { "" } else { "; put everything into one (`asyncapi bundle`)" }
}

/// Makes the files.
pub fn from_asyncapi(name: &str, document: &Value, describes: Describes) -> Result<Files, FromAsyncapiError> {
    let version = document.get("asyncapi").and_then(Value::as_str).ok_or(FromAsyncapiError::NotAsyncapi)?;
    if !version.starts_with("3.") {
        return Err(FromAsyncapiError::Version(version.to_owned()));
    }
    let mut maker =
        Maker { name, document: Document(document), describes, kinds: Vec::new(), replies: Vec::new() };
    let transport = maker.transport()?;
    maker.channels()?;
    maker.operations()?;
    if maker.kinds.is_empty() {
        return Err(FromAsyncapiError::NoMessages);
    }
    Ok(maker.files(transport))
}

/// A kind of message in one direction.
struct Kind<'a> {
    /// The message's name in the document.
    name: String,
    /// Where it is defined in its channel.
    channel: String,
    from_server: bool,
    summary: String,
    schema: &'a Value,
    alone: Value,
    /// How it is known.
    when: Vec<(Vec<String>, String)>,
    /// Nothing in its schema tells it from others.
    guessed: bool,
    id: String,
}

/// A message that is answered by another.
struct Reply {
    operation: String,
    /// Places in `kinds`.
    asked: usize,
    answer: usize,
    /// Where both carry the same value.
    correlation: Option<(Vec<String>, Vec<String>)>,
}

struct Maker<'a> {
    name: &'a str,
    document: Document<'a>,
    describes: Describes,
    kinds: Vec<Kind<'a>>,
    replies: Vec<Reply>,
}

struct Transport {
    kind: &'static str,
    path: String,
}

fn members<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// A word of an id.
fn word(name: &str) -> String {
    let mut word = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_uppercase());
        } else if !word.is_empty() && !word.ends_with('-') {
            word.push('-');
        }
    }
    let word = word.trim_end_matches('-');
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word.to_owned() } else { format!("M{word}") }
}

/// A part of a file's name.
fn file_word(name: &str) -> String {
    word(name).to_lowercase()
}

/// One line, fit for a TOML string.
fn line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    toml::Value::from(line).to_string()
}

/// `$message.payload#/id` as a path.
fn location(text: &str) -> Option<Vec<String>> {
    let pointer = text.strip_prefix("$message.payload#/")?;
    Some(pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// A pattern for an object in which these members have these values.
fn object(given: &[(Vec<String>, String)]) -> String {
    if given.is_empty() {
        return "object".to_owned();
    }
    let mut members: BTreeMap<&str, Vec<(Vec<String>, String)>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (path, value) in given {
        let Some((first, rest)) = path.split_first() else { return value.clone() };
        if !order.contains(&first.as_str()) {
            order.push(first);
        }
        members.entry(first).or_default().push((rest.to_vec(), value.clone()));
    }
    let members: Vec<String> =
        order.iter().map(|name| format!("{}: {}", Value::from(*name), object(&members[name]))).collect();
    format!("{{{}}}", members.join(", "))
}

impl<'a> Maker<'a> {
    fn resolve(&self, place: &str, value: &'a Value) -> Result<&'a Value, FromAsyncapiError> {
        self.document
            .resolve(value)
            .map_err(|to| FromAsyncapiError::Reference { place: place.to_owned(), to })
    }

    fn transport(&self) -> Result<Transport, FromAsyncapiError> {
        let whole = self.document.0;
        let mut transport = Transport { kind: "websocket", path: String::new() };
        if let Some((name, server)) = members(whole, "servers").next() {
            let place = format!("servers/{name}");
            let server = self.resolve(&place, server)?;
            let protocol = text(server, "protocol").unwrap_or("ws");
            transport.kind = match protocol {
                "ws" | "wss" | "http" | "https" => "websocket",
                "tcp" => "tcp",
                "udp" => "udp",
                other => return Err(FromAsyncapiError::Protocol { place, protocol: other.to_owned() }),
            };
            text(server, "pathname").unwrap_or_default().clone_into(&mut transport.path);
        }
        if let Some((name, channel)) = members(whole, "channels").next() {
            let channel = self.resolve(&format!("channels/{name}"), channel)?;
            let mut address = text(channel, "address").unwrap_or_default().to_owned();
            for (parameter, value) in members(channel, "parameters") {
                let value = self.resolve(&format!("channels/{name}/parameters/{parameter}"), value)?;
                let choices = |key: &str| value.get(key).and_then(|list| list.get(0)).and_then(Value::as_str);
                let sample =
                    text(value, "default").or_else(|| choices("examples")).or_else(|| choices("enum"));
                address = address.replace(&format!("{{{parameter}}}"), sample.unwrap_or(parameter));
            }
            transport.path =
                format!("{}/{}", transport.path.trim_end_matches('/'), address.trim_start_matches('/'));
        }
        if !transport.path.starts_with('/') {
            transport.path.insert(0, '/');
        }
        Ok(transport)
    }

    /// What the channels say is looked at where operations name it; here only that it is all there.
    fn channels(&self) -> Result<(), FromAsyncapiError> {
        for (name, channel) in members(self.document.0, "channels") {
            let place = format!("channels/{name}");
            let channel = self.resolve(&place, channel)?;
            for (message, value) in members(channel, "messages") {
                self.resolve(&format!("{place}/messages/{message}"), value)?;
            }
        }
        Ok(())
    }

    fn operations(&mut self) -> Result<(), FromAsyncapiError> {
        let mut named = BTreeSet::new();
        for (name, operation) in members(self.document.0, "operations") {
            let place = format!("operations/{name}");
            let operation = self.resolve(&place, operation)?;
            let sends = text(operation, "action") == Some("send");
            let from_server = sends == (self.describes == Describes::Server);
            let messages = self.messages_of(&place, operation)?;
            let mut asked = Vec::new();
            for (channel, message, value) in messages {
                named.insert((channel.clone(), message.clone()));
                let summary = text(operation, "summary").or_else(|| text(operation, "description"));
                asked.extend(self.kind(&channel, &message, value, from_server, summary)?);
            }
            let Some(reply) = operation.get("reply") else { continue };
            let place = format!("{place}/reply");
            let reply = self.resolve(&place, reply)?;
            // A reply on the channel of the question when it names none.
            let reply_channel = if reply.get("channel").is_some() { reply } else { operation };
            let answers = if reply.get("messages").is_some() {
                self.messages_of(&place, reply)?
            } else {
                self.messages_of(&place, reply_channel)?
            };
            for (channel, message, value) in answers {
                named.insert((channel.clone(), message.clone()));
                let Some(answer) = self.kind(&channel, &message, value, !from_server, None)? else {
                    continue;
                };
                for asked in &asked {
                    let correlation = self.correlation(*asked, answer);
                    let operation = name.clone();
                    self.replies.push(Reply { operation, asked: *asked, answer, correlation });
                }
            }
        }
        // Messages that no operation names: either end may send them.
        for (channel, value) in members(self.document.0, "channels") {
            let value = self.resolve(channel, value)?;
            for (message, value) in members(value, "messages") {
                if !named.contains(&(channel.clone(), message.clone())) {
                    self.kind(channel, message, value, true, None)?;
                    self.kind(channel, message, value, false, None)?;
                }
            }
        }
        Ok(())
    }

    /// The messages of an operation or a reply: those it names, or all of its channel.
    fn messages_of(
        &self,
        place: &str,
        operation: &'a Value,
    ) -> Result<Vec<(String, String, &'a Value)>, FromAsyncapiError> {
        let nowhere = |to: &str| FromAsyncapiError::Reference { place: place.to_owned(), to: to.to_owned() };
        let named: Vec<&str> = operation
            .get("messages")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|one| text(one, "$ref"))
            .collect();
        if !named.is_empty() {
            return named
                .into_iter()
                .map(|to| {
                    let inside = to.strip_prefix('#').ok_or_else(|| nowhere(to))?;
                    let value = self.document.0.pointer(inside).ok_or_else(|| nowhere(to))?;
                    let mut parts = to.rsplit('/');
                    let message = parts.next().unwrap_or_default().to_owned();
                    let channel = parts.nth(1).unwrap_or_default().to_owned();
                    Ok((channel, message, value))
                })
                .collect();
        }
        let to = operation.get("channel").and_then(|channel| text(channel, "$ref")).unwrap_or_default();
        let inside = to.strip_prefix('#').ok_or_else(|| nowhere(to))?;
        let channel = self.document.0.pointer(inside).ok_or_else(|| nowhere(to))?;
        let channel = self.resolve(to, channel)?;
        let name = to.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(members(channel, "messages")
            .map(|(message, value)| (name.clone(), message.clone(), value))
            .collect())
    }

    /// Enters a kind of message, unless it is there; `None` for one without a payload in JSON.
    fn kind(
        &mut self,
        channel: &str,
        message: &str,
        value: &'a Value,
        from_server: bool,
        summary: Option<&str>,
    ) -> Result<Option<usize>, FromAsyncapiError> {
        let place = format!("channels/{channel}/messages/{message}");
        let value = self.resolve(&place, value)?;
        let name = text(value, "name").unwrap_or(message).to_owned();
        let known = |kind: &Kind<'_>| kind.name == name && kind.from_server == from_server;
        if let Some(known) = self.kinds.iter().position(known) {
            return Ok(Some(known));
        }
        let Some(payload) = value.get("payload") else { return Ok(None) };
        let payload = self.resolve(&place, payload)?;
        // A schema of another format stands one deeper.
        let schema = if payload.get("schemaFormat").is_some() {
            self.resolve(&place, payload.get("schema").unwrap_or(payload))?
        } else {
            payload
        };
        let alone = self
            .document
            .alone(schema)
            .map_err(|to| FromAsyncapiError::Reference { place: place.clone(), to })?;
        let marks = self.document.marks(schema);
        let guessed = marks.is_empty();
        let when = if guessed { self.document.required(schema) } else { marks };
        let base = format!("{}-{}", prefix(self.name), word(&name));
        let mut number = 1;
        while self.kinds.iter().any(|kind| kind.id == format!("{base}-{number}")) {
            number += 1;
        }
        let described = text(value, "summary").or_else(|| text(value, "description")).or(summary);
        self.kinds.push(Kind {
            id: format!("{base}-{number}"),
            channel: channel.to_owned(),
            from_server,
            summary: described.unwrap_or_default().to_owned(),
            schema,
            alone,
            when,
            guessed,
            name,
        });
        Ok(Some(self.kinds.len() - 1))
    }

    /// Where a question and its answer carry the same value.
    fn correlation(&self, asked: usize, answer: usize) -> Option<(Vec<String>, Vec<String>)> {
        let place = |kind: &Kind<'_>| {
            let whole = self.document.0;
            let mut all = members(whole, "channels").flat_map(|(_, channel)| members(channel, "messages"));
            let message = all.find_map(|(name, value)| {
                let value = self.document.resolve(value).ok()?;
                let named = text(value, "name").unwrap_or(name);
                (named == kind.name).then_some(value)
            })?;
            let id = self.document.resolve(message.get("correlationId")?).ok()?;
            location(text(id, "location")?)
        };
        let (asked, answer) = (&self.kinds[asked], &self.kinds[answer]);
        Some((place(asked)?, place(answer)?))
    }

    fn files(&self, transport: Transport) -> Files {
        let mut files = Files::new();
        for kind in &self.kinds {
            files.insert(format!("schema/{}", self.schema_file(kind)), format!("{:#}\n", kind.alone));
        }
        files.insert("protocol.toml".to_owned(), self.protocol(&transport));
        files.insert("requirements.toml".to_owned(), self.requirements());
        if !self.replies.is_empty() {
            files.insert("rules.toml".to_owned(), self.rules());
        }
        files.insert("served.flow".to_owned(), self.served(&transport));
        for (path, text) in self.flows() {
            files.insert(path, text);
        }
        files
    }

    /// What the server says without being asked.
    fn unasked(&self) -> impl Iterator<Item = (usize, &Kind<'a>)> {
        let answers = |place: usize| self.replies.iter().any(|reply| reply.answer == place);
        self.kinds.iter().enumerate().filter(move |(place, kind)| kind.from_server && !answers(*place))
    }

    fn schema_file(&self, kind: &Kind<'_>) -> String {
        let both = self.kinds.iter().filter(|other| other.name == kind.name).count() > 1;
        let side = match (both, kind.from_server) {
            (false, _) => "",
            (true, true) => ".from-server",
            (true, false) => ".from-client",
        };
        format!("{}{side}.json", file_word(&kind.name))
    }

    fn protocol(&self, transport: &Transport) -> String {
        let id = prefix(self.name);
        let info = self.document.0.get("info").cloned().unwrap_or_default();
        let title = text(&info, "title").unwrap_or(self.name);
        let edition = text(&info, "version").filter(|version| !version.is_empty()).unwrap_or("v1");
        let unasked: Vec<String> =
            self.unasked().map(|(_, kind)| format!("'''{}'''", object(&kind.when))).collect();
        let mut file = format!(
            "# Made of an AsyncAPI document. Every key is described in flowproof's docs/protocol-folder.md.\n\
             name = \"{}\"\ntitle = {}\neditions = [{edition}]\ndefault-edition = {edition}\n\
             # Messages that may come at any time: a flow need not expect them. Patterns, as in flows.\nignoring = [{}]\n\n\
             [transport]\nkind = \"{}\"\ndefault-path = {}\n\n\
             [[role]]\nname = \"server\"\nlistens = true\n\n[[role]]\nname = \"client\"\nlistens = false\n\n\
             # How long news travels, what is added to limits on a real network, how long a step waits.\n\
             [timing]\nsettle = \"500ms\"\nslack = \"250ms\"\ntimeout = \"5s\"\n\n\
             [survival]\nserver = \"{id}-SERVE-1\"\n\n[wire]\njson-object = \"{id}-WIRE-1\"\n",
            self.name,
            line(title),
            unasked.join(", "),
            transport.kind,
            line(&transport.path),
            edition = line(edition),
        );
        for kind in &self.kinds {
            let (from, to) = if kind.from_server { ("server", "client") } else { ("client", "server") };
            file.push_str(&format!("\n# Channel {}.\n", kind.channel));
            if kind.guessed {
                file.push_str(
                    "# Nothing in its schema tells this message from others; say here how it is known.\n",
                );
            }
            file.push_str(&format!(
                "[[message]]\nname = {}\nfrom = \"{from}\"\nto = \"{to}\"\nwhen = '''{}'''\nschema = \"{}\"\nrequirement = \"{}\"\n",
                line(&kind.name),
                object(&kind.when),
                self.schema_file(kind),
                kind.id
            ));
        }
        file
    }

    fn requirements(&self) -> String {
        let id = prefix(self.name);
        let mut file = "# What a conforming program does, one numbered requirement for each thing that can be kept or broken.\n".to_owned();
        let mut add = |id: &str, role: &str, topic: &str, section: &str, text: &str| {
            file.push_str(&format!(
                "\n[[requirement]]\nid = \"{id}\"\nlevel = \"MUST\"\nroles = [{role}]\ntopic = {}\nsection = {}\ntext = {}\n",
                line(topic),
                line(section),
                line(text)
            ));
        };
        let both = "\"server\", \"client\"";
        add(&format!("{id}-WIRE-1"), both, "Messages", "AsyncAPI", "Every message is one JSON object.");
        for kind in &self.kinds {
            let role = if kind.from_server { "\"server\"" } else { "\"client\"" };
            let summary = kind.summary.trim_end_matches('.');
            let summary = if summary.is_empty() { String::new() } else { format!(" ({summary})") };
            let text = format!("The message {}{summary} has the form that its schema gives.", kind.name);
            add(&kind.id, role, &kind.channel, &format!("channels/{}", kind.channel), &text);
        }
        for (number, reply) in self.replies.iter().enumerate() {
            let (asked, answer) = (&self.kinds[reply.asked], &self.kinds[reply.answer]);
            let role = if answer.from_server { "\"server\"" } else { "\"client\"" };
            let text = format!("Each {} is answered by one {}, within 5 s.", asked.name, answer.name);
            let section = format!("operations/{}", reply.operation);
            add(&self.reply_id(number), role, &answer.channel, &section, &text);
        }
        let text = "Whatever one client sends, the others are served.";
        add(&format!("{id}-SERVE-1"), "\"server\"", "Robustness", "flowproof", text);
        file
    }

    fn reply_id(&self, number: usize) -> String {
        format!("{}-REPLY-{}", prefix(self.name), number + 1)
    }

    /// How a question and its answer are known, `$id` for what both carry.
    fn patterns(&self, reply: &Reply) -> (String, String) {
        let (mut asked, mut answer) =
            (self.kinds[reply.asked].when.clone(), self.kinds[reply.answer].when.clone());
        if let Some((in_asked, in_answer)) = &reply.correlation {
            asked.retain(|(path, _)| path != in_asked);
            answer.retain(|(path, _)| path != in_answer);
            asked.push((in_asked.clone(), "$id".to_owned()));
            answer.push((in_answer.clone(), "$id".to_owned()));
        }
        (object(&asked), object(&answer))
    }

    fn rules(&self) -> String {
        let mut file =
            "# Rules over whole conversations; they watch every flow, and live traffic.\n".to_owned();
        for (number, reply) in self.replies.iter().enumerate() {
            let (when, answer) = self.patterns(reply);
            let from_server = self.kinds[reply.asked].from_server;
            let (from, to) = if from_server { ("server", "client") } else { ("client", "server") };
            file.push_str(&format!(
                "\n[[rule]]\nrequirement = \"{}\"\nkind = \"answered\"\nfrom = \"{from}\"\nto = \"{to}\"\nwhen = '''{when}'''\nanswer = '''{answer}'''\nwithin = \"5s\"\n",
                self.reply_id(number)
            ));
        }
        file
    }

    fn served(&self, transport: &Transport) -> String {
        let echo = if transport.kind == "websocket" {
            "stranger -> server ping \"still there\"\nwithin 2s {\n  server -> stranger pong \"still there\"\n}\n"
        } else {
            ""
        };
        in_style(format!(
            "# How somebody who keeps the rules is served: to be told better than by a ping.\n\
             protocol {}\ncast server, stranger client\n\nstranger connects\n{echo}stranger disconnects 1000\n",
            self.name
        ))
    }

    /// A flow for each message that a client sends.
    fn flows(&self) -> Vec<(String, String)> {
        let mut flows = Vec::new();
        for (place, kind) in self.kinds.iter().enumerate().filter(|(_, kind)| !kind.from_server) {
            let replies = self.replies.iter().enumerate().filter(|(_, reply)| reply.asked == place);
            let replies: Vec<(usize, &Reply)> = replies.collect();
            let correlation = replies.iter().find_map(|(_, reply)| reply.correlation.as_ref());
            let mut given = kind.when.clone();
            given.retain(|(_, value)| value != "_");
            if let Some((path, _)) = correlation {
                let made = self.made_at(kind, path);
                given.retain(|(known, _)| known != path);
                given.push((path.clone(), format!("$id: {made}")));
            }
            let message = self.document.maker(kind.schema, &given);
            let message = if parse_pattern(&message).is_ok() { message } else { object(&kind.when) };
            let mut text = format!(
                "# {}\nprotocol {}\ncast server, alice client\n",
                if replies.is_empty() {
                    format!("{} is taken, and others are served. Say here what it leads to.", kind.name)
                } else {
                    format!("{} is answered.", kind.name)
                },
                self.name
            );
            // What comes unasked is judged by its schema.
            let about: Vec<&str> = self.unasked().map(|(_, kind)| kind.id.as_str()).collect();
            if replies.is_empty() && !about.is_empty() {
                text.push_str(&format!("about [{}]\n", about.join(" ")));
            }
            text.push('\n');
            text.push_str(&format!("alice connects\nalice -> server {message} [{}]\n", kind.id));
            match replies.as_slice() {
                [] => text.push_str(&format!("settle\nserved [{}-SERVE-1]\n", prefix(self.name))),
                [(number, reply)] => {
                    let (_, answer) = self.patterns(reply);
                    text.push_str(&format!(
                        "within 5s [{}] {{\n  server -> alice {answer} [{}]\n}}\n",
                        self.reply_id(*number),
                        self.kinds[reply.answer].id
                    ));
                }
                several => {
                    // Any of them answers.
                    text.push_str(&format!("within 5s [{}] {{\n", self.reply_id(several[0].0)));
                    for (place, (_, reply)) in several.iter().enumerate() {
                        let (_, answer) = self.patterns(reply);
                        let word = if place == 0 { "either" } else { "} or" };
                        let id = &self.kinds[reply.answer].id;
                        text.push_str(&format!("{word} {{\n  server -> alice {answer} [{id}]\n"));
                    }
                    text.push_str("}\n}\n");
                }
            }
            let path = format!("flows/{}/{}.flow", file_word(&kind.channel), file_word(&kind.name));
            flows.push((path, in_style(text)));
        }
        flows
    }

    /// What is made at a place of a message.
    fn made_at(&self, kind: &Kind<'_>, path: &[String]) -> String {
        let mut schema = Some(kind.schema);
        for name in path {
            schema = schema
                .and_then(|schema| self.document.resolve(schema).ok())
                .and_then(|schema| schema.get("properties")?.get(name));
        }
        let made = schema.map(|schema| self.document.maker(schema, &[]));
        made.filter(|made| !made.starts_with('"')).unwrap_or_else(|| "string".to_owned())
    }
}

/// A flow in the one style.
fn in_style(text: String) -> String {
    let (flow, found) = parse(&text);
    if found.iter().any(crate::diagnostic::Diagnostic::is_error) { text } else { format(&flow) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_at_places_are_one_object() {
        let given = [
            (vec!["meta".to_owned(), "type".to_owned()], "\"x\"".to_owned()),
            (vec!["meta".to_owned(), "id".to_owned()], "$id".to_owned()),
            (vec!["n".to_owned()], "_".to_owned()),
        ];
        assert_eq!(object(&given), r#"{"meta": {"type": "x", "id": $id}, "n": _}"#);
    }

    #[test]
    fn a_schema_brings_along_what_it_refers_to() {
        let document = json!({"components": {"schemas": {
            "a": {"type": "object", "properties": {"b": {"$ref": "#/components/schemas/b"}}},
            "b": {"type": "string"},
        }}});
        let alone = Document(&document).alone(&document["components"]["schemas"]["a"]).unwrap();
        assert_eq!(alone["properties"]["b"]["$ref"], "#/definitions/b");
        let definitions = alone["definitions"].as_object().expect("there are some");
        assert_eq!(definitions.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_leads_nowhere_is_told_with_its_place() {
        let document =
            json!({"asyncapi": "3.0.0", "channels": {"c": {"messages": {"m": {"$ref": "other.yaml#/m"}}}}});
        let error = from_asyncapi("x", &document, Describes::Server).unwrap_err().to_string();
        assert_eq!(
            error,
            "channels/c/messages/m: `other.yaml#/m` leads nowhere in this document; put everything into one (`asyncapi bundle`)"
        );
        let old = json!({"asyncapi": "2.6.0"});
        assert_eq!(
            from_asyncapi("x", &old, Describes::Server),
            Err(FromAsyncapiError::Version("2.6.0".to_owned()))
        );
    }
}
