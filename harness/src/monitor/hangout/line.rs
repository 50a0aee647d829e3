//! Each connection by itself: pings, closes, and the tokens of a run side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{HANDLED, Said, is_token, packet, said, sides, strings};
use crate::monitor::{Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What};

/// Section 3.4: every 20 s, give or take one.
const PING: Duration = Duration::from_secs(20);
const PING_TOLERANCE: Duration = Duration::from_secs(1);
/// Tokens that must follow one another strangely before it is no chance.
const TOKENS: usize = 3;

/// A connection on which its client said nothing for so long is idle.
const IDLE: Duration = Duration::from_secs(5);

struct Line {
    server: Party,
    client: Party,
    opened_at: Time,
    last_ping: Option<Time>,
    pings: u32,
    open: bool,
    /// When the client last said anything but a Pong.
    said_at: Time,
    /// The client is on its way out, or has said something unclear.
    excused: bool,
    /// It stopped reading.
    deaf: bool,
}

pub(super) struct Lines {
    config: MonitorConfig,
    wildcard: String,
    lines: BTreeMap<LinkId, Line>,
    tokens: Vec<String>,
    told: BTreeSet<LinkId>,
    /// Somebody in this conversation has done something that a server may answer in many ways.
    hostile: bool,
}

impl Lines {
    pub(super) fn new(config: MonitorConfig) -> Self {
        let wildcard = config.settings.get("wildcard").cloned().unwrap_or_else(|| "*".to_owned());
        Lines {
            config,
            wildcard,
            lines: BTreeMap::new(),
            tokens: Vec::new(),
            told: BTreeSet::new(),
            hostile: false,
        }
    }

    fn ping(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let tolerance = PING_TOLERANCE + self.config.slack;
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        line.pings += 1;
        let (since, first) = match line.last_ping.replace(seen.at) {
            Some(last) => (last, false),
            None => (line.opened_at, true),
        };
        // Of one who does not read nobody knows when a Ping came.
        if line.deaf {
            return;
        }
        let gap = seen.at.since(since);
        if gap > PING + tolerance || (!first && gap + tolerance < PING) {
            let what = if first { "the first Ping came" } else { "a Ping came" };
            let after = if first { "the handshake" } else { "the one before" };
            let message = format!("{what} {:.1} s after {after}", gap.as_secs_f64());
            let expected =
                if first { "the first Ping within 21 s" } else { "Pings 20 s apart, give or take 1 s" };
            rulings.broken("HANGOUT-PING-1", seen.from, seen.at, message, expected, Value::Null);
        } else if !first {
            rulings.kept("HANGOUT-PING-1", seen.from, seen.at);
        }
    }

    fn tokens(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(packet) =
            packet(&seen.what).filter(|packet| packet.from == "server" && packet.kind == "metadata")
        else {
            return;
        };
        let Some(body) = packet.whole.get("metadata") else { return };
        let index = body.get("index").and_then(Value::as_str);
        let mut all = strings(body.get("indexes"));
        all.extend(index);
        let reserved = |token: &&&str| **token == "server" || **token == self.wildcard || token.is_empty();
        if let Some(token) = all.iter().find(reserved) {
            let message = format!("a connection is called {token:?}");
            rulings.broken(
                "HANGOUT-TOKEN-2",
                seen.from,
                seen.at,
                message,
                "a token that is no other address",
                packet.whole.clone(),
            );
        }
        match all.iter().find(|token| !is_token(token)) {
            Some(token) => {
                let message = format!("the token {token:?} has another form");
                rulings.broken(
                    "HANGOUT-TOKEN-3",
                    seen.from,
                    seen.at,
                    message,
                    "32 lower-case hex digits",
                    packet.whole.clone(),
                );
            }
            None if !all.is_empty() => rulings.kept("HANGOUT-TOKEN-3", seen.from, seen.at),
            None => {}
        }
        let Some(index) = index else { return };
        if !self.told.insert(seen.link) {
            return;
        }
        if !self.tokens.iter().any(|known| known == index) {
            rulings.kept("HANGOUT-TOKEN-2", seen.from, seen.at);
            self.tokens.push(index.to_owned());
        }
        self.guessable(seen, packet.whole, rulings);
    }

    /// Tokens that count, or share a long beginning, can be guessed.
    fn guessable(&self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        if self.tokens.len() < TOKENS {
            return;
        }
        let latest = &self.tokens[self.tokens.len() - TOKENS..];
        let numbers: Vec<u128> =
            latest.iter().filter_map(|token| u128::from_str_radix(token, 16).ok()).collect();
        let steps: BTreeSet<u128> = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        let counting = numbers.len() == TOKENS && steps.len() == 1;
        let shared = latest.iter().map(String::as_bytes).reduce(|a, b| {
            let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            &a[..same]
        });
        let long = shared.is_some_and(|shared| shared.len() * 2 >= latest[0].len());
        if counting || long {
            let message = format!("the last {TOKENS} tokens follow one another: {}", latest.join(", "));
            rulings.broken(
                "HANGOUT-TOKEN-4",
                seen.from,
                seen.at,
                message,
                "tokens that cannot be guessed",
                whole.clone(),
            );
        } else {
            rulings.kept("HANGOUT-TOKEN-4", seen.from, seen.at);
        }
    }

    fn closing(&mut self, seen: &Seen<'_>, code: Option<u16>, rulings: &mut Rulings) {
        if let Some(code) = code {
            let legal = matches!(code, 1000..=1003 | 1007..=1011 | 3000..=4999);
            if legal {
                rulings.kept("HANGOUT-ROBUST-7", seen.from, seen.at);
            } else {
                let message = format!("a Close frame with the code {code}");
                let expected = "a code that may stand in a Close frame";
                rulings.broken("HANGOUT-ROBUST-7", seen.from, seen.at, message, expected, Value::from(code));
            }
        }
        self.lost(seen, rulings);
    }

    /// The server ended a link whose client did nothing wrong.
    fn lost(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let idle = seen.at.since(line.said_at) >= IDLE;
        if line.open && idle && !line.excused && !self.hostile {
            let message = format!("the server ended the connection of {}, who did nothing", line.client.name);
            rulings.broken(
                "HANGOUT-CONN-3",
                seen.from,
                seen.at,
                message,
                "the connection stays open",
                Value::Null,
            );
        }
        line.open = false;
    }
}

/// An envelope that costs nobody the connection, whatever the server makes of odd ones.
fn is_harmless(json: &Result<&Value, NotJson>) -> bool {
    match said(json) {
        Said::Envelope(envelope) if envelope.to.contains(&"server") && envelope.kind == "properties" => {
            envelope.payload.as_object().is_some_and(|written| {
                written.len() <= 25 && written.values().all(|value| !value.is_object() && !value.is_array())
            })
        }
        Said::Envelope(_) => true,
        Said::Unclear => false,
    }
}

impl Monitor for Lines {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((server, client, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Opened { .. } => {
                let line = Line {
                    server: server.clone(),
                    client: client.clone(),
                    opened_at: seen.at,
                    last_ping: None,
                    pings: 0,
                    open: true,
                    said_at: seen.at,
                    excused: false,
                    deaf: false,
                };
                self.lines.insert(seen.link, line);
            }
            What::Ping(_) if from_server => self.ping(seen, rulings),
            What::Closing { code, .. } if from_server => self.closing(seen, *code, rulings),
            What::Closed if from_server => self.lost(seen, rulings),
            What::Closing { .. } | What::Closed => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.open = false;
                }
            }
            What::Text { .. } if from_server => self.tokens(seen, rulings),
            What::Text { json, text } if is_harmless(json) && text.len() <= HANDLED => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.said_at = seen.at;
                }
            }
            What::Text { .. } | What::Binary(_) | What::Raw(_) | What::Stalled if !from_server => {
                self.hostile = true;
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.excused = true;
                    line.deaf |= matches!(seen.what, What::Stalled);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        let limit = PING + PING_TOLERANCE + self.config.slack;
        for line in self.lines.values().filter(|line| line.open && !line.excused) {
            let since = line.last_ping.unwrap_or(line.opened_at);
            if now.since(since) > limit {
                let message =
                    format!("{} got no Ping for {:.1} s", line.client.name, now.since(since).as_secs_f64());
                rulings.broken(
                    "HANGOUT-PING-1",
                    &line.server,
                    now,
                    message,
                    "a Ping every 20 s",
                    Value::Null,
                );
            }
            if now.since(line.opened_at) > PING && !self.hostile {
                rulings.kept("HANGOUT-CONN-3", &line.server, now);
            }
        }
    }
}
