//! The pages of the trace format and of the protocol folder: what stands on them is read as it says.

mod page;

use std::io::{BufRead, BufReader, Read};

use flowproof::live::trace::{Reader, TraceError};
use flowproof::monitor::rules;
use serde_json::Value;

const TRACES: &str = include_str!("../docs/trace.md");
const FOLDERS: &str = include_str!("../docs/protocol-folder.md");

/// The text of the blocks of a kind on a page.
fn of_kind(page: &'static str, kind: &str) -> Vec<String> {
    let found: Vec<String> = page::blocks(page)
        .into_iter()
        .filter(|block| block.words == [kind])
        .map(|block| block.text)
        .collect();
    assert!(!found.is_empty(), "there is no {kind} on the page");
    found
}

#[test]
fn the_trace_of_the_page_is_one() {
    let schema: Value =
        serde_json::from_str(include_str!("../docs/trace.schema.json")).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    for trace in of_kind(TRACES, "trace") {
        for line in trace.lines() {
            let value: Value = serde_json::from_str(line).expect("a line is JSON");
            assert!(validator.is_valid(&value), "{line}");
        }
        let events: Result<Vec<_>, _> = Reader::new(trace.as_bytes()).expect("a header").collect();
        assert_eq!(events.expect("events").len(), trace.lines().count() - 1);
    }
}

#[test]
fn what_the_schema_refuses_is_not_read_either() {
    let schema: Value =
        serde_json::from_str(include_str!("../docs/trace.schema.json")).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    for wrong in [
        r#"{"at_ms": 0, "link": 1, "from": "client", "kind": "text"}"#,
        r#"{"at_ms": 0, "link": -1, "from": "client", "kind": "closed"}"#,
        r#"{"at_ms": 0, "link": 1, "from": "proxy", "kind": "closed"}"#,
        r#"{"at_ms": "0", "link": 1, "from": "client", "kind": "closed"}"#,
        r#"{"at_ms": 0, "link": 1, "from": "client", "kind": "binary", "hex": "0"}"#,
        r#"{"at_ms": 0, "link": 1, "from": "client", "kind": "sneeze"}"#,
        r#"{"at_ms": 0, "link": 1, "from": "client", "kind": "answered"}"#,
        r#"{"link": 1, "from": "client", "kind": "closed"}"#,
    ] {
        let value: Value = serde_json::from_str(wrong).expect("a line is JSON");
        assert!(!validator.is_valid(&value), "the schema takes {wrong}");
        let text = format!("{{\"flowproof_trace\": 1, \"protocol\": \"x\"}}\n{wrong}\n");
        let mut reader = Reader::new(text.as_bytes()).expect("a header");
        let read = reader.next().expect("a line");
        assert!(matches!(read, Err(TraceError::Line { line: 2, .. })), "{wrong} is read as {read:?}");
    }
}

/// The same line over and over, made as it is read.
struct Endless {
    line: Vec<u8>,
    at: usize,
    left: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let count = (self.line.len() - self.at).min(buffer.len());
        buffer[..count].copy_from_slice(&self.line[self.at..self.at + count]);
        self.at += count;
        if self.at == self.line.len() {
            (self.at, self.left) = (0, self.left - 1);
        }
        Ok(count)
    }
}

#[test]
fn a_million_lines_are_read_as_they_come() {
    let header = b"{\"flowproof_trace\": 1, \"protocol\": \"x\"}\n".as_slice();
    let line = b"{\"at_ms\":1,\"link\":1,\"from\":\"client\",\"kind\":\"text\",\"text\":\"x\"}\n".to_vec();
    let endless = Endless { line, at: 0, left: 1_000_000 };
    let source = BufReader::new(header.chain(endless));
    let reader = Reader::new(source.take(u64::MAX)).expect("a header");
    assert_eq!(reader.filter(Result::is_ok).count(), 1_000_000);
}

#[test]
fn a_line_without_end_is_told_and_not_kept() {
    let header = b"{\"flowproof_trace\": 1, \"protocol\": \"x\"}\n".as_slice();
    let endless = Endless { line: vec![b'x'; 1 << 16], at: 0, left: 4096 };
    let mut reader = Reader::new(BufReader::new(header.chain(endless))).expect("a header");
    assert!(matches!(reader.next(), Some(Err(TraceError::Line { line: 2, .. }))));
    let mut headless = BufReader::new(Endless { line: vec![b'x'; 1 << 16], at: 0, left: 4096 });
    assert!(matches!(Reader::new(&mut headless), Err(TraceError::Line { line: 1, .. })));
    assert!(headless.fill_buf().is_ok_and(|rest| !rest.is_empty()), "it was not read to its end");
}

#[test]
fn the_rules_of_the_page_are_rules() {
    for text in of_kind(FOLDERS, "rules") {
        assert!(rules::parse(&text).is_ok_and(|rules| !rules.is_empty()), "{text}");
    }
}
