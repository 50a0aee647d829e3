//! Several findings of one case are looked into with the same plays of it.

use super::super::case::Case;
use crate::runner::verdict::FlowResult;

/// Plays that are kept; those of cases made smaller are hardly the same for another finding.
const KEPT: usize = 6;

/// What came of a case each time that it was played again: several findings of one case are looked into with the same.
#[derive(Default)]
pub(super) struct Plays {
    number: Option<u64>,
    played: Vec<(Case, Option<FlowResult>)>,
    /// Those that the finding at hand has not seen.
    unseen: Vec<usize>,
}

impl Plays {
    /// Another finding is looked into, which the case with this number showed.
    pub(super) fn begin(&mut self, number: u64) {
        if self.number.replace(number) != Some(number) {
            self.played.clear();
        }
        self.unseen = (0..self.played.len()).collect();
    }

    /// Plays that were not seen yet, and new ones where there are none.
    pub(super) fn of(
        &mut self,
        some: &[Case],
        play: impl FnOnce(&[Case]) -> Vec<Option<FlowResult>>,
    ) -> Vec<Option<FlowResult>> {
        let mut results: Vec<Option<FlowResult>> = vec![None; some.len()];
        let mut missing = Vec::new();
        for (place, case) in some.iter().enumerate() {
            match self.unseen.iter().position(|play| self.played[*play].0 == *case) {
                Some(play) => results[place].clone_from(&self.played[self.unseen.remove(play)].1),
                None => missing.push(place),
            }
        }
        let cases: Vec<Case> = missing.iter().map(|place| some[*place].clone()).collect();
        let news = if cases.is_empty() { Vec::new() } else { play(&cases) };
        for ((place, case), result) in missing.into_iter().zip(cases).zip(news) {
            if self.played.len() < KEPT {
                self.played.push((case, result.clone()));
            }
            results[place] = result;
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::ast::Flow;
    use crate::runner::verdict::Verdict;

    fn case(origin: &str) -> Case {
        let flow = Flow { header: Vec::new(), steps: Vec::new(), trailing: Vec::new() };
        Case { flow, origin: origin.to_owned(), departures: Vec::new() }
    }

    #[test]
    fn each_finding_sees_each_play_once() {
        let mut plays = Plays::default();
        let mut played = 0;
        let mut see = |plays: &mut Plays, cases: &[&str]| -> Vec<String> {
            let cases: Vec<Case> = cases.iter().map(|origin| case(origin)).collect();
            let results = plays.of(&cases, |some| {
                some.iter()
                    .map(|case| {
                        played += 1;
                        let name = format!("{}{played}", case.origin);
                        Some(FlowResult::not_run(&name, "", "server", Verdict::Pass, String::new()))
                    })
                    .collect()
            });
            results.into_iter().flatten().map(|result| result.name).collect()
        };
        plays.begin(1);
        assert_eq!(see(&mut plays, &["a", "a"]), ["a1", "a2"]);
        plays.begin(1);
        assert_eq!(see(&mut plays, &["a", "b", "a", "a"]), ["a1", "b3", "a2", "a4"]);
        plays.begin(1);
        assert_eq!(see(&mut plays, &["b", "a"]), ["b3", "a1"]);
        plays.begin(2);
        assert_eq!(see(&mut plays, &["a"]), ["a5"]);
    }
}
