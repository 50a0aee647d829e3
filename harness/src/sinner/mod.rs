//! Sinners: the reference implementation with one planted fault each, described as data. They show that the judges
//! see what they claim to see.

pub mod filter;
pub mod matrix;
pub mod passage;

use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::corpus::{parse_duration, place};
use crate::diagnostic::Diagnostic;
use crate::flow::ast::{Pattern, Span};
use crate::flow::parse_pattern;

/// One planted fault.
#[derive(Clone, Debug)]
pub struct Sinner {
    /// Its name: the file's.
    pub name: String,
    /// The requirement it breaks.
    pub requirement: String,
    /// The role it plays.
    pub role: String,
    /// The edition it speaks; the protocol's default when none.
    pub edition: Option<String>,
    /// What it does wrong, in one sentence.
    pub summary: String,
    /// Requirements that necessarily break with it.
    pub also: Vec<String>,
    /// A fault built into the reference machine.
    pub fault: Option<String>,
    /// Rules over what is sent and received.
    pub rules: Vec<Rule>,
    /// Where messages carry their number: what the rules let out is numbered anew on each link, as if the machine had
    /// never meant to say anything else.
    pub renumber: Option<String>,
    /// Where an answer refers to that number: it is given back to the machine as it knows it.
    pub answers: Option<String>,
}

/// One rule between the reference machine and the wire.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which way.
    pub on: On,
    /// Which kind of frame.
    pub frame: FrameKind,
    /// Which messages, by their JSON.
    pub when: Option<Pattern>,
    /// Which messages, by their text; which Close frames, by their code.
    pub raw: Option<Regex>,
    /// Only the n-th on each link.
    pub nth: Option<u32>,
    /// Only the n-th on each link and those after it.
    pub from_nth: Option<u32>,
    /// Only every n-th on each link.
    pub every: Option<u32>,
    /// What is done.
    pub verb: Verb,
}

/// The direction a rule watches, as the reference machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// What the machine sends.
    Send,
    /// What arrives, before the machine sees it.
    Receive,
}

/// The kind of frame a rule watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameKind {
    /// A text message.
    #[default]
    Text,
    /// A binary message.
    Binary,
    /// A Ping.
    Ping,
    /// A Pong.
    Pong,
    /// A Close.
    Close,
    /// The answer to a request for a connection.
    Accept,
    /// Bytes as they arrive on a stream, before they are put together; they can only be dropped.
    Segment,
}

/// What a rule does with what it catches.
#[derive(Clone, Debug)]
pub enum Verb {
    /// Puts a value in place of the one at a JSON pointer.
    Set {
        /// Where.
        at: String,
        /// The value.
        value: Source,
    },
    /// Takes the member or element at a JSON pointer away; `-` is the last element of an array.
    Remove {
        /// Where.
        at: String,
    },
    /// Gives the member at a JSON pointer another name.
    Rename {
        /// Where.
        at: String,
        /// The new name.
        to: String,
    },
    /// Adds an element to the array at a JSON pointer.
    Append {
        /// Where.
        at: String,
        /// The element.
        value: Source,
    },
    /// Puts text in place of every match of a regular expression.
    Rewrite {
        /// What is looked for.
        find: Regex,
        /// What stands there instead; `$1` is the first group.
        text: String,
    },
    /// Says nothing.
    Drop,
    /// Says it twice.
    Repeat,
    /// Says it later; what follows on the link waits too.
    Delay(Duration),
    /// Says it later; what follows on the link goes past it.
    Postpone(Duration),
    /// Says something else, as a text message.
    Replace(String),
    /// Sends the Ping or Pong with this payload.
    Payload(String),
    /// Says something else after it.
    Add(String),
    /// Says it in a binary frame.
    Binary,
    /// Closes the link, with this code; for a Close: changes the code.
    Close(u16),
    /// Cuts the link.
    Abort,
    /// Says it to everybody else too.
    CopyToOthers,
}

impl Verb {
    /// True for a change inside the message, after which further rules may change it more.
    pub fn is_edit(&self) -> bool {
        matches!(
            self,
            Verb::Set { .. }
                | Verb::Remove { .. }
                | Verb::Rename { .. }
                | Verb::Append { .. }
                | Verb::Rewrite { .. }
        )
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// It is written in the rule.
    Fixed(Value),
    /// It stands at this JSON pointer of the same message.
    From(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    requirement: String,
    role: String,
    edition: Option<String>,
    summary: String,
    #[serde(default)]
    also: Vec<String>,
    fault: Option<String>,
    #[serde(default, rename = "rule")]
    rules: Vec<toml::Spanned<Entry>>,
    renumber: Option<String>,
    answers: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    on: On,
    #[serde(default)]
    frame: FrameKind,
    when: Option<String>,
    raw: Option<String>,
    nth: Option<u32>,
    from_nth: Option<u32>,
    every: Option<u32>,
    #[serde(rename = "do")]
    verb: String,
    at: Option<String>,
    value: Option<toml::Value>,
    value_from: Option<String>,
    to: Option<String>,
    by: Option<String>,
    text: Option<String>,
    code: Option<u16>,
}

impl Sinner {
    /// Reads a sinner's file; the error says where it is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Sinner, Diagnostic> {
        let file: File = toml::from_str(text).map_err(|error| place::toml_error(&error))?;
        let mut rules = Vec::new();
        for entry in file.rules {
            let span = Span::new(entry.span().start, entry.span().end);
            let rule = entry.into_inner().rule();
            rules.push(rule.map_err(|error| Diagnostic::error(span, error, "in this rule"))?);
        }
        if rules.is_empty() && file.fault.is_none() {
            let message = "a sinner has at least one [[rule]] or a fault";
            return Err(Diagnostic::error(Span::new(0, 0), message, "in this file"));
        }
        Ok(Sinner {
            name: name.to_owned(),
            requirement: file.requirement,
            role: file.role,
            edition: file.edition,
            summary: file.summary,
            also: file.also,
            fault: file.fault,
            rules,
            renumber: file.renumber,
            answers: file.answers,
        })
    }
}

impl Entry {
    fn rule(self) -> Result<Rule, String> {
        let when = match &self.when {
            Some(text) => Some(parse_pattern(text).map_err(|errors| {
                let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
                format!("`when = {text}`: {}", messages.join("; "))
            })?),
            None => None,
        };
        // A rewrite looks for its text in whatever `when` catches.
        let raw = match &self.raw {
            _ if self.verb == "rewrite" => None,
            Some(text) => Some(Regex::new(text).map_err(|error| format!("`raw`: {error}"))?),
            None => None,
        };
        let (on, frame, nth, from_nth, every) = (self.on, self.frame, self.nth, self.from_nth, self.every);
        let verb = self.verb()?;
        if frame == FrameKind::Segment && !(on == On::Receive && matches!(verb, Verb::Drop)) {
            return Err("a segment is received, and can only be dropped".to_owned());
        }
        Ok(Rule { on, frame, when, raw, nth, from_nth, every, verb })
    }

    fn verb(self) -> Result<Verb, String> {
        let verb = self.verb.clone();
        let missing = |key: &str| format!("`do = \"{verb}\"` needs `{key}`");
        let value = match (&self.value, &self.value_from) {
            (Some(value), None) => {
                Some(Source::Fixed(serde_json::to_value(value).map_err(|error| format!("`value`: {error}"))?))
            }
            (None, Some(pointer)) => Some(Source::From(pointer.clone())),
            (None, None) => None,
            (Some(_), Some(_)) => return Err("`value` and `value-from` exclude each other".to_owned()),
        };
        let at = || self.at.clone().ok_or_else(|| missing("at"));
        Ok(match self.verb.as_str() {
            "set" => Verb::Set { at: at()?, value: value.unwrap_or(Source::Fixed(Value::Null)) },
            "remove" => Verb::Remove { at: at()? },
            "rename" => Verb::Rename { at: at()?, to: self.to.clone().ok_or_else(|| missing("to"))? },
            "append" => Verb::Append { at: at()?, value: value.ok_or_else(|| missing("value"))? },
            "rewrite" => {
                let find = self.raw.as_deref().ok_or_else(|| missing("raw"))?;
                let find = Regex::new(find).map_err(|error| format!("`raw`: {error}"))?;
                Verb::Rewrite { find, text: self.text.clone().unwrap_or_default() }
            }
            "payload" => Verb::Payload(self.text.clone().unwrap_or_default()),
            "drop" => Verb::Drop,
            "repeat" => Verb::Repeat,
            "delay" | "postpone" => {
                let by = self.by.as_deref().ok_or_else(|| missing("by"))?;
                let by =
                    parse_duration(by).ok_or_else(|| format!("`{by}` is not a duration such as 500ms"))?;
                if self.verb == "delay" { Verb::Delay(by) } else { Verb::Postpone(by) }
            }
            "replace" => Verb::Replace(self.text.clone().ok_or_else(|| missing("text"))?),
            "add" => Verb::Add(self.text.clone().ok_or_else(|| missing("text"))?),
            "binary" => Verb::Binary,
            "close" => Verb::Close(self.code.ok_or_else(|| missing("code"))?),
            "abort" => Verb::Abort,
            "copy-to-others" => Verb::CopyToOthers,
            other => return Err(format!("`do = \"{other}\"` is no verb of a rule")),
        })
    }
}
