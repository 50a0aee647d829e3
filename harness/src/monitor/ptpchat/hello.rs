//! Greetings: how often they come, what they carry, and that a node stays who it says it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::{Message, ends, message, same_id};
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// The longest and the shortest gap between two greetings that a tester takes for lawful (section 3.7).
const LONGEST: Duration = Duration::from_millis(2250);
const SHORTEST: Duration = Duration::from_millis(400);
/// A gap with one greeting lost in it; away from the loopback network one such is no proof.
const ONE_LOST: Duration = Duration::from_millis(4500);
/// Gaps that must have been seen before any of them is judged.
const GAPS: usize = 5;
/// Sockets that are greeted beyond which the gaps are not judged.
const CROWD: usize = 50;
/// How long our own greetings may pause without being taken for the end of them.
const OUR_PAUSE: Duration = Duration::from_millis(1800);
/// Silence after which nobody need be greeted, and after which nobody may be who is not configured (section 3.7).
const FORGOTTEN: Duration = Duration::from_secs(130);
/// Silence that is borne by every node.
const PATIENCE: Duration = Duration::from_secs(5);

/// The greetings of a watched node to one socket of somebody else.
struct Line {
    by: Party,
    loopback: bool,
    /// When the other end greeted last, and since when without a pause.
    theirs: Option<(Time, Time)>,
    last: Option<Time>,
    /// The gaps between two greetings in times when the other end greeted too, each with its end.
    gaps: Vec<(Duration, Time)>,
    /// Both ends are watched: nobody knows whom they were told of.
    live: bool,
    silence_told: bool,
    /// The other end has closed its socket.
    closed: bool,
}

pub(super) struct Hello {
    config: MonitorConfig,
    lines: BTreeMap<(SocketAddr, SocketAddr), Line>,
    /// Who each watched node says it is.
    ids: BTreeMap<String, String>,
}

impl Hello {
    pub(super) fn new(config: MonitorConfig) -> Hello {
        Hello { config, lines: BTreeMap::new(), ids: BTreeMap::new() }
    }

    fn line(&mut self, node: SocketAddr, other: SocketAddr, by: &Party) -> &mut Line {
        self.lines.entry((node, other)).or_insert_with(|| Line {
            by: by.clone(),
            loopback: node.ip().is_loopback(),
            theirs: None,
            last: None,
            gaps: Vec::new(),
            live: false,
            silence_told: false,
            closed: false,
        })
    }

    fn greeted(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((from, to)) = ends(seen) else { return };
        let (at, slack) = (seen.at, self.config.slack);
        let line = self.line(from, to, seen.from);
        line.live |= seen.to.under_test;
        let last = line.last.replace(at);
        let Some((theirs, since)) = line.theirs else { return };
        let silent = at.since(theirs);
        if silent > FORGOTTEN + slack && !line.live && !std::mem::replace(&mut line.silence_told, true) {
            let message = format!("a machine that had been silent for {} s was greeted", silent.as_secs());
            let expected = "no greeting 130 s after the last sign of life";
            rulings.broken("PTPCHAT-HELLO-12", seen.from, at, message, expected, Value::Null);
        }
        if let Some(last) = last
            && last >= since
            && silent <= OUR_PAUSE
        {
            line.gaps.push((at.since(last), at));
        }
    }

    fn was_greeted(&mut self, seen: &Seen<'_>) {
        let Some((from, to)) = ends(seen) else { return };
        let at = seen.at;
        let line = self.line(to, from, seen.to);
        line.theirs = match line.theirs {
            Some((last, since)) if at.since(last) <= OUR_PAUSE => Some((at, since)),
            _ => Some((at, at)),
        };
    }

    fn content(&mut self, seen: &Seen<'_>, hello: &Message<'_>, rulings: &mut Rulings) {
        if self.config.edition == "seed" {
            match hello.whole.get("msg_data") {
                None | Some(Value::Null) => rulings.kept("PTPCHAT-HELLO-4", seen.from, seen.at),
                Some(data) => {
                    let message = "the HELLO carries `msg_data`";
                    let expected = "`msg_data` absent or null";
                    let actual = hello.whole.clone();
                    if data.is_object() {
                        // What the very next revisions of the document do (section 6.24).
                        rulings.tolerated("PTPCHAT-HELLO-4", seen.from, seen.at, message, expected, actual);
                    } else {
                        rulings.broken("PTPCHAT-HELLO-4", seen.from, seen.at, message, expected, actual);
                    }
                }
            }
            return;
        }
        let Some(id) = hello.text("node_id") else { return };
        match self.ids.get(&seen.from.name) {
            Some(known) if !same_id(known, id) => {
                let message = format!("the node calls itself {id} now, and called itself {known}");
                let actual = hello.whole.clone();
                rulings.broken(
                    "PTPCHAT-HELLO-9",
                    seen.from,
                    seen.at,
                    message,
                    "one id for its lifetime",
                    actual,
                );
            }
            Some(_) => rulings.kept("PTPCHAT-HELLO-9", seen.from, seen.at),
            None => {
                self.ids.insert(seen.from.name.clone(), id.to_owned());
            }
        }
    }

    fn routing(&self, seen: &Seen<'_>, routing: &Message<'_>, rulings: &mut Rulings) {
        let (Some(id), Some(known)) = (routing.text("node_id"), self.ids.get(&seen.from.name)) else {
            return;
        };
        if same_id(id, known) {
            rulings.kept("PTPCHAT-ROUT-5", seen.from, seen.at);
        } else {
            let message = format!("the node calls itself {id} in ROUTING and {known} in HELLO");
            let actual = routing.whole.clone();
            rulings.broken("PTPCHAT-ROUT-5", seen.from, seen.at, message, "the same id", actual);
        }
    }
}

impl Monitor for Hello {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if matches!(seen.what, What::Closed)
            && let Some((from, to)) = ends(seen)
            && let Some(line) = self.lines.get_mut(&(to, from))
        {
            line.closed = true;
            return;
        }
        let Some(seen_message) = message(&seen.what) else { return };
        match seen_message.verb {
            "HELLO" => {
                if seen.from.under_test {
                    self.content(seen, &seen_message, rulings);
                    self.greeted(seen, rulings);
                }
                // On live traffic both ends are watched.
                if seen.to.under_test {
                    self.was_greeted(seen);
                }
            }
            "ROUTING" if seen.from.under_test => self.routing(seen, &seen_message, rulings),
            _ => {}
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        let slack = self.config.slack;
        // Where very many are greeted, gaps tell how busy the machine is that all of them share.
        let crowd = self.lines.len() > CROWD;
        for line in self.lines.values() {
            if line.gaps.len() >= GAPS && !crowd {
                line.judge(slack, rulings);
            }
            line.judge_silence(now, slack, rulings);
        }
    }
}

impl Line {
    /// Somebody stopped greeting long ago, and reads on.
    fn judge_silence(&self, now: Time, slack: Duration, rulings: &mut Rulings) {
        let (Some((theirs, _)), Some(last)) = (self.theirs, self.last) else { return };
        if self.closed || self.live || self.silence_told || now.since(theirs) <= FORGOTTEN + slack {
            return;
        }
        if last + LONGEST + slack < theirs + PATIENCE {
            let message = format!(
                "the last HELLO came {:.1} s after the last of the other side",
                last.since(theirs).as_secs_f64()
            );
            let expected = "greetings for 5 s more, at least";
            rulings.broken("PTPCHAT-HELLO-12", &self.by, last, message, expected, Value::Null);
        } else {
            rulings.kept("PTPCHAT-HELLO-12", &self.by, now);
        }
    }

    fn judge(&self, slack: Duration, rulings: &mut Rulings) {
        let long: Vec<_> = self.gaps.iter().filter(|(gap, _)| *gap > LONGEST + slack).collect();
        let excused = !self.loopback && long.len() == 1 && long[0].0 <= ONE_LOST + slack;
        match long.first() {
            Some((gap, at)) if !excused => {
                let message = format!("{:.2} s passed between two HELLOs", gap.as_secs_f64());
                rulings.broken("PTPCHAT-HELLO-2", &self.by, *at, message, "at most 2 s", Value::Null);
            }
            Some(_) => {}
            None => rulings.kept("PTPCHAT-HELLO-2", &self.by, self.gaps[0].1),
        }
        // However greetings are held up on their way, many in a short time were sent in a short time.
        let all: Duration = self.gaps.iter().map(|(gap, _)| *gap).sum();
        let crowded = all + slack < SHORTEST * u32::try_from(self.gaps.len()).unwrap_or(u32::MAX);
        // One short gap follows from one that was held up on its way.
        let short: Vec<_> = self.gaps.iter().filter(|(gap, _)| *gap + slack < SHORTEST).collect();
        match short.first() {
            _ if crowded => {
                let message = format!("{} HELLOs in {:.2} s", self.gaps.len(), all.as_secs_f64());
                let at = self.gaps.last().map_or(Time::ZERO, |(_, at)| *at);
                rulings.broken(
                    "PTPCHAT-HELLO-3",
                    &self.by,
                    at,
                    message,
                    "at least 0.5 s between two",
                    Value::Null,
                );
            }
            Some((gap, at)) if short.len() > 1 => {
                let message = format!("only {:.2} s passed between two HELLOs", gap.as_secs_f64());
                rulings.broken("PTPCHAT-HELLO-3", &self.by, *at, message, "at least 0.5 s", Value::Null);
            }
            Some(_) => {}
            None => rulings.kept("PTPCHAT-HELLO-3", &self.by, self.gaps[0].1),
        }
    }
}
