//! Refs and answers on each WebSocket: every command is answered once, to its sender alone, under its own ref.

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{COMMANDS, Envelope, Lately, REPLY, Reference, envelope, sides};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What};

/// Events that are only ever answers (section 2.5).
const ANSWERS: [&str; 6] = ["Error", "Ok", "Permissions", "RoomMembers", "SpaceMembers", "SpaceRooms"];
/// Characters that a ref may have.
const LONGEST: usize = 36;
/// Messages from this size on, in bytes, may end the connection (section 5).
const LARGE: usize = 16 << 10;
/// A leaked ref of somebody else's command, or an error for it, shows within this time.
const RECENT: Duration = Duration::from_secs(5);
/// Messages that are nested as deeply as this are read by some only.
pub(super) const DEPTH: usize = 24;
/// Refs of what is no command that are remembered.
const ODD: usize = 1024;
/// A second answer to a command shows within this time.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How a command asks for its ref.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Absent,
    Empty,
    Null,
    Own(String),
}

struct Pending {
    at: Time,
    kind: String,
    asked: Asked,
    answered: bool,
    /// It should have been answered by now. What comes later is still its answer.
    overdue: bool,
    data: Value,
    /// What looks like the answer, under another ref or none.
    lookalike: Option<Value>,
}

struct Line {
    server: Party,
    user: Option<String>,
    /// Something has come from the server.
    heard: bool,
    /// Turned away, or ended: nothing is owed on it any more.
    over: bool,
    /// The client has said something that a server may answer with a ref of its own, or not at all.
    unclear: bool,
    /// Refs of what is no command, and may be answered all the same.
    odd: Vec<String>,
    /// The client has said something that cannot be read, and may have had any ref.
    unread: bool,
    /// An answer came whose command cannot be told.
    stray: bool,
    /// The client has sent what a server may end the connection for.
    provoked: bool,
    /// The last thing that came was an `Error` for a command of the client.
    failed: bool,
    pending: Vec<Pending>,
}

pub(super) struct Answers {
    slack: Duration,
    lines: BTreeMap<LinkId, Line>,
    /// Refs that the server made, to see it repeat itself.
    made: Lately<String, ()>,
}

impl Answers {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Answers { slack: config.slack, lines: BTreeMap::new(), made: Lately::new() }
    }

    fn client_said(&mut self, seen: &Seen<'_>) {
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let mut own = None;
        let said = match &seen.what {
            What::Text { json: Ok(whole), text } => {
                line.provoked |= text.len() > LARGE;
                own = super::text(whole, "/meta/ref");
                // What is nested too deeply for a reader is no JSON to it.
                envelope(whole).filter(|_| !is_deep(whole, DEPTH))
            }
            What::Text { json: Err(NotJson::Malformed), text } => {
                line.provoked |= text.len() > LARGE || text.contains('\u{fffd}');
                None
            }
            _ => {
                line.unread = true;
                line.provoked = true;
                None
            }
        };
        let Some(said) = said.filter(|said| COMMANDS.contains(&said.kind)) else {
            line.unclear = true;
            line.odd.extend(own.map(str::to_owned).filter(|_| line.odd.len() < ODD));
            return;
        };
        let asked = match said.reference {
            Reference::Absent => Asked::Absent,
            Reference::Null => Asked::Null,
            Reference::Text("") => Asked::Empty,
            Reference::Text(own) if own.chars().count() <= LONGEST => Asked::Own(own.to_owned()),
            Reference::Text(_) | Reference::Odd => {
                line.unclear = true;
                return;
            }
        };
        line.pending.push(Pending {
            at: seen.at,
            kind: said.kind.to_owned(),
            asked,
            answered: false,
            overdue: false,
            data: said.data.clone(),
            lookalike: None,
        });
    }

    fn server_said(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let Some(event) = envelope(whole) else {
            let flat = whole.is_object().then_some(whole);
            if flat.is_some_and(|whole| whole.get("meta").is_none()) {
                let message = "the message has no `meta`";
                rulings.broken("POLFAN-ENV-1", seen.from, seen.at, message, "an envelope", actual(whole));
            }
            return;
        };
        self.first(seen, event.kind, whole, rulings);
        let is_error = event.kind == "Error";
        let is_answer = ANSWERS.contains(&event.kind);
        match event.reference {
            Reference::Text(reference) => self.referenced(seen, event.kind, reference, whole, rulings),
            Reference::Null | Reference::Absent if is_answer => {
                let refused = super::text(event.data, "/code") == Some("AuthenticationException");
                self.unreferenced(seen, is_error && refused, event.kind, whole, rulings);
            }
            Reference::Null | Reference::Absent if event.kind == "Session" => {
                rulings.kept("POLFAN-REF-10", seen.from, seen.at);
            }
            _ => {
                self.looks_alike(seen.link, &event);
            }
        }
    }

    /// CONN-1: nothing comes before `Session`.
    fn first(&mut self, seen: &Seen<'_>, kind: &str, whole: &Value, rulings: &mut Rulings) {
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        if kind == "Session"
            && let Some(user) = super::text(whole, "/data/user/id")
        {
            line.user = Some(user.to_owned());
        }
        if std::mem::replace(&mut line.heard, true) {
            return;
        }
        match kind {
            "Session" => rulings.kept("POLFAN-CONN-1", seen.from, seen.at),
            // Whoever is turned away has made no valid handshake.
            "Error" | "Bye" => line.over = true,
            _ => {
                let message = format!("the first message is `{kind}`");
                rulings.broken("POLFAN-CONN-1", seen.from, seen.at, message, "`Session`", actual(whole));
            }
        }
        if kind == "Session"
            && let Some(reference) = super::text(whole, "/meta/ref")
        {
            let message = format!("a `Session` that nobody asked for has the ref {reference:?}");
            rulings.broken("POLFAN-REF-10", seen.from, seen.at, message, "null, or no ref", actual(whole));
        }
    }

    fn referenced(
        &mut self,
        seen: &Seen<'_>,
        kind: &str,
        reference: &str,
        whole: &Value,
        rulings: &mut Rulings,
    ) {
        let asked = Asked::Own(reference.to_owned());
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let is_error = kind == "Error";
        if let Some(pending) =
            line.pending.iter_mut().find(|pending| pending.asked == asked && !pending.answered)
        {
            pending.answered = true;
            let own = if is_error { "POLFAN-REF-2" } else { "POLFAN-REF-1" };
            for id in [own, "POLFAN-REF-9", "POLFAN-EVT-8"] {
                rulings.kept(id, seen.from, seen.at);
            }
            if is_error && self.lines.len() > 1 {
                rulings.kept("POLFAN-EVT-7", seen.from, seen.at);
            }
            return;
        }
        if let Some(place) = line.odd.iter().position(|odd| odd == reference) {
            // The answer to what was no command.
            line.odd.swap_remove(place);
            return;
        }
        if line.unread {
            return;
        }
        if line.pending.iter().any(|pending| pending.asked == asked) {
            let message = format!("a second event came with the ref {reference:?}");
            rulings.broken(
                "POLFAN-REF-9",
                seen.from,
                seen.at,
                message,
                "one event with the ref of a command",
                actual(whole),
            );
            return;
        }
        if self.is_leaked(seen, &asked) {
            if is_error {
                self.foreign_error(seen, whole, rulings);
            } else {
                let message = format!("the ref {reference:?} of somebody else's command");
                let expected = "null, no ref, or one that the server made";
                rulings.broken("POLFAN-REF-10", seen.from, seen.at, message, expected, actual(whole));
            }
            return;
        }
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        // An answer to a command that has no ref of its own, as far as can be told.
        let open = line
            .pending
            .iter_mut()
            .find(|pending| !pending.answered && !matches!(pending.asked, Asked::Own(_)));
        if !ANSWERS.contains(&kind) && open.is_none() {
            // Others may be told under a ref of the server's making.
            if let Some(event) = envelope(whole) {
                self.looks_alike(seen.link, &event);
            }
            return;
        }
        if let Some(pending) = open {
            pending.answered = true;
            self.generated(seen, reference, whole, rulings);
        } else if line.unclear {
            self.generated(seen, reference, whole, rulings);
        } else if line.pending.iter().any(|pending| !pending.answered) {
            line.stray = true;
            let id = if is_error { "POLFAN-REF-2" } else { "POLFAN-REF-1" };
            let message = format!("an answer has the ref {reference:?}, which no command has");
            rulings.broken(id, seen.from, seen.at, message, "the ref of the command", actual(whole));
        } else if is_error {
            self.foreign_error(seen, whole, rulings);
        }
    }

    /// Perhaps the news of somebody else's command, perhaps an answer that lost its ref: if no other comes, it was.
    fn looks_alike(&mut self, link: LinkId, event: &Envelope<'_>) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        for pending in line.pending.iter_mut().filter(|pending| !pending.answered) {
            if !answers(&pending.kind, event.kind) {
                continue;
            }
            if speaks_of(&pending.data, event.data) {
                pending.lookalike.get_or_insert_with(|| actual(event.whole));
            } else {
                line.stray = true;
            }
        }
    }

    /// REF-8 for a ref that the server made.
    fn generated(&mut self, seen: &Seen<'_>, reference: &str, whole: &Value, rulings: &mut Rulings) {
        let length = reference.chars().count();
        if reference.is_empty() {
            return;
        }
        if length > LONGEST {
            let message = format!("the server made a ref of {length} characters");
            rulings.broken("POLFAN-REF-8", seen.from, seen.at, message, "at most 36", actual(whole));
        } else if self.made.insert(reference.to_owned(), ()) {
            rulings.kept("POLFAN-REF-8", seen.from, seen.at);
        } else {
            let message = format!("the server made the ref {reference:?} before");
            rulings.noted("POLFAN-REF-8", seen.from, seen.at, message, "refs that differ", actual(whole));
        }
    }

    /// An answer without a ref.
    fn unreferenced(
        &mut self,
        seen: &Seen<'_>,
        refused: bool,
        kind: &str,
        whole: &Value,
        rulings: &mut Rulings,
    ) {
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let mut owed = line.pending.iter_mut().filter(|pending| !pending.answered);
        let Some(pending) = owed.next() else {
            if kind == "Error" && !refused && !line.unclear && !line.over {
                self.foreign_error(seen, whole, rulings);
            }
            return;
        };
        // With several commands under way, or an unreadable one before, it is not certain what is answered.
        if line.unclear || refused || owed.next().is_some() {
            line.stray = true;
            return;
        }
        pending.answered = true;
        let (id, which) = match &pending.asked {
            Asked::Null => ("POLFAN-REF-3", "with a null ref".to_owned()),
            Asked::Empty => ("POLFAN-REF-4", "with an empty ref".to_owned()),
            Asked::Absent => ("POLFAN-REF-5", "without a ref".to_owned()),
            Asked::Own(own) if kind == "Error" => ("POLFAN-REF-2", format!("with the ref {own:?}")),
            Asked::Own(own) => ("POLFAN-REF-1", format!("with the ref {own:?}")),
        };
        let message = format!("`{}` {which} was answered without a ref", pending.kind);
        let expected = if matches!(pending.asked, Asked::Own(_)) {
            "the same ref"
        } else {
            "a ref that the server made"
        };
        rulings.broken(id, seen.from, seen.at, message, expected, actual(whole));
    }

    /// True for a ref that another user has used a moment ago.
    fn is_leaked(&self, seen: &Seen<'_>, asked: &Asked) -> bool {
        let own = self.lines.get(&seen.link).and_then(|line| line.user.as_ref());
        self.lines.iter().any(|(link, line)| {
            *link != seen.link
                && line.user.is_some()
                && own.is_some()
                && line.user.as_ref() != own
                && line
                    .pending
                    .iter()
                    .any(|pending| pending.asked == *asked && seen.at.since(pending.at) <= RECENT)
        })
    }

    /// EVT-7: an error on a connection that owes nothing, while somebody else has just said something.
    fn foreign_error(&self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let busy = self.lines.iter().any(|(link, line)| {
            *link != seen.link
                && line.server == *seen.from
                && (line.unclear || line.pending.iter().any(|pending| seen.at.since(pending.at) <= RECENT))
        });
        let code = super::text(whole, "/data/code");
        if busy && !matches!(code, Some("AuthenticationException" | "UnexpectedServerException")) {
            let message = "an `Error` came to a user who had sent nothing that it could answer";
            let expected = "errors for the sender of the command only";
            rulings.broken("POLFAN-EVT-7", seen.from, seen.at, message, expected, actual(whole));
        }
    }

    /// EVT-8: what waits too long.
    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let limit = REPLY + self.slack;
        for line in self.lines.values_mut().filter(|line| !line.over) {
            line.pending.retain(|pending| now.since(pending.at) < REMEMBERED);
            let (unclear, stray) = (line.unclear, line.stray);
            for pending in line.pending.iter_mut().filter(|pending| !pending.answered && !pending.overdue) {
                if now.since(pending.at) < limit {
                    continue;
                }
                pending.overdue = true;
                // What was said without a ref, or beside rubbish, may have been answered unseen.
                let certain = matches!(pending.asked, Asked::Own(_)) && !unclear && !stray;
                if let Some(lookalike) = pending.lookalike.take().filter(|_| certain) {
                    let message = format!("the answer to `{}` came without its ref", pending.kind);
                    rulings.broken(
                        "POLFAN-REF-1",
                        &line.server,
                        now,
                        message,
                        "the ref of the command",
                        lookalike,
                    );
                } else if certain && line.heard {
                    let message = format!("`{}` was not answered within {:?}", pending.kind, REPLY);
                    let expected = "an event with its ref";
                    rulings.broken("POLFAN-EVT-8", &line.server, now, message, expected, Value::Null);
                }
            }
        }
    }
}

/// True for a value that is nested deeper than so many levels.
pub(super) fn is_deep(value: &Value, levels: usize) -> bool {
    let deep = |part: &Value| levels == 0 || is_deep(part, levels - 1);
    match value {
        Value::Array(items) => items.iter().any(deep),
        Value::Object(members) => members.values().any(deep),
        _ => false,
    }
}

/// True when an event of this kind answers a command of that kind (section 2.4; 6.7 and 6.9 allow some more).
fn answers(command: &str, event: &str) -> bool {
    let known: &[&str] = match command {
        "JoinSpace" | "CreateSpace" => &["SpaceJoined"],
        "LeaveSpace" => &["SpaceLeft"],
        "DeleteSpace" => &["SpaceDeleted"],
        "JoinRoom" => &["RoomJoined", "JoinedRoom"],
        "LeaveRoom" => &["RoomLeft"],
        "CreateRoom" => &["NewRoom", "RoomJoined", "JoinedRoom"],
        "DeleteRoom" => &["RoomDeleted"],
        "CreateTopic" => &["NewTopic"],
        "DeleteTopic" => &["TopicDeleted"],
        "CreateMessage" => &["NewMessage"],
        "CreateRole" => &["NewRole"],
        "DeleteRole" => &["RoleDeleted"],
        "AssignRole" | "DeassignRole" => &["SpaceMemberUpdate"],
        "GetSession" => &["Session"],
        _ => &[],
    };
    known.contains(&event)
}

/// True when an event tells of what a command asked for: the same place, the same name, the same text.
fn speaks_of(command: &Value, event: &Value) -> bool {
    const SAME: [(&str, &[&str]); 7] = [
        ("/id", &["/id", "/space/id", "/room/id"]),
        ("/roleId", &["/id", "/member/roles"]),
        ("/spaceId", &["/spaceId", "/room/spaceId", "/member"]),
        ("/roomId", &["/roomId"]),
        ("/topicId", &["/message/topicId"]),
        ("/name", &["/space/name", "/summary/name", "/room/name", "/topic/name", "/role/name"]),
        ("/content", &["/message/content"]),
    ];
    SAME.iter().all(|(asked, told)| {
        let Some(asked) = command.pointer(asked) else { return true };
        told.iter().filter_map(|told| event.pointer(told)).any(|told| match (asked, told) {
            (Value::String(asked), Value::String(told)) => asked.eq_ignore_ascii_case(told),
            // Lists of roles and members with another id are not compared further.
            (_, told) => told.is_array() || told.is_object(),
        })
    })
}

impl Monitor for Answers {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((_, server, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Opened { .. } => {
                let line = Line {
                    server: server.clone(),
                    user: None,
                    heard: false,
                    over: false,
                    unclear: false,
                    odd: Vec::new(),
                    unread: false,
                    stray: false,
                    provoked: false,
                    failed: false,
                    pending: Vec::new(),
                };
                self.lines.insert(seen.link, line);
            }
            What::Closing { .. } | What::Closed | What::Stalled => {
                let Some(line) = self.lines.get_mut(&seen.link) else { return };
                let ended = from_server && !line.over && !matches!(seen.what, What::Stalled);
                line.over = true;
                if ended && line.failed && !line.provoked {
                    let message = "the server ended the connection after an error";
                    let expected = "that the next command is served";
                    rulings.broken("POLFAN-ERR-6", seen.from, seen.at, message, expected, Value::Null);
                }
            }
            What::Text { json: Ok(whole), .. } if from_server => {
                self.server_said(seen, whole, rulings);
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    let code = super::text(whole, "/data/code");
                    line.failed = super::text(whole, "/meta/type") == Some("Error")
                        && code != Some("AuthenticationException")
                        && line.heard
                        && !line.over;
                }
            }
            What::Text { .. } | What::Binary(_) | What::Raw(_) if !from_server => self.client_said(seen),
            _ => {}
        }
        self.overdue(seen.at - Duration::from_nanos(1), rulings);
    }

    fn deadline(&self) -> Option<Time> {
        let limit = REPLY + self.slack;
        let lines = self.lines.values().filter(|line| !line.over);
        lines
            .flat_map(|line| {
                let waiting = line.pending.iter().filter(|pending| !pending.answered && !pending.overdue);
                waiting.map(|pending| pending.at + limit)
            })
            .min()
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }
}
