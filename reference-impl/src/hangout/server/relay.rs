//! Packets from client to client (section 2.4).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::config::Fault;
use super::super::message::{EVERYONE, Packet};
use super::{Server, ServerEvent};
use crate::machine::{LinkId, Message, Outbox};

impl Server {
    /// To every distinct live addressee, at once (section 3.1).
    pub(super) fn relay(
        &mut self,
        link: LinkId,
        addresses: &[String],
        mut packet: Packet,
        out: &mut Outbox<ServerEvent>,
    ) {
        let own = packet.kind == "metadata" || packet.kind == "changes";
        if own && !self.has(Fault::RelaysOwnTypes) {
            return;
        }
        let Some(sender) = self.table.get(link) else { return };
        let claimed = packet.members.get("from").and_then(Value::as_str).map(str::to_owned);
        let from =
            claimed.filter(|_| self.has(Fault::KeepsClaimedSender)).unwrap_or_else(|| sender.token.clone());
        if self.has(Fault::FalsyPayloadBecomesObject) && packet.payload().is_some_and(is_falsy) {
            packet.members.insert(packet.kind.clone(), Value::Object(Map::new()));
        }
        let targets = self.targets(link, addresses);
        let text = match self.has(Fault::WrapsRelayedPackets) {
            true => json!({ "from": from, "packet": packet.members }).to_string(),
            false => packet.relayed(&from),
        };
        for target in targets {
            out.send(target, Message::Text(text.clone()));
        }
    }

    fn targets(&self, sender: LinkId, addresses: &[String]) -> BTreeSet<LinkId> {
        let mut targets = BTreeSet::new();
        let links = self.table.links();
        for address in addresses {
            if address == EVERYONE {
                let newest = links.last().filter(|_| self.has(Fault::BroadcastSkipsNewest));
                let skipped = |link: &LinkId| {
                    Some(link) == newest || (*link == sender && self.has(Fault::BroadcastSkipsSender))
                };
                targets.extend(links.iter().copied().filter(|link| !skipped(link)));
                continue;
            }
            match self.table.link_of(address) {
                Some(link) => {
                    targets.insert(link);
                    targets.extend(Some(sender).filter(|_| self.has(Fault::CopiesToSender)));
                }
                None if self.has(Fault::DeadTokenGoesToNewest) && self.used_tokens.contains(address) => {
                    targets.extend(links.last());
                }
                None => {}
            }
        }
        let known = |address: &String| self.table.link_of(address).is_some();
        if self.has(Fault::ArrayGoesToAll) && addresses.len() > 1 && addresses.iter().all(known) {
            targets.extend(links);
        }
        targets
    }

    /// Passes a packet on whose type is no string (planted fault).
    pub(super) fn relay_untyped(&mut self, link: LinkId, bytes: &[u8], out: &mut Outbox<ServerEvent>) {
        let Ok(Value::Object(mut envelope)) = serde_json::from_slice::<Value>(bytes) else { return };
        let (Some(Value::String(to)), Some(Value::Object(mut packet))) =
            (envelope.remove("to"), envelope.remove("packet"))
        else {
            return;
        };
        let odd = packet.get("type").is_some_and(|kind| !kind.is_string() && !kind.is_null());
        if let (Some(sender), Some(target), true) = (self.table.get(link), self.table.link_of(&to), odd) {
            packet.insert("from".to_owned(), Value::from(sender.token.as_str()));
            out.send(target, Message::Text(Value::Object(packet).to_string()));
        }
    }
}

/// What an untyped language takes for nothing.
fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
