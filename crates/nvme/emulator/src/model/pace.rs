//! When each command completes.

use serde::{Deserialize, Serialize};
use strata_nvme_spec::Kelvin;
use strata_stats::Rng;
use strata_units::{Bytes, Nanos};

use super::error::Place;
use super::latency::{Gauss, Latency, Source, text_or_table};
use super::limit::{Server, Servers, Work, work_of};
use super::quoted::Quoted;
use super::slc::{Cache, Slc};
use super::thermal::{Body, Thermal};
use super::{Access, AccessKind, ModelError};

/// The table `[performance]`; without keys every command completes at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Performance {
    /// What a command of a kind takes that says nothing itself.
    #[serde(deserialize_with = "text_or_table")]
    pub latency: Option<Latency>,
    /// The most commands a second, all kinds together.
    pub iops: Option<u64>,
    /// The most bytes a second, all kinds together.
    pub bytes_per_s: Option<Quoted<Bytes>>,
    /// The most commands whose latency runs at a time, such as a drive's dies; others wait. No bound when not said.
    pub parallel: Option<u32>,
    /// Read.
    pub read: Kind,
    /// Write.
    pub write: Kind,
    /// Flush.
    pub flush: Kind,
    /// All others, Write Zeroes and deallocation too.
    pub other: Kind,
    /// The cache that writes fill.
    pub slc: Option<Slc>,
    /// The heat.
    pub thermal: Option<Thermal>,
}

/// What commands of one kind take, `[performance.read]` and so on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kind {
    /// What each takes; that of `[performance]` when not said.
    #[serde(deserialize_with = "text_or_table")]
    pub latency: Option<Latency>,
    /// The most of them a second; the limit of `[performance]` holds too.
    pub iops: Option<u64>,
    /// The most bytes of them a second; the limit of `[performance]` holds too.
    pub bytes_per_s: Option<Quoted<Bytes>>,
}

/// Commands and bytes a second, where they are limited.
#[derive(Debug, Clone)]
struct Limits {
    per_command: u64,
    per_byte: u64,
    commands: Server,
    bytes: Server,
}

impl Limits {
    fn new(
        iops: Option<u64>,
        bytes_per_s: Option<Quoted<Bytes>>,
        place: &Place,
    ) -> Result<Limits, ModelError> {
        Ok(Limits {
            per_command: work_of(iops, "iops", place)?,
            per_byte: work_of(bytes_per_s.map(|Quoted(b)| b.0), "bytes_per_s", place)?,
            commands: Server::default(),
            bytes: Server::default(),
        })
    }

    fn hold(&self) -> bool {
        self.per_command > 0 || self.per_byte > 0
    }

    /// When a command of `bytes` that came at `now` may complete.
    #[inline]
    fn done(&mut self, now: Nanos, bytes: Work, factor: f64) -> Nanos {
        let mut done = now;
        if self.per_command > 0 {
            done = self
                .commands
                .done(now, stretched(self.per_command.into(), factor));
        }
        if bytes > 0 {
            done = done.max(self.bytes.done(now, stretched(bytes, factor)));
        }
        done
    }
}

#[inline]
fn stretched(work: Work, factor: f64) -> Work {
    if factor == 1.0 {
        work
    } else {
        (work as f64 * factor) as Work
    }
}

/// A kind of commands at work.
#[derive(Debug, Clone)]
struct Lane {
    latency: Option<Source>,
    limits: Limits,
}

/// Writes that the cache does not hold.
#[derive(Debug, Clone)]
struct Slow {
    cache: Cache,
    latency: Option<Source>,
    /// What a byte takes that is not held.
    per_byte: u64,
}

/// Says when commands complete.
///
/// A command that comes at `now` waits until one of `parallel` is free, and then takes its latency; beside that each limit is
/// a server that does one command after the other. It completes when all of them are done, so that a latency and a limit
/// overlap and do not add up.
#[derive(Debug, Clone)]
pub struct Pace {
    instant: bool,
    rng: Rng,
    gauss: Gauss,
    all: Limits,
    /// Read, write, flush, other.
    lanes: [Lane; 4],
    parallel: Option<Servers>,
    slow: Option<Slow>,
    body: Option<Body>,
}

/// The temperature where nothing is said about it: a room's, 25 °C.
const ROOM: Kelvin = Kelvin(298);

impl Pace {
    /// A pace as `performance` says, always the same for a seed and a sequence of commands.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn new(performance: &Performance, seed: u64) -> Result<Pace, ModelError> {
        let p = performance;
        let table = Place::new("[performance]");
        let common = source(p.latency.as_ref(), &table)?;
        let lane = |kind: &Kind, key: &str| -> Result<Lane, ModelError> {
            let place = Place::new(format!("[performance.{key}]"));
            Ok(Lane {
                latency: source(kind.latency.as_ref(), &place)?.or_else(|| common.clone()),
                limits: Limits::new(kind.iops, kind.bytes_per_s, &place)?,
            })
        };
        let lanes = [
            lane(&p.read, "read")?,
            lane(&p.write, "write")?,
            lane(&p.flush, "flush")?,
            lane(&p.other, "other")?,
        ];
        let all = Limits::new(p.iops, p.bytes_per_s, &table)?;
        let waits = lanes.iter().any(|lane| lane.latency.is_some());
        if let Some(parallel) = p.parallel {
            let expected = "1 to 65536, with a latency for them to take";
            let sound = (1..=65_536).contains(&parallel) && waits;
            let next = "give a latency, or leave the key out";
            table.check(sound, "parallel", parallel, expected, next)?;
        }
        let slow = p.slc.as_ref().map(|slc| {
            let place = Place::new("[performance.slc]");
            let fast = lanes[1].limits.per_byte;
            let slow = slc.bytes_per_s.map(|Quoted(b)| b.0);
            Ok(Slow {
                cache: Cache::new(slc, &place)?,
                latency: source(slc.latency.as_ref(), &place)?,
                per_byte: match work_of(slow, "bytes_per_s", &place)? {
                    0 => fast,
                    work => work,
                },
            })
        });
        let body = p
            .thermal
            .as_ref()
            .map(|thermal| Body::new(thermal, &Place::new("[performance.thermal]")));
        let (slow, body) = (slow.transpose()?, body.transpose()?);
        let limited = all.hold() || lanes.iter().any(|lane| lane.limits.hold());
        Ok(Pace {
            instant: !waits && !limited && slow.is_none() && body.is_none(),
            rng: Rng::new(seed),
            gauss: Gauss::new(),
            all,
            lanes,
            parallel: p.parallel.map(Servers::new),
            slow,
            body,
        })
    }

    /// Whether every command completes at once, so that [`due`](Self::due) need not be asked and no clock be read.
    #[inline]
    pub fn is_instant(&self) -> bool {
        self.instant
    }

    /// When a command completes that was fetched at `now`; never before.
    pub fn due(&mut self, now: Nanos, access: &Access) -> Nanos {
        let factor = match &mut self.body {
            Some(body) => body.warm(now, access.bytes),
            None => 1.0,
        };
        let lane = &mut self.lanes[match access.kind {
            AccessKind::Read => 0,
            AccessKind::Write => 1,
            AccessKind::Flush => 2,
            AccessKind::WriteZeroes | AccessKind::Deallocate | AccessKind::Other => 3,
        }];
        let bytes = access.bytes.0;
        let mut latency = &lane.latency;
        let mut work = Work::from(lane.limits.per_byte) * Work::from(bytes);
        let mut slow = match access.kind {
            AccessKind::Write => self.slow.as_mut(),
            _ => None,
        };
        if let Some(slow) = &mut slow {
            let over = slow.cache.overflow(now, bytes);
            if over > 0 {
                work = Work::from(lane.limits.per_byte) * Work::from(bytes - over)
                    + Work::from(slow.per_byte) * Work::from(over);
                if slow.latency.is_some() {
                    latency = &slow.latency;
                }
            }
        }
        let mut due = lane.limits.done(now, work, factor);
        if self.all.hold() {
            let work = Work::from(self.all.per_byte) * Work::from(bytes);
            due = due.max(self.all.done(now, work, factor));
        }
        if let Some(latency) = latency {
            let span = latency.draw(&mut self.rng, &self.gauss) * factor;
            // To the nearest; saturates.
            let span = Nanos((span + 0.5) as u64);
            due = due.max(match &mut self.parallel {
                Some(servers) => servers.done(now, span),
                None => now + span,
            });
        }
        if let Some(slow) = slow {
            slow.cache.busy_until(due);
        }
        due
    }

    /// The temperature at `now`, for the SMART log; 25 °C without a thermal model.
    pub fn temperature(&mut self, now: Nanos) -> Kelvin {
        self.body
            .as_mut()
            .map_or(ROOM, |body| body.temperature(now))
    }

    /// The temperatures from which on the controller is too warm: WCTEMP and CCTEMP of Identify Controller
    /// (Base 5.1.13.2.1). `None` without a thermal model.
    pub fn thresholds(&self) -> Option<(Kelvin, Kelvin)> {
        self.body.as_ref().map(Body::thresholds)
    }

    /// How long it was at or above the warning temperature and below the critical one, and at or above the critical one
    /// (Base 5.1.12.1.3), up to the last command or [`temperature`](Self::temperature).
    pub fn too_warm(&self) -> (Nanos, Nanos) {
        self.body
            .as_ref()
            .map_or((Nanos(0), Nanos(0)), Body::too_warm)
    }
}

fn source(latency: Option<&Latency>, place: &Place) -> Result<Option<Source>, ModelError> {
    latency.map(|l| Source::new(l, place)).transpose()
}
