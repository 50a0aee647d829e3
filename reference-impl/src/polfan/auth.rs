//! The auth service by itself: trades login and password for a token (section 2.8).

use serde_json::Value;

use super::accounts::{AUTH_PATH, Accounts, plain};
use super::config::AuthConfig;
use crate::machine::{Input, Machine, Outbox, Time};

/// An auth service takes no commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthCommand {}

/// What an auth service tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthEvent {
    /// Somebody asked, and was answered with this HTTP status.
    Answered(u16),
}

/// The auth service of polfan.md section 2.8.
#[derive(Debug)]
pub struct Auth {
    accounts: Accounts,
}

impl Auth {
    /// A service for the configured users.
    pub fn new(config: &AuthConfig) -> Auth {
        Auth { accounts: Accounts::new(&config.users, config.tokens, config.seed, &config.faults) }
    }
}

impl Machine for Auth {
    type Command = AuthCommand;
    type Event = AuthEvent;

    fn handle(&mut self, _now: Time, input: Input<'_, AuthCommand>, out: &mut Outbox<AuthEvent>) {
        let Input::Requested { link, request } = input else { return };
        let response = if request.path == AUTH_PATH && !request.upgrade {
            self.accounts.answer(request).0
        } else {
            plain(404)
        };
        out.event(AuthEvent::Answered(response.status));
        out.respond(link, response);
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn command(name: &str, _with: &Value) -> Result<AuthCommand, String> {
        Err(format!("a polfan auth service cannot be told to `{name}`: it is told nothing"))
    }

    fn leave() -> Option<AuthCommand> {
        None
    }
}
