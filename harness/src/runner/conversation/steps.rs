//! What each step of a flow does: a played participant acts, a watched one is waited for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::connecting::{connects, opens};
use super::either::either;
use super::expect::{Allowed, Expect, Window, expect, fail, resolve, seconds};
use super::http;
use super::leaving::{closes, ends, refuses, stall};
use super::sending::send;
use super::silence::{quiet, settle};
use super::task::{Task, all, wait_for};
use super::{Ending, Output, Shared, Stop};
use crate::corpus::FlowFile;
use crate::flow::ast::{Block, ExitStatus, Name, Pattern, Payload, Step, StepKind};
use crate::pattern::{Bindings, Bound, generate};
use crate::runner::plan::{Participant, Plan};
use crate::runner::stimulus::Stimulus;

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
pub(super) const ASTRAY_OPENING: Duration = Duration::from_secs(1);

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
    pub(super) fn opening(&self, shared: &Shared) -> Duration {
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

    pub(super) fn members(&self, name: &Name) -> Result<Vec<usize>, Stop> {
        let members = self.names.get(&name.text).cloned();
        members.ok_or_else(|| Stop::Other(Ending::Flow(format!("nobody is called {}", name.text))))
    }

    pub(super) fn one(&self, name: &Name) -> Result<usize, Stop> {
        let members = self.members(name)?;
        members
            .first()
            .copied()
            .ok_or_else(|| Stop::Other(Ending::Flow(format!("nobody is called {}", name.text))))
    }

    /// The same place inside a `within`.
    pub(super) fn within(&self, window: Window) -> Scope {
        Scope { window: Some(window), ..self.clone() }
    }

    pub(super) fn with_fallback(&self, cites: &[Name]) -> Scope {
        if cites.is_empty() { self.clone() } else { Scope { fallback: Rc::new(ids(cites)), ..self.clone() } }
    }

    pub(super) fn broken_flow(&self, step: &Step, error: impl std::fmt::Display) -> Stop {
        Stop::Other(Ending::Flow(format!("line {}: {error}", self.file.line(step.span.start))))
    }
}

pub(super) fn ids(names: &[Name]) -> Vec<String> {
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
pub(super) fn survival(steps: &[Step]) -> Vec<String> {
    let served = steps.iter().find(|step| matches!(step.kind, StepKind::Served) && !step.cites.is_empty());
    served.map(|step| ids(&step.cites)).unwrap_or_default()
}

pub(super) fn run(shared: Rc<RefCell<Shared>>, scope: Scope, steps: Vec<Step>) -> Task<Result<(), Stop>> {
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
pub(super) fn may_refuse(step: &StepKind, who: &Name) -> bool {
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
            let inner = scope.within(window);
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
pub(super) async fn arrow(
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
pub(super) fn knows(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    who: &Name,
    whom: &Name,
) -> Result<(), Stop> {
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
        let inner = scope.with_fallback(&step.cites).within(window);
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
