//! Why a message cannot be taken, and what the wire is told about it.

use thiserror::Error;

/// Why a relay does not pass a text message on, or a peer ignores it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are no UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// The text is no JSON.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// A JSON value that is no object.
    #[error("not a JSON object")]
    NotObject,
    /// `action` is missing or no string.
    #[error("no usable `action` at $.action")]
    Action,
    /// What the action needs is missing or of a wrong type.
    #[error("no usable {0}")]
    Member(&'static str),
    /// An action nobody knows.
    #[error("unknown action {0}")]
    UnknownAction(String),
}

/// Why a relay ends a link (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The relay shuts down.
    GoingAway,
    /// The framing is broken.
    Protocol,
    /// The text is no UTF-8.
    Encoding,
    /// A message over the limit.
    TooBig,
}

impl CloseReason {
    /// The WebSocket close code.
    pub fn code(self) -> u16 {
        match self {
            CloseReason::GoingAway => 1001,
            CloseReason::Protocol => 1002,
            CloseReason::Encoding => 1007,
            CloseReason::TooBig => 1009,
        }
    }
}
