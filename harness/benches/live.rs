//! `judge` and `proxy`: messages judged in a second, and what the proxy adds to a round trip, against a plain
//! byte-copying proxy in the same run.
//!
//! `cargo bench -p flowproof --bench live`; each number is printed with its goal.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flowproof::corpus::{Corpus, Protocol};
use flowproof::live::proxy::{self, Upstream};
use flowproof::live::session::{Reading, Session, SessionConfig};
use flowproof::live::trace::{End, Event, Happening, Header, Reader, VERSION, Writer};
use flowproof::live::tracer::Tracer;
use flowproof_reference::machine::{LinkId, Message, Request, Time};
use flowproof_reference::transport::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages of the recording that is judged.
const RECORDED: usize = 400_000;
/// Round trips of one connection.
const TRIPS: usize = 5_000;
/// Connections at once, and the round trips of each.
const MANY: usize = 100;
const EACH: usize = 200;
/// Bytes of a message.
const SIZE: usize = 200;

fn main() {
    let corpus = Corpus::embedded().expect("the built-in corpus is whole");
    let hangout = corpus.protocol("hangout").expect("hangout is built in");
    let rate = judged(&hangout);
    println!("judge, messages/s            {rate:>12.0}   goal 200000");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the network runtime starts").block_on(proxied(&hangout));
}

fn session(protocol: &Arc<Protocol>) -> Session {
    let config = SessionConfig {
        edition: protocol.settings.default_edition.clone(),
        slack: protocol.settings.timing.slack,
        exclusive: false,
        settings: BTreeMap::new(),
    };
    Session::new(Arc::clone(protocol), config)
}

/// A recording of clients who talk to each other by name: (token of the sender, token of the receiver) in turn.
fn recording() -> Vec<u8> {
    let clients = 50;
    // None can be guessed from the one before it.
    let token = |client: usize| {
        let client = client as u128 + 1;
        format!("{:032x}", client.pow(3).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    };
    let header = Header { flowproof_trace: VERSION, protocol: "hangout".to_owned(), edition: None };
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &header).expect("memory takes it");
    let mut at_ms = 0.0;
    let mut write = |link: usize, from: End, what: Happening| {
        at_ms += 0.01;
        writer.write(&Event { at_ms, link: link as u64, from, what }).expect("memory takes it");
    };
    let all: Vec<String> = (0..clients).map(token).collect();
    let properties: BTreeMap<&String, BTreeMap<String, String>> =
        all.iter().map(|token| (token, BTreeMap::new())).collect();
    for client in 0..clients {
        write(client, End::Client, Happening::Opened { target: "/".to_owned(), subprotocols: Vec::new() });
    }
    for client in 0..clients {
        let metadata = serde_json::json!({"from": "server", "type": "metadata", "metadata": {
            "index": token(client), "indexes": all, "properties": properties, "version": "DEV",
        }});
        write(client, End::Server, Happening::Text { text: metadata.to_string() });
    }
    for message in 0..RECORDED / 2 {
        let (from, to) = (message % clients, (message * 7 + 1) % clients);
        let word = format!("{message:08} {}", "x".repeat(80));
        let said = serde_json::json!({"to": token(to), "packet": {"type": "chat", "chat": word}});
        let heard = serde_json::json!({"from": token(from), "type": "chat", "chat": word});
        write(from, End::Client, Happening::Text { text: said.to_string() });
        write(to, End::Server, Happening::Text { text: heard.to_string() });
    }
    bytes
}

fn judged(protocol: &Arc<Protocol>) -> f64 {
    let recording = recording();
    let mut session = session(protocol);
    let began = Instant::now();
    let mut reader = Reader::new(recording.as_slice()).expect("a trace of ours");
    let mut findings = 0;
    let judge = |event, reading| findings += session.observe_read(&event, reading).len();
    reader.ahead(Reading::of, judge).expect("a trace of ours");
    findings += session.finish().len();
    let took = began.elapsed().as_secs_f64();
    assert_eq!(findings, 0, "nobody broke a rule");
    session.messages() as f64 / took
}

/// Sends every message back.
async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // Where it fails, messages only travel later.
            let _ = stream.set_nodelay(true);
            let mut end = WebSocketEnd::listening(WebSocketConfig::default());
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = stream.read(&mut buffer).await.unwrap_or(0);
                if count == 0 {
                    return;
                }
                end.receive(&buffer[..count]);
                while let Some(event) = end.poll() {
                    match event {
                        WireEvent::Request(_) => end.accept(None),
                        WireEvent::Text(text) => {
                            end.send(&Message::Text(String::from_utf8_lossy(&text).into_owned()))
                        }
                        _ => {}
                    }
                }
                if stream.write_all(&end.take_output()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Copies bytes both ways and does nothing else.
async fn copying(listener: TcpListener, upstream: SocketAddr) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(upstream).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

struct Client {
    stream: TcpStream,
    end: WebSocketEnd,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, seed: u64) -> Client {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("a socket of ours");
        let request = Request { path: "/".to_owned(), ..Request::default() };
        let end = WebSocketEnd::connecting(WebSocketConfig::default(), &address.to_string(), &request, seed);
        let mut client = Client { stream, end, buffer: vec![0; 64 << 10] };
        while !matches!(client.next().await, WireEvent::Opened(_)) {}
        client
    }

    async fn next(&mut self) -> WireEvent {
        loop {
            let output = self.end.take_output();
            self.stream.write_all(&output).await.expect("the other end reads");
            if let Some(event) = self.end.poll() {
                return event;
            }
            let count = self.stream.read(&mut self.buffer).await.expect("the other end writes");
            assert!(count > 0, "the other end has gone");
            self.end.receive(&self.buffer[..count]);
        }
    }

    async fn trip(&mut self, text: &str) -> Duration {
        let began = Instant::now();
        self.end.send(&Message::Text(text.to_owned()));
        while !matches!(self.next().await, WireEvent::Text(_)) {}
        began.elapsed()
    }
}

/// Median and 99th percentile of round trips, in microseconds.
async fn latency(address: SocketAddr, text: &str) -> (f64, f64) {
    let mut client = Client::connect(address, 1).await;
    for _ in 0..TRIPS / 10 {
        client.trip(text).await;
    }
    let mut took = Vec::with_capacity(TRIPS);
    for _ in 0..TRIPS {
        took.push(client.trip(text).await.as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    (took[TRIPS / 2], took[TRIPS * 99 / 100])
}

/// Round trips in a second over many connections.
async fn throughput(address: SocketAddr, text: &str) -> f64 {
    let mut clients = Vec::new();
    for seed in 0..MANY {
        clients.push(Client::connect(address, seed as u64).await);
    }
    let began = Instant::now();
    let talking: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let text = text.to_owned();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    client.trip(&text).await;
                }
            })
        })
        .collect();
    for one in talking {
        one.await.expect("a client does not panic");
    }
    (MANY * EACH) as f64 / began.elapsed().as_secs_f64()
}

/// The judges behind the proxy, as the command has them.
fn judges(protocol: &Arc<Protocol>, mut heard: tokio::sync::mpsc::Receiver<proxy::Heard>) {
    let began = Instant::now();
    let framing = protocol.settings.transport(&protocol.settings.default_edition).framing(64 << 20);
    let mut session = session(protocol);
    let mut tracers = BTreeMap::new();
    while let Some(heard) = heard.blocking_recv() {
        let mut events = Vec::new();
        match heard {
            proxy::Heard::Link(link) => {
                drop(tracers.insert(LinkId(link), Tracer::stream(link, framing.clone())))
            }
            proxy::Heard::Bytes(link, at, from, bytes) => {
                if let Some(tracer) = tracers.get_mut(&LinkId(link)) {
                    tracer.bytes(Time::from_start(at - began), from, &bytes, &mut events);
                }
            }
            proxy::Heard::Peer(..) | proxy::Heard::Ended(..) | proxy::Heard::Unreachable(..) => {}
        }
        events.iter().for_each(|event| drop(session.observe(event)));
    }
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a socket of ours");
    (listener, address)
}

async fn proxied(protocol: &Arc<Protocol>) {
    let (server, upstream) = listening().await;
    tokio::spawn(echo(server));
    let (listener, plain) = listening().await;
    tokio::spawn(copying(listener, upstream));
    let (listener, watched) = listening().await;
    let (ears, heard) = proxy::ears();
    tokio::spawn(proxy::streams(listener, Upstream { address: upstream, tls: None }, ears));
    let spoken = Arc::clone(protocol);
    std::thread::spawn(move || judges(&spoken, heard));
    let mut text = String::from("{\"to\": \"*\", \"packet\": {\"type\": \"chat\", \"chat\": \"");
    text.push_str(&"x".repeat(SIZE.saturating_sub(text.len() + 3)));
    text.push_str("\"}}");
    let copied = latency(plain, &text).await;
    let judged = latency(watched, &text).await;
    println!("round trip, plain copy       {:>9.1} us median  {:>9.1} us 99th", copied.0, copied.1);
    println!("round trip, proxy            {:>9.1} us median  {:>9.1} us 99th", judged.0, judged.1);
    println!(
        "proxy adds                   {:>9.1} us median  {:>9.1} us 99th   goal 100, 1000",
        judged.0 - copied.0,
        judged.1 - copied.1
    );
    let straight = throughput(upstream, &text).await;
    let copied = throughput(plain, &text).await;
    let judged = throughput(watched, &text).await;
    println!("round trips/s at {MANY} links: none {straight:.0}, plain copy {copied:.0}, proxy {judged:.0}");
    println!("proxy / none                 {:>12.2}   goal 0.6", judged / straight);
    println!("proxy / plain copy           {:>12.2}", judged / copied);
}
