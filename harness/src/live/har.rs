//! HAR files with WebSocket messages, as browsers export them: each entry with messages is a link.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::trace::{End, Event, Happening, to_hex};

#[derive(Deserialize)]
struct File {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    request: Request,
    #[serde(default, rename = "_webSocketMessages")]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Request {
    url: String,
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    /// Seconds since 1970; some exporters write milliseconds.
    time: f64,
    #[serde(default)]
    opcode: i64,
    #[serde(default)]
    data: String,
}

/// A later time is in milliseconds: in seconds, it is some thousand years away.
const MILLISECONDS: f64 = 1e11;

impl Message {
    fn seconds(&self) -> f64 {
        if self.time < MILLISECONDS { self.time } else { self.time / 1000.0 }
    }

    /// What was said, and by whom; nothing for the browser's own remarks about the connection.
    fn said(&self) -> Option<(End, Happening)> {
        let from = match self.kind.as_str() {
            "send" => End::Client,
            "receive" => End::Server,
            _ => return None,
        };
        match self.opcode {
            0 | 1 => Some((from, Happening::Text { text: self.data.clone() })),
            2 => {
                let bytes = STANDARD.decode(&self.data).unwrap_or_default();
                Some((from, Happening::Binary { hex: to_hex(&bytes) }))
            }
            _ => None,
        }
    }
}

/// The events of a HAR file, in the order of their time. The error is text for a person.
pub fn events(text: &str) -> Result<Vec<Event>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| format!("no HAR file: {error}"))?;
    let mut events: Vec<(f64, Event)> = Vec::new();
    for (link, entry) in file.log.entries.iter().enumerate().filter(|(_, entry)| !entry.messages.is_empty()) {
        let link = link as u64;
        let first = entry.messages.iter().map(Message::seconds).fold(f64::INFINITY, f64::min);
        let after_host = entry.request.url.splitn(4, '/').nth(3).unwrap_or_default();
        let offered = entry
            .request
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("sec-websocket-protocol"));
        let subprotocols =
            offered.flat_map(|header| header.value.split(',')).map(|one| one.trim().to_owned()).collect();
        let opened = Happening::Opened { target: format!("/{after_host}"), subprotocols };
        events.push((first, Event { at_ms: 0.0, link, from: End::Client, what: opened }));
        for message in &entry.messages {
            if let Some((from, what)) = message.said() {
                events.push((message.seconds(), Event { at_ms: 0.0, link, from, what }));
            }
        }
        // The file does not tell whether a connection is over, or when it ended.
        let last = entry.messages.iter().map(Message::seconds).fold(first, f64::max);
        events.push((last, Event { at_ms: 0.0, link, from: End::Client, what: Happening::Unseen }));
    }
    if events.is_empty() {
        return Err("this HAR file has no WebSocket messages (`_webSocketMessages`)".to_owned());
    }
    events.sort_by(|a, b| a.0.total_cmp(&b.0));
    let began = events[0].0;
    Ok(events.into_iter().map(|(time, event)| Event { at_ms: (time - began) * 1000.0, ..event }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_several_connections_come_in_the_order_of_their_time() {
        let text = r#"{"log": {"entries": [
            {"request": {"url": "https://example.org/page"}},
            {"request": {"url": "ws://localhost:1/ws?token=a"}, "_webSocketMessages": [
                {"type": "receive", "time": 10.5, "opcode": 1, "data": "{}"},
                {"type": "send", "time": 10.75, "opcode": 2, "data": "AP8="}]},
            {"request": {"url": "ws://localhost:1"}, "_webSocketMessages": [
                {"type": "send", "time": 10.625, "opcode": 1, "data": "x"}]}
        ]}}"#;
        let events = events(text).unwrap();
        let shown: Vec<(f64, u64, &Happening)> =
            events.iter().map(|event| (event.at_ms, event.link, &event.what)).collect();
        let opened = |target: &str| Happening::Opened { target: target.to_owned(), subprotocols: Vec::new() };
        assert_eq!(
            shown,
            [
                (0.0, 1, &opened("/ws?token=a")),
                (0.0, 1, &Happening::Text { text: "{}".to_owned() }),
                (125.0, 2, &opened("/")),
                (125.0, 2, &Happening::Text { text: "x".to_owned() }),
                (125.0, 2, &Happening::Unseen),
                (250.0, 1, &Happening::Binary { hex: "00ff".to_owned() }),
                (250.0, 1, &Happening::Unseen),
            ]
        );
    }

    #[test]
    fn milliseconds_are_known_and_remarks_of_the_browser_are_nobodys_words() {
        let text = r#"{"log": {"entries": [{"request": {"url": "ws://localhost:1/"}, "_webSocketMessages": [
            {"type": "receive", "time": 1795000000000, "opcode": 1, "data": "{}"},
            {"type": "send", "time": 1795000000250, "opcode": 1, "data": "x"},
            {"type": "error", "time": 1795000000300, "opcode": -1, "data": "the connection was lost"}]}]}}"#;
        let events = events(text).unwrap();
        assert_eq!(
            events.iter().map(|event| event.at_ms.round()).collect::<Vec<_>>(),
            [0.0, 0.0, 250.0, 300.0]
        );
    }

    #[test]
    fn a_file_without_messages_says_so() {
        assert!(events("{}").unwrap_err().starts_with("no HAR file"));
        assert!(events(r#"{"log": {"entries": []}}"#).unwrap_err().contains("no WebSocket messages"));
    }
}
