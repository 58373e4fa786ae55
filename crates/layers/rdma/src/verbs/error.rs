//! What goes wrong in verbs: which call, on which object, what the system said, in which state, and what to do.

use std::io;

use strata_rdma_sys::LoadError;
use strata_units::{Bytes, Nanos};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum VerbsError {
    /// The libraries are not there.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No device of that name.
    #[error(
        "there is no RDMA device {name}; {have}; `strata rdma list` tells what is there and what is wrong"
    )]
    NoDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        have: String,
    },
    /// A call of the library failed.
    #[error("{call} on {object}: {}{}; {next}", system(*errno), in_state(*state))]
    Call {
        /// The function (verbs(7), rdma_cm(7)).
        call: &'static str,
        /// What it was called on.
        object: String,
        /// What it said (errno(3)).
        errno: i32,
        /// The state that the object was in, where that matters.
        state: Option<&'static str>,
        /// The likely cause and the next step.
        next: String,
    },
    /// What was asked for is beyond the device.
    #[error("{what} of {asked} is more than {device} has: {most}; {next}")]
    Beyond {
        /// What of it.
        what: &'static str,
        /// How much was asked for.
        asked: u64,
        /// The device.
        device: String,
        /// The most that it has.
        most: u64,
        /// What to change.
        next: String,
    },
    /// The port cannot be used as it is.
    #[error("{0}")]
    Port(String),
    /// The other side, or its kernel, did not take a connection.
    #[error("{call} on {object}: rejected ({reason}: {why}); {next}")]
    Rejected {
        /// The function (rdma_cm(7)).
        call: &'static str,
        /// The connection.
        object: String,
        /// The reason's number (InfiniBand Architecture Specification, volume 1, REJ of communication management).
        reason: i32,
        /// The same in words.
        why: &'static str,
        /// The likely cause and the next step.
        next: &'static str,
    },
    /// What a call began did not end in time.
    #[error("{call} on {object}: nothing came within {within}; {next}")]
    TimedOut {
        /// The function.
        call: &'static str,
        /// What it was called on.
        object: String,
        /// How long it was waited for.
        within: Nanos,
        /// The likely cause and the next step.
        next: &'static str,
    },
    /// Whoever waited wanted no more.
    #[error("{call} on {object}: broken off")]
    BrokenOff {
        /// The function.
        call: &'static str,
        /// What it was called on.
        object: String,
    },
    /// Memory could not be had.
    #[error(transparent)]
    Memory(#[from] strata_memory::MemoryError),
}

fn system(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn in_state(state: Option<&str>) -> String {
    state.map_or_else(String::new, |state| format!(" (it is in {state})"))
}

impl VerbsError {
    /// A call that failed with an error number.
    pub(crate) fn call(
        call: &'static str,
        object: impl Into<String>,
        errno: i32,
        next: impl Into<String>,
    ) -> VerbsError {
        VerbsError::Call {
            call,
            object: object.into(),
            errno: errno.abs(),
            state: None,
            next: next.into(),
        }
    }

    /// A call that failed and left its number in errno, as those that give pointers do.
    pub(crate) fn last(
        call: &'static str,
        object: impl Into<String>,
        next: impl Into<String>,
    ) -> VerbsError {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        VerbsError::call(call, object, errno, next)
    }

    /// The same, of an object in that state.
    pub(crate) fn in_state(mut self, now: &'static str) -> VerbsError {
        if let VerbsError::Call { state, .. } = &mut self {
            *state = Some(now);
        }
        self
    }
}

/// What to do where a device could not be opened.
pub(crate) fn cannot_open(errno: i32) -> &'static str {
    match errno {
        libc::EACCES | libc::EPERM => {
            "this user may not open /dev/infiniband/uverbs*; its group (often `rdma`) or mode must let it"
        }
        libc::ENOENT | libc::ENODEV | libc::ENXIO => {
            "/dev/infiniband/uverbs* is missing: `modprobe ib_uverbs`, and in a container pass the device in"
        }
        _ => "look at dmesg",
    }
}

/// What to do where memory could not be registered.
pub(crate) fn cannot_register(errno: i32, bytes: Bytes) -> String {
    match errno {
        libc::ENOMEM | libc::EAGAIN => {
            let limit = strata_memory::memlock_limit()
                .map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
            format!(
                "{bytes} must be locked, and this process may lock {limit} (`ulimit -l`); raise it (LimitMEMLOCK=infinity, /etc/security/limits.d), or lower --bs or --depth"
            )
        }
        libc::EFAULT => "the memory is not there, or not writable".to_owned(),
        libc::EOPNOTSUPP | libc::EINVAL => {
            "the device does not have these rights or this length; leave --relaxed-ordering out, or lower --bs"
                .to_owned()
        }
        _ => "look at dmesg".to_owned(),
    }
}

/// What to do where a queue pair could not be brought to its peer.
pub(crate) fn cannot_connect(errno: i32) -> &'static str {
    match errno {
        libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH => {
            "no route to the other side's GID: `ping` its address from this interface, look at `ip neigh` and `ip route`"
        }
        libc::EINVAL | libc::ENODATA | libc::ENOENT => {
            "the path does not fit the port: look at MTU, GID index (`strata rdma list`), service level and P_Key"
        }
        libc::ENODEV | libc::ENXIO => "the GID's interface is gone or down: `ip link`",
        _ => "look at dmesg, and at `strata rdma list` on both sides",
    }
}
