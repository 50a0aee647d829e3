//! Types that the catalogue does not have where they came (sections 2.6 to 2.8). A peer's own types are its own affair
//! (A13); a known one on the wrong way, or under a shortened name, is not.

use flowproof_reference::machine::Time;

use super::{message, sides};
use crate::monitor::{Monitor, Rulings, Seen};

/// Requests by stem, with the links on which they go.
const REQUESTS: &[(&str, &[Way])] = &[
    ("list_slaves", &[Way::UpFromControl]),
    ("list_instances", &[Way::UpFromControl]),
    ("set_instance_output_subscriptions", &[Way::UpFromControl]),
    ("create_instance", &[Way::UpFromControl]),
    ("get_instance_config", &[Way::UpFromControl]),
    ("set_instance_config_field", &[Way::UpFromControl]),
    ("assign_instance_command", &[Way::UpFromControl]),
    ("assign_instance", &[Way::DownToSlave]),
    ("start_instance", &[Way::UpFromControl, Way::DownToSlave]),
    ("create_save", &[Way::UpFromControl, Way::DownToSlave]),
    ("stop_instance", &[Way::UpFromControl, Way::DownToSlave]),
    ("delete_instance", &[Way::UpFromControl, Way::DownToSlave]),
    ("send_rcon", &[Way::UpFromControl, Way::DownToSlave]),
    ("statistics_exporter:get_metrics", &[Way::DownToSlave]),
    ("research_sync:sync_technologies", &[Way::UpFromSlave]),
    ("subspace_storage:remove", &[Way::UpFromSlave]),
    ("subspace_storage:get_storage", &[Way::UpFromSlave]),
];

/// Events by stem, with the links on which they go.
const EVENTS: &[(&str, &[Way])] = &[
    ("update_instances", &[Way::UpFromSlave]),
    ("instance_output", &[Way::UpFromSlave, Way::DownToControl]),
    ("global_chat:chat", &[Way::UpFromSlave, Way::DownToSlave]),
    ("research_sync:contribution", &[Way::UpFromSlave]),
    ("research_sync:progress", &[Way::DownToSlave]),
    ("research_sync:finished", &[Way::UpFromSlave, Way::DownToSlave]),
    ("subspace_storage:place", &[Way::UpFromSlave]),
    ("subspace_storage:update_storage", &[Way::DownToSlave]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    UpFromControl,
    UpFromSlave,
    DownToControl,
    DownToSlave,
}

impl Way {
    fn back(self) -> Way {
        match self {
            Way::UpFromControl => Way::DownToControl,
            Way::UpFromSlave => Way::DownToSlave,
            Way::DownToControl => Way::UpFromControl,
            Way::DownToSlave => Way::UpFromSlave,
        }
    }
}

fn ways(table: &[(&str, &'static [Way])], stem: &str) -> Option<&'static [Way]> {
    table.iter().find(|(known, _)| *known == stem).map(|(_, ways)| *ways)
}

#[derive(Default)]
pub(super) struct Directions {
    /// Requests that were made on a link, whoever had the right to.
    asked: Vec<(flowproof_reference::machine::LinkId, String)>,
}

impl Monitor for Directions {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        let (Some((client, from_master)), Some(message)) = (sides(seen), message(&seen.what)) else { return };
        let way = match (client.role.as_str(), from_master) {
            ("control", true) => Way::DownToControl,
            ("control", false) => Way::UpFromControl,
            (_, true) => Way::DownToSlave,
            (_, false) => Way::UpFromSlave,
        };
        let kind = message.kind;
        let legal = if let Some(stem) = kind.strip_suffix("_request") {
            if !seen.from.under_test {
                self.asked.push((seen.link, stem.to_owned()));
            }
            ways(REQUESTS, stem).map(|ways| ways.contains(&way))
        } else if let Some(stem) = kind.strip_suffix("_event") {
            ways(EVENTS, stem).map(|ways| ways.contains(&way))
        } else if let Some(stem) = kind.strip_suffix("_response") {
            // Whoever was asked what it need not know may say so (A15).
            let was_asked = self.asked.iter().any(|(link, asked)| *link == seen.link && asked == stem);
            if was_asked { None } else { ways(REQUESTS, stem).map(|ways| ways.contains(&way.back())) }
        } else {
            match kind {
                "hello" | "ready" => Some(from_master),
                "register_slave" => Some(way == Way::UpFromSlave),
                "register_control" => Some(way == Way::UpFromControl),
                _ => None,
            }
        };
        let (party, at) = (seen.from, seen.at);
        match legal {
            Some(true) => rulings.kept("CLUSTERIO-CAT-14", party, at),
            Some(false) => {
                let text = format!("`{kind}` does not go from a {} to a {}", party.role, seen.to.role);
                let expected = "messages that the catalogue has in this direction";
                rulings.broken("CLUSTERIO-CAT-14", party, at, text, expected, message.whole.clone());
            }
            None if ways(EVENTS, kind).is_some() => {
                let text = format!("the event `{kind}_event` is called `{kind}`");
                rulings.broken(
                    "CLUSTERIO-EVT-2",
                    party,
                    at,
                    text,
                    format!("`{kind}_event`"),
                    message.whole.clone(),
                );
            }
            None if ways(REQUESTS, kind).is_some() => {
                let text = format!("the request `{kind}_request` is called `{kind}`");
                rulings.broken(
                    "CLUSTERIO-REQ-11",
                    party,
                    at,
                    text,
                    format!("`{kind}_request`"),
                    message.whole.clone(),
                );
            }
            None => {}
        }
        if legal == Some(true) && kind.ends_with("_event") {
            rulings.kept("CLUSTERIO-EVT-2", party, at);
        } else if legal == Some(true) && kind.ends_with("_request") {
            rulings.kept("CLUSTERIO-REQ-11", party, at);
        }
    }

    fn finish(&mut self, _now: Time, _rulings: &mut Rulings) {}
}
