//! Known failures of a target and requirements it disputes: they do not fail a run, and an entry that is no longer
//! true is told. Where the entries come from is no matter here; `config` reads them from a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::corpus::Protocol;
use crate::flow::resolve::nearest;
use crate::judge::catalogue::{Catalogue, Level};
use crate::judge::finding::{Finding, Ruling};
use crate::pattern::json;
use crate::report::Report;
use crate::runner::verdict::{FlowResult, RequirementVerdict, Verdict};

/// What an entry says about the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It fails, which is known and to be mended.
    Known,
    /// Its makers read the protocol otherwise.
    Disputed,
}

impl Kind {
    /// The word in reports and in the file.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Known => "known",
            Kind::Disputed => "disputed",
        }
    }
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year.
    pub year: i64,
    /// The month, from 1.
    pub month: u8,
    /// The day, from 1.
    pub day: u8,
}

impl Date {
    /// Today, in UTC.
    pub fn today() -> Date {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Date::from_days(i64::try_from(since.as_secs() / 86_400).unwrap_or(0))
    }

    /// The day so many days after 1 January 1970. Counted in years that begin in March, so that the leap day comes last.
    fn from_days(days: i64) -> Date {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = u8::try_from(day_of_year - (153 * shifted + 2) / 5 + 1).unwrap_or(1);
        let month = u8::try_from(if shifted < 10 { shifted + 3 } else { shifted - 9 }).unwrap_or(1);
        Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Known or disputed.
    pub kind: Kind,
    /// The requirement that is broken; any when none is named.
    pub requirement: Option<String>,
    /// The flows in which it is, as a pattern with `*`; all when none is named.
    pub flow: Option<String>,
    /// Why.
    pub reason: String,
    /// Who is going to mend it.
    pub owner: Option<String>,
    /// The last day on which the entry holds.
    pub expires: Option<Date>,
    /// Where it is discussed.
    pub link: Option<String>,
    /// The line of the file where it stands.
    pub line: usize,
}

impl Entry {
    /// What it is about, for people.
    pub fn subject(&self) -> String {
        match (&self.requirement, &self.flow) {
            (Some(id), Some(flow)) => format!("{id} in {flow}"),
            (Some(id), None) => id.clone(),
            (None, Some(flow)) => flow.clone(),
            (None, None) => String::new(),
        }
    }

    fn covers(&self, finding: &Finding, flow: &str) -> bool {
        let named = self.requirement.as_ref();
        named.is_none_or(|id| finding.requirement.as_ref() == Some(id)) && self.covers_flow(flow)
    }

    fn covers_flow(&self, flow: &str) -> bool {
        self.flow.as_deref().is_none_or(|pattern| names(pattern, flow))
    }
}

/// True when a pattern with `*` names a flow; one without a row names all rows of the flow's table.
pub fn names(pattern: &str, flow: &str) -> bool {
    let whole = flow.split('#').next().unwrap_or_default();
    fits(pattern, flow) || (!pattern.contains('#') && fits(pattern, whole))
}

/// `*` stands for any text. Linear in both: only the last star is ever taken back.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Why an entry is no longer true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Its day has passed.
    Expired,
    /// What it names does not exist; the nearest name that does.
    MatchesNothing(Option<String>),
    /// What it excuses is kept now.
    Passes,
}

impl Stale {
    /// The word in reports.
    pub fn word(&self) -> &'static str {
        match self {
            Stale::Expired => "expired",
            Stale::MatchesNothing(_) => "matches nothing",
            Stale::Passes => "passes",
        }
    }
}

/// What the list says about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// The list.
    pub entries: Vec<Entry>,
    /// The entries that excuse something in a flow, by the flow's place in the report.
    excuses: BTreeMap<usize, BTreeSet<usize>>,
    /// What a flow's verdict is without what is excused, where that makes a difference.
    remaining: BTreeMap<usize, Verdict>,
    /// Entries that are no longer true, by their place in the list.
    pub stale: BTreeMap<usize, Stale>,
}

impl Assessment {
    /// Reads the list against a run. A run over a part of the flows does not show what passes.
    pub fn of(
        report: &Report,
        protocol: &Protocol,
        entries: &[Entry],
        partial: bool,
        today: Date,
    ) -> Assessment {
        let mut known = Assessment { entries: entries.to_vec(), ..Assessment::default() };
        for (place, flow) in report.flows.iter().enumerate() {
            known.excuse(place, flow, &protocol.catalogue);
        }
        let used: BTreeSet<usize> = known.excuses.values().flatten().copied().collect();
        for (place, entry) in entries.iter().enumerate() {
            let expired = entry.expires.is_some_and(|last| last < today);
            let stale = if let Some(stale) = matches_nothing(entry, protocol) {
                Some(stale)
            } else if expired {
                Some(Stale::Expired)
            } else if !used.contains(&place) && !partial && holds(entry, report) {
                Some(Stale::Passes)
            } else {
                None
            };
            known.stale.extend(stale.map(|stale| (place, stale)));
        }
        known
    }

    fn excuse(&mut self, place: usize, flow: &FlowResult, catalogue: &Catalogue) {
        let mut remaining = Verdict::Pass;
        let mut used = BTreeSet::new();
        for finding in &flow.findings {
            let must = finding.requirement.as_deref().is_none_or(|id| catalogue.level(id) == Level::Must);
            let verdict = match finding.ruling {
                Ruling::Broken if must => Verdict::Fail,
                Ruling::Broken | Ruling::Tolerated => Verdict::Warn,
                Ruling::Kept | Ruling::Noted | Ruling::Undecided => continue,
            };
            let covering = self.entries.iter().position(|entry| entry.covers(finding, &flow.name));
            match covering {
                Some(entry) => drop(used.insert(entry)),
                None => remaining = remaining.max(verdict),
            }
        }
        if used.is_empty() {
            return;
        }
        self.excuses.insert(place, used);
        if matches!(flow.verdict, Verdict::Fail | Verdict::Warn) && remaining < flow.verdict {
            self.remaining.insert(place, remaining);
        }
    }

    /// The verdict of a flow without what is excused.
    pub fn remaining(&self, place: usize, flow: &FlowResult) -> Verdict {
        self.remaining.get(&place).copied().unwrap_or(flow.verdict)
    }

    /// The entries that excuse something in a flow.
    pub fn excuses(&self, place: usize) -> impl Iterator<Item = &Entry> {
        self.excuses.get(&place).into_iter().flatten().filter_map(|entry| self.entries.get(*entry))
    }

    /// How a flow is excused, when everything in it is.
    pub fn excused(&self, place: usize) -> Option<Kind> {
        (self.remaining.get(&place) == Some(&Verdict::Pass))
            .then(|| self.excuses(place).map(|entry| entry.kind).min())
            .flatten()
    }

    /// The places of the flows that an entry excuses something in.
    pub fn flows_of(&self, entry: usize) -> impl Iterator<Item = usize> {
        self.excuses.iter().filter(move |(_, used)| used.contains(&entry)).map(|(place, _)| *place)
    }

    /// True when an entry that should be taken out or renewed is in the list. What is disputed stays as long as the
    /// dispute does.
    pub fn is_stale(&self) -> bool {
        self.stale.keys().any(|place| self.entries.get(*place).is_some_and(|entry| entry.kind == Kind::Known))
    }
}

/// Entries for everything that fails and that no entry excuses yet: one a requirement. Only what fails the run is
/// taken, so warnings only in a strict one.
pub fn accepted(report: &Report, protocol: &Protocol, strict: bool, today: Date) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (place, flow) in report.flows.iter().enumerate() {
        let remaining = report.known.remaining(place, flow);
        if remaining != Verdict::Fail && !(strict && remaining == Verdict::Warn) {
            continue;
        }
        for finding in &flow.findings {
            let id = finding.requirement.as_ref();
            let must = id.is_none_or(|id| protocol.catalogue.level(id) == Level::Must);
            let fails = match finding.ruling {
                Ruling::Broken => must || strict,
                Ruling::Tolerated => strict,
                Ruling::Kept | Ruling::Noted | Ruling::Undecided => false,
            };
            let mut known = report.known.entries.iter().chain(&entries);
            if !fails || known.any(|entry| entry.covers(finding, &flow.name)) {
                continue;
            }
            entries.push(Entry {
                kind: Kind::Known,
                requirement: id.cloned(),
                flow: id.is_none().then(|| flow.name.clone()),
                reason: format!("failed on {today} in {}: {}", flow.name, json::cut(&finding.message, 160)),
                owner: None,
                expires: None,
                link: None,
                line: 0,
            });
        }
    }
    entries
}

/// Whether an entry names what does not exist.
pub fn matches_nothing(entry: &Entry, protocol: &Protocol) -> Option<Stale> {
    if let Some(id) = &entry.requirement
        && protocol.catalogue.get(id).is_none()
    {
        let known = protocol.catalogue.iter().map(|requirement| requirement.id.as_str());
        return Some(Stale::MatchesNothing(nearest(id, known).map(str::to_owned)));
    }
    let pattern = entry.flow.as_deref()?;
    // The rows of a table are not looked at: the flow is enough.
    let whole = pattern.split('#').next().unwrap_or_default();
    if protocol.flows.iter().any(|file| fits(whole, &file.name)) {
        return None;
    }
    let known = protocol.flows.iter().map(|file| file.name.as_str());
    Some(Stale::MatchesNothing(nearest(whole, known).map(str::to_owned)))
}

/// True when everything an entry excuses was put to the test and held.
fn holds(entry: &Entry, report: &Report) -> bool {
    let kept = |id: &String| {
        let result = report.requirements.iter().find(|requirement| requirement.id == *id);
        result.is_some_and(|requirement| requirement.verdict == RequirementVerdict::Kept)
    };
    match (&entry.requirement, &entry.flow) {
        (Some(id), None) => kept(id),
        (id, _) => {
            let mut ran = report.flows.iter().filter(|flow| entry.covers_flow(&flow.name)).peekable();
            ran.peek().is_some()
                && ran.all(|flow| {
                    matches!(flow.verdict, Verdict::Pass | Verdict::Warn)
                        && id.as_ref().is_none_or(|id| flow.kept.contains(id))
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let date = |days| Date::from_days(days).to_string();
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(20_818), "2026-12-31");
        assert_eq!(date(-1), "1969-12-31");
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(names("ping/*", "ping/answers-pings"));
        assert!(names("*/answers*", "ping/answers-pings#row"));
        assert!(names("robust/served", "robust/served#no-object"));
        assert!(names("robust/served#no-*", "robust/served#no-object"));
        assert!(!names("robust/served#not-*", "robust/served#no-object"));
        assert!(!names("ping", "ping/answers-pings"));
        assert!(names("*", ""));
        assert!(!names("", "x"));
    }
}
