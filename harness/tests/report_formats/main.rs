//! Reports in every format, fed with what a hostile target may send: no byte of it may break a format, move a
//! terminal's cursor, or be taken for a command by a CI system.

mod fixture;
mod formats;
