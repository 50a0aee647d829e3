//! The built-in reference implementations behind one door, whatever their protocol and role. A new protocol enters its
//! roles here, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::driver::host::{Host, Station};
use flowproof_reference::machine::Machine;
use flowproof_reference::polfan;
use flowproof_reference::transport::Framing;
use flowproof_reference::transport::websocket::WebSocketConfig;
use flowproof_reference::{clusterio, cow, hangout, ptpchat};

use super::variation::Variation;
use crate::sinner::Sinner;
use crate::sinner::filter::RuleFilter;

/// What a reference implementation is built from.
#[derive(Clone, Debug, Default)]
pub struct ReferenceOptions<'a> {
    /// The edition it speaks.
    pub edition: &'a str,
    /// Seeds tokens and the like.
    pub seed: u64,
    /// Milliseconds since 1970 when the run begins, where the real time matters.
    pub epoch: Option<u64>,
    /// Host and port of the other side, for a role that connects.
    pub authority: &'a str,
    /// The path asked for, for a role that connects.
    pub path: &'a str,
    /// The protocol's settings, those of the run put over them.
    pub settings: BTreeMap<String, String>,
    /// The planted fault, if any.
    pub sinner: Option<&'a Sinner>,
    /// Says the same in other words and at other times, drawn by the seed.
    pub varied: bool,
}

/// True when there are built-in reference implementations of a protocol.
pub fn has_reference(protocol: &str) -> bool {
    ["clusterio", "cow", "hangout", "polfan", "ptpchat"].contains(&protocol)
}

/// The reference implementation of a role.
pub fn reference(
    protocol: &str,
    role: &str,
    options: &ReferenceOptions<'_>,
) -> Result<Box<dyn Station>, String> {
    let setting = |name: &str| options.settings.get(name).cloned();
    let websocket = || Framing::WebSocket(WebSocketConfig::default());
    match (protocol, role) {
        ("clusterio", "master") => {
            let tokens = clusterio::Tokens {
                accepted: setting("token").into_iter().collect(),
                secret: setting("secret"),
                began: CLUSTERIO_BEGAN,
            };
            let config = clusterio::MasterConfig {
                seed: options.seed,
                edition: clusterio_edition(options)?,
                tokens,
                plugins: setting("plugins").is_some(),
                faults: faults(options, clusterio::Fault::from_name)?,
                ..clusterio::MasterConfig::default()
            };
            Ok(station(clusterio::Master::new(config), clusterio_framing(), options))
        }
        ("clusterio", "slave") => {
            let defaults = clusterio::SlaveConfig::default();
            let id = match setting("slave-id") {
                Some(id) => id.parse().map_err(|_| format!("`{id}` is not the id of a slave"))?,
                None => defaults.id,
            };
            let config = clusterio::SlaveConfig {
                edition: clusterio_edition(options)?,
                name: setting("slave-name").unwrap_or(defaults.name),
                id,
                token: setting("token"),
                path: options.path.to_owned(),
                plugins: setting("plugins").is_some(),
                faults: faults(options, clusterio::Fault::from_name)?,
                ..clusterio::SlaveConfig::default()
            };
            Ok(station(clusterio::Slave::new(config), clusterio_framing(), options))
        }
        ("clusterio", "control") => {
            let config = clusterio::ControlConfig {
                edition: clusterio_edition(options)?,
                token: setting("token"),
                path: options.path.to_owned(),
                faults: faults(options, clusterio::Fault::from_name)?,
                ..clusterio::ControlConfig::default()
            };
            Ok(station(clusterio::Control::new(config), clusterio_framing(), options))
        }
        ("cow", "relay") => {
            let mut config =
                cow::RelayConfig { faults: faults(options, cow::Fault::from_name)?, ..Default::default() };
            config.epoch = options.epoch.unwrap_or(config.epoch);
            config.key = options.settings.get("key").cloned().unwrap_or(config.key);
            Ok(station(cow::Relay::new(config), websocket(), options))
        }
        ("cow", "peer") => {
            let mut config =
                cow::PeerConfig { faults: faults(options, cow::Fault::from_name)?, ..Default::default() };
            config.epoch = options.epoch.unwrap_or(config.epoch);
            config.path = options.path.to_owned();
            config.edition = cow::Edition::from_name(options.edition).unwrap_or_default();
            config.herd = options.settings.get("key").cloned().or(config.herd);
            Ok(station(cow::Peer::new(config), websocket(), options))
        }
        ("hangout", "server") => {
            let faults = faults(options, hangout::Fault::from_name)?;
            let config =
                hangout::ServerConfig { seed: options.seed, faults, ..hangout::ServerConfig::default() };
            Ok(station(hangout::Server::new(config), websocket(), options))
        }
        ("hangout", "client") => {
            let faults = faults(options, hangout::Fault::from_name)?;
            let path = options.path.to_owned();
            let config = hangout::ClientConfig { faults, path, ..hangout::ClientConfig::default() };
            Ok(station(hangout::Client::new(config), websocket(), options))
        }
        ("polfan", "server") => {
            let faults = faults(options, polfan::Fault::from_name)?;
            let config = polfan_chat(options)?;
            let config = polfan::ServerConfig { seed: options.seed, faults, ..config };
            let limits = WebSocketConfig { max_message: config.message_limit, ..WebSocketConfig::default() };
            Ok(station(polfan::Server::new(&config), Framing::WebSocket(limits), options))
        }
        ("polfan", "client") => {
            let faults = faults(options, polfan::Fault::from_name)?;
            let mut config =
                polfan::ClientConfig { seed: options.seed, faults, ..polfan::ClientConfig::default() };
            if let Some(token) = options.settings.get("client-token") {
                config.token.clone_from(token);
            }
            if !options.path.is_empty() {
                config.path = options.path.to_owned();
            }
            Ok(station(polfan::Client::new(config), websocket(), options))
        }
        ("polfan", "auth") => {
            let faults = faults(options, polfan::Fault::from_name)?;
            let users = polfan_chat(options)?.users;
            let config =
                polfan::AuthConfig { seed: options.seed, users, faults, ..polfan::AuthConfig::default() };
            Ok(station(polfan::Auth::new(&config), websocket(), options))
        }
        ("ptpchat", "node" | "server") => {
            let config = ptpchat_node(role, options)?;
            match config.edition {
                ptpchat::Edition::Tcp201604 => {
                    let framing = Framing::LengthPrefixed { max_message: PTPCHAT_FRAME };
                    Ok(station(ptpchat::StreamNode::new(config), framing, options))
                }
                ptpchat::Edition::Seed | ptpchat::Edition::Udp201603 => {
                    Ok(station(ptpchat::Node::new(config), websocket(), options))
                }
            }
        }
        _ => Err(format!("there is no built-in reference for the role {role} of {protocol}")),
    }
}

/// The setting that holds a document (TOML) about what a reference begins with.
pub const SETUP: &str = "setup";

/// True for a role that begins with what a document says.
pub fn takes_setup(protocol: &str, role: &str) -> bool {
    matches!((protocol, role), ("polfan", "server" | "auth"))
}

/// Users and spaces: those of the setup, or the default ones.
fn polfan_chat(options: &ReferenceOptions<'_>) -> Result<polfan::ServerConfig, String> {
    let config = polfan::ServerConfig::default();
    let Some(setup) = options.settings.get(SETUP) else { return Ok(config) };
    let document: serde_json::Value =
        toml::from_str(setup).map_err(|error| format!("the setup is no TOML: {error}"))?;
    config.with_setup(&document).map_err(|error| format!("the setup describes no chat: {error}"))
}

/// The time at which a clusterio master starts, in seconds since 1970: tokens are good or expired whenever it runs.
const CLUSTERIO_BEGAN: u64 = 1_750_000_000;

fn clusterio_edition(options: &ReferenceOptions<'_>) -> Result<clusterio::Edition, String> {
    let edition = clusterio::Edition::from_name(options.edition);
    edition.ok_or_else(|| format!("the reference does not speak the edition {}", options.edition))
}

/// clusterio.md section 3.5: messages of up to 16 MiB are read.
fn clusterio_framing() -> Framing {
    Framing::WebSocket(WebSocketConfig { max_message: 16 << 20, ..WebSocketConfig::default() })
}

/// Largest frame that is read: that of the authors' server (ptpchat.md section 8.3).
const PTPCHAT_FRAME: usize = 99_999;

fn ptpchat_node(role: &str, options: &ReferenceOptions<'_>) -> Result<ptpchat::NodeConfig, String> {
    let edition = ptpchat::Edition::from_name(options.edition)
        .ok_or_else(|| format!("the reference of ptpchat has no edition {}", options.edition))?;
    let setting = |name: &str| options.settings.get(name).map(String::as_str);
    let bootstrap = options.authority.split(',').filter_map(|address| address.trim().parse().ok()).collect();
    Ok(ptpchat::NodeConfig {
        seed: options.seed,
        edition,
        addressing: match setting("connect") {
            None | Some("swap") => ptpchat::Addressing::Swap,
            Some("fixed") => ptpchat::Addressing::Fixed,
            Some(other) => return Err(format!("`connect` is `swap` or `fixed`, not `{other}`")),
        },
        node_name: match setting("node-id") {
            None | Some("guid") => ptpchat::NodeName::Guid,
            Some("name-at-guid") => ptpchat::NodeName::NameAtGuid,
            Some(other) => return Err(format!("`node-id` is `guid` or `name-at-guid`, not `{other}`")),
        },
        intermediary: role == "server",
        connects: role == "node",
        bootstrap,
        faults: faults(options, ptpchat::Fault::from_name)?,
        ..ptpchat::NodeConfig::default()
    })
}

/// A machine with its ends, and the rules of its planted fault between them.
fn station<M: Machine + 'static>(
    machine: M,
    framing: Framing,
    options: &ReferenceOptions<'_>,
) -> Box<dyn Station> {
    let host = Host::new(machine, framing, options.authority);
    match options.sinner {
        Some(sinner) if !sinner.rules.is_empty() => {
            Box::new(host.with_filter(Box::new(RuleFilter::new(sinner))))
        }
        _ if options.varied => Box::new(host.with_filter(Box::new(Variation::new(options.seed)))),
        _ => Box::new(host),
    }
}

/// The planted faults that no rule over messages expresses, by the names that a protocol gives them.
fn faults<F: Ord>(
    options: &ReferenceOptions<'_>,
    from_name: fn(&str) -> Option<F>,
) -> Result<BTreeSet<F>, String> {
    let Some(name) = options.sinner.and_then(|sinner| sinner.fault.as_deref()) else {
        return Ok(BTreeSet::new());
    };
    let fault = from_name(name).ok_or_else(|| format!("the reference has no fault called {name}"))?;
    Ok(BTreeSet::from([fault]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setup_in_the_corpus_is_the_chat_that_polfan_offers_by_itself() {
        let file = include_str!("../../../corpus/polfan/setup.toml");
        let settings = BTreeMap::from([(SETUP.to_owned(), file.to_owned())]);
        let options = ReferenceOptions { settings, ..ReferenceOptions::default() };
        let config = polfan_chat(&options).expect("it describes a chat");
        let default = polfan::ServerConfig::default();
        assert_eq!(config.users, default.users);
        assert_eq!(config.spaces, default.spaces);
    }

    #[test]
    fn a_setup_that_describes_no_chat_is_refused() {
        for (setup, why) in [("user = ", "no TOML"), ("room = []", "describes no chat")] {
            let settings = BTreeMap::from([(SETUP.to_owned(), setup.to_owned())]);
            let options = ReferenceOptions { settings, ..ReferenceOptions::default() };
            let error = polfan_chat(&options).expect_err("it is refused");
            assert!(error.contains(why), "{error}");
        }
    }
}
