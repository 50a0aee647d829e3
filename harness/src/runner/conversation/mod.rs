//! One run of one flow, as a machine: bytes and time go in, bytes and wishes come out. It plays every participant
//! that is not under test and hears the four judges. No IO below this folder; the worlds in `world/` carry the bytes.

mod connecting;
mod datagrams;
mod either;
mod expect;
mod http;
mod leaving;
mod link;
mod sending;
mod silence;
mod steps;
mod task;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use flowproof_reference::machine::{LinkId, Time};
use flowproof_reference::transport::websocket::WireEvent;
use flowproof_reference::transport::{Framing, LinkEnd};

use self::expect::{Allowed, Expectation};
use self::link::{Arrival, Arrived, Link, Stage};
use self::task::Task;
use super::plan::{Participant, Plan};
use super::stimulus::Stimulus;
use super::transcript::{Line, Transcript};
use crate::corpus::Protocol;
use crate::judge::finding::{Finding, Judge, Ruling};
use crate::judge::schema;
use crate::monitor::{self, Monitor, MonitorConfig, Party, Rulings, Seen, What};
use crate::pattern::{Bindings, json};

/// Largest message that is read from a party under test.
pub const MESSAGE_LIMIT: usize = 8 << 20;
/// How long connections may take to end after a flow.
const FAREWELL: Duration = Duration::from_secs(1);
/// More messages than this in one flow is a flood; nothing is judged any more.
const FLOOD: u64 = 20_000;
/// Characters of a message that are handed to the transcript; it keeps less.
const TRANSCRIBED: usize = 4000;
/// Different findings that one flow may report.
const FINDINGS_LIMIT: usize = 40;

/// What happens to a conversation.
#[derive(Debug)]
pub enum Input<'a> {
    /// The network connection that was asked for is there.
    Connected(LinkId),
    /// It did not come about.
    NotConnected(LinkId, String),
    /// Bytes arrived.
    Bytes(LinkId, &'a [u8]),
    /// The connection has ended; true when it was reset.
    Ended(LinkId, bool),
    /// The network has taken so many of the bytes that were written.
    Written(LinkId, usize),
    /// The program that plays a participant under test has ended; true when it says that all went well.
    Exited(usize, bool),
    /// A datagram arrived at a participant's socket, from this address.
    Datagram(usize, SocketAddr, &'a [u8]),
    /// Time has passed.
    Tick,
}

/// What a conversation wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A network connection to the party under test.
    Dial(LinkId),
    /// Bytes to be written.
    Write(LinkId, Vec<u8>),
    /// No more bytes will be written; end the stream in order.
    Shutdown(LinkId),
    /// Cut the connection.
    Reset(LinkId),
    /// Stop reading from the connection, or go on.
    Stall(LinkId, bool),
    /// Ask the program that plays a participant under test to end in order.
    Quit(usize),
    /// A datagram from a participant's socket to this address.
    SendTo(usize, SocketAddr, Vec<u8>),
    /// Close a participant's datagram socket.
    Unbind(usize),
    /// Tell the program that plays a participant under test what to do.
    Stimulus(usize, Stimulus),
}

/// How the steps of a flow ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps were gone through.
    Complete,
    /// A step that cites a requirement failed; the finding says which.
    Broken,
    /// A step that only prepares failed: the flow could not reach what it is about.
    Unreached(String),
    /// The client did not act on its stimulus.
    NotDriven(String),
    /// The flow itself cannot be run.
    Flow(String),
    /// The target sends without end.
    Flooded(String),
    /// The party under test speaks another edition.
    OtherEdition(String),
    /// The run was cut short.
    Interrupted,
}

/// What came of a conversation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How the steps ended.
    pub ending: Ending,
    /// What the judges said; what was kept is in `kept`.
    pub findings: Vec<Finding>,
    /// Requirements put to the test and held.
    pub kept: BTreeSet<String>,
    /// Who said what, in order.
    pub transcript: Transcript,
    /// True when the party under test sent anything at all after connecting.
    pub heard: bool,
    /// Connections that could not be made at all.
    pub unreachable: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Why steps stop early.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// A cited step failed; the finding is recorded.
    Broken,
    /// As in [`Ending`].
    Other(Ending),
}

impl Stop {
    /// True when it is about one step, and others may go on without it.
    pub(crate) fn is_of_a_step(&self) -> bool {
        match self {
            Stop::Broken => true,
            Stop::Other(ending) => {
                matches!(ending, Ending::Unreached(_) | Ending::NotDriven(_) | Ending::Flow(_))
            }
        }
    }
}

/// Everything the steps of one flow share.
pub(crate) struct Shared {
    pub(crate) now: Time,
    pub(crate) plan: Rc<Plan>,
    protocol: Arc<Protocol>,
    rng: Rng,
    parties: Vec<Party>,
    /// Who takes part; a `served` conversation adds its own.
    pub(crate) cast: Vec<Participant>,
    links: Vec<Link>,
    /// The latest link of each played participant, or of each watched one that connected to us.
    current: Vec<Option<usize>>,
    /// Connections that a watched participant asked for and nobody answered yet.
    requests: Vec<VecDeque<usize>>,
    /// Plain requests, by who made them: those of a played participant wait for their answers, those of a watched one
    /// for an arrow that takes them.
    asked: Vec<VecDeque<usize>>,
    /// Plain requests of watched participants that an arrow took and that wait for our answer.
    taken: Vec<VecDeque<usize>>,
    outputs: VecDeque<Output>,
    pub(crate) wake: Option<Time>,
    pub(crate) progress: bool,
    expectations: BTreeMap<u64, Expectation>,
    next_expectation: u64,
    allowed: Vec<Allowed>,
    ignoring_bindings: Rc<RefCell<Bindings>>,
    monitors: Vec<Box<dyn Monitor>>,
    rulings: Rulings,
    findings: Vec<Finding>,
    kept: BTreeSet<String>,
    transcript: Transcript,
    /// When a played participant last did something.
    last_cause: Time,
    began: Time,
    heard: bool,
    unreachable: Option<String>,
    received: u64,
    /// More waits to be judged than anybody wants.
    swamped: bool,
    /// Messages that no step expected.
    strange: usize,
    served_runs: u32,
    /// Steps of a flow that went astray which came to nothing.
    missed: usize,
    /// The target was seen to serve in this flow.
    serves: bool,
    /// Who was told to do something last, and how many messages beside the background traffic it had sent by
    /// then.
    stimulated: Option<(usize, u64)>,
    /// Programs under test that have ended, and whether they say that all went well.
    exits: BTreeMap<usize, bool>,
    /// Where the datagram sockets of the cast are, as far as that is known.
    addresses: Vec<Option<SocketAddr>>,
    /// Sockets of ours that nobody uses yet.
    spare_addresses: VecDeque<SocketAddr>,
    greeters: Vec<datagrams::Greeter>,
    /// The ids of a crowd's members, by their place in the cast.
    ids: BTreeMap<usize, serde_json::Value>,
}

/// One run of one flow.
pub struct Conversation {
    shared: Rc<RefCell<Shared>>,
    task: Option<Task<Result<(), Stop>>>,
    ending: Option<Ending>,
    farewell: Option<Time>,
    finished: bool,
}

impl Conversation {
    /// Begins a flow at `now`. `addresses` are those of the cast's datagram sockets, as far as they are known, and
    /// behind them those of the plan's spare sockets; none for a flow over streams.
    pub fn new(
        plan: Rc<Plan>,
        protocol: Arc<Protocol>,
        now: Time,
        addresses: &[Option<SocketAddr>],
    ) -> Conversation {
        let parties: Vec<Party> = plan
            .cast
            .iter()
            .map(|one| Party { name: one.name.clone(), role: one.role.clone(), under_test: one.under_test })
            .collect();
        let mut bindings = Bindings::default();
        for (name, bound) in &plan.bound {
            bindings.bind(name, bound.clone());
        }
        let bindings = Rc::new(RefCell::new(bindings));
        let mut settings = protocol.settings.values(&plan.settings.edition);
        settings.extend(plan.settings.variables.clone());
        let config = MonitorConfig {
            slack: plan.settings.slack,
            exclusive: plan.settings.exclusive,
            edition: plan.settings.edition.clone(),
            told: Some(
                crate::runner::plan::known_before(&plan)
                    .into_iter()
                    .filter_map(|one| *addresses.get(one)?)
                    .collect(),
            ),
            settings,
        };
        let mut shared = Shared {
            now,
            // What the fuzzer finds must not depend on what its file is called.
            rng: Rng::with_seed(seed_for(
                plan.settings.seed,
                if plan.astray { crate::runner::plan::ASTRAY } else { &plan.name },
            )),
            current: vec![None; parties.len()],
            requests: vec![VecDeque::new(); parties.len()],
            asked: vec![VecDeque::new(); parties.len()],
            taken: vec![VecDeque::new(); parties.len()],
            parties,
            cast: plan.cast.clone(),
            links: Vec::new(),
            outputs: VecDeque::new(),
            wake: None,
            progress: false,
            expectations: BTreeMap::new(),
            next_expectation: 0,
            allowed: Vec::new(),
            ignoring_bindings: Rc::clone(&bindings),
            monitors: monitor::monitors_of(&protocol, &config),
            rulings: Rulings::default(),
            findings: Vec::new(),
            kept: BTreeSet::new(),
            transcript: Transcript::default(),
            last_cause: now,
            began: now,
            heard: false,
            unreachable: None,
            received: 0,
            swamped: false,
            strange: 0,
            served_runs: 0,
            missed: 0,
            serves: false,
            stimulated: None,
            exits: BTreeMap::new(),
            addresses: addresses.iter().copied().take(plan.cast.len()).collect(),
            spare_addresses: addresses.iter().skip(plan.cast.len()).flatten().copied().collect(),
            greeters: Vec::new(),
            ids: BTreeMap::new(),
            plan: Rc::clone(&plan),
            protocol,
        };
        if plan.datagrams {
            shared.addresses.resize(plan.cast.len(), None);
            shared.introduce(&mut bindings.borrow_mut());
        }
        let shared = Rc::new(RefCell::new(shared));
        let task = steps::flow(Rc::clone(&shared), plan, bindings);
        let mut conversation =
            Conversation { shared, task: Some(task), ending: None, farewell: None, finished: false };
        conversation.advance();
        conversation
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        {
            let shared = &mut *self.shared.borrow_mut();
            // A reader's timestamp may lie a little before what the clock said last; time never runs back.
            shared.now = shared.now.max(now);
            match input {
                Input::Connected(link) => shared.connected(link),
                Input::NotConnected(link, detail) => shared.not_connected(link, detail),
                Input::Bytes(link, bytes) => shared.bytes(link, bytes),
                Input::Ended(link, _reset) => shared.ended(link),
                Input::Written(link, count) => {
                    if let Some(link) = shared.links.get_mut(link.0 as usize) {
                        link.unwritten = link.unwritten.saturating_sub(count);
                    }
                }
                Input::Exited(participant, well) => {
                    shared.exits.entry(participant).or_insert(well);
                }
                Input::Datagram(socket, from, bytes) => shared.datagram(socket, from, bytes),
                Input::Tick => {}
            }
            if self.task.is_some() {
                shared.greet_due();
            }
            shared.monitors_due();
        }
        self.advance();
    }

    /// A participant under test has connected to the address given to it. The number of the new link.
    pub fn incoming(&mut self, now: Time, participant: usize) -> LinkId {
        let link = {
            let shared = &mut *self.shared.borrow_mut();
            shared.now = shared.now.max(now);
            shared.incoming(participant)
        };
        self.advance();
        link
    }

    /// Takes the next wish.
    pub fn poll_output(&mut self) -> Option<Output> {
        let shared = &mut *self.shared.borrow_mut();
        shared.flush_links();
        shared.outputs.pop_front()
    }

    /// When [`Input::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        let shared = self.shared.borrow();
        let steps = if self.task.is_some() { shared.wake } else { self.farewell };
        let monitors = shared.monitors.iter().filter_map(|monitor| monitor.deadline()).min();
        let others = monitors.into_iter().chain(shared.next_greeting()).min();
        let others = if self.task.is_some() { others } else { None };
        [steps, others].into_iter().flatten().min()
    }

    /// True when nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.finished
    }

    /// True when the steps are over and every link is taken leave of.
    pub fn is_leaving(&self) -> bool {
        self.farewell.is_some()
    }

    /// Stops at once, with what was found so far.
    pub fn interrupt(&mut self) {
        if self.task.take().is_some() {
            self.steps_ended(Ending::Interrupted);
        }
        self.finished = true;
    }

    /// Stops at once: whom the flow is about cannot be reached, for the reason given.
    pub fn give_up(&mut self, why: String) {
        if self.task.take().is_some() {
            let mut shared = self.shared.borrow_mut();
            shared.unreachable.get_or_insert(why.clone());
            drop(shared);
            self.steps_ended(Ending::Unreached(why));
        }
        self.finished = true;
    }

    /// What came of it.
    pub fn into_outcome(self) -> Outcome {
        let shared = &mut *self.shared.borrow_mut();
        Outcome {
            ending: self.ending.unwrap_or(Ending::Interrupted),
            findings: std::mem::take(&mut shared.findings),
            kept: std::mem::take(&mut shared.kept),
            transcript: std::mem::take(&mut shared.transcript),
            heard: shared.heard,
            unreachable: shared.unreachable.take(),
            took: shared.now.since(shared.began),
        }
    }

    fn advance(&mut self) {
        while let Some(task) = &mut self.task {
            {
                let mut shared = self.shared.borrow_mut();
                shared.progress = false;
                shared.wake = None;
                if let Some(flood) = shared.flood() {
                    drop(shared);
                    self.task = None;
                    self.steps_ended(flood);
                    break;
                }
                if let Some(text) = shared.rulings.other_edition.clone() {
                    drop(shared);
                    self.task = None;
                    self.steps_ended(Ending::OtherEdition(text));
                    break;
                }
            }
            match task::poll_once(task) {
                Poll::Ready(result) => {
                    self.task = None;
                    let ending = match result {
                        Ok(()) => Ending::Complete,
                        Err(Stop::Broken) => Ending::Broken,
                        Err(Stop::Other(ending)) => ending,
                    };
                    self.steps_ended(ending);
                }
                Poll::Pending => {
                    let mut shared = self.shared.borrow_mut();
                    if !shared.progress && !shared.fail_blocked() {
                        break;
                    }
                }
            }
        }
        if let Some(farewell) = self.farewell {
            let shared = self.shared.borrow();
            let all_gone =
                shared.links.iter().all(|link| matches!(link.stage, Stage::Ended | Stage::Refused(..)));
            self.finished |= all_gone || shared.now >= farewell;
        }
    }

    /// The steps are over: what is left is judged, and every link is taken leave of.
    fn steps_ended(&mut self, ending: Ending) {
        let shared = &mut *self.shared.borrow_mut();
        if ending == Ending::Complete {
            shared.judge_leftovers();
        }
        let now = shared.now;
        for monitor in &mut shared.monitors {
            monitor.finish(now, &mut shared.rulings);
        }
        shared.collect_rulings();
        shared.monitors.clear();
        self.ending = Some(ending);
        self.farewell = Some(now + FAREWELL);
        for index in 0..shared.links.len() {
            shared.take_leave(index);
        }
    }
}

/// A seed of its own for each flow, so that one flow's draws do not depend on which others ran.
fn seed_for(seed: u64, name: &str) -> u64 {
    // FNV-1a; any fixed function of the name will do, std's hasher is not fixed.
    name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Shared {
    /// Says so when more arrives than anybody can judge.
    fn flood(&self) -> Option<Ending> {
        if self.swamped {
            let text = format!("{} messages arrived, and far more than any step waits for", self.received);
            return Some(Ending::Flooded(text));
        }
        let text = format!("more than {FLOOD} messages arrived in one flow");
        (self.received > FLOOD).then_some(Ending::Flooded(text))
    }

    /// Messages of a participant under test that are not background traffic, on all its connections.
    fn deeds_of(&self, participant: usize) -> u64 {
        self.links.iter().filter(|link| link.watched == participant).map(|link| link.deeds).sum()
    }

    /// How the harness's ends read.
    pub(crate) fn framing(&self) -> Framing {
        self.protocol.settings.transport(&self.plan.settings.edition).framing(MESSAGE_LIMIT)
    }

    fn new_link(
        &mut self,
        played: usize,
        watched: usize,
        dialled: bool,
        end: LinkEnd,
        target: String,
    ) -> usize {
        let index = self.links.len();
        let stage = if dialled { Stage::Dialling } else { Stage::Upgrading };
        self.links.push(Link { end, stage, target, ..Link::new(LinkId(index as u64), played, watched) });
        index
    }

    fn incoming(&mut self, watched: usize) -> LinkId {
        // Whoever listens in this flow and is played is the one it connected to.
        let played = self.cast.iter().position(|one| one.listens && !one.under_test).unwrap_or(watched);
        let end = self.framing().listening();
        let index = self.new_link(played, watched, false, end, String::new());
        self.drain(index);
        self.links[index].id
    }

    fn connected(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id.0 as usize).filter(|link| link.stage == Stage::Dialling) {
            link.stage = Stage::Upgrading;
        }
        self.drain(id.0 as usize);
    }

    fn not_connected(&mut self, id: LinkId, detail: String) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        link.stage = Stage::Refused(None, detail.clone());
        link.shut = true;
        let plain = link.plain;
        self.unreachable.get_or_insert(detail);
        if plain {
            self.arrived(id.0 as usize, Arrival::Ended, false);
        }
    }

    fn bytes(&mut self, id: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        link.end.receive(bytes);
        self.drain(id.0 as usize);
    }

    fn ended(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        link.end.end_of_stream();
        self.drain(id.0 as usize);
    }

    /// Takes what the transport made of the bytes.
    fn drain(&mut self, index: usize) {
        if index >= self.links.len() {
            return;
        }
        while let Some(event) = self.links[index].end.poll() {
            self.wire_event(index, event);
        }
    }

    fn wire_event(&mut self, index: usize, event: WireEvent) {
        let link = &mut self.links[index];
        let watched = link.watched;
        match event {
            WireEvent::Request(request) => {
                link.subprotocols = subprotocols(&request.headers);
                link.target = request.path.clone();
                if !request.query.is_empty() {
                    link.target = format!("{}?{}", request.path, request.query);
                }
                link.stage = Stage::Requested;
                self.note(index, true, format!("{} {}", request.method, self.links[index].target));
                // Without framing there is nothing to upgrade to.
                if request.upgrade || matches!(self.links[index].end, LinkEnd::Frames(_)) {
                    let target = self.links[index].target.clone();
                    self.observe(index, true, &What::Requested { target: &target });
                    self.requests[watched].push_back(index);
                } else {
                    self.requested(index, request);
                }
            }
            WireEvent::Answered(response) => self.answered(index, response),
            WireEvent::Opened(response) => {
                link.subprotocols = subprotocols(&response.headers);
                link.stage = Stage::Open;
                let target = link.target.clone();
                self.note(index, false, format!("connected to {target}"));
                self.observe(index, false, &What::Opened { target: &target });
            }
            WireEvent::Refused(response, detail) => {
                let status = (response.status != 0).then_some(response.status);
                link.stage = Stage::Refused(status, detail.clone());
                self.heard |= status.is_some();
                let text = match status {
                    Some(status) => format!("refused with HTTP {status}"),
                    None => format!("refused: {detail}"),
                };
                self.note(index, true, text);
                if self.links[index].plain {
                    // Whoever waits for the answer is to see that there will be none.
                    self.arrived(index, Arrival::Ended, false);
                }
            }
            // An empty frame says nothing: it keeps a stream open.
            WireEvent::Text(bytes) if bytes.is_empty() && matches!(link.end, LinkEnd::Frames(_)) => {
                self.heard = true;
            }
            WireEvent::Text(bytes) => self.text(index, &bytes),
            WireEvent::Binary(bytes) => {
                self.heard = true;
                let by = &self.parties[watched];
                schema::judge_binary(&self.protocol, by, &bytes, self.now, &mut self.rulings);
                let misplaced = !self.rulings.findings.is_empty()
                    && json::parse_received(&bytes).is_ok_and(|value| value.is_object());
                self.collect_rulings();
                if misplaced {
                    // The wrong kind of frame was judged; what it says is judged like any other message.
                    self.text(index, &bytes);
                    return;
                }
                self.observe(index, true, &What::Binary(&bytes));
                self.queue(index, Arrival::Binary(bytes));
            }
            WireEvent::Ping(bytes) => {
                self.observe(index, true, &What::Ping(&bytes));
                if self.links[index].can_send() {
                    let pong = flowproof_reference::machine::Message::Pong(bytes.clone());
                    self.links[index].end.send(&pong);
                    self.observe(index, false, &What::Pong(&bytes));
                }
                self.queue(index, Arrival::Ping(bytes));
            }
            WireEvent::Pong(bytes) => {
                self.observe(index, true, &What::Pong(&bytes));
                self.queue(index, Arrival::Pong(bytes));
            }
            WireEvent::Closing { code, reason } => {
                link.ended_by_them |= !link.ended_by_us;
                // The Close frame is answered as RFC 6455 asks: with the same code.
                let answer = code.filter(|code| is_sendable(*code));
                link.end.close(answer, "");
                self.observe(index, true, &What::Closing { code, reason: &reason });
                self.queue(index, Arrival::Closing { code, reason });
            }
            WireEvent::Fault(_, detail) => {
                link.ended_by_them |= !link.ended_by_us;
                self.observe(index, true, &What::Raw(detail.as_bytes()));
                self.links[index].end.close(Some(1002), "");
                self.links[index].end.finish();
                self.queue(index, Arrival::Fault(detail));
            }
            WireEvent::Bytes(_) => {
                // What answers raw bytes is not read; that the stream ends is.
                self.heard = true;
            }
            WireEvent::Ended => {
                let was_open = matches!(link.stage, Stage::Open | Stage::Upgrading | Stage::Requested);
                link.ended_by_them |= !link.ended_by_us;
                if !matches!(link.stage, Stage::Refused(..)) {
                    link.stage = Stage::Ended;
                }
                if was_open {
                    let by_them = self.links[index].ended_by_them;
                    self.observe(index, by_them, &What::Closed);
                    self.queue(index, Arrival::Ended);
                }
            }
        }
    }

    fn text(&mut self, index: usize, bytes: &[u8]) {
        let parsed = json::parse_received(bytes);
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.heard = true;
        let link = &self.links[index];
        let (from, to) = (&self.parties[link.watched], &self.parties[link.played]);
        let edition = &self.plan.settings.edition;
        let as_seen = parsed.as_ref().map_err(|error| *error);
        schema::judge_text(&self.protocol, edition, from, to, &text, as_seen, self.now, &mut self.rulings);
        // What is no message at all was judged as that, and answers no arrow.
        let nothing = !self.rulings.findings.is_empty() && matches!(parsed, Err(monitor::NotJson::Malformed));
        let mut judged = self.collect_rulings();
        judged |= self.observe(index, true, &What::Text { text: &text, json: as_seen });
        self.note(index, true, json::cut(&text, TRANSCRIBED));
        if !nothing {
            self.arrived(index, Arrival::Text { text, json: parsed }, judged);
        }
    }

    fn queue(&mut self, index: usize, arrival: Arrival) {
        self.note(index, true, arrival.describe());
        self.arrived(index, arrival, false);
    }

    fn arrived(&mut self, index: usize, what: Arrival, judged: bool) {
        self.received += 1;
        let at = self.now;
        let bindings = Rc::clone(&self.ignoring_bindings);
        let bindings = bindings.borrow();
        let ignoring = &self.plan.ignoring;
        // Where anything may come at any time, whatever comes may be a deed.
        let mut usual = ignoring.iter().filter(|payload| !expect::is_anything(payload));
        let idle = usual.any(|payload| expect::fits_payload(payload, &what, &bindings).is_some());
        self.links[index].deeds += u64::from(!idle);
        let background = |arrival: &Arrival| expect::is_background(arrival, ignoring, &bindings);
        self.swamped |= !self.links[index].push(Arrived { at, what, judged }, background);
    }

    /// Writes a line of the transcript.
    fn note(&mut self, index: usize, from_watched: bool, text: String) {
        let link = &self.links[index];
        let (from, to) = if from_watched { (link.watched, link.played) } else { (link.played, link.watched) };
        let line = Line {
            at: self.now,
            link: link.id,
            from: self.parties[from].name.clone(),
            to: self.parties[to].name.clone(),
            text,
        };
        self.transcript.push(line);
    }

    /// Shows the monitors something. True when they accuse a message for it.
    fn observe(&mut self, index: usize, from_watched: bool, what: &What<'_>) -> bool {
        let link = &self.links[index];
        let (from, to) = if from_watched { (link.watched, link.played) } else { (link.played, link.watched) };
        let ours =
            if link.is_datagrams() { self.addresses.get(link.played).copied().flatten() } else { None };
        let (from_address, to_address) = if from_watched { (link.remote, ours) } else { (ours, link.remote) };
        let seen = Seen {
            at: self.now,
            link: link.id,
            from: &self.parties[from],
            to: &self.parties[to],
            from_address,
            to_address,
            what: what.clone(),
        };
        for monitor in &mut self.monitors {
            monitor.observe(&seen, &mut self.rulings);
        }
        self.collect_rulings()
    }

    fn monitors_due(&mut self) {
        let now = self.now;
        for monitor in &mut self.monitors {
            if monitor.deadline().is_some_and(|deadline| deadline <= now) {
                monitor.due(now, &mut self.rulings);
            }
        }
        self.collect_rulings();
    }

    /// Records what was said. True when something of it accuses a message, not something that did not come.
    fn collect_rulings(&mut self) -> bool {
        let findings = std::mem::take(&mut self.rulings.findings);
        let accuses = |finding: &Finding| finding.ruling == Ruling::Broken && !finding.actual.is_null();
        let judged = findings.iter().any(accuses);
        findings.into_iter().for_each(|finding| self.find(finding));
        judged
    }

    /// Records what a judge said; what is said again in other words about the same requirement is said once.
    pub(crate) fn find(&mut self, finding: Finding) {
        if finding.ruling == Ruling::Kept {
            self.kept.extend(finding.requirement);
            return;
        }
        let known = self.findings.iter().any(|known| {
            known.requirement == finding.requirement
                && known.ruling == finding.ruling
                && known.judge == finding.judge
                && (known.judge != Judge::Arrow || known.line == finding.line)
        });
        if !known && self.findings.len() < FINDINGS_LIMIT {
            self.findings.push(finding);
        }
    }

    /// What nobody expected and nothing ignores.
    fn judge_leftovers(&mut self) {
        for index in 0..self.links.len() {
            let items: Vec<Arrived> = std::mem::take(&mut self.links[index].inbox).into();
            if self.links[index].stray {
                continue;
            }
            for item in items {
                let message = matches!(item.what, Arrival::Text { .. } | Arrival::Binary(_));
                // Bystanders are there to be served; what else reaches them is the business of the flow's own cast.
                let bystander = self.links[index].played >= self.plan.cast.len();
                let aside = bystander || item.judged || self.is_background(&item.what);
                if !message || aside || self.take_allowed(index, &item.what) {
                    continue;
                }
                let link = &self.links[index];
                // Those of a `served` conversation have nothing to do with what the flow is about.
                let of_flow = link.played < self.plan.cast.len();
                let default = || {
                    let default = self.protocol.settings.unexpected.clone();
                    default.filter(|id| self.protocol.catalogue.binds(id, &self.plan.role))
                };
                let unexpected = if of_flow { self.plan.unexpected.clone() } else { default() };
                let Some(requirement) = unexpected.filter(|_| !self.plan.settings.shared) else { continue };
                let receiver = self.parties[link.played].name.clone();
                let finding = Finding {
                    requirement: Some(requirement),
                    ruling: Ruling::Broken,
                    by: self.parties[link.watched].name.clone(),
                    judge: Judge::Arrow,
                    at: item.at,
                    line: None,
                    message: format!("{receiver} received a message that nobody expected"),
                    expected: format!("nothing more for {receiver}"),
                    actual: item.what.value(),
                };
                self.find(finding);
            }
        }
    }

    /// Ends a link in order, whoever is at its other end.
    fn take_leave(&mut self, index: usize) {
        let link = &mut self.links[index];
        match link.stage {
            Stage::Open if link.is_datagrams() => {
                link.stage = Stage::Ended;
                return;
            }
            Stage::Open => {
                link.ended_by_us = true;
                link.end.close(Some(1000), "");
            }
            Stage::Ended | Stage::Refused(..) => {}
            Stage::Dialling | Stage::Upgrading | Stage::Requested => {
                link.stage = Stage::Ended;
                link.shut = true;
                let id = link.id;
                self.outputs.push_back(Output::Reset(id));
            }
        }
        let id = self.links[index].id;
        self.outputs.push_back(Output::Stall(id, false));
    }

    /// Moves what the ends want written to the outputs.
    fn flush_links(&mut self) {
        for index in 0..self.links.len() {
            if self.links[index].is_datagrams() {
                self.flush_datagrams(index);
                continue;
            }
            let link = &mut self.links[index];
            if link.shut || link.stage == Stage::Dialling {
                continue;
            }
            let bytes = link.end.take_output();
            if !bytes.is_empty() {
                link.unwritten += bytes.len();
                self.outputs.push_back(Output::Write(link.id, bytes));
            }
            if link.end.wants_end() {
                link.shut = true;
                self.outputs.push_back(Output::Shutdown(link.id));
            }
        }
    }

    fn is_background(&self, arrival: &Arrival) -> bool {
        expect::is_background(arrival, &self.plan.ignoring, &self.ignoring_bindings.borrow())
    }
}

/// The subprotocols that a request offers, or the one that an answer selects.
fn subprotocols(headers: &[(String, String)]) -> Vec<String> {
    let lists = headers.iter().filter(|(name, _)| name == "sec-websocket-protocol");
    lists.flat_map(|(_, list)| list.split(',')).map(|one| one.trim().to_owned()).collect()
}

/// Codes that may stand in a Close frame (RFC 6455, 7.4).
fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
