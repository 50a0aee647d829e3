//! The sequence diagram of a flow, as data: lifelines, and what happens between them from top to bottom. The terminal,
//! the page in the browser, SVG and Mermaid draw the same model; how wide a label may be is their business.

mod flow;
pub mod mermaid;
pub mod svg;
pub mod text;

use flowproof_reference::machine::Time;

use crate::corpus::FlowFile;
use crate::flow::ast::{HeaderItem, StepKind};
use crate::judge::finding::{Finding, Ruling};
use crate::pattern::json;
use crate::runner::plan;
use crate::runner::transcript::Line;
use crate::runner::verdict::FlowResult;

pub use flow::of_flow;

/// Characters kept of what was expected and did not come.
const MISSING: usize = 600;

/// A conversation as it is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagram {
    /// Who takes part, from left to right.
    pub lifelines: Vec<String>,
    /// What happens, from top to bottom.
    pub items: Vec<Item>,
}

/// One row of a diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Something goes from one lifeline to another.
    Arrow(Arrow),
    /// Something happens that is no message.
    Note(String),
    /// A frame begins.
    Open(Frame, String),
    /// Another branch of the frame that was opened last begins.
    Else(String),
    /// The frame that was opened last ends.
    Close,
}

/// The kinds of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Other ways the conversation may go.
    Alternatives,
    /// It may happen, or not.
    Optional,
    /// It happens several times.
    Loop,
    /// A limit of time or a freedom of order.
    Region,
}

/// An arrow between two lifelines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    /// When it arrived; a flow that did not run has no times.
    pub at: Option<Time>,
    /// The lifeline it comes from.
    pub from: usize,
    /// The lifeline it goes to.
    pub to: usize,
    /// What travels.
    pub label: String,
    /// The requirements it is evidence for.
    pub cites: Vec<String>,
    /// How it is drawn.
    pub mark: Mark,
}

/// What is to be seen of an arrow at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing about it.
    Plain,
    /// It breaks a requirement.
    Failing,
    /// It breaks a requirement by not being there.
    Missing,
    /// It is lawful but poor.
    Doubtful,
}

impl Mark {
    /// The word in the page's data and in class names.
    pub fn word(self) -> &'static str {
        match self {
            Mark::Plain => "plain",
            Mark::Failing => "failing",
            Mark::Missing => "missing",
            Mark::Doubtful => "doubtful",
        }
    }
}

impl Diagram {
    /// What happened in a flow, with what is wrong marked.
    pub fn of_result(result: &FlowResult, file: Option<&FlowFile>) -> Diagram {
        let lines = result.transcript.lines();
        let mut diagram = Diagram { lifelines: lifelines(lines, file), items: Vec::new() };
        let marks: Vec<(Place, &Finding)> =
            result.findings.iter().filter_map(|finding| Some((place(finding, lines)?, finding))).collect();
        let missing = |after: Option<usize>| {
            let here = marks.iter().filter(move |(place, _)| *place == Place::After(after));
            here.map(|(_, finding)| *finding).collect::<Vec<_>>()
        };
        for finding in missing(None) {
            diagram.miss(finding, file);
        }
        for (index, line) in lines.iter().enumerate() {
            if let Some((before, left_out)) = result.transcript.gap()
                && before == index
            {
                diagram.items.push(Item::Note(format!("{left_out} lines left out")));
            }
            let mark = marks
                .iter()
                .filter(|(place, _)| *place == Place::At(index))
                .map(|(_, finding)| finding.ruling);
            let mark = match mark.min() {
                Some(Ruling::Broken) => Mark::Failing,
                Some(_) => Mark::Doubtful,
                None => Mark::Plain,
            };
            let (from, to) = (diagram.lifeline(&line.from), diagram.lifeline(&line.to));
            diagram.items.push(Item::Arrow(Arrow {
                at: Some(line.at),
                from,
                to,
                label: line.text.clone(),
                cites: Vec::new(),
                mark,
            }));
            for finding in missing(Some(index)) {
                diagram.miss(finding, file);
            }
        }
        diagram
    }

    /// Draws what did not come.
    fn miss(&mut self, finding: &Finding, file: Option<&FlowFile>) {
        let expected = finding.expected.split("   where $").next().unwrap_or_default();
        let label = json::cut(expected, MISSING);
        let label = if label.is_empty() { finding.message.clone() } else { label };
        let receiver = finding.line.and_then(|line| receiver(file?, line, &finding.by));
        let from = self.lifelines.iter().position(|name| *name == finding.by);
        let to = receiver.and_then(|name| self.lifelines.iter().position(|known| *known == name));
        self.items.push(match (from, to) {
            (Some(from), Some(to)) => Item::Arrow(Arrow {
                at: Some(finding.at),
                from,
                to,
                label,
                cites: finding.requirement.iter().cloned().collect(),
                mark: Mark::Missing,
            }),
            _ => Item::Arrow(Arrow {
                at: Some(finding.at),
                from: from.unwrap_or(0),
                to: from.unwrap_or(0),
                label: finding.message.clone(),
                cites: finding.requirement.iter().cloned().collect(),
                mark: Mark::Missing,
            }),
        });
        if self.lifelines.is_empty() {
            self.lifelines.push(finding.by.clone());
        }
    }

    fn lifeline(&mut self, name: &str) -> usize {
        match self.lifelines.iter().position(|known| known == name) {
            Some(place) => place,
            None => {
                self.lifelines.push(name.to_owned());
                self.lifelines.len() - 1
            }
        }
    }

    /// The rows around what is wrong, or the last ones: so many, with the lifelines they need.
    pub fn around_the_fault(&self, rows: usize) -> Diagram {
        let wrong = self.items.iter().rposition(
            |item| matches!(item, Item::Arrow(arrow) if matches!(arrow.mark, Mark::Failing | Mark::Missing)),
        );
        let end = wrong.map_or(self.items.len(), |place| place + 1);
        self.part(end.saturating_sub(rows)..end)
    }

    fn part(&self, range: std::ops::Range<usize>) -> Diagram {
        let items = &self.items[range];
        let used = |place: usize| {
            items
                .iter()
                .any(|item| matches!(item, Item::Arrow(arrow) if arrow.from == place || arrow.to == place))
        };
        let kept: Vec<usize> = (0..self.lifelines.len()).filter(|place| used(*place)).collect();
        let moved = |place: usize| kept.iter().position(|old| *old == place).unwrap_or(0);
        let items = items.iter().map(|item| match item {
            Item::Arrow(arrow) => {
                Item::Arrow(Arrow { from: moved(arrow.from), to: moved(arrow.to), ..arrow.clone() })
            }
            other => other.clone(),
        });
        Diagram {
            items: items.collect(),
            lifelines: kept.iter().map(|place| self.lifelines[*place].clone()).collect(),
        }
    }
}

/// The participants in the order of the cast, and whoever else spoke; those who did nothing are left out.
fn lifelines(lines: &[Line], file: Option<&FlowFile>) -> Vec<String> {
    let mut spoke: Vec<&str> = Vec::new();
    for line in lines {
        for name in [&line.from, &line.to] {
            if !spoke.contains(&name.as_str()) {
                spoke.push(name);
            }
        }
    }
    let cast = file.into_iter().flat_map(|file| &file.flow.header).filter_map(|line| match &line.item {
        HeaderItem::Cast(members) => Some(members),
        _ => None,
    });
    let cast: Vec<&str> = cast.flatten().map(|member| member.name.text.as_str()).collect();
    // One of a crowd is called after it, with a number.
    let rank = |name: &str| {
        let crowd = name.rsplit_once('.').map_or(name, |(crowd, _)| crowd);
        cast.iter().position(|known| *known == name || *known == crowd).unwrap_or(cast.len())
    };
    spoke.sort_by_key(|name| rank(name));
    spoke.into_iter().map(str::to_owned).collect()
}

/// Where in a conversation a finding shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// This line shows it.
    At(usize),
    /// Something is missing behind this line, or before all of them.
    After(Option<usize>),
}

fn place(finding: &Finding, lines: &[Line]) -> Option<Place> {
    if !matches!(finding.ruling, Ruling::Broken | Ruling::Tolerated) {
        return None;
    }
    let before = lines.iter().rposition(|line| line.at <= finding.at);
    if finding.actual.is_null() {
        return Some(Place::After(before));
    }
    let said = |line: &&Line| line.at <= finding.at && (finding.by.is_empty() || line.from == finding.by);
    let shows = |line: &&Line| {
        finding.actual.as_str() == Some(&line.text)
            || serde_json::from_str(&line.text).is_ok_and(|value| json::same(&value, &finding.actual))
    };
    let behind = |wanted: &dyn Fn(&&Line) -> bool| {
        lines.iter().enumerate().rev().find(|(_, line)| said(line) && wanted(line)).map(|(place, _)| place)
    };
    let found =
        behind(&shows).or_else(|| behind(&|line| line.at == finding.at)).or_else(|| behind(&|_| true));
    Some(found.map_or(Place::After(before), Place::At))
}

/// Who was to receive what the arrow on a line says.
fn receiver(file: &FlowFile, line: usize, by: &str) -> Option<String> {
    let mut found = None;
    plan::walk(&file.flow.steps, &mut |step| {
        if let StepKind::Arrow { from, to, .. } = &step.kind
            && file.line(step.span.start) == line
            && from.text == by
        {
            found = Some(to.text.clone());
        }
    });
    found
}
