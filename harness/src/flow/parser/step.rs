//! Steps and blocks.

use super::{Failed, Parsed, Parser};
use crate::diagnostic;
use crate::flow::ast::{
    Block, Branch, CloseSpec, ConnectOptions, ExitStatus, Name, Pattern, Span, Step, StepKind, Trivia,
};

/// What a participant can do.
pub(super) const VERBS: [&str; 15] = [
    "closes",
    "connects",
    "disconnects",
    "does",
    "drops",
    "exits",
    "greets",
    "knows",
    "opens",
    "quits",
    "refuses",
    "resumes",
    "stalls",
    "stops",
    "vanishes",
];

/// What begins a step that is about no single participant.
pub(super) const KEYWORDS: [&str; 11] =
    ["either", "every", "in", "let", "optionally", "quiet", "repeat", "served", "settle", "wait", "within"];

/// What a step says, and the comment behind its opening brace.
type Said = (StepKind, Vec<Name>, Option<String>);

impl Parser<'_> {
    /// Steps up to the end of the file, or to the brace that closes the block opened at `opening`.
    pub(super) fn steps(
        &mut self,
        mut leading: Vec<Trivia>,
        opening: Option<Span>,
    ) -> (Vec<Step>, Vec<Trivia>) {
        let mut steps = Vec::new();
        loop {
            match (self.peek(), opening) {
                (Some('}'), _) if self.stray > 0 => {
                    self.stray -= 1;
                    self.at += 1;
                    leading.append(&mut self.trivia());
                    continue;
                }
                (None, None) => return (steps, leading),
                (None, Some(span)) => {
                    self.diagnostics.push(diagnostic::unclosed(span, "block"));
                    return (steps, leading);
                }
                (Some('}'), Some(_)) => {
                    self.at += 1;
                    return (steps, leading);
                }
                _ => {}
            }
            let start = self.at;
            match self.step(std::mem::take(&mut leading)) {
                Ok(step) => steps.push(step),
                Err(Failed) => {
                    self.recover(start);
                    // A brace that closes nothing must not be looked at for ever.
                    if self.at == start {
                        self.at += self.peek().map_or(0, char::len_utf8);
                    }
                }
            }
            leading.append(&mut self.trivia());
        }
    }

    fn step(&mut self, leading: Vec<Trivia>) -> Parsed<Step> {
        let start = self.at;
        let (mut kind, mut cites, mut comment) = self.step_kind()?;
        let end = self.at;
        if !is_block(&kind) {
            cites = self.cites()?;
            let end = self.at;
            comment = self.end_of_line()?;
            return Ok(Step { leading, kind, cites, comment, span: Span::new(start, end) });
        }
        if let Some(behind) = self.end_of_line()? {
            // A closing brace has no comment of its own; what is said behind it goes up into the block.
            match last_block(&mut kind) {
                Some(block) => block.trailing.push(Trivia::Comment(behind)),
                None => comment = comment.or(Some(behind)),
            }
        }
        Ok(Step { leading, kind, cites, comment, span: Span::new(start, end) })
    }

    fn step_kind(&mut self) -> Parsed<Said> {
        let start = self.at;
        let word = self.peek_word();
        let plain = |kind| Ok((kind, Vec::new(), None));
        if self.rest()[word.len()..].trim_start_matches([' ', '\t']).starts_with("->") && !word.is_empty() {
            return self.arrow();
        }
        let next = self.rest()[word.len()..].trim_start_matches([' ', '\t']);
        let verb_follows = VERBS.iter().any(|verb| {
            next.strip_prefix(verb)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        if verb_follows && !word.is_empty() {
            return self.deed();
        }
        self.at += word.len();
        match word {
            "wait" => plain(StepKind::Wait(self.duration()?)),
            "settle" => plain(StepKind::Settle),
            "served" => plain(StepKind::Served),
            "quiet" => {
                let mut who = vec![self.name("a participant")?];
                while self.sign(",") {
                    who.push(self.name("a participant")?);
                }
                let duration = if self.word("for") { Some(self.duration()?) } else { None };
                plain(StepKind::Quiet { who, duration })
            }
            "let" => {
                let name = self.variable()?;
                self.need("=")?;
                plain(StepKind::Let { name, value: self.pattern()? })
            }
            "within" => {
                let limit = self.duration();
                let (block, cites, comment) = self.block_after(limit.is_ok())?;
                Ok((StepKind::Within { limit: limit?, block }, cites, comment))
            }
            "every" => {
                let gaps = self.gaps();
                let (block, cites, comment) = self.block_after(gaps.is_ok())?;
                let (shortest, longest, times) = gaps?;
                Ok((StepKind::Every { shortest, longest, times, block }, cites, comment))
            }
            "in" => {
                let head =
                    if self.word("any") && self.word("order") { Ok(()) } else { self.wrong("`any order`") };
                let (block, cites, comment) = self.block_after(head.is_ok())?;
                head?;
                Ok((StepKind::AnyOrder(block), cites, comment))
            }
            "optionally" => {
                let (block, cites, comment) = self.block_after(true)?;
                Ok((StepKind::Optionally(block), cites, comment))
            }
            "repeat" => {
                let head = self.rounds();
                let (block, cites, comment) = self.block_after(head.is_ok())?;
                let (times, counter) = head?;
                Ok((StepKind::Repeat { times, counter, block }, cites, comment))
            }
            "either" => self.either(),
            "" => {
                self.at = start;
                self.wrong("a step")
            }
            _ if self.at_header_word_named(word) => {
                let span = Span::new(start, self.at);
                self.report(diagnostic::header_after_steps(span, word))
            }
            _ => self.unknown(start, word),
        }
    }

    fn at_header_word_named(&self, word: &str) -> bool {
        matches!(
            word,
            "protocol"
                | "cast"
                | "editions"
                | "needs"
                | "tags"
                | "about"
                | "ignoring"
                | "unexpected"
                | "examples"
        )
    }

    fn unknown<T>(&mut self, start: usize, word: &str) -> Parsed<T> {
        let whole = Span::new(start, self.at);
        self.blanks();
        let verb = self.peek_word();
        if verb.is_empty() || verb.starts_with(|c: char| c.is_uppercase()) {
            let near = crate::flow::resolve::nearest(word, KEYWORDS.iter().copied());
            return self.report(diagnostic::unknown_step(whole, word, near));
        }
        let span = Span::new(self.at, self.at + verb.len());
        let near = crate::flow::resolve::nearest(verb, VERBS.iter().copied());
        self.report(diagnostic::unknown_verb(span, verb, near))
    }

    fn arrow(&mut self) -> Parsed<Said> {
        let from = self.name("a participant")?;
        self.need("->")?;
        let to = self.name("a participant")?;
        let payload = self.payload()?;
        Ok((StepKind::Arrow { from, to, payload }, Vec::new(), None))
    }

    fn deed(&mut self) -> Parsed<Said> {
        let who = self.name("a participant")?;
        let verb = self.name("what the participant does")?;
        let kind = match verb.text.as_str() {
            "connects" => self.connects(who)?,
            "opens" => StepKind::Opens { who },
            "disconnects" => StepKind::Disconnects { who, close: self.close_spec()? },
            "vanishes" => StepKind::Vanishes { who },
            "stalls" => StepKind::Stalls { who },
            "quits" => StepKind::Quits { who },
            "stops" => StepKind::Stops { who },
            "exits" if !self.word("with") => StepKind::Exits { who, how: None },
            "exits" if self.word("failure") => StepKind::Exits { who, how: Some(ExitStatus::Failure) },
            "exits" if self.word("success") => StepKind::Exits { who, how: Some(ExitStatus::Success) },
            "exits" => return self.wrong("`success` or `failure`"),
            "knows" => StepKind::Knows { who, whom: self.name("the participant whose address is known")? },
            "greets" => StepKind::Greets { who, whom: self.name("the participant who is greeted")? },
            "resumes" => StepKind::Resumes { who },
            "closes" => {
                let whom = self.name("the participant whose connection is closed")?;
                StepKind::Closes { who, whom, close: self.close_spec()? }
            }
            "drops" => StepKind::Drops { who, whom: self.name("the participant whose connection ends")? },
            "refuses" => {
                let whom = self.name("the participant who is refused")?;
                StepKind::Refuses { who, whom, status: self.optional_pattern()? }
            }
            _ => {
                self.blanks();
                if self.peek() != Some('"') {
                    return self.wrong("the name of a stimulus in quotes");
                }
                let stimulus = self.quoted()?;
                StepKind::Does { who, stimulus, with: self.optional_pattern()? }
            }
        };
        Ok((kind, Vec::new(), None))
    }

    /// True where a step may end.
    fn at_end(&mut self) -> bool {
        self.blanks();
        matches!(self.peek(), None | Some('\n' | '#' | '}')) || self.at_cites()
    }

    fn optional_pattern(&mut self) -> Parsed<Option<Pattern>> {
        if self.at_end() { Ok(None) } else { Ok(Some(self.pattern()?)) }
    }

    fn close_spec(&mut self) -> Parsed<CloseSpec> {
        let code = self.optional_pattern()?;
        let reason = self.optional_pattern()?;
        Ok(CloseSpec { code, reason })
    }

    fn connects(&mut self, who: Name) -> Parsed<StepKind> {
        let mut to = None;
        let mut options = ConnectOptions::default();
        while !self.at_end() {
            let word = self.peek_word();
            match word {
                "to" | "path" | "query" | "headers" | "subprotocol" | "sending" => self.at += word.len(),
                _ => {
                    return self.wrong(
                        "`to`, `path`, `query`, `headers`, `subprotocol`, `sending`, or the end of the line",
                    );
                }
            }
            match word {
                "to" => to = Some(self.name("a participant")?),
                "path" => options.path = Some(self.sum()?),
                "query" => options.query = Some(self.primary()?),
                "headers" => options.headers = Some(self.primary()?),
                "subprotocol" => options.subprotocol = Some(self.sum()?),
                _ => options.sending = Some(self.payload()?),
            }
        }
        Ok(StepKind::Connects { who, to, options })
    }

    fn gaps(&mut self) -> Parsed<(std::time::Duration, std::time::Duration, u32)> {
        let shortest = self.duration()?;
        self.need("..")?;
        let longest = self.duration()?;
        if !self.word("times") {
            return self.wrong("`times`");
        }
        Ok((shortest, longest, self.whole_number()?))
    }

    fn rounds(&mut self) -> Parsed<(u32, Option<Name>)> {
        let times = self.whole_number()?;
        let counter = if self.word("as") { Some(self.variable()?) } else { None };
        Ok((times, counter))
    }

    /// `[ID] { ... }`. With a head that could not be read, the block is looked for on the same line, so that errors
    /// inside are told too.
    fn block_after(&mut self, head_was_read: bool) -> Parsed<(Block, Vec<Name>, Option<String>)> {
        if !head_was_read {
            let line = self.rest().find('\n').unwrap_or(self.rest().len());
            match self.rest()[..line].rfind('{') {
                Some(brace) => self.at += brace,
                None => return Err(Failed),
            }
        }
        let cites = self.cites()?;
        let (block, comment) = self.block()?;
        Ok((block, cites, comment))
    }

    fn block(&mut self) -> Parsed<(Block, Option<String>)> {
        self.blanks();
        let opening = self.here();
        if !self.sign("{") {
            // The steps of the block are read as if they stood outside.
            self.stray += u32::from(matches!(self.peek(), Some('\n')));
            return self.wrong("`{`");
        }
        self.enter()?;
        self.blanks();
        let comment = (self.peek() == Some('#')).then(|| self.comment_text());
        let leading = self.trivia().into_iter().skip_while(|trivia| *trivia == Trivia::Blank).collect();
        let (steps, trailing) = self.steps(leading, Some(opening));
        self.leave();
        Ok((Block { steps, trailing }, comment))
    }

    fn either(&mut self) -> Parsed<Said> {
        let cites = self.cites()?;
        let (block, comment) = self.block()?;
        let mut branches = vec![Branch { tolerated: false, cites: Vec::new(), comment: None, block }];
        loop {
            // The next branch may begin on the line of the brace or on the next.
            let before = self.at;
            let trivia = self.trivia();
            if !self.word("or") {
                self.at = before;
                break;
            }
            let tolerated = self.word("tolerated");
            let cites = self.cites()?;
            let (mut block, comment) = self.block()?;
            // A comment between the branches moves into the one below it.
            let comments = trivia.into_iter().filter(|trivia| matches!(trivia, Trivia::Comment(_)));
            let place = match block.steps.first_mut() {
                Some(first) => &mut first.leading,
                None => &mut block.trailing,
            };
            place.splice(0..0, comments);
            branches.push(Branch { tolerated, cites, comment, block });
        }
        Ok((StepKind::Either(branches), cites, comment))
    }
}

fn is_block(kind: &StepKind) -> bool {
    matches!(
        kind,
        StepKind::Within { .. }
            | StepKind::Every { .. }
            | StepKind::AnyOrder(_)
            | StepKind::Either(_)
            | StepKind::Optionally(_)
            | StepKind::Repeat { .. }
    )
}

/// The block whose brace ends a step.
fn last_block(kind: &mut StepKind) -> Option<&mut Block> {
    match kind {
        StepKind::Within { block, .. } | StepKind::Every { block, .. } | StepKind::Repeat { block, .. } => {
            Some(block)
        }
        StepKind::AnyOrder(block) | StepKind::Optionally(block) => Some(block),
        StepKind::Either(branches) => branches.last_mut().map(|branch| &mut branch.block),
        _ => None,
    }
}
