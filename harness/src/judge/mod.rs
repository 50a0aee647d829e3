//! The judges: what they may say, and the catalogue they cite.

pub mod finding;
