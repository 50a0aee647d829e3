//! Walks over a flow's tree that change it.

use crate::flow::ast::{Bytes, ConnectOptions, Key, Name, Pattern, PatternKind, Payload, Step, StepKind};

/// Every name of a participant in a step, blocks included.
pub(super) fn names(step: &mut Step, change: &mut dyn FnMut(&mut Name)) {
    match &mut step.kind {
        StepKind::Arrow { from, to, .. } => {
            change(from);
            change(to);
        }
        StepKind::Connects { who, to, .. } => {
            change(who);
            to.iter_mut().for_each(change);
        }
        StepKind::Opens { who }
        | StepKind::Disconnects { who, .. }
        | StepKind::Vanishes { who }
        | StepKind::Stops { who }
        | StepKind::Stalls { who }
        | StepKind::Resumes { who }
        | StepKind::Does { who, .. }
        | StepKind::Exits { who, .. }
        | StepKind::Quits { who } => change(who),
        StepKind::Knows { who, whom }
        | StepKind::Greets { who, whom }
        | StepKind::Closes { who, whom, .. }
        | StepKind::Drops { who, whom }
        | StepKind::Refuses { who, whom, .. } => {
            change(who);
            change(whom);
        }
        StepKind::Quiet { who, .. } => who.iter_mut().for_each(change),
        StepKind::Wait(_) | StepKind::Settle | StepKind::Let { .. } | StepKind::Served => {}
        StepKind::Within { block, .. }
        | StepKind::Every { block, .. }
        | StepKind::Repeat { block, .. }
        | StepKind::AnyOrder(block)
        | StepKind::Optionally(block) => block.steps.iter_mut().for_each(|step| names(step, change)),
        StepKind::Either(branches) => branches
            .iter_mut()
            .flat_map(|branch| &mut branch.block.steps)
            .for_each(|step| names(step, change)),
    }
}

/// True when a step names a participant, or one of her sockets.
pub(super) fn mentions(step: &Step, wanted: &str) -> bool {
    let mut found = false;
    names(&mut step.clone(), &mut |name| {
        let owner = name.text.split('.').next().unwrap_or_default();
        found |= name.text == wanted || owner == wanted;
    });
    found
}

/// Every pattern of a step, blocks included; the outermost only.
pub(super) fn patterns(step: &mut Step, change: &mut dyn FnMut(&mut Pattern)) {
    match &mut step.kind {
        StepKind::Arrow { payload, .. } => of_payload(payload, change),
        StepKind::Connects { options, .. } => of_options(options, change),
        StepKind::Disconnects { close, .. } | StepKind::Closes { close, .. } => {
            close.code.iter_mut().chain(&mut close.reason).for_each(change);
        }
        StepKind::Refuses { status, .. } => status.iter_mut().for_each(change),
        StepKind::Let { value, .. } => change(value),
        StepKind::Does { with, .. } => with.iter_mut().for_each(change),
        StepKind::Within { block, .. }
        | StepKind::Every { block, .. }
        | StepKind::Repeat { block, .. }
        | StepKind::AnyOrder(block)
        | StepKind::Optionally(block) => block.steps.iter_mut().for_each(|step| patterns(step, change)),
        StepKind::Either(branches) => branches
            .iter_mut()
            .flat_map(|branch| &mut branch.block.steps)
            .for_each(|step| patterns(step, change)),
        _ => {}
    }
}

fn of_options(options: &mut ConnectOptions, change: &mut dyn FnMut(&mut Pattern)) {
    let ConnectOptions { path, query, headers, subprotocol, sending } = options;
    [path, query, headers, subprotocol].into_iter().flatten().for_each(&mut *change);
    sending.iter_mut().for_each(|payload| of_payload(payload, change));
}

/// Every pattern of a payload; the outermost only.
pub(super) fn of_payload(payload: &mut Payload, change: &mut dyn FnMut(&mut Pattern)) {
    match payload {
        Payload::Json(pattern) | Payload::Text(pattern) => change(pattern),
        Payload::Binary(Bytes::Expression(pattern)) | Payload::Raw(Bytes::Expression(pattern)) => {
            change(pattern)
        }
        Payload::Binary(Bytes::Hex(_)) | Payload::Raw(Bytes::Hex(_)) => {}
        Payload::Fragments(parts) => parts.iter_mut().for_each(change),
        Payload::Ping(pattern) | Payload::Pong(pattern) => pattern.iter_mut().for_each(change),
        Payload::HttpRequest { target, headers, body, .. } => {
            change(target);
            headers.iter_mut().for_each(&mut *change);
            body.iter_mut().for_each(|body| of_payload(body, change));
        }
        Payload::HttpResponse { status, headers, body } => {
            change(status);
            headers.iter_mut().for_each(&mut *change);
            body.iter_mut().for_each(|body| of_payload(body, change));
        }
    }
}

/// The parts of a pattern, one level below it.
pub(super) fn children(pattern: &mut Pattern) -> Vec<&mut Pattern> {
    match &mut pattern.kind {
        PatternKind::OneOf(parts) | PatternKind::AllOf(parts) | PatternKind::Join(parts) => {
            parts.iter_mut().collect()
        }
        PatternKind::Not(inner) | PatternKind::Times(inner, _) => vec![inner],
        PatternKind::Variable { is, .. } => is.iter_mut().map(AsMut::as_mut).collect(),
        PatternKind::Array { items, .. } => items.iter_mut().collect(),
        PatternKind::Object { members, .. } => members.iter_mut().map(|member| &mut member.value).collect(),
        _ => Vec::new(),
    }
}

/// How many values a message has: itself, its members, their members.
pub(super) fn size(pattern: &Pattern) -> usize {
    1 + match &pattern.kind {
        PatternKind::Array { items, .. } => items.iter().map(size).sum(),
        PatternKind::Object { members, .. } => members.iter().map(|member| size(&member.value)).sum(),
        _ => 0,
    }
}

/// The value at a place, counted depth first as [`size`] does.
pub(super) fn value_at(pattern: &mut Pattern, place: usize) -> Option<&mut Pattern> {
    if place == 0 {
        return Some(pattern);
    }
    let mut before = 1;
    let parts = match &mut pattern.kind {
        PatternKind::Array { .. } | PatternKind::Object { .. } => children(pattern),
        _ => return None,
    };
    for part in parts {
        let held = size(part);
        if place < before + held {
            return value_at(part, place - before);
        }
        before += held;
    }
    None
}

/// Every name of a variable in a pattern.
pub(super) fn variables(pattern: &mut Pattern, change: &mut dyn FnMut(&mut Name)) {
    if let PatternKind::Variable { name, .. } = &mut pattern.kind {
        change(name);
    }
    if let PatternKind::Object { members, .. } = &mut pattern.kind {
        for member in members {
            if let Key::Variable(name) = &mut member.key {
                change(name);
            }
        }
    }
    children(pattern).into_iter().for_each(|part| variables(part, change));
}

/// Every name of a variable in a step.
pub(super) fn variables_of(step: &mut Step, change: &mut dyn FnMut(&mut Name)) {
    if let StepKind::Let { name, .. } = &mut step.kind {
        change(name);
    }
    if let StepKind::Repeat { counter, block, .. } = &mut step.kind {
        counter.iter_mut().for_each(&mut *change);
        block.steps.iter_mut().for_each(|step| variables_of(step, change));
        return;
    }
    patterns(step, &mut |pattern| variables(pattern, change));
}
