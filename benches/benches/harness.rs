//! Nanoseconds an operation of the loop, by one clock reading an operation and by one a reaped batch.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strata_measure::Clock;
use strata_record::TimedBy;

fn harness(c: &mut Criterion) {
    let mut group = c.benchmark_group("harness, depth 32, an operation");
    group.throughput(Throughput::Elements(1)).sample_size(30);
    for (name, timed_by) in [
        ("timed by operation", TimedBy::Operation),
        ("timed by batch", TimedBy::Batch),
    ] {
        // Criterion's iteration is one operation; the loop's own clock times the window, without set-up.
        group.bench_function(name, |b| {
            b.iter_custom(|ops| {
                Duration::from_nanos(strata_benches::harness(timed_by, ops).window().0)
            });
        });
    }
    group.finish();
    let clock = Clock::get();
    c.bench_function("one clock reading", |b| b.iter(|| clock.now()));
}

criterion_group!(benches, harness);
criterion_main!(benches);
