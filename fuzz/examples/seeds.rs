//! Writes the seeds and the dictionary of every fuzz target, with the regressions among the seeds:
//! `cargo run -p flowproof-fuzz --example seeds -- FOLDER`.

use std::path::{Path, PathBuf};

use flowproof_fuzz::{TARGETS, seeds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder")?);
    for target in TARGETS {
        let below = folder.join(target.name);
        std::fs::create_dir_all(&below)?;
        for (number, seed) in seeds::of(target).iter().enumerate() {
            std::fs::write(below.join(format!("seed-{number:04}")), seed)?;
        }
        let regressions =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/regressions").join(target.name);
        if let Ok(entries) = std::fs::read_dir(regressions) {
            for entry in entries {
                let path = entry?.path();
                if let Some(name) = path.file_name() {
                    std::fs::copy(&path, below.join(name))?;
                }
            }
        }
        if let Some(words) = seeds::dictionary(target) {
            std::fs::write(folder.join(format!("{}.dict", target.name)), words)?;
        }
    }
    Ok(())
}
