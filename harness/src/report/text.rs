//! Colours and widths of text in a terminal.

/// What colours mean here; empty strings where there are none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// With or without colours.
    pub fn new(colour: bool) -> Style {
        Style { colour }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Something held.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Something to look at.
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Something was broken.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Not flowproof's subject, but its environment's.
    pub fn strange(self, text: &str) -> String {
        self.paint("35", text)
    }

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// More important.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }
}

/// Text broken into lines of at most `width` characters, at blanks where there are some.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let mut word = word;
            while word.chars().count() > width {
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                }
                let end = word.char_indices().nth(width).map_or(word.len(), |(place, _)| place);
                lines.push(word[..end].to_owned());
                word = &word[end..];
            }
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// A word for a shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
