//! Documents made from a corpus: nothing is run for them.

pub mod asyncapi;
pub mod page;
