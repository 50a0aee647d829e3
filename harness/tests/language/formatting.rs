//! Writing a flow back: the same tree, every comment kept, and nothing left to do for a second look.

use std::sync::LazyLock;

use flowproof::corpus::Corpus;
use flowproof::flow::ast::{Flow, Trivia};
use flowproof::flow::format::{format, pattern_text};
use flowproof::flow::{parse, parse_pattern};
use proptest::prelude::*;
use regex::Regex;

use super::generated::{any_flow, any_pattern};

/// Every flow of the corpus, with its name.
pub(crate) static CORPUS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let corpus = Corpus::embedded().expect("the corpus is sound");
    let mut all = Vec::new();
    for protocol in corpus.protocols() {
        let files = protocol.flows.iter().chain(&protocol.served);
        all.extend(files.map(|file| (file.path.clone(), file.source.clone())));
    }
    assert!(!all.is_empty(), "the corpus has flows");
    all
});

/// A tree as text without places. Blank lines are told apart by [`format`] alone.
fn tree(flow: &impl std::fmt::Debug) -> String {
    static SPAN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"Span \{ start: \d+, end: \d+ \}").expect("compiles"));
    static BLANK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bBlank(, )?").expect("compiles"));
    let text = SPAN.replace_all(&format!("{flow:?}"), "_").into_owned();
    BLANK.replace_all(&text, "").replace(", ]", "]")
}

/// Reads a text that must be free of errors.
fn read(source: &str) -> Flow {
    let (flow, diagnostics) = parse(source);
    assert_eq!(diagnostics, [], "{source}");
    flow
}

/// Formats a text twice: the tree stays, and the second time nothing changes. The formatted text.
fn check_formatting(source: &str) -> String {
    let flow = read(source);
    let once = format(&flow);
    let again = read(&once);
    assert_eq!(tree(&flow), tree(&again), "the tree changed:\n{source}\n--- became\n{once}");
    assert_eq!(once, format(&again), "formatting once is not enough:\n{source}");
    once
}

#[test]
fn every_flow_of_the_corpus_is_written_back_as_the_same_tree() {
    for (_, source) in CORPUS.iter() {
        check_formatting(source);
    }
}

#[test]
fn every_comment_of_the_corpus_is_kept() {
    for (path, source) in CORPUS.iter() {
        let written = check_formatting(source);
        let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        assert!(comments(source) <= comments(&written), "{path} lost a comment:\n{written}");
    }
}

#[test]
fn comments_and_blank_lines_stay_where_they_are() {
    let source = "\
# The summary,
# over two lines.

# above the header
protocol hangout  # behind a header line
cast     server, alice client
examples  # behind the word
  # above the columns
  | case  | x |  # behind the columns
  # above a row
  | \"one\" | 1 |  # behind a row

# above a step
alice connects  # behind a step


# after two blank lines
within 1s {  # behind a brace
  # first in a block
  server -> alice {
    # above a member
    \"a\": 1
  }

  # last in a block
}
either {  # behind either
} or {  # behind or
  # alone in a branch
}
# at the end
";
    let expected = source
        .replace("# behind a step\n\n\n", "# behind a step\n\n")
        // A table's columns have no comments of their own.
        .replace("  # above the columns\n", "")
        .replace("  # behind the columns\n", "\n  # above the columns\n  # behind the columns\n");
    assert_eq!(check_formatting(source), expected);
}

#[test]
fn a_comment_behind_a_member_stays_with_it() {
    let source = "protocol hangout\nalice -> server {\n  \"a\": 1, # about a\n  \"b\": 2 # about b\n  # at the end\n}\n";
    let expected = "\
protocol hangout
alice -> server {
  # about a
  \"a\": 1,
  # about b
  # at the end
  \"b\": 2
}
";
    assert_eq!(check_formatting(source), expected);
}

#[test]
fn comments_that_have_no_line_of_their_own_find_one() {
    for source in [
        "either {\n} # between\nor {\n}\n",
        "either { # one\n  settle\n}\n# two\nor { # three\n  settle # four\n} # five\n",
        "within 1s { # one\n} # two\n",
        "repeat 2 { settle } # behind\n",
        "cast a,\n  b # behind a list\n",
        "examples # one\n  # two\n  | a | # three\n # four\n | 1 | # five\n # six\nsettle\n",
        "let $x = { # one\n  \"a\": { # two\n    \"b\": 1 # three\n  } # four\n}\n",
    ] {
        let written = check_formatting(source);
        let count = |text: &str| text.matches('#').count();
        assert_eq!(count(source), count(&written), "a comment got lost:\n{source}---\n{written}");
    }
}

#[test]
fn header_words_stand_in_one_column() {
    let written = check_formatting(
        "protocol hangout\ncast server, alice client\ntags slow\nunexpected [HANGOUT-X-1]\n",
    );
    assert_eq!(
        written,
        "protocol hangout\ncast     server, alice client\ntags     slow\nunexpected [HANGOUT-X-1]\n"
    );
}

#[test]
fn a_pattern_that_looks_like_something_else_gets_parentheses() {
    for source in [
        "alice -> server binary (false)",
        "alice -> server binary (12)",
        "alice -> server binary (..5)",
        "alice -> server fragments [(\"a\" | \"b\")]",
        "alice -> server POST `/api`",
        "alice -> server status (403 | 404) (1 | 2)",
        "alice -> server {\"a\": ($x: string) + \"b\"}",
        "alice -> server {\"a\": $x: (string | integer)}",
        "examples\n  | a |\n  | status (403 | 404) |\n  | POST /a (1 | 2) |\n  | text (\"a\" | \"b\") |\n  | (1 | 2) |",
    ] {
        check_formatting(&format!("{source}\n"));
    }
}

/// A comment put between two lines, or behind one, is in the formatted text. `None` where it may not stand there.
fn with_comment(source: &str, line: usize, behind: bool) -> Option<()> {
    let lines: Vec<&str> = source.lines().collect();
    let line = line % lines.len();
    let mut text = String::new();
    for (place, one) in lines.iter().enumerate() {
        if place == line && !behind {
            text.push_str("# kept!\n");
        }
        text.push_str(one);
        if place == line && behind {
            text.push_str(" # kept!");
        }
        text.push('\n');
    }
    let (flow, diagnostics) = parse(&text);
    if !diagnostics.is_empty() {
        return None;
    }
    let written = format(&flow);
    let more = written.matches("kept!").count();
    assert_eq!(more, 1, "the comment is gone:\n{text}--- became\n{written}");
    check_formatting(&text);
    Some(())
}

proptest! {
    #[test]
    fn a_written_flow_is_read_as_the_same_tree(flow in any_flow()) {
        let written = format(&flow);
        let (again, diagnostics) = parse(&written);
        prop_assert!(diagnostics.is_empty(), "{diagnostics:#?}\n{written}");
        prop_assert_eq!(tree(&flow), tree(&again), "{}", written);
        let twice = format(&again);
        prop_assert_eq!(&written, &twice, "formatting once is not enough");
    }

    #[test]
    fn a_written_pattern_is_read_as_the_same_tree(pattern in any_pattern()) {
        // On one line comments have no place.
        let without = tree(&pattern).contains("Comment");
        prop_assume!(!without);
        let written = pattern_text(&pattern);
        let again = parse_pattern(&written);
        prop_assert!(again.is_ok(), "{again:?}\n{written}");
        prop_assert_eq!(tree(&again.expect("is ok")), tree(&pattern), "{}", written);
    }

    #[test]
    fn a_comment_between_the_lines_of_a_flow_is_kept(
        which in any::<prop::sample::Index>(), line in any::<usize>(), behind in any::<bool>()
    ) {
        let (_, source) = which.get(CORPUS.as_slice());
        prop_assume!(with_comment(source, line, behind).is_some());
    }
}

#[test]
fn trivia_is_what_the_tests_think_it_is() {
    // The tree without blank lines is compared above; that they are in it is seen here.
    let flow = read("settle\n\n\n# c\nsettle\n");
    assert_eq!(flow.steps[1].leading, [Trivia::Blank, Trivia::Comment(" c".to_owned())]);
    assert!(!tree(&flow).contains("Blank"));
}
