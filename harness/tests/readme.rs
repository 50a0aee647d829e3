//! The README: what it shows is what comes of it. The programs of its readers are played by the references.

mod page;
mod running;

use std::io::{Read, Write};
use std::net::TcpStream;

use page::blocks;
use regex::Regex;
use running::Running;

const PAGE: &str = include_str!("../../README.md");
const FLOWPROOF: &str = env!("CARGO_BIN_EXE_flowproof");

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
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let ran = Running::start(&words).wait();
    (ran.code, ran.stdout)
}

#[test]
fn each_command_does_what_is_said_of_it() {
    let (_hangout, hangout) = Running::serve(&["hangout"]);
    let (_node, node) = Running::serve(&["ptpchat"]);
    let serve = |words: &str| format!("{FLOWPROOF} serve {words}");
    let server = serve("hangout --listen 127.0.0.1:{port}");
    let client = serve("hangout --role client --url {url}");
    let both = serve("ptpchat --role node --listen 127.0.0.1:{port} --url udp://{peer}");
    let caller = serve("ptpchat --role node --url udp://{peer}");
    let replaced = [
        ("my-server --port {port}", server.as_str()),
        ("ws://127.0.0.1:8080/", &hangout),
        ("my-client --connect {url}", &client),
        ("my-node --port {port} --know {peers}", &both),
        ("my-node --know {peer}", &caller),
        ("udp://127.0.0.1:9001", &node),
    ];
    let mut ran = 0;
    for block in blocks(PAGE).iter().filter(|block| block.words == ["sh"]) {
        for line in block.text.lines().filter(|line| line.starts_with("flowproof")) {
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
    let (_server, url) = Running::serve(&["hangout", "--sinner", "closed-always-empty"]);
    let blocks = blocks(PAGE);
    let shown = blocks.iter().find_map(|block| block.text.strip_prefix("$ ")).expect("a run is shown");
    let (command, shown) = shown.split_once('\n').expect("a command prints something");
    let (code, out) = run(command, &[("ws://127.0.0.1:8080", &url)], &[]);
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(settled(shown), settled(&out), "{out}");
}

/// A POST with curl's headers; the body of the answer.
fn post(url: &str, target: &str, token: Option<&str>, body: &str) -> String {
    let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
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
    let blocks = blocks(PAGE);
    let chat = blocks.iter().find(|block| block.words == ["console"]).expect("a chat is shown");
    let mut lines = chat.text.lines();
    assert_eq!(lines.next(), Some("$ flowproof serve polfan --listen 127.0.0.1:8080"));
    let (_server, url) = Running::serve(&["polfan"]);
    assert_eq!(lines.next(), Some("listening on ws://127.0.0.1:8080/ws"));
    assert!(url.ends_with("/ws"), "{url}");
    let mut token = None;
    let mut said = 0;
    while let Some(command) = lines.next() {
        let words = words(command.trim_start_matches("$ "));
        let body = words.last().expect("a command has words");
        let answer = match words[0].as_str() {
            "curl" => {
                let target = words[2].trim_start_matches("127.0.0.1:8080");
                post(&url, target, None, body)
            }
            "api" => post(&url, "/api", token.as_deref(), body),
            // The short name for what follows, with the token that the server gave.
            "api()" => {
                let bearer = command.split("Bearer ").nth(1).and_then(|rest| rest.split('\'').next());
                token = bearer.map(str::to_owned);
                continue;
            }
            other => panic!("nobody knows `{other}`"),
        };
        assert_eq!(lines.next(), Some(answer.trim()), "{command}");
        said += 1;
    }
    assert_eq!(said, 6, "commands of the chat");
}

#[test]
fn the_first_two_commands_are_those_of_ci() {
    let blocks = blocks(PAGE);
    let ci = include_str!("../../.ci/run").replace(" --locked", "");
    for line in blocks[0].text.lines() {
        let command = line.split("  #").next().unwrap_or(line).trim();
        assert!(ci.contains(&format!("    {command}\n")), "`{command}` is not run by .ci/run");
    }
}
