//! Where in a TOML file something stands, so that what is wrong with it can be shown there.

use std::ops::Range;

use toml::Spanned;

use crate::diagnostic::{self, Diagnostic};
use crate::flow::ast::{Pattern, Payload, Span};
use crate::flow::resolve::nearest;
use crate::flow::{parse_pattern, parse_payload};

/// What a TOML file does not say as it should.
pub fn toml_error(error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let span = Span::new(span.start, span.end);
    let message = error.message().trim();
    let mut quoted = message.split('`').skip(1).step_by(2);
    if let Some(rest) = message.strip_prefix("unknown ")
        && let Some(name) = quoted.next()
    {
        let what = rest.split('`').next().unwrap_or_default().trim();
        let known: Vec<&str> = quoted.collect();
        let what = if what == "field" { "key" } else { "value" };
        return diagnostic::unknown_name(span, what, name, nearest(name, known.iter().copied()), &known);
    }
    if message.starts_with("missing field")
        && let Some(name) = quoted.next()
    {
        return diagnostic::key_not_there(span, name);
    }
    Diagnostic::error(span, message, "here")
}

/// A pattern that stands in a TOML file.
pub fn pattern(text: &str, value: &Spanned<String>) -> Result<Pattern, Vec<Diagnostic>> {
    parse_pattern(value.get_ref()).map_err(|found| shifted(found, text, &value.span(), value.get_ref()))
}

/// A pattern that stands somewhere in a TOML file.
pub fn pattern_somewhere(text: &str, value: &str) -> Result<Pattern, Vec<Diagnostic>> {
    parse_pattern(value).map_err(|found| shifted(found, text, &whole(text), value))
}

/// A payload that stands somewhere in a TOML file.
pub fn payload_somewhere(text: &str, value: &str) -> Result<Payload, Vec<Diagnostic>> {
    parse_payload(value).map_err(|found| shifted(found, text, &whole(text), value))
}

fn whole(text: &str) -> Range<usize> {
    0..text.len()
}

/// Diagnostics of a value as diagnostics of the file that holds it.
fn shifted(found: Vec<Diagnostic>, text: &str, within: &Range<usize>, value: &str) -> Vec<Diagnostic> {
    let inside = text.get(within.clone()).and_then(|part| part.find(value));
    let place = |diagnostic: &Diagnostic| match inside {
        Some(offset) => {
            let start = within.start + offset;
            Span::new(start + diagnostic.span.start, start + diagnostic.span.end)
        }
        // Written with escapes: the value as a whole is marked.
        None if within.len() < text.len() => Span::new(within.start, within.end),
        None => escaped(text, value),
    };
    found.into_iter().map(|diagnostic| Diagnostic { span: place(&diagnostic), ..diagnostic }).collect()
}

/// Where a value stands that is written with escapes.
fn escaped(text: &str, value: &str) -> Span {
    let written = value.replace('\\', "\\\\").replace('"', "\\\"");
    text.find(&written).map_or(Span::new(0, 0), |start| Span::new(start, start + written.len()))
}

/// Where a quoted value stands in a TOML file, behind `key` if it stands there; the start of the file when it is not
/// found.
pub fn value(text: &str, key: &str, value: &str) -> Span {
    let quoted = [format!("\"{value}\""), format!("'{value}'")];
    let mut places: Vec<usize> =
        quoted.iter().flat_map(|quoted| text.match_indices(quoted.as_str()).map(|(at, _)| at)).collect();
    places.sort_unstable();
    let behind = |at: &&usize| {
        let line = text[..**at].rsplit('\n').next().unwrap_or_default();
        line.contains(key)
    };
    let at = places.iter().find(behind).or(places.first());
    if let Some(at) = at {
        return Span::new(*at, at + value.len() + 2);
    }
    // A key of a table, bare.
    let bare = text.match_indices(value).map(|(at, _)| at).find(|at| {
        let rest = text[at + value.len()..].trim_start();
        rest.starts_with('=') || rest.starts_with(']')
    });
    bare.map_or(Span::new(0, 0), |at| Span::new(at, at + value.len()))
}
