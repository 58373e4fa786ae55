//! What the engines of this layer have in common: their names, and what a failed operation means.

use std::fmt;
use std::io;
use std::str::FromStr;

use strata_measure::FailCode;

use crate::target::Prepared;

/// An engine of the block layer. Its name is a base and modifiers joined by `+`, each once and in one order:
/// `io_uring+registered+iopoll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockEngine {
    /// pread(2) and pwrite(2), one at a time.
    Psync,
    /// The kernel's AIO, a batch a system call; completions from the shared ring while there are any.
    Libaio,
    /// io_uring(7) with IORING_OP_READ and IORING_OP_WRITE, through the file system or the block device.
    IoUring(RingMode),
    /// NVMe commands through io_uring (IORING_OP_URING_CMD on `/dev/ngXnY`), past the block layer.
    IoUringCmd(RingMode),
}

/// How a ring is set up, where it is not as plain `io_uring`: one issuer, whose completions are posted when it asks for
/// them (IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN, Linux 6.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingMode {
    /// `+registered`: the file and the buffers are registered, so that the kernel neither looks up the one nor pins the
    /// others for each operation.
    pub registered: bool,
    /// `+iopoll`: completions are polled for, without interrupts (IORING_SETUP_IOPOLL).
    pub iopoll: bool,
    /// How operations get into the kernel, and completions out of it.
    pub issue: Issue,
}

/// Who brings operations into the kernel, and when their completions are posted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Issue {
    /// The measuring thread, and completions when it asks for them.
    #[default]
    Deferred,
    /// `+sqpoll`: a thread of the kernel's polls the submission queue (IORING_SETUP_SQPOLL); no system calls, one more CPU.
    SqPoll,
    /// `+taskrun`: the measuring thread, which is interrupted for each completion: a ring without flags, as before Linux
    /// 6.1 and as fio's default.
    TaskRun,
}

const REGISTERED: &str = "registered";
const IOPOLL: &str = "iopoll";
const SQPOLL: &str = "sqpoll";
const TASKRUN: &str = "taskrun";

impl BlockEngine {
    /// Plain io_uring.
    pub const IO_URING: BlockEngine = BlockEngine::IoUring(RingMode {
        registered: false,
        iopoll: false,
        issue: Issue::Deferred,
    });

    /// Plain io_uring, or on a kernel before 6.1, which cannot defer completions, with `+taskrun`; plain where neither is.
    pub fn best_ring() -> BlockEngine {
        let older = BlockEngine::IoUring(RingMode {
            issue: Issue::TaskRun,
            ..RingMode::default()
        });
        [BlockEngine::IO_URING, older]
            .into_iter()
            .find(|engine| engine.available().is_ok())
            .unwrap_or(BlockEngine::IO_URING)
    }

    /// All of them, with every combination of modifiers.
    pub fn all() -> impl Iterator<Item = BlockEngine> {
        let modes = [Issue::Deferred, Issue::SqPoll, Issue::TaskRun]
            .into_iter()
            .flat_map(|issue| {
                [(false, false), (true, false), (false, true), (true, true)].map(
                    |(registered, iopoll)| RingMode {
                        registered,
                        iopoll,
                        issue,
                    },
                )
            });
        [BlockEngine::Psync, BlockEngine::Libaio]
            .into_iter()
            .chain(modes.clone().map(BlockEngine::IoUring))
            .chain(modes.map(BlockEngine::IoUringCmd))
    }

    /// Most operations in flight.
    pub fn most_depth(self) -> u16 {
        match self {
            BlockEngine::Psync => 1,
            BlockEngine::Libaio | BlockEngine::IoUring(_) | BlockEngine::IoUringCmd(_) => {
                strata_units::QueueDepth::MAX.get()
            }
        }
    }

    /// How its ring is set up; none where it has none.
    pub fn ring_mode(self) -> Option<RingMode> {
        match self {
            BlockEngine::IoUring(mode) | BlockEngine::IoUringCmd(mode) => Some(mode),
            BlockEngine::Psync | BlockEngine::Libaio => None,
        }
    }

    /// Whether its completions are polled for: a device that sends interrupts for them in a trial contradicts it. Older
    /// kernels fall back to interrupts without a word where the driver has no queues to poll (`nvme.poll_queues`).
    pub fn polled(self) -> bool {
        self.ring_mode().is_some_and(|mode| mode.iopoll)
    }

    /// Whether a thread of the kernel's submits for it, on a CPU of its own.
    pub fn sq_polled(self) -> bool {
        self.ring_mode()
            .is_some_and(|mode| mode.issue == Issue::SqPoll)
    }

    /// Whether this kernel lets this process use it.
    ///
    /// # Errors
    /// In words, why not, with the next step.
    pub fn available(self) -> Result<(), String> {
        match self {
            BlockEngine::Psync => Ok(()),
            BlockEngine::Libaio => crate::aio::available(),
            BlockEngine::IoUring(mode) => crate::ring::available(mode),
            BlockEngine::IoUringCmd(mode) => crate::ring::available_cmd(mode),
        }
    }

    /// Whether this kernel lets this process use it on this target.
    ///
    /// # Errors
    /// In words, why not, with the next step.
    pub fn available_on(self, target: &Prepared) -> Result<(), String> {
        self.available()?;
        crate::device::fits(self, &target.path, target.direct)?;
        match (self, target.open(false)) {
            (BlockEngine::IoUring(mode), Ok(file)) if mode.iopoll => {
                crate::uring::polls(file, mode)
                    .map_err(|why| format!("{self} on {}: {why}", target.path.display()))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for BlockEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, mode) = match self {
            BlockEngine::Psync => ("psync", RingMode::default()),
            BlockEngine::Libaio => ("libaio", RingMode::default()),
            BlockEngine::IoUring(mode) => ("io_uring", *mode),
            BlockEngine::IoUringCmd(mode) => ("io_uring_cmd", *mode),
        };
        let mut name = base.to_owned();
        for (set, modifier) in [
            (mode.registered, REGISTERED),
            (mode.iopoll, IOPOLL),
            (mode.issue == Issue::SqPoll, SQPOLL),
            (mode.issue == Issue::TaskRun, TASKRUN),
        ] {
            if set {
                name.push('+');
                name.push_str(modifier);
            }
        }
        f.pad(&name)
    }
}

/// A name that is no engine of this layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownEngine {
    /// What stands before the first `+` is none.
    #[error(
        "`{0}` is no engine of the block layer: expected psync, libaio, io_uring or io_uring_cmd, the last two also with +registered, +iopoll, and +sqpoll or +taskrun"
    )]
    Base(String),
    /// A modifier is none, or none of this engine.
    #[error("{engine} has no modifier `+{modifier}`: {known}")]
    Modifier {
        /// The engine.
        engine: String,
        /// What is none.
        modifier: String,
        /// What there is.
        known: &'static str,
    },
    /// A modifier is given twice.
    #[error("`{name}` says +{modifier} twice; give it once")]
    Twice {
        /// The name.
        name: String,
        /// What is in it twice.
        modifier: String,
    },
    /// Two modifiers exclude one another.
    #[error(
        "`{0}`: either a thread of the kernel's submits (+sqpoll) or ours is interrupted for completions (+taskrun); give one of the two"
    )]
    Conflict(String),
    /// The modifiers stand in another order.
    #[error("`{given}` is written `{canonical}`; give it so, that a cell has one name")]
    Order {
        /// As it was given.
        given: String,
        /// As it is written.
        canonical: String,
    },
}

impl FromStr for BlockEngine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let mut parts = text.split('+');
        let base = parts.next().unwrap_or_default();
        let modifiers: Vec<&str> = parts.collect();
        let plain: fn(RingMode) -> BlockEngine = match base {
            "psync" => |_| BlockEngine::Psync,
            "libaio" => |_| BlockEngine::Libaio,
            "io_uring" => BlockEngine::IoUring,
            "io_uring_cmd" => BlockEngine::IoUringCmd,
            _ => return Err(UnknownEngine::Base(text.to_owned())),
        };
        let has_ring = plain(RingMode::default()).ring_mode().is_some();
        let mut mode = RingMode::default();
        for (n, modifier) in modifiers.iter().enumerate() {
            let none = |known| UnknownEngine::Modifier {
                engine: base.to_owned(),
                modifier: (*modifier).to_owned(),
                known,
            };
            if !has_ring {
                return Err(none("it has none; those are io_uring's"));
            }
            if modifiers[..n].contains(modifier) {
                return Err(UnknownEngine::Twice {
                    name: text.to_owned(),
                    modifier: (*modifier).to_owned(),
                });
            }
            let issue = match *modifier {
                REGISTERED => {
                    mode.registered = true;
                    continue;
                }
                IOPOLL => {
                    mode.iopoll = true;
                    continue;
                }
                SQPOLL => Issue::SqPoll,
                TASKRUN => Issue::TaskRun,
                _ => {
                    return Err(none(
                        "expected +registered, +iopoll, and +sqpoll or +taskrun",
                    ));
                }
            };
            if mode.issue != Issue::Deferred {
                return Err(UnknownEngine::Conflict(text.to_owned()));
            }
            mode.issue = issue;
        }
        let engine = plain(mode);
        let canonical = engine.to_string();
        if canonical != text {
            return Err(UnknownEngine::Order {
                given: text.to_owned(),
                canonical,
            });
        }
        Ok(engine)
    }
}

/// What the kernel says to a polled operation (IORING_SETUP_IOPOLL) that nothing below can poll for.
const NOT_POLLED: &str = "the file system or the driver cannot be polled for completions; load nvme with `nvme.poll_queues=4` on the kernel's command line, name a target on such a drive, or leave out +iopoll";

/// Fewer bytes moved than were asked for.
pub(crate) const SHORT: FailCode = FailCode(i32::MIN + 1);

/// The outcome of a transfer as its operation's, by the number of bytes that were asked for.
pub(crate) fn code_of(error: &io::Error) -> FailCode {
    FailCode(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A failure in words, with the next step.
pub(crate) fn explain(code: FailCode) -> String {
    if code == SHORT {
        return "fewer bytes than asked for: the target became shorter while it was measured; leave it alone".to_owned();
    }
    let error = io::Error::from_raw_os_error(code.0);
    let next = match code.0 {
        libc::EIO => "the drive or its path failed; see dmesg",
        libc::EINVAL => {
            "offset, length or memory is not aligned as the drive wants it; give a --bs that is a multiple of its logical block size"
        }
        libc::ENOSPC => {
            "the file system is full, or the drive is shorter than it was; free space, give a smaller --size, or see dmesg"
        }
        libc::EOPNOTSUPP => NOT_POLLED,
        libc::EAGAIN => "the kernel had no resources; lower --depth",
        libc::ENXIO | libc::ENODEV => "the drive is gone; see dmesg",
        _ => "see dmesg",
    };
    format!("{error} ({next})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_differ() {
        let names: Vec<String> = BlockEngine::all().map(|e| e.to_string()).collect();
        assert_eq!(names.len(), 26);
        for (n, (name, engine)) in names.iter().zip(BlockEngine::all()).enumerate() {
            assert_eq!(name.parse(), Ok(engine));
            assert!(!names[..n].contains(name), "{name}");
        }
        for name in [
            "psync",
            "libaio",
            "io_uring",
            "io_uring+taskrun",
            "io_uring+registered+iopoll+sqpoll",
            "io_uring_cmd+registered",
        ] {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
        assert_eq!(BlockEngine::IO_URING.to_string(), "io_uring");
    }

    #[test]
    fn a_wrong_name_is_told_what_there_is() {
        for (name, expected) in [
            ("sync", "psync, libaio, io_uring or io_uring_cmd"),
            ("", "psync, libaio, io_uring or io_uring_cmd"),
            ("+iopoll", "psync, libaio, io_uring or io_uring_cmd"),
            ("psync+iopoll", "psync has no modifier `+iopoll`"),
            ("libaio+", "libaio has no modifier `+`"),
            ("io_uring+", "expected +registered, +iopoll"),
            ("io_uring+defer", "no modifier `+defer`"),
            ("io_uring+iopoll+iopoll", "+iopoll twice"),
            ("io_uring+sqpoll+sqpoll", "+sqpoll twice"),
            ("io_uring+sqpoll+taskrun", "give one of the two"),
            (
                "io_uring+iopoll+registered",
                "written `io_uring+registered+iopoll`",
            ),
        ] {
            let why = name
                .parse::<BlockEngine>()
                .expect_err("no engine")
                .to_string();
            assert!(why.contains(expected), "{name}: {why}");
        }
    }

    #[test]
    fn only_iopoll_is_polled_and_only_sqpoll_has_a_thread() {
        for engine in BlockEngine::all() {
            let name = engine.to_string();
            assert_eq!(engine.polled(), name.contains("+iopoll"), "{name}");
            assert_eq!(engine.sq_polled(), name.contains("+sqpoll"), "{name}");
        }
    }

    #[test]
    fn failures_have_a_next_step() {
        assert!(explain(FailCode(libc::EIO)).contains("dmesg"));
        assert!(explain(SHORT).contains("shorter"));
        assert!(explain(FailCode(libc::EOPNOTSUPP)).contains("nvme.poll_queues="));
    }
}
