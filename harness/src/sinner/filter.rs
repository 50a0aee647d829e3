//! Carries out the rules of a sinner between the reference machine and its links.

use std::collections::BTreeMap;

use flowproof_reference::driver::host::{Filter, ReceivedFrame, WireAction};
use flowproof_reference::machine::{LinkId, Message, Time};
use serde_json::Value;

use super::{FrameKind, On, Rule, Sinner, Source, Verb};
use crate::pattern::{Bindings, fits};

/// The rules of one sinner at work.
pub struct RuleFilter {
    rules: Vec<Rule>,
    /// Where messages carry their number, and the number given last on each link.
    renumber: Option<String>,
    numbers: BTreeMap<LinkId, u64>,
    /// Where answers refer to it, and what each number was before.
    answers: Option<String>,
    meant: BTreeMap<(LinkId, u64), Value>,
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
            renumber: sinner.renumber.clone(),
            numbers: BTreeMap::new(),
            answers: sinner.answers.clone(),
            meant: BTreeMap::new(),
            caught: BTreeMap::new(),
            held: Vec::new(),
            postponed: Vec::new(),
        }
    }

    /// Carries out the edits that catch this, one after another, and gives the first other rule that does.
    fn rule_for(&mut self, on: On, kind: FrameKind, link: LinkId, text: &mut Option<String>) -> Option<Verb> {
        let parsed =
            |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let looks = |rule: &Rule| rule.on == on && rule.frame == kind && rule.when.is_some();
        let mut value = if self.rules.iter().any(looks) { parsed(text) } else { None };
        for (place, rule) in self.rules.iter().enumerate() {
            if rule.on != on || rule.frame != kind {
                continue;
            }
            let when = rule.when.as_ref().is_none_or(|when| {
                value.as_ref().is_some_and(|value| fits(when, value, &Bindings::default()).is_some())
            });
            let raw =
                rule.raw.as_ref().is_none_or(|raw| text.as_ref().is_some_and(|text| raw.is_match(text)));
            if !when || !raw {
                continue;
            }
            let caught = self.caught.entry((place, link)).or_insert(0);
            *caught += 1;
            let nth = rule.nth.is_none_or(|nth| *caught == nth);
            let from = rule.from_nth.is_none_or(|nth| *caught >= nth);
            let every = rule.every.is_none_or(|every| caught.is_multiple_of(every.max(1)));
            if !(nth && from && every) {
                continue;
            }
            match (&rule.verb, &text) {
                (edit, Some(before)) if edit.is_edit() => {
                    *text = Some(edited(edit, before));
                    value = parsed(text);
                }
                (edit, None) if edit.is_edit() => {}
                (verb, _) => return Some(verb.clone()),
            }
        }
        None
    }

    /// What an answer refers to, as the machine knows it.
    fn as_meant(&self, link: LinkId, frame: ReceivedFrame) -> ReceivedFrame {
        let (Some(pointer), ReceivedFrame::Text(bytes)) = (&self.answers, &frame) else { return frame };
        let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return frame };
        let number = value.pointer(pointer).and_then(Value::as_u64);
        match (number.and_then(|number| self.meant.get(&(link, number))), value.pointer_mut(pointer)) {
            (Some(meant), Some(place)) => {
                *place = meant.clone();
                ReceivedFrame::Text(value.to_string().into_bytes())
            }
            _ => frame,
        }
    }

    /// Numbers what leaves.
    fn number(&mut self, out: &mut [(LinkId, WireAction)]) {
        let Some(pointer) = self.renumber.clone() else { return };
        for (link, action) in out {
            if let WireAction::Send(Message::Text(text)) = action
                && let Ok(mut value) = serde_json::from_str::<Value>(text)
                && let Some(place) = value.pointer_mut(&pointer)
            {
                let number = self.numbers.entry(*link).or_default();
                *number += 1;
                let meant = std::mem::replace(place, Value::from(*number));
                self.meant.insert((*link, *number), meant);
                *text = value.to_string();
            }
        }
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

impl RuleFilter {
    fn apply(
        &mut self,
        now: Time,
        link: LinkId,
        action: WireAction,
        open: &[LinkId],
        out: &mut Vec<(LinkId, WireAction)>,
    ) {
        let mut text = match &action {
            WireAction::Send(Message::Text(text)) => Some(text.clone()),
            WireAction::Close(code, _) => code.map(|code| code.to_string()),
            _ => None,
        };
        let verb = kind_of(&action).and_then(|kind| self.rule_for(On::Send, kind, link, &mut text));
        let action = match (&text, action) {
            (Some(text), WireAction::Send(Message::Text(_))) => WireAction::Send(Message::Text(text.clone())),
            (_, action) => action,
        };
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
            Verb::Payload(text) => {
                let action = match action {
                    WireAction::Send(Message::Ping(_)) => WireAction::Send(Message::Ping(text.into_bytes())),
                    WireAction::Send(Message::Pong(_)) => WireAction::Send(Message::Pong(text.into_bytes())),
                    other => other,
                };
                self.push(link, action, out);
            }
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
            // Edits were carried out on the way here.
            Verb::Set { .. }
            | Verb::Remove { .. }
            | Verb::Rename { .. }
            | Verb::Append { .. }
            | Verb::Rewrite { .. } => self.push(link, action, out),
        }
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
        let mut leaving = Vec::new();
        self.apply(now, link, action, open, &mut leaving);
        self.number(&mut leaving);
        out.append(&mut leaving);
    }

    fn incoming(&mut self, _now: Time, link: LinkId, frame: ReceivedFrame, out: &mut Vec<ReceivedFrame>) {
        let frame = self.as_meant(link, frame);
        let (kind, mut text) = match &frame {
            ReceivedFrame::Text(bytes) => {
                (FrameKind::Text, Some(String::from_utf8_lossy(bytes).into_owned()))
            }
            ReceivedFrame::Binary(_) => (FrameKind::Binary, None),
            ReceivedFrame::Ping(_) => (FrameKind::Ping, None),
            ReceivedFrame::Pong(_) => (FrameKind::Pong, None),
        };
        let before = text.clone();
        let verb = self.rule_for(On::Receive, kind, link, &mut text);
        // Untouched it stays as it was, also where it is no proper text.
        let frame = match text {
            Some(text) if before.as_ref() != Some(&text) => ReceivedFrame::Text(text.into_bytes()),
            _ => frame,
        };
        match verb {
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
            Some(_) => out.push(frame),
        }
    }

    fn segment(&mut self, _now: Time, link: LinkId, bytes: &[u8]) -> bool {
        if !self.rules.iter().any(|rule| rule.frame == FrameKind::Segment) {
            return true;
        }
        let mut text = Some(String::from_utf8_lossy(bytes).into_owned());
        self.rule_for(On::Receive, FrameKind::Segment, link, &mut text).is_none()
    }

    fn deadline(&self) -> Option<Time> {
        self.held.iter().chain(&self.postponed).map(|(due, ..)| *due).min()
    }

    fn due(&mut self, now: Time, out: &mut Vec<(LinkId, WireAction)>) {
        let before = out.len();
        for waiting in [&mut self.held, &mut self.postponed] {
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(waiting).into_iter().partition(|(due, ..)| *due <= now);
            *waiting = later;
            out.extend(due.into_iter().map(|(_, link, action)| (link, action)));
        }
        self.number(&mut out[before..]);
    }
}

/// A JSON text after an edit; what cannot be edited stays as it is.
fn edited(verb: &Verb, text: &str) -> String {
    if let Verb::Rewrite { find, text: wanted } = verb {
        return find.replace_all(text, wanted.as_str()).into_owned();
    }
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
            if last == "-" {
                return array.pop();
            }
            let place = last.parse().ok().filter(|place: &usize| *place < array.len())?;
            Some(array.remove(place))
        }
        _ => None,
    }
}
