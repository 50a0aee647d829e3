//! What each step of a flow does: a played participant acts, a watched one is waited for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flowproof_reference::machine::{Message, Request, Response, Time};
use flowproof_reference::transport::LinkEnd;
use serde_json::Value;

use super::expect::{self, Allowed, Expect, Scan, Window, expect, fail, not_driven, resolve, seconds};
use super::http;
use super::link::{Arrival, Link, Stage};
use super::task::{Task, all, wait_for};
use super::{Ending, Output, Shared, Stop};
use crate::corpus::FlowFile;
use crate::flow::ast::{
    Block, Branch, Bytes, CloseSpec, ConnectOptions, ExitStatus, Name, Pattern, Payload, Step, StepKind,
};
use crate::flow::format::pattern_text;
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::monitor::What;
use crate::pattern::{Bindings, Bound, generate, json as text_json, matches, text_from, text_of};
use crate::runner::plan::{Participant, Plan};
use crate::runner::stimulus::Stimulus;

/// Bytes that may wait for a slow network before we stop sending for a while.
const BACKLOG: usize = 1 << 20;
/// How long a network may take none of our bytes before we give up sending.
const STUCK: Duration = Duration::from_secs(10);

/// Where steps run: the names and variables they see, and the blocks around them.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) bindings: Rc<RefCell<Bindings>>,
    names: Rc<BTreeMap<String, Vec<usize>>>,
    pub(super) file: Arc<FlowFile>,
    /// The innermost `within`.
    pub(super) window: Option<Window>,
    /// Other steps wait at the same time: what one skips may be what another wants.
    pub(super) side_by_side: bool,
    /// Who is accused by a step without citation: the block around it.
    fallback: Rc<Vec<String>>,
    /// In a `served` conversation: who is accused, and the step of the flow that asked for it.
    pub(super) liveness: Option<Rc<(Vec<String>, usize)>>,
    /// Whom the flow accuses when the target no longer serves after a hostile step.
    survival: Rc<Vec<String>>,
    /// The flow has left the path of its protocol: what does not come or cannot be done is left out.
    pub(super) astray: bool,
}

/// What it waits for at least, however much has not come.
const ASTRAY_IMPATIENCE: Duration = Duration::from_millis(10);
/// How long a program of ours is watched at the end.
const AFTERMATH: Duration = Duration::from_millis(80);
/// The same of one that has hung up.
const AFTERMATH_OF_LINKS: Duration = Duration::from_millis(600);
/// How long it waits for a connection.
const ASTRAY_OPENING: Duration = Duration::from_secs(1);

impl Scope {
    /// The requirements that `step` puts at stake; the first is accused.
    pub(super) fn accused(&self, step: &Step) -> Vec<String> {
        match &self.liveness {
            Some(liveness) => liveness.0.clone(),
            None if step.cites.is_empty() => self.fallback.to_vec(),
            None => ids(&step.cites),
        }
    }

    /// How long a step waits.
    pub(super) fn patience(&self, shared: &Shared) -> Duration {
        let timeout = shared.plan.settings.timeout;
        if !self.astray {
            timeout
        } else {
            // Each thing that did not come makes it wait half as long for the next.
            let halved = shared.plan.settings.astray / (1 << shared.missed.min(8));
            timeout.min(halved.max(ASTRAY_IMPATIENCE))
        }
    }

    /// How long a connection may take to open.
    fn opening(&self, shared: &Shared) -> Duration {
        let timeout = shared.plan.settings.timeout;
        if self.astray { timeout.min(ASTRAY_OPENING) } else { timeout }
    }

    /// Who is accused when a bystander's connection ends, once it was seen that the target serves at all.
    pub(super) fn survival(&self, shared: &Shared) -> Option<Vec<String>> {
        (shared.serves && !self.survival.is_empty()).then(|| self.survival.to_vec())
    }

    /// The participant under test that a step is about.
    pub(super) fn blamed(&self, shared: &Shared, step: &Step) -> Option<String> {
        let name = match &step.kind {
            StepKind::Arrow { from, .. } => from,
            StepKind::Closes { who, .. } | StepKind::Drops { who, .. } | StepKind::Refuses { who, .. } => who,
            StepKind::Connects { who, .. } | StepKind::Exits { who, .. } => who,
            _ => return None,
        };
        let place = *self.names.get(&name.text)?.first()?;
        shared.cast[place].under_test.then(|| shared.cast[place].name.clone())
    }

    fn members(&self, name: &Name) -> Result<Vec<usize>, Stop> {
        let members = self.names.get(&name.text).cloned();
        members.ok_or_else(|| Stop::Other(Ending::Flow(format!("nobody is called {}", name.text))))
    }

    fn one(&self, name: &Name) -> Result<usize, Stop> {
        let members = self.members(name)?;
        members
            .first()
            .copied()
            .ok_or_else(|| Stop::Other(Ending::Flow(format!("nobody is called {}", name.text))))
    }

    fn with_fallback(&self, cites: &[Name]) -> Scope {
        if cites.is_empty() { self.clone() } else { Scope { fallback: Rc::new(ids(cites)), ..self.clone() } }
    }

    pub(super) fn broken_flow(&self, step: &Step, error: impl std::fmt::Display) -> Stop {
        Stop::Other(Ending::Flow(format!("line {}: {error}", self.file.line(step.span.start))))
    }
}

fn ids(names: &[Name]) -> Vec<String> {
    names.iter().map(|name| name.text.clone()).collect()
}

/// A whole flow as a task.
pub(super) fn flow(
    shared: Rc<RefCell<Shared>>,
    plan: Rc<Plan>,
    bindings: Rc<RefCell<Bindings>>,
) -> Task<Result<(), Stop>> {
    let scope = Scope {
        bindings,
        names: Rc::new(plan.names.clone()),
        file: Arc::clone(&plan.file),
        window: None,
        side_by_side: false,
        fallback: Rc::new(Vec::new()),
        liveness: None,
        // Off the path a connection may well be ended.
        survival: Rc::new(if plan.astray { Vec::new() } else { survival(&plan.file.flow.steps) }),
        astray: plan.astray,
    };
    let steps = run(Rc::clone(&shared), scope, plan.file.flow.steps.clone());
    if !plan.astray {
        return steps;
    }
    Box::pin(async move {
        steps.await?;
        linger(&shared).await;
        let shared = shared.borrow();
        match &shared.unreachable {
            // Where nothing was heard, nothing was judged.
            Some(why) if !shared.heard => Err(Stop::Other(Ending::Unreached(why.clone()))),
            _ => Ok(()),
        }
    })
}

/// A program that dies of what it was told gets the time to, before we take leave: after that it may go.
async fn linger(shared: &Rc<RefCell<Shared>>) {
    let (ours, until) = {
        let shared = shared.borrow();
        let tested = |one: &Participant| one.under_test && (!one.listens || shared.plan.datagrams);
        let ours = shared.plan.settings.started && shared.cast.iter().any(tested);
        // One that has hung up may be on its way out.
        let hung_up = shared.links.iter().any(|link| link.ended_by_them);
        (ours, shared.now + if hung_up { AFTERMATH_OF_LINKS } else { AFTERMATH })
    };
    if ours {
        wait_for(shared, Some(until), |shared| (!shared.exits.is_empty()).then_some(())).await;
    }
}

/// What the first `served` that accuses anybody cites.
fn survival(steps: &[Step]) -> Vec<String> {
    let served = steps.iter().find(|step| matches!(step.kind, StepKind::Served) && !step.cites.is_empty());
    served.map(|step| ids(&step.cites)).unwrap_or_default()
}

fn run(shared: Rc<RefCell<Shared>>, scope: Scope, steps: Vec<Step>) -> Task<Result<(), Stop>> {
    Box::pin(async move {
        for (place, step) in steps.iter().enumerate() {
            // An attempt to connect that the next step sees refused is not waited for.
            let refused_next = match (&step.kind, steps.get(place + 1).map(|next| &next.kind)) {
                (StepKind::Connects { who, .. }, Some(next)) => may_refuse(next, who),
                _ => false,
            };
            match run_step(&shared, &scope, step, refused_next).await {
                Err(stop) if !(scope.astray && stop.is_of_a_step()) => return Err(stop),
                Err(_) => shared.borrow_mut().missed += 1,
                Ok(()) => {}
            }
        }
        Ok(())
    })
}

/// True for a step in which that attempt to connect is refused, if only perhaps.
fn may_refuse(step: &StepKind, who: &Name) -> bool {
    match step {
        StepKind::Refuses { whom, .. } => who.text == whom.text,
        StepKind::Either(branches) => {
            let first = branches.iter().filter_map(|branch| branch.block.steps.first());
            first.into_iter().any(|step| may_refuse(&step.kind, who))
        }
        _ => false,
    }
}

async fn run_step(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    refused_next: bool,
) -> Result<(), Stop> {
    match &step.kind {
        StepKind::Arrow { from, to, payload } => {
            arrow(shared, scope, step, from, to, payload).await.map(|_| ())
        }
        StepKind::Connects { who, to: _, options } => {
            connects(shared, scope, step, who, options, refused_next).await
        }
        StepKind::Opens { who } => opens(shared, scope, step, who).await,
        StepKind::Disconnects { who, close } => ends(shared, scope, step, who, Some(close)).await,
        StepKind::Knows { who, whom } => knows(shared, scope, who, whom),
        StepKind::Greets { who, whom } => greets(shared, scope, step, who, whom).await,
        StepKind::Stops { who } => {
            for one in scope.members(who)? {
                shared.borrow_mut().stop_greeting(one);
            }
            Ok(())
        }
        StepKind::Vanishes { who } if shared.borrow().plan.datagrams => {
            for one in scope.members(who)? {
                shared.borrow_mut().close_sockets(one);
            }
            Ok(())
        }
        StepKind::Vanishes { who } => ends(shared, scope, step, who, None).await,
        StepKind::Stalls { who } => stall(shared, scope, step, who, true),
        StepKind::Resumes { who } => stall(shared, scope, step, who, false),
        StepKind::Closes { who, whom, close } => closes(shared, scope, step, who, whom, Some(close)).await,
        StepKind::Drops { who, whom } => closes(shared, scope, step, who, whom, None).await,
        StepKind::Refuses { whom, status, .. } => refuses(shared, scope, step, whom, status.as_ref()).await,
        StepKind::Wait(duration) => {
            let until = shared.borrow().now + *duration;
            wait_for(shared, Some(until), |_| None::<()>).await;
            Ok(())
        }
        StepKind::Within { limit, block } => {
            let window = Window { since: shared.borrow().last_cause, limit: *limit, cites: ids(&step.cites) };
            let inner = Scope { window: Some(window), ..scope.clone() };
            run(Rc::clone(shared), inner, block.steps.clone()).await?;
            shared.borrow_mut().keep(scope, step);
            Ok(())
        }
        StepKind::Every { shortest, longest, times, block } => {
            every(shared, scope, step, (*shortest, *longest), *times, block).await
        }
        StepKind::Quiet { who, duration } => quiet(shared, scope, step, who, *duration).await,
        StepKind::Settle => settle(shared).await,
        StepKind::AnyOrder(block) => {
            let inner = Scope { side_by_side: true, ..scope.with_fallback(&step.cites) };
            let tasks = block
                .steps
                .iter()
                .map(|one| run(Rc::clone(shared), inner.clone(), vec![one.clone()]))
                .collect();
            all(tasks).await?;
            shared.borrow_mut().keep(scope, step);
            Ok(())
        }
        StepKind::Either(branches) => either(shared, scope, step, branches).await,
        StepKind::Optionally(block) => optionally(shared, scope, block),
        StepKind::Repeat { times, counter, block } => {
            repeat(shared, scope, step, *times, counter.as_ref(), block).await
        }
        StepKind::Let { name, value } => {
            let shared = &mut *shared.borrow_mut();
            let mut bindings = scope.bindings.borrow_mut();
            bindings.forget(&name.text);
            let made = generate(value, &mut bindings, &mut shared.rng)
                .map_err(|error| scope.broken_flow(step, error))?;
            bindings.bind(&name.text, Bound::Value(made));
            Ok(())
        }
        StepKind::Does { who, stimulus, with } => does(shared, scope, step, who, stimulus, with.as_ref()),
        StepKind::Exits { who, how } => exits(shared, scope, step, who, *how).await,
        StepKind::Quits { who } => quits(shared, scope, who),
        StepKind::Served => served(shared, scope, step).await,
    }
}

/// The moment a message that was waited for arrived; for one that was sent, now.
async fn arrow(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    from: &Name,
    to: &Name,
    payload: &Payload,
) -> Result<Time, Stop> {
    let mut at = shared.borrow().now;
    let (from, to) = (scope.members(from)?, scope.members(to)?);
    // A table may hold whole requests and answers.
    let from_table = resolve(payload, &scope.bindings.borrow()).clone();
    let payload = if http::is_http(&from_table) { &from_table } else { payload };
    for sender in &from {
        for receiver in &to {
            let (sender, receiver) = (*sender, *receiver);
            let (sender_watched, receiver_watched) = {
                let shared = shared.borrow();
                (shared.cast[sender].under_test, shared.cast[receiver].under_test)
            };
            match (sender_watched, receiver_watched) {
                (true, false) if matches!(payload, Payload::HttpRequest { .. }) => {
                    at = http::await_request(shared, scope, step, sender, payload).await?;
                    shared.borrow_mut().keep(scope, step);
                }
                (true, false) if matches!(payload, Payload::HttpResponse { .. }) => {
                    let link = shared.borrow().exchange(sender, receiver, payload);
                    let link =
                        link.ok_or_else(|| scope.broken_flow(step, "no request waits for an answer"))?;
                    at = expect(shared, scope, link, Expect::Payload(payload.clone()), step).await?;
                    let shared = &mut *shared.borrow_mut();
                    shared.asked[receiver].pop_front();
                    shared.keep(scope, step);
                }
                (true, false) => {
                    let link = shared.borrow_mut().link_between(sender, receiver);
                    let link =
                        link.ok_or_else(|| shared.borrow().not_connected_yet(scope, step, sender, receiver))?;
                    at = expect(shared, scope, link, Expect::Payload(payload.clone()), step).await?;
                    shared.borrow_mut().keep(scope, step);
                }
                (false, true) if matches!(payload, Payload::HttpRequest { .. }) => {
                    http::ask(shared, scope, step, sender, receiver, payload)?;
                }
                (false, true) if matches!(payload, Payload::HttpResponse { .. }) => {
                    http::answer(shared, scope, step, receiver, payload)?;
                }
                (false, true) => send(shared, scope, step, sender, receiver, payload).await?,
                // Between two that are played nothing travels; the pattern only binds its variables.
                (false, false) => {
                    if let Payload::Json(pattern) = payload {
                        let shared = &mut *shared.borrow_mut();
                        let mut bindings = scope.bindings.borrow().clone();
                        // A pattern that only describes cannot be made, and binds nothing either.
                        if generate(pattern, &mut bindings, &mut shared.rng).is_ok() {
                            *scope.bindings.borrow_mut() = bindings;
                        }
                    }
                }
                (true, true) => {
                    return Err(
                        scope.broken_flow(step, "both ends are under test; nobody is left to watch from")
                    );
                }
            }
        }
    }
    Ok(at)
}

/// `bob knows anna`: the world has told a watched bob before he began, where that can be done. Where it cannot, she
/// greets him, which makes her known as well.
fn knows(shared: &Rc<RefCell<Shared>>, scope: &Scope, who: &Name, whom: &Name) -> Result<(), Stop> {
    let (who, whom) = (scope.members(who)?, scope.members(whom)?);
    let shared = &mut *shared.borrow_mut();
    for told in who.into_iter().filter(|one| shared.cast[*one].under_test).collect::<Vec<_>>() {
        for known in &whom {
            if !shared.plan.settings.told && shared.addresses.get(told).copied().flatten().is_some() {
                shared.greet_from_now(*known, told);
            }
        }
    }
    Ok(())
}

async fn greets(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
    whom: &Name,
) -> Result<(), Stop> {
    let greeting = {
        let shared = shared.borrow();
        let greeting = shared.protocol.greetings.get(&shared.plan.settings.edition);
        greeting.map(|greeting| greeting.message.clone())
    };
    let Some(greeting) = greeting else {
        return Err(scope.broken_flow(step, "this protocol has no greeting"));
    };
    for from in scope.members(who)? {
        for to in scope.members(whom)? {
            let (from_watched, to_watched) = {
                let shared = shared.borrow();
                (shared.cast[from].under_test, shared.cast[to].under_test)
            };
            if from_watched && !to_watched {
                let link = shared.borrow_mut().datagram_link(to, from);
                let wanted = Expect::Payload(Payload::Json(greeting.clone()));
                expect(shared, scope, link, wanted, step).await?;
                shared.borrow_mut().keep(scope, step);
            } else if to_watched {
                let shared = &mut *shared.borrow_mut();
                shared.greet_from_now(from, to);
                shared.last_cause = shared.now;
                shared.progress = true;
            }
        }
    }
    Ok(())
}

/// Sends what a pattern makes.
async fn send(
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
    /// Credits what a step cites.
    pub(super) fn keep(&mut self, scope: &Scope, step: &Step) {
        let cites = match &scope.liveness {
            Some(_) => return,
            None => ids(&step.cites),
        };
        let settings = &self.plan.settings;
        let binds = |id: &String| self.protocol.catalogue.binds_in(id, &self.plan.role, &settings.edition);
        self.kept.extend(cites.into_iter().filter(binds));
    }

    /// The links on which a participant hears something: of one that others connect to, those that are open.
    fn links_to(&self, who: usize) -> Vec<usize> {
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
    fn link_between(&mut self, a: usize, b: usize) -> Option<usize> {
        if self.plan.datagrams {
            let (played, watched) = if self.cast[a].under_test { (b, a) } else { (a, b) };
            return Some(self.datagram_link(played, watched));
        }
        self.known_link_between(a, b)
    }

    /// The same, of those that are there already.
    fn known_link_between(&self, a: usize, b: usize) -> Option<usize> {
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

    fn not_connected_yet(&self, scope: &Scope, step: &Step, a: usize, b: usize) -> Stop {
        let text = format!("{} and {} are not connected", self.cast[a].name, self.cast[b].name);
        scope.broken_flow(step, text)
    }

    fn transmit(&mut self, scope: &Scope, step: &Step, link: usize, payload: &Payload) -> Result<(), Stop> {
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

async fn connects(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
    options: &ConnectOptions,
    refused_next: bool,
) -> Result<(), Stop> {
    let mut tasks: Vec<Task<Result<(), Stop>>> = Vec::new();
    for one in scope.members(who)? {
        let watched = shared.borrow().cast[one].under_test;
        let other_watched = shared.borrow().cast.iter().any(|other| other.listens && other.under_test);
        if !watched && !other_watched {
            continue;
        }
        if watched {
            if refused_next {
                continue;
            }
            accept(shared, scope, step, one, options).await?;
            shared.borrow_mut().keep(scope, step);
            continue;
        }
        let link = dial(shared, scope, step, one, options)?;
        if !refused_next {
            let (shared, scope, step) = (Rc::clone(shared), scope.clone(), step.clone());
            let offered = options.subprotocol.clone().filter(|_| !step.cites.is_empty());
            tasks.push(Box::pin(async move {
                until_open(&shared, &scope, &step, link).await?;
                offered.map_or(Ok(()), |offered| selected(&shared, &scope, &step, link, &offered))
            }));
        }
    }
    all(tasks).await
}

/// Asks the party under test for a connection.
fn dial(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: usize,
    options: &ConnectOptions,
) -> Result<usize, Stop> {
    let shared = &mut *shared.borrow_mut();
    let request = request(shared, scope, step, options)?;
    let watched = shared.cast.iter().position(|other| other.listens && other.under_test);
    let watched =
        watched.ok_or_else(|| scope.broken_flow(step, "there is nobody under test to connect to"))?;
    let mut target = request.path.clone();
    if !request.query.is_empty() {
        target = format!("{target}?{}", request.query);
    }
    let seed = shared.rng.u64(..);
    let end = shared.framing().connecting(&shared.plan.settings.host, &request, seed);
    let link = shared.new_link(who, watched, true, end, target.clone());
    shared.current[who] = Some(link);
    let id = shared.links[link].id;
    shared.observe(link, false, &What::Requested { target: &target });
    shared.outputs.push_back(Output::Dial(id));
    shared.note(link, false, format!("connects to {target}"));
    shared.last_cause = shared.now;
    shared.progress = true;
    if let Some(payload) = &options.sending {
        shared.transmit(scope, step, link, payload)?;
    }
    Ok(link)
}

fn request(
    shared: &mut Shared,
    scope: &Scope,
    step: &Step,
    options: &ConnectOptions,
) -> Result<Request, Stop> {
    let flow_error = |error: crate::pattern::Ungeneratable| scope.broken_flow(step, error);
    let mut bindings = scope.bindings.borrow_mut();
    let mut pairs = |pattern: &Option<Pattern>| -> Result<Vec<(String, String)>, Stop> {
        let Some(pattern) = pattern else { return Ok(Vec::new()) };
        let made = generate(pattern, &mut bindings, &mut shared.rng).map_err(flow_error)?;
        let Value::Object(members) = made else { return Ok(Vec::new()) };
        Ok(members
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => (name, text),
                other => (name, other.to_string()),
            })
            .collect())
    };
    let query = pairs(&options.query)?;
    let mut headers = pairs(&options.headers)?;
    let transport = shared.transport().subprotocol.clone();
    let mut text_of =
        |pattern: &Pattern| text_from(pattern, &mut bindings, &mut shared.rng).map_err(flow_error);
    let offered = match &options.subprotocol {
        Some(subprotocol) => Some(text_of(subprotocol)?),
        None => transport,
    };
    // An empty offer is none.
    if let Some(offered) = offered.filter(|offered| !offered.is_empty()) {
        headers.push(("sec-websocket-protocol".to_owned(), offered));
    }
    let path = match &options.path {
        Some(path) => text_of(path)?,
        None => shared.plan.settings.path.clone(),
    };
    let query: Vec<String> =
        query.iter().map(|(name, value)| format!("{}={}", percent(name), percent(value))).collect();
    Ok(Request {
        method: "GET".to_owned(),
        path,
        query: query.join("&"),
        headers,
        upgrade: true,
        body: Vec::new(),
    })
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

async fn until_open(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    link: usize,
) -> Result<(), Stop> {
    let until = shared.borrow().now + scope.opening(&shared.borrow());
    let stage = wait_for(shared, Some(until), |shared| match &shared.links[link].stage {
        Stage::Dialling | Stage::Upgrading | Stage::Requested => None,
        stage => Some(stage.clone()),
    })
    .await;
    let shared = &mut *shared.borrow_mut();
    let (message, actual) = match stage {
        Some(Stage::Open) => {
            shared.keep(scope, step);
            return Ok(());
        }
        Some(Stage::Refused(Some(status), _)) => {
            (format!("the upgrade was refused with HTTP {status}"), Value::from(status))
        }
        Some(Stage::Refused(None, detail)) => {
            (format!("the connection did not come about: {detail}"), Value::Null)
        }
        Some(_) => ("the connection ended before the upgrade was answered".to_owned(), Value::Null),
        None => {
            shared.unreachable.get_or_insert_with(|| "the upgrade was not answered".to_owned());
            ("the upgrade was not answered".to_owned(), Value::Null)
        }
    };
    Err(fail(shared, scope, step, scope.accused(step), message, "an open connection".to_owned(), actual))
}

/// The party under test must have selected one of the subprotocols offered: the protocol's own, where it is among
/// them.
fn selected(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    link: usize,
    offered: &Pattern,
) -> Result<(), Stop> {
    let shared = &mut *shared.borrow_mut();
    let text = text_of(offered, &scope.bindings.borrow());
    let text = text.map_err(|error| scope.broken_flow(step, error))?;
    let offered: Vec<&str> = text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    let own = shared.transport().subprotocol.clone();
    let own = own.and_then(|own| offered.iter().copied().find(|one| one.eq_ignore_ascii_case(&own)));
    let selected = &shared.links[link].subprotocols;
    let fits = match (selected.as_slice(), own) {
        ([one], Some(own)) => one.eq_ignore_ascii_case(own),
        ([one], None) => offered.iter().any(|known| one.eq_ignore_ascii_case(known)),
        ([], _) => offered.is_empty(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let found = Value::from(selected.clone());
    let message = "the upgrade was granted with another choice of subprotocol".to_owned();
    let expected = own.map_or_else(|| format!("one of {text}"), |own| format!("the subprotocol {own}"));
    Err(fail(shared, scope, step, scope.accused(step), message, expected, found))
}

/// Waits until a party under test asks for a connection, and grants it.
async fn accept(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: usize,
    options: &ConnectOptions,
) -> Result<(), Stop> {
    let known = shared.borrow().links.iter().any(|link| link.watched == who);
    let until = {
        let shared = shared.borrow();
        let settings = &shared.plan.settings;
        // A program that was just started may take its time to connect for the first time.
        let patience =
            shared.now + if known { settings.timeout } else { settings.timeout.max(settings.startup) };
        // A `within` may be more patient than the run.
        scope
            .window
            .as_ref()
            .map_or(patience, |window| patience.max(window.since + window.limit + settings.slack))
    };
    let found = wait_for(shared, Some(until), |shared| shared.requests[who].pop_front()).await;
    let shared = &mut *shared.borrow_mut();
    let name = shared.cast[who].name.clone();
    let Some(link) = found else {
        let message = format!("{name} did not connect");
        // Of one that never came nothing is known, not even that it tried.
        let accused = if known { scope.accused(step) } else { Vec::new() };
        return Err(fail(shared, scope, step, accused, message, "a connection".to_owned(), Value::Null));
    };
    shared.current[who] = Some(link);
    let target = shared.links[link].target.clone();
    if let Some(query) = &options.query {
        let given = http::query_members(&target);
        let fitting = matches(query, &given, &scope.bindings.borrow());
        match fitting {
            Ok(bindings) => *scope.bindings.borrow_mut() = bindings,
            Err(_) => {
                let message = format!("{name} asked with other query parameters");
                let accused = scope.accused(step);
                return Err(fail(
                    shared,
                    scope,
                    step,
                    accused,
                    message,
                    pattern_text(query),
                    Value::from(target),
                ));
            }
        }
    }
    if let Some(path) = &options.path
        && matches(path, &Value::from(target.split('?').next().unwrap_or_default()), &scope.bindings.borrow())
            .is_err()
    {
        let message = format!("{name} asked for another path");
        return Err(fail(
            shared,
            scope,
            step,
            scope.accused(step),
            message,
            pattern_text(path),
            Value::from(target),
        ));
    }
    let wanted = match &options.subprotocol {
        Some(pattern) => {
            let text = text_from(pattern, &mut scope.bindings.borrow_mut(), &mut shared.rng);
            Some(text.map_err(|error| scope.broken_flow(step, error))?)
        }
        None => shared.transport().subprotocol.clone(),
    };
    let offered = &shared.links[link].subprotocols;
    let selected =
        wanted.and_then(|wanted| offered.iter().find(|one| one.eq_ignore_ascii_case(&wanted)).cloned());
    let missing = options.subprotocol.is_some() && selected.is_none() && !step.cites.is_empty();
    let offered = Value::from(offered.clone());
    shared.links[link].end.accept(selected.as_deref());
    shared.links[link].stage = Stage::Open;
    if missing {
        let message = format!("{name} does not offer the subprotocol");
        let expected = options.subprotocol.as_ref().map(pattern_text).unwrap_or_default();
        return Err(fail(shared, scope, step, scope.accused(step), message, expected, offered));
    }
    shared.observe(link, true, &What::Opened { target: &target });
    shared.note(link, false, "accepts".to_owned());
    shared.last_cause = shared.now;
    Ok(())
}

async fn opens(shared: &Rc<RefCell<Shared>>, scope: &Scope, step: &Step, who: &Name) -> Result<(), Stop> {
    for one in scope.members(who)? {
        let link = {
            let shared = &mut *shared.borrow_mut();
            let Some(watched) = shared.cast.iter().position(|other| other.listens && other.under_test) else {
                continue;
            };
            let end = shared.framing().raw();
            let link = shared.new_link(one, watched, true, end, String::new());
            shared.current[one] = Some(link);
            let id = shared.links[link].id;
            shared.outputs.push_back(Output::Dial(id));
            shared.note(link, false, "opens a connection".to_owned());
            shared.last_cause = shared.now;
            shared.progress = true;
            link
        };
        let until = shared.borrow().now + scope.opening(&shared.borrow());
        let stage = wait_for(shared, Some(until), |shared| match &shared.links[link].stage {
            Stage::Dialling => None,
            stage => Some(stage.clone()),
        })
        .await;
        if !matches!(stage, Some(Stage::Upgrading | Stage::Open)) {
            let shared = &mut *shared.borrow_mut();
            let message = "the connection did not come about".to_owned();
            let accused = scope.accused(step);
            return Err(fail(shared, scope, step, accused, message, "a connection".to_owned(), Value::Null));
        }
    }
    Ok(())
}

/// `disconnects` (with a Close frame) and `vanishes` (without).
async fn ends(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
    close: Option<&CloseSpec>,
) -> Result<(), Stop> {
    for one in scope.members(who)? {
        let link = shared.borrow().current[one];
        let played = !shared.borrow().cast[one].under_test;
        let Some(link) = link else {
            // Between two that are played there is no connection to end.
            if played && !shared.borrow().cast.iter().any(|other| other.listens && other.under_test) {
                continue;
            }
            return Err(scope.broken_flow(step, format!("{} is not connected", who.text)));
        };
        if played {
            finish_link(shared, scope, step, link, close)?;
        } else {
            let wanted = close.map_or(Expect::Drop, |close| Expect::Close(close.clone()));
            expect(shared, scope, link, wanted, step).await?;
            shared.borrow_mut().keep(scope, step);
        }
    }
    Ok(())
}

/// A played participant ends a link.
fn finish_link(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    link: usize,
    close: Option<&CloseSpec>,
) -> Result<(), Stop> {
    let shared = &mut *shared.borrow_mut();
    let id = shared.links[link].id;
    match close {
        Some(close) => {
            let (code, reason) = {
                let mut bindings = scope.bindings.borrow_mut();
                let mut made = |pattern: &Option<Pattern>| {
                    let made =
                        pattern.as_ref().map(|pattern| generate(pattern, &mut bindings, &mut shared.rng));
                    made.transpose().map_err(|error| scope.broken_flow(step, error))
                };
                (made(&close.code)?, made(&close.reason)?)
            };
            let code = code.as_ref().and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
            let reason = reason.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            shared.links[link].end.close(code, &reason);
            shared.observe(link, false, &What::Closing { code, reason: &reason });
            let shown = code.map_or("close".to_owned(), |code| format!("close {code}"));
            shared.note(link, false, shown);
        }
        None => {
            let _ = shared.links[link].end.take_output();
            shared.links[link].shut = true;
            shared.links[link].stage = Stage::Ended;
            shared.outputs.push_back(Output::Reset(id));
            shared.observe(link, false, &What::Closed);
            shared.note(link, false, "vanishes".to_owned());
        }
    }
    shared.links[link].ended_by_us = true;
    shared.last_cause = shared.now;
    shared.progress = true;
    Ok(())
}

fn stall(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
    stalled: bool,
) -> Result<(), Stop> {
    for one in scope.members(who)? {
        let shared = &mut *shared.borrow_mut();
        let link = shared.current[one]
            .ok_or_else(|| scope.broken_flow(step, format!("{} is not connected", who.text)))?;
        let id = shared.links[link].id;
        shared.outputs.push_back(Output::Stall(id, stalled));
        if stalled {
            shared.observe(link, false, &What::Stalled);
        }
        shared.note(link, false, if stalled { "stops reading" } else { "reads again" }.to_owned());
    }
    Ok(())
}

/// `server closes alice` (a Close frame) and `server drops alice` (any end).
async fn closes(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
    whom: &Name,
    close: Option<&CloseSpec>,
) -> Result<(), Stop> {
    let closer = scope.one(who)?;
    for one in scope.members(whom)? {
        let link = shared.borrow().current[one];
        let watched = shared.borrow().cast[closer].under_test;
        match link {
            Some(link) if watched => {
                let wanted = close.map_or(Expect::Drop, |close| Expect::Close(close.clone()));
                expect(shared, scope, link, wanted, step).await?;
                shared.borrow_mut().keep(scope, step);
            }
            Some(link) => finish_link(shared, scope, step, link, close)?,
            None if shared.borrow().cast[one].under_test || watched => {
                return Err(scope.broken_flow(step, format!("{} is not connected", whom.text)));
            }
            None => {}
        }
    }
    Ok(())
}

async fn refuses(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    whom: &Name,
    status: Option<&Pattern>,
) -> Result<(), Stop> {
    for one in scope.members(whom)? {
        let until = shared.borrow().now + scope.patience(&shared.borrow());
        if shared.borrow().cast[one].under_test {
            let found = wait_for(shared, Some(until), |shared| shared.requests[one].pop_front()).await;
            let shared = &mut *shared.borrow_mut();
            let Some(link) = found else {
                let message = format!("{} did not connect", shared.cast[one].name);
                let accused = scope.accused(step);
                return Err(fail(
                    shared,
                    scope,
                    step,
                    accused,
                    message,
                    "a connection".to_owned(),
                    Value::Null,
                ));
            };
            let made = {
                let mut bindings = scope.bindings.borrow_mut();
                status.map(|status| generate(status, &mut bindings, &mut shared.rng)).transpose()
            };
            let made = made.map_err(|error| scope.broken_flow(step, error))?;
            let status = made
                .as_ref()
                .and_then(Value::as_u64)
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(403);
            shared.links[link].end.respond(&Response { status, ..Response::default() });
            shared.links[link].stage = Stage::Refused(Some(status), String::new());
            shared.note(link, false, format!("refuses with HTTP {status}"));
            shared.last_cause = shared.now;
            continue;
        }
        let pending = shared.borrow().current[one];
        let Some(link) = pending else { continue };
        let stage = wait_for(shared, Some(until), |shared| match &shared.links[link].stage {
            Stage::Dialling | Stage::Upgrading | Stage::Requested => None,
            stage => Some(stage.clone()),
        })
        .await;
        let shared = &mut *shared.borrow_mut();
        let expected = match status {
            Some(status) => format!("a refusal with HTTP {}", pattern_text(status)),
            None => "a refusal".to_owned(),
        };
        let (message, actual) = match (stage, status) {
            (Some(Stage::Refused(Some(found), _)), Some(status)) => {
                if matches(status, &Value::from(found), &scope.bindings.borrow()).is_ok() {
                    shared.keep(scope, step);
                    continue;
                }
                (format!("it was refused with HTTP {found}"), Value::from(found))
            }
            (Some(Stage::Refused(..) | Stage::Ended), None) | (None, None) => {
                shared.keep(scope, step);
                continue;
            }
            (Some(Stage::Refused(None, detail)), Some(_)) => {
                (format!("no HTTP answer: {detail}"), Value::Null)
            }
            (Some(Stage::Open), _) => ("the upgrade was granted".to_owned(), Value::from(101)),
            (Some(_), Some(_)) => ("the connection ended without an HTTP answer".to_owned(), Value::Null),
            (Some(_), None) => ("the attempt was not refused".to_owned(), Value::Null),
            (None, Some(_)) => ("the upgrade was not answered".to_owned(), Value::Null),
        };
        return Err(fail(shared, scope, step, scope.accused(step), message, expected, actual));
    }
    Ok(())
}

async fn every(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    (shortest, longest): (Duration, Duration),
    times: u32,
    block: &Block,
) -> Result<(), Stop> {
    let slack = shared.borrow().plan.settings.slack;
    let mut previous: Option<Time> = None;
    for round in 1..=times {
        let since = previous.unwrap_or(shared.borrow().now);
        let window = Window { since, limit: longest, cites: ids(&step.cites) };
        let inner = Scope { window: Some(window), ..scope.with_fallback(&step.cites) };
        let mut at = None;
        for one in &block.steps {
            let arrived = match &one.kind {
                StepKind::Arrow { from, to, payload } => {
                    arrow(shared, &inner, one, from, to, payload).await?
                }
                _ => {
                    run(Rc::clone(shared), inner.clone(), vec![one.clone()]).await?;
                    shared.borrow().now
                }
            };
            at.get_or_insert(arrived);
        }
        let at = at.unwrap_or(since);
        if let Some(previous) = previous {
            let gap = at.since(previous);
            if gap + slack < shortest {
                let shared = &mut *shared.borrow_mut();
                let message = format!("round {round} came {} after the one before", seconds(gap));
                let expected = format!("gaps of {} to {}", seconds(shortest), seconds(longest));
                return Err(fail(shared, scope, step, scope.accused(step), message, expected, Value::Null));
            }
        }
        previous = Some(at);
    }
    shared.borrow_mut().keep(scope, step);
    Ok(())
}

impl Shared {
    /// The links on which participants hear: the latest connection of each, or all that comes to its sockets.
    fn links_of(&self, listeners: &[usize]) -> Vec<usize> {
        if !self.plan.datagrams {
            return listeners.iter().flat_map(|one| self.links_to(*one)).collect();
        }
        let hears = |played: usize| {
            let owner = self.cast[played].socket_of;
            listeners.contains(&played) || owner.is_some_and(|owner| listeners.contains(&owner))
        };
        (0..self.links.len())
            .filter(|link| hears(self.links[*link].played) && !self.links[*link].stray)
            .collect()
    }

    fn transport(&self) -> &crate::corpus::Transport {
        self.protocol.settings.transport(&self.plan.settings.edition)
    }

    /// The first message of a link that nobody has to expect to be silent about.
    fn disturbance(&self, link: usize) -> Option<usize> {
        self.links[link].inbox.iter().position(|arrived| {
            matches!(arrived.what, Arrival::Text { .. } | Arrival::Binary(_))
                && !arrived.judged
                && !self.is_background(&arrived.what)
        })
    }

    fn settled_at(&self) -> Time {
        self.last_cause + self.protocol.settings.timing.settle + self.plan.settings.slack
    }
}

async fn quiet(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &[Name],
    duration: Option<Duration>,
) -> Result<(), Stop> {
    let mut listeners = Vec::new();
    for name in who {
        listeners.extend(scope.members(name)?);
    }
    let until = match duration {
        Some(duration) => shared.borrow().now + duration,
        None => shared.borrow().settled_at(),
    };
    loop {
        let disturbed = wait_for(shared, Some(until), |shared| {
            let links = shared.links_of(&listeners);
            links.into_iter().find_map(|link| shared.disturbance(link).map(|place| (link, place)))
        })
        .await;
        let shared = &mut *shared.borrow_mut();
        let Some((link, place)) = disturbed else {
            shared.keep(scope, step);
            return Ok(());
        };
        let arrived = shared.links[link].inbox[place].what.clone();
        if shared.take_allowed(link, &arrived) {
            shared.links[link].inbox.remove(place);
            continue;
        }
        let accused = scope.accused(step);
        if accused.is_empty() && shared.plan.unexpected.is_some() {
            expect::unexpected(shared, scope, link, place, step);
            continue;
        }
        let name = shared.cast[shared.links[link].played].name.clone();
        let message = format!("{name} received a message where there should be silence");
        let expected = format!("nothing for {name}");
        return Err(fail(shared, scope, step, accused, message, expected, arrived.value()));
    }
}

async fn settle(shared: &Rc<RefCell<Shared>>) -> Result<(), Stop> {
    let until = shared.borrow().settled_at();
    wait_for(shared, Some(until), |_| None::<()>).await;
    let shared = &mut *shared.borrow_mut();
    for link in 0..shared.links.len() {
        let inbox = std::mem::take(&mut shared.links[link].inbox);
        let kept = inbox.into_iter().filter(|arrived| !shared.is_background(&arrived.what)).collect();
        shared.links[link].inbox = kept;
    }
    Ok(())
}

/// Takes the first branch whose first step is seen to happen.
async fn either(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    branches: &[Branch],
) -> Result<(), Stop> {
    let began = shared.borrow().now;
    let guards: Vec<Guard> =
        branches.iter().map(|branch| guard(shared, scope, &branch.block, began)).collect();
    let patience = guards.iter().filter_map(|guard| guard.until()).max();
    let until = patience.unwrap_or(began).max(began + scope.patience(&shared.borrow()));
    let id = shared.borrow_mut().register();
    let chosen = wait_for(shared, Some(until), |shared| {
        for guard in &guards {
            if let Guard::Silence { until, .. } | Guard::Time(until) = guard {
                shared.wake = Some(shared.wake.map_or(*until, |wake| wake.min(*until)));
            }
        }
        for guard in &guards {
            if let Guard::Arrives { link, expect, since } = guard {
                shared.find_socket(*link, expect, &scope.bindings, *since);
            }
        }
        if let Some(place) = guards.iter().position(|guard| guard.holds(shared, scope)) {
            return Some(Some(place));
        }
        let timed = guards.iter().any(|guard| guard.may_still_hold(shared));
        let blocked = !timed && guards.iter().any(|guard| guard.is_blocked(shared, scope));
        shared.mark(id, blocked.then_some(0.0)).then_some(None)
    })
    .await;
    shared.borrow_mut().unregister(id);
    let Some(Some(place)) = chosen else {
        let first = branches.first().and_then(|branch| branch.block.steps.first()).unwrap_or(step);
        let accused = if step.cites.is_empty() { scope.accused(first) } else { scope.accused(step) };
        let shared = &mut *shared.borrow_mut();
        let mut awaited = guards.iter().filter_map(|guard| guard.awaits(shared));
        if let Some(stop) = awaited.find_map(|participant| not_driven(shared, participant)) {
            return Err(stop);
        }
        let expected: Vec<String> = guards.iter().map(Guard::describe).collect();
        let found = guards.iter().find_map(|guard| guard.in_the_way(shared, scope)).unwrap_or(Value::Null);
        let message = "none of the allowed reactions was seen".to_owned();
        return Err(fail(shared, scope, step, accused, message, expected.join("   or   "), found));
    };
    let branch = &branches[place];
    if branch.tolerated {
        let shared = &mut *shared.borrow_mut();
        let by = scope.blamed(shared, branch.block.steps.first().unwrap_or(step));
        let finding = Finding {
            requirement: branch.cites.first().map(|name| name.text.clone()),
            ruling: Ruling::Tolerated,
            by: by.unwrap_or_default(),
            judge: Judge::Arrow,
            at: shared.now,
            line: Some(
                scope.file.line(branch.block.steps.first().map_or(step.span.start, |first| first.span.start)),
            ),
            message: "a lawful but poorer reading was taken".to_owned(),
            expected: guards.first().map(Guard::describe).unwrap_or_default(),
            actual: guards[place].in_the_way(shared, scope).unwrap_or(Value::Null),
        };
        shared.find(finding);
    }
    run(Rc::clone(shared), scope.with_fallback(&step.cites), branch.block.steps.clone()).await?;
    shared.borrow_mut().keep(scope, step);
    Ok(())
}

/// What tells that a branch is the one that happens.
enum Guard {
    /// Something arrives on a link.
    Arrives { link: usize, expect: Expect, since: Option<Time> },
    /// Nothing arrives there until then.
    Silence { links: Vec<usize>, until: Time },
    /// Time passes.
    Time(Time),
    /// Somebody asks for a connection.
    Asks(usize),
    /// An attempt to connect is refused, with such a status if one is named.
    Refused { link: usize, status: Option<Pattern> },
    /// Nothing has to be seen.
    Open,
}

impl Guard {
    fn until(&self) -> Option<Time> {
        match self {
            Guard::Silence { until, .. } | Guard::Time(until) => Some(*until),
            _ => None,
        }
    }

    /// Who has to send something for it to hold.
    fn awaits(&self, shared: &Shared) -> Option<usize> {
        match self {
            Guard::Arrives { link, .. } => Some(shared.links[*link].watched),
            Guard::Asks(one) => Some(*one),
            _ => None,
        }
    }

    fn holds(&self, shared: &Shared, scope: &Scope) -> bool {
        match self {
            Guard::Arrives { link, expect, since } => {
                matches!(shared.scan(*link, expect, &scope.bindings.borrow(), *since), Scan::Fits(..))
            }
            Guard::Silence { links, until } => {
                shared.now >= *until && links.iter().all(|link| shared.disturbance(*link).is_none())
            }
            Guard::Time(until) => shared.now >= *until,
            Guard::Asks(one) => !shared.requests[*one].is_empty(),
            Guard::Refused { link, status } => match (&shared.links[*link].stage, status) {
                (Stage::Refused(..), None) => true,
                (Stage::Refused(Some(found), _), Some(status)) => {
                    matches(status, &Value::from(*found), &scope.bindings.borrow()).is_ok()
                }
                _ => false,
            },
            Guard::Open => true,
        }
    }

    fn may_still_hold(&self, shared: &Shared) -> bool {
        match self {
            Guard::Silence { links, .. } => links.iter().all(|link| shared.disturbance(*link).is_none()),
            Guard::Time(_) => true,
            _ => false,
        }
    }

    fn blocking(&self, shared: &Shared, scope: &Scope) -> Option<(usize, usize)> {
        let Guard::Arrives { link, expect, since } = self else { return None };
        match shared.scan(*link, expect, &scope.bindings.borrow(), *since) {
            Scan::Blocked(place) => Some((*link, place)),
            _ => None,
        }
    }

    fn is_blocked(&self, shared: &Shared, scope: &Scope) -> bool {
        self.blocking(shared, scope).is_some()
    }

    fn in_the_way(&self, shared: &Shared, scope: &Scope) -> Option<Value> {
        match self {
            Guard::Arrives { link, expect, since } => {
                match shared.scan(*link, expect, &scope.bindings.borrow(), *since) {
                    Scan::Fits(place, _) | Scan::Blocked(place) => {
                        Some(shared.links[*link].inbox[place].what.value())
                    }
                    Scan::Nothing => None,
                }
            }
            _ => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Guard::Arrives { expect, .. } => expect.describe(),
            Guard::Silence { .. } => "silence".to_owned(),
            Guard::Time(_) => "nothing else".to_owned(),
            Guard::Asks(_) => "a request for a connection".to_owned(),
            Guard::Refused { status: Some(status), .. } => {
                format!("a refusal with HTTP {}", pattern_text(status))
            }
            Guard::Refused { .. } => "a refusal".to_owned(),
            Guard::Open => "anything".to_owned(),
        }
    }
}

fn guard(shared: &Rc<RefCell<Shared>>, scope: &Scope, block: &Block, began: Time) -> Guard {
    let Some(first) = block.steps.first() else { return Guard::Open };
    if let StepKind::Arrow { from, to, .. } = &first.kind
        && shared.borrow().plan.datagrams
        && let (Ok(from), Ok(to)) = (scope.one(from), scope.one(to))
    {
        // The link of a socket that was not heard of yet is made here, where it can be.
        shared.borrow_mut().link_between(from, to);
    }
    let shared_now = shared.borrow();
    let link_to = |whom: &Name| scope.one(whom).ok().and_then(|one| shared_now.current[one]);
    let watched = |who: &Name| scope.one(who).is_ok_and(|one| shared_now.cast[one].under_test);
    let since = scope.window.as_ref().map(|window| window.since);
    match &first.kind {
        StepKind::Arrow { from, to, payload } if watched(from) => {
            let link = match (scope.one(from), scope.one(to)) {
                (Ok(from), Ok(to)) if http::is_http(payload) => shared_now.exchange(from, to, payload),
                (Ok(from), Ok(to)) => shared_now.known_link_between(from, to),
                _ => None,
            };
            link.map_or(Guard::Open, |link| Guard::Arrives {
                link,
                expect: Expect::Payload(payload.clone()),
                since,
            })
        }
        StepKind::Closes { who, whom, close } if watched(who) => link_to(whom)
            .map_or(Guard::Open, |link| Guard::Arrives { link, expect: Expect::Close(close.clone()), since }),
        StepKind::Drops { who, whom } if watched(who) => {
            link_to(whom).map_or(Guard::Open, |link| Guard::Arrives { link, expect: Expect::Drop, since })
        }
        StepKind::Disconnects { who, close } if watched(who) => link_to(who)
            .map_or(Guard::Open, |link| Guard::Arrives { link, expect: Expect::Close(close.clone()), since }),
        StepKind::Vanishes { who } if watched(who) => {
            link_to(who).map_or(Guard::Open, |link| Guard::Arrives { link, expect: Expect::Drop, since })
        }
        StepKind::Connects { who: one, .. } | StepKind::Refuses { whom: one, .. } if watched(one) => {
            scope.one(one).map_or(Guard::Open, Guard::Asks)
        }
        StepKind::Refuses { who, whom, status } if watched(who) => {
            let status = status.clone();
            link_to(whom).map_or(Guard::Open, |link| Guard::Refused { link, status })
        }
        StepKind::Quiet { who, duration } => {
            let listeners: Vec<usize> =
                who.iter().filter_map(|name| scope.members(name).ok()).flatten().collect();
            let links = shared_now.links_of(&listeners);
            let until = duration.map_or_else(|| shared_now.settled_at(), |duration| began + duration);
            Guard::Silence { links, until }
        }
        StepKind::Wait(duration) => Guard::Time(began + *duration),
        StepKind::Within { block, limit } => {
            let window = Window { since: shared_now.last_cause, limit: *limit, cites: Vec::new() };
            drop(shared_now);
            guard(shared, &Scope { window: Some(window), ..scope.clone() }, block, began)
        }
        _ => Guard::Open,
    }
}

/// From here on these may come once each.
fn optionally(shared: &Rc<RefCell<Shared>>, scope: &Scope, block: &Block) -> Result<(), Stop> {
    let shared = &mut *shared.borrow_mut();
    for step in &block.steps {
        let StepKind::Arrow { from, to, payload } = &step.kind else {
            return Err(scope.broken_flow(step, "only arrows can be optional"));
        };
        for from in scope.members(from)? {
            for to in scope.members(to)? {
                // What we may leave out, we leave out.
                if shared.cast[from].under_test {
                    let cites = ids(&step.cites);
                    let bindings = Rc::clone(&scope.bindings);
                    shared.allowed.push(Allowed {
                        link_of: (from, to),
                        payload: payload.clone(),
                        bindings,
                        cites,
                    });
                }
            }
        }
    }
    Ok(())
}

async fn repeat(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    times: u32,
    counter: Option<&Name>,
    block: &Block,
) -> Result<(), Stop> {
    let inner = scope.with_fallback(&step.cites);
    let before = scope.bindings.borrow().clone();
    for round in 1..=times {
        // Each round makes and meets its own values.
        if round > 1 {
            *scope.bindings.borrow_mut() = before.clone();
        }
        if let Some(counter) = counter {
            scope.bindings.borrow_mut().bind(&counter.text, Bound::Value(Value::from(round)));
        }
        run(Rc::clone(shared), inner.clone(), block.steps.clone()).await?;
    }
    shared.borrow_mut().keep(scope, step);
    Ok(())
}

fn does(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
    stimulus: &str,
    with: Option<&Pattern>,
) -> Result<(), Stop> {
    let one = scope.one(who)?;
    let shared = &mut *shared.borrow_mut();
    if !shared.cast[one].under_test {
        return Ok(());
    }
    let mut order = Stimulus { does: stimulus.to_owned(), with: Value::Null };
    if let Some(with) = with {
        let mut bindings = scope.bindings.borrow_mut();
        let mut drawn = bindings.clone();
        order.with =
            generate(with, &mut drawn, &mut shared.rng).map_err(|error| scope.broken_flow(step, error))?;
        // Off the path nobody is asked to do a thing with what it was never told: it would only obey.
        if scope.astray && drawn.iter().count() > bindings.iter().count() {
            return Err(scope.broken_flow(step, "it names what stands for nothing yet"));
        }
        *bindings = drawn;
    }
    if scope.astray {
        // Whether it could know what it is to use, nobody has seen to.
        let party = shared.parties[one].clone();
        shared.monitors.iter_mut().for_each(|monitor| monitor.ordered(&party, &order.with));
    }
    shared.stimulated = Some((one, shared.deeds_of(one)));
    shared.last_cause = shared.now;
    shared.outputs.push_back(Output::Stimulus(one, order));
    Ok(())
}

/// The program under test is asked to end in order.
fn quits(shared: &Rc<RefCell<Shared>>, scope: &Scope, who: &Name) -> Result<(), Stop> {
    for one in scope.members(who)? {
        let shared = &mut *shared.borrow_mut();
        if shared.cast[one].under_test {
            shared.last_cause = shared.now;
            shared.outputs.push_back(Output::Quit(one));
        }
    }
    Ok(())
}

/// Waits for the end of a program under test.
async fn exits(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
    how: Option<ExitStatus>,
) -> Result<(), Stop> {
    for one in scope.members(who)? {
        if !shared.borrow().cast[one].under_test {
            continue;
        }
        let until = match &scope.window {
            Some(window) => window.since + window.limit + shared.borrow().plan.settings.slack,
            None => shared.borrow().now + scope.patience(&shared.borrow()),
        };
        let ended = wait_for(shared, Some(until), |shared| shared.exits.get(&one).copied()).await;
        let shared = &mut *shared.borrow_mut();
        let name = &shared.cast[one].name;
        let expected = match how {
            Some(ExitStatus::Failure) => "an exit status that tells of failure",
            Some(ExitStatus::Success) => "an exit status that tells of success",
            None => "the end of the program",
        };
        let message = match (ended, how) {
            (None, _) => format!("the program of {name} goes on"),
            (Some(true), Some(ExitStatus::Failure)) => {
                format!("the program of {name} says that all went well")
            }
            (Some(false), Some(ExitStatus::Success)) => format!("the program of {name} says that it failed"),
            (Some(_), _) => continue,
        };
        let accused = match &scope.window {
            Some(window) if ended.is_none() && !window.cites.is_empty() => window.cites.clone(),
            _ => scope.accused(step),
        };
        return Err(fail(shared, scope, step, accused, message, expected.to_owned(), Value::Null));
    }
    shared.borrow_mut().keep(scope, step);
    Ok(())
}

/// Runs the protocol's `served.flow` with participants of its own.
async fn served(shared: &Rc<RefCell<Shared>>, scope: &Scope, step: &Step) -> Result<(), Stop> {
    let (file, inner) = {
        let shared = &mut *shared.borrow_mut();
        let Some(file) = shared.protocol.served.clone() else {
            return Err(scope.broken_flow(step, "the protocol has no served.flow"));
        };
        let file = Arc::new(file);
        let (cast, names) = crate::runner::plan::cast(&file, &shared.protocol, &shared.plan.role);
        // A client under test serves nobody.
        if !shared.plan.datagrams && !cast.iter().any(|one| one.under_test && one.listens) {
            return Ok(());
        }
        shared.served_runs += 1;
        let run = shared.served_runs;
        let places: Vec<usize> = cast.into_iter().map(|one| shared.join(one, run)).collect();
        let names: BTreeMap<String, Vec<usize>> = names
            .into_iter()
            .map(|(name, members)| (name, members.iter().map(|one| places[*one]).collect()))
            .collect();
        let mut bindings = Bindings::default();
        for (name, members) in &names {
            shared.introduce_as(name, members, &mut bindings);
        }
        for (name, bound) in &shared.plan.bound {
            bindings.bind(name, bound.clone());
        }
        let line = scope.file.line(step.span.start);
        let inner = Scope {
            bindings: Rc::new(RefCell::new(bindings)),
            names: Rc::new(names),
            file: Arc::clone(&file),
            window: None,
            side_by_side: false,
            fallback: Rc::new(Vec::new()),
            liveness: Some(Rc::new((ids(&step.cites), line))),
            survival: Rc::clone(&scope.survival),
            astray: false,
        };
        (file, inner)
    };
    run(Rc::clone(shared), inner, file.flow.steps.clone()).await?;
    let shared = &mut *shared.borrow_mut();
    shared.serves = true;
    shared.keep(scope, step);
    Ok(())
}

impl Shared {
    /// A participant joins while the flow runs; one under test is there already.
    fn join(&mut self, one: Participant, run: u32) -> usize {
        if one.under_test
            && let Some(known) = self.cast.iter().position(|known| known.under_test && known.role == one.role)
        {
            return known;
        }
        if self.plan.datagrams {
            let address = self.spare_addresses.pop_front();
            self.addresses.push(address);
        }
        let name = format!("served.{run}.{}", one.name);
        self.parties.push(crate::monitor::Party {
            name: name.clone(),
            role: one.role.clone(),
            under_test: false,
        });
        self.cast.push(Participant { name, ..one });
        self.current.push(None);
        self.requests.push(std::collections::VecDeque::new());
        self.asked.push(std::collections::VecDeque::new());
        self.taken.push(std::collections::VecDeque::new());
        self.cast.len() - 1
    }
}
