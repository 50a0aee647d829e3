//! Reads flow files by recursive descent. An error does not end the reading: the rest of the step is passed over, so
//! that one look shows everything that is wrong with a file.

mod header;
mod pattern;
mod step;

use super::ast::{Flow, HeaderLine, Name, Pattern, Payload, Span, Trivia};
use crate::diagnostic::{self, Diagnostic};

/// Errors after which the rest of a file is not read.
const ERRORS: usize = 100;
/// Brackets and blocks that may stand inside each other.
const DEPTH: u32 = 48;

/// A diagnostic was recorded; the step cannot be read.
#[derive(Debug)]
pub(super) struct Failed;
pub(super) type Parsed<T> = Result<T, Failed>;

/// Reads a whole file. The tree holds what could be read; nothing is lost without a diagnostic.
pub fn parse(source: &str) -> (Flow, Vec<Diagnostic>) {
    let mut parser = Parser::new(source);
    let flow = parser.flow();
    (flow, parser.diagnostics)
}

/// Reads one pattern, as the files of a corpus hold them.
pub fn parse_pattern(source: &str) -> Result<Pattern, Vec<Diagnostic>> {
    whole(source, Parser::pattern)
}

/// Reads one payload: a pattern, or `text`, `binary`, `ping` and the like.
pub fn parse_payload(source: &str) -> Result<Payload, Vec<Diagnostic>> {
    whole(source, Parser::payload)
}

fn whole<'a, T>(
    source: &'a str,
    read: impl FnOnce(&mut Parser<'a>) -> Parsed<T>,
) -> Result<T, Vec<Diagnostic>> {
    let mut parser = Parser::new(source);
    // No line ends here: the text is one pattern, wherever its lines break.
    parser.brackets = 1;
    parser.blanks();
    let read = read(&mut parser);
    parser.blanks();
    if read.is_ok() && parser.at < source.len() {
        let found = parser.found();
        parser.diagnostics.push(diagnostic::expected(found.1, "nothing more", &found.0));
    }
    match read {
        Ok(value) if parser.diagnostics.is_empty() => Ok(value),
        _ => Err(parser.diagnostics),
    }
}

pub(super) struct Parser<'a> {
    source: &'a str,
    at: usize,
    diagnostics: Vec<Diagnostic>,
    /// Open brackets of the pattern being read; inside them a newline is a blank.
    brackets: u32,
    /// Closing braces to come whose opening ones were missing or passed over: no more is said of them.
    stray: u32,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Self {
        Parser { source, at: 0, diagnostics: Vec::new(), brackets: 0, stray: 0, depth: 0 }
    }

    fn flow(&mut self) -> Flow {
        let mut header: Vec<HeaderLine> = Vec::new();
        let mut leading = self.trivia();
        while self.at_header_word() {
            match self.header_line(std::mem::take(&mut leading)) {
                Ok(line) => header.push(line),
                Err((Failed, start, kept)) => {
                    self.recover(start);
                    leading = kept;
                    leading.append(&mut self.trivia());
                    continue;
                }
            }
            leading = self.trivia();
        }
        let (steps, trailing) = self.steps(leading, None);
        Flow { header, steps, trailing }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn here(&self) -> Span {
        Span::new(self.at, self.at + self.peek().map_or(0, char::len_utf8))
    }

    /// Passes over blanks; inside brackets over newlines too.
    fn blanks(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' => self.at += 1,
                '\n' if self.brackets > 0 => self.at += 1,
                _ => break,
            }
        }
    }

    /// Comments and empty lines from here to the next thing said.
    fn trivia(&mut self) -> Vec<Trivia> {
        let mut trivia = Vec::new();
        let mut newlines = 0;
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\n') => {
                    self.at += 1;
                    newlines += 1;
                }
                Some('#') => {
                    if newlines > 1 || (newlines == 1 && self.is_blank_before()) {
                        trivia.push(Trivia::Blank);
                    }
                    let text = self.comment_text();
                    trivia.push(Trivia::Comment(text));
                    newlines = 0;
                    // The newline that ends the comment is part of it.
                    if self.peek() == Some('\n') {
                        self.at += 1;
                        newlines = 0;
                        if self.rest().trim_start_matches([' ', '\t', '\r']).starts_with('\n') {
                            newlines = 1;
                        }
                    }
                }
                _ => {
                    if newlines > 0 && (newlines > 1 || self.is_blank_before()) {
                        trivia.push(Trivia::Blank);
                    }
                    return trivia;
                }
            }
        }
    }

    /// True when the line before this one is empty.
    fn is_blank_before(&self) -> bool {
        let before = self.source[..self.at].trim_end_matches([' ', '\t', '\r']);
        let Some(before) = before.strip_suffix('\n') else { return false };
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.trim().is_empty() && !before.is_empty()
    }

    /// The comment that begins here, up to the end of the line.
    fn comment_text(&mut self) -> String {
        let end = self.rest().find('\n').unwrap_or(self.rest().len());
        let text = self.rest()[..end].trim_start_matches('#').trim_end().to_owned();
        self.at += end;
        text
    }

    /// A comment behind something on the same line, then the end of the line.
    fn end_of_line(&mut self) -> Parsed<Option<String>> {
        self.blanks();
        let comment = (self.peek() == Some('#')).then(|| self.comment_text());
        match self.peek() {
            None | Some('\n' | '}') => Ok(comment),
            _ => match self.requirement_like() {
                Some(span) => self.report(diagnostic::bare_citation(span, &self.source[span.range()])),
                None => self.wrong("the end of the line"),
            },
        }
    }

    /// Passes over the rest of something that could not be read: to the end of the line on which its brackets close.
    fn recover(&mut self, start: usize) {
        self.brackets = 0;
        if self.diagnostics.len() >= ERRORS {
            // Whoever mends these will look again; a file that is no flow at all need not be read to its end.
            let rest = Span::new(self.at, self.at);
            self.diagnostics.push(diagnostic::too_many_errors(rest));
            self.at = self.source.len();
            return;
        }
        let mut depth = 0_i32;
        let mut quote: Option<char> = None;
        let mut escaped = false;
        let mut comment = false;
        let begin = self.at.max(start);
        for (place, c) in self.source[start..].char_indices() {
            let place = start + place;
            if c == '\n' {
                quote = None;
                comment = false;
                // A bracket that is never closed must not hide the steps below it.
                if place >= begin && (depth <= 0 || begins_step(&self.source[place + 1..])) {
                    let opens_block = self.source[start..place].trim_end().ends_with('{');
                    self.stray += u32::from(depth > 0 && opens_block);
                    self.at = place;
                    return;
                }
                continue;
            }
            if comment {
                continue;
            }
            if let Some(open) = quote {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if open == '"' => escaped = true,
                    c if c == open => quote = None,
                    _ => {}
                }
                continue;
            }
            match c {
                '"' | '`' => quote = Some(c),
                '#' => comment = true,
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => {
                    depth -= 1;
                    // The brace of a block around us is not ours.
                    if depth < 0 && place >= begin {
                        self.at = place;
                        return;
                    }
                }
                _ => {}
            }
        }
        self.at = self.source.len();
    }

    /// What stands here, for a message.
    fn found(&self) -> (String, Span) {
        match self.peek() {
            None => ("the end of the file".to_owned(), self.here()),
            Some('\n') => ("the end of the line".to_owned(), Span::new(self.at, self.at)),
            Some(c) if is_word(c) => {
                let word: String = self.rest().chars().take_while(|c| is_word(*c)).take(40).collect();
                let span = Span::new(self.at, self.at + word.len());
                (format!("`{word}`"), span)
            }
            Some(c) => (format!("`{c}`"), self.here()),
        }
    }

    fn wrong<T>(&mut self, wanted: &str) -> Parsed<T> {
        if self.brackets > 0 && self.peek() == Some('#') {
            let end = self.at + self.rest().find('\n').unwrap_or(self.rest().len());
            return self.report(diagnostic::misplaced_comment(Span::new(self.at, end)));
        }
        let (found, span) = self.found();
        self.diagnostics.push(diagnostic::expected(span, wanted, &found));
        Err(Failed)
    }

    fn report<T>(&mut self, diagnostic: Diagnostic) -> Parsed<T> {
        self.diagnostics.push(diagnostic);
        Err(Failed)
    }

    /// The word that stands here, not taken.
    fn peek_word(&self) -> &'a str {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return "";
        }
        let mut end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        // `alice.punch`: a dot with a letter behind it goes on with the name.
        while rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_alphabetic()) {
            let more = &rest[end + 1..];
            end += 1 + more.find(|c: char| !is_word(c)).unwrap_or(more.len());
        }
        // `alice->server`: the dash belongs to the arrow.
        if rest[end..].starts_with('>') && rest[..end].ends_with('-') {
            end -= 1;
        }
        &rest[..end]
    }

    /// Takes `word` if it stands here as a whole word.
    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let found = self.peek_word() == word;
        if found {
            self.at += word.len();
        }
        found
    }

    fn name(&mut self, wanted: &str) -> Parsed<Name> {
        self.blanks();
        let word = self.peek_word();
        if word.is_empty() {
            return self.wrong(wanted);
        }
        let start = self.at;
        self.at += word.len();
        Ok(Name { text: word.to_owned(), span: Span::new(start, self.at) })
    }

    /// Takes `sign` if it stands here.
    fn sign(&mut self, sign: &str) -> bool {
        self.blanks();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    /// Takes the bracket that closes what was opened at `opening`. Where the next step stands instead, the opening
    /// one is what is wrong.
    fn close(&mut self, sign: &str, opening: usize, what: &str) -> Parsed<()> {
        if self.sign(sign) {
            return Ok(());
        }
        self.still_inside(opening, what)?;
        self.wrong(&if what == "pattern" { format!("`{sign}`") } else { format!("`,` or `{sign}`") })
    }

    /// An error where the file, or the step, is over before the bracket at `opening` is closed.
    fn still_inside(&mut self, opening: usize, what: &str) -> Parsed<()> {
        self.blanks();
        let before = self.source[..self.at].trim_end_matches([' ', '\t', '\r']);
        let at_a_step = before.ends_with('\n') && begins_step(self.rest());
        if !self.rest().is_empty() && !at_a_step {
            return Ok(());
        }
        self.at = opening + 1;
        self.report(diagnostic::unclosed(Span::new(opening, opening + 1), what))
    }

    fn need(&mut self, sign: &str) -> Parsed<()> {
        if self.sign(sign) { Ok(()) } else { self.wrong(&format!("`{sign}`")) }
    }

    /// The word that stands here, if it looks like a requirement's id.
    fn requirement_like(&self) -> Option<Span> {
        let word = self.peek_word();
        let looks_so = word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.contains('-')
            && !word.contains(|c: char| c.is_lowercase());
        looks_so.then(|| Span::new(self.at, self.at + word.len()))
    }

    /// `$name`
    fn variable(&mut self) -> Parsed<Name> {
        self.blanks();
        let start = self.at;
        if !self.sign("$") {
            return self.wrong("a variable such as `$x`");
        }
        let word = self.peek_word();
        if word.is_empty() {
            return self.wrong("the name of a variable");
        }
        self.at += word.len();
        Ok(Name { text: word.to_owned(), span: Span::new(start, self.at) })
    }

    fn whole_number(&mut self) -> Parsed<u32> {
        self.blanks();
        let digits = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
        match self.rest()[..digits].parse() {
            Ok(number) => {
                self.at += digits;
                Ok(number)
            }
            Err(_) => self.wrong("a whole number"),
        }
    }

    fn duration(&mut self) -> Parsed<std::time::Duration> {
        self.blanks();
        let rest = self.rest();
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        // `500ms..2s`: the dots belong to the range.
        let number = rest[..number].find("..").unwrap_or(number);
        let unit = rest[number..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len() - number);
        let text = &rest[..number + unit];
        match crate::corpus::parse_duration(text) {
            Some(duration) => {
                self.at += text.len();
                Ok(duration)
            }
            None => {
                let (found, span) = self.found();
                self.report(diagnostic::bad_duration(span, &found))
            }
        }
    }

    /// `[ID ID]`, if it stands here.
    fn cites(&mut self) -> Parsed<Vec<Name>> {
        self.blanks();
        let mut cites = Vec::new();
        if !self.at_cites() {
            return Ok(cites);
        }
        let start = self.at;
        self.at += 1;
        loop {
            self.blanks();
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    return Ok(cites);
                }
                Some('\n') | None => {
                    return self.report(diagnostic::unclosed(Span::new(start, start + 1), "citation"));
                }
                _ => cites.push(self.name("a requirement id")?),
            }
        }
    }

    fn at_cites(&self) -> bool {
        let Some(inside) = self.rest().strip_prefix('[') else { return false };
        let inside = inside.trim_start_matches([' ', '\t']);
        inside.starts_with(|c: char| c.is_ascii_uppercase())
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH {
            let span = self.here();
            self.depth -= 1;
            return self.report(diagnostic::too_deep(span));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }
}

/// True when a text is read as one name, so that it needs no quotes.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && Parser::new(text).peek_word() == text
}

/// True when a line begins with what can only be a step.
fn begins_step(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '\r']);
    let word = Parser::new(line).peek_word();
    let next = line[word.len()..].trim_start_matches([' ', '\t']);
    let next_word = &next[..next.find(|c: char| !is_word(c)).unwrap_or(next.len())];
    !word.is_empty()
        && (next.starts_with("->") || step::VERBS.contains(&next_word) || step::KEYWORDS.contains(&word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}
