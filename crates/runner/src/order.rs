//! Which cell is measured when.

use strata_record::{Binding, Cell, Plan, Record};
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
///
/// Where cells have a binding the round is a split plot (METHOD 2): the cells of one binding stand together in a random
/// order, and the order of the bindings is drawn as well. Each drive's binding is a factor of its own. The levels of one drive
/// follow one another, since they are what is set against each other, and the less time lies between them the less else
/// changes; which drive comes first, and which of its drivers, is drawn. A cell without a binding stands among those of a
/// binding drawn for it, so that over the rounds it is as near to one as to any other.
pub fn turns(plan: &Plan, round: u32, attempt: u32) -> Vec<Turn> {
    let mut random = Rng::new(plan.seed ^ (u64::from(attempt) << 32 | u64::from(round)));
    let mut cells: Vec<usize> = (0..plan.cells.len()).collect();
    random.shuffle(&mut cells);
    let levels = levels(&plan.cells, &mut random);
    if !levels.is_empty() {
        let drawn = |cell: usize| match plan.cells[cell].binding {
            Some(binding) => levels.iter().position(|l| *l == binding).unwrap_or(0),
            None => random.below(levels.len() as u64) as usize,
        };
        let blocks: Vec<usize> = cells.iter().copied().map(drawn).collect();
        let mut placed: Vec<(usize, usize)> = blocks.into_iter().zip(cells).collect();
        // Stable: within a level the order stays the one that was drawn.
        placed.sort_by_key(|(block, _)| *block);
        cells = placed.into_iter().map(|(_, cell)| cell).collect();
    }
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

/// The bindings of some cells, each once, in a drawn order: those of one function together.
fn levels(cells: &[Cell], random: &mut Rng) -> Vec<Binding> {
    let mut functions = distinct(cells.iter().filter_map(|c| Some(c.binding?.function)));
    random.shuffle(&mut functions);
    let mut levels = Vec::new();
    for function in functions {
        let bindings = cells.iter().filter_map(|c| c.binding);
        let mut of_it = distinct(bindings.filter(|b| b.function == function));
        random.shuffle(&mut of_it);
        levels.extend(of_it);
    }
    levels
}

/// Each once, in the order in which they came first.
fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut seen, item| {
        if !seen.contains(&item) {
            seen.push(item);
        }
        seen
    })
}

/// Set-up, harness cost, draining and fsync of a trial, beside its ramp and window: about what was seen on the development
/// machines.
const AROUND: Nanos = Nanos::from_millis(250);

/// How often a round brings the host to another binding: those of cells that write come in rounds of their own.
pub fn switches(plan: &Plan) -> usize {
    let of = |writes: bool| {
        let cells = plan.cells.iter();
        let of_part = cells.filter(move |c| c.workload.op.writes() == writes);
        distinct(of_part.filter_map(|c| c.binding)).len()
    };
    of(false) + of(true)
}

/// How long all rounds will take; none when a window ends by count, since nobody knows then. What changes of bindings take
/// is known from the records of those that were made, and not counted while there are none.
pub fn estimate(plan: &Plan, records: &[Record]) -> Option<Nanos> {
    let round = plan.cells.iter().try_fold(Nanos(0), |sum, cell| {
        let w = &cell.workload;
        Some(sum + w.ramp_ns + w.duration_ns? + AROUND)
    })?;
    let made: Vec<f64> = records.iter().filter_map(|r| r.switch_s).collect();
    let switch_s = made.iter().sum::<f64>() / made.len().max(1) as f64;
    let switching = Nanos((switch_s * 1e9) as u64) * switches(plan) as u64;
    Some((round + switching) * u64::from(plan.rounds))
}
