//! Makes a case small: fewer people, fewer messages, fewer members, plainer values, no pauses, no fragments. After each
//! step it must still show the same thing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::case::{Case, sent};
use super::mutate::value::{body, join, text};
use super::tree;
use crate::corpus::Protocol;
use crate::flow::ast::{CastMember, CloseSpec, HeaderItem, Pattern, PatternKind, Payload, Step, StepKind};
use crate::pattern::{Bindings, text_of};

/// What making a case small may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Attempts.
    pub attempts: usize,
    /// Time.
    pub time: Duration,
    /// How often the smallest has to show it before it is believed: on a real clock a case may show by luck what it mostly
    /// does not.
    pub sure: usize,
    /// Attempts that are made side by side.
    pub width: usize,
}

/// Plays cases and says for each in turn whether it shows the same, if that can be said.
pub type Shows<'s> = dyn FnMut(&[Case]) -> Vec<Option<bool>> + 's;

struct Minimiser<'a, 's> {
    case: Case,
    /// What it was before, the largest first.
    larger: Vec<Case>,
    shows: &'a mut Shows<'s>,
    attempts: usize,
    width: usize,
    until: Instant,
}

/// The smallest case that was found to show the same as `case`.
pub fn minimise(case: Case, protocol: &Protocol, role: &str, budget: Budget, shows: &mut Shows<'_>) -> Case {
    let watched = case.watched(protocol, role);
    let mut minimiser = Minimiser {
        case,
        larger: Vec::new(),
        shows,
        attempts: budget.attempts,
        width: budget.width.max(1),
        until: Instant::now() + budget.time,
    };
    loop {
        let before = minimiser.case.clone();
        minimiser.part();
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

impl Minimiser<'_, '_> {
    fn is_spent(&self) -> bool {
        self.attempts == 0 || Instant::now() > self.until
    }

    /// Keeps a smaller case if it shows the same.
    fn attempt(&mut self, smaller: Case) -> bool {
        let before = self.larger.len();
        self.each(&[smaller], |_, smaller| Some(smaller.clone()));
        self.larger.len() > before
    }

    /// Tries these changes in turn, several side by side, and keeps each that shows the same; `change` makes one to the
    /// case as it then is, and must go on to make sense when those before it are kept.
    fn each<T>(&mut self, mut changes: &[T], mut change: impl FnMut(&Case, &T) -> Option<Case>) {
        while !changes.is_empty() && !self.is_spent() {
            let turn = self.width.min(changes.len()).min(self.attempts);
            let (places, mut smaller): (Vec<usize>, Vec<Case>) = changes[..turn]
                .iter()
                .enumerate()
                .filter_map(|(place, one)| Some((place, change(&self.case, one)?)))
                .filter(|(_, smaller)| *smaller != self.case)
                .unzip();
            self.attempts -= smaller.len();
            let shown = if smaller.is_empty() { Vec::new() } else { (self.shows)(&smaller) };
            let first = shown.iter().position(|shows| *shows == Some(true));
            if let Some(first) = first {
                self.larger.push(std::mem::replace(&mut self.case, smaller.swap_remove(first)));
            }
            changes = &changes[first.map_or(turn, |first| places[first] + 1)..];
        }
    }

    /// The smallest that shows it so many times; the largest is known to.
    fn surely(mut self, times: usize) -> Case {
        while let Some(larger) = self.larger.pop() {
            let every = vec![self.case.clone(); times];
            if !every.chunks(self.width).any(|some| (self.shows)(some).contains(&Some(false))) {
                break;
            }
            self.case = larger;
            // It came from somewhere among these; half of them are tried, not all.
            self.larger.truncate(self.larger.len().div_ceil(2));
        }
        self.case
    }

    /// Keeps one part of the steps alone, as many parts as are tried side by side, until none of them does.
    fn part(&mut self) {
        while self.width > 2 && droppable(&self.case) > 1 && !self.is_spent() {
            let before = self.case.clone();
            let size = droppable(&before).div_ceil(self.width);
            let starts: Vec<usize> = (0..droppable(&before)).step_by(size).collect();
            self.each(&starts, |case, start| {
                if *case != before {
                    // Another part does already.
                    return None;
                }
                let mut smaller = case.clone();
                smaller.flow.steps.drain((start + size).min(droppable(case))..droppable(case));
                smaller.flow.steps.drain(..start);
                Some(smaller)
            });
            if self.case == before {
                break;
            }
        }
    }

    /// Takes steps away, many at once first.
    fn steps(&mut self) {
        let mut size = droppable(&self.case).div_ceil(2);
        while size > 0 {
            let ends: Vec<usize> = (1..=droppable(&self.case)).rev().step_by(size).collect();
            self.each(&ends, |case, end| {
                let mut smaller = case.clone();
                smaller.flow.steps.drain(end.saturating_sub(size)..*end);
                Some(smaller)
            });
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Takes people away, with all that they do; of a crowd, half.
    fn people(&mut self, watched: &BTreeSet<String>) {
        let mut all: Vec<String> = self.case.cast().iter().map(|member| member.name.text.clone()).collect();
        all.retain(|who| !watched.contains(who));
        all.reverse();
        self.each(&all, |case, who| {
            let mut smaller = case.clone();
            smaller.flow.steps.retain(|step| !tree::mentions(step, who));
            for members in casts(&mut smaller) {
                members.retain(|member| {
                    member.name.text != *who
                        && member.socket_of.as_ref().is_none_or(|owner| owner.text != *who)
                });
            }
            Some(smaller)
        });
        self.each(&all, |case, who| {
            let mut smaller = case.clone();
            for member in casts(&mut smaller).flatten().filter(|member| member.name.text == *who) {
                member.count = member.count.map(|count| count / 2).filter(|count| *count > 1);
            }
            Some(smaller)
        });
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
    fn members(&mut self, place: usize, watched: &BTreeSet<String>) {
        for at in 0.. {
            let mut case = self.case.clone();
            let Some(target) = value(&mut case, place, at, watched) else { return };
            let parts = match &target.kind {
                PatternKind::Object { members, .. } => members.len(),
                PatternKind::Array { items, .. } => items.len(),
                _ => 0,
            };
            let parts: Vec<usize> = (0..parts).rev().collect();
            self.each(&parts, |case, part| {
                let mut smaller = case.clone();
                match &mut value(&mut smaller, place, at, watched)?.kind {
                    PatternKind::Object { members, .. } if *part < members.len() => {
                        drop(members.remove(*part))
                    }
                    PatternKind::Array { items, .. } if *part < items.len() => drop(items.remove(*part)),
                    _ => return None,
                }
                Some(smaller)
            });
        }
    }

    /// Plainer values, and plainer ways to travel.
    fn plain(&mut self, place: usize, watched: &BTreeSet<String>) {
        let mut case = self.case.clone();
        if let Some(payload) = case.flow.steps.get_mut(place).and_then(|step| sent(step, watched)) {
            let (before, plainer) = (payload.clone(), plainer_payloads(payload));
            self.each(&plainer, |case, plainer| {
                let mut smaller = case.clone();
                // The first that does is the plainest.
                let payload = sent(smaller.flow.steps.get_mut(place)?, watched)
                    .filter(|payload| **payload == before)?;
                *payload = plainer.clone();
                Some(smaller)
            });
        }
        let mut smaller = self.case.clone();
        if let Some(Step { kind: StepKind::Disconnects { close, .. }, .. }) =
            smaller.flow.steps.get_mut(place)
        {
            *close = CloseSpec::default();
            self.attempt(smaller);
        }
        for at in 0.. {
            let mut case = self.case.clone();
            let Some(target) = value(&mut case, place, at, watched) else { return };
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
                PatternKind::Variable { .. } | PatternKind::Join(_) if at > 0 => vec![text("x")],
                PatternKind::Object { members, .. } if !members.is_empty() && at > 0 => vec![text("x")],
                PatternKind::Array { items, .. } if !items.is_empty() && at > 0 => vec![text("x")],
                PatternKind::Number(number) if number.as_i64() != Some(0) => {
                    vec![Pattern { kind: PatternKind::Number(0.into()), span: target.span }]
                }
                _ => Vec::new(),
            };
            let before = target.clone();
            self.each(&plainer, |case, plainer| {
                let mut smaller = case.clone();
                // The first that does is the plainest.
                let target = value(&mut smaller, place, at, watched).filter(|target| **target == before)?;
                *target = plainer.clone();
                Some(smaller)
            });
        }
    }

    /// Header lines that nothing needs: columns of the table that nobody names, tables, needs.
    fn header(&mut self) {
        let lines: Vec<usize> = (0..self.case.flow.header.len()).rev().collect();
        let columns: Vec<(usize, usize)> = lines
            .iter()
            .flat_map(|line| match &self.case.flow.header[*line].item {
                HeaderItem::Examples(table) => {
                    (0..table.columns.len()).rev().map(|column| (*line, column)).collect()
                }
                _ => Vec::new(),
            })
            .collect();
        self.each(&columns, |case, (line, column)| {
            let mut smaller = case.clone();
            let HeaderItem::Examples(table) = &mut smaller.flow.header[*line].item else { return None };
            if table.columns.len() < 2 {
                return None;
            }
            table.columns.remove(*column);
            table.rows.iter_mut().filter(|row| *column < row.cells.len()).for_each(|row| {
                row.cells.remove(*column);
            });
            Some(smaller)
        });
        self.each(&lines, |case, line| {
            let needed = matches!(
                &case.flow.header[*line].item,
                HeaderItem::Protocol(_) | HeaderItem::Cast(_) | HeaderItem::Tags(_) | HeaderItem::Editions(_)
            );
            let mut smaller = case.clone();
            smaller.flow.header.remove(*line);
            (!needed).then_some(smaller)
        });
    }
}

/// Steps that may go. The bystander at the end stays: before it is served, what comes of the rest has come.
fn droppable(case: &Case) -> usize {
    let steps = &case.flow.steps;
    steps.len() - usize::from(matches!(steps.last(), Some(Step { kind: StepKind::Served, .. })))
}

/// Plainer ways to say nearly the same, the plainest first.
fn plainer_payloads(payload: &Payload) -> Vec<Payload> {
    match payload {
        Payload::Fragments(parts) => vec![Payload::Text(join(parts.clone()))],
        Payload::Text(pattern) => {
            let parts = match &pattern.kind {
                PatternKind::Join(parts) => parts.clone(),
                PatternKind::String { text: known, .. } if known.chars().nth(1).is_some() => {
                    let half =
                        known.char_indices().nth(known.chars().count() / 2).map_or(0, |(place, _)| place);
                    vec![text(&known[..half]), text(&known[half..])]
                }
                _ => Vec::new(),
            };
            let plain = matches!(&pattern.kind, PatternKind::String { text, .. } if text.chars().count() < 2);
            let short = [text(""), text("x")].into_iter().filter(|_| !plain);
            let json = text_of(pattern, &Bindings::default())
                .ok()
                .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
                .and_then(|value| crate::flow::parse_pattern(&value.to_string()).ok());
            let parts = short.chain(parts).map(Payload::Text);
            json.map(Payload::Json).into_iter().chain(parts).collect()
        }
        _ => Vec::new(),
    }
}

/// The casts of a header.
fn casts(case: &mut Case) -> impl Iterator<Item = &mut Vec<CastMember>> {
    case.flow.header.iter_mut().filter_map(|line| match &mut line.item {
        HeaderItem::Cast(members) => Some(members),
        _ => None,
    })
}

/// A value of the JSON that a step sends, by its number.
fn value<'c>(
    case: &'c mut Case,
    place: usize,
    at: usize,
    watched: &BTreeSet<String>,
) -> Option<&'c mut Pattern> {
    tree::value_at(body(sent(case.flow.steps.get_mut(place)?, watched)?)?, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;
    use crate::fuzz::depart::{Pace, depart, settled};

    /// A conversation of hangout with several messages of ours and a bystander at its end, made small by what `shows`
    /// says of its text and its messages.
    fn small(sure: usize, width: usize, mut shows: impl FnMut(&str, usize) -> bool) -> (Case, usize) {
        let corpus = Corpus::embedded().expect("the corpus is sound");
        let protocol = corpus.protocol("hangout").expect("hangout is built in");
        let file =
            protocol.flows.iter().find(|file| file.name == "props/only-own-entry").expect("it is there");
        let case = depart(file, None, &protocol, "server", Pace::REAL);
        let watched = case.watched(&protocol, "server");
        assert!(case.sends(&watched) > 2);
        let budget = Budget { attempts: 1000, time: Duration::from_secs(600), sure, width };
        let shows = &mut |some: &[Case]| {
            assert!(some.len() <= width);
            some.iter().map(|case| Some(shows(&case.text(&[]), case.sends(&watched)))).collect()
        };
        let small = minimise(case, &protocol, "server", budget, shows);
        let sends = small.sends(&watched);
        (small, sends)
    }

    #[test]
    fn the_bystander_stays_whatever_else_goes() {
        let (case, sends) = small(0, 1, |_, _| true);
        assert_eq!(sends, 0);
        assert!(matches!(case.flow.steps.as_slice(), [Step { kind: StepKind::Served, .. }]));
    }

    #[test]
    fn side_by_side_it_becomes_as_small() {
        // Two messages that need each other, among others.
        let pair = |text: &str, _| text.contains("alice -> server") && text.contains("bob -> server");
        let (_, alone) = small(0, 1, pair);
        assert_eq!(alone, 2);
        assert_eq!(small(0, 5, pair).1, alone);
        // One of many.
        assert_eq!(small(0, 5, |text, _| text.contains("bob -> server")).1, 1);
    }

    #[test]
    fn what_showed_by_luck_is_not_the_smallest() {
        // With fewer than two messages each case shows it once, and never again.
        let lucky = |sure| {
            let mut met = BTreeSet::new();
            small(sure, 1, |text, sends| sends >= 2 || met.insert(text.to_owned())).1
        };
        assert_eq!(lucky(0), 0);
        assert!(lucky(2) >= 2);
    }

    #[test]
    fn news_settles_once_and_before_the_bystander() {
        let (case, _) = small(0, 1, |_, sends| sends >= 1);
        let once = settled(&case).expect("it has no time to settle");
        let kinds = once.flow.steps.iter().rev().map(|step| &step.kind);
        assert!(matches!(kinds.take(2).collect::<Vec<_>>()[..], [StepKind::Served, StepKind::Settle]));
        assert!(settled(&once).is_none());
    }
}
