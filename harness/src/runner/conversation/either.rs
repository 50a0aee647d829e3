//! `either`: what tells which of several branches happens.

use std::cell::RefCell;
use std::rc::Rc;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::expect::{Expect, Scan, Window, fail, not_driven};
use super::http;
use super::link::Stage;
use super::steps::{Scope, run};
use super::task::wait_for;
use super::{Shared, Stop};
use crate::flow::ast::{Block, Branch, Name, Pattern, Step, StepKind};
use crate::flow::format::pattern_text;
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::pattern::fits;

/// Takes the first branch whose first step is seen to happen.
pub(super) async fn either(
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
pub(super) enum Guard {
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
                    fits(status, &Value::from(*found), &scope.bindings.borrow()).is_some()
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

pub(super) fn guard(shared: &Rc<RefCell<Shared>>, scope: &Scope, block: &Block, began: Time) -> Guard {
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
            guard(shared, &scope.within(window), block, began)
        }
        _ => Guard::Open,
    }
}
