//! Where a thread really ran while it was watched.

use std::fs;
use std::marker::PhantomData;

use nix::sched::sched_getcpu;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{CpuId, CpuList, Nanos};

use crate::affinity::mask_of_self;

/// Words of the bit set of CPUs seen; CPUs are below 65536, as in strata-units' lists.
const WORDS: usize = 1024;

/// The scheduler's figures of the calling thread (`Documentation/scheduler/sched-debug.rst` of the kernel).
const SCHED: &str = "/proc/thread-self/sched";

/// Watches the thread that it was made on, which it cannot leave.
///
/// ```compile_fail
/// let watch = strata_topology::ThreadWatch::start();
/// std::thread::spawn(move || watch.finish());
/// ```
pub struct ThreadWatch {
    seen: Box<[u64; WORDS]>,
    samples: u64,
    last: Option<usize>,
    changes: u64,
    migrations: Result<u64, String>,
    counts: Counts,
    on_this_thread: PhantomData<*const ()>,
}

/// Where a thread ran and what it used, between the start and the finish of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// The thread's mask when the watch ended; `None` when the kernel does not tell it.
    pub mask: Option<CpuList>,
    /// CPUs that it was seen on.
    pub seen: CpuList,
    /// How often it was looked at, at the start and at the finish too.
    pub samples: u64,
    /// Samples that found it on another CPU than the one before: fewer than its migrations, or as many.
    pub changes: u64,
    /// Migrations that the scheduler counted; `None` when it does not tell.
    pub migrations: Option<u64>,
    /// Why there are no migrations.
    pub migrations_unknown: Option<String>,
    /// Times that it gave the CPU up.
    pub voluntary_switches: u64,
    /// Times that the CPU was taken from it.
    pub involuntary_switches: u64,
    /// CPU time, user and system together (`CLOCK_THREAD_CPUTIME_ID`).
    #[serde(rename = "cpu_time_ns")]
    pub cpu_time: Nanos,
    /// CPU time in user space (getrusage(2), in steps of a microsecond or of a tick).
    #[serde(rename = "user_ns")]
    pub user: Nanos,
    /// CPU time in the kernel.
    #[serde(rename = "system_ns")]
    pub system: Nanos,
}

impl ThreadWatch {
    /// Starts to watch the calling thread; takes the first sample.
    pub fn start() -> ThreadWatch {
        let mut watch = ThreadWatch {
            seen: Box::new([0; WORDS]),
            samples: 0,
            last: None,
            changes: 0,
            migrations: migrations(),
            counts: Counts::read(),
            on_this_thread: PhantomData,
        };
        watch.sample();
        watch
    }

    /// Notes the CPU that the thread is on (sched_getcpu(3), a vDSO call). Allocates nothing.
    pub fn sample(&mut self) {
        let Ok(cpu) = sched_getcpu() else { return };
        self.samples += 1;
        if let Some(word) = self.seen.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
        if self.last.is_some_and(|last| last != cpu) {
            self.changes += 1;
        }
        self.last = Some(cpu);
    }

    /// Takes a last sample and tells what was found.
    pub fn finish(mut self) -> Watched {
        self.sample();
        let counts = Counts::read();
        let migrations = self
            .migrations
            .and_then(|before| Ok(migrations()?.saturating_sub(before)));
        let seen = (0u32..)
            .step_by(64)
            .zip(self.seen.iter())
            .flat_map(|(base, word)| {
                (0..64)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| CpuId(base + bit))
            })
            .collect();
        Watched {
            mask: mask_of_self().ok(),
            seen,
            samples: self.samples,
            changes: self.changes,
            migrations_unknown: migrations.as_ref().err().cloned(),
            migrations: migrations.ok(),
            voluntary_switches: counts.voluntary.saturating_sub(self.counts.voluntary),
            involuntary_switches: counts.involuntary.saturating_sub(self.counts.involuntary),
            cpu_time: counts.cpu_time - self.counts.cpu_time,
            user: counts.user - self.counts.user,
            system: counts.system - self.counts.system,
        }
    }
}

/// `se.nr_migrations`, which kernels without CONFIG_SCHED_DEBUG do not have.
fn migrations() -> Result<u64, String> {
    migrations_of(SCHED)
}

pub(crate) fn migrations_of(path: &str) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "se.nr_migrations").then(|| value.trim().parse().ok())?
        })
        .ok_or_else(|| format!("{path} has no se.nr_migrations"))
}

/// CPU time of the whole process so far, with the threads that the kernel runs on its behalf (io_uring's workers), in and
/// outside the kernel (clock_gettime(2), CLOCK_PROCESS_CPUTIME_ID).
pub fn process_time() -> Nanos {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map(|spent| nanos(spent.tv_sec(), spent.tv_nsec()))
        .unwrap_or_default()
}

/// CPU time of the calling thread so far: outside the kernel, and in it (getrusage(2), RUSAGE_THREAD).
pub fn thread_times() -> (Nanos, Nanos) {
    let counts = Counts::read();
    (counts.user, counts.system)
}

/// Running totals of the calling thread.
#[derive(Default)]
struct Counts {
    voluntary: u64,
    involuntary: u64,
    cpu_time: Nanos,
    user: Nanos,
    system: Nanos,
}

impl Counts {
    fn read() -> Counts {
        // Neither call can fail for the calling thread on a kernel since 2.6.26 (getrusage(2), clock_gettime(2)).
        let usage = getrusage(UsageWho::RUSAGE_THREAD).ok();
        let cpu_time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
            .map(|spent| nanos(spent.tv_sec(), spent.tv_nsec()))
            .unwrap_or_default();
        let count = |of: fn(&Usage) -> nix::libc::c_long| {
            usage
                .as_ref()
                .and_then(|usage| u64::try_from(of(usage)).ok())
                .unwrap_or_default()
        };
        let time = |of: fn(&Usage) -> TimeVal| {
            usage
                .as_ref()
                .map(of)
                .map(|spent| nanos(spent.tv_sec(), spent.tv_usec() * 1000))
                .unwrap_or_default()
        };
        Counts {
            voluntary: count(Usage::voluntary_context_switches),
            involuntary: count(Usage::involuntary_context_switches),
            cpu_time,
            user: time(Usage::user_time),
            system: time(Usage::system_time),
        }
    }
}

fn nanos(seconds: i64, rest: i64) -> Nanos {
    let part = |n: i64| u64::try_from(n).unwrap_or_default();
    Nanos::SECOND * part(seconds) + Nanos(part(rest))
}
