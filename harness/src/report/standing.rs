//! What the list of known failures says about a run, for a person at a terminal.

use super::Report;
use super::text::Style;
use crate::corpus::Protocol;
use crate::diagnostic::escape;
use crate::known::{Entry, Kind, Stale, matches_nothing};
use crate::pattern::json;

/// Characters of a reason.
const REASON: usize = 120;

/// Before a run: how long the list is, and which entries name what does not exist.
pub fn plan(entries: &[Entry], protocol: &Protocol, style: Style) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let count = |kind| entries.iter().filter(|entry| entry.kind == kind).count();
    let mut text = format!("{} known failures, {} disputed\n", count(Kind::Known), count(Kind::Disputed));
    for entry in entries {
        if let Some(stale) = matches_nothing(entry, protocol) {
            let line = format!("{} entry {} {}", entry.kind.word(), escape(&entry.subject()), told(&stale));
            text.push_str(&format!("{}\n", style.doubtful(&line)));
        }
    }
    text
}

/// After it: what is excused, and which entries are no longer true.
pub fn summary(report: &Report, file: &str, style: Style) -> String {
    let known = &report.known;
    let mut text = String::new();
    for (kind, title) in [(Kind::Known, "known failures"), (Kind::Disputed, "disputed")] {
        let here =
            |place: &usize| !known.stale.contains_key(place) && known.flows_of(*place).next().is_some();
        let entries = known.entries.iter().enumerate();
        let lines: Vec<String> = entries
            .filter(|(place, entry)| entry.kind == kind && here(place))
            .map(|(place, entry)| {
                let flows = known.flows_of(place).count();
                let flows = if flows == 1 { "1 flow".to_owned() } else { format!("{flows} flows") };
                let owner =
                    entry.owner.as_ref().map(|owner| format!(", {}", escape(owner))).unwrap_or_default();
                let until = entry.expires.map(|date| format!(", until {date}")).unwrap_or_default();
                let link = entry.link.as_ref().map(|link| format!(", {}", escape(link))).unwrap_or_default();
                format!(
                    "  {} in {flows}: {}{owner}{until}{link}\n",
                    escape(&entry.subject()),
                    json::cut(&escape(&entry.reason).replace('\n', " "), REASON)
                )
            })
            .collect();
        if !lines.is_empty() {
            text.push_str(&format!("{title}\n{}", lines.concat()));
        }
    }
    if !known.stale.is_empty() {
        text.push_str("entries that are no longer true\n");
    }
    for (place, stale) in &known.stale {
        let Some(entry) = known.entries.get(*place) else { continue };
        let line = format!(
            "  {} {} ({}:{}) {}",
            entry.kind.word(),
            escape(&entry.subject()),
            escape(file),
            entry.line,
            told(stale)
        );
        text.push_str(&format!("{}\n", style.doubtful(&line)));
    }
    text
}

fn told(stale: &Stale) -> String {
    match stale {
        Stale::Expired => "has expired: mend it, or give it another day".to_owned(),
        Stale::MatchesNothing(None) => "matches nothing: take it out".to_owned(),
        Stale::MatchesNothing(Some(near)) => format!("matches nothing; did you mean `{near}`?"),
        Stale::Passes => "passes: take it out".to_owned(),
    }
}
