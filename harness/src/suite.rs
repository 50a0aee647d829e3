//! flowproof in the tests of a server or client: the suite against an address or a program, from `#[tokio::test]` or
//! any other test.
//!
//! ```no_run
//! # async fn start_my_server() -> u16 { 8080 }
//! # async fn example() -> Result<(), flowproof::suite::SuiteError> {
//! let port = start_my_server().await;
//! let outcome = flowproof::suite::Suite::new("hangout").url(format!("ws://127.0.0.1:{port}/")).run().await?;
//! outcome.assert_conformant();
//! # Ok(())
//! # }
//! ```
//!
//! A suite does what `flowproof test` does with the same choices; what the command takes beside them is given with
//! [`Suite::argument`]. `harness/tests/library.rs` and `harness/tests/one_entry_a_flow.rs` are working examples: a
//! server inside the test's own process, and one entry of the test's output for each flow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cli::test::collect;
use crate::corpus::Corpus;
use crate::report::human::{self, Detail};
use crate::report::text::Style;
use crate::report::{Report, Run, folder};
use crate::runner::plan;
use crate::runner::verdict::{FlowResult, Verdict};

/// Why a suite could not run. What a target does is never an error, but an [`Outcome`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum SuiteError {
    /// The corpus cannot be read.
    #[error("{0}")]
    Corpus(String),
    /// The choices contradict each other, or name what does not exist.
    #[error("{0}")]
    Choices(String),
    /// The thread that ran the suite is gone.
    #[error("the suite did not come to its end: {0}")]
    Lost(String),
}

/// What to test, and how.
#[derive(Clone, Debug)]
pub struct Suite {
    protocol: String,
    words: Vec<String>,
}

impl Suite {
    /// The flows of a protocol, against its built-in reference until a target is named.
    pub fn new(protocol: impl Into<String>) -> Suite {
        Suite { protocol: protocol.into(), words: Vec::new() }
    }

    /// Tests a program that is running.
    pub fn url(self, url: impl Into<String>) -> Suite {
        self.argument(url)
    }

    /// Starts a program and tests it: `{port}` becomes a free port, `{url}` the address it is to connect to.
    pub fn exec(self, command: impl Into<String>) -> Suite {
        self.option("--exec", command)
    }

    /// The role under test, when it is not the one that listens.
    pub fn role(self, role: impl Into<String>) -> Suite {
        self.option("--role", role)
    }

    /// Only flows whose name contains this; may be called several times.
    pub fn filter(self, part: impl Into<String>) -> Suite {
        self.option("--filter", part)
    }

    /// A variable of the flows.
    pub fn variable(self, name: &str, value: &str) -> Suite {
        self.option("--var", format!("{name}={value}"))
    }

    /// How long an arrow waits.
    pub fn timeout(self, timeout: Duration) -> Suite {
        self.option("--timeout", format!("{}ms", timeout.as_millis()))
    }

    /// Target, variables and known failures from a `flowproof.toml`.
    pub fn config(self, file: impl AsRef<Path>) -> Suite {
        self.option("--config", file.as_ref().display().to_string())
    }

    /// One more word of `flowproof test`, such as `--shared`.
    pub fn argument(mut self, word: impl Into<String>) -> Suite {
        self.words.push(word.into());
        self
    }

    fn option(self, name: &str, value: impl Into<String>) -> Suite {
        self.argument(format!("{name}={}", value.into()))
    }

    fn corpus() -> Result<Corpus, SuiteError> {
        Corpus::embedded().map_err(|error| SuiteError::Corpus(error.messages.join("\n")))
    }

    /// The names of the flows that judge a role, without the rows of their tables.
    pub fn flows(&self, role: &str) -> Result<Vec<String>, SuiteError> {
        let corpus = Suite::corpus()?;
        let protocol = corpus
            .protocol(&self.protocol)
            .ok_or_else(|| SuiteError::Choices(format!("there is no protocol `{}`", self.protocol)))?;
        let flows = protocol.flows.iter().filter(|file| plan::judges_role(file, &protocol, role));
        Ok(flows.map(|file| file.name.clone()).collect())
    }

    /// Runs the suite, on a thread beside the test, so that a server inside the test's own runtime goes on. When the
    /// future is dropped the run is cut short.
    pub async fn run(&self) -> Result<Outcome, SuiteError> {
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let (suite, flag) = (self.clone(), Arc::clone(&stop.0));
        let ran = tokio::task::spawn_blocking(move || suite.run_until(&flag)).await;
        ran.map_err(|error| SuiteError::Lost(error.to_string()))?
    }

    /// Runs the suite and waits for its end. Not to be called inside an asynchronous task.
    pub fn run_blocking(&self) -> Result<Outcome, SuiteError> {
        self.run_until(&Arc::new(AtomicBool::new(false)))
    }

    fn run_until(&self, stop: &Arc<AtomicBool>) -> Result<Outcome, SuiteError> {
        let corpus = Suite::corpus()?;
        let mut words = vec![self.protocol.clone()];
        words.extend(self.words.iter().cloned());
        let runs = collect(&words, &corpus, stop).map_err(SuiteError::Choices)?;
        Ok(Outcome { runs })
    }

    /// Runs one flow, with all rows of its table, and waits for its end.
    pub fn run_flow_blocking(&self, flow: &str) -> Result<Outcome, SuiteError> {
        let mut outcome = self.clone().filter(flow).run_blocking()?;
        for run in &mut outcome.runs {
            // The filter takes names that contain the flow's name too.
            run.report.flows.retain(|result| result.name.split('#').next() == Some(flow));
        }
        Ok(outcome)
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What came of a suite.
#[derive(Clone)]
pub struct Outcome {
    runs: Vec<Run>,
}

impl Outcome {
    /// What came of the protocol that was tested.
    pub fn report(&self) -> Option<&Report> {
        self.runs.first().map(|run| &run.report)
    }

    /// Every flow.
    pub fn flows(&self) -> impl Iterator<Item = &FlowResult> {
        self.runs.iter().flat_map(|run| &run.report.flows)
    }

    /// Flows that fail or could not run, without those that are known to.
    fn failing(&self) -> impl Iterator<Item = (&Run, &FlowResult)> {
        self.runs.iter().flat_map(|run| {
            let flows = run.report.flows.iter().enumerate();
            let failing = flows.filter(|(place, flow)| {
                matches!(run.report.known.remaining(*place, flow), Verdict::Fail | Verdict::Error)
            });
            failing.map(move |(_, flow)| (run, flow))
        })
    }

    /// True when something could be judged, and no MUST is broken that is not known to be.
    pub fn is_conformant(&self) -> bool {
        let judged =
            |flow: &FlowResult| matches!(flow.verdict, Verdict::Pass | Verdict::Warn | Verdict::Fail);
        self.flows().any(judged) && self.failing().next().is_none()
    }

    /// What fails, as `flowproof test` tells it; what could not be judged, when that is all.
    pub fn failures(&self) -> String {
        let style = Style::new(false);
        let mut text = String::new();
        for (run, flow) in self.failing() {
            let again = run.again(&flow.name);
            text.push_str(&format!(
                "\n{}",
                human::failure(flow, &run.protocol, &again, Detail::Short, style)
            ));
        }
        if text.is_empty() && !self.is_conformant() {
            text.push_str("nothing could be judged\n");
            self.flows().for_each(|flow| text.push_str(&format!("{}\n", human::flow_line(flow, style))));
        }
        text
    }

    /// Panics with what fails, unless the target is conformant.
    ///
    /// # Panics
    /// When a MUST is broken that is not known to be, a flow could not run, or nothing could be judged.
    #[track_caller]
    pub fn assert_conformant(&self) {
        assert!(self.is_conformant(), "{}", self.failures());
    }

    /// Writes what `--report-dir` writes.
    pub fn write_to(&self, folder: &Path) -> std::io::Result<()> {
        folder::write(folder, &self.runs)
    }
}
