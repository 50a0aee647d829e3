//! Settings of the roles, and the faults that can be planted where no rule over messages could express them.

use std::collections::BTreeSet;
use std::time::Duration;

/// Settings of a server. The default is the reference of hangout.md.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Seeds the tokens.
    pub seed: u64,
    /// Whether a newcomer gets `metadata` at once (section 6.17).
    pub greet: bool,
    /// `metadata.version`.
    pub version: String,
    /// How often changes are looked for ("every 500ms").
    pub check: Duration,
    /// How often everybody is pinged ("every 20 seconds").
    pub ping: Duration,
    /// Properties that one connection may hold (section 2.3).
    pub properties: usize,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            seed: 0,
            greet: true,
            version: "DEV".to_owned(),
            check: Duration::from_millis(500),
            ping: Duration::from_secs(20),
            properties: 25,
            faults: BTreeSet::new(),
        }
    }
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The path asked for.
    pub path: String,
    /// How long a client waits before it connects again (section 3.4).
    pub reconnect: Duration,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig { path: "/".to_owned(), reconnect: Duration::from_millis(500), faults: BTreeSet::new() }
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
    /// Sends packets for several addresses to everybody (RELAY-2).
    ArrayGoesToAll = "array-goes-to-all",
    /// Takes an array or a string in place of the properties object for properties `0`, `1` ... (ROBUST-6).
    ArrayBecomesProperties = "array-becomes-properties",
    /// Leaves the newest connection out of broadcasts (ADDR-3).
    BroadcastSkipsNewest = "broadcast-skips-newest",
    /// Leaves the sender out of its own broadcasts (RELAY-7).
    BroadcastSkipsSender = "broadcast-skips-sender",
    /// Takes any address that contains "server", in any case, for the server (ADDR-6).
    CaseInsensitiveServerAddress = "case-insensitive-server-address",
    /// Sends a sync every few seconds although nothing has changed (SYNC-7).
    ChattyWhenIdle = "chatty-when-idle",
    /// Closes whoever addresses somebody unknown (ADDR-5).
    ClosesOnUnknownAddress = "closes-on-unknown-address",
    /// Sends a copy of a packet for others to its sender (RELAY-2).
    CopiesToSender = "copies-to-sender",
    /// Delivers packets for the gone to the newest connection (ADDR-7).
    DeadTokenGoesToNewest = "dead-token-goes-to-newest",
    /// Leaves a connection open after malformed input and never reads from it again (ROBUST-5).
    DeafAfterBadInput = "deaf-after-bad-input",
    /// Loses what a client says in the first moment of its connection (CONN-2).
    DeafBeforeGreeting = "deaf-before-greeting",
    /// Dies of deep nesting (ROBUST-4). To die is to cut all links and to take no more: as a crash looks from outside.
    DiesOnDeepNesting = "dies-on-deep-nesting",
    /// Dies of text that is not JSON (ROBUST-1).
    DiesOnMalformed = "dies-on-malformed",
    /// Dies of a message over the limit (ROBUST-4).
    DiesOnTooBig = "dies-on-too-big",
    /// Dies of broken framing, text that is not UTF-8 included (ROBUST-3).
    DiesOnWireError = "dies-on-wire-error",
    /// Dies of JSON of a wrong shape (ROBUST-2).
    DiesOnWrongShape = "dies-on-wrong-shape",
    /// Makes room for a 26th property by dropping the oldest (PROP-9).
    DropsOldestProperty = "drops-oldest-property",
    /// Relays the payloads that look like nothing as an empty object (RELAY-5).
    FalsyPayloadBecomesObject = "falsy-payload-becomes-object",
    /// Forgets its properties when it loses its connection (CLIENT-7).
    ForgetsPropertiesAfterReconnect = "forgets-properties-after-reconnect",
    /// Forgets its properties when its connection is cut without a Close (CLIENT-7).
    ForgetsPropertiesAfterReset = "forgets-properties-after-reset",
    /// Tells of one that came and went between two checks in `closed` only (CHG-7).
    ForgetsShortLived = "forgets-short-lived",
    /// Leaves for good when it gets something malformed (CLIENT-6).
    GivesUpOnMalformed = "gives-up-on-malformed",
    /// Leaves for good when somebody speaks whom it was not told of (CLIENT-6).
    GivesUpOnStrangers = "gives-up-on-strangers",
    /// Announces each change by itself instead of collecting them (SYNC-4).
    ImmediateSync = "immediate-sync",
    /// Gives a newcomer the properties of whoever left last (PROP-10).
    InheritsProperties = "inherits-properties",
    /// Relays with the `from` that the sender has claimed (FROM-2).
    KeepsClaimedSender = "keeps-claimed-sender",
    /// Never replaces the value of a property (PROP-1).
    KeepsFirstValue = "keeps-first-value",
    /// Shows the gone in the sync that announces their loss (META-6).
    KeepsGhosts = "keeps-ghosts",
    /// Sends the sync of a write to all but the writer (SYNC-8).
    LeavesOutWriters = "leaves-out-writers",
    /// Holds one property less than it should (PROP-8).
    LimitOffByOne = "limit-off-by-one",
    /// Drops all properties above ten instead of twenty-five (PROP-8).
    LimitTenProperties = "limit-10-properties",
    /// Sends `metadata` first and `changes` after it (SYNC-5, SYNC-6).
    MetadataBeforeChanges = "metadata-before-changes",
    /// Stores objects and arrays as text (PROP-7).
    NestedBecomesText = "nested-becomes-text",
    /// Stores `null` as the word (PROP-6).
    NullBecomesText = "null-becomes-text",
    /// Leaves the reader out of the list of connections, unless it is the first (META-3).
    OmitsReader = "omits-reader",
    /// Takes `properties` packets to others for writes (PROP-11).
    PropertiesToPeersCount = "properties-to-peers-count",
    /// Turns a third connection away (CONN-1).
    RefusesThird = "refuses-third",
    /// Relays packets whose type is no string (RELAY-6).
    RelaysAnyType = "relays-any-type",
    /// Relays `metadata` and `changes` of clients (RELAY-9).
    RelaysOwnTypes = "relays-own-types",
    /// Replaces all properties by those of the packet (PROP-4).
    ReplacesProperties = "replaces-properties",
    /// Makes tokens that count upwards (TOKEN-4).
    SequentialTokens = "sequential-tokens",
    /// Gives the second connection the token of the first (TOKEN-2).
    SharedToken = "shared-token",
    /// Gives every connection above seven the token of the first (TOKEN-2).
    SharedTokenInCrowd = "shared-token-in-crowd",
    /// Shows the values of those who wrote, and empty entries for all others (META-4).
    ShowsOnlyChanges = "shows-only-changes",
    /// Drops all properties above the limit without telling anybody (PROP-9).
    SilentAboveLimit = "silent-above-limit",
    /// Tells of joins only at every fourth check (SYNC-1).
    SlowJoins = "slow-joins",
    /// Tells of losses only at every fourth check (SYNC-2).
    SlowLeaves = "slow-leaves",
    /// Pings half as often again (PING-1).
    SlowPings = "slow-pings",
    /// Tells of writes only at every fourth check (SYNC-3).
    SlowWrites = "slow-writes",
    /// Sends the oldest connection a table without those that were just announced (META-7).
    StaleTableForFirst = "stale-table-for-first",
    /// Makes tokens that begin alike (TOKEN-4).
    TokensShareBeginning = "tokens-share-beginning",
    /// Writes into the entry of the `from` that a properties packet claims (PROP-3).
    TrustsClaimedWriter = "trusts-claimed-writer",
    /// Makes tokens in capital letters (TOKEN-3).
    UpperCaseTokens = "upper-case-tokens",
    /// Relays packets inside an object of their own (RELAY-3).
    WrapsRelayedPackets = "wraps-relayed-packets",
    /// Writes into the entry of the token that a properties packet names inside (PROP-3).
    WritesToOthers = "writes-to-others",
}
