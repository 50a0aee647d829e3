//! Messages on their way to somebody else.

use serde_json::{Map, Value};

use super::super::command::NodeEvent;
use super::super::config::Fault;
use super::super::guid::Guid;
use super::super::message::{Head, Message};
use super::{Out, StreamNode};
use crate::machine::LinkId;

impl StreamNode {
    /// Hands a message on towards its target, or tells its sender that it cannot.
    pub(super) fn forward(
        &mut self,
        link: LinkId,
        object: &Map<String, Value>,
        head: &Head,
        target: Guid,
        message: &Message,
        out: &mut Out,
    ) {
        let left = head.ttl.saturating_sub(1);
        match self.path(target).filter(|_| left > 0) {
            Some(next) => self.hand_on(next, object, left, out),
            None => {
                out.event(NodeEvent::Failed(head.msg_id));
                // Two nodes that cannot reach each other would tell each other so for ever.
                if !matches!(message, Message::Ack { .. } | Message::Nack { .. }) && !self.has(Fault::NoNack)
                {
                    let back = self.path(head.sender).unwrap_or(link);
                    let nack = Message::Nack { msg_id: Some(head.msg_id) };
                    self.post(back, &nack, Some(head.sender_name.clone()), None, out);
                }
            }
        }
    }

    /// Hands a flood on to all neighbours but the one it came from.
    pub(super) fn flood_on(&mut self, link: LinkId, object: &Map<String, Value>, head: &Head, out: &mut Out) {
        let left = head.ttl.saturating_sub(1);
        if left <= 0 {
            return;
        }
        let back = self.has(Fault::FloodsBack);
        let others: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(other, neighbour)| neighbour.id.is_some() && (**other != link || back))
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            self.hand_on(other, object, left, out);
        }
    }

    fn hand_on(&self, link: LinkId, object: &Map<String, Value>, left: i64, out: &mut Out) {
        let mut object = object.clone();
        let left = if self.has(Fault::LowersTtlByTwo) { left - 1 } else { left };
        object.insert("ttl".to_owned(), Value::from(left));
        out.send(link, crate::machine::Message::Text(Value::Object(object).to_string()));
    }
}
