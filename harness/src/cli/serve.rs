//! `flowproof serve`: the reference implementation on a socket.

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use flowproof_reference::driver::host::Host;
use flowproof_reference::driver::run_loop::{self, Streams};
use flowproof_reference::hangout;
use flowproof_reference::machine::Machine;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::test::{find, find_sinner};
use super::{exit, output, target};
use crate::corpus::Corpus;
use crate::sinner::Sinner;
use crate::world::reference::{hangout_client, hangout_server};

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
        Ok(()) => exit::OK,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            exit::USAGE
        }
    }
}

fn serve(args: &ServeArgs, corpus: &Corpus) -> Result<(), String> {
    let protocol = find(corpus, &args.protocol)?;
    let sinner = args.sinner.as_deref().map(|name| find_sinner(&protocol, name)).transpose()?;
    let role = match (&args.role, &sinner) {
        (Some(role), _) => role.clone(),
        (None, Some(sinner)) => sinner.role.clone(),
        (None, None) => {
            let listening = protocol.settings.roles.iter().find(|role| role.listens);
            listening.map(|role| role.name.clone()).ok_or("name the role with --role")?
        }
    };
    if let Some(sinner) = sinner.as_ref().filter(|sinner| sinner.role != role) {
        return Err(format!("the sinner {} plays the role {}, not {role}", sinner.name, sinner.role));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the network runtime does not start: {error}"))?;
    runtime.block_on(serve_role(args, &protocol.settings.name, &role, sinner.as_ref()))
}

async fn serve_role(args: &ServeArgs, protocol: &str, role: &str, sinner: Option<&Sinner>) -> Result<(), String> {
    match (protocol, role) {
        ("hangout", "server") => {
            let host = hangout_server(args.seed, sinner)?;
            let goodbye = Some(hangout::ServerCommand::ShutDown);
            let scheme = "ws";
            listen(args, scheme, host, goodbye).await
        }
        ("hangout", "client") => {
            let url = args.url.as_deref().ok_or("a client needs --url: where to connect to")?;
            let parsed = target::parse(url, false)?;
            let path = parsed.path.clone().unwrap_or_else(|| "/".to_owned());
            let host = hangout_client(&parsed.host, &path, sinner)?;
            let command = |name: &str, with: &Value| hangout::ClientCommand::from_stimulus(name, with);
            let over = |event: &hangout::ClientEvent| matches!(event, hangout::ClientEvent::Closed);
            connect(parsed.address, host, command, hangout::ClientCommand::Close, over).await
        }
        _ => Err(format!("there is no built-in reference for the role {role} of {protocol}")),
    }
}

async fn listen<M: Machine>(
    args: &ServeArgs,
    scheme: &str,
    host: Host<M>,
    goodbye: Option<M::Command>,
) -> Result<(), String> {
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    output::print(&format!("listening on {scheme}://{address}/\n"));
    if !is_loopback(address.ip()) {
        output::complain("warning: this reference is meant for tests, and strangers can reach it");
    }
    let (_commands, inbox) = mpsc::channel(1);
    let served = run_loop::run(host, Streams::Listen(listener), inbox, goodbye, stopped(), |_| true).await;
    served.map_err(|error| error.to_string())
}

fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}

/// A role that connects takes its orders as JSON lines from standard input, as a client under test does.
async fn connect<M: Machine, E: std::fmt::Display>(
    address: SocketAddr,
    host: Host<M>,
    command: impl Fn(&str, &Value) -> Result<M::Command, E> + Send + 'static,
    goodbye: M::Command,
    over: impl Fn(&M::Event) -> bool,
) -> Result<(), String>
where
    M::Command: Send + 'static,
{
    let (commands, inbox) = mpsc::channel(16);
    let leaving = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = std::sync::Arc::clone(&leaving);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(stimulus) = serde_json::from_str::<Value>(&line) else {
                output::complain("a stimulus is a JSON line: {\"does\": \"name\", \"with\": {...}}");
                continue;
            };
            let name = stimulus["does"].as_str().unwrap_or_default();
            match command(name, &stimulus["with"]) {
                Ok(known) => {
                    if name == "close" {
                        told.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                    if commands.blocking_send(known).is_err() {
                        return;
                    }
                }
                Err(error) => output::complain(&error.to_string()),
            }
        }
    });
    let ended = |event: M::Event| {
        // After an orderly goodbye there is nothing left to do.
        !(over(&event) && leaving.load(std::sync::atomic::Ordering::Relaxed))
    };
    let ran = run_loop::run(host, Streams::Connect(address), inbox, Some(goodbye), stopped(), ended).await;
    ran.map_err(|error| error.to_string())
}

/// Ends when the program is asked to.
async fn stopped() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
