//! A port: its link, its addresses, and its interface.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gid::{self, Gid, GidKind, PKey};
use crate::pci::BitRate;
use crate::root::Reader;

/// A port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaPort {
    /// Its number, from 1.
    pub number: u32,
    /// Logical state (`ACTIVE`, `DOWN`, `INIT`, `ARMED`).
    pub state: Option<String>,
    /// Physical state (`LinkUp`, `Polling`, `Disabled`).
    pub physical_state: Option<String>,
    /// Rate of the link as the kernel tells it; [`RdmaPort::data_rate`] is what it carries.
    #[serde(rename = "rate_bits_per_s")]
    pub rate: Option<BitRate>,
    /// Lanes and the speed's name (`4X EDR`).
    pub width_speed: Option<String>,
    /// `InfiniBand` or `Ethernet`.
    pub link_layer: Option<String>,
    /// Its local identifier, 0 while no subnet manager has given it one; of no use on Ethernet.
    pub lid: Option<u32>,
    /// The local identifier of the subnet manager.
    pub sm_lid: Option<u32>,
    /// The port has 2 to this power of local identifiers.
    pub lid_mask_count: Option<u8>,
    /// Its GIDs, by their places in the table.
    pub gids: Vec<Gid>,
    /// Its partitions, by their places in the table.
    pub p_keys: Vec<PKey>,
    /// Network interfaces over the port, its own first: of RoCE the one that it shares with Ethernet, and VLANs on it;
    /// of InfiniBand those of IPoIB; of Soft-RoCE the one below it.
    pub interfaces: Vec<String>,
    /// The interfaces whose links carry the port together, where it is one of a bond (RoCE LAG).
    pub lag: Vec<String>,
}

impl RdmaPort {
    /// Whether it is a port of Ethernet (RoCE, iWARP).
    pub fn is_ethernet(&self) -> bool {
        self.link_layer.as_deref() == Some("Ethernet")
    }

    /// The bits that the link carries a second and way, after its encoding; headers come off that as well.
    ///
    /// The kernel's `rate_show` (`drivers/infiniband/core/sysfs.c`) multiplies the lanes by 2.5, 5 and 10 Gb/s for SDR, DDR
    /// and QDR, which is how they signal and of which 8b/10b leaves 4/5, and by 14 for FDR, which signals 14.0625 Gb/s with
    /// 64b/66b (InfiniBand Architecture vol. 2 §5). What it says of FDR10 (10), EDR (25) and all later ones is data.
    ///
    /// Ports of Ethernet have their speed told in the same words (`ib_get_eth_speed` of `drivers/infiniband/core/verbs.c`),
    /// none of whose encodings are theirs: 40 Gb/s are `4X QDR` or `4X FDR10`. Theirs is that speed as it is; `1X SDR`
    /// stands for 1 Gb/s and for any that is not known, and gives `None`. Some are rounded up, so the speed of the interface,
    /// where it tells one, is the better word.
    pub fn data_rate(&self) -> Option<BitRate> {
        let rate = self.rate?;
        let told = self.width_speed.as_deref().unwrap_or_default();
        let speed = told.split_whitespace().next_back().unwrap_or_default();
        let share = match speed {
            _ if self.is_ethernet() => return Some(rate).filter(|_| told != "1X SDR"),
            "SDR" | "DDR" | "QDR" => 8.0 / 10.0,
            "FDR" => 14.0625 / 14.0 * 64.0 / 66.0,
            _ => 1.0,
        };
        Some(BitRate((rate.0 as f64 * share).round() as u64))
    }

    /// The GID that the network would choose: the one that holds `address` (of the control channel, say), where one does;
    /// else, on InfiniBand, the first of the table, and on Ethernet RoCE v2 before v1, among these IPv4 before global IPv6
    /// before link-local, and of equals the port's own interface before VLANs on it.
    ///
    /// `None` where the table is empty.
    pub fn usual_gid(&self, address: Option<IpAddr>) -> Option<&Gid> {
        let own = self.interfaces.first();
        let order = |gid: &&Gid| {
            let elsewhere = gid.interface.as_ref() != own;
            (
                gid.kind != Some(GidKind::RoceV2),
                gid.reach(),
                elsewhere,
                gid.index,
            )
        };
        let holds = |gid: &&Gid| address.is_some_and(|address| gid.holds(address));
        let all = || self.gids.iter();
        all()
            .filter(holds)
            .min_by_key(order)
            .or_else(|| match self.is_ethernet() {
                true => all().min_by_key(order),
                false => all().find(|gid| gid.index == 0),
            })
    }
}

/// The port in a folder; `over` is the interface below Soft-RoCE, `beside` what `device/net` has.
pub(super) fn read(
    reader: &Reader,
    folder: &str,
    number: u32,
    over: Option<&String>,
    beside: &[(String, Option<u32>)],
) -> RdmaPort {
    let (rate, width_speed) = rate(reader, &format!("{folder}/rate"));
    let mut port = RdmaPort {
        number,
        state: super::named(reader, &format!("{folder}/state")),
        physical_state: super::named(reader, &format!("{folder}/phys_state")),
        rate,
        width_speed,
        link_layer: reader.word(&format!("{folder}/link_layer")),
        lid: reader.hex(&format!("{folder}/lid")),
        sm_lid: reader.hex(&format!("{folder}/sm_lid")),
        lid_mask_count: reader.value(&format!("{folder}/lid_mask_count"), "a number"),
        gids: gid::read(reader, folder),
        p_keys: gid::read_keys(reader, folder),
        interfaces: Vec::new(),
        lag: Vec::new(),
    };
    port.interfaces = interfaces(&port, over, beside);
    port
}

/// Its own first. An HCA's function may have interfaces of other ports, and an Ethernet port's function such as stand for
/// virtual functions: what the GIDs belong to is what counts there.
fn interfaces(
    port: &RdmaPort,
    over: Option<&String>,
    beside: &[(String, Option<u32>)],
) -> Vec<String> {
    let fits = |at: Option<u32>| at.is_none_or(|at| port.number.checked_sub(1) == Some(at));
    let beside = || {
        beside
            .iter()
            .filter(|(_, at)| fits(*at))
            .map(|(name, _)| name)
    };
    let of_gids = || port.gids.iter().filter_map(|gid| gid.interface.as_ref());
    let mut found: Vec<&String> = match port.is_ethernet() {
        false => over.into_iter().chain(beside()).collect(),
        true => {
            let own = over
                .or_else(|| of_gids().find(|name| beside().any(|other| other == *name)))
                .or_else(|| of_gids().next())
                .or_else(|| beside().next());
            own.into_iter().chain(of_gids()).collect()
        }
    };
    let mut seen = Vec::new();
    found.retain(|name| {
        let new = !seen.contains(name);
        seen.push(name);
        new
    });
    found.into_iter().cloned().collect()
}

/// `100 Gb/sec (4X EDR)`: the rate, and what stands in brackets.
fn rate(reader: &Reader, path: &str) -> (Option<BitRate>, Option<String>) {
    let Some(text) = reader.word(path) else {
        return (None, None);
    };
    let (number, rest) = text.split_once(" Gb/sec").unwrap_or(("", &text));
    let rate = BitRate::from_gigabits(number);
    if rate.is_none() {
        reader.note(path, format!("found {text:?}, expected a rate in Gb/sec"));
    }
    let inside = rest
        .trim()
        .strip_prefix('(')
        .and_then(|t| t.strip_suffix(')'));
    (rate, inside.map(str::to_owned))
}
