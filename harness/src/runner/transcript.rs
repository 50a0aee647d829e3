//! Who said what, in order: the record that reports show the end of, and that tests compare byte for byte.

use std::fmt;

use flowproof_reference::machine::{LinkId, Time};
use serde::{Deserialize, Serialize};

use crate::diagnostic::escape;
use crate::pattern::json;

/// Lines kept of one flow; of a longer one the first and the last.
const LINES: usize = 4000;
/// Lines that are let go together.
const SURPLUS: usize = 1000;
/// Characters kept of one message.
const TEXT: usize = 2000;

/// One thing said or done on a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub at: Time,
    /// On which connection.
    pub link: LinkId,
    /// By whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What: a message as it was, or words for anything else.
    pub text: String,
}

/// The lines of one flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    lines: Vec<Line>,
    /// How many were left out in the middle.
    left_out: usize,
}

impl Transcript {
    /// Adds a line.
    pub fn push(&mut self, mut line: Line) {
        line.text = json::cut(&line.text, TEXT);
        if self.lines.len() >= LINES + SURPLUS {
            self.lines.drain(LINES / 2..LINES / 2 + SURPLUS);
            self.left_out += SURPLUS;
        }
        self.lines.push(line);
    }

    /// Where lines were left out, before which of the lines that are left, and how many.
    pub fn gap(&self) -> Option<(usize, usize)> {
        (self.left_out > 0).then_some((LINES / 2, self.left_out))
    }

    /// Changes the text of every line.
    pub(crate) fn each_text(&mut self, change: impl Fn(&mut String)) {
        self.lines.iter_mut().for_each(|line| change(&mut line.text));
    }

    /// All lines, oldest first.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, line) in self.lines.iter().enumerate() {
            if self.left_out > 0 && place == LINES / 2 {
                writeln!(f, "           … {} lines left out …", self.left_out)?;
            }
            // What a stranger sent can neither forge a line nor move a cursor.
            let text = escape(&line.text).replace('\n', "\\n");
            writeln!(f, "{:>10}  {} -> {}  {text}", line.at.to_string(), line.from, line.to)?;
        }
        Ok(())
    }
}
