//! What requests need: commands, identifiers, memory for PRP lists.

use strata_nvme_spec::{PageSize, prp};
use strata_units::{Bytes, Nanos, NodeId};

use super::NUMBER;
use crate::split::most_pieces;
use crate::{Controller, Namespace, NvmeError};

/// Where the requests go, and how large they may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Requests at a time; each has a place in the memory.
    pub(crate) depth: u16,
    /// The largest.
    pub(crate) len: Bytes,
    /// What all offsets and lengths are multiples of; the namespace's block at least.
    pub(crate) align: Bytes,
    /// From one request's place to the next one's.
    pub(crate) stride: Bytes,
    /// The node of the queues.
    pub(crate) node: Option<NodeId>,
    /// How long a command may take before it is aborted.
    pub(crate) deadline: Nanos,
    /// Whether all that has completed is taken at a look, since what is done with it takes long: what is left would be timed
    /// after that.
    pub(crate) whole: bool,
}

/// What the memory of a command's PRP list looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists {
    /// Of the first, in the memory beside the rings.
    pub(super) first: u64,
    /// From one command's to the next one's; 0 where no command needs any.
    pub(super) stride: u64,
}

impl Lists {
    /// For commands of up to `len` bytes.
    pub(super) fn of(page: PageSize, len: Bytes) -> Lists {
        let size = page.bytes().0;
        // A transfer that begins within a page touches one page more.
        let entries = len.0.div_ceil(size);
        let stride = if entries < 2 {
            0
        } else if entries * prp::ENTRY <= size {
            // Within one page wherever it lies.
            (entries * prp::ENTRY).next_power_of_two()
        } else {
            // Each page but the last gives one entry up to the next page's address.
            entries.div_ceil(size / prp::ENTRY - 1) * size
        };
        Lists { first: 0, stride }
    }
}

impl Shape {
    /// The power of two that all offsets and lengths are multiples of.
    pub(super) fn multiple(&self, namespace: &Namespace) -> Bytes {
        match self.align.0.is_power_of_two() {
            true => self.align.max(namespace.block),
            false => namespace.block,
        }
    }
}

/// Commands that are kept ready for each request of a shape: as many as it may be split into, and a power of two.
///
/// # Errors
/// [`NvmeError::TooDeep`], when the controller's queues hold fewer than all requests may need at a time.
pub(crate) fn fits(
    controller: &Controller,
    namespace: &Namespace,
    shape: &Shape,
) -> Result<u64, NvmeError> {
    let (most, boundary) = (Some(namespace.most), namespace.boundary);
    let pieces = most_pieces(shape.len, most, boundary, shape.multiple(namespace));
    let spread = pieces.next_power_of_two();
    let commands = spread.saturating_mul(u64::from(shape.depth));
    let queue = controller.identity().most_entries.holds();
    // One number less, so that no identifier is FFFFh.
    let holds = u64::from(queue).min((1 << NUMBER) - 1);
    if commands > holds {
        return Err(NvmeError::TooDeep {
            name: controller.name(),
            depth: shape.depth,
            len: shape.len,
            commands,
            holds,
        });
    }
    Ok(spread)
}
