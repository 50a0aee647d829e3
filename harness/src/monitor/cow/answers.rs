//! What an alpha answers to a list (section 3.3): `syncinfo`, `wantedList` and the missing records, and whether they
//! agree with each other and with the list.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flowproof_reference::machine::Time;
use serde_json::Value;

use super::records::Given;
use super::{Store, peer_id, record_id, store, store_name, timestamp};
use crate::judge::schema::actual;
use crate::monitor::{Party, Rulings, Seen};

/// Each answer of an alpha comes within this time (section 3.5).
const ANSWER: Duration = Duration::from_secs(3);

/// A list that another peer sent, and what was answered so far.
#[derive(Debug)]
struct Asked {
    asker: String,
    store: Store,
    at: Time,
    /// Its place among what the peer heard.
    place: u64,
    /// How many versions of records the peer was given before it.
    given: usize,
    entries: BTreeMap<String, f64>,
    announced: Option<Announced>,
    sent: Option<BTreeSet<String>>,
    wanted: Option<BTreeSet<String>>,
    judged_sent: bool,
    judged_wanted: bool,
    /// The same peer had asked before, and was not answered yet: which list an answer is for cannot be told.
    overlaps: bool,
}

#[derive(Debug)]
struct Announced {
    at: Time,
    will_send: BTreeSet<String>,
    shall_receive: BTreeSet<String>,
    /// Some of what is announced is no id (section 8: programs said null).
    nulls: usize,
    whole: Value,
}

/// The lists that a peer was asked with on one connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    asked: Vec<Asked>,
    /// The edition in force is cow2.
    cow2: bool,
}

impl Answers {
    pub(super) fn new(cow2: bool) -> Answers {
        Answers { asked: Vec::new(), cow2 }
    }

    /// Another peer sent a list.
    pub(super) fn asked(&mut self, seen: &Seen<'_>, place: u64, asker: &str, payload: &Value, given: &Given) {
        let (Some(store), Some(list)) = (store(payload), payload.get("list").and_then(Value::as_array))
        else {
            return;
        };
        let overlaps = self.asked.iter().any(|one| {
            let same = one.asker == asker && one.store == store;
            same && seen.at.since(one.at) <= ANSWER * 2 && (one.overlaps || !one.is_answered())
        });
        // From now on the answers to an earlier list cannot be told from the answers to this one.
        for one in self.asked.iter_mut().filter(|one| one.asker == asker && one.store == store) {
            (one.judged_sent, one.judged_wanted) = (true, true);
        }
        let mut entries = BTreeMap::new();
        for entry in list {
            let Some(id) = entry.get("_id").and_then(|id| record_id(Some(id))) else { continue };
            let time = timestamp(entry.get("timestamp"));
            entries.entry(id).and_modify(|known: &mut f64| *known = known.max(time)).or_insert(time);
        }
        self.asked.push(Asked {
            asker: asker.to_owned(),
            store,
            at: seen.at,
            place,
            given: given.count(),
            entries,
            announced: None,
            sent: None,
            wanted: None,
            judged_sent: false,
            judged_wanted: false,
            overlaps,
        });
    }

    /// The peer under test answers.
    pub(super) fn answered(
        &mut self,
        seen: &Seen<'_>,
        action: &str,
        whole: &Value,
        own: &str,
        given: &Given,
        rulings: &mut Rulings,
    ) {
        let Some(payload) = whole.get("payload") else { return };
        let Some(store) = store(payload) else { return };
        let target = whole.get("target").filter(|target| !target.is_null());
        let asker = target.and_then(peer_id);
        if asker.as_deref() == Some(own) {
            let message = "it answers its own list";
            rulings.broken("COW-ALPHA-3", seen.from, seen.at, message, "nothing", actual(whole));
            return;
        }
        let address = if action == "syncinfo" { "COW-ALPHA-10" } else { "COW-ALPHA-9" };
        match &asker {
            Some(asker) if !self.asked.iter().any(|one| one.store == store) => {
                if self.asked.iter().any(|one| one.asker == *asker) {
                    let message = format!("nobody asked for {}", store_name(&store));
                    let expected = "the store and project of the list";
                    rulings.broken("COW-ALPHA-15", seen.from, seen.at, message, expected, actual(whole));
                }
                return;
            }
            Some(asker) if self.asked.iter().any(|one| one.store == store && one.asker == *asker) => {
                rulings.kept(address, seen.from, seen.at);
                rulings.kept("COW-ALPHA-15", seen.from, seen.at);
            }
            _ if self.asked.iter().any(|one| one.store == store) => {
                let message = "it is not addressed to the peer that sent the list";
                let asked = self.asked.iter_mut().filter(|one| one.store == store);
                let askers: BTreeSet<String> = asked.map(|one| one.asker.clone()).collect();
                let names = askers.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
                let expected = format!("the target {names}");
                rulings.broken(address, seen.from, seen.at, message, expected, actual(whole));
                if askers.len() > 1 {
                    // Which list it answers nobody can say, nor what was announced of it.
                    for one in self.asked.iter_mut().filter(|one| one.store == store) {
                        (one.judged_sent, one.judged_wanted) = (true, true);
                    }
                    return;
                }
            }
            _ => return,
        }
        if let Some(asker) =
            asker.as_deref().filter(|_| action != "missingItems" && action != "missingRecords")
            && let Some(other) = self.meant_for(&store, asker, action, payload)
        {
            let message = format!("it answers the list of {other}, and is addressed to {asker}");
            let expected = format!("the target {other}");
            rulings.broken("COW-ALPHA-12", seen.from, seen.at, message, expected, actual(whole));
            return;
        }
        let cow2 = self.cow2;
        let fits =
            |one: &&mut Asked| one.store == store && asker.as_ref().is_none_or(|asker| one.asker == *asker);
        let Some(asked) = self.asked.iter_mut().rev().find(fits).filter(|asked| !asked.overlaps) else {
            return;
        };
        match action {
            "syncinfo" => asked.announced(seen, whole, rulings),
            "wantedList" => asked.wanted(seen, whole, given, cow2, rulings),
            _ => asked.sent(seen, action, whole, cow2, rulings),
        }
        asked.agree(seen.from, seen.at, false, cow2, rulings);
    }

    /// Whose list an answer fits, when it asks its target, who sent a list too, for records that were never in that one.
    fn meant_for(&self, store: &Store, asker: &str, action: &str, payload: &Value) -> Option<&str> {
        let wishes = if action == "syncinfo" { "/syncinfo/IShallReceive" } else { "/list" };
        let wished = ids(payload.pointer(wishes));
        let names =
            |one: &&Asked| one.store == *store && wished.iter().all(|id| one.entries.contains_key(id));
        let mut theirs = self.asked.iter().filter(|one| one.store == *store && one.asker == asker).peekable();
        if wished.is_empty() || theirs.peek().is_none() || theirs.any(|one| names(&one)) {
            return None;
        }
        self.asked.iter().rev().find(names).map(|one| one.asker.as_str())
    }

    /// Nothing more will be seen, or time has passed.
    pub(super) fn overdue(&mut self, now: Time, slack: Duration, peer: &Party, rulings: &mut Rulings) {
        let cow2 = self.cow2;
        for one in &mut self.asked {
            let late =
                one.announced.as_ref().is_some_and(|announced| now.since(announced.at) > ANSWER + slack);
            one.agree(peer, now, late, cow2, rulings);
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let open = self.asked.iter().filter(|one| !one.judged_sent || !one.judged_wanted);
        open.filter_map(|one| one.announced.as_ref()).map(|announced| announced.at + ANSWER).min()
    }

    /// Where among what the peer heard somebody first asked for the store in the last seconds, so that an answer is one.
    pub(super) fn asked_at(&self, store: &Store, now: Time) -> Option<u64> {
        let asked = self.asked.iter().filter(|one| one.store == *store && now.since(one.at) <= ANSWER * 2);
        asked.map(|one| one.place).min()
    }
}

fn ids(value: Option<&Value>) -> BTreeSet<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|id| record_id(Some(id))).collect()
}

impl Asked {
    /// Everything has come that was announced.
    fn is_answered(&self) -> bool {
        self.announced.as_ref().is_some_and(|announced| {
            (self.sent.is_some() || announced.will_send.is_empty())
                && (self.wanted.is_some() || announced.shall_receive.is_empty())
        })
    }

    fn announced(&mut self, seen: &Seen<'_>, whole: &Value, rulings: &mut Rulings) {
        let info = whole.pointer("/payload/syncinfo");
        let receive = info.and_then(|info| info.get("IShallReceive"));
        let nulls =
            receive.and_then(Value::as_array).map_or(0, |ids| ids.iter().filter(|id| id.is_null()).count());
        if self.sent.is_some() || self.wanted.is_some() {
            let message = "`syncinfo` comes after a list that it announces";
            rulings.broken("COW-ALPHA-17", seen.from, seen.at, message, "`syncinfo` first", actual(whole));
        }
        self.announced = Some(Announced {
            at: seen.at,
            will_send: ids(info.and_then(|info| info.get("IWillSent"))),
            shall_receive: ids(receive),
            nulls,
            whole: actual(whole),
        });
    }

    fn wanted(&mut self, seen: &Seen<'_>, whole: &Value, given: &Given, cow2: bool, rulings: &mut Rulings) {
        let list = whole.pointer("/payload/list").and_then(Value::as_array);
        self.not_empty(seen, list, whole, cow2, rulings);
        if self.announced.is_some() {
            rulings.kept("COW-ALPHA-17", seen.from, seen.at);
        }
        let mut wanted = BTreeSet::new();
        let expected = "each record once that the other has in a newer version, or alone";
        for id in list.into_iter().flatten().filter_map(|id| record_id(Some(id))) {
            let problem = if !wanted.insert(id.clone()) {
                Some(("COW-ALPHA-7", format!("{id} is asked for twice")))
            } else {
                match (self.entries.get(&id), self.mine(given, &id)) {
                    (None, _) => Some(("COW-ALPHA-7", format!("{id} was not in the list"))),
                    (Some(theirs), Some(mine)) if mine == *theirs => {
                        Some(("COW-ALPHA-13", format!("{id} has the same timestamp on both sides")))
                    }
                    (Some(theirs), Some(mine)) if mine > *theirs => {
                        Some(("COW-ALPHA-7", format!("the version of {id} in the list is the older one")))
                    }
                    _ => None,
                }
            };
            match problem {
                Some((requirement, message)) => {
                    rulings.broken(requirement, seen.from, seen.at, message, expected, actual(whole));
                }
                None => rulings.kept("COW-ALPHA-7", seen.from, seen.at),
            }
        }
        self.kept_equal(seen, given, &wanted, rulings);
        self.wanted = Some(wanted);
    }

    fn sent(&mut self, seen: &Seen<'_>, action: &str, whole: &Value, cow2: bool, rulings: &mut Rulings) {
        let member = if action == "missingItems" { "/payload/items" } else { "/payload/list" };
        let list = whole.pointer(member).and_then(Value::as_array);
        self.not_empty(seen, list, whole, cow2, rulings);
        if self.announced.is_some() {
            rulings.kept("COW-ALPHA-17", seen.from, seen.at);
        }
        let mut sent = BTreeSet::new();
        let expected = "each record once that the other lacks, or has in an older version";
        for record in list.into_iter().flatten() {
            let Some(id) = record_id(record.get("_id")) else { continue };
            let updated = timestamp(record.get("updated"));
            let problem = if !sent.insert(id.clone()) {
                Some(("COW-ALPHA-8", format!("{id} is sent twice")))
            } else {
                match self.entries.get(&id) {
                    Some(theirs) if *theirs == updated => {
                        Some(("COW-ALPHA-13", format!("{id} has the same timestamp on both sides")))
                    }
                    Some(theirs) if *theirs > updated => {
                        Some(("COW-ALPHA-8", format!("the version of {id} that is sent is the older one")))
                    }
                    _ => None,
                }
            };
            match problem {
                Some((requirement, message)) => {
                    rulings.broken(requirement, seen.from, seen.at, message, expected, actual(whole));
                }
                None => rulings.kept("COW-ALPHA-8", seen.from, seen.at),
            }
        }
        self.sent = Some(sent);
    }

    /// When the peer's version of a record was changed, as far as that is certain.
    fn mine(&self, given: &Given, id: &str) -> Option<f64> {
        given.certain_of(&self.store, id, self.given)
    }

    fn kept_equal(&self, seen: &Seen<'_>, given: &Given, wanted: &BTreeSet<String>, rulings: &mut Rulings) {
        let equal = self
            .entries
            .iter()
            .any(|(id, theirs)| self.mine(given, id) == Some(*theirs) && !wanted.contains(id));
        if equal {
            rulings.kept("COW-ALPHA-13", seen.from, seen.at);
        }
    }

    fn not_empty(
        &self,
        seen: &Seen<'_>,
        list: Option<&Vec<Value>>,
        whole: &Value,
        cow2: bool,
        rulings: &mut Rulings,
    ) {
        match list {
            Some(list) if list.is_empty() && !cow2 => {
                let message = "a list with nothing in it";
                rulings.broken("COW-ALPHA-11", seen.from, seen.at, message, "nothing at all", actual(whole));
            }
            _ => rulings.kept("COW-ALPHA-11", seen.from, seen.at),
        }
    }

    /// What was announced, against what came; `late` when nothing more can come.
    fn agree(&mut self, peer: &Party, at: Time, late: bool, cow2: bool, rulings: &mut Rulings) {
        let Some(announced) = &self.announced else { return };
        let none = BTreeSet::new();
        let came = |list: &Option<BTreeSet<String>>| list.clone().or_else(|| late.then(|| none.clone()));
        if !self.judged_sent
            && let Some(sent) = came(&self.sent)
        {
            self.judged_sent = true;
            if sent == announced.will_send {
                rulings.kept("COW-ALPHA-5", peer, at);
            } else {
                let message = "`IWillSent` does not name the records that were sent";
                rulings.broken("COW-ALPHA-5", peer, at, message, names(&sent), announced.whole.clone());
            }
        }
        if !self.judged_wanted
            && let Some(wanted) = came(&self.wanted)
        {
            self.judged_wanted = true;
            if wanted == announced.shall_receive && announced.nulls == 0 {
                rulings.kept("COW-ALPHA-6", peer, at);
            } else if !(cow2 && announced.nulls > 0) {
                let message = "`IShallReceive` does not name the records that were asked for";
                rulings.broken("COW-ALPHA-6", peer, at, message, names(&wanted), announced.whole.clone());
            }
        }
    }
}

fn names(ids: &BTreeSet<String>) -> String {
    if ids.is_empty() { "no record".to_owned() } else { ids.iter().cloned().collect::<Vec<_>>().join(", ") }
}
