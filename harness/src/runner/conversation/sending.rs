//! What a played participant sends: on which link, and how the message is made.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use flowproof_reference::machine::Message;
use flowproof_reference::transport::LinkEnd;
use serde_json::Value;

use super::expect::{fail, resolve};
use super::link::{Link, Stage};
use super::steps::{ASTRAY_OPENING, Scope};
use super::task::wait_for;
use super::{Shared, Stop};
use crate::flow::ast::{Bytes, Pattern, Payload, Step};
use crate::monitor::What;
use crate::pattern::{generate, json as text_json, text_from};

/// Bytes that may wait for a slow network before we stop sending for a while.
const BACKLOG: usize = 1 << 20;
/// How long a network may take none of our bytes before we give up sending.
const STUCK: Duration = Duration::from_secs(10);

/// Sends what a pattern makes.
pub(super) async fn send(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    sender: usize,
    receiver: usize,
    payload: &Payload,
) -> Result<(), Stop> {
    let link = shared.borrow_mut().link_between(sender, receiver);
    let link = link.ok_or_else(|| shared.borrow().not_connected_yet(scope, step, sender, receiver))?;
    if shared.borrow().links[link].is_datagrams() && shared.borrow().links[link].remote.is_none() {
        let shared = &mut *shared.borrow_mut();
        let text = format!("where {} is reached is not known yet", shared.cast[receiver].name);
        return Err(fail(
            shared,
            scope,
            step,
            Vec::new(),
            text,
            "that it has said so".to_owned(),
            Value::Null,
        ));
    }
    let stuck_at = shared.borrow().now + if scope.astray { ASTRAY_OPENING } else { STUCK };
    let room = wait_for(shared, Some(stuck_at), |shared| {
        let link = &shared.links[link];
        (link.unwritten < BACKLOG || !link.can_send() || !link.inbox.is_empty() && link.ended_by_them)
            .then_some(())
    })
    .await;
    let shared = &mut *shared.borrow_mut();
    if room.is_none() {
        let text =
            format!("{} takes no more bytes from {}", shared.cast[receiver].name, shared.cast[sender].name);
        return Err(fail(
            shared,
            scope,
            step,
            Vec::new(),
            text,
            "that what is sent is read".to_owned(),
            Value::Null,
        ));
    }
    // What is said after the other side's Close never leaves, and would only confuse who watches.
    let deaf = scope.astray && shared.links[link].ended_by_them;
    if deaf || !shared.links[link].can_send() {
        let text = format!("{}'s connection has ended before this could be sent", shared.cast[sender].name);
        let by_them = shared.links[link].ended_by_them;
        let accused = scope.survival(shared).filter(|_| by_them).unwrap_or_default();
        return Err(fail(shared, scope, step, accused, text, "an open connection".to_owned(), Value::Null));
    }
    shared.transmit(scope, step, link, payload)
}

impl Shared {
    /// The links on which a participant hears something: of one that others connect to, those that are open.
    pub(super) fn links_to(&self, who: usize) -> Vec<usize> {
        match self.current[who] {
            Some(link) => vec![link],
            None => {
                let open = |index: &usize| {
                    self.links[*index].played == who && self.links[*index].stage == Stage::Open
                };
                (0..self.links.len()).filter(open).collect()
            }
        }
    }

    /// The latest link between two participants.
    pub(super) fn link_between(&mut self, a: usize, b: usize) -> Option<usize> {
        if self.plan.datagrams {
            let (played, watched) = if self.cast[a].under_test { (b, a) } else { (a, b) };
            return Some(self.datagram_link(played, watched));
        }
        self.known_link_between(a, b)
    }

    /// The same, of those that are there already.
    pub(super) fn known_link_between(&self, a: usize, b: usize) -> Option<usize> {
        if self.plan.datagrams {
            let (played, watched) = if self.cast[a].under_test { (b, a) } else { (a, b) };
            let ends = |link: &Link| (link.played, link.watched, link.stray) == (played, watched, false);
            return self.links.iter().position(ends);
        }
        let connects = |index: &usize| {
            let link = &self.links[*index];
            (link.played, link.watched) == (a, b) || (link.played, link.watched) == (b, a)
        };
        self.current[a].filter(connects).or_else(|| self.current[b].filter(connects))
    }

    pub(super) fn not_connected_yet(&self, scope: &Scope, step: &Step, a: usize, b: usize) -> Stop {
        let text = format!("{} and {} are not connected", self.cast[a].name, self.cast[b].name);
        scope.broken_flow(step, text)
    }

    pub(super) fn transmit(
        &mut self,
        scope: &Scope,
        step: &Step,
        link: usize,
        payload: &Payload,
    ) -> Result<(), Stop> {
        let payload = resolve(payload, &scope.bindings.borrow()).clone();
        let flow_error = |error: crate::pattern::Ungeneratable| scope.broken_flow(step, error);
        let mut text_of = |pattern: &Pattern| {
            text_from(pattern, &mut scope.bindings.borrow_mut(), &mut self.rng).map_err(flow_error)
        };
        let mut bytes_of = |bytes: &Bytes| match bytes {
            Bytes::Hex(bytes) => Ok(bytes.clone()),
            Bytes::Expression(pattern) => text_of(pattern).map(String::into_bytes),
        };
        match &payload {
            Payload::Json(pattern) => {
                let mut bindings = scope.bindings.borrow().clone();
                let value = generate(pattern, &mut bindings, &mut self.rng).map_err(flow_error)?;
                *scope.bindings.borrow_mut() = bindings;
                self.send_text(link, value.to_string(), Some(value));
            }
            Payload::Text(pattern) => {
                let text = text_of(pattern)?;
                self.send_text(link, text, None);
            }
            Payload::Fragments(parts) => {
                let parts = parts.iter().map(&mut text_of).collect::<Result<Vec<_>, _>>()?;
                let bytes: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
                self.links[link].end.send_fragments(&bytes);
                let text = parts.concat();
                let parsed = text_json::parse_sent(text.as_bytes());
                let json = parsed.as_ref().map_err(|error| *error);
                self.observe(link, false, &What::Text { text: &text, json });
                self.note(link, false, text);
            }
            Payload::Binary(bytes) => {
                let bytes = bytes_of(bytes)?;
                self.links[link].end.send(&Message::Binary(bytes.clone()));
                if self.links[link].is_datagrams() || matches!(self.links[link].end, LinkEnd::Frames(_)) {
                    // There bytes are bytes: whoever reads them cannot tell that they were meant to be no text.
                    let parsed = text_json::parse_sent(&bytes);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let json = parsed.as_ref().map_err(|error| *error);
                    self.observe(link, false, &What::Text { text: &text, json });
                    self.note(link, false, text);
                } else {
                    self.observe(link, false, &What::Binary(&bytes));
                    self.note(link, false, format!("binary message of {} bytes", bytes.len()));
                }
            }
            Payload::Raw(bytes) => {
                let bytes = bytes_of(bytes)?;
                self.links[link].end.send_raw(&bytes);
                self.observe(link, false, &What::Raw(&bytes));
                self.note(link, false, format!("raw {} bytes", bytes.len()));
            }
            Payload::Ping(text) => {
                let bytes = text.as_ref().map(text_of).transpose()?.unwrap_or_default().into_bytes();
                self.links[link].end.send(&Message::Ping(bytes.clone()));
                self.observe(link, false, &What::Ping(&bytes));
                self.note(link, false, format!("ping {:?}", String::from_utf8_lossy(&bytes)));
            }
            Payload::Pong(text) => {
                let bytes = text.as_ref().map(text_of).transpose()?.unwrap_or_default().into_bytes();
                self.links[link].end.send(&Message::Pong(bytes.clone()));
                self.observe(link, false, &What::Pong(&bytes));
                self.note(link, false, format!("pong {:?}", String::from_utf8_lossy(&bytes)));
            }
            Payload::HttpRequest { .. } | Payload::HttpResponse { .. } => {
                return Err(scope.broken_flow(step, "an HTTP message cannot travel on an open connection"));
            }
        }
        self.last_cause = self.now;
        self.progress = true;
        Ok(())
    }

    pub(super) fn send_text(&mut self, link: usize, text: String, value: Option<Value>) {
        self.links[link].end.send(&Message::Text(text.clone()));
        let parsed = match value {
            Some(value) => Ok(value),
            None => text_json::parse_sent(text.as_bytes()),
        };
        self.observe(link, false, &What::Text { text: &text, json: parsed.as_ref().map_err(|error| *error) });
        self.note(link, false, text);
    }
}
