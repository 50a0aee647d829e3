//! One end of a WebSocket (RFC 6455), without IO: the same in memory and on sockets, for reference machines and for
//! the tester. Frame headers are tungstenite's; pongs, close echoes, joining of fragments and UTF-8 are left to the
//! user of this type, because a tester has to see and do what a polite library hides.

use std::collections::VecDeque;
use std::io::Cursor;

use fastrand::Rng;
use flate2::{Decompress, FlushDecompress};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::http_body::{BodyReader, Progress};
use crate::machine::{Message, Request, Response, WireFault};

/// Limits of an end.
#[derive(Clone, Debug)]
pub struct WebSocketConfig {
    /// Largest message that is read, fragments together, in bytes.
    pub max_message: usize,
    /// Largest HTTP head that is read, in bytes.
    pub max_head: usize,
    /// Largest HTTP body that is read, in bytes.
    pub max_body: usize,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        WebSocketConfig { max_message: 1 << 20, max_head: 32 << 10, max_body: 1 << 20 }
    }
}

/// What the bytes that arrived mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireEvent {
    /// Somebody asks for a connection or an HTTP answer (listening end). Decide with `accept` or `respond`.
    Request(Request),
    /// The upgrade was granted (connecting end).
    Opened(Response),
    /// The upgrade was not granted (connecting end). Status 0 where the answer was no HTTP answer.
    Refused(Response, String),
    /// A plain HTTP request was answered (connecting end). Nothing follows but the end.
    Answered(Response),
    /// A text message; not known to be UTF-8.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// A Ping.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
    /// A Close frame. Nothing is read after it.
    Closing {
        /// The status code, if there was one.
        code: Option<u16>,
        /// The reason.
        reason: String,
    },
    /// The framing is broken; nothing is read after it.
    Fault(WireFault, String),
    /// Bytes on a raw end.
    Bytes(Vec<u8>),
    /// The stream has ended. The last event.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Listening,
    Connecting,
    /// Makes one plain HTTP request.
    Asking,
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// An HTTP head is being read.
    Head,
    /// The head of a request is read, its body is not; on an asking end, those of an answer.
    Body,
    /// A request waits for `accept` or `respond`.
    Deciding,
    /// Frames are read.
    Open,
    /// Whatever arrives is thrown away.
    Deaf,
    /// The stream has ended.
    Gone,
}

/// One end of a WebSocket.
#[derive(Debug)]
pub struct WebSocketEnd {
    config: WebSocketConfig,
    side: Side,
    phase: Phase,
    input: VecDeque<u8>,
    output: Vec<u8>,
    events: VecDeque<WireEvent>,
    /// The request that waits for its body or its answer, and its key.
    request: Option<(Request, String)>,
    /// The answer that waits for its body.
    response: Option<Response>,
    body: BodyReader,
    /// The key that we sent.
    key: String,
    /// The message whose fragments are being joined; true for text.
    joining: Option<(bool, Vec<u8>)>,
    rng: Rng,
    close_sent: bool,
    close_received: bool,
    finishing: bool,
    /// It stands between two others and says nothing itself.
    overhears: bool,
    inflate: Option<Inflate>,
    /// The message that is being joined is compressed.
    compressed: bool,
}

/// Makes messages of compressed ones.
#[derive(Debug)]
struct Inflate {
    state: Decompress,
    fresh: bool,
}

impl Inflate {
    /// A message of at most `limit` bytes.
    fn message(&mut self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireFault> {
        if self.fresh {
            self.state.reset(false);
        }
        let mut whole = Vec::new();
        // RFC 7692, section 7.2.2: the sender left these off.
        for part in [bytes, &[0, 0, 0xff, 0xff]] {
            let mut rest = part;
            loop {
                let before = (self.state.total_in(), whole.len());
                whole.reserve(4096);
                self.state
                    .decompress_vec(rest, &mut whole, FlushDecompress::Sync)
                    .map_err(|_| WireFault::Protocol)?;
                let taken = usize::try_from(self.state.total_in() - before.0).unwrap_or(rest.len());
                rest = rest.get(taken..).unwrap_or_default();
                if whole.len() > limit {
                    return Err(WireFault::TooBig);
                }
                if rest.is_empty() && whole.len() < whole.capacity()
                    || (taken == 0 && whole.len() == before.1)
                {
                    break;
                }
            }
        }
        Ok(whole)
    }
}

impl WebSocketEnd {
    /// The side that was connected to.
    pub fn listening(config: WebSocketConfig) -> Self {
        WebSocketEnd::new(config, Side::Listening, Phase::Head, 0)
    }

    /// The side that connects: the request is the first thing written. `seed` gives key and masks. For a plain request
    /// ([`Request::is_plain`]) there is one answer and no WebSocket.
    pub fn connecting(config: WebSocketConfig, host: &str, request: &Request, seed: u64) -> Self {
        if request.is_plain() {
            return WebSocketEnd::asking(config, host, request);
        }
        let mut end = WebSocketEnd::new(config, Side::Connecting, Phase::Head, seed);
        end.key = key(&mut end.rng);
        let target = target(request);
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
            one_line(&target),
            one_line(host),
            end.key
        );
        for (name, value) in &request.headers {
            head.push_str(&format!("{}: {}\r\n", one_line(name), one_line(value)));
        }
        head.push_str("\r\n");
        end.output.extend_from_slice(head.as_bytes());
        end
    }

    fn asking(config: WebSocketConfig, host: &str, request: &Request) -> Self {
        let mut end = WebSocketEnd::new(config, Side::Asking, Phase::Head, 0);
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            one_line(&request.method),
            one_line(&target(request)),
            one_line(host)
        );
        for (name, value) in &request.headers {
            head.push_str(&format!("{}: {}\r\n", one_line(name), one_line(value)));
        }
        if !request.body.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
        }
        head.push_str("Connection: close\r\n\r\n");
        end.output.extend_from_slice(head.as_bytes());
        end.output.extend_from_slice(&request.body);
        end
    }

    /// Overhears what a connecting side sends: its request is taken as granted, and nothing is answered.
    pub fn overhearing_requests(config: WebSocketConfig) -> Self {
        let mut end = WebSocketEnd::new(config, Side::Listening, Phase::Head, 0);
        end.overhears = true;
        end
    }

    /// Overhears what a listening side sends in answer to the request with this `sec-websocket-key`.
    pub fn overhearing_answers(config: WebSocketConfig, key: &str) -> Self {
        let mut end = WebSocketEnd::new(config, Side::Connecting, Phase::Head, 0);
        end.overhears = true;
        end.key = key.to_owned();
        end
    }

    /// From now on messages may come compressed (RFC 7692): both sides agreed on it. With `fresh` each message is
    /// compressed by itself.
    pub fn expect_compression(&mut self, fresh: bool) {
        self.inflate = Some(Inflate { state: Decompress::new(false), fresh });
    }

    /// No upgrade and no frames: what is sent raw goes out, what arrives is handed up.
    pub fn raw(config: WebSocketConfig) -> Self {
        WebSocketEnd::new(config, Side::Raw, Phase::Open, 0)
    }

    fn new(config: WebSocketConfig, side: Side, phase: Phase, seed: u64) -> Self {
        WebSocketEnd {
            config,
            side,
            phase,
            input: VecDeque::new(),
            output: Vec::new(),
            events: VecDeque::new(),
            request: None,
            response: None,
            body: BodyReader::empty(),
            key: String::new(),
            joining: None,
            rng: Rng::with_seed(seed),
            close_sent: false,
            close_received: false,
            finishing: false,
            overhears: false,
            inflate: None,
            compressed: false,
        }
    }

    /// Takes bytes that arrived. What they mean is polled.
    pub fn receive(&mut self, bytes: &[u8]) {
        match self.phase {
            Phase::Deaf | Phase::Gone => {}
            Phase::Open if self.side == Side::Raw => self.events.push_back(WireEvent::Bytes(bytes.to_vec())),
            Phase::Deciding => {
                // Whoever sends that much before an answer is not worth keeping.
                if self.input.len() + bytes.len() > self.config.max_message + self.config.max_head {
                    self.fault(WireFault::TooBig, "too much was sent before the upgrade was answered");
                } else {
                    self.input.extend(bytes);
                }
            }
            _ => {
                self.input.extend(bytes);
                self.read();
            }
        }
    }

    /// The stream has ended, in order or not.
    pub fn end_of_stream(&mut self) {
        if self.phase == Phase::Gone {
            return;
        }
        if self.phase == Phase::Head && matches!(self.side, Side::Connecting | Side::Asking) {
            let detail = "the connection ended before the request was answered".to_owned();
            self.events.push_back(WireEvent::Refused(Response::default(), detail));
        }
        if self.phase == Phase::Body && self.side == Side::Asking {
            match (self.response.take(), self.body.ended()) {
                (Some(response), Some(body)) => {
                    self.events.push_back(WireEvent::Answered(Response { body, ..response }));
                }
                _ => {
                    let detail = "the connection ended inside the body of the answer".to_owned();
                    self.events.push_back(WireEvent::Refused(Response::default(), detail));
                }
            }
        }
        self.phase = Phase::Gone;
        self.input = VecDeque::new();
        self.finishing = true;
        self.events.push_back(WireEvent::Ended);
    }

    /// The next event, oldest first.
    pub fn poll(&mut self) -> Option<WireEvent> {
        self.events.pop_front()
    }

    /// True while messages flow.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Grants the upgrade that was requested.
    pub fn accept(&mut self, subprotocol: Option<&str>) {
        let Some((_, key)) = self.request.take() else { return };
        let mut head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            derive_accept_key(key.as_bytes())
        );
        if let Some(subprotocol) = subprotocol {
            head.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", one_line(subprotocol)));
        }
        head.push_str("\r\n");
        self.output.extend_from_slice(head.as_bytes());
        if self.phase == Phase::Deciding {
            self.phase = Phase::Open;
            self.read();
        }
    }

    /// Answers a request without opening a WebSocket, and ends the stream.
    pub fn respond(&mut self, response: &Response) {
        let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason_phrase(response.status));
        for (name, value) in &response.headers {
            head.push_str(&format!("{}: {}\r\n", one_line(name), one_line(value)));
        }
        head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", response.body.len()));
        self.output.extend_from_slice(head.as_bytes());
        self.output.extend_from_slice(&response.body);
        self.request = None;
        self.deafen();
        self.finishing = true;
    }

    /// Sends a message in one frame.
    pub fn send(&mut self, message: &Message) {
        match message {
            Message::Text(text) => self.frame(OpCode::Data(Data::Text), true, text.as_bytes()),
            Message::Binary(bytes) => self.frame(OpCode::Data(Data::Binary), true, bytes),
            Message::Ping(bytes) => self.frame(OpCode::Control(Control::Ping), true, bytes),
            Message::Pong(bytes) => self.frame(OpCode::Control(Control::Pong), true, bytes),
        }
    }

    /// Sends one text message in as many frames as there are parts.
    pub fn send_fragments(&mut self, parts: &[&[u8]]) {
        for (place, part) in parts.iter().enumerate() {
            let code = if place == 0 { Data::Text } else { Data::Continue };
            self.frame(OpCode::Data(code), place + 1 == parts.len(), part);
        }
    }

    /// Sends a text frame that need not be UTF-8.
    pub fn send_text_bytes(&mut self, bytes: &[u8]) {
        self.frame(OpCode::Data(Data::Text), true, bytes);
    }

    /// Sends bytes below any framing.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if self.phase != Phase::Gone {
            self.output.extend_from_slice(bytes);
        }
    }

    /// Sends a Close frame, once. When both Close frames have passed, the listening side ends the stream.
    pub fn close(&mut self, code: Option<u16>, reason: &str) {
        if self.close_sent || self.phase == Phase::Gone {
            return;
        }
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            // A control frame holds 125 bytes.
            let mut end = reason.len().min(123);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            payload.extend_from_slice(&reason.as_bytes()[..end]);
        }
        self.frame(OpCode::Control(Control::Close), true, &payload);
        self.close_sent = true;
    }

    /// Waits for nothing more: the stream is to end once everything is written.
    pub fn finish(&mut self) {
        self.finishing = true;
        self.deafen();
    }

    /// Takes the bytes to be written.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// True when the stream is to end once the output is written.
    pub fn wants_end(&self) -> bool {
        self.finishing || (self.close_sent && self.close_received && self.side == Side::Listening)
    }

    fn deafen(&mut self) {
        if self.phase != Phase::Gone {
            self.phase = Phase::Deaf;
        }
        self.input = VecDeque::new();
        self.joining = None;
    }

    fn fault(&mut self, fault: WireFault, detail: impl Into<String>) {
        self.events.push_back(WireEvent::Fault(fault, detail.into()));
        self.deafen();
    }

    fn frame(&mut self, opcode: OpCode, is_final: bool, payload: &[u8]) {
        if self.phase == Phase::Gone || self.close_sent {
            return;
        }
        let mask = (self.side != Side::Listening).then(|| self.rng.u32(..).to_be_bytes());
        let header = FrameHeader { is_final, rsv1: false, rsv2: false, rsv3: false, opcode, mask };
        header.format(payload.len() as u64, &mut self.output).expect("a vector takes every byte");
        match mask {
            None => self.output.extend_from_slice(payload),
            Some(mask) => {
                let start = self.output.len();
                self.output.extend_from_slice(payload);
                apply_mask(&mut self.output[start..], mask);
            }
        }
    }

    fn read(&mut self) {
        loop {
            let went_on = match self.phase {
                Phase::Head => self.read_head(),
                Phase::Body => self.read_body(),
                Phase::Open => self.read_frame(),
                Phase::Deciding | Phase::Deaf | Phase::Gone => false,
            };
            if !went_on {
                return;
            }
        }
    }

    fn read_head(&mut self) -> bool {
        let input = self.input.make_contiguous();
        let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n").map(|place| place + 4)
        else {
            if input.len() > self.config.max_head {
                self.bad_head("the HTTP head is too long");
            }
            return false;
        };
        let head = input[..end].to_vec();
        self.input.drain(..end);
        match self.side {
            Side::Listening => self.read_request(&head),
            Side::Asking => self.read_answer(&head),
            _ => self.read_response(&head),
        }
    }

    fn bad_head(&mut self, detail: &str) {
        if self.side == Side::Listening {
            self.respond(&Response { status: 400, ..Response::default() });
            // The machine behind a listening end never hears of what was no request.
            self.events.push_back(WireEvent::Ended);
            self.phase = Phase::Gone;
        } else {
            self.events.push_back(WireEvent::Refused(Response::default(), detail.to_owned()));
            self.deafen();
            self.finishing = true;
        }
    }

    fn read_request(&mut self, head: &[u8]) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        let complete = matches!(parsed.parse(head), Ok(httparse::Status::Complete(_)));
        let (Some(method), Some(target), true) = (parsed.method, parsed.path, complete) else {
            self.bad_head("no HTTP request");
            return false;
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: owned(parsed.headers),
            upgrade: false,
            body: Vec::new(),
        };
        let names = |name: &str, word: &str| {
            request
                .header(name)
                .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
        };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        request.upgrade = method == "GET"
            && names("upgrade", "websocket")
            && names("connection", "upgrade")
            && request.header("sec-websocket-version") == Some("13")
            && !key.is_empty();
        // An upgrade has no body; what follows it are frames.
        let body = if request.upgrade {
            Ok(BodyReader::empty())
        } else {
            BodyReader::new(|name| request.header(name).map(str::to_owned), false, self.config.max_body)
        };
        match body {
            Ok(body) => self.body = body,
            Err(detail) => {
                self.bad_head(detail);
                return false;
            }
        }
        if request.header("expect").is_some_and(|value| value.trim().eq_ignore_ascii_case("100-continue")) {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.request = Some((request, key));
        self.phase = Phase::Body;
        true
    }

    fn read_body(&mut self) -> bool {
        match self.body.read(&mut self.input) {
            Ok(Progress::NeedsMore) => return false,
            Ok(Progress::Complete) => {}
            Err(detail) => {
                self.bad_head(detail);
                return false;
            }
        }
        let body = std::mem::replace(&mut self.body, BodyReader::empty()).into_body();
        if let Some(response) = self.response.take() {
            self.events.push_back(WireEvent::Answered(Response { body, ..response }));
            self.deafen();
            self.finishing = true;
        } else if let Some((request, _)) = &mut self.request {
            request.body = body;
            self.events.push_back(WireEvent::Request(request.clone()));
            if self.overhears {
                let upgrade = self.request.take().is_some_and(|(request, _)| request.upgrade);
                self.phase = if upgrade { Phase::Open } else { Phase::Head };
                return true;
            }
            self.phase = Phase::Deciding;
        }
        false
    }

    fn read_answer(&mut self, head: &[u8]) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        let complete = matches!(parsed.parse(head), Ok(httparse::Status::Complete(_)));
        let (Some(status), true) = (parsed.code, complete) else {
            self.bad_head("the answer is no HTTP answer");
            return false;
        };
        if (100..200).contains(&status) {
            return true;
        }
        let headers = owned(parsed.headers);
        let header =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let body = if status == 204 || status == 304 {
            Ok(BodyReader::empty())
        } else {
            BodyReader::new(header, true, self.config.max_body)
        };
        match body {
            Ok(body) => self.body = body,
            Err(detail) => {
                self.bad_head(detail);
                return false;
            }
        }
        self.response = Some(Response { status, headers, body: Vec::new() });
        self.phase = Phase::Body;
        true
    }

    fn read_response(&mut self, head: &[u8]) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        let complete = matches!(parsed.parse(head), Ok(httparse::Status::Complete(_)));
        let (Some(status), true) = (parsed.code, complete) else {
            self.bad_head("the answer is no HTTP answer");
            return false;
        };
        let response = Response { status, headers: owned(parsed.headers), body: Vec::new() };
        let accept = response.headers.iter().find(|(name, _)| name == "sec-websocket-accept");
        let right = accept.is_some_and(|(_, value)| *value == derive_accept_key(self.key.as_bytes()));
        if status == 101 && right {
            self.phase = Phase::Open;
            self.events.push_back(WireEvent::Opened(response));
            return true;
        }
        let detail = if status == 101 { "the accept key is wrong" } else { "not an upgrade" };
        self.events.push_back(WireEvent::Refused(response, detail.to_owned()));
        self.deafen();
        self.finishing = true;
        false
    }

    fn read_frame(&mut self) -> bool {
        let head: Vec<u8> = self.input.iter().take(14).copied().collect();
        let mut cursor = Cursor::new(head.as_slice());
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return false,
            Err(error) => {
                self.fault(WireFault::Protocol, error.to_string());
                return false;
            }
        };
        let header_length = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        if let Err(detail) = self.check(&header, length) {
            self.fault(WireFault::Protocol, detail);
            return false;
        }
        let joined = self.joining.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let room = self.config.max_message.saturating_sub(joined);
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= room) else {
            self.fault(
                WireFault::TooBig,
                format!("a message of more than {} bytes", self.config.max_message),
            );
            return false;
        };
        if self.input.len() < header_length + length {
            return false;
        }
        self.input.drain(..header_length);
        let mut payload = take_front(&mut self.input, length);
        if let Some(mask) = header.mask {
            apply_mask(&mut payload, mask);
        }
        self.frame_read(&header, payload)
    }

    /// The rules of RFC 6455, section 5, that a header alone can break.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), &'static str> {
        let starts = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        let compressed = header.rsv1 && starts && self.inflate.is_some();
        if (header.rsv1 && !compressed) || header.rsv2 || header.rsv3 {
            return Err("a reserved bit is set, and no extension was agreed on");
        }
        match (self.side, header.mask.is_some()) {
            (Side::Listening, false) => return Err("a client's frame is not masked"),
            (Side::Connecting, true) => return Err("a server's frame is masked"),
            _ => {}
        }
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                Err("a reserved opcode")
            }
            OpCode::Control(_) if !header.is_final => Err("a control frame in fragments"),
            OpCode::Control(_) if length > 125 => Err("a control frame of more than 125 bytes"),
            OpCode::Data(Data::Continue) if self.joining.is_none() => Err("a continuation of nothing"),
            OpCode::Data(Data::Text | Data::Binary) if self.joining.is_some() => {
                Err("a new message before the last fragment of the one before")
            }
            _ => Ok(()),
        }
    }

    fn frame_read(&mut self, header: &FrameHeader, payload: Vec<u8>) -> bool {
        match header.opcode {
            OpCode::Control(Control::Ping) => self.events.push_back(WireEvent::Ping(payload)),
            OpCode::Control(Control::Pong) => self.events.push_back(WireEvent::Pong(payload)),
            OpCode::Control(_) => return self.close_read(&payload),
            OpCode::Data(code) => {
                let (text, mut whole) = match self.joining.take() {
                    Some(joining) => joining,
                    None => (code == Data::Text, Vec::new()),
                };
                if whole.is_empty() {
                    whole = payload;
                } else {
                    whole.extend_from_slice(&payload);
                }
                if code != Data::Continue {
                    self.compressed = header.rsv1;
                }
                if header.is_final && self.compressed {
                    let limit = self.config.max_message;
                    match self.inflate.as_mut().map(|inflate| inflate.message(&whole, limit)) {
                        Some(Ok(message)) => whole = message,
                        Some(Err(fault)) => {
                            self.fault(fault, "a compressed message that cannot be read");
                            return false;
                        }
                        None => {}
                    }
                }
                if !header.is_final {
                    self.joining = Some((text, whole));
                } else if text {
                    self.events.push_back(WireEvent::Text(whole));
                } else {
                    self.events.push_back(WireEvent::Binary(whole));
                }
            }
        }
        true
    }

    fn close_read(&mut self, payload: &[u8]) -> bool {
        let code = match payload {
            [] => None,
            [_] => {
                self.fault(WireFault::Protocol, "a Close frame with half a code");
                return false;
            }
            [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        };
        let reason = payload.get(2..).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        self.close_received = true;
        self.events.push_back(WireEvent::Closing { code, reason });
        self.deafen();
        false
    }
}

/// Path and query as they stand in a request line.
fn target(request: &Request) -> String {
    if request.query.is_empty() {
        request.path.clone()
    } else {
        format!("{}?{}", request.path, request.query)
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|header| {
            (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned())
        })
        .collect()
}

/// Header text without anything that could begin another header.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')).collect()
}

/// Sixteen bytes in base64, as RFC 6455 section 4.1 asks for.
fn key(rng: &mut Rng) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 16 bytes are 21 whole digits and one that carries two bits.
    let mut text: String = (0..21).map(|_| char::from(DIGITS[rng.usize(..64)])).collect();
    text.push(char::from(DIGITS[rng.usize(..4) * 16]));
    text.push_str("==");
    text
}

/// The first bytes of a queue; there are as many.
fn take_front(queue: &mut VecDeque<u8>, length: usize) -> Vec<u8> {
    let (first, second) = queue.as_slices();
    let mut taken = Vec::with_capacity(length);
    taken.extend_from_slice(&first[..length.min(first.len())]);
    taken.extend_from_slice(&second[..length - taken.len()]);
    queue.drain(..length);
    taken
}

fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    // Sixteen at a time: long messages are the common case in floods.
    let wide = u128::from_ne_bytes([mask; 4].concat().try_into().unwrap_or_default());
    let mut chunks = bytes.chunks_exact_mut(16);
    for chunk in &mut chunks {
        let sixteen: [u8; 16] = (&*chunk).try_into().unwrap_or_default();
        chunk.copy_from_slice(&(u128::from_ne_bytes(sixteen) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
