//! Whatever joins, edits, deletions, leaves and returns there are, in whatever order their messages arrive: once all
//! is quiet, all peers that are there hold the same records.

use std::time::Duration;

use flowproof_reference::cow::{PeerCommand, PeerConfig, StoreKey, SyncType};
use proptest::prelude::*;

use crate::herd::{Herd, change, users};

#[derive(Clone, Debug)]
enum Deed {
    /// A peer makes a record or changes it.
    Change { peer: usize, store: u8, id: u8 },
    /// A peer deletes a record.
    Delete { peer: usize, store: u8, id: u8 },
    /// A line is cut, once its messages have arrived.
    Cut { peer: usize },
    /// Some messages move.
    Move { picks: Vec<usize> },
    /// Time passes, so that whoever is away comes back.
    Wait,
}

fn deed(peers: usize) -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..peers, 0..5u8, 0..3u8).prop_map(|(peer, store, id)| Deed::Change { peer, store, id }),
        1 => (0..peers, 0..5u8, 0..3u8).prop_map(|(peer, store, id)| Deed::Delete { peer, store, id }),
        1 => (0..peers).prop_map(|peer| Deed::Cut { peer }),
        4 => prop::collection::vec(any::<usize>(), 1..20).prop_map(|picks| Deed::Move { picks }),
        1 => Just(Deed::Wait),
    ]
}

fn store(number: u8) -> StoreKey {
    match number {
        0 => users(),
        1 => StoreKey::herd(SyncType::Projects),
        2 => StoreKey::of_project(SyncType::Items, "r0"),
        3 => StoreKey::of_project(SyncType::Items, "r1"),
        _ => StoreKey::of_project(SyncType::Groups, "r0"),
    }
}

/// An item's project is one of the records of `projects`; whoever edits it works on that project.
fn with_project(herd: &mut Herd, peer: usize, store: &StoreKey) {
    let Some(project) = &store.project else { return };
    let projects = StoreKey::herd(SyncType::Projects);
    let known = herd.peers[peer].stores().get(&projects, project).is_some_and(|record| !record.deleted);
    if !known {
        herd.command(peer, change(projects, project, "made for an item"));
        herd.now = herd.now + Duration::from_millis(1);
    }
}

fn run(peers: usize, deeds: &[Deed], last_picks: &[usize]) -> Herd {
    let mut herd = Herd::new(vec![PeerConfig::default(); peers]);
    for peer in 0..peers {
        herd.start(peer);
        // Some join at once, some after others have said a few words.
        for pick in last_picks.iter().take(peer * 3) {
            herd.step(|_| *pick);
        }
        herd.now = herd.now + Duration::from_millis(1);
    }
    for (number, deed) in deeds.iter().enumerate() {
        herd.now = herd.now + Duration::from_millis(1);
        match deed {
            Deed::Change { peer, store: kind, id } => {
                let store = store(*kind);
                with_project(&mut herd, *peer, &store);
                herd.command(*peer, change(store, &format!("r{id}"), &format!("by {peer} in {number}")));
            }
            Deed::Delete { peer, store: kind, id } => {
                // Items of a deleted project are nobody's business any more (section 8), so projects stay.
                let store = store(*kind);
                if store.kind != SyncType::Projects {
                    herd.command(*peer, PeerCommand::Delete { store, id: format!("r{id}") });
                }
            }
            Deed::Cut { peer } => {
                // An alpha that is lost in the middle of an answer is replaced by nobody (section 4, flow 11).
                herd.settle();
                herd.cut(*peer);
            }
            Deed::Move { picks } => {
                for pick in picks {
                    herd.step(|_| *pick);
                }
            }
            Deed::Wait => {
                herd.settle();
                herd.pass(Duration::from_secs(6));
            }
        }
    }
    let mut picks = last_picks.iter().cycle().copied();
    let mut moved = 0;
    while herd.step(|_| picks.next().unwrap_or(0)) {
        moved += 1;
        assert!(moved < 200_000, "the herd finds no rest");
    }
    herd.pass(Duration::from_secs(6));
    herd.settle();
    herd
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_herd_comes_to_hold_the_same_records(
        (peers, deeds) in (2..=8usize).prop_flat_map(|peers| (Just(peers), prop::collection::vec(deed(peers), 0..40))),
        last_picks in prop::collection::vec(any::<usize>(), 30),
    ) {
        let herd = run(peers, &deeds, &last_picks);
        let first = herd.holdings(0);
        for peer in 0..peers {
            prop_assert!(herd.peers[peer].id().is_some(), "peer {} is there", peer);
            prop_assert_eq!(&herd.holdings(peer), &first, "peer {} holds what peer 0 holds", peer);
        }
        // Everybody knows of everybody, and of nobody else.
        prop_assert_eq!(first.iter().filter(|record| record.starts_with("peers/")).count(), peers);
    }
}
