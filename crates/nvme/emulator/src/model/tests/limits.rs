//! Limits hold, at any depth, and no command completes before it came.

use proptest::prelude::*;
use strata_stats::Rng;

use super::super::HEAD_START;
use super::*;

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found / expected - 1.0).abs() <= tolerance,
        "found {found}, expected {expected}"
    );
}

#[test]
fn nothing_said_is_instant() {
    let mut free = pace("");
    assert!(free.is_instant());
    assert_eq!(free.due(Nanos(17), &read(4096)), Nanos(17));
    assert_eq!(free.temperature(Nanos(17)).celsius(), 25);
    assert_eq!(
        (free.too_warm(), free.thresholds()),
        ((Nanos(0), Nanos(0)), None)
    );
    for toml in [
        "latency = \"1us\"",
        "iops = 1",
        "bytes_per_s = \"1GiB\"",
        "read.latency = \"1us\"",
        "write.iops = 1",
        "other.bytes_per_s = \"1B\"",
        "slc = { bytes = \"1GiB\", latency = \"1ms\" }",
        "thermal = { ambient_celsius = 30, rise_per_kiops = 1, time_constant = \"1s\", warning_celsius = 70, critical_celsius = 80 }",
    ] {
        assert!(!pace(toml).is_instant(), "{toml}");
    }
}

#[test]
fn commands_a_second_are_obeyed_at_every_depth() {
    for iops in [50_000, 333_333, 1_000_000] {
        for depth in [1, 32, 128] {
            for toml in [format!("iops = {iops}"), format!("read.iops = {iops}")] {
                near(
                    reads_a_second(&toml, depth, Nanos(0)),
                    f64::from(iops),
                    0.000_1,
                );
            }
        }
    }
    // With a latency beside it: they overlap, and the depth may be what limits.
    let both = "iops = 50_000\nlatency = { uniform = [\"50us\", \"150us\"] }";
    near(reads_a_second(both, 32, Nanos(0)), 50_000.0, 0.01);
    near(reads_a_second(both, 128, Nanos(0)), 50_000.0, 0.01);
    near(reads_a_second(both, 1, Nanos(0)), 10_000.0, 0.01);
}

#[test]
fn no_completion_is_a_nanosecond_early() {
    let mut pace = pace("iops = 3");
    let due: Vec<u64> = (0..3).map(|_| pace.due(Nanos(0), &read(512)).0).collect();
    assert_eq!(due, [333_333_334, 666_666_667, SECOND]);
}

#[test]
fn a_hosts_turnaround_does_not_lower_the_rate() {
    near(
        reads_a_second("iops = 50_000", 1, Nanos(2_000)),
        50_000.0,
        0.000_1,
    );
    // As long as it is within the head start.
    near(
        reads_a_second("iops = 50_000", 1, Nanos(20_000)),
        1e9 / 30_000.0,
        0.000_1,
    );
}

#[test]
fn bytes_a_second_are_obeyed_at_every_depth() {
    for toml in [
        "bytes_per_s = \"1GiB\"",
        "read.bytes_per_s = \"1GiB\"",
        "bytes_per_s = \"1GiB\"\nread.latency = \"20us\"",
    ] {
        for depth in [1, 32, 128] {
            let (mut rng, mut bytes) = (Rng::new(3), 0);
            closed_loop(
                &mut pace(toml),
                depth,
                Nanos(0),
                || read((rng.below(256) + 64) * 4096),
                |done| bytes += done.bytes.0,
            );
            // What is under way at the end of the second is not counted: at most a command.
            near(bytes as f64, (1_u64 << 30) as f64, 0.002);
        }
    }
}

#[test]
fn a_kinds_limit_holds_within_the_common_one() {
    let mut pace = pace("iops = 100_000\nwrite.iops = 20_000");
    let (mut turn, mut reads, mut writes) = (0_u32, 0_u32, 0_u32);
    closed_loop(
        &mut pace,
        64,
        Nanos(0),
        || {
            turn += 1;
            if turn.is_multiple_of(2) {
                read(4096)
            } else {
                write(4096)
            }
        },
        |done| {
            if done.kind == AccessKind::Read {
                reads += 1;
            } else {
                writes += 1;
            }
        },
    );
    near(f64::from(writes), 20_000.0, 0.001);
    assert!(f64::from(reads + writes) < 100_001.0 && reads >= writes);
}

#[test]
fn only_so_many_are_served_at_a_time() {
    let toml = "latency = \"100us\"\nparallel = 4";
    for (depth, expected) in [(1, 10_000.0), (4, 40_000.0), (32, 40_000.0)] {
        assert_eq!(reads_a_second(toml, depth, Nanos(0)), expected);
    }
    let mut pace = pace(toml);
    let due: Vec<u64> = (0..9)
        .map(|_| pace.due(Nanos(0), &read(512)).0 / 1000)
        .collect();
    assert_eq!(due, [100, 100, 100, 100, 200, 200, 200, 200, 300]);
}

proptest! {
    #[test]
    fn no_burst_exceeds_the_head_start(
        iops in 1_000_u64..10_000_000,
        gaps in prop::collection::vec(0_u64..100_000, 2..200),
    ) {
        let mut pace = pace(&format!("iops = {iops}"));
        let mut now = 0;
        let mut due = Vec::new();
        for gap in gaps {
            now += gap;
            due.push(pace.due(Nanos(now), &read(512)));
        }
        for (first, begin) in due.iter().enumerate() {
            for (last, end) in due.iter().enumerate().skip(first + 1) {
                let span = (*end - *begin + HEAD_START).as_secs_f64();
                prop_assert!((last - first) as f64 <= span * iops as f64 + 1.0, "{first} to {last}");
            }
        }
    }

    #[test]
    fn a_lower_limit_never_completes_earlier(
        low in 1_u64..1_000_000,
        more in 0_u64..1_000_000,
        commands in prop::collection::vec((0_u64..50_000, 0_u64..1_000_000), 1..100),
    ) {
        for (before, after) in [("iops = ", ""), ("write.iops = ", ""), ("write.bytes_per_s = \"", "B\"")] {
            let with = |rate: u64| pace(&format!("{before}{rate}{after}"));
            let (mut slower, mut faster, mut now) = (with(low), with(low + more), 0);
            for (gap, bytes) in &commands {
                now += gap;
                let at = Nanos(now);
                prop_assert!(slower.due(at, &write(*bytes)) >= faster.due(at, &write(*bytes)));
            }
        }
    }

    #[test]
    fn nothing_completes_before_it_came_and_nothing_overflows(
        shape in prop::sample::select(vec![
            "latency = { normal = { mean = \"1us\", deviation = \"10us\" } }",
            "latency = { lognormal = { median = \"1us\", p99 = \"5000h\" } }\nparallel = 3",
            "iops = 1\nbytes_per_s = \"1B\"\nlatency = \"2000000h\"",
            "slc = { bytes = \"1MiB\", bytes_per_s = \"1B\", drain_bytes_per_s = \"1024TiB\" }",
            "iops = 7\n[thermal]\nambient_celsius = 0\nrise_per_gb_per_s = 1e6\nrise_per_kiops = 1e6\n\
             time_constant = \"1ms\"\nwarning_celsius = 1\ncritical_celsius = 2\n\
             throttle = [{ from_celsius = 3, until_celsius = 1, factor = 1e6 }]",
        ]),
        commands in prop::collection::vec(
            (prop_oneof![0_u64..10_000_000_000, any::<u64>()], prop_oneof![0_u64..10_000, any::<u64>()], any::<bool>()),
            1..50,
        ),
    ) {
        let mut pace = pace(shape);
        for (now, bytes, writes) in commands {
            let command = if writes { write(bytes) } else { read(bytes) };
            prop_assert!(pace.due(Nanos(now), &command) >= Nanos(now));
            pace.temperature(Nanos(now));
        }
    }
}
