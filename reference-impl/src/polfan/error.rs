//! What can go wrong with a command, and the one place where that becomes a code, a text and an HTTP status.

use thiserror::Error;

/// Why a command is not carried out (sections 2.4 and 2.7).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// The token is missing, unknown or revoked.
    #[error("the token is not valid")]
    Authentication,
    /// A permission is missing.
    #[error("you are not permitted to do this")]
    AccessDenied,
    /// The message cannot be read as a command.
    #[error("{0}")]
    Protocol(#[from] DecodeError),
    /// There is no such role, or it is not held.
    #[error("there is no such role here")]
    RoleNotFound,
    /// The role is held already.
    #[error("this member has the role already")]
    RoleExists,
    /// There is no such room.
    #[error("there is no such room")]
    RoomNotFound,
    /// There is no such space.
    #[error("there is no such space")]
    SpaceNotFound,
    /// There is no such topic.
    #[error("there is no such topic")]
    TopicNotFound,
    /// The server is at fault; only planted faults say this.
    #[error("something went wrong")]
    Unexpected,
    /// The user is a member already.
    #[error("you are here already")]
    UserExists,
    /// The user is no member, or there is no such user.
    #[error("there is no such user here")]
    UserNotFound,
}

impl CommandError {
    /// The `code` of the `Error` event.
    pub fn code(&self) -> &'static str {
        match self {
            CommandError::Authentication => "AuthenticationException",
            CommandError::AccessDenied => "AccessDeniedException",
            CommandError::Protocol(_) => "ProtocolException",
            CommandError::RoleNotFound => "RoleNotFoundException",
            CommandError::RoleExists => "RoleExistsAlreadyException",
            CommandError::RoomNotFound => "RoomNotFoundException",
            CommandError::SpaceNotFound => "SpaceNotFoundException",
            CommandError::TopicNotFound => "TopicNotFoundException",
            CommandError::Unexpected => "UnexpectedServerException",
            CommandError::UserExists => "UserExistsAlreadyException",
            CommandError::UserNotFound => "UserNotFoundException",
        }
    }

    /// The HTTP status of the answer in WebAPI.
    pub fn status(&self) -> u16 {
        match self {
            CommandError::Protocol(_) => 400,
            CommandError::Authentication => 401,
            CommandError::AccessDenied => 403,
            CommandError::Unexpected => 500,
            _ => 422,
        }
    }
}

/// Why a message is no command (section 5).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// A binary message.
    #[error("commands come as text")]
    Binary,
    /// `data` is missing, or no object, where fields are needed.
    #[error("no object at $.data")]
    Data,
    /// A field of `data` is missing or has a wrong type.
    #[error("no usable value at $.data.{0}")]
    Field(&'static str),
    /// An id is no UUID.
    #[error("no UUID at $.data.{0}")]
    MalformedId(&'static str),
    /// The bytes are no JSON, or nested too deeply.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// `meta` is missing or no object.
    #[error("no object at $.meta")]
    Meta,
    /// JSON, but no object.
    #[error("a JSON object is wanted")]
    NotObject,
    /// `meta.ref` is neither null nor text of at most 36 characters.
    #[error("no usable ref at $.meta.ref")]
    Reference,
    /// The ids of a place contradict each other.
    #[error("the ids do not belong together")]
    Contradiction,
    /// `meta.type` is missing or no command.
    #[error("no known command at $.meta.type")]
    Type,
    /// A member that no command has; only planted faults mind.
    #[error("a member that is not known")]
    UnknownMember,
}
