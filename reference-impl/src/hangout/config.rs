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
    /// Takes an array or a string in place of the properties object for properties `0`, `1` ... (ROBUST-6).
    ArrayBecomesProperties = "array-becomes-properties",
    /// Takes any address that contains "server", in any case, for the server (ADDR-6).
    CaseInsensitiveServerAddress = "case-insensitive-server-address",
    /// Leaves a connection open after malformed input and never reads from it again (ROBUST-5).
    DeafAfterBadInput = "deaf-after-bad-input",
    /// Dies of deep nesting (ROBUST-4). To die is to cut all links and to take no more: as a crash looks from outside.
    DiesOnDeepNesting = "dies-on-deep-nesting",
    /// Dies of text that is not JSON (ROBUST-1).
    DiesOnMalformed = "dies-on-malformed",
    /// Dies of broken framing (ROBUST-3).
    DiesOnWireError = "dies-on-wire-error",
    /// Dies of JSON of a wrong shape (ROBUST-2).
    DiesOnWrongShape = "dies-on-wrong-shape",
    /// Forgets its properties when it loses its connection (CLIENT-7).
    ForgetsPropertiesAfterReconnect = "forgets-properties-after-reconnect",
    /// Leaves for good when it gets something malformed (CLIENT-6).
    GivesUpOnMalformed = "gives-up-on-malformed",
    /// Announces each change by itself instead of collecting them (SYNC-4).
    ImmediateSync = "immediate-sync",
    /// Gives a newcomer the properties of whoever left last (PROP-10).
    InheritsProperties = "inherits-properties",
    /// Drops all properties above ten instead of twenty-five (PROP-8).
    LimitTenProperties = "limit-10-properties",
    /// Never drops properties (PROP-9).
    NoPropertyLimit = "no-property-limit",
    /// Takes `properties` packets to others for writes (PROP-11).
    PropertiesToPeersCount = "properties-to-peers-count",
    /// Replaces all properties by those of the packet (PROP-4).
    ReplacesProperties = "replaces-properties",
    /// Makes tokens that count upwards (TOKEN-4).
    SequentialTokens = "sequential-tokens",
    /// Gives the second connection the token of the first (TOKEN-2).
    SharedToken = "shared-token",
    /// Writes into the entry of the token that a properties packet names inside (PROP-3).
    WritesToOthers = "writes-to-others",
}
