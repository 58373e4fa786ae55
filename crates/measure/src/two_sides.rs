//! A trial that another process, perhaps on another host, has its part in: what that one found, and both in one result.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use strata_record::{
    Ceiling, Cell, Cost, Direction, Flow, Harness, Measured, Placement, Proof, Series, Warning,
    WarningCode,
};
use strata_units::{CpuId, Nanos};

use crate::tally::stationarity;
use crate::{CrewRun, TrialResult, doubts};

/// What the other side found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Its CPU time an operation that it did, in nanoseconds.
    pub cpu_ns_per_op: f64,
    /// Where it was.
    pub proof: Proof,
    /// A receiver's figure; others have none.
    pub received: Option<Received>,
    /// The span of its clock in which its load began.
    pub began: Option<(Nanos, Nanos)>,
    /// Why what it found is void.
    pub failed: Option<String>,
}

/// What a receiver measured, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Received {
    /// The figure.
    pub measured: Measured,
    /// What measuring it cost.
    pub harness: Harness,
    /// The bound that its cores set.
    pub ceiling: Ceiling,
}

impl Report {
    /// Of a crew that was all of the other side; whether what it counted is a figure, and when its load began.
    pub fn new(run: CrewRun, receives: bool, began: Option<(Nanos, Nanos)>) -> Report {
        let ceiling = run.core_ceiling();
        let result = run.into_result(Vec::new());
        Report {
            cpu_ns_per_op: result.cost.cpu_ns_per_op,
            proof: result.proof,
            failed: result.failed,
            began,
            received: receives.then_some(Received {
                measured: result.measured,
                harness: result.harness,
                ceiling,
            }),
        }
    }
}

/// The result of a trial whose figure is the receiver's on the other side. The report's proof is not in it yet: see [`join`].
pub fn there(run: CrewRun, peer_cpu_ns_per_op: f64, theirs: Received) -> TrialResult {
    TrialResult {
        cost: Cost {
            peer_cpu_ns_per_op: Some(peer_cpu_ns_per_op),
            ..run.cost(None)
        },
        warnings: doubts(&theirs.measured),
        measured: theirs.measured,
        harness: theirs.harness,
        bounds: vec![theirs.ceiling],
        failed: run.failed(),
        proof: run.proof,
    }
}

/// The result of a trial that went both ways at once: what arrived at both ends, in windows of which so great a part lay in
/// one another (1 when they were the same). The report's proof is not in it yet: see [`join`].
pub fn both(run: CrewRun, peer_cpu_ns_per_op: f64, theirs: Received, overlap: f64) -> TrialResult {
    let core = run.core_ceiling();
    let ours = run.into_result(Vec::new());
    let flow = |direction, m: &Measured| Flow {
        direction,
        ops: m.ops,
        bytes_per_s: m.bytes_per_s.unwrap_or(0.0),
        window_s: m.window_s,
        overlap,
    };
    let (a, b) = (&ours.measured, &theirs.measured);
    let flows = vec![flow(Direction::Send, b), flow(Direction::Receive, a)];
    let ops_per_s = a.ops_per_s + b.ops_per_s;
    let series = together(&a.series, &b.series);
    let measured = Measured {
        ops: a.ops + b.ops,
        window_s: a.window_s.max(b.window_s),
        ops_per_s,
        bytes_per_s: Some(flows.iter().map(|f| f.bytes_per_s).sum()),
        errors: a.errors + b.errors,
        lost: a.lost + b.lost,
        completes: a.completes,
        latency_ns: None,
        stationarity: stationarity(&series.ops),
        series,
        mean_depth: None,
        open: None,
        flows,
        polling: None,
    };
    // Each side's threads worked for the operations of both.
    let part = |n: u64| n as f64 / measured.ops.max(1) as f64;
    let most = core.ops_per_s.zip(theirs.ceiling.ops_per_s);
    let most = most.map(|(a, b)| a + b);
    TrialResult {
        cost: Cost {
            cpu_ns_per_op: ours.cost.cpu_ns_per_op * part(a.ops),
            peer_cpu_ns_per_op: Some(peer_cpu_ns_per_op * part(b.ops)),
            ..ours.cost
        },
        warnings: doubts(&measured),
        harness: Harness {
            ns_per_op: ours.harness.ns_per_op.max(theirs.harness.ns_per_op),
            ops: ours.harness.ops + theirs.harness.ops,
        },
        bounds: vec![Ceiling {
            ops_per_s: most,
            share: most.map(|most| ops_per_s / most),
            ..core
        }],
        measured,
        proof: ours.proof,
        failed: ours.failed,
    }
}

/// Two series of equal intervals, added up as far as both go.
fn together(a: &Series, b: &Series) -> Series {
    Series {
        interval_s: a.interval_s,
        ops: a.ops.iter().zip(&b.ops).map(|(a, b)| a + b).collect(),
    }
}

/// Adds what the other side found about itself, and why what it found is void.
pub fn join(result: &mut TrialResult, theirs: Proof, failed: Option<String>) {
    let ours = &mut result.proof;
    ours.threads.extend(theirs.threads);
    ours.connections.extend(theirs.connections);
    ours.peer_host = theirs.host;
    ours.contradictions.extend(theirs.contradictions);
    for what in theirs.missing {
        if !ours.missing.contains(&what) {
            ours.missing.push(what);
        }
    }
    if let Some(why) = failed {
        result.failed = Some(match result.failed.take() {
            Some(own) => format!("{own}; the other side: {why}"),
            None => format!("the other side: {why}"),
        });
    }
}

/// The CPUs of a cell's own side, one a thread as on the other.
///
/// # Errors
/// A side has more or fewer.
pub fn cpus(cell: &Cell) -> Result<Vec<CpuId>, String> {
    let (threads, placement) = (cell.workload.threads, &cell.placement);
    for (what, n) in [
        ("--cpus", placement.cpus.len()),
        ("--peer-cpus", placement.peer_cpus.len()),
    ] {
        if n != usize::from(threads) {
            return Err(format!(
                "{threads} threads need as many CPUs on each side, and {what} has {n}; change --threads or {what}"
            ));
        }
    }
    Ok(placement.cpus.iter().collect())
}

/// The warning of two sides of one host that share a CPU.
pub fn shared_cpus(placement: &Placement) -> Option<Warning> {
    let both = placement.cpus.and(&placement.peer_cpus);
    (!both.is_empty()).then(|| Warning {
        code: WarningCode::SharedCpu,
        text: format!("both sides run on CPU {both}: this is the time of taking turns; give other --cpus or --peer-cpus"),
    })
}

/// When a thread came to the gate, and when it did its first operation behind it: the trial's start lies between.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// It came.
    pub ready: Instant,
    /// It posted.
    pub posted: Instant,
}

/// When the threads of one side began.
#[derive(Debug, Default)]
pub struct Begins(Mutex<Vec<Begun>>);

impl Begins {
    /// One more thread.
    pub fn add(&self, begun: Begun) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(begun);
    }

    /// The span in which all threads were let go: not before the last had come, and not after any had begun. None when
    /// none has.
    pub fn span(&self) -> Option<(Instant, Instant)> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = begun.iter().map(|b| b.ready).max()?;
        let to = begun.iter().map(|b| b.posted).min()?;
        Some((from, to.max(from)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use strata_units::CpuList;

    use super::*;

    #[test]
    fn a_start_lies_between_the_last_at_the_gate_and_the_first_behind_it() {
        let begins = Begins::default();
        assert_eq!(begins.span(), None);
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        for (ready, posted) in [(3, 20), (9, 17), (5, 30)] {
            begins.add(Begun {
                ready: at(ready),
                posted: at(posted),
            });
        }
        assert_eq!(begins.span(), Some((at(9), at(17))));
        // Clocks read on two CPUs need not agree to the last nanosecond.
        begins.add(Begun {
            ready: at(8),
            posted: at(8),
        });
        assert_eq!(begins.span(), Some((at(9), at(9))));
    }

    #[test]
    fn a_series_goes_as_far_as_both() {
        let series = |ops: &[u64]| Series {
            interval_s: 0.1,
            ops: ops.to_vec(),
        };
        let sum = together(&series(&[1, 2, 3]), &series(&[10, 20]));
        assert_eq!(sum, series(&[11, 22]));
    }

    #[test]
    fn a_shared_cpu_is_named() {
        let list = |text: &str| -> CpuList { text.parse().expect("a list") };
        let placement = |cpus, peer_cpus| Placement {
            cpus: list(cpus),
            peer_cpus: list(peer_cpus),
            poll_cpus: CpuList::default(),
            mem_node: None,
        };
        let warned = shared_cpus(&placement("0-3", "3,8")).expect("a warning");
        assert_eq!(warned.code, WarningCode::SharedCpu);
        assert!(warned.text.contains("CPU 3:"), "{}", warned.text);
        assert_eq!(shared_cpus(&placement("0-3", "4-7")), None);
    }
}
