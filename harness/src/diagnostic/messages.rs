//! The messages themselves: lower-case fragments without a final stop.

use std::path::Path;

use super::Diagnostic;
use crate::flow::ast::Span;

/// A file that must be there is not.
pub fn file_missing(path: &str) -> String {
    format!("error: {path} is missing")
}

/// A file is not text.
pub fn file_not_utf8(path: &str) -> String {
    format!("error: {path} is not UTF-8 text")
}

/// A folder cannot be read.
pub fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("error: {} cannot be read: {error}", path.display())
}

/// A TOML file does not say what it should.
pub fn bad_toml(path: &str, error: &str) -> String {
    format!("error: {path}: {error}")
}

/// A JSON Schema cannot be used.
pub fn bad_schema(path: &str, error: &str) -> String {
    format!("error: {path} is not a JSON Schema: {error}")
}

pub(crate) fn expected(span: Span, wanted: &str, found: &str) -> Diagnostic {
    Diagnostic::error(span, format!("expected {wanted}, found {found}"), format!("expected {wanted}"))
}

pub(crate) fn unknown_step(span: Span, word: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{word}` begins no step"), "not a step").hint(
        "a step is an arrow (`alice -> server {...}`), something a participant does (`alice connects`), or one of: \
         wait, within, every, quiet, settle, in any order, either, optionally, repeat, let, served",
    )
}

pub(crate) fn unknown_verb(span: Span, word: &str, near: Option<&str>) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(span, format!("a participant cannot `{word}`"), "not something one can do");
    match near {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None => diagnostic.hint(
            "participants can: ->, connects, opens, disconnects, vanishes, stalls, resumes, closes, drops, refuses, does",
        ),
    }
}

pub(crate) fn header_after_steps(span: Span, word: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{word}` belongs to the header"), "after the first step")
        .hint("move it above the first step")
}

pub(crate) fn unclosed(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error(span, format!("this {what} is not closed"), "opened here")
}

pub(crate) fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error(span, "nested too deeply", "here")
        .hint("write deep JSON as text: `text \"[\" * 1000 + \"]\" * 1000`")
}

pub(crate) fn bad_string(span: Span, error: &str) -> Diagnostic {
    Diagnostic::error(span, format!("not a JSON string: {error}"), "here")
        .hint("what JSON strings cannot say is written as text between backticks: text `\"\\ud800\"`")
}

pub(crate) fn bad_number(span: Span) -> Diagnostic {
    Diagnostic::error(span, "not a number that JSON can hold", "here")
        .hint("numbers beyond a double are written as text: text `1e400`")
}

pub(crate) fn bad_regex(span: Span, error: &str) -> Diagnostic {
    Diagnostic::error(span, format!("this regex does not compile: {error}"), "here")
}

pub(crate) fn bad_duration(span: Span, found: &str) -> Diagnostic {
    Diagnostic::error(span, format!("expected a duration, found {found}"), "not a duration")
        .hint("durations are written 500ms, 2s, 1.5s, 2m")
}

pub(crate) fn misplaced_comment(span: Span) -> Diagnostic {
    Diagnostic::error(span, "a comment cannot stand inside this pattern", "here")
        .hint("put it above the step, or above a member of an object")
}

pub(crate) fn wrong_cells(span: Span, wanted: usize, found: usize) -> Diagnostic {
    Diagnostic::error(span, format!("this row has {found} cells, the table has {wanted} columns"), "this row")
}

pub(crate) fn missing_header(word: &str) -> Diagnostic {
    Diagnostic::error(Span::new(0, 0), format!("the header has no `{word}` line"), "at the top")
        .hint(if word == "protocol" { "add: protocol NAME" } else { "add: cast server, alice client" })
}

pub(crate) fn unknown_name(span: Span, what: &str, name: &str, near: Option<&str>) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(span, format!("there is no {what} `{name}`"), format!("unknown {what}"));
    match near {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

pub(crate) fn duplicate_participant(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` takes part twice"), "named before")
}

pub(crate) fn unbound(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`${name}` is used before anything binds it"), "not bound here").hint(
        "a variable is bound by `let`, by a table column, by `needs`, or where a message first shows it",
    )
}

pub(crate) fn ungeneratable(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error(
        span,
        format!("{what} describes what arrives and cannot be sent"),
        "this has to be sent",
    )
    .hint("write the value, or a pattern that can be made: a type word, a range, alternatives, a plain regex")
}

pub(crate) fn to_oneself(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` cannot send to itself"), "the same participant")
}

pub(crate) fn branch_is_played(span: Span) -> Diagnostic {
    Diagnostic::error(
        span,
        "a branch must begin with something that the party under test does",
        "this is ours to do",
    )
    .hint("branches are told apart by what is seen first")
}

pub(crate) fn both_listen(span: Span) -> Diagnostic {
    Diagnostic::warning(span, "nobody here ever connects", "no connection for this arrow")
        .hint("add `alice connects` above")
}
