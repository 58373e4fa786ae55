//! Devices and their ports.

use std::ffi::{CStr, c_int};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use strata_rdma_sys::Verbs;
use strata_rdma_sys::verbs::{
    IBV_LINK_LAYER_ETHERNET, IBV_LINK_LAYER_INFINIBAND, IBV_PORT_ACTIVE, IBV_PORT_ACTIVE_DEFER,
    IBV_PORT_ARMED, IBV_PORT_DOWN, IBV_PORT_INIT, ibv_context, ibv_device, ibv_device_attr,
    ibv_gid, ibv_port_attr,
};
use strata_units::Bytes;

use super::error::{VerbsError, cannot_open};

/// An open device (ibv_open_device(3)). All that is made of it holds it open.
#[derive(Clone)]
pub struct Context {
    open: Arc<Open>,
}

struct Open {
    verbs: &'static Verbs,
    raw: NonNull<ibv_context>,
    name: String,
    limits: DeviceLimits,
    is_rxe: bool,
}

// SAFETY: a context may be used by any thread, and by several at once (libibverbs is thread safe throughout).
unsafe impl Send for Open {}
// SAFETY: as above; what is read of it here was written before it was opened.
unsafe impl Sync for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: it is open, and nothing is left that was made of it: each such thing holds an `Arc` of this.
        unsafe { (self.verbs.ibv_close_device)(self.raw.as_ptr()) };
    }
}

/// What a device has at most (ibv_query_device(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Work requests of a queue.
    pub work_requests: u32,
    /// Completions of a completion queue.
    pub completions: u32,
    /// Queue pairs.
    pub queue_pairs: u32,
    /// Bytes of a memory region.
    pub region: Bytes,
    /// RDMA reads and atomics that a queue pair answers at once.
    pub reads_as_responder: u8,
    /// RDMA reads and atomics that a queue pair has outstanding.
    pub reads_as_initiator: u8,
    /// Whether atomics are atomic, among queue pairs of the device at least.
    pub atomics: bool,
    /// How many ports it has.
    pub ports: u8,
}

/// A port's state (ibv_query_port(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// No link.
    Down,
    /// A link, and no subnet manager yet.
    Init,
    /// Nearly there.
    Armed,
    /// It carries data.
    Active,
    /// What this list does not have.
    Other(c_int),
}

/// How a port's packets are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLayer {
    /// By LIDs, which a subnet manager gives; beyond the subnet by GIDs.
    InfiniBand,
    /// By GIDs, which are the interface's addresses (RoCE).
    Ethernet,
}

/// A port, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Its number, from 1.
    pub number: u8,
    /// Its state.
    pub state: PortState,
    /// How it addresses.
    pub link_layer: LinkLayer,
    /// Largest packet payload in use.
    pub mtu: Mtu,
    /// Largest message.
    pub message: Bytes,
    /// Local identifier; 0 where there is none.
    pub lid: u16,
    /// The subnet manager's.
    pub sm_lid: u16,
    /// Entries of its table of GIDs.
    pub gids: u32,
    /// Entries of its table of P_Keys.
    pub pkeys: u16,
}

/// Payload of a packet at most: the enumeration of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(c_int);

impl Mtu {
    /// By the code of `enum ibv_mtu`.
    pub fn of_code(code: c_int) -> Option<Mtu> {
        (1..=5).contains(&code).then_some(Mtu(code))
    }

    /// By bytes: 256, 512, 1024, 2048 or 4096.
    pub fn of_bytes(bytes: Bytes) -> Option<Mtu> {
        (1..=5).map(Mtu).find(|mtu| mtu.bytes() == bytes)
    }

    /// In bytes.
    pub fn bytes(self) -> Bytes {
        Bytes(128 << self.0)
    }

    pub(crate) fn code(self) -> c_int {
        self.0
    }
}

/// Opens the device of that name.
///
/// # Errors
/// The libraries are not there, no device has that name, or it may not be opened.
pub fn open(name: &str) -> Result<Context, VerbsError> {
    let verbs = Verbs::load()?;
    let list = DeviceList::read(verbs)?;
    let found = list.devices().find(|device| name_of(*device) == name);
    let Some(device) = found else {
        let mut names: Vec<String> = list.devices().map(name_of).collect();
        names.sort();
        return Err(VerbsError::NoDevice {
            name: name.to_owned(),
            have: if names.is_empty() {
                "this machine has none".to_owned()
            } else {
                format!("this machine has {}", names.join(", "))
            },
        });
    };
    // SAFETY: the device is of the list, which lives.
    let raw = unsafe { (verbs.ibv_open_device)(device.as_ptr()) };
    let Some(raw) = NonNull::new(raw) else {
        let why = VerbsError::last("ibv_open_device", name, "");
        return Err(match why {
            VerbsError::Call { errno, .. } => {
                VerbsError::call("ibv_open_device", name, errno, cannot_open(errno))
            }
            other => other,
        });
    };
    let mut open = Open {
        verbs,
        raw,
        name: name.to_owned(),
        limits: DeviceLimits::NONE,
        // The attribute of no other device's (drivers/infiniband/sw/rxe/rxe_verbs.c).
        is_rxe: Path::new("/sys/class/infiniband")
            .join(name)
            .join("parent")
            .exists(),
    };
    open.limits = open.limits()?;
    Ok(Context {
        open: Arc::new(open),
    })
}

/// The names of all devices, sorted.
///
/// # Errors
/// The libraries are not there, or the kernel tells nothing.
pub fn names() -> Result<Vec<String>, VerbsError> {
    let verbs = Verbs::load()?;
    let mut names: Vec<String> = DeviceList::read(verbs)?.devices().map(name_of).collect();
    names.sort();
    Ok(names)
}

struct DeviceList {
    verbs: &'static Verbs,
    raw: NonNull<*mut ibv_device>,
    len: usize,
}

impl DeviceList {
    fn read(verbs: &'static Verbs) -> Result<DeviceList, VerbsError> {
        let mut len = 0;
        // SAFETY: the number is written to.
        let raw = unsafe { (verbs.ibv_get_device_list)(&mut len) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            VerbsError::last(
                "ibv_get_device_list",
                "this machine",
                "the kernel has no ib_uverbs (`modprobe ib_uverbs`), or libibverbs is too old for it",
            )
        })?;
        Ok(DeviceList {
            verbs,
            raw,
            len: usize::try_from(len).unwrap_or(0),
        })
    }

    fn devices(&self) -> impl Iterator<Item = NonNull<ibv_device>> + '_ {
        (0..self.len).filter_map(|n| {
            // SAFETY: the list has so many entries.
            NonNull::new(unsafe { self.raw.add(n).read() })
        })
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: it was given by ibv_get_device_list and is freed once.
        unsafe { (self.verbs.ibv_free_device_list)(self.raw.as_ptr()) };
    }
}

pub(super) fn name_of(device: NonNull<ibv_device>) -> String {
    // SAFETY: the device is of a list that lives; its name is an array of the struct, ended by a zero.
    let name = unsafe { CStr::from_ptr(&raw const (*device.as_ptr()).name as *const _) };
    name.to_string_lossy().into_owned()
}

impl DeviceLimits {
    const NONE: DeviceLimits = DeviceLimits {
        work_requests: 0,
        completions: 0,
        queue_pairs: 0,
        region: Bytes(0),
        reads_as_responder: 0,
        reads_as_initiator: 0,
        atomics: false,
        ports: 0,
    };
}

impl Open {
    fn limits(&self) -> Result<DeviceLimits, VerbsError> {
        // SAFETY: numbers and an array of them are all zeros.
        let mut found: ibv_device_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the context is open, and the attributes are written to.
        let failed = unsafe { (self.verbs.ibv_query_device)(self.raw.as_ptr(), &mut found) };
        if failed != 0 {
            return Err(VerbsError::call(
                "ibv_query_device",
                &self.name,
                failed,
                "look at dmesg",
            ));
        }
        let most = |n: c_int| u32::try_from(n).unwrap_or(0);
        let few = |n: c_int| u8::try_from(n.clamp(0, 255)).unwrap_or(0);
        Ok(DeviceLimits {
            work_requests: most(found.max_qp_wr),
            completions: most(found.max_cqe),
            queue_pairs: most(found.max_qp),
            region: Bytes(found.max_mr_size),
            reads_as_responder: few(found.max_qp_rd_atom),
            reads_as_initiator: few(found.max_qp_init_rd_atom),
            atomics: found.atomic_cap != strata_rdma_sys::verbs::IBV_ATOMIC_NONE,
            ports: found.phys_port_cnt,
        })
    }
}

impl Context {
    /// Its device's name.
    pub fn name(&self) -> &str {
        &self.open.name
    }

    /// What it has at most.
    pub fn limits(&self) -> &DeviceLimits {
        &self.open.limits
    }

    /// Whether it is Soft-RoCE: software, on an interface's packets.
    pub fn is_rxe(&self) -> bool {
        self.open.is_rxe
    }

    /// Whether it is the same open device: what is of two works together in no way.
    pub(crate) fn is(&self, other: &Context) -> bool {
        Arc::ptr_eq(&self.open, &other.open)
    }

    pub(crate) fn verbs(&self) -> &'static Verbs {
        self.open.verbs
    }

    pub(crate) fn raw(&self) -> *mut ibv_context {
        self.open.raw.as_ptr()
    }

    /// A port as it is now.
    ///
    /// # Errors
    /// There is no such port, or its link layer is none that this knows.
    pub fn port(&self, number: u8) -> Result<Port, VerbsError> {
        let mut found = ibv_port_attr::default();
        // SAFETY: the context is open.
        let failed = unsafe { self.verbs().query_port(self.raw(), number, &mut found) };
        if failed != 0 {
            return Err(VerbsError::call(
                "ibv_query_port",
                format!("{}/{number}", self.name()),
                failed,
                format!("the device has {} ports, from 1", self.open.limits.ports),
            ));
        }
        let link_layer = match found.link_layer {
            // Devices older than RoCE tell none.
            IBV_LINK_LAYER_INFINIBAND | 0 => LinkLayer::InfiniBand,
            IBV_LINK_LAYER_ETHERNET => LinkLayer::Ethernet,
            other => {
                return Err(VerbsError::Port(format!(
                    "the link layer {other} of {}/{number} is neither InfiniBand nor Ethernet; it is not supported",
                    self.name()
                )));
            }
        };
        Ok(Port {
            number,
            state: match found.state {
                IBV_PORT_DOWN => PortState::Down,
                IBV_PORT_INIT => PortState::Init,
                IBV_PORT_ARMED => PortState::Armed,
                IBV_PORT_ACTIVE | IBV_PORT_ACTIVE_DEFER => PortState::Active,
                other => PortState::Other(other),
            },
            link_layer,
            mtu: Mtu::of_code(found.active_mtu).unwrap_or(Mtu(1)),
            message: Bytes(u64::from(found.max_msg_sz)),
            lid: found.lid,
            sm_lid: found.sm_lid,
            gids: u32::try_from(found.gid_tbl_len).unwrap_or(0),
            pkeys: found.pkey_tbl_len,
        })
    }

    /// An entry of a port's table of GIDs: 16 bytes in network order, all zero where it is empty.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn gid(&self, port: u8, index: u32) -> Result<[u8; 16], VerbsError> {
        let mut gid = ibv_gid::default();
        let at = c_int::try_from(index).unwrap_or(c_int::MAX);
        // SAFETY: the context is open, and the GID is written to.
        let failed = unsafe { (self.verbs().ibv_query_gid)(self.raw(), port, at, &mut gid) };
        if failed != 0 {
            return Err(VerbsError::last(
                "ibv_query_gid",
                format!("entry {index} of {}/{port}", self.name()),
                "`strata rdma list` tells which GIDs there are; change --gid-index",
            ));
        }
        Ok(gid.raw)
    }

    /// An entry of a port's table of P_Keys; bit 15 says that the port is a full member of the partition.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn pkey(&self, port: u8, index: u16) -> Result<u16, VerbsError> {
        let mut pkey = 0;
        // SAFETY: the context is open, and the key is written to.
        let failed = unsafe {
            (self.verbs().ibv_query_pkey)(self.raw(), port, c_int::from(index), &mut pkey)
        };
        if failed != 0 {
            return Err(VerbsError::last(
                "ibv_query_pkey",
                format!("entry {index} of {}/{port}", self.name()),
                "`strata rdma list` tells which P_Keys there are; change --pkey-index",
            ));
        }
        Ok(u16::from_be(pkey))
    }

    /// Readable when the device has something to tell ([`Context::event`]).
    pub fn events(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the context's own, open for as long as it is.
        unsafe { BorrowedFd::borrow_raw((*self.raw()).async_fd) }
    }

    /// The next thing that the device tells, where there is one (ibv_get_async_event(3)).
    ///
    /// # Errors
    /// The device is gone.
    pub fn event(&self) -> Result<Option<super::Event>, VerbsError> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.events(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::ZERO);
        if !ready.is_ok_and(|n| n > 0) {
            return Ok(None);
        }
        super::event::next(self)
    }
}
