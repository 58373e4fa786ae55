//! Nanoseconds an operation that does nothing (IORING_OP_NOP) through io_uring: the loop with the engine of the block layer,
//! every operation timed, against the least loop that submits the same batches by hand and times nothing.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use io_uring::{IoUring, opcode};
use strata_units::QueueDepth;

/// Submits `ops` operations in batches of `depth`, one system call a part of four as the engine does, and takes their
/// completions.
fn by_hand(depth: u32, ops: u64) -> Duration {
    const PART: usize = 4;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(depth)
        .expect("a ring");
    let begun = Instant::now();
    let mut done = 0;
    while done < ops {
        let batch = u64::from(depth).min(ops - done) as usize;
        for n in 0..batch as u64 {
            let entry = opcode::Nop::new().build().user_data(n);
            // SAFETY: the operation has no buffer and no file.
            unsafe { ring.submission().push(&entry) }.expect("room for a batch");
        }
        let mut left = batch;
        while left > PART {
            // SAFETY: there is no argument.
            let sent = unsafe {
                ring.submitter()
                    .enter::<()>(PART as u32, 0, 0, None)
                    .expect("submitted")
            };
            left -= sent;
        }
        ring.submit_and_wait(batch).expect("submitted");
        for entry in ring.completion() {
            assert_eq!(entry.result(), 0, "an operation that does nothing");
            done += 1;
        }
    }
    begun.elapsed()
}

fn rings(c: &mut Criterion) {
    let mut group = c.benchmark_group("io_uring, an operation that does nothing");
    group.throughput(Throughput::Elements(1)).sample_size(30);
    for depth in [1, 32] {
        let at = QueueDepth::new(depth).expect("a depth");
        if let Err(why) = strata_benches::nops(at, 1) {
            println!("SKIP rings: {why}");
            return;
        }
        group.bench_function(BenchmarkId::new("the engine", depth), |b| {
            b.iter_custom(|ops| {
                let tally = strata_benches::nops(at, ops).expect("a ring");
                Duration::from_nanos(tally.window().0)
            });
        });
        group.bench_function(BenchmarkId::new("by hand", depth), |b| {
            b.iter_custom(|ops| by_hand(depth as u32, ops));
        });
    }
    group.finish();
}

criterion_group!(benches, rings);
criterion_main!(benches);
