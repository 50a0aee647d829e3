//! The flow language: reading, writing and checking of flow files, and the two readings of their patterns.

mod diagnostics;
mod duality;
mod formatting;
mod generated;
mod parsing;
