//! Settings of the roles, and the faults that can be planted where no rule over messages could express them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::token::Tokens;

/// How long a request waits for its response (3.5).
const REQUEST: Duration = Duration::from_secs(30);
/// What the reference calls itself (section 1).
const VERSION: &str = "2.0.0-alpha";

/// Which of the two profiles is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edition {
    /// The seed and everything marked (ext).
    #[default]
    Alpha0,
    /// The seed alone: tokens are optional, unknown members are passed over.
    Seed,
}

impl Edition {
    /// The edition called `name`.
    pub fn from_name(name: &str) -> Option<Edition> {
        match name {
            "alpha0" => Some(Edition::Alpha0),
            "seed" => Some(Edition::Seed),
            _ => None,
        }
    }

    /// True when members that nobody knows are refused.
    pub(super) fn is_strict(self) -> bool {
        self == Edition::Alpha0
    }
}

/// Settings of a master. The default is the reference of clusterio.md.
#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// Seeds the ids of instances that come without one.
    pub seed: u64,
    /// The profile.
    pub edition: Edition,
    /// What `hello` says.
    pub version: String,
    /// Who may register.
    pub tokens: Tokens,
    /// Where links are taken (section 1).
    pub path: String,
    /// Whether the plugin messages of 2.8 are known.
    pub plugins: bool,
    /// How long a client may take to register; for ever when none (3.5).
    pub handshake_timeout: Option<Duration>,
    /// How long a slave may take to answer.
    pub request_timeout: Duration,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for MasterConfig {
    fn default() -> Self {
        MasterConfig {
            seed: 0,
            edition: Edition::default(),
            version: VERSION.to_owned(),
            tokens: Tokens::default(),
            path: "/api/socket".to_owned(),
            plugins: true,
            handshake_timeout: None,
            request_timeout: REQUEST,
            faults: BTreeSet::new(),
        }
    }
}

/// Settings of a slave.
#[derive(Clone, Debug)]
pub struct SlaveConfig {
    /// The profile.
    pub edition: Edition,
    /// What it says of itself.
    pub agent: String,
    /// What it says of itself.
    pub version: String,
    /// Its display name.
    pub name: String,
    /// Its id in the cluster.
    pub id: i64,
    /// Its token; the edition `seed` does not need one.
    pub token: Option<String>,
    /// The path asked for.
    pub path: String,
    /// Whether the plugin messages of 2.8 are known.
    pub plugins: bool,
    /// The configurations of the instances that it has from the start.
    pub instances: Vec<Map<String, Value>>,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for SlaveConfig {
    fn default() -> Self {
        SlaveConfig {
            edition: Edition::default(),
            agent: "flowproof slave".to_owned(),
            version: VERSION.to_owned(),
            name: "reference".to_owned(),
            id: 41,
            token: None,
            path: "/api/socket".to_owned(),
            plugins: true,
            instances: Vec::new(),
            faults: BTreeSet::new(),
        }
    }
}

/// Settings of a control.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The profile.
    pub edition: Edition,
    /// What it says of itself.
    pub agent: String,
    /// What it says of itself.
    pub version: String,
    /// Its token; the edition `seed` does not need one.
    pub token: Option<String>,
    /// The path asked for.
    pub path: String,
    /// How long the master may take to answer.
    pub request_timeout: Duration,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for ControlConfig {
    fn default() -> Self {
        ControlConfig {
            edition: Edition::default(),
            agent: "flowproof control".to_owned(),
            version: VERSION.to_owned(),
            token: None,
            path: "/api/socket".to_owned(),
            request_timeout: REQUEST,
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
    /// Takes every token (AUTH-3).
    AcceptsAnyToken = "accepts-any-token",
    /// Takes tokens that have expired (AUTH-3).
    AcceptsExpiredTokens = "accepts-expired-tokens",
    /// Takes a register message without a token (AUTH-2).
    AcceptsMissingToken = "accepts-missing-token",
    /// Takes a register message whatever is missing from it (HS-15).
    AcceptsPartialRegistration = "accepts-partial-registration",
    /// Takes tokens that nobody signed (AUTH-3).
    AcceptsUnsignedTokens = "accepts-unsigned-tokens",
    /// Acts on what comes after it has said `close` (ROB-4).
    ActsAfterClose = "acts-after-close",
    /// Adds to the list of subscriptions instead of replacing it (CAT-8).
    AddsSubscriptions = "adds-subscriptions",
    /// Answers the control before the slave has answered (CAT-6).
    AnswersAssignEarly = "answers-assign-early",
    /// Answers the oldest outstanding request, whatever the number of the response (REQ-9).
    AnswersInOrder = "answers-in-order",
    /// Numbers its messages from where the other side is (SEQ-4).
    CounterOfBothDirections = "counter-of-both-directions",
    /// Begins to count at five (SEQ-2).
    CountsFromFive = "counts-from-five",
    /// Crashes on malformed input (ROB-2).
    CrashesOnMalformed = "crashes-on-malformed",
    /// Dies of text that is not JSON, or not UTF-8 (ROB-1). To die is to cut all links and to take no more, as a crash looks from outside.
    DiesOnMalformed = "dies-on-malformed",
    /// Dies of framing that is broken (ROB-1).
    DiesOnWireError = "dies-on-wire-error",
    /// Sends an event to all slaves, the source too (EVT-7).
    EchoesBroadcast = "echoes-broadcast",
    /// Marks a slave as gone when an older connection of it ends (CLOSE-8).
    EndOfOldEndsNew = "end-of-old-ends-new",
    /// Ends a link over an event that it cannot act upon (EVT-8).
    EndsLinkOnBadEvent = "ends-link-on-bad-event",
    /// Ends a link after a request that failed (REQ-10).
    EndsLinkOnFailedRequest = "ends-link-on-failed-request",
    /// Says that a field is set and forgets it (CAT-5).
    ForgetsFields = "forgets-fields",
    /// Does not answer the asker of a forwarded request whose slave is lost (REQ-14).
    ForgetsForwarded = "forgets-forwarded",
    /// Forgets slaves that are gone (CAT-1).
    ForgetsGoneSlaves = "forgets-gone-slaves",
    /// Forgets groups of a configuration that it does not know (CAT-4).
    ForgetsUnknownGroups = "forgets-unknown-groups",
    /// Sends commands for an instance whose slave is not known to every slave (CAT-7).
    ForwardsToAnybody = "forwards-to-anybody",
    /// Passes over `close` (CLOSE-5).
    IgnoresClose = "ignores-close",
    /// Passes over `close` in the handshake (HS-19).
    IgnoresCloseInHandshake = "ignores-close-in-handshake",
    /// Does not see that it was told an error (REQ-12).
    IgnoresErrors = "ignores-errors",
    /// Passes over messages that are not acceptable (ROB-3).
    IgnoresInvalid = "ignores-invalid",
    /// Passes over strange messages of the handshake (HS-18, HS-14).
    IgnoresStrangeHandshake = "ignores-strange-handshake",
    /// Passes over responses that nobody waits for (REQ-13).
    IgnoresUnmatchedResponses = "ignores-unmatched-responses",
    /// Passes over messages that the catalogue has in the other direction only (CAT-14).
    IgnoresWrongDirection = "ignores-wrong-direction",
    /// Does not close the older connection of a slave (CLOSE-7).
    KeepsOlderConnection = "keeps-older-connection",
    /// Knows every instance that it is asked about (CAT-11).
    KnowsEveryInstance = "knows-every-instance",
    /// Tells every control of all output (EVT-6).
    LeaksOutput = "leaks-output",
    /// Leaves without a word (CLOSE-1).
    LeavesSilently = "leaves-silently",
    /// Leaves the link open after it has said `close` (CLOSE-4).
    LingersAfterClose = "lingers-after-close",
    /// Lists a slave as connected although it is gone (CLOSE-6).
    ListsGoneAsConnected = "lists-gone-as-connected",
    /// Takes a new instance without keeping it (CAT-12).
    LosesAssigned = "loses-assigned",
    /// Does not adopt instances that a slave reports (CAT-9).
    NeverAdopts = "never-adopts",
    /// Assigns only the first of several instances to a slave that comes back (CAT-10).
    NeverReassigns = "never-reassigns",
    /// Has no room for a second slave (HS-21).
    OneSlaveOnly = "one-slave-only",
    /// Puts a new instance in the place of an older one of its id (CAT-3).
    OverwritesInstances = "overwrites-instances",
    /// Lets a slave with a bad token push out the registered one (AUTH-5).
    RefusedSlaveDisplaces = "refused-slave-displaces",
    /// Refuses to serve at its path when there is a query (WIRE-7).
    RefusesQuery = "refuses-query",
    /// Turns down a slave that has been there before (CLOSE-9).
    RefusesReturn = "refuses-return",
    /// Refuses versions that it does not know (HS-16, HS-17).
    RefusesVersions = "refuses-versions",
    /// Greets a register message after `ready` anew (HS-20).
    RegistersAgain = "registers-again",
    /// Registers again when it is told `ready` (HS-12).
    RegistersTwice = "registers-twice",
    /// Registers before `hello` has come (HS-5).
    RegistersUnasked = "registers-unasked",
    /// Gives requests that follow one another the same number (SEQ-1).
    RepeatsRequestNumbers = "repeats-request-numbers",
    /// Answers an event as if it were a request (EVT-1).
    RepliesToEvents = "replies-to-events",
    /// Serves links at every path (WIRE-7).
    ServesEveryPath = "serves-every-path",
    /// Sees to one request at a time: while its own is outstanding it does not listen (REQ-8).
    ServesNobodyWhileWaiting = "serves-nobody-while-waiting",
    /// Serves whoever has not registered (HS-13).
    ServesUnregistered = "serves-unregistered",
    /// Sets the id and the slave of an instance as if they were fields like others (CAT-5).
    SetsProtectedFields = "sets-protected-fields",
    /// Counts the messages of all connections together (SEQ-4).
    SharedCounter = "shared-counter",
    /// Counts in steps of two (SEQ-3).
    SkipsNumbers = "skips-numbers",
    /// Takes names for instances that no directory can have (CAT-12).
    TakesAnyName = "takes-any-name",
    /// Sends its events before `ready` (HS-11).
    TalksBeforeReady = "talks-before-ready",
    /// Shows the tokens of slaves as their agents (ROB-7).
    TellsTokens = "tells-tokens",
    /// Does not serve on while a stranger has not registered, nor stop (ROB-5).
    WaitsForStrangers = "waits-for-strangers",
    /// Wants `seq` before `data` (WIRE-9).
    WantsFixedOrder = "wants-fixed-order",
    /// Wants the numbers it receives to follow one another (SEQ-5).
    WantsSuccessors = "wants-successors",
}
