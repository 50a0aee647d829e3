//! Packets between clients: who gets what, from whom, unchanged, in order.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use serde_json::Value;

use super::{HANDLED, Said, is_plain, is_token, packet, said, sides};
use crate::judge::schema::actual;
use crate::monitor::{Monitor, MonitorConfig, Party, Rulings, Seen, What};
use crate::pattern::json;

/// Packets that are remembered; older ones can no longer be told from strangers'.
const REMEMBERED: usize = 2048;
/// How long a packet may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// A relay takes no longer than this (section 3.4).
const AT_ONCE: Duration = Duration::from_millis(1000);

/// How a packet was addressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    One,
    Several,
    Everyone,
}

/// A packet that a played client sent.
struct Sent {
    number: u64,
    /// See [`saying`].
    saying: u64,
    at: Time,
    sender: LinkId,
    /// Connections addressed by token.
    named: BTreeSet<LinkId>,
    /// Addressed to everybody.
    everyone: bool,
    form: Form,
    /// Those who must have it in time; emptied when it was judged.
    owed: BTreeSet<LinkId>,
    /// Those who did not have it in time.
    overdue: BTreeSet<LinkId>,
    kind: String,
    payload: Value,
    /// The sender that the packet claims.
    claimed: Option<Value>,
    /// An address among the others that nobody has, and the requirement on that.
    stray: Option<&'static str>,
    /// The packet itself has members that an envelope has.
    like_envelope: bool,
    /// It named the server among others (6.9), or an address we cannot place.
    vague: bool,
    delivered: BTreeSet<LinkId>,
}

#[derive(Default)]
struct Link {
    token: Option<String>,
    open: bool,
    /// Its client said that it ends it, and the server has not shown yet that it knows.
    leaving: bool,
    /// The server ended it.
    cut: bool,
    /// When it went without a word: what it said just before may be lost with it.
    vanished: Option<Time>,
    /// It has sent something of which nobody knows what a server makes.
    unclear: bool,
    /// It does not read, or the server may have cut it off: nothing is owed to it.
    deaf: bool,
    name: String,
}

pub(super) struct Relay {
    slack: Duration,
    /// Nobody else uses the server.
    exclusive: bool,
    server: Option<Party>,
    wildcard: String,
    links: BTreeMap<LinkId, Link>,
    /// Whose token is which: where several were told the same, all of them.
    owners: HashMap<String, BTreeSet<LinkId>>,
    /// In the order of their numbers, without gaps.
    sent: VecDeque<Sent>,
    /// Their numbers by what they say, which is alike for the same packets: a busy relay is judged as it talks.
    by_saying: HashMap<u64, VecDeque<u64>>,
    /// Those that are still owed to somebody, by their numbers.
    owing: BTreeSet<u64>,
    next: u64,
    /// The last packet delivered, by sender and reader.
    last: BTreeMap<(LinkId, LinkId), u64>,
    /// Forms of the address by which a packet was delivered in time.
    worked: BTreeSet<Form>,
    /// Who sent a packet of the server's own types to the server.
    for_server: BTreeSet<(LinkId, String)>,
}

impl Relay {
    pub(super) fn new(config: &MonitorConfig) -> Self {
        let wildcard = config.settings.get("wildcard").cloned().unwrap_or_else(|| "*".to_owned());
        Relay {
            slack: config.slack,
            exclusive: config.exclusive,
            server: None,
            wildcard,
            links: BTreeMap::new(),
            owners: HashMap::new(),
            sent: VecDeque::new(),
            by_saying: HashMap::new(),
            owing: BTreeSet::new(),
            next: 0,
            last: BTreeMap::new(),
            worked: BTreeSet::new(),
            for_server: BTreeSet::new(),
        }
    }

    fn client_said(&mut self, seen: &Seen<'_>) {
        let (json, plain) = match &seen.what {
            What::Text { json, text } if text.len() <= HANDLED => (said(json), is_plain(text)),
            _ => (Said::Unclear, false),
        };
        let Said::Envelope(envelope) = json else {
            self.links.entry(seen.link).or_default().unclear = true;
            return;
        };
        if envelope.to.contains(&"server") && envelope.to.len() == 1 {
            if matches!(envelope.kind, "metadata" | "changes") {
                self.for_server.insert((seen.link, envelope.kind.to_owned()));
            }
            return;
        }
        let mut named = BTreeSet::new();
        let mut vague = envelope.to.contains(&"server");
        let (mut stray, mut twice) = (None, false);
        for address in &envelope.to {
            match self.owner(address) {
                Some((id, link)) if link.open => twice |= !named.insert(id),
                _ if *address == self.wildcard => {}
                // It has said that it goes, on a connection of its own: the server may hear of that later than of this.
                Some((_, link)) if link.leaving => vague = true,
                Some(_) => stray = Some("HANGOUT-ADDR-7"),
                // It may be the token of one whose `index` was not read yet.
                None => {
                    stray = Some("HANGOUT-ADDR-5");
                    vague |= self.links.values().any(|link| link.token.is_none());
                }
            }
        }
        let everyone = envelope.to.contains(&self.wildcard.as_str());
        let form = match (everyone, envelope.single) {
            (true, _) => Form::Everyone,
            (false, true) => Form::One,
            (false, false) => Form::Several,
        };
        // The echo is judged by a flow of its own, and the server's own types are not relayed.
        // Odd packets and odd addresses are judged by flows of their own, which first see plain ones arrive.
        let plain = plain
            && envelope.bare
            && stray.is_none()
            && !twice
            && is_plain_packet(envelope.kind, envelope.payload);
        let ready = |link: &Link| link.open && !link.unclear && link.token.is_some();
        let clear = plain && !vague && self.links.get(&seen.link).is_some_and(ready);
        let mut owed = BTreeSet::new();
        if clear && everyone {
            owed = self.links.iter().filter(|(_, link)| link.open && !link.deaf).map(|(id, _)| *id).collect();
        } else if clear {
            owed = named.clone();
        }
        owed.remove(&seen.link);
        self.next += 1;
        if !owed.is_empty() {
            self.owing.insert(self.next);
        }
        let saying = saying(envelope.kind, envelope.payload);
        self.by_saying.entry(saying).or_default().push_back(self.next);
        self.sent.push_back(Sent {
            form,
            owed,
            overdue: BTreeSet::new(),
            number: self.next,
            saying,
            at: seen.at,
            sender: seen.link,
            named,
            everyone,
            kind: envelope.kind.to_owned(),
            payload: envelope.payload.clone(),
            claimed: envelope.claimed.cloned(),
            stray,
            like_envelope: envelope.like_envelope,
            vague,
            delivered: BTreeSet::new(),
        });
        while self.sent.len() > REMEMBERED {
            let Some(forgotten) = self.sent.pop_front() else { break };
            self.owing.remove(&forgotten.number);
            if let Entry::Occupied(mut alike) = self.by_saying.entry(forgotten.saying) {
                alike.get_mut().pop_front();
                if alike.get().is_empty() {
                    alike.remove();
                }
            }
        }
    }

    fn server_said(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let Some(packet) = packet(&seen.what) else { return };
        let own = packet.kind == "metadata" || packet.kind == "changes";
        if packet.from == "server" {
            if own {
                rulings.kept("HANGOUT-FROM-3", seen.from, seen.at);
                if let Some(index) = packet.whole.pointer("/metadata/index").and_then(Value::as_str) {
                    self.own_token(seen.link, index);
                }
            } else {
                let claims = |sent: &Sent| sent.claimed.as_ref().and_then(Value::as_str) == Some("server");
                let forged = self.sent.iter().any(|sent| sent.kind == packet.kind && claims(sent));
                let (id, message) = if forged {
                    ("HANGOUT-FROM-2", "a client's packet arrived as one of the server")
                } else {
                    ("HANGOUT-FROM-3", "a packet from `server` that is neither `metadata` nor `changes`")
                };
                rulings.broken(
                    id,
                    seen.from,
                    seen.at,
                    message,
                    "the sender's token as `from`",
                    actual(packet.whole),
                );
            }
            return;
        }
        if own {
            // What was meant for the server is not to be relayed whatever its type, which the flows judge.
            let sender = self.owner(packet.from);
            let sent_to_it =
                sender.is_some_and(|(id, _)| self.for_server.contains(&(id, packet.kind.to_owned())));
            if sent_to_it {
                return;
            }
            rulings.broken(
                "HANGOUT-RELAY-9",
                seen.from,
                seen.at,
                format!("a client's packet of type `{}` was relayed", packet.kind),
                "no relay of the server's own types",
                actual(packet.whole),
            );
            return;
        }
        let payload = packet.whole.get(packet.kind);
        self.match_up(seen, packet.from, packet.kind, payload, packet.whole, rulings);
    }

    fn own_token(&mut self, link: LinkId, index: &str) {
        if self.links.get(&link).is_some_and(|own| own.token.as_deref() == Some(index)) {
            return;
        }
        let of_another = |id: &LinkId| *id != link && self.links.get(id).is_some_and(|other| other.open);
        let taken = self.owners.get(index).is_some_and(|owners| owners.iter().any(of_another));
        let own = self.links.entry(link).or_default();
        if taken && own.token.is_none() {
            // Whose token it is, is judged elsewhere; of relays from and to this one nothing can be said.
            own.unclear = true;
        } else if own.token.is_none() {
            own.token = Some(index.to_owned());
            self.owners.entry(index.to_owned()).or_default().insert(link);
        }
    }

    /// The first of those who were told a token as theirs.
    fn owner(&self, token: &str) -> Option<(LinkId, &Link)> {
        let id = self.owners.get(token)?.first()?;
        Some((*id, self.links.get(id)?))
    }

    /// Notes what was owed by now and did not come.
    fn overdue(&mut self, now: Time) {
        let limit = AT_ONCE + self.slack;
        while let Some(number) = self.owing.first().copied() {
            let Some(sent) = numbered(&mut self.sent, number).filter(|sent| now.since(sent.at) > limit)
            else {
                return;
            };
            self.owing.remove(&number);
            let owed = std::mem::take(&mut sent.owed);
            let lost = |link: &Link| link.vanished.is_some_and(|end| end.since(sent.at) < AT_ONCE);
            if self.links.get(&sent.sender).is_none_or(|link| link.unclear || link.cut || lost(link)) {
                continue;
            }
            let waits = |reader: &LinkId| {
                self.links.get(reader).is_some_and(|link| link.open && !link.deaf && !link.unclear)
            };
            sent.overdue = owed.into_iter().filter(waits).collect();
        }
    }

    /// Accuses what never came. A form of the address that never worked may be one that the server does not know: that
    /// is judged by flows that try them all.
    fn never_came(&self, now: Time, rulings: &mut Rulings) {
        let Some(server) = &self.server else { return };
        for sent in &self.sent {
            for reader in &sent.overdue {
                let (id, how) = match sent.form {
                    Form::One => ("HANGOUT-RELAY-1", "by its token"),
                    Form::Several => ("HANGOUT-ADDR-2", "by its token in an array"),
                    Form::Everyone => ("HANGOUT-ADDR-3", "by the wildcard"),
                };
                let Some(link) = self.links.get(reader).filter(|_| self.worked.contains(&sent.form)) else {
                    continue;
                };
                let message =
                    format!("{} was addressed {how} and never got the packet `{}`", link.name, sent.kind);
                rulings.broken(id, server, now, message, "the packet, at once", Value::Null);
            }
        }
    }

    /// Finds the packet that was sent for one that arrived, and says how it differs.
    fn match_up(
        &mut self,
        seen: &Seen<'_>,
        from: &str,
        kind: &str,
        payload: Option<&Value>,
        whole: &Value,
        rulings: &mut Rulings,
    ) {
        let reader = seen.link;
        let links = &self.links;
        let token = |sent: &Sent| links.get(&sent.sender).and_then(|link| link.token.as_deref());
        let by = |sent: &Sent| token(sent) == Some(from);
        let same = |sent: &Sent| {
            sent.kind == kind && payload.is_some_and(|payload| json::same(&sent.payload, payload))
        };
        let meant = |sent: &Sent| sent.everyone || sent.vague || sent.named.contains(&reader);
        let alike = payload.and_then(|payload| self.by_saying.get(&saying(kind, payload)));
        let first = self.sent.front().map_or(0, |sent| sent.number);
        let mut places =
            alike.into_iter().flatten().filter_map(|number| usize::try_from(number - first).ok());
        let found = places.find(|place| {
            let waits = |sent: &Sent| {
                let fresh = seen.at.since(sent.at) < ON_ITS_WAY;
                fresh && by(sent) && same(sent) && meant(sent) && !sent.delivered.contains(&reader)
            };
            self.sent.get(*place).is_some_and(waits)
        });
        if let Some(sent) = found.and_then(|place| self.sent.get_mut(place)) {
            sent.delivered.insert(reader);
            if sent.owed.remove(&reader) {
                self.worked.insert(sent.form);
                if sent.owed.is_empty() {
                    self.owing.remove(&sent.number);
                }
            }
            if sent.overdue.remove(&reader) {
                let after = seen.at.since(sent.at).as_millis();
                let message = format!("a packet for {} came {after} ms after it was sent", seen.to.name);
                rulings.broken(
                    "HANGOUT-RELAY-1",
                    seen.from,
                    seen.at,
                    message,
                    "the packet within 1 s",
                    Value::Null,
                );
            }
            for id in ["HANGOUT-FROM-1", "HANGOUT-RELAY-4"] {
                rulings.kept(id, seen.from, seen.at);
            }
            let others =
                |(id, link): (&LinkId, &Link)| link.open && *id != sent.sender && !sent.named.contains(id);
            if !sent.everyone && self.links.iter().any(others) {
                rulings.kept("HANGOUT-RELAY-2", seen.from, seen.at);
            }
            if sent.claimed.is_some() {
                rulings.kept("HANGOUT-FROM-2", seen.from, seen.at);
            }
            let wrapped =
                ["to", "packet"].into_iter().find(|name| whole.get(name).is_some() && *name != kind);
            if wrapped.is_none() {
                rulings.kept("HANGOUT-RELAY-3", seen.from, seen.at);
            } else if let Some(name) = wrapped.filter(|_| !sent.like_envelope) {
                let message = format!("a relayed packet carries the envelope's `{name}`");
                rulings.broken(
                    "HANGOUT-RELAY-3",
                    seen.from,
                    seen.at,
                    message,
                    "the flat form",
                    actual(whole),
                );
            }
            let number = sent.number;
            let last = self.last.entry((sent.sender, reader)).or_insert(0);
            // Who has said something unclear may have said the same before.
            let clear = self.links.get(&sent.sender).is_some_and(|link| !link.unclear);
            if number < *last && !clear {
                *last = number;
            } else if number < *last {
                rulings.broken(
                    "HANGOUT-RELAY-8",
                    seen.from,
                    seen.at,
                    "it arrived after a packet that the same client sent later",
                    "packets of one sender in the order sent",
                    actual(whole),
                );
            } else {
                if *last > 0 {
                    rulings.kept("HANGOUT-RELAY-8", seen.from, seen.at);
                }
                *last = number;
            }
            return;
        }
        // Whoever has not read its token yet can be heard all the same (6.37).
        let early = self.sent.iter().any(|sent| same(sent) && meant(sent) && token(sent).is_none());
        // Whose packets nobody can read may have sent anything; what others sent is known.
        let doubtful = self
            .owner(from)
            .map_or_else(|| self.links.values().any(|link| link.unclear), |(_, link)| link.unclear);
        // Whoever reads late gets what was sent long ago, and is forgotten here.
        let deaf = self.links.get(&seen.link).is_some_and(|link| link.deaf);
        if early || doubtful || deaf {
            return;
        }
        let mut say = |id: &'static str, message: &str, expected: &str| {
            rulings.broken(id, seen.from, seen.at, message.to_owned(), expected.to_owned(), actual(whole));
        };
        let candidates: Vec<&Sent> =
            self.sent.iter().filter(|sent| seen.at.since(sent.at) < ON_ITS_WAY).collect();
        if let Some(twice) = candidates.iter().find(|sent| by(sent) && same(sent) && meant(sent)) {
            if !(twice.everyone && twice.named.contains(&reader)) {
                say("HANGOUT-ADDR-4", "the same packet arrived twice", "each packet once");
            }
        } else if let Some(sent) = candidates.iter().find(|sent| by(sent) && same(sent)) {
            match sent.stray.filter(|_| sent.sender != reader || sent.named.is_empty()) {
                Some(id) => {
                    say(id, "it was addressed to nobody who is there", "packets only for those addressed")
                }
                None => {
                    say(
                        "HANGOUT-RELAY-2",
                        "a packet for somebody else arrived",
                        "packets only for those addressed",
                    );
                }
            }
        } else if let Some(sent) = candidates.iter().find(|sent| same(sent) && meant(sent)) {
            // Strangers say the same to everybody.
            let known = self.owner(from).is_some();
            if !self.exclusive && !known && is_token(from) {
                return;
            }
            let believed = sent.claimed.as_ref().and_then(Value::as_str) == Some(from);
            let id = if believed { "HANGOUT-FROM-2" } else { "HANGOUT-FROM-1" };
            say(id, "`from` is not the token of the one who sent it", "the sender's token as `from`");
        } else {
            let mut altered = candidates.iter().filter(|sent| {
                by(sent) && sent.kind == kind && meant(sent) && !sent.delivered.contains(&reader)
            });
            if let (Some(sent), None) = (altered.next(), altered.next()) {
                if payload.is_none() {
                    say(
                        "HANGOUT-RELAY-3",
                        &format!("there is no member `{kind}` with the payload"),
                        "the flat form",
                    );
                    return;
                }
                let simple = matches!(&sent.payload, Value::Null | Value::Bool(false))
                    || sent.payload.as_f64() == Some(0.0)
                    || sent.payload.as_str() == Some("");
                let id = if simple { "HANGOUT-RELAY-5" } else { "HANGOUT-RELAY-4" };
                let message = format!("the payload was {} when it was sent", json::short(&sent.payload, 200));
                say(id, &message, "the payload unchanged");
            }
        }
    }
}

/// The packet with this number, among those in order without gaps.
fn numbered(sent: &mut VecDeque<Sent>, number: u64) -> Option<&mut Sent> {
    let place = number.checked_sub(sent.front()?.number)?;
    sent.get_mut(usize::try_from(place).ok()?)
}

/// A number for what a packet says: the same for packets that are [`json::same`].
fn saying(kind: &str, payload: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    json::hash(payload, &mut hasher);
    hasher.finish()
}

/// A packet that no server can take for anything special.
fn is_plain_packet(kind: &str, payload: &Value) -> bool {
    const SPECIAL: [&str; 8] =
        ["changes", "from", "metadata", "packet", "ping", "properties", "server", "to"];
    let simple = match payload {
        Value::String(text) => !text.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Number(number) => number.as_f64().is_some_and(|number| number > 0.0),
        _ => false,
    };
    simple
        && kind.trim() == kind
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' ')
        && !SPECIAL.contains(&kind)
}

impl Monitor for Relay {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        self.overdue(seen.at - Duration::from_nanos(1));
        let Some((server, client, from_server)) = sides(seen) else { return };
        match &seen.what {
            What::Opened { .. } => {
                self.server.get_or_insert_with(|| server.clone());
                let link = self.links.entry(seen.link).or_default();
                link.open = true;
                link.name.clone_from(&client.name);
            }
            What::Stalled => self.links.entry(seen.link).or_default().deaf = true,
            What::Closing { .. } | What::Closed => {
                if let Some(link) = self.links.get_mut(&seen.link) {
                    link.cut |= link.open && from_server;
                    if matches!(seen.what, What::Closed) && link.open && !from_server {
                        link.vanished = Some(seen.at);
                    }
                    link.leaving = !from_server && (link.open || link.leaving);
                    link.open = false;
                }
            }
            What::Text { .. } if from_server => self.server_said(seen, rulings),
            What::Text { .. } | What::Binary(_) | What::Raw(_) if !from_server => self.client_said(seen),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        let limit = AT_ONCE + self.slack + Duration::from_nanos(1);
        let place = self.owing.first()? - self.sent.front()?.number;
        self.sent.get(usize::try_from(place).ok()?).map(|sent| sent.at + limit)
    }

    fn due(&mut self, now: Time, _rulings: &mut Rulings) {
        self.overdue(now);
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        self.overdue(now);
        self.never_came(now, rulings);
    }
}
