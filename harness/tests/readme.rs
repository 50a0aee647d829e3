//! The README: what it shows is what comes of it. The programs of its readers are played by the references.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use regex::Regex;

const PAGE: &str = include_str!("../../README.md");
const FLOWPROOF: &str = env!("CARGO_BIN_EXE_flowproof");

/// The blocks of the page: the word behind the fence, and the lines.
fn blocks() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if let Some(word) = line.strip_prefix("```") {
            blocks.push((word, lines.by_ref().take_while(|line| !line.starts_with("```")).collect()));
        }
    }
    blocks
}

/// A reference that listens; it ends when this is dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(words: &[&str]) -> Server {
        let mut child = Command::new(FLOWPROOF)
            .arg("serve")
            .args(words)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command was built by cargo");
        let out = child.stdout.take().expect("piped");
        let said = BufReader::new(out).lines().next().expect("a server says where it listens");
        let said = said.expect("text");
        let url = said.strip_prefix("listening on ").expect("the place it listens at").to_owned();
        Server { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words of a command line, as a shell reads them.
fn words(line: &str) -> Vec<String> {
    let line = line.split("  #").next().unwrap_or(line);
    let mut words = Vec::new();
    for (place, part) in line.split('\'').enumerate() {
        match place % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// Runs a line of the page that begins with `flowproof`, with `more` behind it.
fn run(line: &str, replaced: &[(&str, &str)], more: &[&str]) -> (Option<i32>, String) {
    let mut words = words(line);
    assert_eq!(words.remove(0), "flowproof", "{line}");
    for word in &mut words {
        for (from, to) in replaced {
            *word = word.replace(from, to);
        }
    }
    let ran =
        Command::new(FLOWPROOF).args(&words).args(more).output().expect("the command was built by cargo");
    (ran.status.code(), String::from_utf8(ran.stdout).expect("text"))
}

#[test]
fn each_command_does_what_is_said_of_it() {
    let hangout = Server::start(&["hangout"]);
    let node = Server::start(&["ptpchat"]);
    let serve = |words: &str| format!("{FLOWPROOF} serve {words}");
    let server = serve("hangout --listen 127.0.0.1:{port}");
    let client = serve("hangout --role client --url {url}");
    let both = serve("ptpchat --role node --listen 127.0.0.1:{port} --url udp://{peer}");
    let caller = serve("ptpchat --role node --url udp://{peer}");
    let replaced = [
        ("my-server --port {port}", server.as_str()),
        ("ws://127.0.0.1:8080/", &hangout.url),
        ("my-client --connect {url}", &client),
        ("my-node --port {port} --know {peers}", &both),
        ("my-node --know {peer}", &caller),
        ("udp://127.0.0.1:9001", &node.url),
    ];
    let mut ran = 0;
    for (_, lines) in blocks().iter().filter(|(word, _)| *word == "sh") {
        for line in lines.iter().filter(|line| line.starts_with("flowproof")) {
            // One flow of each suite; CI runs the suites.
            let filter = if line.contains("ptpchat") {
                "hello/greeted-back"
            } else if line.contains("client") {
                "client/leaves"
            } else {
                "ping/answers-pings"
            };
            let (code, out) = run(line, &replaced, &["--filter", filter]);
            assert_eq!(code, Some(0), "{line}\n{out}");
            ran += 1;
        }
    }
    assert_eq!(ran, 6, "commands of the page");
}

/// What differs from run to run: times, tokens, addresses, the seed.
fn settled(text: &str) -> Vec<String> {
    let changing = [
        (r"ws://[0-9.:]+/?", "URL"),
        (r"[0-9.]+ m?s\b", "TIME"),
        (r"[0-9a-f]{32}", "TOKEN"),
        (r"seed [0-9]+", "SEED"),
        (r" +", " "),
    ];
    let changing = changing.map(|(pattern, with)| (Regex::new(pattern).expect("a pattern"), with));
    let lines = text.lines().filter(|line| !line.contains('│') || line.starts_with('✗'));
    let settle = |line: &str| {
        changing.iter().fold(line.to_owned(), |line, (pattern, with)| {
            pattern.replace_all(&line, *with).trim().to_owned()
        })
    };
    lines.map(settle).collect()
}

#[test]
fn the_failing_run_is_shown_as_it_is() {
    let sinner = "flowproof serve hangout --sinner closed-always-empty --listen 127.0.0.1:8080";
    assert!(PAGE.contains(sinner), "the page tells how its server is started");
    let server = Server::start(&["hangout", "--sinner", "closed-always-empty"]);
    let blocks = blocks();
    let shown = blocks.iter().find(|(_, lines)| lines[0].starts_with("$ ")).expect("a run is shown");
    let command = shown.1[0].trim_start_matches("$ ");
    let (code, out) = run(command, &[("ws://127.0.0.1:8080", &server.url)], &[]);
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(settled(&shown.1[1..].join("\n")), settled(&out), "{out}");
}

/// A POST with curl's headers; the body of the answer.
fn post(url: &str, target: &str, token: Option<&str>, body: &str) -> String {
    let address = url.trim_start_matches("ws://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{token}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers with text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    body.to_owned()
}

#[test]
fn the_chat_with_curl_is_shown_as_it_is() {
    let blocks = blocks();
    let (_, chat) = blocks.iter().find(|(word, _)| *word == "console").expect("a chat is shown");
    assert_eq!(chat[0], "$ flowproof serve polfan --listen 127.0.0.1:8080");
    let server = Server::start(&["polfan"]);
    let mut token = None;
    let mut lines = chat[2..].iter();
    let mut said = 0;
    while let Some(command) = lines.next() {
        let words = words(command.trim_start_matches("$ "));
        let body = words.last().expect("a command has words");
        let answer = match words[0].as_str() {
            "curl" => {
                let target = words[2].trim_start_matches("127.0.0.1:8080");
                post(&server.url, target, None, body)
            }
            "api" => post(&server.url, "/api", token.as_deref(), body),
            // The short name for what follows, with the token that the server gave.
            "api()" => {
                let bearer = command.split("Bearer ").nth(1).and_then(|rest| rest.split('\'').next());
                token = bearer.map(str::to_owned);
                continue;
            }
            other => panic!("nobody knows `{other}`"),
        };
        assert_eq!(lines.next().copied(), Some(answer.trim()), "{command}");
        said += 1;
    }
    assert_eq!(said, 6, "commands of the chat");
}

#[test]
fn the_first_two_commands_are_those_of_ci() {
    let blocks = blocks();
    let ci = include_str!("../../.ci/run").replace(" --locked", "");
    for line in &blocks[0].1 {
        let command = line.split("  #").next().unwrap_or(line).trim();
        assert!(ci.contains(&format!("    {command}\n")), "`{command}` is not run by .ci/run");
    }
}
