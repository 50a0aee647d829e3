//! `flowproof.toml`: the command with known failures, disputes, skips and secrets, as a user sees it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of this test alone, with its `flowproof.toml`.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str, config: &str) -> Repository {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("known-{name}"));
        // What an earlier run left there is in the way.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(folder.join("flowproof.toml"), config).expect("the file can be written");
        Repository(folder)
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.0.join("flowproof.toml")).expect("it is there")
    }

    /// Runs `flowproof test --config flowproof.toml` against a server with a planted fault, or a good one.
    fn test(&self, sinner: Option<&str>, more: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowproof"));
        command.args(["test", "--config", "flowproof.toml"]).args(more);
        if let Some(sinner) = sinner {
            command.args(["--sinner", sinner]);
        }
        let output = command
            .current_dir(&self.0)
            .env("SECRET_WORD", "hush-hush-4711")
            .output()
            .expect("the command starts");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code().expect("it ended by itself"), text.into_owned())
    }
}

/// A server that tells nobody who left: two requirements show it.
const SINNER: &str = "closed-always-empty";
const FILTER: [&str; 2] = ["--filter", "changes/"];

fn check(text: &str, wanted: &[&str]) {
    for line in wanted {
        assert!(text.contains(line), "`{line}` is missing in\n{text}");
    }
}

#[test]
fn a_known_failure_does_not_fail_the_run_and_an_unknown_one_does() {
    let repository = Repository::new("red-to-green", "protocol = \"hangout\"\ntarget.role = \"server\"\n");
    let (code, _) = repository.test(Some(SINNER), &FILTER);
    assert_eq!(code, 1, "it is broken");
    let (code, text) = repository.test(Some(SINNER), &["--filter", "changes/", "--accept"]);
    assert_eq!(code, 0, "{text}");
    check(&text, &["accepted: HANGOUT-CHG-3 into flowproof.toml"]);
    check(
        &repository.config(),
        &[
            "protocol = \"hangout\"\ntarget.role = \"server\"\n",
            "[[known]]\nrequirement = \"HANGOUT-CHG-3\"\nreason = \"failed on ",
        ],
    );
    let (code, text) = repository.test(Some(SINNER), &FILTER);
    assert_eq!(code, 0, "{text}");
    check(&text, &["known failures\n  HANGOUT-CHG-3 in "]);
}

#[test]
fn an_entry_that_passes_is_reported_and_alone_gives_exit_4() {
    let repository = Repository::new(
        "passes",
        "protocol = \"hangout\"\ntarget.role = \"server\"\n\n[[known]]\nrequirement = \"HANGOUT-CHG-3\"\nreason = \"a bug\"\n",
    );
    let (code, text) = repository.test(None, &[]);
    assert_eq!(code, 4, "{text}");
    check(
        &text,
        &["entries that are no longer true\n  known HANGOUT-CHG-3 (flowproof.toml:4) passes: take it out"],
    );
    let (code, text) = repository.test(None, &FILTER);
    assert_eq!(code, 0, "a part of the flows shows nothing of the kind\n{text}");
    let (code, _) = repository.test(Some("index-of-the-first"), &[]);
    assert_eq!(code, 1, "what fails weighs more");
}

#[test]
fn an_entry_that_matches_nothing_or_has_expired_is_reported() {
    let repository = Repository::new(
        "stale",
        r#"protocol = "hangout"
target.role = "server"
[[known]]
requirement = "HANGOUT-CHG-33"
reason = "there is no such thing"
[[known]]
flow = "changes/came-and-want"
reason = "nor such a flow"
[[known]]
requirement = "HANGOUT-CHG-3"
reason = "a bug"
owner = "anna"
expires = 2020-01-31
"#,
    );
    let (code, text) = repository.test(Some(SINNER), &FILTER);
    assert_eq!(code, 4, "{text}");
    check(
        &text,
        &[
            "3 known failures, 0 disputed\nknown entry HANGOUT-CHG-33 matches nothing; did you mean `HANGOUT-CHG-3`?",
            "known changes/came-and-want (flowproof.toml:6) matches nothing; did you mean `changes/came-and-went`?",
            "known HANGOUT-CHG-3 (flowproof.toml:9) has expired",
        ],
    );
}

#[test]
fn what_is_disputed_never_fails_and_is_told_apart() {
    let repository = Repository::new(
        "disputed",
        r#"protocol = "hangout"
target.role = "server"
[[disputed]]
requirement = "HANGOUT-CHG-3"
reason = "the document can be read otherwise"
link = "https://example.org/7"
"#,
    );
    let (code, text) = repository.test(Some(SINNER), &FILTER);
    assert_eq!(code, 0, "{text}");
    check(&text, &["disputed\n  HANGOUT-CHG-3 in ", "https://example.org/7"]);
    let (code, _) = repository.test(None, &[]);
    assert_eq!(code, 0, "a dispute stays, whatever the target does now");
}

#[test]
fn a_skip_has_its_reason_and_a_secret_is_never_printed() {
    let repository = Repository::new(
        "secret",
        r#"protocol = "clusterio"
target.role = "master"
[variables]
token = { env = "SECRET_WORD" }
[[skip]]
flow = "authentication/no-*"
reason = "we have no patience"
"#,
    );
    let folder = repository.0.join("report");
    let report = folder.display().to_string();
    let more = ["--verbose", "--log", "events", "--report-dir", &report, "--filter", "authentication/"];
    let (code, text) = repository.test(None, &more);
    assert!(code <= 1, "{text}");
    check(&text, &["skipped: we have no patience", "<secret token>"]);
    assert!(!text.contains("4711"), "{text}");
    let mut files = vec![repository.0.join("events")];
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).expect("it can be read");
        assert!(!String::from_utf8_lossy(&bytes).contains("4711"), "{}", file.display());
    }
}

#[test]
fn a_wrong_file_is_told_with_its_place() {
    let repository = Repository::new("wrong", "protocol = \"hangout\"\n\n[target]\nrole = \"sever\"\n");
    let (code, text) = repository.test(None, &[]);
    assert_eq!(code, 2);
    check(&text, &["flowproof.toml:4", "did you mean `server`?"]);
    let missing = Command::new(env!("CARGO_BIN_EXE_flowproof"))
        .args(["test", "--config", "nowhere.toml"])
        .output()
        .expect("the command starts");
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_regression_between_two_versions_is_told() {
    let repository = Repository::new("compare", "protocol = \"hangout\"\ntarget.role = \"server\"\n");
    for (name, sinner) in [("v1", None), ("v2", Some(SINNER))] {
        repository.test(sinner, &["--filter", "changes/", "--report-dir", name]);
    }
    let compare = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_flowproof"))
            .arg("compare")
            .args(more)
            .args(["v1/report.json", "v2/report.json"])
            .current_dir(&repository.0)
            .output()
            .expect("the command starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = compare(&[]);
    assert_eq!(code, Some(0));
    check(&text, &["regressions\n  HANGOUT-CHG-3: kept in v1, broken in v2"]);
    assert_eq!(compare(&["--check"]).0, Some(1));
    check(&compare(&["--format", "markdown"]).1, &["### Regressions", "✗ broken"]);
    check(&compare(&["--format", "html"]).1, &["<h3>Regressions</h3>"]);
}
