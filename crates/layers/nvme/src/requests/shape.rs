//! What requests need: commands, identifiers, memory for PRP lists.

use strata_nvme_spec::{PageSize, prp};
use strata_units::{Bytes, Nanos, NodeId};

use super::NUMBER;
use crate::split::most_pieces;
use crate::{Controller, Namespace};

/// Where the requests go, and how large they may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Requests at a time; each has a place in the memory.
    pub(crate) depth: u16,
    /// The largest.
    pub(crate) len: Bytes,
    /// From one request's place to the next one's.
    pub(crate) stride: Bytes,
    /// The node of the queues.
    pub(crate) node: Option<NodeId>,
    /// How long a command may take before it is aborted.
    pub(crate) deadline: Nanos,
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

/// Commands that are kept ready for a request of `len` bytes: as many as it may be split into, and a power of two.
pub(crate) fn most_commands(namespace: &Namespace, len: Bytes) -> u64 {
    let (most, boundary) = (Some(namespace.most), namespace.boundary);
    most_pieces(len, most, boundary, namespace.block).next_power_of_two()
}

/// Commands that a queue pair of a controller may have outstanding.
pub(crate) fn holds(controller: &Controller) -> u64 {
    let queue = controller.identity().most_entries.holds();
    // One number less, so that no identifier is FFFFh.
    u64::from(queue).min((1 << NUMBER) - 1)
}
