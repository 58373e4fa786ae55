//! How a PCI function is reached.

use std::ops::Range;

use strata_memory::Region;
use strata_units::{ByteOffset, Bytes, Iova};

use crate::Doorbells;

/// A PCI function: its configuration space, the registers behind its first BAR, and its way to memory.
///
/// Registers are read and written rarely, and may take their time; doorbells are memory, and never pass through here. Each
/// register access is one access of its own size (PCIe Transport 3.1: 4 or 8 bytes).
pub trait Carrier: Send {
    /// What it is, for messages: `the controller at /tmp/emu`, `0000:81:00.0`.
    fn name(&self) -> &str;

    /// Reads configuration space.
    ///
    /// # Errors
    /// The function cannot be reached.
    fn read_config(&mut self, at: ByteOffset, into: &mut [u8]) -> Result<(), CarrierError>;

    /// Writes configuration space.
    ///
    /// # Errors
    /// The function cannot be reached.
    fn write_config(&mut self, at: ByteOffset, from: &[u8]) -> Result<(), CarrierError>;

    /// Reads a register of 4 bytes.
    ///
    /// # Errors
    /// The function cannot be reached. One that was removed may read as all ones instead.
    fn read32(&mut self, at: ByteOffset) -> Result<u32, CarrierError>;

    /// Reads a register of 8 bytes.
    ///
    /// # Errors
    /// As [`Carrier::read32`].
    fn read64(&mut self, at: ByteOffset) -> Result<u64, CarrierError>;

    /// Writes a register of 4 bytes.
    ///
    /// # Errors
    /// The function cannot be reached.
    fn write32(&mut self, at: ByteOffset, value: u32) -> Result<(), CarrierError>;

    /// Writes a register of 8 bytes.
    ///
    /// # Errors
    /// The function cannot be reached.
    fn write64(&mut self, at: ByteOffset, value: u64) -> Result<(), CarrierError>;

    /// Maps the first `len` bytes of doorbells.
    ///
    /// # Errors
    /// The BAR is shorter, or cannot be mapped.
    fn doorbells(&mut self, len: Bytes) -> Result<Doorbells, CarrierError>;

    /// The addresses at which memory may be mapped for the device: ranges in ascending order, with what an IOMMU keeps for itself
    /// (the window of interrupt messages) left out between them.
    fn addresses(&self) -> &[Range<Iova>];

    /// Lets the device read and write a region at `iova`.
    ///
    /// # Errors
    /// It is refused: limits of locked memory, an address outside of [`Carrier::addresses`], too many mappings.
    fn map(&mut self, region: &Region, iova: Iova) -> Result<(), CarrierError>;

    /// Takes back what [`Carrier::map`] gave; when this returns the device cannot touch it any more.
    ///
    /// # Errors
    /// It may still touch it: the memory must never be used for anything else.
    fn unmap(&mut self, iova: Iova, len: Bytes) -> Result<(), CarrierError>;

    /// Resets the function (PCIe function-level reset).
    ///
    /// # Errors
    /// It cannot be reset, or not be reached.
    fn reset(&mut self) -> Result<(), CarrierError>;

    /// Why the function was let go of, if it was: its registers read as all ones since, and it touches no memory any more.
    fn gone(&self) -> Option<&'static str> {
        None
    }
}

/// A PCI function did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} of {name}: {why}")]
pub struct CarrierError {
    /// What was to be done.
    pub what: String,
    /// The function.
    pub name: String,
    /// Why it was not, with the next step.
    #[source]
    pub why: Box<dyn std::error::Error + Send + Sync>,
}

impl CarrierError {
    /// What was to be done, with which function, and why it was not.
    pub(crate) fn new(
        what: impl Into<String>,
        name: &str,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> CarrierError {
        CarrierError {
            what: what.into(),
            name: name.to_owned(),
            why: why.into(),
        }
    }
}
