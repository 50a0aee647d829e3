//! The formats for machines.

use flowproof::judge::finding::Ruling;
use flowproof::report::sequence::{self, Diagram};
use flowproof::report::text::Style;
use flowproof::report::{badge, github, html, json, junit, markdown, tap};
use quick_junit::{NonSuccessKind, Report as Document, TestCaseStatus};

use crate::fixture::hostile_run;

/// Nothing that moves a cursor, turns text around, or is no character at all.
fn check_is_plain(text: &str) {
    let bad = text.chars().find(|c| {
        (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{200f}' | '\u{2066}' | '\u{feff}')
    });
    assert_eq!(bad, None, "a control character in {}", &text[..text.len().min(300)]);
}

#[test]
fn junit_reads_back_with_one_case_a_flow() {
    let xml = junit::junit(&[hostile_run()]).expect("it serialises");
    check_is_plain(&xml);
    assert!(!xml.contains("]]>"), "the end of a CDATA section in text is not well-formed");
    let document = Document::deserialize_from_str(&xml).expect("it is well-formed");
    let [suite] = &document.test_suites[..] else { panic!("one suite") };
    let kinds: Vec<(&str, &str)> = suite
        .test_cases
        .iter()
        .map(|case| {
            let kind = match &case.status {
                TestCaseStatus::Success { .. } => "success",
                TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, .. } => "failure",
                TestCaseStatus::NonSuccess { kind: NonSuccessKind::Error, .. } => "error",
                TestCaseStatus::Skipped { .. } => "skipped",
            };
            (case.name.as_str(), kind)
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("a/pass", "success"),
            ("b/fail", "failure"),
            ("b/fail-silent", "failure"),
            ("c/known", "skipped"),
            ("d/disputed", "skipped"),
            ("e/warn", "success"),
            ("f/skip", "skipped"),
            ("g/inconclusive", "skipped"),
            ("h/error", "error"),
        ]
    );
}

#[test]
fn tap_keeps_each_flow_on_its_line_and_its_diagnostics_readable() {
    let stream = tap::tap(&[hostile_run()]);
    check_is_plain(&stream);
    let points: Vec<&str> =
        stream.lines().filter(|line| line.starts_with("ok ") || line.starts_with("not ok ")).collect();
    assert_eq!(stream.lines().nth(1), Some("1..9"));
    assert_eq!(points.len(), 9, "{points:?}");
    assert!(!stream.lines().any(|line| line.starts_with("Bail out!")));
    let numbered = |line: &str, number: usize| {
        line.starts_with(&format!("ok {number} - ")) || line.starts_with(&format!("not ok {number} - "))
    };
    assert!(points.iter().enumerate().all(|(place, line)| numbered(line, place + 1)), "{points:?}");
    assert!(points[3].contains(" # TODO known failure: "), "{}", points[3]);
    assert!(points[6].contains(" # SKIP "), "{}", points[6]);
    let mut findings = 0;
    for line in stream.lines().filter_map(|line| line.strip_prefix("    - ")) {
        let value: serde_json::Value = serde_json::from_str(line).expect("a finding is JSON");
        assert!(value["requirement"].is_string());
        findings += 1;
    }
    assert_eq!(findings, 5);
}

#[test]
fn github_is_told_nothing_by_the_target() {
    let text = github::github(&[hostile_run()]);
    check_is_plain(&text);
    for line in text.lines().filter(|line| line.starts_with("::")) {
        let known =
            ["::error file=corpus/", "::warning file=corpus/", "::notice file=corpus/", "::warning title="];
        assert!(known.iter().any(|start| line.starts_with(start)), "{}", &line[..80]);
        let properties = &line[2..][..line[2..].find("::").expect("a command has data")];
        assert!(properties.split(',').all(|one| one.contains('=')), "{properties}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("::error ")).count(), 3);
    assert_eq!(text.lines().filter(|line| line.starts_with("::notice ")).count(), 2);
    assert!(text.contains("::warning title=list of known failures::the known entry HANGOUT-CHG-1 passes"));
}

#[test]
fn markdown_shows_hostile_text_as_text() {
    let text = markdown::markdown(&[hostile_run()]);
    check_is_plain(&text);
    // Outside of code blocks no markup of the target's is left.
    let mut fence: Option<usize> = None;
    for line in text.lines() {
        let ticks = line.len() - line.trim_start_matches('`').len();
        match fence {
            Some(open) if ticks >= open && line.trim_start_matches('`').is_empty() => fence = None,
            Some(_) => continue,
            None if ticks >= 3 => fence = Some(ticks),
            None => {
                for bad in ["<script", "](javascript", "@everyone", "<!--"] {
                    assert!(!line.contains(bad), "{bad} in {}", &line[..line.len().min(200)]);
                }
                assert!(!line.starts_with('#') || line.starts_with("## "));
            }
        }
    }
    assert_eq!(fence, None, "every block is closed");
}

#[test]
fn the_badge_is_small_and_says_what_is_broken() {
    let svg = badge::badge(&[hostile_run()]);
    assert!(svg.contains("3 broken, 1 kept"), "{svg}");
    assert!(svg.len() < 2000);
}

#[test]
fn json_says_what_is_known_and_what_is_stale() {
    let report = json::reports(&[hostile_run()]);
    let excused: Vec<_> =
        report["flows"].as_array().into_iter().flatten().map(|flow| &flow["excused"]).collect();
    assert_eq!(excused.iter().filter(|one| one.as_str() == Some("known")).count(), 1);
    assert_eq!(excused.iter().filter(|one| one.as_str() == Some("disputed")).count(), 1);
    let stale: Vec<_> = report["known_failures"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| entry["stale"].as_str())
        .collect();
    assert_eq!(stale, [None, None, Some("passes")]);
}

#[test]
fn json_keeps_to_its_published_schema() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/report.schema.json")).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let check = |value: &serde_json::Value| {
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    };
    let one = json::reports(&[hostile_run()]);
    check(&one);
    check(&json::reports(&[hostile_run(), hostile_run()]));
    check(&json::reports(&[]));
    let mut wrong = one;
    wrong["flows"][0]["verdict"] = "passed".into();
    assert!(!validator.is_valid(&wrong), "the schema says something");
}

#[test]
fn the_page_holds_hostile_text_as_data_only() {
    let page = html::html(&[hostile_run(), hostile_run()]).expect("it renders");
    let scripts: Vec<&str> =
        page.match_indices("<script").map(|(place, _)| &page[place..place + 32]).collect();
    let data = scripts.iter().filter(|tag| tag.starts_with("<script type=\"application/json\">")).count();
    assert_eq!(data, 18, "one a flow");
    assert_eq!(scripts.len(), data + 1, "and the page's own");
    for bad in ["<script>alert", "<!-- -->", "javascript:alert(1)\"", "</script><script"] {
        assert!(!page.contains(bad), "{bad}");
    }
    let control = page.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None);
    assert!(page.len() < 3_000_000, "long texts are cut");
    for piece in page.split("<script type=\"application/json\">").skip(1) {
        let (text, _) = piece.split_once("</script>").expect("it is closed");
        let value: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        assert!(value["lifelines"].is_array());
    }
    assert!(
        page.contains("default-src &#39;none&#39;")
            || page.contains("default-src 'none'")
            || page.contains("default-src &#x27;none")
    );
}

#[test]
fn diagrams_of_hostile_text_are_drawings_only() {
    let run = hostile_run();
    for flow in run.report.flows.iter().filter(|flow| !flow.transcript.lines().is_empty()) {
        let diagram = Diagram::of_result(flow, None);
        let svg = sequence::svg::svg(&diagram, &flow.name);
        check_is_plain(&svg);
        assert!(!svg.contains("<script") && svg.len() < 100_000);
        let mermaid = sequence::mermaid::mermaid(&diagram);
        check_is_plain(&mermaid);
        let known = ["sequenceDiagram", "  participant p", "  p"];
        assert!(mermaid.lines().all(|line| known.iter().any(|start| line.starts_with(start))), "{mermaid}");
        assert!(!mermaid.contains('<'));
        let text = sequence::text::text(&diagram, 110, Style::new(false));
        check_is_plain(&text);
        assert!(text.lines().all(|line| line.chars().count() < 140), "{text}");
        let wrong = flow.findings.iter().filter(|one| one.ruling == Ruling::Broken).count();
        assert_eq!(text.contains('✗'), wrong > 0, "{text}");
    }
}
