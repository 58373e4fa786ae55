//! Distributions give what they say.

use proptest::prelude::*;

use super::*;

fn share_at_most(found: &[u64], latency: u64) -> u64 {
    found.partition_point(|at| *at <= latency) as u64
}

const COUNT: u64 = 200_000;

#[test]
fn a_constant_is_itself_at_every_depth() {
    for (depth, count) in [(1, 10_000.0), (32, 320_000.0)] {
        assert_eq!(
            reads_a_second("latency = \"100us\"", depth, Nanos(0)),
            count
        );
    }
    assert_eq!(latencies("latency = \"100us\"", 10), [100_000; 10]);
}

#[test]
fn a_kind_has_its_own_and_others_the_common_one() {
    let mut pace = pace("latency = \"10us\"\nread.latency = \"80us\"\nflush.latency = \"1ms\"");
    for (kind, expected) in [
        (AccessKind::Read, 80_000),
        (AccessKind::Write, 10_000),
        (AccessKind::Flush, 1_000_000),
        (AccessKind::WriteZeroes, 10_000),
        (AccessKind::Deallocate, 10_000),
        (AccessKind::Other, 10_000),
    ] {
        assert_eq!(pace.due(Nanos(5), &access(kind, 0)), Nanos(expected + 5));
    }
}

#[test]
fn uniform_lies_between_its_ends() {
    let found = latencies("latency = { uniform = [\"10us\", \"30us\"] }", COUNT);
    assert!(found[0] >= 10_000 && found[found.len() - 1] <= 30_000);
    for tenth in 1..10 {
        let hits = share_at_most(&found, 10_000 + tenth * 2_000);
        assert!(binomial(hits, COUNT, tenth as f64 / 10.0), "{tenth}");
    }
}

#[test]
fn normal_has_its_quantiles_and_is_never_negative() {
    let found = latencies(
        "latency = { normal = { mean = \"100us\", deviation = \"10us\" } }",
        COUNT,
    );
    // Published quantiles of the standard normal distribution; the last lies within the outermost of 1024 cells.
    for (z, p) in [
        (-3.090_232, 0.001),
        (-1.959_964, 0.025),
        (0.0, 0.5),
        (1.281_552, 0.9),
        (2.326_348, 0.99),
        (3.719_016, 0.999_9),
    ] {
        let hits = share_at_most(&found, (100_000.0 + 10_000.0 * z) as u64);
        assert!(binomial(hits, COUNT, p), "{p}: {hits}");
    }
    let wide = latencies(
        "latency = { normal = { mean = \"10us\", deviation = \"10us\" } }",
        COUNT,
    );
    let zeros = share_at_most(&wide, 0);
    assert!(binomial(zeros, COUNT, 0.158_655), "{zeros}");
}

#[test]
fn lognormal_has_its_median_and_p99() {
    let found = latencies(
        "latency = { lognormal = { median = \"80us\", p99 = \"200us\" } }",
        COUNT,
    );
    // The p99.99 is 80 µs · 2.5^(3.719016 / 2.326348).
    for (latency, p) in [(80_000, 0.5), (200_000, 0.99), (346_133, 0.999_9)] {
        let hits = share_at_most(&found, latency);
        assert!(binomial(hits, COUNT, p), "{latency}: {hits}");
    }
    let constant = latencies(
        "latency = { lognormal = { median = \"80us\", p99 = \"80us\" } }",
        100,
    );
    assert_eq!(constant, [80_000; 100]);
}

#[test]
fn the_tail_has_its_share() {
    let found = latencies(
        "latency = { constant = \"80us\", tail = { share = 0.01, latency = \"5ms\" } }",
        COUNT,
    );
    let slow = COUNT - share_at_most(&found, 80_000);
    assert!(binomial(slow, COUNT, 0.01), "{slow}");
    assert_eq!(found[found.len() - 1], 5_000_000);
}

#[test]
fn a_seed_gives_the_same_again_and_another_does_not() {
    let toml = "latency = { uniform = [\"1us\", \"1ms\"] }";
    let performance: Performance = toml::from_str(toml).expect(toml);
    let of = |seed| -> Vec<Nanos> {
        let mut pace = Pace::new(&performance, seed).expect(toml);
        (0..100).map(|_| pace.due(Nanos(0), &read(1))).collect()
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_table_reproduces_its_quantiles(
        steps in prop::collection::vec((1_u32..1000, 0_u64..1_000_000), 1..8),
        least in 0_u64..100_000,
    ) {
        let total: u32 = steps.iter().map(|step| step.0).sum();
        let (mut weight, mut latency) = (0, least);
        let mut knots = vec![(0.0, least)];
        for (share, more) in steps {
            weight += share;
            latency += more;
            knots.push((f64::from(weight) / f64::from(total), latency));
        }
        let rows: Vec<String> =
            knots.iter().map(|(p, t)| format!("[{p:?}, \"{t}ns\"]")).collect();
        let count = 20_000;
        let found = latencies(&format!("latency = {{ quantiles = [{}] }}", rows.join(", ")), count);
        prop_assert!(found[0] >= least && found[found.len() - 1] <= latency);
        for (p, t) in knots {
            // A nanosecond of rounding, and latencies that are given for several probabilities.
            let below = found.partition_point(|at| *at + 1 < t) as u64;
            let up_to = share_at_most(&found, t + 1);
            // Wide enough for all tables that are tried, run after run.
            let slack = (7.0 * (p * (1.0 - p) * count as f64).sqrt()) as u64 + 1;
            let expected = (p * count as f64) as u64;
            prop_assert!(below <= expected + slack && up_to + slack >= expected, "{p}: {below} to {up_to}");
        }
    }
}
