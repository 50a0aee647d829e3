//! One conversation that others hold: everything that happens on its links goes to the schema judge and the monitors,
//! and both ends of every link are under test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Request, Response, Time};
use serde_json::Value;

use super::trace::{End, Event, Happening, from_hex};
use crate::corpus::Protocol;
use crate::judge::finding::{Finding, Ruling};
use crate::judge::schema;
use crate::monitor::{self, Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What};
use crate::pattern::Bindings;
use crate::pattern::{fits, json};
use crate::runner::event::{RunEvent, TargetInfo};
use crate::runner::verdict::{FlowResult, Verdict};
use crate::secret::Secrets;

/// Different findings that are kept of each requirement and party.
const EACH: usize = 3;

/// How a session is judged.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The edition in force.
    pub edition: String,
    /// Allowance on every time limit.
    pub slack: Duration,
    /// True when nobody talks to the server but through us.
    pub exclusive: bool,
    /// Settings of the protocol, over those it has.
    pub settings: BTreeMap<String, String>,
}

/// What the text of an event says: found out beside the judges, who take one event after the other.
pub struct Reading {
    json: Result<Value, NotJson>,
    /// All readers read it alike.
    certain: bool,
}

impl Reading {
    /// What is said in an event; none where nothing is said in JSON.
    pub fn of(event: &Event) -> Option<Reading> {
        let Happening::Text { text } = &event.what else { return None };
        let (json, certain) = json::parse_overheard(text.as_bytes());
        Some(Reading { json, certain })
    }
}

/// The judges of one conversation that others hold.
pub struct Session {
    protocol: Arc<Protocol>,
    config: SessionConfig,
    monitors: Vec<Box<dyn Monitor>>,
    server: Arc<Party>,
    clients: BTreeMap<u64, Arc<Party>>,
    /// Links whose client has told its role.
    told: BTreeSet<u64>,
    /// Where client and server of each link of datagrams are.
    addresses: BTreeMap<u64, (SocketAddr, SocketAddr)>,
    now: Time,
    rulings: Rulings,
    findings: Vec<Finding>,
    /// How often something was said about a requirement by a party.
    said: BTreeMap<(Option<String>, Ruling, String), usize>,
    kept: BTreeSet<String>,
    messages: u64,
    secrets: Secrets,
}

impl Session {
    /// A conversation in which nothing has happened yet.
    pub fn new(protocol: Arc<Protocol>, config: SessionConfig) -> Session {
        let mut settings = protocol.settings.values(&config.edition);
        settings.extend(config.settings.clone());
        let monitors = monitor::monitors_of(
            &protocol,
            &MonitorConfig {
                slack: config.slack,
                exclusive: config.exclusive,
                edition: config.edition.clone(),
                told: None,
                settings,
            },
        );
        let listening = protocol.settings.roles.iter().find(|role| role.listens);
        let role = listening.or(protocol.settings.roles.first()).map_or("", |role| role.name.as_str());
        let server = Arc::new(Party { name: role.to_owned(), role: role.to_owned(), under_test: true });
        let secrets = Secrets::default().with_members(protocol.settings.secret_members.clone());
        Session {
            protocol,
            config,
            monitors,
            server,
            clients: BTreeMap::new(),
            told: BTreeSet::new(),
            addresses: BTreeMap::new(),
            now: Time::ZERO,
            rulings: Rulings::default(),
            findings: Vec::new(),
            said: BTreeMap::new(),
            kept: BTreeSet::new(),
            messages: 0,
            secrets,
        }
    }

    /// How many messages were judged.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Takes one event, in the order of the time at which they happened. What is new about it is returned.
    pub fn observe(&mut self, event: &Event) -> Vec<Finding> {
        self.observe_read(event, Reading::of(event))
    }

    /// The same, of one that was read before.
    pub fn observe_read(&mut self, event: &Event, reading: Option<Reading>) -> Vec<Finding> {
        let at = Time::from_start(Duration::from_secs_f64((event.at_ms / 1000.0).clamp(0.0, 1e9)));
        // Recorders are not always in order to the microsecond; time never runs back.
        self.now = self.now.max(at);
        let mut fresh = self.due();
        let client = self.client(event);
        let (from, to) = match event.from {
            End::Client => (client, Arc::clone(&self.server)),
            End::Server => (Arc::clone(&self.server), client),
        };
        let rulings = &mut self.rulings;
        let now = self.now;
        let addresses = self.addresses.get(&event.link).copied();
        let (from_address, to_address) = match (addresses, event.from) {
            (None, _) => (None, None),
            (Some((client, server)), End::Client) => (Some(client), Some(server)),
            (Some((client, server)), End::Server) => (Some(server), Some(client)),
        };
        let show = |monitors: &mut Vec<Box<dyn Monitor>>, rulings: &mut Rulings, what: What<'_>| {
            let link = LinkId(event.link);
            let seen = Seen { at: now, link, from: &from, to: &to, from_address, to_address, what };
            monitors.iter_mut().for_each(|monitor| monitor.observe(&seen, rulings));
        };
        match &event.what {
            Happening::Asked { method, target, headers, body } => {
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let request = Request {
                    method: method.clone(),
                    path: path.to_owned(),
                    query: query.to_owned(),
                    headers: headers.clone().into_iter().collect(),
                    upgrade: false,
                    body: body.clone().into_bytes(),
                };
                self.messages += 1;
                if let Ok(value) = json::parse(body.as_bytes()) {
                    let edition = &self.config.edition;
                    schema::judge_value(&self.protocol, edition, &from, &to, &value, now, rulings);
                }
                show(&mut self.monitors, rulings, What::Asked(&request));
            }
            Happening::Answered { status, headers, body } => {
                let headers = headers.clone().into_iter().collect();
                let response = Response { status: *status, headers, body: body.clone().into_bytes() };
                self.messages += 1;
                if let Ok(value) = json::parse(body.as_bytes()) {
                    let edition = &self.config.edition;
                    schema::judge_value(&self.protocol, edition, &from, &to, &value, now, rulings);
                }
                show(&mut self.monitors, rulings, What::Answered(&response));
            }
            Happening::Opened { target, .. } => show(&mut self.monitors, rulings, What::Opened { target }),
            Happening::Addresses { client, server } => {
                self.addresses.insert(event.link, (*client, *server));
            }
            Happening::Text { text } => {
                self.messages += 1;
                let (json, certain) = match &reading {
                    Some(Reading { json, certain }) => (json, *certain),
                    None => (&Err(NotJson::BeyondUs), false),
                };
                let seen = json.as_ref().map_err(|error| *error);
                let edition = &self.config.edition;
                schema::judge_text(&self.protocol, edition, &from, &to, text, seen, now, rulings);
                // Where readers may differ about what a text says, monitors do not guess.
                let seen = if seen.is_ok() && !certain { Err(NotJson::BeyondUs) } else { seen };
                show(&mut self.monitors, rulings, What::Text { text, json: seen });
            }
            Happening::Binary { hex } => {
                self.messages += 1;
                let bytes = from_hex(hex).unwrap_or_default();
                schema::judge_binary(&self.protocol, &from, &bytes, now, rulings);
                show(&mut self.monitors, rulings, What::Binary(&bytes));
            }
            Happening::Ping { hex } => {
                show(&mut self.monitors, rulings, What::Ping(&from_hex(hex).unwrap_or_default()))
            }
            Happening::Pong { hex } => {
                show(&mut self.monitors, rulings, What::Pong(&from_hex(hex).unwrap_or_default()))
            }
            Happening::Closing { code, reason } => {
                show(&mut self.monitors, rulings, What::Closing { code: *code, reason });
            }
            Happening::Closed => {
                show(&mut self.monitors, rulings, What::Closed);
                self.clients.remove(&event.link);
                self.told.remove(&event.link);
                self.addresses.remove(&event.link);
            }
            // Nothing that would have come is missed.
            Happening::Unseen => show(&mut self.monitors, rulings, What::Stalled),
            Happening::Broken { detail } => show(&mut self.monitors, rulings, What::Raw(detail.as_bytes())),
        }
        fresh.extend(self.take());
        fresh
    }

    /// Time has passed with nothing seen: what must have happened by now.
    pub fn pass(&mut self, now: Time) -> Vec<Finding> {
        self.now = self.now.max(now);
        self.due()
    }

    /// When [`Session::pass`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        self.monitors.iter().filter_map(|monitor| monitor.deadline()).min()
    }

    /// The conversation is over.
    pub fn finish(&mut self) -> Vec<Finding> {
        let (now, rulings) = (self.now, &mut self.rulings);
        self.monitors.iter_mut().for_each(|monitor| monitor.finish(now, rulings));
        self.take()
    }

    /// The events of a run whose one flow is this conversation, for the reports that runs have.
    pub fn into_events(self, kind: &str, address: &str, cut_short: bool) -> Vec<RunEvent> {
        let roles: Vec<&str> = self.protocol.settings.roles.iter().map(|role| role.name.as_str()).collect();
        let role = roles.join(",");
        let catalogue = &self.protocol.catalogue;
        let accused: BTreeSet<&String> = self
            .findings
            .iter()
            .filter(|finding| finding.ruling == Ruling::Broken)
            .filter_map(|finding| finding.requirement.as_ref())
            .collect();
        let must = |id: &&String| catalogue.level(id) == crate::judge::catalogue::Level::Must;
        let verdict = match (accused.iter().any(must), accused.is_empty()) {
            (true, _) => Verdict::Fail,
            (false, false) => Verdict::Warn,
            (false, true) if self.messages == 0 => Verdict::Inconclusive,
            (false, true) => Verdict::Pass,
        };
        let reason = (self.messages == 0).then(|| "no message passed".to_owned());
        let mut result = FlowResult::not_run("traffic", "", &role, verdict, String::new());
        result.reason = reason;
        result.kept = self.kept.iter().filter(|id| !accused.contains(id)).cloned().collect();
        result.took = self.now.since_start();
        result.heard = self.messages > 0;
        result.findings = self.findings.clone();
        let target = TargetInfo { kind: kind.to_owned(), role, address: address.to_owned() };
        vec![
            RunEvent::Begun {
                flowproof: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: self.protocol.settings.name.clone(),
                edition: self.config.edition.clone(),
                target,
                seed: 0,
                planned: 1,
                skipped: BTreeMap::new(),
            },
            RunEvent::FlowEnded(Box::new(result)),
            RunEvent::Ended { cut_short, took: self.now.since_start() },
        ]
    }

    fn due(&mut self) -> Vec<Finding> {
        let now = self.now;
        for monitor in &mut self.monitors {
            if monitor.deadline().is_some_and(|deadline| deadline <= now) {
                monitor.due(now, &mut self.rulings);
            }
        }
        self.take()
    }

    /// The party at the client's end of a link. Where several roles connect, its messages tell which it is.
    fn client(&mut self, event: &Event) -> Arc<Party> {
        let told = match &event.what {
            // The first that tells it settles it: a stray word later makes nobody another.
            Happening::Text { text }
                if event.from == End::Client
                    && !self.protocol.told_by.is_empty()
                    && !self.told.contains(&event.link) =>
            {
                let value = json::parse_received(text.as_bytes()).ok();
                value.and_then(|value| {
                    let tells = |pattern: &crate::flow::ast::Pattern| {
                        fits(pattern, &value, &Bindings::default()).is_some()
                    };
                    let mut told = self.protocol.told_by.iter();
                    told.find(|(_, pattern)| tells(pattern)).map(|(role, _)| role.clone())
                })
            }
            _ => None,
        };
        if told.is_some() {
            self.told.insert(event.link);
        } else if let Some(known) = self.clients.get(&event.link) {
            return Arc::clone(known);
        }
        let roles = &self.protocol.settings.roles;
        let role = told.unwrap_or_else(|| {
            let connecting = roles.iter().find(|role| !role.listens).or(roles.first());
            connecting.map(|role| role.name.clone()).unwrap_or_default()
        });
        let party = Arc::new(Party { name: format!("{role}.{}", event.link), role, under_test: true });
        // Plain HTTP has no connection that would be told as closed.
        if !matches!(event.what, Happening::Asked { .. } | Happening::Answered { .. }) {
            self.clients.insert(event.link, Arc::clone(&party));
        }
        party
    }

    /// Keeps what is new in what the judges said, and returns it.
    fn take(&mut self) -> Vec<Finding> {
        let catalogue = &self.protocol.catalogue;
        let mut fresh = Vec::new();
        for mut finding in self.rulings.findings.drain(..) {
            let kept = finding.ruling == Ruling::Kept;
            let role = if finding.by == self.server.name {
                self.server.role.clone()
            } else {
                finding.by.split('.').next().unwrap_or_default().to_owned()
            };
            let binds = finding
                .requirement
                .as_ref()
                .is_none_or(|id| catalogue.get(id).is_none() || catalogue.binds(id, &role));
            if !binds {
                continue;
            }
            if kept {
                self.kept.extend(finding.requirement);
                continue;
            }
            let key = (finding.requirement.clone(), finding.ruling, finding.by.clone());
            let count = self.said.entry(key).or_insert(0);
            *count += 1;
            if *count <= EACH {
                self.secrets.hide_finding(&mut finding);
                self.findings.push(finding.clone());
                fresh.push(finding);
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;

    fn accused(protocol: &str, said: &[(f64, End, &str)]) -> Vec<String> {
        let corpus = Corpus::embedded().unwrap();
        let protocol = corpus.protocol(protocol).unwrap();
        let config = SessionConfig {
            edition: protocol.settings.default_edition.clone(),
            slack: protocol.settings.timing.slack,
            exclusive: true,
            settings: BTreeMap::new(),
        };
        let target = protocol.settings.transport(&config.edition).default_path.clone();
        let mut session = Session::new(protocol, config);
        let opened = Happening::Opened { target, subprotocols: Vec::new() };
        let mut findings = session.observe(&Event { at_ms: 0.0, link: 0, from: End::Client, what: opened });
        for (at_ms, from, text) in said {
            let what = Happening::Text { text: (*text).to_owned() };
            findings.extend(session.observe(&Event { at_ms: *at_ms, link: 0, from: *from, what }));
        }
        findings.extend(session.finish());
        let broken = findings.into_iter().filter(|finding| finding.ruling == Ruling::Broken);
        broken.map(|finding| format!("{} {}", finding.requirement.unwrap_or_default(), finding.by)).collect()
    }

    const HELLO: (f64, End, &str) =
        (0.0, End::Server, r#"{"seq":1,"type":"hello","data":{"version":"2.0.0-alpha"}}"#);
    const CONTROL: (f64, End, &str) = (
        2.0,
        End::Client,
        r#"{"seq":1,"type":"register_control","data":{"agent":"x","version":"2.0.0-alpha","token":"x"}}"#,
    );
    const READY: (f64, End, &str) = (3.0, End::Server, r#"{"seq":2,"type":"ready","data":{}}"#);

    #[test]
    fn a_control_owes_nothing_that_slaves_owe() {
        let late = (20_000.0, End::Client, r#"{"seq":2,"type":"list_slaves_request","data":{}}"#);
        let answer =
            (20_001.0, End::Server, r#"{"seq":3,"type":"list_slaves_response","data":{"seq":2,"list":[]}}"#);
        assert_eq!(accused("clusterio", &[HELLO, CONTROL, READY, late, answer]), Vec::<String>::new());
    }

    #[test]
    fn a_stray_word_later_makes_nobody_another() {
        let again = (
            20.0,
            End::Client,
            r#"{"seq":2,"type":"register_slave","data":{"agent":"x","version":"2.0.0-alpha","name":"x","id":1,"token":"x"}}"#,
        );
        let accused = accused("clusterio", &[HELLO, CONTROL, READY, again]);
        assert!(!accused.is_empty() && accused.iter().all(|one| one.ends_with(" control.0")), "{accused:?}");
    }
}
