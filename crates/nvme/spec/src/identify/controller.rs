//! The controller's data structure, CNS 01h.

use std::mem::offset_of;

use strata_units::{Bytes, Nanos};
use zerocopy::little_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::registers::Version;
use crate::{EventConfig, Kelvin, PageSize, Text};

/// Optional commands, bits of the field [`IdentifyController::oncs`].
pub mod oncs {
    /// Compare.
    pub const COMPARE: u16 = 1 << 0;
    /// Write Uncorrectable.
    pub const WRITE_UNCORRECTABLE: u16 = 1 << 1;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u16 = 1 << 2;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u16 = 1 << 3;
    /// Values of features can be saved and selected.
    pub const SAVE_FEATURES: u16 = 1 << 4;
    /// Reservations.
    pub const RESERVATIONS: u16 = 1 << 5;
}

/// The Identify Controller data structure (Base 5.1.13.2.1).
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IdentifyController {
    /// PCI vendor.
    pub vid: U16,
    /// PCI subsystem vendor.
    pub ssvid: U16,
    /// Serial number, padded with spaces.
    pub sn: [u8; 20],
    /// Model number, padded with spaces.
    pub mn: [u8; 40],
    /// Firmware revision, padded with spaces.
    pub fr: [u8; 8],
    /// Recommended arbitration burst, a power of two.
    pub rab: u8,
    /// The vendor's IEEE OUI.
    pub ieee: [u8; 3],
    /// Several ports, several controllers, a virtual function, asymmetric access: bits 0 to 3.
    pub cmic: u8,
    /// Largest data transfer as a power of two of CAP.MPSMIN pages; 0 is no limit.
    pub mdts: u8,
    /// The controller's number in its subsystem.
    pub cntlid: U16,
    /// The version that it follows; 0 before 1.2.
    pub ver: U32,
    /// Time to resume from RTD3, µs.
    pub rtd3r: U32,
    /// Time to enter RTD3, µs; 0 is not reported.
    pub rtd3e: U32,
    /// Optional asynchronous events that it sends; bits lie as in [`EventConfig`].
    pub oaes: U32,
    /// Controller attributes.
    pub ctratt: U32,
    /// Read recovery levels.
    pub rrls: U16,
    reserved102: [u8; 9],
    /// 1 I/O, 2 discovery, 3 administrative controller; 0 not reported.
    pub cntrltype: u8,
    /// FRU's globally unique identifier.
    pub fguid: [u8; 16],
    /// Command retry delays 1 to 3, in units of 100 ms.
    pub crdt: [U16; 3],
    reserved134: [u8; 119],
    /// Part of a storage device or enclosure (NVMe-MI).
    pub nvmsr: u8,
    /// Vital product data write cycles.
    pub vwci: u8,
    /// Management endpoints.
    pub mec: u8,
    /// Optional admin commands.
    pub oacs: U16,
    /// Aborts that it takes at a time, counted from 0.
    pub acl: u8,
    /// Asynchronous event requests that it takes at a time, counted from 0.
    pub aerl: u8,
    /// Firmware slots and how they are updated.
    pub frmw: u8,
    /// Log page attributes.
    pub lpa: u8,
    /// Error log entries, counted from 0.
    pub elpe: u8,
    /// Power states, counted from 0.
    pub npss: u8,
    /// Format of vendor specific admin commands.
    pub avscc: u8,
    /// Autonomous power state transitions.
    pub apsta: u8,
    /// Composite temperature from which it warns, K; 0 is not reported.
    pub wctemp: U16,
    /// Composite temperature that is critical, K; 0 is not reported.
    pub cctemp: U16,
    /// Longest firmware activation, 100 ms.
    pub mtfa: U16,
    /// Preferred host memory buffer, 4 KiB.
    pub hmpre: U32,
    /// Least host memory buffer, 4 KiB.
    pub hmmin: U32,
    /// Total capacity, bytes; 0 without namespace management.
    pub tnvmcap: U128,
    /// Capacity in no namespace, bytes.
    pub unvmcap: U128,
    /// Replay protected memory block.
    pub rpmbs: U32,
    /// Extended self-test's duration, minutes.
    pub edstt: U16,
    /// Self-test options.
    pub dsto: u8,
    /// Firmware update's granularity, 4 KiB; 0 not reported, ffh any.
    pub fwug: u8,
    /// Keep Alive's granularity, 100 ms; 0 without Keep Alive.
    pub kas: U16,
    /// Host controlled thermal management.
    pub hctma: U16,
    /// Least temperature of thermal management, K.
    pub mntmt: U16,
    /// Largest temperature of thermal management, K.
    pub mxtmt: U16,
    /// Sanitize capabilities.
    pub sanicap: U32,
    /// Least entry of the host memory buffer's descriptors, 4 KiB.
    pub hmminds: U32,
    /// Most entries of the host memory buffer's descriptors.
    pub hmmaxd: U16,
    /// Largest NVM set's number.
    pub nsetidmax: U16,
    /// Largest endurance group's number.
    pub endgidmax: U16,
    /// Longest asymmetric access transition, s.
    pub anatt: u8,
    /// Asymmetric access capabilities.
    pub anacap: u8,
    /// Largest asymmetric access group's number.
    pub anagrpmax: U32,
    /// Asymmetric access groups.
    pub nanagrpid: U32,
    /// Persistent event log's largest size, 64 KiB.
    pub pels: U32,
    /// The domain that it is in.
    pub domainid: U16,
    reserved358: [u8; 154],
    /// Submission entries' sizes as powers of two: required in bits 3:0, largest in bits 7:4.
    pub sqes: u8,
    /// Completion entries' sizes as powers of two: required in bits 3:0, largest in bits 7:4.
    pub cqes: u8,
    /// Most outstanding commands of a queue; 0 is not reported.
    pub maxcmd: U16,
    /// Largest namespace's number.
    pub nn: U32,
    /// Optional I/O commands, bits of the module [`mod@oncs`].
    pub oncs: U16,
    /// Fused operations.
    pub fuses: U16,
    /// What formatting one namespace does to others.
    pub fna: u8,
    /// Volatile write cache: there is one in bit 0, what a Flush of all namespaces does in bits 2:1.
    pub vwc: u8,
    /// Blocks written atomically in normal operation, counted from 0.
    pub awun: U16,
    /// Blocks written atomically across a power failure, counted from 0.
    pub awupf: U16,
    /// Format of vendor specific I/O commands.
    pub icsvscc: u8,
    /// Namespace write protection.
    pub nwpc: u8,
    /// Blocks compared and written atomically, counted from 0.
    pub acwu: U16,
    /// Formats of Copy's descriptors.
    pub ocfs: U16,
    /// Scatter-gather lists: bits 1:0 are 0 where there are none.
    pub sgls: U32,
    /// Most namespaces that may be attached; 0 is [`IdentifyController::nn`].
    pub mnan: U32,
    reserved544: [u8; 224],
    /// The subsystem's NVMe qualified name, UTF-8, ended by a NUL.
    pub subnqn: [u8; 256],
    reserved1024: [u8; 1024],
    /// Power state descriptors (Base 5.1.13.2.1, "Power State Descriptor Data Structure").
    pub psd: [[u8; 32]; 32],
    /// The vendor's own.
    pub vs: [u8; 1024],
}

const _: () = assert!(
    size_of::<IdentifyController>() == 4096
        && offset_of!(IdentifyController, sn) == 4
        && offset_of!(IdentifyController, mn) == 24
        && offset_of!(IdentifyController, fr) == 64
        && offset_of!(IdentifyController, mdts) == 77
        && offset_of!(IdentifyController, cntlid) == 78
        && offset_of!(IdentifyController, ver) == 80
        && offset_of!(IdentifyController, oaes) == 92
        && offset_of!(IdentifyController, cntrltype) == 111
        && offset_of!(IdentifyController, crdt) == 128
        && offset_of!(IdentifyController, nvmsr) == 253
        && offset_of!(IdentifyController, oacs) == 256
        && offset_of!(IdentifyController, acl) == 258
        && offset_of!(IdentifyController, aerl) == 259
        && offset_of!(IdentifyController, lpa) == 261
        && offset_of!(IdentifyController, elpe) == 262
        && offset_of!(IdentifyController, npss) == 263
        && offset_of!(IdentifyController, wctemp) == 266
        && offset_of!(IdentifyController, cctemp) == 268
        && offset_of!(IdentifyController, tnvmcap) == 280
        && offset_of!(IdentifyController, unvmcap) == 296
        && offset_of!(IdentifyController, kas) == 320
        && offset_of!(IdentifyController, sanicap) == 328
        && offset_of!(IdentifyController, pels) == 352
        && offset_of!(IdentifyController, domainid) == 356
        && offset_of!(IdentifyController, sqes) == 512
        && offset_of!(IdentifyController, cqes) == 513
        && offset_of!(IdentifyController, maxcmd) == 514
        && offset_of!(IdentifyController, nn) == 516
        && offset_of!(IdentifyController, oncs) == 520
        && offset_of!(IdentifyController, fna) == 524
        && offset_of!(IdentifyController, vwc) == 525
        && offset_of!(IdentifyController, awun) == 526
        && offset_of!(IdentifyController, acwu) == 532
        && offset_of!(IdentifyController, sgls) == 536
        && offset_of!(IdentifyController, mnan) == 540
        && offset_of!(IdentifyController, subnqn) == 768
        && offset_of!(IdentifyController, psd) == 2048
        && offset_of!(IdentifyController, vs) == 3072
);

impl IdentifyController {
    /// Serial number.
    pub fn serial(&self) -> Text<'_> {
        Text::new(&self.sn)
    }

    /// Model number.
    pub fn model(&self) -> Text<'_> {
        Text::new(&self.mn)
    }

    /// Firmware revision.
    pub fn firmware(&self) -> Text<'_> {
        Text::new(&self.fr)
    }

    /// The subsystem's qualified name.
    pub fn subsystem(&self) -> Text<'_> {
        Text::new(&self.subnqn)
    }

    /// The version that it follows.
    pub fn version(&self) -> Version {
        Version(self.ver.get())
    }

    /// The most that one command may move, by CAP.MPSMIN (MDTS); `None` is no limit.
    pub fn max_transfer(&self, smallest_page: PageSize) -> Option<Bytes> {
        match self.mdts {
            0 => None,
            power => Some(Bytes(
                1u64.checked_shl(u32::from(power) + smallest_page.shift())
                    .unwrap_or(u64::MAX),
            )),
        }
    }

    /// Events that may be configured.
    pub fn events(&self) -> EventConfig {
        EventConfig(self.oaes.get())
    }

    /// Asynchronous event requests that it takes at a time: 1 to 256.
    pub fn event_requests(&self) -> u16 {
        u16::from(self.aerl) + 1
    }

    /// Aborts that it takes at a time: 1 to 256.
    pub fn aborts(&self) -> u16 {
        u16::from(self.acl) + 1
    }

    /// Entries of the error log: 1 to 256.
    pub fn error_entries(&self) -> u16 {
        u16::from(self.elpe) + 1
    }

    /// Temperature from which it warns, if reported.
    pub fn warning_temperature(&self) -> Option<Kelvin> {
        Some(Kelvin(self.wctemp.get())).filter(|limit| limit.0 > 0)
    }

    /// Temperature that is critical, if reported.
    pub fn critical_temperature(&self) -> Option<Kelvin> {
        Some(Kelvin(self.cctemp.get())).filter(|limit| limit.0 > 0)
    }

    /// How long a shutdown takes at most (RTD3E, in units of 1 µs), if reported.
    pub fn shutdown_latency(&self) -> Option<Nanos> {
        let micros = self.rtd3e.get();
        (micros > 0).then(|| Nanos(1000) * u64::from(micros))
    }

    /// Delays before retries 1 to 3, for [`crate::Status::retry_delay`].
    pub fn retry_delays(&self) -> [Nanos; 3] {
        self.crdt
            .map(|delay| Nanos::from_millis(100) * u64::from(delay.get()))
    }

    /// Most outstanding commands of a queue, if reported.
    pub fn most_outstanding(&self) -> Option<u16> {
        Some(self.maxcmd.get()).filter(|most| *most > 0)
    }

    /// Whether the submission entries' size (64 bytes) and the completion entries' (16 bytes) of the NVM command set are taken.
    pub fn takes_nvm_entries(&self) -> bool {
        let takes = |field: u8, power: u8| (field & 0xf..=field >> 4).contains(&power);
        takes(self.sqes, 6) && takes(self.cqes, 4)
    }

    /// Whether a command of the module [`mod@oncs`] is taken.
    pub fn takes(&self, command: u16) -> bool {
        self.oncs.get() & command == command
    }

    /// Whether there is a volatile write cache, which Flush empties.
    pub fn has_write_cache(&self) -> bool {
        self.vwc & 1 == 1
    }
}
