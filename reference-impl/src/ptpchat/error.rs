//! Why a message is dropped. Nothing of it goes on the wire: the protocol has no error message (section 5).

use thiserror::Error;

/// Why a datagram or frame is not a message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are no JSON text.
    #[error("not JSON: {detail}")]
    Malformed {
        /// What the parser said.
        detail: String,
    },
    /// A JSON value that is no object.
    #[error("not an object at $")]
    NotObject,
    /// Nested deeper than is read.
    #[error("nested too deeply")]
    TooDeep,
    /// `msg_type` is missing or no string.
    #[error("no usable verb at $.msg_type")]
    Verb,
    /// A verb that is not in the edition's list.
    #[error("unknown verb `{verb}` at $.msg_type")]
    UnknownVerb {
        /// What stands there.
        verb: String,
    },
    /// `msg_data` is neither an object nor null nor absent.
    #[error("neither object nor null at $.msg_data")]
    Data,
    /// A required field is missing or null.
    #[error("missing field `{field}`")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field has a wrong type or form.
    #[error("unusable field `{field}`")]
    Field {
        /// Its name.
        field: &'static str,
    },
}
