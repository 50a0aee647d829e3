//! Real sockets: every connection has a reader that takes the time of arrival and a writer of its own; the
//! conversation itself runs on the thread of its flow.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flowproof_reference::machine::{LinkId, Time};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};

use super::passing::Passing;
use super::process::{PeerProcess, Process};
use crate::corpus::Protocol;
use crate::runner::conversation::{Conversation, Ending, Input, MESSAGE_LIMIT, Outcome, Output};
use crate::runner::plan::{self, Plan};

/// How often it is looked whether programs live and whether the run is to be cut short.
const PULSE: Duration = Duration::from_millis(100);
/// The same off the path, where programs are ours.
const ASTRAY_PULSE: Duration = Duration::from_millis(20);
/// How long a TCP connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Chunks that readers may be ahead of the conversation.
const AHEAD: usize = 64;
/// What one read takes.
const CHUNK: usize = 64 << 10;

/// Where the party under test is.
#[derive(Clone, Debug)]
pub enum Place {
    /// It listens here; over TLS with this name when given.
    Listens {
        /// The address.
        address: SocketAddr,
        /// The name for TLS; plain when none.
        tls: Option<Tls>,
        /// The program, when it is ours to stop.
        program: Option<Arc<Mutex<Process>>>,
    },
    /// It is started for every flow, with the URL of a listener of ours in place of `{url}`.
    Connects {
        /// The command line.
        command: String,
        /// The scheme and path around host and port, for instance `ws://{}/`.
        url: String,
    },
    /// It exchanges datagrams with us.
    Peer {
        /// Where it is; unknown until it speaks when none.
        address: Option<SocketAddr>,
        /// The command line that starts it for every flow, with a free port in place of `{port}` and the addresses of
        /// those it is to know in place of `{peer}` (one) or `{peers}` (all, with commas between).
        command: Option<String>,
    },
}

/// How a TLS connection is made.
#[derive(Clone)]
pub struct Tls {
    /// The name the certificate must be for.
    pub name: rustls_pki_types::ServerName<'static>,
    /// Whom we trust.
    pub config: Arc<rustls::ClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({:?})", self.name)
    }
}

/// What readers and writers tell the conversation.
enum Event {
    Connected(LinkId, Box<dyn Stream>),
    NotConnected(LinkId, String),
    Bytes(LinkId, Instant, Vec<u8>),
    Ended(LinkId, Instant, bool),
    Written(LinkId, usize),
    Incoming(usize, TcpStream),
    Datagram(usize, Instant, SocketAddr, Vec<u8>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The next close cuts the connection instead of ending it in order.
    fn cut(&self);
}

impl Stream for TcpStream {
    fn cut(&self) {
        // Where it fails, the connection still ends.
        let _ = self.set_zero_linger();
    }
}

impl Stream for tokio_rustls::client::TlsStream<TcpStream> {
    fn cut(&self) {
        let _ = self.get_ref().0.set_zero_linger();
    }
}

enum Job {
    Bytes(Vec<u8>),
    Shutdown,
    Reset,
}

struct Wire {
    jobs: mpsc::UnboundedSender<Job>,
    stalled: watch::Sender<bool>,
}

/// What came of a flow on the network, and how the programs under test ended that did so by themselves.
pub struct NetworkOutcome {
    /// The conversation's outcome.
    pub outcome: Outcome,
    /// Programs that ended before they were told to: the participant, how, and what they said.
    pub deaths: Vec<(String, String)>,
    /// When it began and ended, on the clock of the run.
    pub span: (Duration, Duration),
}

/// Runs one flow. `began` is the start of the run; `stop` cuts it short.
pub async fn run(
    plan: Rc<Plan>,
    protocol: Arc<Protocol>,
    place: &Place,
    began: Instant,
    stop: Arc<AtomicBool>,
) -> Result<NetworkOutcome, String> {
    let time = |at: Instant| Time::from_start(at.saturating_duration_since(began));
    let framing = protocol.settings.transport(&plan.settings.edition).framing(MESSAGE_LIMIT);
    let planted = plan.settings.planted.as_deref();
    let mut passages = Vec::new();
    let mut passage = async |listens: bool, onward: SocketAddr| {
        let Some(sinner) = planted else { return Ok(onward) };
        let passing = Passing::open(sinner, listens, framing.clone(), onward).await;
        let passing = passing.map_err(|error| format!("no port to plant a fault at: {error}"))?;
        let address = passing.address;
        passages.push(passing);
        Ok::<SocketAddr, String>(address)
    };
    let target = match place {
        Place::Listens { address, .. } => Some(passage(true, *address).await?),
        Place::Connects { .. } | Place::Peer { .. } => None,
    };
    let (events, mut inbox) = mpsc::channel::<Event>(AHEAD);
    let mut programs: BTreeMap<usize, Process> = BTreeMap::new();
    let mut peers = match place {
        Place::Peer { address, command } => {
            Peers::begin(&plan, *address, command.as_deref(), &events).await?
        }
        Place::Listens { .. } | Place::Connects { .. } => Peers::default(),
    };
    programs.extend(peers.program.take());
    let start = Instant::now();
    let mut conversation =
        Conversation::new(Rc::clone(&plan), Arc::clone(&protocol), time(start), &peers.addresses);
    let mut listeners = Listeners::default();
    let mut strangers = Strangers::default();
    if let Place::Connects { command, url } = place {
        for (participant, one) in plan.cast.iter().enumerate().filter(|(_, one)| one.under_test) {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await;
            let listener =
                listener.map_err(|error| format!("no port to listen on for {}: {error}", one.name))?;
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            let address = passage(false, address).await?;
            let url = url.replace("{}", &address.to_string());
            let events = events.clone();
            listeners.0.push(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    if events.send(Event::Incoming(participant, stream)).await.is_err() {
                        break;
                    }
                }
            }));
            strangers
                .0
                .insert(participant, Stranger { command: command.clone(), url: url.clone(), ended: false });
            let command = command.replace("{url}", &url).replace("{port}", &address.port().to_string());
            programs.insert(participant, Process::start(&command).map_err(|error| error.to_string())?);
        }
    }
    let mut wires: BTreeMap<LinkId, Wire> = BTreeMap::new();
    // Off the path nobody else tells that a program has died.
    let beat = if plan.astray && !programs.is_empty() { ASTRAY_PULSE } else { PULSE };
    let mut pulse = tokio::time::interval(beat);
    let mut deaths: Vec<(String, String)> = Vec::new();
    loop {
        while let Some(output) = conversation.poll_output() {
            match output {
                Output::Dial(link) => {
                    if let (Place::Listens { tls, .. }, Some(address)) = (place, target) {
                        tokio::spawn(dial(link, address, tls.clone(), events.clone()));
                    }
                }
                Output::Write(link, bytes) => {
                    send(&wires, link, Job::Bytes(bytes));
                }
                Output::Shutdown(link) => send(&wires, link, Job::Shutdown),
                Output::Reset(link) => send(&wires, link, Job::Reset),
                Output::Stall(link, stalled) => {
                    if let Some(wire) = wires.get(&link) {
                        wire.stalled.send_replace(stalled);
                    }
                }
                Output::SendTo(one, to, bytes) => {
                    if let Some((socket, _)) = peers.sockets.get(&one) {
                        // A datagram that does not get away is one more that was lost.
                        let _ = socket.send_to(&bytes, to).await;
                    }
                }
                Output::Unbind(one) => {
                    if let Some((_, reading)) = peers.sockets.remove(&one) {
                        reading.abort();
                    }
                }
                Output::Quit(participant) => {
                    if let Some(program) = programs.get_mut(&participant) {
                        program.ask_to_stop();
                    } else if let Place::Listens { program: Some(program), .. } = place {
                        program.lock().unwrap_or_else(PoisonError::into_inner).ask_to_stop();
                    }
                }
                Output::Stimulus(participant, order) => {
                    if let Some(program) = programs.get_mut(&participant) {
                        program.write_line(&order.line());
                    }
                }
            }
        }
        if conversation.is_over() {
            break;
        }
        let deadline = conversation.deadline().map(|deadline| began + deadline.since_start());
        tokio::select! {
            event = inbox.recv() => match event {
                Some(Event::Connected(link, stream)) => {
                    wires.insert(link, carry(link, stream, events.clone()));
                    conversation.handle(time(Instant::now()), Input::Connected(link));
                }
                Some(Event::NotConnected(link, detail)) => {
                    conversation.handle(time(Instant::now()), Input::NotConnected(link, detail));
                }
                Some(Event::Bytes(link, at, bytes)) => conversation.handle(time(at), Input::Bytes(link, &bytes)),
                Some(Event::Ended(link, at, reset)) => conversation.handle(time(at), Input::Ended(link, reset)),
                Some(Event::Written(link, count)) => {
                    conversation.handle(time(Instant::now()), Input::Written(link, count));
                }
                Some(Event::Incoming(participant, stream)) => {
                    strangers.0.remove(&participant);
                    let link = conversation.incoming(time(Instant::now()), participant);
                    wires.insert(link, carry(link, Box::new(stream), events.clone()));
                }
                Some(Event::Datagram(one, at, from, bytes)) => {
                    conversation.handle(time(at), Input::Datagram(one, from, &bytes));
                }
                None => break,
            },
            () = sleep_until(deadline) => conversation.handle(time(Instant::now()), Input::Tick),
            _ = pulse.tick() => {
                if stop.load(Ordering::Relaxed) {
                    conversation.interrupt();
                }
                if let Some(why) = strangers.lost(&mut programs) {
                    conversation.give_up(why);
                }
                let leaving = plan.astray && conversation.is_leaving();
                note_deaths(&plan, &protocol, &mut programs, &strangers, leaving, &mut deaths);
                for (participant, well) in ended_programs(&plan, place, &mut programs) {
                    conversation.handle(time(Instant::now()), Input::Exited(participant, well));
                }
            }
        }
    }
    note_deaths(&plan, &protocol, &mut programs, &strangers, plan.astray, &mut deaths);
    let end = Instant::now();
    let mut outcome = conversation.into_outcome();
    if let (Some(why), Ending::Unreached(_)) = (strangers.silent(&programs, end - start), &outcome.ending) {
        outcome.unreachable.get_or_insert(why);
    }
    Ok(NetworkOutcome {
        outcome,
        deaths,
        span: (start.saturating_duration_since(began), end.saturating_duration_since(began)),
    })
}

/// The datagram sockets of one flow.
#[derive(Default)]
struct Peers {
    /// By participant; those of spare sockets behind them.
    sockets: BTreeMap<usize, (Arc<UdpSocket>, tokio::task::JoinHandle<()>)>,
    addresses: Vec<Option<SocketAddr>>,
    /// Somebody whom the program knows and who never speaks.
    silent: Option<UdpSocket>,
    /// The program under test, if it was started.
    program: Option<(usize, Process)>,
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.sockets.values().for_each(|(_, reading)| reading.abort());
    }
}

impl Peers {
    /// Binds our sockets, then starts the program under test if there is one to start.
    async fn begin(
        plan: &Plan,
        address: Option<SocketAddr>,
        command: Option<&str>,
        events: &mpsc::Sender<Event>,
    ) -> Result<Peers, String> {
        let mut peers = Peers::default();
        let target = plan.cast.iter().position(|one| one.under_test && one.socket_of.is_none());
        // One IP address for each of ours where there are plenty: on the loopback network.
        let near = address.is_none_or(|address| address.ip().is_loopback());
        let mut chosen: BTreeMap<usize, IpAddr> = BTreeMap::new();
        for (one, neighbourhood) in plan::neighbourhoods(plan).into_iter().enumerate() {
            if plan.cast.get(one).is_some_and(|one| one.under_test) {
                peers.addresses.push(None);
                continue;
            }
            let ip = *chosen.entry(neighbourhood).or_insert_with(|| own_ip(near, address));
            let socket = UdpSocket::bind((ip, 0)).await;
            let socket = socket.map_err(|error| format!("no datagram socket on {ip}: {error}"))?;
            let local = socket.local_addr().map_err(|error| error.to_string())?;
            let socket = Arc::new(socket);
            let reading = tokio::spawn(read_datagrams(one, Arc::clone(&socket), events.clone()));
            peers.sockets.insert(one, (socket, reading));
            peers.addresses.push(Some(local));
        }
        let mut address = address;
        if let (Some(command), Some(target)) = (command, target) {
            let known = plan::known_before(plan)
                .into_iter()
                .filter_map(|one| peers.addresses.get(one).copied().flatten());
            let mut known: Vec<String> = known.map(|address| address.to_string()).collect();
            // A program that must be told somebody is told of the first of us; off the path of somebody who never speaks,
            // so that what it says to us answers us.
            if known.is_empty() && plan.astray {
                let silent = UdpSocket::bind((own_ip(near, address), 0)).await;
                let silent = silent.map_err(|error| format!("no further datagram socket: {error}"))?;
                known.push(silent.local_addr().map_err(|error| error.to_string())?.to_string());
                peers.silent = Some(silent);
            }
            if known.is_empty() {
                known.extend(peers.addresses.iter().flatten().next().map(SocketAddr::to_string));
            }
            let started = PeerProcess::start(command, &known, plan.settings.startup)
                .await
                .map_err(|error| error.to_string())?;
            address = started.address;
            peers.program = Some((target, started.process));
        }
        if let Some(target) = target {
            peers.addresses[target] = address;
        }
        Ok(peers)
    }
}

/// An IP address of ours. On the loopback network one that no other flow of this run has.
fn own_ip(near: bool, target: Option<SocketAddr>) -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(2);
    if near {
        // Not the addresses that end in 0 or 255, and 127.0.0.1 stays the target's.
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % (250 * 250);
        let place = (number / 250) << 8 | (number % 250 + 2);
        return IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 0)) + place));
    }
    // Which of ours reaches the target, the system knows.
    let found = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        if let Some(target) = target {
            socket.connect(target)?;
        }
        socket.local_addr()
    });
    found.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

async fn read_datagrams(one: usize, socket: Arc<UdpSocket>, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((count, from)) => {
                let event = Event::Datagram(one, Instant::now(), from, buffer[..count].to_vec());
                if events.send(event).await.is_err() {
                    return;
                }
            }
            // An earlier datagram was refused by its receiver; the socket goes on.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Programs that have ended, and whether their status tells of success.
fn ended_programs(plan: &Plan, place: &Place, programs: &mut BTreeMap<usize, Process>) -> Vec<(usize, bool)> {
    let mut ended: Vec<(usize, bool)> = programs
        .iter_mut()
        .filter_map(|(participant, program)| Some((*participant, program.exit_status()?.success())))
        .collect();
    if let Place::Listens { program: Some(program), .. } = place
        && let Some(participant) = plan.cast.iter().position(|one| one.under_test)
    {
        let status = program.lock().unwrap_or_else(PoisonError::into_inner).exit_status();
        ended.extend(status.map(|status| (participant, status.success())));
    }
    ended
}

/// Where our listeners wait; they end with the flow.
#[derive(Default)]
struct Listeners(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Listeners {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A program that was started and has not connected so far. What becomes of it says nothing about the protocol.
struct Stranger {
    command: String,
    url: String,
    /// It has been seen ended; a connection that it made before may still be under way.
    ended: bool,
}

#[derive(Default)]
struct Strangers(BTreeMap<usize, Stranger>);

impl Strangers {
    /// Why no connection will come any more.
    fn lost(&mut self, programs: &mut BTreeMap<usize, Process>) -> Option<String> {
        self.0.iter_mut().find_map(|(participant, stranger)| {
            let program = programs.get_mut(participant)?;
            let status = program.exit_status()?;
            let seen_before = std::mem::replace(&mut stranger.ended, true);
            let words = program.last_words();
            seen_before.then(|| {
                let Stranger { command, url, .. } = stranger;
                format!("`{command}` ended ({status}) before it connected to {url}{words}")
            })
        })
    }

    /// Why there was no connection, of a program that runs.
    fn silent(&self, programs: &BTreeMap<usize, Process>, waited: Duration) -> Option<String> {
        let (participant, stranger) = self.0.iter().find(|(_, stranger)| !stranger.ended)?;
        let Stranger { command, url, .. } = stranger;
        let hint = if ["{url}", "{port}"].iter().any(|hole| command.contains(hole)) {
            ""
        } else {
            "; {url} in the command stands for the address to connect to"
        };
        let words = programs.get(participant).map(Process::last_words).unwrap_or_default();
        Some(format!(
            "`{command}` did not connect to {url} within {:.0} s{hint}{words}",
            waited.as_secs_f64()
        ))
    }
}

/// Programs that ended in a way that theirs should not. Where a role may end by itself, or when we are `leaving` after a
/// conversation that nobody can expect to be liked, only a signal tells of a death.
fn note_deaths(
    plan: &Plan,
    protocol: &Protocol,
    programs: &mut BTreeMap<usize, Process>,
    strangers: &Strangers,
    leaving: bool,
    deaths: &mut Vec<(String, String)>,
) {
    for (participant, program) in programs.iter_mut().filter(|(one, _)| !strangers.0.contains_key(one)) {
        let one = &plan.cast[*participant];
        let name = &one.name;
        let may_exit =
            leaving || protocol.settings.roles.iter().any(|role| role.name == one.role && role.exits);
        if let Some(status) = program.exit_status()
            && !status.success()
            && !program.was_asked()
            && (!may_exit || status.signal().is_some())
            && !deaths.iter().any(|(known, _)| known == name)
        {
            deaths.push((name.clone(), format!("{status}{}", program.last_words())));
        }
    }
}

fn send(wires: &BTreeMap<LinkId, Wire>, link: LinkId, job: Job) {
    if let Some(wire) = wires.get(&link) {
        // A writer that is gone has told so.
        let _ = wire.jobs.send(job);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn dial(link: LinkId, address: SocketAddr, tls: Option<Tls>, events: mpsc::Sender<Event>) {
    let attempt = async {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
        // Small messages must not wait for company.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok::<Box<dyn Stream>, String>(match tls {
            None => Box::new(stream),
            Some(tls) => {
                let connector = tokio_rustls::TlsConnector::from(tls.config);
                let stream = connector.connect(tls.name, stream).await;
                Box::new(stream.map_err(|error| format!("{address}: TLS: {error}"))?)
            }
        })
    };
    let event = match tokio::time::timeout(CONNECT, attempt).await {
        Ok(Ok(stream)) => Event::Connected(link, stream),
        Ok(Err(detail)) => Event::NotConnected(link, detail),
        Err(_) => Event::NotConnected(link, format!("{address}: no answer within {} s", CONNECT.as_secs())),
    };
    // The flow may be over already.
    let _ = events.send(event).await;
}

/// Puts a connection to work: one task reads, one writes.
fn carry(link: LinkId, stream: Box<dyn Stream>, events: mpsc::Sender<Event>) -> Wire {
    let (jobs, queue) = mpsc::unbounded_channel();
    let (stalled, may_read) = watch::channel(false);
    tokio::spawn(pump(link, stream, queue, may_read, events));
    Wire { jobs, stalled }
}

async fn pump(
    link: LinkId,
    mut stream: Box<dyn Stream>,
    mut queue: mpsc::UnboundedReceiver<Job>,
    mut stalled: watch::Receiver<bool>,
    events: mpsc::Sender<Event>,
) {
    let mut buffer = vec![0; CHUNK];
    let mut pending: std::collections::VecDeque<u8> = std::collections::VecDeque::new();
    let mut reading = true;
    let mut ending = false;
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let cut = loop {
        if ending && pending.is_empty() {
            ending = false;
            // The other side may be gone already.
            let _ = writer.shutdown().await;
        }
        let may_read = reading && !*stalled.borrow();
        let (head, _) = pending.as_slices();
        tokio::select! {
            read = reader.read(&mut buffer), if may_read => {
                let at = Instant::now();
                let event = match read {
                    Ok(0) => { reading = false; Event::Ended(link, at, false) }
                    Ok(count) => Event::Bytes(link, at, buffer[..count].to_vec()),
                    Err(_) => { reading = false; Event::Ended(link, at, true) }
                };
                if events.send(event).await.is_err() { break true; }
            }
            written = writer.write(head), if !head.is_empty() => {
                match written {
                    Ok(count) => {
                        pending.drain(..count);
                        if events.send(Event::Written(link, count)).await.is_err() { break true; }
                    }
                    Err(_) => {
                        let count = pending.len();
                        pending.clear();
                        if events.send(Event::Written(link, count)).await.is_err() { break true; }
                    }
                }
            }
            job = queue.recv() => match job {
                Some(Job::Bytes(bytes)) => pending.extend(bytes),
                Some(Job::Shutdown) => ending = true,
                Some(Job::Reset) => break true,
                None => break false,
            },
            changed = stalled.changed() => if changed.is_err() { break false; },
        }
    };
    if cut {
        stream.cut();
    }
}
