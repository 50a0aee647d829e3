//! `flowproof proxy` and `flowproof judge`: live traffic and recordings.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use flowproof_reference::machine::{Response, Time};
use flowproof_reference::transport::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::test::{duration, edition, find, variable};
use super::{exit, output, target};
use crate::corpus::{Corpus, Protocol, TransportKind};
use crate::diagnostic::escape;
use crate::judge::finding::{Finding, Ruling};
use crate::live::proxy::{self, Heard, Upstream};
use crate::live::session::{Reading, Session, SessionConfig};
use crate::live::trace::{Event, Header, Reader, VERSION, Writer};
use crate::live::tracer::Tracer;
use crate::live::{as_flow, har};
use crate::pattern::json;
use crate::report::text::Style;
use crate::report::{Report, human, json as json_report};
use crate::runner::verdict::Verdict;
use crate::world::network::Place;

/// Largest message that is looked into.
const MESSAGE_LIMIT: usize = 64 << 20;

/// How findings and the report are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for a person
    Human,
    /// JSON lines: one for each finding as it happens, the report at the end
    Json,
}

/// What `proxy` takes.
#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// The protocol that is spoken
    protocol: String,
    /// Where clients connect to; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The server
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// Accept any certificate of a wss:// server
    #[arg(long)]
    insecure: bool,
    /// Keep a trace of everything that passes
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// End with exit code 1 after so many findings that break a MUST
    #[arg(long, value_name = "N")]
    fail_after: Option<usize>,
    /// Answer HTTP requests for metrics in the Prometheus format here
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    judging: JudgingArgs,
}

/// What `judge` takes.
#[derive(Debug, Args)]
pub(super) struct JudgeArgs {
    /// The protocol that was spoken
    protocol: String,
    /// The recording: a trace of `proxy --record`, or a HAR file with WebSocket messages; `-` reads standard input
    trace: PathBuf,
    /// Print a flow made of the recording, ready to edit, instead of judging it
    #[arg(long)]
    as_flow: bool,
    #[command(flatten)]
    judging: JudgingArgs,
}

#[derive(Debug, Args)]
struct JudgingArgs {
    /// The edition of the protocol [default: the protocol's own]
    #[arg(long)]
    edition: Option<String>,
    /// A setting of the protocol; may be given several times
    #[arg(long = "var", value_parser = variable, value_name = "NAME=VALUE")]
    vars: Vec<(String, String)>,
    /// Allowance on every time limit, for instance 250ms
    #[arg(long, value_parser = duration, value_name = "TIME")]
    slack: Option<Duration>,
    /// Nobody talks to the server but those who are seen here; of a HAR file this is never known
    #[arg(long)]
    exclusive: bool,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl JudgingArgs {
    fn config(&self, protocol: &Protocol) -> Result<SessionConfig, String> {
        Ok(SessionConfig {
            edition: edition(protocol, self.edition.as_ref())?,
            slack: self.slack.unwrap_or(protocol.settings.timing.slack),
            exclusive: self.exclusive,
            settings: self.vars.iter().cloned().collect(),
        })
    }
}

/// Judges a recording.
pub(super) fn judge(args: &JudgeArgs, corpus: &Corpus, colour: bool) -> u8 {
    match judge_recording(args, corpus, colour) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {}", escape(&error)));
            exit::USAGE
        }
    }
}

fn judge_recording(args: &JudgeArgs, corpus: &Corpus, colour: bool) -> Result<u8, String> {
    let protocol = find(corpus, &args.protocol)?;
    let config = args.judging.config(&protocol)?;
    let shown = args.trace.display().to_string();
    let mut source: Box<dyn BufRead + Send> = if shown == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::with_capacity(
            1 << 20,
            File::open(&args.trace).map_err(|error| format!("{shown}: {error}"))?,
        ))
    };
    let start = source.fill_buf().map_err(|error| format!("{shown}: {error}"))?;
    let is_trace = String::from_utf8_lossy(&start[..start.len().min(4096)]).contains("\"flowproof_trace\"");
    let mut session = Session::new(Arc::clone(&protocol), config.clone());
    let mut cut = false;
    if is_trace {
        let mut reader = Reader::new(source).map_err(|error| format!("{shown}: {error}"))?;
        if reader.header.protocol != protocol.settings.name {
            let told = format!(
                "{shown} is a recording of {}, not {}",
                reader.header.protocol, protocol.settings.name
            );
            return Err(told);
        }
        if args.as_flow {
            let events: Result<Vec<Event>, _> = reader.collect();
            let events = events.map_err(|error| format!("{shown}: {error}"))?;
            output::print(&as_flow::flow(&events, &protocol));
            return Ok(exit::OK);
        }
        let read = reader.ahead(Reading::of, |event, reading| {
            tell(&session.observe_read(&event, reading), args.judging.format, &protocol);
        });
        // What was read so far is still judged.
        if let Err(error) = read {
            output::complain(&format!("warning: {}", escape(&format!("{shown}: {error}"))));
            cut = true;
        }
        if reader.cut {
            output::complain(&format!("warning: {shown} was cut off in the middle of its last line"));
            cut = true;
        }
    } else {
        let mut text = String::new();
        source.read_to_string(&mut text).map_err(|error| format!("{shown}: {error}"))?;
        let events = har::events(&text).map_err(|error| format!("{shown} is neither a trace nor {error}"))?;
        if args.as_flow {
            output::print(&as_flow::flow(&events, &protocol));
            return Ok(exit::OK);
        }
        // Others than this browser may have talked to the server.
        session = Session::new(Arc::clone(&protocol), SessionConfig { exclusive: false, ..config });
        for event in &events {
            tell(&session.observe(event), args.judging.format, &protocol);
        }
    }
    tell(&session.finish(), args.judging.format, &protocol);
    Ok(conclude(session, &protocol, "trace", &shown, cut, args.judging.format, Style::new(colour)))
}

/// Prints what is new.
fn tell(findings: &[Finding], format: Format, protocol: &Protocol) {
    for finding in findings.iter().filter(|finding| finding.ruling != Ruling::Noted) {
        let id = finding.requirement.as_deref().unwrap_or("-");
        match format {
            Format::Human => {
                let level =
                    finding.requirement.as_deref().map(|id| format!(" ({})", protocol.catalogue.level(id)));
                let found = if finding.actual.is_null() {
                    String::new()
                } else {
                    format!("\n    found     {}", json::short(&finding.actual, 300))
                };
                let text = format!(
                    "{:>9} s  {id}{} broken by {}: {}\n    expected  {}{found}\n",
                    format!("{:.3}", finding.at.since_start().as_secs_f64()),
                    level.unwrap_or_default(),
                    finding.by,
                    json::cut(&finding.message, 500),
                    json::cut(&finding.expected, 300),
                );
                output::print(&escape(&text));
            }
            Format::Json => {
                let line = json_report::finding(finding, &protocol.catalogue);
                output::print(&format!("{line}\n"));
            }
        }
    }
}

/// Prints the report and gives the exit code.
fn conclude(
    session: Session,
    protocol: &Protocol,
    kind: &str,
    address: &str,
    cut: bool,
    format: Format,
    style: Style,
) -> u8 {
    let messages = session.messages();
    let events = session.into_events(kind, address, cut);
    let Some(report) = Report::from_events(&events, protocol) else { return exit::BUG };
    match format {
        Format::Human => {
            output::print(&human::summary(&report, protocol, true, style));
            output::print(&format!("{messages} messages judged\n"));
        }
        // Like what was told before it, on one line.
        Format::Json => output::print(&format!("{}\n", json_report::report(&report, &protocol.catalogue))),
    }
    match report.flows.first().map(|flow| flow.verdict) {
        Some(Verdict::Fail) => exit::FAIL,
        Some(Verdict::Inconclusive) | None => exit::NOTHING_JUDGED,
        _ => exit::OK,
    }
}

/// Watches live traffic.
pub(super) fn proxy(args: &ProxyArgs, corpus: &Corpus, colour: bool) -> u8 {
    match watch(args, corpus, colour) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            exit::USAGE
        }
    }
}

/// Numbers for the metrics.
#[derive(Default)]
struct Counters {
    links: AtomicU64,
    open: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    findings: AtomicU64,
    broken: AtomicU64,
}

/// As many connections as the system lets us have; it begins with fewer, for old programs' sake.
fn many_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it is refused, clients beyond the limit wait until others leave.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn watch(args: &ProxyArgs, corpus: &Corpus, colour: bool) -> Result<u8, String> {
    many_files();
    let protocol = find(corpus, &args.protocol)?;
    let config = args.judging.config(&protocol)?;
    let transport = protocol.settings.transport(&config.edition).clone();
    let parsed = target::parse(&args.upstream, args.insecure)?;
    let tls = match parsed.place {
        Place::Listens { tls, .. } => tls,
        Place::Connects { .. } | Place::Peer { .. } => None,
    };
    let upstream = Upstream { address: parsed.address, tls };
    let record = match &args.record {
        Some(path) => {
            let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let header = Header {
                flowproof_trace: VERSION,
                protocol: protocol.settings.name.clone(),
                edition: Some(config.edition.clone()),
            };
            Some(
                Writer::new(BufWriter::new(file), &header)
                    .map_err(|error| format!("{}: {error}", path.display()))?,
            )
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("the network runtime does not start: {error}"))?;
    let counters = Arc::new(Counters::default());
    let judges = Judges {
        session: Session::new(Arc::clone(&protocol), config),
        protocol: Arc::clone(&protocol),
        framing: transport.framing(MESSAGE_LIMIT),
        tracers: BTreeMap::new(),
        record,
        began: Instant::now(),
        format: args.judging.format,
        fail_after: args.fail_after,
        counters: Arc::clone(&counters),
    };
    let (session, enough) = runtime.block_on(async {
        let failed = |error: std::io::Error| format!("cannot listen on {}: {error}", args.listen);
        let (ears, heard) = proxy::ears();
        let address = if transport.kind == TransportKind::Udp {
            let socket = UdpSocket::bind(args.listen).await.map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            tokio::spawn(proxy::datagrams(socket, upstream.address, ears));
            address
        } else {
            let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            tokio::spawn(proxy::streams(listener, upstream, ears));
            address
        };
        let path = parsed.path.as_deref().unwrap_or("");
        let ours = format!("{}://{address}{path}", transport.kind.scheme());
        announce(args, &format!("listening on {ours}, passing on to {}", args.upstream), "listening", &ours);
        if let Some(metrics) = args.metrics {
            let listener = TcpListener::bind(metrics).await;
            let listener = listener.map_err(|error| format!("cannot listen on {metrics}: {error}"))?;
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            let ours = format!("http://{address}/metrics");
            announce(args, &format!("metrics on {ours}"), "metrics", &ours);
            tokio::spawn(serve_metrics(listener, Arc::clone(&counters)));
        }
        Ok::<_, String>(judges.run(heard).await)
    })?;
    let code =
        conclude(session, &protocol, "proxy", &args.upstream, false, args.judging.format, Style::new(colour));
    Ok(if enough { exit::FAIL } else { code })
}

/// Says where something listens; in JSON as a line like all others.
fn announce(args: &ProxyArgs, text: &str, what: &str, url: &str) {
    match args.judging.format {
        Format::Human => output::print(&format!("{text}\n")),
        Format::Json => output::print(&format!("{}\n", serde_json::json!({ what: url }))),
    }
}

/// Everything behind the carrying of bytes.
struct Judges {
    session: Session,
    protocol: Arc<Protocol>,
    framing: flowproof_reference::transport::Framing,
    tracers: BTreeMap<u64, (Tracer, u8)>,
    record: Option<Writer<BufWriter<File>>>,
    began: Instant,
    format: Format,
    fail_after: Option<usize>,
    counters: Arc<Counters>,
}

impl Judges {
    /// Judges until interrupted; true when that was because there were findings enough.
    async fn run(mut self, mut heard: mpsc::Receiver<Heard>) -> (Session, bool) {
        let mut broken = 0;
        let stop = super::serve::stopped();
        tokio::pin!(stop);
        loop {
            let deadline = self.session.deadline().map(|deadline| self.began + deadline.since_start());
            let fresh = tokio::select! {
                biased;
                () = &mut stop => {
                    // What has passed is judged and kept; nothing more passes.
                    heard.close();
                    while let Ok(last) = heard.try_recv() {
                        let fresh = self.take(last);
                        self.tell(&fresh);
                    }
                    break;
                }
                next = heard.recv() => match next {
                    Some(heard) => self.take(heard),
                    None => break,
                },
                () = sleep_until(deadline) => self.session.pass(Time::from_start(self.began.elapsed())),
            };
            broken += self.tell(&fresh);
            if self.fail_after.is_some_and(|limit| broken >= limit) {
                return (self.close(), true);
            }
        }
        (self.close(), false)
    }

    fn close(mut self) -> Session {
        let last = self.session.pass(Time::from_start(self.began.elapsed()));
        self.tell(&last);
        let last = self.session.finish();
        self.tell(&last);
        if let Some(Err(error)) = self.record.as_mut().map(Writer::flush) {
            output::complain(&format!("warning: the recording is not complete: {error}"));
        }
        self.session
    }

    /// How many of the findings break a MUST.
    fn tell(&self, findings: &[Finding]) -> usize {
        tell(findings, self.format, &self.protocol);
        let must = |finding: &&Finding| {
            let level = finding.requirement.as_deref().map(|id| self.protocol.catalogue.level(id));
            finding.ruling == Ruling::Broken && level == Some(crate::judge::catalogue::Level::Must)
        };
        let broken = findings.iter().filter(must).count();
        self.counters.findings.fetch_add(findings.len() as u64, Ordering::Relaxed);
        self.counters.broken.fetch_add(broken as u64, Ordering::Relaxed);
        broken
    }

    fn came(&mut self, link: u64, tracer: Tracer) {
        self.tracers.insert(link, (tracer, 0));
        self.counters.links.fetch_add(1, Ordering::Relaxed);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&mut self, heard: Heard) -> Vec<Finding> {
        let began = self.began;
        let time = |at: Instant| Time::from_start(at.saturating_duration_since(began));
        let mut events = Vec::new();
        match heard {
            Heard::Link(link) => self.came(link, Tracer::stream(link, self.framing.clone())),
            Heard::Peer(link, at, client, server) => {
                let tracer = Tracer::datagrams(time(at), link, client, server, &mut events);
                self.came(link, tracer);
            }
            Heard::Bytes(link, at, from, bytes) => {
                self.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if let Some((tracer, _)) = self.tracers.get_mut(&link) {
                    tracer.bytes(time(at), from, &bytes, &mut events);
                }
            }
            Heard::Ended(link, at, from) => {
                let mut over = false;
                if let Some((tracer, ends)) = self.tracers.get_mut(&link) {
                    tracer.ended(time(at), from, &mut events);
                    *ends += 1;
                    over = *ends == 2;
                }
                if over {
                    self.tracers.remove(&link);
                    self.counters.open.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Heard::Unreachable(link, why) => {
                self.tracers.remove(&link);
                self.counters.open.fetch_sub(1, Ordering::Relaxed);
                output::complain(&format!("warning: the server could not be reached: {}", escape(&why)));
            }
        }
        let mut fresh = Vec::new();
        for event in &events {
            if let Some(Err(error)) = self.record.as_mut().map(|record| record.write(event)) {
                output::complain(&format!("warning: recording ends here: {error}"));
                self.record = None;
            }
            fresh.extend(self.session.observe(event));
        }
        self.counters.messages.store(self.session.messages(), Ordering::Relaxed);
        fresh
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn serve_metrics(listener: TcpListener, counters: Arc<Counters>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer_metrics(stream, Arc::clone(&counters)));
    }
}

async fn answer_metrics(mut stream: TcpStream, counters: Arc<Counters>) {
    let mut end = WebSocketEnd::listening(WebSocketConfig::default());
    let mut buffer = vec![0; 4096];
    let asked = async {
        loop {
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return false;
            }
            end.receive(&buffer[..count]);
            match end.poll() {
                Some(WireEvent::Request(_)) => return true,
                Some(_) => return false,
                None => {}
            }
        }
    };
    if !tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap_or(false) {
        return;
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let metric = |name: &str, kind: &str, help: &str, value: u64| {
        format!("# HELP flowproof_{name} {help}\n# TYPE flowproof_{name} {kind}\nflowproof_{name} {value}\n")
    };
    let body = [
        metric("links_total", "counter", "Connections that were made.", read(&counters.links)),
        metric("links_open", "gauge", "Connections that are open.", read(&counters.open)),
        metric("messages_total", "counter", "Messages that were judged.", read(&counters.messages)),
        metric("bytes_total", "counter", "Bytes that were passed on.", read(&counters.bytes)),
        metric("findings_total", "counter", "Findings that were told.", read(&counters.findings)),
        metric("broken_total", "counter", "Findings that break a MUST.", read(&counters.broken)),
    ];
    let headers = vec![("content-type".to_owned(), "text/plain; version=0.0.4".to_owned())];
    end.respond(&Response { status: 200, headers, body: body.concat().into_bytes() });
    // Whoever asked may be gone already.
    let _ = stream.write_all(&end.take_output()).await;
    let _ = stream.shutdown().await;
}
