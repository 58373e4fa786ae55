//! The controller's registers: starting and stopping it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use strata_nvme_spec::registers::{
    Cap, Cc, Crto, Csts, GONE, Shutdown, ShutdownStatus, Version, offset, ready_timeout,
};
use strata_nvme_spec::{PageSize, QueueSize};
use strata_units::{ByteOffset, Bytes, Iova, Nanos};

use crate::{Function, NvmeError, Options};

/// Added to each time that the controller asks for: its unit, so that the 0 of some is half a second (Linux does the same).
const MARGIN: Nanos = Nanos::from_millis(500);
/// Between two looks at CSTS; doubled up to the second.
const FIRST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(5);
/// Mappings begin at multiples of this, so that no larger memory page is aligned.
const LARGEST_PAGE: Bytes = Bytes(2 << 20);

/// How a controller that is not there answers.
pub(crate) const ALL_ONES: &str = "its registers read as all ones";

/// The registers of a function's BAR 0.
pub(crate) struct Registers {
    function: Arc<Function>,
    name: String,
    ready_at_most: Nanos,
}

/// What the registers say that never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) cap: Cap,
    pub(crate) version: Version,
    /// The largest I/O queue.
    pub(crate) most_entries: QueueSize,
    /// The memory page to be used.
    pub(crate) page: PageSize,
    /// How long CSTS.RDY may take.
    pub(crate) ready: Nanos,
}

impl Registers {
    pub(crate) fn new(function: Arc<Function>, options: &Options) -> Registers {
        let name = function.carrier().name().to_owned();
        Registers {
            function,
            name,
            ready_at_most: options.ready_at_most,
        }
    }

    pub(crate) fn function(&self) -> &Arc<Function> {
        &self.function
    }

    /// The controller, for messages.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    pub(crate) fn unfit(&self, found: impl Into<String>, expected: &'static str) -> NvmeError {
        NvmeError::Unfit {
            name: self.name(),
            found: found.into(),
            expected,
        }
    }

    fn removed(&self, what: &'static str) -> NvmeError {
        NvmeError::Removed {
            name: self.name(),
            what,
            found: self.function.carrier().gone().unwrap_or(ALL_ONES),
        }
    }

    fn read32(&self, at: u64, what: &'static str) -> Result<u32, NvmeError> {
        let found = self.function.carrier().read32(ByteOffset(at))?;
        match found {
            GONE => Err(self.removed(what)),
            value => Ok(value),
        }
    }

    fn write32(&self, at: u64, value: u32) -> Result<(), NvmeError> {
        Ok(self.function.carrier().write32(ByteOffset(at), value)?)
    }

    fn write64(&self, at: u64, value: u64) -> Result<(), NvmeError> {
        Ok(self.function.carrier().write64(ByteOffset(at), value)?)
    }

    /// CSTS of a function that is there.
    fn status(&self, what: &'static str) -> Result<Csts, NvmeError> {
        self.read32(offset::CSTS, what).map(Csts)
    }

    /// That the controller is there and has no fatal status.
    pub(crate) fn check(&self, what: &'static str) -> Result<Csts, NvmeError> {
        let csts = self.status(what)?;
        if csts.cfs() {
            return Err(NvmeError::Fatal {
                name: self.name(),
                what,
                csts,
            });
        }
        Ok(csts)
    }

    /// Reads what never changes, and checks that this driver can live with it.
    pub(crate) fn capabilities(&self) -> Result<Capabilities, NvmeError> {
        let cap = self.function.carrier().read64(ByteOffset(offset::CAP))?;
        if cap == u64::MAX {
            return Err(self.removed("tell its capabilities"));
        }
        let cap = Cap(cap);
        let version = Version(self.read32(offset::VS, "tell its version")?);
        let most_entries = cap.queue_size().ok_or_else(|| {
            self.unfit(
                "it takes queues of 1 entry (CAP.MQES is 0)",
                "a queue has 2 entries or more; update its firmware",
            )
        })?;
        if !cap.command_sets().nvm {
            return Err(self.unfit(
                format!(
                    "it does not take the NVM command set (CAP is {:#018x})",
                    cap.0
                ),
                "bit 37 of CAP has to be set; this is no controller of a drive",
            ));
        }
        let page = self.page(cap)?;
        // CRTO is there only where CAP.CRMS says so.
        let crto = if cap.ready_with_media() || cap.ready_independent_of_media() {
            Crto(self.read32(offset::CRTO, "tell its ready timeouts")?)
        } else {
            Crto::default()
        };
        let asked = ready_timeout(cap, crto, false);
        Ok(Capabilities {
            cap,
            version,
            most_entries,
            page,
            ready: (asked + MARGIN).min(self.ready_at_most),
        })
    }

    /// The smallest memory page: 4 KiB of nearly all.
    fn page(&self, cap: Cap) -> Result<PageSize, NvmeError> {
        let (smallest, largest) = (cap.smallest_page(), cap.largest_page());
        let found = || {
            format!("its memory pages are from {smallest} to {largest} (CAP.MPSMIN, CAP.MPSMAX)")
        };
        if smallest > largest {
            return Err(self.unfit(
                found(),
                "the smallest may not be above the largest; update its firmware",
            ));
        }
        if smallest.bytes() > LARGEST_PAGE {
            return Err(self.unfit(
                found(),
                "the smallest may be 2MiB at most; use the kernel's driver",
            ));
        }
        Ok(smallest)
    }

    /// Waits for CSTS.RDY to be so.
    fn wait(&self, ready: bool, within: Nanos) -> Result<(), NvmeError> {
        let (begin, mut nap) = (Instant::now(), FIRST_NAP);
        loop {
            // Late looks count: what became so while this thread did not run is in time.
            let late = begin.elapsed() > within.as_duration();
            let csts = if ready {
                self.check("become ready")?
            } else {
                // Fatal status is what a reset is for.
                self.status("stop")?
            };
            if csts.rdy() == ready {
                return Ok(());
            }
            if late {
                return Err(NvmeError::NotReady {
                    name: self.name(),
                    ready,
                    within,
                    csts,
                });
            }
            thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }

    /// Stops the controller: a controller reset (Base 3.7.2). Whether it was enabled.
    ///
    /// One that is about to become ready is let so first, since clearing CC.EN before is undefined (Base 3.1.4.5).
    pub(crate) fn disable(&self, within: Nanos) -> Result<bool, NvmeError> {
        let cc = Cc(self.read32(offset::CC, "tell its configuration")?);
        if cc.en() {
            let csts = self.status("stop")?;
            if !csts.rdy() && !csts.cfs() {
                match self.wait(true, within) {
                    // Neither will it become ready then.
                    Ok(()) | Err(NvmeError::NotReady { .. } | NvmeError::Fatal { .. }) => {}
                    Err(why) => return Err(why),
                }
            }
        }
        self.clear(cc)?;
        self.wait(false, within)?;
        Ok(cc.en())
    }

    fn clear(&self, cc: Cc) -> Result<(), NvmeError> {
        if cc.en() {
            self.write32(offset::CC, cc.with_en(false).0)?;
        }
        Ok(())
    }

    /// Asks for an orderly shutdown (Base 3.6.2), and waits for it: what the write cache holds is on the medium then, and it
    /// may lose its power.
    ///
    /// # Errors
    /// It is gone, has a fatal status, or takes longer.
    pub(crate) fn shut_down(&self, within: Nanos) -> Result<(), NvmeError> {
        let cc = Cc(self.read32(offset::CC, "shut down")?);
        if !cc.en() {
            return Ok(());
        }
        self.write32(offset::CC, cc.with_shutdown(Shutdown::Normal).0)?;
        let (begin, mut nap) = (Instant::now(), FIRST_NAP);
        loop {
            let late = begin.elapsed() > within.as_duration();
            let csts = self.check("shut down")?;
            if csts.shutdown() == ShutdownStatus::Complete {
                return Ok(());
            }
            if late {
                let found = format!("it does not shut down within {within}");
                return Err(self.unfit(found, "it is stopped without that"));
            }
            thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }

    /// Stops the controller whatever it does: when it returns well, the controller touches no memory.
    pub(crate) fn silence(&self, within: Nanos) -> Result<(), NvmeError> {
        let stop = || {
            let cc = Cc(self.read32(offset::CC, "stop")?);
            self.clear(cc)?;
            self.wait(false, within)?;
            // Fatal status that outlasts the reset wants a harder one.
            self.check("stop")
        };
        let why = match stop() {
            Ok(_) => return Ok(()),
            Err(why) => why,
        };
        // One that was closed reads and writes nothing any more.
        if self.function.carrier().gone().is_some() {
            return Ok(());
        }
        let reset = self.function.carrier().reset();
        match reset.map_err(NvmeError::from).and_then(|()| stop()) {
            Ok(_) => Ok(()),
            // One that is gone is not said to run on.
            Err(_) if matches!(why, NvmeError::Removed { .. }) => Err(why),
            Err(then) => Err(NvmeError::Lost {
                name: self.name(),
                why: format!("{why}; a reset of the function: {then}"),
            }),
        }
    }

    /// Enables a controller that is stopped, with its admin queues of so many entries there.
    pub(crate) fn enable(
        &self,
        capabilities: &Capabilities,
        attributes: u32,
        submissions: Iova,
        completions: Iova,
    ) -> Result<(), NvmeError> {
        self.write32(offset::AQA, attributes)?;
        self.write64(offset::ASQ, submissions.0)?;
        self.write64(offset::ACQ, completions.0)?;
        // Round robin, NVM command set, no CRIME: ready means ready for I/O.
        self.write32(offset::CC, Cc::enabling(capabilities.page).0)?;
        self.wait(true, capabilities.ready)
    }
}
