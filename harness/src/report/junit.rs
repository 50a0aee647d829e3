//! The JUnit report, as CI systems read it. The crate behind it takes out what XML cannot hold.

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::human::Detail;
use super::text::Style;
use super::{Run, human};
use crate::diagnostic::escape;
use crate::known::Kind;
use crate::pattern::json;
use crate::runner::verdict::{FlowResult, Verdict};

/// Characters of a message attribute.
const MESSAGE: usize = 400;
/// Characters of a description.
const DESCRIPTION: usize = 20_000;

/// Several runs as one document: a suite a protocol and role, a case a flow.
pub fn junit(runs: &[Run]) -> Result<String, quick_junit::SerializeError> {
    let mut document = Document::new("flowproof");
    document.set_time(runs.iter().map(|run| run.report.took).sum());
    for run in runs {
        let mut roles: Vec<&str> = run.report.flows.iter().map(|flow| flow.role.as_str()).collect();
        roles.sort_unstable();
        roles.dedup();
        for role in roles {
            let mut suite = TestSuite::new(format!("{} ({role})", run.report.protocol));
            let flows = run.report.flows.iter().enumerate().filter(|(_, flow)| flow.role == role);
            for (place, flow) in flows {
                suite.add_test_case(case(run, place, flow));
            }
            suite.set_time(suite.test_cases.iter().filter_map(|case| case.time).sum());
            document.add_test_suite(suite);
        }
    }
    document.to_string().map(|xml| without_total_of_skipped(&xml))
}

/// The schema that CI systems check against knows `skipped` at a suite, but not at the whole document.
fn without_total_of_skipped(xml: &str) -> String {
    let Some(start) = xml.find("<testsuites") else { return xml.to_owned() };
    let end = xml[start..].find('>').map_or(xml.len(), |end| start + end);
    let head = &xml[start..end];
    let Some(from) = head.find(" skipped=\"") else { return xml.to_owned() };
    let value = from + " skipped=\"".len();
    let to = head[value..].find('"').map_or(head.len(), |quote| value + quote + 1);
    format!("{}{}{}{}", &xml[..start], &head[..from], &head[to..], &xml[end..])
}

fn case(run: &Run, place: usize, flow: &FlowResult) -> TestCase {
    let reason = || escape(flow.reason.as_deref().unwrap_or_default());
    let mut told = None;
    let status = match (run.report.known.excused(place), flow.verdict) {
        (Some(kind), _) => {
            let what = if kind == Kind::Known { "known failure" } else { "disputed" };
            let why: Vec<&str> = run.report.known.excuses(place).map(|entry| entry.reason.as_str()).collect();
            told = Some(description(run, flow));
            skipped(&format!("{what}: {}", why.join("; ")))
        }
        (None, Verdict::Pass) => TestCaseStatus::success(),
        (None, Verdict::Warn) => {
            told = Some(description(run, flow));
            TestCaseStatus::success()
        }
        (None, Verdict::Fail) => {
            let first = super::told(flow, &run.protocol).into_iter().next();
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            if let Some(finding) = first {
                let id = finding.requirement.as_deref().unwrap_or("no requirement");
                status.set_type(id);
                status.set_message(json::cut(&escape(&format!("{id}: {}", finding.message)), MESSAGE));
            }
            status.set_description(description(run, flow));
            status
        }
        (None, Verdict::Error) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("error");
            status.set_message(json::cut(&reason(), MESSAGE));
            status.set_description(description(run, flow));
            status
        }
        (None, Verdict::Skip) => skipped(&reason()),
        (None, Verdict::Inconclusive) => {
            told = Some(description(run, flow));
            skipped(&format!("inconclusive: {}", reason()))
        }
    };
    let mut case = TestCase::new(flow.name.clone(), status);
    case.set_classname(format!("{}.{}", run.report.protocol, flow.role));
    case.set_time(flow.took);
    if let Some(told) = told {
        case.set_system_out(told);
    }
    case
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(json::cut(&escape(why), MESSAGE));
    status
}

fn description(run: &Run, flow: &FlowResult) -> String {
    json::cut(
        &human::failure(flow, &run.protocol, &run.again(&flow.name), Detail::Short, Style::new(false)),
        DESCRIPTION,
    )
}
