//! A run: which flows, how many side by side, against what; and what it tells as it goes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use flowproof_reference::machine::Time;

use super::event::{RunEvent, TargetInfo};
use super::plan::{self, Plan, RunSettings, Skipped};
use super::verdict::{FlowResult, Verdict};
use crate::corpus::{FlowFile, Protocol};
use crate::flow::ast::StepKind;
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::known;
use crate::sinner::Sinner;
use crate::world::lag::{LagMeter, Pressure};
use crate::world::process::{ServerProcess, StartError};
use crate::world::{memory, network};

/// Flows in which a target said nothing at all, one after another, before it is called mute.
const MUTE_AFTER: usize = 3;

/// How long a program that did nothing wrong in a flow is watched after it, to see whether it dies of it.
const AFTER_PASS: Duration = Duration::from_millis(15);
/// How long one is watched that did something wrong.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// How long after a conversation that left the path: mostly that it survives is all that is asked of it.
const AFTER_ASTRAY: Duration = Duration::from_millis(600);

/// What is tested.
#[derive(Clone, Debug)]
pub enum Target {
    /// The built-in reference implementation, in memory; with a planted fault when given.
    Reference(Option<Sinner>),
    /// A server that is running.
    Url {
        /// As given.
        url: String,
        /// Where it listens.
        place: network::Place,
        /// Its address, to see whether it is still there.
        address: SocketAddr,
    },
    /// A program that flowproof starts.
    Exec {
        /// Its command line.
        command: String,
        /// For a program that connects: the URL it is given, with `{}` for host and port.
        url: String,
    },
}

/// Everything a run needs to know.
pub struct RunConfig {
    /// The protocol.
    pub protocol: Arc<Protocol>,
    /// The roles under test.
    pub roles: Vec<String>,
    /// What is tested.
    pub target: Target,
    /// Settings of every flow.
    pub settings: RunSettings,
    /// Flows side by side.
    pub jobs: usize,
    /// Only flows whose name holds one of these.
    pub filter: Vec<String>,
    /// Only flows with one of these tags.
    pub tags: Vec<String>,
    /// Stop after the first failed flow.
    pub bail: bool,
    /// How often each flow runs.
    pub repeat: u32,
    /// The part of the flows to run: number and count of parts.
    pub shard: Option<(usize, usize)>,
    /// No flow begins after this time.
    pub budget: Option<Duration>,
    /// Set to cut the run short.
    pub stop: Arc<AtomicBool>,
}

/// A flow to run.
struct Job {
    index: usize,
    plan: Plan,
    tags: Vec<String>,
}

/// A flow that will not run: why, its file, and the role under test.
type SkippedJob = (Skipped, Arc<FlowFile>, String);

/// Shared by all workers.
struct Board {
    queue: Mutex<VecDeque<Job>>,
    silent: AtomicUsize,
    heard: AtomicBool,
    not_started: AtomicUsize,
    gone: Mutex<Option<String>>,
    failed: AtomicBool,
    began: Instant,
    lag: LagMeter,
}

/// Runs everything; events are told in order of completion, for the in-memory world in order of the flows.
pub fn run(config: &RunConfig, tell: &mut dyn FnMut(RunEvent)) {
    let began = Instant::now();
    let (jobs, skipped) = select(config);
    let mut reasons = BTreeMap::new();
    for (skip, ..) in &skipped {
        *reasons.entry(skip.reason.clone()).or_insert(0) += 1;
    }
    tell(RunEvent::Begun {
        flowproof: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: config.protocol.settings.name.clone(),
        edition: config.settings.edition.clone(),
        target: target_info(config),
        seed: config.settings.seed,
        planned: jobs.len(),
        skipped: reasons,
    });
    for (skip, file, role) in skipped {
        let result = FlowResult::not_run(&skip.name, &file.path, &role, Verdict::Skip, skip.reason);
        tell(RunEvent::FlowEnded(Box::new(result)));
    }
    let in_order = matches!(config.target, Target::Reference(_));
    let mut waiting: BTreeMap<usize, FlowResult> = BTreeMap::new();
    let mut next = 0;
    execute(config, jobs, began, &mut |index, result| {
        if !in_order {
            tell(RunEvent::FlowEnded(Box::new(result)));
            return;
        }
        waiting.insert(index, result);
        while let Some(result) = waiting.remove(&next) {
            tell(RunEvent::FlowEnded(Box::new(result)));
            next += 1;
        }
    });
    for result in waiting.into_values() {
        tell(RunEvent::FlowEnded(Box::new(result)));
    }
    tell(RunEvent::Ended { cut_short: config.stop.load(Ordering::Relaxed), took: began.elapsed() });
}

fn target_info(config: &RunConfig) -> TargetInfo {
    let role = config.roles.join(",");
    match &config.target {
        Target::Reference(None) => {
            TargetInfo { kind: "reference".to_owned(), role, address: "built-in".to_owned() }
        }
        Target::Reference(Some(sinner)) => {
            TargetInfo { kind: "reference".to_owned(), role, address: format!("sinner {}", sinner.name) }
        }
        Target::Url { url, .. } => TargetInfo { kind: "url".to_owned(), role, address: url.clone() },
        Target::Exec { command, .. } => {
            TargetInfo { kind: "exec".to_owned(), role, address: command.clone() }
        }
    }
}

/// The flows of the run, and those that are skipped with their reasons.
fn select(config: &RunConfig) -> (Vec<Job>, Vec<SkippedJob>) {
    let mut jobs: Vec<Job> = Vec::new();
    let mut skipped = Vec::new();
    let mut number = 0;
    for file in &config.protocol.flows {
        let file = Arc::new(file.clone());
        let tags = file.tags();
        if !config.tags.is_empty() && !config.tags.iter().any(|tag| tags.contains(&tag.as_str())) {
            continue;
        }
        for role in &config.roles {
            if !plan::judges_role(&file, &config.protocol, role) {
                continue;
            }
            for planned in plan::plan(&file, &config.protocol, role, &config.settings) {
                let name = match &planned {
                    Ok(plan) => &plan.name,
                    Err(skip) => &skip.name,
                };
                if !config.filter.is_empty() && !config.filter.iter().any(|part| name.contains(part.as_str()))
                {
                    continue;
                }
                number += 1;
                if config.shard.is_some_and(|(part, of)| number % of != part % of) {
                    continue;
                }
                let skip = config.settings.skips.iter().find(|(pattern, _)| known::names(pattern, name));
                let planned = match skip {
                    Some((_, reason)) => Err(Skipped { name: name.clone(), reason: reason.clone() }),
                    None => planned,
                };
                match planned {
                    Ok(plan) => {
                        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
                        jobs.push(Job { index: jobs.len(), plan, tags });
                    }
                    Err(skip) => skipped.push((skip, Arc::clone(&file), role.clone())),
                }
            }
        }
    }
    (jobs, skipped)
}

fn execute(config: &RunConfig, jobs: Vec<Job>, began: Instant, done: &mut dyn FnMut(usize, FlowResult)) {
    let board = Board {
        queue: Mutex::new(VecDeque::new()),
        silent: AtomicUsize::new(0),
        heard: AtomicBool::new(false),
        not_started: AtomicUsize::new(0),
        gone: Mutex::new(None),
        failed: AtomicBool::new(false),
        began,
        lag: LagMeter::default(),
    };
    match &config.target {
        Target::Reference(sinner) => {
            let workers = std::thread::available_parallelism().map_or(2, usize::from).min(config.jobs.max(1));
            crowd(config, &board, jobs, workers, done, |_, job| {
                in_memory(config, &job.plan, sinner.as_ref())
            });
        }
        Target::Url { place, address, .. } => {
            let Some(runtime) = runtime(&board, jobs.first(), done) else { return };
            // Long watches run beside everything; flows that want the target for themselves run one by one, last.
            let has = |job: &Job, tag: &str| job.tags.iter().any(|known| known == tag);
            let one_by_one = |job: &Job| {
                config
                    .protocol
                    .settings
                    .roles
                    .iter()
                    .any(|role| role.name == job.plan.role && role.one_by_one)
            };
            let (mut alone, others): (Vec<Job>, Vec<Job>) = jobs
                .into_iter()
                .partition(|job| one_by_one(job) || (has(job, "alone") && !has(job, "background")));
            let (watches, together): (Vec<Job>, Vec<Job>) =
                others.into_iter().partition(|job| has(job, "background"));
            // Where nothing runs beside them and no strangers are about, all that they see is their own.
            if watches.is_empty() && !config.settings.shared {
                alone.iter_mut().for_each(|job| job.plan.settings.exclusive = true);
            }
            let run_one = |_: &mut Option<ServerProcess>, job: &Job| {
                if !job.plan.datagrams
                    && let Some(reason) = gone(&board, *address)
                {
                    return unreached(job, reason);
                }
                network_flow(config, &board, &runtime, &job.plan, place)
            };
            let (results, finished) = mpsc::channel();
            let side_board = board_like(&board);
            std::thread::scope(|scope| {
                let (side_board, run_one) = (&side_board, &run_one);
                let side = scope.spawn(move || {
                    let watching = watches.len();
                    let mut send = |index, result| {
                        // The run may be over already.
                        let _ = results.send((index, result));
                    };
                    crowd(config, side_board, watches, watching, &mut send, run_one);
                });
                crowd(config, &board, together, config.jobs, done, run_one);
                crowd(config, &board, alone, 1, done, run_one);
                while !side.is_finished() {
                    if let Ok((index, result)) = finished.recv_timeout(Duration::from_millis(20)) {
                        done(index, result);
                    }
                }
                finished.try_iter().for_each(|(index, result)| done(index, result));
            });
        }
        Target::Exec { command, url } => {
            let Some(runtime) = runtime(&board, jobs.first(), done) else { return };
            let listens = |job: &Job| job.plan.cast.iter().any(|one| one.under_test && one.listens);
            let mut jobs = jobs;
            // What takes longest begins first.
            jobs.sort_by_key(|job| !job.tags.iter().any(|tag| tag == "background" || tag == "slow"));
            crowd(config, &board, jobs, config.jobs, done, |server, job| {
                if job.plan.datagrams {
                    let place = network::Place::Peer { address: None, command: Some(command.clone()) };
                    return network_flow(config, &board, &runtime, &job.plan, &place);
                }
                if !listens(job) {
                    let place = network::Place::Connects { command: command.clone(), url: url.clone() };
                    return network_flow(config, &board, &runtime, &job.plan, &place);
                }
                started_server(config, &board, &runtime, job, command, server)
            });
        }
    }
}

fn board_like(board: &Board) -> Board {
    Board {
        queue: Mutex::new(VecDeque::new()),
        silent: AtomicUsize::new(0),
        heard: AtomicBool::new(false),
        not_started: AtomicUsize::new(0),
        gone: Mutex::new(None),
        failed: AtomicBool::new(false),
        began: board.began,
        lag: board.lag.clone(),
    }
}

fn runtime(
    board: &Board,
    first: Option<&Job>,
    done: &mut dyn FnMut(usize, FlowResult),
) -> Option<tokio::runtime::Runtime> {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            runtime.spawn(board.lag.clone().beat(board.began));
            Some(runtime)
        }
        Err(error) => {
            if let Some(job) = first {
                let reason = format!("the network runtime does not start: {error}");
                done(job.index, not_run(job, Verdict::Error, reason));
            }
            None
        }
    }
}

fn not_run(job: &Job, verdict: Verdict, reason: String) -> FlowResult {
    FlowResult::not_run(&job.plan.name, &job.plan.file.path, &job.plan.role, verdict, reason)
}

fn unreached(job: &Job, reason: String) -> FlowResult {
    not_run(job, Verdict::Inconclusive, reason)
}

/// So many workers take jobs until none is left. One that panics takes only its own flow with it. The few flows that
/// did not go well while the machine was busy are looked at once more at the end, one by one.
fn crowd(
    config: &RunConfig,
    board: &Board,
    jobs: Vec<Job>,
    workers: usize,
    done: &mut dyn FnMut(usize, FlowResult),
    run_one: impl Fn(&mut Option<ServerProcess>, &Job) -> FlowResult + Sync,
) {
    let workers = workers.clamp(1, jobs.len().max(1));
    board.queue.lock().unwrap_or_else(PoisonError::into_inner).extend(jobs);
    let (results, finished) = mpsc::channel();
    let put_aside: Mutex<Vec<(Job, FlowResult)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let results = results.clone();
            let (run_one, put_aside) = (&run_one, &put_aside);
            scope.spawn(move || {
                let mut server = None;
                loop {
                    let job = board.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(job) = job else { break };
                    let result = match not_begun(config, board) {
                        Some((verdict, reason)) => not_run(&job, verdict, reason),
                        None => guarded(config, board, &job, &mut server, run_one),
                    };
                    if result.doubtful {
                        let mut aside = put_aside.lock().unwrap_or_else(PoisonError::into_inner);
                        if aside.len() < LOOKS_ALONE {
                            aside.push((job, result));
                            continue;
                        }
                    }
                    if result.verdict == Verdict::Fail {
                        board.failed.store(true, Ordering::Relaxed);
                    }
                    if results.send((job.index, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        for (index, result) in finished {
            done(index, result);
        }
    });
    let mut server = None;
    for (mut job, before) in put_aside.into_inner().unwrap_or_else(PoisonError::into_inner) {
        job.plan.settings.seed = job.plan.settings.seed.wrapping_add(2 * AGAIN);
        let result = match not_begun(config, board) {
            Some(_) => before,
            None => {
                let alone = guarded(config, board, &job, &mut server, &run_one);
                if alone.doubtful { before.tried_again(alone, &config.protocol.catalogue) } else { alone }
            }
        };
        if result.verdict == Verdict::Fail {
            board.failed.store(true, Ordering::Relaxed);
        }
        done(job.index, result);
    }
}

/// Why no further flow begins.
fn not_begun(config: &RunConfig, board: &Board) -> Option<(Verdict, String)> {
    if config.stop.load(Ordering::Relaxed) {
        return Some((Verdict::Skip, "the run was cut short".to_owned()));
    }
    if config.bail && board.failed.load(Ordering::Relaxed) {
        return Some((Verdict::Skip, "an earlier flow failed, and --bail was given".to_owned()));
    }
    if config.budget.is_some_and(|budget| board.began.elapsed() > budget) {
        return Some((Verdict::Skip, "the time given with --budget is used up".to_owned()));
    }
    // In memory nothing is gained by giving up early, and what a silent reference breaks would stay unsaid.
    let costs_time = !matches!(config.target, Target::Reference(_));
    let mute = board.silent.load(Ordering::Relaxed) >= MUTE_AFTER && !board.heard.load(Ordering::Relaxed);
    if costs_time && mute {
        let reason = format!("the target is mute: it said nothing in {MUTE_AFTER} flows before");
        return Some((Verdict::Inconclusive, reason));
    }
    None
}

fn guarded(
    config: &RunConfig,
    board: &Board,
    job: &Job,
    server: &mut Option<ServerProcess>,
    run_one: &(impl Fn(&mut Option<ServerProcess>, &Job) -> FlowResult + Sync),
) -> FlowResult {
    let mut results: Vec<FlowResult> = Vec::new();
    for round in 0..config.repeat.max(1) {
        // What an earlier round has made may still be there in a program that goes on running.
        let mut again = None;
        if round > 0 && !matches!(config.target, Target::Reference(_)) {
            let mut plan = job.plan.clone();
            plan.settings.seed = plan.settings.seed.wrapping_add(u64::from(round));
            again = Some(Job { index: job.index, plan, tags: job.tags.clone() });
        }
        let job = again.as_ref().unwrap_or(job);
        let result = catch_unwind(AssertUnwindSafe(|| run_one(server, job))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_default();
            not_run(job, Verdict::Error, format!("{BUG}: {text}; please report it with this flow"))
        });
        if result.heard {
            board.heard.store(true, Ordering::Relaxed);
            board.silent.store(0, Ordering::Relaxed);
        } else if result.verdict != Verdict::Pass && result.verdict != Verdict::Skip {
            board.silent.fetch_add(1, Ordering::Relaxed);
        }
        results.push(result);
    }
    sum_up(results)
}

/// How a reason begins when flowproof itself is at fault.
pub const BUG: &str = "a bug of flowproof";

/// One result of several runs of the same flow. What does not show every time is racy.
fn sum_up(mut results: Vec<FlowResult>) -> FlowResult {
    let total = results.len();
    let bad = |result: &FlowResult| matches!(result.verdict, Verdict::Fail | Verdict::Warn);
    let failed = results.iter().filter(|result| bad(result)).count();
    let worst = results.iter().position(bad).unwrap_or(0);
    let mut result = results.swap_remove(worst);
    if failed > 0 && failed < total {
        result.racy = Some(format!(
            "{} {failed} of {total}",
            if result.verdict == Verdict::Fail { "fails" } else { "warns" }
        ));
        result.verdict = Verdict::Inconclusive;
        result.reason = Some(format!("racy: not every one of {total} runs ended alike"));
    }
    result
}

fn in_memory(config: &RunConfig, plan: &Plan, sinner: Option<&Sinner>) -> FlowResult {
    let sinner = sinner.filter(|sinner| sinner.role == plan.role);
    let began = Time::ZERO;
    match memory::run(Rc::new(plan.clone()), Arc::clone(&config.protocol), sinner, began, &config.stop) {
        Ok(outcome) => FlowResult::judge(plan, &config.protocol.catalogue, outcome),
        Err(reason) => FlowResult::not_run(&plan.name, &plan.file.path, &plan.role, Verdict::Error, reason),
    }
}

/// So many flows that did not go well on a busy machine are looked at alone: more are no accident.
const LOOKS_ALONE: usize = 8;

/// What a second try adds to the seed.
const AGAIN: u64 = 1 << 32;

fn network_flow(
    config: &RunConfig,
    board: &Board,
    runtime: &tokio::runtime::Runtime,
    plan: &Plan,
    place: &network::Place,
) -> FlowResult {
    let once = |more: u64| {
        // What was made in the first try may still be there in the second.
        let mut plan = plan.clone();
        plan.settings.seed = plan.settings.seed.wrapping_add(more);
        let shared = Rc::new(plan.clone());
        let stop = Arc::clone(&config.stop);
        let ran =
            runtime.block_on(network::run(shared, Arc::clone(&config.protocol), place, board.began, stop));
        match ran {
            Ok(ran) => {
                let lag = board.lag.worst(ran.span.0, ran.span.1);
                let mut result = FlowResult::judge(&plan, &config.protocol.catalogue, ran.outcome);
                for (participant, how) in ran.deaths {
                    judge_death(config, &plan, &participant, &how, &mut result);
                }
                (result, lag)
            }
            Err(reason) => {
                let result =
                    FlowResult::not_run(&plan.name, &plan.file.path, &plan.role, Verdict::Error, reason);
                (result, Duration::ZERO)
            }
        }
    };
    let pressure = Pressure::begin();
    let (result, lag) = once(0);
    let busy = pressure.was_busy();
    let clear = matches!(result.verdict, Verdict::Pass | Verdict::Skip | Verdict::Error);
    let stopped = config.stop.load(Ordering::Relaxed);
    if clear || stopped || (lag < plan.settings.slack && !busy) {
        return result;
    }
    // The machine stood still for longer than the allowance, or left the target no time: what was seen then may be
    // its fault.
    let (mut again, lag) = once(AGAIN);
    let fails = !matches!(again.verdict, Verdict::Pass | Verdict::Skip | Verdict::Error);
    again.doubtful = fails;
    if fails && lag >= plan.settings.slack {
        again.verdict = Verdict::Inconclusive;
        again.reason =
            Some(format!("this machine stood still for {} ms while the flow ran", lag.as_millis()));
        for finding in &mut again.findings {
            finding.ruling = Ruling::Undecided;
        }
    }
    result.tried_again(again, &config.protocol.catalogue)
}

/// A program under test ended by itself.
fn judge_death(config: &RunConfig, plan: &Plan, participant: &str, how: &str, result: &mut FlowResult) {
    let mut requirement = None;
    plan::walk(&plan.file.flow.steps, &mut |step| {
        if matches!(step.kind, StepKind::Served) {
            requirement = requirement.take().or_else(|| step.cites.first().map(|name| name.text.clone()));
        }
    });
    let requirement = requirement.or_else(|| config.protocol.settings.survival.get(&plan.role).cloned());
    let level = requirement.as_deref().map(|id| config.protocol.catalogue.level(id));
    result.kept.retain(|kept| Some(kept) != requirement.as_ref());
    // What killed it may have its own name, by which it is accused already.
    let root = result.findings.iter().find_map(|finding| {
        let root = finding.requirement.clone().filter(|_| finding.ruling == Ruling::Broken)?;
        let follower = requirement.as_deref()?;
        config.protocol.catalogue.explains(&root, follower, true).then_some(root)
    });
    let mut message = format!("{participant} ended by itself: {how}");
    if let Some(root) = &root {
        message = format!("follows from {root}: {message}");
    }
    result.findings.push(Finding {
        requirement,
        ruling: if root.is_some() { Ruling::Noted } else { Ruling::Broken },
        by: participant.to_owned(),
        judge: Judge::Liveness,
        at: Time::ZERO,
        line: None,
        message,
        expected: "that it goes on running".to_owned(),
        actual: serde_json::Value::Null,
    });
    result.reason = None;
    if root.is_some() {
        return;
    }
    result.verdict = match level {
        Some(crate::judge::catalogue::Level::Must) | None => Verdict::Fail,
        _ => Verdict::Warn.max(result.verdict),
    };
}

/// Runs a flow against a server of this worker; one that died is started anew, and its death is judged.
fn started_server(
    config: &RunConfig,
    board: &Board,
    runtime: &tokio::runtime::Runtime,
    job: &Job,
    command: &str,
    server: &mut Option<ServerProcess>,
) -> FlowResult {
    if let Some(reason) = board.gone.lock().unwrap_or_else(PoisonError::into_inner).clone() {
        return unreached(job, reason);
    }
    if server.as_mut().is_some_and(|server| server.program().exit_status().is_some()) {
        *server = None;
    }
    let running = match server {
        Some(running) => running,
        None => match ServerProcess::start(command, config.settings.startup, &config.stop) {
            Ok(started) => server.insert(started),
            Err(StartError::Stopped) => {
                return not_run(job, Verdict::Skip, StartError::Stopped.to_string());
            }
            Err(error) => {
                let reason = error.to_string();
                // One that came up before may come up again.
                let failures = board.not_started.fetch_add(1, Ordering::Relaxed) + 1;
                if failures >= MUTE_AFTER || !board.heard.load(Ordering::Relaxed) {
                    *board.gone.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
                }
                return unreached(job, reason);
            }
        },
    };
    let program = Some(Arc::clone(&running.process));
    let place = network::Place::Listens { address: running.address, tls: None, program };
    let mut result = network_flow(config, board, runtime, &job.plan, &place);
    // A crash shows in the process table a little later than on the wire, and must not be blamed on the next flow.
    let patience = match result.verdict {
        _ if job.plan.astray => AFTER_ASTRAY,
        Verdict::Pass => AFTER_PASS,
        _ => AFTER_FAILURE,
    };
    let until = Instant::now() + patience;
    while running.program().exit_status().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (ended, asked, words) = {
        let mut program = running.program();
        (program.exit_status(), program.was_asked(), program.last_words())
    };
    if asked {
        // The flow stopped it; the next one gets a program of its own.
        *server = None;
    } else if let Some(status) = ended {
        let how = format!("{status}{words}");
        let name = job.plan.cast.iter().find(|one| one.under_test).map_or("target", |one| one.name.as_str());
        judge_death(config, &job.plan, name, &how, &mut result);
        *server = None;
    }
    result
}

/// Whether a target at a URL still takes connections; noticed once, not waited for in every flow.
fn gone(board: &Board, address: SocketAddr) -> Option<String> {
    let mut known = board.gone.lock().unwrap_or_else(PoisonError::into_inner);
    if known.is_none()
        && let Err(error) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(3))
    {
        *known = Some(format!("the target at {address} takes no connections: {error}"));
    }
    known.clone()
}
