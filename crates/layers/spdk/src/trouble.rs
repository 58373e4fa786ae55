//! What SPDK and DPDK say when something is off, what that means, and what to do.

use std::fmt;

/// One line of theirs that is known, with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The line.
    pub said: String,
    /// What is behind it.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {} (SPDK says: {})",
            self.cause, self.remedy, self.said
        )
    }
}

/// Words that a line has, all of them, with cause and remedy; what is particular stands before what is general, and what is
/// only a consequence of others last.
const KNOWN: [(&[&str], &str, &str); 24] = [
    (
        &["Permission denied", "hugepages"],
        "the folder of the huge pages belongs to another user",
        "mount it with uid= or mode=, or run as root",
    ),
    (
        &["no mounted hugetlbfs"],
        "huge pages are reserved, but no hugetlbfs of their size is mounted",
        "mount -t hugetlbfs -o pagesize=2M none /dev/hugepages",
    ),
    (
        &["Not enough memory available"],
        "more memory is asked for than there are free huge pages",
        "reserve more on the drive's node (/sys/devices/system/node/node*/hugepages)",
    ),
    (
        &["msg_mempool creation failed"],
        "there are too few huge pages for its pools",
        "reserve some 512 MB more",
    ),
    (
        &["Couldn't get fd on hugepage file"],
        "huge pages are free, but this process may not have them",
        "raise hugetlb.2MB.max of the control group, or let cpuset.mems have the node",
    ),
    (
        &["Cannot use IOVA as 'PA'"],
        "physical addresses are hidden from this process",
        "run as root, or bind the drive to vfio-pci behind an IOMMU",
    ),
    (
        &["Expecting 'PA' IOVA mode"],
        "a device is with a driver of uio while the IOMMU is on",
        "bind every device to vfio-pci",
    ),
    (
        &["limits of current DMA mask"],
        "the IOMMU's addresses are too narrow (39 bits in many virtual machines)",
        "give the virtual machine aw-bits=48, or less memory",
    ),
    (
        &["group is not viable"],
        "another function of the drive's IOMMU group is with a kernel driver",
        "bind that to vfio-pci too, or unbind it (`strata nvme list` names them)",
    ),
    (
        &["/dev/vfio/", "Device or resource busy"],
        "another process has the drive's IOMMU group open, perhaps only by looking at every device",
        "end that process (`strata nvme list` names it)",
    ),
    (
        &["/dev/vfio/", "Permission denied"],
        "this user may not open the drive's IOMMU group",
        "run as root, or chown /dev/vfio/N",
    ),
    (
        &["Cannot create lock on device"],
        "another SPDK process has the drive",
        "end it, or remove /var/tmp/spdk_pci_lock_* if it is gone",
    ),
    (
        &["Cannot create lock on core"],
        "another SPDK process has that core",
        "give other --cpus, or remove /var/tmp/spdk_cpu_lock_* if it is gone",
    ),
    (
        &["Cannot map vaddr for IOMMU"],
        "memory cannot be pinned for the drive",
        "raise RLIMIT_MEMLOCK (`ulimit -l unlimited`); above 128 GB raise dma_entry_limit of vfio_iommu_type1 too",
    ),
    (
        &["lcore", "unavailable"],
        "the core is outside of what this process may run on",
        "give other --cpus, or look at the cpuset of its control group",
    ),
    (
        &["No valid lcores"],
        "the core is outside of what this process may run on",
        "give other --cpus, or look at the cpuset of its control group",
    ),
    (
        &["DPDK version", "is not supported"],
        "the plugin was linked against a DPDK that its SPDK does not know",
        "build SPDK with its own DPDK, and the plugin again",
    ),
    (
        &["opts_size", "too small"],
        "the plugin was built with the headers of another SPDK than it is linked against",
        "build it again (`make spdk-plugin`)",
    ),
    (
        &["DPDK already initialized"],
        "SPDK was started in this process before",
        "begin a new run",
    ),
    (
        &["Is another primary process running"],
        "another process has the same file prefix",
        "end it, or remove what it left in /var/run/dpdk",
    ),
    (
        &["Initialization timed out in state"],
        "the controller does not become ready",
        "look whether it is in D3, has its bus-master bit, and answers at all (`strata nvme list`)",
    ),
    (
        &["No valid NVMe controllers found"],
        "no controller is with a driver that lets it go",
        "bind the drive first (`strata bind`)",
    ),
    (
        &["Cannot get hugepage information"],
        "there are no free huge pages",
        "reserve some on the drive's node (/sys/devices/system/node/node*/hugepages)",
    ),
    (
        &["No free", "hugepages reported on node"],
        "a node has no free huge pages of that size",
        "reserve some on the drive's node (/sys/devices/system/node/node*/hugepages)",
    ),
];

impl Trouble {
    /// Those that a log tells of, each cause once: what is particular first.
    pub fn in_log(log: &str) -> Vec<Trouble> {
        let mut found: Vec<Trouble> = Vec::new();
        for (words, cause, remedy) in KNOWN {
            let line = log
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            if let Some(line) = line
                && found.iter().all(|trouble| trouble.cause != cause)
            {
                found.push(Trouble {
                    said: line.trim().to_owned(),
                    cause,
                    remedy,
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_particular_stands_before_its_consequences() {
        let log = "\
EAL: No free 2048 kB hugepages reported on node 0
EAL: 2 hugepages of size 1073741824 reserved, but no mounted hugetlbfs found for that size
EAL: FATAL: Cannot get hugepage information.
EAL: Cannot get hugepage information.
";
        let found = Trouble::in_log(log);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found[0].remedy.contains("mount -t hugetlbfs"),
            "{}",
            found[0]
        );
        assert_eq!(
            found[1].said,
            "EAL: FATAL: Cannot get hugepage information."
        );
        assert!(Trouble::in_log("EAL: Detected CPU lcores: 2\n").is_empty());
    }

    #[test]
    fn each_line_that_is_known_is_known_by_its_own_words() {
        for (words, cause, remedy) in KNOWN {
            let found = Trouble::in_log(&words.join(" 1 "));
            assert_eq!((found[0].cause, found[0].remedy), (cause, remedy));
        }
    }
}
