//! Any bytes as a message: decoded, encoded, decoded again. What was understood must be what is written.

use flowproof_reference::{clusterio, cow, hangout, polfan, ptpchat};
use serde_json::Value;

/// Messages to and from a hangout hub.
pub fn hangout(data: &[u8]) {
    if let Ok(envelope) = hangout::Envelope::decode(data) {
        let kind = &envelope.packet.kind;
        let payload = envelope.packet.payload().cloned().unwrap_or(Value::Null);
        let to = match &envelope.to {
            hangout::To::Server => Value::from("server"),
            hangout::To::Peers(peers) => Value::from(peers.clone()),
        };
        let written = hangout::Envelope::encode(&to, kind, &payload);
        let again = hangout::Envelope::decode(written.as_bytes()).expect("what was written can be read");
        assert_eq!(again.to, envelope.to);
        assert_eq!(&again.packet.kind, kind);
        assert_eq!(again.packet.payload(), Some(&payload));
        let relayed = envelope.packet.clone().relayed("somebody");
        let relayed: Value = serde_json::from_str(&relayed).expect("what is relayed is JSON");
        assert_eq!(relayed["from"], "somebody");
        let _ = hangout::ServerPacket::decode(relayed.to_string().as_bytes());
    }
    let _ = hangout::ServerPacket::decode(data);
}

/// Messages between cow peers, and what the relay reads of them.
pub fn cow(data: &[u8]) {
    let routing = cow::Routing::decode(data);
    let heard = cow::Heard::decode(data);
    // What a relay does not look at may hold numbers that nobody here can write.
    if let (Ok(routing), Ok(value)) = (routing, serde_json::from_slice::<Value>(data)) {
        // The relay passes on the same JSON: reading it again must give the same route.
        let again =
            cow::Routing::decode(value.to_string().as_bytes()).expect("the same message has a route again");
        assert_eq!(again.action(), routing.action());
        assert_eq!(again.target(), routing.target());
    }
    if let (Ok(heard), Ok(value)) = (heard, serde_json::from_slice::<Value>(data)) {
        let again = cow::Heard::decode(value.to_string().as_bytes()).expect("the same message is read again");
        assert_eq!(again, heard);
    }
}

/// Commands to a polfan server.
pub fn polfan(data: &[u8]) {
    let asked = polfan::Asked::decode(data);
    if let (Ok(_), Ok(value)) = (&asked.command, serde_json::from_slice::<Value>(data)) {
        let again = polfan::Asked::decode(value.to_string().as_bytes());
        assert_eq!(again, asked);
    }
    let event = polfan::Event::new("Pong", asked.data);
    let written = event.encode(asked.reference.as_deref());
    let value: Value = serde_json::from_str(&written).expect("an event is JSON");
    assert_eq!(value["meta"]["type"], "Pong");
}

/// Datagrams of ptpchat nodes, in every edition.
pub fn ptpchat(data: &[u8]) {
    for edition in [ptpchat::Edition::Seed, ptpchat::Edition::Udp201603, ptpchat::Edition::Tcp201604] {
        if let Ok(message) = ptpchat::Message::decode(data, edition) {
            let written = message.encode(edition);
            if edition == ptpchat::Edition::Tcp201604 {
                // The ids of this edition stand in a head beside it.
                continue;
            }
            let again = ptpchat::Message::decode(&written, edition).expect("what was written can be read");
            assert_eq!(again, message, "{edition:?}");
        }
    }
}

/// Messages of clusterio links, in both editions.
pub fn clusterio(data: &[u8]) {
    for strict in [false, true] {
        if let Ok(envelope) = clusterio::Envelope::decode(data, strict) {
            let written = clusterio::Envelope::encode(envelope.seq, &envelope.kind, &envelope.data);
            let again =
                clusterio::Envelope::decode(written.as_bytes(), true).expect("what was written can be read");
            assert_eq!(again, envelope);
        }
    }
}
