//! What is wrong with a flow file or a corpus, said so that one can mend it: where, what was expected and found, and
//! what to do. All messages are made by named functions here and in `messages.rs`.

mod messages;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::flow::ast::Span;

pub use messages::*;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

/// One thing that is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The place to mark.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// Short text at the mark.
    pub label: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(span: Span, message: impl Into<String>, label: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            span,
            message: message.into(),
            label: label.into(),
            hint: None,
        }
    }

    /// A warning.
    pub fn warning(span: Span, message: impl Into<String>, label: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(span, message, label) }
    }

    /// With what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// True for an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Shows diagnostics with the lines they are about.
pub fn render(diagnostics: &[Diagnostic], file_name: &str, source: &str, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let source = printable(source);
    let file_name = escape(file_name);
    let shown: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| {
            let level = match diagnostic.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let message = escape(&diagnostic.message);
            let label = escape(&diagnostic.label);
            let hint = diagnostic.hint.as_deref().map(escape);
            let span = within(diagnostic.span, &source);
            let snippet = Snippet::source(source.as_str())
                .path(file_name.as_str())
                .annotation(AnnotationKind::Primary.span(span.range()).label(label.as_str()));
            let mut group: Group<'_> = level.primary_title(message.as_str()).element(snippet);
            if let Some(hint) = &hint {
                group = group.element(Level::HELP.message(hint.as_str()));
            }
            renderer.render(&[group])
        })
        .collect();
    shown.join("\n\n")
}

/// A span that lies inside the text and on its character boundaries.
fn within(span: Span, source: &str) -> Span {
    let floor = |mut place: usize| {
        place = place.min(source.len());
        while !source.is_char_boundary(place) {
            place -= 1;
        }
        place
    };
    let start = floor(span.start);
    Span::new(start, floor(span.end.max(start)))
}

/// A text of the same length in which nothing moves a terminal's cursor.
fn printable(source: &str) -> String {
    source
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            // A character of the same length keeps all spans right.
            c if c.is_control() && c.len_utf8() == 1 => '?',
            c if c.is_control() => '\u{b7}',
            c => c,
        })
        .collect()
}

/// Text that may come from a stranger, with control characters and direction marks shown as escapes.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        );
        if (c.is_control() && c != '\n') || hidden {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}
