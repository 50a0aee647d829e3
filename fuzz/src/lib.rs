//! What the fuzz targets call. Each is an ordinary function that panics when something is wrong, so that ordinary tests
//! replay every seed without a fuzzer; `fuzz_targets/` is glue.

use std::sync::{Arc, OnceLock};

use flowproof::corpus::{Corpus, Protocol};
use flowproof::diagnostic::{Diagnostic, render};
use flowproof::flow::format::format;
use flowproof::flow::{parse, parse_pattern, parse_payload};
use flowproof::lint;

/// Reads any text as a flow file, checks what was read, shows what is wrong with it, and writes it back.
pub fn flow_parser(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let (flow, diagnostics) = parse(&source);
    for diagnostic in &diagnostics {
        let span = diagnostic.span;
        assert!(span.start <= span.end && span.end <= source.len(), "{diagnostic:?} lies outside the text");
    }
    if !diagnostics.iter().any(Diagnostic::is_error) {
        let once = format(&flow);
        let (again, diagnostics) = parse(&once);
        assert!(diagnostics.is_empty(), "what was written cannot be read: {diagnostics:?}\n{once}");
        assert_eq!(format(&again), once, "formatting once is not enough");
    }
    let found = lint::text(&source, hangout());
    for colour in [false, true] {
        let shown = render(&found, "fuzz.flow", &source, colour);
        let moves = |c: char| c.is_control() && !matches!(c, '\n' | '\t') && !(colour && c == '\u{1b}');
        assert!(!shown.contains(moves), "a diagnostic moves the cursor: {shown:?}");
    }
    // What is wrong with them was told by the same parser already.
    let _ = parse_pattern(&source);
    let _ = parse_payload(&source);
}

fn hangout() -> &'static Protocol {
    static HANGOUT: OnceLock<Arc<Protocol>> = OnceLock::new();
    HANGOUT.get_or_init(|| {
        let corpus = Corpus::embedded().unwrap_or_else(|error| panic!("{}", error.messages.join("\n")));
        corpus.protocol("hangout").expect("hangout is built in")
    })
}
