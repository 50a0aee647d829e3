//! The command as a whole: what each subcommand prints, how it ends, and what it leaves behind. Everything goes through
//! the built program, as a user's shell would call it.

mod running;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use running::{PATIENCE, Ran, Running};
use serde_json::Value;

const OK: i32 = 0;
const FAIL: i32 = 1;
const USAGE: i32 = 2;
const NOTHING_JUDGED: i32 = 3;

// --- Running the command.

#[track_caller]
fn flowproof(args: &[&str]) -> Ran {
    Running::start(args).wait()
}

/// Runs a command that ends with `code`.
#[track_caller]
fn check(args: &[&str], code: i32) -> Ran {
    let ran = flowproof(args);
    assert_eq!(ran.code, Some(code), "flowproof {}\n{ran:#?}", args.join(" "));
    assert!(
        !ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'),
        "no colours in a pipe: {ran:#?}"
    );
    ran
}

/// Runs a command that is used wrongly: it says so in one place, prints nothing else, and ends with 2.
#[track_caller]
fn check_usage(args: &[&str], parts: &[&str]) {
    let ran = check(args, USAGE);
    assert_eq!(ran.stdout, "", "nothing was run");
    for part in parts {
        assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
    }
}

/// A test whose JSON report keeps to its schema.
#[track_caller]
fn check_report(args: &[&str], code: i32) -> Value {
    let report = check(&[args, &["--format", "json"]].concat(), code).json();
    check_schema(&report);
    report
}

#[track_caller]
fn check_schema(report: &Value) {
    let schema: Value =
        serde_json::from_str(include_str!("../docs/report.schema.json")).expect("the schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("it is a schema");
    let errors: Vec<String> = schema
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path()).chars().take(400).collect())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let reports = report.as_array().cloned().unwrap_or_else(|| vec![report.clone()]);
    for report in reports {
        for verdict in ["pass", "warn", "fail", "skip", "inconclusive", "error"] {
            assert_eq!(
                report["summary"][verdict],
                with_verdict(&report, verdict).len(),
                "the summary counts the flows"
            );
        }
    }
}

/// The names of the flows that ended so.
fn with_verdict(report: &Value, verdict: &str) -> Vec<String> {
    let flows = report["flows"].as_array().cloned().unwrap_or_default();
    let named =
        flows.iter().filter(|flow| flow["verdict"] == verdict).filter_map(|flow| flow["name"].as_str());
    named.map(str::to_owned).collect()
}

fn names(report: &Value) -> Vec<String> {
    let flows = report["flows"].as_array().cloned().unwrap_or_default();
    flows.iter().filter_map(|flow| flow["name"].as_str()).map(str::to_owned).collect()
}

/// The requirements that somebody was accused of breaking.
fn accused(report: &Value) -> BTreeSet<String> {
    let flows = report["flows"].as_array().cloned().unwrap_or_default();
    let findings = flows.iter().flat_map(|flow| flow["findings"].as_array().cloned().unwrap_or_default());
    let broken = findings.filter(|finding| finding["verdict"] == "broken");
    broken.map(|finding| finding["requirement"].as_str().unwrap_or("nothing").to_owned()).collect()
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command").join(name);
    // It may be there from an earlier run.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("cargo's folder can be written");
    folder
}

fn word(path: &Path) -> &str {
    path.to_str().expect("cargo's folder has a name in UTF-8")
}

/// The command line of the built-in reference as a program that is started.
fn reference(more: &str) -> String {
    format!("'{}' serve hangout --listen 127.0.0.1:{{port}} {more}", env!("CARGO_BIN_EXE_flowproof"))
}

/// A running reference and its URL.
fn serve(args: &[&str]) -> (Running, String) {
    let (running, url) = Running::serve(&[&["hangout"], args].concat());
    (running, url.trim_end_matches('/').to_owned())
}

/// Whether a `sleep` of this length runs: it marks what a test has started.
fn sleeps(length: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("this runs on Linux");
    processes.flatten().any(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        command == format!("sleep\0{length}\0").as_bytes()
    })
}

// --- What is known: list, explain, show, coverage, sinners.

#[test]
fn list_shows_each_flow_with_its_roles_and_what_it_is_about() {
    let ran = check(&["list", "hangout"], OK);
    let line = ran.stdout.lines().find(|line| line.contains("props/reach-everyone")).expect("it is listed");
    assert!(line.contains("server") && line.len() > 60, "{line}");
    let tagged = check(&["list", "hangout", "--tag", "background"], OK);
    assert!(tagged.stdout.contains("ping/every-twenty-seconds"), "{}", tagged.stdout);
    assert!(!tagged.stdout.contains("props/reach-everyone"), "{}", tagged.stdout);
    let all = check(&["list"], OK);
    assert!(all.stdout.contains("hangout - "), "every protocol has a title: {}", all.stdout);
}

#[test]
fn explain_tells_what_a_requirement_says_and_who_watches_it() {
    for id in ["HANGOUT-RELAY-2", "hangout-relay-2"] {
        let ran = check(&["explain", id], OK);
        for part in
            ["HANGOUT-RELAY-2 (MUST, binds the server)", "how it is seen", "flows  ", "monitor", "--filter"]
        {
            assert!(ran.stdout.contains(part), "no {part:?} in {}", ran.stdout);
        }
    }
}

#[test]
fn show_prints_the_flow_as_it_stands() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/hangout/flows/relay/falsy-payload.flow");
    let source = fs::read_to_string(source).expect("the corpus is there");
    assert_eq!(check(&["show", "hangout", "relay/falsy-payload"], OK).stdout, source);
    // With the row of a table, too.
    let row = check(&["show", "hangout", "relay/any-payload#true"], OK).stdout;
    assert!(row.contains("examples"), "{row}");
}

#[test]
fn a_misspelt_name_gets_a_suggestion() {
    check_usage(
        &["explain", "HANGOUT-RELY-2"],
        &["no requirement `HANGOUT-RELY-2`", "did you mean `HANGOUT-RELAY-2`?"],
    );
    check_usage(&["explain", "COMPLETELY-ELSE"], &["no requirement", "`flowproof coverage` lists them all"]);
    check_usage(
        &["show", "hangout", "relay/ecko"],
        &["no flow or protocol `relay/ecko`", "did you mean `relay/echo`?"],
    );
    check_usage(&["test", "hangoud"], &["no protocol `hangoud`", "did you mean `hangout`?"]);
    check_usage(&["list", "hangoud"], &["did you mean `hangout`?"]);
    check_usage(&["test", "hangout", "--sinner", "no-pongs"], &["did you mean `no-pong`?"]);
    check_usage(&["serve", "hangout", "--sinner", "no-pongs"], &["did you mean `no-pong`?"]);
    check_usage(&["tets"], &["test"]);
}

#[test]
fn coverage_shows_a_watcher_or_a_reason_for_each_requirement() {
    let ran = check(&["coverage", "hangout"], OK);
    let rows: Vec<&str> =
        ran.stdout.lines().filter(|line| line.trim_start().starts_with("HANGOUT-")).collect();
    assert!(rows.len() > 70, "{}", ran.stdout);
    for row in rows {
        let (untested, flows) = (row.contains("untested: "), row.contains(" flows"));
        assert!(untested || flows, "{row}");
    }
    assert!(ran.stdout.contains("requirements, "), "it ends with a sum: {}", ran.stdout);
}

#[test]
fn sinners_are_a_table_or_json() {
    let text = check(&["sinners", "hangout", "--filter", "no-pong"], OK).stdout;
    assert!(text.contains("caught") && text.contains("HANGOUT-PING-2"), "{text}");
    let rows = check(&["sinners", "hangout", "--filter", "no-pong", "--format", "json"], OK).json();
    let rows = rows.as_array().expect("an array");
    let row = rows.iter().find(|row| row["name"] == "no-pong").expect("the sinner is there");
    let keys: BTreeSet<&str> = row.as_object().expect("of objects").keys().map(String::as_str).collect();
    assert!(
        keys.is_superset(&BTreeSet::from(["protocol", "name", "requirement", "role", "caught", "stray"])),
        "{keys:?}"
    );
    assert_eq!(row["requirement"], "HANGOUT-PING-2");
    assert_eq!(rows[0]["caught"], true);
    assert_eq!(rows[0]["stray"], serde_json::json!([]));
    check(&["sinners", "hangout", "--filter", "there is no such sinner"], NOTHING_JUDGED);
}

// --- Files: fmt, lint, and a corpus of one's own.

const UGLY: &str = "protocol   hangout\ncast server,alice client\n\n\n\nalice   connects\n";

#[test]
fn fmt_says_what_it_would_change_and_changes_it_when_asked() {
    let folder = folder("fmt");
    let file = folder.join("ugly.flow");
    fs::write(&file, UGLY).expect("it can be written");
    let ran = check(&["fmt", "--check", word(&folder)], FAIL);
    assert!(ran.stdout.contains("ugly.flow"), "{}", ran.stdout);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), UGLY, "--check changes nothing");
    check(&["fmt", word(&folder)], OK);
    let formatted = fs::read_to_string(&file).expect("it is there");
    assert_ne!(formatted, UGLY);
    assert_eq!(check(&["fmt", "--check", word(&folder)], OK).stdout, "");
    assert_eq!(check(&["fmt", word(&folder)], OK).stdout, "", "a formatted file is left alone");
    fs::write(&file, "protocol hangout\ncast\n->").expect("it can be written");
    let broken = check(&["fmt", word(&file)], USAGE);
    assert!(broken.stderr.contains("ugly.flow"), "{}", broken.stderr);
    assert_eq!(
        fs::read_to_string(&file).expect("it is there"),
        "protocol hangout\ncast\n->",
        "a broken file stays"
    );
    check_usage(&["fmt", "there/is/no.flow"], &["there/is/no.flow"]);
}

/// Wrong at three places.
const WRONG: &str = "# Wrong at three places.\nprotocol hangout\ncast     server, alice client\n\nalice connects\n\
                     server -> alic {\"from\": \"server\"} [HANGOUT-META-1]\n\
                     server -> alice {\"from\": \"server\"} [HANGOUT-MATE-1]\nbob -> server {\"to\": \"*\"}\n";

#[test]
fn lint_tells_all_errors_with_place_and_hint_and_runs_nothing() {
    let folder = folder("lint");
    fs::write(folder.join("wrong.flow"), WRONG).expect("it can be written");
    let ran = check(&["lint", word(&folder)], USAGE);
    for part in [
        "wrong.flow:6",
        "`alice`",
        "wrong.flow:7",
        "`HANGOUT-META-1`",
        "wrong.flow:8",
        "`bob`",
        "1 files, 3 errors",
    ] {
        assert!(ran.stdout.contains(part), "no {part:?} in {}", ran.stdout);
    }
    let corpus = check(&["lint"], OK);
    assert!(corpus.stdout.ends_with(" 0 errors\n"), "{}", corpus.stdout);
}

/// A copy of the corpus of hangout with flows of one's own instead.
fn own_corpus(name: &str, flows: &[(&str, &str)]) -> PathBuf {
    let folder = folder(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/hangout");
    let target = folder.join("hangout");
    fs::create_dir_all(target.join("schema")).expect("it can be written");
    fs::create_dir_all(target.join("flows/own")).expect("it can be written");
    for file in ["protocol.toml", "requirements.toml", "served.flow"] {
        fs::copy(source.join(file), target.join(file)).expect("the corpus is there");
    }
    for schema in fs::read_dir(source.join("schema")).expect("the corpus is there").flatten() {
        fs::copy(schema.path(), target.join("schema").join(schema.file_name())).expect("it can be written");
    }
    for (name, text) in flows {
        fs::write(target.join(format!("flows/own/{name}.flow")), text).expect("it can be written");
    }
    folder
}

/// A flow that the reference keeps.
const RIGHT: &str = "# A newcomer is told its token.\nprotocol hangout\ncast     server, alice client\n\nalice connects\n\
                     server -> alice {\"from\": \"server\", \"type\": \"metadata\"} [HANGOUT-META-1]\n";

#[test]
fn a_corpus_of_ones_own_is_used_instead() {
    let folder = own_corpus("own", &[("newcomer", RIGHT)]);
    let report = check_report(&["test", "hangout", "--corpus", word(&folder)], OK);
    assert_eq!(with_verdict(&report, "pass"), ["own/newcomer"], "{report:#}");
}

#[test]
fn a_corpus_with_a_wrong_flow_runs_nothing() {
    let folder = own_corpus("own-wrong", &[("newcomer", RIGHT), ("wrong", WRONG)]);
    let ran = check(&["test", "hangout", "--corpus", word(&folder)], USAGE);
    assert!(!ran.stdout.contains("own/newcomer"), "nothing was run: {}", ran.stdout);
    let told = ran.stdout + &ran.stderr;
    for part in ["wrong.flow:6", "wrong.flow:7", "wrong.flow:8"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    check_usage(&["test", "hangout", "--corpus", "there/is/none"], &["there/is/none"]);
}

// --- test: what is chosen, and how it is told.

#[test]
fn all_built_in_references_pass() {
    let report = check_report(&["test"], OK);
    let protocols: Vec<&str> = report
        .as_array()
        .expect("several reports")
        .iter()
        .filter_map(|report| report["protocol"].as_str())
        .collect();
    assert!(protocols.contains(&"hangout"), "{protocols:?}");
    for report in report.as_array().expect("several reports") {
        assert_eq!(report["target"]["kind"], "reference");
        assert_eq!(report["cut_short"], false);
    }
}

#[test]
fn filters_and_tags_choose_flows() {
    let report = check_report(&["test", "hangout", "--filter", "relay/echo", "--filter", "wire/"], OK);
    let chosen: BTreeSet<String> = names(&report).into_iter().collect();
    assert!(chosen.contains("relay/echo"), "{chosen:?}");
    assert!(chosen.iter().all(|name| name == "relay/echo" || name.starts_with("wire/")), "{chosen:?}");
    let untested =
        report["requirements"].as_array().expect("an array").iter().find(|one| one["id"] == "HANGOUT-PING-1");
    assert_eq!(untested.expect("each requirement is told of")["verdict"], "untested");
    let report = check_report(&["test", "hangout", "--tag", "background"], OK);
    assert!(names(&report).iter().all(|name| name.starts_with("ping/")), "{:?}", names(&report));
    let nothing = check(&["test", "hangout", "--filter", "there is no such flow"], NOTHING_JUDGED);
    assert!(nothing.stdout.contains("no flow was selected"), "{}", nothing.stdout);
}

#[test]
fn shards_share_out_all_flows() {
    let words = ["test", "hangout", "--role", "server", "--filter", "address/"];
    let mut shared: Vec<String> = Vec::new();
    for part in ["1/3", "2/3", "3/3"] {
        shared.extend(names(&check_report(&[&words[..], &["--shard", part]].concat(), OK)));
    }
    shared.sort();
    let mut whole = names(&check_report(&words, OK));
    whole.sort();
    assert_eq!(shared, whole);
    check_usage(&["test", "hangout", "--shard", "4/3"], &["1/4"]);
}

#[test]
fn a_should_counts_only_when_strict() {
    // It breaks a SHOULD.
    let words =
        ["test", "hangout", "--sinner", "no-pong", "--role", "server", "--filter", "ping/answers-pings"];
    let report = check_report(&words, OK);
    assert_eq!(report["summary"]["warn"], 1);
    assert_eq!(report["target"]["address"], "sinner no-pong");
    check_report(&[&words[..], &["--strict"]].concat(), FAIL);
}

#[test]
fn bail_stops_at_the_first_fail() {
    let words = ["test", "hangout", "--sinner", "no-token", "--role", "server", "--bail", "--jobs", "1"];
    let report = check_report(&words, FAIL);
    assert_eq!(report["summary"]["fail"], 1, "{}", report["summary"]);
    assert!(report["summary"]["skip"].as_u64() > Some(100), "{}", report["summary"]);
}

#[test]
fn a_budget_that_is_used_up_skips_the_rest_with_that_reason() {
    let report = check_report(
        &["test", "hangout", "--filter", "relay/", "--budget", "0ms", "--jobs", "1"],
        NOTHING_JUDGED,
    );
    let flows = report["flows"].as_array().expect("an array");
    assert!(flows.iter().all(|flow| flow["verdict"] == "skip"
        && flow["reason"].as_str().is_some_and(|reason| reason.contains("--budget"))));
}

#[test]
fn the_same_seed_gives_the_same_conversation() {
    let transcript = |seed: &str, run: &str| {
        let folder = folder(&format!("seed-{seed}-{run}"));
        let words =
            ["test", "hangout", "--role", "server", "--filter", "relay/any-payload#object", "--report-dir"];
        check(&[&words[..], &[word(&folder), "--seed", seed]].concat(), OK);
        let mut files: Vec<PathBuf> = fs::read_dir(folder.join("transcripts"))
            .expect("it was written")
            .flatten()
            .map(|file| file.path())
            .collect();
        files.sort();
        files.iter().map(|file| fs::read_to_string(file).expect("it is text")).collect::<String>()
    };
    let first = transcript("7", "a");
    assert!(first.contains("alice"), "{first}");
    assert_eq!(first, transcript("7", "b"));
    assert_ne!(first, transcript("8", "a"));
}

#[test]
fn repeated_flows_are_summed_up() {
    let words = ["test", "hangout", "--role", "server", "--filter", "relay/echo", "--repeat", "3"];
    let report = check_report(&words, OK);
    assert_eq!(names(&report), ["relay/echo"]);
    assert_eq!(report["flows"][0]["racy"], Value::Null);
    let failing = check_report(&[&words[..], &["--sinner", "no-token"]].concat(), FAIL);
    assert_eq!(failing["flows"][0]["racy"], Value::Null, "it ends alike each time");
}

#[test]
fn variables_reach_the_flows() {
    // With another wildcard the flow addresses something that nobody has.
    let words = ["test", "hangout", "--role", "server", "--filter", "address/wildcard#string"];
    check_report(&words, OK);
    let report = check_report(&[&words[..], &["--var", "wildcard=everybody"]].concat(), FAIL);
    assert_eq!(accused(&report), BTreeSet::from(["HANGOUT-ADDR-3".to_owned()]));
    check_usage(&["test", "hangout", "--var", "wildcard"], &["NAME=VALUE"]);
}

#[test]
fn quiet_and_verbose_print_less_and_more() {
    let words = [
        "test",
        "hangout",
        "--role",
        "server",
        "--filter",
        "relay/echo",
        "--filter",
        "ping/answers-pings",
        "--sinner",
        "no-pong",
    ];
    let usual = check(&words, OK).stdout;
    assert!(
        usual.contains("pass") && usual.contains("relay/echo") && usual.contains("HANGOUT-PING-2"),
        "{usual}"
    );
    let quiet = check(&[&words[..], &["--quiet"]].concat(), OK).stdout;
    assert!(
        !quiet.contains("relay/echo") && quiet.contains("HANGOUT-PING-2") && quiet.len() < usual.len(),
        "{quiet}"
    );
    let verbose = check(&[&words[..], &["--verbose"]].concat(), OK).stdout;
    assert!(verbose.contains("to everybody") && verbose.len() > usual.len(), "{verbose}");
}

#[test]
fn one_broken_rule_is_told_once_in_full() {
    let ran = check(&["test", "hangout", "--role", "server", "--sinner", "no-token"], FAIL);
    let full = ran.stdout.matches("once more: ").count();
    let accused = ran.stdout.matches("\n  broken    HANGOUT-").count();
    assert!(full <= 2 * (accused + 3), "{full} flows in full for {accused} requirements");
    assert!(ran.stdout.contains("show nothing new"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\n            in "), "the summary names the flows: {}", ran.stdout);
    let longest = ran.stdout.lines().map(|line| line.chars().count()).max();
    assert!(longest < Some(400), "{longest:?}");
}

#[test]
fn logs_and_report_folders_hold_the_run() {
    let folder = folder("logs");
    let log = folder.join("run.jsonl");
    let reports = folder.join("reports");
    let words = [
        "test",
        "hangout",
        "--role",
        "server",
        "--filter",
        "relay/",
        "--log",
        word(&log),
        "--report-dir",
        word(&reports),
    ];
    let report = check_report(&words, OK);
    let events: Vec<Value> = fs::read_to_string(&log)
        .expect("it was written")
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let kinds = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((kinds("begun"), kinds("ended")), (1, 1));
    assert_eq!(kinds("flow-ended"), names(&report).len());
    let written: Value =
        serde_json::from_str(&fs::read_to_string(reports.join("report.json")).expect("it was written"))
            .expect("JSON");
    check_schema(&written);
    assert_eq!(names(&written), names(&report));
    let transcripts = fs::read_dir(reports.join("transcripts")).expect("it was written").count();
    assert_eq!(transcripts, names(&report).len());
    check_usage(&["test", "hangout", "--log", "there/is/no/folder.jsonl"], &["the log cannot be written"]);
}

#[test]
fn wrong_use_says_what_is_right() {
    let url = "ws://127.0.0.1:1";
    check_usage(&["test", url], &["name the one protocol that the target speaks"]);
    check_usage(&["test", "hangout", url, "ws://127.0.0.1:2"], &["one target at a time"]);
    check_usage(&["test", "hangout", url, "--exec", "true {port}"], &["one target at a time"]);
    check_usage(&["test", "hangout", "--role", "waiter"], &["no role `waiter`", "server, client"]);
    check_usage(&["test", "hangout", "--edition", "v9"], &["no edition `v9`", "v1"]);
    check_usage(&["test", "hangout", url, "--role", "client"], &["does not listen", "--exec"]);
    check_usage(&["test", "hangout", "gopher://127.0.0.1:1"], &["gopher", "ws://"]);
    check_usage(&["test", "hangout", "ws://127.0.0.1:99999"], &["`99999` is not a port"]);
    check_usage(&["test", "hangout", "--timeout", "soon"], &["500ms"]);
    check_usage(&["test", "hangout", "--exec", "my-server"], &["where to listen", "{port}"]);
    check_usage(
        &["test", "hangout", "--role", "client", "--exec", "my-client"],
        &["where to connect to", "{url}"],
    );
    check_usage(&["serve", "hangout", "--role", "client"], &["--url"]);
}

#[test]
fn help_has_examples_and_exit_codes() {
    let help = check(&["test", "--help"], OK).stdout;
    for part in ["Exit code: 0 no fail", "Examples:", "--exec 'my-server {port}'", "inconclusive"] {
        assert!(help.contains(part), "no {part:?} in {help}");
    }
    assert!(check(&["--version"], OK).stdout.starts_with("flowproof "));
}

// --- A target at a URL.

#[test]
fn a_reference_that_is_served_passes_over_a_url() {
    let (server, url) = serve(&[]);
    let report = check_report(&["test", "hangout", &url, "--filter", "relay/", "--filter", "wire/"], OK);
    assert_eq!(report["target"]["kind"], "url");
    assert_eq!(report["target"]["address"], url.as_str());
    assert_eq!(with_verdict(&report, "pass"), names(&report));
    drop(server);
}

#[test]
fn a_served_sinner_is_accused_of_its_one_requirement() {
    let (server, url) = serve(&["--sinner", "limit-of-ten"]);
    let report = check_report(&["test", "hangout", &url, "--filter", "props/", "--strict"], FAIL);
    assert_eq!(accused(&report), BTreeSet::from(["HANGOUT-PROP-8".to_owned()]));
    drop(server);
    let (server, url) = serve(&["--sinner", "server-in-any-case"]);
    let report =
        check_report(&["test", "hangout", &url, "--filter", "address/", "--filter", "sender/"], FAIL);
    assert_eq!(accused(&report), BTreeSet::from(["HANGOUT-ADDR-6".to_owned()]));
    drop(server);
}

#[test]
fn serve_ends_when_it_is_asked_to() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (server, _) = serve(&[]);
        server.signal(signal);
        assert_eq!(server.wait().code, Some(OK));
    }
}

// --- Programs that are started.

#[test]
fn a_server_is_started_for_each_worker_and_stopped_with_all_it_started() {
    let folder = folder("started");
    let starts = folder.join("starts");
    let marker = "86399.25";
    let command = format!("echo one >> '{}'; sleep {marker} & {}", word(&starts), reference(""));
    let report = check_report(
        &["test", "hangout", "--exec", &command, "--filter", "relay/any-payload", "--jobs", "3"],
        OK,
    );
    assert_eq!(report["target"]["kind"], "exec");
    assert_eq!(with_verdict(&report, "pass"), names(&report));
    let starts = fs::read_to_string(&starts).expect("it was started").lines().count();
    assert!((1..=3).contains(&starts), "{starts} starts for three workers");
    assert!(!sleeps(marker), "it was stopped with its group");
}

#[test]
fn a_server_that_dies_is_started_anew_and_its_death_is_judged() {
    let folder = folder("dies");
    let starts = folder.join("starts");
    let command = format!("echo one >> '{}'; {}", word(&starts), reference("--sinner dies-of-wrong-shape"));
    let words = ["test", "hangout", "--exec", &command, "--jobs", "1"];
    let report = check_report(
        &[
            &words[..],
            &[
                "--filter",
                "robust/wrong-shape#to-object",
                "--filter",
                "robust/payload-missing",
                "--filter",
                "wire/",
            ],
        ]
        .concat(),
        FAIL,
    );
    assert_eq!(accused(&report), BTreeSet::from(["HANGOUT-ROBUST-2".to_owned()]), "{report:#}");
    assert!(report["summary"]["pass"].as_u64() >= Some(2), "the others are judged all the same: {report:#}");
    let starts = fs::read_to_string(&starts).expect("it was started").lines().count();
    assert!(starts >= 1, "{starts}");
}

#[test]
fn a_program_that_ends_before_it_listens_is_told_with_its_last_words() {
    let command = "echo 'the database is missing' >&2; exit 7; : {port}";
    let ran = check(&["test", "hangout", "--exec", command], NOTHING_JUDGED);
    assert!(
        ran.stdout.contains("the database is missing") && ran.stdout.contains("exit status: 7"),
        "{}",
        ran.stdout
    );
    let report = check_report(&["test", "hangout", "--exec", command], NOTHING_JUDGED);
    assert_eq!(accused(&report), BTreeSet::new());
}

#[test]
fn a_program_that_never_listens_is_waited_for_once() {
    let command = "echo 'still thinking'; exec sleep 600; : {port}";
    let ran =
        check(&["test", "hangout", "--exec", command, "--startup", "1s", "--jobs", "2"], NOTHING_JUDGED);
    assert!(
        ran.stdout.contains("does not listen on port") && ran.stdout.contains("still thinking"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_program_that_is_not_there_is_nobodys_fail() {
    let server = check(&["test", "hangout", "--exec", "no-such-program {port}"], NOTHING_JUDGED);
    assert!(server.stdout.contains("no-such-program"), "{}", server.stdout);
    let words = ["test", "hangout", "--role", "client", "--exec", "no-such-program {url}"];
    let report = check_report(&words, NOTHING_JUDGED);
    assert_eq!(accused(&report), BTreeSet::new());
    assert!(report["flows"][0]["reason"].as_str().is_some_and(|reason| reason.contains("no-such-program")));
}

#[test]
fn a_fault_is_planted_in_a_program_that_listens_and_in_one_that_connects() {
    let client = format!("'{}' serve hangout --role client --url {{url}}", env!("CARGO_BIN_EXE_flowproof"));
    for (command, sinner, filter, id) in [
        (reference(""), "address-left-in", "relay/any-payload", "HANGOUT-RELAY-3"),
        (client, "client-payload-called-payload", "client/sends", "HANGOUT-CLIENT-1"),
    ] {
        let words = ["test", "hangout", "--exec", &command, "--filter", filter];
        let report = check_report(&[&words[..], &["--sinner", sinner]].concat(), FAIL);
        assert_eq!(accused(&report), BTreeSet::from([id.to_owned()]), "{report:#}");
        let role = if sinner.starts_with("client") { "client" } else { "server" };
        let report = check_report(&[&words[..], &["--role", role]].concat(), OK);
        assert_eq!(accused(&report), BTreeSet::new(), "{report:#}");
    }
}

#[test]
fn a_program_is_not_accused_of_the_passage_before_it() {
    // These rules touch ROUTING alone; what else is accused, the passage did.
    let command = format!(
        "'{}' serve ptpchat --role server --edition tcp-2016-04 --listen 127.0.0.1:{{port}}",
        env!("CARGO_BIN_EXE_flowproof")
    );
    let words = ["test", "ptpchat", "--edition", "tcp-2016-04", "--exec", &command, "--filter", "tcp/"];
    let report = check_report(&[&words[..], &["--sinner", "all-ways-are-alike", "--strict"]].concat(), FAIL);
    assert_eq!(accused(&report), BTreeSet::from(["PTPCHAT-TCP-6".to_owned()]), "{report:#}");
    assert!(report["summary"]["pass"].as_u64() > Some(50), "{:#}", report["summary"]);
    let command = format!("'{}' serve polfan --listen 127.0.0.1:{{port}}", env!("CARGO_BIN_EXE_flowproof"));
    // Nor do these flows meet this fault: their commands and answers go through by HTTP.
    let words = ["test", "polfan", "--exec", &command, "--filter", "api/", "--sinner", "answers-twice"];
    let report = check_report(&words, OK);
    assert_eq!(with_verdict(&report, "pass"), names(&report));
}

#[test]
fn a_fault_that_no_rule_makes_is_planted_in_no_program() {
    let command = reference("");
    check_usage(
        &["test", "hangout", "--exec", &command, "--sinner", "dies-of-wrong-shape"],
        &["dies-of-wrong-shape", "built into the reference"],
    );
    check_usage(
        &["test", "hangout", "--exec", &command, "--role", "client", "--sinner", "address-left-in"],
        &["address-left-in", "plays the role server"],
    );
}

/// The matrix of sinners runs with the default settings; these flows need others.
#[test]
fn where_addresses_stay_fixed_each_half_of_a_path_is_judged() {
    for (sinner, id) in [
        ("asks-for-port", "PTPCHAT-CONN-10"),
        ("b-tells-ordinary-port", "PTPCHAT-CONN-12"),
        ("b-does-not-knock", "PTPCHAT-CONN-13"),
        ("a-comes-from-elsewhere", "PTPCHAT-CONN-15"),
    ] {
        let words =
            ["test", "ptpchat", "--edition", "udp-2016-03", "--var", "connect=fixed", "--role", "node"];
        let more = ["--filter", "connect/", "--strict", "--sinner", sinner];
        let report = check_report(&[&words[..], &more].concat(), FAIL);
        assert_eq!(accused(&report), BTreeSet::from([id.to_owned()]), "{sinner}: {report:#}");
    }
}

#[test]
fn a_failing_flow_tells_the_command_that_shows_it_again() {
    let words = [
        "test",
        "ptpchat",
        "--edition",
        "udp-2016-03",
        "--var",
        "connect=fixed",
        "--sinner",
        "b-tells-ordinary-port",
        "--role",
        "node",
        "--slack",
        "5ms",
        "--filter",
        "connect/b-opens-a-port-fixed",
    ];
    let told = check(&words, FAIL).stdout;
    let again = told.lines().find_map(|line| line.trim().strip_prefix("once more: flowproof "));
    let again = again.unwrap_or_else(|| panic!("no command is told: {told}")).replace('\'', "");
    let report = check_report(&again.split_whitespace().collect::<Vec<_>>(), FAIL);
    assert_eq!(accused(&report), BTreeSet::from(["PTPCHAT-CONN-12".to_owned()]), "{again}: {report:#}");
}

#[test]
fn what_only_a_driver_could_bring_about_is_left_out_at_an_address() {
    let (_node, url) = Running::serve(&["ptpchat", "--role", "node"]);
    let words =
        ["test", "ptpchat", &url, "--role", "node", "--filter", "channel/joins", "--filter", "message/says"];
    let report = check_report(&words, NOTHING_JUDGED);
    assert_eq!(with_verdict(&report, "skip").len(), 2, "{report:#}");
    for flow in report["flows"].as_array().expect("an array") {
        assert!(flow["reason"].as_str().is_some_and(|reason| reason.contains("driver")), "{flow:#}");
    }
}

#[test]
fn the_reference_client_passes_as_a_program() {
    let command = format!("'{}' serve hangout --role client --url {{url}}", env!("CARGO_BIN_EXE_flowproof"));
    let words = [
        "test",
        "hangout",
        "--role",
        "client",
        "--exec",
        &command,
        "--filter",
        "client/sends",
        "--filter",
        "client/answers",
    ];
    let report = check_report(&words, OK);
    assert_eq!(with_verdict(&report, "pass"), names(&report));
    assert!(report["summary"]["pass"].as_u64() > Some(5), "{report:#}");
}

#[test]
fn clients_that_misbehave_get_a_clear_verdict() {
    // What a program does, and how flowproof ends.
    let shell = |body: &str| format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{{port}}; {body}'");
    let upgrade = r#"printf "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" >&3"#;
    let cases = [
        ("exits at once", "true {url}".to_owned(), NOTHING_JUDGED),
        ("never connects", "exec sleep 600; : {url}".to_owned(), NOTHING_JUDGED),
        ("connects and leaves", shell("exit 0"), NOTHING_JUDGED),
        ("connects and says nothing", shell("exec sleep 600"), NOTHING_JUDGED),
        ("sends garbage", shell("head -c 100000 /dev/urandom >&3; exec sleep 600"), NOTHING_JUDGED),
        ("sends without end", shell("exec cat /dev/zero >&3"), NOTHING_JUDGED),
        ("breaks the framing", shell(&format!("{upgrade}; exec cat /dev/zero >&3")), FAIL),
    ];
    for (name, command, code) in cases {
        let words =
            ["test", "hangout", "--role", "client", "--exec", &command, "--startup", "2s", "--timeout", "1s"];
        let report = check_report(
            &[&words[..], &["--filter", "client/left-alone", "--filter", "client/answers"]].concat(),
            code,
        );
        for flow in report["flows"].as_array().expect("an array") {
            assert_ne!(flow["verdict"], "error", "{name}: {flow:#}");
        }
    }
}

// --- Interrupts.

#[test]
fn an_interrupted_run_reports_what_it_found_and_leaves_nothing_behind() {
    for (signal, marker) in [(Signal::SIGINT, "86398.25"), (Signal::SIGTERM, "86397.25")] {
        let reports = folder(&format!("interrupted-{marker}"));
        let command = format!("sleep {marker} & {}", reference(""));
        let running = Running::start(&[
            "test",
            "hangout",
            "--exec",
            &command,
            "--jobs",
            "4",
            "--report-dir",
            word(&reports),
            "--filter",
            "ping/",
            "--filter",
            "wire/",
        ]);
        // The long watches run, and one that is short has ended.
        running.line_with("wire/");
        assert!(sleeps(marker));
        running.signal(signal);
        let ran = running.wait();
        assert_eq!(ran.code, Some(NOTHING_JUDGED), "{ran:#?}");
        assert!(ran.stdout.contains("cut short"), "{ran:#?}");
        assert!(ran.stderr.contains("interrupted"), "{ran:#?}");
        let report = fs::read_to_string(reports.join("report.json")).expect("it was written");
        let report: Value = serde_json::from_str(&report).expect("it is JSON");
        check_schema(&report);
        assert_eq!(report["cut_short"], true);
        assert!(report["summary"]["pass"].as_u64() >= Some(1), "{report:#}");
        assert_eq!(accused(&report), BTreeSet::new(), "an interrupt is nobody's fault");
        assert!(!sleeps(marker), "what was started was stopped");
    }
}

#[test]
fn a_second_interrupt_ends_at_once_and_still_leaves_nothing_behind() {
    // This program does not end when it is asked to.
    let marker = "86396.25";
    let command = format!("trap '' TERM; sleep {marker} & {}; wait", reference(""));
    let running =
        Running::start(&["test", "hangout", "--exec", &command, "--jobs", "1", "--filter", "ping/every"]);
    let until = Instant::now() + PATIENCE;
    while !sleeps(marker) {
        assert!(Instant::now() < until, "it was not started");
        thread::sleep(Duration::from_millis(5));
    }
    running.signal(Signal::SIGINT);
    let told = running.stderr.recv_timeout(PATIENCE);
    assert!(told.is_ok(), "the first interrupt is answered");
    running.signal(Signal::SIGINT);
    let ran = running.wait();
    assert_eq!(ran.code, Some(NOTHING_JUDGED), "{ran:#?}");
    let until = Instant::now() + PATIENCE;
    while sleeps(marker) {
        assert!(Instant::now() < until, "what was started was stopped");
        thread::sleep(Duration::from_millis(5));
    }
}
