//! A diagram for a terminal: lifelines as bars, arrows between them, what travels beside them.

use super::{Arrow, Diagram, Item, Mark};
use crate::diagnostic::escape;
use crate::pattern::json;
use crate::report::text::Style;

/// More lifelines than this leave no room for what travels.
const LIFELINES: usize = 6;
/// Columns from one lifeline to the next.
const PITCH: usize = 12;
/// Columns for the time.
const TIME: usize = 10;
/// Columns that a label gets at least.
const LABEL: usize = 24;

/// Draws a diagram within so many columns.
pub fn text(diagram: &Diagram, width: usize, style: Style) -> String {
    if diagram.items.is_empty() {
        return String::new();
    }
    let drawn = diagram.lifelines.len() <= LIFELINES;
    let timed = diagram.items.iter().any(|item| matches!(item, Item::Arrow(Arrow { at: Some(_), .. })));
    let time = if timed { TIME } else { 0 };
    let columns = if drawn { diagram.lifelines.len() * PITCH } else { 2 * PITCH + 4 };
    let label = width.saturating_sub(time + columns + 5).max(LABEL);
    let mut text = String::new();
    let mut depth = 0usize;
    if drawn {
        let heads: String = diagram.lifelines.iter().map(|name| centred(name)).collect();
        text.push_str(&format!("  {:time$}{}\n", "", style.strong(heads.trim_end())));
    }
    let bars = centre_line(diagram.lifelines.len());
    for item in &diagram.items {
        let (at, line, shown, mark) = match item {
            Item::Arrow(arrow) => {
                let line = if drawn { arrow_line(diagram, arrow) } else { names(diagram, arrow) };
                let cites = if arrow.cites.is_empty() {
                    String::new()
                } else {
                    format!("  [{}]", arrow.cites.join(" "))
                };
                let missing = if arrow.mark == Mark::Missing { "missing: " } else { "" };
                (arrow.at, line, format!("{missing}{}{cites}", arrow.label), arrow.mark)
            }
            Item::Note(note) => (None, bars.clone(), format!("({note})"), Mark::Plain),
            Item::Open(_, title) => (None, bars.clone(), format!("{title} {{"), Mark::Plain),
            Item::Else(title) => (None, bars.clone(), format!("}} {title} {{"), Mark::Plain),
            Item::Close => (None, bars.clone(), "}".to_owned(), Mark::Plain),
        };
        if matches!(item, Item::Close | Item::Else(_)) {
            depth = depth.saturating_sub(1);
        }
        let line = if drawn || matches!(item, Item::Arrow(_)) { line } else { String::new() };
        let at = at.map(|at| at.to_string()).unwrap_or_default();
        let at = if timed { format!("{at:>8}  ") } else { String::new() };
        let shown = json::cut(&escape(&shown).replace('\n', "\\n"), label.saturating_sub(depth * 2));
        let row = format!("{at}{line:<columns$}  {}{shown}", "  ".repeat(depth));
        text.push_str(&match mark {
            Mark::Plain => format!("  {}\n", row.trim_end()),
            Mark::Doubtful => format!("{} {}\n", style.doubtful("!"), style.doubtful(row.trim_end())),
            Mark::Failing | Mark::Missing => format!("{} {}\n", style.bad("✗"), style.bad(row.trim_end())),
        });
        if matches!(item, Item::Open(..) | Item::Else(_)) {
            depth += 1;
        }
    }
    text
}

/// A name in the middle of its column.
fn centred(name: &str) -> String {
    let name = escape(name);
    let name: String = if name.chars().count() >= PITCH {
        name.chars().take(PITCH - 2).chain(['…']).collect()
    } else {
        name
    };
    format!("{name:^PITCH$}")
}

fn centre(lifeline: usize) -> usize {
    lifeline * PITCH + PITCH / 2
}

fn centre_line(lifelines: usize) -> String {
    let mut line = vec![' '; lifelines * PITCH];
    (0..lifelines).for_each(|place| line[centre(place)] = '│');
    line.into_iter().collect()
}

fn arrow_line(diagram: &Diagram, arrow: &Arrow) -> String {
    let mut line: Vec<char> = centre_line(diagram.lifelines.len()).chars().collect();
    let (from, to) = (centre(arrow.from), centre(arrow.to));
    let stroke = if arrow.mark == Mark::Missing { '╌' } else { '─' };
    if from == to {
        if let Some(place) = line.get_mut(from) {
            *place = '✗';
        }
        return line.into_iter().collect();
    }
    let (low, high) = (from.min(to), from.max(to));
    line[low + 1..high].iter_mut().for_each(|place| *place = stroke);
    let head = match (arrow.mark, to > from) {
        (Mark::Missing, _) => '✗',
        (_, true) => '>',
        (_, false) => '<',
    };
    let end = if to > from { to - 1 } else { to + 1 };
    line[end] = head;
    line.into_iter().collect()
}

fn names(diagram: &Diagram, arrow: &Arrow) -> String {
    let name = |place: usize| {
        let name = diagram.lifelines.get(place).map_or("", String::as_str);
        json::cut(&escape(name), PITCH)
    };
    format!("{} -> {}", name(arrow.from), name(arrow.to))
}
