//! The min-cut against every cut there is, on small random trees.

use std::collections::BTreeSet;

use proptest::prelude::*;
use strata_topology::{PcieCeiling, Recording, Root, Topology, ceiling};
use strata_units::PciAddress;

/// A link: what it hangs from (a switch's place among the links, or a root port of its own), its lanes, and whether a
/// switch or a drive is below it.
#[derive(Debug, Clone)]
struct Link {
    above: Option<usize>,
    lanes: u8,
    best: u8,
    drive: bool,
}

fn links() -> impl Strategy<Value = Vec<Link>> {
    let lanes = || proptest::sample::select(vec![1u8, 2, 4, 8, 16]);
    let link = (
        any::<proptest::sample::Index>(),
        lanes(),
        lanes(),
        any::<bool>(),
        0..4,
    );
    proptest::collection::vec(link, 1..9).prop_map(|raw| {
        let mut links: Vec<Link> = Vec::new();
        for (index, lanes, best, drive, root) in raw {
            let switches: Vec<usize> = (0..links.len()).filter(|at| !links[*at].drive).collect();
            let above = (root > 0 && !switches.is_empty()).then(|| *index.get(&switches));
            links.push(Link {
                above,
                lanes,
                best: best.max(lanes),
                drive,
            });
        }
        links
    })
}

/// The function below each link; the tree in sysfs's layout. Link `n` has bus `2n + 1` below its port, and a switch's
/// inner bus is `2n + 2`.
fn tree(links: &[Link]) -> (Topology, Vec<PciAddress>) {
    let mut text =
        "sys/devices/system/cpu/cpu0/online = 1\nproc/cpuinfo = flags : fpu\n".to_owned();
    let mut below: Vec<String> = Vec::new();
    let mut addresses = Vec::new();
    for (n, link) in links.iter().enumerate() {
        let port = match link.above {
            None => format!("sys/devices/pci0000:00/0000:00:{n:02x}.0"),
            Some(above) => format!("{}/0000:{:02x}:{n:02x}.0", below[above], 2 * above + 2),
        };
        let device = format!("{port}/0000:{:02x}:00.0", 2 * n + 1);
        for (path, bridge) in [(&port, true), (&device, !link.drive)] {
            let (_, address) = path.rsplit_once('/').expect("a path");
            let class = if bridge { "0x060400" } else { "0x010802" };
            text += &format!("{path}/class = {class}\n");
            text += &format!("sys/bus/pci/devices/{address} -> ../../../../{path}\n");
        }
        text += &format!("{device}/current_link_speed = 16.0 GT/s PCIe\n");
        text += &format!("{device}/current_link_width = {}\n", link.lanes);
        text += &format!("{device}/max_link_speed = 16.0 GT/s PCIe\n");
        text += &format!("{device}/max_link_width = {}\n", link.best);
        let (_, address) = device.rsplit_once('/').expect("a path");
        addresses.push(address.parse().expect("an address"));
        below.push(device);
    }
    let recording = Recording::parse(&text).expect("a tree");
    let topology = Topology::read(&Root::recorded(recording)).expect("a topology");
    assert_eq!(topology.notes, []);
    assert_eq!(topology.pci.len(), 2 * links.len());
    (topology, addresses)
}

/// Whether a set of links (bits) stands between every chosen drive and the CPU.
fn cuts(links: &[Link], chosen: &[usize], set: u32) -> bool {
    chosen.iter().all(|drive| {
        let mut at = Some(*drive);
        while let Some(link) = at {
            if set >> link & 1 == 1 {
                return true;
            }
            at = links[link].above;
        }
        false
    })
}

/// The least of all cuts, in lanes.
fn least(links: &[Link], chosen: &[usize], lanes: impl Fn(&Link) -> u8) -> u32 {
    (0u32..1 << links.len())
        .filter(|set| cuts(links, chosen, *set))
        .map(|set| {
            let cut = (0..links.len()).filter(|at| set >> at & 1 == 1);
            cut.map(|at| u32::from(lanes(&links[at]))).sum()
        })
        .min()
        .expect("all links together are a cut")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ceiling_is_the_least_cut(links in links(), pick in any::<u32>()) {
        let drives: Vec<usize> = (0..links.len())
            .filter(|at| links[*at].drive && pick >> at & 1 == 1)
            .collect();
        prop_assume!(!drives.is_empty());
        let (topology, addresses) = tree(&links);
        let devices: Vec<PciAddress> = drives.iter().map(|at| addresses[*at]).collect();
        let found: PcieCeiling = ceiling(&topology, &devices).expect("a ceiling");
        let lane = 16e9 * 128.0 / 130.0 / 8.0;
        let in_lanes = |bytes_per_s: f64| (bytes_per_s / lane).round() as u32;
        prop_assert_eq!(in_lanes(found.bytes_per_s), least(&links, &drives, |link| link.lanes));
        prop_assert_eq!(in_lanes(found.at_best_bytes_per_s), least(&links, &drives, |link| link.best));
        // What is named is such a cut.
        let named: BTreeSet<PciAddress> = found.bound_by.iter().map(|edge| edge.below).collect();
        prop_assert_eq!(named.len(), found.bound_by.len());
        let set = (0..links.len())
            .filter(|at| named.contains(&addresses[*at]))
            .fold(0, |set, at| set | 1 << at);
        prop_assert!(cuts(&links, &drives, set));
        let sum: f64 = found.bound_by.iter().filter_map(|edge| edge.link).map(|link| link.bytes_per_s()).sum();
        prop_assert_eq!(in_lanes(sum), in_lanes(found.bytes_per_s));
    }
}
