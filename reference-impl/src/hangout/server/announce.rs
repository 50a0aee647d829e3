//! What the server says by itself: the sync at checks, and Pings (section 3.1).

use std::time::Duration;

use serde_json::Map;

use super::super::config::Fault;
use super::super::state::{ChangeSet, Connection, Listing};
use super::{Server, ServerEvent, next_beat};
use crate::machine::{LinkId, Message, Outbox, Time};

/// At which checks a slow server looks for one kind of change (planted fault).
const SLOW: u128 = 6;
/// How often a server that cannot be silent says something (planted fault).
const CHATTER: Duration = Duration::from_secs(4);

impl Server {
    pub(super) fn beat(&mut self, now: Time, out: &mut Outbox<ServerEvent>) {
        while let Some((link, _)) =
            self.memory.ungreeted.iter().find(|(_, at)| **at <= now).map(|(l, t)| (*l, *t))
        {
            self.memory.ungreeted.remove(&link);
            self.greet(link, out);
        }
        if self.check_at.is_some_and(|at| at <= now) {
            self.announce(now, out);
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping_at = (!self.table.is_empty()).then(|| next_beat(now, self.config.ping));
            for link in self.table.links() {
                out.send(link, Message::Ping(Vec::new()));
            }
        }
    }

    /// `changes` to all, then `metadata` to each (section 3.1, tick).
    pub(super) fn announce(&mut self, now: Time, out: &mut Outbox<ServerEvent>) {
        self.check_at = None;
        let changes = self.due_changes(now);
        let chats = self.has(Fault::ChattyWhenIdle) && !self.table.is_empty();
        if chats {
            self.check_at = Some(next_beat(now, CHATTER));
        }
        if changes.is_empty() && !chats {
            return;
        }
        let packet = changes.packet();
        let mut metadata = self.metadata(&changes);
        if self.has(Fault::LeavesOutWriters) && changes.opened.is_empty() && changes.closed.is_empty() {
            let wrote = |link: LinkId| {
                self.table.get(link).is_some_and(|one| changes.properties.contains(&one.token))
            };
            metadata.retain(|(link, _)| !wrote(*link));
        }
        let tables_first = self.has(Fault::MetadataBeforeChanges);
        for (link, table) in &metadata {
            if tables_first {
                out.send(*link, Message::Text(table.clone()));
            }
            out.send(*link, Message::Text(packet.clone()));
        }
        for (link, table) in metadata {
            if !tables_first {
                out.send(link, Message::Text(table));
            }
        }
        self.memory.ghosts.clear();
    }

    /// What is announced at this check; with a planted fault one list waits for a later one.
    fn due_changes(&mut self, now: Time) -> ChangeSet {
        let mut changes = std::mem::take(&mut self.changes);
        let check = now.since_start().as_nanos() / self.config.check.as_nanos().max(1);
        if check.is_multiple_of(SLOW) {
            return changes;
        }
        if self.has(Fault::SlowJoins) {
            self.changes.opened = std::mem::take(&mut changes.opened);
        }
        if self.has(Fault::SlowLeaves) {
            self.changes.closed = std::mem::take(&mut changes.closed);
        }
        if self.has(Fault::SlowWrites) {
            self.changes.properties = std::mem::take(&mut changes.properties);
        }
        if !self.changes.is_empty() {
            self.check_at = Some(next_beat(now, self.config.check));
        }
        changes
    }

    /// Everybody's table. Planted faults show another one.
    fn metadata(&self, changes: &ChangeSet) -> Vec<(LinkId, String)> {
        const FAULTS: [Fault; 4] =
            [Fault::KeepsGhosts, Fault::OmitsReader, Fault::ShowsOnlyChanges, Fault::StaleTableForFirst];
        if !FAULTS.iter().any(|fault| self.has(*fault)) {
            return self.table.metadata(&self.config.version);
        }
        let first = self.table.links().first().copied();
        let shown = |reader: LinkId, link: Option<LinkId>, one: &Connection| Listing {
            listed: !(self.has(Fault::OmitsReader) && link == Some(reader) && Some(reader) != first)
                && !self.is_stale(Some(reader) == first, one, changes),
            entry: match self.has(Fault::ShowsOnlyChanges) && !changes.properties.contains(&one.token) {
                _ if self.is_stale(Some(reader) == first, one, changes) => None,
                true => Some(Map::new()),
                false => Some(one.properties.clone()),
            },
        };
        self.table.metadata_as(&self.config.version, &self.memory.ghosts, shown)
    }

    fn is_stale(&self, for_first: bool, one: &Connection, changes: &ChangeSet) -> bool {
        let first = self.table.first_token().is_some_and(|first| first == one.token);
        self.has(Fault::StaleTableForFirst) && for_first && !first && changes.opened.contains(&one.token)
    }
}
