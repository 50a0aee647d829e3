//! Plain HTTP in a flow: each request and its answer have a connection of their own. `alice -> server POST /api ...`
//! and `server -> alice status 200 ...` are matched in order: an answer belongs to the oldest request of that
//! participant that has none.

use std::cell::RefCell;
use std::rc::Rc;

use flowproof_reference::machine::{Request, Response, Time};
use serde_json::{Map, Value};

use super::expect::{Expect, expect, fail, not_driven, resolve};
use super::link::{Arrival, Stage};
use super::steps::Scope;
use super::task::wait_for;
use super::{Output, Shared, Stop};
use crate::flow::ast::{Payload, Step, StepKind};
use crate::flow::format::pattern_text;
use crate::judge::schema;
use crate::monitor::What;
use crate::pattern::{Bindings, Mismatch, generate, json, matches, text_from};
use crate::runner::plan::walk;

/// True for payloads that travel on connections of their own.
pub(super) fn is_http(payload: &Payload) -> bool {
    matches!(payload, Payload::HttpRequest { .. } | Payload::HttpResponse { .. })
}

impl Shared {
    /// A plain request of a participant under test has come in.
    pub(super) fn requested(&mut self, index: usize, request: Request) {
        let watched = self.links[index].watched;
        let expected = self.expects_requests(watched);
        self.heard = true;
        self.observe(index, true, &What::Asked(&request));
        self.judge_body(index, &request.body);
        if expected {
            self.links[index].plain = true;
            self.asked[watched].push_back(index);
            self.arrived(index, Arrival::Request(request), false);
        } else {
            let response = Response { status: 426, ..Response::default() };
            self.links[index].end.respond(&response);
            self.links[index].stage = Stage::Refused(Some(426), "not a WebSocket upgrade".to_owned());
        }
    }

    /// True when the flow has a word to say about plain requests of this participant.
    fn expects_requests(&self, watched: usize) -> bool {
        let mut expects = false;
        walk(&self.plan.file.flow.steps, &mut |step| {
            if let StepKind::Arrow { from, payload: Payload::HttpRequest { .. }, .. } = &step.kind {
                expects |= self.plan.names.get(&from.text).is_some_and(|members| members.contains(&watched));
            }
        });
        expects
    }

    /// A request of ours was answered.
    pub(super) fn answered(&mut self, index: usize, response: Response) {
        self.heard = true;
        self.links[index].stage = Stage::Ended;
        self.observe(index, true, &What::Answered(&response));
        self.judge_body(index, &response.body);
        self.queue(index, Arrival::Response(response));
    }

    /// A body that is JSON is judged like any other message.
    fn judge_body(&mut self, index: usize, body: &[u8]) {
        let Ok(value) = json::parse(body) else { return };
        let link = &self.links[index];
        let (from, to) = (&self.parties[link.watched], &self.parties[link.played]);
        let edition = &self.plan.settings.edition;
        schema::judge_value(&self.protocol, edition, from, to, &value, self.now, &mut self.rulings);
        self.collect_rulings();
    }

    /// The connection on which a watched participant's plain request waits, or its answer to the oldest of ours.
    pub(super) fn exchange(&self, from: usize, to: usize, payload: &Payload) -> Option<usize> {
        match payload {
            Payload::HttpRequest { .. } => self.asked[from].front().copied(),
            Payload::HttpResponse { .. } => self.asked[to].front().copied(),
            _ => None,
        }
    }
}

/// A played participant makes a request.
pub(super) fn ask(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    sender: usize,
    receiver: usize,
    payload: &Payload,
) -> Result<(), Stop> {
    let Payload::HttpRequest { method, target, headers, body } = payload else { return Ok(()) };
    let shared = &mut *shared.borrow_mut();
    let target = text_from(target, &mut scope.bindings.borrow_mut(), &mut shared.rng);
    let target = target.map_err(|error| scope.broken_flow(step, error))?;
    let headers = made_headers(shared, scope, step, headers.as_ref())?;
    let body = made_body(shared, scope, step, body.as_deref())?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request {
        method: method.clone(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        upgrade: false,
        body: body.as_ref().map(|(bytes, _)| bytes.clone()).unwrap_or_default(),
    };
    label(&mut request.headers, body.as_ref());
    let end = shared.framing().connecting(&shared.plan.settings.host, &request, 0);
    let link = shared.new_link(sender, receiver, true, end, target.clone());
    shared.links[link].plain = true;
    shared.asked[sender].push_back(link);
    let id = shared.links[link].id;
    shared.outputs.push_back(Output::Dial(id));
    let text = String::from_utf8_lossy(&request.body).into_owned();
    shared.note(link, false, format!("{method} {target} {text}").trim_end().to_owned());
    shared.observe(link, false, &What::Asked(&request));
    shared.last_cause = shared.now;
    shared.progress = true;
    Ok(())
}

/// A played participant answers the oldest request that waits for it.
pub(super) fn answer(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    receiver: usize,
    payload: &Payload,
) -> Result<(), Stop> {
    let Payload::HttpResponse { status, headers, body } = payload else { return Ok(()) };
    let shared = &mut *shared.borrow_mut();
    let Some(link) = shared.taken[receiver].pop_front() else {
        return Err(scope.broken_flow(step, "no request waits for an answer"));
    };
    let made = {
        let mut bindings = scope.bindings.borrow_mut();
        generate(status, &mut bindings, &mut shared.rng).map_err(|error| scope.broken_flow(step, error))?
    };
    let status = made.as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
    let headers = made_headers(shared, scope, step, headers.as_ref())?;
    let body = made_body(shared, scope, step, body.as_deref())?;
    let bytes = body.as_ref().map(|(bytes, _)| bytes.clone()).unwrap_or_default();
    let mut response = Response { status, headers, body: bytes };
    label(&mut response.headers, body.as_ref());
    let text = String::from_utf8_lossy(&response.body).into_owned();
    shared.note(link, false, format!("HTTP {status} {text}").trim_end().to_owned());
    shared.observe(link, false, &What::Answered(&response));
    shared.links[link].end.respond(&response);
    shared.links[link].stage = Stage::Ended;
    shared.last_cause = shared.now;
    shared.progress = true;
    Ok(())
}

/// Waits for a plain request of a watched participant.
pub(super) async fn await_request(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    sender: usize,
    payload: &Payload,
) -> Result<Time, Stop> {
    let until = match &scope.window {
        Some(window) => window.since + window.limit + shared.borrow().plan.settings.slack,
        None => shared.borrow().now + scope.patience(&shared.borrow()),
    };
    let found = wait_for(shared, Some(until), |shared| shared.asked[sender].front().copied()).await;
    let Some(link) = found else {
        let shared = &mut *shared.borrow_mut();
        if let Some(stop) = not_driven(shared, sender) {
            return Err(stop);
        }
        let name = shared.cast[sender].name.clone();
        let message = format!("{name} made no HTTP request");
        let wanted = Expect::Payload(payload.clone()).describe();
        return Err(fail(shared, scope, step, scope.accused(step), message, wanted, Value::Null));
    };
    let at = expect(shared, scope, link, Expect::Payload(payload.clone()), step).await?;
    let shared = &mut *shared.borrow_mut();
    shared.asked[sender].pop_front();
    shared.taken[sender].push_back(link);
    Ok(at)
}

fn made_headers(
    shared: &mut Shared,
    scope: &Scope,
    step: &Step,
    pattern: Option<&crate::flow::ast::Pattern>,
) -> Result<Vec<(String, String)>, Stop> {
    let Some(pattern) = pattern else { return Ok(Vec::new()) };
    let mut bindings = scope.bindings.borrow_mut();
    let made =
        generate(pattern, &mut bindings, &mut shared.rng).map_err(|error| scope.broken_flow(step, error))?;
    let Value::Object(members) = made else { return Ok(Vec::new()) };
    Ok(members
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect())
}

/// The bytes of a body, and whether they are JSON.
fn made_body(
    shared: &mut Shared,
    scope: &Scope,
    step: &Step,
    body: Option<&Payload>,
) -> Result<Option<(Vec<u8>, bool)>, Stop> {
    let Some(body) = body else { return Ok(None) };
    let body = resolve(body, &scope.bindings.borrow()).clone();
    match &body {
        Payload::Json(pattern) => {
            let mut bindings = scope.bindings.borrow().clone();
            let value = generate(pattern, &mut bindings, &mut shared.rng)
                .map_err(|error| scope.broken_flow(step, error))?;
            *scope.bindings.borrow_mut() = bindings;
            Ok(Some((value.to_string().into_bytes(), true)))
        }
        Payload::Text(pattern) => {
            let text = text_from(pattern, &mut scope.bindings.borrow_mut(), &mut shared.rng);
            Ok(Some((text.map_err(|error| scope.broken_flow(step, error))?.into_bytes(), false)))
        }
        Payload::Binary(crate::flow::ast::Bytes::Hex(bytes)) => Ok(Some((bytes.clone(), false))),
        _ => Err(scope.broken_flow(step, "an HTTP body is JSON, text or binary")),
    }
}

/// JSON is labelled as such unless the flow says otherwise.
fn label(headers: &mut Vec<(String, String)>, body: Option<&(Vec<u8>, bool)>) {
    let labelled = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if body.is_some_and(|(_, json)| *json) && !labelled {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
}

/// What differs when a request or an answer does not fit; for a fit, what it binds.
pub(super) fn fits(
    payload: &Payload,
    arrival: &Arrival,
    bindings: &Bindings,
) -> Option<Result<Bindings, Vec<Mismatch>>> {
    match (payload, arrival) {
        (Payload::HttpRequest { method, target, headers, body }, Arrival::Request(request)) => {
            let mut found = Found { bindings: bindings.clone(), mismatches: Vec::new() };
            if *method != request.method {
                found.differ("method", method.clone(), &request.method);
            }
            found.check("target", target, &Value::from(full_target(request)));
            found.headers(headers.as_ref(), &request.headers);
            found.body(body.as_deref(), &request.body);
            Some(found.result())
        }
        (Payload::HttpResponse { status, headers, body }, Arrival::Response(response)) => {
            let mut found = Found { bindings: bindings.clone(), mismatches: Vec::new() };
            found.check("status", status, &Value::from(response.status));
            found.headers(headers.as_ref(), &response.headers);
            found.body(body.as_deref(), &response.body);
            Some(found.result())
        }
        _ => None,
    }
}

/// Path and query of a request.
pub(super) fn full_target(request: &Request) -> String {
    if request.query.is_empty() {
        request.path.clone()
    } else {
        format!("{}?{}", request.path, request.query)
    }
}

/// The query parameters of a target, decoded; of two with one name the first counts.
pub(super) fn query_members(target: &str) -> Value {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut members = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        members.entry(decoded(name)).or_insert_with(|| Value::from(decoded(value)));
    }
    Value::Object(members)
}

/// A part of a query as it was meant: `%xx`, and `+` for a blank.
fn decoded(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                plain.push(value);
                rest = &after[2..];
            }
            (byte, _) => {
                plain.push(if *byte == b'+' { b' ' } else { *byte });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

struct Found {
    bindings: Bindings,
    mismatches: Vec<Mismatch>,
}

impl Found {
    fn differ(&mut self, part: &str, expected: String, found: &str) {
        self.mismatches.push(Mismatch { path: part.to_owned(), expected, found: json::cut(found, 300) });
    }

    fn check(&mut self, part: &str, pattern: &crate::flow::ast::Pattern, value: &Value) {
        match matches(pattern, value, &self.bindings) {
            Ok(bindings) => self.bindings = bindings,
            Err(mismatches) => self.mismatches.extend(
                mismatches
                    .into_iter()
                    .map(|mismatch| Mismatch { path: mismatch.path.replacen('$', part, 1), ..mismatch }),
            ),
        }
    }

    fn headers(&mut self, pattern: Option<&crate::flow::ast::Pattern>, headers: &[(String, String)]) {
        let Some(pattern) = pattern else { return };
        let named: Map<String, Value> = headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), Value::from(value.as_str())))
            .collect();
        self.check("headers", pattern, &Value::Object(named));
    }

    fn body(&mut self, payload: Option<&Payload>, bytes: &[u8]) {
        let Some(payload) = payload else { return };
        match resolve(payload, &self.bindings).clone() {
            Payload::Json(pattern) => match json::parse(bytes) {
                Ok(value) => self.check("body", &pattern, &value),
                Err(_) => {
                    self.differ(
                        "body",
                        json::cut(&pattern_text(&pattern), 300),
                        &String::from_utf8_lossy(bytes),
                    );
                }
            },
            Payload::Text(pattern) => {
                self.check("body", &pattern, &Value::from(String::from_utf8_lossy(bytes).into_owned()));
            }
            other => self.differ("body", crate::flow::format::payload_text(&other), "a body of another kind"),
        }
    }

    fn result(self) -> Result<Bindings, Vec<Mismatch>> {
        if self.mismatches.is_empty() { Ok(self.bindings) } else { Err(self.mismatches) }
    }
}
