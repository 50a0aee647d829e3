//! The flow language: what a file says, read, checked and written back. `docs/language.md` is the users' page.

pub mod ast;
pub mod format;
mod parser;
pub mod resolve;

pub use parser::{parse, parse_pattern, parse_payload};
