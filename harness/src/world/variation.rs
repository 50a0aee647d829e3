//! Lawful variation: an honest reference that says the same in other words and at other times. JSON has many spellings,
//! and networks many delays; a judge that minds one of them accuses somebody who keeps the rules.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use flowproof_reference::driver::host::{Filter, ReceivedFrame, WireAction};
use flowproof_reference::machine::{LinkId, Message, Response, Time};
use serde_json::Value;

/// The longest that a message is on its way.
const LATENCY: Duration = Duration::from_millis(40);
/// Longer texts stay as they are: limits on the size of messages count their bytes.
const SPELLED_ANEW: usize = 2000;

/// Spells messages anew and holds them up a little, each link in its order.
pub struct Variation {
    rng: Rng,
    /// When the last message of a link is through.
    last: BTreeMap<LinkId, Time>,
    /// What is on its way, in the order of its arrival.
    under_way: BTreeMap<(Time, u64), (LinkId, WireAction)>,
    count: u64,
}

impl Variation {
    /// The variation of a seed.
    pub fn new(seed: u64) -> Variation {
        Variation { rng: Rng::with_seed(seed), last: BTreeMap::new(), under_way: BTreeMap::new(), count: 0 }
    }

    fn spelled_anew(&mut self, text: String) -> String {
        if text.len() > SPELLED_ANEW {
            return text;
        }
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                let mut anew = String::new();
                self.spell(&value, &mut anew);
                anew
            }
            Err(_) => text,
        }
    }

    fn spell(&mut self, value: &Value, into: &mut String) {
        self.space(into);
        match value {
            Value::Object(members) => {
                let mut members: Vec<(&String, &Value)> = members.iter().collect();
                self.rng.shuffle(&mut members);
                into.push('{');
                for (place, (key, value)) in members.into_iter().enumerate() {
                    if place > 0 {
                        into.push(',');
                    }
                    self.space(into);
                    self.spell_text(key, into);
                    self.space(into);
                    into.push(':');
                    self.spell(value, into);
                }
                into.push('}');
            }
            Value::Array(items) => {
                into.push('[');
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        into.push(',');
                    }
                    self.spell(item, into);
                }
                self.space(into);
                into.push(']');
            }
            Value::String(text) => self.spell_text(text, into),
            Value::Null | Value::Bool(_) | Value::Number(_) => into.push_str(&value.to_string()),
        }
        self.space(into);
    }

    fn spell_text(&mut self, text: &str, into: &mut String) {
        into.push('"');
        for character in text.chars() {
            if self.rng.u8(..) < 16 {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    into.push_str(&format!("\\u{unit:04x}"));
                }
            } else if character == '/' && self.rng.bool() {
                into.push_str("\\/");
            } else {
                let quoted = Value::from(character.to_string()).to_string();
                into.push_str(quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default());
            }
        }
        into.push('"');
    }

    fn space(&mut self, into: &mut String) {
        if self.rng.u8(..) < 24 {
            into.push_str(self.rng.choice([" ", "\t", "\n", "\r\n", "   "]).unwrap_or_default());
        }
    }
}

impl Filter for Variation {
    fn outgoing(
        &mut self,
        now: Time,
        link: LinkId,
        action: WireAction,
        _open: &[LinkId],
        _out: &mut Vec<(LinkId, WireAction)>,
    ) {
        let action = match action {
            WireAction::Send(Message::Text(text)) => WireAction::Send(Message::Text(self.spelled_anew(text))),
            WireAction::Respond(Response { status, headers, body }) => {
                let body = match String::from_utf8(body) {
                    Ok(text) => self.spelled_anew(text).into_bytes(),
                    Err(error) => error.into_bytes(),
                };
                WireAction::Respond(Response { status, headers, body })
            }
            other => other,
        };
        let through = now + LATENCY.mul_f64(self.rng.f64());
        let last = self.last.entry(link).or_default();
        *last = (*last).max(through);
        self.count += 1;
        self.under_way.insert((*last, self.count), (link, action));
    }

    fn incoming(&mut self, _now: Time, _link: LinkId, frame: ReceivedFrame, out: &mut Vec<ReceivedFrame>) {
        out.push(frame);
    }

    fn deadline(&self) -> Option<Time> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }

    fn due(&mut self, now: Time, out: &mut Vec<(LinkId, WireAction)>) {
        while let Some(first) = self.under_way.first_entry().filter(|first| first.key().0 <= now) {
            out.push(first.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spelled_anew_says_the_same() {
        let text = r#"{"a/b":["x\"y\\z\n\u0001ż😀",1,-2.5,null,{"":true}],"c":"\"\"","d":{}}"#;
        let value: Value = serde_json::from_str(text).expect("JSON");
        let mut spellings = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let anew = Variation::new(seed).spelled_anew(text.to_owned());
            assert_eq!(serde_json::from_str::<Value>(&anew).ok().as_ref(), Some(&value), "{anew}");
            spellings.insert(anew);
        }
        assert!(spellings.len() > 190, "{}", spellings.len());
    }

    #[test]
    fn each_link_keeps_its_order() {
        let mut variation = Variation::new(7);
        for number in 0..100_u64 {
            let link = LinkId(number % 3);
            let message = WireAction::Send(Message::Text(number.to_string()));
            variation.outgoing(
                Time::from_start(Duration::from_millis(number)),
                link,
                message,
                &[],
                &mut Vec::new(),
            );
        }
        let mut out = Vec::new();
        variation.due(Time::from_start(Duration::from_secs(1)), &mut out);
        assert_eq!(out.len(), 100);
        for one in 0..3 {
            let of_link: Vec<u64> = out
                .iter()
                .filter(|(link, _)| link.0 == one)
                .filter_map(|(_, action)| match action {
                    WireAction::Send(Message::Text(text)) => text.trim().parse().ok(),
                    _ => None,
                })
                .collect();
            assert!(of_link.is_sorted() && of_link.len() >= 33, "{of_link:?}");
        }
        assert_eq!(variation.deadline(), None);
    }
}
