//! Who may register (clusterio.md 2.4): a set of accepted strings, and JSON Web Tokens signed with a secret.

use std::collections::BTreeSet;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};

/// The tokens that a master accepts.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// These, as they are.
    pub accepted: BTreeSet<String>,
    /// JSON Web Tokens signed with this text, until they expire.
    pub secret: Option<String>,
    /// The time at the start of the run, in seconds since 1970: a machine has no clock of its own.
    pub began: u64,
}

/// What a token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Good,
    Expired,
    Unsigned,
    Worthless,
}

impl Tokens {
    /// What `token` is worth so many seconds after the start.
    pub(super) fn worth(&self, token: &str, seconds: u64) -> Worth {
        if self.accepted.contains(token) {
            return Worth::Good;
        }
        let mut parts = token.split('.');
        let (Some(head), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Worth::Worthless;
        };
        let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).ok();
        let (Some(header), Some(claims), Some(signature)) = (json(head), json(body), decode(signature))
        else {
            return Worth::Worthless;
        };
        let signed = &token.as_bytes()[..head.len() + 1 + body.len()];
        let verified = self.secret.as_ref().is_some_and(|secret| match header["alg"].as_str() {
            Some("HS256") => is_signed::<Hmac<Sha256>>(secret, signed, &signature),
            Some("HS384") => is_signed::<Hmac<Sha384>>(secret, signed, &signature),
            Some("HS512") => is_signed::<Hmac<Sha512>>(secret, signed, &signature),
            _ => false,
        });
        let expired = claims["exp"].as_f64().is_some_and(|until| until <= (self.began + seconds) as f64);
        match (verified, expired) {
            (true, false) => Worth::Good,
            (true, true) => Worth::Expired,
            (false, _) if header["alg"] == "none" => Worth::Unsigned,
            (false, _) => Worth::Worthless,
        }
    }
}

fn is_signed<M: Mac + KeyInit>(secret: &str, signed: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(signed);
    mac.verify_slice(signature).is_ok()
}

/// Base64 in the alphabet for URLs, without padding (RFC 7515).
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}
