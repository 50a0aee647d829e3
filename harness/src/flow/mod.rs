//! The flow language: what a file says, read, checked and written back.

pub mod ast;
