//! The whole of a machine, as one value.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_record::{Guest, Note};
use strata_units::{CpuId, CpuList, NodeId, NodeList, PciAddress};

use crate::block::{self, Disk};
use crate::cpu::{self, Cpu};
use crate::guest;
use crate::multipath::{self, NvmeGeneric, NvmeSubsystem};
use crate::net::{self, Interface};
use crate::node::{self, Node};
use crate::nvme::{self, NvmeController};
use crate::pci::{self, PciFunction};
use crate::rdma::{self, RdmaDevice};
use crate::reality;
use crate::root::{Reader, Root};
use crate::tree::{self, Vmd};

const POLL_QUEUES: &str = "sys/module/nvme/parameters/poll_queues";

/// Nodes, CPUs and devices of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topology {
    /// The root that it was read under.
    pub root: PathBuf,
    /// Memory nodes, ascending; none on a kernel without NUMA.
    pub nodes: Vec<Node>,
    /// Logical CPUs, offline ones too, ascending.
    pub cpus: Vec<Cpu>,
    /// Whether the machine is a guest.
    pub guest: Guest,
    /// PCI functions, ascending.
    pub pci: Vec<PciFunction>,
    /// Volume Management Devices.
    pub vmd: Vec<Vmd>,
    /// NVMe controllers.
    pub nvme: Vec<NvmeController>,
    /// NVMe subsystems.
    pub nvme_subsystems: Vec<NvmeSubsystem>,
    /// Character devices of NVMe namespaces.
    pub nvme_generic: Vec<NvmeGeneric>,
    /// Queues that the nvme driver was told to poll (`nvme.poll_queues`); without any, polled I/O waits for interrupts.
    pub nvme_poll_queues: Option<u32>,
    /// Block devices.
    pub disks: Vec<Disk>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// RDMA devices.
    pub rdma: Vec<RdmaDevice>,
    /// What could not be read or understood.
    pub notes: Vec<Note>,
}

/// Why there is no topology.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No folder there.
    #[error("cannot read a topology under {}: it is no folder; give `/` or the folder that holds a recorded sys/ and proc/", .0.display())]
    NoRoot(PathBuf),
    /// A folder, but of something else.
    #[error("cannot read a topology under {}: there is no cpu0, cpu1 … in sys/devices/system/cpu; mount sysfs, or give the folder that holds a recorded sys/ and proc/", .0.display())]
    NoCpus(PathBuf),
}

impl Topology {
    /// Reads what stands under `root`.
    ///
    /// # Errors
    /// `root` is no folder, or nothing under it tells any CPU.
    pub fn read(root: &Root) -> Result<Topology, ReadError> {
        let reader = Reader::new(root);
        let topology = Topology::read_with(&reader)?;
        Ok(Topology {
            notes: reader.into_notes(),
            ..topology
        })
    }

    /// As [`Topology::read`], with the notes left in the reader.
    pub(crate) fn read_with(reader: &Reader) -> Result<Topology, ReadError> {
        let root = reader.root().path();
        if !reader.root().is_there() {
            return Err(ReadError::NoRoot(root.to_owned()));
        }
        let nodes = node::read(reader);
        let cpus = cpu::read(reader, &nodes);
        if cpus.is_empty() {
            return Err(ReadError::NoCpus(root.to_owned()));
        }
        let pci = pci::read(reader);
        let mut nvme = nvme::read(reader, &pci);
        let disks = block::read(reader, &pci, &mut nvme);
        let mut topology = Topology {
            root: root.to_owned(),
            nodes,
            cpus,
            guest: guest::read(reader),
            interfaces: net::read(reader, &pci),
            rdma: rdma::read(reader, &pci),
            vmd: tree::vmds(&pci),
            pci,
            nvme,
            nvme_subsystems: multipath::subsystems(reader),
            nvme_generic: multipath::generic(reader),
            nvme_poll_queues: reader.value(POLL_QUEUES, "a number"),
            disks,
            notes: Vec::new(),
        };
        topology.follow(reader);
        topology.judge();
        Ok(topology)
    }

    /// What disks and ports stand on can be told when all of them are known.
    fn follow(&mut self, reader: &Reader) {
        let backed: Vec<_> = self
            .disks
            .iter()
            .map(|disk| self.backing(reader, disk))
            .collect();
        for (disk, backed) in self.disks.iter_mut().zip(backed) {
            disk.backed_by = backed;
        }
        let functions: Vec<_> = self
            .disks
            .iter()
            .map(|disk| self.functions_below(&disk.name))
            .collect();
        for (disk, functions) in self.disks.iter_mut().zip(functions) {
            disk.functions = functions;
        }
        rdma::follow_bonds(&mut self.rdma, &self.interfaces);
    }

    /// A device's reality may hang on those below it, so all must be known first.
    fn judge(&mut self) {
        let disks: Vec<_> = self
            .disks
            .iter()
            .map(|disk| reality::of_disk(self, disk, 0))
            .collect();
        let interfaces: Vec<_> = self
            .interfaces
            .iter()
            .map(|interface| reality::of_interface(self, interface, 0))
            .collect();
        let rdma: Vec<_> = self
            .rdma
            .iter()
            .map(|device| reality::of_rdma(self, device))
            .collect();
        for (disk, judgement) in self.disks.iter_mut().zip(disks) {
            disk.judgement = judgement;
        }
        for (interface, judgement) in self.interfaces.iter_mut().zip(interfaces) {
            interface.judgement = judgement;
        }
        for (device, judgement) in self.rdma.iter_mut().zip(rdma) {
            device.judgement = judgement;
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        Root::new(&self.root).is_live()
    }

    /// A CPU by its number.
    pub fn cpu(&self, id: CpuId) -> Option<&Cpu> {
        self.cpus
            .binary_search_by_key(&id, |cpu| cpu.id)
            .ok()
            .map(|at| &self.cpus[at])
    }

    /// A node by its number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node of a CPU, where told.
    pub fn node_of(&self, cpu: CpuId) -> Option<NodeId> {
        self.cpu(cpu)?.node
    }

    /// The one node of all these CPUs; `None` when they have several, none, or an unknown one.
    pub fn common_node(&self, cpus: &CpuList) -> Option<NodeId> {
        let first = self.node_of(cpus.first()?)?;
        cpus.iter()
            .all(|cpu| self.node_of(cpu) == Some(first))
            .then_some(first)
    }

    /// CPUs that the kernel schedules on.
    pub fn online(&self) -> CpuList {
        self.cpus
            .iter()
            .filter(|c| c.online)
            .map(|c| c.id)
            .collect()
    }

    /// CPUs kept out of ordinary scheduling.
    pub fn isolated(&self) -> CpuList {
        self.cpus
            .iter()
            .filter(|c| c.isolated)
            .map(|c| c.id)
            .collect()
    }

    /// The numbers of the nodes.
    pub fn node_ids(&self) -> NodeList {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// Physical cores with at least one CPU online.
    pub fn cores(&self) -> usize {
        let online = self.cpus.iter().filter(|cpu| cpu.online);
        online.map(Cpu::core_name).collect::<CpuList>().len()
    }

    /// A PCI function by its address.
    pub fn function(&self, address: PciAddress) -> Option<&PciFunction> {
        self.pci
            .binary_search_by_key(&address, |function| function.address)
            .ok()
            .map(|at| &self.pci[at])
    }

    /// A disk by its own name.
    pub fn disk(&self, name: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.name == name)
    }

    /// The disk of that name, or the disk that has a partition of that name.
    pub(crate) fn disk_holding(&self, name: &str) -> Option<&Disk> {
        self.disk(name).or_else(|| {
            self.disks
                .iter()
                .find(|disk| disk.partitions.iter().any(|part| part.name == name))
        })
    }

    /// The disk, and the name of the disk or partition, of a device number `major:minor`.
    pub(crate) fn device_numbered(&self, number: &str) -> Option<(&Disk, &str)> {
        self.disks.iter().find_map(|disk| {
            if disk.number.as_deref() == Some(number) {
                return Some((disk, disk.name.as_str()));
            }
            let part = disk
                .partitions
                .iter()
                .find(|part| part.number.as_deref() == Some(number))?;
            Some((disk, part.name.as_str()))
        })
    }
}
