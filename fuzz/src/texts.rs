//! Any text as a flow file, a pattern or a trace.

use std::sync::{Arc, OnceLock};

use flowproof::corpus::Protocol;
use flowproof::diagnostic::{Diagnostic, render};
use flowproof::flow::format::{format, pattern_text};
use flowproof::flow::{parse, parse_pattern, parse_payload};
use flowproof::lint;
use flowproof::live::trace::Reader;
use flowproof::pattern::{Bindings, generate, matches};

use super::protocol;

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

/// Reads any text as a pattern: it is written as it was read, and whatever it generates it matches.
pub fn pattern_duality(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let Ok(pattern) = parse_pattern(&source) else { return };
    let written = pattern_text(&pattern);
    let again = parse_pattern(&written);
    let again = again.unwrap_or_else(|errors| panic!("{written} cannot be read again: {errors:?}"));
    assert_eq!(pattern_text(&again), written, "writing once is not enough");
    let seed = data.iter().fold(1_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bindings = Bindings::default();
    if written.contains('*') {
        // A text may be asked for a hundred million times over; the flows' own limit is tested elsewhere.
        return;
    }
    let Ok(value) = generate(&pattern, &mut bindings, &mut rng) else { return };
    if let Err(mismatches) = matches(&pattern, &value, &Bindings::default()) {
        panic!("{written} does not match what it made: {value}: {mismatches:?}");
    }
}

/// Reads any bytes as a trace.
pub fn trace_reader(data: &[u8]) {
    let Ok(mut reader) = Reader::new(data) else { return };
    let mut lines = 0;
    for event in reader.by_ref() {
        lines += 1;
        assert!(lines <= data.len(), "a trace has more events than bytes");
        if let Err(error) = event {
            assert!(!error.to_string().is_empty());
        }
    }
}

fn hangout() -> &'static Protocol {
    static HANGOUT: OnceLock<Arc<Protocol>> = OnceLock::new();
    HANGOUT.get_or_init(|| protocol("hangout"))
}
