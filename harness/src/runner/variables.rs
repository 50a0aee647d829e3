//! What flows know of the target from outside: settings with their defaults, what the user says, what the built-in
//! reference is set to, and tokens that are made where the key is known.

use std::collections::BTreeMap;

use ring::hmac;
use serde_json::{Value, json};

use crate::corpus::{Mint, Settings};

/// The variables of a run, beside the protocol's defaults. `given` is what the user says; `reference` is true for the
/// built-in reference, of which more is known.
pub fn variables(
    settings: &Settings,
    given: BTreeMap<String, String>,
    reference: bool,
) -> BTreeMap<String, String> {
    let mut variables = if reference { settings.reference.clone() } else { BTreeMap::new() };
    variables.extend(given.clone());
    // The reference takes its default as well as what is signed.
    let known = |mint: &&Mint| !reference || settings.setting_names().all(|name| *name != mint.variable);
    for mint in settings.mint.iter().filter(known) {
        if let (Some(key), None) = (variables.get(&mint.key), given.get(&mint.variable)) {
            let claims = serde_json::to_value(&mint.claims).unwrap_or_default();
            variables.insert(mint.variable.clone(), signed(key, &claims));
        }
    }
    variables
}

/// A JSON Web Token signed with HS256 (RFC 7515).
fn signed(key: &str, claims: &Value) -> String {
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let text = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    format!("{text}.{}", base64(hmac::sign(&key, text.as_bytes()).as_ref()))
}

/// Base64 in the alphabet for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let held =
            chunk.iter().fold(0_u32, |held, byte| (held << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(DIGITS[(held >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_as_the_standard_says() {
        // The parts were made with another implementation.
        let token = signed(
            "the reference's secret, known to everybody",
            &json!({"id":"api","iat":1584748800,"exp":4102444800_u64}),
        );
        let expected = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                        eyJpZCI6ImFwaSIsImlhdCI6MTU4NDc0ODgwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.\
                        rLKXw2m0Brsful2DWQZMv2NNppTbKMwy8dRY3pFHdMs";
        assert_eq!(token, expected);
    }
}
