//! How many streams saturate a path: found by a short sweep before the rounds.
//!
//! Bypass must be held against the best that TCP can do, and one stream seldom is. The sweep tries 1, 2, 4, 8 … streams:
//! more threads first, a connection each, until every CPU allowed has one, then more connections a thread. Its trials are
//! short and interleaved in rounds of random order, so that what drifts does so for all of them. The number chosen is the
//! least of which no greater one is shown to be better by more than the margin, by the interval of their ratio over rounds.
//! That choice is made on the sweep's own trials, which stand in no figure: the rounds measure the chosen number afresh.

use strata_record::{Cell, Placement};
use strata_stats::{Contrast, Interval, ROUNDS_FOR_INTERVAL, Rng, log_ratios};
use strata_units::Nanos;

/// How the sweep is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sweep {
    /// Rounds, six at least: fewer give no interval.
    pub rounds: usize,
    /// The window of each trial, and the ramp before it.
    pub window: Nanos,
    /// See [`Sweep::window`].
    pub ramp: Nanos,
    /// The most streams that are tried.
    pub most: u16,
    /// A gain that is worth more streams, 0.03 for 3 %.
    pub margin: f64,
    /// Seed of the orders.
    pub seed: u64,
}

impl Sweep {
    /// How long its windows and ramps take together, with up to so many threads.
    pub fn takes(&self, threads: u16) -> Nanos {
        let trials = shapes(threads, self.most).len() * self.rounds;
        (self.window + self.ramp) * trials as u64
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            rounds: ROUNDS_FOR_INTERVAL,
            window: Nanos::from_millis(300),
            ramp: Nanos::from_millis(100),
            most: 64,
            margin: 0.03,
            seed: 0x5eed,
        }
    }
}

/// One number of streams and what it brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Threads of each side.
    pub threads: u16,
    /// Connections of each.
    pub connections: u16,
    /// Where they are.
    pub placement: Placement,
    /// Bytes a second received, a number a round.
    pub bytes_per_s: Vec<f64>,
    /// Its ratio to the chosen one; none of the chosen one itself.
    pub ratio: Option<f64>,
    /// The interval of that ratio at 95 %.
    pub interval: Option<Interval>,
}

impl Candidate {
    /// Threads × connections.
    pub fn streams(&self) -> u32 {
        u32::from(self.threads) * u32::from(self.connections)
    }

    /// The cell with this many streams, where they are.
    #[must_use]
    pub fn cell(&self, of: &Cell) -> Cell {
        let mut cell = of.clone();
        cell.workload.threads = self.threads;
        cell.workload.streams = self.connections;
        cell.placement = self.placement.clone();
        cell
    }
}

/// What the sweep found.
#[derive(Debug, Clone, PartialEq)]
pub struct Saturation {
    /// All that were tried, by rising number of streams.
    pub candidates: Vec<Candidate>,
    /// Which of them was chosen.
    pub chosen: usize,
    /// Whether every greater one is shown not to be better by more than the margin. If not, the sweep could not tell.
    pub sure: bool,
}

/// Finds the number of streams beyond which `of` receives no more, with up to `threads` threads on each side; its own
/// threads, connections and placement are not looked at. `place` says where so many threads of each side go: few are not put
/// where the first of many would be. `run` makes one trial of a cell and gives the bytes received a second.
///
/// # Errors
/// In words, what a trial failed of, where threads have no place, or what of the sweep cannot be.
pub fn saturate(
    of: &Cell,
    sweep: &Sweep,
    threads: u16,
    mut place: impl FnMut(u16) -> Result<Placement, String>,
    mut run: impl FnMut(&Cell, u64) -> Result<f64, String>,
) -> Result<Saturation, String> {
    if sweep.rounds < ROUNDS_FOR_INTERVAL {
        return Err(format!(
            "{} rounds give no interval; give {ROUNDS_FOR_INTERVAL} at least",
            sweep.rounds
        ));
    }
    let mut candidates = shapes(threads, sweep.most)
        .into_iter()
        .map(|(threads, connections)| {
            Ok(Candidate {
                threads,
                connections,
                placement: place(threads)?,
                bytes_per_s: Vec::new(),
                ratio: None,
                interval: None,
            })
        })
        .collect::<Result<Vec<Candidate>, String>>()?;
    if candidates.is_empty() {
        return Err("no CPU is left for a stream; give --cpus and --peer-cpus".to_owned());
    }
    let mut base = of.clone();
    base.workload.duration_ns = Some(sweep.window);
    base.workload.ops = None;
    base.workload.ramp_ns = sweep.ramp;
    let mut random = Rng::new(sweep.seed);
    for _ in 0..sweep.rounds {
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        random.shuffle(&mut order);
        for n in order {
            let cell = candidates[n].cell(&base);
            let found = run(&cell, random.next_u64())?;
            if found <= 0.0 {
                return Err(format!(
                    "nothing arrived in {}; give the sweep longer windows",
                    sweep.window
                ));
            }
            candidates[n].bytes_per_s.push(found);
        }
    }
    choose(candidates, sweep.margin)
}

/// 1, 2, 4 … threads, then all of them with 2, 4 … connections each.
fn shapes(threads: u16, most: u16) -> Vec<(u16, u16)> {
    let all = threads.min(most);
    if all == 0 {
        return Vec::new();
    }
    let doubling = |to: u16| {
        std::iter::successors(Some(1u16), |n| n.checked_mul(2)).take_while(move |n| *n <= to)
    };
    let mut shapes: Vec<(u16, u16)> = doubling(all).map(|threads| (threads, 1)).collect();
    if !all.is_power_of_two() {
        shapes.push((all, 1));
    }
    shapes.extend(doubling(most / all).skip(1).map(|each| (all, each)));
    shapes
}

/// The first of which no later one is shown to be better by more than the margin.
fn choose(mut candidates: Vec<Candidate>, margin: f64) -> Result<Saturation, String> {
    let worth = 1.0 + margin;
    let ratio = |of: &Candidate, to: &Candidate| {
        log_ratios(&of.bytes_per_s, &to.bytes_per_s)
            .and_then(|d| Contrast::of(&d))
            .map_err(|e| format!("the sweep's figures make no ratio: {e}"))
    };
    for chosen in 0..candidates.len() {
        let mut better = false;
        let mut sure = true;
        for later in &candidates[chosen + 1..] {
            let found = ratio(later, &candidates[chosen])?;
            let interval = found.interval().map(|i| i.exp());
            better |= interval.is_some_and(|i| i.low > worth);
            sure &= interval.is_some_and(|i| i.high <= worth);
        }
        if better {
            continue;
        }
        let to = candidates[chosen].clone();
        for (n, other) in candidates.iter_mut().enumerate() {
            if n != chosen {
                let found = ratio(other, &to)?;
                other.ratio = Some(found.mean().exp());
                other.interval = found.interval().map(|i| i.exp());
            }
        }
        return Ok(Saturation {
            candidates,
            chosen,
            sure,
        });
    }
    Err("the sweep has no candidates".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_record::{Layer, Op, Reality, Target, TargetKind, Workload};
    use strata_units::{ByteOffset, Bytes, CpuId, CpuList, NodeId};

    /// One thread goes to node 1, more of them to node 0.
    fn place(threads: u16) -> Result<Placement, String> {
        let (from, node) = if threads == 1 { (8, 1) } else { (0, 0) };
        let list = |from| -> CpuList { (from..from + u32::from(threads)).map(CpuId).collect() };
        Ok(Placement {
            cpus: list(from),
            peer_cpus: list(from + 64),
            poll_cpus: CpuList::default(),
            mem_node: Some(NodeId(node)),
        })
    }

    fn found(
        threads: u16,
        sweep: &Sweep,
        run: impl FnMut(&Cell, u64) -> Result<f64, String>,
    ) -> Result<Saturation, String> {
        saturate(&cell(), sweep, threads, place, run)
    }

    fn cell() -> Cell {
        Cell {
            layer: Layer::Tcp,
            engine: "tcp".to_owned(),
            reality: Reality::Software,
            target: Target {
                kind: TargetKind::Wire,
                identity: "loopback".to_owned(),
                region_from_bytes: ByteOffset(0),
                region_bytes: None,
                node: None,
            },
            via: "127.0.0.1".to_owned(),
            workload: Workload::plain(Op::Stream, Bytes::KIB * 128),
            timeout_ns: None,
            sockets: None,
            verbs: None,
            binding: None,
            placement: Placement {
                cpus: CpuList::default(),
                peer_cpus: CpuList::default(),
                poll_cpus: CpuList::default(),
                mem_node: None,
            },
        }
    }

    /// A path that takes `most` streams at 1 GB/s each, with some noise and drift.
    fn path(most: u32, noise: f64) -> impl FnMut(&Cell, u64) -> Result<f64, String> {
        let mut drift = 1.0;
        move |cell, seed| {
            drift *= 1.01;
            let streams = u32::from(cell.workload.threads) * u32::from(cell.workload.streams);
            // Each number of threads has the place that is made for it, its memory's node too.
            assert_eq!(Ok(&cell.placement), place(cell.workload.threads).as_ref());
            let part = Rng::new(seed).next_u64() as f64 / u64::MAX as f64 - 0.5;
            Ok(f64::from(streams.min(most)) * 1e9 * drift * (1.0 + noise * part))
        }
    }

    #[test]
    fn threads_come_first_and_then_connections() {
        assert_eq!(shapes(1, 8), [(1, 1), (1, 2), (1, 4), (1, 8)]);
        assert_eq!(
            shapes(6, 24),
            [(1, 1), (2, 1), (4, 1), (6, 1), (6, 2), (6, 4)]
        );
        assert_eq!(shapes(8, 2), [(1, 1), (2, 1)]);
        assert_eq!(shapes(0, 2), []);
    }

    #[test]
    fn the_knee_is_found_through_noise_and_drift() {
        let sweep = Sweep {
            rounds: 8,
            most: 16,
            ..Sweep::default()
        };
        for (most, expected) in [(1, 1), (3, 4), (4, 4), (100, 16)] {
            let sure = found(2, &sweep, path(most, 0.01)).expect("a choice");
            assert_eq!(sure.candidates[sure.chosen].streams(), expected, "{most}");
            let first = &sure.candidates[0];
            assert_eq!(first.bytes_per_s.len(), 8);
            assert_eq!(first.ratio.is_none(), sure.chosen == 0);
        }
    }

    #[test]
    fn what_noise_hides_is_not_sure() {
        let loud = found(1, &Sweep::default(), path(1, 0.8)).expect("a choice");
        assert!(!loud.sure);
        let quiet = found(1, &Sweep::default(), |cell, _| {
            Ok(1e9 + f64::from(cell.workload.streams))
        });
        assert!(quiet.expect("a choice").sure);
    }

    #[test]
    fn what_cannot_be_is_told() {
        let few = Sweep {
            rounds: 5,
            ..Sweep::default()
        };
        let why = found(1, &few, path(1, 0.0)).expect_err("no interval");
        assert!(why.contains("rounds"), "{why}");
        let why = found(0, &Sweep::default(), path(1, 0.0)).expect_err("no CPU");
        assert!(why.contains("--cpus"), "{why}");
        let why = found(1, &Sweep::default(), |_, _| Err("cut".to_owned()));
        assert_eq!(why, Err("cut".to_owned()));
        let nowhere = |_| Err("no place".to_owned());
        let why = saturate(&cell(), &Sweep::default(), 1, nowhere, path(1, 0.0));
        assert_eq!(why, Err("no place".to_owned()));
    }
}
