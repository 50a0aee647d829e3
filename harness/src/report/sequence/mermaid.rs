//! A diagram as Mermaid text, which code hosts and wikis draw.

use super::{Arrow, Diagram, Frame, Item, Mark};
use crate::diagnostic::escape;
use crate::pattern::json;

/// Characters shown of what travels.
const LABEL: usize = 160;

/// Writes a diagram as a `sequenceDiagram`.
pub fn mermaid(diagram: &Diagram) -> String {
    let mut text = "sequenceDiagram\n".to_owned();
    for (place, name) in diagram.lifelines.iter().enumerate() {
        text.push_str(&format!("  participant p{place} as {}\n", words(name)));
    }
    let mut depth = 1;
    let last = diagram.lifelines.len().saturating_sub(1);
    for item in &diagram.items {
        if matches!(item, Item::Close | Item::Else(_)) {
            depth -= 1;
        }
        let line = match item {
            Item::Arrow(arrow) => message(arrow),
            Item::Note(note) => format!("Note over p0,p{last}: {}", words(note)),
            Item::Open(Frame::Alternatives, title) => format!("alt {}", words(title)),
            Item::Open(Frame::Optional, title) => format!("opt {}", words(title)),
            Item::Open(Frame::Loop, title) => format!("loop {}", words(title)),
            Item::Open(Frame::Region, title) => {
                format!(
                    "rect rgba(128, 128, 128, 0.15)\n{}Note over p0,p{last}: {}",
                    "  ".repeat(depth + 1),
                    words(title)
                )
            }
            Item::Else(title) => format!("else {}", words(title)),
            Item::Close => "end".to_owned(),
        };
        text.push_str(&format!("{}{line}\n", "  ".repeat(depth)));
        if matches!(item, Item::Open(..) | Item::Else(_)) {
            depth += 1;
        }
    }
    text
}

fn message(arrow: &Arrow) -> String {
    let stroke = match arrow.mark {
        Mark::Plain | Mark::Doubtful => "->>",
        Mark::Failing => "-x",
        Mark::Missing => "--x",
    };
    let cites = if arrow.cites.is_empty() { String::new() } else { format!(" [{}]", arrow.cites.join(" ")) };
    let at = arrow.at.map(|at| format!("{at} ")).unwrap_or_default();
    let label = format!("{at}{}{cites}", json::cut(&arrow.label, LABEL));
    let label = if label.is_empty() { "-".to_owned() } else { words(&label) };
    format!("p{}{stroke}p{}: {label}", arrow.from, arrow.to)
}

/// Text in which Mermaid finds no syntax and no markup.
fn words(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in escape(text).chars() {
        match c {
            '\n' => safe.push(' '),
            '#' | ';' | '<' | '>' | '%' | '&' | '"' | '`' | '\\' => {
                safe.push_str(&format!("#{};", u32::from(c)))
            }
            c => safe.push(c),
        }
    }
    safe
}
