//! Rules over a conversation that a protocol's folder states as data (`rules.toml`), and the one monitor that reads
//! them. A rule names the messages it is about by pattern and role, and what has to hold for them; variables of its
//! patterns tie messages together: `{"type": "ask", "id": $id}` is answered by `{"type": "reply", "id": $id}`.

mod answered;
mod cadence;
mod entry;
mod fields;
mod order;
mod reaches;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Monitor, MonitorConfig, Party, Seen, What};
use crate::corpus::Protocol;
use crate::flow::ast::Pattern;
use crate::pattern::{Bindings, Bound, fits};

pub use entry::parse;

/// One rule of `rules.toml`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The requirement it judges.
    pub requirement: String,
    /// The editions it belongs to; all when empty.
    pub editions: Vec<String>,
    /// The role that sends the messages it is about; any when none.
    pub from: Option<String>,
    /// The role they are sent to; any when none.
    pub to: Option<String>,
    /// The messages it is about; all JSON messages when none.
    pub when: Option<Pattern>,
    /// What has to hold for them.
    pub says: Says,
}

/// What has to hold.
#[derive(Clone, Debug)]
pub enum Says {
    /// After a message that fits `after` on the same connection, not before.
    After {
        /// What must have been seen.
        after: Pattern,
        /// The role that says it; either end when none.
        of: Option<String>,
    },
    /// Each is answered by the other end, on the same connection.
    Answered {
        /// The answer.
        answer: Pattern,
        /// How long it may take; for ever when none.
        within: Option<Duration>,
        /// The requirement broken by a second answer; nobody is accused of one when none.
        twice: Option<String>,
        /// The requirement broken by an answer to nothing.
        unasked: Option<String>,
    },
    /// A number at a JSON pointer goes up by the same from message to message of a sender on a connection.
    Counts {
        /// Where.
        field: String,
        /// With what it begins; anything when none.
        first: Option<i64>,
        /// By how much it goes up.
        by: i64,
    },
    /// They come again and again, with such gaps between them on a connection.
    Every {
        /// The shortest gap.
        shortest: Duration,
        /// The longest gap.
        longest: Duration,
    },
    /// The first message that the sender sends on a connection fits.
    First {
        /// What it fits.
        first: Pattern,
    },
    /// They are never sent; `among` are the messages that show it is so.
    Never {
        /// Which messages were put to the test.
        among: Option<Pattern>,
    },
    /// Whoever receives them passes them on.
    Reaches(Box<Reaches>),
    /// The value at a JSON pointer stays the same on a connection.
    Stays {
        /// Where.
        field: String,
    },
    /// No two have the same value at a JSON pointer.
    Unique {
        /// Where.
        field: String,
        /// Among which messages.
        among: Among,
    },
}

/// Among which messages a value is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Those of a sender on a connection.
    Connection,
    /// Connections that are open at the same time: within one it may come again.
    Connections,
    /// All.
    Everything,
}

/// How a message is passed on.
#[derive(Clone, Debug)]
pub struct Reaches {
    /// What those who get it receive.
    pub arrives: Pattern,
    /// Who gets it.
    pub whom: Whom,
    /// How long it may take.
    pub within: Duration,
    /// The message by which a connection becomes one of those who may get it; everybody is, when none.
    pub joins: Option<Pattern>,
    /// The message by which it is one no longer.
    pub leaves: Option<Pattern>,
    /// The requirement broken by a second copy.
    pub twice: Option<String>,
    /// The requirement broken by a copy for somebody who is not to get it.
    pub strangers: Option<String>,
    /// The requirement broken by a copy of what nobody sent.
    pub unasked: Option<String>,
}

/// Who gets a message that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Everybody, the sender too.
    All,
    /// Everybody but the sender.
    Others,
    /// The sender alone.
    Sender,
}

impl Rule {
    /// Every requirement it may accuse somebody of.
    pub fn requirements(&self) -> Vec<&str> {
        let mut all = vec![self.requirement.as_str()];
        match &self.says {
            Says::Answered { twice, unasked, .. } => {
                all.extend([twice, unasked].into_iter().flatten().map(String::as_str));
            }
            Says::Reaches(reaches) => {
                let ids = [&reaches.twice, &reaches.strangers, &reaches.unasked];
                all.extend(ids.into_iter().flatten().map(String::as_str));
            }
            _ => {}
        }
        all
    }

    /// The role whose conduct it judges; any when none.
    pub fn judged(&self) -> Option<&str> {
        match &self.says {
            // Who is asked has to answer, who is to pass on has to do so.
            Says::Answered { .. } | Says::Reaches(_) => self.to.as_deref(),
            _ => self.from.as_deref(),
        }
    }
}

/// The monitors of the rules that a protocol states as data.
pub fn monitors(protocol: &Arc<Protocol>, config: &MonitorConfig) -> Vec<Box<dyn Monitor>> {
    let in_force = |rule: &&Rule| rule.editions.is_empty() || rule.editions.contains(&config.edition);
    let mut base = Bindings::default();
    for (name, value) in &config.settings {
        base.bind(name, Bound::Value(Value::from(value.as_str())));
    }
    let base = Rc::new(base);
    protocol
        .rules
        .iter()
        .filter(in_force)
        .map(|rule| {
            let scope = Scope {
                protocol: Arc::clone(protocol),
                rule: rule.clone(),
                base: Rc::clone(&base),
                slack: config.slack,
                exclusive: config.exclusive,
            };
            monitor(scope)
        })
        .collect()
}

fn monitor(scope: Scope) -> Box<dyn Monitor> {
    match scope.rule.says.clone() {
        Says::After { after, of } => Box::new(order::After::new(scope, after, of)),
        Says::Answered { answer, within, twice, unasked } => {
            Box::new(answered::Answered::new(scope, answer, within, twice, unasked))
        }
        Says::Counts { field, first, by } => Box::new(fields::Counts::new(scope, field, first, by)),
        Says::Every { shortest, longest } => Box::new(cadence::Every::new(scope, shortest, longest)),
        Says::First { first } => Box::new(order::First::new(scope, first)),
        Says::Never { among } => Box::new(order::Never::new(scope, among)),
        Says::Reaches(reaches) => Box::new(reaches::Passing::new(scope, *reaches)),
        Says::Stays { field } => Box::new(fields::Stays::new(scope, field)),
        Says::Unique { field, among } => Box::new(fields::Unique::new(scope, field, among)),
    }
}

/// What a rule is about, and what it needs to know of the run.
struct Scope {
    protocol: Arc<Protocol>,
    rule: Rule,
    /// The protocol's settings, as variables.
    base: Rc<Bindings>,
    slack: Duration,
    exclusive: bool,
}

impl Scope {
    fn id(&self) -> &str {
        &self.rule.requirement
    }

    fn plays(&self, party: &Party, wanted: Option<&String>) -> bool {
        wanted.is_none_or(|wanted| self.protocol.settings.plays(&party.role, wanted))
    }

    /// True when it is about what `from` says to `to`.
    fn between(&self, from: &Party, to: &Party) -> bool {
        self.plays(from, self.rule.from.as_ref()) && self.plays(to, self.rule.to.as_ref())
    }

    /// The message that was seen, if it is one that the rule is about, with what its variables stand for.
    fn takes<'a>(&self, seen: &Seen<'a>) -> Option<(&'a Value, Bindings)> {
        if !self.between(seen.from, seen.to) {
            return None;
        }
        let value = message(seen)?;
        match &self.rule.when {
            None => Some((value, (*self.base).clone())),
            Some(when) => fits(when, value, &self.base).map(|bindings| (value, bindings)),
        }
    }

    fn fits(&self, pattern: &Pattern, value: &Value) -> bool {
        fits(pattern, value, &self.base).is_some()
    }

    /// The messages it is about, in words.
    fn subject(&self) -> String {
        let what = self.rule.when.as_ref().map(crate::flow::format::pattern_text);
        what.map_or_else(|| "a message".to_owned(), |what| format!("a message like `{what}`"))
    }
}

/// The JSON message that was seen.
fn message<'a>(seen: &Seen<'a>) -> Option<&'a Value> {
    match seen.what {
        What::Text { json: Ok(value), .. } => Some(value),
        _ => None,
    }
}

/// True when nothing more is to be expected on a link.
fn is_over(what: &What<'_>) -> bool {
    matches!(what, What::Closing { .. } | What::Closed | What::Raw(_) | What::Stalled)
}
