//! `flowproof serve`: the reference implementation on a socket.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use flowproof_reference::driver::run_loop::{self, Place, Stimulus};
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::test::{edition, find, find_sinner, variable};
use super::{exit, output, target};
use crate::corpus::{Corpus, TransportKind};
use crate::runner::stimulus as order;
use crate::runner::variables::variables;
use crate::world::reference::{ReferenceOptions, SETUP, reference, takes_setup};

/// What `serve` takes.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The protocol
    protocol: String,
    /// The role to play [default: the one that listens]
    #[arg(long)]
    role: Option<String>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where a role that connects is to connect to
    #[arg(long)]
    url: Option<String>,
    /// The edition to speak [default: the protocol's own]
    #[arg(long)]
    edition: Option<String>,
    /// A setting of the protocol; may be given several times
    #[arg(long = "var", value_parser = variable, value_name = "NAME=VALUE")]
    vars: Vec<(String, String)>,
    /// What it begins with, from a TOML file: users, tokens, spaces ... (polfan; see corpus/polfan/setup.toml)
    #[arg(long, value_name = "FILE")]
    setup: Option<PathBuf>,
    /// Plant this fault
    #[arg(long, value_name = "NAME")]
    sinner: Option<String>,
    /// Seeds tokens and the like
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command.
pub(super) fn run(args: &ServeArgs, corpus: &Corpus) -> u8 {
    match serve(args, corpus) {
        Ok(true) => exit::OK,
        Ok(false) => exit::FAIL,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            exit::USAGE
        }
    }
}

/// Serves until it is over; false when a role could not do what it was told.
fn serve(args: &ServeArgs, corpus: &Corpus) -> Result<bool, String> {
    let protocol = find(corpus, &args.protocol)?;
    let sinner = args.sinner.as_deref().map(|name| find_sinner(&protocol, name)).transpose()?;
    let known = &protocol.settings.roles;
    let role = match (&args.role, &sinner) {
        (Some(name), _) => known.iter().find(|role| role.name == *name).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|role| role.name.as_str()).collect();
            format!("{} has no role `{name}`; it has: {}", args.protocol, names.join(", "))
        })?,
        (None, Some(sinner)) => {
            known.iter().find(|role| role.name == sinner.role).ok_or("name the role with --role")?
        }
        (None, None) => known.iter().find(|role| role.listens).ok_or("name the role with --role")?,
    };
    if let Some(sinner) = sinner.as_ref().filter(|sinner| sinner.role != role.name) {
        return Err(format!("the sinner {} plays the role {}, not {}", sinner.name, sinner.role, role.name));
    }
    let edition =
        edition(&protocol, args.edition.as_ref().or(sinner.as_ref().and_then(|one| one.edition.as_ref())))?;
    let transport = protocol.settings.transport(&edition);
    let mut settings = protocol.settings.values(&edition);
    settings.extend(variables(&protocol.settings, args.vars.iter().cloned().collect(), true));
    if let Some(file) = &args.setup {
        if !takes_setup(&protocol.settings.name, &role.name) {
            return Err(format!("the {} of {} takes no setup", role.name, args.protocol));
        }
        let setup = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        settings.insert(SETUP.to_owned(), setup);
    }
    let mut options = ReferenceOptions {
        edition: &edition,
        seed: args.seed,
        epoch: milliseconds_since_1970(),
        authority: "",
        path: &transport.default_path,
        settings,
        sinner: sinner.as_ref(),
        varied: false,
    };
    let parsed = match &args.url {
        Some(url) if !role.listens => Some(target::parse(url, false)?),
        Some(_) => return Err(format!("a {} waits for others to connect: --listen, not --url", role.name)),
        None if role.listens || transport.kind == TransportKind::Udp => None,
        None => return Err(format!("a {} needs --url: where to connect to", role.name)),
    };
    if let Some(parsed) = &parsed {
        options.authority = &parsed.host;
        options.path = parsed.path.as_deref().unwrap_or(options.path);
    }
    let mut station = reference(&protocol.settings.name, &role.name, &options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the network runtime does not start: {error}"))?;
    runtime.block_on(async {
        // Whoever reads that we listen may ask us to stop.
        let stopped = stopped();
        let place = match &parsed {
            Some(parsed) if transport.kind != TransportKind::Udp => Place::Connect(parsed.address),
            // Who sends datagrams has a socket to be answered at; a URL only tells whom it knows.
            _ => listen(args.listen, transport.kind, &transport.default_path).await?,
        };
        let complain = |error: &str| output::complain(&format!("warning: {error}"));
        let ran = run_loop::run(station.as_mut(), place, stimuli(), stopped, complain).await;
        ran.map_err(|error| error.to_string())
    })?;
    Ok(!station.has_failed())
}

fn milliseconds_since_1970() -> Option<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

async fn listen(wanted: SocketAddr, kind: TransportKind, path: &str) -> Result<Place, String> {
    let failed = |error: std::io::Error| format!("cannot listen on {wanted}: {error}");
    let (place, address) = match kind {
        TransportKind::Udp => {
            let socket = UdpSocket::bind(wanted).await.map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            (Place::Datagrams(socket), address)
        }
        TransportKind::Websocket | TransportKind::Tcp => {
            let listener = TcpListener::bind(wanted).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            (Place::Listen(listener), address)
        }
    };
    let path = if kind == TransportKind::Websocket { path } else { "" };
    output::print(&format!("listening on {}://{address}{path}\n", kind.scheme()));
    if !address.ip().is_loopback() {
        output::complain("warning: this reference is meant for tests, and strangers can reach it");
    }
    Ok(place)
}

/// What standard input tells it to do, line by line.
fn stimuli() -> mpsc::Receiver<Stimulus> {
    let (orders, inbox) = mpsc::channel(16);
    // The thread ends with the program: a blocked read of standard input cannot be called off.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match order::Stimulus::read(&line) {
                Ok(order) => {
                    if orders.blocking_send((order.does, order.with)).is_err() {
                        return;
                    }
                }
                Err(error) => output::complain(&format!("warning: {error}")),
            }
        }
    });
    inbox
}

/// Ends when the program is asked to, from now on.
pub(super) fn stopped() -> impl Future<Output = ()> {
    let asked = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async move {
        let [mut interrupt, mut terminate] = asked.map(Result::ok);
        tokio::select! {
            () = next(&mut interrupt) => {}
            () = next(&mut terminate) => {}
        }
    }
}

/// Waits for a signal; without end where the system does not tell of it.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
