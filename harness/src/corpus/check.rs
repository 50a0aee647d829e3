//! Whether the files of a protocol agree: everything that one of them names is there.

use std::collections::BTreeSet;

use super::{Protocol, REQUIREMENTS, RULES, SETTINGS, place};
use crate::blank::bad_name;
use crate::diagnostic::{self, Diagnostic};
use crate::flow::ast::Span;
use crate::flow::resolve::nearest;
use crate::lint::protocol_name;
use crate::monitor::rules::Says;

/// What a name is the name of.
#[derive(Clone, Copy)]
enum Kind {
    Edition,
    Requirement,
    Role,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Edition => "edition",
            Kind::Requirement => "requirement",
            Kind::Role => "role",
        }
    }
}

/// Everything that is wrong, by file.
pub(super) fn check(protocol: &Protocol, read: &dyn Fn(&str) -> String) -> Vec<(String, Vec<Diagnostic>)> {
    let settings = &protocol.settings;
    let mut checker = Checker {
        editions: settings.editions.iter().cloned().collect(),
        roles: settings.roles.iter().map(|role| role.name.clone()).collect(),
        requirements: protocol.catalogue.iter().map(|requirement| requirement.id.clone()).collect(),
        text: String::new(),
        found: Vec::new(),
    };
    let mut files = Vec::new();
    let mut look = |file: &str, checker: &mut Checker, work: &dyn Fn(&mut Checker)| {
        checker.text = read(file);
        work(checker);
        let found = std::mem::take(&mut checker.found);
        if !found.is_empty() {
            files.push((file.to_owned(), found));
        }
    };
    look(SETTINGS, &mut checker, &|checker| checker.settings(protocol));
    look(REQUIREMENTS, &mut checker, &|checker| checker.requirements(protocol));
    look(RULES, &mut checker, &|checker| checker.rules(protocol));
    for sinner in &protocol.sinners {
        look(&format!("sinners/{}.toml", sinner.name), &mut checker, &|checker| {
            checker.known(Kind::Role, "role", &sinner.role);
            checker.known(Kind::Requirement, "requirement", &sinner.requirement);
            sinner.also.iter().for_each(|id| checker.known(Kind::Requirement, "also", id));
            sinner.edition.iter().for_each(|edition| checker.known(Kind::Edition, "edition", edition));
        });
    }
    let served = protocol.served.iter().map(|file| ("served.flow".to_owned(), file));
    let flows = protocol.flows.iter().map(|file| (format!("flows/{}.flow", file.name), file));
    for (path, file) in served.chain(flows) {
        look(&path, &mut checker, &|checker| {
            if let Some(name) = protocol_name(&file.flow).filter(|name| name.text != settings.name) {
                let message = format!("this folder holds the protocol `{}`", settings.name);
                let hint = Some(format!("write: protocol {}", settings.name));
                checker.found.push(diagnostic::misplaced(name.span, message, "another protocol", hint));
            }
        });
    }
    files
}

struct Checker {
    editions: BTreeSet<String>,
    roles: BTreeSet<String>,
    requirements: BTreeSet<String>,
    /// The file that is looked at.
    text: String,
    found: Vec<Diagnostic>,
}

impl Checker {
    fn known(&mut self, kind: Kind, key: &str, name: &str) {
        let known = match kind {
            Kind::Edition => &self.editions,
            Kind::Requirement => &self.requirements,
            Kind::Role => &self.roles,
        };
        if known.contains(name) {
            return;
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let span = place::value(&self.text, key, name);
        let near = nearest(name, known.iter().copied());
        self.found.push(diagnostic::unknown_name(span, kind.word(), name, near, &known));
    }

    fn wrong(&mut self, key: &str, name: &str, message: String, hint: Option<String>) {
        let span = place::value(&self.text, key, name);
        self.found.push(diagnostic::misplaced(span, message, "here", hint));
    }

    fn settings(&mut self, protocol: &Protocol) {
        let settings = &protocol.settings;
        if let Some(why) = bad_name(&settings.name) {
            let hint = "the command, reports and flows name it so; the folder has the same name";
            self.wrong("name", &settings.name, why.to_owned(), Some(hint.to_owned()));
        }
        if settings.editions.is_empty() {
            let hint = Some("a protocol with one edition says: editions = [\"v1\"]".to_owned());
            let span = Span::new(0, 0);
            self.found.push(diagnostic::misplaced(span, "`editions` names no edition", "in this file", hint));
        } else {
            self.known(Kind::Edition, "default-edition", &settings.default_edition);
        }
        if settings.roles.is_empty() {
            let hint = Some("add a table [[role]] for each".to_owned());
            let span = Span::new(0, 0);
            self.found.push(diagnostic::misplaced(span, "nobody takes part", "in this file", hint));
        }
        let mut seen = BTreeSet::new();
        for role in &settings.roles {
            if !seen.insert(&role.name) {
                self.wrong("name", &role.name, format!("there are two roles `{}`", role.name), None);
            }
            role.is.iter().for_each(|is| self.known(Kind::Role, "is", is));
        }
        let of_editions = settings.edition_transport.keys().chain(settings.edition_settings.keys());
        of_editions.chain(settings.greetings.keys()).for_each(|name| self.known(Kind::Edition, "", name));
        settings.unexpected.iter().for_each(|id| self.known(Kind::Requirement, "unexpected", id));
        for (role, id) in &settings.survival {
            self.known(Kind::Role, "", role);
            self.known(Kind::Requirement, role, id);
        }
        for (key, of) in
            [("json-object", &settings.wire.json_object), ("text-frames", &settings.wire.text_frames)]
        {
            of.roles().for_each(|role| self.known(Kind::Role, key, role));
            of.ids().for_each(|id| self.known(Kind::Requirement, key, id));
        }
        for entry in &settings.messages {
            self.known(Kind::Role, "from", &entry.from);
            self.known(Kind::Role, "to", &entry.to);
            self.known(Kind::Requirement, "requirement", &entry.requirement);
            entry.editions.iter().for_each(|edition| self.known(Kind::Edition, "editions", edition));
            self.binds(protocol, &entry.requirement, &entry.from);
        }
    }

    /// A judge that cites a requirement which binds nobody it looks at would never speak.
    fn binds(&mut self, protocol: &Protocol, id: &str, role: &str) {
        let Some(requirement) = protocol.catalogue.get(id) else { return };
        let looked_at = |bound: &String| protocol.settings.plays(bound, role);
        if !self.roles.contains(role) || requirement.roles.iter().any(looked_at) {
            return;
        }
        let message = format!("`{id}` does not bind a {role}, so nobody would be judged by it");
        let hint = Some(format!("it binds: {}", requirement.roles.join(", ")));
        self.wrong("requirement", id, message, hint);
    }

    fn requirements(&mut self, protocol: &Protocol) {
        let mut seen = BTreeSet::new();
        for requirement in protocol.catalogue.iter() {
            let id = &requirement.id;
            if !seen.insert(id) {
                let message = format!("there are two requirements `{id}`");
                self.wrong("id", id, message, Some("ids are names: give one of them another".to_owned()));
            }
            if requirement.roles.is_empty() {
                let hint = Some("name at least one: roles = [\"server\"]".to_owned());
                self.wrong("id", id, format!("`{id}` binds nobody"), hint);
            }
            requirement.roles.iter().for_each(|role| self.known(Kind::Role, "roles", role));
            requirement.editions.iter().for_each(|edition| self.known(Kind::Edition, "editions", edition));
            requirement.untested_for.keys().for_each(|role| self.known(Kind::Role, "untested_for", role));
            for name in requirement.explains.iter().chain(&requirement.explains_missing) {
                match name.strip_suffix('*') {
                    Some(start) if self.requirements.iter().any(|known| known.starts_with(start)) => {}
                    Some(_) => {
                        let message = format!("no requirement begins like `{name}`");
                        self.wrong("explains", name, message, None);
                    }
                    None => self.known(Kind::Requirement, "explains", name),
                }
            }
        }
    }

    fn rules(&mut self, protocol: &Protocol) {
        for rule in &protocol.rules {
            rule.requirements().into_iter().for_each(|id| self.known(Kind::Requirement, "", id));
            let of = match &rule.says {
                Says::After { of, .. } => of.as_ref(),
                _ => None,
            };
            for role in rule.from.iter().chain(&rule.to).chain(of) {
                self.known(Kind::Role, "", role);
            }
            rule.editions.iter().for_each(|edition| self.known(Kind::Edition, "editions", edition));
            if let Some(role) = rule.judged() {
                rule.requirements().into_iter().for_each(|id| self.binds(protocol, id, role));
            }
        }
    }
}

/// What to say of a file that lies where nobody reads it, and was probably meant to be read.
pub(super) fn misplaced_file(below: &str) -> Option<String> {
    let (folder, name) = below.split_once('/').unwrap_or(("", below));
    let ending = name.rsplit('.').next().unwrap_or_default();
    match (folder, ending) {
        ("flows", "toml" | "json") => Some("what lies in the folder `flows` ends in `.flow`".to_owned()),
        ("schema" | "sinners", "flow") => Some("flows lie in the folder `flows`".to_owned()),
        ("schema" | "sinners" | "flows", _) => None,
        ("", "flow") => Some("flows lie in the folder `flows`; here only `served.flow` is read".to_owned()),
        ("", "toml") => {
            let known = [SETTINGS, REQUIREMENTS, RULES];
            let near = known.into_iter().find(|known| strsim::damerau_levenshtein(name, known) == 1);
            near.map(|near| format!("did you mean `{near}`?"))
        }
        (folder, "flow" | "toml" | "json") => {
            let near = ["flows", "schema", "sinners"]
                .into_iter()
                .find(|known| strsim::damerau_levenshtein(folder, known) <= 2);
            near.map(|near| format!("did you mean the folder `{near}`?"))
        }
        _ => None,
    }
}

/// The place of a line and a column, both counted from 1.
pub(super) fn line_and_column(text: &str, line: usize, column: usize) -> Span {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let at = (start + column.saturating_sub(1)).min(text.len());
    Span::new(at, at + 1)
}

/// About where the value at a JSON pointer stands in the text of a JSON file: the last of its names that is found, each
/// behind the one before.
pub(super) fn pointer_place(text: &str, pointer: &str) -> Span {
    let mut span = Span::new(0, 0);
    for name in pointer.split('/').filter(|name| !name.is_empty()) {
        let quoted = format!("\"{}\"", name.replace("~1", "/").replace("~0", "~"));
        if let Some(at) = text[span.end..].find(&quoted) {
            span = Span::new(span.end + at, span.end + at + quoted.len());
        }
    }
    span
}
