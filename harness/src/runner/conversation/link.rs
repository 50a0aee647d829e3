//! The harness's end of one connection: what arrived and waits to be judged, and whether it is still open.

use std::collections::VecDeque;
use std::net::SocketAddr;

use flowproof_reference::machine::{LinkId, Request, Response, Time};
use flowproof_reference::transport::LinkEnd;
use flowproof_reference::transport::datagrams::DatagramEnd;
use serde_json::Value;

use super::http;
use crate::monitor::NotJson;

/// Messages that may wait on a link before the oldest background traffic is forgotten.
const INBOX_LIMIT: usize = 4096;
/// Bytes that they may take, as text and as values.
const INBOX_BYTES: usize = 16 << 20;
/// A message of this size may have filled the inbox by itself.
const HEAVY: usize = INBOX_BYTES / INBOX_LIMIT;
/// How many of the oldest are looked at for one to forget.
const LOOK_BACK: usize = 64;

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The network has been asked for a connection.
    Dialling,
    /// The upgrade is under way; messages may already be on their way.
    Upgrading,
    /// Somebody asked for this connection and waits for our word.
    Requested,
    /// Messages flow.
    Open,
    /// Turned down, with the HTTP status if there was one.
    Refused(Option<u16>, String),
    /// Over.
    Ended,
}

/// Something that arrived, in order.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) at: Time,
    pub(super) what: Arrival,
    /// A judge has accused it already: that nobody expected it need not be said as well.
    pub(super) judged: bool,
}

/// What arrived.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    /// A text message, and its value if it is JSON.
    Text { text: String, json: Result<Value, NotJson> },
    /// A binary message.
    Binary(Vec<u8>),
    /// A WebSocket Ping.
    Ping(Vec<u8>),
    /// A WebSocket Pong.
    Pong(Vec<u8>),
    /// A plain HTTP request.
    Request(Request),
    /// The answer to a plain HTTP request.
    Response(Response),
    /// The other side announced the end.
    Closing { code: Option<u16>, reason: String },
    /// The other side broke the framing.
    Fault(String),
    /// The connection is gone.
    Ended,
}

impl Arrival {
    /// One line for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Arrival::Text { text, .. } => text.clone(),
            Arrival::Binary(bytes) => format!("binary message of {} bytes", bytes.len()),
            Arrival::Ping(bytes) => format!("ping {:?}", String::from_utf8_lossy(bytes)),
            Arrival::Pong(bytes) => format!("pong {:?}", String::from_utf8_lossy(bytes)),
            Arrival::Request(request) => {
                let body = String::from_utf8_lossy(&request.body);
                format!("{} {} {body}", request.method, http::full_target(request)).trim_end().to_owned()
            }
            Arrival::Response(response) => {
                let body = String::from_utf8_lossy(&response.body);
                format!("HTTP {} {body}", response.status).trim_end().to_owned()
            }
            Arrival::Closing { code: Some(code), reason } if reason.is_empty() => format!("close {code}"),
            Arrival::Closing { code: Some(code), reason } => format!("close {code} {reason:?}"),
            Arrival::Closing { code: None, .. } => "close without a code".to_owned(),
            Arrival::Fault(detail) => format!("broken framing: {detail}"),
            Arrival::Ended => "end of the connection".to_owned(),
        }
    }

    /// The message as a JSON value for a report.
    pub(super) fn value(&self) -> Value {
        match self {
            Arrival::Text { json: Ok(value), .. } => crate::judge::schema::actual(value),
            other => Value::from(crate::pattern::json::cut(&other.describe(), 1000)),
        }
    }

    /// About what it takes in memory.
    fn weight(&self) -> usize {
        match self {
            Arrival::Text { text, json } => {
                text.len() + json.as_ref().map_or(0, crate::pattern::json::weight)
            }
            Arrival::Binary(bytes) | Arrival::Ping(bytes) | Arrival::Pong(bytes) => bytes.len(),
            Arrival::Closing { reason, .. } => reason.len(),
            Arrival::Request(request) => request.body.len(),
            Arrival::Response(response) => response.body.len(),
            Arrival::Fault(detail) => detail.len(),
            Arrival::Ended => 0,
        }
    }

    /// True for what says that the connection is over.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Arrival::Closing { .. } | Arrival::Fault(_) | Arrival::Ended)
    }
}

/// One connection between a played participant and one under test.
pub(super) struct Link {
    pub(super) id: LinkId,
    /// The one we play.
    pub(super) played: usize,
    /// The one that is watched.
    pub(super) watched: usize,
    pub(super) end: LinkEnd,
    pub(super) stage: Stage,
    /// Path and query of the upgrade.
    pub(super) target: String,
    /// The subprotocols that the watched end offered, or the one that it selected.
    pub(super) subprotocols: Vec<String>,
    pub(super) inbox: VecDeque<Arrived>,
    /// True once the other side has announced or made the end before we did.
    pub(super) ended_by_them: bool,
    /// True once we have announced or made the end.
    pub(super) ended_by_us: bool,
    /// Bytes handed to the network that it has not taken yet.
    pub(super) unwritten: usize,
    /// The stream was shut down already.
    pub(super) shut: bool,
    /// It carries one plain HTTP request and its answer.
    pub(super) plain: bool,
    /// How much ever arrived that is not background traffic.
    pub(super) deeds: u64,
    /// For datagrams: the address at the other end, once it is known.
    pub(super) remote: Option<SocketAddr>,
    /// For datagrams: from an address of the party under test that no participant stands for yet.
    pub(super) stray: bool,
}

impl Link {
    /// A link on which nothing has happened yet.
    pub(super) fn new(id: LinkId, played: usize, watched: usize) -> Link {
        Link {
            id,
            played,
            watched,
            end: LinkEnd::Datagrams(DatagramEnd::default()),
            stage: Stage::Dialling,
            target: String::new(),
            subprotocols: Vec::new(),
            inbox: VecDeque::new(),
            ended_by_them: false,
            ended_by_us: false,
            unwritten: 0,
            shut: false,
            plain: false,
            deeds: 0,
            remote: None,
            stray: false,
        }
    }

    /// True where there are only datagrams.
    pub(super) fn is_datagrams(&self) -> bool {
        matches!(self.end, LinkEnd::Datagrams(_))
    }

    /// Queues what arrived. Where far too much waits, the oldest that nobody may want is forgotten; false where there
    /// is none such: then nobody keeps up with what arrives.
    #[must_use]
    pub(super) fn push(&mut self, arrived: Arrived, forgettable: impl Fn(&Arrival) -> bool) -> bool {
        let heavy = arrived.what.weight() > HEAVY;
        self.inbox.push_back(arrived);
        while self.inbox.len() > INBOX_LIMIT
            || (heavy && self.inbox.iter().map(|one| one.what.weight()).sum::<usize>() > INBOX_BYTES)
        {
            let old = self.inbox.iter().take(LOOK_BACK).position(|one| forgettable(&one.what));
            match old {
                // What came last may be what a step waits for.
                Some(old) if old + 1 < self.inbox.len() => self.inbox.remove(old),
                _ => return self.inbox.len() == 1,
            };
        }
        true
    }

    /// True while messages can be sent.
    pub(super) fn can_send(&self) -> bool {
        matches!(self.stage, Stage::Upgrading | Stage::Open) && !self.ended_by_us
    }
}
