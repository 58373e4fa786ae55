//! The machine as a measuring command needs it: where threads and memory go, and what stands behind a file.

use std::path::Path;

use anyhow::{Context, Result, bail};
use strata_block::{Kind, Prepared};
use strata_measure::{Nominal, NominalBound};
use strata_record::{Placement, Reality, Target, TargetKind};
use strata_topology::{
    Allowed, ChooseError, FileDevice, NoCeiling, PcieCeiling, Root, Topology, Want, WatchList,
    ceiling, check, choose, file_ceiling, file_device,
};
use strata_units::{Bytes, CpuList, NodeId, PciAddress};

use crate::Usage;
use crate::cli::Measuring;

/// This machine, and what this process may use of it.
pub(crate) struct Host {
    pub(crate) topology: Topology,
    pub(crate) allowed: Allowed,
    pub(crate) name: String,
}

impl Host {
    /// Reads this machine.
    pub(crate) fn read() -> Result<Host> {
        let root = Root::live();
        let topology = Topology::read(&root).context("cannot read this machine's topology")?;
        let allowed = Allowed::read(&root, &topology);
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Host {
            topology,
            allowed,
            name: name.trim().to_owned(),
        })
    }

    /// Where `asked` puts threads and memory, near `near`; the other side's threads as well when there is one.
    pub(crate) fn place(
        &self,
        asked: &Measuring,
        peer: Option<Option<&CpuList>>,
        near: Option<NodeId>,
    ) -> Result<Placement> {
        let none = CpuList::default();
        let own = self.place_beside(asked, peer.flatten().unwrap_or(&none), near)?;
        let Some(given) = peer else {
            return Ok(own);
        };
        let threads = usize::from(asked.threads);
        Ok(Placement {
            peer_cpus: self.cpus("--peer-cpus", given, threads, near, &own.cpus)?,
            ..own
        })
    }

    /// Where `asked` puts threads and memory, near `near`, not on the CPUs of `taken` if it can be helped.
    pub(crate) fn place_beside(
        &self,
        asked: &Measuring,
        taken: &CpuList,
        near: Option<NodeId>,
    ) -> Result<Placement> {
        let threads = usize::from(asked.threads);
        let cpus = self.cpus("--cpus", asked.cpus.as_ref(), threads, near, taken)?;
        if let Some(node) = asked.mem_node
            && !self.topology.node_ids().contains(node)
        {
            let nodes = self.topology.node_ids();
            return Err(Usage::error(format!(
                "--mem-node {node}: there is no such node; this machine has {nodes}"
            )));
        }
        let mem_node = asked.mem_node.or_else(|| self.topology.common_node(&cpus));
        Ok(Placement {
            cpus,
            peer_cpus: CpuList::default(),
            poll_cpus: CpuList::default(),
            mem_node,
        })
    }

    /// The given CPUs, checked, or `threads` chosen ones.
    fn cpus(
        &self,
        option: &str,
        given: Option<&CpuList>,
        threads: usize,
        near: Option<NodeId>,
        taken: &CpuList,
    ) -> Result<CpuList> {
        if let Some(given) = given {
            self.check(option, given)?;
            if given.len() != threads {
                let n = given.len();
                return Err(Usage::error(format!(
                    "{option} {given} names {n} CPUs for {threads} threads; give as many as --threads"
                )));
            }
            return Ok(given.clone());
        }
        self.choose(&self.allowed, threads, near, taken)
    }

    /// Whether this process may have the CPUs that an option names.
    pub(crate) fn check(&self, option: &str, given: &CpuList) -> Result<()> {
        check(&self.topology, &self.allowed, given)
            .map_err(|e| Usage::error(format!("{option} {given}: {e}")))
    }

    /// `threads` of the CPUs `among`, near `near`: whole physical cores if there are enough, not those of `taken` if it can be
    /// helped.
    pub(crate) fn choose_among(
        &self,
        among: &CpuList,
        threads: usize,
        near: Option<NodeId>,
        taken: &CpuList,
    ) -> Result<CpuList> {
        let among = Allowed {
            cpus: among.clone(),
            ..self.allowed.clone()
        };
        self.choose(&among, threads, near, taken)
    }

    fn choose(
        &self,
        among: &Allowed,
        threads: usize,
        near: Option<NodeId>,
        taken: &CpuList,
    ) -> Result<CpuList> {
        let want = |whole_cores, avoid| Want {
            count: threads,
            near,
            whole_cores,
            avoid,
        };
        let tries = [
            want(true, taken.clone()),
            want(false, taken.clone()),
            want(false, CpuList::default()),
        ];
        let mut last = None;
        for want in &tries {
            match choose(&self.topology, among, want) {
                Ok(choice) => return Ok(choice.list()),
                Err(e @ ChooseError::TooFew { .. }) => last = Some(e),
                Err(e) => return Err(Usage::error(e)),
            }
        }
        match last {
            Some(e) => Err(Usage::error(e)),
            None => bail!("no CPU could be chosen"),
        }
    }

    /// CPUs for the threads that the kernel polls with, one a measuring thread: the given ones, or chosen beside those.
    pub(crate) fn poll_cpus(
        &self,
        given: Option<&CpuList>,
        beside: &Placement,
        near: Option<NodeId>,
    ) -> Result<CpuList> {
        self.cpus("--poll-cpus", given, beside.cpus.len(), near, &beside.cpus)
    }

    /// What a file or drive is as a target, and what stands behind it: for a file the file system's type, its size and its
    /// drive; for a drive its model, serial number and size. `region` is the part of it that a cell uses.
    pub(crate) fn storage(&self, found: &Prepared, region: Bytes) -> Result<(Target, Reality)> {
        let device = file_device(&self.topology, &found.path)?;
        let reality = device.judgement.reality.unwrap_or(Reality::Unknown);
        let (kind, identity) = match found.kind {
            Kind::File => (TargetKind::File, self.file(&device, found.region)),
            Kind::Device | Kind::Namespace => (TargetKind::Drive, self.drive(&device, found.size)),
        };
        let target = Target {
            kind,
            identity,
            region_from_bytes: found.from,
            region_bytes: Some(region),
            node: device.node,
        };
        Ok((target, reality))
    }

    /// What tells a file from any other.
    fn file(&self, device: &FileDevice, region: Bytes) -> String {
        let filesystem = device.filesystem.as_deref().unwrap_or("unknown");
        let on = device.disk.as_ref().or(device.source.as_ref());
        let on = on.map(|on| format!(" on {on}")).unwrap_or_default();
        format!("{region} file on {filesystem}{on}{}", self.told(device))
    }

    /// What tells a drive from any other.
    fn drive(&self, device: &FileDevice, size: Bytes) -> String {
        let on = device.disk.as_ref().or(device.source.as_ref());
        let disk = on.and_then(|name| self.topology.disk(name));
        let whole = device.device.as_ref().filter(|name| Some(*name) != on);
        let generic = |name: &str| self.topology.nvme_generic.iter().any(|g| g.name == name);
        let part = whole.filter(|name| !generic(name));
        // A namespace is the same one whoever drives it, by its block device or another way.
        if let (Some(disk), None) = (disk, part)
            && let (Some(namespace), Some(serial)) = (&disk.namespace, &disk.serial)
        {
            let model = disk.model.as_deref().unwrap_or_default();
            return namespace_identity(size, namespace.nsid, model, serial);
        }
        let name = match (part, on) {
            (Some(part), _) => format!("partition {part}"),
            // A loop device's serial number would be that of the drive below, which others stand on too.
            (None, Some(on)) if disk.is_none_or(|disk| disk.serial.is_none()) => {
                format!("drive {on}")
            }
            _ => "drive".to_owned(),
        };
        format!("{size} {name}{}", self.told(device))
    }

    /// Model and serial number of what is below, or this machine, where without them only that tells it from another's.
    fn told(&self, device: &FileDevice) -> String {
        match (&device.model, &device.serial) {
            (model, Some(serial)) => {
                format!(" {} {serial}", model.as_deref().unwrap_or("serial"))
            }
            _ => format!(" of {}", self.name),
        }
    }

    /// The node and the reality of an NVMe function; `model` is what it calls itself.
    pub(crate) fn function(&self, at: PciAddress, model: &str) -> (Option<NodeId>, Reality) {
        let judged = self.topology.judge_nvme(at, Some(model));
        (self.node_of(at), judged.reality.unwrap_or(Reality::Unknown))
    }

    /// The node that a function hangs on.
    pub(crate) fn node_of(&self, at: PciAddress) -> Option<NodeId> {
        self.topology.function(at)?.node
    }

    /// What the way from a function to the CPU lets through at most.
    pub(crate) fn function_bounds(&self, at: PciAddress) -> Nominal {
        nominal(ceiling(&self.topology, &[at]))
    }

    /// What is watched while a cell on a file is measured.
    pub(crate) fn watch_file(&self, path: &Path, cpus: &CpuList) -> Result<WatchList> {
        let device = file_device(&self.topology, path)?;
        Ok(WatchList::of_file(&self.topology, &device, cpus.clone()))
    }

    /// What the way from a target to the CPU lets through at most; nothing where there is none or the page cache answers.
    pub(crate) fn file_bounds(&self, file: &Prepared) -> Result<Nominal> {
        let device = file_device(&self.topology, &file.path)?;
        if !file.direct || device.functions.is_empty() {
            return Ok(Nominal::default());
        }
        Ok(nominal(file_ceiling(&self.topology, &device)))
    }

    /// What the watched interface and the way from it to the CPU let through at most; nothing for one made of software.
    pub(crate) fn wire_bounds(&self, watched: &WatchList) -> Nominal {
        let first = watched.interfaces.first();
        let Some((interface, speed)) = first
            .and_then(|name| self.topology.interfaces.iter().find(|i| i.name == *name))
            .and_then(|interface| Some((interface, interface.line_rate()?)))
        else {
            return Nominal::default();
        };
        let mut found = nominal(ceiling(&self.topology, &watched.functions));
        found.bounds.push(NominalBound {
            name: format!(
                "line rate of {} ({} Gb/s)",
                interface.name,
                speed.0 as f64 / 1e9
            ),
            bytes_per_s: speed.0 as f64 / 8.0,
        });
        found
    }
}

/// What tells an NVMe namespace from any other, through whatever driver it is reached.
pub(crate) fn namespace_identity(size: Bytes, id: u32, model: &str, serial: &str) -> String {
    format!(
        "{size} namespace {id} of {} {}",
        model.trim(),
        serial.trim()
    )
}

fn nominal(found: Result<PcieCeiling, NoCeiling>) -> Nominal {
    match found {
        Ok(ceiling) => Nominal {
            bounds: vec![NominalBound {
                name: ceiling.to_string(),
                bytes_per_s: ceiling.bytes_per_s,
            }],
            ..Nominal::default()
        },
        Err(why) => Nominal {
            missing: vec![why.to_string()],
            ..Nominal::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine with namespace 3 of a drive: its block device, a partition of that, and its character device.
    fn host(tree: &Path) -> Host {
        let own = "sys/devices/pci0000:40/0000:41:00.0";
        let nvme = format!("{own}/nvme/nvme0");
        for (path, text) in [
            ("sys/devices/system/cpu/cpu0/online", "1"),
            (&format!("{own}/class"), "0x010802"),
            (&format!("{own}/numa_node"), "1"),
            (&format!("{own}/vendor"), "0x1b36"),
            (&format!("{nvme}/model"), "ACME 9000          "),
            (&format!("{nvme}/serial"), "S1"),
            (&format!("{nvme}/nvme0n1/nsid"), "3"),
            (&format!("{nvme}/nvme0n1/size"), "2048"),
            (&format!("{nvme}/nvme0n1/nvme0n1p1/size"), "1024"),
            (&format!("{nvme}/ng0n1/dev"), "240:0"),
        ] {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, format!("{text}\n")).expect("written");
        }
        for (path, to) in [
            ("sys/bus/pci/devices/0000:41:00.0", own.to_owned()),
            ("sys/class/nvme/nvme0", nvme.clone()),
            ("sys/block/nvme0n1", format!("{nvme}/nvme0n1")),
            ("sys/class/nvme-generic/ng0n1", format!("{nvme}/ng0n1")),
            (&format!("{nvme}/nvme0n1/device"), nvme.clone()),
        ] {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            symlink(tree.join(to), path).expect("linked");
        }
        let root = Root::new(tree);
        let topology = Topology::read(&root).expect("a tree");
        Host {
            allowed: Allowed::read(&root, &topology),
            topology,
            name: "here".to_owned(),
        }
    }

    #[test]
    fn a_namespace_is_one_target_whoever_drives_it() {
        let tree = tempfile::tempdir().expect("a folder");
        let host = host(tree.path());
        let at = |device: &str| FileDevice {
            path: Path::new("/dev").join(device),
            filesystem: None,
            source: None,
            mount_point: None,
            device: Some(device.to_owned()),
            disk: Some("nvme0n1".to_owned()),
            pci: None,
            node: None,
            functions: Vec::new(),
            placement_unknown: None,
            model: Some("ACME 9000".to_owned()),
            serial: Some("S1".to_owned()),
            logical_block: None,
            judgement: strata_topology::Judgement::default(),
        };
        // As our driver has them from the controller: filled up with blanks.
        let ours = namespace_identity(Bytes::MIB, 3, "ACME 9000            ", "S1   ");
        assert_eq!(ours, "1MiB namespace 3 of ACME 9000 S1");
        for device in ["nvme0n1", "ng0n1"] {
            assert_eq!(host.drive(&at(device), Bytes::MIB), ours, "{device}");
        }
        let part = host.drive(&at("nvme0n1p1"), Bytes(524_288));
        assert_eq!(part, "512KiB partition nvme0n1p1 ACME 9000 S1");
        let function = "0000:41:00.0".parse().expect("an address");
        let found = host.function(function, "ACME 9000");
        assert_eq!(found, (Some(NodeId(1)), Reality::Virtual));
    }
}
