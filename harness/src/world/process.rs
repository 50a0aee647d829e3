//! Programs under test that flowproof starts: a process group of their own, a free port put into their command line,
//! waited for until they listen, and stopped for certain.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

/// How long a program may take to end when asked to.
const SHUTDOWN: Duration = Duration::from_millis(1500);
/// What is kept of a program's output.
const OUTPUT: usize = 8 << 10;

/// Why a program could not be tested. The environment's fault, or the command's; never a broken requirement.
#[derive(Debug, Error)]
pub enum StartError {
    /// The command could not be started.
    #[error("`{command}` could not be started: {error}")]
    Spawn {
        /// The command line.
        command: String,
        /// Why.
        error: io::Error,
    },
    /// No port was free.
    #[error("no free port: {0}")]
    Port(io::Error),
    /// The program ended before it listened.
    #[error("`{command}` ended ({status}) before it listened on port {port}{output}")]
    Ended {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The port it was given.
        port: u16,
        /// What it printed last.
        output: String,
    },
    /// The run was cut short meanwhile.
    #[error("the run was cut short")]
    Stopped,
    /// The program did not listen in time.
    #[error("`{command}` does not listen on port {port} after {seconds} s{output}")]
    Mute {
        /// The command line.
        command: String,
        /// The port it was given.
        port: u16,
        /// How long we waited.
        seconds: f64,
        /// What it printed last.
        output: String,
    },
}

/// The process groups that are running, for the end of flowproof itself.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Held while a program is being started, and while a port is tried: until a new program runs, it holds a copy of every
/// socket that is open here, and a port that was only tried would look taken.
static STARTING: Mutex<()> = Mutex::new(());

/// Ends every program that was started and still runs, at once. For a flowproof that is about to end.
pub fn kill_all() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        signal_group(*group, Signal::SIGKILL);
    }
}

fn signal_group(group: u32, signal: Signal) {
    if let Ok(group) = i32::try_from(group) {
        // A group that is gone already is what we want.
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// A program in a process group of its own. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Lines on their way to its standard input. A thread writes them: a program that does not read holds up nobody.
    input: Option<mpsc::Sender<String>>,
    output: Arc<Mutex<VecDeque<u8>>>,
    exited: Option<ExitStatus>,
    asked: bool,
}

impl Process {
    /// Starts a command line by the shell.
    pub fn start(command: &str) -> Result<Process, StartError> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = {
            let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
            shell.spawn()
        };
        let mut child = spawned.map_err(|error| StartError::Spawn { command: command.to_owned(), error })?;
        let output = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stream) = child.stdout.take() {
            keep_reading(stream, Arc::clone(&output));
        }
        if let Some(stream) = child.stderr.take() {
            keep_reading(stream, Arc::clone(&output));
        }
        let input = child.stdin.take().map(keep_writing);
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).insert(child.id());
        Ok(Process { child, input, output, exited: None, asked: false })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().ok().flatten();
        }
        self.exited
    }

    /// Writes one line to its standard input, without waiting until it is read.
    pub fn write_line(&mut self, line: &str) {
        if let Some(input) = &self.input {
            // A program that has closed its standard input is noticed by what it does not do.
            let _ = input.send(format!("{line}\n"));
        }
    }

    /// What it printed last, as text for a person; empty when it printed nothing.
    pub fn last_words(&self) -> String {
        let kept = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        let start = text.char_indices().rev().nth(800).map_or(0, |(place, _)| place);
        if text.is_empty() { text } else { format!("; it printed: {}", &text[start..]) }
    }

    fn signal(&self, signal: Signal) {
        signal_group(self.child.id(), signal);
    }

    /// Asks it to end in order, and waits for nothing.
    pub fn ask_to_stop(&mut self) {
        self.asked = true;
        self.signal(Signal::SIGTERM);
    }

    /// True once it has been asked to end.
    pub fn was_asked(&self) -> bool {
        self.asked
    }

    /// Ends it: asked first, then forced, with everything it started.
    pub fn stop(&mut self) {
        self.input = None;
        if self.exit_status().is_none() {
            self.signal(Signal::SIGTERM);
            let until = Instant::now() + SHUTDOWN;
            while self.exit_status().is_none() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Also what it left behind in its group.
        self.signal(Signal::SIGKILL);
        self.exited = self.exited.or_else(|| self.child.wait().ok());
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn keep_writing(mut stream: ChildStdin) -> mpsc::Sender<String> {
    let (lines, queue) = mpsc::channel::<String>();
    std::thread::spawn(move || {
        for line in queue {
            if stream.write_all(line.as_bytes()).and_then(|()| stream.flush()).is_err() {
                break;
            }
        }
    });
    lines
}

fn keep_reading(mut stream: impl Read + Send + 'static, output: Arc<Mutex<VecDeque<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let mut kept = output.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(&buffer[..count]);
            let surplus = kept.len().saturating_sub(OUTPUT);
            kept.drain(..surplus);
        }
    });
}

/// A server under test with its port.
#[derive(Debug)]
pub struct ServerProcess {
    /// The program; flows may stop it.
    pub process: Arc<Mutex<Process>>,
    /// Where it listens.
    pub address: SocketAddr,
    _port: Port,
}

impl ServerProcess {
    /// Starts `command` with a free port in place of `{port}`, and waits until it listens there.
    ///
    /// Gives up early when `stop` is set.
    pub fn start(command: &str, startup: Duration, stop: &AtomicBool) -> Result<ServerProcess, StartError> {
        let mut tries = 1;
        loop {
            match ServerProcess::start_once(command, startup, stop) {
                // Somebody else took the port before the program could.
                Err(StartError::Ended { output, .. }) if tries < 3 && says_in_use(&output) => tries += 1,
                started => return started,
            }
        }
    }

    fn start_once(command: &str, startup: Duration, stop: &AtomicBool) -> Result<ServerProcess, StartError> {
        let held = free_port().map_err(StartError::Port)?;
        let port = held.number;
        let command = command.replace("{port}", &port.to_string());
        let mut process = Process::start(&command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let until = Instant::now() + startup;
        loop {
            if listens(address) {
                return Ok(ServerProcess { process: Arc::new(Mutex::new(process)), address, _port: held });
            }
            if let Some(status) = process.exit_status() {
                // Its output may still be on its way through the pipe.
                std::thread::sleep(Duration::from_millis(30));
                return Err(StartError::Ended { command, status, port, output: process.last_words() });
            }
            if stop.load(Ordering::Relaxed) {
                return Err(StartError::Stopped);
            }
            if Instant::now() > until {
                return Err(StartError::Mute {
                    command,
                    port,
                    seconds: startup.as_secs_f64(),
                    output: process.last_words(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl ServerProcess {
    /// The program, whoever used it last.
    pub fn program(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program under test that exchanges datagrams.
#[derive(Debug)]
pub struct PeerProcess {
    /// The program.
    pub process: Process,
    /// Where it is, when it was told.
    pub address: Option<SocketAddr>,
}

impl PeerProcess {
    /// Starts `command` with a free port in place of `{port}`, and the addresses of those it is to know in place of
    /// `{peer}` (the first) and `{peers}` (all, with commas between). One that was given a port is waited for until
    /// the port is taken; nothing can be asked of a datagram socket.
    pub async fn start(
        command: &str,
        known: &[String],
        startup: Duration,
    ) -> Result<PeerProcess, StartError> {
        let mut tries = 1;
        loop {
            match PeerProcess::start_once(command, known, startup).await {
                // Somebody else had the port just then; it may have been us, who looked whether it was taken.
                Err(StartError::Ended { output, .. }) if tries < 5 && says_in_use(&output) => tries += 1,
                started => return started,
            }
        }
    }

    async fn start_once(
        command: &str,
        known: &[String],
        startup: Duration,
    ) -> Result<PeerProcess, StartError> {
        let told = command.contains("{port}");
        let port = free_datagram_port().map_err(StartError::Port)?;
        let command = command
            .replace("{port}", &port.to_string())
            .replace("{peers}", &known.join(","))
            .replace("{peer}", known.first().map_or("", String::as_str));
        let mut process = Process::start(&command)?;
        if !told {
            return Ok(PeerProcess { process, address: None });
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let until = Instant::now() + startup;
        loop {
            if !datagrams_are_free(address) {
                return Ok(PeerProcess { process, address: Some(address) });
            }
            if let Some(status) = process.exit_status() {
                tokio::time::sleep(Duration::from_millis(30)).await;
                return Err(StartError::Ended { command, status, port, output: process.last_words() });
            }
            if Instant::now() > until {
                let (seconds, output) = (startup.as_secs_f64(), process.last_words());
                return Err(StartError::Mute { command, port, seconds, output });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn free_datagram_port() -> io::Result<u16> {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// True when nobody takes datagrams there.
fn datagrams_are_free(address: SocketAddr) -> bool {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    UdpSocket::bind(address).is_ok()
}

/// True when nobody takes connections there.
fn is_free(address: SocketAddr) -> bool {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    TcpListener::bind(address).is_ok()
}

/// True for the last words of a program that could not have its port.
fn says_in_use(output: &str) -> bool {
    let output = output.to_ascii_lowercase();
    ["in use", "eaddrinuse"].iter().any(|words| output.contains(words))
}

/// A port that is given to a program under test. Other runs of flowproof on this machine give it to nobody meanwhile:
/// theirs would be asked in place of ours, or ours in place of theirs.
#[derive(Debug)]
struct Port {
    number: u16,
    /// Held at an address of the loopback that nobody uses, for datagrams: the program's own port stays free.
    _sign: Option<UdpSocket>,
}

/// Where ports in use are signed for.
const SIGNED_AT: Ipv4Addr = Ipv4Addr::new(127, 86, 75, 31);

impl Port {
    /// None when another run has it.
    fn sign(number: u16) -> Option<Port> {
        match UdpSocket::bind((SIGNED_AT, number)) {
            Ok(sign) => Some(Port { number, _sign: Some(sign) }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            // Not every system has more than one address of its own.
            Err(_) => Some(Port { number, _sign: None }),
        }
    }
}

/// A port that is free, and that was not handed out before: the one who was given it may not listen yet. It lies below
/// those that systems give to outgoing connections, which could take it in the meantime.
fn free_port() -> io::Result<Port> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..200 {
        // Keys of hashers are random, and differ between processes.
        let number = 10_000 + (RandomState::new().hash_one(given.len()) % 20_000) as u16;
        if given.contains(&number) {
            continue;
        }
        let Some(port) = Port::sign(number) else { continue };
        if is_free(SocketAddr::from((Ipv4Addr::LOCALHOST, number))) {
            // After very many programs, old ports may be given again.
            if given.len() > 10_000 {
                given.clear();
            }
            given.insert(number);
            return Ok(port);
        }
    }
    let number = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(Port { number, _sign: None })
}

/// True when somebody takes connections there. Where nobody does, the system may connect a socket to itself.
fn listens(address: SocketAddr) -> bool {
    let connected = TcpStream::connect_timeout(&address, Duration::from_millis(500));
    connected.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_to_one_run_at_a_time() {
        let port = free_port().expect("some port is free");
        assert!(port._sign.is_none() || Port::sign(port.number).is_none());
        let number = port.number;
        drop(port);
        // A program that another test starts may hold a copy of the sign until it runs.
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(Port::sign(number).is_some());
    }

    /// A look at a port must not make it seem taken: a program that is being started beside it holds our sockets open
    /// for a moment.
    #[test]
    fn programs_that_never_listen_are_never_taken_to_listen() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        let started = ServerProcess::start("exit 9 {port}", Duration::from_secs(60), &stop);
                        assert!(matches!(started, Err(StartError::Ended { .. })), "{started:?}");
                    }
                });
            }
        });
    }
}
