//! Why a controller cannot be served.

use std::io;
use std::path::PathBuf;

use strata_memory::MemoryError;
use strata_topology::PinError;
use strata_units::Bytes;
use strata_vfio_user::ServerError;

use crate::model::ModelError;

/// A value of a controller's file that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: found {found}, expected {expected}; correct it in the controller's file")]
pub struct ConfigError {
    /// The key, with the namespace's number where it is of one.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: String,
}

/// Why a controller cannot be served, or is no longer.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// Its file makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its models make no sense.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The socket.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The thread cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// There are no huge pages for a namespace.
    #[error("no memory for namespace {nsid}: {why}")]
    Huge {
        /// The namespace.
        nsid: u32,
        /// Why, with the next step.
        why: MemoryError,
    },
    /// There is no memory for a namespace.
    #[error(
        "no memory for namespace {nsid} of {size}: {why}; make it smaller, or allow overcommitment (vm.overcommit_memory)"
    )]
    Memory {
        /// The namespace.
        nsid: u32,
        /// Its size.
        size: Bytes,
        /// What the system said.
        why: io::Error,
    },
    /// A namespace's file is not as long as the namespace.
    #[error(
        "namespace {nsid} is kept in {path}, which has {found}, expected {expected}; make it so with `truncate -s {expected}`, \
         where {expected} is written in bytes, or name another file", path = path.display()
    )]
    Length {
        /// The namespace.
        nsid: u32,
        /// The file.
        path: PathBuf,
        /// Its length.
        found: Bytes,
        /// The namespace's size.
        expected: Bytes,
    },
    /// A namespace's file cannot be used.
    #[error("cannot {what} {path} for namespace {nsid}: {why}; name a file of this user that nobody else serves", path = path.display())]
    File {
        /// The namespace.
        nsid: u32,
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A namespace's file was gone in part while it was served.
    #[error(
        "{path} of namespace {nsid} was found shorter than the namespace, or with a hole that there was no space for on its disk: \
         blocks written there since are lost; make it whole (truncate(1), fallocate(1)), look at the disk (df), and serve it anew",
        path = path.display()
    )]
    Torn {
        /// The namespace.
        nsid: u32,
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error(
        "cannot {what} for an emulated controller: {why}; look at the limits of this process (ulimit -a)"
    )]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        why: io::Error,
    },
}
