//! The judges: what they may say, and the catalogue they cite.

pub mod catalogue;
pub mod finding;
pub mod schema;
