//! The projection: a flow, the role under test and one row of its table become a plan that says who is watched and
//! who is played.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::corpus::{FlowFile, Protocol};
use crate::flow::ast::{Block, Examples, HeaderItem, Name, Payload, Step, StepKind};
use crate::pattern::Bound;

/// Whether a client under test can be told what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// It takes no stimuli.
    None,
    /// It may: one that does not act on them is not blamed.
    Perhaps,
    /// It does.
    Certain,
}

/// What the run offers, beside the flow itself.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The edition in force.
    pub edition: String,
    /// Variables given from outside: tokens, ids.
    pub variables: BTreeMap<String, String>,
    /// Whether clients under test take stimuli.
    pub driver: Driver,
    /// The `Host` header of upgrades.
    pub host: String,
    /// The path of upgrades when a flow names none.
    pub path: String,
    /// Allowance on every limit.
    pub slack: Duration,
    /// How long an arrow waits.
    pub timeout: Duration,
    /// True when nobody else uses the target.
    pub exclusive: bool,
    /// True when strangers use the target at the same time.
    pub shared: bool,
    /// Seeds everything that is drawn.
    pub seed: u64,
}

/// A participant of a planned flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its name; one of a crowd is `crowd.7`.
    pub name: String,
    /// Its role.
    pub role: String,
    /// True when it is watched, false when it is played.
    pub under_test: bool,
    /// True when others connect to it.
    pub listens: bool,
}

/// A flow ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The flow.
    pub file: Arc<FlowFile>,
    /// The flow's name, with the row of its table.
    pub name: String,
    /// The role under test.
    pub role: String,
    /// Who takes part.
    pub cast: Vec<Participant>,
    /// The names of the flow text, each standing for one or, for a crowd, several of the cast.
    pub names: BTreeMap<String, Vec<usize>>,
    /// The variables of the row, and those given from outside.
    pub bound: Vec<(String, Bound)>,
    /// Requirements that the flow cites or is about.
    pub cited: BTreeSet<String>,
    /// Background traffic: the protocol's and the flow's own.
    pub ignoring: Vec<Payload>,
    /// Who is accused of what nobody expected.
    pub unexpected: Option<String>,
    /// The settings of the run.
    pub settings: RunSettings,
}

/// A flow that will not run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The flow's name, with the row of its table.
    pub name: String,
    /// Why, in words for a person.
    pub reason: String,
}

/// The rows of a flow: one for a flow without a table.
fn rows(file: &FlowFile) -> Vec<(String, Vec<(String, Bound)>)> {
    let table = file.flow.header.iter().find_map(|line| match &line.item {
        HeaderItem::Examples(examples) => Some(examples),
        _ => None,
    });
    let Some(table) = table else { return vec![(file.name.clone(), Vec::new())] };
    let mut used = BTreeSet::new();
    let mut rows = Vec::new();
    for (index, row) in table.rows.iter().enumerate() {
        let bound: Vec<(String, Bound)> = table
            .columns
            .iter()
            .zip(&row.cells)
            .map(|(column, cell)| {
                let bound = match cell {
                    Payload::Json(pattern) => Bound::Pattern(pattern.clone()),
                    other => Bound::Payload(other.clone()),
                };
                (column.text.clone(), bound)
            })
            .collect();
        let mut label = row_label(table, &bound).unwrap_or_else(|| (index + 1).to_string());
        if !used.insert(label.clone()) {
            label = format!("{label}-{}", index + 1);
            used.insert(label.clone());
        }
        rows.push((format!("{}#{label}", file.name), bound));
    }
    rows
}

/// The row's `case`, as a word that needs no quoting in a shell.
fn row_label(table: &Examples, bound: &[(String, Bound)]) -> Option<String> {
    let column = table.columns.iter().position(|column| column.text == "case")?;
    let Bound::Pattern(pattern) = &bound.get(column)?.1 else { return None };
    let text = crate::pattern::text_of(pattern, &crate::pattern::Bindings::default()).ok()?;
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() {
            slug.extend(c.to_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-').to_owned();
    (!slug.is_empty()).then_some(slug)
}

/// True when the flow, read for `role`, could find a requirement of that role kept or broken.
pub fn judges_role(file: &FlowFile, protocol: &Protocol, role: &str) -> bool {
    cited(file).iter().any(|id| protocol.catalogue.binds(id, role))
}

/// Every requirement that the flow cites, is about, or accuses.
pub fn cited(file: &FlowFile) -> BTreeSet<String> {
    let mut ids: BTreeSet<String> = file.about().into_iter().map(str::to_owned).collect();
    for line in &file.flow.header {
        if let HeaderItem::Unexpected(names) = &line.item {
            ids.extend(names.iter().map(|name| name.text.clone()));
        }
    }
    walk(&file.flow.steps, &mut |step| {
        ids.extend(step.cites.iter().map(|name| name.text.clone()));
        if let StepKind::Either(branches) = &step.kind {
            ids.extend(branches.iter().flat_map(|branch| &branch.cites).map(|name| name.text.clone()));
        }
    });
    ids
}

/// Visits every step, blocks included, top to bottom.
pub fn walk<'a>(steps: &'a [Step], visit: &mut impl FnMut(&'a Step)) {
    for step in steps {
        visit(step);
        for block in blocks(&step.kind) {
            walk(&block.steps, visit);
        }
    }
}

/// The blocks of a step.
pub fn blocks(kind: &StepKind) -> Vec<&Block> {
    match kind {
        StepKind::Within { block, .. } | StepKind::Every { block, .. } | StepKind::Repeat { block, .. } => {
            vec![block]
        }
        StepKind::AnyOrder(block) | StepKind::Optionally(block) => vec![block],
        StepKind::Either(branches) => branches.iter().map(|branch| &branch.block).collect(),
        _ => Vec::new(),
    }
}

/// Plans every row of a flow for one role, or says why it is skipped.
pub fn plan(
    file: &Arc<FlowFile>,
    protocol: &Protocol,
    role: &str,
    settings: &RunSettings,
) -> Vec<Result<Plan, Skipped>> {
    let skip = skip_reason(file, protocol, role, settings);
    let (cast, names) = cast(file, protocol, role);
    let mut ignoring = protocol.ignoring.clone();
    let mut unexpected = protocol.settings.unexpected.clone();
    for line in &file.flow.header {
        match &line.item {
            HeaderItem::Ignoring(payload) => ignoring.push(payload.clone()),
            HeaderItem::Unexpected(ids) => unexpected = ids.first().map(|name| name.text.clone()),
            _ => {}
        }
    }
    // What arrives at a client is not the business of a rule that binds servers only; and where strangers talk too,
    // nobody can say what was to be expected.
    let unexpected = unexpected.filter(|id| protocol.catalogue.binds(id, role) && !settings.shared);
    let outside = settings.variables.iter().chain(&protocol.settings.settings);
    let outside = first_of_each(outside);
    rows(file)
        .into_iter()
        .map(|(name, row)| match &skip {
            Some(reason) => Err(Skipped { name, reason: reason.clone() }),
            None => {
                let given = outside
                    .iter()
                    .map(|(name, value)| ((*name).clone(), Bound::Value((*value).clone().into())));
                Ok(Plan {
                    file: Arc::clone(file),
                    name,
                    role: role.to_owned(),
                    cast: cast.clone(),
                    names: names.clone(),
                    bound: given.chain(row).collect(),
                    cited: cited(file),
                    ignoring: ignoring.clone(),
                    unexpected: unexpected.clone(),
                    settings: settings.clone(),
                })
            }
        })
        .collect()
}

/// The first value given for each name.
fn first_of_each<'a>(
    pairs: impl Iterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<&'a String, &'a String> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        map.entry(name).or_insert(value);
    }
    map
}

fn skip_reason(file: &FlowFile, protocol: &Protocol, role: &str, settings: &RunSettings) -> Option<String> {
    let editions = file.editions();
    if !editions.is_empty() && !editions.contains(&settings.edition.as_str()) {
        return Some(format!("belongs to edition {}, not {}", editions.join(", "), settings.edition));
    }
    if settings.shared && file.tags().contains(&"alone") {
        return Some("needs the target for itself, and --shared says that strangers use it".to_owned());
    }
    for need in file.needs() {
        if !settings.variables.contains_key(need) && !protocol.settings.settings.contains_key(need) {
            return Some(format!("needs `{need}`; give it with --var {need}=..."));
        }
    }
    let under_test = subjects(file, protocol, role);
    let mut driven = false;
    walk(&file.flow.steps, &mut |step| {
        if let StepKind::Does { who, .. } = &step.kind {
            driven |= under_test.contains(&who.text);
        }
    });
    if driven && settings.driver == Driver::None {
        return Some("needs a driver: somebody has to tell the program what to do".to_owned());
    }
    None
}

/// The participants that are watched when `role` is under test: of a role that listens all; of another those that
/// are told what to do, else those whose arrows cite a requirement of the role, else the first.
fn subjects(file: &FlowFile, protocol: &Protocol, role: &str) -> BTreeSet<String> {
    let members = cast_members(file);
    let of_role: Vec<&str> =
        members.iter().filter(|(_, known, _)| *known == role).map(|(name, ..)| name.text.as_str()).collect();
    if listens(protocol, role) {
        return of_role.into_iter().map(str::to_owned).collect();
    }
    let mut driven = BTreeSet::new();
    let mut citing = BTreeSet::new();
    walk(&file.flow.steps, &mut |step| {
        let (who, set) = match &step.kind {
            StepKind::Does { who, .. } => (who, &mut driven),
            StepKind::Arrow { from, .. } => (from, &mut citing),
            StepKind::Connects { who, .. } | StepKind::Disconnects { who, .. } => (who, &mut citing),
            _ => return,
        };
        let cites = step.cites.iter().any(|id| protocol.catalogue.binds(&id.text, role));
        if of_role.contains(&who.text.as_str()) && (cites || matches!(step.kind, StepKind::Does { .. })) {
            set.insert(who.text.clone());
        }
    });
    if !driven.is_empty() {
        driven
    } else if !citing.is_empty() {
        citing
    } else {
        of_role.first().map(|name| (*name).to_owned()).into_iter().collect()
    }
}

fn listens(protocol: &Protocol, role: &str) -> bool {
    protocol.settings.roles.iter().any(|known| known.name == role && known.listens)
}

fn cast_members(file: &FlowFile) -> Vec<(&Name, &str, Option<u32>)> {
    let lists = file.flow.header.iter().filter_map(|line| match &line.item {
        HeaderItem::Cast(members) => Some(members),
        _ => None,
    });
    lists
        .flatten()
        .map(|member| {
            let role = member.role.as_ref().unwrap_or(&member.name);
            (&member.name, role.text.as_str(), member.count)
        })
        .collect()
}

/// The participants of a flow, and what each name of its text stands for.
pub fn cast(
    file: &FlowFile,
    protocol: &Protocol,
    role: &str,
) -> (Vec<Participant>, BTreeMap<String, Vec<usize>>) {
    let under_test = subjects(file, protocol, role);
    let mut cast = Vec::new();
    let mut names = BTreeMap::new();
    for (name, known, count) in cast_members(file) {
        let mut places = Vec::new();
        for number in 1..=count.unwrap_or(1) {
            places.push(cast.len());
            cast.push(Participant {
                name: if count.is_some() { format!("{}.{number}", name.text) } else { name.text.clone() },
                role: known.to_owned(),
                under_test: under_test.contains(&name.text),
                listens: listens(protocol, known),
            });
        }
        names.insert(name.text.clone(), places);
    }
    (cast, names)
}
