//! The built-in reference implementations behind one door, whatever their protocol and role.

use std::collections::{BTreeSet, VecDeque};

use flowproof_reference::driver::host::{Host, HostOutput};
use flowproof_reference::hangout;
use flowproof_reference::machine::{LinkId, Machine, Time};
use flowproof_reference::transport::websocket::WebSocketConfig;
use serde_json::Value;

use crate::sinner::Sinner;
use crate::sinner::filter::RuleFilter;

/// What a reference implementation wants done on the network.
#[derive(Debug, PartialEq, Eq)]
pub enum ReferenceOutput {
    /// Connect to the other side.
    Dial(LinkId),
    /// Write bytes.
    Write(LinkId, Vec<u8>),
    /// End the stream.
    End(LinkId),
    /// Cut the stream.
    Abort(LinkId),
}

/// A reference implementation without its types.
pub trait Reference {
    /// A stream has come in.
    fn incoming(&mut self, link: LinkId);
    /// A stream that was asked for is there.
    fn connected(&mut self, now: Time, link: LinkId);
    /// Bytes arrived.
    fn bytes(&mut self, now: Time, link: LinkId, bytes: &[u8]);
    /// A stream has ended.
    fn ended(&mut self, now: Time, link: LinkId);
    /// The deadline has come.
    fn tick(&mut self, now: Time);
    /// When [`Reference::tick`] is wanted.
    fn deadline(&self) -> Option<Time>;
    /// The next thing to do.
    fn poll_output(&mut self) -> Option<ReferenceOutput>;
    /// One JSON line that tells it what to do.
    fn stimulus(&mut self, now: Time, line: &str);
}

struct Hosted<M: Machine> {
    host: Host<M>,
    command: fn(&str, &Value) -> Option<M::Command>,
    outputs: VecDeque<ReferenceOutput>,
}

impl<M: Machine> Hosted<M> {
    fn collect(&mut self) {
        while let Some(output) = self.host.poll_output() {
            self.outputs.push_back(match output {
                HostOutput::Dial(link) => ReferenceOutput::Dial(link),
                HostOutput::Write(link, bytes) => ReferenceOutput::Write(link, bytes),
                HostOutput::End(link) => ReferenceOutput::End(link),
                HostOutput::Abort(link) => ReferenceOutput::Abort(link),
                HostOutput::Event(_) => continue,
            });
        }
    }
}

impl<M: Machine> Reference for Hosted<M> {
    fn incoming(&mut self, link: LinkId) {
        self.host.incoming(link);
    }

    fn connected(&mut self, now: Time, link: LinkId) {
        self.host.connected(now, link);
    }

    fn bytes(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        self.host.bytes(now, link, bytes);
    }

    fn ended(&mut self, now: Time, link: LinkId) {
        self.host.ended(now, link);
    }

    fn tick(&mut self, now: Time) {
        self.host.tick(now);
    }

    fn deadline(&self) -> Option<Time> {
        self.host.deadline()
    }

    fn poll_output(&mut self) -> Option<ReferenceOutput> {
        self.collect();
        self.outputs.pop_front()
    }

    fn stimulus(&mut self, now: Time, line: &str) {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        let name = line["does"].as_str().unwrap_or_default();
        if let Some(command) = (self.command)(name, &line["with"]) {
            self.host.command(now, command);
        }
    }
}

/// The reference implementation of a role, with a planted fault when given.
pub fn reference(
    protocol: &str,
    role: &str,
    seed: u64,
    sinner: Option<&Sinner>,
) -> Result<Box<dyn Reference>, String> {
    match (protocol, role) {
        ("hangout", "server") => {
            let host = hangout_server(seed, sinner)?;
            Ok(Box::new(Hosted { host, command: |_, _| None, outputs: VecDeque::new() }))
        }
        ("hangout", "client") => {
            let host = hangout_client("reference", "/", sinner)?;
            let command = |name: &str, with: &Value| hangout::ClientCommand::from_stimulus(name, with).ok();
            Ok(Box::new(Hosted { host, command, outputs: VecDeque::new() }))
        }
        _ => Err(format!("there is no built-in reference for the role {role} of {protocol}")),
    }
}

/// hangout's server.
pub fn hangout_server(seed: u64, sinner: Option<&Sinner>) -> Result<Host<hangout::Server>, String> {
    let faults = hangout_faults(sinner)?;
    let config = hangout::ServerConfig { seed, faults, ..hangout::ServerConfig::default() };
    Ok(filtered(Host::new(hangout::Server::new(config), WebSocketConfig::default(), ""), sinner))
}

/// hangout's client; `authority` is host and port of the server.
pub fn hangout_client(authority: &str, path: &str, sinner: Option<&Sinner>) -> Result<Host<hangout::Client>, String> {
    let faults = hangout_faults(sinner)?;
    let config =
        hangout::ClientConfig { faults, path: path.to_owned(), ..hangout::ClientConfig::default() };
    Ok(filtered(Host::new(hangout::Client::new(config), WebSocketConfig::default(), authority), sinner))
}

fn filtered<M: Machine>(host: Host<M>, sinner: Option<&Sinner>) -> Host<M> {
    match sinner {
        Some(sinner) if !sinner.rules.is_empty() => host.with_filter(Box::new(RuleFilter::new(sinner))),
        _ => host,
    }
}

fn hangout_faults(sinner: Option<&Sinner>) -> Result<BTreeSet<hangout::Fault>, String> {
    let Some(name) = sinner.and_then(|sinner| sinner.fault.as_deref()) else { return Ok(BTreeSet::new()) };
    let fault = hangout::Fault::from_name(name);
    fault.map(|fault| BTreeSet::from([fault])).ok_or_else(|| format!("the reference has no fault called {name}"))
}
