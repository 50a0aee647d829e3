//! Watches how late this machine runs: a timing judged while everything stood still decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the clock is looked at.
const BEAT: Duration = Duration::from_millis(20);

/// The worst delay of the machine, as milliseconds, with a counter per reader.
#[derive(Clone, Debug, Default)]
pub struct LagMeter {
    beats: Arc<Beats>,
}

#[derive(Debug)]
struct Beats {
    /// When the last delay over a beat ended, in milliseconds since the meter began, and how long it was: packed so
    /// that both change together.
    worst: [AtomicU64; SLOTS],
}

impl Default for Beats {
    fn default() -> Self {
        Beats { worst: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// Seconds that are remembered one by one.
const SLOTS: usize = 128;

impl LagMeter {
    /// Beats until the runtime ends.
    pub async fn beat(self, began: Instant) {
        let mut expected = Instant::now() + BEAT;
        loop {
            tokio::time::sleep_until(expected.into()).await;
            let now = Instant::now();
            self.note(now.duration_since(began), now.saturating_duration_since(expected));
            expected = now + BEAT;
        }
    }

    fn note(&self, at: Duration, late: Duration) {
        let second = at.as_secs();
        let slot = &self.beats.worst[second as usize % SLOTS];
        let packed =
            (second << 32) | u64::try_from(late.as_millis()).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        let known = slot.load(Ordering::Relaxed);
        if known >> 32 != second || known < packed {
            slot.store(packed, Ordering::Relaxed);
        }
    }

    /// The worst delay between two moments, as far as it is remembered.
    pub fn worst(&self, from: Duration, to: Duration) -> Duration {
        let (from, to) = (from.as_secs(), to.as_secs());
        let from = from.max(to.saturating_sub(SLOTS as u64 - 1));
        (from..=to)
            .filter_map(|second| {
                let packed = self.beats.worst[second as usize % SLOTS].load(Ordering::Relaxed);
                (packed >> 32 == second).then_some(packed & u64::from(u32::MAX))
            })
            .max()
            .map_or(Duration::ZERO, Duration::from_millis)
    }
}
