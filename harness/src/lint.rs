//! Everything that is wrong with a flow file of a protocol: what the parser and the resolver say, for every role that
//! the flow judges, in the order of the text.

use crate::corpus::{FlowFile, Protocol};
use crate::diagnostic::{self, Diagnostic};
use crate::flow::ast::{Flow, HeaderItem, Name};
use crate::flow::parse;
use crate::flow::resolve::{Context, check, check_part, check_projection, nearest};
use crate::runner::plan;

/// What the flows of a protocol may name.
pub fn context(protocol: &Protocol) -> Context {
    Context {
        roles: protocol.settings.roles.iter().map(|role| (role.name.clone(), role.listens)).collect(),
        requirements: protocol.catalogue.iter().map(|requirement| requirement.id.clone()).collect(),
        editions: protocol.settings.editions.clone(),
        variables: protocol.settings.setting_names().cloned().collect(),
        datagrams: protocol.settings.knows_datagrams(),
    }
}

/// Everything that is wrong with the text of a flow. Where it cannot be read as a whole, what was read is looked at.
pub fn text(source: &str, protocol: &Protocol) -> Vec<Diagnostic> {
    let (flow, mut found) = parse(source);
    let whole = !found.iter().any(Diagnostic::is_error);
    let file = FlowFile { name: String::new(), path: String::new(), source: source.to_owned(), flow };
    let context = context(protocol);
    found.extend(if whole { check(&file.flow, &context) } else { check_part(&file.flow, &context) });
    found.extend(projections(&file, protocol, &context));
    in_order(found)
}

/// What is wrong with a text whose protocol is not known: beside what the parser says, just that.
pub fn without_protocol<'a>(source: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<Diagnostic> {
    let (flow, mut found) = parse(source);
    let known: Vec<&str> = known.into_iter().collect();
    found.push(match protocol_name(&flow) {
        Some(name) => {
            let near = nearest(&name.text, known.iter().copied());
            diagnostic::unknown_name(name.span, "protocol", &name.text, near, &known)
        }
        None => diagnostic::missing_header("protocol"),
    });
    in_order(found)
}

/// The protocol that a flow names.
pub fn protocol_name(flow: &Flow) -> Option<&Name> {
    flow.header.iter().find_map(|line| match &line.item {
        HeaderItem::Protocol(name) => Some(name),
        _ => None,
    })
}

/// Everything that is wrong with a flow that could be read.
pub fn problems(file: &FlowFile, protocol: &Protocol) -> Vec<Diagnostic> {
    let context = context(protocol);
    let mut found = check(&file.flow, &context);
    found.extend(projections(file, protocol, &context));
    in_order(found)
}

fn projections(file: &FlowFile, protocol: &Protocol, context: &Context) -> Vec<Diagnostic> {
    // A role that only stands in for a more general one has no participant of its own in such a flow.
    let named = |role: &str| {
        file.flow.header.iter().any(|line| match &line.item {
            HeaderItem::Cast(members) => {
                members.iter().any(|member| member.role.as_ref().unwrap_or(&member.name).text == role)
            }
            _ => false,
        })
    };
    let judged =
        context.roles.iter().filter(|(role, _)| named(role) && plan::judges_role(file, protocol, role));
    judged.flat_map(|(role, _)| check_projection(&file.flow, context, role)).collect()
}

/// In the order of the text; what is wrong for two roles is told once.
fn in_order(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by(|a, b| (a.span.start, a.span.end, &a.message).cmp(&(b.span.start, b.span.end, &b.message)));
    found.dedup();
    found
}
