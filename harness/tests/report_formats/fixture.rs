//! A run with everything in it that can go wrong, made by hand.

use std::time::Duration;

use flowproof::corpus::Corpus;
use flowproof::judge::finding::{Finding, Judge, Ruling};
use flowproof::known::{Assessment, Date, Entry, Kind};
use flowproof::report::{Report, Run};
use flowproof::runner::event::{RunEvent, TargetInfo};
use flowproof::runner::transcript::Line;
use flowproof::runner::verdict::{FlowResult, Verdict};
use flowproof_reference::machine::{LinkId, Time};
use serde_json::json;

/// Text that some format takes for something else.
pub(crate) fn hostile() -> String {
    let invalid = String::from_utf8_lossy(b"\xff\xfe invalid \xc3").into_owned();
    format!(
        "]]> </script><script>alert(1)</script> <!-- --> &amp; \u{1b}[31mred\u{7}\u{0}\u{8} \u{9b}31m \u{202e}rtl \
         \u{fffe}\u{ffff} {invalid}\n::error file=x::y\r\n::set-output name=a::b\n# SKIP all\nnot ok 1\nBail out!\n  ...\n\
         1..0\n| a | b |\n``` `` `\n@everyone #1 [x](javascript:alert(1)) \" ' \\ %0A {}",
        "long".repeat(100_000)
    )
}

/// A run that holds hostile text wherever a target can put it.
pub(crate) fn hostile_run() -> Run {
    let corpus = Corpus::embedded().expect("the corpus in the binary is whole");
    let protocol = corpus.protocol("hangout").expect("hangout is built in");
    let text = hostile();
    let finding = |requirement: &str, ruling, actual| Finding {
        requirement: Some(requirement.to_owned()),
        ruling,
        by: "server".to_owned(),
        judge: Judge::Arrow,
        at: Time::from_start(Duration::from_millis(510)),
        line: Some(12),
        message: format!("at $.x: expected 1, found {text}"),
        expected: format!("{{\"a\": $x}}   where $x = {}", json!(text)),
        actual,
    };
    let flow = |name: &str, verdict, findings: Vec<Finding>| {
        let mut flow = FlowResult::not_run(
            name,
            "corpus/hangout/flows/changes/announced-once.flow",
            "server",
            verdict,
            text.clone(),
        );
        flow.findings = findings;
        flow.took = Duration::from_millis(1234);
        for (from, to, said) in [("server", "alice", text.as_str()), ("alice", "server", "{\"to\":\"*\"}")] {
            flow.transcript.push(Line {
                at: Time::from_start(Duration::from_millis(500)),
                link: LinkId(0),
                from: from.to_owned(),
                to: to.to_owned(),
                text: said.to_owned(),
            });
        }
        flow
    };
    let mut kept = flow("a/pass", Verdict::Pass, Vec::new());
    kept.reason = None;
    kept.kept.insert("HANGOUT-CHG-1".to_owned());
    let flows = [
        kept,
        flow("b/fail", Verdict::Fail, vec![finding("HANGOUT-CHG-2", Ruling::Broken, json!({"a": text}))]),
        flow("b/fail-silent", Verdict::Fail, vec![finding("HANGOUT-CHG-2", Ruling::Broken, json!(null))]),
        flow("c/known", Verdict::Fail, vec![finding("HANGOUT-CHG-3", Ruling::Broken, json!(text))]),
        flow("d/disputed", Verdict::Fail, vec![finding("HANGOUT-CHG-4", Ruling::Broken, json!([text]))]),
        flow("e/warn", Verdict::Warn, vec![finding("HANGOUT-ROBUST-5", Ruling::Broken, json!(null))]),
        flow("f/skip", Verdict::Skip, Vec::new()),
        flow("g/inconclusive", Verdict::Inconclusive, Vec::new()),
        flow("h/error", Verdict::Error, Vec::new()),
    ];
    let mut events = vec![RunEvent::Begun {
        flowproof: "0.0.0".to_owned(),
        protocol: "hangout".to_owned(),
        edition: "v1".to_owned(),
        target: TargetInfo { kind: "exec".to_owned(), role: "server".to_owned(), address: text.clone() },
        seed: 1,
        planned: flows.len(),
        skipped: Default::default(),
    }];
    events.extend(flows.into_iter().map(|flow| RunEvent::FlowEnded(Box::new(flow))));
    events.push(RunEvent::Ended { cut_short: false, took: Duration::from_secs(2) });
    let mut report = Report::from_events(&events, &protocol).expect("it has begun");
    let entry = |kind, id: &str| Entry {
        kind,
        requirement: Some(id.to_owned()),
        flow: None,
        reason: text.clone(),
        owner: Some("somebody".to_owned()),
        expires: None,
        link: Some("https://example.org/1".to_owned()),
        line: 1,
    };
    let entries = [
        entry(Kind::Known, "HANGOUT-CHG-3"),
        entry(Kind::Disputed, "HANGOUT-CHG-4"),
        entry(Kind::Known, "HANGOUT-CHG-1"),
    ];
    report.known = Assessment::of(&report, &protocol, &entries, false, Date { year: 2026, month: 1, day: 1 });
    Run { report, protocol, command: "flowproof test hangout".to_owned() }
}
