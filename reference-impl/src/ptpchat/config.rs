//! Settings of a node, and the faults that can be planted where no rule over messages could express them.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Which of the protocol's dialects a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edition {
    /// The document of 2016-03-01.
    Seed,
    /// The catalogue that followed within days, over UDP.
    Udp201603,
    /// Frames over TCP, with hops, floods and NACK (section 8.3).
    Tcp201604,
}

impl Edition {
    /// The edition called `name`.
    pub fn from_name(name: &str) -> Option<Edition> {
        match name {
            "seed" => Some(Edition::Seed),
            "udp-2016-03" => Some(Edition::Udp201603),
            "tcp-2016-04" => Some(Edition::Tcp201604),
            _ => None,
        }
    }
}

/// How CONNECT names its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `src` is the end that is not S, whoever that is on this hop; S swaps (the seed).
    Swap,
    /// `src` is always A, `dst` is always B; nodes are named by their ids (from 2016-03-11 on).
    Fixed,
}

/// How a node writes its own id in the TCP edition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeName {
    /// A bare GUID, as the text says.
    Guid,
    /// `name@guid`, as the authors' programs do.
    NameAtGuid,
}

/// Settings of a node. The default is the reference of ptpchat.md section 3.7.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Seeds ids and keys.
    pub seed: u64,
    /// The dialect.
    pub edition: Edition,
    /// How CONNECT names its ends.
    pub addressing: Addressing,
    /// How the node writes its own id (TCP edition).
    pub node_name: NodeName,
    /// Whether the node wears the hat of S: it forwards CONNECT, and takes only HELLO for an introduction. Over TCP:
    /// whether it says that it is a server.
    pub intermediary: bool,
    /// Whether the node connects to the other side by itself (TCP edition).
    pub connects: bool,
    /// Machines that are known from the start.
    pub bootstrap: Vec<SocketAddrV4>,
    /// The port of the ordinary socket; any free one when none.
    pub port: Option<u16>,
    /// What HELLO tells of the program, where the edition has that.
    pub version: String,
    /// Time between two HELLOs to one machine.
    pub hello: Duration,
    /// Time between two ROUTINGs.
    pub routing: Duration,
    /// Silence after which a machine counts as gone.
    pub dead: Duration,
    /// Time after which a message without ACK is sent again.
    pub ack: Duration,
    /// How often it is sent again.
    pub ack_retries: u32,
    /// Time after which a CONNECT without answer is sent again.
    pub connect: Duration,
    /// How often it is sent again.
    pub connect_retries: u32,
    /// How long S remembers who asked for whom.
    pub pending: Duration,
    /// Time without a CHANNEL after which a member sends one.
    pub channel: Duration,
    /// Machines that are remembered at once.
    pub peers: usize,
    /// Time until a lost stream is asked for again (TCP edition).
    pub reconnect: Duration,
    /// Planted faults.
    pub faults: BTreeSet<Fault>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            seed: 0,
            edition: Edition::Seed,
            addressing: Addressing::Swap,
            node_name: NodeName::Guid,
            intermediary: false,
            connects: false,
            bootstrap: Vec::new(),
            port: None,
            version: "refnode; 0.1".to_owned(),
            hello: Duration::from_secs(1),
            routing: Duration::from_secs(2),
            dead: Duration::from_secs(15),
            ack: Duration::from_secs(2),
            ack_retries: 3,
            connect: Duration::from_secs(2),
            connect_retries: 3,
            pending: Duration::from_secs(30),
            channel: Duration::from_secs(10),
            peers: 4096,
            reconnect: Duration::from_secs(1),
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
            /// All of them.
            pub const ALL: &[Fault] = &[$(Fault::$arm,)*];

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
    /// Acknowledges ACKs (ACK-9).
    AcksAck = "acks-ack",
    /// Acknowledges CHANNEL (ACK-10).
    AcksChannel = "acks-channel",
    /// Acknowledges CONNECT (CONN-17).
    AcksConnect = "acks-connect",
    /// Acknowledges HELLO (HELLO-5).
    AcksHello = "acks-hello",
    /// Acknowledges JOIN and LEAVE (ACK-10).
    AcksJoin = "acks-join",
    /// Acknowledges what it cannot make sense of, if only the verb is known (ACK-12).
    AcksMalformed = "acks-malformed",
    /// Acknowledges RELAY (ACK-10).
    AcksRelay = "acks-relay",
    /// Acknowledges ROUTING (ACK-10).
    AcksRouting = "acks-routing",
    /// Acknowledges from a socket opened for the purpose (ACK-6).
    AcksFromElsewhere = "acks-from-elsewhere",
    /// Acknowledges to the address a node's HELLO came from (ACK-7).
    AcksToKnownAddress = "acks-to-known-address",
    /// Answers whatever it cannot read with a HELLO (ROBUST-2).
    AnswersJunk = "answers-junk",
    /// Acknowledges one message between two HELLOs and no more (ACK-13).
    AcksOncePerTurn = "acks-once-per-turn",
    /// Takes C1's source for A's punched port, whatever the message claims (CONN-4).
    BelievesSourcePort = "believes-source-port",
    /// Takes A's IP from the last node that greeted instead of the datagram (CONN-3).
    BelievesOtherIp = "believes-other-ip",
    /// Sends all that is to come after malformed input to nobody: it hears no more (ROBUST-4).
    DeafAfterBadInput = "deaf-after-bad-input",
    /// Dies of text that is not JSON (ROBUST-1). To die is to close its sockets and to say no more.
    DiesOnMalformed = "dies-on-malformed",
    /// Dies of bad heads (ROBUST-3).
    DiesOnBadHead = "dies-on-bad-head",
    /// Dies of mistyped fields (ROBUST-8).
    DiesOnBadField = "dies-on-bad-field",
    /// Dies of text that is cut short where braces should be closed (ROBUST-5).
    DiesOnMissingBrace = "dies-on-missing-brace",
    /// Dies of deep nesting and of datagrams over 8192 bytes (ROBUST-6).
    DiesOnExcess = "dies-on-excess",
    /// Dies of CHANNEL (CHAN-1).
    DiesOnChannel = "dies-on-channel",
    /// Dies of CONNECT in a shape of no step (ROBUST-8).
    DiesOnBadConnect = "dies-on-bad-connect",
    /// Stops greeting anybody once one machine has been silent for a while (HELLO-11).
    DeadMachineStopsGreeting = "dead-machine-stops-greeting",
    /// Stops greeting a machine it has not heard for a breath (HELLO-12).
    ForgetsAtOnce = "forgets-at-once",
    /// Does not knock at A's, as B (CONN-13).
    BDoesNotKnock = "b-does-not-knock",
    /// Does not go to B, as A (CONN-14).
    ADoesNotCome = "a-does-not-come",
    /// Takes a rest of three seconds when it has been on the air for nine (HELLO-2).
    TakesARest = "takes-a-rest",
    /// Greets only whom it was told of (HELLO-6).
    GreetsNoStrangers = "greets-no-strangers",
    /// Hands RELAY on to all it knows (RELAY-1).
    ForwardsRelay = "forwards-relay",
    /// Lists all nodes in one datagram, however many (WIRE-5).
    EndlessRouting = "endless-routing",
    /// Keeps a node it does not hear of for ever (HELLO-12, ROUT-4).
    ForgetsNobody = "forgets-nobody",
    /// Passes MESSAGE on to all it knows (MSG-5).
    ForwardsMessages = "forwards-messages",
    /// Forwards CONNECT for targets that it does not know (CONN-9).
    ForwardsToStrangers = "forwards-to-strangers",
    /// Forwards CONNECT of any shape to the next best node (CONN-9).
    ForwardsAnyShape = "forwards-any-shape",
    /// Takes HELLO with `msg_data` for something else (HELLO-8).
    HelloMustBeBare = "hello-must-be-bare",
    /// Takes a HELLO without `msg_data` for something else (HEAD-5).
    HelloNeedsNull = "hello-needs-null",
    /// Forgets all nodes when there are many (ROBUST-7).
    LosesTableWhenCrowded = "loses-table-when-crowded",
    /// Takes a MESSAGE only when it has all fields (MSG-3).
    MessageNeedsAll = "message-needs-all",
    /// Drops MESSAGEs with an `attachment` (MSG-4).
    NoAttachments = "no-attachments",
    /// Drops messages with head members it does not know (HEAD-6).
    NoUnknownHead = "no-unknown-head",
    /// Drops messages with fields it does not know (HEAD-9).
    NoUnknownFields = "no-unknown-fields",
    /// Acknowledges only the first copy (ACK-11).
    OneAckPerId = "one-ack-per-id",
    /// Keeps greeting where it first heard a node (HELLO-7).
    OldAddress = "old-address",
    /// Goes to B from the ordinary socket, as A, though it told of another (CONN-15).
    AComesFromOrdinary = "a-comes-from-ordinary",
    /// Knocks at A's from the ordinary socket, as B, though it told of another (CONN-13).
    BKnocksFromOrdinary = "b-knocks-from-ordinary",
    /// Tells its ordinary port in the third step (CONN-12).
    PunchesOrdinaryPort = "punches-ordinary-port",
    /// Opens another socket for each second step (CONN-16).
    NewPortEachTime = "new-port-each-time",
    /// Tells a port that it has not opened (CONN-10).
    PortNotOpen = "port-not-open",
    /// Does not swap the addresses of the second step (CONN-2, CONN-5).
    SwapsNotAtSecond = "swaps-not-at-second",
    /// Does not swap the addresses of the fourth step (CONN-7, CONN-8).
    SwapsNotAtFourth = "swaps-not-at-fourth",
    /// Expects the verb before the data (HEAD-8).
    VerbMustComeFirst = "verb-must-come-first",
    /// Drops the rest of a ROUTING after a bad entry (ROUT-6).
    OneBadEntrySpoilsAll = "one-bad-entry-spoils-all",
    /// Lists nodes where they say they are known, not where it sees them (ROUT-3).
    ListsOtherAddresses = "lists-other-addresses",
    /// Marks ids as random ones, whatever they were (ROUT-7).
    NormalisesIds = "normalises-ids",
    /// Never answers a GETCERTIFICATE (CERT-1).
    NoCertificate = "no-certificate",
    /// Goes on talking in a channel it has left (LEAVE-3).
    TalksAfterLeaving = "talks-after-leaving",
    /// Tells only the first member that it leaves (LEAVE-1).
    LeavesOneMember = "leaves-one-member",
    /// Lowers `ttl` by two (TCP-6).
    LowersTtlByTwo = "lowers-ttl-by-two",
    /// Says nothing of what cannot be delivered (TCP-7).
    NoNack = "no-nack",
    /// Sends floods back to where they came from (TCP-8).
    FloodsBack = "floods-back",
    /// Sends a flood on each time it comes (TCP-8).
    FloodsAgain = "floods-again",
    /// Ends a connection for bad JSON (TCP-11).
    ClosesOnBadJson = "closes-on-bad-json",
    /// Ends a connection for an empty frame (TCP-10).
    ClosesOnEmptyFrame = "closes-on-empty-frame",
    /// Takes only GUIDs of version 4 as `msg_id` (TCP-12).
    OnlyVersion4 = "only-version-4",
    /// Keeps listing nodes that are gone (ROUT-4, TCP-13).
    ListsTheGone = "lists-the-gone",
}
