//! Reading flow files: whatever stands in them, reading ends, and what is wrong is told with its place.

use flowproof::diagnostic::render;
use flowproof::flow::resolve::{Context, check, check_projection};
use flowproof::flow::{parse, parse_pattern, parse_payload};
use proptest::prelude::*;

use super::formatting::CORPUS;

/// Reads a text by every door, checks what was read, and shows what is wrong with it.
fn check_survives(source: &str) {
    let (flow, diagnostics) = parse(source);
    for diagnostic in &diagnostics {
        assert!(diagnostic.span.start <= diagnostic.span.end, "{diagnostic:?}");
        assert!(diagnostic.span.end <= source.len(), "{diagnostic:?} lies outside {source:?}");
        assert!(!diagnostic.message.is_empty());
    }
    let context = Context::default();
    let mut all = diagnostics;
    all.extend(check(&flow, &context));
    all.extend(check_projection(&flow, &context, "server"));
    let shown = render(&all, "x.flow", source, false);
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!shown.contains(control), "control characters in {shown:?}");
    let _ = parse_pattern(source);
    let _ = parse_payload(source);
}

#[test]
fn deep_nesting_is_told_and_not_crashed_on() {
    for opening in [
        "[",
        "{\"a\": ",
        "(",
        "not ",
        "$x: ",
        "status 1 ",
        "POST /a ",
        "\"\" * 1 ",
        "text ",
        "1 | ",
        "\"\" + ",
    ] {
        check_survives(&format!("alice -> server {}", opening.repeat(100_000)));
    }
    for opening in ["within 1s {\n", "either {\n", "repeat 2 {", "either {} or {"] {
        check_survives(&opening.repeat(100_000));
    }
    let times = format!("alice -> server \"x\"{}", " * 1".repeat(100_000));
    check_survives(&times);
    assert!(!parse(&times).1.is_empty(), "so deep a tree is not accepted");
}

#[test]
fn an_empty_file_is_read() {
    for source in ["", "\n", "#", "# x", "\u{feff}", " \t\r\n"] {
        check_survives(source);
    }
}

/// Pieces of the language that meet in new ways.
const PIECES: [&str; 48] = [
    "alice",
    " -> ",
    "server",
    "connects",
    "closes",
    " {",
    "}\n",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "`",
    "/",
    "$x",
    ": ",
    "..",
    "...",
    "1",
    "-",
    "1e999",
    "_",
    "absent",
    "not ",
    "exactly ",
    "unordered ",
    " | ",
    " & ",
    " + ",
    " * ",
    "#",
    "\n",
    "within 1s",
    "every 1s..2s times 3",
    "either",
    " or ",
    " tolerated ",
    "examples\n",
    "| a |",
    "text ",
    "binary 00ff",
    "ping",
    "POST /a ",
    "status 403",
    "[HANGOUT-CHG-1]",
    "let ",
    " = ",
    "\\",
];

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(source in any::<String>()) {
        check_survives(&source);
    }

    #[test]
    fn no_mixture_of_the_languages_pieces_makes_the_parser_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..40)
    ) {
        check_survives(&pieces.concat());
    }

    #[test]
    fn no_change_to_a_real_flow_makes_the_parser_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, ".{0,3}"), 1..4),
    ) {
        let (_, source) = which.get(CORPUS.as_slice());
        let mut text: Vec<char> = source.chars().collect();
        for (place, removed, put) in edits {
            let place = place.index(text.len().max(1)).min(text.len());
            let end = (place + removed).min(text.len());
            text.splice(place..end, put.chars());
        }
        check_survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_real_flow_cut_short_or_shuffled_is_read(
        which in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()
    ) {
        let (_, first) = which.get(CORPUS.as_slice());
        let (_, second) = other.get(CORPUS.as_slice());
        let lines: Vec<&str> = first.lines().collect();
        let end = at.index(lines.len());
        check_survives(&lines[..end].join("\n"));
        check_survives(&format!("{}\n{second}", lines[..end].join("\n")));
        let cut = at.index(first.len());
        check_survives(&String::from_utf8_lossy(&first.as_bytes()[..cut]));
    }
}
