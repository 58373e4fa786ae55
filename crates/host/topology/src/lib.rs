//! Where everything of a machine is, where a thread may run, and where it really ran.
//!
//! This room reads nodes, CPUs, PCI functions, drives, interfaces and HCAs from `/sys` and `/proc` — of this machine, or
//! of a recorded tree under any other root ([`Topology`], [`read_environment`]); tells on what device a file lies and how real
//! that device is ([`file_device`], [`Judgement`]); what bounds devices by the links between them and the CPU
//! ([`ceiling`]); which interrupts came where ([`InterruptTable`]) and what control groups let the process have
//! ([`read_limits`]); chooses cores near a device among those that the process may use ([`Allowed`], [`choose`], [`check`]);
//! pins a thread and reads the mask back ([`pin_current_thread`]); and watches where it ran ([`ThreadWatch`]) and what the
//! host did meanwhile ([`HostWatch`]). What a tree does not tell is `None` or empty, never a guess; what could not be read or understood stands in the notes.

#![deny(unsafe_code)]

mod affinity;
mod allowed;
mod block;
mod ceiling;
mod cgroup;
mod choose;
mod cpu;
mod cpu_time;
mod device_stat;
mod environment;
mod ethtool;
mod file;
mod frequency;
mod guest;
mod holder;
mod host_watch;
mod interrupts;
mod limits;
mod mounts;
mod multipath;
mod net;
mod node;
mod nvme;
mod other_thread;
mod pci;
mod port_counters;
mod queue;
mod rdma;
mod reality;
mod recording;
mod root;
mod socket;
mod stack;
mod thermal;
mod topology;
mod tree;
mod watch;
mod watch_list;

pub use affinity::{PinError, Pinned, pin_current_thread};
pub use allowed::Allowed;
pub use block::{Disk, Partition};
pub use ceiling::{NoCeiling, PcieCeiling, ceiling, file_ceiling};
pub use choose::{Choice, ChooseError, Want, check, choose};
pub use cpu::Cpu;
pub use environment::read_environment;
pub use file::{FileDevice, FileDeviceError, file_device};
pub use host_watch::HostWatch;
pub use interrupts::{InterruptTable, Interrupts, InterruptsError, Vector};
pub use limits::read_limits;
pub use multipath::{NvmeGeneric, NvmeNamespace, NvmePath, NvmeSubsystem};
pub use net::Interface;
pub use node::{Distance, Node};
pub use nvme::NvmeController;
pub use other_thread::OtherThread;
pub use pci::{BitRate, PciFunction, PcieLink, VirtualFunctions};
pub use queue::BlockQueue;
pub use rdma::{Gid, GidKind, PKey, RdmaDevice, RdmaPort};
pub use reality::Judgement;
pub use recording::{Recording, RecordingError};
pub use root::Root;
pub use topology::{ReadError, Topology};
pub use tree::{PcieEdge, Vmd};
pub use watch::{ThreadWatch, Watched, process_time, thread_times};
pub use watch_list::WatchList;
