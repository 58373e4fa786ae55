//! What the engines of this layer have in common: their names, and what a failed operation means.

use std::fmt;
use std::io;
use std::str::FromStr;

use strata_measure::FailCode;

/// An engine of the block layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockEngine {
    /// pread(2) and pwrite(2), one at a time.
    Psync,
    /// The kernel's AIO, a batch a system call; completions from the shared ring while there are any.
    Libaio,
    /// io_uring(7), plain: no registered files or buffers, completions by interrupt.
    IoUring,
}

impl BlockEngine {
    /// All of them.
    pub const ALL: [BlockEngine; 3] = [
        BlockEngine::Psync,
        BlockEngine::Libaio,
        BlockEngine::IoUring,
    ];

    /// Most operations in flight.
    pub fn most_depth(self) -> u16 {
        match self {
            BlockEngine::Psync => 1,
            BlockEngine::Libaio | BlockEngine::IoUring => strata_units::QueueDepth::MAX.get(),
        }
    }

    /// Whether this kernel lets this process use it.
    ///
    /// # Errors
    /// In words, why not, with the next step.
    pub fn available(self) -> Result<(), String> {
        match self {
            BlockEngine::Psync => Ok(()),
            BlockEngine::Libaio => crate::aio::available(),
            BlockEngine::IoUring => crate::uring::available(),
        }
    }
}

impl fmt::Display for BlockEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            BlockEngine::Psync => "psync",
            BlockEngine::Libaio => "libaio",
            BlockEngine::IoUring => "io_uring",
        })
    }
}

/// A name that is no engine of this layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no engine of the block layer: expected psync, libaio or io_uring")]
pub struct UnknownEngine(String);

impl FromStr for BlockEngine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.to_string() == text)
            .ok_or_else(|| UnknownEngine(text.to_owned()))
    }
}

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
        libc::ENOSPC => "the file system is full; free space or give a smaller --size",
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
    fn names_round_trip() {
        for engine in BlockEngine::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        assert!("sync".parse::<BlockEngine>().is_err());
    }

    #[test]
    fn failures_have_a_next_step() {
        assert!(explain(FailCode(libc::EIO)).contains("dmesg"));
        assert!(explain(SHORT).contains("shorter"));
    }
}
