//! The header: who takes part, what the flow needs and is about, and its table.

use super::{Failed, Parsed, Parser};
use crate::diagnostic;
use crate::flow::ast::{CastMember, ExampleRow, Examples, HeaderItem, HeaderLine, Name, Span, Trivia};

/// The words that begin a header line.
const WORDS: [&str; 9] =
    ["about", "cast", "editions", "examples", "ignoring", "needs", "protocol", "tags", "unexpected"];

impl Parser<'_> {
    /// True when a header line begins here. A participant may be called like one: then an arrow or a verb follows.
    pub(super) fn at_header_word(&self) -> bool {
        let word = self.peek_word();
        WORDS.contains(&word) && !self.rest()[word.len()..].trim_start().starts_with("->")
    }

    /// Reads a header line; an error gives back where it began and what stood above it.
    pub(super) fn header_line(
        &mut self,
        leading: Vec<Trivia>,
    ) -> Result<HeaderLine, (Failed, usize, Vec<Trivia>)> {
        let start = self.at;
        match self.header_item() {
            Ok((item, comment)) => Ok(HeaderLine { leading, item, comment, span: Span::new(start, self.at) }),
            Err(failed) => Err((failed, start, leading)),
        }
    }

    fn header_item(&mut self) -> Parsed<(HeaderItem, Option<String>)> {
        let word = self.name("a header word")?;
        let item = match word.text.as_str() {
            "protocol" => HeaderItem::Protocol(self.name("the name of a protocol")?),
            "cast" => HeaderItem::Cast(self.list(Parser::cast_member)?),
            "editions" => HeaderItem::Editions(self.list(|parser| parser.name_or_string("an edition"))?),
            "needs" => HeaderItem::Needs(self.list(|parser| parser.name_or_string("a name"))?),
            "tags" => HeaderItem::Tags(self.list(|parser| parser.name("a tag"))?),
            "about" => HeaderItem::About(self.needed_cites()?),
            "unexpected" => HeaderItem::Unexpected(self.needed_cites()?),
            "ignoring" => HeaderItem::Ignoring(self.payload()?),
            _ => return self.examples(),
        };
        let comment = self.end_of_line()?;
        Ok((item, comment))
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![one(self)?];
        while self.sign(",") {
            // A list may go on in the next line.
            if self.rest().trim_start_matches([' ', '\t', '\r']).starts_with('\n') {
                self.brackets += 1;
                self.blanks();
                self.brackets -= 1;
            }
            items.push(one(self)?);
        }
        Ok(items)
    }

    fn cast_member(&mut self) -> Parsed<CastMember> {
        let name = self.name("the name of a participant")?;
        self.blanks();
        if self.word("socket") {
            if !self.word("of") {
                return self.wrong("`of`");
            }
            let owner = self.name("the participant whose socket it is")?;
            return Ok(CastMember { name, role: None, count: None, socket_of: Some(owner) });
        }
        let role = if self.peek_word().is_empty() { None } else { Some(self.name("a role")?) };
        let count = if self.sign("*") { Some(self.whole_number()?) } else { None };
        Ok(CastMember { name, role, count, socket_of: None })
    }

    fn name_or_string(&mut self, wanted: &str) -> Parsed<Name> {
        self.blanks();
        if self.peek() != Some('"') {
            return self.name(wanted);
        }
        let start = self.at;
        let text = self.quoted()?;
        Ok(Name { text, span: Span::new(start, self.at) })
    }

    fn needed_cites(&mut self) -> Parsed<Vec<Name>> {
        self.blanks();
        match self.requirement_like() {
            _ if self.at_cites() => self.cites(),
            Some(span) => self.report(diagnostic::bare_citation(span, &self.source[span.range()])),
            None => self.wrong("requirement ids in brackets: `[ID ...]`"),
        }
    }

    fn examples(&mut self) -> Parsed<(HeaderItem, Option<String>)> {
        let comment = self.end_of_line()?;
        let opening = self.at;
        let mut leading = self.trivia();
        let (columns, behind) = self.columns()?;
        // Comments about the columns move to the first row; without one they would be lost.
        leading.extend(behind.map(Trivia::Comment));
        let mut rows = Vec::new();
        loop {
            let before = self.at;
            let mut above = self.trivia();
            if self.peek() != Some('|') {
                // What stands below the table belongs to what comes next.
                self.at = before;
                break;
            }
            let start = self.at;
            leading.append(&mut above);
            match self.row(columns.len(), std::mem::take(&mut leading)) {
                Ok(row) => rows.push(row),
                Err(Failed) => self.recover(start),
            }
        }
        if rows.is_empty() {
            self.diagnostics.push(diagnostic::no_rows(Span::new(opening, self.at)));
        }
        Ok((HeaderItem::Examples(Examples { columns, rows }), comment))
    }

    fn columns(&mut self) -> Parsed<(Vec<Name>, Option<String>)> {
        self.need("|")?;
        let mut columns = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                Some('\n' | '#') | None if !columns.is_empty() => break,
                _ => {
                    columns.push(self.name("the name of a column")?);
                    self.need("|")?;
                }
            }
        }
        let comment = self.end_of_line()?;
        Ok((columns, comment))
    }

    fn row(&mut self, columns: usize, leading: Vec<Trivia>) -> Parsed<ExampleRow> {
        let start = self.at;
        self.need("|")?;
        let mut cells = Vec::new();
        loop {
            self.blanks();
            if matches!(self.peek(), Some('\n' | '#') | None) && !cells.is_empty() {
                break;
            }
            // A bar ends the cell; alternatives stand in parentheses.
            cells.push(self.cell()?);
            self.need("|")?;
        }
        let span = Span::new(start, self.at);
        if cells.len() != columns {
            self.diagnostics.push(diagnostic::wrong_cells(span, columns, cells.len()));
        }
        let comment = self.end_of_line()?;
        Ok(ExampleRow { leading, cells, comment, span })
    }
}
