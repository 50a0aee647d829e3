//! Why somebody said `close` who had no reason to: what it was sent last was plainly well-formed, so it left over
//! something that it has to take (SEQ-5, EVT-8, REQ-8, REQ-10). A response may be of a wrong form, so nothing is
//! concluded from one.

use std::collections::{BTreeMap, BTreeSet};

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::plain::is_plain;
use super::{ENVELOPE, Message, has_only, integer, is_register, message, sides};
use crate::monitor::{Monitor, Party, Rulings, Seen, What};

/// What a side was sent last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Last {
    Event(String),
    Request {
        stem: String,
        seq: i64,
        failed: bool,
    },
    /// A response that tells of the failure of a request of its own.
    Failure,
    /// A plain message of the handshake.
    Handshake,
    /// Another response to a request of its own.
    Response,
}

#[derive(Default)]
struct Side {
    ready: bool,
    /// Messages of the handshake that it was sent.
    handshake: BTreeSet<String>,
    /// Something was sent to it that is not plain.
    strange: bool,
    last: Option<Last>,
    /// The number of the last message to it, and whether it followed the one before.
    heard: Option<i64>,
    leapt: bool,
    /// Its own requests that are not answered.
    asking: Vec<(String, i64)>,
    gone: bool,
    /// What it said last told of a failure.
    told_failure: bool,
    /// The id of the slave that registered with it, and whether another link has registered the same since.
    registered: Option<i64>,
    displaced: bool,
}

#[derive(Default)]
pub(super) struct Leavings {
    /// By the one who is judged.
    sides: BTreeMap<(LinkId, String), Side>,
}

/// Requests whose responses hold one thing beside their number.
const RESULTS: &[&str] = &[
    "list_slaves",
    "list_instances",
    "get_instance_config",
    "subspace_storage:remove",
    "send_rcon",
    "statistics_exporter:get_metrics",
    "subspace_storage:get_storage",
];

/// True for a number that every reader can hold.
fn is_usual(seq: Option<i64>) -> bool {
    seq.is_some_and(|seq| (0..1 << 53).contains(&seq))
}

/// True where the reason to close says that a program ends, and nothing of what it was sent (section 2.3).
fn is_parting(reason: &str) -> bool {
    const WORDS: [&str; 7] =
        ["quit", "quitting", "restart", "restarting", "shutdown", "shutting", "stopping"];
    let reason = reason.to_lowercase();
    // Names of messages are no words of their own.
    let mut words = reason.split(|c: char| !c.is_alphanumeric() && c != '_');
    !reason.starts_with("invalid") && words.any(|word| WORDS.contains(&word))
}

/// True for a registration of the kind that its sender is, with all that it needs (section 2.3).
fn is_registration(from: &Party, message: &Message<'_>) -> bool {
    let is_text = |name: &str| message.data.get(name).is_some_and(Value::is_string);
    let is_slave = message.kind == "register_slave";
    let named = !is_slave || (is_text("name") && message.data.get("id").and_then(integer).is_some());
    is_slave == (from.role == "slave") && is_text("agent") && is_text("version") && named
}

impl Leavings {
    /// A slave that registers anew displaces its older link, which is told so.
    fn displace(&mut self, link: LinkId, to: &Party, message: &Message<'_>) {
        if message.kind != "register_slave" {
            return;
        }
        let Some(id) = message.data.get("id").and_then(integer) else { return };
        for ((other, name), side) in &mut self.sides {
            side.displaced |= *other != link && *name == to.name && side.registered == Some(id);
        }
        self.sides.entry((link, to.name.clone())).or_default().registered = Some(id);
    }

    fn heard(&mut self, link: LinkId, from: &Party, to: &Party, read: Option<Message<'_>>) {
        if let Some(message) = &read {
            self.displace(link, to, message);
        }
        let side = self.sides.entry((link, to.name.clone())).or_default();
        let Some(message) = read else {
            side.strange = true;
            return;
        };
        side.leapt = match (side.heard, message.seq) {
            (Some(before), Some(now)) => now != before.saturating_add(1),
            (None, Some(_)) => false,
            (_, None) => true,
        };
        side.heard = message.seq.or(side.heard);
        side.strange |= !has_only(message.whole, ENVELOPE);
        if matches!(message.kind, "hello" | "ready" | "register_slave" | "register_control") {
            // Out of their order, or a second time, they may end a link.
            // Nobody says what is the other side's to say.
            side.strange |= matches!(message.kind, "hello" | "ready") != (from.role == "master");
            let early = message.kind == "ready" && !side.handshake.contains("hello");
            let version = message.data.get("version").is_some_and(Value::is_string);
            side.strange |= message.kind == "hello" && !version;
            side.strange |= !is_usual(message.seq) || side.ready || early;
            // Who registers, does so once and as what it is.
            side.strange |= is_register(message.kind) && !is_registration(from, &message);
            let step = if is_register(message.kind) { "register" } else { message.kind };
            side.strange |= !side.handshake.insert(step.to_owned());
            side.ready |= message.kind == "ready" && message.data.is_empty() && from.role == "master";
            side.last = Some(Last::Handshake);
            return;
        }
        let stem_of = |suffix: &str| message.kind.strip_suffix(suffix).map(str::to_owned);
        let plain = is_plain(from, to, &message);
        side.last = if let Some(stem) = stem_of("_event").filter(|_| plain) {
            Some(Last::Event(stem))
        } else if let (Some(stem), Some(seq)) = (stem_of("_request").filter(|_| plain), message.seq) {
            Some(Last::Request { stem, seq, failed: false })
        } else if let Some(stem) = stem_of("_response") {
            let to = message.data.get("seq").and_then(integer);
            let found = side.asking.iter().position(|(known, seq)| *known == stem && Some(*seq) == to);
            found.map(|place| {
                side.asking.remove(place);
                let error =
                    message.data.len() == 2 && message.data.get("error").is_some_and(Value::is_string);
                // What has more in it than it should may end the link, also when more has been said meanwhile.
                side.strange |=
                    !error && message.data.len() != 1 + usize::from(RESULTS.contains(&stem.as_str()));
                if error { Last::Failure } else { Last::Response }
            })
        } else {
            None
        };
        // Before it was ready, nothing but the handshake had to be taken.
        side.strange |= side.last.is_none() || !side.ready || !is_usual(message.seq);
    }

    fn said(&mut self, seen: &Seen<'_>, message: Message<'_>, rulings: &mut Rulings) {
        let side = self.sides.entry((seen.link, seen.from.name.clone())).or_default();
        let (party, at) = (seen.from, seen.at);
        if let (Some(stem), Some(seq)) = (message.kind.strip_suffix("_request"), message.seq) {
            side.asking.push((stem.to_owned(), seq));
        }
        if let (Some(stem), true) =
            (message.kind.strip_suffix("_response"), message.data.contains_key("error"))
            && let Some(Last::Request { stem: asked, seq, failed }) = &mut side.last
            && asked == stem
            && message.data.get("seq").and_then(integer) == Some(*seq)
        {
            *failed = true;
        }
        let error = message.kind.ends_with("_response") && message.data.contains_key("error");
        let told_failure = std::mem::replace(&mut side.told_failure, error);
        // A client becomes ready when it is told so, a master's side when it says so.
        side.ready |= message.kind == "ready" && party.role == "master";
        if message.kind != "close" || side.gone || side.strange || !side.ready {
            return;
        }
        side.gone = true;
        let reason = message.data.get("reason").and_then(Value::as_str).unwrap_or_default();
        // A command that is through, well or not, ends the link of a control.
        let orderly = party.role == "control" && !reason.starts_with("Invalid");
        if orderly || side.displaced || is_parting(reason) {
            return;
        }
        let actual = message.whole.clone();
        let leapt = || "a number that does not follow the one before".to_owned();
        let (requirement, why) = match &side.last {
            Some(Last::Request { stem, failed: true, .. }) => {
                ("CLUSTERIO-REQ-10", format!("a `{stem}_request` that failed"))
            }
            Some(Last::Request { stem, .. }) if told_failure => {
                ("CLUSTERIO-REQ-10", format!("a request before `{stem}_request` that failed"))
            }
            Some(Last::Failure) => ("CLUSTERIO-REQ-10", "a request of its own that failed".to_owned()),
            Some(Last::Event(_) | Last::Handshake | Last::Request { .. }) if side.leapt => {
                ("CLUSTERIO-SEQ-5", leapt())
            }
            Some(Last::Event(stem)) if !side.asking.is_empty() => {
                ("CLUSTERIO-REQ-8", format!("the event `{stem}_event` while it waits for an answer"))
            }
            Some(Last::Event(stem)) => ("CLUSTERIO-EVT-8", format!("the event `{stem}_event`")),
            _ => return,
        };
        let text = format!("{} says `close` over {why}", party.name);
        rulings.broken(requirement, party, at, text, "that the link goes on", actual);
    }
}

impl Monitor for Leavings {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if sides(seen).is_none() {
            return;
        }
        match &seen.what {
            What::Text { .. } => {
                let read = message(&seen.what);
                if let Some(message) = read {
                    self.said(seen, message, rulings);
                }
                self.heard(seen.link, seen.from, seen.to, read);
            }
            What::Binary(_) | What::Raw(_) | What::Stalled => self.heard(seen.link, seen.from, seen.to, None),
            _ => {}
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}

#[cfg(test)]
mod tests {
    use super::is_parting;

    #[test]
    fn a_program_that_ends_says_so_and_names_no_message() {
        for reason in ["shutdown", "quit", "Server shutting down", "Master is restarting"] {
            assert!(is_parting(reason), "{reason}");
        }
        for reason in ["Invalid message: Validation failed for stop_instance", "cannot stop_quit_event", ""] {
            assert!(!is_parting(reason), "{reason}");
        }
    }
}
