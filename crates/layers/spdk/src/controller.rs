//! Controllers.

use std::ffi::CString;
use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

use strata_spdk_abi::{Controller as Raw, IDENTIFY};
use strata_units::Bytes;

use crate::{QueuePair, Queues, Spdk, SpdkError, Transport};

/// Namespaces that are looked at.
const MOST: usize = 1024;

struct Attached {
    spdk: Spdk,
    name: String,
    raw: NonNull<Raw>,
    /// SPDK locks most of what it does to a controller, not all.
    one: Mutex<()>,
}

// SAFETY: SPDK's controllers are of the process; calls that it does not lock itself are made one at a time.
unsafe impl Send for Attached {}
// SAFETY: as above.
unsafe impl Sync for Attached {}

/// A controller that SPDK has attached to; given up when it and its queue pairs are gone.
#[derive(Clone)]
pub struct Controller {
    attached: Arc<Attached>,
}

impl Controller {
    /// Attaches to the controller there.
    ///
    /// # Errors
    /// [`SpdkError::Failed`], with what SPDK said.
    pub fn attach(spdk: &Spdk, to: &Transport) -> Result<Controller, SpdkError> {
        let name = to.to_string();
        let failed = |errno| spdk.failed("SPDK cannot attach to", &name, errno);
        let words = CString::new(name.clone()).map_err(|_| failed(libc_einval()))?;
        let mut raw = null_mut();
        // SAFETY: the words end with a null byte; the controller is written where there is room for it.
        let errno = unsafe { (spdk.table().connect)(words.as_ptr(), &mut raw) };
        let raw = NonNull::new(raw).filter(|_| errno == 0);
        let raw = raw.ok_or_else(|| failed(errno))?;
        Ok(Controller {
            attached: Arc::new(Attached {
                spdk: spdk.clone(),
                name,
                raw,
                one: Mutex::default(),
            }),
        })
    }

    /// What it was attached to by.
    pub fn name(&self) -> &str {
        &self.attached.name
    }

    /// The environment that it is of.
    pub fn spdk(&self) -> &Spdk {
        &self.attached.spdk
    }

    pub(crate) fn raw(&self) -> *mut Raw {
        self.attached.raw.as_ptr()
    }

    /// Does something to it, one thread at a time.
    fn call<T>(&self, what: impl FnOnce(*mut Raw) -> T) -> T {
        let _one = self
            .attached
            .one
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        what(self.raw())
    }

    fn tried(&self, what: &'static str, errno: i32) -> Result<(), SpdkError> {
        match errno {
            0 => Ok(()),
            errno => Err(self.spdk().failed(what, self.name(), errno)),
        }
    }

    /// Its page of Identify (NVM Express Base Specification, Identify Controller).
    ///
    /// # Errors
    /// [`SpdkError::Failed`]: it has none.
    pub fn identify(&self) -> Result<[u8; IDENTIFY], SpdkError> {
        let mut page = [0; IDENTIFY];
        // SAFETY: the controller is attached, and there is room for a page.
        let errno =
            self.call(|raw| unsafe { (self.spdk().table().identify)(raw, page.as_mut_ptr()) });
        self.tried("Identify of", errno).map(|()| page)
    }

    /// Its active namespaces, at most 1024.
    pub fn namespaces(&self) -> Vec<u32> {
        let mut all = vec![0; MOST];
        // SAFETY: the controller is attached, and there is room for so many.
        let n = self.call(|raw| unsafe {
            (self.spdk().table().namespaces)(raw, all.as_mut_ptr(), all.len())
        });
        all.truncate(n);
        all
    }

    /// A namespace's page of Identify.
    ///
    /// # Errors
    /// [`SpdkError::Failed`]: there is no such one.
    pub fn identify_namespace(&self, id: u32) -> Result<[u8; IDENTIFY], SpdkError> {
        let mut page = [0; IDENTIFY];
        // SAFETY: as above.
        let errno = self.call(|raw| unsafe {
            (self.spdk().table().identify_namespace)(raw, id, page.as_mut_ptr())
        });
        self.tried("Identify of a namespace of", errno)
            .map(|()| page)
    }

    /// The longest request that it takes as one command.
    pub fn largest(&self) -> Bytes {
        // SAFETY: the controller is attached.
        let most = self.call(|raw| unsafe { (self.spdk().table().largest)(raw) });
        Bytes(most.into())
    }

    /// Whether it has failed, and wants a reset.
    pub fn has_failed(&self) -> bool {
        // SAFETY: as above.
        self.call(|raw| unsafe { (self.spdk().table().failed)(raw) }) != 0
    }

    /// Looks after what it reports itself, and keeps a connection alive; now and then, between trials.
    ///
    /// # Errors
    /// [`SpdkError::Failed`]: it is gone, or has failed.
    pub fn attend(&self) -> Result<(), SpdkError> {
        // SAFETY: as above.
        let errno = self.call(|raw| unsafe { (self.spdk().table().attend)(raw) });
        self.tried("the admin queue of", errno)
    }

    /// Resets it, while it has no queue pairs.
    ///
    /// # Errors
    /// [`SpdkError::Failed`]: it does not come back.
    pub fn reset(&self) -> Result<(), SpdkError> {
        // SAFETY: as above.
        let errno = self.call(|raw| unsafe { (self.spdk().table().reset)(raw) });
        self.tried("the reset of", errno)
    }

    /// Opens a queue pair, of this thread.
    ///
    /// # Errors
    /// [`SpdkError::Failed`]: it has none left, or not so deep a one.
    pub fn queue_pair(&self, queues: &Queues) -> Result<QueuePair, SpdkError> {
        QueuePair::open(self, queues)
    }
}

/// What a name with a null byte in it is.
fn libc_einval() -> i32 {
    22
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: it is attached; its queue pairs hold it, so that none is left.
        unsafe { (self.spdk.table().detach)(self.raw.as_ptr()) };
    }
}
