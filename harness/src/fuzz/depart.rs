//! How a flow leaves the path: a plain sequence of steps without blocks and citations, under the tag `astray`, with a
//! bystander at its end who must still be served.

use std::time::Duration;

use super::case::{Case, line, name, step};
use super::tree;
use crate::corpus::{FlowFile, Protocol};
use crate::flow::ast::{Block, Flow, HeaderItem, Step, StepKind};
use crate::runner::plan::ASTRAY;

/// Rounds of a repetition that are kept.
const ROUNDS: u32 = 40;

/// What a sequence may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The longest pause of a flow that is kept.
    pub longest_wait: Duration,
    /// Pauses that let the news settle are kept.
    pub settles: bool,
    /// The longest pause that a change adds.
    pub longest_pause: Duration,
}

impl Pace {
    /// In virtual time nothing takes long.
    pub const VIRTUAL: Pace = Pace {
        longest_wait: Duration::from_secs(120),
        settles: true,
        longest_pause: Duration::from_secs(120),
    };
    /// On a real clock.
    pub const REAL: Pace = Pace {
        longest_wait: Duration::from_millis(50),
        settles: false,
        longest_pause: Duration::from_millis(1500),
    };
}

/// A flow as a plain sequence, still on its path but judged as if it had left it.
pub fn depart(file: &FlowFile, row: Option<usize>, protocol: &Protocol, role: &str, pace: Pace) -> Case {
    let written = Case::as_written(file, row);
    let mut steps = Vec::new();
    flatten(&written.flow.steps, pace, &mut steps);
    if !pace.settles {
        // What binds no name is not waited for: on a real clock that is most of the time.
        let watched = written.watched(protocol, role);
        steps.retain(|known| match &known.kind {
            StepKind::Arrow { from, .. } if watched.contains(&from.text) => names_something(known),
            _ => true,
        });
    }
    let mut header = Vec::new();
    let mut tags = vec![name(ASTRAY)];
    for known in written.flow.header {
        match known.item {
            HeaderItem::Tags(words) => tags.extend(words.into_iter().filter(|tag| tag.text == "alone")),
            // Nothing is expected, so nothing is unexpected; needs and tables stay.
            HeaderItem::Unexpected(_) | HeaderItem::Ignoring(_) | HeaderItem::About(_) => {}
            item => header.push(line(item)),
        }
    }
    header.push(line(HeaderItem::Tags(tags)));
    if protocol.served.is_some() && serves(protocol, role) {
        steps.push(served(protocol, role));
    }
    let flow = Flow { header, steps, trailing: Vec::new() };
    Case { flow, origin: written.origin, departures: Vec::new() }
}

fn names_something(known: &Step) -> bool {
    let mut names = false;
    tree::variables_of(&mut known.clone(), &mut |_| names = true);
    names
}

/// The same with time at its end for the news to settle, so that what comes of it is still seen; none where it has that.
pub fn settled(case: &Case) -> Option<Case> {
    let steps = &case.flow.steps;
    let end = steps.len() - usize::from(matches!(steps.last(), Some(Step { kind: StepKind::Served, .. })));
    if end > 0 && matches!(steps[end - 1].kind, StepKind::Settle) {
        return None;
    }
    let mut settled = case.clone();
    settled.flow.steps.insert(end, step(StepKind::Settle));
    settled.departures.push("the news settles at the end".to_owned());
    Some(settled)
}

/// True when a role is one that can serve bystanders.
pub fn serves(protocol: &Protocol, role: &str) -> bool {
    protocol.settings.knows_datagrams()
        || protocol.settings.roles.iter().any(|known| known.name == role && known.listens)
}

/// A bystander who must still be served.
pub fn served(protocol: &Protocol, role: &str) -> Step {
    let mut served = step(StepKind::Served);
    served.cites = protocol.settings.survival.get(role).map(|id| name(id)).into_iter().collect();
    served
}

fn flatten(steps: &[Step], pace: Pace, out: &mut Vec<Step>) {
    for known in steps {
        match &known.kind {
            StepKind::Within { block, .. } | StepKind::Every { block, .. } | StepKind::AnyOrder(block) => {
                flatten(&block.steps, pace, out);
            }
            StepKind::Either(branches) => {
                if let Some(first) = branches.first() {
                    flatten(&first.block.steps, pace, out);
                }
            }
            StepKind::Repeat { times, counter, block } => {
                let mut inner = Vec::new();
                flatten(&block.steps, pace, &mut inner);
                let block = Block { steps: inner, trailing: Vec::new() };
                let times = (*times).min(ROUNDS);
                out.push(step(StepKind::Repeat { times, counter: counter.clone(), block }));
            }
            StepKind::Wait(duration) => {
                out.push(step(StepKind::Wait((*duration).min(pace.longest_wait))));
            }
            StepKind::Settle if !pace.settles => {}
            // Whoever was asked to go serves nobody.
            StepKind::Quits { .. } | StepKind::Exits { .. } => {}
            StepKind::Quiet { .. } | StepKind::Optionally(_) | StepKind::Served => {}
            kind => out.push(step(kind.clone())),
        }
    }
}

/// Puts two sequences side by side: the second one's people get names of their own, and so do its variables; those
/// under test are the same in both. `order` says, for each step in turn, whether it is the second one's.
pub fn beside(
    first: &Case,
    second: &Case,
    protocol: &Protocol,
    role: &str,
    mut order: impl FnMut() -> bool,
) -> Option<Case> {
    let (watched, others) = (first.watched(protocol, role), second.watched(protocol, role));
    let known = watched.iter().next()?;
    if watched.len() != 1 || others.len() != 1 || has_table(first) || has_table(second) {
        return None;
    }
    // One that was made of two already has names like these.
    let text = first.text(&[]) + &second.text(&[]);
    let suffix = (2..).map(|number| format!("-{number}")).find(|suffix| !text.contains(suffix.as_str()))?;
    let suffix = suffix.as_str();
    let rename = |text: &mut String| {
        if others.contains(text.as_str()) {
            text.clone_from(known);
        } else {
            text.push_str(suffix);
        }
    };
    let mut case = first.clone();
    for member in second.cast() {
        if others.contains(&member.name.text) || member.socket_of.is_some() {
            continue;
        }
        let mut member = member.clone();
        // A participant without a role is called after it.
        member.role.get_or_insert_with(|| member.name.clone());
        rename(&mut member.name.text);
        if let Some(HeaderItem::Cast(members)) = case
            .flow
            .header
            .iter_mut()
            .map(|line| &mut line.item)
            .find(|item| matches!(item, HeaderItem::Cast(_)))
        {
            members.push(member);
        }
    }
    for item in second.flow.header.iter().map(|line| &line.item) {
        if let HeaderItem::Needs(_) = item {
            case.flow.header.push(line(item.clone()));
        }
    }
    let sockets = second.cast().iter().any(|member| member.socket_of.is_some());
    if sockets {
        return None;
    }
    let settings: Vec<&String> = protocol.settings.setting_names().collect();
    let minted = |text: &String| protocol.settings.mint.iter().any(|mint| mint.variable == *text);
    let mut theirs: std::collections::VecDeque<Step> = second.flow.steps.clone().into();
    for one in &mut theirs {
        tree::names(one, &mut |name| rename(&mut name.text));
        tree::variables_of(one, &mut |name| {
            let base = name.text.split('.').next().unwrap_or_default();
            if !settings.iter().any(|known| *known == base) && !minted(&name.text) {
                let rest = name.text[base.len()..].to_owned();
                name.text = format!("{base}{suffix}{rest}");
            }
        });
    }
    let mut ours: std::collections::VecDeque<Step> = std::mem::take(&mut case.flow.steps).into();
    let last =
        matches!(ours.back(), Some(Step { kind: StepKind::Served, .. })).then(|| ours.pop_back()).flatten();
    if matches!(theirs.back(), Some(Step { kind: StepKind::Served, .. })) {
        theirs.pop_back();
    }
    while !ours.is_empty() || !theirs.is_empty() {
        let from_second = ours.is_empty() || (!theirs.is_empty() && order());
        case.flow.steps.extend(if from_second { theirs.pop_front() } else { ours.pop_front() });
    }
    case.flow.steps.extend(last);
    case.origin = format!("{} beside {}", first.origin, second.origin);
    Some(case)
}

fn has_table(case: &Case) -> bool {
    case.flow.header.iter().any(|line| matches!(line.item, HeaderItem::Examples(_)))
}
