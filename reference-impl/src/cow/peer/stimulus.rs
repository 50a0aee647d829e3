//! What the owner of a peer can ask of it.

use serde_json::{Map, Value};

use super::super::message::{StoreKey, SyncType};
use super::{Peer, PeerEvent, State};
use crate::machine::{Outbox, Time};

/// What the owner of a peer can ask.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerCommand {
    /// Make a record, or give it other data.
    Change {
        /// Where.
        store: StoreKey,
        /// Which.
        id: String,
        /// Its data from now on.
        data: Map<String, Value>,
    },
    /// Leave in order, and stay away.
    Close,
    /// Send a command.
    Command {
        /// To whom; none: to everybody.
        target: Option<Value>,
        /// Its payload.
        payload: Map<String, Value>,
    },
    /// Delete a record.
    Delete {
        /// Where.
        store: StoreKey,
        /// Which.
        id: String,
    },
    /// Work on a project from now on: its id goes into the own record.
    Project(String),
    /// Send the list of a store.
    Sync(StoreKey),
}

impl PeerCommand {
    /// The command for a stimulus: `change` and `delete` with `syncType`, `project`, `_id` (and `data`), `command`
    /// with the command's payload and perhaps `to`, `project` with `project`, `sync` with `syncType` and `project`,
    /// `close`.
    pub(super) fn from_stimulus(name: &str, with: &Value) -> Result<PeerCommand, String> {
        let wrong = |reason: &str| format!("a cow peer cannot `{name}` so: {reason}");
        let empty = Map::new();
        let with = with.as_object().unwrap_or(&empty);
        let store = || {
            StoreKey::from_payload(with)
                .ok_or_else(|| wrong("it needs a `syncType`, and a `project` for items and groups"))
        };
        let text = |member: &str| {
            let text = with.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| wrong(&format!("it needs `{member}`, a string")))
        };
        match name {
            "change" => {
                let data = with.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
                Ok(PeerCommand::Change { store: store()?, id: text("_id")?, data })
            }
            "close" => Ok(PeerCommand::Close),
            "command" => {
                text("command")?;
                let mut payload = with.clone();
                let target = payload.shift_remove("to").filter(|target| !target.is_null());
                Ok(PeerCommand::Command { target, payload })
            }
            "delete" => Ok(PeerCommand::Delete { store: store()?, id: text("_id")? }),
            "project" => Ok(PeerCommand::Project(text("project")?)),
            "sync" => Ok(PeerCommand::Sync(store()?)),
            _ => Err(format!(
                "a cow peer cannot `{name}`; it can `change`, `delete`, `command`, `project`, `sync` and `close`"
            )),
        }
    }
}

impl Peer {
    pub(super) fn act(&mut self, now: Time, command: PeerCommand, out: &mut Outbox<PeerEvent>) {
        match command {
            PeerCommand::Change { store, id, data } => self.change(now, &store, &id, Some(data), false, out),
            PeerCommand::Close => match self.state {
                State::Waiting { link, .. } | State::Joined { link, .. } => self.leave(link, out),
                _ => {
                    self.leaving = true;
                    if matches!(self.state, State::Offline { .. }) {
                        self.state = State::Offline { reconnect_at: None };
                    }
                }
            },
            PeerCommand::Command { target, payload } => self.say(target, "command", payload, out),
            PeerCommand::Delete { store, id } => {
                // What was never there cannot be deleted.
                if self.stores.get(&store, &id).is_some() {
                    self.change(now, &store, &id, None, true, out);
                }
            }
            PeerCommand::Project(project) => {
                let Some(own) = self.id().cloned() else { return };
                let peers = StoreKey::herd(SyncType::Peers);
                let mut data =
                    self.stores.get(&peers, own.as_str()).map(|own| own.data.clone()).unwrap_or_default();
                data.insert("activeproject".to_owned(), Value::from(project));
                self.change(now, &peers, own.as_str(), Some(data), false, out);
            }
            PeerCommand::Sync(store) => self.send_list(&store, out),
        }
    }
}
