//! Changes to how a message travels: other kinds of frame, fragments, JSON written oddly, and bytes that are no frame.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Mutator;
use super::value::{join, text, times};
use crate::flow::ast::{Bytes, Constant, Key, Pattern, PatternKind, Payload, StepKind};
use crate::fuzz::case::{Case, sent, step};
use crate::pattern::{Bindings, generate};

/// WebSocket frames that break RFC 6455, and pieces of them.
const BROKEN_FRAMES: &[&[u8]] = &[
    // A text frame that is not masked.
    &[0x81, 0x02, b'{', b'}'],
    // A reserved opcode.
    &[0x83, 0x80, 0, 0, 0, 0],
    // A reserved bit.
    &[0xf1, 0x80, 0, 0, 0, 0],
    // A continuation of nothing.
    &[0x80, 0x80, 0, 0, 0, 0],
    // A Ping in fragments.
    &[0x09, 0x80, 0, 0, 0, 0],
    // A Ping that is too long.
    &[0x89, 0xfe, 0x00, 0x80, 0, 0, 0, 0],
    // A Close with half a code.
    &[0x88, 0x81, 0, 0, 0, 0, 0x03],
    // A length of more bytes than there are in the world.
    &[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    // The highest bit of a length.
    &[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    // A text that is not UTF-8.
    &[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28],
    // The beginning of a frame that never ends.
    &[0x81],
    &[0x01, 0x81, 0, 0, 0, 0, b'{'],
    b"GET / HTTP/1.1\r\n\r\n",
    &[0],
    &[0xff; 16],
];

/// Levels of JSON that a flow may have with certainty; its parser reads a few more.
const DEEPEST: usize = 40;

/// A piece of a message as text.
enum Piece {
    Literal(String),
    Variable(Pattern),
}

impl Mutator<'_> {
    pub(super) fn change_wire(&mut self, case: &mut Case, watched: &BTreeSet<String>) -> Option<String> {
        let sends = self.sends(case, watched);
        let place = *self.one_of(&sends)?;
        if self.rng.u8(..5) == 0 {
            let (said, payload) = match self.rng.u8(..4) {
                0 => ("a Ping comes between", Payload::Ping(Some(times("p", self.rng.u32(..126))))),
                1 => ("an unasked Pong comes between", Payload::Pong(Some(text("unasked")))),
                2 => ("an empty message comes between", Payload::Text(text(""))),
                _ => {
                    let frame = *self.one_of(BROKEN_FRAMES)?;
                    ("broken bytes come between", Payload::Raw(Bytes::Hex(frame.to_vec())))
                }
            };
            let StepKind::Arrow { from, to, .. } = &case.flow.steps[place].kind else { return None };
            let extra = step(StepKind::Arrow { from: from.clone(), to: to.clone(), payload });
            let at = place + self.rng.usize(..2);
            case.flow.steps.insert(at, extra);
            return Some(said.to_owned());
        }
        let payload = sent(&mut case.flow.steps[place], watched)?;
        let Payload::Json(pattern) = payload else { return None };
        let mut pieces = Vec::new();
        self.write(pattern, &mut pieces);
        let whole = as_pattern(&pieces);
        let (said, changed) = match self.rng.u8(..12) {
            0 => ("the message comes in a binary frame", Payload::Binary(Bytes::Expression(whole))),
            1 | 2 => {
                let mut parts: Vec<Pattern> = Vec::new();
                for piece in &pieces {
                    match piece {
                        Piece::Literal(literal) => {
                            let middle = literal.char_indices().nth(literal.chars().count() / 2);
                            let (head, tail) = literal.split_at(middle.map_or(0, |(at, _)| at));
                            parts.extend([text(head), text(tail)]);
                        }
                        Piece::Variable(pattern) => parts.push(pattern.clone()),
                    }
                }
                if self.rng.bool() {
                    parts.push(text(""));
                }
                ("the message comes in fragments", Payload::Fragments(parts))
            }
            3 => (
                "white space surrounds the message",
                Payload::Text(join(vec![text(" \r\n\t"), whole, text("\n ")])),
            ),
            4 => ("something follows the message", Payload::Text(join(vec![whole, text("}")]))),
            5 => ("the message comes twice in one", Payload::Text(join(vec![whole.clone(), whole]))),
            6 => (
                "a byte order mark goes before the message",
                Payload::Text(join(vec![text("\u{feff}"), whole])),
            ),
            7 => {
                pieces.pop();
                ("the message is cut short", Payload::Text(as_pattern(&pieces)))
            }
            8 => {
                // The first member again, with another value: readers differ in which one counts.
                let key = first_key(pattern)?;
                pieces.remove(0);
                let head = format!("{{{}:null,", Value::from(key));
                pieces.insert(0, Piece::Literal(head));
                let inner = self.without_brace(pattern);
                pieces.truncate(1);
                pieces.extend(inner);
                ("a member is named twice", Payload::Text(as_pattern(&pieces)))
            }
            9 => ("the message is a text in JSON", {
                let literal = Value::from(self.rendered(pattern)?).to_string();
                Payload::Text(text(&literal))
            }),
            10 => ("the message is escaped where it need not be", {
                let rendered = self.rendered(pattern)?;
                let escaped: String = rendered
                    .chars()
                    .map(|c| {
                        if c.is_ascii_alphabetic() {
                            format!("\\u{:04x}", u32::from(c))
                        } else {
                            c.to_string()
                        }
                    })
                    .collect();
                Payload::Text(text(&escaped))
            }),
            _ => ("the message has blanks in it", {
                let rendered = self.rendered(pattern)?;
                Payload::Text(text(&rendered.replace(':', " : ").replace(',', " ,\n")))
            }),
        };
        *payload = changed;
        Some(said.to_owned())
    }

    /// The JSON text of a message that names no variable.
    fn rendered(&mut self, pattern: &Pattern) -> Option<String> {
        let value = generate(pattern, &mut Bindings::default(), &mut self.rng).ok()?;
        Some(value.to_string())
    }

    /// Makes a text of a message that is nested more deeply than a flow may be written.
    pub(super) fn spell_deep(&mut self, payload: &mut Payload) {
        match payload {
            Payload::HttpRequest { body: Some(inner), .. } => self.spell_deep(inner),
            Payload::Json(pattern) if is_deeper(pattern, DEEPEST) => {
                let mut pieces = Vec::new();
                self.write(pattern, &mut pieces);
                *payload = Payload::Text(as_pattern(&pieces));
            }
            _ => {}
        }
    }

    fn without_brace(&mut self, pattern: &Pattern) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.write(pattern, &mut pieces);
        if let Some(Piece::Literal(first)) = pieces.first_mut() {
            *first = first.trim_start_matches('{').to_owned();
        }
        pieces
    }

    /// Writes a message as text; holes are filled now, variables stay.
    fn write(&mut self, pattern: &Pattern, out: &mut Vec<Piece>) {
        match &pattern.kind {
            PatternKind::Object { members, .. } => {
                literal(out, "{");
                let mut first = true;
                for member in members {
                    if matches!(member.value.kind, PatternKind::Absent) {
                        continue;
                    }
                    if !std::mem::take(&mut first) {
                        literal(out, ",");
                    }
                    match &member.key {
                        Key::Text(key, _) => literal(out, &Value::from(key.as_str()).to_string()),
                        Key::Variable(name) => {
                            literal(out, "\"");
                            let kind = PatternKind::Variable { name: name.clone(), is: None };
                            out.push(Piece::Variable(super::value::pattern(kind)));
                            literal(out, "\"");
                        }
                    }
                    literal(out, ":");
                    self.write(&member.value, out);
                }
                literal(out, "}");
            }
            PatternKind::Array { items, .. } => {
                literal(out, "[");
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        literal(out, ",");
                    }
                    self.write(item, out);
                }
                literal(out, "]");
            }
            PatternKind::Variable { .. } | PatternKind::Join(_) | PatternKind::Times(..) => {
                literal(out, "\"");
                let mut plain = pattern.clone();
                if let PatternKind::Variable { is, .. } = &mut plain.kind {
                    *is = None;
                }
                out.push(Piece::Variable(plain));
                literal(out, "\"");
            }
            PatternKind::Constant(Constant::Null) => literal(out, "null"),
            _ => {
                let value = generate(pattern, &mut Bindings::default(), &mut self.rng).unwrap_or_default();
                literal(out, &value.to_string());
            }
        }
    }
}

fn is_deeper(pattern: &Pattern, levels: usize) -> bool {
    let inside = |part: &Pattern| levels == 0 || is_deeper(part, levels - 1);
    match &pattern.kind {
        PatternKind::Array { items, .. } => items.iter().any(inside),
        PatternKind::Object { members, .. } => members.iter().any(|member| inside(&member.value)),
        _ => false,
    }
}

fn literal(out: &mut Vec<Piece>, text: &str) {
    match out.last_mut() {
        Some(Piece::Literal(known)) => known.push_str(text),
        _ => out.push(Piece::Literal(text.to_owned())),
    }
}

fn as_pattern(pieces: &[Piece]) -> Pattern {
    let mut parts: Vec<Pattern> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(literal) => text(literal),
            Piece::Variable(pattern) => pattern.clone(),
        })
        .collect();
    match parts.len() {
        0 => text(""),
        1 => parts.remove(0),
        _ => join(parts),
    }
}

fn first_key(pattern: &Pattern) -> Option<String> {
    let PatternKind::Object { members, .. } = &pattern.kind else { return None };
    members.iter().find_map(|member| match &member.key {
        Key::Text(key, _) => Some(key.clone()),
        Key::Variable(_) => None,
    })
}
