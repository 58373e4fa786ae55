//! What a loop counted, and how it becomes the figure of a record.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use strata_record::{
    Completes, Latency, Measured, Open, Percentiles, Polling, Series, Stationarity,
};
use strata_units::{Bytes, Nanos};

use crate::FailCode;
use crate::times::Times;

/// How many kinds of failure are told apart.
const KINDS: usize = 8;

/// Failed operations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) count: u64,
    pub(crate) kinds: [Option<(FailCode, u64)>; KINDS],
}

impl Faults {
    #[cold]
    pub(crate) fn add(&mut self, code: FailCode, times: u64) {
        self.count += times;
        for kind in &mut self.kinds {
            match kind {
                Some((known, n)) if *known == code => *n += times,
                Some(_) => continue,
                None => *kind = Some((code, times)),
            }
            return;
        }
    }
}

/// Counts in equal intervals; when there are too many, neighbours are joined and the interval doubles, so that it takes a
/// bounded amount of memory and nothing is allocated.
#[derive(Debug, Clone)]
pub(crate) struct Intervals {
    pub(crate) length: Nanos,
    pub(crate) counts: Vec<u64>,
    /// Whether the last count is half of a joined interval.
    half: bool,
    /// How many edges of the first length make an interval now.
    edges: u64,
    edge: u64,
}

impl Intervals {
    const MOST: usize = 256;

    pub(crate) fn new(length: Nanos) -> Intervals {
        Intervals {
            length,
            counts: Vec::with_capacity(Self::MOST),
            half: false,
            edges: 1,
            edge: 0,
        }
    }

    /// Closes one interval of the first length, in which `count` were seen.
    pub(crate) fn push(&mut self, count: u64) {
        if self.half {
            if let Some(last) = self.counts.last_mut() {
                *last += count;
            }
        } else {
            if self.counts.len() == Self::MOST {
                self.join();
            }
            self.counts.push(count);
        }
        self.edge = (self.edge + 1) % self.edges;
        self.half = self.edge != 0;
    }

    fn join(&mut self) {
        let half = self.counts.len() / 2;
        for i in 0..half {
            self.counts[i] = self.counts[2 * i] + self.counts[2 * i + 1];
        }
        self.counts.truncate(half);
        self.length = self.length * 2;
        self.edges *= 2;
        self.edge = 0;
    }

    /// The whole intervals only.
    fn whole(mut self) -> Intervals {
        if self.half {
            self.counts.pop();
            self.half = false;
        }
        self
    }
}

/// How a thread kept the schedule of an open loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedules {
    /// Operations a second that were to start.
    pub(crate) offered: f64,
    /// Operations that were to start until the window closed, and had not.
    pub(crate) unstarted: u64,
    /// Operations that were posted in the window.
    pub(crate) posted: u64,
    /// How long they had waited for that, in nanoseconds.
    pub(crate) waited: u64,
}

/// How often completions were looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Polls {
    /// All polls.
    pub(crate) all: u64,
    /// Polls that found none.
    pub(crate) empty: u64,
}

/// What one thread's loop counted in its window.
#[derive(Debug, Clone)]
pub struct Tally {
    pub(crate) ops: u64,
    pub(crate) bytes: u64,
    pub(crate) faults: Faults,
    /// The window's length.
    pub(crate) window: Nanos,
    pub(crate) sum_ns: u64,
    pub(crate) times: Option<Times>,
    pub(crate) longest_batch: Option<Nanos>,
    pub(crate) intervals: Intervals,
    /// Operations that never came back.
    pub(crate) lost: u64,
    /// The window's polls, of an engine that spins.
    pub(crate) polls: Option<Polls>,
    /// Why the trial could not be ended as it should.
    pub(crate) broken: Option<String>,
    /// Whether it was told to stop before its window was over.
    pub(crate) interrupted: bool,
    /// How an open loop kept its schedule.
    pub(crate) schedules: Option<Schedules>,
}

impl Tally {
    /// Operations that completed in the window.
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// Bytes that they moved.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.bytes)
    }

    /// The window's length.
    pub fn window(&self) -> Nanos {
        self.window
    }

    /// Operations that failed, in the window or not.
    pub fn errors(&self) -> u64 {
        self.faults.count
    }

    /// The kinds of failure and how many of each, the first eight kinds.
    pub fn failures(&self) -> impl Iterator<Item = (FailCode, u64)> + '_ {
        self.faults.kinds.iter().flatten().copied()
    }

    /// Why the trial could not go on; none when it did.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether it was told to stop before its window was over.
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// Adds another thread of the same trial. The window becomes the longer one (by time all are equal; by count the rate
    /// is that until the last thread had its operations); series keep what both have.
    pub fn merge(&mut self, other: Tally) {
        self.ops += other.ops;
        self.bytes += other.bytes;
        let mut unnamed = other.faults.count;
        for (code, n) in other.failures() {
            self.faults.add(code, n);
            unnamed -= n;
        }
        self.faults.count += unnamed;
        self.window = self.window.max(other.window);
        self.sum_ns += other.sum_ns;
        self.times = match (self.times.take(), other.times) {
            (Some(mut a), Some(b)) => {
                a.add(&b);
                Some(a)
            }
            _ => None,
        };
        self.longest_batch = self.longest_batch.max(other.longest_batch);
        let mut theirs = other.intervals.whole();
        let mut ours =
            std::mem::replace(&mut self.intervals, Intervals::new(theirs.length)).whole();
        while ours.length < theirs.length {
            ours.join();
        }
        while theirs.length < ours.length {
            theirs.join();
        }
        ours.counts.truncate(theirs.counts.len());
        for (a, b) in ours.counts.iter_mut().zip(&theirs.counts) {
            *a += b;
        }
        self.intervals = ours;
        self.lost += other.lost;
        self.polls = self.polls.zip(other.polls).map(|(a, b)| Polls {
            all: a.all + b.all,
            empty: a.empty + b.empty,
        });
        self.broken = self.broken.take().or(other.broken);
        self.interrupted |= other.interrupted;
        self.schedules = match (self.schedules, other.schedules) {
            (Some(a), Some(b)) => Some(Schedules {
                offered: a.offered + b.offered,
                unstarted: a.unstarted + b.unstarted,
                posted: a.posted + b.posted,
                waited: a.waited + b.waited,
            }),
            _ => None,
        };
    }

    /// The figure. `bytes_per_s` stands when bytes were moved; operations without latency have none.
    pub fn measured(self, completes: Completes) -> Measured {
        let window_s = self.window.as_secs_f64();
        let per_s = |n: u64| {
            if window_s > 0.0 {
                n as f64 / window_s
            } else {
                0.0
            }
        };
        let intervals = self.intervals.whole();
        let mean = self.sum_ns as f64 / self.ops.max(1) as f64;
        let latency_ns = self
            .times
            .filter(|_| self.ops > 0)
            .map(|times| latency(&times.histogram(), mean, self.longest_batch));
        Measured {
            ops: self.ops,
            window_s,
            ops_per_s: per_s(self.ops),
            bytes_per_s: (self.bytes > 0).then(|| per_s(self.bytes)),
            errors: self.faults.count,
            lost: self.lost,
            completes,
            mean_depth: latency_ns.as_ref().map(|l| l.mean * per_s(self.ops) / 1e9),
            open: self.schedules.map(|s| Open {
                offered_ops_per_s: s.offered,
                unstarted: s.unstarted,
                mean_wait_ns: (s.posted > 0).then(|| s.waited as f64 / s.posted as f64),
            }),
            flows: Vec::new(),
            polling: self.polls.map(|p| Polling {
                polls: p.all,
                empty: p.empty,
                completions_per_poll: (p.all > p.empty)
                    .then(|| self.ops as f64 / (p.all - p.empty) as f64),
            }),
            latency_ns,
            stationarity: stationarity(&intervals.counts),
            series: Series {
                interval_s: intervals.length.as_secs_f64(),
                ops: intervals.counts,
            },
        }
    }
}

/// A percentile q is told only when at least ten operations lie above it (METHOD 1).
fn latency(times: &Histogram<u64>, mean: f64, longest_batch: Option<Nanos>) -> Latency {
    let count = times.len();
    let percentile = |q: f64| {
        let above = count as f64 * (1.0 - q);
        (above + 1e-6 >= 10.0).then(|| times.value_at_quantile(q) as f64)
    };
    Latency {
        min: times.min() as f64,
        mean,
        percentiles: Percentiles {
            p50: percentile(0.5),
            p90: percentile(0.9),
            p99: percentile(0.99),
            p999: percentile(0.999),
            p9999: percentile(0.9999),
        },
        max: times.max() as f64,
        count,
        batch_error_ns: longest_batch.map(|span| span.0 as f64),
        histogram: encode(times),
    }
}

/// HdrHistogram V2-deflate in base64 (the format of the HdrHistogram log tools).
fn encode(times: &Histogram<u64>) -> String {
    use base64::Engine as _;
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(times, &mut bytes) {
        Ok(_) => base64::engine::general_purpose::STANDARD.encode(bytes),
        // Writing to memory cannot fail, and the counts fit the format.
        Err(e) => unreachable!("a histogram in memory: {e}"),
    }
}

/// Whether the counts of a trial's intervals kept their level (METHOD 14); none when they are too few to tell.
pub(crate) fn stationarity(counts: &[u64]) -> Option<Stationarity> {
    let counts: Vec<f64> = counts.iter().map(|n| *n as f64).collect();
    let found = strata_stats::stationarity(&counts).ok()?;
    Some(Stationarity {
        slope: found.slope,
        excursion: found.excursion,
        stationary: found.stationary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;

    #[test]
    fn joined_intervals_keep_their_sum() {
        let mut intervals = Intervals::new(Nanos(10));
        for n in 0..1000 {
            intervals.push(n);
        }
        let whole = intervals.clone().whole();
        assert_eq!(whole.length, Nanos(40));
        assert_eq!(whole.counts.len(), 250);
        assert_eq!(whole.counts.iter().sum::<u64>(), 999 * 1000 / 2);
        assert_eq!(whole.counts[0], 1 + 2 + 3);
        intervals.push(1);
        assert_eq!(
            intervals.whole().counts.len(),
            250,
            "a part of an interval is left out"
        );
    }

    #[test]
    fn percentiles_need_ten_above_them() {
        let mut times = Times::new();
        for n in 1..=999u64 {
            times.record(n * 1000);
        }
        let latency = latency(&times.histogram(), 500_000.0, None);
        assert_eq!(latency.percentiles.p99, None);
        let p90 = latency.percentiles.p90.expect("99 above");
        assert!((p90 / 900_000.0 - 1.0).abs() < 0.002, "{p90}");
    }

    #[test]
    fn the_histogram_comes_back_from_its_text() {
        use base64::Engine as _;
        let mut times = Times::new();
        for n in [17, 2_000, 1_000_000, 3_599_000_000_000u64] {
            times.record(n);
        }
        let times = times.histogram();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(encode(&times))
            .expect("base64");
        let back: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .expect("V2-deflate");
        assert_eq!(back, times);
    }

    #[test]
    fn merging_adds_up() {
        let tally = |ops: u64, code: i32| {
            let mut times = Times::new();
            for _ in 0..ops {
                times.record(1000);
            }
            let mut faults = Faults::default();
            faults.add(FailCode(code), 2);
            let mut intervals = Intervals::new(Nanos::from_millis(10));
            intervals.push(ops);
            Tally {
                ops,
                bytes: ops * 512,
                faults,
                window: Nanos::SECOND,
                sum_ns: ops * 1000,
                times: Some(times),
                longest_batch: Some(Nanos(ops)),
                intervals,
                lost: 0,
                polls: Some(Polls {
                    all: ops / 2 + 7,
                    empty: 7,
                }),
                broken: None,
                interrupted: false,
                schedules: None,
            }
        };
        let mut sum = tally(100, 5);
        sum.merge(tally(50, 6));
        assert_eq!(
            (sum.ops(), sum.bytes(), sum.errors()),
            (150, Bytes(150 * 512), 4)
        );
        assert_eq!(
            sum.failures().collect::<Vec<_>>(),
            [(FailCode(5), 2), (FailCode(6), 2)]
        );
        let measured = sum.measured(Completes::Device);
        let latency = measured.latency_ns.expect("times");
        assert_eq!((latency.count, latency.batch_error_ns), (150, Some(100.0)));
        assert_eq!(measured.series.ops, [150]);
        assert_eq!(measured.mean_depth, Some(150.0 * 1000.0 / 1e9));
        let polling = measured.polling.expect("it spins");
        assert_eq!((polling.polls, polling.empty), (75 + 14, 14));
        assert_eq!(polling.completions_per_poll, Some(2.0));
    }
}
