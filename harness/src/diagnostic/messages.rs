//! The messages themselves: lower-case fragments without a final stop.

use std::path::Path;

use super::Diagnostic;
use crate::flow::ast::Span;

/// A file that must be there is not.
pub fn file_missing(path: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!("\n  = help: {hint}")).unwrap_or_default();
    format!("error: {path} is missing{hint}")
}

/// A file is not text.
pub fn file_not_utf8(path: &str) -> String {
    format!("error: {path} is not UTF-8 text")
}

/// A folder cannot be read.
pub fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("error: {} cannot be read: {error}", path.display())
}

/// A folder in which there is no protocol.
pub fn no_protocols(path: &str) -> String {
    format!(
        "error: there is no protocol in {path}\n  = help: a protocol is a folder with a `protocol.toml`; \
         `flowproof new NAME` makes one"
    )
}

/// A JSON file that cannot be read.
pub(crate) fn bad_json(span: Span, error: &serde_json::Error) -> Diagnostic {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default().to_owned();
    Diagnostic::error(span, format!("not JSON: {text}"), "here")
}

/// A JSON Schema that cannot be used.
pub(crate) fn bad_schema(span: Span, at: &str, error: &str) -> Diagnostic {
    let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
    Diagnostic::error(span, format!("not a JSON Schema{at}: {error}"), "here")
}

/// A schema that is named and not there.
pub(crate) fn no_schema(span: Span, name: &str, near: Option<&str>) -> Diagnostic {
    Diagnostic::error(span, format!("there is no file schema/{name}"), "named here").hint(match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "schemas lie in the folder `schema` beside this file".to_owned(),
    })
}

pub(crate) fn expected(span: Span, wanted: &str, found: &str) -> Diagnostic {
    Diagnostic::error(span, format!("expected {wanted}, found {found}"), "")
}

pub(crate) fn unknown_word(span: Span, word: &str, near: Option<&str>) -> Diagnostic {
    let diagnostic = Diagnostic::error(span, format!("expected a pattern, found `{word}`"), "not a pattern");
    match near {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`? a text stands in quotes: \"{word}\"")),
        None => diagnostic.hint(format!(
            "a text stands in quotes: \"{word}\"; words without quotes are `_`, `absent`, and the types such as `string`"
        )),
    }
}

pub(crate) fn bare_member(span: Span, word: &str) -> Diagnostic {
    Diagnostic::error(span, format!("expected the name of a member in quotes, found `{word}`"), "")
        .hint(format!("write \"{word}\", as in JSON"))
}

pub(crate) fn bare_citation(span: Span, id: &str) -> Diagnostic {
    Diagnostic::error(span, "requirement ids stand in brackets", "not in brackets")
        .hint(format!("write [{id}]"))
}

pub(crate) fn single_quote(span: Span) -> Diagnostic {
    Diagnostic::error(span, "expected a pattern, found `'`", "")
        .hint("a text stands in double quotes as in JSON, or between backticks")
}

pub(crate) fn unknown_step(span: Span, word: &str, near: Option<&str>) -> Diagnostic {
    let diagnostic = Diagnostic::error(span, format!("`{word}` begins no step"), "not a step");
    if let Some(near) = near {
        return diagnostic.hint(format!("did you mean `{near}`?"));
    }
    diagnostic.hint(
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

pub(crate) fn too_many_errors(span: Span) -> Diagnostic {
    Diagnostic::error(span, "too many errors; the rest of the file is not read", "up to here")
}

pub(crate) fn too_many_factors(span: Span) -> Diagnostic {
    Diagnostic::error(span, "too many factors", "here").hint("one number is enough: `\"x\" * 60000`")
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

pub(crate) fn no_rows(span: Span) -> Diagnostic {
    Diagnostic::error(span, "this table has no rows, so the flow would never run", "no row below")
        .hint("add a row `| ... |` below the names of the columns")
}

pub(crate) fn missing_header(word: &str) -> Diagnostic {
    Diagnostic::error(Span::new(0, 0), format!("the header has no `{word}` line"), "at the top")
        .hint(if word == "protocol" { "add: protocol NAME" } else { "add: cast server, alice client" })
}

pub(crate) fn unknown_name(
    span: Span,
    what: &str,
    name: &str,
    near: Option<&str>,
    known: &[&str],
) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(span, format!("there is no {what} `{name}`"), format!("unknown {what}"));
    match near {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => diagnostic,
        None if known.len() <= FEW => diagnostic.hint(format!("there is: {}", known.join(", "))),
        None => diagnostic,
    }
}

/// So many names can be listed in a hint.
const FEW: usize = 30;

pub(crate) fn said_twice(span: Span, word: &str) -> Diagnostic {
    Diagnostic::error(span, format!("the header says `{word}` twice"), "said before")
        .hint("leave one of the two out")
}

pub(crate) fn duplicate_column(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("the table has two columns `{name}`"), "named before")
}

pub(crate) fn duplicate_member(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("the member {name:?} is named twice"), "named before")
        .hint("JSON that names a member twice is written as text: text `{\"a\": 1, \"a\": 2}`")
}

pub(crate) fn empty_range(span: Span) -> Diagnostic {
    Diagnostic::error(span, "no number lies in this range", "the first end is the greater one")
}

pub(crate) fn gaps_reversed(span: Span) -> Diagnostic {
    Diagnostic::error(span, "no gap can be so long", "the shortest gap is longer than the longest")
}

pub(crate) fn never(span: Span) -> Diagnostic {
    Diagnostic::error(span, "this block never runs", "0 times")
}

pub(crate) fn not_optional(span: Span) -> Diagnostic {
    Diagnostic::error(span, "only arrows can be optional", "not an arrow")
        .hint("`optionally` lists messages that may come, once each, from here on")
}

pub(crate) fn no_choice(span: Span) -> Diagnostic {
    Diagnostic::warning(span, "there is nothing to choose from", "a single branch").hint("add `or { ... }`")
}

pub(crate) fn empty_branch(span: Span) -> Diagnostic {
    Diagnostic::warning(span, "a branch without steps is taken at once", "one of its branches is empty")
        .hint("for \"or nothing happens\" write `or { quiet alice }` or `or { wait 1s }`")
}

pub(crate) fn not_text(span: Span) -> Diagnostic {
    Diagnostic::error(span, "only texts, numbers and known variables can be joined", "not a text")
        .hint("make the value first: `let $x = string`; then use $x here")
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
        format!("{what} only describes what arrives; nothing can be made from it"),
        "this has to be made",
    )
    .hint("write the value, or a pattern that can be made: a type word, a range, alternatives, a plain regex")
}

pub(crate) fn to_oneself(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` cannot send to itself"), "the same participant")
}

/// The same about something that the harness makes only when `role` is under test.
pub(crate) fn made_for(diagnostic: Diagnostic, role: &str) -> Diagnostic {
    Diagnostic { label: format!("the harness has to make this when a {role} is tested"), ..diagnostic }
}

pub(crate) fn branch_is_played(span: Span, role: &str) -> Diagnostic {
    let message = format!("when a {role} is tested, a branch must begin with something that the {role} does");
    Diagnostic::error(span, message, "the harness does this itself")
        .hint("branches are told apart by what is seen first")
}

pub(crate) fn not_connected(span: Span, from: &str, to: &str) -> Diagnostic {
    Diagnostic::warning(
        span,
        format!("neither `{from}` nor `{to}` has connected"),
        "there is no connection for this arrow",
    )
    .hint(format!("write `{from} connects` or `{to} connects` above"))
}

pub(crate) fn key_of_another_kind(span: Span, key: &str, kind: &str, known: &[&str]) -> Diagnostic {
    Diagnostic::error(span, format!("`{key}` means nothing to a rule of kind `{kind}`"), "not read")
        .hint(format!("such a rule has: {}", known.join(", ")))
}

pub(crate) fn key_missing(span: Span, key: &str, kind: &str) -> Diagnostic {
    Diagnostic::error(span, format!("a rule of kind `{kind}` needs `{key}`"), "in this rule")
        .hint(format!("add: {key} = ..."))
}

pub(crate) fn key_not_there(span: Span, key: &str) -> Diagnostic {
    Diagnostic::error(span, format!("the key `{key}` is missing"), "in this table")
        .hint(format!("add: {key} = ..."))
}

pub(crate) fn bad_pointer(span: Span, found: &str) -> Diagnostic {
    Diagnostic::error(span, "not a JSON pointer", "it begins with a slash")
        .hint(format!("write \"/{}\"", found.replace('.', "/")))
}

/// A message that goes with a place in a file which is no flow.
pub(crate) fn misplaced(
    span: Span,
    message: impl Into<String>,
    label: &str,
    hint: Option<String>,
) -> Diagnostic {
    Diagnostic { hint, ..Diagnostic::error(span, message, label) }
}

/// A file of a protocol that nobody reads.
pub fn file_not_read(path: &str, hint: &str) -> String {
    format!("error: {path} is not read\n  = help: {hint}")
}
