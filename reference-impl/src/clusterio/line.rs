//! One end of one link after its WebSocket is open: the numbers of what is sent, and the requests that wait for their
//! responses (clusterio.md 2.1, 2.5).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::config::Fault;
use super::error::CloseReason;
use super::message::{Envelope, object};
use crate::machine::{LinkId, Message, Outbox, Time};

/// A link's end; `W` is what is remembered of an outstanding request.
#[derive(Debug)]
pub(super) struct Line<W> {
    link: LinkId,
    /// The number of the message sent last; of its own, unless a planted fault shares it.
    counter: Rc<Cell<i64>>,
    /// What is added for each message, and whether requests share a number: planted faults.
    step: i64,
    repeats: bool,
    /// Outstanding requests by response type and number, with the time at which they fail.
    waiting: BTreeMap<(String, i64), (Time, W)>,
}

impl<W> Line<W> {
    /// The end of `link`, of which nothing has been sent yet.
    pub(super) fn new(link: LinkId) -> Self {
        Line::counted_by(link, Rc::default())
    }

    /// An end that goes on counting where `counter` stands.
    pub(super) fn counted_by(link: LinkId, counter: Rc<Cell<i64>>) -> Self {
        Line { link, counter, step: 1, repeats: false, waiting: BTreeMap::new() }
    }

    /// The same end with planted faults in its counting.
    pub(super) fn faulty(mut self, faults: &BTreeSet<Fault>) -> Self {
        if faults.contains(&Fault::CountsFromFive) {
            self.counter.set(4);
        }
        if faults.contains(&Fault::SkipsNumbers) {
            self.step = 2;
            self.counter.set(-1);
        }
        self.repeats = faults.contains(&Fault::RepeatsRequestNumbers);
        self
    }

    /// Goes on counting from `seq`, as a planted fault does.
    pub(super) fn count_from(&self, seq: i64) {
        self.counter.set(seq);
    }

    /// Sends a message with the next number, which is returned.
    pub(super) fn send<E>(&mut self, kind: &str, data: &Map<String, Value>, out: &mut Outbox<E>) -> i64 {
        let seq = self.counter.get() + self.step;
        self.counter.set(seq);
        out.send(self.link, Message::Text(Envelope::encode(seq, kind, data)));
        seq
    }

    /// Sends a request; `until` is when it has failed for want of a response.
    pub(super) fn request<E>(
        &mut self,
        stem: &str,
        data: &Map<String, Value>,
        until: Time,
        waiting: W,
        out: &mut Outbox<E>,
    ) {
        let before = self.counter.get();
        let seq = self.send(&format!("{stem}_request"), data, out);
        if self.repeats {
            self.counter.set(before);
        }
        self.waiting.insert((format!("{stem}_response"), seq), (until, waiting));
    }

    /// Sends a response: results, or what went wrong.
    pub(super) fn respond<E>(
        &mut self,
        stem: &str,
        to: i64,
        result: Result<Map<String, Value>, String>,
        out: &mut Outbox<E>,
    ) {
        let mut data = object([("seq", Value::from(to))]);
        match result {
            Ok(results) => data.extend(results.into_iter().filter(|(name, _)| name != "seq")),
            Err(error) => {
                data.insert("error".to_owned(), Value::from(error));
            }
        }
        self.send(&format!("{stem}_response"), &data, out);
    }

    /// The request that a response is for; none when nobody waits for it.
    pub(super) fn matching(&mut self, kind: &str, seq: i64) -> Option<W> {
        self.waiting.remove(&(kind.to_owned(), seq)).map(|(_, waiting)| waiting)
    }

    /// True while a request of ours is not answered.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the oldest outstanding request, as a planted fault does.
    pub(super) fn oldest(&mut self) -> Option<W> {
        let oldest = self.waiting.keys().min_by_key(|(_, seq)| *seq).cloned()?;
        self.waiting.remove(&oldest).map(|(_, waiting)| waiting)
    }

    /// Takes the requests that nobody will answer any more.
    pub(super) fn take_waiting(&mut self) -> Vec<W> {
        std::mem::take(&mut self.waiting).into_values().map(|(_, waiting)| waiting).collect()
    }

    /// Takes the requests that have waited too long.
    pub(super) fn take_late(&mut self, now: Time) -> Vec<W> {
        let late: Vec<(String, i64)> =
            self.waiting.iter().filter(|(_, (until, _))| *until <= now).map(|(key, _)| key.clone()).collect();
        late.iter().filter_map(|key| self.waiting.remove(key)).map(|(_, waiting)| waiting).collect()
    }

    /// When the first outstanding request fails.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.values().map(|(until, _)| *until).min()
    }

    /// Says `close` and ends the WebSocket, without a status code unless one is given (3.1). Who lingers, as a planted
    /// fault does, does not end it.
    pub(super) fn close<E>(
        &mut self,
        reason: &CloseReason,
        code: Option<u16>,
        lingers: bool,
        out: &mut Outbox<E>,
    ) {
        self.send("close", &object([("reason", Value::from(reason.text()))]), out);
        if !lingers {
            out.close(self.link, code, "");
        }
    }
}
