//! Writes a flow back: the same tree, comments kept, in one style.

use super::ast::{
    Block, Bytes, CastMember, CloseSpec, ConnectOptions, Constant, Examples, ExitStatus, Flow, HeaderItem,
    Key, Member, Name, Pattern, PatternKind, Payload, Step, StepKind, Trivia, TypeWord,
};
use super::parser::is_name;

/// Lines that would be longer are broken at the members of their objects.
const WIDTH: usize = 120;

/// A whole file.
pub fn format(flow: &Flow) -> String {
    let mut out = Writer::default();
    for line in &flow.header {
        out.trivia(&line.leading);
        out.header(&line.item, line.comment.as_deref());
    }
    out.steps(&flow.steps);
    out.trivia(&flow.trailing);
    let mut text = out.text;
    while text.ends_with("\n\n") {
        text.pop();
    }
    text.trim_start_matches('\n').to_owned()
}

/// A pattern on one line.
pub fn pattern_text(pattern: &Pattern) -> String {
    let mut text = String::new();
    write_pattern(&mut text, pattern, Level::OneOf, None);
    text
}

/// A payload on one line.
pub fn payload_text(payload: &Payload) -> String {
    let mut text = String::new();
    write_payload(&mut text, payload, Level::OneOf, None);
    text
}

/// A step that is no block, on one line, without its citations.
pub fn step_text(kind: &StepKind) -> String {
    let mut text = String::new();
    write_step(&mut text, kind, None);
    text
}

/// A duration as flows write it.
pub fn duration_text(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    if millis != 0 && millis.is_multiple_of(60_000) {
        format!("{}m", millis / 60_000)
    } else if millis != 0 && millis.is_multiple_of(1000) {
        format!("{}s", millis / 1000)
    } else if millis > 1000 {
        format!("{}s", millis as f64 / 1000.0)
    } else {
        format!("{millis}ms")
    }
}

#[derive(Default)]
struct Writer {
    text: String,
    indent: usize,
    /// Where the innermost block that was begun last begins.
    opened: usize,
}

impl Writer {
    fn margin(&mut self) {
        for _ in 0..self.indent {
            self.text.push_str("  ");
        }
    }

    fn trivia(&mut self, trivia: &[Trivia]) {
        for one in trivia {
            match one {
                Trivia::Blank => {
                    // None below an empty line, an opening brace, or nothing.
                    if !self.text.ends_with("\n\n") && self.text.len() != self.opened {
                        self.text.push('\n');
                    }
                }
                Trivia::Comment(text) => {
                    self.margin();
                    self.text.push('#');
                    self.text.push_str(text);
                    self.text.push('\n');
                }
            }
        }
    }

    fn line_end(&mut self, comment: Option<&str>) {
        if let Some(comment) = comment {
            self.text.push_str("  #");
            self.text.push_str(comment);
        }
        self.text.push('\n');
    }

    fn header(&mut self, item: &HeaderItem, comment: Option<&str>) {
        match item {
            HeaderItem::Protocol(name) => self.header_line("protocol", &name.text),
            HeaderItem::Cast(members) => {
                let members: Vec<String> = members.iter().map(cast_member).collect();
                self.header_line("cast", &members.join(", "));
            }
            HeaderItem::Editions(names) => self.header_line("editions", &words(names)),
            HeaderItem::Needs(names) => self.header_line("needs", &words(names)),
            HeaderItem::Tags(names) => self.header_line("tags", &words(names)),
            HeaderItem::About(names) => self.header_line("about", cites(names).trim_start()),
            HeaderItem::Unexpected(names) => self.header_line("unexpected", cites(names).trim_start()),
            HeaderItem::Ignoring(payload) => self.header_line("ignoring", &payload_text(payload)),
            HeaderItem::Examples(examples) => {
                self.text.push_str("examples");
                self.line_end(comment);
                self.examples(examples);
                return;
            }
        }
        self.line_end(comment);
    }

    /// The words that most headers have are eight letters long at the most; what follows stands in one column.
    fn header_line(&mut self, word: &str, rest: &str) {
        self.text.push_str(&format!("{word:<8} {rest}"));
    }

    fn examples(&mut self, examples: &Examples) {
        let header: Vec<String> = examples.columns.iter().map(|name| name.text.clone()).collect();
        let rows: Vec<Vec<String>> =
            examples.rows.iter().map(|row| row.cells.iter().map(cell_text).collect()).collect();
        let widths: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                // A single long cell must not push the whole table off the screen.
                cells
                    .chain([&header[column]])
                    .map(|cell| cell.chars().count())
                    .filter(|width| *width <= 60)
                    .max()
            })
            .map(|width| width.unwrap_or(0))
            .collect();
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells
                .iter()
                .enumerate()
                .map(|(column, cell)| {
                    let width = widths.get(column).copied().unwrap_or(0);
                    format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count())))
                })
                .collect();
            format!("  | {} |", cells.join(" | "))
        };
        self.text.push_str(&line(&header));
        self.text.push('\n');
        self.indent += 1;
        for (row, cells) in examples.rows.iter().zip(&rows) {
            self.trivia(&row.leading);
            self.text.push_str(&line(cells));
            self.line_end(row.comment.as_deref());
        }
        self.indent -= 1;
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.trivia(&step.leading);
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        self.margin();
        let comment = step.comment.as_deref();
        let cited = cites(&step.cites);
        match &step.kind {
            StepKind::Within { limit, block } => {
                self.block_step(&format!("within {}{cited}", duration_text(*limit)), block, comment);
            }
            StepKind::Every { shortest, longest, times, block } => {
                let head = format!(
                    "every {}..{} times {times}{cited}",
                    duration_text(*shortest),
                    duration_text(*longest)
                );
                self.block_step(&head, block, comment);
            }
            StepKind::AnyOrder(block) => self.block_step(&format!("in any order{cited}"), block, comment),
            StepKind::Optionally(block) => self.block_step(&format!("optionally{cited}"), block, comment),
            StepKind::Repeat { times, counter, block } => {
                let counter = counter.as_ref().map_or(String::new(), |name| format!(" as ${}", name.text));
                self.block_step(&format!("repeat {times}{counter}{cited}"), block, comment);
            }
            StepKind::Either(branches) => {
                for (place, branch) in branches.iter().enumerate() {
                    let head = match (place, branch.tolerated) {
                        (0, _) => format!("either{cited}"),
                        (_, false) => format!(" or{}", cites(&branch.cites)),
                        (_, true) => format!(" or tolerated{}", cites(&branch.cites)),
                    };
                    self.text.push_str(&head);
                    let comment = if place == 0 { comment } else { branch.comment.as_deref() };
                    self.open_block(&branch.block, comment);
                }
                self.text.push('\n');
            }
            kind => {
                let room = WIDTH.saturating_sub(self.indent * 2 + cited.len());
                let mut text = String::new();
                write_step(&mut text, kind, None);
                if text.chars().count() > room || text.contains('\n') {
                    text.clear();
                    write_step(&mut text, kind, Some(self.indent));
                }
                self.text.push_str(&text);
                self.text.push_str(&cited);
                self.line_end(comment);
            }
        }
    }

    fn block_step(&mut self, head: &str, block: &Block, comment: Option<&str>) {
        self.text.push_str(head);
        self.open_block(block, comment);
        self.text.push('\n');
    }

    fn open_block(&mut self, block: &Block, comment: Option<&str>) {
        self.text.push_str(" {");
        self.line_end(comment);
        self.opened = self.text.len();
        self.indent += 1;
        self.steps(&block.steps);
        self.trivia(&block.trailing);
        self.indent -= 1;
        self.margin();
        self.text.push('}');
    }
}

fn cast_member(member: &CastMember) -> String {
    if let Some(owner) = &member.socket_of {
        return format!("{} socket of {}", member.name.text, owner.text);
    }
    let role = member.role.as_ref().map_or(String::new(), |role| format!(" {}", role.text));
    let count = member.count.map_or(String::new(), |count| format!(" * {count}"));
    format!("{}{role}{count}", member.name.text)
}

fn words(names: &[Name]) -> String {
    let words: Vec<String> = names
        .iter()
        .map(|name| if is_name(&name.text) { name.text.clone() } else { quote(&name.text) })
        .collect();
    words.join(", ")
}

fn cites(names: &[Name]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let ids: Vec<&str> = names.iter().map(|name| name.text.as_str()).collect();
    format!(" [{}]", ids.join(" "))
}

fn cell_text(payload: &Payload) -> String {
    let mut text = String::new();
    // A bar would end the cell.
    write_payload(&mut text, payload, Level::AllOf, None);
    text
}

fn write_step(out: &mut String, kind: &StepKind, broken: Option<usize>) {
    match kind {
        StepKind::Arrow { from, to, payload } => {
            out.push_str(&format!("{} -> {} ", from.text, to.text));
            write_payload(out, payload, Level::OneOf, broken);
        }
        StepKind::Connects { who, to, options } => {
            out.push_str(&format!("{} connects", who.text));
            if let Some(to) = to {
                out.push_str(&format!(" to {}", to.text));
            }
            write_options(out, options, broken);
        }
        StepKind::Opens { who } => out.push_str(&format!("{} opens", who.text)),
        StepKind::Disconnects { who, close } => {
            out.push_str(&format!("{} disconnects", who.text));
            write_close(out, close);
        }
        StepKind::Exits { who, how } => {
            let how = match how {
                Some(ExitStatus::Failure) => " with failure",
                Some(ExitStatus::Success) => " with success",
                None => "",
            };
            out.push_str(&format!("{} exits{how}", who.text));
        }
        StepKind::Knows { who, whom } => out.push_str(&format!("{} knows {}", who.text, whom.text)),
        StepKind::Greets { who, whom } => out.push_str(&format!("{} greets {}", who.text, whom.text)),
        StepKind::Quits { who } => out.push_str(&format!("{} quits", who.text)),
        StepKind::Stops { who } => out.push_str(&format!("{} stops", who.text)),
        StepKind::Vanishes { who } => out.push_str(&format!("{} vanishes", who.text)),
        StepKind::Stalls { who } => out.push_str(&format!("{} stalls", who.text)),
        StepKind::Resumes { who } => out.push_str(&format!("{} resumes", who.text)),
        StepKind::Closes { who, whom, close } => {
            out.push_str(&format!("{} closes {}", who.text, whom.text));
            write_close(out, close);
        }
        StepKind::Drops { who, whom } => out.push_str(&format!("{} drops {}", who.text, whom.text)),
        StepKind::Refuses { who, whom, status } => {
            out.push_str(&format!("{} refuses {}", who.text, whom.text));
            if let Some(status) = status {
                out.push(' ');
                write_pattern(out, status, Level::OneOf, broken);
            }
        }
        StepKind::Wait(duration) => out.push_str(&format!("wait {}", duration_text(*duration))),
        StepKind::Quiet { who, duration } => {
            let who: Vec<&str> = who.iter().map(|name| name.text.as_str()).collect();
            out.push_str(&format!("quiet {}", who.join(", ")));
            if let Some(duration) = duration {
                out.push_str(&format!(" for {}", duration_text(*duration)));
            }
        }
        StepKind::Settle => out.push_str("settle"),
        StepKind::Served => out.push_str("served"),
        StepKind::Let { name, value } => {
            out.push_str(&format!("let ${} = ", name.text));
            write_pattern(out, value, Level::OneOf, broken);
        }
        StepKind::Does { who, stimulus, with } => {
            out.push_str(&format!("{} does {}", who.text, quote(stimulus)));
            if let Some(with) = with {
                out.push(' ');
                write_pattern(out, with, Level::OneOf, broken);
            }
        }
        // Blocks are written by the caller, which knows their steps.
        StepKind::Within { .. }
        | StepKind::Every { .. }
        | StepKind::AnyOrder(_)
        | StepKind::Either(_)
        | StepKind::Optionally(_)
        | StepKind::Repeat { .. } => {}
    }
}

fn write_options(out: &mut String, options: &ConnectOptions, broken: Option<usize>) {
    let parts = [
        ("path", &options.path, Level::Join),
        ("query", &options.query, Level::Primary),
        ("headers", &options.headers, Level::Primary),
        ("subprotocol", &options.subprotocol, Level::Join),
    ];
    for (word, part, level) in parts {
        if let Some(part) = part {
            out.push_str(&format!(" {word} "));
            write_pattern(out, part, level, broken);
        }
    }
    if let Some(payload) = &options.sending {
        out.push_str(" sending ");
        write_payload(out, payload, Level::OneOf, broken);
    }
}

fn write_close(out: &mut String, close: &CloseSpec) {
    for part in [&close.code, &close.reason].into_iter().flatten() {
        out.push(' ');
        write_pattern(out, part, Level::OneOf, None);
    }
}

/// `place` is what patterns that go to the end of the payload are written into.
fn write_payload(out: &mut String, payload: &Payload, place: Level, broken: Option<usize>) {
    match payload {
        Payload::Json(pattern) => write_pattern(out, pattern, place, broken),
        Payload::Text(pattern) => {
            out.push_str("text ");
            write_pattern(out, pattern, place, broken);
        }
        Payload::Binary(bytes) => write_bytes(out, "binary", bytes),
        Payload::Raw(bytes) => write_bytes(out, "raw", bytes),
        Payload::Fragments(parts) => {
            out.push_str("fragments [");
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_pattern(out, part, Level::Join, None);
            }
            out.push(']');
        }
        Payload::Ping(text) => write_optional(out, "ping", text.as_ref()),
        Payload::Pong(text) => write_optional(out, "pong", text.as_ref()),
        Payload::HttpRequest { method, target, headers, body } => {
            out.push_str(method);
            out.push(' ');
            match &target.kind {
                PatternKind::String { text, backticks: false }
                    if text.starts_with('/') && !text.contains(char::is_whitespace) =>
                {
                    out.push_str(text);
                }
                // Without parentheses it would be read as a path.
                _ => write_apart(out, target, |text| text.starts_with('/')),
            }
            write_http_rest(out, headers.as_ref(), body.as_deref(), place, broken);
        }
        Payload::HttpResponse { status, headers, body } => {
            out.push_str("status ");
            write_pattern(out, status, place, broken);
            write_http_rest(out, headers.as_ref(), body.as_deref(), place, broken);
        }
    }
}

fn write_http_rest(
    out: &mut String,
    headers: Option<&Pattern>,
    body: Option<&Payload>,
    place: Level,
    broken: Option<usize>,
) {
    if let Some(headers) = headers {
        out.push_str(" headers ");
        write_pattern(out, headers, Level::Primary, broken);
    }
    if let Some(body) = body {
        out.push(' ');
        write_payload(out, body, place, broken);
    }
}

/// A string expression; in parentheses where its text would be taken for something else.
fn write_apart(out: &mut String, pattern: &Pattern, mistaken: impl Fn(&str) -> bool) {
    let mut text = String::new();
    write_pattern(&mut text, pattern, Level::Join, None);
    if mistaken(&text) { out.push_str(&format!("({text})")) } else { out.push_str(&text) }
}

fn write_bytes(out: &mut String, word: &str, bytes: &Bytes) {
    out.push_str(word);
    out.push(' ');
    match bytes {
        Bytes::Hex(bytes) => bytes.iter().for_each(|byte| out.push_str(&format!("{byte:02x}"))),
        // Without parentheses it would be read as hex digits.
        Bytes::Expression(pattern) => {
            write_apart(out, pattern, |text| text.starts_with(|c: char| c.is_ascii_hexdigit()))
        }
    }
}

fn write_optional(out: &mut String, word: &str, text: Option<&Pattern>) {
    out.push_str(word);
    if let Some(text) = text {
        out.push(' ');
        write_pattern(out, text, Level::Join, None);
    }
}

/// How tightly the place holds that a pattern is written into; looser patterns get parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    OneOf,
    AllOf,
    Not,
    Join,
    Times,
    Primary,
}

fn level_of(kind: &PatternKind) -> Level {
    match kind {
        PatternKind::OneOf(_) => Level::OneOf,
        PatternKind::AllOf(_) => Level::AllOf,
        PatternKind::Not(_) => Level::Not,
        PatternKind::Join(_) => Level::Join,
        PatternKind::Times(..) => Level::Times,
        // What follows the colon reaches as far as it can.
        PatternKind::Variable { is: Some(_), .. } => Level::Not,
        _ => Level::Primary,
    }
}

/// Writes a pattern; `broken` is the indentation of the step when its outermost objects go over several lines.
fn write_pattern(out: &mut String, pattern: &Pattern, place: Level, broken: Option<usize>) {
    if level_of(&pattern.kind) < place {
        out.push('(');
        write_pattern(out, pattern, Level::OneOf, broken);
        out.push(')');
        return;
    }
    let join = |out: &mut String, parts: &[Pattern], sign: &str, level: Level| {
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                out.push_str(sign);
            }
            write_pattern(out, part, level, broken);
        }
    };
    match &pattern.kind {
        PatternKind::Any => out.push('_'),
        PatternKind::Constant(Constant::Null) => out.push_str("null"),
        PatternKind::Constant(Constant::True) => out.push_str("true"),
        PatternKind::Constant(Constant::False) => out.push_str("false"),
        PatternKind::Number(number) => out.push_str(&number.to_string()),
        PatternKind::String { text, backticks: true } if !text.contains(['`', '\n']) => {
            out.push_str(&format!("`{text}`"));
        }
        PatternKind::String { text, .. } => out.push_str(&quote(text)),
        PatternKind::Type(word) => out.push_str(type_word(*word)),
        PatternKind::Regex(source) => out.push_str(&format!("/{}/", source.replace('/', "\\/"))),
        PatternKind::Range { low, high } => {
            if let Some(low) = low {
                out.push_str(&low.to_string());
            }
            out.push_str("..");
            if let Some(high) = high {
                out.push_str(&high.to_string());
            }
        }
        PatternKind::OneOf(parts) => join(out, parts, " | ", Level::AllOf),
        PatternKind::AllOf(parts) => join(out, parts, " & ", Level::Not),
        PatternKind::Not(inner) => {
            out.push_str("not ");
            write_pattern(out, inner, Level::Not, broken);
        }
        PatternKind::Variable { name, is } => {
            out.push_str(&format!("${}", name.text));
            if let Some(is) = is {
                out.push_str(": ");
                write_pattern(out, is, Level::Not, broken);
            }
        }
        PatternKind::Array { items, open, unordered } => {
            out.push_str(if *unordered { "unordered [" } else { "[" });
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_pattern(out, item, Level::OneOf, None);
            }
            if *open {
                out.push_str(if items.is_empty() { "..." } else { ", ..." });
            }
            out.push(']');
        }
        PatternKind::Object { members, exactly } => {
            if *exactly {
                out.push_str("exactly ");
            }
            write_object(out, members, broken);
        }
        PatternKind::Absent => out.push_str("absent"),
        PatternKind::Join(parts) => join(out, parts, " + ", Level::Times),
        PatternKind::Times(part, times) => {
            write_pattern(out, part, Level::Times, broken);
            out.push_str(&format!(" * {times}"));
        }
    }
}

fn write_object(out: &mut String, members: &[Member], broken: Option<usize>) {
    let commented = members.iter().any(|member| !member.leading.is_empty());
    // Comments force lines of their own, wherever the object stands.
    let broken = broken.or(commented.then_some(0)).filter(|_| !members.is_empty());
    out.push('{');
    for (index, member) in members.iter().enumerate() {
        if let Some(indent) = broken {
            let margin = "  ".repeat(indent + 1);
            for trivia in &member.leading {
                if let Trivia::Comment(text) = trivia {
                    out.push_str(&format!("\n{margin}#{text}"));
                }
            }
            out.push('\n');
            out.push_str(&margin);
        } else if index > 0 {
            out.push(' ');
        }
        match &member.key {
            Key::Text(text, _) => out.push_str(&quote(text)),
            Key::Variable(name) => out.push_str(&format!("${}", name.text)),
        }
        out.push_str(": ");
        let mut value = String::new();
        write_pattern(&mut value, &member.value, Level::OneOf, None);
        if let Some(indent) = broken
            && (value.chars().count() + (indent + 1) * 2 > WIDTH || value.contains('\n'))
        {
            value.clear();
            write_pattern(&mut value, &member.value, Level::OneOf, Some(indent + 1));
        }
        out.push_str(&value);
        if index + 1 < members.len() {
            out.push(',');
        }
    }
    if let Some(indent) = broken {
        out.push('\n');
        out.push_str(&"  ".repeat(indent));
    }
    out.push('}');
}

/// A string as it is written. What a reader would not see, or could not tell from something else, is escaped.
fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        let unseen = c.is_control()
            || matches!(c, '\u{a0}' | '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{1100}'..='\u{11ff}' | '\u{2000}'..='\u{206f}')
            || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{10000}'..);
        if unseen {
            let mut units = [0; 2];
            quoted.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            quoted.push(c);
        }
    }
    quoted
}

fn type_word(word: TypeWord) -> &'static str {
    match word {
        TypeWord::Array => "array",
        TypeWord::Base64 => "base64",
        TypeWord::Boolean => "boolean",
        TypeWord::Integer => "integer",
        TypeWord::Number => "number",
        TypeWord::Object => "object",
        TypeWord::String => "string",
        TypeWord::Timestamp => "timestamp",
        TypeWord::Uuid => "uuid",
    }
}
