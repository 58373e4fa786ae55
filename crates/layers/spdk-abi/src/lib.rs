//! What the plugin that is linked against a node's SPDK, and the command that loads it, have in common: one versioned table
//! of functions. Plain C types, so that either may be built without the other, by another compiler.
//!
//! A plugin exports one symbol, [`SYMBOL`], a function without arguments that returns a [`Table`]. Who loads it compares
//! [`MAGIC`] and [`VERSION`] before anything else of the table is looked at. Functions that fail return a negative error
//! number (errno(3)) and have said why in the log, which [`Table::said`] takes.

#![no_std]
#![forbid(unsafe_code)]

use core::ffi::{CStr, c_char, c_int, c_void};

/// The symbol that a plugin exports: an [`Entry`].
pub const SYMBOL: &CStr = c"strata_spdk_plugin";

/// What a plugin's symbol is.
pub type Entry = unsafe extern "C" fn() -> *const Table;

/// What a table begins with: "STRASPDK".
pub const MAGIC: u64 = u64::from_le_bytes(*b"STRASPDK");

/// The version of all that stands here; it rises with each change.
pub const VERSION: u32 = 1;

/// Bytes of a page that Identify returns (NVM Express Base Specification, 5.1.13).
pub const IDENTIFY: usize = 4096;

/// A controller of SPDK's; only ever behind a pointer.
#[repr(C)]
pub struct Controller {
    _opaque: [u8; 0],
}

/// A queue pair; only ever behind a pointer. Of one thread at a time.
#[repr(C)]
pub struct Queue {
    _opaque: [u8; 0],
}

/// How SPDK's environment is started. Strings are null or end with a null byte.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// What it calls itself.
    pub name: *const c_char,
    /// CPUs of its own threads, as a list in brackets: `[2,3]`. Ours are none of these.
    pub cores: *const c_char,
    /// Memory in MiB; −1 lets DPDK take what it needs as it goes.
    pub memory_mib: c_int,
    /// Whether it goes without huge pages.
    pub no_huge: bool,
    /// Whether it leaves the PCI bus alone.
    pub no_pci: bool,
    /// The only PCI addresses that it may look at: an array of strings; none when `allowed` is 0 and `no_pci` is not set is
    /// refused, since it would attach to every device.
    pub pci: *const *const c_char,
    /// How many.
    pub allowed: usize,
}

/// What a queue pair is to be.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct QueueOptions {
    /// The namespace that it reads and writes.
    pub namespace: u32,
    /// Entries of its queues, of which one stays free; no more than the device has.
    pub entries: u32,
    /// Requests in flight: an operation that is split takes several.
    pub requests: u32,
    /// Operations in flight: the numbers of requests are below this.
    pub slots: u32,
    /// Whether doorbells wait for the next poll, so that a batch has one.
    pub late_doorbell: bool,
}

/// What a request does.
pub mod kind {
    /// From the namespace into the buffer.
    pub const READ: u32 = 0;
    /// From the buffer to the namespace.
    pub const WRITE: u32 = 1;
    /// All that was written before becomes lasting.
    pub const FLUSH: u32 = 2;
}

/// One request.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Memory of [`Table::allocate`].
    pub buffer: *mut c_void,
    /// The first logical block.
    pub block: u64,
    /// How many.
    pub blocks: u32,
    /// Its operation's number; no two in flight have one.
    pub slot: u32,
    /// Of [`kind`].
    pub kind: u32,
}

/// How a request ended.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Completion {
    /// Its operation's number.
    pub slot: u32,
    /// The status field without its phase bit (NVM Express Base Specification, "Completion Queue Entry: Status Field"); 0 is
    /// success.
    pub status: u32,
}

/// The functions of a plugin.
#[repr(C)]
pub struct Table {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`] of the plugin.
    pub version: u32,
    /// Bytes of the table.
    pub bytes: u32,
    /// The version of SPDK that it was built with: `26.05.00`, a constant.
    pub spdk: unsafe extern "C" fn() -> *const c_char,
    /// Starts the environment, once a process; also a failed start is one.
    pub start: unsafe extern "C" fn(*const Environment) -> c_int,
    /// Takes lines of the logs of SPDK and DPDK, as many as fit whole; bytes written. Of any thread.
    pub said: unsafe extern "C" fn(*mut u8, usize) -> usize,
    /// Attaches to the controller of a transport identifier in words (`trtype:PCIe traddr:0000:81:00.0`).
    pub connect: unsafe extern "C" fn(*const c_char, *mut *mut Controller) -> c_int,
    /// The controller's Identify page, [`IDENTIFY`] bytes.
    pub identify: unsafe extern "C" fn(*mut Controller, *mut u8) -> c_int,
    /// Those of its namespaces that are active, the lowest first, as many as fit; how many there are.
    pub namespaces: unsafe extern "C" fn(*mut Controller, *mut u32, usize) -> usize,
    /// A namespace's Identify page, [`IDENTIFY`] bytes.
    pub identify_namespace: unsafe extern "C" fn(*mut Controller, u32, *mut u8) -> c_int,
    /// The longest request that is not split, in bytes.
    pub largest: unsafe extern "C" fn(*mut Controller) -> u32,
    /// Whether the controller has failed: 1, or 0.
    pub failed: unsafe extern "C" fn(*mut Controller) -> c_int,
    /// Looks after what the controller itself reports; to be called now and then by one thread.
    pub attend: unsafe extern "C" fn(*mut Controller) -> c_int,
    /// Resets it; its queue pairs have to be opened again.
    pub reset: unsafe extern "C" fn(*mut Controller) -> c_int,
    /// Gives it up; nothing of it may be used any more.
    pub detach: unsafe extern "C" fn(*mut Controller) -> c_int,
    /// Zeroed memory that devices see, on a memory node or (−1) on any; null where there is none.
    pub allocate: unsafe extern "C" fn(usize, usize, c_int) -> *mut c_void,
    /// Gives memory back of which no request is in flight.
    pub release: unsafe extern "C" fn(*mut c_void),
    /// Opens a queue pair.
    pub open: unsafe extern "C" fn(*mut Controller, *const QueueOptions, *mut *mut Queue) -> c_int,
    /// Hands over so many requests; how many were taken. Fewer: the queue pair is full. A negative number, where the first
    /// cannot be taken at all.
    pub post: unsafe extern "C" fn(*mut Queue, *const Request, usize) -> isize,
    /// Up to so many completions; how many there were, or a negative error number when the queue pair is of no more use.
    pub poll: unsafe extern "C" fn(*mut Queue, *mut Completion, usize) -> isize,
    /// Closes a queue pair; what is in flight is aborted.
    pub close: unsafe extern "C" fn(*mut Queue) -> c_int,
}
