//! The command against targets that do everything wrong: it ends, says what was the matter, blames itself for nothing
//! and keeps its memory.
//!
//! Time bounds here only tell a hang from an answer; nothing is said about speed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use flowproof_reference::machine::Message;
use flowproof_reference::transport::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};
use serde_json::Value;

/// Whoever runs longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the command may need in memory, whatever a target sends.
const MEMORY_KIB: u64 = 256 << 10;
/// Flows that are over soon.
const FLOWS: [&str; 4] = ["connect/own-token", "relay/direct", "relay/echo", "table/own-index"];

const FAIL: i32 = 1;
const NOTHING_JUDGED: i32 = 3;

// --- Running the command.

/// What came of a command.
struct Ran {
    status: ExitStatus,
    stdout: String,
    stderr: String,
    /// The most memory it was seen to hold.
    peak_kib: u64,
}

impl Ran {
    fn report(&self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("no report ({error})\n{}\n{}", self.stdout, self.stderr))
    }
}

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_flowproof"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command was built by cargo")
}

/// Waits for the end of a command, and ends one that hangs.
fn finish(mut child: Child) -> Ran {
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let until = Instant::now() + PATIENCE;
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak_kib.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if Instant::now() > until {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
            panic!("it hangs\n{}", stderr.recv().unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(10));
    };
    let (stdout, stderr) = (stdout.recv().expect("its output ends"), stderr.recv().expect("its output ends"));
    Ran { status, stdout, stderr, peak_kib }
}

fn drain(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (text, drained) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = text.send(String::from_utf8(bytes).expect("the command prints UTF-8"));
    });
    drained
}

/// The peak of the memory of a process that runs.
fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?
        .trim()
        .strip_suffix(" kB")?
        .trim()
        .parse()
        .ok()
}

/// The words of a test of `target` (a URL, or `--exec` and a command) with few flows.
fn words<'a>(target: &[&'a str], format: &'a str) -> Vec<&'a str> {
    let mut words = vec!["test", "hangout", "--format", format, "--timeout", "1s", "--jobs", "4"];
    words.extend(FLOWS.iter().flat_map(|flow| ["--filter", flow]));
    words.extend(target);
    words
}

/// Tests a target: the command ends with `code` and a whole report in which flowproof is blamed for nothing.
#[track_caller]
fn check(target: &[&str], code: i32) -> Value {
    let ran = finish(start(&words(target, "json")));
    let report = ran.report();
    assert_eq!(ran.status.code(), Some(code), "{}\n{report:#}\n{}", ran.status, ran.stderr);
    check_report(&report);
    for flow in report["flows"].as_array().expect("flows are a list") {
        assert_ne!(flow["verdict"], "error", "a target at a URL is never our fault: {flow:#}");
    }
    assert!(ran.peak_kib < MEMORY_KIB, "{} KiB of memory", ran.peak_kib);
    report
}

#[track_caller]
fn check_report(report: &Value) {
    let flows = report["flows"].as_array().expect("flows are a list");
    let mut names: Vec<&str> = flows.iter().filter_map(|flow| flow["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, FLOWS, "one entry for each selected flow: {report:#}");
    for flow in flows {
        let reason = flow["reason"].as_str().unwrap_or_default();
        assert!(!reason.contains("bug of flowproof"), "{flow:#}");
        let told =
            !reason.is_empty() || flow["findings"].as_array().is_some_and(|findings| !findings.is_empty());
        assert!(told || flow["verdict"] == "pass", "a flow that did not pass says why: {flow:#}");
    }
}

/// `name verdict (reason)` of every flow, for a person who reads a failed test.
fn verdicts(report: &Value) -> String {
    let flows = report["flows"].as_array().cloned().unwrap_or_default();
    let lines = flows.iter().map(|flow| {
        let ids: Vec<String> = flow["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|finding| format!("{} {}", finding["requirement"], finding["verdict"]))
            .collect();
        format!("\n  {} {} {} {}", flow["name"], flow["verdict"], flow["reason"], ids.join(", "))
    });
    lines.collect()
}

// --- Hostile servers.

/// A server that does `act` to each connection, each on a thread of its own. Its URL.
fn server(act: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let act = Arc::new(act);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let act = Arc::clone(&act);
            // That the command has hung up ends the act.
            thread::spawn(move || act(stream));
        }
    });
    format!("ws://{address}")
}

/// As [`server`], after a right upgrade.
fn upgraded(act: impl Fn(TcpStream, WebSocketEnd) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    server(move |mut stream| {
        let end = upgrade(&mut stream)?;
        act(stream, end)
    })
}

fn upgrade(stream: &mut TcpStream) -> std::io::Result<WebSocketEnd> {
    let mut end = WebSocketEnd::listening(WebSocketConfig::default());
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        end.receive(&buffer[..count]);
        if let Some(WireEvent::Request(_)) = end.poll() {
            end.accept(None);
            stream.write_all(&end.take_output())?;
            return Ok(end);
        }
    }
}

/// Sends one thing for as long as it is taken.
fn pour(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(bytes)?;
    }
}

/// Reads until the other side ends it.
fn listen(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).map(|_| ())
}

/// The bytes of a message as a server sends it.
fn frame(message: &Message) -> Vec<u8> {
    let mut end = WebSocketEnd::listening(WebSocketConfig::default());
    end.send(message);
    end.take_output()
}

fn text_frame(text: &str) -> Vec<u8> {
    frame(&Message::Text(text.to_owned()))
}

/// Packs small frames into big writes.
fn block_of(frame: &[u8]) -> Vec<u8> {
    frame.repeat((64 << 10) / frame.len() + 1)
}

fn as_words(url: &str) -> [&str; 1] {
    [url]
}

// --- Before the upgrade.

#[test]
fn a_target_that_is_not_there_is_no_ones_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("ws://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    check(&as_words(&url), NOTHING_JUDGED);
}

#[test]
fn a_target_that_closes_at_once_decides_nothing() {
    let url = server(|stream| stream.shutdown(Shutdown::Both));
    check(&as_words(&url), NOTHING_JUDGED);
}

#[test]
fn a_target_that_never_answers_the_upgrade_decides_nothing() {
    let url = server(listen);
    let report = check(&as_words(&url), NOTHING_JUDGED);
    assert!(verdicts(&report).contains("the upgrade was not answered"), "{report:#}");
}

/// Answers the first bytes of a connection with these.
fn answer(answer: &'static [u8]) -> String {
    server(move |mut stream| {
        let _ = stream.read(&mut [0; 4096])?;
        stream.write_all(answer)?;
        listen(stream)
    })
}

#[test]
fn a_web_server_decides_nothing_and_its_answer_is_told() {
    let url = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let report = check(&as_words(&url), NOTHING_JUDGED);
    assert!(verdicts(&report).contains("refused with HTTP 200"), "{report:#}");
    assert!(!verdicts(&report).contains("mute"), "who answers is not mute: {report:#}");
}

#[test]
fn a_redirect_is_not_followed_and_decides_nothing() {
    let url = answer(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    let report = check(&as_words(&url), NOTHING_JUDGED);
    assert!(verdicts(&report).contains("refused with HTTP 302"), "{report:#}");
}

#[test]
fn garbage_instead_of_http_decides_nothing() {
    let url = answer(b"\x00\xff\xfe garbage \x1b[2J\r\n\r\n\r\n");
    check(&as_words(&url), NOTHING_JUDGED);
}

#[test]
fn a_wrong_accept_key_decides_nothing() {
    let url = answer(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: bm90IHRoZSByaWdodCBrZXk=\r\n\r\n",
    );
    check(&as_words(&url), NOTHING_JUDGED);
}

#[test]
fn an_http_head_without_end_is_cut_off() {
    let url = server(|stream| pour(stream, &[b'a'; 64 << 10]));
    check(&as_words(&url), NOTHING_JUDGED);
}

// --- After it.

#[test]
fn frames_of_garbage_are_a_fail() {
    let url = upgraded(|stream, _| pour(stream, &[0xff; 4096]));
    check(&as_words(&url), FAIL);
}

#[test]
fn binary_messages_are_a_fail() {
    let url = upgraded(|mut stream, _| {
        stream.write_all(&frame(&Message::Binary(b"\x00\x01\x02".to_vec())))?;
        listen(stream)
    });
    let report = check(&as_words(&url), FAIL);
    assert!(verdicts(&report).contains("HANGOUT-WIRE-2"), "{report:#}");
}

#[test]
fn masked_frames_are_a_fail() {
    let url = upgraded(|mut stream, _| {
        stream.write_all(b"\x81\x82\x00\x00\x00\x00{}")?;
        listen(stream)
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn silence_is_a_fail_where_something_was_due() {
    let url = upgraded(|stream, _| listen(stream));
    check(&as_words(&url), FAIL);
}

#[test]
fn answers_after_the_deadline_are_a_fail() {
    let url = upgraded(|mut stream, _| {
        // Longer than the flow's second, its allowance and its grace.
        thread::sleep(Duration::from_millis(2500));
        stream.write_all(&text_frame(r#"{"from": "server", "type": "metadata"}"#))?;
        listen(stream)
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn a_reset_right_after_the_upgrade_is_a_fail() {
    let url = upgraded(|stream, _| {
        // Bytes that nobody read turn the close into a reset.
        thread::sleep(Duration::from_millis(50));
        drop(stream);
        Ok(())
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn a_target_that_stops_reading_is_left_behind() {
    let url = upgraded(|mut stream, _| {
        stream.write_all(&block_of(&frame(&Message::Ping(vec![b'p'; 125]))))?;
        thread::sleep(PATIENCE);
        Ok(())
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn a_frame_of_sixty_four_mebibytes_is_not_taken() {
    let url = upgraded(|mut stream, _| {
        let mut header = vec![0x81, 127];
        header.extend_from_slice(&(64_u64 << 20).to_be_bytes());
        stream.write_all(&header)?;
        pour(stream, &[b' '; 64 << 10])
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn a_frame_that_claims_more_than_there_is_is_not_taken() {
    let url = upgraded(|mut stream, _| {
        stream.write_all(b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff")?;
        listen(stream)
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn fragments_without_end_are_not_joined_forever() {
    let url = upgraded(|mut stream, _| {
        stream.write_all(b"\x01\x00")?;
        let mut fragment = vec![0x00, 126, 0xff, 0xff];
        fragment.resize(4 + 0xffff, b' ');
        pour(stream, &fragment)
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn empty_fragments_without_end_do_not_hold_up_the_run() {
    let url = upgraded(|mut stream, _| {
        stream.write_all(b"\x01\x00")?;
        pour(stream, &block_of(b"\x00\x00"))
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn a_flood_of_strange_messages_is_a_fail() {
    let url = upgraded(|stream, _| pour(stream, &block_of(&text_frame("{}"))));
    check(&as_words(&url), FAIL);
}

#[test]
fn a_flood_of_empty_messages_is_a_fail() {
    let url = upgraded(|stream, _| pour(stream, &block_of(&text_frame(""))));
    check(&as_words(&url), FAIL);
}

#[test]
fn a_flood_of_tables_is_a_fail() {
    let url = upgraded(|stream, _| {
        let table = r#"{"from": "server", "type": "metadata", "metadata": {"index": 7}}"#;
        pour(stream, &block_of(&text_frame(table)))
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn a_flood_behind_good_messages_ends_too() {
    let url = upgraded(|mut stream, _| {
        let changes = text_frame(r#"{"from": "server", "type": "changes", "changes": []}"#);
        stream.write_all(&changes.repeat(4000))?;
        pour(stream, &block_of(&text_frame("{}")))
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn a_flood_of_pings_ends_too() {
    let url = upgraded(|stream, _| pour(stream, &block_of(&frame(&Message::Ping(Vec::new())))));
    check(&as_words(&url), FAIL);
}

#[test]
fn a_flood_of_big_messages_keeps_within_the_memory() {
    let url = upgraded(|stream, _| {
        let padding = "x".repeat(1 << 20);
        let changes = format!(r#"{{"from": "server", "type": "changes", "padding": "{padding}"}}"#);
        pour(stream, &text_frame(&changes))
    });
    check(&as_words(&url), FAIL);
}

#[test]
fn messages_that_are_small_as_text_and_big_as_values_keep_within_the_memory() {
    let url = upgraded(|stream, _| {
        let objects = r#"{"":0},"#.repeat((15 << 20) / 7);
        pour(stream, &text_frame(&format!("[{objects}0]")))
    });
    check(&as_words(&url), FAIL);
}

/// What would move a cursor, clear a screen, or turn the direction of writing.
const ESCAPES: &str =
    "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\u{2066}\u{61c}\u{200f}\u{2028}\r\u{8}evil";

#[test]
fn escapes_in_messages_do_not_reach_the_terminal() {
    let send = |mut stream: TcpStream, mut end: WebSocketEnd| {
        let json =
            serde_json::json!({"from": "server", "type": "metadata", "metadata": ESCAPES, ESCAPES: ESCAPES});
        end.send(&Message::Text(json.to_string()));
        end.send(&Message::Text(ESCAPES.to_owned()));
        end.send(&Message::Ping(ESCAPES.into()));
        end.close(Some(4000), ESCAPES);
        stream.write_all(&end.take_output())?;
        listen(stream)
    };
    let url = upgraded(send);
    check(&as_words(&url), FAIL);
    for verbose in [false, true] {
        let mut words = words(&as_words(&url), "human").into_iter().map(str::to_owned).collect::<Vec<_>>();
        if verbose {
            words.push("--verbose".to_owned());
        }
        let ran = finish(start(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(ran.status.code(), Some(FAIL), "{}", ran.stderr);
        assert!(ran.stdout.contains("evil"), "the messages are shown: {}", ran.stdout);
        for text in [&ran.stdout, &ran.stderr] {
            let raw: Vec<char> = text
                .chars()
                .filter(|c| *c != '\n' && ESCAPES.contains(*c) && !c.is_ascii_graphic())
                .collect();
            assert!(raw.is_empty(), "raw {raw:?} in {text:?}");
        }
    }
}

#[test]
fn escapes_do_not_reach_the_transcripts_of_a_report_folder() {
    let url = upgraded(|mut stream, mut end| {
        end.send(&Message::Text(format!("{ESCAPES}\n12.345s  server -> alice  forged")));
        stream.write_all(&end.take_output())?;
        listen(stream)
    });
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-escapes");
    let folder_word = folder.to_str().expect("cargo's folder has a name in UTF-8");
    let ran = finish(start(&words(&[&url, "--report-dir", folder_word], "json")));
    assert_eq!(ran.status.code(), Some(FAIL), "{}", ran.stderr);
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join("transcripts")).expect("transcripts were written") {
        let text = std::fs::read_to_string(entry.expect("it can be listed").path()).expect("it is UTF-8");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("12.345s")), "a forged line: {text}");
        seen += usize::from(text.contains("evil"));
    }
    assert!(seen > 0, "a transcript shows what was sent");
}

// --- One bad connection among good ones.

#[test]
fn flows_beside_a_hostile_connection_are_still_judged() {
    let mut reference = start(&["serve", "hangout"]);
    let upstream = announced(&mut reference);
    let seen = AtomicUsize::new(0);
    let url = server(move |mut stream| {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            return pour(stream, &[0xff; 4096]);
        }
        let mut other = TcpStream::connect(upstream)?;
        other.write_all(&buffer[..count])?;
        let (mut from, mut to) = (stream.try_clone()?, other.try_clone()?);
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut other, &mut stream);
        stream.shutdown(Shutdown::Write)
    });
    let mut words = words(&as_words(&url), "json");
    words.iter_mut().filter(|word| **word == "4").for_each(|jobs| *jobs = "1");
    let ran = finish(start(&words));
    kill_child(reference);
    let report = ran.report();
    check_report(&report);
    // A busy machine gives the flow that met the garbage a second chance, and then it passes too.
    assert!(report["summary"]["pass"].as_u64() >= Some(3), "{}", verdicts(&report));
    assert_eq!(report["summary"]["fail"], 0, "{}", verdicts(&report));
    assert_eq!(ran.status.code(), Some(0), "the others hold: {}", verdicts(&report));
}

/// The address that `flowproof serve` says it listens on.
fn announced(server: &mut Child) -> SocketAddr {
    let mut line = Vec::new();
    let stdout = server.stdout.as_mut().expect("piped");
    for byte in
        std::io::BufReader::new(stdout).bytes().map_while(Result::ok).take_while(|byte| *byte != b'\n')
    {
        line.push(byte);
    }
    let line = String::from_utf8(line).expect("it prints UTF-8");
    let place = line.trim().trim_start_matches("listening on ws://");
    let address = place.split('/').next().unwrap_or_default();
    address.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

fn kill_child(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().expect("it is our child");
}
