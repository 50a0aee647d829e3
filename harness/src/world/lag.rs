//! Watches how late this machine runs: a timing judged while everything stood still decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A machine on which programs waited for a processor for more than this part of the time is busy.
const BUSY: f64 = 0.5;

/// Measures whether this machine is busy, as far as it tells: then a target that starves looks like a slow one.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    began: Instant,
    waited: Option<Duration>,
}

impl Pressure {
    /// Begins to measure.
    pub fn begin() -> Pressure {
        Pressure { began: Instant::now(), waited: waited() }
    }

    /// True when the machine was busy since the beginning.
    pub fn was_busy(&self) -> bool {
        let waiting = self.waited.zip(waited()).map(|(before, now)| now.saturating_sub(before));
        waiting.is_some_and(|waiting| waiting > self.began.elapsed().mul_f64(BUSY))
    }
}

/// How long some program had to wait for a processor, since the machine was started. Linux tells.
fn waited() -> Option<Duration> {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let total = pressure.lines().find(|line| line.starts_with("some"))?.split("total=").nth(1)?;
    total.trim().parse().ok().map(Duration::from_micros)
}

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
