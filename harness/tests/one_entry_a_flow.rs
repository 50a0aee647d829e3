//! One entry of the test's output for each flow: `cargo test --test one_entry_a_flow connect/` runs some of them. The
//! target is the built-in reference here; a server of one's own is named with `.url(..)` or `.exec(..)`.

use flowproof::suite::{Suite, SuiteError};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> Result<(), SuiteError> {
    let suite = Suite::new("hangout").role("server");
    let trials = suite.flows("server")?.into_iter().map(|flow| {
        let suite = suite.clone();
        Trial::test(flow.clone(), move || {
            let outcome = suite.run_flow_blocking(&flow)?;
            if outcome.is_conformant() { Ok(()) } else { Err(Failed::from(outcome.failures())) }
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit()
}
