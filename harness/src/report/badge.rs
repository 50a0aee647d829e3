//! A status badge.

use super::sequence::svg::xml;
use super::{Counts, Run};
use crate::judge::catalogue::Level;
use crate::runner::verdict::RequirementVerdict;

/// The width of a character, roughly.
const CHARACTER: usize = 7;

/// Several runs as one small picture.
pub fn badge(runs: &[Run]) -> String {
    let label = match runs {
        [run] => run.report.protocol.clone(),
        _ => "flowproof".to_owned(),
    };
    let (words, colour) = state(runs);
    let (left, right) = (width(&label), width(&words));
    let (whole, middle) = (left + right, left + right / 2);
    let (label, words) = (xml(&label), xml(&words));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{whole}\" height=\"20\" role=\"img\" \
         aria-label=\"{label}: {words}\"><title>{label}: {words}</title><clipPath id=\"r\"><rect width=\"{whole}\" \
         height=\"20\" rx=\"3\"/></clipPath><g clip-path=\"url(#r)\"><rect width=\"{left}\" height=\"20\" \
         fill=\"#484f58\"/><rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{colour}\"/></g><g fill=\"#fff\" \
         text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\"><text x=\"{}\" \
         y=\"14\">{label}</text><text x=\"{middle}\" y=\"14\">{words}</text></g></svg>\n",
        left / 2
    )
}

fn width(text: &str) -> usize {
    text.chars().count() * CHARACTER + 12
}

fn state(runs: &[Run]) -> (String, &'static str) {
    let requirements = || runs.iter().flat_map(|run| &run.report.requirements);
    let count = |verdict| requirements().filter(|requirement| requirement.verdict == verdict).count();
    let kept = count(RequirementVerdict::Kept);
    // A SHOULD that is broken is worth a warning, like a poorer reading.
    let broken_should = requirements()
        .filter(|one| one.verdict == RequirementVerdict::Broken && one.level != Level::Must)
        .count();
    let broken = count(RequirementVerdict::Broken) - broken_should;
    let warned = count(RequirementVerdict::Warned) + broken_should;
    let counts = Counts::of(runs);
    if counts.error > 0 && broken == 0 {
        ("error".to_owned(), "#8250df")
    } else if broken > 0 {
        (format!("{broken} broken, {kept} kept"), "#b62324")
    } else if warned > 0 {
        (format!("{kept} kept, {warned} warned"), "#8a5a00")
    } else if kept > 0 {
        (format!("{kept} kept"), "#1a7f37")
    } else {
        ("nothing judged".to_owned(), "#6e7781")
    }
}
