//! Why a message cannot be taken, and what the wire is told about it.

use thiserror::Error;

/// Why bytes are not an envelope (2.1).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are no JSON in UTF-8.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// JSON, but no object.
    #[error("a JSON {0}, not an object")]
    NotObject(&'static str),
    /// `seq` is missing, no integer, or beyond what is exact.
    #[error("no integer at $.seq")]
    Seq,
    /// `type` is missing or no string.
    #[error("no string at $.type")]
    Type,
    /// `data` is missing or no object.
    #[error("no object at $.data")]
    Data,
    /// A member that an envelope does not have.
    #[error("an unknown member at $.{0}")]
    Unknown(String),
}

/// Why a side ends a link with `close` (2.3). The texts are informative; nobody is required to use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The token is not accepted.
    AuthenticationFailed,
    /// Something that does not belong into the handshake.
    InvalidHandshake,
    /// Something that is not acceptable after `ready`; the detail says why.
    InvalidMessage(String),
    /// A client took too long to register.
    HandshakeTimeout,
    /// A control is through with its command.
    Quit,
    /// A newer connection has registered the same slave id.
    RegisteredAgain,
    /// An orderly stop.
    Shutdown,
}

impl CloseReason {
    /// `data.reason`.
    pub fn text(&self) -> String {
        match self {
            CloseReason::AuthenticationFailed => "Authentication failed".to_owned(),
            CloseReason::InvalidHandshake => "Invalid handshake".to_owned(),
            CloseReason::InvalidMessage(detail) => format!("Invalid message: {detail}"),
            CloseReason::HandshakeTimeout => "Handshake timeout".to_owned(),
            CloseReason::Quit => "quit".to_owned(),
            CloseReason::RegisteredAgain => "Registered from another connection".to_owned(),
            CloseReason::Shutdown => "shutdown".to_owned(),
        }
    }
}
