//! Changes to a case: to what is said ([`value`]), to how it travels ([`wire`]), to who says it, when and how often
//! ([`sequence`]).

pub mod sequence;
pub mod value;
pub mod wire;

use std::collections::BTreeSet;

use fastrand::Rng;

use super::case::Case;
use super::pool::Pool;
use crate::corpus::Protocol;

/// Steps that a case may grow to.
pub const LONGEST: usize = 400;

/// Makes changes.
pub struct Mutator<'a> {
    /// The protocol.
    pub protocol: &'a Protocol,
    /// The role under test.
    pub role: &'a str,
    /// What changes are made from.
    pub pool: &'a Pool,
    /// Where draws come from.
    pub rng: Rng,
}

impl Mutator<'_> {
    /// Changes a case somewhere; the change is written down in its departures. Without anything to change it stays.
    pub fn change(&mut self, case: &mut Case) {
        let watched = case.watched(self.protocol, self.role);
        // Half of the changes are to what is said; the rest to the order of things and to how they travel.
        let done = match self.rng.u8(..16) {
            0..=6 => self.change_value(case, &watched),
            7..=8 => self.change_wire(case, &watched),
            _ => self.change_sequence(case, &watched),
        };
        case.departures.extend(done);
        case.flow.steps.truncate(LONGEST);
    }

    /// One of these.
    pub(super) fn one_of<'b, T>(&mut self, all: &'b [T]) -> Option<&'b T> {
        if all.is_empty() { None } else { all.get(self.rng.usize(..all.len())) }
    }

    /// The places of messages to those under test.
    fn sends(&self, case: &Case, watched: &BTreeSet<String>) -> Vec<usize> {
        let places = case.flow.steps.iter().enumerate();
        places.filter(|(_, step)| super::case::is_send(step, watched)).map(|(place, _)| place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;
    use crate::fuzz::depart::Pace;
    use crate::runner::plan::RunSettings;

    #[test]
    fn whatever_is_changed_can_be_written_and_read_again() {
        let corpus = Corpus::embedded().expect("the corpus is sound");
        for protocol in corpus.protocols() {
            let role = protocol.settings.roles[0].name.clone();
            let settings = RunSettings::in_memory(&protocol, &protocol.settings.default_edition, 1);
            let pool = Pool::of(&protocol, &role, &settings, Pace::VIRTUAL);
            let rng = Rng::with_seed(7);
            let mut mutator = Mutator { protocol: &protocol, role: &role, pool: &pool, rng };
            for base in &pool.sequences {
                let mut case = base.clone();
                for _ in 0..12 {
                    mutator.change(&mut case);
                    let text = case.text(&[]);
                    if let Err(error) = case.file("changed", &[]) {
                        panic!("{error}\n{:?}\n{text}", case.departures);
                    }
                }
            }
        }
    }
}
