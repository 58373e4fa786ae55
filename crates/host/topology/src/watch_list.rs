//! What is watched of a host during a trial.

use strata_record::{Reality, Role};
use strata_units::{CpuId, CpuList, PciAddress};

use crate::block::Disk;
use crate::file::FileDevice;
use crate::topology::Topology;

/// Devices made of more than this many others are told of in part.
const MOST_DISKS: usize = 64;

/// What is watched during a trial: nothing else is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchList {
    /// CPUs of the measuring threads.
    pub cpus: CpuList,
    /// CPUs of the other side's threads, where it is on this host.
    pub peer_cpus: CpuList,
    /// Disks whose counters are read (`dm-0`, `nvme0n1`): that on which the target lies, then what it is made of.
    pub disks: Vec<String>,
    /// Drives whose temperature is read (`nvme0`, `sda`).
    pub drives: Vec<String>,
    /// PCI functions whose drivers, links and interrupts are read.
    pub functions: Vec<PciAddress>,
    /// Virtio devices (`virtio1`), whose interrupts are known by this name where they hang from no PCI function.
    pub virtio: Vec<String>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// Ports of RDMA devices, by the device's name (`mlx5_0`) and the port's number, from 1.
    pub ports: Vec<(String, u32)>,
}

impl WatchList {
    /// What lies under a file or a block device: its disk, what that is made of, and their drives and functions.
    pub fn of_file(topology: &Topology, file: &FileDevice, cpus: CpuList) -> WatchList {
        let mut list = WatchList {
            cpus,
            functions: file.functions.clone(),
            ..WatchList::default()
        };
        let disks = file.disk.as_deref().map(|name| topology.disks_of(name));
        for disk in disks.into_iter().flatten().take(MOST_DISKS) {
            list.add_disk(topology, disk);
        }
        list
    }

    fn add_disk(&mut self, topology: &Topology, disk: &Disk) {
        self.disks.push(disk.name.clone());
        self.virtio.extend(disk.virtio.clone());
        let controllers: Vec<_> = topology
            .nvme
            .iter()
            .filter(|c| c.namespaces.contains(&disk.name))
            .collect();
        // What software or a hypervisor made has no temperature.
        let made = matches!(
            disk.judgement.reality,
            Some(Reality::Virtual | Reality::Software | Reality::Memory)
        );
        if !made && topology.is_bottom(disk) {
            let named: Vec<String> = controllers.iter().filter_map(|c| c.name.clone()).collect();
            let names = if named.is_empty() {
                vec![disk.name.clone()]
            } else {
                named
            };
            for name in names {
                if !self.drives.contains(&name) {
                    self.drives.push(name);
                }
            }
        }
    }

    /// Everything of both, each once.
    #[must_use]
    pub fn and(mut self, other: WatchList) -> WatchList {
        fn add<T: PartialEq>(to: &mut Vec<T>, more: Vec<T>) {
            for one in more {
                if !to.contains(&one) {
                    to.push(one);
                }
            }
        }
        self.cpus = self.cpus.iter().chain(other.cpus.iter()).collect();
        self.peer_cpus = self
            .peer_cpus
            .iter()
            .chain(other.peer_cpus.iter())
            .collect();
        add(&mut self.disks, other.disks);
        add(&mut self.drives, other.drives);
        add(&mut self.functions, other.functions);
        add(&mut self.virtio, other.virtio);
        add(&mut self.interfaces, other.interfaces);
        add(&mut self.ports, other.ports);
        self
    }

    /// Network interfaces with their functions; those that a bond or bridge stands on as well.
    pub fn of_interface(
        topology: &Topology,
        name: &str,
        cpus: CpuList,
        peer_cpus: CpuList,
    ) -> WatchList {
        let mut list = WatchList {
            cpus,
            peer_cpus,
            interfaces: vec![name.to_owned()],
            ..WatchList::default()
        };
        list.add_below(topology);
        list
    }

    /// A port of an RDMA device: its counters, the device's function, and the interfaces of that function or under Soft-RoCE
    /// and soft iWARP. Where one of them is in a bond, whose ports RDMA shares (RoCE LAG), the whole bond is watched.
    pub fn of_port(
        topology: &Topology,
        device: &str,
        port: u32,
        cpus: CpuList,
        peer_cpus: CpuList,
    ) -> WatchList {
        let mut list = WatchList {
            cpus,
            peer_cpus,
            ports: vec![(device.to_owned(), port)],
            ..WatchList::default()
        };
        if let Some(device) = topology.rdma.iter().find(|d| d.name == device) {
            list.functions.extend(device.pci);
            let own = device.over.iter().chain(&device.interfaces);
            list.interfaces.extend(own.cloned());
            let bonds = topology.interfaces.iter().filter(|above| {
                let of_ours = |lower| list.interfaces.contains(lower);
                above.kind.as_deref() == Some("bond") && above.lower.iter().any(of_ours)
            });
            let bonds: Vec<String> = bonds.map(|bond| bond.name.clone()).collect();
            list.interfaces.extend(bonds);
        }
        list.add_below(topology);
        list
    }

    /// Adds what the interfaces of the list stand on.
    fn add_below(&mut self, topology: &Topology) {
        let mut at = 0;
        while let Some(name) = self.interfaces.get(at).cloned() {
            at += 1;
            let Some(interface) = topology.interfaces.iter().find(|i| i.name == name) else {
                continue;
            };
            let function = interface.pci.filter(|f| !self.functions.contains(f));
            self.functions.extend(function);
            self.virtio.extend(interface.virtio.clone());
            for lower in &interface.lower {
                if !self.interfaces.contains(lower) {
                    self.interfaces.push(lower.clone());
                }
            }
        }
    }

    pub(crate) fn roles(&self) -> impl Iterator<Item = (CpuId, Role)> + '_ {
        let peer = self.peer_cpus.without(&self.cpus);
        let peer: Vec<CpuId> = peer.iter().collect();
        let measure = self.cpus.iter().map(|cpu| (cpu, Role::Measure));
        measure.chain(peer.into_iter().map(|cpu| (cpu, Role::Peer)))
    }
}
