//! Values that must not be printed: they are taken out of everything a run tells before anybody sees it.

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use crate::judge::finding::Finding;
use crate::runner::event::RunEvent;
use crate::runner::verdict::FlowResult;

/// So much of a secret at the end of a text that was cut is still a secret.
const BEGINNING: usize = 4;

/// Secrets by the names of their variables.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Every way a secret may be written, longest first, with what stands for it.
    forms: Vec<(String, String)>,
    /// Members of messages whose texts are secret, and how they look in JSON, however often that was escaped.
    members: Vec<String>,
    written: Option<Regex>,
}

impl Secrets {
    /// From names and values; an empty value is no secret.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a String, &'a String)>) -> Secrets {
        let mut forms: Vec<(String, String)> = Vec::new();
        for (name, value) in secrets {
            let stand_in = format!("<secret {name}>");
            let json = Value::from(value.as_str()).to_string();
            let debug = format!("{value:?}");
            for form in
                [value.as_str(), &json[1..json.len() - 1], &debug[1..debug.len() - 1], &percent(value)]
            {
                if !form.is_empty() && !forms.iter().any(|(known, _)| known == form) {
                    forms.push((form.to_owned(), stand_in.clone()));
                }
            }
        }
        forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        Secrets { forms, ..Secrets::default() }
    }

    /// Besides, the texts of these members of messages: what somebody else's program says there is unknown before.
    #[must_use]
    pub fn with_members(mut self, members: impl IntoIterator<Item = String>) -> Secrets {
        self.members.extend(members);
        let names: Vec<String> = self.members.iter().map(|name| regex::escape(name)).collect();
        let pattern = format!(r#"(\\*"({})\\*"\s*:\s*\\*")([^"\\…]+)"#, names.join("|"));
        self.written = if names.is_empty() { None } else { Regex::new(&pattern).ok() };
        self
    }

    /// A text without secrets.
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (form, stand_in) in &self.forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), stand_in);
            }
            self.hide_beginnings(&mut text, form, stand_in);
        }
        if let Some(written) = &self.written {
            let stand_in = |found: &Captures<'_>| format!("{}<secret {}>", &found[1], &found[2]);
            text = written.replace_all(&text, stand_in).into_owned();
        }
        text
    }

    /// Where a text was cut (`…`), the beginning of a secret may be left.
    fn hide_beginnings(&self, text: &mut String, form: &str, stand_in: &str) {
        let cuts: Vec<usize> = text.match_indices('…').map(|(place, _)| place).rev().collect();
        for cut in cuts {
            let beginning = form
                .char_indices()
                .rev()
                .map(|(end, _)| &form[..end])
                .take_while(|beginning| beginning.len() >= BEGINNING)
                .find(|beginning| text[..cut].ends_with(*beginning));
            if let Some(beginning) = beginning {
                text.replace_range(cut - beginning.len()..cut, stand_in);
            }
        }
    }

    fn hide_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.hide(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_value(item)),
            Value::Object(members) => {
                let hidden = std::mem::take(members).into_iter().map(|(key, mut value)| {
                    match &mut value {
                        Value::String(text) if !text.is_empty() && self.members.contains(&key) => {
                            *text = format!("<secret {key}>");
                        }
                        value => self.hide_value(value),
                    }
                    (self.hide(&key), value)
                });
                *members = hidden.collect::<Map<String, Value>>();
            }
            Value::Number(number) => {
                let text = number.to_string();
                if let Some((_, stand_in)) = self.forms.iter().find(|(form, _)| *form == text) {
                    *value = Value::from(stand_in.as_str());
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Takes the secrets out of what a run tells.
    pub fn hide_event(&self, event: &mut RunEvent) {
        if self.forms.is_empty() && self.members.is_empty() {
            return;
        }
        match event {
            RunEvent::Begun { target, skipped, .. } => {
                target.address = self.hide(&target.address);
                *skipped = std::mem::take(skipped)
                    .into_iter()
                    .map(|(reason, count)| (self.hide(&reason), count))
                    .collect();
            }
            RunEvent::FlowEnded(flow) => self.hide_flow(flow),
            RunEvent::FlowStarted { .. } | RunEvent::Ended { .. } => {}
        }
    }

    /// Takes the secrets out of a finding.
    pub fn hide_finding(&self, finding: &mut Finding) {
        finding.message = self.hide(&finding.message);
        finding.expected = self.hide(&finding.expected);
        self.hide_value(&mut finding.actual);
    }

    fn hide_flow(&self, flow: &mut FlowResult) {
        flow.reason = flow.reason.as_deref().map(|reason| self.hide(reason));
        flow.findings.iter_mut().for_each(|finding| self.hide_finding(finding));
        flow.transcript.each_text(|text| *text = self.hide(text));
    }
}

/// As it stands in a URL.
fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_however_it_is_written() {
        let (name, value) = ("token".to_owned(), "p\"w/ord é".to_owned());
        let secrets = Secrets::new([(&name, &value)]);
        for text in [
            "x p\"w/ord é y".to_owned(),
            serde_json::json!({"a": value}).to_string(),
            format!("connects to /?t={}", percent(&value)),
            format!("{value:?}"),
        ] {
            let hidden = secrets.hide(&text);
            assert!(hidden.contains("<secret token>") && !hidden.contains("ord"), "{hidden}");
        }
        assert_eq!(secrets.hide("say p\"w/o… (900 bytes)"), "say <secret token>… (900 bytes)");
        assert_eq!(secrets.hide("nothing"), "nothing");
    }

    #[test]
    fn texts_of_secret_members_are_hidden_wherever_they_are_written() {
        let secrets = Secrets::default().with_members(["token".to_owned()]);
        let message = serde_json::json!({"token": "abc.def", "tokens": "x", "data": {"token": 7}});
        let mut found = message.clone();
        secrets.hide_value(&mut found);
        assert_eq!(
            found,
            serde_json::json!({"token": "<secret token>", "tokens": "x", "data": {"token": 7}})
        );
        let (text, twice) = (message.to_string(), Value::from(message.to_string()).to_string());
        for text in [text, twice, r#"{"token" : "abc.d… (900 bytes)"#.to_owned()] {
            let hidden = secrets.hide(&text);
            assert!(hidden.contains("<secret token>") && !hidden.contains("abc"), "{hidden}");
        }
    }

    #[test]
    fn a_secret_number_is_hidden_too() {
        let (name, value) = ("pin".to_owned(), "4711".to_owned());
        let mut found = serde_json::json!({"4711": [4711, 47110], "a": "x4711"});
        Secrets::new([(&name, &value)]).hide_value(&mut found);
        assert_eq!(found, serde_json::json!({"<secret pin>": ["<secret pin>", 47110], "a": "x<secret pin>"}));
    }
}
