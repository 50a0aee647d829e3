//! The command as a user's shell would call it: the built program, what it prints, and how it ends.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Whoever takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The JSON it printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:#?}"))
    }
}

/// A command that runs. It is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdout: mpsc::Receiver<String>,
    pub(crate) stderr: mpsc::Receiver<String>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_flowproof"))
            .args(args)
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command was built by cargo");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Running { child, stdout, stderr }
    }

    /// A reference that listens, and where.
    #[track_caller]
    pub(crate) fn serve(args: &[&str]) -> (Running, String) {
        let listen = ["--listen", "127.0.0.1:0"];
        let running = Running::start(&[&["serve"], args, &listen].concat());
        let line = running.line_with("listening on ");
        let place = line.split("listening on ").nth(1).expect("the line was asked for").trim().to_owned();
        (running, place)
    }

    /// The next line of its output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.line_with("")
    }

    /// The next line of its output that holds `part`.
    #[track_caller]
    pub(crate) fn line_with(&self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.stdout.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| panic!("no line with {part:?}: {error}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Writes a line to its standard input.
    #[track_caller]
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("it reads");
        stdin.flush().expect("it reads");
    }

    /// Sends it a signal; it may have ended by itself.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.child.id()).expect("a process id");
        let _ = kill(Pid::from_raw(process), signal);
    }

    /// Waits until it ends.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ran {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < until, "it hangs");
            thread::sleep(Duration::from_millis(5));
        };
        let all = |lines: &mpsc::Receiver<String>| {
            lines.iter().fold(String::new(), |text, line| text + &line + "\n")
        };
        Ran { code: status.code(), stdout: all(&self.stdout), stderr: all(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
