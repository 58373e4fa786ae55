//! Controller Configuration and Controller Status.

use super::GONE;
use crate::PageSize;
use crate::bits::{get, is_set, put};

/// Controller Configuration, CC (Base 3.1.4.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cc(pub u32);

/// The command set that I/O queues take, CC.CSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandSet {
    /// 000b: NVM.
    Nvm,
    /// 110b: all that the controller has.
    All,
    /// 111b: admin commands only.
    AdminOnly,
    /// What the specification reserves.
    Reserved(u8),
}

/// What the host asks for before power goes, CC.SHN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// 00b: nothing.
    None,
    /// 01b: an orderly shutdown.
    Normal,
    /// 10b: as fast as may be, before the power fails.
    Abrupt,
    /// 11b.
    Reserved,
}

impl Cc {
    /// What a host of the NVM command set writes to enable a controller: entries of 64 and 16 bytes, round robin, this memory page.
    pub const fn enabling(page: PageSize) -> Cc {
        Cc(0).with_page(page).with_entry_sizes(6, 4).with_en(true)
    }

    const fn get(self, at: u32, width: u32) -> u8 {
        get(self.0 as u64, at, width) as u8
    }

    const fn put(self, at: u32, width: u32, field: u8) -> Cc {
        Cc(put(self.0 as u64, at, width, field as u64) as u32)
    }

    /// Enable, EN: from 1 to 0 is a controller reset.
    pub const fn en(self) -> bool {
        self.get(0, 1) == 1
    }

    /// The command set, CSS.
    pub const fn command_set(self) -> CommandSet {
        match self.get(4, 3) {
            0b000 => CommandSet::Nvm,
            0b110 => CommandSet::All,
            0b111 => CommandSet::AdminOnly,
            other => CommandSet::Reserved(other),
        }
    }

    /// The host's memory page, MPS: the unit of PRP entries.
    pub const fn page(self) -> PageSize {
        PageSize::from_field(self.get(7, 4))
    }

    /// The arbitration mechanism, AMS: 000b is round robin, 001b weighted round robin with an urgent class.
    pub const fn arbitration(self) -> u8 {
        self.get(11, 3)
    }

    /// What is asked for before power goes, SHN.
    pub const fn shutdown(self) -> Shutdown {
        match self.get(14, 2) {
            0b00 => Shutdown::None,
            0b01 => Shutdown::Normal,
            0b10 => Shutdown::Abrupt,
            _ => Shutdown::Reserved,
        }
    }

    /// The size of I/O submission entries as a power of two, IOSQES; 6 in the NVM command set.
    pub const fn submission_entry(self) -> u8 {
        self.get(16, 4)
    }

    /// The size of I/O completion entries as a power of two, IOCQES; 4 in the NVM command set.
    pub const fn completion_entry(self) -> u8 {
        self.get(20, 4)
    }

    /// Whether RDY may come before the media is ready, CRIME.
    pub const fn independent_of_media(self) -> bool {
        self.get(24, 1) == 1
    }

    /// With EN so.
    #[must_use]
    pub const fn with_en(self, en: bool) -> Cc {
        self.put(0, 1, en as u8)
    }

    /// With this command set.
    #[must_use]
    pub const fn with_command_set(self, set: CommandSet) -> Cc {
        self.put(
            4,
            3,
            match set {
                CommandSet::Nvm => 0b000,
                CommandSet::All => 0b110,
                CommandSet::AdminOnly => 0b111,
                CommandSet::Reserved(other) => other,
            },
        )
    }

    /// With this memory page.
    #[must_use]
    pub const fn with_page(self, page: PageSize) -> Cc {
        self.put(7, 4, page.field())
    }

    /// With this arbitration mechanism.
    #[must_use]
    pub const fn with_arbitration(self, mechanism: u8) -> Cc {
        self.put(11, 3, mechanism)
    }

    /// With this asked for.
    #[must_use]
    pub const fn with_shutdown(self, shutdown: Shutdown) -> Cc {
        self.put(
            14,
            2,
            match shutdown {
                Shutdown::None => 0b00,
                Shutdown::Normal => 0b01,
                Shutdown::Abrupt => 0b10,
                Shutdown::Reserved => 0b11,
            },
        )
    }

    /// With entries of these sizes, as powers of two.
    #[must_use]
    pub const fn with_entry_sizes(self, submission: u8, completion: u8) -> Cc {
        self.put(16, 4, submission).put(20, 4, completion)
    }

    /// With CRIME so.
    #[must_use]
    pub const fn with_independent_of_media(self, crime: bool) -> Cc {
        self.put(24, 1, crime as u8)
    }
}

/// Controller Status, CSTS (Base 3.1.4.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Csts(pub u32);

/// How far a shutdown is, CSTS.SHST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownStatus {
    /// 00b: none was asked for.
    None,
    /// 01b: under way.
    Occurring,
    /// 10b: done.
    Complete,
    /// 11b.
    Reserved,
}

impl Csts {
    /// Whether the function no longer answers: all ones, which no controller reports.
    pub const fn is_gone(self) -> bool {
        self.0 == GONE
    }

    /// Ready for commands, RDY.
    pub const fn rdy(self) -> bool {
        is_set(self.0 as u64, 0)
    }

    /// Controller Fatal Status, CFS: only a reset helps.
    pub const fn cfs(self) -> bool {
        is_set(self.0 as u64, 1)
    }

    /// How far a shutdown is, SHST.
    pub const fn shutdown(self) -> ShutdownStatus {
        match get(self.0 as u64, 2, 2) {
            0b00 => ShutdownStatus::None,
            0b01 => ShutdownStatus::Occurring,
            0b10 => ShutdownStatus::Complete,
            _ => ShutdownStatus::Reserved,
        }
    }

    /// A subsystem reset happened while power was on, NSSRO.
    pub const fn subsystem_reset(self) -> bool {
        is_set(self.0 as u64, 4)
    }

    /// Processing of commands is paused, as for firmware activation, PP.
    pub const fn paused(self) -> bool {
        is_set(self.0 as u64, 5)
    }

    const fn put(self, at: u32, width: u32, field: u64) -> Csts {
        Csts(put(self.0 as u64, at, width, field) as u32)
    }

    /// With RDY so.
    #[must_use]
    pub const fn with_rdy(self, rdy: bool) -> Csts {
        self.put(0, 1, rdy as u64)
    }

    /// With CFS so.
    #[must_use]
    pub const fn with_cfs(self, cfs: bool) -> Csts {
        self.put(1, 1, cfs as u64)
    }

    /// With a shutdown so far.
    #[must_use]
    pub const fn with_shutdown(self, status: ShutdownStatus) -> Csts {
        self.put(
            2,
            2,
            match status {
                ShutdownStatus::None => 0b00,
                ShutdownStatus::Occurring => 0b01,
                ShutdownStatus::Complete => 0b10,
                ShutdownStatus::Reserved => 0b11,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_linux_writes_is_built_and_read() {
        // IOCQES 4, IOSQES 6, MPS 0, CSS NVM, EN: 0x00460001.
        let cc = Cc::enabling(PageSize::FOUR_KIB);
        assert_eq!(cc, Cc(0x0046_0001));
        let page = PageSize::from_field(4);
        let cc = cc
            .with_page(page)
            .with_command_set(CommandSet::All)
            .with_arbitration(1)
            .with_shutdown(Shutdown::Normal)
            .with_independent_of_media(true);
        assert_eq!(cc, Cc(0x0146_4a61));
        assert!(cc.en() && cc.independent_of_media());
        assert_eq!((cc.page(), cc.arbitration()), (page, 1));
        assert_eq!(
            (cc.command_set(), cc.shutdown()),
            (CommandSet::All, Shutdown::Normal)
        );
        assert_eq!((cc.submission_entry(), cc.completion_entry()), (6, 4));
        assert!(!cc.with_en(false).en());
    }

    #[test]
    fn a_controllers_state_is_read() {
        let csts = Csts(0b10_1001);
        assert!(csts.rdy() && !csts.cfs() && csts.paused() && !csts.subsystem_reset());
        assert_eq!(csts.shutdown(), ShutdownStatus::Complete);
        assert!(!csts.is_gone() && Csts(u32::MAX).is_gone());
        assert!(Csts(1 << 4).subsystem_reset());
        let built = Csts::default()
            .with_rdy(true)
            .with_cfs(true)
            .with_shutdown(ShutdownStatus::Occurring);
        assert_eq!(built, Csts(0b0111));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(value in any::<u32>()) {
            let cc = Cc(value);
            let again = Cc(value & !0x01ff_fff1)
                .with_en(cc.en())
                .with_command_set(cc.command_set())
                .with_page(cc.page())
                .with_arbitration(cc.arbitration())
                .with_shutdown(cc.shutdown())
                .with_entry_sizes(cc.submission_entry(), cc.completion_entry())
                .with_independent_of_media(cc.independent_of_media());
            prop_assert_eq!(again, cc);
            let csts = Csts(value);
            let again = Csts(value & !0b1111)
                .with_rdy(csts.rdy())
                .with_cfs(csts.cfs())
                .with_shutdown(csts.shutdown());
            prop_assert_eq!(again, csts);
        }
    }
}
