//! The proxy as a command, between reference programs on real sockets: nobody is accused where all keep the rules, and
//! where somebody sins that one is named.

mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use running::{PATIENCE, Ran, Running};
use serde_json::Value;

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A reference that listens, a proxy before it, and what is known of both.
struct Scene {
    protocol: &'static str,
    edition: Option<&'static str>,
    server: Running,
    proxy: Running,
    url: String,
    metrics: String,
    record: PathBuf,
    clients: Vec<Running>,
}

impl Scene {
    #[track_caller]
    fn new(protocol: &'static str, edition: Option<&'static str>, server: &[&str], proxy: &[&str]) -> Scene {
        let edition_args: Vec<&str> = edition.iter().flat_map(|edition| ["--edition", edition]).collect();
        let (server, upstream) = Running::serve(&[&[protocol][..], &edition_args, server].concat());
        let name = std::panic::Location::caller().line();
        let record = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proxy-{name}-{protocol}.trace"));
        let shown = record.display().to_string();
        let words = [
            "proxy",
            protocol,
            "--upstream",
            &upstream,
            "--record",
            &shown,
            "--format",
            "json",
            "--metrics",
            "127.0.0.1:0",
            "--exclusive",
        ];
        let proxy = Running::start(&[&words[..], &edition_args, proxy].concat());
        let url = json(&proxy.line())["listening"].as_str().expect("it says where it listens").to_owned();
        let metrics = json(&proxy.line())["metrics"].as_str().expect("it says where").to_owned();
        Scene { protocol, edition, server, proxy, url, metrics, record, clients: Vec::new() }
    }

    fn client(&mut self, args: &[&str]) -> &mut Running {
        let url = self.url.clone();
        let edition: Vec<&str> = self.edition.iter().flat_map(|edition| ["--edition", *edition]).collect();
        let words = ["serve", self.protocol, "--url", &url];
        self.clients.push(Running::start(&[&words[..], &edition, args].concat()));
        self.clients.last_mut().expect("just added")
    }

    /// A number of the metrics.
    fn metric(&self, name: &str) -> u64 {
        let address = self.metrics.trim_start_matches("http://").trim_end_matches("/metrics");
        let mut stream = TcpStream::connect(address).expect("metrics are served");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("metrics are served");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("metrics are text");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains(&format!("# TYPE flowproof_{name} ")), "{answer}");
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("flowproof_{name} ")));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {answer}"))
    }

    /// Waits until a number of the metrics is so high.
    #[track_caller]
    fn wait_for(&self, name: &str, least: u64) {
        let until = Instant::now() + PATIENCE;
        while self.metric(name) < least {
            assert!(Instant::now() < until, "{name} is {} and not {least}", self.metric(name));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the proxy: who was accused of what (`HANGOUT-CHG-3 server`), and the exit code. The recording keeps to its
    /// schema, and is judged alike.
    #[track_caller]
    fn finish(self) -> (Vec<String>, Option<i32>) {
        self.proxy.signal(Signal::SIGINT);
        let ran = self.proxy.wait();
        drop(self.clients);
        drop(self.server);
        check_trace(&self.record);
        let accused = accused(&ran);
        let record = self.record.display().to_string();
        let edition: Vec<&str> = self.edition.iter().flat_map(|edition| ["--edition", *edition]).collect();
        let words = ["judge", self.protocol, &record, "--format", "json", "--exclusive"];
        let again = Running::start(&[&words[..], &edition].concat()).wait();
        // The silence at the end of the traffic is not recorded.
        for one in self::accused(&again) {
            assert!(accused.contains(&one), "the recording accuses {one}, the proxy did not: {accused:?}");
        }
        if accused.is_empty() {
            assert_eq!(again.code, ran.code);
        }
        (accused, ran.code)
    }
}

/// Whom a command that judges has accused of what, from the lines it printed.
fn accused(ran: &Ran) -> Vec<String> {
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let (report, findings) = lines.split_last().expect("the report comes last");
    assert_eq!(json(report)["report"], 1, "{report}");
    let mut accused: Vec<String> = findings
        .iter()
        .map(|line| json(line))
        .filter(|finding| finding["verdict"] == "broken")
        .map(|finding| {
            let by = finding["by"].as_str().unwrap_or_default();
            let by = by.split('.').next().unwrap_or_default();
            format!("{} {by}", finding["requirement"].as_str().unwrap_or("-"))
        })
        .collect();
    accused.sort();
    accused.dedup();
    accused
}

/// Every line of a trace is as its schema has it.
#[track_caller]
fn check_trace(path: &Path) {
    let schema = json(include_str!("../docs/trace.schema.json"));
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let text = std::fs::read_to_string(path).expect("a trace was kept");
    assert!(text.lines().count() > 1, "the trace is empty");
    for line in text.lines() {
        let line = json(line);
        let errors: Vec<String> = validator.iter_errors(&line).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
    }
}

const HELLO: &str = r#"{"does": "send", "with": {"to": "*", "type": "chat", "payload": "hello"}}"#;

#[test]
fn a_hangout_of_three_is_silent() {
    let mut scene = Scene::new("hangout", None, &[], &[]);
    for number in 1..=3 {
        scene.client(&["--role", "client"]);
        scene.wait_for("links_open", number);
    }
    scene.wait_for("messages_total", 6);
    scene.clients[0].tell(HELLO);
    // The envelope, and a copy for each of the others.
    scene.wait_for("messages_total", 9);
    assert_eq!(scene.finish(), (Vec::new(), Some(0)));
}

#[test]
fn a_server_of_hangout_that_sins_is_named() {
    let mut scene = Scene::new("hangout", None, &["--sinner", "relayed-in-a-packet"], &[]);
    for number in 1..=2 {
        scene.client(&["--role", "client"]);
        scene.wait_for("links_open", number);
    }
    scene.wait_for("messages_total", 4);
    scene.clients[0].tell(HELLO);
    scene.wait_for("broken_total", 1);
    assert_eq!(scene.finish(), (vec!["HANGOUT-RELAY-3 server".to_owned()], Some(1)));
}

#[test]
fn a_client_of_hangout_that_sins_is_named_and_others_are_not() {
    let mut scene = Scene::new("hangout", None, &[], &["--fail-after", "1"]);
    scene.client(&["--role", "client"]);
    scene.wait_for("messages_total", 1);
    scene.client(&["--role", "client", "--sinner", "client-payload-called-payload"]);
    scene.wait_for("messages_total", 3);
    scene.clients[0].tell(HELLO);
    scene.clients[1].tell(HELLO);
    // It ends by itself: one finding is enough.
    let ran = scene.proxy.wait();
    assert_eq!((accused(&ran), ran.code), (vec!["HANGOUT-CLIENT-1 client".to_owned()], Some(1)));
}

#[test]
fn a_cluster_is_silent_and_its_sinner_is_named() {
    for sinner in [None, Some("control-same-number")] {
        let mut scene = Scene::new("clusterio", None, &[], &[]);
        scene.client(&["--role", "slave"]);
        // hello, register_slave, ready
        scene.wait_for("messages_total", 3);
        let sin: Vec<&str> = sinner.iter().flat_map(|name| ["--sinner", name]).collect();
        scene.client(&[&["--role", "control"][..], &sin].concat());
        scene.wait_for("messages_total", 6);
        let ask = r#"{"does": "request", "with": {"type": "list_slaves", "data": {}}}"#;
        for round in 1..=2 {
            scene.clients[1].tell(ask);
            if sinner.is_none() {
                scene.wait_for("messages_total", 6 + 2 * round);
            }
        }
        match sinner {
            None => assert_eq!(scene.finish(), (Vec::new(), Some(0))),
            Some(_) => {
                scene.wait_for("broken_total", 1);
                let (accused, code) = scene.finish();
                assert!(accused.iter().all(|one| one.ends_with(" control")), "{accused:?}");
                assert_eq!(code, Some(1));
            }
        }
    }
}

#[test]
fn a_control_that_asks_a_cluster_for_everything_is_silent() {
    let mut scene = Scene::new("clusterio", None, &[], &[]);
    scene.client(&["--role", "slave"]);
    scene.wait_for("messages_total", 3);
    scene.client(&["--role", "control"]);
    scene.wait_for("messages_total", 6);
    // The reference slave has the id 41.
    let config = r#"{"groups": [{"name": "instance", "fields": {"id": 7, "name": "seven"}}]}"#;
    for (ask, data) in [
        ("list_slaves", "{}"),
        ("set_instance_output_subscriptions", r#"{"instance_ids": [7]}"#),
        ("create_instance", &format!(r#"{{"serialized_config": {config}}}"#)),
        ("list_instances", "{}"),
        ("get_instance_config", r#"{"instance_id": 7}"#),
        ("set_instance_config_field", r#"{"instance_id": 7, "field": "instance.name", "value": "eight"}"#),
        ("assign_instance_command", r#"{"instance_id": 7, "slave_id": 41}"#),
        ("start_instance", r#"{"instance_id": 7}"#),
        ("send_rcon", r#"{"instance_id": 7, "command": "/time"}"#),
        ("create_save", r#"{"instance_id": 7}"#),
        ("stop_instance", r#"{"instance_id": 7}"#),
        ("delete_instance", r#"{"instance_id": 7}"#),
        ("get_instance_config", r#"{"instance_id": 7}"#),
    ] {
        let before = scene.metric("messages_total");
        scene.clients[1]
            .tell(&format!(r#"{{"does": "request", "with": {{"type": "{ask}", "data": {data}}}}}"#));
        // The request and its answer; what the master asks of the slave comes between them.
        scene.wait_for("messages_total", before + 2);
    }
    assert_eq!(scene.finish(), (Vec::new(), Some(0)));
}

#[test]
fn a_herd_of_two_is_silent() {
    let mut scene = Scene::new("cow", None, &[], &[]);
    scene.client(&["--role", "peer"]);
    scene.wait_for("messages_total", 1);
    scene.client(&["--role", "peer"]);
    scene.wait_for("messages_total", 3);
    scene.clients[1].tell(
        r#"{"does": "change", "with": {"syncType": "users", "_id": "flowproof-u1", "data": {"name": "made here"}}}"#,
    );
    let before = scene.metric("messages_total");
    scene.wait_for("messages_total", before + 1);
    assert_eq!(scene.finish(), (Vec::new(), Some(0)));
}

#[test]
fn a_chat_by_websocket_and_http_is_silent() {
    let mut scene = Scene::new("polfan", None, &[], &[]);
    for (number, token) in ["client-token=tok-alice", "client-token=tok-bob"].into_iter().enumerate() {
        scene.client(&["--role", "client", "--var", token]);
        scene.wait_for("messages_total", number as u64 + 1);
    }
    let before = scene.metric("messages_total");
    scene.clients[1].tell(
        r#"{"does": "chain", "with": {"do": {"type": "JoinSpace", "data": {"id": "0b6f2a52-6a1e-4a55-9d0c-7a8c2f3b1e01"}, "api": true}, "then": {"type": "GetSpaceMembers", "data": {"id": "0b6f2a52-6a1e-4a55-9d0c-7a8c2f3b1e01"}}}}"#,
    );
    // The command by HTTP and its answer, the one by WebSocket and its own.
    scene.wait_for("messages_total", before + 4);
    let record = scene.record.clone();
    assert_eq!(scene.finish(), (Vec::new(), Some(0)));
    let text = std::fs::read_to_string(record).expect("a trace was kept");
    assert!(text.contains("\"kind\":\"asked\"") && text.contains("\"kind\":\"answered\""), "{text}");
}

#[test]
fn nodes_that_meet_by_datagrams_are_silent() {
    let mut scene = Scene::new("ptpchat", None, &["--role", "server", "--seed", "9"], &[]);
    for number in 1..=2 {
        // Each makes an identity of its own.
        scene.client(&["--role", "node", "--seed", &number.to_string()]);
        scene.wait_for("links_total", number);
    }
    scene.wait_for("messages_total", 8);
    assert_eq!(scene.finish(), (Vec::new(), Some(0)));
}

#[test]
fn nodes_that_meet_by_streams_are_silent() {
    let mut scene = Scene::new("ptpchat", Some("tcp-2016-04"), &["--role", "server", "--seed", "9"], &[]);
    for number in 1..=2 {
        // Each makes an identity of its own.
        scene.client(&["--role", "node", "--seed", &number.to_string()]);
        scene.wait_for("links_total", number);
    }
    scene.wait_for("messages_total", 4);
    assert_eq!(scene.finish(), (Vec::new(), Some(0)));
}

#[test]
fn a_proxy_before_nobody_lives_on_and_says_so() {
    let words = ["proxy", "hangout", "--upstream", "ws://127.0.0.1:9", "--format", "json"];
    let proxy = Running::start(&words);
    let url = json(&proxy.line())["listening"].as_str().expect("it says where it listens").to_owned();
    let address = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    for _ in 0..2 {
        let mut client = TcpStream::connect(&address).expect("the proxy listens");
        let mut buffer = Vec::new();
        // An end, or a reset.
        let _ = client.read_to_end(&mut buffer);
        assert!(buffer.is_empty());
    }
    // Nothing passed, so nothing could be judged.
    proxy.signal(Signal::SIGINT);
    assert_eq!(proxy.wait().code, Some(3));
}
