//! Which cells may be set against each other: one reality, one target, and one thing that differs.

use strata_record::{Cell, Layer, Op, Placement, Workload};
use strata_units::{CpuList, QueueDepth};

use crate::Response;

/// The one thing in which two cells differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// The layer with its engine: the kernel's, or one that goes past it.
    Layer,
    /// The engine.
    Engine,
    /// Operations in flight.
    Depth,
}

/// Two cells that may be compared, as positions in the list of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) base: usize,
    pub(crate) other: usize,
    pub(crate) factor: Factor,
}

/// The engines that every other one of their layer is set against where they are measured: one system call an operation, no
/// queue, nothing spun or spared.
const BASE_ENGINES: [&str; 3] = ["psync", "tcp", "verbs"];

/// Layers that drive one kind of target: that of the kernel, and the one that goes past it.
const PAST: [(Layer, Layer); 2] = [(Layer::Block, Layer::Nvme), (Layer::Tcp, Layer::Rdma)];

/// All pairs: first those of layers, each engine that goes past the kernel against each of the kernel's; then those of
/// engines and those of depths, each other cell against the base of its group.
pub(crate) fn pairs(cells: &[&Cell]) -> Vec<Pair> {
    let layers = layers(cells);
    let engines = grouped(cells, Factor::Engine, |group| {
        group
            .iter()
            .copied()
            .find(|at| BASE_ENGINES.contains(&cells[*at].engine.as_str()))
    });
    let depths = grouped(cells, Factor::Depth, |group| {
        group
            .iter()
            .copied()
            .min_by_key(|at| cells[*at].workload.depth)
    });
    layers.into_iter().chain(engines).chain(depths).collect()
}

fn layers(cells: &[&Cell]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (other, past) in cells.iter().enumerate() {
        for (base, kernel) in cells.iter().enumerate() {
            let alike = match (kernel.layer, past.layer) {
                (Layer::Tcp, Layer::Rdma) => counterparts(kernel, past),
                _ => alike_but(Factor::Layer, kernel, past),
            };
            if PAST.contains(&(kernel.layer, past.layer)) && alike {
                pairs.push(Pair {
                    base,
                    other,
                    factor: Factor::Layer,
                });
            }
        }
    }
    pairs
}

/// Pairs of every group of cells that differ in nothing but `factor`; the base is the group's first when `base` names
/// none. Two cells of one level of the factor are no pair: engines of one name differ in no more than their path or the
/// CPUs that the kernel polls on for them.
fn grouped(cells: &[&Cell], factor: Factor, base: impl Fn(&[usize]) -> Option<usize>) -> Vec<Pair> {
    let mut seen = vec![false; cells.len()];
    let mut pairs = Vec::new();
    for first in 0..cells.len() {
        if seen[first] {
            continue;
        }
        let group: Vec<usize> = (first..cells.len())
            .filter(|at| alike_but(factor, cells[first], cells[*at]))
            .collect();
        for at in &group {
            seen[*at] = true;
        }
        let base = base(&group).unwrap_or(first);
        let differs = |at: usize| {
            at != base && (factor != Factor::Engine || cells[at].engine != cells[base].engine)
        };
        pairs.extend(group.iter().filter(|at| differs(**at)).map(|other| Pair {
            base,
            other: *other,
            factor,
        }));
    }
    pairs
}

/// Whether verbs do over a wire what TCP does over it, each in its own words: as many bytes as pass, in blocks of one size and
/// from the same side; or one message there and one of the same size back. With how much in flight, and over how many
/// connections and threads, is each one's own way to do it, and told beside both. The wire is one; that verbs on it may be
/// done by software where its packets are not is told beside the ratio.
fn counterparts(tcp: &Cell, rdma: &Cell) -> bool {
    let (a, b) = (&tcp.workload, &rdma.workload);
    let same_thing = match (a.op, b.op) {
        (Op::Stream, Op::Write | Op::WriteImm | Op::Read | Op::Send) => a.direction == b.direction,
        (Op::ReqRep, op) => op.is_pingpong() && a.depth == b.depth && a.streams == b.streams,
        _ => false,
    };
    let alike = (a.block_bytes, a.duration_ns, a.ramp_ns, a.rate)
        == (b.block_bytes, b.duration_ns, b.ramp_ns, b.rate);
    same_thing
        && alike
        && a.reply_bytes.is_none()
        && a.verify == b.verify
        && on_one_target(tcp, rdma)
}

fn on_one_target(a: &Cell, b: &Cell) -> bool {
    a.target.kind == b.target.kind
        && a.target.identity == b.target.identity
        && a.target.region_from_bytes == b.target.region_from_bytes
        && a.target.region_bytes == b.target.region_bytes
}

fn alike_but(factor: Factor, a: &Cell, b: &Cell) -> bool {
    // The driver goes with the layer, and so do sockets and queue pairs.
    let layer = a.layer == b.layer
        && a.binding == b.binding
        && a.sockets == b.sockets
        && a.verbs == b.verbs;
    // How a depth is timed is a choice of the harness that goes with the depth; words say so where it differs.
    let without_depth = |w: &Workload| Workload {
        depth: QueueDepth::ONE,
        timed_by: a.workload.timed_by,
        ..w.clone()
    };
    // The CPU that the kernel polls on is a part of the engine that asks for it; words say who had one.
    let without_polling = |p: &Placement| Placement {
        poll_cpus: CpuList::default(),
        ..p.clone()
    };
    let but_engine = || {
        a.workload == b.workload && without_polling(&a.placement) == without_polling(&b.placement)
    };
    a.reality == b.reality
        && on_one_target(a, b)
        && match factor {
            Factor::Layer => but_engine(),
            Factor::Engine => layer && but_engine(),
            Factor::Depth => {
                layer
                    && a.engine == b.engine
                    && a.placement == b.placement
                    && without_depth(&a.workload) == without_depth(&b.workload)
            }
        }
}

impl Factor {
    /// Whether a ratio of this response says something of cells with this workload when this differs: more in flight makes
    /// each operation wait, so depths are compared by what passes alone, and engines and layers by latency where nothing waits. In an
    /// open loop what passes is what was offered: there the time from the moment at which an operation was to start tells,
    /// at any depth, and what it costs.
    pub(crate) fn compares(self, response: Response, workload: &Workload) -> bool {
        if workload.rate.is_some() {
            return matches!(response, Response::Mean | Response::CpuPerOp);
        }
        match (self, response) {
            (_, Response::OpsPerS) | (Factor::Layer | Factor::Engine, Response::CpuPerOp) => true,
            (Factor::Layer | Factor::Engine, Response::Mean) => workload.depth == QueueDepth::ONE,
            _ => false,
        }
    }
}
