//! What fails, on what, and what SPDK said of it.

use std::ffi::c_int;
use std::io;

use crate::Trouble;

/// Why SPDK does not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpdkError {
    /// It was started before: only one environment a process is possible, whatever came of it.
    #[error("SPDK was started in this process before, and can be started once; begin a new run")]
    Again,
    /// A call failed.
    #[error("{what} {on}: {}", why(said.as_deref(), *errno, troubles))]
    Failed {
        /// What was tried.
        what: &'static str,
        /// On what.
        on: String,
        /// The error number.
        errno: c_int,
        /// The last line of what SPDK and DPDK said, if anything.
        said: Option<String>,
        /// What of it is known.
        troubles: Vec<Trouble>,
    },
    /// There is no memory for it.
    #[error("SPDK has no {bytes} of memory{}: {next}", node.map_or_else(String::new, |n| format!(" on node {n}")))]
    Memory {
        /// How much.
        bytes: strata_units::Bytes,
        /// Where.
        node: Option<strata_units::NodeId>,
        /// What to do.
        next: &'static str,
    },
}

impl SpdkError {
    /// Of a call with that error number, with what was said since the last one.
    pub(crate) fn failed(what: &'static str, on: &str, errno: c_int, log: &str) -> SpdkError {
        SpdkError::Failed {
            what,
            on: on.to_owned(),
            errno: errno.abs(),
            said: log
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .map(str::to_owned),
            troubles: Trouble::in_log(log),
        }
    }
}

fn why(said: Option<&str>, errno: c_int, troubles: &[Trouble]) -> String {
    if let [first, ..] = troubles {
        return first.to_string();
    }
    let number = io::Error::from_raw_os_error(errno);
    match said {
        Some(said) => format!("{} ({number})", said.trim()),
        None => number.to_string(),
    }
}
