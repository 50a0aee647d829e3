//! What a flow file says, as a tree. Every piece knows its place in the text; comments and blank lines are kept, so
//! that a file can be formatted to itself. Nothing here is resolved: names may be wrong.

use std::ops::Range;
use std::time::Duration;

/// A place in the source text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The bytes covered.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// The smallest span that covers both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A word of the source with its place: participant, variable, tag, requirement id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The word itself; variables without the `$`.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A whole flow file.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// The header lines, in the order written.
    pub header: Vec<HeaderLine>,
    /// The steps, top to bottom.
    pub steps: Vec<Step>,
    /// Comments and blank lines after the last step.
    pub trailing: Vec<Trivia>,
}

/// A comment line, or an empty line, before something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trivia {
    /// `# text`; the text without the mark, as written.
    Comment(String),
    /// One or more empty lines.
    Blank,
}

/// One line of the header.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderLine {
    /// What stands above it.
    pub leading: Vec<Trivia>,
    /// What it says.
    pub item: HeaderItem,
    /// The comment behind it on the same line.
    pub comment: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// What a header line says.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderItem {
    /// `protocol hangout`
    Protocol(Name),
    /// `cast server, alice client, crowd client * 100`
    Cast(Vec<CastMember>),
    /// `editions v1, v2`
    Editions(Vec<Name>),
    /// `needs token, "admin user"`: names of variables or features the target must have.
    Needs(Vec<Name>),
    /// `tags slow, alone`
    Tags(Vec<Name>),
    /// `about [ID ...]`: requirements that the monitors watch here, beside those the arrows cite.
    About(Vec<Name>),
    /// `ignoring PATTERN`: background traffic of this flow, beside the protocol's own.
    Ignoring(Payload),
    /// `unexpected [ID]`: who is accused when something arrives that nobody expected and nothing ignores.
    Unexpected(Vec<Name>),
    /// The table of `examples`; the flow runs once a row.
    Examples(Examples),
}

/// One participant, or a crowd of equal ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastMember {
    /// Its name.
    pub name: Name,
    /// Its role; a participant without one is called after its role.
    pub role: Option<Name>,
    /// `* 100`: so many of them, named `crowd.1`, `crowd.2` ...
    pub count: Option<u32>,
    /// `alice.punch socket of alice`: not a participant, but a further datagram socket of one.
    pub socket_of: Option<Name>,
}

/// A table whose columns are variables of the flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// Column names; each is bound as a variable. A column `case` names the row.
    pub columns: Vec<Name>,
    /// The rows; each cell is a pattern without holes, or a payload that is not JSON.
    pub rows: Vec<ExampleRow>,
}

/// One row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleRow {
    /// What stands above it.
    pub leading: Vec<Trivia>,
    /// One cell a column.
    pub cells: Vec<Payload>,
    /// The comment behind it on the same line.
    pub comment: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// One step of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What stands above it.
    pub leading: Vec<Trivia>,
    /// What happens.
    pub kind: StepKind,
    /// The requirements it is evidence for. The first is accused when the step fails; all are kept when it holds.
    pub cites: Vec<Name>,
    /// The comment behind it on the same line (for a block: behind its opening brace).
    pub comment: Option<String>,
    /// The whole step; for a block, with its braces.
    pub span: Span,
}

/// A brace block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Its steps.
    pub steps: Vec<Step>,
    /// Comments and blank lines before the closing brace.
    pub trailing: Vec<Trivia>,
}

/// What happens in a step.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "flows are short, and boxes would make every reader of the tree longer"
)]
pub enum StepKind {
    /// `alice -> server PAYLOAD`
    Arrow {
        /// Who sends.
        from: Name,
        /// Who receives.
        to: Name,
        /// What.
        payload: Payload,
    },
    /// `alice connects [to bob] [path "/x"] [query {...}] [headers {...}] [subprotocol "x"] [sending PAYLOAD]`
    Connects {
        /// Who connects.
        who: Name,
        /// To whom; by default the participant whose role listens.
        to: Option<Name>,
        /// How.
        options: ConnectOptions,
    },
    /// `alice opens`: the transport's connection only, no upgrade; for `raw` bytes.
    Opens {
        /// Who opens it.
        who: Name,
    },
    /// `alice disconnects [CODE ["reason"]]`: in order, with a Close frame.
    Disconnects {
        /// Who leaves.
        who: Name,
        /// The close code, and the reason.
        close: CloseSpec,
    },
    /// `alice vanishes`: the connection is cut, nothing is said.
    Vanishes {
        /// Who goes.
        who: Name,
    },
    /// `bob knows anna`: bob is told anna's address before he begins. Stands before all other steps.
    Knows {
        /// Who is told.
        who: Name,
        /// Whose address.
        whom: Name,
    },
    /// `anna greets bob`: from now on she sends him the protocol's greeting, again and again.
    Greets {
        /// Who greets.
        who: Name,
        /// Whom.
        whom: Name,
    },
    /// `anna stops`: she greets nobody any more; her sockets stay open.
    Stops {
        /// Who stops.
        who: Name,
    },
    /// `alice stalls`: stops reading from her socket.
    Stalls {
        /// Who stops.
        who: Name,
    },
    /// `alice resumes`: reads again.
    Resumes {
        /// Who goes on.
        who: Name,
    },
    /// `server closes alice [CODE]`: a Close frame from the server.
    Closes {
        /// Who closes.
        who: Name,
        /// Whose link.
        whom: Name,
        /// The close code (a pattern), and the reason.
        close: CloseSpec,
    },
    /// `server drops alice`: the link ends, by Close frame, end of stream or reset alike.
    Drops {
        /// Who ends it.
        who: Name,
        /// Whose link.
        whom: Name,
    },
    /// `server refuses alice [STATUS]`: answers a connection attempt with an HTTP status, or not at all.
    Refuses {
        /// Who refuses.
        who: Name,
        /// Whom.
        whom: Name,
        /// The HTTP status (a pattern).
        status: Option<Pattern>,
    },
    /// `wait 2s`
    Wait(Duration),
    /// `within 1s { ... }`: everything inside has arrived by then, counted from the last thing we did.
    Within {
        /// The limit.
        limit: Duration,
        /// What must arrive.
        block: Block,
    },
    /// `every 500ms..2s times 4 { ... }`: the block holds so many times, with such gaps between.
    Every {
        /// Shortest gap.
        shortest: Duration,
        /// Longest gap.
        longest: Duration,
        /// How often.
        times: u32,
        /// What must arrive each time.
        block: Block,
    },
    /// `quiet bob, carol [for 1s]`: nothing arrives there that is not ignored.
    Quiet {
        /// Where.
        who: Vec<Name>,
        /// How long; by default the protocol's settling time.
        duration: Option<Duration>,
    },
    /// `settle`: lets the news of everything so far pass; background traffic up to here is forgotten.
    Settle,
    /// `in any order { ... }`
    AnyOrder(Block),
    /// `either { ... } or { ... } or tolerated { ... }`
    Either(Vec<Branch>),
    /// `optionally { ... }`: these may arrive once from here on, or not.
    Optionally(Block),
    /// `repeat 3 [as $i] { ... }`
    Repeat {
        /// How often.
        times: u32,
        /// The variable that counts from 1.
        counter: Option<Name>,
        /// What is repeated.
        block: Block,
    },
    /// `let $x = PATTERN`: a fresh value of the pattern.
    Let {
        /// The variable.
        name: Name,
        /// What it is made of.
        value: Pattern,
    },
    /// `alice does "join-room" {...}`: a stimulus for a client under test.
    Does {
        /// Who is told.
        who: Name,
        /// What to do.
        stimulus: String,
        /// With what.
        with: Option<Pattern>,
    },
    /// `alice exits with failure`: the program under test ends by itself.
    Exits {
        /// Whose program.
        who: Name,
        /// What its exit status is to tell; anything when none.
        how: Option<ExitStatus>,
    },
    /// `server quits`: the program under test is asked to end in order.
    Quits {
        /// Whose program.
        who: Name,
    },
    /// `served`: bystanders who keep the rules are still served; runs the protocol's `served.flow` beside this one.
    Served,
}

/// What an exit status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Another status than 0.
    Failure,
    /// Status 0.
    Success,
}

/// One branch of an `either`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// True for `or tolerated`: lawful but poorer, the verdict is *warn*.
    pub tolerated: bool,
    /// Requirements warned about when a tolerated branch is taken: `or tolerated [ID] {`.
    pub cites: Vec<Name>,
    /// The comment behind its opening brace.
    pub comment: Option<String>,
    /// Its steps.
    pub block: Block,
}

/// How a participant connects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectOptions {
    /// The path; a string expression.
    pub path: Option<Pattern>,
    /// Query parameters: an object pattern.
    pub query: Option<Pattern>,
    /// Headers: an object pattern.
    pub headers: Option<Pattern>,
    /// The subprotocol offered; a string expression.
    pub subprotocol: Option<Pattern>,
    /// What is sent in the same breath as the handshake, before anything was read.
    pub sending: Option<Payload>,
}

/// The code and reason of a close.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloseSpec {
    /// The code: `1000`, `1000..1003`, `1000 | 1001`.
    pub code: Option<Pattern>,
    /// The reason: a string pattern.
    pub reason: Option<Pattern>,
}

/// What travels on an arrow.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A JSON message. A bare `$name` may also stand for a payload of another kind, from a table.
    Json(Pattern),
    /// `text EXPR`: a text message, whatever it holds. Received: equal text.
    Text(Pattern),
    /// `binary 00ff`, `binary EXPR`: a binary message.
    Binary(Bytes),
    /// `raw 00ff`, `raw EXPR`: bytes on the transport, below any framing. Only sent.
    Raw(Bytes),
    /// `fragments [EXPR, EXPR]`: one text message in so many frames. Only sent.
    Fragments(Vec<Pattern>),
    /// `ping [EXPR]`
    Ping(Option<Pattern>),
    /// `pong [EXPR]`
    Pong(Option<Pattern>),
    /// `POST /api [headers {...}] [PATTERN | text EXPR]`
    HttpRequest {
        /// The method, upper case.
        method: String,
        /// Path and query: a string expression (a bare word beginning with `/` is a literal).
        target: Pattern,
        /// Headers: an object pattern.
        headers: Option<Pattern>,
        /// The body.
        body: Option<Box<Payload>>,
    },
    /// `status 403 [headers {...}] [PATTERN | text EXPR]`
    HttpResponse {
        /// The status: a number pattern.
        status: Pattern,
        /// Headers: an object pattern.
        headers: Option<Pattern>,
        /// The body.
        body: Option<Box<Payload>>,
    },
}

/// Bytes in a flow file.
#[derive(Clone, Debug, PartialEq)]
pub enum Bytes {
    /// `00ff7e`
    Hex(Vec<u8>),
    /// A string expression, as UTF-8.
    Expression(Pattern),
}

/// JSON with holes, and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// What it is.
    pub kind: PatternKind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of pattern.
#[derive(Clone, Debug, PartialEq)]
pub enum PatternKind {
    /// `_`: anything.
    Any,
    /// `null`, `true`, `false`
    Constant(Constant),
    /// A number, as written.
    Number(serde_json::Number),
    /// A string literal, escapes resolved. `raw` strings (backticks) are the same with no escapes.
    String {
        /// The text.
        text: String,
        /// True when written between backticks.
        backticks: bool,
    },
    /// A type word.
    Type(TypeWord),
    /// `/regex/`: a string that matches, searched anywhere unless anchored.
    Regex(String),
    /// `1..65535`, `1..`, `..5`: a number between, ends included.
    Range {
        /// Least value.
        low: Option<serde_json::Number>,
        /// Greatest value.
        high: Option<serde_json::Number>,
    },
    /// `A | B`: one of them.
    OneOf(Vec<Pattern>),
    /// `A & B`: all of them. Only matched, never generated.
    AllOf(Vec<Pattern>),
    /// `not A`: everything else. Only matched, never generated; binds nothing.
    Not(Box<Pattern>),
    /// `$name`: binds first, equals later. `$name: pattern` binds what the pattern describes.
    Variable {
        /// The variable.
        name: Name,
        /// What the value must be.
        is: Option<Box<Pattern>>,
    },
    /// `[a, b]`, `[a, ...]`, `unordered [a, b, ...]`
    Array {
        /// The elements.
        items: Vec<Pattern>,
        /// `...`: more may follow.
        open: bool,
        /// True when order means nothing.
        unordered: bool,
    },
    /// `{"a": p, $key: p}`, `exactly {...}`
    Object {
        /// The members.
        members: Vec<Member>,
        /// True when no other member is allowed.
        exactly: bool,
    },
    /// `absent`: as the value of a member: the member is not there.
    Absent,
    /// `EXPR + EXPR`: strings joined.
    Join(Vec<Pattern>),
    /// `EXPR * 3`: a string repeated.
    Times(Box<Pattern>, u32),
}

/// A constant of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
}

/// A member of an object pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// What stands above it, where the object is written over several lines.
    pub leading: Vec<Trivia>,
    /// Its name.
    pub key: Key,
    /// Its value.
    pub value: Pattern,
}

/// The name of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// A string.
    Text(String, Span),
    /// The value of a variable, which must be a string.
    Variable(Name),
}

/// The words that stand for a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeWord {
    /// Any array.
    Array,
    /// Base64 text (RFC 4648, standard alphabet).
    Base64,
    /// `true` or `false`.
    Boolean,
    /// A number without a fractional part; `2.0` counts.
    Integer,
    /// Any number.
    Number,
    /// Any object.
    Object,
    /// Any string.
    String,
    /// A string that is an RFC 3339 time.
    Timestamp,
    /// A string that is a UUID of any version, upper or lower case.
    Uuid,
}
