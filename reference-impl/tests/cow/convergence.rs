//! Whatever joins, edits, deletions, leaves and returns there are, in whatever order their messages arrive: once all
//! is quiet, all peers hold the same records, and of each record what was written last. `PROPTEST_CASES` says how many
//! herds are tried; `.ci/run` tries a thousand.

use std::collections::BTreeMap;
use std::time::Duration;

use flowproof_reference::cow::{PeerCommand, PeerConfig, StoreKey, SyncType};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use crate::herd::{Herd, change, users};

/// Herds that are tried when nobody says how many.
const CASES: u32 = 60;

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

/// Whoever is there, and in which order their first words travel.
#[derive(Clone, Debug)]
struct Setting {
    peers: usize,
    picks: Vec<usize>,
}

/// What may happen; what must come of it is written down while it happens, since only whoever holds a record can
/// delete it.
struct Deeds;

impl ReferenceStateMachine for Deeds {
    type State = Setting;
    type Transition = Deed;

    fn init_state() -> BoxedStrategy<Setting> {
        let picks = prop::collection::vec(any::<usize>(), 30);
        (2..=8usize, picks).prop_map(|(peers, picks)| Setting { peers, picks }).boxed()
    }

    fn transitions(setting: &Setting) -> BoxedStrategy<Deed> {
        deed(setting.peers).boxed()
    }

    fn apply(setting: Setting, _: &Deed) -> Setting {
        setting
    }
}

type Key = (StoreKey, String);

struct Convergence {
    herd: Herd,
    /// What was written last of each record; none when it was deleted.
    last: BTreeMap<Key, Option<String>>,
    deeds: usize,
}

impl Convergence {
    fn change(&mut self, peer: usize, store: &StoreKey, id: &str, name: &str) {
        self.herd.command(peer, change(store.clone(), id, name));
        self.last.insert((store.clone(), id.to_owned()), Some(name.to_owned()));
    }

    /// An item's project is one of the records of `projects`; whoever edits it works on that project.
    fn with_project(&mut self, peer: usize, store: &StoreKey) {
        let Some(project) = &store.project else { return };
        let projects = StoreKey::herd(SyncType::Projects);
        let held = self.herd.peers[peer].stores().get(&projects, project);
        if held.is_none_or(|record| record.deleted) {
            self.change(peer, &projects, project, "made for an item");
            self.herd.now = self.herd.now + Duration::from_millis(1);
        }
    }
}

impl StateMachineTest for Convergence {
    type SystemUnderTest = Convergence;
    type Reference = Deeds;

    fn init_test(setting: &Setting) -> Convergence {
        let mut herd = Herd::new(vec![PeerConfig::default(); setting.peers]);
        for peer in 0..setting.peers {
            herd.start(peer);
            // Some join at once, some after others have said a few words.
            for pick in setting.picks.iter().take(peer * 3) {
                herd.step(|_| *pick);
            }
            herd.now = herd.now + Duration::from_millis(1);
        }
        Convergence { herd, last: BTreeMap::new(), deeds: 0 }
    }

    fn apply(mut test: Convergence, _: &Setting, deed: Deed) -> Convergence {
        test.deeds += 1;
        test.herd.now = test.herd.now + Duration::from_millis(1);
        match deed {
            Deed::Change { peer, store: kind, id } => {
                let store = store(kind);
                test.with_project(peer, &store);
                let name = format!("by {peer} in {}", test.deeds);
                test.change(peer, &store, &format!("r{id}"), &name);
            }
            Deed::Delete { peer, store: kind, id } => {
                // Items of a deleted project are nobody's business any more (section 8), so projects stay.
                let (store, id) = (store(kind), format!("r{id}"));
                let held = test.herd.peers[peer].stores().get(&store, &id).is_some();
                if store.kind != SyncType::Projects && held {
                    test.herd.command(peer, PeerCommand::Delete { store: store.clone(), id: id.clone() });
                    test.last.insert((store, id), None);
                }
            }
            Deed::Cut { peer } => {
                // An alpha that is lost in the middle of an answer is replaced by nobody (section 4, flow 11).
                test.herd.settle();
                test.herd.cut(peer);
            }
            Deed::Move { picks } => {
                for pick in picks {
                    test.herd.step(|_| pick);
                }
            }
            Deed::Wait => {
                test.herd.settle();
                test.herd.pass(Duration::from_secs(6));
            }
        }
        test
    }

    fn teardown(mut test: Convergence, setting: Setting) {
        let herd = &mut test.herd;
        let mut picks = setting.picks.iter().cycle().copied();
        let mut moved = 0;
        while herd.step(|_| picks.next().unwrap_or(0)) {
            moved += 1;
            assert!(moved < 200_000, "the herd finds no rest");
        }
        herd.pass(Duration::from_secs(6));
        herd.settle();
        let first = herd.holdings(0);
        for peer in 0..setting.peers {
            assert!(herd.peers[peer].id().is_some(), "peer {peer} is there");
            assert_eq!(herd.holdings(peer), first, "peer {peer} holds what peer 0 holds");
        }
        // Everybody knows of everybody, and of nobody else.
        assert_eq!(first.iter().filter(|record| record.starts_with("peers/")).count(), setting.peers);
        let stores = herd.peers[0].stores();
        for ((store, id), name) in &test.last {
            let held = stores.get(store, id).filter(|record| !record.deleted);
            let held = held.and_then(|record| record.data.get("name")).and_then(|name| name.as_str());
            assert_eq!(held, name.as_deref(), "{id} of {store:?} is what was written last");
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_herd_comes_to_hold_what_was_written_last(sequential 1..40 => Convergence);
}
