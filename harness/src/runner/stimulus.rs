//! What a client under test is told to do: one JSON line, `{"does": "send", "with": {...}}`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stimulus {
    /// What to do.
    pub does: String,
    /// With what; `null` for nothing.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub with: Value,
}

impl Stimulus {
    /// The line that is written to the program's standard input, without its end.
    pub fn line(&self) -> String {
        let mut line = serde_json::json!({ "does": self.does });
        if !self.with.is_null() {
            line["with"] = self.with.clone();
        }
        line.to_string()
    }

    /// Reads such a line. The error is text for a person.
    pub fn read(line: &str) -> Result<Stimulus, String> {
        let form = r#"a stimulus is one JSON line such as {"does": "send", "with": {"to": "*"}}"#;
        serde_json::from_str(line).map_err(|error| format!("{form}: {error}"))
    }
}
