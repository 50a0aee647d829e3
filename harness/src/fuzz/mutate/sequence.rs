//! Changes to who says what, when and how often: dropped, repeated, swapped, said by another, said again later, cut off in
//! the middle.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{LONGEST, Mutator};
use crate::flow::ast::{Block, CloseSpec, Step, StepKind};
use crate::fuzz::case::{Case, name, step};

/// How often a message is repeated.
const FLOODS: &[u32] = &[2, 3, 10, 50];
/// Messages that a crowd may say at most, one after another.
const CROWDED: u32 = 400;
/// Pauses in milliseconds.
const PAUSES: &[u64] = &[1, 10, 100, 600, 1100, 2100, 5100, 21_000];
/// Messages in a volley.
const VOLLEY: usize = 24;

impl Mutator<'_> {
    pub(super) fn change_sequence(&mut self, case: &mut Case, watched: &BTreeSet<String>) -> Option<String> {
        let sends = self.sends(case, watched);
        let played = self.played(case, watched);
        // The bystander at the end stays there.
        let end = case.flow.steps.len()
            - usize::from(matches!(case.flow.steps.last(), Some(Step { kind: StepKind::Served, .. })));
        if end == 0 {
            return None;
        }
        match self.rng.u8(..17) {
            0 | 1 => {
                let place = self.rng.usize(..end);
                case.flow.steps.remove(place);
                Some("a step is left out".to_owned())
            }
            2 => {
                let place = *self.one_of(&sends)?;
                let again = case.flow.steps[place].clone();
                case.flow.steps.insert(place + 1, again);
                Some("a message is said twice".to_owned())
            }
            3 => {
                let place = *self.one_of(&sends)?;
                // All of a crowd say it.
                let crowd = case.cast().iter().filter_map(|member| member.count).max().unwrap_or(1);
                let times = (*self.one_of(FLOODS)?).min((CROWDED / crowd).max(2));
                let block = Block { steps: vec![case.flow.steps[place].clone()], trailing: Vec::new() };
                case.flow.steps[place] = step(StepKind::Repeat { times, counter: None, block });
                Some(format!("a message is said {times} times"))
            }
            4 | 5 => {
                let from = *self.one_of(&sends)?;
                let to = self.rng.usize(..end);
                let moved = case.flow.steps.remove(from);
                case.flow.steps.insert(to.min(case.flow.steps.len()), moved);
                Some("a message is said at another time".to_owned())
            }
            6 | 7 => {
                let from = *self.one_of(&sends)?;
                let to = self.rng.usize(from..end) + 1;
                let again = case.flow.steps[from].clone();
                case.flow.steps.insert(to.min(end), again);
                Some("a message is said again later".to_owned())
            }
            8 | 9 => {
                let place = *self.one_of(&sends)?;
                let StepKind::Arrow { from, .. } = &mut case.flow.steps[place].kind else { return None };
                let other = self.one_of(&played)?;
                from.text.clone_from(other);
                Some("a message is said by another".to_owned())
            }
            10 | 11 => {
                let (place, extra) = self.said(case, watched, end)?;
                case.flow.steps.insert(place, extra);
                Some("a message of another flow comes between".to_owned())
            }
            12 => {
                let who = name(self.one_of(&played)?);
                let place = self.rng.usize(..=end);
                let kind = match self.rng.u8(..3) {
                    0 => StepKind::Disconnects { who, close: CloseSpec::default() },
                    _ => StepKind::Vanishes { who },
                };
                case.flow.steps.insert(place, step(kind));
                Some("somebody goes".to_owned())
            }
            13 => {
                let who = self.one_of(&played)?.clone();
                let gone = case.flow.steps.iter().position(|known| {
                    matches!(&known.kind, StepKind::Vanishes { who: one } | StepKind::Disconnects { who: one, .. } if one.text == who)
                });
                let place = gone.map_or_else(|| self.rng.usize(..=end), |gone| gone + 1);
                // As she came the first time.
                let options = case.flow.steps.iter().find_map(|known| match &known.kind {
                    StepKind::Connects { who: one, options, .. } if one.text == who => Some(options.clone()),
                    _ => None,
                });
                let options = options.unwrap_or_default();
                case.flow
                    .steps
                    .insert(place, step(StepKind::Connects { who: name(&who), to: None, options }));
                Some("somebody connects again".to_owned())
            }
            14 => {
                let place = self.rng.usize(..=end);
                let longest = self.pool.longest_pause;
                let pauses = PAUSES.iter().map(|pause| Duration::from_millis(*pause));
                let pauses: Vec<Duration> = pauses.filter(|pause| *pause <= longest).collect();
                let pause = *self.one_of(&pauses)?;
                case.flow.steps.insert(place, step(StepKind::Wait(pause)));
                Some("there is a pause".to_owned())
            }
            15 => {
                let who = name(self.one_of(&played)?);
                let place = self.rng.usize(..=end);
                case.flow.steps.insert(place, step(StepKind::Stalls { who: who.clone() }));
                let later = self.rng.usize(place..=end) + 1;
                case.flow.steps.insert(later.min(case.flow.steps.len()), step(StepKind::Resumes { who }));
                Some("somebody stops reading for a while".to_owned())
            }
            _ => {
                let count = self.rng.usize(2..VOLLEY);
                let first = self.rng.usize(..=end);
                let room = LONGEST.saturating_sub(case.flow.steps.len());
                for place in first..first + count.min(room) {
                    let (_, extra) = self.said(case, watched, end)?;
                    case.flow.steps.insert(place, extra);
                }
                Some(format!("{count} messages of other flows come between"))
            }
        }
    }

    /// Those we play, without their further sockets.
    fn played(&self, case: &Case, watched: &BTreeSet<String>) -> Vec<String> {
        let cast = case.cast().into_iter();
        let played = cast.filter(|member| !watched.contains(&member.name.text) && member.socket_of.is_none());
        played.map(|member| member.name.text.clone()).collect()
    }

    /// A message that some flow says, said here by somebody of the same role.
    fn said(&mut self, case: &Case, watched: &BTreeSet<String>, end: usize) -> Option<(usize, Step)> {
        let pool = self.pool;
        let said = self.one_of(&pool.said)?.clone();
        let cast = case.cast();
        let of_role: Vec<String> = cast
            .iter()
            .filter(|member| !watched.contains(&member.name.text) && member.socket_of.is_none())
            .filter(|member| member.role.as_ref().unwrap_or(&member.name).text == said.role)
            .map(|member| member.name.text.clone())
            .collect();
        let from = name(self.one_of(&of_role)?);
        let all: Vec<String> = watched.iter().cloned().collect();
        let to = name(self.one_of(&all)?);
        // After somebody has come, where somebody has to.
        let first = case.flow.steps.iter().position(|step| matches!(step.kind, StepKind::Connects { .. }));
        let first = first.map_or(0, |first| first + 1).min(end);
        let place = self.rng.usize(first..=end);
        Some((place, step(StepKind::Arrow { from, to, payload: said.payload })))
    }
}
