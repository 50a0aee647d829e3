//! Bytes to envelopes.

use flowproof_reference::clusterio::{DecodeError, Envelope};

fn check_decode(bytes: &[u8], strict: bool, expected: Result<i64, DecodeError>) {
    assert_eq!(Envelope::decode(bytes, strict).map(|envelope| envelope.seq), expected, "{bytes:?}");
}

#[test]
fn envelopes_have_three_members_of_their_types() {
    check_decode(br#"{"seq": 7, "type": "x", "data": {}}"#, true, Ok(7));
    check_decode(br#"{"data": {}, "type": "x", "seq": 2.0}"#, true, Ok(2));
    check_decode(br#"{"seq": 2e0, "type": "x", "data": {}}"#, true, Ok(2));
    check_decode(br#"{"seq": -9007199254740992, "type": "x", "data": {}}"#, true, Ok(-(1 << 53)));
    check_decode(br#"{"seq": 1, "seq": 2, "type": "x", "data": {}}"#, true, Ok(2));
    for bad in [
        &br#"{"type": "x", "data": {}}"#[..],
        br#"{"seq": null, "type": "x", "data": {}}"#,
        br#"{"seq": "1", "type": "x", "data": {}}"#,
        br#"{"seq": 1.5, "type": "x", "data": {}}"#,
        br#"{"seq": 9007199254740993, "type": "x", "data": {}}"#,
    ] {
        check_decode(bad, false, Err(DecodeError::Seq));
    }
    check_decode(br#"{"seq": 1, "type": 7, "data": {}}"#, false, Err(DecodeError::Type));
    check_decode(br#"{"seq": 1, "type": "x"}"#, false, Err(DecodeError::Data));
    check_decode(br#"{"seq": 1, "type": "x", "data": null}"#, false, Err(DecodeError::Data));
    check_decode(br#"[1]"#, false, Err(DecodeError::NotObject("array")));
}

#[test]
fn unknown_members_are_refused_in_the_later_edition_only() {
    let more = br#"{"seq": 1, "type": "x", "data": {}, "note": 1}"#;
    check_decode(more, true, Err(DecodeError::Unknown("note".to_owned())));
    check_decode(more, false, Ok(1));
}

#[test]
fn what_is_no_json_is_malformed() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for bad in ["", "hello", "{", "\u{feff}{}", "{} {}", deep.as_str()] {
        assert!(matches!(Envelope::decode(bad.as_bytes(), false), Err(DecodeError::Malformed(_))), "{bad:?}");
    }
    assert!(matches!(Envelope::decode(b"\"\xff\"", false), Err(DecodeError::Malformed(_))));
}
