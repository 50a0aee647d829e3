//! The commands that a peer itself acts upon (section 2.4). All others are for its owner.

use serde_json::{Map, Value};

use super::super::config::Fault;
use super::super::message::{Command, PeerId, StoreKey, SyncType, Target, record_id};
use super::{Peer, PeerEvent, State};
use crate::machine::Outbox;

impl Peer {
    pub(super) fn obey(
        &mut self,
        own: &PeerId,
        sender: &PeerId,
        target: &Target,
        command: Command,
        out: &mut Outbox<PeerEvent>,
    ) {
        let named = names(own, target, &command.payload);
        match command.name.as_str() {
            "ping" => self.pong(sender, out),
            "pong" if self.has(Fault::AnswersPong) => self.pong(sender, out),
            "pong" | "zoomTo" => {}
            "kickPeer" => {
                if let State::Joined { link, .. } = self.state
                    && named
                    && !self.has(Fault::IgnoresKick)
                {
                    self.leave(link, out);
                }
            }
            "purgePeer" => {
                let purged = named && !self.has(Fault::IgnoresPurge);
                if purged || self.has(Fault::PurgesForOthers) {
                    self.stores.clear_where(|store| {
                        matches!(
                            store.kind,
                            SyncType::Groups | SyncType::Items | SyncType::Projects | SyncType::Users
                        )
                    });
                }
            }
            "flushProject" => {
                let all = self.has(Fault::FlushesAll);
                let Some(project) = command.payload.get("projectid").and_then(record_id) else { return };
                if self.has(Fault::IgnoresFlush) {
                    return;
                }
                self.stores.clear_where(|store: &StoreKey| match &store.project {
                    Some(known) => all || *known == project,
                    None => false,
                });
            }
            _ if self.has(Fault::AnswersUnknownCommands) => {
                let mut payload = Map::new();
                payload.insert("command".to_owned(), Value::from("unknown"));
                self.say(Some(sender.to_value()), "command", payload, out);
            }
            _ => {}
        }
    }

    fn pong(&self, sender: &PeerId, out: &mut Outbox<PeerEvent>) {
        let mut payload = Map::new();
        payload.insert("command".to_owned(), Value::from("pong"));
        self.say(Some(sender.to_value()), "command", payload, out);
    }
}

/// The command names this peer: in `targetuser`, in `target` of the payload, or as the one it is addressed to.
fn names(own: &PeerId, target: &Target, payload: &Map<String, Value>) -> bool {
    let named = |member: &str| payload.get(member).and_then(PeerId::from_value).as_ref() == Some(own);
    named("targetuser") || named("target") || *target == Target::Peer(own.clone())
}
