//! flowproof: checks that programs which talk to each other in JSON messages follow the documented flows.

pub mod blank;
pub mod cli;
pub mod config;
pub mod corpus;
pub mod diagnostic;
pub mod document;
pub mod flow;
pub mod fuzz;
pub mod judge;
pub mod known;
pub mod lint;
pub mod live;
pub mod monitor;
pub mod pattern;
pub mod report;
pub mod runner;
pub mod secret;
pub mod sinner;
pub mod suite;
pub mod world;
