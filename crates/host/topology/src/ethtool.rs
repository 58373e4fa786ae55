//! What a network interface's driver counts and how it corrects errors, asked of this machine's kernel by `SIOCETHTOOL`
//! (`linux/ethtool.h`). None of its questions needs a privilege or changes anything.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::ptr::{self, NonNull};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
const GFECPARAM: u32 = 0x50;
/// `ETH_SS_STATS`: the set of strings that names the statistics.
const STATISTICS: u32 = 1;
/// `ETH_GSTRING_LEN`.
const NAME: usize = 32;
/// Drivers have some thousands, a few dozen a queue; more than this is no answer.
const MOST: u32 = 1 << 16;
/// Bytes for the longest answer, the names of [`MOST`] statistics with what stands before them.
const ROOM: usize = MOST as usize * NAME + 4096;

/// The driver's own statistics in its order, by its names; none where it has none, as that of loopback.
///
/// # Errors
///
/// What the kernel refused, and answers that contradict themselves.
pub(crate) fn statistics(interface: &str) -> io::Result<Vec<(String, u64)>> {
    let mut room = Room::new()?;
    // struct ethtool_sset_info: cmd, reserved, a mask of sets in and out, then a length for each that is there.
    let mask = 1 << STATISTICS;
    let [first, second] = if cfg!(target_endian = "little") {
        [mask, 0]
    } else {
        [0, mask]
    };
    if !room.ask(interface, GSSET_INFO, &[0, first, second, 0])? {
        return Ok(Vec::new());
    }
    let [there, also, count] = [8, 12, 16].map(|at| room.word(at));
    if there | also == 0 || count == 0 {
        return Ok(Vec::new());
    }
    if count > MOST {
        return Err(io::Error::other(format!(
            "the driver claims {count} statistics, at most {MOST} were expected"
        )));
    }
    let length = count as usize;
    let changed = || io::Error::other("its statistics were made anew while they were read");
    // struct ethtool_gstrings: cmd, string_set, len, then names.
    if !room.ask(interface, GSTRINGS, &[STATISTICS, count])? || room.word(8) != count {
        return Err(changed());
    }
    let names = room.copy(12..12 + length * NAME);
    // struct ethtool_stats: cmd, n_stats, then numbers.
    if !room.ask(interface, GSTATS, &[count])? || room.word(4) != count {
        return Err(changed());
    }
    Ok(parsed(&names, &room.copy(8..8 + length * 8)))
}

/// The forward error correction in use: `rs`, `baser`, `llrs`, `auto` or `off`; none where the driver tells none.
///
/// # Errors
///
/// What the kernel refused.
pub(crate) fn fec(interface: &str) -> io::Result<Option<&'static str>> {
    let mut room = Room::new()?;
    // struct ethtool_fecparam: cmd, active_fec, fec, reserved.
    let told = room.ask(interface, GFECPARAM, &[0, 0, 0])?;
    Ok(told.then(|| correction(room.word(4))).flatten())
}

/// `ETHTOOL_FEC_*`; "none" says that the mode is not supported.
fn correction(active: u32) -> Option<&'static str> {
    const MODES: [(u32, &str); 5] = [
        (1 << 3, "rs"),
        (1 << 4, "baser"),
        (1 << 5, "llrs"),
        (1 << 1, "auto"),
        (1 << 2, "off"),
    ];
    let mode = MODES.iter().find(|(bit, _)| active & bit != 0);
    mode.map(|(_, name)| *name)
}

/// Names of [`NAME`] bytes each, up to their first NUL, with as many numbers in this machine's order of bytes. Names are the
/// driver's: what is no text in them is replaced, and those that are empty are left out.
fn parsed(names: &[u8], numbers: &[u8]) -> Vec<(String, u64)> {
    let (names, _) = names.as_chunks::<NAME>();
    let (numbers, _) = numbers.as_chunks::<8>();
    names
        .iter()
        .zip(numbers)
        .filter_map(|(name, number)| {
            let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = String::from_utf8_lossy(text);
            let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            let text: String = text.trim().chars().map(plain).collect();
            (!text.is_empty()).then(|| (text, u64::from_ne_bytes(*number)))
        })
        .collect()
}

/// Memory that the kernel writes an answer into. The kernel does not heed for how many there is room: it writes as many as
/// the driver has at that moment, which may be more than when it was asked for their number. A page behind the memory that
/// nobody may touch makes such a write fail (`EFAULT`) rather than overwrite something else.
struct Room {
    at: NonNull<u8>,
    /// Bytes that may be touched, at least [`ROOM`].
    inner: usize,
    /// Those and the page behind them.
    mapped: usize,
}

#[allow(
    unsafe_code,
    reason = "the kernel writes answers of a length of its own into memory that it is given"
)]
impl Room {
    fn new() -> io::Result<Room> {
        // SAFETY: sysconf reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(io::Error::other)?;
        let inner = ROOM.next_multiple_of(page);
        let mapped = inner + page;
        // SAFETY: a new private mapping, at an address that the kernel chooses, touches nothing that is there.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        let room = Room { at, inner, mapped };
        // SAFETY: all but the last page of the mapping just made, to which no reference exists.
        let opened = unsafe {
            libc::mprotect(
                at.as_ptr().cast(),
                inner,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if opened != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(room)
    }

    /// Whether the driver answers a command followed by `words`; the answer stands in the room.
    fn ask(&mut self, interface: &str, command: u32, words: &[u32]) -> io::Result<bool> {
        let name = interface.as_bytes();
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (at, word) in std::iter::once(&command).chain(words).enumerate() {
            // SAFETY: a command and its few words lie within the room, whose pages are writable, and are aligned as the
            // mapping begins on a page; only this thread uses the room.
            unsafe { self.at.cast::<u32>().add(at).write(*word) };
        }
        // SAFETY: ifreq is plain numbers, arrays and pointers, for which zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = self.at.as_ptr().cast();
        // Any socket will do (netdevice(7)), and this one needs no address family of the network.
        let socket = UnixDatagram::unbound()?;
        // SAFETY: the request lives over the call, its name ends with a NUL, and what it points to is the room, which the
        // kernel can leave only by the page behind it: that fails.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if done == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENODEV) => Ok(false),
            _ => Err(error),
        }
    }

    /// The word at an offset that is a multiple of 4, in the first page.
    fn word(&self, offset: usize) -> u32 {
        let bytes = self.copy(offset..offset + 4);
        bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))
    }

    /// What stands there, as far as the room goes.
    fn copy(&self, range: Range<usize>) -> Vec<u8> {
        let range = range.start.min(self.inner)..range.end.min(self.inner);
        let mut bytes = vec![0; range.len()];
        // SAFETY: the range lies within the readable pages of the room, the vector is as long, and the kernel writes there
        // only while it is asked, which takes the room alone.
        unsafe {
            ptr::copy_nonoverlapping(
                self.at.as_ptr().add(range.start),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        bytes
    }
}

#[allow(unsafe_code, reason = "the mapping of a room goes with it")]
impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, of that length, which nobody else has.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn name(text: &[u8]) -> [u8; NAME] {
        let mut name = [0; NAME];
        name[..text.len()].copy_from_slice(text);
        name
    }

    #[test]
    fn names_and_numbers_go_together() {
        let names = [
            name(b"rx_prio3_pause"),
            name(b""),
            name(b"bad\xff\x01name\0rest"),
            // Without a NUL at its end.
            [b'x'; NAME],
            name(b"without a number"),
        ];
        let numbers = [7u64, 8, 9, u64::MAX].map(u64::to_ne_bytes);
        let found = parsed(names.as_flattened(), numbers.as_flattened());
        let expected = [
            ("rx_prio3_pause".to_owned(), 7),
            ("bad\u{fffd}\u{fffd}name".to_owned(), 9),
            ("x".repeat(NAME), u64::MAX),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn whatever_a_driver_says_is_read_without_panic(
            names in proptest::collection::vec(any::<u8>(), 0..200),
            numbers in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let found = parsed(&names, &numbers);
            prop_assert!(found.len() <= (names.len() / NAME).min(numbers.len() / 8));
            for (name, _) in found {
                prop_assert!(!name.is_empty() && name.chars().count() <= NAME);
                prop_assert!(!name.contains(char::is_control));
            }
        }
    }

    #[test]
    fn the_correction_in_use_is_named() {
        let told = [1, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 0].map(correction);
        let names = ["auto", "off", "rs", "baser", "llrs"].map(Some);
        assert_eq!(told[0], None);
        assert_eq!(told[1..6], names);
        assert_eq!(told[6], None);
    }

    #[test]
    fn names_that_no_interface_has_are_refused_or_have_nothing() {
        for name in ["", "sixteen-letters-x", "nul\0"] {
            let refused = statistics(name).expect_err("no such name");
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        assert!(
            statistics("strata-none")
                .expect("no such interface")
                .is_empty()
        );
        assert_eq!(fec("strata-none").expect("no such interface"), None);
    }

    #[test]
    fn loopback_has_no_statistics_of_a_driver() {
        assert!(statistics("lo").expect("asked").is_empty());
        assert_eq!(fec("lo").expect("asked"), None);
    }

    #[test]
    fn the_page_behind_the_room_stops_what_is_too_long() {
        let room = Room::new().expect("memory");
        assert!(room.inner >= ROOM && room.mapped > room.inner);
        let zero = fs::File::open("/dev/zero").expect("a device");
        // SAFETY: read(2) writes no further than the page behind the room, which nobody may touch.
        #[allow(unsafe_code, reason = "as the kernel would write too much")]
        let read = unsafe {
            libc::read(
                zero.as_raw_fd(),
                room.at.as_ptr().add(room.inner - 16).cast(),
                4096,
            )
        };
        assert!(read <= 16, "{read} bytes were written beyond the room");
    }

    /// The number of a queue and what is counted there: `rx_queue_0_packets` and `rx0_packets` are packets of queue 0.
    fn of_queue(name: &str) -> Option<(u32, &str)> {
        let rest = name.strip_prefix("rx")?;
        let rest = rest.strip_prefix("_queue_").unwrap_or(rest);
        let (queue, what) = rest.split_once('_')?;
        Some((queue.parse().ok()?, what))
    }

    /// What virtio's driver counts by queue makes up its totals, or, where it counts packets, those that sysfs tells.
    #[test]
    fn queues_of_a_driver_make_up_the_interface() {
        let test = "queues_of_a_driver_make_up_the_interface";
        let received = |interface: &str| -> Option<u64> {
            let path = format!("/sys/class/net/{interface}/statistics/rx_packets");
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        let interfaces = fs::read_dir("/sys/class/net").into_iter().flatten();
        let mut compared = 0;
        for interface in interfaces.flatten() {
            let interface = interface.file_name().to_string_lossy().into_owned();
            let driver = fs::read_link(format!("/sys/class/net/{interface}/device/driver"));
            if !driver.is_ok_and(|d| d.ends_with("virtio_net")) {
                continue;
            }
            let before = received(&interface).expect("in sysfs");
            let told = statistics(&interface).expect("virtio's driver answers");
            let after = received(&interface).expect("in sysfs");
            assert!(!told.is_empty(), "virtio's driver counts");
            let sum = |wanted: &str| -> Option<u64> {
                let counts = told
                    .iter()
                    .filter(|(name, _)| of_queue(name).is_some_and(|(_, what)| what == wanted));
                counts.map(|(_, n)| *n).reduce(|a, b| a + b)
            };
            if let Some(packets) = sum("packets") {
                assert!((before..=after).contains(&packets), "{interface}: {told:?}");
                compared += 1;
            }
            for (name, total) in &told {
                let what = name
                    .strip_prefix("rx_")
                    .filter(|_| of_queue(name).is_none());
                if let Some(of_queues) = what.and_then(sum) {
                    assert_eq!(*total, of_queues, "{interface}: {name} of {told:?}");
                    compared += 1;
                }
            }
        }
        if compared == 0 {
            println!("SKIP {test}: no interface of virtio's here");
        }
    }
}
