//! What the variables of a flow stand for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::flow::ast::{Pattern, Payload};

/// What a variable stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// A value, seen or made.
    Value(Value),
    /// A pattern from a table of examples: it is put where the variable stands.
    Pattern(Pattern),
    /// A payload that is no JSON message, from a table of examples.
    Payload(Payload),
}

/// The variables of one run of a flow. Each is bound once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings {
    /// Shared among copies until one of them binds: every attempt to match has its own.
    bound: Arc<BTreeMap<String, Bound>>,
}

impl Bindings {
    /// What `name` stands for, if it is bound.
    pub fn get(&self, name: &str) -> Option<&Bound> {
        self.bound.get(name)
    }

    /// The value of `name`, if it is bound to one.
    pub fn value(&self, name: &str) -> Option<&Value> {
        match self.bound.get(name) {
            Some(Bound::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// Binds `name`, replacing what it stood for.
    pub fn bind(&mut self, name: &str, to: Bound) {
        Arc::make_mut(&mut self.bound).insert(name.to_owned(), to);
    }

    /// Forgets `name`.
    pub fn forget(&mut self, name: &str) {
        Arc::make_mut(&mut self.bound).remove(name);
    }

    /// Every variable with what it stands for, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bound)> {
        self.bound.iter().map(|(name, bound)| (name.as_str(), bound))
    }
}
