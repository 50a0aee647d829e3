//! Users, passwords and tokens: what the auth service gives out and the server checks. Also the HTTP side of the auth
//! service (section 2.8), which the server offers beside its own.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Value, json};

use super::config::{Fault, UserConfig};
use super::message::Id;
use crate::machine::{Request, Response};

/// Where tokens are asked for.
pub(super) const AUTH_PATH: &str = "/webservice/auth/token";
/// The one moment at which all tokens of the reference expire.
const EXPIRATION: &str = "2030-01-01T00:00:00Z";

/// All accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    users: Vec<UserConfig>,
    /// Valid tokens with their users, oldest first.
    tokens: Vec<(String, String)>,
    limit: usize,
    rng: Rng,
    faults: BTreeSet<Fault>,
}

impl Accounts {
    pub(super) fn new(users: &[UserConfig], limit: usize, seed: u64, faults: &BTreeSet<Fault>) -> Accounts {
        let tokens =
            users.iter().flat_map(|user| user.tokens.iter().map(|token| (token.clone(), user.id.clone())));
        Accounts {
            tokens: tokens.collect(),
            users: users.to_vec(),
            limit,
            // Not the stream of the ids, so that a token tells nothing about them.
            rng: Rng::with_seed(seed ^ 0x70_6f_6c_66_61_6e),
            faults: faults.clone(),
        }
    }

    /// The user that a token belongs to.
    pub(super) fn user(&self, token: &str) -> Option<&str> {
        self.tokens.iter().find(|(known, _)| known == token).map(|(_, user)| user.as_str())
    }

    /// The first user of the configuration; for a fault.
    pub(super) fn anybody(&self) -> Option<&str> {
        self.users.first().map(|user| user.id.as_str())
    }

    /// Answers a request to [`AUTH_PATH`]. With the answer, the tokens that stopped being valid.
    pub(super) fn answer(&mut self, request: &Request) -> (Response, Vec<String>) {
        if request.method != "POST" {
            return (plain(405), Vec::new());
        }
        let body: Option<Value> = serde_json::from_slice(&request.body).ok();
        let field = |name: &str| body.as_ref().and_then(|body| body.get(name)).and_then(Value::as_str);
        let (Some(login), Some(password)) = (field("login"), field("password")) else {
            return (json_response(400, &json!({ "errors": ["login and password are wanted"] })), Vec::new());
        };
        let any = self.faults.contains(&Fault::AnyPassword);
        let user = self.users.iter().find(|user| user.login == login && (any || user.password == password));
        let Some(user) = user.map(|user| user.id.clone()) else {
            let text = "Invalid login or password";
            let as_text = self.faults.contains(&Fault::AuthErrorsAsText);
            let errors = if as_text { Value::from(text) } else { json!([text]) };
            return (json_response(401, &json!({ "errors": errors })), Vec::new());
        };
        let token = Id::drawn(self.rng.u128(..)).as_str().replace('-', "");
        self.tokens.push((token.clone(), user.clone()));
        let mut revoked = Vec::new();
        while self.tokens.iter().filter(|(_, owner)| *owner == user).count() > self.limit {
            let Some(oldest) = self.tokens.iter().position(|(_, owner)| *owner == user) else { break };
            revoked.push(self.tokens.remove(oldest).0);
        }
        let answer = if self.faults.contains(&Fault::AuthWithoutExpiration) {
            json!({ "token": token })
        } else {
            json!({ "token": token, "expiration": EXPIRATION })
        };
        (json_response(200, &answer), revoked)
    }
}

/// An answer with a JSON body.
pub(super) fn json_response(status: u16, body: &Value) -> Response {
    text_response(status, body.to_string())
}

/// An answer whose body is JSON text.
pub(super) fn text_response(status: u16, body: String) -> Response {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Response { status, headers, body: body.into_bytes() }
}

/// An answer without a body.
pub(super) fn plain(status: u16) -> Response {
    Response { status, ..Response::default() }
}
