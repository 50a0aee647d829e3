//! Writing to the terminal. A reader that goes away (`| head`) is no error.

use std::io::{IsTerminal, Write};

/// Whether colours are wanted.
pub(super) fn colour(refused: bool) -> bool {
    !refused && std::env::var_os("NO_COLOR").is_none() && std::io::stdout().is_terminal()
}

/// Writes to standard output.
pub(super) fn print(text: &str) {
    // Nobody may be reading any more.
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// Writes a line to standard error.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A line that is written over by the next, where somebody is watching.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    watched: bool,
}

impl Progress {
    pub(super) fn new(wanted: bool) -> Progress {
        Progress {
            shown: false,
            watched: wanted && std::io::stderr().is_terminal() && std::io::stdout().is_terminal(),
        }
    }

    pub(super) fn show(&mut self, text: &str) {
        if self.watched {
            let text: String = text.chars().take(100).collect();
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K{text}");
            let _ = std::io::stderr().flush();
            self.shown = true;
        }
    }

    pub(super) fn clear(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
            let _ = std::io::stderr().flush();
            self.shown = false;
        }
    }
}
