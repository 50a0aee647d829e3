//! The relay: ids, notices of leave, and who gets what.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{peer_id, same, sides};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, NotJson, Party, Rulings, Seen, What};
use crate::pattern::json;

/// A routed message arrives within this time (section 3.5).
const ROUTED: Duration = Duration::from_secs(1);
/// So many messages under way are a flood, which takes as long as it takes (section 5): a relay has this time for them.
const FLOOD: (usize, Duration) = (64, Duration::from_secs(10));
/// `peerGone` arrives within this time after a connection ended (section 3.5).
const GONE: Duration = Duration::from_secs(2);
/// How long the end of a connection may take to reach us after others were told of it.
const SEEN_LATER: Duration = Duration::from_millis(400);
/// Connections so far apart, and the allowance, are in a certain order: we see them open later than they are.
const APART: Duration = Duration::from_millis(10);
/// Messages up to this size are owed within [`ROUTED`]; longer ones have a flow of their own.
const PROMPT: usize = 64 << 10;
/// Messages above this size end the connection of their sender (section 1).
const LIMIT: usize = 1 << 20;
/// Messages that are remembered; older ones can no longer be told from strangers'.
const REMEMBERED: usize = 4096;
/// The actions of which a relay may know (section 2.3).
const ACTIONS: [&str; 8] = [
    "command",
    "newList",
    "syncinfo",
    "wantedList",
    "missingItems",
    "updatedRecord",
    "missingRecords",
    "requestedRecords",
];

/// What a relay must make of a message.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Text that is no JSON object, or a binary message: for nobody.
    Junk,
    /// An object without a usable action: passing it on is tolerated.
    Actionless,
    /// A `connected` or `peerGone` made up by a peer.
    MadeUp,
    /// Under the id of another peer who is there.
    Forged(LinkId),
    /// To one peer.
    One(LinkId),
    /// To everybody.
    All,
    /// To a peer that is not there; the second tells who may lawfully get it all the same.
    Nobody(Lenient),
    /// Nobody can say.
    Unclear,
}

/// Who may get a message with an odd target (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lenient {
    Nobody,
    Everybody,
    Somebody(LinkId),
}

/// A message that a peer sent.
struct Sent {
    number: u64,
    at: Time,
    sender: LinkId,
    kind: Kind,
    content: Content,
    /// The requirement that is broken when somebody owed does not get it.
    debt: &'static str,
    /// Who must have it in time; emptied when it was judged.
    owed: BTreeSet<LinkId>,
    delivered: BTreeMap<LinkId, u32>,
}

enum Content {
    Text(u64, Option<Value>),
    Binary(Vec<u8>),
}

struct Line {
    relay: Party,
    peer: Party,
    opened_at: Time,
    /// The last message that was sent before it came.
    since: u64,
    open: bool,
    /// When it ended.
    ended_at: Option<Time>,
    /// Messages that came from the relay.
    heard: u32,
    /// `peerID`, as it was told.
    told: Option<Value>,
    id: Option<String>,
    /// It has sent something after which the relay may do without it.
    unclear: bool,
    /// It does not read.
    deaf: bool,
    /// Ids that it was told are gone: how often, and when last.
    gone: BTreeMap<String, (u32, Time)>,
    /// The last message that was delivered here, by its sender.
    latest: BTreeMap<LinkId, u64>,
}

/// A leave that others must hear of.
struct Leave {
    at: Time,
    id: String,
    owed: BTreeSet<LinkId>,
}

pub(super) struct Relay {
    slack: Duration,
    exclusive: bool,
    lines: BTreeMap<LinkId, Line>,
    sent: VecDeque<Sent>,
    by_text: HashMap<u64, Vec<u64>>,
    /// Numbers of messages that somebody is still owed.
    owing: BTreeSet<u64>,
    /// A flood is under way: from its first message to its last.
    flooded: bool,
    next: u64,
    /// When anything was last delivered: a relay that is at work is not late.
    worked_at: Time,
    forgotten: bool,
    leaves: Vec<Leave>,
    /// Notices about connections that we believe open: who was told, of which link, when.
    doubtful: Vec<(LinkId, LinkId, Time)>,
    /// The id of each participant's connection before.
    last_ids: BTreeMap<String, String>,
}

/// The same for texts that are the same JSON value: a relay may write a message in its own way.
fn hash(text: &str, value: Option<&Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value {
        Some(value) => hash_value(value, &mut hasher),
        None => text.hash(&mut hasher),
    }
    hasher.finish()
}

fn hash_value(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0u8.hash(hasher),
        Value::Bool(bool) => bool.hash(hasher),
        // Not by its digits: 1 and 1.0 are one number.
        Value::Number(number) => (number.as_f64().unwrap_or(0.0) + 0.0).to_bits().hash(hasher),
        Value::String(text) => text.hash(hasher),
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| hash_value(item, hasher));
        }
        Value::Object(members) => {
            // In whatever order they stand.
            let sum = members.iter().fold(0u64, |sum, (key, value)| {
                let mut hasher = DefaultHasher::new();
                key.hash(&mut hasher);
                hash_value(value, &mut hasher);
                sum.wrapping_add(hasher.finish())
            });
            sum.hash(hasher);
        }
    }
}

impl Relay {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        Relay {
            slack: config.slack,
            exclusive: config.exclusive,
            lines: BTreeMap::new(),
            sent: VecDeque::new(),
            by_text: HashMap::new(),
            owing: BTreeSet::new(),
            flooded: false,
            next: 0,
            worked_at: Time::ZERO,
            forgotten: false,
            leaves: Vec::new(),
            doubtful: Vec::new(),
            last_ids: BTreeMap::new(),
        }
    }

    /// The one open connection with an id; none where two have it.
    fn owner(&self, id: &str) -> Option<LinkId> {
        let mut owners = self.lines.iter().filter(|(_, line)| line.open && line.id.as_deref() == Some(id));
        let first = owners.next().map(|(link, _)| *link);
        first.filter(|_| owners.next().is_none())
    }

    // --- what peers say

    fn peer_said(&mut self, seen: &Seen<'_>, text: &str, parsed: Result<&Value, NotJson>) {
        let kind = self.kind(seen.link, seen.at, text, parsed);
        if matches!(kind, Kind::Junk | Kind::Actionless | Kind::Unclear)
            && let Some(line) = self.lines.get_mut(&seen.link)
        {
            line.unclear = true;
        }
        let value = parsed.ok();
        let (debt, owed) = self.debt(seen.link, &kind, text, value);
        let content = Content::Text(hash(text, value), value.cloned());
        self.remember(seen, kind, content, debt, owed);
    }

    /// True for an id whose connection ended so lately that the relay may not know of it when it reads what `sender`
    /// says now. Whoever was told so knows that the relay knows.
    fn is_leaving(&self, id: &str, sender: &Line, at: Time) -> bool {
        !sender.gone.contains_key(id)
            && self.lines.values().any(|line| {
                line.id.as_deref() == Some(id)
                    && line.ended_at.is_some_and(|ended| at.since(ended) <= GONE + self.slack)
            })
    }

    fn kind(&self, link: LinkId, at: Time, text: &str, parsed: Result<&Value, NotJson>) -> Kind {
        let Some(line) = self.lines.get(&link) else { return Kind::Unclear };
        let value = match parsed {
            Ok(value) if value.is_object() => value,
            Ok(_) | Err(NotJson::Malformed) => return Kind::Junk,
            Err(NotJson::BeyondUs) => return Kind::Unclear,
        };
        if text.len() > LIMIT || !line.open || line.id.is_none() {
            return Kind::Unclear;
        }
        let Some(action) = value.get("action").and_then(Value::as_str) else { return Kind::Actionless };
        if action == "connected" || action == "peerGone" {
            return Kind::MadeUp;
        }
        if let Some(claimed) = value.get("sender").and_then(peer_id)
            && line.id.as_ref() != Some(&claimed)
        {
            // One that has said what may end its connection may be there no longer.
            let there =
                |owner: LinkId| self.lines.get(&owner).is_some_and(|line| !line.unclear && !line.deaf);
            return self.owner(&claimed).filter(|owner| there(*owner)).map_or(Kind::Unclear, Kind::Forged);
        }
        match value.get("target") {
            None | Some(Value::Null) => Kind::All,
            Some(target) => match peer_id(target) {
                Some(id) if id.len() > 1 && id.starts_with('0') => self.leading(&id[1..]),
                Some(id) => match self.owner(&id) {
                    // One that does not read may be given up at any moment.
                    Some(owner) if self.lines.get(&owner).is_some_and(|line| line.deaf) => Kind::Unclear,
                    Some(owner) => Kind::One(owner),
                    // It may be one whose id was not read yet, or one that is just leaving.
                    None if self.lines.values().any(|line| line.open && line.id.is_none()) => Kind::Unclear,
                    None if self.is_leaving(&id, line, at) => Kind::Unclear,
                    None => Kind::Nobody(Lenient::Nobody),
                },
                None => self.odd_target(target),
            },
        }
    }

    /// A target that names nobody, but that some read loosely (section 5).
    fn odd_target(&self, target: &Value) -> Kind {
        match target {
            Value::Bool(false) => Kind::Nobody(Lenient::Everybody),
            Value::Number(number) if number.as_f64() == Some(0.0) => Kind::Nobody(Lenient::Everybody),
            Value::Number(number) => self.leading(&number.to_string()),
            Value::String(text) if text.is_empty() => Kind::Nobody(Lenient::Everybody),
            Value::String(text) => self.leading(text.trim_start().trim_start_matches('0')),
            Value::Array(items) => match items.first() {
                Some(first) => peer_id(first).map_or(Kind::Nobody(Lenient::Nobody), |id| self.leading(&id)),
                None => Kind::Nobody(Lenient::Everybody),
            },
            _ => Kind::Nobody(Lenient::Nobody),
        }
    }

    /// Whoever has the leading digits for an id may get it.
    fn leading(&self, text: &str) -> Kind {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        Kind::Nobody(self.owner(&text[..end]).map_or(Lenient::Nobody, Lenient::Somebody))
    }

    /// Who must get it, and which requirement says so.
    fn debt(
        &self,
        sender: LinkId,
        kind: &Kind,
        text: &str,
        value: Option<&Value>,
    ) -> (&'static str, BTreeSet<LinkId>) {
        let ready = |link: &LinkId| {
            self.lines
                .get(link)
                .is_some_and(|line| line.open && line.id.is_some() && !line.deaf && !line.unclear)
        };
        let sound = value.is_some_and(|value| {
            let known = value.get("action").and_then(Value::as_str).is_some_and(|one| ACTIONS.contains(&one));
            known && value.get("sender").is_some() && value.get("payload").is_some_and(Value::is_object)
        });
        if text.len() > PROMPT || !sound || !ready(&sender) {
            return ("COW-ROUTE-1", BTreeSet::new());
        }
        let target = value.and_then(|value| value.get("target"));
        match kind {
            Kind::One(one) if ready(one) && *one != sender => {
                let debt = if target.is_some_and(Value::is_string) { "COW-ROUTE-8" } else { "COW-ROUTE-1" };
                (debt, BTreeSet::from([*one]))
            }
            Kind::All => {
                let debt = if target.is_some() { "COW-ROUTE-12" } else { "COW-ROUTE-3" };
                let others = self.lines.keys().filter(|link| **link != sender && ready(link));
                (debt, others.copied().collect())
            }
            _ => ("COW-ROUTE-1", BTreeSet::new()),
        }
    }

    fn remember(
        &mut self,
        seen: &Seen<'_>,
        kind: Kind,
        content: Content,
        debt: &'static str,
        owed: BTreeSet<LinkId>,
    ) {
        self.next += 1;
        if let Content::Text(hash, _) = &content {
            self.by_text.entry(*hash).or_default().push(self.next);
        }
        let delivered = BTreeMap::new();
        let number = self.next;
        if !owed.is_empty() {
            self.owing.insert(number);
            self.flooded |= self.owing.len() > FLOOD.0;
        }
        self.sent.push_back(Sent {
            number,
            at: seen.at,
            sender: seen.link,
            kind,
            content,
            debt,
            owed,
            delivered,
        });
        if self.sent.len() > REMEMBERED
            && let Some(old) = self.sent.pop_front()
        {
            self.forgotten = true;
            self.owing.remove(&old.number);
            if let Content::Text(hash, _) = old.content
                && let Some(numbers) = self.by_text.get_mut(&hash)
            {
                numbers.retain(|number| *number != old.number);
                if numbers.is_empty() {
                    self.by_text.remove(&hash);
                }
            }
        }
    }

    // --- what the relay says

    fn relay_said(
        &mut self,
        seen: &Seen<'_>,
        text: &str,
        parsed: Result<&Value, NotJson>,
        rulings: &mut Rulings,
    ) {
        let heard = match self.lines.get_mut(&seen.link) {
            Some(line) => {
                self.worked_at = seen.at;
                line.heard += 1;
                line.heard
            }
            None => return,
        };
        if let Some((place, certain)) = self.find(seen.link, text, parsed.ok()) {
            if heard == 1 {
                self.not_first(seen, parsed.ok(), rulings);
            }
            self.delivered(seen, place, certain, parsed.ok(), rulings);
            return;
        }
        let value = match parsed {
            Ok(value) if value.is_object() => value,
            Ok(_) | Err(NotJson::Malformed) => {
                if self.exclusive {
                    let found = Value::from(json::cut(text, 1000));
                    let message = "the relay sent a text that is no JSON object, and that nobody gave it";
                    rulings.broken("COW-MSG-1", seen.from, seen.at, message, "one JSON object", found);
                }
                return;
            }
            Err(NotJson::BeyondUs) => return,
        };
        let by_a_peer = value.get("sender").and_then(peer_id);
        match value.get("action").and_then(Value::as_str) {
            Some("connected") if by_a_peer.is_none() || self.exclusive => {
                self.greeted(seen, heard, value, rulings)
            }
            Some("peerGone") if by_a_peer.is_none() || self.exclusive => self.told_gone(seen, value, rulings),
            _ => {
                if heard == 1 {
                    self.not_first(seen, Some(value), rulings);
                }
                self.unknown(seen, value, by_a_peer, rulings);
            }
        }
    }

    fn not_first(&self, seen: &Seen<'_>, value: Option<&Value>, rulings: &mut Rulings) {
        let message = format!("the first message to {} is no `connected`", seen.to.name);
        let found = value.map(actual).unwrap_or_default();
        rulings.broken("COW-CONN-1", seen.from, seen.at, message, "`connected` first", found);
    }

    fn own_message(&self, seen: &Seen<'_>, value: &Value, rulings: &mut Rulings) {
        if value.get("payload").is_some_and(Value::is_object) {
            rulings.kept("COW-MSG-1", seen.from, seen.at);
        } else {
            let message = "a message of the relay has no object `payload`";
            rulings.broken("COW-MSG-1", seen.from, seen.at, message, "an object", actual(value));
        }
        if value.get("sender").is_none() {
            rulings.kept("COW-MSG-6", seen.from, seen.at);
        } else {
            let message = "a message of the relay's own has a `sender`";
            rulings.broken("COW-MSG-6", seen.from, seen.at, message, "no `sender`", actual(value));
        }
    }

    fn greeted(&mut self, seen: &Seen<'_>, heard: u32, value: &Value, rulings: &mut Rulings) {
        self.own_message(seen, value, rulings);
        let told = value.pointer("/payload/peerID").cloned().unwrap_or_default();
        let id = peer_id(&told);
        if value.pointer("/payload/server_version").is_some_and(Value::is_number) {
            let message = "`server_version` is a number";
            rulings.tolerated("COW-CONN-2", seen.from, seen.at, message, "a string", actual(value));
        }
        let Some(line) = self.lines.get(&seen.link) else { return };
        if let Some(before) = &line.told {
            let own = same(before, &told);
            let requirement = if own { "COW-CONN-5" } else { "COW-CONN-1" };
            let message = format!(
                "{} got another `connected`, {} id",
                seen.to.name,
                if own { "with its" } else { "with another" }
            );
            rulings.broken(
                requirement,
                seen.from,
                seen.at,
                message,
                "one `connected`, the own",
                actual(value),
            );
            return;
        }
        if heard > 1 {
            self.not_first(seen, Some(value), rulings);
        } else {
            rulings.kept("COW-CONN-1", seen.from, seen.at);
            rulings.kept("COW-CONN-5", seen.from, seen.at);
        }
        if let Some(id) = &id {
            self.compare_ids(seen, id, value, rulings);
            self.last_ids.insert(seen.to.name.clone(), id.clone());
        }
        if let Some(line) = self.lines.get_mut(&seen.link) {
            line.told = Some(told);
            line.id = id;
        }
    }

    fn compare_ids(&self, seen: &Seen<'_>, id: &str, value: &Value, rulings: &mut Rulings) {
        let others: Vec<&Line> = self.lines.values().filter(|line| line.open && line.id.is_some()).collect();
        let twin = others.iter().find(|line| line.id.as_deref() == Some(id));
        if let Some(twin) = twin {
            let message =
                format!("{} and {} have the same id at the same time", seen.to.name, twin.peer.name);
            rulings.broken("COW-CONN-3", seen.from, seen.at, message, "an id nobody else has", actual(value));
            return;
        }
        if !others.is_empty() {
            rulings.kept("COW-CONN-3", seen.from, seen.at);
        }
        match self.last_ids.get(&seen.to.name) {
            Some(last) if last == id => {
                let message = format!("{} came back and got its old id", seen.to.name);
                rulings.broken("COW-CONN-4", seen.from, seen.at, message, "another id", actual(value));
                return;
            }
            Some(_) => rulings.kept("COW-CONN-4", seen.from, seen.at),
            None => {}
        }
        let Some(own) = self.lines.get(&seen.link) else { return };
        let rank = |id: &str| (id.len(), id.to_owned());
        let earlier = others.iter().filter(|line| own.opened_at.since(line.opened_at) >= APART + self.slack);
        for line in earlier {
            if line.id.as_deref().is_some_and(|known| rank(known) > rank(id)) {
                let message = format!(
                    "the id of {} is smaller than that of {}, who was there before",
                    seen.to.name, line.peer.name
                );
                rulings.broken("COW-CONN-6", seen.from, seen.at, message, "a larger id", actual(value));
                return;
            }
            rulings.kept("COW-CONN-6", seen.from, seen.at);
        }
    }

    fn told_gone(&mut self, seen: &Seen<'_>, value: &Value, rulings: &mut Rulings) {
        self.own_message(seen, value, rulings);
        let told = value.pointer("/payload/gonePeerID").cloned().unwrap_or_default();
        let Some(id) = peer_id(&told) else {
            let message = "`gonePeerID` is no id";
            rulings.broken(
                "COW-GONE-4",
                seen.from,
                seen.at,
                message,
                "the `peerID` of the one that left",
                actual(value),
            );
            return;
        };
        let of_id: Vec<(&LinkId, &Line)> =
            self.lines.iter().filter(|(_, line)| line.id.as_deref() == Some(id.as_str())).collect();
        if let Some(known) = of_id.iter().find_map(|(_, line)| line.told.as_ref()) {
            if same(known, &told) {
                rulings.kept("COW-GONE-4", seen.from, seen.at);
            } else {
                let message = "`gonePeerID` is not written as `peerID` was";
                rulings.broken("COW-GONE-4", seen.from, seen.at, message, known.to_string(), actual(value));
            }
        }
        let living =
            of_id.iter().find(|(_, line)| line.open && !line.unclear && !line.deaf).map(|(link, _)| **link);
        let many = of_id.len();
        let known = many > 0;
        if let Some(living) = living.filter(|_| of_id.iter().all(|(_, line)| line.open)) {
            // Its end may be on its way to us.
            self.doubtful.push((seen.link, living, seen.at));
        }
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let count = line.gone.entry(id.clone()).or_insert((0, seen.at));
        *count = (count.0 + 1, seen.at);
        let times = count.0 as usize;
        if known && times > many {
            let message = format!("{} was told {times} times that {id} is gone", seen.to.name);
            rulings.broken("COW-GONE-2", seen.from, seen.at, message, "one notice", actual(value));
        } else if known {
            rulings.kept("COW-GONE-2", seen.from, seen.at);
        }
        for leave in self.leaves.iter_mut().filter(|leave| leave.id == id) {
            if leave.owed.remove(&seen.link) {
                rulings.kept("COW-GONE-1", seen.from, seen.at);
            }
        }
    }

    /// The message that was sent and is delivered now, and whether it is certain whose it is. Where several say the same,
    /// it is one that is owed here, then one that may come here, then one of which nothing is known, then one that was
    /// sent before the receiver came.
    fn find(&self, link: LinkId, text: &str, value: Option<&Value>) -> Option<(usize, bool)> {
        let first = self.sent.front()?.number;
        let since = self.lines.get(&link).map_or(0, |line| line.since);
        let at = |number: &u64| usize::try_from(number - first).ok().filter(|place| *place < self.sent.len());
        let of_hash = |hash: u64| self.by_text.get(&hash).into_iter().flatten().filter_map(at);
        // What readers read differently was sent as a text, and is known again by it alone.
        let same_text = of_hash(hash(text, None))
            .filter(|place| matches!(self.sent[*place].content, Content::Text(_, None)));
        let same_value = of_hash(hash(text, value)).filter(|place| {
            matches!((&self.sent[*place].content, value),
                (Content::Text(_, Some(known)), Some(value)) if same(known, value))
        });
        let same_text: Vec<usize> = same_text.collect();
        // To the letter the same: nothing else was meant.
        if let Some(place) = same_text.iter().find(|place| !self.sent[**place].delivered.contains_key(&link))
        {
            return Some((*place, false));
        }
        let all: Vec<usize> = same_text.into_iter().chain(same_value).collect();
        let rank = |place: &usize| {
            let sent = &self.sent[*place];
            let here = match sent.kind {
                Kind::One(one) => one == link,
                Kind::All => true,
                Kind::Unclear | Kind::Actionless => return 2,
                // Passed on under another's name it looks like that other's.
                Kind::Forged(_) => return if sent.delivered.contains_key(&link) { 5 } else { 3 },
                _ => false,
            };
            match sent.delivered.contains_key(&link) {
                _ if !here => 5,
                true => 4,
                false if sent.owed.contains(&link) => 0,
                false if sent.number > since => 1,
                false => 3,
            }
        };
        let best = all.iter().map(&rank).min()?;
        let mut places = all.iter().copied().filter(|place| rank(place) == best);
        let place = if best < 4 { places.next() } else { places.next_back() }?;
        let sender = self.sent[place].sender;
        Some((place, all.iter().all(|other| self.sent[*other].sender == sender)))
    }

    fn delivered(
        &mut self,
        seen: &Seen<'_>,
        place: usize,
        certain: bool,
        value: Option<&Value>,
        rulings: &mut Rulings,
    ) {
        let since = self.lines.get(&seen.link).map_or(self.next, |line| line.since);
        let sent = &mut self.sent[place];
        let times = sent.delivered.entry(seen.link).or_insert(0);
        *times += 1;
        let (times, sender, number) = (*times, sent.sender, sent.number);
        sent.owed.remove(&seen.link);
        let found = || value.map(actual).unwrap_or_else(|| Value::from("a message that is no JSON"));
        let by_itself = sender == seen.link;
        let own = value.and_then(|value| value.get("sender")).and_then(peer_id);
        let signed = own.is_some() && self.lines.get(&sender).is_some_and(|line| line.id == own);
        match &sent.kind {
            Kind::Unclear | Kind::Actionless => return,
            // Strangers of the same herd may say the same, to everybody or to one of theirs.
            Kind::One(_) | Kind::All | Kind::Nobody(_) if !self.exclusive && !signed => return,
            Kind::Junk => {
                let message = format!("text that is no JSON object was passed on to {}", seen.to.name);
                rulings.broken("COW-ROB-8", seen.from, seen.at, message, "nothing for anybody", found());
                return;
            }
            Kind::MadeUp => {
                let message = format!("a notice that a peer made up was passed on to {}", seen.to.name);
                rulings.broken("COW-ROUTE-9", seen.from, seen.at, message, "nothing for anybody", found());
                return;
            }
            // Whose id it is may have gone by the time that the relay looked.
            Kind::Forged(owner)
                if self.lines.get(owner).is_none_or(|line| !line.open || line.unclear || line.deaf) =>
            {
                return;
            }
            Kind::Forged(_) => {
                let message = format!("a message under another's id was passed on to {}", seen.to.name);
                rulings.broken("COW-ROUTE-10", seen.from, seen.at, message, "nothing for anybody", found());
                return;
            }
            Kind::Nobody(lenient) => {
                let allowed = match lenient {
                    Lenient::Nobody => false,
                    Lenient::Everybody => true,
                    Lenient::Somebody(one) => *one == seen.link,
                };
                let message = format!("a message whose target is no peer was delivered to {}", seen.to.name);
                if allowed {
                    rulings.tolerated(
                        "COW-ROUTE-7",
                        seen.from,
                        seen.at,
                        message,
                        "nothing for anybody",
                        found(),
                    );
                } else {
                    rulings.broken(
                        "COW-ROUTE-7",
                        seen.from,
                        seen.at,
                        message,
                        "nothing for anybody",
                        found(),
                    );
                }
                return;
            }
            Kind::One(one) if *one != seen.link => {
                let message = format!("a message for another peer was delivered to {}", seen.to.name);
                rulings.broken(
                    "COW-ROUTE-2",
                    seen.from,
                    seen.at,
                    message,
                    "delivery to its target alone",
                    found(),
                );
                return;
            }
            Kind::One(_) => {
                rulings.kept("COW-ROUTE-1", seen.from, seen.at);
                rulings.kept("COW-ROUTE-2", seen.from, seen.at);
            }
            Kind::All => {
                if !by_itself {
                    rulings.kept("COW-ROUTE-3", seen.from, seen.at);
                }
            }
        }
        if times > 1 {
            let message = format!("{} got the same message {times} times", seen.to.name);
            rulings.broken("COW-ROUTE-4", seen.from, seen.at, message, "one delivery", found());
            return;
        }
        rulings.kept("COW-ROUTE-4", seen.from, seen.at);
        rulings.kept("COW-ROUTE-5", seen.from, seen.at);
        // Whoever came after it was sent may have it or not; and of two who said the same nobody can say whose it is.
        if number <= since || !certain {
            return;
        }
        self.order(seen, sender, number, value, rulings);
        self.after_leave(seen, sender, value, rulings);
    }

    fn order(
        &mut self,
        seen: &Seen<'_>,
        sender: LinkId,
        number: u64,
        value: Option<&Value>,
        rulings: &mut Rulings,
    ) {
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        let latest = line.latest.entry(sender).or_insert(0);
        if *latest > number {
            let message = format!("{} got it after a message that the same peer sent later", seen.to.name);
            let found = value.map(actual).unwrap_or_default();
            rulings.broken("COW-ROUTE-6", seen.from, seen.at, message, "the order of sending", found);
        } else {
            if *latest > 0 {
                rulings.kept("COW-ROUTE-6", seen.from, seen.at);
            }
            *latest = number;
        }
    }

    fn after_leave(&self, seen: &Seen<'_>, sender: LinkId, value: Option<&Value>, rulings: &mut Rulings) {
        let Some(id) = self.lines.get(&sender).and_then(|line| line.id.clone()) else { return };
        let told = self.lines.get(&seen.link).is_some_and(|line| line.gone.contains_key(&id));
        let again = self.lines.iter().any(|(link, line)| *link != sender && line.id.as_ref() == Some(&id));
        if told && !again && self.lines.get(&sender).is_some_and(|line| !line.open) {
            let message = format!("{} got a message of {id} after the news that {id} is gone", seen.to.name);
            let found = value.map(actual).unwrap_or_default();
            rulings.broken("COW-GONE-6", seen.from, seen.at, message, "nothing more of it", found);
        } else if !told {
            rulings.kept("COW-GONE-6", seen.from, seen.at);
        }
    }

    /// What nobody sent so: altered on its way, or made up.
    fn unknown(&mut self, seen: &Seen<'_>, value: &Value, sender: Option<String>, rulings: &mut Rulings) {
        let from = sender.and_then(|id| {
            self.lines.iter().find(|(_, line)| line.id.as_ref() == Some(&id)).map(|(link, _)| *link)
        });
        let Some(from) = from.filter(|_| !self.forgotten) else {
            if self.exclusive && value.get("sender").is_none() && value.get("action").is_none() {
                let message = "the relay sent an object without an `action`, which nobody gave it";
                rulings.broken("COW-MSG-1", seen.from, seen.at, message, "a string `action`", actual(value));
            }
            return;
        };
        // What readers read differently is written anew by those who do not pass on texts as they are.
        let unread = self.sent.iter_mut().find(|sent| {
            let odd = matches!(sent.content, Content::Text(_, None)) && sent.kind == Kind::Unclear;
            odd && sent.sender == from && !sent.delivered.contains_key(&seen.link)
        });
        if let Some(sent) = unread {
            sent.delivered.insert(seen.link, 1);
            return;
        }
        let alike = self.sent.iter_mut().find(|sent| {
            let Content::Text(_, Some(known)) = &sent.content else { return false };
            let here =
                sent.owed.contains(&seen.link) || matches!(sent.kind, Kind::One(one) if one == seen.link);
            let fits = sent.sender == from && !sent.delivered.contains_key(&seen.link);
            fits && (here || sent.kind == Kind::All) && known.get("action") == value.get("action")
        });
        let expected = match alike {
            Some(sent) => {
                sent.owed.remove(&seen.link);
                sent.delivered.insert(seen.link, 1);
                match &sent.content {
                    Content::Text(_, Some(known)) => json::cut(&known.to_string(), 2000),
                    _ => String::new(),
                }
            }
            None => "a message that was sent".to_owned(),
        };
        let message = format!("{} got a message that was not sent so", seen.to.name);
        rulings.broken("COW-ROUTE-5", seen.from, seen.at, message, expected, actual(value));
    }

    fn relay_said_binary(&mut self, seen: &Seen<'_>, bytes: &[u8], rulings: &mut Rulings) {
        let passed_on =
            self.sent.iter().any(|sent| matches!(&sent.content, Content::Binary(known) if known == bytes));
        let found = Value::from(json::cut(&String::from_utf8_lossy(bytes), 1000));
        if passed_on {
            let message = format!("a binary message was passed on to {}", seen.to.name);
            rulings.broken("COW-ROB-10", seen.from, seen.at, message, "nothing for anybody", found);
            return;
        }
        let own = serde_json::from_slice::<Value>(bytes).is_ok_and(|value| {
            let action = value.get("action").and_then(Value::as_str);
            value.get("sender").is_none() && matches!(action, Some("connected" | "peerGone"))
        });
        if own || self.exclusive {
            let message = "the relay sent a binary message";
            rulings.broken("COW-MSG-1", seen.from, seen.at, message, "a text message", found);
        }
    }

    // --- the ends of connections

    fn ended(&mut self, seen: &Seen<'_>) {
        let Some(line) = self.lines.get_mut(&seen.link) else { return };
        if !line.open {
            return;
        }
        line.open = false;
        line.ended_at = Some(seen.at);
        let (id, deaf) = (line.id.clone(), line.deaf);
        for sent in &mut self.sent {
            sent.owed.remove(&seen.link);
            // What it said last may be lost with it.
            if sent.sender == seen.link {
                sent.owed.clear();
            }
        }
        for leave in &mut self.leaves {
            leave.owed.remove(&seen.link);
        }
        let Some(id) = id.filter(|_| !deaf) else { return };
        let twins = self.lines.values().filter(|line| line.id.as_ref() == Some(&id)).count();
        let owed = |line: &&Line| {
            line.open && line.id.is_some() && !line.deaf && !line.unclear && !line.gone.contains_key(&id)
        };
        let owed: BTreeSet<LinkId> =
            self.lines.iter().filter(|(_, line)| owed(line)).map(|(link, _)| *link).collect();
        if twins == 1 && !owed.is_empty() {
            self.leaves.push(Leave { at: seen.at, id, owed });
        }
    }

    /// How long a message may be under way.
    fn patience(&self) -> Duration {
        if self.flooded { FLOOD.1 } else { ROUTED }
    }

    fn overdue(&mut self, now: Time, rulings: &mut Rulings) {
        let patience = self.patience() + self.slack;
        // What was passed over is not late: once the flood is down to a few it will not come any more.
        let limit = if self.owing.len() > FLOOD.0 { patience } else { ROUTED + self.slack };
        let first = self.sent.front().map_or(0, |sent| sent.number);
        for number in self.owing.clone() {
            let place = usize::try_from(number - first).unwrap_or(usize::MAX);
            let Some(sent) = self.sent.get_mut(place) else { break };
            if !sent.owed.is_empty() && now.since(sent.at) <= limit {
                break;
            }
            let resting = now.since(self.worked_at) > patience && now.since(sent.at) > patience;
            let lines = &self.lines;
            // Passed over: something that the same peer sent later is there already.
            let passed = |link: &LinkId| {
                lines
                    .get(link)
                    .is_some_and(|line| line.latest.get(&sent.sender).is_some_and(|last| *last > number))
            };
            let lost: Vec<LinkId> =
                sent.owed.iter().copied().filter(|link| resting || passed(link)).collect();
            for link in lost {
                sent.owed.remove(&link);
                let Some(line) = self.lines.get(&link) else { continue };
                let found = match &sent.content {
                    Content::Text(_, Some(value)) => actual(value),
                    _ => Value::Null,
                };
                let message = format!("{} did not get this message within 1 s", line.peer.name);
                rulings.broken(sent.debt, &line.relay, now, message, "delivery within 1 s", found);
            }
            if sent.owed.is_empty() {
                self.owing.remove(&number);
            }
        }
        self.flooded &= !self.owing.is_empty();
        for leave in &mut self.leaves {
            if leave.owed.is_empty() || now.since(leave.at) <= GONE + self.slack {
                continue;
            }
            for link in std::mem::take(&mut leave.owed) {
                let Some(line) = self.lines.get(&link) else { continue };
                let message = format!("{} was not told within 2 s that {} is gone", line.peer.name, leave.id);
                rulings.broken("COW-GONE-1", &line.relay, now, message, "`peerGone`", Value::Null);
            }
        }
        self.leaves.retain(|leave| !leave.owed.is_empty());
        let lines = &self.lines;
        let slack = self.slack;
        self.doubtful.retain(|(told, living, at)| {
            if now.since(*at) <= SEEN_LATER + slack {
                return true;
            }
            if let (Some(told), Some(living)) = (lines.get(told), lines.get(living))
                && living.open
            {
                let id = living.id.clone().unwrap_or_default();
                let message = format!(
                    "{} was told that {id} is gone, who is {} and still there",
                    told.peer.name, living.peer.name
                );
                rulings.broken(
                    "COW-GONE-3",
                    &told.relay,
                    now,
                    message,
                    "no notice of one who is there",
                    Value::Null,
                );
            }
            false
        });
    }
}

impl Monitor for Relay {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some((relay, peer, from_relay)) = sides(seen) else { return };
        if from_relay && matches!(seen.what, What::Text { .. }) {
            // What it is at work on may be among what comes next.
            self.worked_at = seen.at;
        }
        self.overdue(seen.at - Duration::from_nanos(1), rulings);
        match &seen.what {
            What::Opened { .. } => {
                let line = Line {
                    relay: relay.clone(),
                    peer: peer.clone(),
                    opened_at: seen.at,
                    since: self.next,
                    open: true,
                    ended_at: None,
                    heard: 0,
                    told: None,
                    id: None,
                    unclear: false,
                    deaf: false,
                    gone: BTreeMap::new(),
                    latest: BTreeMap::new(),
                };
                self.lines.insert(seen.link, line);
            }
            What::Text { text, json } if from_relay => self.relay_said(seen, text, *json, rulings),
            What::Text { text, json } => self.peer_said(seen, text, *json),
            What::Binary(bytes) if from_relay => self.relay_said_binary(seen, bytes, rulings),
            What::Binary(bytes) => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.unclear = true;
                }
                let content = Content::Binary(bytes.to_vec());
                self.remember(seen, Kind::Junk, content, "COW-ROUTE-1", BTreeSet::new());
            }
            What::Closing { .. } | What::Closed => self.ended(seen),
            What::Raw(_) => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.unclear = true;
                }
            }
            What::Stalled => {
                if let Some(line) = self.lines.get_mut(&seen.link) {
                    line.deaf = true;
                }
                for sent in &mut self.sent {
                    sent.owed.remove(&seen.link);
                }
                for leave in &mut self.leaves {
                    leave.owed.remove(&seen.link);
                }
            }
            What::Requested { .. } | What::Asked(_) | What::Answered(_) => {}
            What::Ping(_) | What::Pong(_) => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        let nano = Duration::from_nanos(1);
        let first = self.sent.front().map_or(0, |sent| sent.number);
        let place = self.owing.first().and_then(|number| usize::try_from(number - first).ok());
        let oldest = place.and_then(|place| self.sent.get(place));
        let sent = oldest.map(|sent| sent.at.max(self.worked_at) + self.patience()).into_iter();
        let leaves = self.leaves.iter().map(|leave| leave.at + GONE);
        let doubtful = self.doubtful.iter().map(|(_, _, at)| *at + SEEN_LATER);
        sent.chain(leaves).chain(doubtful).min().map(|at| at + self.slack + nano)
    }

    fn due(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now, rulings);
        let Some(line) = self.lines.values().find(|line| line.open && !line.unclear && line.heard > 0) else {
            return;
        };
        // Whoever is still there was never wrongly buried, or it was said.
        rulings.kept("COW-GONE-3", &line.relay, now);
        // What was for nobody has not come, though something that was sent later has.
        let last =
            self.sent.iter().rev().find(|sent| !sent.delivered.is_empty()).map_or(0, |sent| sent.number);
        for sent in self.sent.iter().filter(|sent| sent.number < last && sent.delivered.is_empty()) {
            let requirement = match (&sent.kind, &sent.content) {
                (Kind::Junk, Content::Binary(_)) => "COW-ROB-10",
                (Kind::Junk, Content::Text(..)) => "COW-ROB-8",
                (Kind::MadeUp, _) => "COW-ROUTE-9",
                (Kind::Forged(_), _) => "COW-ROUTE-10",
                (Kind::Nobody(_), _) => "COW-ROUTE-7",
                _ => continue,
            };
            rulings.kept(requirement, &line.relay, now);
        }
    }
}
