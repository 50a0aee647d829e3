//! A program behind the rules of a sinner. What passes between the program and whoever it talks to goes through the
//! rules, so that any program can be one with a planted fault: how the checks of a protocol without a reference
//! implementation are seen to fail.
//!
//! Both sides are links of one machine: strangers connect to it, and for each it connects to the other side. For a
//! program that listens, the strangers are testers; for one that connects, they are the program.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::driver::host::{Filter, ReceivedFrame, WireAction};
use flowproof_reference::machine::{
    Frame, Input, LinkId, Machine, Message, Outbox, Request, Response, Time, WireFault,
};
use serde_json::Value;

use super::Sinner;
use super::filter::RuleFilter;

/// Links that this side asked for are numbered from here on, so that they are never those of strangers.
const ONWARD: u64 = 1 << 31;

/// Messages that may wait until the other side is there.
const WAITING: usize = 1000;

/// Headers that each connection has of its own.
const OWN_HEADERS: [&str; 8] = [
    "host",
    "upgrade",
    "connection",
    "content-length",
    "transfer-encoding",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
];

/// Hands on what comes from either side.
#[derive(Debug, Default)]
pub struct Passage {
    /// The other side of each link, both ways.
    across: BTreeMap<LinkId, LinkId>,
    /// The subprotocol that a stranger wants most.
    subprotocols: BTreeMap<LinkId, String>,
    /// What a stranger said before the other side was there: streams without a handshake are open at once.
    waiting: BTreeMap<LinkId, Vec<Message>>,
    /// Links without WebSocket's rules about text.
    framed: BTreeSet<LinkId>,
}

impl Passage {
    fn ask(&mut self, link: LinkId, request: &Request, out: &mut Outbox<()>) {
        let onward = LinkId(ONWARD + link.0);
        self.across.insert(link, onward);
        self.across.insert(onward, link);
        self.waiting.insert(onward, Vec::new());
        if request.method.is_empty() {
            self.framed.extend([link, onward]);
        }
        let wanted = request.header("sec-websocket-protocol").and_then(|names| names.split(',').next());
        if let Some(wanted) = wanted {
            self.subprotocols.insert(link, wanted.trim().to_owned());
        }
        out.connect(onward, Request { headers: without_own(&request.headers), ..request.clone() });
    }

    fn forget(&mut self, link: LinkId) -> Option<LinkId> {
        let other = self.across.remove(&link)?;
        self.subprotocols.remove(&link);
        self.waiting.remove(&link);
        self.framed.remove(&link);
        // The other end may still be there.
        self.across.contains_key(&other).then_some(other)
    }

    fn hand_on(&mut self, link: LinkId, frame: Frame<'_>, out: &mut Outbox<()>) {
        let Some(other) = self.across.get(&link).copied() else { return };
        let message = match frame {
            Frame::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Message::Text(text.to_owned()),
                Err(_) if self.framed.contains(&link) => Message::Binary(bytes.to_vec()),
                // What cannot be said on is answered as RFC 6455 has it, for the other side.
                Err(_) => return self.refuse(link, 1007, out),
            },
            Frame::Binary(bytes) => Message::Binary(bytes.to_vec()),
            Frame::Ping(bytes) => Message::Ping(bytes.to_vec()),
            Frame::Pong(bytes) => Message::Pong(bytes.to_vec()),
            Frame::Broken(WireFault::Protocol) => return self.refuse(link, 1002, out),
            Frame::Broken(WireFault::TooBig) => return self.refuse(link, 1009, out),
        };
        match self.waiting.get_mut(&other) {
            Some(waiting) if waiting.len() < WAITING => waiting.push(message),
            Some(_) => out.abort(link),
            None => out.send(other, message),
        }
    }

    fn refuse(&self, link: LinkId, code: u16, out: &mut Outbox<()>) {
        out.close(link, Some(code), "");
        if let Some(other) = self.across.get(&link) {
            out.abort(*other);
        }
    }
}

fn without_own(headers: &[(String, String)]) -> Vec<(String, String)> {
    headers.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str())).cloned().collect()
}

impl Machine for Passage {
    type Command = ();
    type Event = ();

    fn handle(&mut self, _now: Time, input: Input<'_, ()>, out: &mut Outbox<()>) {
        match input {
            Input::Requested { link, request } => self.ask(link, request, out),
            Input::Opened { link } => {
                if let Some(stranger) = self.across.get(&link) {
                    out.accept(*stranger, self.subprotocols.get(stranger).cloned());
                }
                let waiting = self.waiting.remove(&link).unwrap_or_default();
                waiting.into_iter().for_each(|message| out.send(link, message));
            }
            Input::Refused { link, status } => {
                if let Some(stranger) = self.forget(link) {
                    let status = status.unwrap_or(502);
                    out.respond(stranger, Response { status, ..Response::default() });
                    self.forget(stranger);
                }
            }
            Input::Answered { link, response } => {
                if let Some(stranger) = self.forget(link) {
                    let headers = without_own(&response.headers);
                    out.respond(stranger, Response { headers, ..response.clone() });
                    self.forget(stranger);
                }
            }
            Input::Received { link, frame } => self.hand_on(link, frame, out),
            Input::Closing { link, code, reason } => {
                out.close(link, code, "");
                if let Some(other) = self.forget(link) {
                    out.close(other, code, reason);
                    self.forget(other);
                }
            }
            Input::Closed { link } => {
                if let Some(other) = self.forget(link) {
                    out.abort(other);
                }
            }
            Input::Bound { .. }
            | Input::NotBound { .. }
            | Input::Datagram { .. }
            | Input::Command(())
            | Input::Tick => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn command(name: &str, _with: &Value) -> Result<(), String> {
        Err(format!("`{name}` is for the program behind this"))
    }

    fn leave() -> Option<()> {
        None
    }
}

/// The rules of a sinner on one side of a passage only: the one on which the testers are.
pub struct OneSide {
    rules: RuleFilter,
    strangers: bool,
}

impl OneSide {
    /// The rules of `sinner`, played by a program that `listens` or connects.
    pub fn new(sinner: &Sinner, listens: bool) -> OneSide {
        OneSide { rules: RuleFilter::new(sinner), strangers: listens }
    }

    fn watches(&self, link: LinkId) -> bool {
        (link.0 < ONWARD) == self.strangers
    }
}

impl Filter for OneSide {
    fn outgoing(
        &mut self,
        now: Time,
        link: LinkId,
        action: WireAction,
        open: &[LinkId],
        out: &mut Vec<(LinkId, WireAction)>,
    ) {
        if self.watches(link) {
            let open: Vec<LinkId> = open.iter().copied().filter(|link| self.watches(*link)).collect();
            self.rules.outgoing(now, link, action, &open, out);
        } else {
            out.push((link, action));
        }
    }

    fn incoming(&mut self, now: Time, link: LinkId, frame: ReceivedFrame, out: &mut Vec<ReceivedFrame>) {
        if self.watches(link) {
            self.rules.incoming(now, link, frame, out);
        } else {
            out.push(frame);
        }
    }

    fn segment(&mut self, now: Time, link: LinkId, bytes: &[u8]) -> bool {
        !self.watches(link) || self.rules.segment(now, link, bytes)
    }

    fn deadline(&self) -> Option<Time> {
        self.rules.deadline()
    }

    fn due(&mut self, now: Time, out: &mut Vec<(LinkId, WireAction)>) {
        self.rules.due(now, out);
    }
}
