//! The tutorial: everything on the page is done, in its order, in an empty folder, and what the page says comes of it.
//!
//! The commands that start the tutorial's server need Python with `websockets`. They are run where the variable
//! `FLOWPROOF_PYTHON` names a folder with such a `python3`, as `.ci/run tutorial` does; all others are always run.

mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use page::{Fenced, blocks};

const PAGE: &str = include_str!("../docs/tutorial.md");

/// Where the page is followed.
struct Reader {
    folder: PathBuf,
    python: Option<PathBuf>,
    ran: usize,
}

impl Reader {
    fn follow(&mut self, block: &Fenced<'_>) {
        match block.words.as_slice() {
            [_, "write", path] => self.write(path, &block.text),
            [_, "add", path] => {
                let there = fs::read_to_string(self.folder.join(path));
                let there =
                    there.unwrap_or_else(|error| panic!("tutorial.md:{}: {path}: {error}", block.line));
                self.write(path, &(there + &block.text));
            }
            ["console"] => self.console(block),
            other => panic!("tutorial.md:{}: nobody knows what to do with {other:?}", block.line),
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file of the page");
    }

    /// Commands, each with what it prints below it.
    fn console(&mut self, block: &Fenced<'_>) {
        let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in block.text.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command, Vec::new())),
                None => commands.last_mut().expect("a command comes first").1.push(line),
            }
        }
        for (command, wanted) in commands {
            if command.contains("python3") && self.python.is_none() {
                continue;
            }
            let built = Path::new(env!("CARGO_BIN_EXE_flowproof")).parent().expect("it lies in a folder");
            let mut path = built.display().to_string();
            if let Some(python) = &self.python {
                path = format!("{path}:{}", python.display());
            }
            let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
            let ran = Command::new("sh")
                .args(["-c", command])
                .current_dir(&self.folder)
                .env("PATH", path)
                .output()
                .expect("there is a shell");
            let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
            let complained = String::from_utf8_lossy(&ran.stderr);
            let lines: Vec<&str> = printed.lines().collect();
            assert!(
                fits(&wanted, &lines),
                "tutorial.md:{}: `{command}` printed\n{printed}{complained}\nbut the page says\n{}",
                block.line,
                wanted.join("\n")
            );
            self.ran += 1;
        }
    }
}

/// Whether lines were printed as the page has them: a line `…` stands for any lines, `…` in a line for any text.
fn fits(wanted: &[&str], printed: &[&str]) -> bool {
    match wanted.split_first() {
        None => printed.is_empty(),
        Some((&"…", rest)) => (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..])),
        Some((line, rest)) => {
            printed.split_first().is_some_and(|(first, others)| line_fits(line, first) && fits(rest, others))
        }
    }
}

fn line_fits(wanted: &str, printed: &str) -> bool {
    let mut parts = wanted.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Follows a page in a folder of its own; how many commands were run.
fn follow(page: &str, name: &str) -> usize {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tutorial").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let python = std::env::var_os("FLOWPROOF_PYTHON").map(PathBuf::from);
    let mut reader = Reader { folder, python, ran: 0 };
    blocks(page).iter().for_each(|block| reader.follow(block));
    reader.ran
}

#[test]
fn the_tutorial_is_what_happens() {
    assert!(follow(PAGE, "page") > 3, "the page has commands");
}

#[test]
#[should_panic(expected = "but the page says")]
fn another_output_than_the_pages_is_an_error() {
    follow("```console\n$ flowproof --version\nflowproof of yesterday\n```\n", "another-output");
}

#[test]
#[should_panic(expected = "nobody knows what to do with")]
fn a_block_that_nobody_knows_is_an_error() {
    follow("```sh\nflowproof\n```\n", "unknown-block");
}

#[test]
fn dots_stand_for_anything() {
    assert!(fits(&["a …z", "…", "end"], &["a b z", "x", "y", "end"]));
    assert!(fits(&["…"], &[]));
    assert!(!fits(&["a …z"], &["a b"]));
    assert!(!fits(&["…", "end"], &["x"]));
}
