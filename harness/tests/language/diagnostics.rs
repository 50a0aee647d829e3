//! What is said about flow files that are wrong: everything at once, each with its place and what to do about it.

use std::sync::Arc;

use flowproof::corpus::{Corpus, Protocol};
use flowproof::diagnostic::render;
use flowproof::flow::{parse_pattern, parse_payload};
use flowproof::lint;

fn hangout() -> Arc<Protocol> {
    Corpus::embedded().expect("the corpus is sound").protocol("hangout").expect("hangout is built in")
}

/// What a person is shown about a text.
fn check_shown(source: &str) -> String {
    render(&lint::text(source, &hangout()), "mistakes.flow", source, false)
}

#[test]
fn every_mistake_of_writing_is_told_at_once() {
    insta::assert_snapshot!(check_shown(include_str!("mistakes/writing.flow")));
}

#[test]
fn every_mistake_of_meaning_is_told_at_once() {
    insta::assert_snapshot!(check_shown(include_str!("mistakes/meaning.flow")));
}

#[test]
fn what_cannot_be_made_is_told_for_every_role_that_is_played() {
    insta::assert_snapshot!(check_shown(include_str!("mistakes/projection.flow")));
}

#[test]
fn a_mistake_of_writing_hides_no_mistake_of_meaning() {
    let shown = check_shown(
        "protocol hangout\ncast server, alice client\nalice connects [HANGUOT-CONN-1]\nalice -> serber {\n",
    );
    assert!(shown.contains("this object is not closed"), "{shown}");
    assert!(shown.contains("did you mean `HANGOUT-CONN-1`?"), "{shown}");
}

#[test]
fn a_mistake_of_writing_makes_up_no_mistake_of_meaning() {
    // The line that binds `$x` cannot be read, nor can the one by which alice connects.
    let shown = check_shown(
        "protocol hangout\ncast server, alice client\nalice connects quickly\nlet $x =\nalice -> server {$x: 1}\n",
    );
    assert_eq!(shown.matches("error").count(), 2, "{shown}");
    assert!(!shown.contains("$x` is used"), "{shown}");
}

#[test]
fn without_a_protocol_just_that_is_told() {
    let told = |source: &str| {
        let found = lint::without_protocol(source, ["hangout", "cow"]);
        found.into_iter().map(|one| (one.message, one.hint.unwrap_or_default())).collect::<Vec<_>>()
    };
    let pair = |message: &str, hint: &str| (message.to_owned(), hint.to_owned());
    assert_eq!(told("cast server\n"), [pair("the header has no `protocol` line", "add: protocol NAME")]);
    assert_eq!(
        told("protocol hagnout\ncast server\n"),
        [pair("there is no protocol `hagnout`", "did you mean `hangout`?")]
    );
}

#[test]
fn a_pattern_of_the_corpus_that_is_wrong_is_told_like_a_flow() {
    let shown = |found: Vec<flowproof::diagnostic::Diagnostic>, source: &str| {
        render(&found, "protocol.toml", source, false)
    };
    let source = "{\"a\": strin}";
    insta::assert_snapshot!(shown(parse_pattern(source).expect_err("is wrong"), source), @r#"
    error: expected a pattern, found `strin`
     --> protocol.toml:1:7
      |
    1 | {"a": strin}
      |       ^^^^^ not a pattern
      |
      = help: did you mean `string`? a text stands in quotes: "strin"
    "#);
    let source = "ping \"x\" more";
    insta::assert_snapshot!(shown(parse_payload(source).expect_err("is wrong"), source), @r#"
    error: expected nothing more, found `more`
     --> protocol.toml:1:10
      |
    1 | ping "x" more
      |          ^^^^
    "#);
}

#[test]
fn a_hostile_file_moves_no_cursor() {
    let source = "alice \u{1b}[2J -> server \u{202e}{\"a\": \u{7}1}\r\n\u{9b}31m";
    let shown = render(&lint::text(source, &hangout()), "\u{1b}[0m.flow", source, false);
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{shown:?}");
}
