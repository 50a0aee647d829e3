//! Why a message cannot be taken, and what the wire is told about it.

use thiserror::Error;

/// Why a message is not an envelope.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are no JSON object in UTF-8 (section 5, first rows).
    #[error("not a JSON object: {detail}")]
    Malformed {
        /// What the parser said.
        detail: String,
        /// True when it is JSON, but nested deeper than is read.
        deep: bool,
    },
    /// A JSON value that is no object.
    #[error("a JSON {found}, not an object")]
    NotObject {
        /// Its type.
        found: &'static str,
    },
    /// `to` is missing or of a wrong type.
    #[error("no usable `to` at $.to")]
    To,
    /// `packet` is missing or no object.
    #[error("no object at $.packet")]
    Packet,
    /// The packet's type is missing, empty, no string, or the name of one of the packet's own fields.
    #[error("no usable type at $.packet.type")]
    Type,
}

/// Why a server ends a link (section 2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The server shuts down.
    GoingAway,
    /// The framing is broken.
    Protocol,
    /// A binary message.
    Unsupported,
    /// No JSON object in UTF-8.
    Malformed,
    /// A message over the limit.
    TooBig,
}

impl CloseReason {
    /// The WebSocket close code.
    pub fn code(self) -> u16 {
        match self {
            CloseReason::GoingAway => 1001,
            CloseReason::Protocol => 1002,
            CloseReason::Unsupported => 1003,
            CloseReason::Malformed => 1007,
            CloseReason::TooBig => 1009,
        }
    }
}

impl DecodeError {
    /// How the sender's link ends for it; a well-formed message of a wrong shape is only dropped.
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self {
            DecodeError::Malformed { .. } | DecodeError::NotObject { .. } => Some(CloseReason::Malformed),
            DecodeError::To | DecodeError::Packet | DecodeError::Type => None,
        }
    }
}
