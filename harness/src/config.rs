//! `flowproof.toml`, kept in a target's repository: what is tested and how, what is skipped, and what is known to fail.
//! Everything wrong with the file is told at once, each with its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::corpus::{Corpus, Protocol, parse_duration};
use crate::diagnostic::{self, Diagnostic};
use crate::flow::ast::Span;
use crate::flow::resolve::nearest;
use crate::known::{self, Date, Entry, Kind, Stale};

/// What the file says, checked against the corpus.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where it was read.
    pub path: PathBuf,
    /// The protocol that the target speaks.
    pub protocol: String,
    /// The edition it speaks.
    pub edition: Option<String>,
    /// The address of a running target.
    pub url: Option<String>,
    /// The command that starts one.
    pub exec: Option<String>,
    /// The roles under test.
    pub roles: Vec<String>,
    /// Strangers use the target at the same time.
    pub shared: bool,
    /// Any certificate is accepted.
    pub insecure: bool,
    /// How a client is told what to do.
    pub driver: Option<String>,
    /// How long an arrow waits.
    pub timeout: Option<Duration>,
    /// Allowance on every limit.
    pub slack: Option<Duration>,
    /// No flow begins after this time.
    pub budget: Option<Duration>,
    /// Flows side by side.
    pub jobs: Option<usize>,
    /// Variables of the flows, and settings of the protocol.
    pub variables: BTreeMap<String, String>,
    /// Those of them that come from the environment; their values are never printed.
    pub secrets: BTreeMap<String, String>,
    /// Flows that are not run, as a pattern, and why.
    pub skips: Vec<(String, String)>,
    /// Known failures and disputed requirements.
    pub known: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    protocol: Spanned<String>,
    edition: Option<Spanned<String>>,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    variables: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    #[serde(default)]
    skip: Vec<Skip>,
    #[serde(default)]
    known: Vec<Spanned<Known>>,
    #[serde(default)]
    disputed: Vec<Spanned<Known>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    url: Option<Spanned<String>>,
    exec: Option<Spanned<String>>,
    role: Option<Spanned<Roles>>,
    #[serde(default)]
    shared: bool,
    #[serde(default)]
    insecure: bool,
    driver: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    slack: Option<Spanned<String>>,
    budget: Option<Spanned<String>>,
    jobs: Option<Spanned<usize>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Roles {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    flow: Spanned<String>,
    reason: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    requirement: Option<Spanned<String>>,
    flow: Option<Spanned<String>>,
    reason: Option<Spanned<String>>,
    owner: Option<String>,
    expires: Option<Spanned<toml::Value>>,
    link: Option<Spanned<String>>,
}

impl Config {
    /// Reads a file. The error is text for a person.
    pub fn from_file(path: &Path, corpus: &Corpus) -> Result<Config, String> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| diagnostic::unreadable(path, &error))?;
        let environment = |name: &str| std::env::var(name).ok();
        Config::parse(&text, corpus, &environment)
            .map(|config| Config { path: path.to_owned(), ..config })
            .map_err(|diagnostics| diagnostic::render(&diagnostics, &shown, &text, false))
    }

    /// Reads the text of a file.
    pub fn parse(
        text: &str,
        corpus: &Corpus,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, Vec<Diagnostic>> {
        let file: File = toml::from_str(text).map_err(|error| vec![not_toml(&error, text)])?;
        let mut reader = Reader { text, environment, wrong: Vec::new() };
        let config = reader.config(file, corpus);
        match config {
            Some(config) if reader.wrong.is_empty() => Ok(config),
            _ => Err(reader.wrong),
        }
    }
}

/// Every key that the file may have, for hints.
const KEYS: [&str; 24] = [
    "protocol",
    "edition",
    "target",
    "variables",
    "skip",
    "known",
    "disputed",
    "url",
    "exec",
    "role",
    "shared",
    "insecure",
    "driver",
    "timeout",
    "slack",
    "budget",
    "jobs",
    "flow",
    "reason",
    "requirement",
    "owner",
    "expires",
    "link",
    "env",
];

fn not_toml(error: &toml::de::Error, text: &str) -> Diagnostic {
    let span = error.span().map_or(Span::new(0, 0), |span| Span::new(span.start, span.end));
    let message = error.message().lines().next().unwrap_or_default().to_owned();
    let found = text.get(span.range()).unwrap_or_default().trim_matches(['"', '\'', '[', ']']);
    let diagnostic = Diagnostic::error(span, message.clone(), "here");
    if message.starts_with("unknown field") {
        match nearest(found, KEYS) {
            Some(near) if near != found => diagnostic.hint(format!("did you mean `{near}`?")),
            _ => diagnostic.hint("harness/docs/ci.md shows every key of the file"),
        }
    } else if message.contains("missing field `protocol`") {
        diagnostic.hint("add: protocol = \"NAME\"; `flowproof list` shows the names")
    } else if message.contains("missing field `reason`") {
        diagnostic.hint("say why: reason = \"...\"")
    } else {
        diagnostic
    }
}

struct Reader<'a> {
    text: &'a str,
    environment: &'a dyn Fn(&str) -> Option<String>,
    wrong: Vec<Diagnostic>,
}

fn span<T>(spanned: &Spanned<T>) -> Span {
    let range = spanned.span();
    Span::new(range.start, range.end)
}

impl Reader<'_> {
    fn config(&mut self, file: File, corpus: &Corpus) -> Option<Config> {
        let name = file.protocol.get_ref();
        let Some(protocol) = corpus.protocol(name) else {
            let known: Vec<String> = corpus.protocols().map(|known| known.settings.name.clone()).collect();
            self.unknown(span(&file.protocol), "protocol", name, &known);
            return None;
        };
        if let Some(edition) = &file.edition
            && !protocol.settings.editions.contains(edition.get_ref())
        {
            self.unknown(span(edition), "edition", edition.get_ref(), &protocol.settings.editions);
        }
        let target = &file.target;
        if let (Some(_), Some(exec)) = (&target.url, &target.exec) {
            self.wrong.push(
                Diagnostic::error(span(exec), "a target has a `url` or an `exec`, not both", "the second")
                    .hint("take one of them out"),
            );
        }
        if let Some(url) = target.url.as_ref().filter(|url| !url.get_ref().contains("://")) {
            self.wrong.push(
                Diagnostic::error(span(url), "not a URL", "here")
                    .hint("write for instance ws://127.0.0.1:8080/"),
            );
        }
        if let Some(driver) = target.driver.as_ref()
            && !["auto", "stdin", "none"].contains(&driver.get_ref().as_str())
        {
            let known = ["auto", "stdin", "none"].map(str::to_owned);
            self.unknown(span(driver), "driver", driver.get_ref(), &known);
        }
        if let Some(jobs) = target.jobs.as_ref().filter(|jobs| *jobs.get_ref() == 0) {
            self.wrong.push(Diagnostic::error(span(jobs), "at least one flow has to run", "here"));
        }
        let roles = self.roles(target.role.as_ref(), &protocol);
        let (variables, secrets) = self.variables(&file.variables);
        let skips = file.skip.iter().filter_map(|skip| self.skip(skip, &protocol)).collect();
        let known = file.known.iter().map(|entry| (Kind::Known, entry));
        let disputed = file.disputed.iter().map(|entry| (Kind::Disputed, entry));
        let known = known.chain(disputed).filter_map(|(kind, entry)| self.entry(kind, entry)).collect();
        Some(Config {
            path: PathBuf::new(),
            edition: file.edition.map(Spanned::into_inner),
            timeout: self.duration(target.timeout.as_ref()),
            slack: self.duration(target.slack.as_ref()),
            budget: self.duration(target.budget.as_ref()),
            shared: target.shared,
            insecure: target.insecure,
            url: file.target.url.map(Spanned::into_inner),
            exec: file.target.exec.map(Spanned::into_inner),
            driver: file.target.driver.map(Spanned::into_inner),
            jobs: file.target.jobs.map(Spanned::into_inner),
            protocol: file.protocol.into_inner(),
            roles,
            variables,
            secrets,
            skips,
            known,
        })
    }

    fn unknown(&mut self, span: Span, what: &str, name: &str, known: &[String]) {
        let diagnostic =
            Diagnostic::error(span, format!("there is no {what} `{name}`"), format!("unknown {what}"));
        self.wrong.push(match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
            None => diagnostic.hint(format!("there are: {}", known.join(", "))),
        });
    }

    fn roles(&mut self, roles: Option<&Spanned<Roles>>, protocol: &Protocol) -> Vec<String> {
        let Some(spanned) = roles else { return Vec::new() };
        let roles = match spanned.get_ref() {
            Roles::One(role) => vec![role.clone()],
            Roles::Many(roles) => roles.clone(),
        };
        let known: Vec<String> = protocol.settings.roles.iter().map(|role| role.name.clone()).collect();
        for role in roles.iter().filter(|role| !known.contains(role)) {
            self.unknown(span(spanned), "role", role, &known);
        }
        roles
    }

    fn duration(&mut self, text: Option<&Spanned<String>>) -> Option<Duration> {
        let text = text?;
        let duration = parse_duration(text.get_ref());
        if duration.is_none() {
            let found = format!("`{}`", text.get_ref());
            self.wrong.push(diagnostic::bad_duration(span(text), &found));
        }
        duration
    }

    fn variables(
        &mut self,
        variables: &BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    ) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let (mut plain, mut secret) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in variables {
            let name = name.get_ref().clone();
            match value.get_ref() {
                toml::Value::String(text) => drop(plain.insert(name, text.clone())),
                toml::Value::Integer(number) => drop(plain.insert(name, number.to_string())),
                toml::Value::Float(number) => drop(plain.insert(name, number.to_string())),
                toml::Value::Boolean(word) => drop(plain.insert(name, word.to_string())),
                toml::Value::Table(table) => {
                    match (table.len(), table.get("env").and_then(toml::Value::as_str)) {
                        (1, Some(from)) => match (self.environment)(from) {
                            Some(text) => {
                                plain.insert(name.clone(), text.clone());
                                secret.insert(name, text);
                            }
                            None => self.wrong.push(
                                Diagnostic::error(
                                    span(value),
                                    format!("the environment has no variable `{from}`"),
                                    "named here",
                                )
                                .hint(format!("set it before the run: export {from}=...")),
                            ),
                        },
                        _ => self.wrong.push(bad_variable(span(value))),
                    }
                }
                toml::Value::Array(_) | toml::Value::Datetime(_) => {
                    self.wrong.push(bad_variable(span(value)))
                }
            }
        }
        (plain, secret)
    }

    fn skip(&mut self, skip: &Skip, protocol: &Protocol) -> Option<(String, String)> {
        let reason = self.said("reason", span(&skip.flow), Some(&skip.reason))?;
        let entry = self.only_flow(skip.flow.get_ref(), span(&skip.flow));
        if let Some(Stale::MatchesNothing(near)) = known::matches_nothing(&entry, protocol) {
            let diagnostic =
                Diagnostic::error(span(&skip.flow), "no flow is called like this", "matches nothing");
            self.wrong.push(match near {
                Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                None => {
                    diagnostic.hint(format!("`flowproof list {}` shows the flows", protocol.settings.name))
                }
            });
        }
        Some((skip.flow.get_ref().clone(), reason))
    }

    fn only_flow(&self, flow: &str, span: Span) -> Entry {
        Entry {
            kind: Kind::Known,
            requirement: None,
            flow: Some(flow.to_owned()),
            reason: String::new(),
            owner: None,
            expires: None,
            link: None,
            line: self.line(span),
        }
    }

    fn line(&self, span: Span) -> usize {
        self.text.as_bytes()[..span.start.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count()
            + 1
    }

    fn entry(&mut self, kind: Kind, spanned: &Spanned<Known>) -> Option<Entry> {
        let (place, entry) = (span(spanned), spanned.get_ref());
        let reason = self.said("reason", place, entry.reason.as_ref());
        if entry.requirement.is_none() && entry.flow.is_none() {
            self.wrong.push(
                Diagnostic::error(place, "this entry is about nothing", "no `requirement`, no `flow`")
                    .hint("add: requirement = \"ID\", or flow = \"topic/*\", or both"),
            );
        }
        if kind == Kind::Disputed {
            self.said("link", place, entry.link.as_ref());
        }
        let expires = entry.expires.as_ref().and_then(|value| self.date(value));
        Some(Entry {
            kind,
            requirement: entry.requirement.as_ref().map(|id| id.get_ref().to_uppercase()),
            flow: entry.flow.as_ref().map(|flow| flow.get_ref().clone()),
            reason: reason?,
            owner: entry.owner.clone(),
            expires,
            link: entry.link.as_ref().map(|link| link.get_ref().clone()),
            line: self.line(place),
        })
    }

    /// Something that has to be there, and to say something.
    fn said(&mut self, key: &str, place: Span, value: Option<&Spanned<String>>) -> Option<String> {
        match value {
            Some(value) if !value.get_ref().trim().is_empty() => Some(value.get_ref().clone()),
            found => {
                let place = found.map_or(place, span);
                let hint = if key == "link" { "say where it is discussed" } else { "say why" };
                self.wrong.push(
                    Diagnostic::error(place, format!("this entry has no `{key}`"), "here")
                        .hint(format!("{hint}: {key} = \"...\"")),
                );
                None
            }
        }
    }

    fn date(&mut self, value: &Spanned<toml::Value>) -> Option<Date> {
        let date = match value.get_ref() {
            toml::Value::Datetime(when) => when.date,
            toml::Value::String(text) => {
                text.parse::<toml::value::Datetime>().ok().and_then(|when| when.date)
            }
            _ => None,
        };
        if date.is_none() {
            self.wrong.push(
                Diagnostic::error(span(value), "not a day", "here").hint("days are written 2027-01-31"),
            );
        }
        date.map(|date| Date { year: i64::from(date.year), month: date.month, day: date.day })
    }
}

fn bad_variable(span: Span) -> Diagnostic {
    Diagnostic::error(span, "a variable is a text, a number, or { env = \"NAME\" }", "neither")
        .hint("a secret stays out of the file: NAME = { env = \"VARIABLE\" }")
}

/// The text of entries that excuse what fails now, to be put at the end of the file.
pub fn accepted(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        text.push_str("\n[[known]]\n");
        let mut line = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {}\n", toml::Value::from(value.as_str())));
            }
        };
        line("requirement", &entry.requirement);
        line("flow", &entry.flow);
        line("reason", &Some(entry.reason.clone()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let corpus = Corpus::embedded().expect("the corpus in the binary is whole");
        let environment = |name: &str| (name == "SECRET").then(|| "hush".to_owned());
        Config::parse(text, &corpus, &environment)
            .map_err(|wrong| diagnostic::render(&wrong, "flowproof.toml", text, false))
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = read(
            r#"
protocol = "hangout"
edition = "v1"

[target]
exec = "server {port}"
role = "server"
timeout = "2s"

[variables]
wildcard = "*"
limit = 7
token = { env = "SECRET" }

[[skip]]
flow = "ping/*"
reason = "slow"

[[known]]
requirement = "HANGOUT-CHG-3"
flow = "changes/*"
reason = "a bug"
owner = "anna"
expires = 2027-01-31

[[disputed]]
requirement = "HANGOUT-CHG-4"
reason = "we read it otherwise"
link = "https://example.org/7"
"#,
        )
        .expect("nothing is wrong with it");
        assert_eq!(config.roles, ["server"]);
        assert_eq!(config.timeout, Some(Duration::from_secs(2)));
        assert_eq!(config.variables["limit"], "7");
        assert_eq!(config.variables["token"], "hush");
        assert_eq!(config.secrets.len(), 1);
        assert_eq!(config.skips, [("ping/*".to_owned(), "slow".to_owned())]);
        assert_eq!(config.known[0].expires, Some(Date { year: 2027, month: 1, day: 31 }));
        assert_eq!(config.known[0].line, 19);
        assert_eq!(config.known[1].kind, Kind::Disputed);
    }

    #[test]
    fn what_is_wrong_is_told_with_place_and_hint() {
        let cases = [
            ("protocol = \"hangaut\"", "did you mean `hangout`?"),
            ("protocoll = \"hangout\"", "did you mean `protocol`?"),
            ("", "add: protocol = "),
            ("protocol = \"hangout\"\nedition = \"v9\"", "did you mean `v1`?"),
            ("protocol = \"hangout\"\n[target]\nrole = \"sever\"", "did you mean `server`?"),
            ("protocol = \"hangout\"\n[target]\nurl = \"ws://x/\"\nexec = \"y\"", "not both"),
            ("protocol = \"hangout\"\n[target]\ntimeout = \"soon\"", "durations are written"),
            ("protocol = \"hangout\"\n[variables]\nt = { env = \"GONE\" }", "export GONE="),
            (
                "protocol = \"hangout\"\n[[skip]]\nflow = \"pong/*\"\nreason = \"r\"",
                "no flow is called like this",
            ),
            ("protocol = \"hangout\"\n[[known]]\nrequirement = \"X\"", "this entry has no `reason`"),
            ("protocol = \"hangout\"\n[[known]]\nreason = \"r\"", "this entry is about nothing"),
            (
                "protocol = \"hangout\"\n[[known]]\nflow = \"x\"\nreason = \"r\"\nexpires = 3",
                "days are written",
            ),
            (
                "protocol = \"hangout\"\n[[disputed]]\nflow = \"x\"\nreason = \"r\"",
                "this entry has no `link`",
            ),
            ("protocol = ", "string"),
        ];
        for (text, wanted) in cases {
            let error = read(text).expect_err("it is wrong");
            assert!(error.contains(wanted), "{text}\n{error}");
            assert!(error.contains("flowproof.toml:"), "{error}");
        }
    }

    #[test]
    fn what_is_accepted_can_be_read_again() {
        let entry = Entry {
            kind: Kind::Known,
            requirement: Some("HANGOUT-CHG-3".to_owned()),
            flow: None,
            reason: "quotes \" ''' and\nlines \u{1b}".to_owned(),
            owner: None,
            expires: None,
            link: None,
            line: 3,
        };
        let text = format!("protocol = \"hangout\"\n{}", accepted(std::slice::from_ref(&entry)));
        let config = read(&text).expect("it is right");
        assert_eq!(config.known, [entry]);
    }
}
