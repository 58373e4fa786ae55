//! A cache of fast flash that writes fill up.

use serde::{Deserialize, Serialize};
use strata_units::{Bytes, Nanos};

use super::error::{ModelError, Place};
use super::latency::{Latency, text_or_table};
use super::quoted::Quoted;

/// The table `[performance.slc]`: so many bytes are written as fast as `[performance.write]` says, what comes after them as
/// this table says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slc {
    /// How many bytes it holds.
    pub bytes: Quoted<Bytes>,
    /// How fast bytes are written that it does not hold; as fast as the others when not said.
    pub bytes_per_s: Option<Quoted<Bytes>>,
    /// What a write takes of which it does not hold every byte; what others take when not said.
    #[serde(default, deserialize_with = "text_or_table")]
    pub latency: Option<Latency>,
    /// How fast it is emptied while no write is under way; never when not said.
    pub drain_bytes_per_s: Option<Quoted<Bytes>>,
}

/// The cache at work.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    holds: u64,
    used: u64,
    drain_per_ns: f64,
    /// Of the byte that was being emptied.
    part: f64,
    /// When the last write is done.
    idle_from: Nanos,
}

impl Cache {
    pub(super) fn new(slc: &Slc, place: &Place) -> Result<Cache, ModelError> {
        place.check(
            slc.bytes_per_s.is_some() || slc.latency.is_some(),
            "bytes_per_s",
            "neither it nor latency",
            "one of them",
            "say how writes slow down when the cache is full",
        )?;
        let drain = slc.drain_bytes_per_s.map_or(0, |Quoted(rate)| rate.0);
        Ok(Cache {
            holds: slc.bytes.0.0,
            used: 0,
            drain_per_ns: drain as f64 / 1e9,
            part: 0.0,
            idle_from: Nanos(0),
        })
    }

    /// Takes a write of `bytes`: how many of them it does not hold.
    #[inline]
    pub(super) fn overflow(&mut self, now: Nanos, bytes: u64) -> u64 {
        if self.drain_per_ns > 0.0 && now > self.idle_from {
            self.part += (now - self.idle_from).0 as f64 * self.drain_per_ns;
            // Saturates, as the subtraction does.
            let whole = self.part as u64;
            self.part -= whole as f64;
            self.used = self.used.saturating_sub(whole);
            self.idle_from = now;
        }
        let held = bytes.min(self.holds - self.used);
        self.used += held;
        bytes - held
    }

    /// The write just taken is done at `due`.
    #[inline]
    pub(super) fn busy_until(&mut self, due: Nanos) {
        self.idle_from = self.idle_from.max(due);
    }
}
