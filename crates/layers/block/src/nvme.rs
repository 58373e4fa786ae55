//! NVMe commands through io_uring: what is written into the submission entry of `/dev/ngXnY`, what its completion says, and
//! what the namespace takes. Structures are those of linux/nvme_ioctl.h; commands and Identify data those of the NVM Command
//! Set Specification 1.0 and the NVMe Base Specification 2.0.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};
use strata_measure::{FailCode, Op, OpKind, Outcome};
use strata_units::Bytes;

use crate::commands::{Commands, FILE};
use crate::engine::explain;

/// NVM Command Set 1.0 §3.2.6 Write and §3.2.4 Read.
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;

/// NVMe Base 2.0 §5.17 Identify; CNS 00h is the namespace's data structure.
const IDENTIFY: u8 = 0x06;

/// `struct nvme_uring_cmd`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct UringCmd {
    opcode: u8,
    flags: u8,
    reserved1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    reserved2: u32,
}

/// `struct nvme_passthru_cmd`, which ends with the result's 32 bits where the other has a reserved word.
type AdminCmd = UringCmd;

const _: () = assert!(
    size_of::<UringCmd>() == 72
        && std::mem::offset_of!(UringCmd, nsid) == 4
        && std::mem::offset_of!(UringCmd, metadata) == 16
        && std::mem::offset_of!(UringCmd, address) == 24
        && std::mem::offset_of!(UringCmd, data_len) == 36
        && std::mem::offset_of!(UringCmd, cdw10) == 40
        && std::mem::offset_of!(UringCmd, timeout_ms) == 64
);

/// An ioctl's number as linux/ioctl.h makes it: direction, size of the argument, type 'N', number.
const fn number(direction: u32, size: usize, number: u32) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'N' as u32) << 8 | number
}

const NVME_IOCTL_ID: u32 = number(0, 0, 0x40);
const NVME_IOCTL_ADMIN_CMD: u32 = number(3, size_of::<AdminCmd>(), 0x41);
const NVME_URING_CMD_IO: u32 = number(3, size_of::<UringCmd>(), 0x80);

/// A status of NVMe's, to be told from the system's codes, which are small.
const STATUS: i32 = 1 << 16;

/// What a namespace is and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Namespace {
    nsid: u32,
    /// The logical block's size as a power of two.
    shift: u32,
    blocks: u64,
    /// Bytes of metadata of each logical block.
    metadata: u16,
    /// The most that one command moves.
    most: Option<Bytes>,
}

impl Namespace {
    /// The namespace behind an open `ng` device.
    ///
    /// # Errors
    /// In words, with the next step, when it is none or does not say what it is.
    pub(crate) fn of(file: &File) -> Result<Namespace, String> {
        let refused = |what: &str, next: &str| {
            let error = io::Error::last_os_error();
            format!("cannot {what} through the NVMe device: {error}; {next}")
        };
        // SAFETY: takes no argument; the descriptor is open.
        let id = unsafe { libc::ioctl(file.as_raw_fd(), u64::from(NVME_IOCTL_ID), 0) };
        let nsid = u32::try_from(id).map_err(|_| {
            refused(
                "ask for the namespace's number",
                "give --target /dev/ng0n1 or the like",
            )
        })?;
        let mut data = vec![0u8; 4096];
        let mut command = AdminCmd {
            opcode: IDENTIFY,
            nsid,
            address: data.as_mut_ptr() as u64,
            data_len: 4096,
            ..AdminCmd::default()
        };
        // SAFETY: `command` is a `struct nvme_passthru_cmd` that the call reads, and whose result it writes; it points to
        // 4096 writable bytes, as long as it says, and both live for the call.
        let status = unsafe {
            libc::ioctl(
                file.as_raw_fd(),
                u64::from(NVME_IOCTL_ADMIN_CMD),
                &raw mut command,
            )
        };
        if status < 0 {
            return Err(refused(
                "identify the namespace",
                "run as root, or with Linux 6.2 or later as one who may read it",
            ));
        }
        if status > 0 {
            return Err(format!(
                "the controller does not identify namespace {nsid}: {}",
                explain_status(status)
            ));
        }
        let most = file
            .metadata()
            .ok()
            .and_then(|meta| crate::device::most_transfer(meta.rdev()));
        Namespace::identified(nsid, &data, most)
    }

    /// From Identify data (NVM Command Set 1.0 §4.1.5.1, figure 97): NSZE at byte 0, FLBAS at 26, LBA formats from 128 on.
    fn identified(nsid: u32, data: &[u8], most: Option<Bytes>) -> Result<Namespace, String> {
        let odd = || {
            format!(
                "namespace {nsid} identifies itself with what no namespace can be; update the drive's firmware, or use the block device with --engine io_uring"
            )
        };
        let size = data.get(..8).and_then(|b| b.try_into().ok());
        let blocks = u64::from_le_bytes(size.ok_or_else(odd)?);
        let flbas = usize::from(*data.get(26).ok_or_else(odd)?);
        // Bits 3:0 are the lower and bits 6:5 the upper ones of the format's index.
        let format = flbas & 0xf | (flbas >> 1) & 0x30;
        let at = 128 + 4 * format;
        let Some(&[low, high, shift, _]) = data.get(at..at + 4) else {
            return Err(odd());
        };
        let shift = u32::from(shift);
        if !(9..=16).contains(&shift) || blocks == 0 || blocks > u64::MAX >> shift {
            return Err(odd());
        }
        Ok(Namespace {
            nsid,
            shift,
            blocks,
            metadata: u16::from_le_bytes([low, high]),
            most,
        })
    }

    /// Whether it takes operations of `block` bytes in its first `region`.
    ///
    /// # Errors
    /// In words, why not, with the next step.
    pub(crate) fn takes(&self, block: Bytes, region: Bytes) -> Result<(), String> {
        let lba = Bytes(1 << self.shift);
        if self.metadata > 0 {
            return Err(format!(
                "the namespace's blocks carry {} bytes of metadata each, which io_uring_cmd does not move; format it without, or use the block device with --engine io_uring",
                self.metadata
            ));
        }
        if block.0 == 0 || !block.is_multiple_of(lba) {
            return Err(format!(
                "a block of {block} is no multiple of the namespace's logical block of {lba}; give a --bs of {lba} or a multiple of it"
            ));
        }
        // The command's number of logical blocks has 16 bits, of which 0 means one (NVM Command Set 1.0 §3.2.4, figure 42).
        let most = Bytes(lba.0 << 16).min(self.most.unwrap_or(Bytes(u64::MAX)));
        if block > most {
            return Err(format!(
                "a block of {block} is more than one command of this namespace moves; give a --bs of at most {most}"
            ));
        }
        let has = Bytes(self.blocks << self.shift);
        if region > has {
            return Err(format!(
                "the namespace has {has}, and {region} are asked for; give a smaller --size"
            ));
        }
        Ok(())
    }
}

/// Reads and writes as NVMe commands to one namespace.
pub(crate) struct Passthrough {
    file: Fd,
    namespace: Namespace,
    registered: bool,
}

impl Passthrough {
    /// To the namespace of `file`, with the registered file and buffers or without.
    pub(crate) fn new(file: &File, namespace: Namespace, registered: bool) -> Passthrough {
        Passthrough {
            file: Fd(file.as_raw_fd()),
            namespace,
            registered,
        }
    }

    #[inline]
    fn command(&self, op: Op, buffer: u64, len: u32) -> UringCmd {
        let Namespace { nsid, shift, .. } = self.namespace;
        let first = op.at.0 >> shift;
        UringCmd {
            opcode: if op.kind == OpKind::Write {
                WRITE
            } else {
                READ
            },
            nsid,
            address: buffer,
            data_len: len,
            // SLBA in dwords 10 and 11, NLB (counted from 0) in bits 15:0 of dword 12.
            cdw10: first as u32,
            cdw11: (first >> 32) as u32,
            cdw12: (len >> shift).wrapping_sub(1) & 0xffff,
            ..UringCmd::default()
        }
    }
}

/// The command as it lies in the entry's 80 bytes.
#[inline]
fn bytes(command: UringCmd) -> [u8; 80] {
    let mut bytes = [0u8; 80];
    // SAFETY: the structure is plain old data without padding (its fields' sizes add up to its 72 bytes), and fits.
    unsafe {
        bytes
            .as_mut_ptr()
            .cast::<UringCmd>()
            .write_unaligned(command);
    }
    bytes
}

impl Commands for Passthrough {
    type Entry = squeue::Entry128;
    type Done = cqueue::Entry32;

    #[inline]
    fn entry(&self, index: u16, op: Op, buffer: *mut u8, len: u32) -> squeue::Entry128 {
        let command = bytes(self.command(op, buffer as u64, len));
        if self.registered {
            opcode::UringCmd80::new(FILE, NVME_URING_CMD_IO)
                .cmd(command)
                .buf_index(Some(index))
                .build()
        } else {
            opcode::UringCmd80::new(self.file, NVME_URING_CMD_IO)
                .cmd(command)
                .build()
        }
        .user_data(u64::from(index))
    }

    /// 0 is success, a positive result the status of the completion queue entry, a negative one the system's.
    #[inline]
    fn outcome(&self, result: i32, len: Bytes) -> Outcome {
        match result {
            0 => Outcome::Done(len),
            status if status > 0 => Outcome::Failed(FailCode(STATUS | (status & 0x7fff))),
            error => Outcome::Failed(FailCode(error.saturating_neg())),
        }
    }

    fn explain(&self, code: FailCode) -> String {
        if code.0 & STATUS != 0 && code.0 > 0 {
            explain_status(code.0 & 0x7fff)
        } else {
            explain(code)
        }
    }
}

/// A status field (NVMe Base 2.0 §3.3.3.2.1: code in bits 7:0, its type in bits 10:8) in words, with the next step.
fn explain_status(status: i32) -> String {
    let (kind, code) = (status >> 8 & 0x7, status & 0xff);
    let what = match (kind, code) {
        (0, 0x02) => "invalid field in command; give another --bs",
        (0, 0x07) => "the command was aborted; see dmesg",
        (0, 0x0b) => "invalid namespace or format; list them with `nvme list`",
        (0, 0x80) => "LBA out of range; give a smaller --size",
        (0, 0x81) => "capacity exceeded; give a smaller --size",
        (0, 0x82) => "namespace not ready; wait until it is formatted",
        (2, 0x80) => "write fault; see `nvme smart-log`",
        (2, 0x81) => "unrecovered read error; see `nvme smart-log`",
        (2, 0x86) => "access denied; see the drive's locks and reservations",
        (3, _) => "the path to the namespace failed; see dmesg",
        _ => "see the NVMe Base Specification 2.0, §3.3.3.2, and dmesg",
    };
    format!("NVMe status type {kind:#x}, code {code:#04x}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    use strata_measure::{Buffers, Clock, Engine, Load, Scratch, Step, Stream, Window, drive};
    use strata_memory::{Huge, Lock, Want};
    use strata_record::{Completes, TimedBy};
    use strata_units::{ByteOffset, Nanos, QueueDepth};

    use crate::engine::RingMode;
    use crate::uring::{Setup, Uring};

    const PLAIN: Namespace = Namespace {
        nsid: 7,
        shift: 12,
        blocks: 1 << 40,
        metadata: 0,
        most: Some(Bytes(128 << 10)),
    };

    fn identify(flbas: u8, format: usize, lbaf: [u8; 4]) -> Vec<u8> {
        let mut data = vec![0u8; 4096];
        data[..8].copy_from_slice(&1_000_000u64.to_le_bytes());
        data[26] = flbas;
        data[128 + 4 * format..][..4].copy_from_slice(&lbaf);
        data
    }

    /// The numbers that a C compiler makes of linux/nvme_ioctl.h.
    #[test]
    fn ioctl_numbers_are_the_kernels() {
        assert_eq!(
            [NVME_IOCTL_ID, NVME_IOCTL_ADMIN_CMD, NVME_URING_CMD_IO],
            [0x4e40, 0xc048_4e41, 0xc048_4e80]
        );
    }

    #[test]
    fn commands_are_laid_out_as_the_specification_says() {
        let commands = Passthrough {
            file: Fd(3),
            namespace: PLAIN,
            registered: false,
        };
        let op = |kind| Op {
            kind,
            at: ByteOffset(0x1234_5678_9abc << 12),
            len: Bytes(64 << 10),
        };
        let read = bytes(commands.command(op(OpKind::Read), 0x7f00_1122_3344_5000, 64 << 10));
        let mut golden = [0u8; 80];
        golden[0] = 0x02;
        golden[4] = 7;
        golden[24..32].copy_from_slice(&[0x00, 0x50, 0x44, 0x33, 0x22, 0x11, 0x00, 0x7f]);
        golden[36..40].copy_from_slice(&[0, 0, 1, 0]);
        golden[40..44].copy_from_slice(&[0xbc, 0x9a, 0x78, 0x56]);
        golden[44..48].copy_from_slice(&[0x34, 0x12, 0, 0]);
        // Sixteen logical blocks, counted from 0.
        golden[48] = 15;
        assert_eq!(read, golden);
        golden[0] = 0x01;
        let write = bytes(commands.command(op(OpKind::Write), 0x7f00_1122_3344_5000, 64 << 10));
        assert_eq!(write, golden);
    }

    #[test]
    fn results_are_told_apart() {
        let commands = Passthrough {
            file: Fd(3),
            namespace: PLAIN,
            registered: false,
        };
        let len = Bytes(4096);
        assert_eq!(commands.outcome(0, len), Outcome::Done(len));
        for (result, expected) in [
            (0x4002, "invalid field"),
            (0x0281, "unrecovered read error"),
            (0x0080, "LBA out of range"),
            (0x0371, "path to the namespace failed"),
            (0x07ff, "type 0x7, code 0xff"),
            (-libc::EINTR, "Interrupted"),
            (-libc::ENODEV, "the drive is gone"),
        ] {
            let Outcome::Failed(code) = commands.outcome(result, len) else {
                panic!("{result} is no success");
            };
            let why = commands.explain(code);
            assert!(why.contains(expected), "{result:#x}: {why}");
        }
    }

    #[test]
    fn a_namespace_tells_its_format_and_refuses_what_it_cannot() {
        let of = |data: &[u8]| Namespace::identified(7, data, Some(Bytes(128 << 10)));
        let plain = of(&identify(0x01, 1, [0, 0, 12, 0])).expect("a namespace");
        assert_eq!(
            (plain.shift, plain.blocks, plain.metadata),
            (12, 1_000_000, 0)
        );
        // Format 17: bits 6:5 hold the index's upper bits.
        let far = of(&identify(0x21, 17, [0, 0, 9, 0])).expect("a namespace");
        assert_eq!(far.shift, 9);
        let region = Bytes(1 << 20);
        for (block, expected) in [
            (Bytes(4096), None),
            (Bytes(128 << 10), None),
            (Bytes(512), Some("a multiple of it")),
            (Bytes(0), Some("a multiple of it")),
            (Bytes(132 << 10), Some("at most 128KiB")),
        ] {
            let told = plain.takes(block, region);
            match expected {
                None => assert_eq!(told, Ok(())),
                Some(text) => {
                    let why = told.expect_err(text);
                    assert!(why.contains(text), "{why}");
                }
            }
        }
        let unlimited = Namespace { most: None, ..far };
        assert_eq!(unlimited.takes(Bytes(32 << 20), Bytes(0)), Ok(()));
        let why = unlimited.takes(Bytes(33 << 20), Bytes(0));
        assert!(why.is_err_and(|why| why.contains("at most 32MiB")));
        let why = plain.takes(Bytes(4096), Bytes(1 << 40));
        assert!(why.is_err_and(|why| why.contains("--size")));
        let guarded = of(&identify(0, 0, [8, 0, 9, 0])).expect("a namespace");
        let why = guarded.takes(Bytes(4096), region);
        assert!(why.is_err_and(|why| why.contains("8 bytes of metadata")));
    }

    #[test]
    fn identify_data_of_no_sense_are_refused_without_a_panic() {
        for data in [
            vec![],
            vec![0xff; 27],
            vec![0; 4096],
            vec![0xff; 4096],
            identify(0x7f, 0, [0, 0, 9, 0]),
            identify(0, 0, [0, 0, 64, 0]),
        ] {
            assert!(Namespace::identified(1, &data, None).is_err());
        }
    }

    /// Where there is a namespace to talk to: its first block by command and by the block device.
    #[test]
    fn a_block_read_by_command_is_the_block_devices() {
        let test = "a_block_read_by_command_is_the_block_devices";
        let found = std::fs::read_dir("/dev").ok().and_then(|all| {
            all.flatten()
                .find(|e| e.file_name().to_string_lossy().starts_with("ng"))
        });
        let Some(device) = found else {
            println!("SKIP {test}: there is no /dev/ng*");
            return;
        };
        let path = device.path();
        let sibling = path.to_string_lossy().replace("/ng", "/nvme");
        let (Ok(file), Ok(block)) = (File::open(&path), File::open(&sibling)) else {
            println!("SKIP {test}: {} may not be read", path.display());
            return;
        };
        let namespace = Namespace::of(&file).expect("it says what it is");
        if let Err(why) = namespace.takes(Bytes(4096), Bytes(4096)) {
            println!("SKIP {test}: {why}");
            return;
        }
        for registered in [false, true] {
            let want = Want {
                bytes: Bytes(0),
                node: None,
                huge: Huge::Never,
                lock: Lock::Prefer,
            };
            let setup = Setup {
                mode: RingMode {
                    registered,
                    ..RingMode::default()
                },
                depth: QueueDepth::ONE,
                align: Bytes(512),
                completes: Completes::Device,
            };
            let buffers = Buffers::new(QueueDepth::ONE, Bytes(4096), want).expect("memory");
            let file = file.try_clone().expect("a second descriptor");
            let commands = Passthrough::new(&file, namespace, registered);
            let mut engine = Uring::new(commands, file, buffers, setup, None).expect("an engine");
            let load = Load {
                depth: QueueDepth::ONE,
                offer: None,
                ramp: Nanos(0),
                window: Window::Ops(1),
                timed_by: TimedBy::Operation,
                patience: Load::PATIENCE,
            };
            let mut stream = Stream::new(strata_record::Op::Read, Bytes(4096), 1, 1);
            let scratch = Scratch::new(&load, &mut stream);
            let clock = Clock::get();
            let start = clock.now();
            let go = &mut |_| Step::Go;
            let tally = drive(&mut engine, &mut stream, &load, clock, scratch, start, go);
            assert_eq!((tally.ops(), tally.broken()), (1, None));
            let mut expected = vec![0; 4096];
            block.read_exact_at(&mut expected, 0).expect("readable");
            let buffer = engine.buffers().expect("it has some").first();
            for (n, word) in expected.chunks(8).enumerate() {
                let word = u64::from_le_bytes(word.try_into().expect("eight"));
                assert_eq!(buffer.word(n * 8), Some(word), "registered: {registered}");
            }
        }
    }
}
