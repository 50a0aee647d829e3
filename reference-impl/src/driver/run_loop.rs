//! Puts a station on sockets: one loop that waits for one thing, hands it over, and does what the host wants.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::host::{HostOutput, Station};
use crate::machine::{LinkId, SocketId, Time};

/// Bytes that may wait for one slow reader before it is cut off (hangout.md section 5, "slow reader").
const BACKLOG: usize = 4 << 20;
/// Writes that may wait for one slow reader.
const BACKLOG_WRITES: usize = 1024;
/// Chunks that readers may be ahead of the machine, all together.
const AHEAD: usize = 256;
/// Largest datagram.
const DATAGRAM: usize = 65_536;
/// How long streams may take to end when the loop does.
const FAREWELL: Duration = Duration::from_millis(500);

enum Event {
    Connected(LinkId, TcpStream),
    NotConnected(LinkId),
    Bytes(LinkId, Vec<u8>),
    Ended(LinkId),
    Datagram(SocketId, SocketAddr, Vec<u8>),
}

enum Job {
    Write(Vec<u8>),
    End,
    Abort,
}

struct Wire {
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
}

/// Where a station's traffic comes from.
pub enum Place {
    /// Strangers connect to this listener.
    Listen(TcpListener),
    /// The station connects to this address.
    Connect(SocketAddr),
    /// Strangers connect to this listener, and the station connects to this address.
    Between(TcpListener, SocketAddr),
    /// Datagrams come and go here; further sockets are on the same IP address.
    Datagrams(UdpSocket),
}

impl Place {
    fn ip(&self) -> io::Result<IpAddr> {
        match self {
            Place::Listen(listener) | Place::Between(listener, _) => {
                listener.local_addr().map(|address| address.ip())
            }
            Place::Connect(address) => Ok(address.ip()),
            Place::Datagrams(socket) => socket.local_addr().map(|address| address.ip()),
        }
    }
}

/// A stimulus on its way to a station: its name, and what comes with it.
pub type Stimulus = (String, Value);

/// Everything that belongs to the sockets of one station.
struct Sockets {
    listener: Option<TcpListener>,
    /// Where the station connects to.
    other_side: Option<SocketAddr>,
    /// The socket for number 0, until the station asks for it.
    ordinary: Option<UdpSocket>,
    ip: IpAddr,
    events: mpsc::Sender<Event>,
    wires: BTreeMap<LinkId, Wire>,
    datagrams: BTreeMap<SocketId, (Arc<UdpSocket>, tokio::task::JoinHandle<()>)>,
}

/// Runs a station until `stop` is done or it is over. `complain` is told why a stimulus was not taken.
pub async fn run(
    station: &mut dyn Station,
    place: Place,
    mut stimuli: mpsc::Receiver<Stimulus>,
    stop: impl Future<Output = ()>,
    complain: impl Fn(&str),
) -> io::Result<()> {
    let began = Instant::now();
    let now = || Time::from_start(began.elapsed());
    let (events, mut inbox) = mpsc::channel(AHEAD);
    let ip = place.ip()?;
    let (listener, other_side, ordinary) = match place {
        Place::Listen(listener) => (Some(listener), None, None),
        Place::Connect(address) => (None, Some(address), None),
        Place::Between(listener, address) => (Some(listener), Some(address), None),
        Place::Datagrams(socket) => (None, None, Some(socket)),
    };
    let (wires, datagrams) = (BTreeMap::new(), BTreeMap::new());
    let mut sockets = Sockets { listener, other_side, ordinary, ip, events, wires, datagrams };
    let mut next_link = 0;
    let mut leaving: Option<Instant> = None;
    let mut told = true;
    tokio::pin!(stop);
    loop {
        while let Some(output) = station.poll_output() {
            if let Some((socket, local)) = sockets.perform(output).await {
                station.bound(now(), socket, local);
            }
        }
        if station.is_over() && leaving.is_none() {
            leaving = Some(Instant::now() + FAREWELL);
        }
        if leaving.is_some_and(|until| sockets.wires.is_empty() || Instant::now() >= until) {
            return Ok(());
        }
        let deadline = station.deadline().map(|deadline| began + deadline.since_start());
        let deadline = [deadline, leaving].into_iter().flatten().min();
        tokio::select! {
            () = &mut stop, if leaving.is_none() => {
                leaving = Some(Instant::now() + FAREWELL);
                station.leave(now());
            }
            accepted = accept(sockets.listener.as_ref()), if leaving.is_none() => {
                // One connection that fails to come in is no reason to stop serving the others.
                if let Ok(stream) = accepted {
                    let link = LinkId(next_link);
                    next_link += 1;
                    sockets.carry(link, stream);
                    station.incoming(now(), link);
                } else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            event = inbox.recv() => match event {
                Some(Event::Connected(link, stream)) => {
                    sockets.carry(link, stream);
                    station.connected(now(), link);
                }
                Some(Event::NotConnected(link)) => station.not_connected(now(), link),
                Some(Event::Bytes(link, bytes)) => station.bytes(now(), link, &bytes),
                Some(Event::Ended(link)) => station.ended(now(), link),
                Some(Event::Datagram(socket, from, bytes)) => station.datagram(now(), socket, from, &bytes),
                None => return Ok(()),
            },
            stimulus = stimuli.recv(), if told => match stimulus {
                Some((name, with)) => {
                    if let Err(error) = station.stimulus(now(), &name, &with) {
                        complain(&error);
                    }
                }
                None => told = false,
            },
            () = sleep_until(deadline) => station.tick(now()),
        }
    }
}

impl Sockets {
    /// Does what the station wants. What came of a datagram socket that it asked for.
    async fn perform(&mut self, output: HostOutput) -> Option<(SocketId, Option<SocketAddr>)> {
        match output {
            HostOutput::Dial(link) => {
                if let Some(address) = self.other_side {
                    tokio::spawn(dial(link, address, self.events.clone()));
                }
            }
            HostOutput::Write(link, bytes) => {
                let wire = self.wires.get(&link)?;
                let waiting = wire.waiting.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
                let writes = wire.writes.fetch_add(1, Ordering::Relaxed) + 1;
                // A writer that is gone tells so by its reader.
                let _ = wire.jobs.send(Job::Write(bytes));
                if waiting > BACKLOG || writes > BACKLOG_WRITES {
                    let _ = wire.jobs.send(Job::Abort);
                    let events = self.events.clone();
                    tokio::spawn(async move { events.send(Event::Ended(link)).await });
                }
            }
            HostOutput::End(link) => {
                if let Some(wire) = self.wires.remove(&link) {
                    let _ = wire.jobs.send(Job::End);
                }
            }
            HostOutput::Abort(link) => {
                if let Some(wire) = self.wires.remove(&link) {
                    let _ = wire.jobs.send(Job::Abort);
                }
            }
            HostOutput::Bind(socket, port) => return Some((socket, self.bind(socket, port).await.ok())),
            HostOutput::SendTo(socket, to, bytes) => {
                let (socket, _) = self.datagrams.get(&socket)?;
                // A datagram that does not get away is one more that was lost.
                let _ = socket.send_to(&bytes, to).await;
            }
            HostOutput::Unbind(socket) => {
                let (_, reading) = self.datagrams.remove(&socket)?;
                reading.abort();
            }
        }
        None
    }

    async fn bind(&mut self, socket: SocketId, port: Option<u16>) -> io::Result<SocketAddr> {
        let given = if socket == SocketId(0) { self.ordinary.take() } else { None };
        let bound = match given {
            Some(given) => given,
            None => UdpSocket::bind((self.ip, port.unwrap_or(0))).await?,
        };
        let local = bound.local_addr()?;
        let bound = Arc::new(bound);
        let reading = tokio::spawn(read_datagrams(socket, Arc::clone(&bound), self.events.clone()));
        self.datagrams.insert(socket, (bound, reading));
        Ok(local)
    }

    fn carry(&mut self, link: LinkId, stream: TcpStream) {
        let wire = carry(link, stream, &self.events);
        self.wires.insert(link, wire);
    }
}

async fn read_datagrams(socket: SocketId, bound: Arc<UdpSocket>, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match bound.recv_from(&mut buffer).await {
            Ok((count, from)) => {
                if events.send(Event::Datagram(socket, from, buffer[..count].to_vec())).await.is_err() {
                    return;
                }
            }
            // An earlier datagram was refused by its receiver; the socket goes on.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn dial(link: LinkId, address: SocketAddr, events: mpsc::Sender<Event>) {
    let event = match TcpStream::connect(address).await {
        Ok(stream) => Event::Connected(link, stream),
        Err(_) => Event::NotConnected(link),
    };
    // The loop may be over already.
    let _ = events.send(event).await;
}

fn carry(link: LinkId, stream: TcpStream, events: &mpsc::Sender<Event>) -> Wire {
    // Where it fails, small messages only travel later.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (jobs, queue) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let writes = Arc::new(AtomicUsize::new(0));
    let reading = tokio::spawn(read(link, reader, events.clone()));
    tokio::spawn(write(writer, queue, Arc::clone(&waiting), Arc::clone(&writes), reading));
    Wire { jobs, waiting, writes }
}

async fn read(link: LinkId, mut reader: OwnedReadHalf, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let event = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => Event::Ended(link),
            Ok(count) => Event::Bytes(link, buffer[..count].to_vec()),
        };
        let over = matches!(event, Event::Ended(_));
        if events.send(event).await.is_err() || over {
            return;
        }
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Job>,
    waiting: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    reading: tokio::task::JoinHandle<()>,
) {
    let mut ending = false;
    let mut aborted = false;
    'jobs: while let Some(job) = queue.recv().await {
        match job {
            Job::Write(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    tokio::select! {
                        // An abort must reach a writer that is stuck.
                        biased;
                        job = queue.recv(), if waiting.load(Ordering::Relaxed) > BACKLOG
                            || writes.load(Ordering::Relaxed) > BACKLOG_WRITES => {
                            if matches!(job, Some(Job::Abort) | None) {
                                aborted = true;
                                break 'jobs;
                            }
                        }
                        written = writer.write(rest) => match written {
                            Ok(count) => {
                                waiting.fetch_sub(count, Ordering::Relaxed);
                                rest = &rest[count..];
                            }
                            Err(_) => break 'jobs,
                        },
                    }
                }
                writes.fetch_sub(1, Ordering::Relaxed);
            }
            Job::End => {
                ending = true;
                break;
            }
            Job::Abort => {
                aborted = true;
                break;
            }
        }
    }
    if ending {
        // The other side may be gone already.
        let _ = writer.shutdown().await;
        // What it still sends is read and thrown away for a moment, so that our last words are not lost to a reset.
        let _ = tokio::time::timeout(FAREWELL, reading).await;
    } else {
        reading.abort();
        if aborted {
            let _ = writer.as_ref().set_zero_linger();
        }
    }
}
