//! Which cell is measured when.

use strata_record::Plan;
use strata_stats::Rng;
use strata_units::Nanos;

/// One trial to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The round, from 0.
    pub round: u32,
    /// How often this round had been voided before.
    pub attempt: u32,
    /// Number of the cell in the plan.
    pub cell: usize,
    /// Seed of the trial's operation stream.
    pub seed: u64,
}

/// The trials of one round in their order. It follows from the plan's seed, the round and the attempt alone, so that a
/// resumed run goes on in the order that was drawn.
pub fn turns(plan: &Plan, round: u32, attempt: u32) -> Vec<Turn> {
    let mut random = Rng::new(plan.seed ^ (u64::from(attempt) << 32 | u64::from(round)));
    let mut cells: Vec<usize> = (0..plan.cells.len()).collect();
    random.shuffle(&mut cells);
    cells
        .into_iter()
        .map(|cell| Turn {
            round,
            attempt,
            cell,
            seed: random.next_u64(),
        })
        .collect()
}

/// Set-up, harness cost, draining and fsync of a trial, beside its ramp and window: about what was seen on the development
/// machines.
const AROUND: Nanos = Nanos::from_millis(250);

/// How long all rounds will take; none when a window ends by count, since nobody knows then.
pub fn estimate(plan: &Plan) -> Option<Nanos> {
    let round = plan.cells.iter().try_fold(Nanos(0), |sum, cell| {
        let w = &cell.workload;
        Some(sum + w.ramp_ns + w.duration_ns? + AROUND)
    })?;
    Some(round * u64::from(plan.rounds))
}
