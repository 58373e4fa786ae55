//! The interface of an address, and how what arrives there is spread over CPUs (Documentation/networking/scaling.rst and
//! Documentation/ABI/testing/sysfs-class-net-queues of the kernel).

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use strata_record::InterfaceLayout;
use strata_units::{Bytes, CpuId, CpuList};

/// What is found about the interface that has the address, and what could not be found out.
pub(crate) fn of(ip: IpAddr) -> Result<(InterfaceLayout, Option<String>), String> {
    let name = name_of(ip)?;
    Ok(read(Path::new("/sys/class/net"), &name))
}

/// The name of the interface that has the address.
///
/// # Errors
/// In words, when none has it, or addresses are not told.
pub fn name_of(ip: IpAddr) -> Result<String, String> {
    let ip = ip.to_canonical();
    let all = getifaddrs()
        .map_err(|e| format!("the interface of {ip}: its addresses are not told ({e})"))?;
    let holds = |of: &nix::ifaddrs::InterfaceAddress| {
        let address = of.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip()));
        v4.or(v6)
    };
    // The whole of 127/8 is loopback's, of which it lists one.
    let mut all = all.filter(|of| {
        holds(of) == Some(ip)
            || (ip.is_loopback() && holds(of).is_some_and(|other| other.is_loopback()))
    });
    all.next()
        .map(|of| of.interface_name)
        .ok_or_else(|| format!("the interface of {ip}: none has this address any more"))
}

/// By sysfs below `root`. The table by which a device spreads flows over its queues takes an ioctl (`ethtool -x`).
fn read(root: &Path, name: &str) -> (InterfaceLayout, Option<String>) {
    let folder = root.join(name);
    let queues = |kind: &str| -> Vec<String> {
        let mut numbers: Vec<u32> = fs::read_dir(folder.join("queues"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.strip_prefix(kind)?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers.iter().map(|n| format!("{kind}{n}")).collect()
    };
    let mut unread = None;
    let receive_queues: Vec<CpuList> = queues("rx-")
        .iter()
        .map(|queue| {
            let path = folder.join("queues").join(queue).join("rps_cpus");
            let mask = fs::read_to_string(&path).ok();
            mask.as_deref().and_then(cpus).unwrap_or_else(|| {
                unread.get_or_insert(format!(
                    "packet steering of {name}: {} is not readable",
                    path.display()
                ));
                CpuList::default()
            })
        })
        .collect();
    let driver = fs::read_link(folder.join("device/driver"))
        .ok()
        .and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
    let hidden = (receive_queues.len() > 1 && driver.is_some()).then(|| {
        format!("how {name} spreads flows over its {} receive queues: the table takes an ioctl; see `ethtool -x {name}`", receive_queues.len())
    });
    let mtu = fs::read_to_string(folder.join("mtu"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .map(Bytes);
    let proof = InterfaceLayout {
        name: name.to_owned(),
        driver,
        receive_queues,
        send_queues: queues("tx-").len() as u64,
        mtu_bytes: mtu,
    };
    (proof, unread.or(hidden))
}

/// A mask of CPUs as the kernel prints it: groups of 32 bits in hexadecimal, the highest first.
fn cpus(mask: &str) -> Option<CpuList> {
    let mut found = Vec::new();
    for (group, word) in mask.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(word, 16).ok()?;
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            found.push(CpuId(u32::try_from(group).ok()?.checked_mul(32)? + bit));
        }
    }
    Some(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn masks_are_read_from_their_end() {
        let list = |mask: &str| cpus(mask).map(|list| list.to_string());
        assert_eq!(list("0\n").as_deref(), Some(""));
        assert_eq!(list("00000001,80000003\n").as_deref(), Some("0,1,31,32"));
        assert_eq!(list("x"), None);
    }

    #[test]
    fn queues_and_driver_of_a_recorded_tree() {
        let root = tempfile::tempdir().expect("a folder");
        let eth = root.path().join("eth7");
        for (queue, mask) in [("rx-0", "3"), ("rx-10", "0"), ("rx-2", "c")] {
            let folder = eth.join("queues").join(queue);
            fs::create_dir_all(&folder).expect("made");
            fs::write(folder.join("rps_cpus"), mask).expect("written");
        }
        fs::create_dir_all(eth.join("queues/tx-0")).expect("made");
        fs::create_dir_all(eth.join("device")).expect("made");
        fs::write(eth.join("mtu"), "9000\n").expect("written");
        symlink(
            "../../../bus/pci/drivers/mlx5_core",
            eth.join("device/driver"),
        )
        .expect("linked");
        let (found, missing) = read(root.path(), "eth7");
        let queues: Vec<String> = found
            .receive_queues
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(queues, ["0,1", "2,3", ""]);
        assert_eq!(found.driver.as_deref(), Some("mlx5_core"));
        assert_eq!((found.send_queues, found.mtu_bytes), (1, Some(Bytes(9000))));
        let missing = missing.expect("the table is hidden");
        assert!(missing.contains("ethtool -x eth7"), "{missing}");
    }

    #[test]
    fn loopback_is_found_by_any_of_its_addresses() {
        for ip in ["127.0.0.1", "127.3.2.1", "::ffff:127.0.0.1"] {
            let (found, _) = of(ip.parse().expect("an address")).expect("there is loopback");
            assert_eq!((found.name.as_str(), found.driver), ("lo", None));
        }
        let why =
            of("192.0.2.77".parse().expect("an address")).expect_err("for documentation only");
        assert!(why.contains("192.0.2.77"), "{why}");
    }
}
