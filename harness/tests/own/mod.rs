//! Folders of protocols for tests.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowproof::blank::Files;
use flowproof::corpus::{Corpus, Protocol};

/// Writes a folder below the tests' own, in place of what an earlier run left there.
pub(crate) fn written(test: &str, name: &str, files: &Files) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("own").join(test);
    let _ = fs::remove_dir_all(&root);
    let folder = root.join(name);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder for the test");
        fs::write(path, text).expect("a file of the test");
    }
    folder
}

/// The protocol in a folder.
#[track_caller]
pub(crate) fn loaded(folder: &Path, name: &str) -> Arc<Protocol> {
    let corpus = Corpus::from_folder(folder).unwrap_or_else(|error| panic!("{}", error.messages.join("\n")));
    corpus.protocol(name).expect("it was just written")
}
