//! A campaign: cases are made, played side by side, judged, and what is found is shown again, made small and written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::case::{Case, UNNAMED};
use super::depart::{self, Pace};
use super::identity::{Identity, Oracle, findings};
use super::kind::Kinds;
use super::minimise::{Budget, minimise};
use super::mutate::Mutator;
use super::play::Stage;
use super::pool::Pool;
use super::written::{self, Folder, KnownFinding};
use crate::judge::catalogue::Level;
use crate::judge::finding::{Finding, Ruling};
use crate::runner::run::Target;
use crate::runner::verdict::{FlowResult, Verdict};
use crate::world::reference::has_reference;

mod network;
mod plays;

/// Shapes of one broken rule that are looked into; further ones are counted only.
const SHAPES: usize = 3;
/// Findings that are looked into.
const FINDINGS: usize = 200;
/// Changes to one case.
const CHANGES: usize = 6;
/// On a real clock one case in so many waits at its end for what comes of it.
const SETTLED: u8 = 32;
/// What looking into the last finding may take beyond the campaign's time.
const OVERTIME: Duration = Duration::from_millis(700);
/// Conversations kept in memory as starting points.
const CORPUS: usize = 5000;

/// What a campaign is to do.
pub struct Config {
    /// Protocol, role and settings.
    pub stage: Stage,
    /// What is tested.
    pub target: Target,
    /// How long.
    pub time: Option<Duration>,
    /// How many cases.
    pub cases: Option<u64>,
    /// How many findings are enough.
    pub findings: Option<usize>,
    /// Seeds everything that is drawn.
    pub seed: u64,
    /// Workers.
    pub jobs: usize,
    /// Conversations that each worker has at the same time on a network.
    pub width: usize,
    /// Where findings are written, and what an earlier run left is taken from.
    pub out: Option<Folder>,
    /// Folders of other campaigns whose conversations are played first.
    pub merge: Vec<Folder>,
    /// The part of the cases that is ours, and of how many.
    pub shard: (u64, u64),
    /// The flows are played as they are written, too.
    pub as_written: bool,
    /// The command that plays a finding again, without the flow.
    pub replay: String,
    /// Memory that a program under test may grow by, in bytes.
    pub growth: u64,
    /// Set to end it.
    pub stop: Arc<AtomicBool>,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It showed again.
    Confirmed,
    /// It showed, and what it shows cannot be doubted, but not again.
    Once,
    /// It did not show every time.
    Flaky,
    /// The built-in reference does the same: the judge is to be doubted, not the target.
    Doubtful,
}

/// Something found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which finding.
    pub identity: Identity,
    /// What the judge said.
    pub finding: Finding,
    /// How binding the broken requirement is.
    pub level: Level,
    /// The smallest case that shows it.
    pub case: Case,
    /// Its file's name.
    pub name: String,
    /// What is told at the top of its file.
    pub comment: Vec<String>,
    /// What was said in it.
    pub transcript: String,
    /// Messages in it that we send.
    pub sends: usize,
    /// The number of the case that showed it first.
    pub number: u64,
    /// How often it showed.
    pub times: u64,
    /// How often it showed when it was tried again, and how often it was tried.
    pub shown: (usize, usize),
    /// How sure it is.
    pub standing: Standing,
    /// Its flow, below the folder.
    pub file: Option<PathBuf>,
}

/// What a campaign tells as it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// How far it has come.
    Progress(Progress),
    /// Something was found.
    Found(Box<Found>),
    /// Something that is worth a line.
    Note(String),
}

/// How far a campaign has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Cases made.
    pub made: u64,
    /// Cases judged.
    pub judged: u64,
    /// Messages that were sent and received.
    pub messages: u64,
    /// Pairs of state and message kind reached.
    pub pairs: usize,
    /// Requirements put to the test.
    pub requirements: usize,
    /// Findings.
    pub found: usize,
    /// Time since it began.
    pub took: Duration,
}

/// What came of a campaign.
#[derive(Debug)]
pub struct Summary {
    /// How far it came.
    pub progress: Progress,
    /// Cases that could not be played.
    pub unplayable: u64,
    /// What was found, surest first.
    pub found: Vec<Found>,
    /// Findings of earlier runs in the same folder.
    pub earlier: Vec<KnownFinding>,
    /// Findings like one that was told, which were only counted.
    pub alike: u64,
    /// Requirements of the role that nothing put to the test.
    pub untouched: Vec<String>,
    /// Pairs of state and message kind that were never reached.
    pub never: Vec<(String, String)>,
    /// Why nothing could be judged.
    pub nothing: Option<String>,
    /// It was stopped.
    pub cut_short: bool,
}

#[derive(Default)]
struct State {
    corpus: Vec<Case>,
    pairs: BTreeSet<(String, String)>,
    kept: BTreeSet<String>,
    broken: BTreeSet<String>,
    /// Identities that are known or being looked into, and how often they showed.
    known: BTreeMap<Identity, u64>,
    shapes: BTreeMap<(Oracle, String), usize>,
    found: Vec<Found>,
    earlier: Vec<KnownFinding>,
    alike: u64,
    names: BTreeMap<String, usize>,
    nothing: Option<String>,
}

/// Everything that workers share.
struct Board<'a> {
    config: &'a Config,
    pool: Pool,
    kinds: Kinds,
    known: (BTreeSet<String>, BTreeSet<String>),
    next: AtomicU64,
    made: AtomicU64,
    judged: AtomicU64,
    messages: AtomicU64,
    unplayable: AtomicU64,
    began: Instant,
    state: Mutex<State>,
    /// Tells what happens; one at a time.
    tell: Mutex<&'a mut (dyn FnMut(Event) + Send)>,
}

/// Runs a campaign until its time is over, its cases are made, or it is stopped.
pub fn run(config: &Config, tell: &mut (dyn FnMut(Event) + Send)) -> Result<Summary, String> {
    let in_memory = matches!(config.target, Target::Reference(_));
    let pace = if in_memory { Pace::VIRTUAL } else { Pace::REAL };
    let stage = &config.stage;
    let protocol = &stage.protocol;
    let pool = Pool::of(protocol, &stage.role, &stage.settings, pace);
    if pool.sequences.is_empty() {
        return Err(format!("{} has no flow in which a {} takes part", protocol.settings.name, stage.role));
    }
    let kinds = Kinds::of(protocol);
    let known = kinds.known(protocol, &stage.role);
    let mut state = State::default();
    let mut earlier = written::Standing::default();
    if let Some(folder) = &config.out
        && let Some(standing) = folder.standing()?
    {
        let ours = (&protocol.settings.name, &stage.role, &stage.settings.edition);
        if (&standing.protocol, &standing.role, &standing.edition) != ours {
            return Err(format!(
                "{} holds a campaign against a {} of {} (edition {}); give another folder",
                folder.0.display(),
                standing.role,
                standing.protocol,
                standing.edition
            ));
        }
        state.corpus = folder.cases()?;
        state.pairs.clone_from(&standing.pairs);
        state.kept.clone_from(&standing.kept);
        for known in &standing.found {
            state.known.insert(known.identity.clone(), known.times);
            *state.shapes.entry((known.identity.oracle, known.identity.rule.clone())).or_default() += 1;
            let _ = written::name_of(&known.identity, &mut state.names);
        }
        state.earlier.clone_from(&standing.found);
        earlier = standing;
    }
    let mut merged = Vec::new();
    for folder in &config.merge {
        merged.extend(folder.cases()?);
    }
    state.corpus.extend(merged);
    let board = Board {
        config,
        pool,
        kinds,
        known,
        next: AtomicU64::new(earlier.next),
        made: AtomicU64::new(0),
        judged: AtomicU64::new(0),
        messages: AtomicU64::new(0),
        unplayable: AtomicU64::new(0),
        began: Instant::now(),
        state: Mutex::new(state),
        tell: Mutex::new(tell),
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..config.jobs.max(1))
            .map(|worker| {
                let board = &board;
                scope.spawn(move || match &board.config.target {
                    Target::Reference(_) => board.in_memory(),
                    _ => network::work(board, worker),
                })
            })
            .collect();
        let watch = scope.spawn(|| board.watch(&over, &earlier));
        for worker in workers {
            if worker.join().is_err() {
                board.note("a worker of ours died; the others go on".to_owned());
            }
        }
        over.store(true, Ordering::Relaxed);
        watch.thread().unpark();
    });
    board.write_standing(&earlier);
    Ok(board.summary())
}

impl Board<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        let mut tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        tell(event);
    }

    fn note(&self, text: String) {
        self.tell(Event::Note(text));
    }

    /// True when no further case begins.
    fn is_over(&self) -> bool {
        let cases = self.config.cases;
        self.is_ended() || cases.is_some_and(|cases| self.made.load(Ordering::Relaxed) >= cases)
    }

    /// True when those under way are not waited for.
    fn is_ended(&self) -> bool {
        let config = self.config;
        config.stop.load(Ordering::Relaxed)
            || config.time.is_some_and(|time| self.began.elapsed() >= time)
            || self.has_enough()
    }

    /// True when as much was found as was asked for.
    fn has_enough(&self) -> bool {
        self.config.findings.is_some_and(|enough| self.counted() >= enough)
    }

    /// True when nothing is looked into any more.
    fn is_past(&self) -> bool {
        let config = self.config;
        config.stop.load(Ordering::Relaxed)
            || config.time.is_some_and(|time| self.began.elapsed() >= time + OVERTIME)
    }

    /// Tells how it goes, and writes where it stands, now and then.
    fn watch(&self, over: &AtomicBool, earlier: &written::Standing) {
        let mut written = Instant::now();
        while !over.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(250));
            self.tell(Event::Progress(self.progress()));
            if written.elapsed() > Duration::from_secs(5) {
                self.write_standing(earlier);
                written = Instant::now();
            }
        }
    }

    /// Findings that are held against the target.
    fn counted(&self) -> usize {
        self.state().found.iter().filter(|found| found.counts()).count()
    }

    fn progress(&self) -> Progress {
        let state = self.state();
        Progress {
            made: self.made.load(Ordering::Relaxed),
            judged: self.judged.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            pairs: state.pairs.len(),
            requirements: state.kept.len(),
            found: state.found.iter().filter(|found| found.counts()).count(),
            took: self.began.elapsed(),
        }
    }

    fn write_standing(&self, earlier: &written::Standing) {
        let Some(folder) = &self.config.out else { return };
        let stage = &self.config.stage;
        let state = self.state();
        let found = state.found.iter().map(|found| KnownFinding {
            identity: found.identity.clone(),
            times: state.known.get(&found.identity).copied().unwrap_or(found.times),
            finding: found.finding.clone(),
            standing: found.standing,
            file: found.file.clone(),
        });
        let standing = written::Standing {
            protocol: stage.protocol.settings.name.clone(),
            role: stage.role.clone(),
            edition: stage.settings.edition.clone(),
            seed: self.config.seed,
            next: self.next.load(Ordering::Relaxed),
            made: earlier.made + self.made.load(Ordering::Relaxed),
            judged: earlier.judged + self.judged.load(Ordering::Relaxed),
            kept: state.kept.clone(),
            pairs: state.pairs.clone(),
            never: self.never(&state),
            found: state.earlier.iter().cloned().chain(found).collect(),
        };
        drop(state);
        if let Err(error) = folder.write_standing(&standing) {
            self.note(format!("what was found cannot be written: {error}"));
        }
    }

    fn never(&self, state: &State) -> Vec<(String, String)> {
        let (sent, awaited) = &self.known;
        let states = std::iter::once("nothing").chain(awaited.iter().map(String::as_str));
        let pairs = states.flat_map(|heard| sent.iter().map(move |said| (heard.to_owned(), said.clone())));
        pairs.filter(|pair| !state.pairs.contains(pair)).collect()
    }

    fn summary(&self) -> Summary {
        let progress = self.progress();
        let mut state = self.state();
        let stage = &self.config.stage;
        let catalogue = &stage.protocol.catalogue;
        let touched = |id: &str| state.kept.contains(id) || state.broken.contains(id);
        let untouched = catalogue
            .iter()
            .filter(|known| known.untested.is_none() && !known.untested_for.contains_key(&stage.role))
            .filter(|known| catalogue.binds_in(&known.id, &stage.role, &stage.settings.edition))
            .filter(|known| known.level != Level::May && !touched(&known.id))
            .map(|known| known.id.clone())
            .collect();
        let never = self.never(&state);
        let mut found = std::mem::take(&mut state.found);
        for one in &mut found {
            one.times = state.known.get(&one.identity).copied().unwrap_or(one.times);
        }
        found.sort_by(|a, b| (a.standing, a.level, &a.identity).cmp(&(b.standing, b.level, &b.identity)));
        Summary {
            progress,
            unplayable: self.unplayable.load(Ordering::Relaxed),
            found,
            earlier: std::mem::take(&mut state.earlier),
            alike: state.alike,
            untouched,
            never,
            nothing: state.nothing.take(),
            cut_short: self.config.stop.load(Ordering::Relaxed),
        }
    }

    /// The next case, with its number.
    fn take(&self) -> Option<(u64, Case)> {
        if self.is_over() {
            return None;
        }
        let (part, of) = self.config.shard;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.made.fetch_add(1, Ordering::Relaxed);
        let number = number * of + part;
        Some((number, self.make(number)))
    }

    /// Makes the case with a number. The flows as they are written come among the first.
    fn make(&self, number: u64) -> Case {
        // Numbers close to each other must not give draws close to each other.
        let mut rng = Rng::with_seed(self.config.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let _ = rng.u64(..);
        let real = !matches!(self.config.target, Target::Reference(_));
        // On a real clock they take long: one in four, so that the first minute sees the rest as well.
        let turn = if real { number.is_multiple_of(4).then_some(number / 4) } else { Some(number) };
        if self.config.as_written
            && let Some(case) = turn.and_then(|turn| self.pool.written.get(usize::try_from(turn).ok()?))
        {
            return case.clone();
        }
        let mut case = self.base(&mut rng);
        if rng.u8(..8) == 0 {
            let other = self.base(&mut rng);
            let stage = &self.config.stage;
            let order = || rng.bool();
            if let Some(both) = depart::beside(&case, &other, &stage.protocol, &stage.role, order) {
                case = both;
            }
        }
        let mut count = 1;
        while count < CHANGES && rng.u8(..3) > 0 {
            count += 1;
        }
        let stage = &self.config.stage;
        let mut mutator = Mutator { protocol: &stage.protocol, role: &stage.role, pool: &self.pool, rng };
        for _ in 0..count {
            mutator.change(&mut case);
        }
        // In virtual time the flows' own pauses are kept.
        if real && mutator.rng.u8(..SETTLED) == 0 {
            case = depart::settled(&case).unwrap_or(case);
        }
        case
    }

    /// Where a case begins: a flow, or a conversation that went somewhere new.
    fn base(&self, rng: &mut Rng) -> Case {
        if rng.u8(..3) == 0 {
            let state = self.state();
            if !state.corpus.is_empty() {
                return state.corpus[rng.usize(..state.corpus.len())].clone();
            }
        }
        self.pool.sequences[rng.usize(..self.pool.sequences.len())].clone()
    }

    /// Takes what came of a case: what was reached, and what is new among the findings.
    fn learn(&self, case: &Case, result: &FlowResult) -> Vec<(Identity, Finding)> {
        if matches!(result.verdict, Verdict::Pass | Verdict::Warn | Verdict::Fail) {
            self.judged.fetch_add(1, Ordering::Relaxed);
        }
        self.messages.fetch_add(result.transcript.lines().len() as u64, Ordering::Relaxed);
        let stage = &self.config.stage;
        let watched = case.watched(&stage.protocol, &stage.role);
        let pairs = self.kinds.pairs(&result.transcript, &watched);
        let found = findings(result, &self.kinds);
        let mut state = self.state();
        let before = state.pairs.len() + state.kept.len();
        state.pairs.extend(pairs);
        state.kept.extend(result.kept.iter().cloned());
        let news = state.pairs.len() + state.kept.len() > before;
        if news && case.is_astray() && state.corpus.len() < CORPUS {
            let number = state.corpus.len();
            state.corpus.push(case.clone());
            drop(state);
            if let Some(folder) = &self.config.out
                && let Err(error) = folder.write_case(number, case)
            {
                self.note(format!("a conversation cannot be written: {error}"));
            }
            state = self.state();
        }
        let mut new = Vec::new();
        for (identity, finding) in found {
            state.broken.insert(identity.rule.clone());
            if self.is_new(&mut state, &identity) {
                new.push((identity, finding));
            }
        }
        new
    }

    /// Counts a finding; true when nobody looked into it yet.
    fn is_new(&self, state: &mut State, identity: &Identity) -> bool {
        if let Some(times) = state.known.get_mut(identity) {
            *times += 1;
            return false;
        }
        let shapes = state.shapes.entry((identity.oracle, identity.rule.clone())).or_default();
        if *shapes >= SHAPES || state.known.len() >= FINDINGS {
            state.alike += 1;
            return false;
        }
        *shapes += 1;
        state.known.insert(identity.clone(), 1);
        true
    }

    /// How many findings of a rule did not show again.
    fn flaky(&self, rule: &str) -> usize {
        let is_flaky = |found: &&Found| found.standing == Standing::Flaky && found.identity.rule == rule;
        self.state().found.iter().filter(is_flaky).count()
    }

    /// Takes back that a finding is known: it was none.
    fn forget(&self, identity: &Identity) {
        let mut state = self.state();
        state.known.remove(identity);
        if let Some(shapes) = state.shapes.get_mut(&(identity.oracle, identity.rule.clone())) {
            *shapes = shapes.saturating_sub(1);
        }
    }

    /// True when the built-in reference is accused of the same in the same conversation.
    fn is_doubtful(&self, case: &Case, identity: &Identity) -> bool {
        // A protocol of one's own has no reference that could be asked.
        let asked = has_reference(&self.config.stage.protocol.settings.name);
        if !asked || matches!(self.config.target, Target::Reference(None)) {
            return false;
        }
        match self.honest(case) {
            Ok(result) if case.is_astray() => {
                findings(&result, &self.kinds).iter().any(|(known, _)| known.rule == identity.rule)
            }
            // A flow as it is written, or made smaller, must hold where nothing is wrong.
            Ok(result) => !matches!(result.verdict, Verdict::Pass | Verdict::Warn | Verdict::Skip),
            // What cannot be played there says nothing.
            Err(_) => !case.is_astray(),
        }
    }

    fn honest(&self, case: &Case) -> Result<FlowResult, String> {
        let stage = &self.config.stage;
        let mut settings = crate::runner::plan::RunSettings::in_memory(
            &stage.protocol,
            &stage.settings.edition,
            stage.settings.seed,
        );
        for (name, value) in &stage.settings.variables {
            settings.variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let stage = Stage { settings, ..stage.clone() };
        stage.in_memory(&Arc::new(case.unwritten(UNNAMED)), None, &AtomicBool::new(false))
    }

    /// Looks into a finding: shows it again, doubts it, makes it small, writes it.
    ///
    /// `again` plays cases, each as if it were alone, and says what came of each.
    #[expect(clippy::too_many_arguments, reason = "everything that is known of a finding, once")]
    fn look_into(
        &self,
        number: u64,
        case: &Case,
        identity: Identity,
        finding: Finding,
        tries: usize,
        budget: Budget,
        again: &mut dyn FnMut(&[Case]) -> Vec<Option<FlowResult>>,
    ) {
        // The last conversation in which it showed.
        let mut last: Option<(Finding, String)> = None;
        let mut shows = |some: &[Case]| -> Vec<Option<bool>> {
            let mut told = |result: FlowResult| {
                let again =
                    findings(&result, &self.kinds).into_iter().find(|(known, _)| known.is_like(&identity));
                let shows = again.is_some();
                last = again.map(|(_, finding)| (finding, result.transcript.to_string())).or(last.take());
                shows
            };
            let results = again(some);
            // What was cut short says nothing.
            results.into_iter().map(|result| result.filter(|_| !self.is_past()).map(&mut told)).collect()
        };
        let mut standing = Standing::Confirmed;
        let mut shown = (0, 0);
        let mut small = case.clone();
        let mut left = tries;
        while left > 0 {
            let together = left.min(budget.width);
            left -= together;
            for shows_again in shows(&vec![small.clone(); together]).into_iter().flatten() {
                shown.1 += 1;
                shown.0 += usize::from(shows_again);
            }
            // Alone it may be over before anything can come of it.
            if tries > 1
                && shown.0 == 0
                && let Some(settled) = depart::settled(&small)
            {
                small = settled;
                shown = (0, 0);
                left = tries - 1;
            }
        }
        if shown.0 * 2 <= shown.1 {
            standing = Standing::Flaky;
        } else if self.is_doubtful(&small, &identity) {
            standing = Standing::Doubtful;
        }
        // The campaign's own time bounds what making small may take.
        let left = self.config.time.map(|time| (time + OVERTIME).saturating_sub(self.began.elapsed()));
        let budget = Budget { time: budget.time.min(left.unwrap_or(budget.time)), ..budget };
        // A flow as it is written is made smaller only where the reference can tell whether it still makes sense.
        let sound = case.is_astray() || !matches!(self.config.target, Target::Reference(None));
        if standing == Standing::Confirmed && sound {
            let stage = &self.config.stage;
            small = minimise(small, &stage.protocol, &stage.role, budget, &mut |some| {
                if self.is_past() {
                    return vec![None; some.len()];
                }
                let doubtful: Vec<bool> =
                    some.iter().map(|smaller| self.is_doubtful(smaller, &identity)).collect();
                let sound: Vec<Case> = some
                    .iter()
                    .zip(&doubtful)
                    .filter(|(_, no)| !**no)
                    .map(|(case, _)| case.clone())
                    .collect();
                let mut shown = shows(&sound).into_iter();
                doubtful.into_iter().map(|no| if no { Some(false) } else { shown.next().flatten() }).collect()
            });
        }
        let (finding, transcript) = last.unwrap_or((finding, String::new()));
        self.record(number, small, identity, finding, standing, shown, transcript);
    }

    /// Writes a finding and tells it.
    #[expect(clippy::too_many_arguments, reason = "everything that is known of a finding, once")]
    fn record(
        &self,
        number: u64,
        case: Case,
        identity: Identity,
        finding: Finding,
        standing: Standing,
        shown: (usize, usize),
        transcript: String,
    ) {
        let stage = &self.config.stage;
        let catalogue = &stage.protocol.catalogue;
        let case = written::about_finding(&case, &identity, catalogue.get(&identity.rule).is_some());
        let sends = case.sends(&case.watched(&stage.protocol, &stage.role));
        let (name, times) = {
            let mut state = self.state();
            let name = written::name_of(&identity, &mut state.names);
            (name, state.known.get(&identity).copied().unwrap_or(1))
        };
        let mut found = Found {
            // Nobody numbered how much memory or time is too much.
            level: match identity.oracle {
                Oracle::Memory | Oracle::Slow => Level::Should,
                _ => catalogue.level(&identity.rule),
            },
            comment: written::comment(&identity, &finding, &case),
            identity,
            finding,
            case,
            name,
            transcript,
            sends,
            number,
            times,
            shown,
            standing,
            file: None,
        };
        if let Some(folder) = &self.config.out {
            let below = match standing {
                Standing::Confirmed | Standing::Once => "findings",
                Standing::Flaky => "flaky",
                Standing::Doubtful => "doubtful",
            };
            match folder.write_finding(&found, below, &self.config.replay) {
                Ok(file) => found.file = Some(file),
                Err(error) => self.note(format!("a finding cannot be written: {error}")),
            }
        }
        self.state().found.push(found.clone());
        self.tell(Event::Found(Box::new(found)));
    }

    /// One worker against the built-in reference.
    fn in_memory(&self) {
        let Target::Reference(sinner) = &self.config.target else { return };
        let stage = &self.config.stage;
        let sinner = sinner.as_ref().filter(|sinner| sinner.role == stage.role);
        let budget = Budget { attempts: 2000, time: Duration::from_secs(5), sure: 0, width: 1 };
        while let Some((number, case)) = self.take() {
            let play = |case: &Case| {
                let file = Arc::new(case.unwritten(UNNAMED));
                stage.in_memory(&file, sinner, &self.config.stop)
            };
            let result = match play(&case) {
                Ok(result) => result,
                Err(_) => {
                    self.unplayable.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            if self.config.stop.load(Ordering::Relaxed) {
                break;
            }
            for (identity, finding) in self.learn(&case, &result) {
                self.look_into(number, &case, identity, finding, 1, budget, &mut |some| {
                    some.iter().map(|case| play(case).ok()).collect()
                });
            }
        }
    }
}

impl Found {
    /// True for what is held against the target.
    pub fn counts(&self) -> bool {
        matches!(self.standing, Standing::Confirmed | Standing::Once)
    }

    /// True when it accuses somebody of breaking what MUST be.
    pub fn is_fail(&self) -> bool {
        self.counts() && self.level == Level::Must && self.finding.ruling == Ruling::Broken
    }
}
