//! Shapes of load on storage: each combination of what is asked for, whichever layer it goes through.

use anyhow::Result;
use strata_record::{Layer, Op};
use strata_units::{Bytes, QueueDepth};

use crate::Usage;
use crate::cli::StorageLoad;

/// One shape of load on a target, by an engine of its layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape<E> {
    pub(crate) engine: E,
    pub(crate) op: Op,
    pub(crate) bs: Bytes,
    pub(crate) depth: QueueDepth,
    pub(crate) random_map: bool,
    pub(crate) verify: bool,
}

/// What the options of a storage layer's command list.
pub(crate) struct Listed<'a, E> {
    pub(crate) layer: Layer,
    pub(crate) engine: &'a [E],
    pub(crate) load: &'a StorageLoad,
}

impl<E: Copy + PartialEq> Listed<'_, E> {
    /// The shapes, each once; `takes` says whether an engine can have so many operations in flight.
    pub(crate) fn shapes(
        &self,
        takes: impl Fn(E, QueueDepth) -> Result<()>,
    ) -> Result<Vec<Shape<E>>> {
        let mut shapes = Vec::new();
        for op in &self.load.op {
            if !op.is_storage() {
                return Err(Usage::error(format!(
                    "--op {op} is none of the {} layer; give randread, randwrite, randrw:PERCENT, read or write",
                    self.layer
                )));
            }
            for bs in &self.load.bs {
                if !bs.is_multiple_of(Bytes(512)) {
                    return Err(Usage::error(format!(
                        "--bs {bs} is no multiple of the 512 byte sector; give 512, 4KiB, 64KiB, …"
                    )));
                }
                for depth in &self.load.depth {
                    for engine in self.engine {
                        takes(*engine, *depth)?;
                        let shape = Shape {
                            engine: *engine,
                            op: *op,
                            bs: *bs,
                            depth: *depth,
                            random_map: self.load.random_map && op.is_random(),
                            verify: self.load.verify,
                        };
                        if !shapes.contains(&shape) {
                            shapes.push(shape);
                        }
                    }
                }
            }
        }
        Ok(shapes)
    }
}
