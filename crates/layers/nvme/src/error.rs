//! What goes wrong with a controller.

use strata_nvme_spec::Status;
use strata_nvme_spec::registers::Csts;
use strata_units::{Bytes, Nanos};

use crate::{CarrierError, DmaError, RingsError};
use strata_memory::MemoryError;

/// A controller could not be brought up, asked, or kept.
#[derive(Debug, thiserror::Error)]
pub enum NvmeError {
    /// The PCI function could not be reached.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// There is no memory for queues.
    #[error("cannot make {what} of {name}: {why}")]
    Memory {
        /// The controller.
        name: String,
        /// Which queue.
        what: &'static str,
        /// Why.
        #[source]
        why: Box<RingsError>,
    },
    /// There is no memory for data.
    #[error("no memory for data of {name}: {why}")]
    Data {
        /// The controller.
        name: String,
        /// Why.
        #[source]
        why: Box<MemoryError>,
    },
    /// Memory for data cannot be given to it.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// More commands would be in flight than its queues hold.
    #[error(
        "{depth} requests of {len} are up to {commands} commands of {name}, and a queue pair holds {holds}; give a smaller --depth or --bs"
    )]
    TooDeep {
        /// The controller.
        name: String,
        /// The requests.
        depth: u16,
        /// The size of each.
        len: Bytes,
        /// Commands that they may be split into.
        commands: u64,
        /// What fits.
        holds: u64,
    },
    /// The function is something else.
    #[error(
        "{name} is no NVMe controller: its PCI class is {found:06x}h, expected 010802h; give the address of an NVMe function"
    )]
    NotNvme {
        /// The function.
        name: String,
        /// Class, subclass and interface.
        found: u32,
    },
    /// What the controller says of itself does not fit this driver, or itself.
    #[error("{name} cannot be driven: {found}; {expected}")]
    Unfit {
        /// The controller.
        name: String,
        /// What it says.
        found: String,
        /// What it would have to say, and the next step.
        expected: &'static str,
    },
    /// CSTS.RDY did not follow CC.EN.
    #[error(
        "{name} did not become {} within {within}, the time that it asks for or the most that is waited: CSTS is {:#010x}; reset it or power it off and on",
        if *ready { "ready" } else { "disabled" }, csts.0
    )]
    NotReady {
        /// The controller.
        name: String,
        /// What RDY should have become.
        ready: bool,
        /// How long it was waited for.
        within: Nanos,
        /// What was read last.
        csts: Csts,
    },
    /// Controller Fatal Status.
    #[error(
        "{name} reports a fatal status (CSTS.CFS) while it was to {what}: CSTS is {:#010x}; reset it, and read its error log",
        csts.0
    )]
    Fatal {
        /// The controller.
        name: String,
        /// What it was to do.
        what: &'static str,
        /// What was read.
        csts: Csts,
    },
    /// The function does not answer any more.
    #[error(
        "{name} is gone: {found} while it was to {what}; look for it in its slot and in the kernel's log, and open it again"
    )]
    Removed {
        /// The controller.
        name: String,
        /// What it was to do.
        what: &'static str,
        /// How that was found.
        found: &'static str,
    },
    /// An admin command has no completion.
    #[error(
        "{name} did not {what} within {within}; the controller was to be reset then: its queues have to be made again"
    )]
    Deadline {
        /// The controller.
        name: String,
        /// What it was to do.
        what: &'static str,
        /// The deadline.
        within: Nanos,
    },
    /// An admin command was refused.
    #[error("{name} does not {what}: {status}; {}", next(*status))]
    Refused {
        /// The controller.
        name: String,
        /// What it was to do.
        what: &'static str,
        /// What it answers.
        status: Status,
    },
    /// More is asked for than there is.
    #[error("{name} cannot have {what} of {asked}: {most} is the most; ask for no more")]
    Limit {
        /// The controller.
        name: String,
        /// What is asked for.
        what: &'static str,
        /// How much.
        asked: u64,
        /// The limit.
        most: u64,
    },
    /// A reset stopped the controller and did not bring it up again.
    #[error(
        "{name} is stopped, since it did not come back from a reset; reset it again, or open it anew"
    )]
    Down {
        /// The controller.
        name: String,
    },
    /// The controller could not be stopped: it may still write to memory that it was given, which is not used any more.
    #[error("{name} is lost, since it cannot be stopped: {why}; power it off and on")]
    Lost {
        /// The controller.
        name: String,
        /// What stopping it came to.
        why: String,
    },
}

fn next(status: Status) -> &'static str {
    if status.is_retryable() {
        "it may be tried again"
    } else {
        "the same command will not succeed"
    }
}
