//! Pinning the calling thread, with the mask read back.

use std::io;

use core_affinity::CoreId;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use strata_units::{CpuId, CpuList};

/// The calling thread, in system calls that take a thread's number.
const SELF: Pid = Pid::from_raw(0);

/// The mask that the kernel now has for the thread: what was asked for, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The CPUs of the mask.
    pub mask: CpuList,
}

/// Why a thread is not pinned as asked.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Nothing was asked for.
    #[error("cannot pin a thread to no CPU; name at least one")]
    NoCpus,
    /// The kernel's answer to the call.
    #[error(
        "cannot pin the thread to CPUs {asked}: {source}; choose CPUs that are online and in this process's cpuset"
    )]
    Refused {
        /// What was asked.
        asked: CpuList,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel took it, but the mask is another one.
    #[error(
        "pinned the thread to CPUs {asked}, but its mask reads {found}; a cpuset or another process changed it: choose CPUs of {found}"
    )]
    Differs {
        /// What was asked.
        asked: CpuList,
        /// What was read back.
        found: CpuList,
    },
}

/// Pins the calling thread to these CPUs and reads its mask back (sched_setaffinity(2)).
///
/// # Errors
/// The list is empty, the kernel refuses (absent, offline or outside the cpuset), or the mask read back differs, as it
/// does when some of the CPUs are outside the cpuset.
pub fn pin_current_thread(cpus: &CpuList) -> Result<Pinned, PinError> {
    let refused = |errno: Errno| PinError::Refused {
        asked: cpus.clone(),
        source: errno.into(),
    };
    let mask = set_of(cpus).map_err(refused)?;
    match cpus.as_slice() {
        [] => return Err(PinError::NoCpus),
        [CpuId(one)] => {
            let id = usize::try_from(*one).unwrap_or(usize::MAX);
            if !core_affinity::set_for_current(CoreId { id }) {
                return Err(refused(Errno::last()));
            }
        }
        // core_affinity sets single CPUs only.
        _ => sched_setaffinity(SELF, &mask).map_err(refused)?,
    }
    let found = mask_of_self().map_err(refused)?;
    if found == *cpus {
        Ok(Pinned { mask: found })
    } else {
        Err(PinError::Differs {
            asked: cpus.clone(),
            found,
        })
    }
}

/// The mask of the calling thread (sched_getaffinity(2)).
pub(crate) fn mask_of_self() -> Result<CpuList, Errno> {
    sched_getaffinity(SELF).map(|mask| list_of(&mask))
}

pub(crate) fn list_of(mask: &CpuSet) -> CpuList {
    (0u32..)
        .zip(0..CpuSet::count())
        .filter(|(_, at)| mask.is_set(*at) == Ok(true))
        .map(|(id, _)| CpuId(id))
        .collect()
}

/// `EINVAL` for numbers above 1023, as the kernel's own interface with fixed masks has it.
fn set_of(cpus: &CpuList) -> Result<CpuSet, Errno> {
    let mut mask = CpuSet::new();
    for CpuId(id) in cpus.iter() {
        mask.set(usize::try_from(id).map_err(|_| Errno::EINVAL)?)?;
    }
    Ok(mask)
}
