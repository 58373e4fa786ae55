//! How SPDK's environment is to be.

use strata_units::{Bytes, CpuId, PciAddress};

/// What its memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Huge pages, taken as they are needed, from whichever nodes memory is asked of.
    Huge,
    /// Small pages, so much in one piece: an ordinary user has these too. Drives need an IOMMU then.
    Small(Bytes),
}

/// The options of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The CPU on which it is started; DPDK's own threads stay there, and do nothing while queue pairs are polled.
    pub cpu: CpuId,
    /// Its memory.
    pub pages: Pages,
    /// The only functions that it may attach to; none: it leaves the PCI bus alone.
    pub functions: Vec<PciAddress>,
}

impl Environment {
    /// One for these functions, on a CPU, with huge pages. SPDK tells its files in hugetlbfs and in `/var/run/dpdk` from those of
    /// other programs by this process's number (`spdk_pidN`).
    pub fn on(cpu: CpuId, functions: Vec<PciAddress>) -> Environment {
        Environment {
            cpu,
            pages: Pages::Huge,
            functions,
        }
    }

    /// In MiB; −1 takes what is needed as it is needed.
    pub(crate) fn mebibytes(&self) -> i32 {
        match self.pages {
            Pages::Huge => -1,
            Pages::Small(bytes) => i32::try_from(bytes.0.div_ceil(1 << 20)).unwrap_or(i32::MAX),
        }
    }
}
