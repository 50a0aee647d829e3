//! Checks what a file says against what there is: participants, roles, requirements, variables; and, for a role under
//! test, whether everything that has to be sent can be made.

use std::collections::BTreeSet;

use super::ast::{
    Block, Bytes, CastMember, ConnectOptions, Flow, HeaderItem, Key, Name, Pattern, PatternKind, Payload,
    Step, StepKind,
};
use crate::diagnostic::{self, Diagnostic};

/// What a flow may name.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The roles of the protocol, and whether others connect to them.
    pub roles: Vec<(String, bool)>,
    /// The ids of its requirements.
    pub requirements: Vec<String>,
    /// Its editions.
    pub editions: Vec<String>,
    /// Variables that are always there: the protocol's settings.
    pub variables: Vec<String>,
    /// True when messages can travel as datagrams: then nobody has to connect.
    pub datagrams: bool,
}

/// The name among `known` that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|one| (strsim::damerau_levenshtein(name, one), one)).min()?;
    (near.0 <= 1 + name.chars().count() / 4).then_some(near.1)
}

/// Everything that is wrong with a flow, whoever is under test.
pub fn check(flow: &Flow, context: &Context) -> Vec<Diagnostic> {
    let mut checker = Checker::new(flow, context);
    checker.run();
    checker.diagnostics
}

/// What is wrong with a flow of which only a part could be read: nothing that the part not read may mend.
pub fn check_part(flow: &Flow, context: &Context) -> Vec<Diagnostic> {
    let mut checker = Checker { partial: true, ..Checker::new(flow, context) };
    checker.run();
    checker.diagnostics
}

/// What is wrong with a flow when `role` is under test and all others are played.
pub fn check_projection(flow: &Flow, context: &Context, role: &str) -> Vec<Diagnostic> {
    let mut checker = Checker::new(flow, context);
    checker.projection(&flow.steps, role);
    checker.diagnostics
}

struct Checker<'a> {
    flow: &'a Flow,
    context: &'a Context,
    cast: Vec<&'a CastMember>,
    connected: BTreeSet<&'a str>,
    /// True when steps or header lines are missing because they could not be read.
    partial: bool,
    diagnostics: Vec<Diagnostic>,
}

type BoundNames = BTreeSet<String>;

/// Tells one kind of header line from the others.
type IsItem = fn(&HeaderItem) -> bool;

/// Header lines of which there is one at the most; `cast` may be continued in a second.
const ONCE: [(&str, IsItem); 4] = [
    ("protocol", |item| matches!(item, HeaderItem::Protocol(_))),
    ("cast", |item| matches!(item, HeaderItem::Cast(_))),
    ("unexpected", |item| matches!(item, HeaderItem::Unexpected(_))),
    ("examples", |item| matches!(item, HeaderItem::Examples(_))),
];

impl<'a> Checker<'a> {
    fn new(flow: &'a Flow, context: &'a Context) -> Self {
        let lists = flow.header.iter().filter_map(|line| match &line.item {
            HeaderItem::Cast(members) => Some(members),
            _ => None,
        });
        Checker {
            flow,
            context,
            cast: lists.flatten().collect(),
            connected: BTreeSet::new(),
            partial: false,
            diagnostics: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.header();
        let mut bound = self.bound_from_outside();
        let flow = self.flow;
        self.steps(&flow.steps, &mut bound);
        // What a cell names is looked up where the row is used, so anything bound by then will do.
        for line in &flow.header {
            match &line.item {
                HeaderItem::Examples(examples) => {
                    let cells = examples.rows.iter().flat_map(|row| &row.cells);
                    cells.for_each(|cell| self.payload(cell, &mut bound.clone()));
                }
                HeaderItem::Ignoring(payload) => self.payload(payload, &mut bound.clone()),
                _ => {}
            }
        }
    }

    fn header(&mut self) {
        let flow = self.flow;
        for (word, is_it) in ONCE {
            let mut lines = flow.header.iter().filter(|line| is_it(&line.item));
            if lines.next().is_none() && matches!(word, "protocol" | "cast") && !self.partial {
                self.diagnostics.push(diagnostic::missing_header(word));
            }
            if word != "cast" {
                lines.for_each(|line| self.diagnostics.push(diagnostic::said_twice(line.span, word)));
            }
        }
        let mut seen = BTreeSet::new();
        for member in self.cast.clone() {
            if !seen.insert(member.name.text.as_str()) {
                self.diagnostics.push(diagnostic::duplicate_participant(member.name.span, &member.name.text));
            }
            if let Some(owner) = &member.socket_of {
                self.participant(owner);
                continue;
            }
            let role = member.role.as_ref().unwrap_or(&member.name);
            let roles = self.context.roles.iter().map(|(name, _)| name.as_str());
            self.known(role, "role", roles);
        }
        let context = self.context;
        for line in &self.flow.header {
            match &line.item {
                HeaderItem::About(names) | HeaderItem::Unexpected(names) => self.cites(names),
                HeaderItem::Examples(examples) => {
                    let mut seen = BTreeSet::new();
                    for column in examples.columns.iter().filter(|column| !seen.insert(column.text.as_str()))
                    {
                        self.diagnostics.push(diagnostic::duplicate_column(column.span, &column.text));
                    }
                }
                HeaderItem::Editions(names) => {
                    names.iter().for_each(|name| {
                        self.known(name, "edition", context.editions.iter().map(String::as_str))
                    });
                }
                _ => {}
            }
        }
    }

    fn known<'n>(&mut self, name: &Name, what: &str, known: impl Iterator<Item = &'n str>) {
        let known: Vec<&str> = known.collect();
        if !known.contains(&name.text.as_str()) {
            let near = nearest(&name.text, known.iter().copied());
            self.diagnostics.push(diagnostic::unknown_name(name.span, what, &name.text, near, &known));
        }
    }

    fn cites(&mut self, names: &[Name]) {
        let context = self.context;
        for name in names {
            self.known(name, "requirement", context.requirements.iter().map(String::as_str));
        }
    }

    fn participant(&mut self, name: &Name) {
        let known: Vec<String> = self.cast.iter().map(|member| member.name.text.clone()).collect();
        if self.partial && known.is_empty() {
            return;
        }
        self.known(name, "participant", known.iter().map(String::as_str));
    }

    /// Variables that a run brings along: the table's columns, what the flow needs, the protocol's settings.
    fn bound_from_outside(&self) -> BoundNames {
        let mut bound: BoundNames = self.context.variables.iter().cloned().collect();
        for line in &self.flow.header {
            match &line.item {
                HeaderItem::Examples(examples) => {
                    bound.extend(examples.columns.iter().map(|name| name.text.clone()))
                }
                HeaderItem::Needs(names) => bound.extend(names.iter().map(|name| name.text.clone())),
                _ => {}
            }
        }
        if self.context.datagrams {
            for member in &self.cast {
                let parts = ["ip", "port", "address", "id"];
                bound.extend(parts.iter().map(|part| format!("{}.{part}", member.name.text)));
            }
        }
        bound
    }

    fn steps(&mut self, steps: &'a [Step], bound: &mut BoundNames) {
        for step in steps {
            self.cites(&step.cites);
            self.step(step, bound);
        }
    }

    /// True for a plain HTTP message, which needs no connection made before it; also for one that a table holds.
    fn travels_alone(&self, payload: &Payload) -> bool {
        let is_http =
            |payload: &Payload| matches!(payload, Payload::HttpRequest { .. } | Payload::HttpResponse { .. });
        let Payload::Json(Pattern { kind: PatternKind::Variable { name, .. }, .. }) = payload else {
            return is_http(payload);
        };
        self.flow.header.iter().any(|line| {
            let HeaderItem::Examples(table) = &line.item else { return false };
            let column = table.columns.iter().position(|column| column.text == name.text);
            column
                .is_some_and(|column| table.rows.iter().filter_map(|row| row.cells.get(column)).any(is_http))
        })
    }

    fn step(&mut self, step: &'a Step, bound: &mut BoundNames) {
        match &step.kind {
            StepKind::Arrow { from, to, payload } => {
                self.participant(from);
                self.participant(to);
                if from.text == to.text {
                    self.diagnostics.push(diagnostic::to_oneself(to.span, &to.text));
                }
                let named = |name: &Name| self.cast.iter().any(|member| member.name.text == name.text);
                let both_known = named(from) && named(to);
                if both_known
                    && !self.context.datagrams
                    && !self.partial
                    && !self.travels_alone(payload)
                    && !self.connected.contains(from.text.as_str())
                    && !self.connected.contains(to.text.as_str())
                {
                    self.diagnostics.push(diagnostic::not_connected(step.span, &from.text, &to.text));
                }
                self.payload(payload, bound);
            }
            StepKind::Connects { who, to, options } => {
                self.participant(who);
                to.iter().for_each(|to| self.participant(to));
                self.connected.insert(&who.text);
                let ConnectOptions { path, query, headers, subprotocol, sending } = options;
                for part in [path, query, headers, subprotocol].into_iter().flatten() {
                    self.pattern(part, bound);
                }
                if let Some(payload) = sending {
                    self.payload(payload, bound);
                }
            }
            StepKind::Opens { who } => {
                self.participant(who);
                self.connected.insert(&who.text);
            }
            StepKind::Disconnects { who, close } => {
                self.participant(who);
                [&close.code, &close.reason].into_iter().flatten().for_each(|part| self.pattern(part, bound));
            }
            StepKind::Vanishes { who }
            | StepKind::Stalls { who }
            | StepKind::Resumes { who }
            | StepKind::Exits { who, .. }
            | StepKind::Quits { who }
            | StepKind::Stops { who } => self.participant(who),
            StepKind::Knows { who, whom } | StepKind::Greets { who, whom } => {
                self.participant(who);
                self.participant(whom);
            }
            StepKind::Closes { who, whom, close } => {
                self.participant(who);
                self.participant(whom);
                [&close.code, &close.reason].into_iter().flatten().for_each(|part| self.pattern(part, bound));
            }
            StepKind::Drops { who, whom } => {
                self.participant(who);
                self.participant(whom);
            }
            StepKind::Refuses { who, whom, status } => {
                self.participant(who);
                self.participant(whom);
                status.iter().for_each(|part| self.pattern(part, bound));
            }
            StepKind::Quiet { who, .. } => who.iter().for_each(|name| self.participant(name)),
            StepKind::Let { name, value } => {
                self.pattern(value, bound);
                bound.insert(name.text.clone());
            }
            StepKind::Does { who, with, .. } => {
                self.participant(who);
                if let Some(with) = with {
                    // Stimuli are made before anything is seen, so everything in them is known or new.
                    self.pattern(with, bound);
                }
            }
            StepKind::Every { shortest, longest, times, block } => {
                if shortest > longest {
                    self.diagnostics.push(diagnostic::gaps_reversed(step.span));
                }
                if *times == 0 {
                    self.diagnostics.push(diagnostic::never(step.span));
                }
                self.block(block, bound);
            }
            StepKind::Within { block, .. } | StepKind::AnyOrder(block) => self.block(block, bound),
            StepKind::Repeat { counter, block, times } => {
                if *times == 0 {
                    self.diagnostics.push(diagnostic::never(step.span));
                }
                bound.extend(counter.iter().map(|name| name.text.clone()));
                self.block(block, bound);
            }
            StepKind::Optionally(block) => {
                for step in block.steps.iter().filter(|step| !matches!(step.kind, StepKind::Arrow { .. })) {
                    self.diagnostics.push(diagnostic::not_optional(step.span));
                }
                let mut inside = bound.clone();
                self.block(block, &mut inside);
            }
            StepKind::Either(branches) => {
                let mut after: Option<BoundNames> = None;
                if branches.len() < 2 {
                    self.diagnostics.push(diagnostic::no_choice(step.span));
                }
                for branch in branches {
                    self.cites(&branch.cites);
                    if branch.block.steps.is_empty() && branches.len() > 1 {
                        self.diagnostics.push(diagnostic::empty_branch(step.span));
                    }
                    let mut inside = bound.clone();
                    self.block(&branch.block, &mut inside);
                    // Bound afterwards is what every branch binds.
                    after = Some(match after {
                        None => inside,
                        Some(known) => known.intersection(&inside).cloned().collect(),
                    });
                }
                bound.extend(after.unwrap_or_default());
            }
            StepKind::Wait(_) | StepKind::Settle | StepKind::Served => {}
        }
    }

    fn block(&mut self, block: &'a Block, bound: &mut BoundNames) {
        self.steps(&block.steps, bound);
    }

    fn payload(&mut self, payload: &Payload, bound: &mut BoundNames) {
        match payload {
            Payload::Json(pattern) => self.pattern(pattern, bound),
            Payload::Text(pattern) => self.pattern(pattern, bound),
            Payload::Binary(Bytes::Expression(pattern)) => self.pattern(pattern, bound),
            Payload::Raw(Bytes::Expression(pattern)) => self.expression(pattern, bound),
            Payload::Binary(_) | Payload::Raw(_) => {}
            Payload::Fragments(parts) => parts.iter().for_each(|part| self.expression(part, bound)),
            Payload::Ping(text) | Payload::Pong(text) => {
                text.iter().for_each(|text| self.pattern(text, bound))
            }
            Payload::HttpRequest { target, headers, body, .. } => {
                self.expression(target, bound);
                headers.iter().for_each(|headers| self.pattern(headers, bound));
                body.iter().for_each(|body| self.payload(body, bound));
            }
            Payload::HttpResponse { status, headers, body } => {
                self.pattern(status, bound);
                headers.iter().for_each(|headers| self.pattern(headers, bound));
                body.iter().for_each(|body| self.payload(body, bound));
            }
        }
    }

    /// A pattern in which a variable may be met for the first time.
    fn pattern(&mut self, pattern: &Pattern, bound: &mut BoundNames) {
        match &pattern.kind {
            PatternKind::Variable { name, is } => {
                if let Some(is) = is {
                    self.pattern(is, bound);
                }
                bound.insert(name.text.clone());
            }
            PatternKind::OneOf(parts) | PatternKind::AllOf(parts) => {
                parts.iter().for_each(|part| self.pattern(part, bound));
            }
            PatternKind::Not(inner) => self.pattern(inner, &mut bound.clone()),
            PatternKind::Array { items, .. } => items.iter().for_each(|item| self.pattern(item, bound)),
            PatternKind::Object { members, .. } => {
                let mut seen = BTreeSet::new();
                for member in members {
                    match &member.key {
                        Key::Variable(name) => self.bound_already(name, bound),
                        Key::Text(text, span) if !seen.insert(text.as_str()) => {
                            self.diagnostics.push(diagnostic::duplicate_member(*span, text));
                        }
                        Key::Text(..) => {}
                    }
                    self.pattern(&member.value, bound);
                }
            }
            PatternKind::Join(_) | PatternKind::Times(..) => self.expression(pattern, bound),
            PatternKind::Range { low: Some(low), high: Some(high) } if low.as_f64() > high.as_f64() => {
                self.diagnostics.push(diagnostic::empty_range(pattern.span));
            }
            _ => {}
        }
    }

    fn bound_already(&mut self, name: &Name, bound: &BoundNames) {
        if !bound.contains(&name.text) && !self.partial {
            self.diagnostics.push(diagnostic::unbound(name.span, &name.text));
        }
    }

    /// A string expression: its variables must be known.
    fn expression(&mut self, pattern: &Pattern, bound: &BoundNames) {
        match &pattern.kind {
            PatternKind::Variable { name, is: None } => self.bound_already(name, bound),
            PatternKind::Join(parts) => parts.iter().for_each(|part| self.expression(part, bound)),
            PatternKind::Times(part, _) => self.expression(part, bound),
            PatternKind::String { .. } | PatternKind::Number(_) => {}
            _ => self.diagnostics.push(diagnostic::not_text(pattern.span)),
        }
    }

    fn role_of(&self, name: &Name) -> Option<&'a str> {
        let mut member = self.cast.iter().find(|member| member.name.text == name.text)?;
        if let Some(owner) = &member.socket_of {
            member = self.cast.iter().find(|member| member.name.text == owner.text)?;
        }
        Some(member.role.as_ref().unwrap_or(&member.name).text.as_str())
    }

    fn projection(&mut self, steps: &'a [Step], role: &str) {
        for step in steps {
            match &step.kind {
                StepKind::Arrow { from, to, payload } => {
                    // Between two that are played nothing is sent, so nothing has to be made.
                    let sent = self.role_of(from) != Some(role) && self.role_of(to) == Some(role);
                    if sent {
                        self.sendable(payload, role);
                    }
                }
                StepKind::Connects { who, options, .. } if self.role_of(who) != Some(role) => {
                    let parts = [&options.path, &options.query, &options.headers, &options.subprotocol];
                    parts.into_iter().flatten().for_each(|part| self.makeable(part, role));
                    options.sending.iter().for_each(|payload| self.sendable(payload, role));
                }
                StepKind::Does { who, with, .. } if self.role_of(who) == Some(role) => {
                    with.iter().for_each(|with| self.makeable(with, role));
                }
                StepKind::Disconnects { who, close } | StepKind::Closes { who, close, .. }
                    if self.role_of(who) != Some(role) =>
                {
                    let parts = [&close.code, &close.reason].into_iter().flatten();
                    parts.for_each(|part| self.makeable(part, role));
                }
                StepKind::Refuses { who, status, .. } if self.role_of(who) != Some(role) => {
                    status.iter().for_each(|status| self.makeable(status, role));
                }
                StepKind::Let { value, .. } => self.diagnostics.extend(ungeneratable(value)),
                StepKind::Either(branches) => {
                    for first in branches.iter().filter_map(|branch| branch.block.steps.first()) {
                        let actor = match &first.kind {
                            StepKind::Arrow { from, .. } => from,
                            StepKind::Connects { who, .. }
                            | StepKind::Disconnects { who, .. }
                            | StepKind::Vanishes { who }
                            | StepKind::Closes { who, .. }
                            | StepKind::Drops { who, .. } => who,
                            _ => continue,
                        };
                        if self.role_of(actor).is_some_and(|played| played != role) {
                            self.diagnostics.push(diagnostic::branch_is_played(first.span, role));
                        }
                    }
                }
                _ => {}
            }
            for block in crate::runner::plan::blocks(&step.kind) {
                self.projection(&block.steps, role);
            }
        }
    }

    fn sendable(&mut self, payload: &Payload, role: &str) {
        match payload {
            Payload::Json(pattern) | Payload::Text(pattern) => self.makeable(pattern, role),
            Payload::HttpRequest { headers, body, .. } | Payload::HttpResponse { headers, body, .. } => {
                headers.iter().for_each(|headers| self.makeable(headers, role));
                body.iter().for_each(|body| self.sendable(body, role));
            }
            Payload::Binary(Bytes::Expression(pattern)) | Payload::Raw(Bytes::Expression(pattern)) => {
                self.makeable(pattern, role);
            }
            Payload::Binary(_) | Payload::Raw(_) => {}
            Payload::Fragments(parts) => parts.iter().for_each(|part| self.makeable(part, role)),
            Payload::Ping(text) | Payload::Pong(text) => {
                text.iter().for_each(|text| self.makeable(text, role))
            }
        }
    }

    /// What the harness has to make when `role` is under test.
    fn makeable(&mut self, pattern: &Pattern, role: &str) {
        let found = ungeneratable(pattern).into_iter();
        self.diagnostics.extend(found.map(|one| diagnostic::made_for(one, role)));
    }
}

/// The parts of a pattern from which nothing can be made.
pub fn ungeneratable(pattern: &Pattern) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    collect_ungeneratable(pattern, false, &mut diagnostics);
    diagnostics
}

fn collect_ungeneratable(pattern: &Pattern, member: bool, found: &mut Vec<Diagnostic>) {
    match &pattern.kind {
        PatternKind::AllOf(_) => found.push(diagnostic::ungeneratable(pattern.span, "`&`")),
        PatternKind::Not(_) => found.push(diagnostic::ungeneratable(pattern.span, "`not`")),
        PatternKind::Absent if !member => {
            found.push(diagnostic::ungeneratable(pattern.span, "`absent` here"))
        }
        PatternKind::OneOf(parts) => parts.iter().for_each(|part| collect_ungeneratable(part, member, found)),
        PatternKind::Variable { is: Some(is), .. } => collect_ungeneratable(is, member, found),
        PatternKind::Array { items, .. } => {
            items.iter().for_each(|item| collect_ungeneratable(item, false, found))
        }
        PatternKind::Object { members, .. } => {
            members.iter().for_each(|member| collect_ungeneratable(&member.value, true, found));
        }
        _ => {}
    }
}
