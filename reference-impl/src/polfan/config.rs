//! Settings of the roles, and the faults that can be planted where no rule over messages could express them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::permission::Permission;

/// A user, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserConfig {
    /// The user's id; any text.
    pub id: String,
    /// The name that others see.
    pub nick: String,
    /// URL of a picture; may be empty.
    pub avatar: String,
    /// `bot`, `temp` ...
    pub flags: Vec<String>,
    /// For the auth service.
    pub login: String,
    /// For the auth service.
    pub password: String,
    /// Tokens that are valid from the start.
    pub tokens: Vec<String>,
    /// Settings on the first layer.
    pub permissions: Vec<Permission>,
}

/// A topic that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// A UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
}

/// A room that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// A UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Ids of users.
    pub members: Vec<String>,
    /// Its topics.
    pub topics: Vec<TopicConfig>,
}

/// A space that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceConfig {
    /// A UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The user that administers it.
    pub owner: String,
    /// Ids of users.
    pub members: Vec<String>,
    /// Its rooms.
    pub rooms: Vec<RoomConfig>,
}

/// Settings of a server. The default is a small chat that one can develop against.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Seeds ids, refs and tokens.
    pub seed: u64,
    /// `Session.serverVersion`.
    pub version: String,
    /// Answers `JoinRoom` with `JoinedRoom`, as the older text spells it (section 6.1).
    pub joined_room: bool,
    /// Who may log in.
    pub users: Vec<UserConfig>,
    /// What exists from the start.
    pub spaces: Vec<SpaceConfig>,
    /// Largest message, and largest body of a request, in bytes (section 5).
    pub message_limit: usize,
    /// Live tokens that one user may have (section 2.8).
    pub tokens: usize,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            seed: 0,
            version: concat!("flowproof-polfan/", env!("CARGO_PKG_VERSION")).to_owned(),
            joined_room: false,
            users: default_users(),
            spaces: vec![harbour()],
            message_limit: 64 << 10,
            tokens: 10,
            faults: BTreeSet::new(),
        }
    }
}

/// alice, who may do everything, and bob, carol and dave, who may do what everybody may.
fn default_users() -> Vec<UserConfig> {
    let user = |id: &str, name: &str| UserConfig {
        id: id.to_owned(),
        nick: name.to_owned(),
        avatar: String::new(),
        flags: Vec::new(),
        login: name.to_owned(),
        password: "secret".to_owned(),
        tokens: vec![format!("tok-{name}")],
        permissions: Vec::new(),
    };
    let mut users =
        vec![user("1001", "alice"), user("1002", "bob"), user("1003", "carol"), user("1004", "dave")];
    users[0].tokens.push("tok alice&co=#1+%/?".to_owned());
    users[0].permissions.push(Permission::plain("Root", true));
    users[1].flags.push("bot".to_owned());
    users[3].tokens.push("tok dave&co=#1+ż".to_owned());
    users
}

/// The ids of the examples in polfan.md section 2.6.
fn harbour() -> SpaceConfig {
    let topic = TopicConfig {
        id: "2d8e4c74-8c30-4c77-9f2e-9cae415d3003".to_owned(),
        name: "Weather".to_owned(),
        description: String::new(),
    };
    let room = RoomConfig {
        id: "1c7d3b63-7b2f-4b66-8e1d-8b9d304c2f02".to_owned(),
        name: "Pier".to_owned(),
        description: "by the sea".to_owned(),
        members: vec!["1001".to_owned()],
        topics: vec![topic],
    };
    SpaceConfig {
        id: "0b6f2a52-6a1e-4a55-9d0c-7a8c2f3b1e01".to_owned(),
        name: "Harbour".to_owned(),
        owner: "1001".to_owned(),
        members: vec!["1001".to_owned()],
        rooms: vec![room],
    }
}

/// Settings of an auth service.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Seeds the tokens.
    pub seed: u64,
    /// Who may log in.
    pub users: Vec<UserConfig>,
    /// Live tokens that one user may have.
    pub tokens: usize,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig { seed: 0, users: default_users(), tokens: 10, faults: BTreeSet::new() }
    }
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Seeds the refs.
    pub seed: u64,
    /// The token it shows.
    pub token: String,
    /// The path of the WebSocket.
    pub path: String,
    /// The path of the WebAPI.
    pub api_path: String,
    /// How long it waits for `Session` (section 3.4).
    pub session: Duration,
    /// The first wait before it connects again; doubles from try to try.
    pub backoff: Duration,
    /// The longest such wait.
    pub backoff_limit: Duration,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            seed: 0,
            token: "tok-alice".to_owned(),
            path: "/ws".to_owned(),
            api_path: "/api".to_owned(),
            session: Duration::from_secs(10),
            backoff: Duration::from_secs(1),
            backoff_limit: Duration::from_secs(30),
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
    /// Gives service to any token, and to none (CONN-3).
    AcceptsAnyToken = "accepts-any-token",
    /// Takes refs of any length (REF-7).
    AcceptsLongRefs = "accepts-long-refs",
    /// Answers every failed WebAPI command with 400 (API-3).
    ApiFailuresAre400 = "api-failures-are-400",
    /// Answers every general error of WebAPI with 422 (API-2).
    ApiErrorsAre422 = "api-errors-are-422",
    /// Answers WebAPI commands with a ref of its own (API-1).
    ApiLosesRefs = "api-loses-refs",
    /// Answers WebAPI commands with 201 (API-1).
    ApiSays201 = "api-says-201",
    /// Tells nobody of what is done through WebAPI (API-4).
    ApiTellsNobody = "api-tells-nobody",
    /// Takes any password (AUTH-1).
    AnyPassword = "any-password",
    /// Tells of a wrong password with a text in place of a list (AUTH-1).
    AuthErrorsAsText = "auth-errors-as-text",
    /// Gives tokens without an expiration (AUTH-1).
    AuthWithoutExpiration = "auth-without-expiration",
    /// Answers what is not JSON with `UnexpectedServerException` (ERR-1).
    BadJsonUnexpected = "bad-json-unexpected",
    /// Closes the connection after an error (ERR-6).
    ClosesAfterError = "closes-after-error",
    /// Does not join whoever creates a space (SPACE-5).
    CreatorNotJoined = "creator-not-joined",
    /// Leaves messages in deleted topics possible (TOPIC-2).
    DeletedTopicsTakeMessages = "deleted-topics-take-messages",
    /// Leaves members their deleted roles (ROLE-1).
    DeletedRolesLinger = "deleted-roles-linger",
    /// Denies the deletion of a room and deletes it (EVT-6).
    DeniedDeleteTakesEffect = "denied-delete-takes-effect",
    /// Takes the value of the layer before the last one (PERM-1).
    EarlierLayersWin = "earlier-layers-win",
    /// Takes events from clients for news to spread (ERR-2).
    EventsAsCommands = "events-as-commands",
    /// Refuses who is not in the space, and lets it in (ERR-6).
    FailedJoinCounts = "failed-join-counts",
    /// Takes lower case for every ref (REF-6).
    FoldsRefs = "folds-refs",
    /// Hears of grants, and decides without them (PERM-7).
    GrantsNotHeeded = "grants-not-heeded",
    /// Gives roles that are held already (ROLE-3).
    HeldRolesAssigned = "held-roles-assigned",
    /// Tells the joiner of its own arrival (EVT-5).
    JoinerToldOfItself = "joiner-told-of-itself",
    /// Lets members join again (SPACE-3).
    JoinsTwice = "joins-twice",
    /// Answers an empty ref with an empty ref (REF-4).
    KeepsEmptyRefs = "keeps-empty-refs",
    /// Answers a null ref with a null ref (REF-3).
    KeepsNullRefs = "keeps-null-refs",
    /// Tells others the sender's ref (REF-10).
    LeaksRefs = "leaks-refs",
    /// Tells those who left a room of its messages (ROOM-2).
    LeaverStillHears = "leaver-still-hears",
    /// Lets users leave what they are not in (SPACE-3).
    LeavesTwice = "leaves-twice",
    /// Makes refs of 40 characters (REF-8).
    LongGeneratedRefs = "long-generated-refs",
    /// Refuses a long ref and carries out the command (REF-7).
    LongRefsTakeEffect = "long-refs-take-effect",
    /// Answers a malformed id with `UnexpectedServerException` (ERR-4).
    MalformedIdUnexpected = "malformed-id-unexpected",
    /// Lists those who left a room as its members (SPACE-4).
    MembersLinger = "members-linger",
    /// Tells the whole space of a room's messages (EVT-2).
    MessageToWholeSpace = "message-to-whole-space",
    /// Answers a missing field with a code of another kind (ERR-3).
    MissingFieldNotFound = "missing-field-not-found",
    /// Answers all names, whatever was asked for (PERM-5).
    NamesIgnored = "names-ignored",
    /// Lets one role that denies win over those that allow (PERM-3).
    OneDenialSuffices = "one-denial-suffices",
    /// Passes over commands that come before the one before is answered (EVT-9).
    OneAtATime = "one-at-a-time",
    /// Tells the members of a room what the joiner is told (EVT-5).
    OthersGetRoomJoined = "others-get-room-joined",
    /// Asks for no membership (ROOM-1).
    OutsidersMayAct = "outsiders-may-act",
    /// Lets settings of one room count in all (PERM-6).
    PermissionsLeak = "permissions-leak",
    /// Refuses commands without a ref (REF-5).
    RefusesAbsentRefs = "refuses-absent-refs",
    /// Refuses a ref that was used before (REF-11).
    RefusesRepeatedRefs = "refuses-repeated-refs",
    /// Refuses members that it does not know (ENV-5).
    RefusesUnknownMembers = "refuses-unknown-members",
    /// Turns strangers away without a word (CONN-4).
    SilentRefusal = "silent-refusal",
    /// Computes as if there were no skip (PERM-2).
    SkipIgnored = "skip-ignored",
    /// Sends a command (ENV-3).
    SpeaksInCommands = "speaks-in-commands",
    /// Loses all letters beyond ASCII (TOPIC-3).
    SpoilsLetters = "spoils-letters",
    /// Forgets the topics of a room when it describes it (ROOM-5).
    TopicsForgotten = "topics-forgotten",
    /// Trims refs (REF-6).
    TrimsRefs = "trims-refs",
    /// Has no value for permissions that nobody set (PERM-4).
    UndefinedByDefault = "undefined-by-default",
    /// Answers types that it does not know with another code (ERR-2).
    UnknownTypesDenied = "unknown-types-denied",
    /// Takes roles that are not held (ROLE-3).
    UnheldRolesDeassigned = "unheld-roles-deassigned",
    /// A client that hangs up when it is told an `Error` by HTTP (API-7).
    ClientDropsApiErrors = "client-drops-api-errors",
    /// A client that sends the envelope as a JSON text inside JSON (API-5).
    ClientDoublyEncodes = "client-doubly-encodes",
    /// A client that sends no Bearer token (API-5).
    ClientWithoutBearer = "client-without-bearer",
    /// A client that does not label its bodies (API-6).
    ClientWithoutContentType = "client-without-content-type",
    /// A client that shows its token in another parameter (CONN-5).
    ClientTokenElsewhere = "client-token-elsewhere",
    /// A client that writes its token into the URL as it is (CONN-6).
    ClientTokenRaw = "client-token-raw",
    /// A client that comes back at once, and again (CONN-7).
    ClientHammers = "client-hammers",
    /// A client that uses the name of an older catalogue (CLI-1).
    ClientOldNames = "client-old-names",
    /// A client that leaves for good at the first event of one kind (CLI-2).
    ClientFearsRoles = "client-fears-roles",
    /// A client that leaves for good when it hears what it does not know (CLI-3).
    ClientFearsStrangers = "client-fears-strangers",
    /// A client that leaves for good when it hears rubbish (CLI-4).
    ClientFearsRubbish = "client-fears-rubbish",
    /// A client that does not see that an `Error` ends a command (CLI-5).
    ClientWaitsThroughErrors = "client-waits-through-errors",
    /// A client that waits for ever for what a lost connection owed it (CLI-6).
    ClientWaitsThroughLoss = "client-waits-through-loss",
    /// A client that takes every answer for that of its oldest command (REF-14).
    ClientAnswersInOrder = "client-answers-in-order",
    /// A client whose refs are too long (REF-12).
    ClientLongRefs = "client-long-refs",
    /// A client that uses one ref for everything (REF-13).
    ClientOneRef = "client-one-ref",
    /// A client that sends flat envelopes (ENV-6).
    ClientFlatEnvelopes = "client-flat-envelopes",
}
