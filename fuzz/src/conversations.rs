//! Whole conversations: bytes choose a flow and changes to it; all roles talk, and monitors, schemas and bystanders
//! judge.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use flowproof::fuzz::case::{Case, UNNAMED};
use flowproof::fuzz::depart::Pace;
use flowproof::fuzz::identity::findings;
use flowproof::fuzz::kind::Kinds;
use flowproof::fuzz::mutate::{LONGEST, Mutator};
use flowproof::fuzz::play::Stage;
use flowproof::fuzz::pool::Pool;
use flowproof::judge::catalogue::Level;
use flowproof::runner::plan::RunSettings;

use super::protocol;

/// Everything that conversations of one role are made from.
pub struct Ground {
    stage: Stage,
    pool: Pool,
    kinds: Kinds,
}

impl Ground {
    fn of(name: &str, role: &str, pace: Pace) -> Ground {
        let protocol = protocol(name);
        let settings = RunSettings::in_memory(&protocol, &protocol.settings.default_edition, 1);
        let pool = Pool::of(&protocol, role, &settings, pace);
        let kinds = Kinds::of(&protocol);
        Ground { stage: Stage { protocol, role: role.to_owned(), settings }, pool, kinds }
    }
}

/// The ground of a role, prepared once.
fn ground(name: &str, role: &str) -> Arc<Ground> {
    type Grounds = BTreeMap<(String, String), Arc<Ground>>;
    static KNOWN: OnceLock<Mutex<Grounds>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let entry = known.entry((name.to_owned(), role.to_owned()));
    Arc::clone(entry.or_insert_with(|| Arc::new(Ground::of(name, role, Pace::VIRTUAL))))
}

/// The conversation that bytes stand for: two bytes choose the flow, every four after them one change. Bytes that are
/// changed a little change the conversation a little.
fn case(ground: &Ground, data: &[u8]) -> Option<Case> {
    let (choice, changes) = data.split_at_checked(2)?;
    let choice = usize::from(u16::from_le_bytes([choice[0], choice[1]]));
    let mut case = ground.pool.sequences.get(choice % ground.pool.sequences.len().max(1))?.clone();
    for change in changes.chunks(4).take(8) {
        let mut seed = [0; 8];
        seed[..change.len()].copy_from_slice(change);
        let rng = fastrand::Rng::with_seed(u64::from_le_bytes(seed));
        let stage = &ground.stage;
        let mut mutator = Mutator { protocol: &stage.protocol, role: &stage.role, pool: &ground.pool, rng };
        mutator.change(&mut case);
        case.flow.steps.truncate(LONGEST);
    }
    Some(case)
}

/// A conversation with the built-in reference, which must not be accused of anything that MUST not be.
pub fn converse(name: &str, role: &str, data: &[u8]) {
    let ground = ground(name, role);
    let Some(case) = case(&ground, data) else { return };
    let file = Arc::new(case.unwritten(UNNAMED));
    // What cannot be played says nothing.
    let Ok(result) = ground.stage.in_memory(&file, None, &AtomicBool::new(false)) else { return };
    let catalogue = &ground.stage.protocol.catalogue;
    for (identity, finding) in findings(&result, &ground.kinds) {
        assert!(
            catalogue.level(&identity.rule) != Level::Must,
            "{identity}: {}\n{}\n{}",
            finding.message,
            case.text(&[]),
            result.transcript
        );
    }
}

/// A conversation with the server that the environment names: FLOWPROOF_PROTOCOL and FLOWPROOF_TARGET, a `ws://` or
/// `tcp://` address of numbers. Without them nothing is done.
pub fn live(data: &[u8]) {
    static GROUND: OnceLock<Option<(Ground, std::net::SocketAddr)>> = OnceLock::new();
    let ground = GROUND.get_or_init(|| {
        let name = std::env::var("FLOWPROOF_PROTOCOL").ok()?;
        let target = std::env::var("FLOWPROOF_TARGET").ok()?;
        let authority = target.split("://").nth(1)?.split('/').next()?.to_owned();
        let address = authority.parse().expect("FLOWPROOF_TARGET is an address such as ws://127.0.0.1:13372");
        let listening =
            protocol(&name).settings.roles.iter().find(|role| role.listens).map(|role| role.name.clone());
        let mut ground = Ground::of(&name, &listening?, Pace::REAL);
        ground.stage.settings.host = authority;
        ground.stage.settings.slack = std::time::Duration::from_secs(2);
        ground.stage.settings.exclusive = false;
        Some((ground, address))
    });
    let Some((ground, address)) = ground else { return };
    let Some(case) = case(ground, data) else { return };
    let place = flowproof::world::network::Place::Listens { address: *address, tls: None, program: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let file = Arc::new(case.unwritten(UNNAMED));
    let stop = Arc::new(AtomicBool::new(false));
    let played = runtime.block_on(ground.stage.over_network(file, place, Instant::now(), stop));
    let Ok(result) = played else { return };
    assert!(result.reason.is_none(), "{}\n{}", result.reason.unwrap_or_default(), case.text(&[]));
    if let Some((identity, finding)) = findings(&result, &ground.kinds).into_iter().next() {
        panic!("{identity}: {}\n{}\n{}", finding.message, case.text(&[]), result.transcript);
    }
}
