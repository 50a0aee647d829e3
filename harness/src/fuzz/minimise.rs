//! Makes a case small: fewer people, fewer messages, fewer members, plainer values, no pauses, no fragments. After each
//! step it must still show the same thing.

use std::time::{Duration, Instant};

use super::case::{Case, sent};
use super::mutate::value::{body, text};
use super::tree;
use crate::corpus::Protocol;
use crate::flow::ast::{CloseSpec, HeaderItem, Name, Pattern, PatternKind, Payload, Step, StepKind};

/// What making a case small may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Attempts.
    pub attempts: usize,
    /// Time.
    pub time: Duration,
    /// How often the smallest has to show it, one time after the other, before it is believed: on a real clock a case may
    /// show by luck what it mostly does not.
    pub sure: usize,
}

struct Minimiser<'a> {
    case: Case,
    /// What it was before, the largest first.
    larger: Vec<Case>,
    shows: &'a mut dyn FnMut(&Case) -> Option<bool>,
    attempts: usize,
    until: Instant,
}

/// The smallest case that was found to show the same as `case`; `shows` says whether a case does, if that can
/// be said.
pub fn minimise(
    case: Case,
    protocol: &Protocol,
    role: &str,
    budget: Budget,
    shows: &mut dyn FnMut(&Case) -> Option<bool>,
) -> Case {
    let watched = case.watched(protocol, role);
    let mut minimiser = Minimiser {
        case,
        larger: Vec::new(),
        shows,
        attempts: budget.attempts,
        until: Instant::now() + budget.time,
    };
    loop {
        let before = minimiser.case.clone();
        minimiser.steps();
        minimiser.people(&watched);
        minimiser.rounds();
        for place in 0..minimiser.case.flow.steps.len() {
            minimiser.members(place, &watched);
            minimiser.plain(place, &watched);
        }
        minimiser.header();
        if minimiser.case == before || minimiser.is_spent() {
            break;
        }
    }
    minimiser.surely(budget.sure)
}

impl Minimiser<'_> {
    fn is_spent(&self) -> bool {
        self.attempts == 0 || Instant::now() > self.until
    }

    /// Keeps a smaller case if it shows the same.
    fn attempt(&mut self, smaller: Case) -> bool {
        if self.is_spent() || smaller == self.case {
            return false;
        }
        self.attempts -= 1;
        let shows = (self.shows)(&smaller) == Some(true);
        if shows {
            self.larger.push(std::mem::replace(&mut self.case, smaller));
        }
        shows
    }

    /// The smallest that shows it so many times; the largest is known to.
    fn surely(mut self, times: usize) -> Case {
        while let Some(larger) = self.larger.pop() {
            if (0..times).all(|_| (self.shows)(&self.case) != Some(false)) {
                break;
            }
            self.case = larger;
            // It came from somewhere among these; half of them are tried, not all.
            self.larger.truncate(self.larger.len().div_ceil(2));
        }
        self.case
    }

    /// Takes steps away, many at once first. The bystander at the end stays: before it is served, what comes of the rest
    /// has come.
    fn steps(&mut self) {
        let mut size = self.droppable().div_ceil(2);
        while size > 0 {
            let mut end = self.droppable();
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut smaller = self.case.clone();
                smaller.flow.steps.drain(start..end);
                self.attempt(smaller);
                end = start.min(self.droppable());
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn droppable(&self) -> usize {
        let steps = &self.case.flow.steps;
        steps.len() - usize::from(matches!(steps.last(), Some(Step { kind: StepKind::Served, .. })))
    }

    /// Takes people away, with all that they do.
    fn people(&mut self, watched: &std::collections::BTreeSet<String>) {
        let all: Vec<String> = self.case.cast().iter().map(|member| member.name.text.clone()).collect();
        for who in all.iter().rev().filter(|who| !watched.contains(*who)) {
            let mut smaller = self.case.clone();
            smaller.flow.steps.retain(|step| !tree::mentions(step, who));
            for line in &mut smaller.flow.header {
                if let HeaderItem::Cast(members) = &mut line.item {
                    members.retain(|member| {
                        member.name.text != *who
                            && member.socket_of.as_ref().is_none_or(|owner| owner.text != *who)
                    });
                }
            }
            if self.attempt(smaller) {
                continue;
            }
            // One of a crowd may do.
            let mut smaller = self.case.clone();
            for line in &mut smaller.flow.header {
                if let HeaderItem::Cast(members) = &mut line.item {
                    for member in members.iter_mut().filter(|member| member.name.text == *who) {
                        member.count = member.count.map(|count| count / 2).filter(|count| *count > 1);
                    }
                }
            }
            self.attempt(smaller);
        }
    }

    /// Fewer rounds of repetitions; a single round needs no block.
    fn rounds(&mut self) {
        for place in (0..self.case.flow.steps.len()).rev() {
            while let Some(StepKind::Repeat { times, block, counter }) =
                self.case.flow.steps.get(place).map(|step| &step.kind)
            {
                let (times, inner, counted) = (*times, block.steps.clone(), counter.is_some());
                let mut smaller = self.case.clone();
                if !counted && times > 1 {
                    smaller.flow.steps.splice(place..=place, inner);
                    if self.attempt(smaller.clone()) {
                        break;
                    }
                    smaller = self.case.clone();
                }
                let StepKind::Repeat { times: fewer, .. } = &mut smaller.flow.steps[place].kind else {
                    break;
                };
                *fewer = times / 2;
                if times < 2 || !self.attempt(smaller) {
                    break;
                }
            }
        }
    }

    /// Takes members and elements of a message away.
    fn members(&mut self, place: usize, watched: &std::collections::BTreeSet<String>) {
        let mut at = 0;
        loop {
            let mut smaller = self.case.clone();
            let Some(step) = smaller.flow.steps.get_mut(place) else { return };
            let Some(pattern) = said(step, watched) else { return };
            let Some(target) = tree::value_at(pattern, at) else { return };
            let parts = match &target.kind {
                PatternKind::Object { members, .. } => members.len(),
                PatternKind::Array { items, .. } => items.len(),
                _ => 0,
            };
            for part in (0..parts).rev() {
                let mut smaller = self.case.clone();
                let Some(target) = smaller
                    .flow
                    .steps
                    .get_mut(place)
                    .and_then(|step| tree::value_at(said(step, watched)?, at))
                else {
                    return;
                };
                match &mut target.kind {
                    PatternKind::Object { members, .. } if part < members.len() => drop(members.remove(part)),
                    PatternKind::Array { items, .. } if part < items.len() => drop(items.remove(part)),
                    _ => continue,
                }
                self.attempt(smaller);
            }
            at += 1;
        }
    }

    /// Plainer values, and plainer ways to travel.
    fn plain(&mut self, place: usize, watched: &std::collections::BTreeSet<String>) {
        let mut smaller = self.case.clone();
        if let Some(payload) = smaller.flow.steps.get_mut(place).and_then(|step| sent(step, watched)) {
            let plainer = match &*payload {
                Payload::Fragments(parts) => Some(Payload::Text(Pattern {
                    kind: PatternKind::Join(parts.clone()),
                    span: crate::flow::ast::Span::default(),
                })),
                Payload::Text(pattern) => {
                    crate::pattern::text_of(pattern, &crate::pattern::Bindings::default())
                        .ok()
                        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
                        .and_then(|value| crate::flow::parse_pattern(&value.to_string()).ok())
                        .map(Payload::Json)
                }
                _ => None,
            };
            if let Some(plainer) = plainer {
                *payload = plainer;
                self.attempt(smaller);
            }
        }
        let mut smaller = self.case.clone();
        if let Some(Step { kind: StepKind::Disconnects { close, .. }, .. }) =
            smaller.flow.steps.get_mut(place)
        {
            *close = CloseSpec::default();
            self.attempt(smaller);
        }
        let mut at = 0;
        loop {
            let mut smaller = self.case.clone();
            let Some(target) =
                smaller.flow.steps.get_mut(place).and_then(|step| tree::value_at(said(step, watched)?, at))
            else {
                return;
            };
            let plainer: Vec<Pattern> = match &target.kind {
                PatternKind::Times(part, times) if *times > 1 => {
                    // The length is the point, perhaps: the least one that does, to a tenth.
                    [2, *times / 16, *times / 4, *times / 2, *times - *times / 8]
                        .into_iter()
                        .filter(|fewer| *fewer > 0 && fewer < times)
                        .map(|fewer| Pattern {
                            kind: PatternKind::Times(part.clone(), fewer),
                            span: target.span,
                        })
                        .collect()
                }
                PatternKind::String { text: known, .. } if !known.is_empty() && known != "x" => {
                    vec![text(""), text("x")]
                }
                PatternKind::Object { members, .. } if !members.is_empty() && at > 0 => vec![text("x")],
                PatternKind::Array { items, .. } if !items.is_empty() && at > 0 => vec![text("x")],
                PatternKind::Number(number) if number.as_i64() != Some(0) => {
                    vec![Pattern { kind: PatternKind::Number(0.into()), span: target.span }]
                }
                _ => Vec::new(),
            };
            for one in plainer {
                let mut smaller = self.case.clone();
                if let Some(target) = smaller
                    .flow
                    .steps
                    .get_mut(place)
                    .and_then(|step| tree::value_at(said(step, watched)?, at))
                {
                    *target = one;
                }
                if self.attempt(smaller) {
                    break;
                }
            }
            at += 1;
        }
    }

    /// Header lines that nothing needs: columns of the table that nobody names, tables, needs.
    fn header(&mut self) {
        for place in (0..self.case.flow.header.len()).rev() {
            let fixed = match &self.case.flow.header[place].item {
                HeaderItem::Protocol(_)
                | HeaderItem::Cast(_)
                | HeaderItem::Tags(_)
                | HeaderItem::Editions(_) => true,
                HeaderItem::Examples(table) => {
                    let columns: Vec<Name> = table.columns.clone();
                    for column in (0..columns.len()).rev() {
                        let mut smaller = self.case.clone();
                        if let HeaderItem::Examples(table) = &mut smaller.flow.header[place].item
                            && table.columns.len() > 1
                        {
                            table.columns.remove(column);
                            table.rows.iter_mut().filter(|row| column < row.cells.len()).for_each(|row| {
                                row.cells.remove(column);
                            });
                            self.attempt(smaller);
                        }
                    }
                    false
                }
                _ => false,
            };
            if !fixed {
                let mut smaller = self.case.clone();
                smaller.flow.header.remove(place);
                self.attempt(smaller);
            }
        }
    }
}

/// The JSON of a message that a step sends.
fn said<'a>(step: &'a mut Step, watched: &std::collections::BTreeSet<String>) -> Option<&'a mut Pattern> {
    body(sent(step, watched)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::corpus::Corpus;
    use crate::fuzz::depart::{Pace, depart, settled};

    /// A conversation of hangout with several messages of ours and a bystander at its end, made small by what `shows`
    /// says of its text and its messages.
    fn small(sure: usize, mut shows: impl FnMut(&str, usize) -> bool) -> (Case, usize) {
        let corpus = Corpus::embedded().expect("the corpus is sound");
        let protocol = corpus.protocol("hangout").expect("hangout is built in");
        let file =
            protocol.flows.iter().find(|file| file.name == "props/only-own-entry").expect("it is there");
        let case = depart(file, None, &protocol, "server", Pace::REAL);
        let watched = case.watched(&protocol, "server");
        assert!(case.sends(&watched) > 2);
        let budget = Budget { attempts: 1000, time: Duration::from_secs(600), sure };
        let shows = &mut |case: &Case| Some(shows(&case.text(&[]), case.sends(&watched)));
        let small = minimise(case, &protocol, "server", budget, shows);
        let sends = small.sends(&watched);
        (small, sends)
    }

    #[test]
    fn the_bystander_stays_whatever_else_goes() {
        let (case, sends) = small(0, |_, _| true);
        assert_eq!(sends, 0);
        assert!(matches!(case.flow.steps.as_slice(), [Step { kind: StepKind::Served, .. }]));
    }

    #[test]
    fn what_showed_by_luck_is_not_the_smallest() {
        // With fewer than two messages each case shows it once, and never again.
        let lucky = |sure| {
            let mut met = BTreeSet::new();
            small(sure, |text, sends| sends >= 2 || met.insert(text.to_owned())).1
        };
        assert_eq!(lucky(0), 0);
        assert!(lucky(2) >= 2);
    }

    #[test]
    fn news_settles_once_and_before_the_bystander() {
        let (case, _) = small(0, |_, sends| sends >= 1);
        let once = settled(&case).expect("it has no time to settle");
        let kinds = once.flow.steps.iter().rev().map(|step| &step.kind);
        assert!(matches!(kinds.take(2).collect::<Vec<_>>()[..], [StepKind::Served, StepKind::Settle]));
        assert!(settled(&once).is_none());
    }
}
