//! The controller: what becomes of it as it is enabled, reset, shut down, given memory and left.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use strata_memory::sigbus;
use strata_nvme_spec::registers::{Cc, CommandSet, Csts, Doorbell, Shutdown, ShutdownStatus};
use strata_nvme_spec::{QueueId, QueueSize};
use strata_units::{ByteOffset, Bytes, Iova, Nanos};
use strata_vfio_user::{Area, Mapping, Region, Share, region};

use crate::admin::{Features, Identity};
use crate::clock::Clock;
use crate::config::Config;
use crate::config_space::{BAR_LEN, ConfigSpace, LEN};
use crate::error::EmulatorError;
use crate::events::Events;
use crate::io::Io;
use crate::later::Later;
use crate::model::{Dice, Pace};
use crate::namespace::Namespace;
use crate::queues::Queues;
use crate::registers::{DOORBELL_PAGE, Registers};
use crate::ring::{Bell, Completions, Submissions};
use crate::watch::Watch;

/// Entries of a page of the MSI-X table.
pub(crate) const MSIX_LEN: usize = 4096;

/// What decides when commands complete and what becomes of them.
pub(crate) struct Models {
    pub(crate) pace: Pace,
    pub(crate) dice: Dice,
    pub(crate) later: Later,
    /// Whether they have to be asked at all.
    pub(crate) asked: bool,
}

impl Models {
    /// The most that can wait for a time to complete to a queue of so many entries.
    pub(crate) fn most(&self, entries: u32) -> usize {
        let each = match (self.asked, self.dice.is_fair()) {
            (false, _) => 0,
            (true, true) => 1,
            // Some wait to complete a second time.
            (true, false) => 2,
        };
        entries as usize * each
    }
}

/// An emulated controller.
pub(crate) struct Controller {
    pub(crate) io: Io,
    pub(crate) queues: Queues,
    pub(crate) models: Models,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) features: Features,
    pub(crate) identity: Identity,
    pub(crate) registers: Registers,
    pub(crate) config_space: ConfigSpace,
    pub(crate) regions: Vec<Region>,
    pub(crate) vectors: Vec<Option<OwnedFd>>,
    pub(crate) msix: Vec<u8>,
    /// I/O queue pairs that there can be.
    pub(crate) pairs: u16,
    /// Whether data is moved.
    pub(crate) moves: bool,
    /// Whether queues are polled.
    pub(crate) live: bool,
    /// Whether it was pulled out.
    pub(crate) removed: bool,
    /// The doorbells that the client maps.
    pub(crate) page: Rc<Mapping>,
    ready_after: Nanos,
    enabled: Option<Nanos>,
    pub(crate) watch: Watch,
}

impl Controller {
    /// The controller of a configuration that was checked.
    pub(crate) fn new(config: &Config) -> Result<Controller, EmulatorError> {
        let pace = Pace::new(&config.performance, config.seed)?;
        let dice = Dice::new(&config.faults, config.seed)?;
        let namespaces = (1..)
            .zip(&config.namespace)
            .map(|(nsid, it)| Namespace::new(config, nsid, it))
            .collect::<Result<Vec<_>, _>>()?;
        sigbus::install().map_err(|why| EmulatorError::System {
            what: "handle SIGBUS",
            why,
        })?;
        let (page, regions) = bar().map_err(|why| EmulatorError::System {
            what: "make a page of doorbells",
            why,
        })?;
        let vectors = config.queues + 1;
        Ok(Controller {
            io: Io::new(namespaces, config.transfer.0),
            queues: Queues::default(),
            identity: Identity::new(config, pace.thresholds()),
            features: Features::new(config.queues, pace.thresholds()),
            models: Models {
                asked: !(pace.is_instant() && dice.is_fair()),
                pace,
                dice,
                later: Later::default(),
            },
            clock: Clock::start(),
            events: Events::default(),
            registers: Registers::new(config),
            config_space: ConfigSpace::new(vectors, config.moves_data),
            regions,
            vectors: (0..vectors).map(|_| None).collect(),
            msix: vec![0; MSIX_LEN],
            pairs: config.queues,
            moves: config.moves_data,
            live: false,
            removed: false,
            page,
            ready_after: config.ready_after.0,
            enabled: None,
            watch: Watch::default(),
        })
    }

    /// Whether queues are polled when they may be.
    pub(crate) fn refresh(&mut self) {
        let csts = self.registers.csts;
        let shut = csts.shutdown() != ShutdownStatus::None;
        self.live =
            csts.rdy() && !csts.cfs() && !shut && !self.removed && self.config_space.masters();
    }

    /// Whether there is any queue but those for admin commands.
    pub(crate) fn has_io_queues(&self) -> bool {
        self.queues.submissions.len() > 1
    }

    /// CC was written.
    pub(crate) fn configure(&mut self, cc: Cc) {
        let before = std::mem::replace(&mut self.registers.cc, cc);
        match (before.en(), cc.en()) {
            (false, true) => self.enable(),
            (true, false) => self.disable(),
            _ => {}
        }
        let asked = matches!(cc.shutdown(), Shutdown::Normal | Shutdown::Abrupt);
        if asked && before.shutdown() != cc.shutdown() {
            // A host that shuts down hears of no failure; whoever serves hears of it at the end.
            let _ = self.flush();
            let csts = self.registers.csts;
            self.registers.csts = csts.with_shutdown(ShutdownStatus::Complete);
            // No command is fetched any more until the controller was reset (Base 3.6).
            self.refresh();
        }
    }

    /// What is in files is put on their medium, as far as it is still there.
    pub(crate) fn flush(&self) -> Result<(), EmulatorError> {
        let namespaces = (1..).zip(&self.io.namespaces);
        // All of them, whatever the first says.
        let ends: Vec<_> = namespaces.map(|(nsid, it)| it.media.finish(nsid)).collect();
        ends.into_iter().collect()
    }

    fn enable(&mut self) {
        self.enabled = Some(self.clock.now());
        // A shutdown before it was enabled is over.
        let csts = self.registers.csts;
        self.registers.csts = csts.with_shutdown(ShutdownStatus::None);
        // A namespace that lost blocks has nothing to offer to any host.
        if self.io.torn || self.make_admin_queues().is_none() {
            self.fail();
        }
        self.become_ready();
    }

    /// The admin queues, as AQA, ASQ and ACQ say; `None` when CC or they make no sense (Base 3.5.1).
    fn make_admin_queues(&mut self) -> Option<()> {
        let Registers { cc, cap, aqa, .. } = self.registers;
        let sound = cap.takes_page(cc.page())
            && cc.command_set() == CommandSet::Nvm
            && cc.arbitration() == 0;
        if !sound {
            return None;
        }
        self.io.page = cc.page();
        let (asq, acq) = (self.registers.asq(), self.registers.acq());
        let completions = self.completions(QueueId::ADMIN, aqa.completion()?, acq, Some(0))?;
        self.queues.add_completions(completions);
        let submissions = self.submissions(QueueId::ADMIN, aqa.submission()?, asq, 0)?;
        self.queues.add_submissions(submissions);
        Some(())
    }

    /// A completion queue at `at`; `None` unless it lies in memory that the client mapped to be written.
    pub(crate) fn completions(
        &self,
        id: QueueId,
        size: QueueSize,
        at: Iova,
        vector: Option<u16>,
    ) -> Option<Completions> {
        let len = Bytes(16) * u64::from(size.entries());
        let place = self.io.space.place(at, len, true)?;
        let bell = self.bell(Doorbell::Head(id))?;
        Some(Completions::new(id, size, place, bell, vector, at))
    }

    /// A submission queue at `at`; `None` unless it lies in memory that the client mapped to be read.
    pub(crate) fn submissions(
        &self,
        id: QueueId,
        size: QueueSize,
        at: Iova,
        completions: usize,
    ) -> Option<Submissions> {
        let len = Bytes(64) * u64::from(size.entries());
        let place = self.io.space.place(at, len, false)?;
        let bell = self.bell(Doorbell::Tail(id))?;
        Some(Submissions::new(id, size, place, bell, completions, at))
    }

    fn bell(&self, doorbell: Doorbell) -> Option<Bell> {
        Bell::new(&self.page, self.place_of(doorbell).0 as usize)
    }

    /// Where a doorbell lies in the page.
    pub(crate) fn place_of(&self, doorbell: Doorbell) -> ByteOffset {
        let stride = self.registers.cap.doorbell_stride();
        ByteOffset(doorbell.offset(stride).saturating_sub(0x1000))
    }

    /// Controller reset (Base 3.7.2): queues and what waits in them are gone; the admin queue's registers stay.
    fn disable(&mut self) {
        self.stop();
        self.events = Events::default();
        self.features.reset();
        self.io.reset();
        self.registers.csts = Csts(0);
        self.watch = Watch::default();
        self.enabled = None;
    }

    /// No queue is looked at any more.
    fn stop(&mut self) {
        self.live = false;
        self.queues.clear();
        self.models.later.clear();
        for word in (0..DOORBELL_PAGE).step_by(4) {
            self.page.store_u32(ByteOffset(word), 0);
        }
    }

    /// Fatal status: nothing is done until the host resets the controller (Base 9.5).
    pub(crate) fn fail(&mut self) {
        self.stop();
        self.registers.csts = self.registers.csts.with_cfs(true);
    }

    /// It is pulled out.
    pub(crate) fn remove(&mut self) {
        self.stop();
        self.removed = true;
    }

    /// RDY follows EN, when its time has come.
    pub(crate) fn become_ready(&mut self) {
        let csts = self.registers.csts;
        let Some(since) = self.enabled else { return };
        let waits = csts.rdy() || csts.cfs() || !self.models.dice.becomes_ready();
        if !waits && self.clock.now() - since >= self.ready_after {
            self.registers.csts = csts.with_rdy(true);
            self.refresh();
        }
    }

    /// When [`Controller::become_ready`] has something to do next, from now.
    pub(crate) fn ready_in(&self) -> Option<Nanos> {
        let csts = self.registers.csts;
        let since = self
            .enabled
            .filter(|_| !csts.rdy() && !csts.cfs() && self.models.dice.becomes_ready())?;
        Some(since + self.ready_after - self.clock.now())
    }

    /// Resets the function: all that the host set is gone, and the drive's own memory stays.
    pub(crate) fn reset_function(&mut self) {
        self.disable();
        self.registers.clear();
        let vectors = self.pairs + 1;
        self.config_space = ConfigSpace::new(vectors, self.moves);
        self.msix.fill(0);
    }

    /// The client takes memory back.
    pub(crate) fn lose(&mut self, iova: Iova, len: Bytes) {
        if self.queues.lie_in(iova, len) {
            self.fail();
        }
        self.io.space.remove(iova);
    }

    /// The client has left, and the power went with it.
    pub(crate) fn power_down(&mut self) {
        let shut = self.registers.csts.shutdown() == ShutdownStatus::Complete;
        if self.registers.cc.en() && !shut {
            self.io.health.unsafe_shutdowns += 1;
        }
        self.io.health.power_cycles += 1;
        self.reset_function();
        self.removed = false;
        // A client that left may live, with the page still mapped: the next one gets another. Without a descriptor for it, it
        // is the old one.
        if let Ok((page, regions)) = bar() {
            (self.page, self.regions) = (page, regions);
        }
    }

    /// Signals an interrupt, if the client set it up. A descriptor that would block has its interrupt waiting.
    #[cold]
    pub(crate) fn signal(&self, vector: u16) {
        let Some(Some(eventfd)) = self.vectors.get(usize::from(vector)) else {
            return;
        };
        let mut fds = [PollFd::new(eventfd, PollFlags::OUT)];
        let now = Timespec::default();
        let ready = poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0);
        if ready && fds[0].revents().contains(PollFlags::OUT) {
            // A client that closed the other end misses nothing.
            let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
        }
    }
}

/// BAR 0 and configuration space, and the page of doorbells in the first.
fn bar() -> std::io::Result<(Rc<Mapping>, Vec<Region>)> {
    let file = memfd_create("doorbells", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    // Mapped areas lie at the region's offset plus their own, so that the file begins with a page for the registers.
    ftruncate(&file, 0x1000 + DOORBELL_PAGE)?;
    // The client, who gets the descriptor, cannot take the page from under us.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let doorbells = Area {
        at: ByteOffset(0x1000),
        len: Bytes(DOORBELL_PAGE),
    };
    let page = Mapping::new(file.as_fd(), doorbells.at, doorbells.len, true)
        .map_err(std::io::Error::other)?;
    let mut regions = vec![Region::default(); region::COUNT];
    regions[region::BAR0 as usize] = Region {
        share: Some(Share {
            file: Arc::new(file),
            offset: ByteOffset(0),
            areas: vec![doorbells],
        }),
        ..Region::plain(Bytes(BAR_LEN))
    };
    regions[region::CONFIG as usize] = Region::plain(Bytes(LEN as u64));
    Ok((Rc::new(page), regions))
}
