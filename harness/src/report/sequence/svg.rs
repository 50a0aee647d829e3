//! A diagram as SVG: one file without scripts, in the reader's light or dark colours.

use super::{Arrow, Diagram, Item, Mark};
use crate::diagnostic::escape;
use crate::pattern::json;

/// From one lifeline to the next.
const PITCH: usize = 240;
/// From the edge to the first lifeline.
const MARGIN: usize = 110;
/// The height of a row.
const ROW: usize = 38;
/// Where the first row begins.
const TOP: usize = 56;
/// The width of a character of a label.
const CHARACTER: f64 = 6.7;
/// Characters in the tooltip of a label.
const TOOLTIP: usize = 1000;

const STYLE: &str = "\
.bg{fill:#fff}.ink{fill:#1c2024}.dim{fill:#60646c}.line{stroke:#b9bbc6}.arrow{stroke:#1c2024}.head{fill:#1c2024}\
.box{fill:#f0f0f3;stroke:#b9bbc6}.frame{fill:none;stroke:#8b8d98;stroke-dasharray:3 3}.cite{fill:#0d74ce}\
.bad .arrow{stroke:#ce2c31;stroke-width:2.5}.bad .head,.bad .ink{fill:#ce2c31}.poor .arrow{stroke:#ab6400}\
.poor .head,.poor .ink{fill:#ab6400}.band{fill:#ce2c31;opacity:.1}\
@media(prefers-color-scheme:dark){.bg{fill:#111113}.ink{fill:#edeef0}.dim{fill:#b0b4ba}.line{stroke:#43484e}\
.arrow{stroke:#edeef0}.head{fill:#edeef0}.box{fill:#212225;stroke:#43484e}.frame{stroke:#696e77}.cite{fill:#70b8ff}\
.bad .arrow{stroke:#ff9592}.bad .head,.bad .ink{fill:#ff9592}.poor .arrow{stroke:#ffca16}\
.poor .head,.poor .ink{fill:#ffca16}.band{fill:#ff9592;opacity:.12}}";

/// Draws a diagram; `title` is read to those who do not see it.
pub fn svg(diagram: &Diagram, title: &str) -> String {
    let lifelines = diagram.lifelines.len().max(1);
    let width = 2 * MARGIN + (lifelines - 1) * PITCH;
    let height = TOP + diagram.items.len() * ROW + 24;
    let mut body = String::new();
    for (place, name) in diagram.lifelines.iter().enumerate() {
        let x = centre(place);
        body.push_str(&format!(
            "<line class=\"line\" x1=\"{x}\" y1=\"40\" x2=\"{x}\" y2=\"{}\"/><rect class=\"box\" x=\"{}\" y=\"12\" \
             width=\"140\" height=\"28\" rx=\"5\"/><text class=\"ink\" x=\"{x}\" y=\"31\" text-anchor=\"middle\" \
             font-weight=\"600\">{}</text>\n",
            height - 12,
            x - 70,
            words(name, 18)
        ));
    }
    let mut frames: Vec<usize> = Vec::new();
    for (row, item) in diagram.items.iter().enumerate() {
        let y = TOP + row * ROW + ROW / 2;
        match item {
            Item::Arrow(arrow) => body.push_str(&arrow_marks(arrow, y, width)),
            Item::Note(note) => {
                let shown = words(note, fitting(width - 40));
                let half = shown_width(note, fitting(width - 40)) / 2 + 8;
                let middle = width / 2;
                body.push_str(&format!(
                    "<rect class=\"box\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"24\" rx=\"4\"/><text class=\"dim\" \
                     x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{shown}</text>\n",
                    middle.saturating_sub(half),
                    y - 12,
                    half * 2,
                    y + 4
                ));
            }
            Item::Open(_, title) => {
                body.push_str(&frame_title(title, frames.len(), y));
                frames.push(y);
            }
            Item::Else(title) => {
                let inset = 10 + frames.len().saturating_sub(1) * 8;
                body.push_str(&format!(
                    "<line class=\"frame\" x1=\"{inset}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>{}",
                    y - 14,
                    width - inset,
                    y - 14,
                    frame_title(title, frames.len().saturating_sub(1), y)
                ));
            }
            Item::Close => {
                if let Some(top) = frames.pop() {
                    let inset = 10 + frames.len() * 8;
                    body.push_str(&format!(
                        "<rect class=\"frame\" x=\"{inset}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"4\"/>\n",
                        top - 14,
                        width - 2 * inset,
                        (y + 4).saturating_sub(top - 14)
                    ));
                }
            }
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"ui-sans-serif,system-ui,sans-serif\" \
         font-size=\"12\"><title>{}</title><style>{STYLE}</style><rect class=\"bg\" width=\"{width}\" \
         height=\"{height}\"/>\n{body}</svg>\n",
        words(title, TOOLTIP)
    )
}

fn centre(lifeline: usize) -> usize {
    MARGIN + lifeline * PITCH
}

fn frame_title(title: &str, depth: usize, y: usize) -> String {
    format!(
        "<text class=\"dim\" x=\"{}\" y=\"{y}\" font-weight=\"600\">{}</text>\n",
        16 + depth * 8,
        words(title, 60)
    )
}

fn arrow_marks(arrow: &Arrow, y: usize, width: usize) -> String {
    let (from, to) = (centre(arrow.from), centre(arrow.to));
    let class = match arrow.mark {
        Mark::Plain => "",
        Mark::Failing | Mark::Missing => " class=\"bad\"",
        Mark::Doubtful => " class=\"poor\"",
    };
    let mut text = format!("<g{class}><title>{}</title>", words(&arrow.label, TOOLTIP));
    if matches!(arrow.mark, Mark::Failing | Mark::Missing) {
        text.push_str(&format!(
            "<rect class=\"band\" x=\"0\" y=\"{}\" width=\"{width}\" height=\"{ROW}\"/>",
            y - 20
        ));
    }
    let line = y + 8;
    if from == to {
        text.push_str(&format!(
            "<path class=\"arrow\" fill=\"none\" d=\"M{from} {} h26 v10 h-22\"/><path class=\"head\" d=\"M{} {line} l8 -4 v8 z\"/>",
            y - 2,
            from + 2
        ));
    } else {
        let dashed = if arrow.mark == Mark::Missing { " stroke-dasharray=\"6 4\"" } else { "" };
        let (end, tip) = if to > from { (to - 2, -8i64) } else { (to + 2, 8) };
        text.push_str(&format!(
            "<line class=\"arrow\" x1=\"{from}\" y1=\"{line}\" x2=\"{end}\" y2=\"{line}\"{dashed}/><path class=\"head\" \
             d=\"M{end} {line} l{tip} -4 v8 z\"/>"
        ));
        if arrow.mark == Mark::Missing {
            let middle = usize::midpoint(from, to);
            text.push_str(&format!(
                "<path class=\"arrow\" d=\"M{} {} l12 12 m0 -12 l-12 12\"/>",
                middle - 6,
                line - 6
            ));
        }
    }
    let left = from.min(to);
    let span = if from == to { width.saturating_sub(from + 40) } else { from.abs_diff(to) };
    let cites = if arrow.cites.is_empty() { String::new() } else { format!(" [{}]", arrow.cites.join(" ")) };
    let room = fitting(span.saturating_sub(16)).max(12);
    let room_for_label = room.saturating_sub(cites.chars().count()).max(8);
    let x = if from == to { from + 34 } else { left + 8 };
    text.push_str(&format!(
        "<text class=\"ink\" x=\"{x}\" y=\"{}\">{}<tspan class=\"cite\">{}</tspan></text>",
        y + 2,
        words(&arrow.label, room_for_label),
        words(&cites, 80)
    ));
    if let Some(at) = arrow.at {
        text.push_str(&format!(
            "<text class=\"dim\" x=\"8\" y=\"{}\" font-size=\"10\">{at}</text>",
            line + 3
        ));
    }
    text.push_str("</g>\n");
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "widths of a drawing are small")]
fn fitting(width: usize) -> usize {
    (width as f64 / CHARACTER) as usize
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "widths of a drawing are small")]
fn shown_width(text: &str, limit: usize) -> usize {
    (text.chars().count().min(limit) as f64 * CHARACTER) as usize
}

/// At most so many characters, as XML text.
pub(crate) fn words(text: &str, limit: usize) -> String {
    let shown = escape(text).replace('\n', " ");
    let shown = if shown.chars().count() > limit {
        let kept: String = shown.chars().take(limit.saturating_sub(1)).collect();
        format!("{kept}…")
    } else {
        json::cut(&shown, limit)
    };
    xml(&shown)
}

/// Text with what XML takes for markup replaced, and without what XML does not allow at all.
pub(crate) fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
