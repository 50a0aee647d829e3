//! The built-in reference implementations behind one door, whatever their protocol and role. A new protocol enters its
//! roles here, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::cow;
use flowproof_reference::driver::host::{Host, Station};
use flowproof_reference::hangout;
use flowproof_reference::machine::Machine;
use flowproof_reference::polfan;
use flowproof_reference::transport::Framing;
use flowproof_reference::transport::websocket::WebSocketConfig;

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
}

/// The reference implementation of a role.
pub fn reference(
    protocol: &str,
    role: &str,
    options: &ReferenceOptions<'_>,
) -> Result<Box<dyn Station>, String> {
    let websocket = || Framing::WebSocket(WebSocketConfig::default());
    match (protocol, role) {
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
            let config = polfan::ServerConfig { seed: options.seed, faults, ..polfan::ServerConfig::default() };
            let limits = WebSocketConfig { max_message: config.message_limit, ..WebSocketConfig::default() };
            Ok(station(polfan::Server::new(&config), Framing::WebSocket(limits), options))
        }
        ("polfan", "client") => {
            let faults = faults(options, polfan::Fault::from_name)?;
            let mut config = polfan::ClientConfig { seed: options.seed, faults, ..polfan::ClientConfig::default() };
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
            let config = polfan::AuthConfig { seed: options.seed, faults, ..polfan::AuthConfig::default() };
            Ok(station(polfan::Auth::new(&config), websocket(), options))
        }
        _ => Err(format!("there is no built-in reference for the role {role} of {protocol}")),
    }
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
