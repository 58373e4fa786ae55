//! Protection domains and registered memory.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strata_measure::Buffers;
use strata_rdma_sys::verbs::{
    IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_RELAXED_ORDERING, IBV_ACCESS_REMOTE_ATOMIC,
    IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_WRITE, ibv_mr, ibv_pd,
};
use strata_units::Bytes;

use super::Context;
use super::error::{VerbsError, cannot_register};

/// A protection domain (ibv_alloc_pd(3)): only what is of one works together.
#[derive(Clone)]
pub struct ProtectionDomain {
    inner: Arc<Domain>,
}

struct Domain {
    context: Context,
    raw: NonNull<ibv_pd>,
}

// SAFETY: a protection domain may be used by any thread, and by several at once (libibverbs is thread safe).
unsafe impl Send for Domain {}
// SAFETY: as above.
unsafe impl Sync for Domain {}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: all that was made of it holds an `Arc` of this, so that nothing is left.
        unsafe { (self.context.verbs().ibv_dealloc_pd)(self.raw.as_ptr()) };
    }
}

impl ProtectionDomain {
    /// A new one.
    ///
    /// # Errors
    /// The device has no more.
    pub fn new(context: &Context) -> Result<ProtectionDomain, VerbsError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.verbs().ibv_alloc_pd)(context.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            VerbsError::last(
                "ibv_alloc_pd",
                context.name(),
                "the device has no more; end what else uses it",
            )
        })?;
        Ok(ProtectionDomain {
            inner: Arc::new(Domain {
                context: context.clone(),
                raw,
            }),
        })
    }

    /// The device that it is of.
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    pub(crate) fn raw(&self) -> *mut ibv_pd {
        self.inner.raw.as_ptr()
    }
}

/// What the other side may do with a region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// RDMA writes into it.
    pub write: bool,
    /// RDMA reads from it.
    pub read: bool,
    /// Atomics on it.
    pub atomic: bool,
    /// The device may write it in another order than bytes came (PCI Express's relaxed ordering).
    pub relaxed: bool,
}

impl Access {
    /// Only the own device's, at the own side's word.
    pub const LOCAL: Access = Access {
        write: false,
        read: false,
        atomic: false,
        relaxed: false,
    };

    fn flags(self) -> c_int {
        let flag = |set, flag| if set { flag } else { 0 };
        IBV_ACCESS_LOCAL_WRITE
            | flag(self.write, IBV_ACCESS_REMOTE_WRITE)
            | flag(self.read, IBV_ACCESS_REMOTE_READ)
            | flag(self.atomic, IBV_ACCESS_REMOTE_ATOMIC)
            | flag(self.relaxed, IBV_ACCESS_RELAXED_ORDERING)
    }

    /// The same rights as a queue pair has them, which knows nothing of ordering.
    pub(crate) fn of_queue_pair(self) -> u32 {
        let flags = Access {
            relaxed: false,
            ..self
        };
        u32::try_from(flags.flags()).unwrap_or(0)
    }
}

/// The key by which the own side names a region in its work requests. It is none by which another may reach it:
///
/// ```compile_fail,E0308
/// fn told(_: strata_rdma::verbs::RemoteKey) {}
/// fn region(of: &strata_rdma::verbs::MemoryRegion) {
///     told(of.local_key());
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalKey(pub(crate) u32);

/// The key by which the other side reaches a region, within its rights. Whoever knows it and the address can, for the data
/// plane asks for nothing else: it goes in authenticated frames only.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemoteKey(pub(crate) u32);

impl RemoteKey {
    /// A key that is not this one, for trying what happens.
    #[must_use]
    pub fn wrong(self) -> RemoteKey {
        RemoteKey(!self.0)
    }
}

impl std::fmt::Debug for RemoteKey {
    /// Kept out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RemoteKey(…)")
    }
}

/// Where the other side's region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its first byte, in that process.
    pub address: u64,
    /// Its length.
    pub bytes: Bytes,
    /// Its key.
    pub key: RemoteKey,
}

/// Registered memory (ibv_reg_mr(3)): the buffers that it owns, and the keys to them. Deregistered, then unmapped, when it
/// is dropped: whoever still has the key reaches nothing.
pub struct MemoryRegion {
    /// `None` when it could not be deregistered: it is never unmapped then.
    buffers: std::mem::ManuallyDrop<Buffers>,
    raw: NonNull<ibv_mr>,
    local: LocalKey,
    remote: RemoteKey,
    domain: ProtectionDomain,
}

impl MemoryRegion {
    /// Registers the buffers' memory.
    ///
    /// # Errors
    /// It may not be locked, is too large, or the device lacks one of the rights.
    pub fn new(
        domain: &ProtectionDomain,
        buffers: Buffers,
        access: Access,
    ) -> Result<MemoryRegion, VerbsError> {
        let context = domain.context();
        let (at, len) = (buffers.region().as_ptr(), buffers.region().len());
        let most = context.limits().region;
        if len > most {
            return Err(VerbsError::Beyond {
                what: "a memory region",
                asked: len.0,
                device: context.name().to_owned(),
                most: most.0,
                next: "lower --bs or --depth".to_owned(),
            });
        }
        // SAFETY: the memory is ours, mapped and writable for its whole length, and stays so until the region is
        // deregistered: `Drop` does that first.
        let raw = unsafe {
            (context.verbs().ibv_reg_mr)(
                domain.raw(),
                at.as_ptr().cast(),
                len.as_usize(),
                access.flags(),
            )
        };
        let Some(raw) = NonNull::new(raw) else {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return Err(VerbsError::call(
                "ibv_reg_mr",
                format!("{len} on {}", context.name()),
                errno,
                cannot_register(errno, len),
            ));
        };
        // SAFETY: the region is registered, and its keys are written by now.
        let (local, remote) = unsafe { ((*raw.as_ptr()).lkey, (*raw.as_ptr()).rkey) };
        Ok(MemoryRegion {
            buffers: std::mem::ManuallyDrop::new(buffers),
            raw,
            local: LocalKey(local),
            remote: RemoteKey(remote),
            domain: domain.clone(),
        })
    }

    /// The memory.
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// The device that it is registered with.
    pub(crate) fn context(&self) -> &Context {
        self.domain.context()
    }

    /// The own side's key to it.
    pub fn local_key(&self) -> LocalKey {
        self.local
    }

    /// What the other side must know of it.
    pub fn remote(&self) -> Remote {
        let region = self.buffers.region();
        Remote {
            address: region.as_ptr().as_ptr() as u64,
            bytes: region.len(),
            key: self.remote,
        }
    }

    /// A piece of it.
    ///
    /// # Panics
    /// When it does not lie inside.
    pub(crate) fn piece(&self, at: Bytes, len: Bytes) -> Piece {
        let region = self.buffers.region();
        let end = at.0.checked_add(len.0);
        assert!(
            end.is_some_and(|end| end <= region.len().0),
            "{len} from {} of {}",
            at.0,
            region.len()
        );
        Piece {
            address: region.as_ptr().as_ptr() as u64 + at.0,
            // A message is shorter than 4 GiB, and so is every piece that is made of one.
            len: u32::try_from(len.0).unwrap_or(u32::MAX),
            key: self.local,
        }
    }
}

/// A piece of a region, as work requests name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) key: LocalKey,
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: it is registered, and deregistered once.
        let failed = unsafe { (self.domain.context().verbs().ibv_dereg_mr)(self.raw.as_ptr()) };
        if failed == 0 {
            // SAFETY: they are dropped once, here, and nothing reads them after.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.buffers) };
        }
        // Else the device may still reach the memory: it is kept until the process ends.
    }
}
