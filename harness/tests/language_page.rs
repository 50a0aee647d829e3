//! The users' page of the language: every example on it is what it claims to be.

mod in_memory;
mod page;

use flowproof::diagnostic::render;
use flowproof::flow::format::format;
use flowproof::flow::{parse, parse_pattern};
use flowproof::lint;
use flowproof::runner::verdict::Verdict;
use in_memory::{hangout, hangout_with, report};
use page::{Fenced, blocks};

const PAGE: &str = include_str!("../docs/language.md");

/// A whole flow: nothing is wrong with it, it is written in the one style, and it passes.
fn check_flow(block: &Fenced<'_>) {
    let place = format!("language.md:{}", block.line);
    let found = lint::text(&block.text, &hangout());
    assert!(found.is_empty(), "{}", render(&found, &place, &block.text, false));
    let (flow, _) = parse(&block.text);
    assert_eq!(format(&flow), block.text, "{place} is not written in the one style");
    let protocol = hangout_with(&format!("language-page-{}", block.line), &[("page/example", &block.text)]);
    let report = report(&protocol, &["server", "client"], None, 1);
    assert!(!report.flows.is_empty(), "{place} judges nobody");
    for flow in &report.flows {
        assert_eq!(flow.verdict, Verdict::Pass, "{place}: {:?} {:#?}", flow.reason, flow.findings);
    }
}

/// Steps: they can be read, and what they name is there.
fn check_steps(block: &Fenced<'_>) {
    let header = "protocol hangout\ncast server, alice client, bob client, carol client, crowd client * 3\n\
                  alice connects\nbob connects\ncarol connects\ncrowd connects\n";
    let source = format!("{header}{}", block.text);
    let found = lint::text(&source, &hangout());
    assert!(found.is_empty(), "{}", render(&found, &format!("language.md:{}", block.line), &source, false));
    let (flow, _) = parse(&source);
    assert!(format(&flow).ends_with(&block.text), "language.md:{}: {}", block.line, format(&flow));
}

fn check_pattern(block: &Fenced<'_>) {
    if let Err(found) = parse_pattern(&block.text) {
        panic!("{}", render(&found, &format!("language.md:{}", block.line), &block.text, false));
    }
}

/// A flow with mistakes, and what is shown of them.
fn check_mistakes(block: &Fenced<'_>, shown: Option<&Fenced<'_>>) {
    let shown = shown.filter(|next| next.words == ["text"]);
    let shown = shown.unwrap_or_else(|| panic!("language.md:{}: a ```text block follows", block.line));
    let found = lint::text(&block.text, &hangout());
    assert_eq!(render(&found, "example.flow", &block.text, false), shown.text.trim_end());
}

/// Checks every block of a page; how many of each kind there were.
fn check_page(page: &str) -> Vec<(String, usize)> {
    let blocks = blocks(page);
    let mut counts = std::collections::BTreeMap::new();
    for (place, block) in blocks.iter().enumerate() {
        *counts.entry(block.words.concat()).or_insert(0) += 1;
        match block.words.concat().as_str() {
            "flow" => check_flow(block),
            "flow-step" => check_steps(block),
            "pattern" => check_pattern(block),
            "flow-error" => check_mistakes(block, blocks.get(place + 1)),
            // Looked at with the block above it.
            "text" => assert!(
                place > 0 && blocks[place - 1].words == ["flow-error"],
                "language.md:{}: what does this text belong to?",
                block.line
            ),
            // For readers: what it says is what the parser does, as the tests of the parser show.
            "ebnf" => {}
            other => {
                panic!("language.md:{}: nobody knows how to check a block of kind `{other}`", block.line)
            }
        }
    }
    counts.into_iter().collect()
}

#[test]
fn every_example_of_the_page_is_what_it_claims_to_be() {
    let counts = check_page(PAGE);
    for kind in ["flow", "flow-step", "pattern", "flow-error"] {
        assert!(counts.iter().any(|(known, _)| known == kind), "no block of kind {kind} was found");
    }
}

#[test]
fn every_construct_of_the_language_is_on_the_page() {
    let words = [
        "protocol",
        "cast",
        "editions",
        "needs",
        "tags",
        "about",
        "ignoring",
        "unexpected",
        "examples",
        "connects",
        "opens",
        "disconnects",
        "vanishes",
        "stalls",
        "resumes",
        "closes",
        "drops",
        "refuses",
        "does",
        "knows",
        "greets",
        "stops",
        "wait",
        "within",
        "every",
        "quiet",
        "settle",
        "in any order",
        "either",
        "tolerated",
        "optionally",
        "repeat",
        "let",
        "served",
        "text",
        "binary",
        "raw",
        "fragments",
        "ping",
        "pong",
        "POST",
        "status",
        "string",
        "integer",
        "number",
        "boolean",
        "object",
        "array",
        "uuid",
        "timestamp",
        "base64",
        "unordered",
        "exactly",
        "absent",
        "socket of",
        "sending",
        "subprotocol",
        "headers",
        "query",
        "path",
    ];
    for word in words {
        assert!(PAGE.contains(word), "the page does not speak of `{word}`");
    }
}

#[test]
#[should_panic(expected = "nobody knows how to check a block of kind `flwo`")]
fn a_block_of_an_unknown_kind_is_an_error() {
    check_page("```flwo\nsettle\n```\n");
}

#[test]
#[should_panic(expected = "there is no participant `dave`")]
fn an_example_with_a_mistake_is_an_error() {
    check_page("```flow-step\ndave connects\n```\n");
}

#[test]
#[should_panic(expected = "is not written in the one style")]
fn an_example_in_another_style_is_an_error() {
    check_page("```flow\nprotocol hangout\ncast server, alice client\nalice connects\n```\n");
}
