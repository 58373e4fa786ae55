//! A PCI function that several threads use, and the memory that it sees.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_measure::Buffers;
use strata_memory::Region;
use strata_units::{Bytes, Iova};

use crate::{Carrier, CarrierError};

/// Mappings begin at multiples of this, so that pages of 2 MiB stay whole for an IOMMU.
const ALIGN: u64 = 2 << 20;

/// Why memory could not be given to a device.
#[derive(Debug, thiserror::Error)]
pub enum DmaError {
    /// The carrier refuses.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// No address is free.
    #[error(
        "there is no free address for {len} more of memory behind {name}; give smaller buffers, or fewer threads"
    )]
    NoRoom {
        /// The function.
        name: String,
        /// The memory.
        len: Bytes,
    },
}

/// A PCI function, shared by those who use it.
pub struct Function {
    carrier: Mutex<Box<dyn Carrier>>,
    /// Addresses in use, in order.
    used: Mutex<Vec<(u64, u64)>>,
    /// Whether the device may still use addresses that were taken back from it.
    distrusted: AtomicBool,
}

impl Function {
    /// Shares what a carrier reaches.
    pub fn new(carrier: Box<dyn Carrier>) -> Arc<Function> {
        Arc::new(Function {
            carrier: Mutex::new(carrier),
            used: Mutex::new(Vec::new()),
            distrusted: AtomicBool::new(false),
        })
    }

    /// The carrier, for as long as the guard lives.
    pub fn carrier(&self) -> MutexGuard<'_, Box<dyn Carrier>> {
        // A panic of another thread leaves no half-done access behind: each is one call.
        self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the device see memory until the mapping is dropped.
    ///
    /// # Errors
    /// [`DmaError`]
    pub fn map<M: Memory>(self: &Arc<Self>, memory: M) -> Result<Mapped<M>, DmaError> {
        let region = memory.region();
        let len = region.len();
        let mut carrier = self.carrier();
        let iova = self.take(&**carrier, len)?;
        if let Err(why) = carrier.map(region, iova) {
            self.give_back(iova);
            return Err(why.into());
        }
        drop(carrier);
        Ok(Mapped {
            memory: ManuallyDrop::new(memory),
            iova,
            function: Arc::clone(self),
        })
    }

    /// The first gap that is long enough.
    fn take(&self, carrier: &dyn Carrier, len: Bytes) -> Result<Iova, DmaError> {
        let range = carrier.addresses();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut start, mut place) = (range.start.0.next_multiple_of(ALIGN), used.len());
        for (index, (from, length)) in used.iter().enumerate() {
            if start.saturating_add(len.0) <= *from {
                place = index;
                break;
            }
            start = (from + length).next_multiple_of(ALIGN);
        }
        if start.saturating_add(len.0) > range.end.0 {
            return Err(DmaError::NoRoom {
                name: carrier.name().to_owned(),
                len,
            });
        }
        used.insert(place, (start, len.0));
        Ok(Iova(start))
    }

    /// From now on no address is given out twice: the device could not be stopped, and a late write of its goes nowhere
    /// rather than into what was mapped there since.
    pub(crate) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    fn give_back(&self, iova: Iova) {
        if self.distrusted.load(Ordering::Relaxed) {
            return;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|(from, _)| *from != iova.0);
    }
}

/// Memory of one shared region.
pub trait Memory {
    /// The region.
    fn region(&self) -> &Region;
}

impl Memory for Region {
    fn region(&self) -> &Region {
        self
    }
}

impl Memory for Buffers {
    fn region(&self) -> &Region {
        Buffers::region(self)
    }
}

/// Memory that a device sees. Dropped, it is taken back from the device first; where that fails it is never freed, since
/// the device may still write to it.
pub struct Mapped<M: Memory> {
    memory: ManuallyDrop<M>,
    iova: Iova,
    function: Arc<Function>,
}

impl<M: Memory> Mapped<M> {
    /// Where the device sees its first byte.
    pub fn iova(&self) -> Iova {
        self.iova
    }
}

impl<M: Memory> Deref for Mapped<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.memory
    }
}

impl<M: Memory> Drop for Mapped<M> {
    fn drop(&mut self) {
        let len = self.memory.region().len();
        if self.function.carrier().unmap(self.iova, len).is_ok() {
            self.function.give_back(self.iova);
            // SAFETY: the value is dropped here alone, and nobody can use it afterwards, since its owner is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.memory) }
        }
    }
}
