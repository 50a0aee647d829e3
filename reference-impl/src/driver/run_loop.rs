//! Puts a host on sockets: one loop that waits for one thing, hands it over, and does what the host wants.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::host::{Host, HostOutput};
use crate::machine::{LinkId, Machine, Time};

/// Bytes that may wait for one slow reader before it is cut off (hangout.md section 5, "slow reader").
const BACKLOG: usize = 4 << 20;
/// Writes that may wait for one slow reader.
const BACKLOG_WRITES: usize = 1024;
/// Chunks that readers may be ahead of the machine, all together.
const AHEAD: usize = 256;
/// How long streams may take to end when the loop does.
const FAREWELL: Duration = Duration::from_millis(500);

enum Event {
    Connected(LinkId, TcpStream),
    NotConnected(LinkId),
    Bytes(LinkId, Vec<u8>),
    Ended(LinkId),
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

/// Where a loop's streams come from.
pub enum Streams {
    /// Strangers connect to this listener.
    Listen(TcpListener),
    /// The machine connects to this address.
    Connect(SocketAddr),
}

/// Runs a host until `stop` is done, or its commands end while it has no link left. `last_words` is the command that
/// is given before the end, for machines that take leave.
pub async fn run<M: Machine>(
    mut host: Host<M>,
    streams: Streams,
    mut commands: mpsc::Receiver<M::Command>,
    last_words: Option<M::Command>,
    stop: impl Future<Output = ()>,
    mut tell: impl FnMut(M::Event) -> bool,
) -> io::Result<()> {
    let began = Instant::now();
    let now = || Time::from_start(began.elapsed());
    let (events, mut inbox) = mpsc::channel(AHEAD);
    let mut wires: BTreeMap<LinkId, Wire> = BTreeMap::new();
    let mut next_link = 0;
    let mut leaving: Option<Instant> = None;
    let mut last_words = last_words;
    let mut commands_open = true;
    tokio::pin!(stop);
    loop {
        if !perform(&mut host, &streams, &mut wires, &events, &mut tell) {
            return Ok(());
        }
        if leaving.is_some_and(|until| wires.is_empty() || Instant::now() >= until) {
            return Ok(());
        }
        let deadline = host.deadline().map(|deadline| began + deadline.since_start());
        let deadline = [deadline, leaving].into_iter().flatten().min();
        tokio::select! {
            () = &mut stop, if leaving.is_none() => {
                leaving = Some(Instant::now() + FAREWELL);
                if let Some(words) = last_words.take() {
                    host.command(now(), words);
                }
            }
            accepted = accept(&streams), if leaving.is_none() => {
                // One connection that fails to come in is no reason to stop serving the others.
                if let Ok(stream) = accepted {
                    let link = LinkId(next_link);
                    next_link += 1;
                    host.incoming(link);
                    wires.insert(link, carry(link, stream, &events));
                } else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            event = inbox.recv() => match event {
                Some(Event::Connected(link, stream)) => {
                    wires.insert(link, carry(link, stream, &events));
                    host.connected(now(), link);
                }
                Some(Event::NotConnected(link)) => host.not_connected(now(), link),
                Some(Event::Bytes(link, bytes)) => host.bytes(now(), link, &bytes),
                Some(Event::Ended(link)) => host.ended(now(), link),
                None => return Ok(()),
            },
            command = commands.recv(), if commands_open => match command {
                Some(command) => host.command(now(), command),
                None => commands_open = false,
            },
            () = sleep_until(deadline) => host.tick(now()),
        }
    }
}

/// Does what the host wants; false when the owner has heard enough.
fn perform<M: Machine>(
    host: &mut Host<M>,
    streams: &Streams,
    wires: &mut BTreeMap<LinkId, Wire>,
    events: &mpsc::Sender<Event>,
    tell: &mut impl FnMut(M::Event) -> bool,
) -> bool {
    let mut goes_on = true;
    while let Some(output) = host.poll_output() {
        match output {
            HostOutput::Dial(link) => {
                if let Streams::Connect(address) = streams {
                    tokio::spawn(dial(link, *address, events.clone()));
                }
            }
            HostOutput::Write(link, bytes) => {
                let Some(wire) = wires.get(&link) else { continue };
                let waiting = wire.waiting.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
                let writes = wire.writes.fetch_add(1, Ordering::Relaxed) + 1;
                // A writer that is gone tells so by its reader.
                let _ = wire.jobs.send(Job::Write(bytes));
                if waiting > BACKLOG || writes > BACKLOG_WRITES {
                    let _ = wire.jobs.send(Job::Abort);
                    let events = events.clone();
                    tokio::spawn(async move { events.send(Event::Ended(link)).await });
                }
            }
            HostOutput::End(link) => {
                if let Some(wire) = wires.remove(&link) {
                    let _ = wire.jobs.send(Job::End);
                }
            }
            HostOutput::Abort(link) => {
                if let Some(wire) = wires.remove(&link) {
                    let _ = wire.jobs.send(Job::Abort);
                }
            }
            HostOutput::Event(event) => goes_on &= tell(event),
        }
    }
    goes_on
}

async fn accept(streams: &Streams) -> io::Result<TcpStream> {
    match streams {
        Streams::Listen(listener) => listener.accept().await.map(|(stream, _)| stream),
        Streams::Connect(_) => std::future::pending().await,
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
