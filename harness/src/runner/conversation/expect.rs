//! Waiting for what a party under test does: comparing link by link in order of arrival, skipping over background
//! traffic, and saying exactly what was expected and found when it does not come.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::http;
use super::link::{Arrival, Arrived};
use super::steps::Scope;
use super::task::wait_for;
use super::{Ending, Shared, Stop};
use crate::flow::ast::{CloseSpec, Key, Pattern, PatternKind, Payload, Step};
use crate::flow::format::{pattern_text, payload_text};
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::pattern::{self, Bindings, Bound, Mismatch, json, matches, variable_text};
use crate::runner::plan::Driver;

/// How much longer than its limit a message is waited for, to tell late from missing.
const GRACE: Duration = Duration::from_millis(750);
/// Messages that nobody expected, one after another before a step, after which a flow is given up.
const STRANGE_LIMIT: usize = 100;
/// A message is a failed attempt at what was expected when so large a part of its top level fits.
const SAME_KIND: f64 = 0.5;

/// A message that a judge has accused already is a failed attempt only when so much of it fits.
const UNMISTAKABLE: f64 = 0.75;

/// What is waited for on a link.
#[derive(Clone, Debug)]
pub(super) enum Expect {
    /// A message, a Ping or a Pong.
    Payload(Payload),
    /// A Close frame.
    Close(CloseSpec),
    /// The end, however it comes.
    Drop,
}

/// A step that waits.
#[derive(Debug)]
pub(super) struct Expectation {
    /// Something stands first in the queue that neither fits nor may be skipped, and this much of it fits.
    blocked: Option<f64>,
    /// Nobody else wants what blocks it either.
    failed: bool,
}

/// A message that may come once, or not.
pub(super) struct Allowed {
    pub(super) link_of: (usize, usize),
    pub(super) payload: Payload,
    pub(super) bindings: Rc<RefCell<Bindings>>,
    pub(super) cites: Vec<String>,
}

/// A `within` around the steps that run now.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) since: Time,
    pub(super) limit: Duration,
    pub(super) cites: Vec<String>,
}

/// What a look at the queue shows.
pub(super) enum Scan {
    /// The message at this place fits, and binds this.
    Fits(usize, Bindings),
    /// The message at this place stands in the way.
    Blocked(usize),
    /// Nothing yet.
    Nothing,
}

impl Expect {
    /// In flow syntax.
    pub(super) fn describe(&self) -> String {
        match self {
            Expect::Payload(payload) => json::cut(&payload_text(payload), 2000),
            Expect::Close(CloseSpec { code: Some(code), .. }) => {
                format!("a Close frame with code {}", pattern_text(code))
            }
            Expect::Close(_) => "a Close frame".to_owned(),
            Expect::Drop => "the end of the connection".to_owned(),
        }
    }
}

/// What differs when an arrival does not fit; for a fit, what it binds.
fn fits(expect: &Expect, arrival: &Arrival, bindings: &Bindings) -> Result<Bindings, Vec<Mismatch>> {
    let whole = |expected: String| {
        vec![Mismatch { path: "$".to_owned(), expected, found: json::cut(&arrival.describe(), 300) }]
    };
    let as_text = |pattern: &Option<Pattern>, bytes: &[u8]| match pattern {
        None => Ok(bindings.clone()),
        Some(pattern) => matches(pattern, &Value::from(String::from_utf8_lossy(bytes)), bindings),
    };
    match (expect, arrival) {
        (Expect::Drop, arrival) if arrival.ends() => Ok(bindings.clone()),
        (Expect::Close(spec), Arrival::Closing { code, reason }) => {
            let mut bindings = bindings.clone();
            if let Some(pattern) = &spec.code {
                let code = code.map_or(Value::Null, Value::from);
                bindings = matches(pattern, &code, &bindings)?;
            }
            match &spec.reason {
                Some(pattern) => matches(pattern, &Value::from(reason.as_str()), &bindings),
                None => Ok(bindings),
            }
        }
        (Expect::Payload(payload), arrival) if http::is_http(payload) => {
            http::fits(payload, arrival, bindings).unwrap_or_else(|| Err(whole(expect.describe())))
        }
        (Expect::Payload(payload), arrival) => match (resolve(payload, bindings), arrival) {
            (Payload::Json(pattern), Arrival::Text { json: Ok(value), .. }) => {
                matches(pattern, value, bindings)
            }
            (Payload::Text(pattern), Arrival::Text { text, .. }) => {
                matches(pattern, &Value::from(text.as_str()), bindings)
            }
            (Payload::Binary(crate::flow::ast::Bytes::Hex(wanted)), Arrival::Binary(found))
                if *wanted == *found =>
            {
                Ok(bindings.clone())
            }
            (Payload::Binary(crate::flow::ast::Bytes::Expression(pattern)), Arrival::Binary(found)) => {
                matches(pattern, &Value::from(String::from_utf8_lossy(found)), bindings)
            }
            (Payload::Ping(pattern), Arrival::Ping(bytes)) => as_text(pattern, bytes),
            (Payload::Pong(pattern), Arrival::Pong(bytes)) => as_text(pattern, bytes),
            _ => Err(whole(expect.describe())),
        },
        _ => Err(whole(expect.describe())),
    }
}

/// True for the pattern that takes everything.
pub(super) fn is_anything(payload: &Payload) -> bool {
    matches!(payload, Payload::Json(Pattern { kind: PatternKind::Any, .. }))
}

/// Like [`fits`], for whoever does not ask what differs.
pub(super) fn fits_payload(payload: &Payload, arrival: &Arrival, bindings: &Bindings) -> Option<Bindings> {
    match (resolve(payload, bindings), arrival) {
        (Payload::Json(pattern), Arrival::Text { json, .. }) => {
            pattern::fits(pattern, json.as_ref().ok()?, bindings)
        }
        _ => fits(&Expect::Payload(payload.clone()), arrival, bindings).ok(),
    }
}

/// A payload with a variable from a table put in.
pub(super) fn resolve<'a>(payload: &'a Payload, bindings: &'a Bindings) -> &'a Payload {
    if let Payload::Json(Pattern { kind: PatternKind::Variable { name, .. }, .. }) = payload
        && let Some(Bound::Payload(inner)) = bindings.get(&name.text)
    {
        return inner;
    }
    payload
}

/// True for what nobody has to expect: background traffic, Pings, Pongs, and the end after a Close frame.
pub(super) fn is_background(arrival: &Arrival, ignoring: &[Payload], bindings: &Bindings) -> bool {
    match arrival {
        Arrival::Ping(_) | Arrival::Pong(_) => true,
        Arrival::Closing { .. } | Arrival::Fault(_) | Arrival::Ended => false,
        _ => ignoring.iter().any(|payload| fits_payload(payload, arrival, bindings).is_some()),
    }
}

/// How much of the top level of an expected message an arrival fits: 1.0 for all of it.
fn likeness(expect: &Expect, arrival: &Arrival, bindings: &Bindings) -> f64 {
    let Expect::Payload(payload) = expect else { return 0.0 };
    let (Payload::Json(pattern), Arrival::Text { json: Ok(value), .. }) =
        (resolve(payload, bindings), arrival)
    else {
        return 0.0;
    };
    let PatternKind::Object { members, .. } = &pattern.kind else { return 0.0 };
    let fitting = members
        .iter()
        .filter(|member| {
            let key = match &member.key {
                Key::Text(text, _) => Some(text.clone()),
                Key::Variable(name) => variable_text(&name.text, bindings).ok(),
            };
            let found = key.and_then(|key| value.get(key));
            found.is_some_and(|found| matches(&member.value, found, bindings).is_ok())
        })
        .count();
    if members.is_empty() { 0.0 } else { fitting as f64 / members.len() as f64 }
}

impl Shared {
    /// Looks for what fits, in order of arrival. With `since`, background traffic from before is not considered.
    pub(super) fn scan(
        &self,
        link: usize,
        expect: &Expect,
        bindings: &Bindings,
        since: Option<Time>,
    ) -> Scan {
        for (place, arrived) in self.links[link].inbox.iter().enumerate() {
            let bound = match expect {
                Expect::Payload(payload) => fits_payload(payload, &arrived.what, bindings),
                _ => fits(expect, &arrived.what, bindings).ok(),
            };
            let early = since.is_some_and(|since| arrived.at < since);
            if let Some(bound) = bound
                && !(early && self.is_background(&arrived.what))
            {
                return Scan::Fits(place, bound);
            }
            // Datagrams have no order: what waits before the one that fits stands in nobody's way.
            if self.links[link].is_datagrams() {
                continue;
            }
            // What was accused already stands in nobody's way, unless it is plainly a failed attempt at this.
            let aside = self.is_background(&arrived.what)
                || (arrived.judged && likeness(expect, &arrived.what, bindings) < UNMISTAKABLE);
            if !aside && self.allowed_at(link, &arrived.what).is_none() {
                return Scan::Blocked(place);
            }
        }
        Scan::Nothing
    }

    fn allowed_at(&self, link: usize, arrival: &Arrival) -> Option<(usize, Bindings)> {
        let ends = (self.links[link].watched, self.links[link].played);
        self.allowed.iter().enumerate().filter(|(_, allowed)| allowed.link_of == ends).find_map(
            |(place, allowed)| {
                let bound = fits_payload(&allowed.payload, arrival, &allowed.bindings.borrow());
                bound.map(|bound| (place, bound))
            },
        )
    }

    /// Uses up an `optionally` that fits, if there is one.
    pub(super) fn take_allowed(&mut self, link: usize, arrival: &Arrival) -> bool {
        let Some((place, bound)) = self.allowed_at(link, arrival) else { return false };
        let allowed = self.allowed.remove(place);
        *allowed.bindings.borrow_mut() = bound;
        self.kept.extend(allowed.cites);
        true
    }

    /// Takes the message at `place`; what was skipped before it is used up, unless another step that waits at the same
    /// time may want it.
    fn take(&mut self, link: usize, place: usize, side_by_side: bool) -> Option<Arrived> {
        if side_by_side || self.links[link].is_datagrams() {
            return self.links[link].inbox.remove(place);
        }
        for _ in 0..place {
            let skipped = self.links[link].inbox.pop_front()?;
            if !self.is_background(&skipped.what) {
                self.take_allowed(link, &skipped.what);
            }
        }
        self.links[link].inbox.pop_front()
    }

    pub(super) fn register(&mut self) -> u64 {
        self.next_expectation += 1;
        self.expectations.insert(self.next_expectation, Expectation { blocked: None, failed: false });
        self.next_expectation
    }

    pub(super) fn unregister(&mut self, id: u64) {
        self.expectations.remove(&id);
    }

    /// Notes whether an expectation is blocked, and how much of it fits what is in its way; tells whether it was given up.
    pub(super) fn mark(&mut self, id: u64, blocked: Option<f64>) -> bool {
        match self.expectations.get_mut(&id) {
            Some(expectation) => {
                expectation.blocked = blocked;
                expectation.failed
            }
            None => false,
        }
    }

    /// Gives up an expectation whose way is blocked by something that nobody wants. Of several that wait side by side it
    /// is the one that the message in its way comes nearest to. True when there was one.
    pub(super) fn fail_blocked(&mut self) -> bool {
        let open = self.expectations.values_mut().filter(|expectation| !expectation.failed);
        let mut nearest: Option<(f64, &mut Expectation)> = None;
        for expectation in open {
            let Some(like) = expectation.blocked else { continue };
            if nearest.as_ref().is_none_or(|(best, _)| like > *best) {
                nearest = Some((like, expectation));
            }
        }
        if let Some((_, expectation)) = nearest {
            expectation.failed = true;
            return true;
        }
        false
    }

    /// Looks for what a waiting step wants: `Some(Ok)` it was taken, `Some(Err)` something else stands in its way.
    fn look(
        &mut self,
        id: u64,
        link: usize,
        expect: &Expect,
        scope: &Scope,
        since: Option<Time>,
    ) -> Option<Result<Arrived, usize>> {
        self.find_socket(link, expect, &scope.bindings, since);
        let scan = self.scan(link, expect, &scope.bindings.borrow(), since);
        match scan {
            Scan::Fits(place, bound) => {
                let arrived = self.take(link, place, scope.side_by_side || scope.astray)?;
                *scope.bindings.borrow_mut() = bound;
                Some(Ok(arrived))
            }
            Scan::Blocked(place) => {
                let like = likeness(expect, &self.links[link].inbox[place].what, &scope.bindings.borrow());
                self.mark(id, Some(like)).then_some(Err(place))
            }
            Scan::Nothing => {
                self.mark(id, None);
                None
            }
        }
    }
}

/// Waits for `expect` on a link. The moment of its arrival.
pub(super) async fn expect(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    link: usize,
    expect: Expect,
    step: &Step,
) -> Result<Time, Stop> {
    let (since, soft, hard) = {
        let shared = shared.borrow();
        let slack = shared.plan.settings.slack;
        match &scope.window {
            Some(window) => {
                let soft = window.since + window.limit + slack;
                (Some(window.since), Some(soft), soft + GRACE)
            }
            None => (None, None, shared.now + scope.patience(&shared)),
        }
    };
    loop {
        let id = shared.borrow_mut().register();
        let found = wait_for(shared, Some(hard), |shared| shared.look(id, link, &expect, scope, since)).await;
        let shared = &mut *shared.borrow_mut();
        shared.unregister(id);
        match found {
            Some(Ok(arrived)) => {
                let late = soft.is_some_and(|soft| arrived.at > soft);
                return if late {
                    Err(late_arrival(shared, scope, &expect, step, &arrived))
                } else {
                    Ok(arrived.at)
                };
            }
            Some(Err(place)) => {
                let arrived = &shared.links[link].inbox[place];
                let strange = matches!(arrived.what, Arrival::Text { .. } | Arrival::Binary(_))
                    && likeness(&expect, &arrived.what, &scope.bindings.borrow()) < SAME_KIND;
                // A message of quite another kind is judged by itself; what was expected may still come.
                if strange && shared.plan.unexpected.is_some() {
                    unexpected(shared, scope, link, place, step);
                    match shared.flood() {
                        Some(flood) => return Err(Stop::Other(flood)),
                        None => continue,
                    }
                }
                return Err(mismatch(shared, scope, link, place, &expect, step));
            }
            None => return Err(missing(shared, scope, link, &expect, step, since)),
        }
    }
}

/// Accuses a message that nobody expected, and takes it out of the way.
pub(super) fn unexpected(shared: &mut Shared, scope: &Scope, link: usize, place: usize, step: &Step) {
    let Some(arrived) = shared.links[link].inbox.remove(place) else { return };
    shared.strange += 1;
    shared.swamped |= shared.strange > STRANGE_LIMIT;
    let (watched, played) = (shared.links[link].watched, shared.links[link].played);
    // Bystanders are there to be served; what else reaches them is the business of the flow's own cast.
    if scope.liveness.is_some() {
        return;
    }
    let finding = Finding {
        requirement: shared.plan.unexpected.clone(),
        ruling: Ruling::Broken,
        by: shared.cast[watched].name.clone(),
        judge: Judge::Arrow,
        at: arrived.at,
        line: Some(scope.file.line(step.span.start)),
        message: format!("{} received a message that nobody expected", shared.cast[played].name),
        expected: "nothing of this kind here".to_owned(),
        actual: arrived.what.value(),
    };
    shared.find(finding);
}

fn late_arrival(shared: &mut Shared, scope: &Scope, expect: &Expect, step: &Step, arrived: &Arrived) -> Stop {
    let Some(window) = scope.window.clone() else { return Stop::Broken };
    let after = arrived.at.since(window.since);
    let message =
        format!("it came {} after what caused it, not within {}", seconds(after), seconds(window.limit));
    let accused = if window.cites.is_empty() { scope.accused(step) } else { window.cites };
    fail(shared, scope, step, accused, message, expect.describe(), arrived.what.value())
}

/// Something of the expected kind came, and differs.
fn mismatch(
    shared: &mut Shared,
    scope: &Scope,
    link: usize,
    place: usize,
    expect: &Expect,
    step: &Step,
) -> Stop {
    let arrived = shared.links[link].inbox[place].clone();
    let differences = match fits(expect, &arrived.what, &scope.bindings.borrow()) {
        Err(mismatches) => mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Ok(_) => String::new(),
    };
    let played = &shared.cast[shared.links[link].played].name;
    let message = if arrived.what.ends() {
        format!("{played}'s connection ended ({}) instead", arrived.what.describe())
    } else {
        differences
    };
    // A connection that ended says nothing about the content of what did not come.
    let accused = match (&scope.window, scope.survival(shared)) {
        _ if !arrived.what.ends() => scope.accused(step),
        (_, Some(survival)) => survival,
        (Some(window), None) if !window.cites.is_empty() => window.cites.clone(),
        _ => scope.accused(step),
    };
    fail(shared, scope, step, accused, message, with_values(expect, scope), arrived.what.value())
}

/// How it ends when `participant` was told to do something, has done nothing since, and nobody promised that it takes
/// stimuli.
pub(super) fn not_driven(shared: &Shared, participant: usize) -> Option<Stop> {
    let idle = shared.stimulated.is_some_and(|told| told == (participant, shared.deeds_of(participant)));
    let guess = shared.plan.settings.driver == Driver::Perhaps;
    let name = &shared.cast[participant].name;
    (idle && guess).then(|| {
        Stop::Other(Ending::NotDriven(format!("needs a driver: {name} did not act on its stimulus")))
    })
}

/// Nothing came that fits. The nearest miss among the background traffic tells wrong content from silence.
fn missing(
    shared: &mut Shared,
    scope: &Scope,
    link: usize,
    expect: &Expect,
    step: &Step,
    since: Option<Time>,
) -> Stop {
    if let Some(stop) = not_driven(shared, shared.links[link].watched) {
        return stop;
    }
    let mut nearest: Option<(f64, usize)> = None;
    for (place, arrived) in shared.links[link].inbox.iter().enumerate() {
        if since.is_some_and(|since| arrived.at < since) {
            continue;
        }
        let like = likeness(expect, &arrived.what, &scope.bindings.borrow());
        if like >= SAME_KIND && nearest.is_none_or(|(best, _)| like >= best) {
            nearest = Some((like, place));
        }
    }
    if let Some((_, place)) = nearest {
        return mismatch(shared, scope, link, place, expect, step);
    }
    let waited = match &scope.window {
        Some(window) => window.limit,
        None => scope.patience(shared),
    };
    let (watched, played) = (shared.links[link].watched, shared.links[link].played);
    let message = format!(
        "nothing of this kind came from {} to {} within {}",
        shared.cast[watched].name,
        shared.cast[played].name,
        seconds(waited)
    );
    let accused = match &scope.window {
        Some(window) if !window.cites.is_empty() => window.cites.clone(),
        _ => scope.accused(step),
    };
    fail(shared, scope, step, accused, message, with_values(expect, scope), Value::Null)
}

/// What was expected, and below it what its variables stand for.
fn with_values(expect: &Expect, scope: &Scope) -> String {
    let mut text = expect.describe();
    let bindings = scope.bindings.borrow();
    let mut values: Vec<String> = Vec::new();
    for (name, bound) in bindings.iter() {
        let used = text.match_indices(&format!("${name}")).any(|(at, found)| {
            !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-')
        });
        if let (true, Bound::Value(value)) = (used, bound) {
            values.push(format!("${name} = {}", json::short(value, 120)));
        }
    }
    if !values.is_empty() {
        text.push_str(&format!("   where {}", values.join(", ")));
    }
    text
}

/// Records that a step failed; without anybody to accuse, the flow did not reach what it is about.
pub(super) fn fail(
    shared: &mut Shared,
    scope: &Scope,
    step: &Step,
    accused: Vec<String>,
    message: String,
    expected: String,
    actual: Value,
) -> Stop {
    // Of a bystander that is not served the reader wants the line that asks for one.
    let line = match &scope.liveness {
        Some(liveness) => liveness.1,
        None => scope.file.line(step.span.start),
    };
    let (catalogue, settings) = (&shared.protocol.catalogue, &shared.plan.settings);
    let at_stake = |id: &String| {
        catalogue.get(id).is_none() || catalogue.binds_in(id, &shared.plan.role, &settings.edition)
    };
    let Some(requirement) = accused.into_iter().find(at_stake) else {
        let found =
            if actual.is_null() { String::new() } else { format!(", found {}", json::short(&actual, 300)) };
        let text = format!(
            "line {line} prepares what the flow is about and failed: {message}; expected {expected}{found}"
        );
        return Stop::Other(Ending::Unreached(text));
    };
    let by = shared.cast.iter().find(|one| one.under_test).map_or_else(String::new, |one| one.name.clone());
    let finding = Finding {
        requirement: Some(requirement),
        ruling: Ruling::Broken,
        by: scope.blamed(shared, step).unwrap_or(by),
        judge: if scope.liveness.is_some() { Judge::Liveness } else { Judge::Arrow },
        at: shared.now,
        line: Some(line),
        message,
        expected,
        actual,
    };
    shared.find(finding);
    Stop::Broken
}

/// A duration for people.
pub(super) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}
