//! The projection: a flow, the role under test and one row of its table become a plan that says who is watched and
//! who is played.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::corpus::{FlowFile, Protocol, TransportKind};
use crate::flow::ast::{
    Block, Examples, HeaderItem, Name, Pattern, PatternKind, Payload, Span, Step, StepKind,
};
use crate::pattern::Bound;
use crate::sinner::Sinner;

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

/// The tag of a flow that has left the path of its protocol, as those of the fuzzer have: its arrows only bind names
/// where they fit, what cannot be done is left out, and only monitors, schemas and what a step cites accuse.
pub const ASTRAY: &str = "astray";
/// How long a flow that went astray waits for what may never come, where nothing is known of the target.
pub const ASTRAY_PATIENCE: Duration = Duration::from_millis(200);

/// How long a program may take to come up, unless told otherwise.
pub const STARTUP: Duration = Duration::from_secs(20);

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
    /// A fault that is planted between the program under test and the flow.
    pub planted: Option<Arc<Sinner>>,
    /// Allowance on every limit.
    pub slack: Duration,
    /// How long an arrow waits.
    pub timeout: Duration,
    /// How long a flow that has left the path waits for what may never come.
    pub astray: Duration,
    /// How long a program that was started may take until it listens, or connects for the first time.
    pub startup: Duration,
    /// True when the program under test is ours to start and to stop, so that its end can be seen.
    pub started: bool,
    /// True when nobody else uses the target.
    pub exclusive: bool,
    /// True when strangers use the target at the same time.
    pub shared: bool,
    /// True when everybody we play can have an IP address of their own.
    pub addresses: bool,
    /// True when the party under test can be given the addresses of others before it begins.
    pub told: bool,
    /// Seeds everything that is drawn.
    pub seed: u64,
    /// Flows that are not run, as patterns with `*`, and why.
    pub skips: Vec<(String, String)>,
}

impl RunSettings {
    /// Those of a run against the built-in references in memory.
    pub fn in_memory(protocol: &Protocol, edition: &str, seed: u64) -> RunSettings {
        RunSettings {
            edition: edition.to_owned(),
            variables: super::variables::variables(&protocol.settings, BTreeMap::new(), true),
            driver: Driver::Certain,
            host: "localhost".to_owned(),
            path: protocol.settings.transport(edition).default_path.clone(),
            planted: None,
            slack: Duration::ZERO,
            timeout: protocol.settings.timing.timeout,
            astray: ASTRAY_PATIENCE,
            startup: STARTUP,
            started: true,
            exclusive: true,
            shared: false,
            addresses: true,
            told: true,
            seed,
            skips: Vec::new(),
        }
    }
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
    /// The participant whose further datagram socket this is.
    pub socket_of: Option<usize>,
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
    /// True when the flow has left the path of the protocol: tag `astray`.
    pub astray: bool,
    /// True when the flow's messages are datagrams.
    pub datagrams: bool,
    /// Datagram sockets for bystanders who join while the flow runs.
    pub spare_sockets: usize,
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

/// The variables that a row of a flow's table binds, by the name of the planned flow.
pub fn row_bindings(file: &FlowFile, name: &str) -> Vec<(String, Bound)> {
    rows(file).into_iter().find(|(row, _)| row == name).map(|(_, bound)| bound).unwrap_or_default()
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
    // `needs "role=server"`: where a requirement binds several roles, a flow may be for one of them.
    let mut roles = file.needs().into_iter().filter_map(|need| need.strip_prefix("role="));
    if roles.any(|wanted| wanted != role) {
        return false;
    }
    let binds = |id: &&Name| protocol.catalogue.binds(&id.text, role);
    let star = !protocol.settings.knows_datagrams()
        && protocol.settings.roles.iter().any(|known| known.listens != listens(protocol, role));
    if !star {
        // Where everybody is alike, everybody is judged by everything.
        return cited(file).iter().any(|id| protocol.catalogue.binds(id, role));
    }
    if !cast_members(file).iter().any(|member| member.role == role) {
        return false;
    }
    let reader = Reader { file, protocol, role };
    let mut steps_cite = false;
    walk(&file.flow.steps, &mut |step| steps_cite |= !step.cites.is_empty());
    // What binds several roles is judged on the one that the steps are about, where there are such.
    let own = |id: &&Name| {
        let shared = protocol.catalogue.get(&id.text).is_some_and(|known| known.roles.len() > 1);
        binds(id) && !(shared && steps_cite)
    };
    let header = file.flow.header.iter().any(|line| match &line.item {
        HeaderItem::About(names) | HeaderItem::Unexpected(names) => names.iter().any(|id| own(&id)),
        _ => false,
    });
    header || reader.judges(&file.flow.steps, &binds)
}

/// Reads a flow for one role: a requirement that binds several roles is judged on whoever acts where it is cited.
struct Reader<'a> {
    file: &'a FlowFile,
    protocol: &'a Protocol,
    role: &'a str,
}

impl Reader<'_> {
    fn judges(&self, steps: &[Step], binds: &impl Fn(&&Name) -> bool) -> bool {
        steps.iter().any(|step| {
            let branches = match &step.kind {
                StepKind::Either(branches) => branches.iter().flat_map(|branch| &branch.cites).collect(),
                _ => Vec::new(),
            };
            let cites = step.cites.iter().chain(branches).any(|id| binds(&id));
            (cites && self.acts(step))
                || blocks(&step.kind).iter().any(|block| self.judges(&block.steps, binds))
        })
    }

    /// True when the role is the one that acts in a step, or may be.
    fn acts(&self, step: &Step) -> bool {
        let is = |name: &Name| self.role_of(name) == Some(self.role);
        match &step.kind {
            StepKind::Arrow { from: who, .. }
            | StepKind::Closes { who, .. }
            | StepKind::Disconnects { who, .. }
            | StepKind::Drops { who, .. }
            | StepKind::Refuses { who, .. }
            | StepKind::Exits { who, .. }
            | StepKind::Vanishes { who } => is(who),
            StepKind::Connects { who, .. } => is(who) || listens(self.protocol, self.role),
            StepKind::Served | StepKind::Opens { .. } => listens(self.protocol, self.role),
            StepKind::Does { .. } | StepKind::Quits { .. } => false,
            // Silence is kept by those at the other end: where some connect to others, those of the other kind.
            StepKind::Quiet { who, .. } => {
                let own = listens(self.protocol, self.role);
                who.iter()
                    .any(|name| self.role_of(name).is_some_and(|other| listens(self.protocol, other) != own))
            }
            StepKind::Let { .. }
            | StepKind::Resumes { .. }
            | StepKind::Settle
            | StepKind::Stalls { .. }
            | StepKind::Wait(_) => true,
            _ => blocks(&step.kind).iter().any(|block| block.steps.iter().any(|step| self.acts(step))),
        }
    }

    fn role_of(&self, name: &Name) -> Option<&str> {
        let members = cast_members(self.file);
        members.into_iter().find(|member| member.name.text == name.text).map(|member| member.role)
    }
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
    let datagrams = protocol.settings.transport(&settings.edition).kind == TransportKind::Udp;
    let spare_sockets = if datagrams { spare_sockets(file, protocol) } else { 0 };
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
    let unexpected =
        unexpected.filter(|id| protocol.catalogue.binds_in(id, role, &settings.edition) && !settings.shared);
    // Off the path nobody can say what was to be expected, either.
    let astray = file.tags().contains(&ASTRAY);
    let unexpected = unexpected.filter(|_| !astray);
    if astray {
        ignoring.push(Payload::Json(Pattern { kind: PatternKind::Any, span: Span::default() }));
    }
    let own = protocol.settings.values(&settings.edition);
    let outside = settings.variables.iter().chain(&own);
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
                    astray,
                    datagrams,
                    spare_sockets,
                    settings: settings.clone(),
                })
            }
        })
        .collect()
}

/// How many sockets the bystanders of all `served` steps need.
fn spare_sockets(file: &FlowFile, protocol: &Protocol) -> usize {
    let Some(served) = &protocol.served else { return 0 };
    let each = cast_members(served).len();
    let mut steps = 0;
    walk(&file.flow.steps, &mut |step| steps += usize::from(matches!(step.kind, StepKind::Served)));
    each * steps
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
        if need == "addresses" {
            if settings.addresses {
                continue;
            }
            return Some(
                "needs an IP address for each participant, as there are on the loopback network".to_owned(),
            );
        }
        if need.starts_with("role=") {
            continue;
        }
        // `connect=swap`: a setting has this value.
        if let Some((name, wanted)) = need.split_once('=') {
            let own = protocol.settings.values(&settings.edition);
            let value = settings.variables.get(name).or_else(|| own.get(name));
            if value.is_none_or(|value| value != wanted) {
                return Some(format!("needs `{name}` to be `{wanted}`; give it with --var {need}"));
            }
            continue;
        }
        if !settings.variables.contains_key(need)
            && !protocol.settings.values(&settings.edition).contains_key(need)
        {
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
    let mut ends = false;
    walk(&file.flow.steps, &mut |step| {
        if let StepKind::Exits { who, .. } | StepKind::Quits { who } = &step.kind {
            ends |= under_test.contains(&who.text);
        }
    });
    if ends && !settings.started {
        return Some("needs a program that flowproof starts: give its command with --exec".to_owned());
    }
    if driven && settings.driver == Driver::None {
        return Some("needs a driver: somebody has to tell the program what to do".to_owned());
    }
    None
}

/// One name of a cast.
struct Member<'a> {
    name: &'a Name,
    role: &'a str,
    count: Option<u32>,
    /// The participant whose further socket it is.
    socket_of: Option<&'a str>,
}

/// The participants that are watched when `role` is under test: of a role that listens all; of another those that
/// are told what to do, else those whose arrows cite a requirement of the role, else the first. Where messages are
/// datagrams there is one program under test, so only the first of them, with its further sockets.
fn subjects(file: &FlowFile, protocol: &Protocol, role: &str) -> BTreeSet<String> {
    let members = cast_members(file);
    let whose = |name: &str| {
        let owner =
            members.iter().find(|member| member.name.text == name).and_then(|member| member.socket_of);
        owner.unwrap_or(name).to_owned()
    };
    // A flow that does not name the role may have participants of the more general one that it plays too.
    let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<&str> {
        let members = members.iter().filter(|member| member.socket_of.is_none() && wanted(member.role));
        members.map(|member| member.name.text.as_str()).collect()
    };
    let mut of_role = of(&|known| known == role);
    let datagrams = protocol.settings.knows_datagrams();
    if listens(protocol, role) && !datagrams {
        return of_role.into_iter().map(str::to_owned).collect();
    }
    let mut driven = Vec::new();
    let mut citing = Vec::new();
    let mut look = |of_role: &[&str]| {
        walk(&file.flow.steps, &mut |step| {
            let (who, list) = match &step.kind {
                StepKind::Does { who, .. } => (who, &mut driven),
                StepKind::Arrow { from, .. } => (from, &mut citing),
                StepKind::Connects { who, .. }
                | StepKind::Disconnects { who, .. }
                | StepKind::Greets { who, .. } => (who, &mut citing),
                _ => return,
            };
            let cites = step.cites.iter().any(|id| protocol.catalogue.binds(&id.text, role));
            let who = whose(&who.text);
            let counts = cites || matches!(step.kind, StepKind::Does { .. });
            if of_role.contains(&who.as_str()) && counts && !list.contains(&who) {
                list.push(who);
            }
        });
        !driven.is_empty() || !citing.is_empty()
    };
    if !look(&of_role) {
        let general = of(&|known| protocol.settings.plays(role, known));
        if look(&general) || of_role.is_empty() {
            of_role = general;
        }
    }
    let mut chosen = if !driven.is_empty() {
        driven
    } else if !citing.is_empty() {
        citing
    } else {
        of_role.first().map(|name| (*name).to_owned()).into_iter().collect()
    };
    if datagrams {
        chosen.truncate(1);
    }
    let sockets = members
        .iter()
        .filter(|member| member.socket_of.is_some_and(|owner| chosen.iter().any(|one| one == owner)));
    let sockets: Vec<String> = sockets.map(|member| member.name.text.clone()).collect();
    chosen.into_iter().chain(sockets).collect()
}

fn listens(protocol: &Protocol, role: &str) -> bool {
    protocol.settings.roles.iter().any(|known| known.name == role && known.listens)
}

fn cast_members(file: &FlowFile) -> Vec<Member<'_>> {
    let lists = file.flow.header.iter().filter_map(|line| match &line.item {
        HeaderItem::Cast(members) => Some(members),
        _ => None,
    });
    let all: Vec<_> = lists.flatten().collect();
    let role_of = |name: &str| {
        let member = all.iter().find(|member| member.name.text == name);
        member.map_or("", |member| member.role.as_ref().unwrap_or(&member.name).text.as_str())
    };
    all.iter()
        .map(|member| {
            let socket_of = member.socket_of.as_ref().map(|owner| owner.text.as_str());
            let role = match socket_of {
                Some(owner) => role_of(owner),
                None => member.role.as_ref().unwrap_or(&member.name).text.as_str(),
            };
            Member { name: &member.name, role, count: member.count, socket_of }
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
    let mut cast: Vec<Participant> = Vec::new();
    let mut names = BTreeMap::new();
    for member in cast_members(file) {
        let mut places = Vec::new();
        let watched = under_test.contains(&member.name.text);
        let role = if watched { role } else { member.role };
        for number in 1..=member.count.unwrap_or(1) {
            places.push(cast.len());
            let name = &member.name.text;
            cast.push(Participant {
                name: if member.count.is_some() { format!("{name}.{number}") } else { name.clone() },
                role: role.to_owned(),
                under_test: watched,
                listens: listens(protocol, role),
                socket_of: member.socket_of.and_then(|owner| {
                    names.get(owner).and_then(|places: &Vec<usize>| places.first().copied())
                }),
            });
        }
        names.insert(member.name.text.clone(), places);
    }
    (cast, names)
}

/// Which sockets are on one IP address: a number for each of the cast and for each spare socket. Those of the party
/// under test have number 0; a participant shares an address with its further sockets, a crowd has one together.
pub fn neighbourhoods(plan: &Plan) -> Vec<usize> {
    let mut numbers: Vec<usize> = vec![0; plan.cast.len()];
    let mut next = 0;
    for places in plan.names.values() {
        let owners =
            places.iter().filter(|one| !plan.cast[**one].under_test && plan.cast[**one].socket_of.is_none());
        let owners: Vec<usize> = owners.copied().collect();
        if !owners.is_empty() {
            next += 1;
            owners.into_iter().for_each(|one| numbers[one] = next);
        }
    }
    for one in 0..plan.cast.len() {
        if let Some(owner) = plan.cast[one].socket_of {
            numbers[one] = numbers[owner];
        }
    }
    numbers.extend((0..plan.spare_sockets).map(|spare| next + 1 + spare));
    numbers
}

/// Whom the party under test is told about before it begins: `bob knows anna`.
pub fn known_before(plan: &Plan) -> Vec<usize> {
    let mut known = Vec::new();
    for step in &plan.file.flow.steps {
        if let StepKind::Knows { who, whom } = &step.kind {
            let watched =
                plan.names.get(&who.text).into_iter().flatten().any(|one| plan.cast[*one].under_test);
            if watched {
                known.extend(plan.names.get(&whom.text).into_iter().flatten().copied());
            }
        }
    }
    known
}
