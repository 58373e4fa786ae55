//! The controller's properties in the first page of BAR 0 (Base 3.1.4), as far as they are numbers; what follows from writing
//! them is the controller's.

use strata_nvme_spec::QueueSize;
use strata_nvme_spec::registers::{Aqa, Cap, Cc, CommandSets, Crto, Csts, Version, offset};
use strata_units::{Bytes, Iova, Nanos};

use crate::config::{Config, LARGEST_PAGE, SMALLEST_PAGE};

/// What is implemented; 2.0 would ask for log pages and lists of command sets that nobody needs here. CRTO and the ready modes
/// of CAP, which 1.4 reserves, are there nevertheless: a host finds them by CAP's bits.
pub(crate) const VERSION: Version = Version::new(1, 4, 0);

/// How much longer than it takes the host is told to wait for CSTS.RDY.
const GRACE: Nanos = Nanos::from_millis(500);

/// Bytes of doorbells that can be mapped.
pub(crate) const DOORBELL_PAGE: u64 = 4096;

/// The properties.
#[derive(Debug)]
pub(crate) struct Registers {
    pub(crate) cap: Cap,
    pub(crate) cc: Cc,
    pub(crate) csts: Csts,
    pub(crate) aqa: Aqa,
    asq: u64,
    acq: u64,
    crto: Crto,
    masked: u32,
}

/// From one doorbell to the next: the most, up to 32 bytes so that a pair shares a cache line and two pairs do not, at which
/// all doorbells lie in the page.
pub(crate) fn stride(queues: u16) -> Bytes {
    let doorbells = 2 * (u64::from(queues) + 1);
    let fits = [32, 16, 8]
        .into_iter()
        .find(|stride| doorbells * stride <= DOORBELL_PAGE);
    Bytes(fits.unwrap_or(4))
}

impl Registers {
    pub(crate) fn new(config: &Config) -> Registers {
        let sets = CommandSets {
            nvm: true,
            all: false,
            none: false,
        };
        let wait = config.ready_after.0 + GRACE;
        let largest =
            QueueSize::new(config.entries).unwrap_or(QueueSize::from_field(1).expect("two"));
        let cap = Cap::default()
            .with_queue_size(largest)
            .with_contiguous_queues(true)
            .with_timeout(wait)
            .with_doorbell_stride(stride(config.queues))
            .with_command_sets(sets)
            .with_pages(SMALLEST_PAGE, LARGEST_PAGE)
            .with_ready_modes(true, false);
        Registers {
            cap,
            cc: Cc(0),
            csts: Csts(0),
            aqa: Aqa(0),
            asq: 0,
            acq: 0,
            crto: Crto::new(wait, Nanos(0)),
            masked: 0,
        }
    }

    /// As after a function-level reset: all that the host wrote is gone.
    pub(crate) fn clear(&mut self) {
        (self.cc, self.csts, self.aqa) = (Cc(0), Csts(0), Aqa(0));
        (self.asq, self.acq, self.masked) = (0, 0, 0);
    }

    /// Where the admin submission queue lies.
    pub(crate) fn asq(&self) -> Iova {
        Iova(self.asq & !0xfff)
    }

    /// Where the admin completion queue lies.
    pub(crate) fn acq(&self) -> Iova {
        Iova(self.acq & !0xfff)
    }

    /// The 4 bytes at an offset that is a multiple of 4; zeroes where there is nothing.
    pub(crate) fn read(&self, at: u64) -> u32 {
        let (low, high) = (at & !7, at & 4 != 0);
        let half = |value: u64| (value >> if high { 32 } else { 0 }) as u32;
        match (low, at) {
            (offset::CAP, _) => half(self.cap.0),
            (offset::ASQ, _) => half(self.asq),
            (offset::ACQ, _) => half(self.acq),
            (_, offset::VS) => VERSION.0,
            (_, offset::INTMS | offset::INTMC) => self.masked,
            (_, offset::CC) => self.cc.0,
            (_, offset::CSTS) => self.csts.0,
            (_, offset::AQA) => self.aqa.0,
            (_, offset::CRTO) => self.crto.0,
            _ => 0,
        }
    }

    /// Writes 4 bytes at an offset that is a multiple of 4, where they are only kept; CC and doorbells are not written here.
    pub(crate) fn write(&mut self, at: u64, value: u32) {
        let put = |place: &mut u64| {
            let shift = if at & 4 != 0 { 32 } else { 0 };
            *place = *place & !(0xffff_ffff << shift) | u64::from(value) << shift;
        };
        match (at & !7, at) {
            (offset::ASQ, _) => put(&mut self.asq),
            (offset::ACQ, _) => put(&mut self.acq),
            (_, offset::AQA) => self.aqa = Aqa(value & 0x0fff_0fff),
            (_, offset::INTMS) => self.masked |= value,
            (_, offset::INTMC) => self.masked &= !value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doorbells_lie_as_far_apart_as_they_can() {
        for (queues, expected) in [(1, 32), (63, 32), (64, 16)] {
            assert_eq!(stride(queues), Bytes(expected), "{queues}");
            assert!(2 * (u64::from(queues) + 1) * expected <= DOORBELL_PAGE);
        }
    }

    #[test]
    fn registers_of_eight_bytes_are_written_by_halves_too() {
        let mut registers = Registers::new(&Config::default());
        registers.write(offset::ASQ, 0x1234_5678);
        registers.write(offset::ASQ + 4, 0x9);
        assert_eq!(registers.asq(), Iova(0x9_1234_5000));
        assert_eq!(registers.read(offset::ASQ + 4), 9);
        registers.write(offset::CAP, 0);
        assert_eq!(
            registers.cap.queue_size().map(QueueSize::entries),
            Some(4096)
        );
        registers.write(offset::INTMS, 6);
        registers.write(offset::INTMC, 2);
        assert_eq!(registers.read(offset::INTMC), 4);
        assert_eq!(registers.read(offset::NSSR), 0);
        assert!(registers.cap.timeout() >= GRACE);
    }
}
