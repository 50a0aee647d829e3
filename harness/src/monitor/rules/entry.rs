//! `rules.toml` as it is written, and what is wrong with it.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Among, Reaches, Rule, Says, Whom};
use crate::corpus::{parse_duration, place};
use crate::diagnostic::{self, Diagnostic};
use crate::flow::ast::{Pattern, Span};
use crate::flow::resolve::nearest;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "rule")]
    rules: Vec<Entry>,
}

type Text = Option<Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    requirement: String,
    kind: Spanned<String>,
    #[serde(default)]
    editions: Vec<String>,
    from: Option<String>,
    to: Option<String>,
    when: Text,
    after: Text,
    after_from: Text,
    among: Text,
    answer: Text,
    arrives: Text,
    by: Option<Spanned<i64>>,
    field: Text,
    first: Option<Spanned<i64>>,
    is: Text,
    joins: Text,
    leaves: Text,
    longest: Text,
    per: Text,
    shortest: Text,
    strangers: Text,
    twice: Text,
    unasked: Text,
    whom: Text,
    within: Text,
}

/// A kind of rule: its name, the keys it needs, and those it may have.
struct Kind {
    name: &'static str,
    needs: &'static [&'static str],
    may: &'static [&'static str],
}

const KINDS: [Kind; 9] = [
    Kind { name: "after", needs: &["after"], may: &["after-from"] },
    Kind { name: "answered", needs: &["answer"], may: &["within", "twice", "unasked"] },
    Kind { name: "counts", needs: &["field"], may: &["first", "by"] },
    Kind { name: "every", needs: &["shortest", "longest"], may: &[] },
    Kind { name: "first", needs: &["is"], may: &[] },
    Kind { name: "never", needs: &["when"], may: &["among"] },
    Kind {
        name: "reaches",
        needs: &["when", "arrives", "within"],
        may: &["whom", "joins", "leaves", "twice", "strangers", "unasked"],
    },
    Kind { name: "stays", needs: &["field"], may: &[] },
    Kind { name: "unique", needs: &["field"], may: &["per"] },
];

/// Reads the text of a `rules.toml`; everything that is wrong with it is told at once.
pub fn parse(text: &str) -> Result<Vec<Rule>, Vec<Diagnostic>> {
    let file: File = toml::from_str(text).map_err(|error| vec![place::toml_error(&error)])?;
    let mut reader = Reader { text, found: Vec::new() };
    let rules: Vec<Rule> = file.rules.iter().filter_map(|entry| reader.rule(entry)).collect();
    if reader.found.is_empty() { Ok(rules) } else { Err(reader.found) }
}

struct Reader<'a> {
    text: &'a str,
    found: Vec<Diagnostic>,
}

fn span<T>(of: &Spanned<T>) -> Span {
    Span::new(of.span().start, of.span().end)
}

impl Entry {
    /// The keys beside those that every rule may have.
    fn keys(&self) -> Vec<(&'static str, Span)> {
        let texts = [
            ("when", &self.when),
            ("after", &self.after),
            ("after-from", &self.after_from),
            ("among", &self.among),
            ("answer", &self.answer),
            ("arrives", &self.arrives),
            ("field", &self.field),
            ("is", &self.is),
            ("joins", &self.joins),
            ("leaves", &self.leaves),
            ("longest", &self.longest),
            ("per", &self.per),
            ("shortest", &self.shortest),
            ("strangers", &self.strangers),
            ("twice", &self.twice),
            ("unasked", &self.unasked),
            ("whom", &self.whom),
            ("within", &self.within),
        ];
        let numbers = [("by", &self.by), ("first", &self.first)];
        let texts = texts.into_iter().filter_map(|(key, value)| Some((key, span(value.as_ref()?))));
        let numbers = numbers.into_iter().filter_map(|(key, value)| Some((key, span(value.as_ref()?))));
        texts.chain(numbers).collect()
    }
}

impl Reader<'_> {
    fn rule(&mut self, entry: &Entry) -> Option<Rule> {
        let name = entry.kind.get_ref().as_str();
        let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
            let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            let near = nearest(name, known.iter().copied());
            self.found.push(diagnostic::unknown_name(span(&entry.kind), "kind of rule", name, near, &known));
            return None;
        };
        let keys = entry.keys();
        let before = self.found.len();
        for (key, place) in &keys {
            if *key != "when" && !kind.needs.contains(key) && !kind.may.contains(key) {
                let all: Vec<&str> = kind.needs.iter().chain(kind.may).copied().collect();
                self.found.push(diagnostic::key_of_another_kind(*place, key, name, &all));
            }
        }
        for key in kind.needs.iter().filter(|needed| !keys.iter().any(|(key, _)| key == *needed)) {
            self.found.push(diagnostic::key_missing(span(&entry.kind), key, name));
        }
        let when = self.pattern(&entry.when);
        let says = self.says(entry, kind.name);
        if self.found.len() > before {
            return None;
        }
        Some(Rule {
            requirement: entry.requirement.clone(),
            editions: entry.editions.clone(),
            from: entry.from.clone(),
            to: entry.to.clone(),
            when,
            says: says?,
        })
    }

    /// `None` where something is wrong, or missing; that was told.
    fn says(&mut self, entry: &Entry, kind: &str) -> Option<Says> {
        let id = |id: &Text| id.as_ref().map(|id| id.get_ref().clone());
        Some(match kind {
            "after" => Says::After { after: self.pattern(&entry.after)?, of: id(&entry.after_from) },
            "answered" => Says::Answered {
                answer: self.pattern(&entry.answer)?,
                within: self.duration(&entry.within),
                twice: id(&entry.twice),
                unasked: id(&entry.unasked),
            },
            "counts" => Says::Counts {
                field: self.field(&entry.field)?,
                first: entry.first.as_ref().map(|first| *first.get_ref()),
                by: entry.by.as_ref().map_or(1, |by| *by.get_ref()),
            },
            "every" => Says::Every {
                shortest: self.duration(&entry.shortest)?,
                longest: self.duration(&entry.longest)?,
            },
            "first" => Says::First { first: self.pattern(&entry.is)? },
            "never" => Says::Never { among: self.pattern(&entry.among) },
            "reaches" => Says::Reaches(Box::new(Reaches {
                arrives: self.pattern(&entry.arrives)?,
                whom: self.choice(&entry.whom, "whom", &WHOM).unwrap_or(Whom::Others),
                within: self.duration(&entry.within)?,
                joins: self.pattern(&entry.joins),
                leaves: self.pattern(&entry.leaves),
                twice: id(&entry.twice),
                strangers: id(&entry.strangers),
                unasked: id(&entry.unasked),
            })),
            "stays" => Says::Stays { field: self.field(&entry.field)? },
            _ => Says::Unique {
                field: self.field(&entry.field)?,
                among: self.choice(&entry.per, "per", &PER).unwrap_or(Among::Connection),
            },
        })
    }

    fn pattern(&mut self, text: &Text) -> Option<Pattern> {
        let text = text.as_ref()?;
        match place::pattern(self.text, text) {
            Ok(pattern) => Some(pattern),
            Err(found) => {
                self.found.extend(found);
                None
            }
        }
    }

    fn duration(&mut self, text: &Text) -> Option<Duration> {
        let text = text.as_ref()?;
        let duration = parse_duration(text.get_ref());
        if duration.is_none() {
            let shown = format!("`{}`", text.get_ref());
            self.found.push(diagnostic::bad_duration(span(text), &shown));
        }
        duration
    }

    fn field(&mut self, text: &Text) -> Option<String> {
        let text = text.as_ref()?;
        if !text.get_ref().is_empty() && !text.get_ref().starts_with('/') {
            self.found.push(diagnostic::bad_pointer(span(text), text.get_ref()));
            return None;
        }
        Some(text.get_ref().clone())
    }

    fn choice<T: Copy>(&mut self, text: &Text, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = text.as_ref()?;
        let found = choices.iter().find(|(name, _)| name == text.get_ref());
        if found.is_none() {
            let known: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let near = nearest(text.get_ref(), known.iter().copied());
            let what = format!("value of `{key}`");
            self.found.push(diagnostic::unknown_name(span(text), &what, text.get_ref(), near, &known));
        }
        found.map(|(_, choice)| *choice)
    }
}

const WHOM: [(&str, Whom); 3] = [("all", Whom::All), ("others", Whom::Others), ("sender", Whom::Sender)];
const PER: [(&str, Among); 3] =
    [("connection", Among::Connection), ("connections", Among::Connections), ("run", Among::Everything)];
