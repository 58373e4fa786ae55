//! Admin commands but those on queues.

use strata_units::Bytes;

use super::admin_opcode as opcode;
use crate::bits::get;
use crate::feature::FeatureId;
use crate::{CommandId, NamespaceId, QueueId, Sqe, Status};

/// What Identify is asked for, CNS (Base 5.1.13, "CNS Values").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cns {
    /// 00h: a namespace's data structure of the NVM command set.
    Namespace,
    /// 01h: the controller's data structure.
    Controller,
    /// 02h: active namespaces with numbers above the one given.
    ActiveNamespaces,
    /// 03h: a namespace's identification descriptors.
    Descriptors,
}

/// Identify (Base 5.1.13); its answer has 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identify {
    /// What is asked for.
    pub cns: Cns,
    /// The namespace; for the active list the number below the first one wanted; none for the controller.
    pub nsid: NamespaceId,
}

impl Identify {
    /// Bytes of each answer.
    pub const LEN: Bytes = Bytes(4096);

    /// As an entry without its data pointer.
    pub fn sqe(self) -> Sqe {
        let mut sqe = Sqe::of(opcode::IDENTIFY, self.nsid);
        sqe.cdw10 = (self.cns as u32).into();
        sqe
    }

    /// From an entry.
    ///
    /// # Errors
    /// What a controller answers to a CNS that is none of these.
    pub fn of(sqe: &Sqe) -> Result<Identify, Status> {
        let cns = match sqe.cdw10.get() as u8 {
            0 => Cns::Namespace,
            1 => Cns::Controller,
            2 => Cns::ActiveNamespaces,
            3 => Cns::Descriptors,
            _ => return Err(Status::INVALID_FIELD.do_not_retry()),
        };
        Ok(Identify {
            cns,
            nsid: sqe.nsid(),
        })
    }
}

/// A log page, LID (Base 5.1.12.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPage {
    /// 01h: Error Information (Base 5.1.12.1.2).
    Errors,
    /// 02h: SMART / Health Information (Base 5.1.12.1.3).
    Smart,
    /// 03h: Firmware Slot Information (Base 5.1.12.1.4).
    Firmware,
}

impl LogPage {
    /// Its number.
    pub const fn id(self) -> u8 {
        match self {
            LogPage::Errors => 1,
            LogPage::Smart => 2,
            LogPage::Firmware => 3,
        }
    }
}

/// Get Log Page (Base 5.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetLogPage {
    /// Which.
    pub page: LogPage,
    /// [`NamespaceId::ALL`] for the controller's own; a namespace where LPA allows it.
    pub nsid: NamespaceId,
    /// Bytes wanted: a multiple of 4 up to 16 GiB, else rounded up or cut to one. NUMDL and NUMDU count dwords from 0.
    pub len: Bytes,
    /// Bytes of the page to leave out, LPOL and LPOU: a multiple of 4, and 0 unless LPA says that offsets are taken.
    pub from: Bytes,
    /// Whether the event that told of this page stays in force, RAE.
    pub retain_event: bool,
}

impl GetLogPage {
    /// As an entry without its data pointer.
    pub fn sqe(self) -> Sqe {
        let mut sqe = Sqe::of(opcode::GET_LOG_PAGE, self.nsid);
        let dwords = (self.len.0.div_ceil(4).clamp(1, 1 << 32) - 1) as u32;
        let retain = u32::from(self.retain_event) << 15;
        sqe.cdw10 = (dwords << 16 | retain | u32::from(self.page.id())).into();
        sqe.cdw11 = (dwords >> 16).into();
        sqe.cdw12 = (self.from.0 as u32).into();
        sqe.cdw13 = ((self.from.0 >> 32) as u32).into();
        sqe
    }

    /// From an entry.
    ///
    /// # Errors
    /// What a controller answers to a page that is none of these.
    pub fn of(sqe: &Sqe) -> Result<GetLogPage, Status> {
        let (cdw10, cdw11) = (sqe.cdw10.get(), sqe.cdw11.get());
        let page = match cdw10 as u8 {
            1 => LogPage::Errors,
            2 => LogPage::Smart,
            3 => LogPage::Firmware,
            _ => return Err(Status::INVALID_LOG_PAGE.do_not_retry()),
        };
        let dwords = u64::from(cdw11 & 0xffff) << 16 | u64::from(cdw10 >> 16);
        Ok(GetLogPage {
            page,
            nsid: sqe.nsid(),
            len: Bytes((dwords + 1) * 4),
            from: Bytes(u64::from(sqe.cdw13.get()) << 32 | u64::from(sqe.cdw12.get())),
            retain_event: cdw10 >> 15 & 1 == 1,
        })
    }
}

/// Set Features (Base 5.1.25), for features whose value is dword 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetFeatures {
    /// Which.
    pub feature: FeatureId,
    /// The namespace, for features that each has for itself; else none.
    pub nsid: NamespaceId,
    /// Its value; [`crate::feature`] has what it means.
    pub value: u32,
    /// Whether it outlasts resets and power, SV.
    pub save: bool,
}

impl SetFeatures {
    /// As an entry.
    pub fn sqe(self) -> Sqe {
        let mut sqe = Sqe::of(opcode::SET_FEATURES, self.nsid);
        sqe.cdw10 = (u32::from(self.feature.0) | u32::from(self.save) << 31).into();
        sqe.cdw11 = self.value.into();
        sqe
    }

    /// From an entry.
    pub fn of(sqe: &Sqe) -> SetFeatures {
        let cdw10 = sqe.cdw10.get();
        SetFeatures {
            feature: FeatureId(cdw10 as u8),
            nsid: sqe.nsid(),
            value: sqe.cdw11.get(),
            save: cdw10 >> 31 == 1,
        }
    }
}

/// Which value of a feature is asked for, SEL (Base 5.1.11).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Select {
    /// 000b.
    #[default]
    Current,
    /// 001b.
    Default,
    /// 010b.
    Saved,
    /// 011b: what it can, not what it is.
    Capabilities,
}

/// Get Features (Base 5.1.11), for features whose value is dword 0 of the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetFeatures {
    /// Which.
    pub feature: FeatureId,
    /// The namespace, for features that each has for itself; else none.
    pub nsid: NamespaceId,
    /// Which value.
    pub select: Select,
    /// What of a feature is meant, in dword 11 (Temperature Threshold: which sensor and type); mostly 0.
    pub detail: u32,
}

impl GetFeatures {
    /// As an entry.
    pub fn sqe(self) -> Sqe {
        let mut sqe = Sqe::of(opcode::GET_FEATURES, self.nsid);
        sqe.cdw10 = (u32::from(self.feature.0) | (self.select as u32) << 8).into();
        sqe.cdw11 = self.detail.into();
        sqe
    }

    /// From an entry.
    ///
    /// # Errors
    /// What a controller answers to a reserved SEL.
    pub fn of(sqe: &Sqe) -> Result<GetFeatures, Status> {
        let cdw10 = sqe.cdw10.get();
        let select = match get(cdw10.into(), 8, 3) {
            0 => Select::Current,
            1 => Select::Default,
            2 => Select::Saved,
            3 => Select::Capabilities,
            _ => return Err(Status::INVALID_FIELD.do_not_retry()),
        };
        Ok(GetFeatures {
            feature: FeatureId(cdw10 as u8),
            nsid: sqe.nsid(),
            select,
            detail: sqe.cdw11.get(),
        })
    }
}

/// Abort (Base 5.1.1): asks, and promises nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// The submission queue, SQID.
    pub queue: QueueId,
    /// The command in it, CID.
    pub command: CommandId,
}

impl Abort {
    /// As an entry.
    pub fn sqe(self) -> Sqe {
        let mut sqe = Sqe::of(opcode::ABORT, NamespaceId::NONE);
        sqe.cdw10 = (u32::from(self.command.0) << 16 | u32::from(self.queue.0)).into();
        sqe
    }

    /// From an entry.
    pub fn of(sqe: &Sqe) -> Abort {
        let cdw10 = sqe.cdw10.get();
        Abort {
            queue: QueueId(cdw10 as u16),
            command: CommandId((cdw10 >> 16) as u16),
        }
    }

    /// Whether the command was aborted at once, by dword 0 of Abort's completion, whose bit 0 says that it was not. Either way
    /// the command itself has a completion of its own.
    pub fn was_aborted(dword: u32) -> bool {
        dword & 1 == 0
    }

    /// Dword 0 of Abort's completion.
    pub fn dword(aborted: bool) -> u32 {
        u32::from(!aborted)
    }
}

/// Asynchronous Event Request (Base 5.1.2): completes when there is an event, [`crate::AsyncEvent`].
pub fn async_event_request() -> Sqe {
    Sqe::of(opcode::ASYNC_EVENT_REQUEST, NamespaceId::NONE)
}
