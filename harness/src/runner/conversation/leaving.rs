//! How connections end, stall, or do not come about.

use std::cell::RefCell;
use std::rc::Rc;

use flowproof_reference::machine::Response;
use serde_json::Value;

use super::expect::{Expect, expect, fail};
use super::link::Stage;
use super::steps::Scope;
use super::task::wait_for;
use super::{Output, Shared, Stop};
use crate::flow::ast::{CloseSpec, Name, Pattern, Step};
use crate::flow::format::pattern_text;
use crate::monitor::What;
use crate::pattern::{fits, generate};

/// `disconnects` (with a Close frame) and `vanishes` (without).
pub(super) async fn ends(
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
pub(super) fn finish_link(
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

pub(super) fn stall(
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
pub(super) async fn closes(
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

pub(super) async fn refuses(
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
                if fits(status, &Value::from(found), &scope.bindings.borrow()).is_some() {
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
