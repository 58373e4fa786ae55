//! What tells the time in the loop: the time-stamp counter where it is invariant, else the kernel's clock.
//!
//! The counter is calibrated against CLOCK_MONOTONIC_RAW once a process, and the calibration's error is published with
//! every record. Its reading is not serialising: it may move by some instructions, which is far below what a
//! completion's arrival is known to.

use std::sync::OnceLock;
use std::time::Duration;

use strata_record::{ClockProof, ClockSource};
use strata_units::Nanos;

/// A moment, in the clock's own ticks. Only moments of one process compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// Before every moment.
    pub(crate) const FIRST: Tick = Tick(0);

    /// Later than every moment that will come.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// Ticks from `earlier` to here; zero when it is not earlier.
    #[inline(always)]
    pub(crate) fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Ticks become nanoseconds by one multiplication: `(ticks × mult) >> SHIFT`.
const SHIFT: u32 = 32;

/// The clock of the loop. A copy is as good as the original.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    tsc: bool,
    mult: u64,
    hertz: f64,
    error_ppm: f64,
}

impl Clock {
    /// The process's clock, calibrated at the first call (which sleeps for 60 ms).
    pub fn get() -> Clock {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        *CLOCK.get_or_init(|| {
            if tsc_is_invariant() {
                Self::calibrated()
            } else {
                Self::kernel()
            }
        })
    }

    /// The kernel's clock, one tick a nanosecond.
    fn kernel() -> Clock {
        Clock {
            tsc: false,
            mult: 1 << SHIFT,
            hertz: 1e9,
            error_ppm: 0.0,
        }
    }

    /// The counter's rate from two bracketed readings 60 ms apart; the brackets' widths bound its error.
    fn calibrated() -> Clock {
        let (tick0, nanos0, width0) = bracketed();
        std::thread::sleep(Duration::from_millis(60));
        let (tick1, nanos1, width1) = bracketed();
        let span = (nanos1 - nanos0) as f64;
        let hertz = (tick1 - tick0) as f64 * 1e9 / span;
        if !(1e6..1e11).contains(&hertz) {
            return Self::kernel();
        }
        Clock {
            tsc: true,
            mult: ((1u64 << SHIFT) as f64 * 1e9 / hertz).round() as u64,
            hertz,
            error_ppm: (width0 + width1) as f64 / 2.0 / span * 1e6,
        }
    }

    /// Now.
    #[inline(always)]
    pub fn now(self) -> Tick {
        Tick(if self.tsc {
            read_tsc()
        } else {
            monotonic_raw()
        })
    }

    /// From `earlier` to `later`; zero when they are the other way round.
    #[inline(always)]
    pub fn between(self, earlier: Tick, later: Tick) -> Nanos {
        Nanos(self.nanos(later.since(earlier)))
    }

    /// A number of ticks in nanoseconds.
    #[inline(always)]
    pub(crate) fn nanos(self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.mult)) >> SHIFT) as u64
    }

    /// The moment `span` after `tick`; [`Tick::NEVER`] when that is beyond the clock.
    pub fn after(self, tick: Tick, span: Nanos) -> Tick {
        let ticks = (span.0 as f64 * self.hertz / 1e9).round();
        if ticks >= (u64::MAX - tick.0) as f64 {
            return Tick::NEVER;
        }
        Tick(tick.0 + ticks as u64)
    }

    /// Source, rate, error of calibration, and what one reading costs (the median of a few hundred groups of 16).
    pub fn proof(self) -> ClockProof {
        static READ_NS: OnceLock<f64> = OnceLock::new();
        let read_ns = *READ_NS.get_or_init(|| {
            let mut groups: Vec<u64> = (0..301)
                .map(|_| {
                    let begun = self.now();
                    for _ in 0..15 {
                        std::hint::black_box(self.now());
                    }
                    self.now().since(begun)
                })
                .collect();
            groups.sort_unstable();
            groups[150] as f64 / 16.0 / self.hertz * 1e9
        });
        ClockProof {
            source: if self.tsc {
                ClockSource::Tsc
            } else {
                ClockSource::MonotonicRaw
            },
            hertz: self.hertz,
            error_ppm: self.error_ppm,
            read_ns,
        }
    }
}

/// The narrowest of some pairs of readings: tick, nanoseconds in the middle of it, and its width in nanoseconds.
fn bracketed() -> (u64, u64, u64) {
    (0..64)
        .map(|_| {
            let before = monotonic_raw();
            let tick = read_tsc();
            let after = monotonic_raw();
            (tick, before + (after - before) / 2, after - before)
        })
        .min_by_key(|(_, _, width)| *width)
        .unwrap_or((0, 0, u64::MAX))
}

/// CLOCK_MONOTONIC_RAW in nanoseconds (clock_gettime(2)): not slewed by NTP, as the counter is not.
fn monotonic_raw() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec to write; the call has no other effect and cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn read_tsc() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC; it reads a register. (Where the kernel forbids it by CR4.TSD or
    // prctl(PR_SET_TSC), `tsc_is_invariant` is not asked to know: that is a SIGSEGV of the user's own making.)
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn read_tsc() -> u64 {
    monotonic_raw()
}

/// Whether the counter runs at one rate in all power states (CPUID 8000_0007h EDX bit 8, Intel SDM 3 §19.17.1; AMD APM 3
/// appendix E) and the kernel, which watches it, has not given it up (`current_clocksource`, or a paravirtual clock,
/// which is computed from the counter).
#[cfg(target_arch = "x86_64")]
fn tsc_is_invariant() -> bool {
    #[allow(unused_unsafe, reason = "safe from Rust 1.94 on")]
    // SAFETY: CPUID exists on every x86-64 processor.
    let invariant = unsafe {
        use core::arch::x86_64::__cpuid;
        __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
    };
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let trusted = std::fs::read_to_string(source).map_or(true, |s| {
        matches!(
            s.trim(),
            "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "xen"
        )
    });
    invariant && trusted
}

#[cfg(not(target_arch = "x86_64"))]
fn tsc_is_invariant() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn both_clocks_agree_with_the_system() {
        for clock in [Clock::get(), Clock::kernel()] {
            let (begun, tick) = (Instant::now(), clock.now());
            std::thread::sleep(Duration::from_millis(30));
            let (ours, theirs) = (clock.between(tick, clock.now()), begun.elapsed());
            // The two readings are not at one moment; a busy machine may part them by milliseconds.
            let apart = (ours.as_secs_f64() - theirs.as_secs_f64()).abs();
            assert!(apart < 0.02, "{ours} against {theirs:?}");
        }
    }

    #[test]
    fn ticks_and_spans_go_both_ways() {
        let clock = Clock::get();
        let now = clock.now();
        for span in [1_000u64, 1_000_000, 3_600_000_000_000] {
            let back = clock.between(now, clock.after(now, Nanos(span))).0;
            assert!(
                back.abs_diff(span) <= 1 + span / 1_000_000,
                "{span} came back as {back}"
            );
        }
        assert_eq!(clock.between(clock.after(now, Nanos(5000)), now), Nanos(0));
        assert_eq!(clock.after(now, Nanos(u64::MAX)), Tick::NEVER);
    }

    #[test]
    fn the_calibration_says_its_error() {
        let proof = Clock::get().proof();
        assert!(
            proof.error_ppm >= 0.0 && proof.error_ppm < 1000.0,
            "{proof:?}"
        );
        assert!(proof.read_ns > 0.0 && proof.hertz >= 1e6, "{proof:?}");
    }
}
