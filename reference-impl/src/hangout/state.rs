//! What the server knows: connections with their properties, and what changed since the last check (section 3.1).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::machine::LinkId;

/// One open connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Connection {
    pub(super) token: String,
    pub(super) properties: Map<String, Value>,
}

/// What changed since the last check: tokens in order of occurrence, each once a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangeSet {
    pub(super) opened: Vec<String>,
    pub(super) closed: Vec<String>,
    pub(super) properties: Vec<String>,
}

impl ChangeSet {
    pub(super) fn open(&mut self, token: &str) {
        note(&mut self.opened, token);
    }

    pub(super) fn close(&mut self, token: &str) {
        note(&mut self.closed, token);
    }

    pub(super) fn write(&mut self, token: &str) {
        note(&mut self.properties, token);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.closed.is_empty() && self.properties.is_empty()
    }

    /// The `changes` packet (section 2.5).
    pub(super) fn packet(&self) -> String {
        json!({
            "from": "server",
            "type": "changes",
            "changes": { "opened": self.opened, "closed": self.closed, "properties": self.properties },
        })
        .to_string()
    }
}

fn note(list: &mut Vec<String>, token: &str) {
    if !list.iter().any(|known| known == token) {
        list.push(token.to_owned());
    }
}

/// How a connection shows in a table that a planted fault has altered.
pub(super) struct Listing {
    /// It is in `indexes`.
    pub(super) listed: bool,
    /// Its entry in `properties`.
    pub(super) entry: Option<Map<String, Value>>,
}

/// All open connections, in order of arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    connections: BTreeMap<LinkId, Connection>,
    by_token: BTreeMap<String, LinkId>,
}

impl Table {
    pub(super) fn insert(&mut self, link: LinkId, connection: Connection) {
        self.by_token.entry(connection.token.clone()).or_insert(link);
        self.connections.insert(link, connection);
    }

    pub(super) fn remove(&mut self, link: LinkId) -> Option<Connection> {
        let gone = self.connections.remove(&link)?;
        if self.by_token.get(&gone.token) == Some(&link) {
            self.by_token.remove(&gone.token);
        }
        Some(gone)
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&Connection> {
        self.connections.get(&link)
    }

    pub(super) fn get_mut(&mut self, link: LinkId) -> Option<&mut Connection> {
        self.connections.get_mut(&link)
    }

    pub(super) fn link_of(&self, token: &str) -> Option<LinkId> {
        self.by_token.get(token).copied()
    }

    pub(super) fn has_token(&self, token: &str) -> bool {
        self.by_token.contains_key(token)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    pub(super) fn links(&self) -> Vec<LinkId> {
        self.connections.keys().copied().collect()
    }

    pub(super) fn first_token(&self) -> Option<String> {
        self.connections.values().next().map(|connection| connection.token.clone())
    }

    /// What is the same in everybody's `metadata`: all but `index` (section 2.6).
    fn shared_part(&self, version: &str) -> (Value, Value, Value) {
        let tokens: Vec<&str> =
            self.connections.values().map(|connection| connection.token.as_str()).collect();
        let mut properties = Map::new();
        for connection in self.connections.values() {
            properties.insert(connection.token.clone(), Value::Object(connection.properties.clone()));
        }
        (json!(tokens), Value::Object(properties), Value::from(version))
    }

    /// The `metadata` packets of all connections.
    pub(super) fn metadata(&self, version: &str) -> Vec<(LinkId, String)> {
        let (indexes, properties, version) = self.shared_part(version);
        // Written once: a crowd of n would otherwise cost n² in writing the table alone.
        let rest = format!(r#""indexes":{indexes},"properties":{properties},"version":{version}"#);
        self.connections
            .iter()
            .map(|(link, connection)| {
                let index = Value::from(connection.token.as_str());
                let packet =
                    format!(r#"{{"from":"server","type":"metadata","metadata":{{"index":{index},{rest}}}}}"#);
                (*link, packet)
            })
            .collect()
    }

    /// The `metadata` packets of all connections, with the dead `ghosts` and each connection as `shown` wants it.
    pub(super) fn metadata_as(
        &self,
        version: &str,
        ghosts: &[Connection],
        shown: impl Fn(LinkId, Option<LinkId>, &Connection) -> Listing,
    ) -> Vec<(LinkId, String)> {
        let living = || self.connections.iter().map(|(link, one)| (Some(*link), one));
        let packet = |(reader, own): (&LinkId, &Connection)| {
            let (mut indexes, mut properties) = (Vec::new(), Map::new());
            for (link, one) in living().chain(ghosts.iter().map(|one| (None, one))) {
                let listing = shown(*reader, link, one);
                indexes.extend(listing.listed.then(|| one.token.clone()));
                if let Some(entry) = listing.entry {
                    properties.insert(one.token.clone(), Value::Object(entry));
                }
            }
            let table = json!({ "index": own.token, "indexes": indexes, "properties": properties, "version": version });
            (*reader, json!({ "from": "server", "type": "metadata", "metadata": table }).to_string())
        };
        self.connections.iter().map(packet).collect()
    }

    /// The `metadata` packet of one connection.
    pub(super) fn metadata_for(&self, link: LinkId, version: &str) -> Option<String> {
        let connection = self.connections.get(&link)?;
        let (indexes, properties, version) = self.shared_part(version);
        let table = json!({
            "index": connection.token, "indexes": indexes, "properties": properties, "version": version,
        });
        Some(json!({ "from": "server", "type": "metadata", "metadata": table }).to_string())
    }
}
