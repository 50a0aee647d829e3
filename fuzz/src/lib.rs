//! What the fuzz targets call. Each is an ordinary function that panics when something is wrong, so that ordinary tests
//! replay every seed without a fuzzer; `fuzz_targets/` is glue.

pub mod conversations;
pub mod machines;
pub mod seeds;
pub mod texts;
pub mod wire;

use std::sync::{Arc, OnceLock};

use flowproof::corpus::{Corpus, Protocol};

pub use texts::{flow_parser, pattern_duality, trace_reader};

/// A fuzz target: its name, the protocol whose seeds and dictionary it takes, and what it calls.
pub struct Target {
    /// The name of the program.
    pub name: &'static str,
    /// The protocol, where there is one.
    pub protocol: Option<&'static str>,
    /// What it does with its input.
    pub run: fn(&[u8]),
}

/// Every target but `live`, which needs a server.
pub const TARGETS: &[Target] = &[
    Target { name: "flow_parser", protocol: None, run: texts::flow_parser },
    Target { name: "pattern_duality", protocol: None, run: texts::pattern_duality },
    Target { name: "trace_reader", protocol: None, run: texts::trace_reader },
    Target { name: "wire_hangout", protocol: Some("hangout"), run: wire::hangout },
    Target { name: "wire_cow", protocol: Some("cow"), run: wire::cow },
    Target { name: "wire_polfan", protocol: Some("polfan"), run: wire::polfan },
    Target { name: "wire_ptpchat", protocol: Some("ptpchat"), run: wire::ptpchat },
    Target { name: "wire_clusterio", protocol: Some("clusterio"), run: wire::clusterio },
    Target { name: "machine_hangout", protocol: Some("hangout"), run: machine_hangout },
    Target { name: "machine_cow", protocol: Some("cow"), run: machine_cow },
    Target { name: "machine_polfan", protocol: Some("polfan"), run: machine_polfan },
    Target { name: "machine_ptpchat", protocol: Some("ptpchat"), run: machine_ptpchat },
    Target { name: "machine_clusterio", protocol: Some("clusterio"), run: machine_clusterio },
    Target { name: "conversation_hangout", protocol: None, run: conversation_hangout },
    Target { name: "conversation_cow", protocol: None, run: conversation_cow },
    Target { name: "conversation_polfan", protocol: None, run: conversation_polfan },
    Target { name: "conversation_ptpchat", protocol: None, run: conversation_ptpchat },
    Target { name: "conversation_clusterio", protocol: None, run: conversation_clusterio },
];

/// Chooses a role by the first byte; the rest is for that role.
fn of_roles(protocol: &str, roles: &[&str], data: &[u8], run: fn(&str, &str, &[u8])) {
    if let Some((first, rest)) = data.split_first() {
        run(protocol, roles[usize::from(*first) % roles.len()], rest);
    }
}

/// Frames to the roles of hangout.
pub fn machine_hangout(data: &[u8]) {
    of_roles("hangout", &["server", "client"], data, machines::feed);
}

/// Frames to the roles of cow.
pub fn machine_cow(data: &[u8]) {
    of_roles("cow", &["relay", "peer"], data, machines::feed);
}

/// Frames to the roles of polfan.
pub fn machine_polfan(data: &[u8]) {
    of_roles("polfan", &["server", "client", "auth"], data, machines::feed);
}

/// Datagrams to the roles of ptpchat.
pub fn machine_ptpchat(data: &[u8]) {
    of_roles("ptpchat", &["node", "server"], data, machines::feed);
}

/// Frames to the roles of clusterio.
pub fn machine_clusterio(data: &[u8]) {
    of_roles("clusterio", &["master", "slave", "control"], data, machines::feed);
}

/// Conversations of hangout.
pub fn conversation_hangout(data: &[u8]) {
    of_roles("hangout", &["server", "client"], data, conversations::converse);
}

/// Conversations of cow.
pub fn conversation_cow(data: &[u8]) {
    of_roles("cow", &["relay", "peer"], data, conversations::converse);
}

/// Conversations of polfan.
pub fn conversation_polfan(data: &[u8]) {
    of_roles("polfan", &["server", "client"], data, conversations::converse);
}

/// Conversations of ptpchat.
pub fn conversation_ptpchat(data: &[u8]) {
    of_roles("ptpchat", &["node", "server"], data, conversations::converse);
}

/// Conversations of clusterio.
pub fn conversation_clusterio(data: &[u8]) {
    of_roles("clusterio", &["master", "slave", "control"], data, conversations::converse);
}

/// A built-in protocol.
fn protocol(name: &str) -> Arc<Protocol> {
    static CORPUS: OnceLock<Corpus> = OnceLock::new();
    let corpus = CORPUS
        .get_or_init(|| Corpus::embedded().unwrap_or_else(|error| panic!("{}", error.messages.join("\n"))));
    corpus.protocol(name).expect("the protocol is built in")
}
