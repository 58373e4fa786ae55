//! The ioctls that ask a drive for its reservations; nothing else here needs `unsafe`.

#![allow(unsafe_code, reason = "ioctl(2) takes raw pointers")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct nvme_passthru_cmd` (include/uapi/linux/nvme_ioctl.h).
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// `struct pr_read_keys` (include/uapi/linux/pr.h, Linux 6.19).
#[repr(C)]
struct ReadKeys {
    generation: u32,
    num_keys: u32,
    keys_ptr: u64,
}

/// NVME_IOCTL_ID, `_IO('N', 0x40)`: the number of the namespace.
const NVME_ID: libc::Ioctl = libc::_IO(b'N' as u32, 0x40);
/// NVME_IOCTL_IO_CMD, `_IOWR('N', 0x43, struct nvme_passthru_cmd)`.
const NVME_IO: libc::Ioctl = libc::_IOWR::<NvmeCommand>(b'N' as u32, 0x43);
/// IOC_PR_READ_KEYS, `_IOWR('p', 206, struct pr_read_keys)`.
const READ_KEYS: libc::Ioctl = libc::_IOWR::<ReadKeys>(b'p' as u32, 206);

/// Reservation Report (NVM Express Base 2.0 §7.6), opcode 0eh.
const REPORT: u8 = 0x0e;

/// What an NVMe command came to.
pub(crate) enum Answer {
    /// Its data.
    Data(Vec<u8>),
    /// The drive's status: code in the low byte, type above.
    Status(u32),
}

/// An NVMe namespace's Reservation Report, in the short or the extended structure, with room for so many bytes (a multiple of
/// four).
///
/// # Errors
/// The system's: `EACCES` without the privilege, `ENOTTY` where it is no NVMe device.
pub(crate) fn nvme_report(file: &File, extended: bool, room: u32) -> io::Result<Answer> {
    // SAFETY: NVME_IOCTL_ID takes no argument; the descriptor is open.
    let nsid = unsafe { libc::ioctl(file.as_raw_fd(), NVME_ID) };
    let nsid = u32::try_from(nsid).map_err(|_| io::Error::last_os_error())?;
    // In bytes and dwords less one: the kernel's and the drive's ways to say one length.
    let mut data = vec![0_u8; room as usize];
    let mut command = NvmeCommand {
        opcode: REPORT,
        nsid,
        addr: data.as_mut_ptr() as u64,
        data_len: room,
        cdw10: (room / 4).saturating_sub(1),
        cdw11: u32::from(extended),
        timeout_ms: 5000,
        ..NvmeCommand::default()
    };
    // SAFETY: `command` is laid out as the kernel's structure, and `data_len` bytes behind `addr` stay valid and unborrowed
    // for the call, which is synchronous.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), NVME_IO, &raw mut command) };
    match u32::try_from(status) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(Answer::Data(data)),
        Ok(status) => Ok(Answer::Status(status)),
    }
}

/// How many keys are registered with a SCSI or device-mapper disk.
///
/// # Errors
/// The system's: `ENOTTY` before Linux 6.19, `EOPNOTSUPP` where the driver has no reservations.
pub(crate) fn registered_keys(file: &File) -> io::Result<u32> {
    let mut keys = vec![0_u64; 64];
    let mut ask = ReadKeys {
        generation: 0,
        num_keys: 64,
        keys_ptr: keys.as_mut_ptr() as u64,
    };
    // SAFETY: `ask` is laid out as the kernel's structure, and `num_keys` words behind `keys_ptr` stay valid and unborrowed for
    // the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), READ_KEYS, &raw mut ask) } {
        0 => Ok(ask.num_keys),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laid_out_as_the_kernels() {
        assert_eq!(size_of::<NvmeCommand>(), 72);
        assert_eq!(size_of::<ReadKeys>(), 16);
        assert_eq!(NVME_ID, 0x4e40);
        assert_eq!(NVME_IO, 0xc048_4e43);
        assert_eq!(READ_KEYS, 0xc010_70ce);
    }

    #[test]
    fn what_is_no_drive_says_so() {
        let null = File::open("/dev/null").expect("/dev/null");
        assert!(nvme_report(&null, true, 4096).is_err() && registered_keys(&null).is_err());
    }
}
