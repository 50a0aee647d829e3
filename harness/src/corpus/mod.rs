//! What is known of each protocol, as data: `corpus/<protocol>/`. Embedded in the binary, or read from a folder; the
//! built-in protocols and those of one's own come in by the same door.

mod check;
pub mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flowproof_reference::transport::Framing;
use flowproof_reference::transport::websocket::WebSocketConfig;
use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::Value;

use crate::diagnostic::{self, Diagnostic};
use crate::flow::ast::{Flow, HeaderItem, Pattern, Payload};
use crate::flow::parse;
use crate::flow::resolve::nearest;
use crate::judge::catalogue::Catalogue;
use crate::monitor::rules::{self, Rule};
use crate::sinner::Sinner;

/// The file that makes a folder that of a protocol.
const SETTINGS: &str = "protocol.toml";
/// The file of its requirements.
const REQUIREMENTS: &str = "requirements.toml";
/// The file of its rules, where it has some.
const RULES: &str = "rules.toml";

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../corpus");

/// Something wrong with the files of a corpus. Never the target's fault; exit code 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusError {
    /// Rendered messages, each with its file.
    pub messages: Vec<String>,
}

/// All protocols of a corpus, by name.
pub struct Corpus {
    protocols: BTreeMap<String, Arc<Protocol>>,
}

/// What is known of one protocol.
#[derive(Clone)]
pub struct Protocol {
    /// `protocol.toml`.
    pub settings: Settings,
    /// Background traffic of every flow.
    pub ignoring: Vec<Payload>,
    /// The message catalogue: each rule judges the messages its `when` matches.
    pub messages: Vec<MessageRule>,
    /// `requirements.toml`.
    pub catalogue: Catalogue,
    /// `rules.toml`: rules over the conversation.
    pub rules: Vec<Rule>,
    /// `flows/**/*.flow`, by name.
    pub flows: Vec<FlowFile>,
    /// `served.flow`: how a bystander is served.
    pub served: Option<FlowFile>,
    /// `sinners/*.toml`, by name.
    pub sinners: Vec<Sinner>,
    /// What `X greets Y` sends, by edition.
    pub greetings: BTreeMap<String, Greeting>,
    /// The messages by which a role is known.
    pub told_by: Vec<(String, Pattern)>,
}

/// A flow with its text.
#[derive(Clone, Debug)]
pub struct FlowFile {
    /// The path below `flows/`, without the ending.
    pub name: String,
    /// Where it was read, to be shown to people.
    pub path: String,
    /// Its text.
    pub source: String,
    /// What it says.
    pub flow: Flow,
}

impl FlowFile {
    /// Reads a flow that stands outside of a corpus. The error is text for a person.
    pub fn read(path: &Path) -> Result<FlowFile, String> {
        let shown = path.display().to_string();
        let source = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        FlowFile::parse(name, shown, source)
    }

    /// Reads the text of a flow. The error is text for a person.
    pub fn parse(name: String, path: String, source: String) -> Result<FlowFile, String> {
        let (flow, diagnostics) = parse(&source);
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(diagnostic::render(&diagnostics, &path, &source, false));
        }
        Ok(FlowFile { name, path, source, flow })
    }

    /// The protocol it says it is of.
    pub fn protocol(&self) -> Option<&str> {
        self.flow.header.iter().find_map(|line| match &line.item {
            HeaderItem::Protocol(name) => Some(name.text.as_str()),
            _ => None,
        })
    }

    /// The line on which a byte of the text stands, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        let offset = offset.min(self.source.len());
        self.source.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The comment at the top, as one text.
    pub fn summary(&self) -> String {
        let lines = self.source.lines().take_while(|line| line.starts_with('#'));
        lines.map(|line| line.trim_start_matches('#').trim()).collect::<Vec<_>>().join(" ")
    }

    /// The words of a header list, such as the tags.
    pub fn words<'a>(
        &'a self,
        pick: impl Fn(&'a HeaderItem) -> Option<&'a [crate::flow::ast::Name]>,
    ) -> Vec<&'a str> {
        let lists = self.flow.header.iter().filter_map(|line| pick(&line.item));
        lines_of(lists)
    }

    /// Its tags.
    pub fn tags(&self) -> Vec<&str> {
        self.words(|item| if let HeaderItem::Tags(names) = item { Some(names) } else { None })
    }

    /// What it needs of the target.
    pub fn needs(&self) -> Vec<&str> {
        self.words(|item| if let HeaderItem::Needs(names) = item { Some(names) } else { None })
    }

    /// The editions it belongs to; all when empty.
    pub fn editions(&self) -> Vec<&str> {
        self.words(|item| if let HeaderItem::Editions(names) = item { Some(names) } else { None })
    }

    /// The requirements that it provokes monitors to judge.
    pub fn about(&self) -> Vec<&str> {
        self.words(|item| if let HeaderItem::About(names) = item { Some(names) } else { None })
    }
}

fn lines_of<'a>(lists: impl Iterator<Item = &'a [crate::flow::ast::Name]>) -> Vec<&'a str> {
    lists.flatten().map(|name| name.text.as_str()).collect()
}

/// `protocol.toml` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The protocol's name, as in the command.
    pub name: String,
    /// One line about it.
    pub title: String,
    /// Its editions, oldest first.
    pub editions: Vec<String>,
    /// The edition of a run that names none.
    pub default_edition: String,
    /// How messages travel.
    transport: Transport,
    /// How they travel in editions where it is another way.
    #[serde(default)]
    edition_transport: BTreeMap<String, Transport>,
    /// Members of messages whose texts nobody is to read in what is printed or written: passwords, tokens.
    #[serde(default)]
    pub secret_members: Vec<String>,
    /// Who takes part.
    #[serde(rename = "role")]
    pub roles: Vec<Role>,
    /// How long things take.
    pub timing: Timing,
    /// Protocol settings, overridden with `--var`.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// Settings that differ in some editions.
    #[serde(default)]
    edition_settings: BTreeMap<String, BTreeMap<String, String>>,
    /// What is known of the built-in reference; of other targets only where `--var` tells it.
    #[serde(default)]
    pub reference: BTreeMap<String, String>,
    /// Signed tokens that are made where the key is known.
    #[serde(default)]
    pub mint: Vec<Mint>,
    /// Background traffic: payloads in flow syntax.
    #[serde(default)]
    pub ignoring: Vec<String>,
    /// The requirement accused when something arrives that nobody expected and nothing ignores.
    #[serde(default)]
    pub unexpected: Option<String>,
    /// What `X greets Y` sends, by edition.
    #[serde(default, rename = "greeting")]
    greetings: BTreeMap<String, GreetingEntry>,
    /// The requirement accused when a program under test dies.
    #[serde(default)]
    pub survival: BTreeMap<String, String>,
    /// Rules of the wire that hold for every message.
    #[serde(default)]
    pub wire: Wire,
    /// The message catalogue.
    #[serde(default, rename = "message")]
    messages: Vec<MessageEntry>,
}

/// How messages travel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transport {
    /// Which transport.
    pub kind: TransportKind,
    /// The path of a WebSocket when a flow names none.
    #[serde(default = "slash")]
    pub default_path: String,
    /// The WebSocket subprotocol that clients offer, unless a flow says otherwise.
    #[serde(default)]
    pub subprotocol: Option<String>,
}

impl Settings {
    /// True when `role` is, or plays too, what `wanted` says.
    pub fn plays(&self, role: &str, wanted: &str) -> bool {
        role == wanted
            || self.roles.iter().any(|known| known.name == role && known.is.as_deref() == Some(wanted))
    }

    /// True when an edition sends its messages as datagrams.
    pub fn knows_datagrams(&self) -> bool {
        let others = self.edition_transport.values();
        std::iter::once(&self.transport).chain(others).any(|transport| transport.kind == TransportKind::Udp)
    }

    /// How messages travel in an edition.
    pub fn transport(&self, edition: &str) -> &Transport {
        self.edition_transport.get(edition).unwrap_or(&self.transport)
    }

    /// The protocol's settings in an edition.
    pub fn values(&self, edition: &str) -> BTreeMap<String, String> {
        let mut values = self.settings.clone();
        values.extend(self.edition_settings.get(edition).cloned().unwrap_or_default());
        values
    }

    /// The names of all settings.
    pub fn setting_names(&self) -> impl Iterator<Item = &String> {
        let of_editions = self.edition_settings.values().flat_map(BTreeMap::keys);
        self.settings.keys().chain(of_editions).chain(self.reference.keys())
    }
}

impl Transport {
    /// How messages are told apart on a stream; `max_message` in bytes.
    pub fn framing(&self, max_message: usize) -> Framing {
        match self.kind {
            TransportKind::Tcp => Framing::LengthPrefixed { max_message },
            // Datagrams need no framing; what stands beside them is of the common kind.
            TransportKind::Websocket | TransportKind::Udp => {
                Framing::WebSocket(WebSocketConfig { max_message, ..WebSocketConfig::default() })
            }
        }
    }
}

fn slash() -> String {
    "/".to_owned()
}

/// The transports of the built-in protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// WebSocket over TCP or TLS, with plain HTTP beside it.
    Websocket,
    /// One message a datagram.
    Udp,
    /// Messages over TCP, four bytes of length before each.
    Tcp,
}

impl TransportKind {
    /// The scheme of a plain URL.
    pub fn scheme(self) -> &'static str {
        match self {
            TransportKind::Websocket => "ws",
            TransportKind::Udp => "udp",
            TransportKind::Tcp => "tcp",
        }
    }
}

/// A role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// True when others connect to it.
    pub listens: bool,
    /// True when its program may end by itself, and tells by its exit status how it went.
    #[serde(default)]
    pub exits: bool,
    /// True when whoever connects hears of everybody else there: at an address its flows run one by one.
    #[serde(default, rename = "one-by-one")]
    pub one_by_one: bool,
    /// The stimulus that makes it leave. A program that is started for one order leaves unasked.
    #[serde(default, rename = "quits-by")]
    pub quits_by: Option<String>,
    /// The more general role that it plays too: flows and message rules for that role are read for it as well. Which
    /// requirements bind it, each requirement says for itself.
    #[serde(default)]
    pub is: Option<String>,
    /// A pattern: whoever sends such a message has this role. Where several roles connect, live traffic tells them
    /// apart by it.
    #[serde(default, rename = "told-by")]
    told_by: Option<String>,
}

/// A variable whose value is a JSON Web Token, signed with HS256.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mint {
    /// The variable.
    pub variable: String,
    /// The variable that holds the key.
    pub key: String,
    /// What the token says.
    pub claims: toml::Table,
}

/// What `X greets Y` sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GreetingEntry {
    message: String,
    #[serde(deserialize_with = "duration")]
    every: Duration,
}

/// What `X greets Y` sends, and how often.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// The message; `$me` in it is the id of whoever greets.
    pub message: Pattern,
    /// The time between two of them.
    pub every: Duration,
}

/// How long things take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// How long the news of a change may travel: `settle`, and `quiet` without a time.
    #[serde(deserialize_with = "duration")]
    pub settle: Duration,
    /// Allowance on every limit on a real network.
    #[serde(deserialize_with = "duration")]
    pub slack: Duration,
    /// How long an arrow waits.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// One requirement for all roles, or one for each: `"X-1"`, or `{ server = "X-1", client = "X-2" }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum OfRoles {
    /// None.
    #[default]
    Nobody,
    /// The same for all.
    All(String),
    /// By role.
    Each(BTreeMap<String, String>),
}

impl OfRoles {
    /// The requirement that binds `role`.
    pub fn of(&self, role: &str) -> Option<&str> {
        match self {
            OfRoles::Nobody => None,
            OfRoles::All(id) => Some(id),
            OfRoles::Each(ids) => ids.get(role).map(String::as_str),
        }
    }

    /// All requirements.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let (one, each) = match self {
            OfRoles::Nobody => (None, None),
            OfRoles::All(id) => (Some(id.as_str()), None),
            OfRoles::Each(ids) => (None, Some(ids.values().map(String::as_str))),
        };
        one.into_iter().chain(each.into_iter().flatten())
    }

    /// The roles that are named.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let each = if let OfRoles::Each(ids) = self { Some(ids.keys().map(String::as_str)) } else { None };
        each.into_iter().flatten()
    }

    /// True when `id` is among them.
    pub fn names(&self, id: &str) -> bool {
        match self {
            OfRoles::Nobody => false,
            OfRoles::All(known) => known == id,
            OfRoles::Each(ids) => ids.values().any(|known| known == id),
        }
    }
}

/// Rules of the wire that hold for every message; each names the requirement it judges.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Wire {
    /// Every message is one JSON object.
    #[serde(default)]
    pub json_object: OfRoles,
    /// Every message is a text frame.
    #[serde(default)]
    pub text_frames: OfRoles,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageEntry {
    name: String,
    from: String,
    to: String,
    when: String,
    schema: String,
    requirement: String,
    #[serde(default)]
    editions: Vec<String>,
}

/// One entry of the message catalogue, ready to judge.
#[derive(Clone)]
pub struct MessageRule {
    /// What the message is called.
    pub name: String,
    /// The sender's role.
    pub from: String,
    /// The receiver's role.
    pub to: String,
    /// Which messages it judges.
    pub when: Pattern,
    /// The schema's file name.
    pub schema: String,
    /// The requirement it judges.
    pub requirement: String,
    /// The editions it belongs to; all when empty.
    pub editions: Vec<String>,
    /// The schema as it is written.
    pub document: Value,
    /// The schema.
    pub validator: Arc<jsonschema::Validator>,
}

/// A duration as flows write it: `500ms`, `2s`, `1.5s`, `2m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let amount: f64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(amount * unit).ok()
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a duration such as 500ms or 2s")))
}

impl Corpus {
    /// The corpus in the binary.
    ///
    /// Its flows were checked when it was built.
    pub fn embedded() -> Result<Corpus, CorpusError> {
        let mut files = BTreeMap::new();
        collect_embedded(&EMBEDDED, &mut files);
        Corpus::from_files("corpus", &files)
    }

    /// A corpus without any protocol.
    pub fn empty() -> Corpus {
        Corpus { protocols: BTreeMap::new() }
    }

    /// The corpus in a folder: each folder in it with a `protocol.toml` is a protocol. The folder of one protocol is a
    /// corpus too.
    pub fn from_folder(folder: &Path) -> Result<Corpus, CorpusError> {
        let unreadable =
            |error: std::io::Error| CorpusError { messages: vec![diagnostic::unreadable(folder, &error)] };
        let mut files = BTreeMap::new();
        let shown = folder.display().to_string();
        if folder.join(SETTINGS).is_file() {
            let whole = folder.canonicalize().map_err(unreadable)?;
            let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            collect_folder(folder, &PathBuf::new(), &mut files).map_err(unreadable)?;
            let files = files.into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)).collect();
            let root = folder.parent().map(|parent| parent.display().to_string()).unwrap_or_default();
            return Corpus::from_files(if root.is_empty() || shown == "." { "." } else { &root }, &files);
        }
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // What else lies there, for instance the sources of a server, is nothing to us.
            if entry.path().join(SETTINGS).is_file() {
                collect_folder(folder, &PathBuf::from(entry.file_name()), &mut files).map_err(unreadable)?;
            }
        }
        if files.is_empty() {
            return Err(CorpusError { messages: vec![diagnostic::no_protocols(&shown)] });
        }
        Corpus::from_files(&shown, &files)
    }

    /// The protocol called `name`.
    pub fn protocol(&self, name: &str) -> Option<Arc<Protocol>> {
        self.protocols.get(name).cloned()
    }

    /// All protocols.
    pub fn protocols(&self) -> impl Iterator<Item = Arc<Protocol>> {
        self.protocols.values().cloned()
    }

    fn from_files(root: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Corpus, CorpusError> {
        let mut protocols = BTreeMap::new();
        let mut messages = Vec::new();
        for path in files.keys() {
            let Some(folder) = path.strip_suffix("/protocol.toml").filter(|folder| !folder.contains('/'))
            else {
                continue;
            };
            let mut loader = Loader { root, folder, files, messages: Vec::new() };
            if let Some(protocol) = loader.protocol() {
                protocols.insert(protocol.settings.name.clone(), Arc::new(protocol));
            }
            messages.append(&mut loader.messages);
        }
        if messages.is_empty() { Ok(Corpus { protocols }) } else { Err(CorpusError { messages }) }
    }
}

fn collect_embedded(dir: &Dir<'_>, files: &mut BTreeMap<String, Vec<u8>>) {
    for file in dir.files() {
        files.insert(file.path().to_string_lossy().replace('\\', "/"), file.contents().to_vec());
    }
    dir.dirs().for_each(|dir| collect_embedded(dir, files));
}

fn collect_folder(root: &Path, below: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect_folder(root, &path, files)?;
        } else if matches!(
            path.extension().and_then(|ending| ending.to_str()),
            Some("flow" | "toml" | "json")
        ) {
            files.insert(path.to_string_lossy().replace('\\', "/"), std::fs::read(root.join(&path))?);
        }
    }
    Ok(())
}

struct Loader<'a> {
    root: &'a str,
    folder: &'a str,
    files: &'a BTreeMap<String, Vec<u8>>,
    messages: Vec<String>,
}

impl Loader<'_> {
    fn protocol(&mut self) -> Option<Protocol> {
        let settings: Option<Settings> = self.toml(SETTINGS);
        let catalogue: Option<Catalogue> = self.toml(REQUIREMENTS);
        let rules = self.rules();
        let settings = settings?;
        let greetings = settings.greetings.iter().filter_map(|(edition, entry)| {
            let message = self.pattern(&entry.message)?;
            Some((edition.clone(), Greeting { message, every: entry.every }))
        });
        let greetings = greetings.collect();
        let told = settings.roles.iter().filter_map(|role| Some((&role.name, role.told_by.as_ref()?)));
        let told_by = told.filter_map(|(name, text)| Some((name.clone(), self.pattern(text)?))).collect();
        let ignoring = settings.ignoring.iter().filter_map(|text| self.payload(text)).collect();
        let messages = settings.messages.iter().filter_map(|entry| self.message_rule(entry)).collect();
        let mut flows = Vec::new();
        let mut served = None;
        let mut sinners = Vec::new();
        let prefix = format!("{}/", self.folder);
        for path in self.files.keys().filter(|path| path.starts_with(&prefix)) {
            let below = &path[prefix.len()..];
            if let Some(name) = below.strip_prefix("flows/").and_then(|name| name.strip_suffix(".flow")) {
                flows.extend(self.flow(below, name));
            } else if below == "served.flow" {
                served = self.flow(below, "served");
            } else if let Some(name) =
                below.strip_prefix("sinners/").and_then(|name| name.strip_suffix(".toml"))
            {
                sinners.extend(self.sinner(below, name));
            } else if let Some(hint) = check::misplaced_file(below) {
                self.messages.push(diagnostic::file_not_read(&self.shown(below), &hint));
            }
        }
        let (catalogue, rules) = (catalogue?, rules?);
        let protocol = Protocol {
            settings,
            ignoring,
            messages,
            catalogue,
            rules,
            flows,
            served,
            sinners,
            greetings,
            told_by,
        };
        let read = |file: &str| {
            let bytes = self.files.get(&format!("{}/{file}", self.folder));
            bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
        };
        let found = check::check(&protocol, &read);
        for (file, diagnostics) in found {
            self.messages.push(diagnostic::render(&diagnostics, &self.shown(&file), &read(&file), false));
        }
        Some(protocol)
    }

    fn shown(&self, file: &str) -> String {
        if self.root == "." {
            return format!("{}/{file}", self.folder);
        }
        format!("{}/{}/{file}", self.root, self.folder)
    }

    fn bytes(&self, file: &str) -> Option<&Vec<u8>> {
        self.files.get(&format!("{}/{file}", self.folder))
    }

    fn text(&mut self, file: &str) -> Option<String> {
        let shown = self.shown(file);
        let Some(bytes) = self.bytes(file) else {
            let prefix = format!("{}/", self.folder);
            let others: BTreeSet<&str> =
                self.files.keys().filter_map(|path| path.strip_prefix(prefix.as_str())).collect();
            let hint =
                nearest(file, others).map(|near| format!("there is `{near}`: is that what was meant?"));
            self.messages.push(diagnostic::file_missing(&shown, hint.as_deref()));
            return None;
        };
        match String::from_utf8(bytes.clone()) {
            Ok(text) => Some(text),
            Err(_) => {
                self.messages.push(diagnostic::file_not_utf8(&shown));
                None
            }
        }
    }

    fn tell(&mut self, file: &str, text: &str, found: &[Diagnostic]) {
        self.messages.push(diagnostic::render(found, &self.shown(file), text, false));
    }

    fn toml<T: serde::de::DeserializeOwned>(&mut self, file: &str) -> Option<T> {
        let text = self.text(file)?;
        match toml::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.tell(file, &text, &[place::toml_error(&error)]);
                None
            }
        }
    }

    /// The rules, if there are any. `None` when something is wrong with them.
    fn rules(&mut self) -> Option<Vec<Rule>> {
        if self.bytes(RULES).is_none() {
            return Some(Vec::new());
        }
        let text = self.text(RULES)?;
        match rules::parse(&text) {
            Ok(rules) => Some(rules),
            Err(found) => {
                self.tell(RULES, &text, &found);
                None
            }
        }
    }

    fn pattern(&mut self, value: &str) -> Option<Pattern> {
        let text = self.text(SETTINGS)?;
        let parsed = place::pattern_somewhere(&text, value);
        parsed.map_err(|found| self.tell(SETTINGS, &text, &found)).ok()
    }

    fn payload(&mut self, value: &str) -> Option<Payload> {
        let text = self.text(SETTINGS)?;
        let parsed = place::payload_somewhere(&text, value);
        parsed.map_err(|found| self.tell(SETTINGS, &text, &found)).ok()
    }

    fn message_rule(&mut self, entry: &MessageEntry) -> Option<MessageRule> {
        let when = self.pattern(&entry.when);
        let file = format!("schema/{}", entry.schema);
        if self.bytes(&file).is_none() {
            let settings = self.text(SETTINGS)?;
            let prefix = format!("{}/schema/", self.folder);
            let known: Vec<&str> =
                self.files.keys().filter_map(|path| path.strip_prefix(prefix.as_str())).collect();
            let found = diagnostic::no_schema(
                place::value(&settings, "schema", &entry.schema),
                &entry.schema,
                nearest(&entry.schema, known),
            );
            self.tell(SETTINGS, &settings, &[found]);
            return None;
        }
        let text = self.text(&file)?;
        let schema: Value = match serde_json::from_str(&text) {
            Ok(schema) => schema,
            Err(error) => {
                let found =
                    diagnostic::bad_json(check::line_and_column(&text, error.line(), error.column()), &error);
                self.tell(&file, &text, &[found]);
                return None;
            }
        };
        match jsonschema::validator_for(&schema) {
            Ok(validator) => Some(MessageRule {
                name: entry.name.clone(),
                from: entry.from.clone(),
                to: entry.to.clone(),
                when: when?,
                schema: entry.schema.clone(),
                requirement: entry.requirement.clone(),
                editions: entry.editions.clone(),
                document: schema,
                validator: Arc::new(validator),
            }),
            Err(error) => {
                let at = error.instance_path().to_string();
                let place = check::pointer_place(&text, &at);
                let found = diagnostic::bad_schema(place, &at, &error.to_string());
                self.tell(&file, &text, &[found]);
                None
            }
        }
    }

    fn flow(&mut self, file: &str, name: &str) -> Option<FlowFile> {
        let source = self.text(file)?;
        let (flow, diagnostics) = parse(&source);
        let path = self.shown(file);
        if diagnostics.iter().any(Diagnostic::is_error) {
            self.messages.push(diagnostic::render(&diagnostics, &path, &source, false));
            return None;
        }
        Some(FlowFile { name: name.to_owned(), path, source, flow })
    }

    fn sinner(&mut self, file: &str, name: &str) -> Option<Sinner> {
        let text = self.text(file)?;
        match Sinner::parse(name, &text) {
            Ok(sinner) => Some(sinner),
            Err(found) => {
                self.tell(file, &text, &[found]);
                None
            }
        }
    }
}
