//! How connections come about: played participants connect, or wait for one that a party under test asks for.

use std::cell::RefCell;
use std::rc::Rc;

use flowproof_reference::machine::Request;
use serde_json::Value;

use super::expect::fail;
use super::http;
use super::link::Stage;
use super::steps::Scope;
use super::task::{Task, all, wait_for};
use super::{Output, Shared, Stop};
use crate::flow::ast::{ConnectOptions, Name, Pattern, Step};
use crate::flow::format::pattern_text;
use crate::monitor::What;
use crate::pattern::{generate, matches, text_from, text_of};

pub(super) async fn connects(
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
pub(super) fn dial(
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

pub(super) fn request(
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
pub(super) fn percent(text: &str) -> String {
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

pub(super) async fn until_open(
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
pub(super) fn selected(
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
pub(super) async fn accept(
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

pub(super) async fn opens(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &Name,
) -> Result<(), Stop> {
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
