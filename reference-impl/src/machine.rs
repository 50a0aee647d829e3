//! The contract every role of every protocol keeps: one way in, one deadline, everything it wants done in an
//! outbox. A machine owns no socket, task, clock or dice, so the same one runs on sockets, in the in-memory
//! world with virtual time, and under the fuzzer.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde_json::Value;

/// A moment, as the time since the run began. Only differences mean anything.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Time(Duration);

impl Time {
    /// The moment the run began.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// The moment `since_start` after the run began.
    pub const fn from_start(since_start: Duration) -> Time {
        Time(since_start)
    }

    /// How long after the start of the run this moment lies.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this moment lies; zero when it lies before it.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, by: Duration) -> Time {
        Time(self.0.saturating_sub(by))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// One connection of a machine. Numbers are given by whoever drives the machine and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LinkId(pub u64);

/// One datagram socket of a machine, numbered by the machine itself. Number 0 is its ordinary socket, which the driver
/// binds where it was told to; further ones are bound on the same IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// What can happen to a machine.
#[derive(Clone, Debug)]
pub enum Input<'a, C> {
    /// A stranger asks for a connection, or for one HTTP answer. The machine answers with
    /// [`Outbox::accept`] (the link is open from then on) or [`Outbox::respond`] (it never opens).
    Requested {
        /// The link that would open.
        link: LinkId,
        /// What was asked.
        request: &'a Request,
    },
    /// A connection that the machine asked for with [`Outbox::connect`] is open.
    Opened {
        /// The link that is open now.
        link: LinkId,
    },
    /// A connection that the machine asked for did not come about.
    Refused {
        /// The link that did not open.
        link: LinkId,
        /// The HTTP status of the refusal, if the other side got as far as giving one.
        status: Option<u16>,
    },
    /// The answer to a plain HTTP request that the machine made with [`Outbox::connect`]. The last input about this
    /// link.
    Answered {
        /// The link of the request.
        link: LinkId,
        /// The answer.
        response: &'a Response,
    },
    /// Something arrived on an open link.
    Received {
        /// Where it arrived.
        link: LinkId,
        /// What arrived.
        frame: Frame<'a>,
    },
    /// The other side says it ends the link (a WebSocket Close frame). The machine answers with
    /// [`Outbox::close`]; nothing else can be sent on the link any more.
    Closing {
        /// The link that is about to end.
        link: LinkId,
        /// The status code, if one was given.
        code: Option<u16>,
        /// The reason given; often empty.
        reason: &'a str,
    },
    /// The link is gone, however it ended. The last input about this link.
    Closed {
        /// The link that is gone.
        link: LinkId,
    },
    /// A datagram socket that the machine asked for with [`Outbox::bind`] is there.
    Bound {
        /// The socket.
        socket: SocketId,
        /// Where it is.
        local: SocketAddr,
    },
    /// A datagram socket that the machine asked for could not be had.
    NotBound {
        /// The socket.
        socket: SocketId,
    },
    /// A datagram arrived.
    Datagram {
        /// The socket it arrived on.
        socket: SocketId,
        /// The source address.
        from: SocketAddr,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The program or person that owns the machine wants something.
    Command(C),
    /// The deadline has come.
    Tick,
}

/// What arrived on a link. Bytes, not parsed messages: malformed input is protocol behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text message, fragments joined. The bytes are not known to be UTF-8.
    Text(&'a [u8]),
    /// A whole binary message, fragments joined.
    Binary(&'a [u8]),
    /// A WebSocket Ping. Answering it is the machine's business.
    Ping(&'a [u8]),
    /// A WebSocket Pong.
    Pong(&'a [u8]),
    /// Bytes that the transport could not make a message of. Nothing more can be read from the link.
    Broken(WireFault),
}

/// Why the transport could not go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// The framing breaks the transport's rules (for WebSocket: RFC 6455 asks for close code 1002).
    Protocol,
    /// A message exceeds the limit in force (close code 1009).
    TooBig,
}

/// What a machine sends on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A WebSocket Ping.
    Ping(Vec<u8>),
    /// A WebSocket Pong.
    Pong(Vec<u8>),
}

/// An HTTP request that opens a WebSocket, or stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` ...
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// What follows `?`, undecoded; empty when there is none.
    pub query: String,
    /// Header names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// True when this is a well-formed WebSocket upgrade (version 13, with a key).
    pub upgrade: bool,
    /// The body; empty for upgrades.
    pub body: Vec<u8>,
}

impl Request {
    /// True for a request that asks for an answer, not for a WebSocket.
    pub fn is_plain(&self) -> bool {
        !self.upgrade && !self.method.is_empty()
    }

    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An HTTP answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers beside those that the transport sets itself (length, connection).
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<E> {
    /// Opens the link that was requested.
    Accept {
        /// The requested link.
        link: LinkId,
        /// The subprotocol to select, if any.
        subprotocol: Option<String>,
    },
    /// Answers a request without opening a link.
    Respond {
        /// The requested link.
        link: LinkId,
        /// The answer.
        response: Response,
    },
    /// Asks for a connection to the other side; answered by [`Input::Opened`] or [`Input::Refused`]. A request with a
    /// method and without `upgrade` is a plain HTTP request, answered by [`Input::Answered`] or [`Input::Refused`].
    Connect {
        /// The number the new link is to have.
        link: LinkId,
        /// What to ask for; the address is the driver's business.
        request: Request,
    },
    /// Sends a message.
    Send {
        /// Where to.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// Ends the link in order: Close frame, then the end of the connection.
    Close {
        /// The link to end.
        link: LinkId,
        /// The status code, if one is to be sent.
        code: Option<u16>,
        /// The reason; may be empty.
        reason: String,
    },
    /// Cuts the link at once.
    Abort {
        /// The link to cut.
        link: LinkId,
    },
    /// Asks for a datagram socket; answered by [`Input::Bound`] or [`Input::NotBound`].
    Bind {
        /// The number it is to have.
        socket: SocketId,
        /// The port; any free one when none.
        port: Option<u16>,
    },
    /// Sends a datagram.
    SendTo {
        /// From this socket.
        socket: SocketId,
        /// To this address.
        to: SocketAddr,
        /// These bytes.
        bytes: Vec<u8>,
    },
    /// Gives a datagram socket back.
    Unbind {
        /// The socket.
        socket: SocketId,
    },
    /// Tells the owner of the machine what happened.
    Event(E),
}

/// Collects what a machine wants done, in order.
#[derive(Debug)]
pub struct Outbox<E> {
    actions: VecDeque<Action<E>>,
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Outbox { actions: VecDeque::new() }
    }
}

impl<E> Outbox<E> {
    /// Opens the requested link; see [`Action::Accept`].
    pub fn accept(&mut self, link: LinkId, subprotocol: Option<String>) {
        self.actions.push_back(Action::Accept { link, subprotocol });
    }

    /// Answers a request without opening a link; see [`Action::Respond`].
    pub fn respond(&mut self, link: LinkId, response: Response) {
        self.actions.push_back(Action::Respond { link, response });
    }

    /// Asks for a connection; see [`Action::Connect`].
    pub fn connect(&mut self, link: LinkId, request: Request) {
        self.actions.push_back(Action::Connect { link, request });
    }

    /// Sends a message; see [`Action::Send`].
    pub fn send(&mut self, link: LinkId, message: Message) {
        self.actions.push_back(Action::Send { link, message });
    }

    /// Ends a link in order; see [`Action::Close`].
    pub fn close(&mut self, link: LinkId, code: Option<u16>, reason: impl Into<String>) {
        self.actions.push_back(Action::Close { link, code, reason: reason.into() });
    }

    /// Cuts a link; see [`Action::Abort`].
    pub fn abort(&mut self, link: LinkId) {
        self.actions.push_back(Action::Abort { link });
    }

    /// Asks for a datagram socket; see [`Action::Bind`].
    pub fn bind(&mut self, socket: SocketId, port: Option<u16>) {
        self.actions.push_back(Action::Bind { socket, port });
    }

    /// Sends a datagram; see [`Action::SendTo`].
    pub fn send_to(&mut self, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) {
        self.actions.push_back(Action::SendTo { socket, to, bytes });
    }

    /// Gives a datagram socket back; see [`Action::Unbind`].
    pub fn unbind(&mut self, socket: SocketId) {
        self.actions.push_back(Action::Unbind { socket });
    }

    /// Tells the owner; see [`Action::Event`].
    pub fn event(&mut self, event: E) {
        self.actions.push_back(Action::Event(event));
    }

    /// Takes the next action, oldest first.
    pub fn pop(&mut self) -> Option<Action<E>> {
        self.actions.pop_front()
    }

    /// Puts an action at the end; for filters between a machine and its driver.
    pub fn push(&mut self, action: Action<E>) {
        self.actions.push_back(action);
    }
}

/// One role of one protocol.
///
/// After handling time t the deadline lies after t: a deadline that stands still makes a driver spin.
pub trait Machine {
    /// What its owner can ask of it.
    type Command;
    /// What it tells its owner.
    type Event;

    /// Takes one input. Everything the machine wants done is in `out` when the call returns.
    fn handle(&mut self, now: Time, input: Input<'_, Self::Command>, out: &mut Outbox<Self::Event>);

    /// When the machine wants a [`Input::Tick`], if at all.
    fn deadline(&self) -> Option<Time>;

    /// The command that a stimulus stands for: its name, and what came with it (`null` for nothing). The error tells a
    /// person what the machine can be told.
    fn command(name: &str, with: &Value) -> Result<Self::Command, String>;

    /// The command that makes the machine take leave in order, if it knows one.
    fn leave() -> Option<Self::Command>;

    /// True once the machine has done what it was made for and will never want anything again.
    fn is_over(&self) -> bool {
        false
    }

    /// True when it could not do what it was made for: what a program shows by its exit status.
    fn has_failed(&self) -> bool {
        false
    }
}
