//! The limits that polled NVMe over shared memory is held against: a bare ring between two cores, and a bare copy.
//!
//! The ring has entries of 64 bytes one way and of 16 the other, a phase tag, one doorbell a batch, every latency recorded by
//! one clock reading a completion; no protocol and no data. Whatever a driver and a controller do more, they pay here.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use strata_measure::{Clock, Tick};
use strata_stats::Rng;
use strata_topology::pin_current_thread;
use strata_units::{Bytes, CpuId, Nanos};

const ENTRIES: usize = 1024;

/// What lies on a cache line of its own.
#[repr(align(128))]
struct Apart<T>(T);

#[repr(align(64))]
struct Command([AtomicU64; 8]);

#[repr(align(16))]
struct Completion([AtomicU64; 2]);

/// Completions carry their phase here.
const PHASE: u64 = 1 << 48;

struct Ring {
    commands: Box<[Command]>,
    completions: Box<[Completion]>,
    bell: Apart<AtomicU32>,
    stop: Apart<AtomicBool>,
}

impl Ring {
    fn new() -> Ring {
        Ring {
            commands: (0..ENTRIES).map(|_| Command(Default::default())).collect(),
            completions: (0..ENTRIES)
                .map(|_| Completion(Default::default()))
                .collect(),
            bell: Apart(AtomicU32::new(0)),
            stop: Apart(AtomicBool::new(false)),
        }
    }

    /// The other side: each command is completed as soon as it is seen.
    fn answer(&self) {
        let (mut head, mut phase) = (0, PHASE);
        while !self.stop.0.load(Ordering::Relaxed) {
            let told = self.bell.0.load(Ordering::Acquire) as usize;
            while head != told {
                let id = self.commands[head].0[0].load(Ordering::Relaxed) >> 16 & 0xffff;
                let completion = &self.completions[head].0;
                completion[0].store(0, Ordering::Relaxed);
                completion[1].store(phase | id << 32, Ordering::Release);
                head += 1;
                if head == ENTRIES {
                    head = 0;
                    phase ^= PHASE;
                }
            }
        }
    }

    /// Round trips a second at `depth`, over `span`.
    fn ask(&self, depth: u16, span: Nanos) -> f64 {
        let clock = Clock::get();
        let mut counts = vec![0u32; 1 << 16];
        let mut starts = [Tick::NEVER; ENTRIES];
        let mut free: Vec<u16> = (0..depth).collect();
        let (mut tail, mut head, mut phase, mut done, mut look) = (0, 0, PHASE, 0u64, 1 << 16);
        let most = usize::from(depth / 2).max(1);
        let begun = Instant::now();
        let mut last = clock.now();
        loop {
            let any = !free.is_empty();
            for id in &free {
                starts[usize::from(*id)] = last;
            }
            // In one run: a store to a line of the other CPU's is waited for by those behind it.
            for id in free.drain(..) {
                let entry = &self.commands[tail].0;
                entry[0].store(u64::from(id) << 16 | 2, Ordering::Relaxed);
                for (n, word) in entry.iter().enumerate().skip(1) {
                    word.store(n as u64, Ordering::Relaxed);
                }
                tail = (tail + 1) % ENTRIES;
            }
            if any {
                self.bell.0.store(tail as u32, Ordering::Release);
            }
            // Half at a time, so that the other side has work meanwhile.
            while free.len() < most {
                let word = self.completions[head].0[1].load(Ordering::Acquire);
                if word & PHASE != phase {
                    break;
                }
                let id = (word >> 32) as u16;
                last = clock.now();
                let took = clock.between(starts[usize::from(id)], last).0;
                counts[(took >> 4).min(0xffff) as usize] += 1;
                free.push(id);
                done += 1;
                head += 1;
                if head == ENTRIES {
                    head = 0;
                    phase ^= PHASE;
                }
            }
            if done >= look {
                look = done + (1 << 16);
                if begun.elapsed() > span.as_duration() {
                    black_box(&counts);
                    return done as f64 / begun.elapsed().as_secs_f64();
                }
            }
        }
    }
}

/// Round trips a second between two CPUs at `depth`, every latency recorded.
///
/// # Errors
/// In words, when a thread cannot be pinned.
pub fn ring(depth: u16, span: Nanos, near: CpuId, far: CpuId) -> Result<f64, String> {
    let ring = Ring::new();
    thread::scope(|scope| {
        let other = scope.spawn(|| on(far, || ring.answer()));
        let asked = scope.spawn(|| on(near, || ring.ask(depth, span)));
        let rate = asked.join().map_err(|_| "the ring panicked")?;
        ring.stop.0.store(true, Ordering::Relaxed);
        other.join().map_err(|_| "the ring panicked")??;
        rate
    })
}

/// Copies a second of `block` bytes from random places of `all` bytes into `depth` buffers in turn, on one CPU.
///
/// # Errors
/// In words, when the thread cannot be pinned.
pub fn copy(
    block: Bytes,
    all: Bytes,
    depth: u16,
    span: Nanos,
    on_cpu: CpuId,
) -> Result<f64, String> {
    let len = block.as_usize();
    let copies = || {
        let from = vec![1u8; all.as_usize()];
        let mut to = vec![0u8; len * usize::from(depth)];
        let mut random = Rng::new(1);
        let begun = Instant::now();
        let mut done = 0u64;
        loop {
            for buffer in to.chunks_exact_mut(len) {
                let at = random.below(all.0 / block.0) as usize * len;
                buffer.copy_from_slice(&from[at..at + len]);
            }
            black_box(&mut to);
            done += u64::from(depth);
            if begun.elapsed() > span.as_duration() {
                return done as f64 / begun.elapsed().as_secs_f64();
            }
        }
    };
    thread::scope(|scope| {
        let copied = scope.spawn(|| on(on_cpu, copies));
        copied.join().map_err(|_| "the copy panicked")?
    })
}

fn on<T>(cpu: CpuId, work: impl FnOnce() -> T) -> Result<T, String> {
    pin_current_thread(&vec![cpu].into()).map_err(|e| e.to_string())?;
    Ok(work())
}
