//! The environment, started once a process.

use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_spdk_abi::{Environment as Raw, Table};
use strata_units::{Bytes, NodeId};

use crate::{Environment, Memory, Pages, Plugin, SpdkError};

/// Bytes of log that are taken at once.
const LOG: usize = 64 << 10;

static STARTED: AtomicBool = AtomicBool::new(false);

/// SPDK, with its environment: of all threads. It lasts as long as the process.
#[derive(Clone)]
pub struct Spdk {
    table: &'static Table,
    environment: Arc<Environment>,
    /// Whether a queue pair could not be closed, so that a device may still write to what its requests named.
    stuck: Arc<AtomicBool>,
}

impl Spdk {
    /// Starts it.
    ///
    /// # Errors
    /// [`SpdkError::Again`], also where the first start failed; [`SpdkError::Failed`], with what SPDK and DPDK said.
    pub fn start(plugin: Plugin, environment: Environment) -> Result<Spdk, SpdkError> {
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(SpdkError::Again);
        }
        let table = plugin.table();
        let cores = format!("[{}]", environment.cpu);
        let functions = environment.functions.iter().map(ToString::to_string);
        let [name, cores] = ["strata".to_owned(), cores].map(text);
        let functions: Vec<CString> = functions.map(text).collect();
        let addresses: Vec<*const c_char> = functions.iter().map(|f| f.as_ptr()).collect();
        let raw = Raw {
            name: name.as_ptr(),
            cores: cores.as_ptr(),
            memory_mib: environment.mebibytes(),
            no_huge: matches!(environment.pages, Pages::Small(_)),
            no_pci: addresses.is_empty(),
            pci: addresses.as_ptr(),
            allowed: addresses.len(),
        };
        // DPDK binds the thread that starts it to its core, and keeps others off it: not one of ours.
        let failed = std::thread::scope(|scope| {
            struct Borrowed(Raw);
            // SAFETY: its strings are of this function, which waits for the thread.
            unsafe impl Send for Borrowed {}
            let borrowed = Borrowed(raw);
            let start = move || {
                let Borrowed(raw) = &{ borrowed };
                // SAFETY: the options are whole, and the strings end with null bytes and live until the thread has ended.
                unsafe { (table.start)(raw) }
            };
            scope.spawn(start).join().unwrap_or(-1)
        });
        let spdk = Spdk {
            table,
            environment: Arc::new(environment),
            stuck: Arc::default(),
        };
        if failed != 0 {
            let on = format!("of SPDK {}", plugin.spdk());
            return Err(spdk.failed("the start", &on, failed));
        }
        Ok(spdk)
    }

    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }

    /// From here on no memory is given back: it is kept until the process ends.
    pub(crate) fn keep_memory(&self) {
        self.stuck.store(true, Ordering::Release);
    }

    pub(crate) fn keeps_memory(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    /// What was started.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What SPDK and DPDK have said since this was asked last.
    pub fn said(&self) -> String {
        let mut room = vec![0; LOG];
        // SAFETY: so much room is there.
        let n = unsafe { (self.table.said)(room.as_mut_ptr(), room.len()) };
        room.truncate(n);
        String::from_utf8_lossy(&room).into_owned()
    }

    pub(crate) fn failed(&self, what: &'static str, on: &str, errno: i32) -> SpdkError {
        SpdkError::failed(what, on, errno, &self.said())
    }

    /// Zeroed memory that devices see, at least so much.
    ///
    /// # Errors
    /// [`SpdkError::Memory`].
    pub fn memory(&self, bytes: Bytes, node: Option<NodeId>) -> Result<Memory, SpdkError> {
        Memory::new(self, bytes, node)
    }
}

/// What we say has no null byte in it.
fn text(of: String) -> CString {
    CString::new(of).unwrap_or_default()
}
