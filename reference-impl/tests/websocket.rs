//! The WebSocket end on the wire: what it makes of bytes, and what bytes it makes.

use flowproof_reference::machine::{Message, Request, Response, WireFault};
use flowproof_reference::transport::websocket::{WebSocketConfig, WebSocketEnd, WireEvent};
use proptest::prelude::*;

const UPGRADE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: WebSocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const SMALL: WebSocketConfig = WebSocketConfig { max_message: 200, max_head: 1024, max_body: 200 };

fn events(end: &mut WebSocketEnd) -> Vec<WireEvent> {
    std::iter::from_fn(|| end.poll()).collect()
}

fn request() -> Request {
    Request { method: "GET".to_owned(), path: "/".to_owned(), upgrade: true, ..Request::default() }
}

/// A listening end that has accepted an upgrade.
fn server() -> WebSocketEnd {
    let mut end = WebSocketEnd::listening(SMALL);
    end.receive(UPGRADE.as_bytes());
    assert!(matches!(end.poll(), Some(WireEvent::Request(_))));
    end.accept(None);
    end.take_output();
    end
}

/// A connecting end and a listening one, open to each other.
fn pair() -> (WebSocketEnd, WebSocketEnd) {
    let mut client = WebSocketEnd::connecting(SMALL, "localhost", &request(), 1);
    let mut server = WebSocketEnd::listening(SMALL);
    server.receive(&client.take_output());
    assert!(matches!(server.poll(), Some(WireEvent::Request(_))));
    server.accept(None);
    client.receive(&server.take_output());
    assert!(matches!(client.poll(), Some(WireEvent::Opened(_))));
    (client, server)
}

/// A frame as a client sends it, with a mask that shows when it is forgotten.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x5a, 0x01, 0xff, 0x33];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).expect("short")),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).expect("not long").to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

fn text(text: &str) -> WireEvent {
    WireEvent::Text(text.as_bytes().to_vec())
}

fn closing(code: Option<u16>, reason: &str) -> WireEvent {
    WireEvent::Closing { code, reason: reason.to_owned() }
}

fn fault(part: &str) -> WireEvent {
    WireEvent::Fault(WireFault::Protocol, part.to_owned())
}

/// Feeds bytes to an open listening end, whole and cut at every place, and compares what comes out; a fault is
/// compared by its kind and a part of its detail.
#[track_caller]
fn check_wire(bytes: &[u8], expected: &[WireEvent]) {
    let alike = |found: &WireEvent, expected: &WireEvent| match (found, expected) {
        (WireEvent::Fault(found, detail), WireEvent::Fault(fault, part)) => {
            found == fault && detail.contains(part)
        }
        _ => found == expected,
    };
    for cut in 0..=bytes.len() {
        let mut end = server();
        end.receive(&bytes[..cut]);
        let mut found = events(&mut end);
        end.receive(&bytes[cut..]);
        found.extend(events(&mut end));
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| alike(a, b));
        assert!(same, "cut at {cut}: expected {expected:?}, found {found:?}");
    }
}

#[test]
fn messages_and_control_frames_are_told_apart() {
    check_wire(&masked(0x81, b"hi"), &[text("hi")]);
    check_wire(&masked(0x81, b""), &[text("")]);
    check_wire(&masked(0x81, b"\xff"), &[WireEvent::Text(vec![0xff])]);
    check_wire(&masked(0x82, &[0, 255]), &[WireEvent::Binary(vec![0, 255])]);
    check_wire(&masked(0x89, b"x1"), &[WireEvent::Ping(b"x1".to_vec())]);
    check_wire(&masked(0x8a, b""), &[WireEvent::Pong(vec![])]);
    check_wire(&masked(0x81, &[b'a'; 200]), &[text(&"a".repeat(200))]);
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let bytes =
        [masked(0x01, b"a"), masked(0x89, b"p"), masked(0x00, b""), masked(0x00, b"b"), masked(0x80, b"c")];
    check_wire(&bytes.concat(), &[WireEvent::Ping(b"p".to_vec()), text("abc")]);
    let binary = [masked(0x02, b""), masked(0x80, b"c")];
    check_wire(&binary.concat(), &[WireEvent::Binary(b"c".to_vec())]);
}

#[test]
fn close_frames_are_read_and_what_follows_is_not() {
    check_wire(&masked(0x88, b""), &[closing(None, "")]);
    check_wire(&masked(0x88, b"\x0b\xb9bye"), &[closing(Some(3001), "bye")]);
    // A code that may not stand on the wire is for the judges to see.
    check_wire(&masked(0x88, b"\x03\xed"), &[closing(Some(1005), "")]);
    check_wire(
        &[masked(0x88, b"\x03\xe8"), masked(0x81, b"late"), vec![0xff; 9]].concat(),
        &[closing(Some(1000), "")],
    );
}

#[test]
fn broken_framing_is_a_fault_and_the_last_thing_heard() {
    let then_text = |bytes: &[u8]| [bytes, &masked(0x81, b"late")].concat();
    let cases: [(Vec<u8>, &str); 9] = [
        (vec![0x81, 0x02, b'h', b'i'], "not masked"),
        (masked(0xc1, b"hi"), "reserved bit"),
        (masked(0x83, b"hi"), "opcode"),
        (masked(0x8b, b"hi"), "opcode"),
        (masked(0x09, b""), "in fragments"),
        (masked(0x89, &[0; 126]), "more than 125 bytes"),
        (masked(0x80, b"x"), "a continuation of nothing"),
        ([masked(0x01, b"a"), masked(0x81, b"b")].concat(), "before the last fragment"),
        (masked(0x88, b"\x03"), "half a code"),
    ];
    for (bytes, part) in cases {
        check_wire(&then_text(&bytes), &[fault(part)]);
    }
}

#[test]
fn too_long_a_message_is_refused_when_its_head_is_seen() {
    let too_big = WireEvent::Fault(WireFault::TooBig, "more than 200 bytes".to_owned());
    let head_only = |length: u64| [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    check_wire(&head_only(64 * 1024 * 1024), std::slice::from_ref(&too_big));
    check_wire(&head_only(u64::MAX >> 1), std::slice::from_ref(&too_big));
    check_wire(&masked(0x81, &[0; 201])[..8], std::slice::from_ref(&too_big));
    check_wire(&[masked(0x01, &[b'a'; 150]), masked(0x80, &[b'b'; 51])].concat(), &[too_big]);
}

#[test]
fn a_masked_frame_from_a_server_is_a_fault() {
    let (mut client, _) = pair();
    client.receive(&masked(0x81, b"hi"));
    assert!(matches!(&events(&mut client)[..], [WireEvent::Fault(WireFault::Protocol, _)]));
}

#[test]
fn what_one_end_sends_the_other_receives() {
    let (mut client, mut server) = pair();
    client.send(&Message::Text("tö".to_owned()));
    client.send(&Message::Binary(vec![1, 2]));
    client.send_fragments(&[b"fr", b"ag", b"ment"]);
    client.send_text_bytes(&[0xc0]);
    server.receive(&client.take_output());
    let expected = [text("tö"), WireEvent::Binary(vec![1, 2]), text("fragment"), WireEvent::Text(vec![0xc0])];
    assert_eq!(events(&mut server), expected);
    server.send(&Message::Ping(b"p".to_vec()));
    server.send(&Message::Pong(vec![]));
    client.receive(&server.take_output());
    assert_eq!(events(&mut client), [WireEvent::Ping(b"p".to_vec()), WireEvent::Pong(vec![])]);
}

#[test]
fn messages_of_every_length_class_arrive() {
    let large = WebSocketConfig { max_message: 1 << 20, ..WebSocketConfig::default() };
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let mut client = WebSocketEnd::connecting(large.clone(), "localhost", &request(), 1);
        let mut server = WebSocketEnd::listening(large.clone());
        server.receive(&client.take_output());
        assert!(matches!(server.poll(), Some(WireEvent::Request(_))));
        server.accept(None);
        client.receive(&server.take_output());
        assert!(matches!(client.poll(), Some(WireEvent::Opened(_))));
        let message = "x".repeat(length);
        client.send(&Message::Text(message.clone()));
        server.receive(&client.take_output());
        assert_eq!(events(&mut server), [text(&message)], "{length}");
        server.send(&Message::Text(message.clone()));
        client.receive(&server.take_output());
        assert_eq!(events(&mut client), [text(&message)], "{length}");
    }
}

#[test]
fn a_server_ends_the_stream_when_both_have_closed_and_the_client_waits_for_it() {
    let (mut client, mut server) = pair();
    client.close(Some(3001), "enough");
    client.close(Some(1000), "only the first counts");
    server.receive(&client.take_output());
    assert_eq!(events(&mut server), [closing(Some(3001), "enough")]);
    assert!(!server.wants_end() && !client.wants_end());
    server.close(Some(3001), "");
    assert!(server.wants_end());
    client.receive(&server.take_output());
    assert_eq!(events(&mut client), [closing(Some(3001), "")]);
    client.end_of_stream();
    assert_eq!(events(&mut client), [WireEvent::Ended]);
    assert!(client.wants_end());
}

#[test]
fn a_fault_is_answered_with_a_close_frame_before_the_stream_ends() {
    let mut end = server();
    end.receive(&[0xff, 0xff]);
    end.receive(&[0; 12]);
    assert!(matches!(&events(&mut end)[..], [WireEvent::Fault(..)]));
    assert!(!end.wants_end());
    end.close(Some(1002), "");
    end.finish();
    assert_eq!(end.take_output(), [0x88, 0x02, 0x03, 0xea]);
    assert!(end.wants_end());
}

#[test]
fn an_early_talker_is_heard_after_the_upgrade() {
    let mut end = WebSocketEnd::listening(SMALL);
    end.receive(&[UPGRADE.as_bytes(), &masked(0x81, b"early")].concat());
    let Some(WireEvent::Request(request)) = end.poll() else { panic!("no request") };
    assert!(request.upgrade);
    assert_eq!((request.path.as_str(), request.query.as_str()), ("/chat", "room=1"));
    assert_eq!(end.poll(), None);
    end.accept(Some("json"));
    let answer = String::from_utf8(end.take_output()).expect("ASCII").to_ascii_lowercase();
    assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    assert!(answer.contains("sec-websocket-protocol: json\r\n"), "{answer}");
    assert_eq!(end.poll(), Some(text("early")));
}

#[test]
fn only_a_whole_upgrade_counts_as_one() {
    for (from, to) in
        [("GET", "POST"), ("WebSocket\r", "h2c\r"), ("keep-alive, Upgrade", "keep-alive"), ("13", "8")]
    {
        let mut end = WebSocketEnd::listening(SMALL);
        end.receive(UPGRADE.replacen(from, to, 1).as_bytes());
        let found = end.poll();
        assert!(matches!(&found, Some(WireEvent::Request(request)) if !request.upgrade), "{to}: {found:?}");
        end.respond(&Response { status: 426, ..Response::default() });
        assert!(end.take_output().starts_with(b"HTTP/1.1 426 Upgrade Required\r\n"));
        assert!(end.wants_end());
    }
}

#[test]
fn what_is_no_request_is_answered_and_never_heard_of() {
    for bytes in [&b"\x16\x03\x01 no TLS here\r\n\r\n"[..], b"GET\r\n\r\n", b"\r\n\r\n"] {
        let mut end = WebSocketEnd::listening(SMALL);
        end.receive(bytes);
        let found = events(&mut end);
        assert!(!found.iter().any(|event| matches!(event, WireEvent::Request(_))), "{found:?}");
        assert!(end.wants_end(), "{found:?}");
    }
    let mut end = WebSocketEnd::listening(SMALL);
    end.receive(&[b'a'; 4096]);
    assert!(end.wants_end(), "a head without end is not read for ever");
}

#[test]
fn requests_are_read_with_their_bodies() {
    let bytes = "POST /api HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody";
    for cut in 0..bytes.len() {
        let mut end = WebSocketEnd::listening(SMALL);
        end.receive(&bytes.as_bytes()[..cut]);
        assert_eq!(end.poll(), None, "cut at {cut}");
        end.receive(&bytes.as_bytes()[cut..]);
        assert!(matches!(end.poll(), Some(WireEvent::Request(request)) if request.body == b"body"));
    }
    for length in ["201", "-1", "x", "18446744073709551616"] {
        let mut end = WebSocketEnd::listening(SMALL);
        end.receive(format!("POST /api HTTP/1.1\r\ncontent-length: {length}\r\n\r\n").as_bytes());
        assert!(end.wants_end(), "a body of {length} bytes is not waited for");
    }
}

#[track_caller]
fn check_answer(answer: &str, status: u16) {
    for cut in 0..=answer.len() {
        let mut client = WebSocketEnd::connecting(SMALL, "localhost", &request(), 1);
        client.receive(&answer.as_bytes()[..cut]);
        client.receive(&answer.as_bytes()[cut..]);
        client.end_of_stream();
        match &events(&mut client)[..] {
            [WireEvent::Refused(response, _), WireEvent::Ended] => assert_eq!(response.status, status),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn an_answer_other_than_the_right_one_is_a_refusal() {
    check_answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403);
    check_answer("HTTP/1.1 403 Forbidden\r\n\r\nno", 403);
    check_answer("SSH-2.0-x\r\n\r\n", 0);
    check_answer("HTTP/1.1 101 Hi\r\n\r\n", 101);
    check_answer("HTTP/1.1 101 Hi\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n", 101);
    check_answer("HTTP/1.1 101 Hi\r\nupgrade: webso", 0);
    check_answer("", 0);
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let bytes = |seed| {
        let mut end = WebSocketEnd::connecting(SMALL, "localhost", &request(), seed);
        end.send(&Message::Text("early".to_owned()));
        end.take_output()
    };
    assert_eq!(bytes(3), bytes(3));
    assert_ne!(bytes(3), bytes(4));
}

#[test]
fn nothing_from_outside_begins_another_header() {
    let evil = "/\r\nX-Evil: 1";
    let odd = Request {
        path: evil.to_owned(),
        query: evil.to_owned(),
        headers: vec![(evil.to_owned(), evil.to_owned())],
        ..request()
    };
    let mut end = WebSocketEnd::connecting(SMALL, evil, &odd, 1);
    let head = String::from_utf8(end.take_output()).expect("text");
    assert!(head.lines().all(|line| !line.starts_with("X-Evil")), "{head}");
}

#[test]
fn a_raw_end_passes_bytes() {
    let mut end = WebSocketEnd::raw(SMALL);
    end.send_raw(b"GET /");
    assert_eq!(end.take_output(), b"GET /");
    end.receive(b"any");
    end.end_of_stream();
    assert_eq!(events(&mut end), [WireEvent::Bytes(b"any".to_vec()), WireEvent::Ended]);
}

/// Every kind of end, fresh.
fn every_end() -> [WebSocketEnd; 6] {
    [
        WebSocketEnd::listening(SMALL),
        server(),
        WebSocketEnd::connecting(SMALL, "localhost", &request(), 1),
        pair().0,
        WebSocketEnd::overhearing_requests(SMALL),
        WebSocketEnd::overhearing_answers(SMALL, "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
}

/// Bytes that come near to sense: frames with odd heads, upgrades, answers, noise.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let frame = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..220))
        .prop_map(|(first, payload)| masked(first, &payload));
    let data = (0_u8..16, prop::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(opcode, payload)| masked(0x80 | opcode, &payload));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        frame,
        data,
        Just(UPGRADE.as_bytes().to_vec()),
        Just(
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                .to_vec()
        ),
        Just(vec![0x81, 0x02, b'h', b'i']),
    ]
}

/// What an end makes of bytes that come in these pieces; an upgrade is granted as soon as it is seen. Bytes of a raw
/// end come as they are, so they are joined.
fn heard(mut end: WebSocketEnd, pieces: &[&[u8]]) -> Vec<WireEvent> {
    let mut found = Vec::new();
    for piece in pieces {
        end.receive(piece);
        while let Some(event) = end.poll() {
            if matches!(&event, WireEvent::Request(request) if request.upgrade) {
                end.accept(None);
            }
            found.push(event);
        }
    }
    end.end_of_stream();
    found.extend(events(&mut end));
    found
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(parts in prop::collection::vec(any_bytes(), 0..8)) {
        for mut end in every_end() {
            for part in &parts {
                end.receive(part);
                events(&mut end);
            }
            end.send(&Message::Text("x".to_owned()));
            end.close(Some(1000), "");
            end.end_of_stream();
            events(&mut end);
            end.take_output();
            prop_assert!(end.wants_end());
            // An end is over once.
            end.receive(b"more");
            end.end_of_stream();
            prop_assert!(events(&mut end).is_empty());
        }
    }

    #[test]
    fn how_bytes_are_cut_does_not_change_what_is_heard(
        parts in prop::collection::vec(any_bytes(), 0..5), step in 1..40_usize
    ) {
        let bytes = parts.concat();
        let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
        for (whole, cut) in every_end().into_iter().zip(every_end()) {
            prop_assert_eq!(heard(whole, &[&bytes]), heard(cut, &pieces));
        }
    }

    #[test]
    fn any_message_in_any_pieces_arrives(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(0..200_usize, 0..4),
        step in 1..50_usize,
    ) {
        let (mut client, mut server) = pair();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(payload.len())).collect();
        cuts.extend([0, payload.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|pair| &payload[pair[0]..pair[1]]).collect();
        client.send_fragments(&parts);
        let mut found = Vec::new();
        for bytes in client.take_output().chunks(step) {
            server.receive(bytes);
            found.extend(events(&mut server));
        }
        prop_assert_eq!(found, [WireEvent::Text(payload.clone())]);
    }
}
