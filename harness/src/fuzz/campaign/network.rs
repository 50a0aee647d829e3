//! One worker of a campaign against a program on the network: always so many conversations in flight, a probe among them
//! now and then. When something is wrong they land, and those that may have done it are taken apart on fresh connections.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::case::{Case, UNNAMED, line, step};
use super::super::depart;
use super::super::identity::{Identity, Oracle, findings};
use super::super::minimise::Budget;
use super::super::play::resident;
use super::plays::Plays;
use super::{Board, Standing};
use crate::flow::ast::{Flow, HeaderItem, StepKind};
use crate::judge::finding::{Finding, Judge};
use crate::runner::plan::ASTRAY_PATIENCE;
use crate::runner::run::Target;
use crate::runner::verdict::FlowResult;
use crate::world::network::Place;
use crate::world::process::ServerProcess;

/// The least that a conversation waits for what may never come.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);
/// How long a program is watched after a batch, to see whether it dies of it.
const AFTERMATH: Duration = Duration::from_millis(20);
/// How long it is watched after a conversation that is to show why it died.
const AFTERMATH_ALONE: Duration = Duration::from_millis(600);
/// How often a finding is tried again.
const TRIES: usize = 3;
/// What making one finding small may cost.
const BUDGET: Budget = Budget { attempts: 120, time: Duration::from_secs(16), sure: 2, width: 1 };
/// The same where each conversation has a program of its own, which takes long and is done side by side.
const WIDE: Budget = Budget { time: Duration::from_secs(24), width: PROGRAMS, ..BUDGET };
/// Suspects of whom each is tried alone.
const FEW: usize = 4;
/// How long we wait before we look again for a target that has gone.
const GONE: Duration = Duration::from_millis(500);
/// How long a target that is gone is waited for where the campaign has no end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a changed conversation may take.
const CHANGED: Duration = Duration::from_secs(8);
/// How long a flow as it is written may take.
const WRITTEN: Duration = Duration::from_secs(15);
/// How often it is looked whether one takes too long, and whether the program lives.
const LOOK: Duration = Duration::from_millis(20);
/// Conversations between two probes, at least.
const ROUND: usize = 16;
/// The longest time between two probes while conversations land.
const UNPROBED: Duration = Duration::from_millis(500);
/// How long a conversation is suspected where no probe clears it.
const SUSPECT: Duration = Duration::from_secs(2);
/// How long those in flight may take to land by themselves when something is to be looked into.
const LANDING: Duration = Duration::from_millis(500);
/// How long they may take to land when they are told to.
const CALLED: Duration = Duration::from_millis(250);
/// Conversations in flight at first, and again when they were too many.
const CAREFUL: usize = 4;
/// Conversations in flight that each start a program.
const PROGRAMS: usize = 8;
/// So many more are tried when a bystander does not mind.
const WIDER: usize = 2;
/// A bystander who is served so much later does not mind.
const UNNOTICED: Duration = Duration::from_millis(30);
/// Those in flight with those that linger are at most so many times as many.
const CROWD: usize = 4;
/// The number of a probe, which is no case.
const PROBE: u64 = u64::MAX;
/// Probes that show how quick a target is.
const PROBES: usize = 12;

/// The program under test, as a worker has it.
struct Host<'b, 'a> {
    board: &'b Board<'a>,
    runtime: Rc<tokio::runtime::Runtime>,
    server: Option<ServerProcess>,
    /// The server serves many conversations; otherwise each has a program of its own.
    lasting: bool,
    memory: Option<u64>,
    probes: Vec<Duration>,
    /// How long the conversations of a batch wait for what may never come: longer than a bystander needs for all of its
    /// own.
    patience: Duration,
    told_memory: bool,
    told_slow: bool,
    /// Conversations in flight: as many as a bystander does not mind.
    width: usize,
    /// How long serving a bystander takes when nobody else is there.
    usual: Option<Duration>,
    /// Cases that were called back unfinished, and all that ever were: none is called back twice.
    again: Vec<(u64, Case)>,
    returned: BTreeSet<u64>,
}

/// A conversation in flight.
struct Flying {
    number: u64,
    case: Case,
    since: Instant,
    limit: Duration,
    stop: Arc<AtomicBool>,
    /// It mostly waits for what comes of it, and takes nobody's place.
    lingers: bool,
    /// It was called back, so that what came of it says nothing.
    called: bool,
}

/// What a flight came back with.
#[derive(Default)]
struct Landed {
    /// The conversations since the last time that all was well.
    suspects: Vec<Suspect>,
    news: Vec<(u64, Case, Identity, Finding)>,
    /// How a bystander was not served.
    unserved: Option<(Identity, Finding)>,
}

struct Suspect {
    number: u64,
    case: Case,
    landed: Option<Instant>,
}

pub(super) fn work(board: &Board<'_>, worker: usize) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Rc::new(runtime),
        Err(error) => {
            board.state().nothing = Some(format!("the network runtime does not start: {error}"));
            return;
        }
    };
    let stage = &board.config.stage;
    let kind = stage.protocol.settings.transport(&stage.settings.edition).kind;
    let datagrams = kind == crate::corpus::TransportKind::Udp;
    let listens = stage.protocol.settings.roles.iter().any(|role| role.name == stage.role && role.listens);
    let exec = matches!(board.config.target, Target::Exec { .. });
    let lasting = !exec || (listens && !datagrams);
    let mut host = Host {
        board,
        runtime,
        server: None,
        lasting,
        memory: None,
        probes: Vec::new(),
        patience: ASTRAY_PATIENCE,
        told_memory: false,
        told_slow: false,
        width: match (lasting, datagrams) {
            (true, _) => board.config.width.clamp(1, CAREFUL),
            // They mostly wait for greetings.
            (false, true) => board.config.width.max(1),
            (false, false) => board.config.width.clamp(1, PROGRAMS),
        },
        usual: None,
        again: Vec::new(),
        returned: BTreeSet::new(),
    };
    let probe = probe_case(board);
    if worker == 0 && !host.preflight(probe.as_ref()) {
        board.config.stop.store(true, Ordering::Relaxed);
        return;
    }
    while !board.is_over() || (!host.again.is_empty() && !board.is_ended()) {
        let Some(place) = host.place() else {
            if !host.wait_for_return() {
                return;
            }
            continue;
        };
        let landed = host.fly(&place, probe.as_ref());
        host.judge(landed, probe.as_ref());
    }
}

/// A bystander who comes and is served; none where the role serves nobody.
fn probe_case(board: &Board<'_>) -> Option<Case> {
    let stage = &board.config.stage;
    let served = stage.protocol.served.as_ref()?;
    if !depart::serves(&stage.protocol, &stage.role) {
        return None;
    }
    let header = served.flow.header.iter().filter_map(|known| match &known.item {
        item @ (HeaderItem::Protocol(_) | HeaderItem::Cast(_) | HeaderItem::Editions(_)) => {
            Some(line(item.clone()))
        }
        _ => None,
    });
    let flow = Flow {
        header: header.collect(),
        steps: vec![depart::served(&stage.protocol, &stage.role)],
        trailing: Vec::new(),
    };
    Some(Case { flow, origin: "served".to_owned(), departures: Vec::new() })
}

impl Host<'_, '_> {
    /// Where the target is; a program that has ended is started anew.
    fn place(&mut self) -> Option<Place> {
        match &self.board.config.target {
            Target::Reference(_) => None,
            Target::Url { place, address, .. } => {
                let reachable = matches!(place, Place::Peer { .. })
                    || TcpStream::connect_timeout(address, Duration::from_secs(3)).is_ok();
                reachable.then(|| place.clone())
            }
            Target::Exec { command, .. } if !self.lasting && self.is_peer() => {
                Some(Place::Peer { address: None, command: Some(command.clone()) })
            }
            Target::Exec { command, url } if !self.lasting => {
                Some(Place::Connects { command: command.clone(), url: url.clone() })
            }
            Target::Exec { command, .. } => {
                if self.server.as_mut().is_some_and(|server| server.program().exit_status().is_some()) {
                    self.server = None;
                }
                if self.server.is_none() {
                    let settings = &self.board.config.stage.settings;
                    match ServerProcess::start(command, settings.startup, &self.board.config.stop) {
                        Ok(server) => {
                            self.memory = resident(server.program().id());
                            self.server = Some(server);
                        }
                        Err(error) => {
                            self.board.state().nothing.get_or_insert(error.to_string());
                            return None;
                        }
                    }
                }
                let server = self.server.as_ref()?;
                let program = Some(Arc::clone(&server.process));
                Some(Place::Listens { address: server.address, tls: None, program })
            }
        }
    }

    fn is_peer(&self) -> bool {
        let stage = &self.board.config.stage;
        stage.protocol.settings.transport(&stage.settings.edition).kind == crate::corpus::TransportKind::Udp
    }

    /// Sends a conversation on its way; what came of it goes to `landed`, with its number.
    fn launch(
        &self,
        number: u64,
        case: &Case,
        place: &Place,
        together: bool,
        landed: &mpsc::UnboundedSender<(u64, Option<FlowResult>)>,
    ) -> Flying {
        let mut stage = self.board.config.stage.clone();
        let mut said = case.clone();
        if together {
            stage.settings.astray = self.patience;
            // Names and ids of its own: those of another conversation are somebody else there.
            stage.settings.seed ^= number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            // Probes see to the bystander.
            if self.lasting && number != PROBE && case.is_astray() {
                said.flow.steps.retain(|step| !matches!(step.kind, StepKind::Served));
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (began, place) = (self.board.began, place.clone());
        let (landed, stopped) = (landed.clone(), Arc::clone(&stop));
        tokio::task::spawn_local(async move {
            let file = Arc::new(said.unwritten(UNNAMED));
            let result = stage.over_network(file, place, began, stopped).await;
            // Nobody may be waiting any more.
            let _ = landed.send((number, result.ok()));
        });
        let limit = if case.is_astray() { CHANGED } else { WRITTEN };
        let lingers = self.lasting && depart::settled(case).is_none();
        Flying { number, case: case.clone(), since: Instant::now(), limit, stop, lingers, called: false }
    }

    /// Plays cases side by side; `together` when they meet each other.
    fn play(&self, batch: &[(u64, Case)], place: &Place, together: bool) -> Vec<Option<FlowResult>> {
        let board = self.board;
        let local = tokio::task::LocalSet::new();
        local.block_on(&self.runtime, async {
            let (landed, mut landing) = mpsc::unbounded_channel();
            let mut results: Vec<Option<FlowResult>> = batch.iter().map(|_| None).collect();
            let mut flying: Vec<Flying> = batch
                .iter()
                .zip(0..)
                .map(|((_, case), slot)| self.launch(slot, case, place, together, &landed))
                .collect();
            while !flying.is_empty() {
                tokio::select! {
                    Some((slot, result)) = landing.recv() => {
                        flying.retain(|one| one.number != slot);
                        if let Some(place) = usize::try_from(slot).ok().and_then(|slot| results.get_mut(slot)) {
                            *place = result;
                        }
                    }
                    () = tokio::time::sleep(LOOK) => {
                        // A campaign that is over waits for nobody.
                        let over = board.is_past();
                        for one in flying.iter().filter(|one| over || one.since.elapsed() > one.limit) {
                            one.stop.store(true, Ordering::Relaxed);
                        }
                        if over {
                            break;
                        }
                    }
                }
            }
            results
        })
    }

    /// Keeps conversations in flight until there is something to look into, or the campaign is over.
    fn fly(&mut self, place: &Place, probe: Option<&Case>) -> Landed {
        let board = self.board;
        let together = board.config.width > 1;
        let probe = probe.filter(|_| self.lasting);
        let mut back = Landed::default();
        let local = tokio::task::LocalSet::new();
        let runtime = Rc::clone(&self.runtime);
        local.block_on(&runtime, async {
            let (landed, mut landing) = mpsc::unbounded_channel();
            let mut flying: Vec<Flying> = Vec::new();
            // There are no further ones; or since when no further ones are sent.
            let (mut dry, mut closed): (bool, Option<Instant>) = (false, None);
            let (mut unprobed, mut probed) = (0, Instant::now());
            let mut look = tokio::time::interval(LOOK);
            loop {
                let width = self.width;
                let mut busy = flying.iter().filter(|one| !one.lingers).count();
                while closed.is_none() && !dry && busy < width && flying.len() < width * CROWD {
                    let Some((number, case)) = self.again.pop().or_else(|| board.take()) else {
                        dry = true;
                        break;
                    };
                    let one = self.launch(number, &case, place, together, &landed);
                    busy += usize::from(!one.lingers);
                    flying.push(one);
                    if self.lasting {
                        back.suspects.push(Suspect { number, case, landed: None });
                    }
                }
                let probing = flying.iter().any(|one| one.number == PROBE);
                let waited = probed.elapsed() > UNPROBED || flying.is_empty();
                let due = unprobed >= ROUND.max(width) || (unprobed > 0 && waited);
                if let Some(probe) = probe.filter(|_| due && closed.is_none() && !probing) {
                    (unprobed, probed) = (0, Instant::now());
                    flying.push(self.launch(PROBE, probe, place, true, &landed));
                }
                if flying.is_empty() {
                    break;
                }
                tokio::select! {
                    Some((number, result)) = landing.recv() => {
                        let Some(index) = flying.iter().position(|one| one.number == number) else { continue };
                        let one = flying.swap_remove(index);
                        if number == PROBE {
                            self.probed(&one, result, &mut back);
                        } else {
                            unprobed += 1;
                            self.landed(one, result, &mut back);
                        }
                    }
                    _ = look.tick() => {
                        let wrong = self.is_dead() || !back.news.is_empty() || back.unserved.is_some();
                        if closed.is_none() && (wrong || board.is_ended()) {
                            closed = Some(Instant::now());
                        }
                        if probe.is_none() {
                            // Nobody tells that all is well: those of the last seconds are suspects.
                            let long_ago = |at: Instant| at.elapsed() > SUSPECT;
                            back.suspects.retain(|known| !known.landed.is_some_and(long_ago));
                        }
                        let over = board.is_past();
                        let late = closed.is_some_and(|since| over || since.elapsed() > LANDING);
                        for one in &mut flying {
                            if late || one.since.elapsed() > one.limit {
                                one.called |= late;
                                one.stop.store(true, Ordering::Relaxed);
                            }
                        }
                        // What does not even land when it is called is left behind.
                        if closed.is_some_and(|since| over || since.elapsed() > LANDING + CALLED) {
                            for one in flying.drain(..).filter(|one| one.number != PROBE) {
                                if self.returned.insert(one.number) {
                                    self.again.push((one.number, one.case));
                                }
                            }
                        }
                    }
                }
                if closed.is_none() && (!back.news.is_empty() || back.unserved.is_some()) {
                    closed = Some(Instant::now());
                }
            }
        });
        back
    }

    /// Hears what came of a conversation.
    fn landed(&mut self, one: Flying, result: Option<FlowResult>, back: &mut Landed) {
        let board = self.board;
        if one.called && self.returned.insert(one.number) {
            back.suspects.retain(|known| known.number != one.number);
            self.again.push((one.number, one.case));
            return;
        }
        if let Some(known) = back.suspects.iter_mut().find(|known| known.number == one.number) {
            known.landed = Some(Instant::now());
        }
        let Some(result) = result else {
            board.unplayable.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let found = board.learn(&one.case, &result);
        back.news.extend(
            found.into_iter().map(|(identity, finding)| (one.number, one.case.clone(), identity, finding)),
        );
    }

    /// Hears what came of a probe.
    fn probed(&mut self, one: &Flying, result: Option<FlowResult>, back: &mut Landed) {
        let board = self.board;
        if one.called {
            return;
        }
        let stage = &board.config.stage;
        let unserved = match &result {
            Some(result) => findings(result, &board.kinds).into_iter().next(),
            None => {
                let finding = stage.about_target("a bystander cannot be served".to_owned(), "that it serves");
                let rule = finding.requirement.clone().unwrap_or_else(|| "liveness".to_owned());
                Some((Identity::of_target(Oracle::Liveness, &rule), finding))
            }
        };
        if let Some((identity, finding)) = unserved {
            let known = board.state().known.contains_key(&identity);
            // One that is known to serve nobody is not looked into again and again, unless it can be started anew.
            if known && self.server.is_none() && self.place().is_some() {
                let _ = board.is_new(&mut board.state(), &identity);
            } else {
                back.unserved = Some((identity, finding));
            }
            return;
        }
        let took = one.since.elapsed();
        if took > one.limit {
            // It was cut short, and says nothing.
            return;
        }
        // Whoever landed before it came has done no harm.
        back.suspects.retain(|known| known.landed.is_none_or(|landed| landed >= one.since));
        self.patience = (took * 2).clamp(LEAST_PATIENCE, ASTRAY_PATIENCE);
        self.probes.push(took);
        // Where everybody hears everybody, many at once drown each other.
        let usual = *self.usual.get_or_insert(took);
        if took < usual * 2 + UNNOTICED {
            self.width = (self.width + WIDER).min(board.config.width.max(1));
        } else if took > usual * 4 + UNNOTICED * 4 {
            self.width = (self.width / 2).clamp(1, CAREFUL);
        }
        self.measure();
    }

    /// True when the server of this worker has ended.
    fn is_dead(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.program().exit_status().is_some())
    }

    /// What making one finding small may cost: where each conversation has a program of its own, many are tried side by
    /// side.
    fn budget(&self) -> Budget {
        if self.lasting { BUDGET } else { WIDE }
    }

    /// Plays cases, each as [`Host::afresh`] plays one.
    fn each_afresh(&mut self, some: &[Case]) -> Vec<Option<FlowResult>> {
        if self.lasting || some.len() < 2 {
            return some.iter().map(|case| self.afresh(case)).collect();
        }
        let place = self.place().filter(|_| !self.board.is_past());
        let cases: Vec<(u64, Case)> = some.iter().map(|case| (0, case.clone())).collect();
        place.map_or_else(|| vec![None; some.len()], |place| self.play(&cases, &place, false))
    }

    /// Plays a case alone, with a program that no other case has harmed: one that dies late must not be blamed on what
    /// came after.
    fn afresh(&mut self, case: &Case) -> Option<FlowResult> {
        if self.board.is_past() {
            return None;
        }
        self.server = None;
        self.alone(case)
    }

    /// Plays a case alone, with a bystander after it, and sees whether the program lives.
    fn alone(&mut self, case: &Case) -> Option<FlowResult> {
        let place = self.place()?;
        let mut result = self.play(&[(0, case.clone())], &place, false).pop().flatten()?;
        let patience = if result.findings.is_empty() { AFTERMATH } else { AFTERMATH_ALONE };
        if let Some(how) = self.died(patience) {
            let stage = &self.board.config.stage;
            let message = format!("{} ended by itself: {how}", stage.role);
            // What follows from it is not told beside it.
            result.findings.retain(|known| known.judge != Judge::Liveness);
            result.findings.push(stage.about_target(message, "that it goes on running"));
        }
        Some(result)
    }

    /// How the server of this worker ended, if it did.
    fn died(&mut self, patience: Duration) -> Option<String> {
        let server = self.server.as_ref()?;
        let until = Instant::now() + patience;
        loop {
            let (status, asked, words) = {
                let mut program = server.program();
                (program.exit_status(), program.was_asked(), program.last_words())
            };
            if let Some(status) = status {
                self.server = None;
                // A flow may ask it to stop.
                return (!asked).then(|| format!("{status}{words}"));
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the target is there, and serves somebody who does nothing wrong.
    fn preflight(&mut self, probe: Option<&Case>) -> bool {
        if self.place().is_none() {
            let mut state = self.board.state();
            state.nothing.get_or_insert_with(|| "the target takes no connections".to_owned());
            return false;
        }
        let Some(probe) = probe.filter(|_| self.lasting) else { return true };
        let began = Instant::now();
        let Some(result) = self.alone(probe) else { return true };
        self.usual = Some(began.elapsed());
        for (identity, finding) in findings(&result, &self.board.kinds) {
            let new = self.board.is_new(&mut self.board.state(), &identity);
            if new {
                self.board.note("the target does not serve even those who do nothing wrong".to_owned());
                let (board, probe) = (self.board, probe.clone());
                board.look_into(0, &probe, identity, finding, TRIES, self.budget(), &mut |some| {
                    self.each_afresh(some)
                });
            }
        }
        true
    }

    /// Looks into what a flight came back with.
    fn judge(&mut self, back: Landed, probe: Option<&Case>) {
        let board = self.board;
        let Landed { suspects, mut news, mut unserved } = back;
        let mut end = self.died(if unserved.is_some() { AFTERMATH_ALONE } else { AFTERMATH });
        if end.is_none()
            && unserved.is_some()
            && let Some(probe) = probe.filter(|_| self.lasting && !board.is_past())
        {
            // Without the others it tells more.
            match self.alone(probe) {
                Some(result) => {
                    let alone = findings(&result, &board.kinds).into_iter().next();
                    unserved = alone.or(unserved);
                }
                None if !board.is_past() => end = Some("it takes no connections any more".to_owned()),
                None => {}
            }
        }
        let suspects: Vec<(u64, Case)> = suspects.into_iter().map(|one| (one.number, one.case)).collect();
        if let Some(how) = end {
            let stage = &board.config.stage;
            let finding = stage
                .about_target(format!("{} ended by itself: {how}", stage.role), "that it goes on running");
            let rule = finding.requirement.clone().unwrap_or_else(|| "crash".to_owned());
            let identity = Identity::of_target(Oracle::Crash, &rule);
            self.take_apart(&suspects, identity, finding, Standing::Once, probe);
        } else if let Some((identity, finding)) = unserved {
            self.take_apart(&suspects, identity, finding, Standing::Flaky, probe);
            self.server = None;
        }
        let mut plays = Plays::default();
        // What was flaky elsewhere is looked into last.
        while let Some(next) = (0..news.len()).min_by_key(|place| board.flaky(&news[*place].2.rule)) {
            let (number, case, identity, finding) = news.remove(next);
            if board.has_enough() {
                board.forget(&identity);
                continue;
            }
            plays.begin(number);
            board.look_into(number, &case, identity, finding, TRIES, self.budget(), &mut |some| {
                plays.of(some, |some| self.each_afresh(some))
            });
        }
    }

    /// The part of a batch that does harm by itself; all of it where no half does.
    fn bisect<'c>(&mut self, batch: &'c [(u64, Case)], probe: Option<&Case>) -> &'c [(u64, Case)] {
        let mut suspects = batch;
        while suspects.len() > 1 && !self.board.is_past() {
            let (first, second) = suspects.split_at(suspects.len() / 2);
            suspects = if self.is_harmed_by(first, probe) {
                first
            } else if self.is_harmed_by(second, probe) {
                second
            } else {
                break;
            };
        }
        suspects
    }

    /// Whether a program that is well serves nobody after these, side by side.
    fn is_harmed_by(&mut self, some: &[(u64, Case)], probe: Option<&Case>) -> bool {
        self.server = None;
        let Some(place) = self.place() else { return false };
        self.play(some, &place, some.len() > 1);
        if self.died(AFTERMATH).is_some() {
            return true;
        }
        let Some(probe) = probe.filter(|_| self.lasting) else { return false };
        self.alone(probe).is_none_or(|result| !findings(&result, &self.board.kinds).is_empty())
    }

    /// Looks for the one conversation of a batch after which something is wrong.
    fn take_apart(
        &mut self,
        batch: &[(u64, Case)],
        identity: Identity,
        finding: Finding,
        otherwise: Standing,
        probe: Option<&Case>,
    ) {
        let board = self.board;
        if !board.is_new(&mut board.state(), &identity) {
            return;
        }
        let suspects = if board.is_past() { &[] } else { self.bisect(batch, probe) };
        // So many that do no harm by halves will hardly do it one by one.
        let few = if suspects.len() > FEW { &[] } else { suspects };
        for (number, case) in few {
            if board.is_past() {
                break;
            }
            let mut case = case.clone();
            let served = case.flow.steps.iter().any(|step| matches!(step.kind, StepKind::Served));
            if !served && depart::serves(&board.config.stage.protocol, &board.config.stage.role) {
                case.flow.steps.push(depart::served(&board.config.stage.protocol, &board.config.stage.role));
            }
            let Some(result) = self.afresh(&case) else { continue };
            let again = findings(&result, &board.kinds);
            // A program that dies serves nobody, and one that serves nobody may be about to die.
            let same = again.into_iter().find(|(known, _)| {
                known.rule == identity.rule && matches!(known.oracle, Oracle::Crash | Oracle::Liveness)
            });
            if let Some((known, finding)) = same {
                board.look_into(*number, &case, known, finding, TRIES, self.budget(), &mut |some| {
                    self.each_afresh(some)
                });
                return;
            }
        }
        if otherwise == Standing::Flaky {
            // Many at once may keep a bystander waiting, whatever they say; fewer are tried from now on.
            self.width = CAREFUL.min(board.config.width.max(1));
            board.forget(&identity);
            board.note(format!("a bystander was not served beside {} others, and is again", batch.len()));
            return;
        }
        // None of them alone: all of them, one after another, are kept.
        let mut all: Option<(u64, Case)> = None;
        for (number, case) in batch {
            all = Some(match all {
                None => (*number, case.clone()),
                Some((first, before)) => {
                    let stage = &board.config.stage;
                    let both = depart::beside(&before, case, &stage.protocol, &stage.role, || false);
                    (first, both.unwrap_or(before))
                }
            });
        }
        if let Some((number, case)) = all {
            board.record(number, case, identity, finding, otherwise, (0, batch.len()), String::new());
        }
    }

    /// Memory and quickness of the server of this worker.
    fn measure(&mut self) {
        let board = self.board;
        let survival = board.config.stage.survival().unwrap_or_default();
        if let (Some(before), Some(server)) = (self.memory, &self.server)
            && let Some(now) = resident(server.program().id())
            && now > before.saturating_add(board.config.growth)
            && !std::mem::replace(&mut self.told_memory, true)
        {
            let message = format!("its memory grew from {} MiB to {} MiB", before >> 20, now >> 20);
            let expected = format!("that it grows by no more than {} MiB", board.config.growth >> 20);
            self.of_target(Oracle::Memory, "memory", message, &expected);
        }
        if self.probes.len() >= 2 * PROBES && !self.told_slow && !survival.is_empty() {
            let median = |some: &[Duration]| {
                let mut sorted = some.to_vec();
                sorted.sort_unstable();
                sorted[sorted.len() / 2]
            };
            let (first, last) =
                (median(&self.probes[..PROBES]), median(&self.probes[self.probes.len() - PROBES..]));
            if last > first * 10 && last > Duration::from_secs(1) {
                self.told_slow = true;
                let message = format!("a bystander is served in {last:.1?}, {first:.1?} at first");
                self.of_target(
                    Oracle::Slow,
                    "slow",
                    message,
                    "that those who do nothing wrong do not suffer",
                );
            }
        }
    }

    fn of_target(&self, oracle: Oracle, rule: &str, message: String, expected: &str) {
        let board = self.board;
        let identity = Identity::of_target(oracle, rule);
        if !board.is_new(&mut board.state(), &identity) {
            return;
        }
        let mut finding = board.config.stage.about_target(message, expected);
        finding.requirement = None;
        let header = board.pool.sequences.first().map(|case| case.flow.header.clone()).unwrap_or_default();
        let pause = step(StepKind::Wait(Duration::from_secs(1)));
        let flow = Flow { header, steps: vec![pause], trailing: Vec::new() };
        let case = Case { flow, origin: "the whole campaign".to_owned(), departures: Vec::new() };
        board.record(0, case, identity, finding, Standing::Once, (0, 0), String::new());
    }

    /// Waits for a target that has gone; false when it is not worth waiting any longer.
    fn wait_for_return(&mut self) -> bool {
        let board = self.board;
        let stage = &board.config.stage;
        let rule = stage.survival().unwrap_or_else(|| "crash".to_owned());
        let identity = Identity::of_target(Oracle::Crash, &rule);
        if board.is_new(&mut board.state(), &identity) {
            let message = format!("{} ended by itself: it takes no connections any more", stage.role);
            let finding = stage.about_target(message, "that it goes on running");
            let case = probe_case(board).unwrap_or_else(|| board.pool.sequences[0].clone());
            board.record(0, case, identity, finding, Standing::Once, (0, 0), String::new());
        }
        board.note("the target is gone; waiting for it to come back".to_owned());
        let until = Instant::now() + PATIENCE;
        while !board.is_over() && (board.config.time.is_some() || Instant::now() < until) {
            if self.place().is_some() {
                board.note("the target is back".to_owned());
                return true;
            }
            std::thread::sleep(GONE);
        }
        false
    }
}
