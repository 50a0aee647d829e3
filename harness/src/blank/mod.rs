//! A folder for a protocol of one's own: a small example to change, or what an AsyncAPI document tells. Pure: file
//! names and texts come out, nothing is written here.

mod asyncapi;
mod schema;

use std::collections::BTreeMap;

pub use asyncapi::{Describes, from_asyncapi};

/// The files of a folder, by their path in it.
pub type Files = BTreeMap<String, String>;

const TEMPLATES: [(&str, &str); 9] = [
    ("protocol.toml", include_str!("../../templates/new/protocol.toml")),
    ("requirements.toml", include_str!("../../templates/new/requirements.toml")),
    ("rules.toml", include_str!("../../templates/new/rules.toml")),
    ("schema/hello.json", include_str!("../../templates/new/hello.json")),
    ("schema/welcome.json", include_str!("../../templates/new/welcome.json")),
    ("served.flow", include_str!("../../templates/new/served.flow")),
    ("flows/hello/welcome.flow", include_str!("../../templates/new/welcome.flow")),
    ("flows/hello/nonsense.flow", include_str!("../../templates/new/nonsense.flow")),
    ("sinners/wrong-name.toml", include_str!("../../templates/new/wrong-name.toml")),
];

/// What is wrong with a name for a protocol; `None` for a good one.
pub fn bad_name(name: &str) -> Option<&'static str> {
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Some("a protocol's name begins with a small letter");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (!name.chars().all(plain)).then_some("a protocol's name has small letters, digits and `-`")
}

/// What the ids of a protocol's requirements begin with.
fn prefix(name: &str) -> String {
    name.to_uppercase()
}

/// A small example, commented for those who change it.
pub fn example(name: &str) -> Files {
    let fill = |text: &str| text.replace("{name}", name).replace("{ID}", &prefix(name));
    TEMPLATES.iter().map(|(path, text)| ((*path).to_owned(), fill(text))).collect()
}
