//! Settings of the roles, and the faults that can be planted where no rule over messages could express them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::message::StoreKey;
use super::state::Record;

/// Milliseconds since 1970 at which a run begins, unless the owner of the machine knows better.
const EPOCH: u64 = 1_410_519_905_412;

/// Settings of a relay. The default is the reference of cow.md.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Milliseconds since 1970 when the run begins: ids are made of the time (section 2.1).
    pub epoch: u64,
    /// `server_ip` of `connected`.
    pub ip: String,
    /// `server_key` of `connected`.
    pub key: String,
    /// `server_version` of `connected`.
    pub version: String,
    /// A connection is pinged after so much silence (section 1).
    pub ping: Duration,
    /// And given up when nothing comes for so long after the Ping.
    pub grace: Duration,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for RelayConfig {
    fn default() -> Self {
        RelayConfig {
            epoch: EPOCH,
            ip: "127.0.0.1".to_owned(),
            key: "cow".to_owned(),
            version: "0.1".to_owned(),
            ping: Duration::from_secs(20),
            grace: Duration::from_secs(10),
            faults: BTreeSet::new(),
        }
    }
}

/// Which messages carry records (section 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edition {
    /// `missingItems`, and one `updatedRecord` for each wanted record.
    #[default]
    Seed,
    /// `missingRecords`, and one `requestedRecords` for all of them.
    Cow2,
}

impl Edition {
    /// The edition called `name`.
    pub fn from_name(name: &str) -> Option<Edition> {
        match name {
            "seed" => Some(Edition::Seed),
            "cow2" => Some(Edition::Cow2),
            _ => None,
        }
    }
}

/// Settings of a peer.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The path asked for.
    pub path: String,
    /// The edition it speaks.
    pub edition: Edition,
    /// The herd it belongs to; none: any relay will do.
    pub herd: Option<String>,
    /// `data.family` of its own record; `alpha` may become the alpha.
    pub family: String,
    /// Milliseconds since 1970 on its own clock when the run begins.
    pub epoch: u64,
    /// How long after a lost connection it connects again (section 3.5).
    pub reconnect: Duration,
    /// What its stores hold at the start.
    pub records: Vec<(StoreKey, String, Record)>,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for PeerConfig {
    fn default() -> Self {
        PeerConfig {
            path: "/".to_owned(),
            edition: Edition::Seed,
            herd: Some("cow".to_owned()),
            family: "alpha".to_owned(),
            epoch: EPOCH,
            reconnect: Duration::from_secs(5),
            records: Vec::new(),
            faults: BTreeSet::new(),
        }
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $arm:ident = $name:literal,)*) => {
        /// A fault planted on purpose, to see that a tester notices. Each breaks the requirement it names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $arm,)*
        }

        impl Fault {
            /// The fault called `name`.
            pub fn from_name(name: &str) -> Option<Fault> {
                match name {
                    $($name => Some(Fault::$arm),)*
                    _ => None,
                }
            }
        }
    };
}

faults! {
    /// Obeys commands that are addressed to somebody else (CMD-4).
    ActsOnOthersCommands = "acts-on-others-commands",
    /// Answers a list although somebody older is the alpha (ALPHA-2).
    AnswersAlways = "answers-always",
    /// Answers the echo of its own list (ALPHA-3).
    AnswersOwnList = "answers-own-list",
    /// Answers a `wantedList` for somebody else (SYNC-2).
    AnswersOthersWanted = "answers-others-wanted",
    /// Answers a `pong` with a `pong` (CMD-11).
    AnswersPong = "answers-pong",
    /// Tells the sender of a command nobody knows that nobody knows it (CMD-6).
    AnswersUnknownCommands = "answers-unknown-commands",
    /// Delivers what has no target a little later than what has one (ROUTE-6).
    BroadcastsLate = "broadcasts-late",
    /// Broadcasts its whole store when one record is wanted (SYNC-12).
    BroadcastsWholeStore = "broadcasts-whole-store",
    /// Names one more peer with each one that leaves (GONE-3).
    BuriesTheLiving = "buries-the-living",
    /// Makes a project of any that is asked for (ALPHA-16).
    CreatesProjects = "creates-projects",
    /// Takes no notice of a connection after text that is no JSON (ROB-2).
    DeafAfterMalformed = "deaf-after-malformed",
    /// Leaves a connection open and deaf after a message that is too long (ROB-7).
    DeafAfterOverlong = "deaf-after-overlong",
    /// Gives each connection a smaller id than the one before (CONN-6).
    DecreasingIds = "decreasing-ids",
    /// Delivers messages 50 ms after they came, whoever has left by then (GONE-6).
    DeliversLate = "delivers-late",
    /// Dies of binary messages (ROB-1, ROB-3). To die is to cut all links and to take no more: as a crash looks from
    /// outside.
    DiesOnBinary = "dies-on-binary",
    /// Dies of text that is not JSON (ROB-1, ROB-3).
    DiesOnMalformed = "dies-on-malformed",
    /// Dies of broken framing (ROB-1).
    DiesOnWireError = "dies-on-wire-error",
    /// Dies of JSON of a wrong shape (ROB-1, ROB-3).
    DiesOnWrongShape = "dies-on-wrong-shape",
    /// Dies of a `peerGone` about somebody it never heard of (GONE-8).
    DiesOnUnknownGone = "dies-on-unknown-gone",
    /// Forgets records when they are deleted (SYNC-9).
    DropsTombstones = "drops-tombstones",
    /// Ends the connection of its sender after 64 KiB in one message (ROB-5).
    EndsLongMessages = "ends-long-messages",
    /// Flushes all projects instead of one (CMD-9).
    FlushesAll = "flushes-all",
    /// Sends back its own broadcasts when they are echoed (SYNC-10).
    FollowsItsEcho = "follows-its-echo",
    /// Tells the id of one that left as a string (GONE-4).
    GoneIdAsString = "gone-id-as-string",
    /// Waits for a reader that is a mebibyte behind before it delivers anything to anybody (ROB-6).
    HeldUpBySlow = "held-up-by-slow",
    /// Takes any peer for a possible alpha (ALPHA-14).
    IgnoresFamily = "ignores-family",
    /// Does nothing on `flushProject` (CMD-9).
    IgnoresFlush = "ignores-flush",
    /// Stays when it is kicked (CMD-5).
    IgnoresKick = "ignores-kick",
    /// Does nothing on `purgePeer` (CMD-8).
    IgnoresPurge = "ignores-purge",
    /// Takes a newer version for an older one it has never (SYNC-11).
    KeepsFirst = "keeps-first",
    /// Goes on under its old id after a reconnect (CONN-11).
    KeepsOldId = "keeps-old-id",
    /// Whatever arrives last is kept (SYNC-6).
    LastWins = "last-wins",
    /// Keeps one set of items for all projects (SYNC-7).
    MixesProjects = "mixes-projects",
    /// Leaves the items and groups of a new project alone (SYNC-8).
    NoCascade = "no-cascade",
    /// Keeps no history (SYNC-15).
    NoDeltas = "no-deltas",
    /// Never looks whether a line is dead (GONE-7).
    NoPings = "no-pings",
    /// Offers or selects no subprotocol (CONN-7, CONN-9).
    NoSubprotocol = "no-subprotocol",
    /// Takes a null target for nobody (ROUTE-12).
    NullIsNobody = "null-is-nobody",
    /// Loses one connection and stays away (CONN-10).
    NeverReturns = "never-returns",
    /// Once somebody else is the alpha, it never becomes it (ALPHA-4).
    NeverTakesOver = "never-takes-over",
    /// Obeys its own echoed commands (CMD-7).
    ObeysItsEcho = "obeys-its-echo",
    /// Passes binary messages on (ROB-10).
    PassesBinary = "passes-binary",
    /// Passes on messages under another's id (ROUTE-10).
    PassesForged = "passes-forged",
    /// Passes on JSON that is no object (ROB-8).
    PassesNonObjects = "passes-non-objects",
    /// Passes on `connected` and `peerGone` of peers (ROUTE-9).
    PassesOwnActions = "passes-own-actions",
    /// Purges itself whoever is named (CMD-10).
    PurgesForOthers = "purges-for-others",
    /// Takes no `connected` with members it does not know (CONN-13).
    RefusesUnknownMembers = "refuses-unknown-members",
    /// Takes no list in which one entry is bad (ROB-4).
    RejectsBadEntries = "rejects-bad-entries",
    /// Drops records whose id is the name of something built in (ROB-9).
    RejectsOddIds = "rejects-odd-ids",
    /// Counts ids from the beginning when everybody has left (CONN-4).
    ReusesIds = "reuses-ids",
    /// Tells the others itself when somebody is gone (MSG-3).
    SaysGone = "says-gone",
    /// Sends lists with nothing in them (ALPHA-11).
    SendsEmptyLists = "sends-empty-lists",
    /// Sends records that both have alike (ALPHA-13).
    SendsEqual = "sends-equal",
    /// Gives the second connection the id of the first (CONN-3).
    SharedId = "shared-id",
    /// Sends a list before it has an id (LIST-6).
    SpeaksFirst = "speaks-first",
    /// Stays, and joins, where another herd is at home (CONN-8).
    StaysWithStrangers = "stays-with-strangers",
    /// Keeps the records of a `missingItems` for somebody else (SYNC-4).
    StoresOthersMissing = "stores-others-missing",
    /// Knows targets that are numbers only (ROUTE-8).
    StringsAreNobody = "strings-are-nobody",
    /// Answers lists to whoever joined last (ALPHA-12).
    SwapsAskers = "swaps-askers",
    /// Sends `syncinfo` behind the lists it announces (ALPHA-17).
    SyncinfoLast = "syncinfo-last",
    /// Counts the gone when the alpha is looked for (GONE-5).
    TheGoneCount = "the-gone-count",
    /// Broadcasts what is for a peer that does not exist (ROUTE-7).
    UnknownIsEverybody = "unknown-is-everybody",
    /// Announces itself to strangers before it leaves them (CONN-8).
    WavesToStrangers = "waves-to-strangers",
    /// Broadcasts a stub for each wanted record that it does not have (SYNC-13).
    MakesUpWanted = "makes-up-wanted",
}
