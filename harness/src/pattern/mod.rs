//! The two readings of a pattern. Where the sender is under test, a pattern *matches* what arrived; where the
//! harness plays the sender, the same pattern *generates* what is sent. Whatever a pattern generates, it matches.

pub mod bindings;
pub mod generate;
pub mod json;
pub mod matching;

pub use bindings::{Bindings, Bound};
pub use generate::{Ungeneratable, fresh_uuid, generate, text_from, text_of, variable_text};
pub use matching::{Mismatch, fits, matches};
