//! Running flows: planning who is played, the conversation itself, and the verdicts.

pub mod conversation;
pub mod event;
pub mod plan;
pub mod run;
pub mod stimulus;
pub mod transcript;
pub mod variables;
pub mod verdict;
