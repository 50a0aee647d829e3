//! A master with slaves and controls on lines without delay. Time passes only when a test says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use flowproof_reference::clusterio::{
    Control, ControlCommand, ControlConfig, ControlEvent, Master, MasterConfig, MasterEvent, Slave,
    SlaveCommand, SlaveConfig, SlaveEvent, Tokens,
};
use flowproof_reference::driver::host::{Host, HostOutput};
use flowproof_reference::machine::{LinkId, Machine, Time};
use flowproof_reference::transport::Framing;
use flowproof_reference::transport::websocket::WebSocketConfig;
use serde_json::{Map, Value};

/// Moves after which a cluster that finds no rest is given up.
const MOVES: usize = 100_000;
/// What everybody registers with.
pub(crate) const TOKEN: &str = "a token for tests";

/// Who is at the far end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    Control(usize),
    Slave(usize),
}

enum Move {
    /// To the master, on this line.
    Up(LinkId, Option<Vec<u8>>),
    /// To a client, on its only link.
    Down(Client, Option<Vec<u8>>),
}

/// A whole cluster.
pub(crate) struct Cluster {
    pub(crate) now: Time,
    master: Host<Master>,
    slaves: Vec<Host<Slave>>,
    controls: Vec<Host<Control>>,
    /// The master's numbers of the lines.
    lines: BTreeMap<LinkId, Client>,
    moves: VecDeque<Move>,
    pub(crate) master_told: Vec<MasterEvent>,
    pub(crate) slaves_told: Vec<Vec<SlaveEvent>>,
    pub(crate) controls_told: Vec<Vec<ControlEvent>>,
}

/// A master that takes the token of these tests.
pub(crate) fn master() -> MasterConfig {
    let tokens = Tokens { accepted: [TOKEN.to_owned()].into(), ..Tokens::default() };
    MasterConfig { tokens, ..MasterConfig::default() }
}

fn host<M: Machine>(machine: M) -> Host<M> {
    Host::new(machine, Framing::WebSocket(WebSocketConfig::default()), "cluster")
}

impl Cluster {
    pub(crate) fn new(config: MasterConfig) -> Cluster {
        Cluster {
            now: Time::ZERO,
            master: host(Master::new(config)),
            slaves: Vec::new(),
            controls: Vec::new(),
            lines: BTreeMap::new(),
            moves: VecDeque::new(),
            master_told: Vec::new(),
            slaves_told: Vec::new(),
            controls_told: Vec::new(),
        }
    }

    /// A slave joins; its number.
    pub(crate) fn slave(&mut self, config: SlaveConfig) -> usize {
        self.slaves.push(host(Slave::new(config)));
        self.slaves_told.push(Vec::new());
        self.settle();
        self.slaves.len() - 1
    }

    /// A slave of this id with the right token.
    pub(crate) fn plain_slave(&mut self, id: i64) -> usize {
        self.slave(SlaveConfig { id, token: Some(TOKEN.to_owned()), ..SlaveConfig::default() })
    }

    /// A control joins; its number.
    pub(crate) fn control(&mut self, config: ControlConfig) -> usize {
        self.controls.push(host(Control::new(config)));
        self.controls_told.push(Vec::new());
        self.settle();
        self.controls.len() - 1
    }

    /// A control with the right token.
    pub(crate) fn plain_control(&mut self) -> usize {
        self.control(ControlConfig { token: Some(TOKEN.to_owned()), ..ControlConfig::default() })
    }

    /// A control asks, and what it is told at once: results, or what went wrong.
    pub(crate) fn ask(
        &mut self,
        control: usize,
        stem: &'static str,
        data: Value,
    ) -> Result<Map<String, Value>, String> {
        self.ask_later(control, stem, data);
        self.answer(control, stem).expect("an answer")
    }

    /// A control asks, and nobody waits for the answer.
    pub(crate) fn ask_later(&mut self, control: usize, stem: &'static str, data: Value) {
        let data = data.as_object().cloned().unwrap_or_default();
        self.controls[control].command(self.now, ControlCommand::Request(stem, data));
        self.settle();
    }

    /// The answer that a control has got to a request, if any.
    pub(crate) fn answer(
        &mut self,
        control: usize,
        stem: &str,
    ) -> Option<Result<Map<String, Value>, String>> {
        let told = &mut self.controls_told[control];
        let place = told
            .iter()
            .position(|event| matches!(event, ControlEvent::Answered(known, _) if *known == stem))?;
        match told.remove(place) {
            ControlEvent::Answered(_, result) => Some(result),
            _ => None,
        }
    }

    pub(crate) fn tell_slave(&mut self, slave: usize, command: SlaveCommand) {
        self.slaves[slave].command(self.now, command);
        self.settle();
    }

    pub(crate) fn tell_control(&mut self, control: usize, command: ControlCommand) {
        self.controls[control].command(self.now, command);
        self.settle();
    }

    pub(crate) fn tell_master(&mut self, command: flowproof_reference::clusterio::MasterCommand) {
        self.master.command(self.now, command);
        self.settle();
    }

    /// Cuts a slave's line without a word.
    pub(crate) fn cut_slave(&mut self, slave: usize) {
        let lines: Vec<LinkId> = self
            .lines
            .iter()
            .filter(|(_, client)| **client == Client::Slave(slave))
            .map(|(line, _)| *line)
            .collect();
        for line in lines {
            self.lines.remove(&line);
            self.master.ended(self.now, line);
        }
        self.slaves[slave].ended(self.now, LinkId(0));
        self.settle();
    }

    /// True when a control's program is over, and whether it failed.
    pub(crate) fn control_ended(&self, control: usize) -> Option<bool> {
        let machine = self.controls[control].machine();
        machine.is_over().then(|| machine.has_failed())
    }

    /// Lets time pass; whoever wants a tick by then has it.
    pub(crate) fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(next) = self.deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    fn deadline(&self) -> Option<Time> {
        let slaves = self.slaves.iter().filter_map(Host::deadline);
        let controls = self.controls.iter().filter_map(Host::deadline);
        slaves.chain(controls).chain(self.master.deadline()).min()
    }

    /// Until all is quiet.
    fn settle(&mut self) {
        for _ in 0..MOVES {
            self.tick();
            self.collect();
            match self.moves.pop_front() {
                Some(next) => self.carry(next),
                None => return,
            }
        }
        panic!("the cluster finds no rest");
    }

    fn tick(&mut self) {
        let now = self.now;
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.master.deadline()) {
            self.master.tick(now);
        }
        self.slaves.iter_mut().filter(|slave| due(slave.deadline())).for_each(|slave| slave.tick(now));
        self.controls
            .iter_mut()
            .filter(|control| due(control.deadline()))
            .for_each(|control| control.tick(now));
    }

    fn carry(&mut self, next: Move) {
        let now = self.now;
        match next {
            Move::Up(line, Some(bytes)) => self.master.bytes(now, line, &bytes),
            Move::Up(line, None) => self.master.ended(now, line),
            Move::Down(Client::Slave(slave), Some(bytes)) => self.slaves[slave].bytes(now, LinkId(0), &bytes),
            Move::Down(Client::Slave(slave), None) => self.slaves[slave].ended(now, LinkId(0)),
            Move::Down(Client::Control(control), Some(bytes)) => {
                self.controls[control].bytes(now, LinkId(0), &bytes)
            }
            Move::Down(Client::Control(control), None) => self.controls[control].ended(now, LinkId(0)),
        }
    }

    fn collect(&mut self) {
        while let Some(output) = self.master.poll_output() {
            let (line, bytes) = match output {
                HostOutput::Write(line, bytes) => (line, Some(bytes)),
                HostOutput::End(line) | HostOutput::Abort(line) => (line, None),
                _ => continue,
            };
            if let Some(client) = self.lines.get(&line) {
                self.moves.push_back(Move::Down(*client, bytes));
            }
        }
        while let Some(event) = self.master.poll_event() {
            self.master_told.push(event);
        }
        for slave in 0..self.slaves.len() {
            while let Some(output) = self.slaves[slave].poll_output() {
                let dialled = self.client_output(Client::Slave(slave), output);
                if dialled {
                    self.slaves[slave].connected(self.now, LinkId(0));
                }
            }
            while let Some(event) = self.slaves[slave].poll_event() {
                self.slaves_told[slave].push(event);
            }
        }
        for control in 0..self.controls.len() {
            while let Some(output) = self.controls[control].poll_output() {
                let dialled = self.client_output(Client::Control(control), output);
                if dialled {
                    self.controls[control].connected(self.now, LinkId(0));
                }
            }
            while let Some(event) = self.controls[control].poll_event() {
                self.controls_told[control].push(event);
            }
        }
    }

    /// Does what a client wants; true when it has been connected.
    fn client_output(&mut self, client: Client, output: HostOutput) -> bool {
        let line = self.lines.iter().find(|(_, known)| **known == client).map(|(line, _)| *line);
        match (output, line) {
            (HostOutput::Dial(_), _) => {
                let line = LinkId(self.lines.keys().last().map_or(0, |last| last.0 + 1));
                self.lines.insert(line, client);
                self.master.incoming(self.now, line);
                return true;
            }
            (HostOutput::Write(_, bytes), Some(line)) => self.moves.push_back(Move::Up(line, Some(bytes))),
            (HostOutput::End(_) | HostOutput::Abort(_), Some(line)) => {
                self.moves.push_back(Move::Up(line, None))
            }
            _ => {}
        }
        false
    }
}
