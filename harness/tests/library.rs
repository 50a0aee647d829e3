//! flowproof as a library: the suite from `#[tokio::test]`, against a server in the test's own process and against a
//! program that is started. Copy this file to begin with.

use flowproof::suite::{Suite, SuiteError};

/// A server to be tested: the reference, on a free port, inside this process.
async fn serve(listener: tokio::net::TcpListener) {
    use flowproof::corpus::Corpus;
    use flowproof::world::reference::{ReferenceOptions, reference};
    use flowproof_reference::driver::run_loop::{self, Place};

    let corpus = Corpus::embedded().expect("the corpus in the binary is whole");
    let protocol = corpus.protocol("hangout").expect("hangout is built in");
    let options = ReferenceOptions {
        edition: "v1",
        seed: 1,
        path: "/",
        settings: protocol.settings.values("v1"),
        ..ReferenceOptions::default()
    };
    let mut server = reference("hangout", "server", &options).expect("it is a role");
    let (_orders, inbox) = tokio::sync::mpsc::channel(1);
    let told = |_: &str| {};
    let ran =
        run_loop::run(server.as_mut(), Place::Listen(listener), inbox, std::future::pending(), told).await;
    ran.expect("it serves until it is dropped");
}

#[tokio::test]
async fn my_server_keeps_the_protocol() -> Result<(), SuiteError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let suite =
        Suite::new("hangout").url(format!("ws://{address}/")).filter("connect/").filter("address/array");
    tokio::select! {
        () = serve(listener) => panic!("the server ended"),
        outcome = suite.run() => outcome?.assert_conformant(),
    }
    Ok(())
}

#[tokio::test]
async fn my_program_keeps_the_protocol() -> Result<(), SuiteError> {
    let command = format!("{} serve hangout --listen 127.0.0.1:{{port}}", env!("CARGO_BIN_EXE_flowproof"));
    let outcome = Suite::new("hangout").exec(command).filter("address/string").run().await?;
    outcome.assert_conformant();
    assert!(outcome.flows().count() > 0);
    Ok(())
}

#[test]
fn a_broken_server_is_told_of_as_the_command_tells() -> Result<(), SuiteError> {
    let suite =
        Suite::new("hangout").role("server").argument("--sinner=closed-always-empty").filter("changes/");
    let outcome = suite.run_blocking()?;
    assert!(!outcome.is_conformant());
    assert!(outcome.failures().contains("HANGOUT-CHG-3 (MUST) broken by server"), "{}", outcome.failures());
    Ok(())
}

#[test]
fn wrong_choices_are_errors_and_no_verdict() {
    let wrong = |suite: Suite| suite.run_blocking().map(|_| ()).expect_err("it is wrong").to_string();
    assert!(wrong(Suite::new("hangaut")).contains("did you mean `hangout`?"));
    assert!(wrong(Suite::new("hangout").role("sever")).contains("no role `sever`"));
    assert!(wrong(Suite::new("hangout").argument("--no-such")).contains("--no-such"));
    let nothing = Suite::new("hangout").filter("no flow is called so").run_blocking().expect("it runs");
    assert!(!nothing.is_conformant(), "nothing judged is nothing kept");
}
