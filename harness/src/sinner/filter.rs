//! Carries out the rules of a sinner between the reference machine and its links.

use std::collections::BTreeMap;

use flowproof_reference::driver::host::{Filter, ReceivedFrame, WireAction};
use flowproof_reference::machine::{LinkId, Message, Time};
use serde_json::Value;

use super::{FrameKind, On, Rule, Sinner, Source, Verb};
use crate::pattern::{Bindings, matches};

/// The rules of one sinner at work.
pub struct RuleFilter {
    rules: Vec<Rule>,
    /// How often each rule has caught something, by link.
    caught: BTreeMap<(usize, LinkId), u32>,
    /// What is held back, in order; what follows on the same link waits behind it.
    held: Vec<(Time, LinkId, WireAction)>,
    /// What is held back while others go past it.
    postponed: Vec<(Time, LinkId, WireAction)>,
}

impl RuleFilter {
    /// The rules of `sinner`.
    pub fn new(sinner: &Sinner) -> RuleFilter {
        RuleFilter {
            rules: sinner.rules.clone(),
            caught: BTreeMap::new(),
            held: Vec::new(),
            postponed: Vec::new(),
        }
    }

    /// The rule that catches this, if any does.
    fn rule_for(&mut self, on: On, kind: FrameKind, link: LinkId, text: Option<&str>) -> Option<Verb> {
        let value: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
        for (place, rule) in self.rules.iter().enumerate() {
            if rule.on != on || rule.frame != kind {
                continue;
            }
            let when = rule.when.as_ref().is_none_or(|when| {
                value.as_ref().is_some_and(|value| matches(when, value, &Bindings::default()).is_ok())
            });
            let raw = rule.raw.as_ref().is_none_or(|raw| text.is_some_and(|text| raw.is_match(text)));
            if !when || !raw {
                continue;
            }
            let caught = self.caught.entry((place, link)).or_insert(0);
            *caught += 1;
            let nth = rule.nth.is_none_or(|nth| *caught == nth);
            let from = rule.from_nth.is_none_or(|nth| *caught >= nth);
            let every = rule.every.is_none_or(|every| caught.is_multiple_of(every.max(1)));
            if nth && from && every {
                return Some(rule.verb.clone());
            }
        }
        None
    }

    fn push(&mut self, link: LinkId, action: WireAction, out: &mut Vec<(LinkId, WireAction)>) {
        match self.held.iter().rev().find(|(_, held, _)| *held == link) {
            Some((due, ..)) => self.held.push((*due, link, action)),
            None => out.push((link, action)),
        }
    }
}

fn kind_of(action: &WireAction) -> Option<FrameKind> {
    match action {
        WireAction::Accept(_) => Some(FrameKind::Accept),
        WireAction::Send(Message::Text(_)) => Some(FrameKind::Text),
        WireAction::Send(Message::Binary(_)) => Some(FrameKind::Binary),
        WireAction::Send(Message::Ping(_)) => Some(FrameKind::Ping),
        WireAction::Send(Message::Pong(_)) => Some(FrameKind::Pong),
        WireAction::Close(..) => Some(FrameKind::Close),
        WireAction::Respond(_) | WireAction::Abort => None,
    }
}

impl Filter for RuleFilter {
    fn outgoing(
        &mut self,
        now: Time,
        link: LinkId,
        action: WireAction,
        open: &[LinkId],
        out: &mut Vec<(LinkId, WireAction)>,
    ) {
        let text = match &action {
            WireAction::Send(Message::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let verb = kind_of(&action).and_then(|kind| self.rule_for(On::Send, kind, link, text.as_deref()));
        let Some(verb) = verb else {
            self.push(link, action, out);
            return;
        };
        match verb {
            Verb::Drop => {}
            Verb::Repeat => {
                self.push(link, action.clone(), out);
                self.push(link, action, out);
            }
            Verb::Delay(by) => self.held.push((now + by, link, action)),
            Verb::Postpone(by) => self.postponed.push((now + by, link, action)),
            Verb::Add(text) => {
                self.push(link, action, out);
                self.push(link, WireAction::Send(Message::Text(text)), out);
            }
            Verb::Abort => self.push(link, WireAction::Abort, out),
            Verb::Close(code) => self.push(link, WireAction::Close(Some(code), String::new()), out),
            Verb::Replace(text) => self.push(link, WireAction::Send(Message::Text(text)), out),
            Verb::Binary => {
                let bytes = text.unwrap_or_default().into_bytes();
                self.push(link, WireAction::Send(Message::Binary(bytes)), out);
            }
            Verb::CopyToOthers => {
                for other in open.iter().filter(|other| **other != link) {
                    self.push(*other, action.clone(), out);
                }
                self.push(link, action, out);
            }
            edit => {
                let text = text.map(|text| edited(&edit, &text));
                match text {
                    Some(text) => self.push(link, WireAction::Send(Message::Text(text)), out),
                    None => self.push(link, action, out),
                }
            }
        }
    }

    fn incoming(&mut self, _now: Time, link: LinkId, frame: ReceivedFrame, out: &mut Vec<ReceivedFrame>) {
        let (kind, text) = match &frame {
            ReceivedFrame::Text(bytes) => {
                (FrameKind::Text, Some(String::from_utf8_lossy(bytes).into_owned()))
            }
            ReceivedFrame::Binary(_) => (FrameKind::Binary, None),
            ReceivedFrame::Ping(_) => (FrameKind::Ping, None),
            ReceivedFrame::Pong(_) => (FrameKind::Pong, None),
        };
        match self.rule_for(On::Receive, kind, link, text.as_deref()) {
            None => out.push(frame),
            Some(Verb::Drop) => {}
            Some(Verb::Repeat) => {
                out.push(frame.clone());
                out.push(frame);
            }
            Some(Verb::Replace(text)) => out.push(ReceivedFrame::Text(text.into_bytes())),
            Some(Verb::Add(text)) => {
                out.push(frame);
                out.push(ReceivedFrame::Text(text.into_bytes()));
            }
            Some(edit) => match text {
                Some(text) => out.push(ReceivedFrame::Text(edited(&edit, &text).into_bytes())),
                None => out.push(frame),
            },
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.held.iter().chain(&self.postponed).map(|(due, ..)| *due).min()
    }

    fn due(&mut self, now: Time, out: &mut Vec<(LinkId, WireAction)>) {
        for waiting in [&mut self.held, &mut self.postponed] {
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(waiting).into_iter().partition(|(due, ..)| *due <= now);
            *waiting = later;
            out.extend(due.into_iter().map(|(_, link, action)| (link, action)));
        }
    }
}

/// A JSON text after an edit; what cannot be edited stays as it is.
fn edited(verb: &Verb, text: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let source = |source: &Source, value: &Value| match source {
        Source::Fixed(value) => value.clone(),
        Source::From(pointer) => value.pointer(pointer).cloned().unwrap_or(Value::Null),
    };
    match verb {
        Verb::Set { at, value: wanted } => {
            let wanted = source(wanted, &value);
            if at.is_empty() {
                value = wanted;
            } else {
                put(&mut value, at, wanted);
            }
        }
        Verb::Append { at, value: wanted } => {
            let wanted = source(wanted, &value);
            if let Some(Value::Array(array)) = value.pointer_mut(at) {
                array.push(wanted);
            }
        }
        Verb::Remove { at } => {
            take(&mut value, at);
        }
        Verb::Rename { at, to } => {
            if let Some(taken) = take(&mut value, at) {
                let parent = at.rsplit_once('/').map_or("", |(parent, _)| parent);
                put(&mut value, &format!("{parent}/{to}"), taken);
            }
        }
        _ => {}
    }
    value.to_string()
}

fn split(pointer: &str) -> (&str, String) {
    let (parent, last) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    (parent, last.replace("~1", "/").replace("~0", "~"))
}

fn put(value: &mut Value, pointer: &str, wanted: Value) {
    let (parent, last) = split(pointer);
    match value.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.insert(last, wanted);
        }
        Some(Value::Array(array)) => {
            if let Some(slot) = last.parse().ok().and_then(|place: usize| array.get_mut(place)) {
                *slot = wanted;
            }
        }
        _ => {}
    }
}

fn take(value: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, last) = split(pointer);
    match value.pointer_mut(parent)? {
        Value::Object(object) => object.shift_remove(&last),
        Value::Array(array) => {
            let place = last.parse().ok().filter(|place: &usize| *place < array.len())?;
            Some(array.remove(place))
        }
        _ => None,
    }
}
