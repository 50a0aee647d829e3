//! Each datagram by itself: one JSON object, in UTF-8, not too long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::{TCP, ends};
use crate::monitor::{Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What};

/// What every node reads (section 5).
const LONGEST: usize = 8192;
/// How much of a datagram a finding shows.
const SHOWN: usize = 500;

pub(super) struct Wire {
    datagrams: bool,
    /// Sockets of ours that have sent nothing but junk.
    junk_only: BTreeMap<SocketAddr, bool>,
    told: BTreeSet<SocketAddr>,
    /// Those whom the party under test may greet of its own accord: it was told of them.
    known: Option<BTreeSet<SocketAddr>>,
    /// Who got junk.
    target: Option<Party>,
}

impl Wire {
    pub(super) fn new(config: &MonitorConfig) -> Wire {
        Wire {
            datagrams: config.edition != TCP,
            junk_only: BTreeMap::new(),
            told: BTreeSet::new(),
            known: config.told.clone(),
            target: None,
        }
    }

    fn malformed(&self, text: &str, seen: &Seen<'_>, rulings: &mut Rulings) {
        let shown = Value::from(crate::pattern::json::cut(text, SHOWN));
        let whole = |text: &str| serde_json::from_str::<Value>(text).is_ok();
        let (requirement, message, expected) = if text.strip_prefix('\u{feff}').is_some_and(whole) {
            ("PTPCHAT-WIRE-4", "the message starts with a byte order mark", "UTF-8 without one")
        } else if text.contains('\u{fffd}') && whole(text) {
            ("PTPCHAT-WIRE-4", "the message is not UTF-8", "UTF-8")
        } else if has_more(text) {
            match self.datagrams {
                true => {
                    ("PTPCHAT-WIRE-3", "the datagram holds more than one JSON text", "exactly one message")
                }
                false => (
                    "PTPCHAT-TCP-1",
                    "the frame holds more than one JSON text",
                    "a length that fits one message",
                ),
            }
        } else if self.datagrams && text.contains("\"CONNECT\"") {
            ("PTPCHAT-CONN-18", "the CONNECT is not JSON", "a JSON object with all its braces")
        } else {
            ("PTPCHAT-WIRE-1", "the message is not JSON", "one JSON object")
        };
        rulings.broken(requirement, seen.from, seen.at, message, expected, shown);
    }

    /// Nobody is answered who has only sent what cannot be read.
    fn junk(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((from, to)) = ends(seen) else { return };
        if seen.to.under_test {
            let What::Text { text, json } = &seen.what else { return };
            // What might be taken for a message by a forgiving reader is no clear junk.
            let junk = !text.contains("msg_type") && !matches!(json, Ok(Value::Object(_)));
            let only = self.junk_only.entry(from).or_insert(true);
            *only &= junk;
            self.target = Some(seen.to.clone());
        } else if self.known.as_ref().is_none_or(|known| known.contains(&to)) && is_greeting(&seen.what) {
            self.junk_only.insert(to, false);
        } else if self.junk_only.get(&to) == Some(&true) && self.told.insert(to) {
            let message = "something was sent to a socket that had sent nothing but junk";
            let actual = match &seen.what {
                What::Text { text, .. } => Value::from(crate::pattern::json::cut(text, SHOWN)),
                _ => Value::Null,
            };
            rulings.broken("PTPCHAT-ROBUST-2", seen.from, seen.at, message, "silence", actual);
        }
    }
}

fn is_greeting(what: &What<'_>) -> bool {
    super::message(what).is_some_and(|said| said.verb == "HELLO")
}

/// True when a whole JSON object stands in the text, with more before or behind it.
fn has_more(text: &str) -> bool {
    let Some(start) = text.find('{') else { return false };
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    matches!(values.next(), Some(Ok(Value::Object(_))))
}

impl Monitor for Wire {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if self.datagrams {
            self.junk(seen, rulings);
        }
        if !seen.from.under_test {
            return;
        }
        if let What::Raw(fault) = &seen.what
            && !self.datagrams
        {
            let message = format!("the stream cannot be read: {}", String::from_utf8_lossy(fault));
            let expected = "a length of four bytes, most significant first, before each message";
            rulings.broken("PTPCHAT-TCP-1", seen.from, seen.at, message, expected, Value::Null);
            return;
        }
        let What::Text { text, json } = &seen.what else { return };
        // An empty frame keeps the stream open.
        if !self.datagrams && text.is_empty() {
            return;
        }
        match json {
            Err(NotJson::Malformed) => self.malformed(text, seen, rulings),
            Err(NotJson::BeyondUs) => {}
            Ok(Value::Object(object)) => {
                let mut good = vec!["PTPCHAT-WIRE-1", "PTPCHAT-WIRE-2", "PTPCHAT-WIRE-4"];
                if !self.datagrams {
                    good.push("PTPCHAT-TCP-1");
                } else {
                    good.push("PTPCHAT-WIRE-3");
                    if object.get("msg_type").is_some_and(|verb| verb == "CONNECT") {
                        good.push("PTPCHAT-CONN-18");
                    }
                }
                good.into_iter().for_each(|requirement| rulings.kept(requirement, seen.from, seen.at));
            }
            Ok(other) => {
                let message = format!("the message is a JSON {}", crate::pattern::json::type_name(other));
                let shown = Value::from(crate::pattern::json::cut(text, SHOWN));
                rulings.broken("PTPCHAT-WIRE-2", seen.from, seen.at, message, "a JSON object", shown);
            }
        }
        if !self.datagrams {
            return;
        }
        if text.len() > LONGEST {
            let message = format!("the datagram has {} bytes", text.len());
            let shown = Value::from(crate::pattern::json::cut(text, SHOWN));
            rulings.broken("PTPCHAT-WIRE-5", seen.from, seen.at, message, "at most 8192 bytes", shown);
        } else {
            rulings.kept("PTPCHAT-WIRE-5", seen.from, seen.at);
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        let unanswered = self.junk_only.iter().any(|(socket, only)| *only && !self.told.contains(socket));
        if let Some(target) = self.target.as_ref().filter(|_| unanswered) {
            rulings.kept("PTPCHAT-ROBUST-2", target, now);
        }
    }
}
