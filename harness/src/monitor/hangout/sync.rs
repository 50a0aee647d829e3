//! The table and its announcements: `changes` and `metadata`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{Envelope, IN_FLIGHT, SETTLE, SYNC_LIMIT, Said, is_plain, packet, said, sides, strings};
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};

/// How far `metadata` may be behind its `changes` at the end of a conversation (section 3.4, pair gap).
const PAIR_GAP: Duration = Duration::from_millis(250);
/// The stretch in which announcements are counted, and how many it may hold (HANGOUT-SYNC-4).
const STRETCH: Duration = Duration::from_secs(3);
const MOST_IN_STRETCH: usize = 8;
/// Writes that are remembered for one token.
const WRITES: usize = 32;

/// One connection of a client, as the tester sees it.
struct Link {
    client: Party,
    server: Party,
    opened_at: Time,
    /// Its place in the order of events: of two at the same time, one was first.
    opened_no: u64,
    closed_at: Option<Time>,
    token: Option<String>,
    /// Its index is somebody else's: nothing that rests on tokens can be judged here.
    confused: bool,
    /// It has stopped reading for a while.
    stalled: bool,
    greetings: u32,
    heard_changes: bool,
    /// When the first `changes` came.
    heard_at: Option<Time>,
    /// A `changes` whose `metadata` has not come: when, and its lists.
    pending: Option<(Time, Lists)>,
    /// Arrival of the latest announcements.
    arrivals: VecDeque<Time>,
    /// Tokens told in `opened` and in `closed`.
    opened: BTreeSet<String>,
    closed: BTreeSet<String>,
    /// When each token was first told in `closed`.
    told_closed: BTreeMap<String, Time>,
    /// When each token was last told in `properties`.
    written: BTreeMap<String, Time>,
}

impl Link {
    fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    fn heard_before(&self, time: Time) -> bool {
        self.heard_at.is_some_and(|at| at <= time)
    }

    fn heard_between(&self, from: Time, to: Time) -> bool {
        self.arrivals.iter().any(|at| *at > from && *at <= to)
    }
}

#[derive(Clone, Default)]
struct Lists {
    opened: Vec<String>,
    closed: Vec<String>,
    properties: Vec<String>,
}

impl Lists {
    /// Each token once a list; doubles are judged by themselves.
    fn without_doubles(mut self) -> Lists {
        for list in [&mut self.opened, &mut self.closed, &mut self.properties] {
            let mut known = BTreeSet::new();
            list.retain(|token| known.insert(token.clone()));
        }
        self
    }
}

/// Something that has to be told by a certain time.
struct Due {
    by: Time,
    since: Time,
    /// Its place in the order of events.
    no: u64,
    /// The link whose token it is about.
    about: LinkId,
    kind: DueKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DueKind {
    Opened,
    Closed,
    Written,
}

impl DueKind {
    /// The requirement on the sync, the list that names the token, the requirement on that list, and what happened.
    fn words(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            DueKind::Opened => ("HANGOUT-SYNC-1", "opened", "HANGOUT-CHG-2", "connected"),
            DueKind::Closed => ("HANGOUT-SYNC-2", "closed", "HANGOUT-CHG-3", "left"),
            DueKind::Written => ("HANGOUT-SYNC-3", "properties", "HANGOUT-CHG-4", "wrote properties"),
        }
    }
}

/// Somebody who got `changes` in time that do not name a token. Whether it is left out or late shows later.
struct Unnamed {
    due: Due,
    listener: LinkId,
}

/// What one token wrote, as far as it is certain.
#[derive(Default)]
struct Writes {
    /// The last time something that may be a write was sent.
    maybe_at: Option<Time>,
    /// Names and values of certain writes, to tell a change from a repetition.
    values: BTreeMap<String, Value>,
    /// Names whose values were shown since then, and when first.
    shown: BTreeMap<String, Time>,
}

pub(super) struct Sync {
    config: MonitorConfig,
    links: BTreeMap<LinkId, Link>,
    due: Vec<Due>,
    unnamed: Vec<Unnamed>,
    /// Some sync came too late: what is missing in others may be late too.
    late: bool,
    events: u64,
    writes: BTreeMap<LinkId, Writes>,
    version: Option<String>,
    /// The last thing that could lead to an announcement.
    last_cause: Option<Time>,
    /// When the table last grew or shrank.
    last_move: Option<Time>,
    began: Option<Time>,
    /// Tokens about which something was said already.
    excused: BTreeSet<String>,
}

impl Sync {
    pub(super) fn new(config: MonitorConfig) -> Self {
        Sync {
            config,
            links: BTreeMap::new(),
            due: Vec::new(),
            unnamed: Vec::new(),
            late: false,
            events: 0,
            writes: BTreeMap::new(),
            version: None,
            last_cause: None,
            last_move: None,
            began: None,
            excused: BTreeSet::new(),
        }
    }

    fn limit(&self) -> Duration {
        SYNC_LIMIT + self.config.slack
    }

    fn owe(&mut self, at: Time, about: LinkId, kind: DueKind) {
        self.events += 1;
        self.due.push(Due { by: at + self.limit(), since: at, no: self.events, about, kind });
    }

    fn opened(&mut self, seen: &Seen<'_>, client: &Party, server: &Party) {
        self.began.get_or_insert(seen.at);
        self.last_cause = Some(seen.at);
        self.last_move = Some(seen.at);
        self.events += 1;
        self.links.insert(
            seen.link,
            Link {
                client: client.clone(),
                server: server.clone(),
                opened_at: seen.at,
                opened_no: self.events,
                closed_at: None,
                token: None,
                confused: false,
                stalled: false,
                greetings: 0,
                heard_changes: false,
                heard_at: None,
                pending: None,
                arrivals: VecDeque::new(),
                opened: BTreeSet::new(),
                closed: BTreeSet::new(),
                told_closed: BTreeMap::new(),
                written: BTreeMap::new(),
            },
        );
        self.owe(seen.at, seen.link, DueKind::Opened);
    }

    fn over(&mut self, at: Time, link: LinkId) {
        let Some(one) = self.links.get_mut(&link) else { return };
        if one.closed_at.is_some() {
            return;
        }
        one.closed_at = Some(at);
        self.last_cause = Some(at);
        self.last_move = Some(at);
        // What it opened and wrote need no longer be told; that it went must be.
        self.due.retain(|due| due.about != link);
        self.owe(at, link, DueKind::Closed);
    }

    fn client_said(&mut self, seen: &Seen<'_>, what: &What<'_>) {
        self.last_cause = Some(seen.at);
        let writes = self.writes.entry(seen.link).or_default();
        let (envelope, plain) = match what {
            What::Text { json, text } => (said(json), is_plain(text)),
            _ => (Said::Unclear, false),
        };
        let Said::Envelope(envelope) = envelope else {
            writes.maybe_at = Some(seen.at);
            writes.shown.clear();
            return;
        };
        if !envelope.to.contains(&"server") {
            return;
        }
        writes.maybe_at = Some(seen.at);
        writes.shown.clear();
        // Other forms of the address are judged by flows of their own.
        let certain = envelope.kind == "properties" && is_certain_write(&envelope, writes);
        if certain && plain && envelope.single {
            self.owe(seen.at, seen.link, DueKind::Written);
        }
    }

    fn changes(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let Some(body) = whole.get("changes").filter(|body| body.is_object()) else { return };
        let owned = |name: &str| strings(body.get(name)).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let lists =
            Lists { opened: owned("opened"), closed: owned("closed"), properties: owned("properties") };
        if self.is_idle(seen.at) && !self.is_news(seen.link, &lists) {
            self.quiet_broken(seen, whole, rulings);
        }
        self.set_rules(seen, &lists, whole, rulings);
        let lists = lists.without_doubles();
        self.late_news(seen, &lists, rulings);
        let writers: BTreeMap<String, Option<Time>> = self
            .links
            .iter()
            .filter_map(|(id, link)| {
                let maybe = self.writes.get(id).and_then(|writes| writes.maybe_at);
                link.token.clone().map(|token| (token, maybe))
            })
            .collect();
        // Those who came after the reader and went so soon that no check need have fallen between.
        let here = self.links.get(&seen.link).map(|link| link.opened_at + IN_FLIGHT + self.config.slack);
        let brief = |link: &Link| {
            let went = link.closed_at.unwrap_or(seen.at);
            here.is_some_and(|here| here < link.opened_at) && went.since(link.opened_at) < SYNC_LIMIT
        };
        let came: BTreeMap<String, bool> =
            self.links.values().filter_map(|link| Some((link.token.clone()?, brief(link)))).collect();
        let unknown_is_ours = self.knows_everybody(seen.at);
        let settle = SETTLE + self.config.slack;
        let (certainly, late) = (IN_FLIGHT + self.config.slack, self.late);
        let Some(link) = self.links.get_mut(&seen.link) else { return };
        if let Some((at, _)) = &link.pending {
            rulings.broken(
                "HANGOUT-SYNC-5",
                seen.from,
                seen.at,
                format!(
                    "a second `changes` came {} ms after the first, with no `metadata` between",
                    seen.at.since(*at).as_millis()
                ),
                "`metadata` after each `changes`",
                whole.clone(),
            );
        }
        for token in &lists.opened {
            if !link.opened.insert(token.clone()) {
                repeated(seen, "opened", token, whole, rulings);
            }
        }
        for token in &lists.closed {
            let never_opened = match came.get(token) {
                Some(brief) => *brief && link.token.as_ref().is_some_and(|own| link.opened.contains(own)),
                None => unknown_is_ours && seen.at.since(link.opened_at) > settle,
            };
            if !link.closed.insert(token.clone()) {
                repeated(seen, "closed", token, whole, rulings);
            } else if !link.opened.contains(token) && never_opened {
                rulings.broken(
                    "HANGOUT-CHG-7",
                    seen.from,
                    seen.at,
                    format!("{token} is told as closed and was never told as opened"),
                    "a connection that came and went in both lists, or in none",
                    whole.clone(),
                );
            } else if link.opened.contains(token) && lists.opened.contains(token) {
                rulings.kept("HANGOUT-CHG-7", seen.from, seen.at);
            }
        }
        for token in &lists.closed {
            link.told_closed.entry(token.clone()).or_insert(seen.at);
        }
        for token in &lists.properties {
            let before = link.written.insert(token.clone(), seen.at);
            match (writers.get(token), before) {
                (Some(None), _) => rulings.broken(
                    "HANGOUT-CHG-4",
                    seen.from,
                    seen.at,
                    format!("{token} is told as having written properties, and sent nothing of the kind"),
                    "only those whose properties were written",
                    whole.clone(),
                ),
                // Told once after the last write, it was told for good.
                (Some(Some(wrote)), Some(before))
                    if *wrote + certainly < before && !late && !link.confused =>
                {
                    repeated(seen, "properties", token, whole, rulings);
                }
                (None, _) if unknown_is_ours && seen.at.since(link.opened_at) > settle => rulings.broken(
                    "HANGOUT-CHG-4",
                    seen.from,
                    seen.at,
                    format!("{token} is told as having written properties, and nobody has this token"),
                    "only those whose properties were written",
                    whole.clone(),
                ),
                _ => {}
            }
        }
        rulings.kept("HANGOUT-CHG-6", seen.from, seen.at);
        link.heard_changes = true;
        link.heard_at.get_or_insert(seen.at);
        link.pending = Some((seen.at, lists));
        link.arrivals.push_back(seen.at);
        while link.arrivals.front().is_some_and(|at| seen.at.since(*at) > STRETCH) {
            link.arrivals.pop_front();
        }
        match link.arrivals.len() {
            count if count > MOST_IN_STRETCH => rulings.broken(
                "HANGOUT-SYNC-4",
                seen.from,
                seen.at,
                format!("{count} `changes` came within 3 s"),
                "changes gathered and told at checks 500 ms apart: at most 8 within 3 s",
                whole.clone(),
            ),
            3.. => rulings.kept("HANGOUT-SYNC-4", seen.from, seen.at),
            _ => {}
        }
    }

    /// Rules on the lists by themselves.
    fn set_rules(&self, seen: &Seen<'_>, lists: &Lists, whole: &Value, rulings: &mut Rulings) {
        // Where something has happened, it is the name that is missing.
        let perhaps = |writes: &Writes| writes.maybe_at.is_some_and(|at| seen.at.since(at) <= self.limit());
        let owed = self.due.iter().any(|due| due.since < seen.at) || self.writes.values().any(perhaps);
        if lists.opened.is_empty() && lists.closed.is_empty() && lists.properties.is_empty() && !owed {
            rulings.broken(
                "HANGOUT-SYNC-7",
                seen.from,
                seen.at,
                "a `changes` came that tells of nothing",
                "no `changes` when nothing changed",
                whole.clone(),
            );
        }
        let mut doubled = false;
        for (name, list) in
            [("opened", &lists.opened), ("closed", &lists.closed), ("properties", &lists.properties)]
        {
            let mut known = BTreeSet::new();
            if let Some(token) = list.iter().find(|token| !known.insert(token.as_str())) {
                doubled = true;
                let message = format!("{token} stands twice in `{name}`");
                rulings.broken(
                    "HANGOUT-CHG-5",
                    seen.from,
                    seen.at,
                    message,
                    "each token once a list",
                    whole.clone(),
                );
            }
        }
        if !doubled {
            rulings.kept("HANGOUT-CHG-5", seen.from, seen.at);
        }
    }

    /// True when nothing has happened for a long time that could lead to a sync.
    fn is_idle(&self, now: Time) -> bool {
        let settle = SETTLE + self.config.slack;
        self.config.exclusive && self.last_cause.is_some_and(|cause| now.since(cause) > settle)
    }

    /// True when the lists tell a reader anything that it was not told before.
    fn is_news(&self, reader: LinkId, lists: &Lists) -> bool {
        let Some(link) = self.links.get(&reader) else { return true };
        let wrote_since = |token: &String| {
            let writer = self.links.iter().find(|(_, writer)| writer.token.as_ref() == Some(token));
            let wrote = writer.and_then(|(id, _)| self.writes.get(id)).and_then(|writes| writes.maybe_at);
            link.written.get(token).is_none_or(|told| wrote.is_some_and(|wrote| wrote + IN_FLIGHT > *told))
        };
        lists.opened.iter().any(|token| !link.opened.contains(token))
            || lists.closed.iter().any(|token| !link.closed.contains(token))
            || lists.properties.iter().any(wrote_since)
    }

    /// Something was told although nothing has happened for a long time.
    fn quiet_broken(&self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        rulings.broken(
            "HANGOUT-SYNC-7",
            seen.from,
            seen.at,
            "a sync came although nothing has changed for more than 1.5 s",
            "silence while nothing changes",
            whole.clone(),
        );
    }

    /// A name that was missing in time comes now: it was late, not left out.
    fn late_news(&mut self, seen: &Seen<'_>, lists: &Lists, rulings: &mut Rulings) {
        let links = &self.links;
        let token_of = |link: LinkId| links.get(&link).and_then(|link| link.token.clone());
        let (told, open) = std::mem::take(&mut self.unnamed).into_iter().partition(|unnamed: &Unnamed| {
            let list = match unnamed.due.kind {
                DueKind::Opened => &lists.opened,
                DueKind::Closed => &lists.closed,
                DueKind::Written => &lists.properties,
            };
            unnamed.listener == seen.link
                && token_of(unnamed.due.about).is_some_and(|token| list.contains(&token))
        });
        self.unnamed = open;
        for unnamed in told as Vec<Unnamed> {
            let (sync, list, _, event) = unnamed.due.kind.words();
            let Some(about) = self.links.get(&unnamed.due.about) else { continue };
            let after = seen.at.since(unnamed.due.since).as_millis();
            let message = format!(
                "{} {event}, and {} was told of it {after} ms later",
                about.client.name, seen.to.name
            );
            let expected = format!("{} in `{list}` within 1 s", about.token.as_deref().unwrap_or_default());
            rulings.broken(sync, seen.from, seen.at, message, expected, Value::Null);
            self.late = true;
        }
    }

    /// True when a token that nobody of ours has can be nobody's.
    fn knows_everybody(&self, now: Time) -> bool {
        self.config.exclusive
            && self.began.is_some_and(|began| now.since(began) > SETTLE + self.config.slack)
            && self.links.values().all(|link| link.token.is_some() && !link.confused)
    }

    fn metadata(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        self.order(seen, whole, rulings);
        let pending = self.links.get_mut(&seen.link).and_then(|link| link.pending.take());
        let Some(body) = whole.get("metadata") else { return };
        let (Some(index), Some(list)) = (body.get("index").and_then(Value::as_str), body.get("indexes"))
        else {
            return;
        };
        let indexes = strings(Some(list));
        self.own_token(seen, index, &indexes, whole, rulings);
        let confused = self.links.get(&seen.link).is_none_or(|link| link.confused);
        if !confused {
            self.membership(seen, index, &indexes, body, pending.map(|(_, lists)| lists), whole, rulings);
        }
        if !confused {
            self.values(seen, body, whole, rulings);
        }
        if let Some(version) = body.get("version").and_then(Value::as_str) {
            match &self.version {
                Some(known) if known != version => rulings.broken(
                    "HANGOUT-META-8",
                    seen.from,
                    seen.at,
                    format!("`version` was {known:?} before"),
                    "the same version while the server runs",
                    whole.clone(),
                ),
                _ => self.version = Some(version.to_owned()),
            }
        }
    }

    fn own_token(
        &mut self,
        seen: &Seen<'_>,
        index: &str,
        indexes: &[&str],
        whole: &Value,
        rulings: &mut Rulings,
    ) {
        let claimed: BTreeSet<&str> = self
            .links
            .iter()
            .filter(|(id, link)| **id != seen.link && link.is_open())
            .filter_map(|(_, link)| link.token.as_deref())
            .collect();
        let taken = claimed.contains(index);
        let unclaimed = indexes.iter().any(|token| !claimed.contains(token));
        let known = self.links.get(&seen.link).and_then(|link| link.token.clone());
        match known {
            None if taken => {
                let (id, message, expected) = if unclaimed {
                    ("HANGOUT-META-2", "`index` is the token of another client", "the reader's own token")
                } else {
                    (
                        "HANGOUT-TOKEN-2",
                        "two clients have the same token",
                        "a token of one's own for each connection",
                    )
                };
                rulings.broken(id, seen.from, seen.at, message, expected, whole.clone());
                if let Some(link) = self.links.get_mut(&seen.link) {
                    link.confused = true;
                }
            }
            None => {
                rulings.kept("HANGOUT-META-2", seen.from, seen.at);
                if let Some(link) = self.links.get_mut(&seen.link) {
                    link.token = Some(index.to_owned());
                }
            }
            Some(known) if known != index => {
                let confused = self.links.get(&seen.link).is_some_and(|link| link.confused);
                if !confused {
                    rulings.broken(
                        "HANGOUT-TOKEN-1",
                        seen.from,
                        seen.at,
                        format!("`index` was {known} before"),
                        "the same token as long as the connection lives",
                        whole.clone(),
                    );
                }
                if let Some(link) = self.links.get_mut(&seen.link) {
                    link.confused = true;
                }
            }
            Some(_) => rulings.kept("HANGOUT-TOKEN-1", seen.from, seen.at),
        }
    }

    /// `metadata` follows `changes`, save one greeting.
    fn order(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let idle = self.is_idle(seen.at);
        let Some(link) = self.links.get_mut(&seen.link) else { return };
        match &link.pending {
            Some((at, _)) => {
                rulings.kept("HANGOUT-SYNC-5", seen.from, seen.at);
                rulings.kept("HANGOUT-SYNC-6", seen.from, seen.at);
                let gap = seen.at.since(*at);
                if gap > PAIR_GAP + self.config.slack {
                    let message = format!("`metadata` came {} ms after its `changes`", gap.as_millis());
                    rulings.noted("HANGOUT-SYNC-5", seen.from, seen.at, message, "soon after", Value::Null);
                }
            }
            None if !link.heard_changes && link.greetings == 0 => link.greetings += 1,
            None if idle => self.quiet_broken(seen, whole, rulings),
            None => rulings.broken(
                "HANGOUT-SYNC-6",
                seen.from,
                seen.at,
                "a `metadata` came without a `changes` before it",
                "`metadata` only behind `changes`, save one greeting to a newcomer",
                whole.clone(),
            ),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one metadata, taken apart once")]
    fn membership(
        &mut self,
        seen: &Seen<'_>,
        index: &str,
        indexes: &[&str],
        body: &Value,
        announced: Option<Lists>,
        whole: &Value,
        rulings: &mut Rulings,
    ) {
        let announced = announced.unwrap_or_default();
        let present: BTreeSet<&str> = indexes.iter().copied().collect();
        let entries: BTreeSet<&str> = body
            .get("properties")
            .and_then(Value::as_object)
            .map(|entries| entries.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let mut say = |id: &'static str, message: String, expected: &str| {
            rulings.broken(id, seen.from, seen.at, message, expected, whole.clone());
        };
        if present.len() < indexes.len() {
            say("HANGOUT-TOKEN-2", "a token stands twice in `indexes`".to_owned(), "each connection once");
        }
        if !present.contains(index) {
            say(
                "HANGOUT-META-3",
                "the reader's own token is not in `indexes`".to_owned(),
                "all live connections",
            );
        }
        let Some(here) = self.links.get(&seen.link) else { return };
        let mut whole_table = true;
        for link in self.links.values().filter(|link| !link.confused) {
            let Some(token) = link.token.as_deref() else { continue };
            let listed = present.contains(token);
            match link.closed_at {
                // Who was told as closed may be so already, and we have not seen it yet.
                None if here.opened.contains(token)
                    && !here.closed.contains(token)
                    && !listed
                    && token != index =>
                {
                    whole_table = false;
                    let now = announced.opened.iter().any(|one| one == token);
                    let id = if now { "HANGOUT-META-7" } else { "HANGOUT-META-3" };
                    say(
                        id,
                        format!("{token} was announced as opened and is not in `indexes`"),
                        "all live connections",
                    );
                }
                Some(_) if here.closed.contains(token) && !self.excused.contains(token) => {
                    let now = announced.closed.iter().any(|one| one == token);
                    if listed || entries.contains(token) {
                        whole_table = false;
                        let id = if now { "HANGOUT-META-6" } else { "HANGOUT-META-3" };
                        let place = if listed { "indexes" } else { "properties" };
                        say(
                            id,
                            format!("{token} is gone and still in `{place}`"),
                            "no connection that is gone",
                        );
                        self.excused.insert(token.to_owned());
                    }
                }
                _ => {}
            }
        }
        let settled = self.last_move.is_some_and(|moved| seen.at.since(moved) > SETTLE + self.config.slack);
        if settled && self.knows_everybody(seen.at) {
            let ours: BTreeSet<&str> = self
                .links
                .values()
                .filter(|link| link.is_open())
                .filter_map(|link| link.token.as_deref())
                .collect();
            if let Some(stranger) =
                present.iter().find(|token| !ours.contains(**token) && !self.excused.contains(**token))
            {
                whole_table = false;
                say(
                    "HANGOUT-META-3",
                    format!("{stranger} is in `indexes` and belongs to no live connection"),
                    "live connections only",
                );
            }
        }
        let same = entries == present;
        // An entry of one that lives is no fault of the entries: it is the list that lacks it.
        let lives = |token: &str| {
            self.links.values().any(|link| link.is_open() && link.token.as_deref() == Some(token))
        };
        let without = present.difference(&entries).map(|token| (*token, "has no entry in `properties`"));
        let beyond =
            entries.difference(&present).map(|token| (*token, "has an entry and is not in `indexes`"));
        let odd = without
            .chain(beyond.filter(|(token, _)| !lives(token)))
            // Those who were told as gone have no entry; that they are in the list is judged above, where they are known.
            .find(|(token, _)| !self.excused.contains(*token) && !here.closed.contains(*token));
        if let Some((token, what)) = odd {
            let expected = "an entry in `properties` for each live connection, and for no other";
            say("HANGOUT-META-5", format!("{token} {what}"), expected);
        }
        if same {
            rulings.kept("HANGOUT-META-5", seen.from, seen.at);
        }
        if whole_table && present.len() > 1 {
            rulings.kept("HANGOUT-META-3", seen.from, seen.at);
        }
        if whole_table && !announced.opened.is_empty() {
            rulings.kept("HANGOUT-META-7", seen.from, seen.at);
        }
        if whole_table && !announced.closed.is_empty() {
            rulings.kept("HANGOUT-META-6", seen.from, seen.at);
        }
    }

    /// What was written and shown once is shown in each table until it is written anew.
    fn values(&mut self, seen: &Seen<'_>, body: &Value, whole: &Value, rulings: &mut Rulings) {
        let certainly = IN_FLIGHT + self.config.slack;
        for (id, writes) in &mut self.writes {
            let Some(link) = self.links.get(id).filter(|link| link.is_open() && !link.confused) else {
                continue;
            };
            let Some(token) = &link.token else { continue };
            let entry = body.get("properties").and_then(|entries| entries.get(token));
            for (name, value) in writes.values.iter().filter(|(_, value)| value.is_string()) {
                let shown = entry.and_then(|entry| entry.get(name));
                if shown == Some(value) {
                    // One that was under way when the write was sent shows what was before.
                    if writes.maybe_at.is_some_and(|wrote| wrote + certainly >= seen.at) {
                        continue;
                    }
                    writes.shown.entry(name.clone()).or_insert(seen.at);
                } else if shown.is_none()
                    && writes.shown.get(name).is_some_and(|at| *at + certainly < seen.at)
                {
                    let message = format!(
                        "the property {name:?} of {}, shown before, is not shown to {}",
                        link.client.name, seen.to.name
                    );
                    let expected = "all properties of all connections, each time";
                    rulings.broken("HANGOUT-META-4", seen.from, seen.at, message, expected, whole.clone());
                }
            }
        }
    }

    /// Judges what had to be told by now.
    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        if self.due.iter().all(|due| due.by >= now) {
            return;
        }
        let (due, later): (Vec<Due>, Vec<Due>) =
            std::mem::take(&mut self.due).into_iter().partition(|due| due.by < now);
        self.due = later;
        for due in due {
            self.judge_due(&due, rulings);
        }
    }

    fn judge_due(&mut self, due: &Due, rulings: &mut Rulings) {
        let Some(about) = self.links.get(&due.about) else { return };
        let Some(token) = about.token.clone().filter(|_| !about.confused) else {
            // Whoever has no token yet can only be told of by the sync that never came.
            if due.kind == DueKind::Opened
                && about.token.is_none()
                && !about.heard_changes
                && about.greetings == 0
            {
                let message = format!("{} heard nothing within 1 s of connecting", about.client.name);
                rulings.broken(
                    "HANGOUT-SYNC-1",
                    &about.server,
                    due.by,
                    message,
                    "`changes` and `metadata`",
                    Value::Null,
                );
            }
            return;
        };
        let told = |link: &Link| match due.kind {
            DueKind::Opened => link.opened.contains(&token),
            DueKind::Closed => link.closed.contains(&token),
            DueKind::Written => link.written.get(&token).is_some_and(|at| *at >= due.since),
        };
        // Those who were there before; of a loss, only those who were told that it had come. Who of two that came at
        // nearly the same time was first, only the server knows.
        let was_there = |link: &Link| match due.kind {
            DueKind::Opened => link.opened_at + IN_FLIGHT <= due.since,
            DueKind::Closed => link.opened_no < due.no && link.opened.contains(&token),
            // Who has heard nothing yet may be left out for being new.
            DueKind::Written => link.opened_no < due.no && link.heard_before(due.since + IN_FLIGHT),
        };
        let listeners: Vec<(LinkId, &Link)> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_open() && !link.confused && was_there(link))
            .map(|(id, link)| (*id, link))
            .collect();
        let (sync, list, id, event) = due.kind.words();
        let name = &about.client.name;
        let expected = format!("{token} in `{list}` within 1 s");
        let somebody_knows = listeners.iter().any(|(_, link)| told(link));
        // Whether writers are left out, or nobody is told, one alone cannot tell.
        let alone = due.kind == DueKind::Written && listeners.iter().all(|(id, _)| *id == due.about);
        let mut late = false;
        for (listener, link) in &listeners {
            let reader = &link.client.name;
            if told(link) {
                for kept in [sync, id, "HANGOUT-SYNC-8"] {
                    rulings.kept(kept, &link.server, due.by);
                }
                continue;
            }
            if alone {
                continue;
            }
            let (accused, message) = if somebody_knows {
                ("HANGOUT-SYNC-8", format!("{reader} was not told that {name} {event}, and others were"))
            } else if link.heard_between(due.since + IN_FLIGHT, due.by) {
                self.unnamed.push(Unnamed { due: Due { ..*due }, listener: *listener });
                continue;
            } else {
                late = true;
                (sync, format!("{name} {event}, and {reader} got no `changes` within 1 s"))
            };
            rulings.broken(accused, &link.server, due.by, message, &expected, Value::Null);
        }
        // Alone it hears nothing of itself where nobody else hears of it either; who is left out shows by the others.
        let itself = due.kind == DueKind::Opened && about.is_open() && !told(about);
        if itself && somebody_knows {
            let message = format!("{name} was not told of its own connection, and others were");
            rulings.broken("HANGOUT-SYNC-8", &about.server, due.by, message, expected, Value::Null);
        } else if due.kind == DueKind::Opened && told(about) {
            rulings.kept("HANGOUT-SYNC-8", &about.server, due.by);
        }
        self.late |= late;
    }

    /// Accuses a loss that was told of somebody who is still there.
    fn named_alive(&self, now: Time, rulings: &mut Rulings) {
        let alive = |link: &&Link| link.is_open() && !link.confused;
        for link in self.links.values().filter(alive) {
            let Some(token) = &link.token else { continue };
            let told = self.links.values().filter_map(|reader| reader.told_closed.get(token)).min();
            if told.is_some_and(|told| now.since(*told) > self.limit()) {
                let message = format!("{} was told as closed, and its connection is open", link.client.name);
                rulings.broken(
                    "HANGOUT-CHG-3",
                    &link.server,
                    now,
                    message,
                    "only those that went in `closed`",
                    Value::Null,
                );
            }
        }
    }

    /// Accuses what was never named, unless syncs are late anyway.
    fn never_named(&mut self, now: Time, rulings: &mut Rulings) {
        for Unnamed { due, listener } in std::mem::take(&mut self.unnamed) {
            let (Some(about), Some(link)) = (self.links.get(&due.about), self.links.get(&listener)) else {
                continue;
            };
            // It may still come, late.
            let soon = now < due.by + 2 * SETTLE;
            if soon || self.late || link.confused || about.confused {
                continue;
            }
            let (_, list, id, event) = due.kind.words();
            let (name, reader) = (&about.client.name, &link.client.name);
            let message =
                format!("{name} {event}, and the `changes` that {reader} got does not name it in `{list}`");
            let expected = format!("{} in `{list}` within 1 s", about.token.as_deref().unwrap_or_default());
            rulings.broken(id, &link.server, due.by, message, expected, Value::Null);
        }
    }
}

fn repeated(seen: &Seen<'_>, list: &str, token: &str, whole: &Value, rulings: &mut Rulings) {
    rulings.broken(
        "HANGOUT-CHG-6",
        seen.from,
        seen.at,
        format!("{token} was told in `{list}` before, and nothing new happened"),
        "each change told once",
        whole.clone(),
    );
}

/// A write that a server cannot take for none: at least one string that differs from what was written before.
fn is_certain_write(envelope: &Envelope<'_>, writes: &mut Writes) -> bool {
    let Some(written) = envelope.payload.as_object() else { return false };
    let mut certain = false;
    for (name, value) in written {
        let plain = value.as_str().is_some_and(|text| !text.is_empty() && text.len() <= 64);
        certain |= plain && writes.values.get(name) != Some(value);
        if writes.values.len() < WRITES {
            writes.values.insert(name.clone(), value.clone());
        } else {
            writes.values.remove(name);
        }
    }
    // Above the limit a server may refuse the packet (section 5), and odd values may make it refuse all.
    let odd = written.values().any(|value| !value.is_string());
    certain && !odd && written.len() <= 25 && writes.values.len() <= 25
}

impl Monitor for Sync {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        self.overdue(seen.at, rulings);
        let Some((server, client, from_server)) = sides(seen) else { return };
        match &seen.what {
            // Whoever asks may be let in, and told of, before that is seen here.
            What::Requested { .. } => self.last_move = Some(seen.at),
            What::Opened { .. } => self.opened(seen, client, server),
            What::Closing { .. } | What::Closed => self.over(seen.at, seen.link),
            What::Stalled => {
                if let Some(link) = self.links.get_mut(&seen.link) {
                    link.confused = true;
                    link.stalled = true;
                }
            }
            what if from_server => {
                // What still comes after a goodbye is not read; what a slow reader comes to read is old.
                let open = self.links.get(&seen.link).is_some_and(|link| link.is_open() && !link.stalled);
                if let Some(packet) = packet(what).filter(|packet| open && packet.from == "server") {
                    match packet.kind {
                        "changes" => self.changes(seen, packet.whole, rulings),
                        "metadata" => self.metadata(seen, packet.whole, rulings),
                        _ => {}
                    }
                }
            }
            what @ (What::Text { .. } | What::Binary(_) | What::Raw(_)) => self.client_said(seen, what),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due.iter().map(|due| due.by + Duration::from_nanos(1)).min()
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
        self.never_named(now, rulings);
        self.named_alive(now, rulings);
        for link in self.links.values().filter(|link| link.is_open()) {
            if let Some((at, _)) = &link.pending
                && now.since(*at) > PAIR_GAP + self.config.slack
            {
                let message = format!("no `metadata` followed the last `changes` to {}", link.client.name);
                rulings.broken(
                    "HANGOUT-SYNC-5",
                    &link.server,
                    now,
                    message,
                    "`metadata` after each `changes`",
                    Value::Null,
                );
            }
        }
    }
}
