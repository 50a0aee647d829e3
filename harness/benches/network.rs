//! How many messages `flowproof fuzz` exchanges with a hangout server, beside an echo of tokio-tungstenite with as many
//! connections, and beside boofuzz with its defaults against the same server.
//!
//! `cargo bench -p flowproof --bench network`; with `FLOWPROOF_PYTHON`, the folder of a Python that has boofuzz 0.4.2,
//! boofuzz is measured too.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// How long each is measured, in seconds.
const LONG: u64 = 15;
/// Conversations in flight, and connections of the echo.
const WIDTH: usize = 24;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let echo = runtime.expect("the network runtime starts").block_on(echoed());
    println!("echo of tokio-tungstenite    {echo:>10.0} round trips/s at {WIDTH} connections");
    let server = Server::start();
    let (conversations, messages) = fuzzed(&server);
    // Half of them are ours.
    let trips = messages / 2.0;
    println!("flowproof fuzz hangout       {trips:>10.0} round trips/s, {conversations:.0} conversations/s");
    println!("fuzz / echo                  {:>10.2}   goal 0.5", trips / echo);
    let Some(python) = std::env::var_os("FLOWPROOF_PYTHON") else {
        println!("boofuzz                       not measured: FLOWPROOF_PYTHON is not set");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/boofuzz_rate.py");
    let python = std::path::Path::new(&python).join("python3");
    let told = Command::new(python)
        .args([script, &server.port, &LONG.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("Python starts");
    let sent: f64 = String::from_utf8_lossy(&told.stdout).trim().parse().expect("it prints a number");
    println!("boofuzz                      {sent:>10.0} messages/s");
    println!("fuzz / boofuzz               {:>10.1}   goal 50", trips / sent);
}

/// Round trips in a second, each of as many bytes as a message of hangout mostly has.
async fn echoed() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a socket of ours");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a client of ours");
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let began = Instant::now();
    let clients: Vec<_> = (0..WIDTH)
        .map(|_| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(address).await.expect("it listens");
                stream.set_nodelay(true).expect("a socket of ours");
                let url = format!("ws://{address}/");
                let (mut socket, _) =
                    tokio_tungstenite::client_async(url, stream).await.expect("it takes us");
                let mut trips = 0_u32;
                while began.elapsed() < Duration::from_secs(LONG / 3) {
                    socket.send(Message::text("x".repeat(100))).await.expect("it reads");
                    socket.next().await.expect("it answers").expect("it answers");
                    trips += 1;
                }
                trips
            })
        })
        .collect();
    let mut trips = 0;
    for client in clients {
        trips += client.await.expect("a client does not panic");
    }
    f64::from(trips) / began.elapsed().as_secs_f64()
}

/// A server of ours, until it is dropped.
struct Server {
    process: Child,
    port: String,
}

impl Server {
    fn start() -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_flowproof"))
            .args(["serve", "hangout", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("flowproof starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("it was piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let port = line.trim().trim_end_matches('/').rsplit(':').next().unwrap_or_default().to_owned();
        Server { process, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is no business of a bench.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Conversations and messages in a second of a campaign.
fn fuzzed(server: &Server) -> (f64, f64) {
    let url = format!("ws://127.0.0.1:{}/", server.port);
    let told = Command::new(env!("CARGO_BIN_EXE_flowproof"))
        .args(["fuzz", "hangout", &url, "--only-changed", "--seed", "1", "--jobs", "2"])
        .args(["--width", &WIDTH.to_string(), "--time", &format!("{LONG}s")])
        .output()
        .expect("flowproof starts");
    let text = String::from_utf8_lossy(&told.stdout);
    let rate = |of: &str| {
        let sum = text.lines().find(|line| line.contains(" conversations (")).expect("it sums up");
        let after = sum.split(&format!(" {of} (")).nth(1).expect("it tells its rates");
        after.split('/').next().and_then(|rate| rate.parse().ok()).expect("a rate is a number")
    };
    (rate("conversations"), rate("messages"))
}
