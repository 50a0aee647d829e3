//! Patterns and payloads.

use serde_json::Number;

use super::{Parsed, Parser};
use crate::diagnostic;
use crate::flow::ast::{Bytes, Constant, Key, Member, Pattern, PatternKind, Payload, Span, Trivia, TypeWord};

/// The words that stand for types.
const TYPES: [(&str, TypeWord); 9] = [
    ("array", TypeWord::Array),
    ("base64", TypeWord::Base64),
    ("boolean", TypeWord::Boolean),
    ("integer", TypeWord::Integer),
    ("number", TypeWord::Number),
    ("object", TypeWord::Object),
    ("string", TypeWord::String),
    ("timestamp", TypeWord::Timestamp),
    ("uuid", TypeWord::Uuid),
];

/// The words that a pattern may begin with.
const WORDS: [&str; 17] = [
    "_",
    "absent",
    "array",
    "base64",
    "boolean",
    "exactly",
    "false",
    "integer",
    "not",
    "null",
    "number",
    "object",
    "string",
    "timestamp",
    "true",
    "unordered",
    "uuid",
];

/// Factors that may follow one text: each is a level of the tree.
const FACTORS: u32 = 8;

impl Parser<'_> {
    /// What travels on an arrow.
    pub(super) fn payload(&mut self) -> Parsed<Payload> {
        self.payload_with(Parser::pattern)
    }

    /// A cell of a table: a payload in which `|` ends the cell.
    pub(super) fn cell(&mut self) -> Parsed<Payload> {
        self.payload_with(Parser::all_of)
    }

    fn payload_with(&mut self, pattern: fn(&mut Self) -> Parsed<Pattern>) -> Parsed<Payload> {
        // The body of an HTTP message is a payload again.
        self.enter()?;
        let payload = self.payload_kind(pattern);
        self.leave();
        payload
    }

    fn payload_kind(&mut self, pattern: fn(&mut Self) -> Parsed<Pattern>) -> Parsed<Payload> {
        self.blanks();
        let word = self.peek_word();
        let payload = match word {
            "text" => {
                self.at += word.len();
                Payload::Text(pattern(self)?)
            }
            "binary" => {
                self.at += word.len();
                Payload::Binary(self.bytes()?)
            }
            "raw" => {
                self.at += word.len();
                Payload::Raw(self.bytes()?)
            }
            "fragments" => {
                self.at += word.len();
                Payload::Fragments(self.fragments()?)
            }
            "ping" => {
                self.at += word.len();
                Payload::Ping(self.optional_text()?)
            }
            "pong" => {
                self.at += word.len();
                Payload::Pong(self.optional_text()?)
            }
            "status" => {
                self.at += word.len();
                let status = pattern(self)?;
                let (headers, body) = self.http_rest(pattern)?;
                Payload::HttpResponse { status, headers, body }
            }
            method if is_method(method) => {
                self.at += word.len();
                let target = self.http_target()?;
                let (headers, body) = self.http_rest(pattern)?;
                Payload::HttpRequest { method: method.to_owned(), target, headers, body }
            }
            _ => Payload::Json(pattern(self)?),
        };
        Ok(payload)
    }

    fn bytes(&mut self) -> Parsed<Bytes> {
        self.blanks();
        let rest = self.rest();
        let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        if digits == 0 {
            return Ok(Bytes::Expression(self.sum()?));
        }
        let start = self.at;
        self.at += digits;
        if !digits.is_multiple_of(2) || self.peek().is_some_and(|c| c.is_alphanumeric()) {
            while self.peek().is_some_and(char::is_alphanumeric) {
                self.at += self.peek().map_or(0, char::len_utf8);
            }
            let span = Span::new(start, self.at);
            let found = format!("`{}`", &self.source[span.range()]);
            return self.report(diagnostic::expected(span, "bytes as pairs of hex digits", &found));
        }
        let bytes =
            (0..digits).step_by(2).map(|place| u8::from_str_radix(&rest[place..place + 2], 16).unwrap_or(0));
        Ok(Bytes::Hex(bytes.collect()))
    }

    fn fragments(&mut self) -> Parsed<Vec<Pattern>> {
        self.blanks();
        let opening = self.at;
        self.need("[")?;
        self.brackets += 1;
        let mut parts = Vec::new();
        while !self.sign("]") {
            self.still_inside(opening, "list")?;
            parts.push(self.sum()?);
            if !self.sign(",") {
                self.close("]", opening, "list")?;
                break;
            }
        }
        self.brackets -= 1;
        Ok(parts)
    }

    fn optional_text(&mut self) -> Parsed<Option<Pattern>> {
        self.blanks();
        match self.peek() {
            Some('"' | '`' | '$' | '/' | '_' | '(') => Ok(Some(self.sum()?)),
            _ => Ok(None),
        }
    }

    fn http_target(&mut self) -> Parsed<Pattern> {
        self.blanks();
        match self.peek() {
            Some('/') => {}
            Some('"' | '`' | '$' | '(') => return self.sum(),
            _ => return self.wrong("a path such as `/api`, or a text"),
        }
        let start = self.at;
        let end = self.rest().find(char::is_whitespace).unwrap_or(self.rest().len());
        let text = self.rest()[..end].to_owned();
        self.at += end;
        Ok(Pattern { kind: PatternKind::String { text, backticks: false }, span: Span::new(start, self.at) })
    }

    fn http_rest(
        &mut self,
        pattern: fn(&mut Self) -> Parsed<Pattern>,
    ) -> Parsed<(Option<Pattern>, Option<Box<Payload>>)> {
        let headers = if self.word("headers") { Some(self.primary()?) } else { None };
        self.blanks();
        let body = match self.peek() {
            None | Some('\n' | '}' | '#' | '|') => None,
            _ if self.at_cites() => None,
            _ => Some(Box::new(self.payload_with(pattern)?)),
        };
        Ok((headers, body))
    }

    /// `A | B`, the widest pattern.
    pub(super) fn pattern(&mut self) -> Parsed<Pattern> {
        self.chain("|", Parser::all_of, PatternKind::OneOf)
    }

    fn all_of(&mut self) -> Parsed<Pattern> {
        self.chain("&", Parser::negation, PatternKind::AllOf)
    }

    fn chain(
        &mut self,
        sign: &str,
        part: fn(&mut Self) -> Parsed<Pattern>,
        make: fn(Vec<Pattern>) -> PatternKind,
    ) -> Parsed<Pattern> {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.sign(sign) {
            parts.push(part(self)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => {
                let span = parts[0].span.to(parts[parts.len() - 1].span);
                Pattern { kind: make(parts), span }
            }
        })
    }

    fn negation(&mut self) -> Parsed<Pattern> {
        self.blanks();
        let start = self.at;
        if !self.word("not") {
            return self.sum();
        }
        self.enter()?;
        let inner = self.negation();
        self.leave();
        Ok(Pattern { kind: PatternKind::Not(Box::new(inner?)), span: Span::new(start, self.at) })
    }

    /// `a + b * 3`: a string expression, or any other single pattern.
    pub(super) fn sum(&mut self) -> Parsed<Pattern> {
        self.chain("+", Parser::times, PatternKind::Join)
    }

    fn times(&mut self) -> Parsed<Pattern> {
        let mut part = self.primary()?;
        let mut factors = 0;
        while self.sign("*") {
            factors += 1;
            if factors > FACTORS {
                return self.report(diagnostic::too_many_factors(self.here()));
            }
            let times = self.whole_number()?;
            let span = Span::new(part.span.start, self.at);
            part = Pattern { kind: PatternKind::Times(Box::new(part), times), span };
        }
        Ok(part)
    }

    pub(super) fn primary(&mut self) -> Parsed<Pattern> {
        self.blanks();
        let start = self.at;
        self.enter()?;
        let kind = self.primary_kind();
        self.leave();
        Ok(Pattern { kind: kind?, span: Span::new(start, self.at) })
    }

    fn primary_kind(&mut self) -> Parsed<PatternKind> {
        let start = self.at;
        match self.peek() {
            Some('"') => Ok(PatternKind::String { text: self.quoted()?, backticks: false }),
            Some('`') => Ok(PatternKind::String { text: self.backticked()?, backticks: true }),
            Some('/') => self.regex(),
            Some('{') => self.object(false),
            Some('[') => self.array(false),
            Some('(') => {
                self.at += 1;
                self.brackets += 1;
                let inner = self.pattern()?;
                self.close(")", start, "pattern")?;
                self.brackets -= 1;
                Ok(inner.kind)
            }
            Some('$') => {
                let name = self.variable()?;
                // In a table or an object the colon may belong to somebody else only after a key, never here.
                let is = if self.sign(":") { Some(Box::new(self.negation()?)) } else { None };
                Ok(PatternKind::Variable { name, is })
            }
            Some('.') if self.rest().starts_with("..") && !self.rest().starts_with("...") => {
                self.at += 2;
                Ok(PatternKind::Range { low: None, high: Some(self.number()?) })
            }
            Some('-' | '0'..='9') => {
                let low = self.number()?;
                if !self.rest().starts_with("..") || self.rest().starts_with("...") {
                    return Ok(PatternKind::Number(low));
                }
                self.at += 2;
                let high = match self.peek() {
                    Some('-' | '0'..='9') => Some(self.number()?),
                    _ => None,
                };
                Ok(PatternKind::Range { low: Some(low), high })
            }
            _ => {
                let word = self.peek_word();
                let kind = match word {
                    "_" => PatternKind::Any,
                    "null" => PatternKind::Constant(Constant::Null),
                    "true" => PatternKind::Constant(Constant::True),
                    "false" => PatternKind::Constant(Constant::False),
                    "absent" => PatternKind::Absent,
                    "exactly" => {
                        self.at += word.len();
                        self.blanks();
                        return if self.peek() == Some('{') { self.object(true) } else { self.wrong("`{`") };
                    }
                    "unordered" => {
                        self.at += word.len();
                        self.blanks();
                        return if self.peek() == Some('[') { self.array(true) } else { self.wrong("`[`") };
                    }
                    _ => match TYPES.iter().find(|(name, _)| *name == word) {
                        Some((_, type_word)) => PatternKind::Type(*type_word),
                        None if word.is_empty() => return self.wrong_pattern(),
                        None => {
                            let near = crate::flow::resolve::nearest(word, WORDS.iter().copied());
                            let span = Span::new(start, start + word.len());
                            return self.report(diagnostic::unknown_word(span, word, near));
                        }
                    },
                };
                self.at += word.len();
                Ok(kind)
            }
        }
    }

    fn wrong_pattern<T>(&mut self) -> Parsed<T> {
        match self.peek() {
            Some('\'') => {
                let span = self.here();
                self.report(diagnostic::single_quote(span))
            }
            _ => self.wrong("a pattern"),
        }
    }

    /// A JSON string.
    pub(super) fn quoted(&mut self) -> Parsed<String> {
        let start = self.at;
        let mut escaped = false;
        for (place, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let literal = &self.source[start..=start + place];
                    self.at = start + place + 1;
                    return match serde_json::from_str(literal) {
                        Ok(text) => Ok(text),
                        Err(error) => {
                            let span = Span::new(start, self.at);
                            let text = error.to_string();
                            // The mark shows the place better than serde's words do.
                            let text = text.split(" at line ").next().unwrap_or_default();
                            self.report(diagnostic::bad_string(span, text))
                        }
                    };
                }
                _ => {}
            }
        }
        self.report(diagnostic::unclosed(Span::new(start, start + 1), "string"))
    }

    fn backticked(&mut self) -> Parsed<String> {
        let start = self.at;
        let inside = &self.rest()[1..];
        match inside.find(['`', '\n']) {
            Some(end) if inside[end..].starts_with('`') => {
                self.at += end + 2;
                Ok(inside[..end].to_owned())
            }
            _ => self.report(diagnostic::unclosed(Span::new(start, start + 1), "string")),
        }
    }

    fn regex(&mut self) -> Parsed<PatternKind> {
        let start = self.at;
        let mut source = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((place, c)) = characters.next() {
            match c {
                '\n' => break,
                '/' => {
                    self.at = start + place + 1;
                    if let Err(error) = regex::Regex::new(&source) {
                        let text = error.to_string();
                        let last =
                            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                        return self.report(diagnostic::bad_regex(Span::new(start, self.at), &last));
                    }
                    return Ok(PatternKind::Regex(source));
                }
                '\\' => match characters.next() {
                    Some((_, '/')) => source.push('/'),
                    Some((_, '\n')) | None => break,
                    Some((_, escaped)) => {
                        source.push('\\');
                        source.push(escaped);
                    }
                },
                c => source.push(c),
            }
        }
        self.report(diagnostic::unclosed(Span::new(start, start + 1), "regex"))
    }

    fn number(&mut self) -> Parsed<Number> {
        self.blanks();
        let start = self.at;
        let rest = self.rest();
        let mut end = usize::from(rest.starts_with('-'));
        let digits =
            |from: usize| rest[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - from);
        end += digits(end);
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            end += 1 + digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                end += 1 + sign + exponent;
            }
        }
        if end == usize::from(rest.starts_with('-')) {
            return self.wrong("a number");
        }
        self.at += end;
        match serde_json::from_str(&rest[..end]) {
            Ok(number) => Ok(number),
            Err(_) => self.report(diagnostic::bad_number(Span::new(start, self.at))),
        }
    }

    fn array(&mut self, unordered: bool) -> Parsed<PatternKind> {
        let opening = self.at;
        self.at += 1;
        self.brackets += 1;
        let mut items = Vec::new();
        let mut open = false;
        loop {
            self.still_inside(opening, "array")?;
            if self.sign("]") {
                break;
            }
            if self.sign("...") {
                open = true;
                if !self.sign("]") {
                    self.still_inside(opening, "array")?;
                    return self.wrong("`]`: nothing stands behind `...`");
                }
                break;
            }
            items.push(self.pattern()?);
            if !self.sign(",") {
                self.close("]", opening, "array")?;
                break;
            }
        }
        self.brackets -= 1;
        Ok(PatternKind::Array { items, open, unordered })
    }

    /// The comments from here to the next thing said.
    fn comments(&mut self) -> Vec<Trivia> {
        self.trivia().into_iter().filter(|trivia| matches!(trivia, Trivia::Comment(_))).collect()
    }

    fn object(&mut self, exactly: bool) -> Parsed<PatternKind> {
        let opening = self.at;
        self.at += 1;
        self.brackets += 1;
        let mut members = Vec::new();
        loop {
            // Comments may stand above a member, so lines matter here.
            let comments = self.at;
            let mut leading = self.comments();
            if self.sign("}") {
                match members.last_mut() {
                    _ if leading.is_empty() => {}
                    Some(Member { leading: above, .. }) => above.append(&mut leading),
                    None => {
                        self.diagnostics.push(diagnostic::misplaced_comment(Span::new(comments, self.at)))
                    }
                }
                break;
            }
            self.still_inside(opening, "object")?;
            let start = self.at;
            let key = match self.peek() {
                Some('$') => Key::Variable(self.variable()?),
                Some('"') => {
                    let text = self.quoted()?;
                    Key::Text(text, Span::new(start, self.at))
                }
                _ => match self.peek_word() {
                    "" => return self.wrong("the name of a member in quotes, a variable, or `}`"),
                    word => {
                        let span = Span::new(start, start + word.len());
                        return self.report(diagnostic::bare_member(span, word));
                    }
                },
            };
            self.need(":")?;
            let value = self.pattern()?;
            // What is said behind a member is about it, so it moves above it.
            leading.append(&mut self.comments());
            let more = self.sign(",");
            while matches!(self.peek(), Some(' ' | '\t' | '\r')) {
                self.at += 1;
            }
            if more && self.peek() == Some('#') {
                leading.push(Trivia::Comment(self.comment_text()));
            }
            members.push(Member { leading, key, value });
            if !more {
                self.close("}", opening, "object")?;
                break;
            }
        }
        self.brackets -= 1;
        Ok(PatternKind::Object { members, exactly })
    }
}

fn is_method(word: &str) -> bool {
    matches!(word, "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS")
}
