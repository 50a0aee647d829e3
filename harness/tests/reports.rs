//! What a person is shown of a run, as text.

mod in_memory;

use std::sync::Arc;

use flowproof::corpus::Protocol;
use flowproof::report::Report;
use flowproof::report::human::{Detail, failure, flow_line, left_out, plan_line, summary, telling};
use flowproof::report::text::{Style, wrap};
use flowproof::runner::event::RunEvent;
use flowproof::runner::verdict::Verdict;
use flowproof::sinner::Sinner;
use in_memory::{events, hangout_with, report, sinner};

const OWN_TOKEN: &str = r#"# Everybody is told their own token, and one that speaks is seen under it.
protocol hangout
cast     server, alice client, bob client

alice connects
server -> alice {"type": "metadata", "metadata": {"index": $alice: string}}
bob connects
server -> bob {"type": "metadata", "metadata": {"index": $bob: not $alice}} [HANGOUT-META-2]
bob -> server {"to": $alice, "packet": {"type": "chat", "chat": "it is me"}}
within 1s [HANGOUT-RELAY-1] {
  server -> alice {"from": $bob, "type": "chat", "chat": "it is me"} [HANGOUT-FROM-1]
}
"#;

const SHARES_THE_TOKEN: &str = r#"
requirement = "HANGOUT-META-2"
role = "server"
summary = "tells everybody the token of the first as their own"
[[rule]]
on = "send"
when = '{"from": "server", "type": "metadata", "metadata": {"indexes": [_, _, ...]}}'
do = "set"
at = "/metadata/index"
value-from = "/metadata/indexes/0"
"#;

/// Everything that `flowproof test` prints of a run, without colours and without what differs from run to run.
fn check_printed(protocol: &Arc<Protocol>, sinner: Option<Sinner>, detail: Detail, style: Style) -> String {
    let events = events(protocol, &["server"], sinner, 1);
    let report = Report::from_events(&events, protocol).expect("a run begins before it ends");
    let mut text = String::new();
    for event in &events {
        text.push_str(&plan_line(event, style));
        if let RunEvent::FlowEnded(flow) = event {
            text.push_str(&format!("{}\n", flow_line(flow, style)));
        }
    }
    let places = telling(&report, detail);
    for place in &places {
        let flow = &report.flows[*place];
        text.push('\n');
        text.push_str(&failure(flow, protocol, "flowproof test hangout", detail, style));
    }
    text.push_str(&left_out(&report, places.len()));
    text.push_str(&summary(&report, protocol, true, style));
    let text = text.replace(env!("CARGO_TARGET_TMPDIR"), "TMP");
    let version = format!("flowproof {}", env!("CARGO_PKG_VERSION"));
    let text = text.replace(&version, "flowproof VERSION");
    // The one time that is no virtual one stands in the last line.
    let took = regex::Regex::new(r"(?m)^(.*hangout: .* in )\d+ ms(.*)$").expect("compiles");
    let text = took.replace_all(&text, "${1}SOME ms${2}");
    // So many requirements are kept as the catalogue has today.
    let counts =
        regex::Regex::new(r"(?m)^(requirements: )\d+( kept, \d+ broken, \d+ warned, )\d+").expect("compiles");
    counts.replace_all(&text, "${1}SOME${2}SOME").into_owned()
}

#[test]
fn a_flow_that_fails_is_shown_with_line_expected_found_and_the_last_messages() {
    let protocol = hangout_with("reports-failing", &[("connect/own-token", OWN_TOKEN)]);
    insta::assert_snapshot!(check_printed(
        &protocol,
        Some(sinner(SHARES_THE_TOKEN)),
        Detail::Short,
        Style::new(false)
    ));
}

#[test]
fn a_flow_that_passes_takes_one_line() {
    let protocol = hangout_with("reports-passing", &[("connect/own-token", OWN_TOKEN)]);
    insta::assert_snapshot!(check_printed(&protocol, None, Detail::Short, Style::new(false)));
}

#[test]
fn a_setup_that_fails_is_inconclusive_and_says_which_step() {
    let source = OWN_TOKEN.replace("{\"index\": $alice: string}", "{\"index\": $alice: 1..5}");
    let protocol = hangout_with("reports-setup", &[("connect/own-token", &source)]);
    insta::assert_snapshot!(check_printed(&protocol, None, Detail::Short, Style::new(false)));
}

#[test]
fn a_flow_that_cannot_be_run_is_an_error_and_not_the_targets_fault() {
    let source = OWN_TOKEN.replace("bob connects\n", "");
    let protocol = hangout_with("reports-error", &[("connect/own-token", &source)]);
    insta::assert_snapshot!(check_printed(&protocol, None, Detail::Short, Style::new(false)));
}

#[test]
fn a_tolerated_reading_and_a_should_are_warnings() {
    let source = r#"# A tolerated reading.
protocol hangout
cast     server, alice client

alice connects
either {
  server -> alice {"type": "nothing of the kind"} [HANGOUT-META-1]
} or tolerated [HANGOUT-META-1] {
  server -> alice {"type": "metadata"} [HANGOUT-META-1]
}
"#;
    let protocol = hangout_with("reports-tolerated", &[("table/tolerated", source)]);
    insta::assert_snapshot!(check_printed(&protocol, None, Detail::Short, Style::new(false)));
}

/// Says terminal escapes, direction marks and newlines in every message.
const HOSTILE: &str = r#"
requirement = "HANGOUT-RELAY-3"
role = "server"
summary = "attacks the terminal of whoever reads a report"
[[rule]]
on = "send"
when = '{"from": not "server"}'
do = "replace"
text = "{\"from\": \"\u001B]0;owned\u0007\u001B[2J\", \"type\": \"\u009B31m\", \"\u202Egpj\": \"a\\u001b[1m\r\n\u200B  pass  no fault here\"}"
"#;

#[test]
fn nothing_that_a_target_sends_moves_the_cursor_of_a_reader() {
    let protocol = hangout_with("reports-hostile", &[("connect/own-token", OWN_TOKEN)]);
    for detail in [Detail::Short, Detail::Full] {
        let text = check_printed(&protocol, Some(sinner(HOSTILE)), detail, Style::new(false));
        let moving = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{200b}' | '\u{202e}');
        assert!(!text.contains(moving), "{text:?}");
    }
    insta::assert_snapshot!(check_printed(
        &protocol,
        Some(sinner(HOSTILE)),
        Detail::Short,
        Style::new(false)
    ));
}

#[test]
fn colours_are_the_only_escapes() {
    let protocol = hangout_with("reports-colours", &[("connect/own-token", OWN_TOKEN)]);
    let coloured = check_printed(&protocol, Some(sinner(HOSTILE)), Detail::Full, Style::new(true));
    let plain = check_printed(&protocol, Some(sinner(HOSTILE)), Detail::Full, Style::new(false));
    let colours = regex::Regex::new("\u{1b}\\[[0-9;]*m").expect("compiles");
    assert_ne!(coloured, plain);
    assert_eq!(colours.replace_all(&coloured, ""), plain);
}

#[test]
fn a_transcript_says_who_said_what_and_when() {
    let source = OWN_TOKEN.replace(
        "bob -> server {\"to\"",
        "alice -> server ping \"x\"\nserver -> alice pong \"x\"\nbob -> server {\"to\"",
    );
    let source = format!("{source}bob disconnects 1001 \"bye\"\nalice vanishes\n");
    let protocol = hangout_with("reports-transcript", &[("connect/own-token", &source)]);
    let report = report(&protocol, &["server"], None, 1);
    assert_eq!(report.count(Verdict::Pass), 1, "{:?}", report.flows[0].findings);
    insta::assert_snapshot!(report.flows[0].transcript.to_string());
}

#[test]
fn text_is_broken_at_blanks_where_there_are_some() {
    assert_eq!(wrap("one two three", 7), ["one two", "three"]);
    assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    assert_eq!(wrap("a\nb", 4), ["a", "b"]);
    assert_eq!(wrap("äöüß äöü", 4), ["äöüß", "äöü"]);
}
