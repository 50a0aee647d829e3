//! A case: one conversation to be had, as the tree of a flow.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::corpus::{FlowFile, Protocol};
use crate::flow::ast::{
    CastMember, Flow, HeaderItem, HeaderLine, Name, Payload, Span, Step, StepKind, Trivia,
};
use crate::flow::format::format;
use crate::runner::plan::{self, Plan, RunSettings};

/// What a case is called before it has found anything.
pub const UNNAMED: &str = "case";

/// One conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What is said.
    pub flow: Flow,
    /// The flows it was made of.
    pub origin: String,
    /// What was changed, in words.
    pub departures: Vec<String>,
}

impl Case {
    /// A flow as it is written, one row of its table.
    pub fn as_written(file: &FlowFile, row: Option<usize>) -> Case {
        let mut flow = file.flow.clone();
        if let Some(row) = row {
            for line in &mut flow.header {
                if let HeaderItem::Examples(table) = &mut line.item {
                    let kept = table.rows.get(row).cloned();
                    table.rows = kept.into_iter().collect();
                }
            }
        }
        Case { flow, origin: file.name.clone(), departures: Vec::new() }
    }

    /// True when it has left the path of the protocol.
    pub fn is_astray(&self) -> bool {
        self.flow.header.iter().any(|line| match &line.item {
            HeaderItem::Tags(tags) => tags.iter().any(|tag| tag.text == plan::ASTRAY),
            _ => false,
        })
    }

    /// Who takes part.
    pub fn cast(&self) -> Vec<&CastMember> {
        let lists = self.flow.header.iter().filter_map(|line| match &line.item {
            HeaderItem::Cast(members) => Some(members),
            _ => None,
        });
        lists.flatten().collect()
    }

    /// The names of those under test when `role` is.
    pub fn watched(&self, protocol: &Protocol, role: &str) -> BTreeSet<String> {
        let file = self.unwritten(UNNAMED);
        let (cast, names) = plan::cast(&file, protocol, role);
        let watched = |places: &Vec<usize>| places.iter().any(|place| cast[*place].under_test);
        names.into_iter().filter(|(_, places)| watched(places)).map(|(name, _)| name).collect()
    }

    /// Its text, as it is written to a file, below these lines of comment.
    pub fn text(&self, comment: &[String]) -> String {
        let mut flow = self.flow.clone();
        if let Some(first) = flow.header.first_mut() {
            first.leading = comment.iter().map(|line| Trivia::Comment(format!(" {line}"))).collect();
        }
        format(&flow)
    }

    /// Its file as it would be read back from [`Case::text`].
    pub fn file(&self, name: &str, comment: &[String]) -> Result<Arc<FlowFile>, String> {
        let file = FlowFile::parse(name.to_owned(), format!("{name}.flow"), self.text(comment))?;
        Ok(Arc::new(file))
    }

    /// Its file, never written: lines are not known.
    pub fn unwritten(&self, name: &str) -> FlowFile {
        FlowFile {
            name: name.to_owned(),
            path: format!("{name}.flow"),
            source: String::new(),
            flow: self.flow.clone(),
        }
    }

    /// The plan for its only row, or why it cannot be played.
    pub fn plan(&self, protocol: &Protocol, role: &str, settings: &RunSettings) -> Result<Plan, String> {
        plan_of(&Arc::new(self.unwritten(UNNAMED)), protocol, role, settings)
    }

    /// Messages that we send: arrows to those under test.
    pub fn sends(&self, watched: &BTreeSet<String>) -> usize {
        let mut count = 0;
        plan::walk(&self.flow.steps, &mut |step| count += usize::from(is_send(step, watched)));
        count
    }
}

/// The plan for a file's first row, or why it cannot be played.
pub fn plan_of(
    file: &Arc<FlowFile>,
    protocol: &Protocol,
    role: &str,
    settings: &RunSettings,
) -> Result<Plan, String> {
    let planned = plan::plan(file, protocol, role, settings).into_iter().next();
    let planned = planned.ok_or("the flow has a table without rows")?;
    let plan = planned.map_err(|skipped| skipped.reason)?;
    if plan.cast.iter().any(|one| one.under_test) {
        Ok(plan)
    } else {
        Err("nobody in it is under test".to_owned())
    }
}

/// True for a message to somebody under test.
pub(super) fn is_send(step: &Step, watched: &BTreeSet<String>) -> bool {
    matches!(&step.kind, StepKind::Arrow { from, to, .. } if watched.contains(&to.text) && !watched.contains(&from.text))
}

/// The payload of a message to somebody under test.
pub(super) fn sent<'a>(step: &'a mut Step, watched: &BTreeSet<String>) -> Option<&'a mut Payload> {
    match &mut step.kind {
        StepKind::Arrow { from, to, payload }
            if watched.contains(&to.text) && !watched.contains(&from.text) =>
        {
            Some(payload)
        }
        _ => None,
    }
}

/// A name that stands nowhere.
pub(super) fn name(text: &str) -> Name {
    Name { text: text.to_owned(), span: Span::default() }
}

/// A step that stands nowhere.
pub(super) fn step(kind: StepKind) -> Step {
    Step { leading: Vec::new(), kind, cites: Vec::new(), comment: None, span: Span::default() }
}

/// A header line that stands nowhere.
pub(super) fn line(item: HeaderItem) -> HeaderLine {
    HeaderLine { leading: Vec::new(), item, comment: None, span: Span::default() }
}
