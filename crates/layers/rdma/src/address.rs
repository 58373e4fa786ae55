//! The IP addresses of a port, by which rdma_cm connects.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use strata_topology::{Root, Topology};

use crate::port::OpenPort;

/// The addresses of a port, without a port of theirs, the one to be preferred first: on Ethernet that of its GID, on
/// InfiniBand those of its IPoIB interfaces.
///
/// # Errors
/// In words, why it has none.
pub(crate) fn addresses(port: &OpenPort) -> Result<Vec<SocketAddr>, String> {
    let all = of_interfaces().map_err(|e| {
        format!("the addresses of this machine's interfaces cannot be read (getifaddrs: {e}); give --connect control")
    })?;
    let (name, gid) = (&port.told.name, port.told.gid);
    if let Some(gid) = gid.filter(|_| port.told.ethernet) {
        let gid = Ipv6Addr::from(gid).to_canonical();
        let found = of_gid(&all, gid);
        if found.is_empty() {
            return Err(format!(
                "the GID {gid} of {name} is no address of an interface, and rdma_cm connects by those; change --gid-index (`strata rdma list` tells which there are), or give --connect control"
            ));
        }
        return Ok(found);
    }
    let topology = Topology::read(&Root::live()).map_err(|e| e.to_string())?;
    let device = topology.rdma.iter().find(|d| d.name == port.end.device);
    let ports = device.iter().flat_map(|device| &device.ports);
    let interfaces: Vec<&str> = ports
        .filter(|found| found.number == u32::from(port.end.port))
        .flat_map(|found| found.interfaces.iter().map(String::as_str))
        .collect();
    let found = over(&all, &interfaces);
    if found.is_empty() {
        return Err(format!(
            "{name} has no IP address, by which rdma_cm connects: `modprobe ib_ipoib`, give its interface one (`ip address add`), or give --connect control"
        ));
    }
    Ok(found)
}

/// Those of this machine, each with its interface.
fn of_interfaces() -> nix::Result<Vec<(String, SocketAddr)>> {
    let found = getifaddrs()?.filter_map(|one| {
        let address = one.address?;
        let v4 = address
            .as_sockaddr_in()
            .map(|a| SocketAddr::from((a.ip(), 0)));
        let v6 = address.as_sockaddr_in6();
        let v6 = v6.map(|a| std::net::SocketAddrV6::new(a.ip(), 0, 0, a.scope_id()).into());
        Some((one.interface_name, v4.or(v6)?))
    });
    Ok(found.collect())
}

fn of_gid(all: &[(String, SocketAddr)], gid: IpAddr) -> Vec<SocketAddr> {
    let same = all.iter().filter(|(_, address)| address.ip() == gid);
    same.map(|(_, address)| *address).collect()
}

/// Those of interfaces, IPv4 first; one of a link only is none by which another machine would know it.
fn over(all: &[(String, SocketAddr)], interfaces: &[&str]) -> Vec<SocketAddr> {
    let known = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let mut found: Vec<SocketAddr> = interfaces
        .iter()
        .flat_map(|name| all.iter().filter(move |(other, _)| other == name))
        .map(|(_, address)| *address)
        .filter(known)
        .collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
}

/// Where to connect from and to: the own address that is of the other one's kind, and that of who listens. An address of a
/// link only is reached over the own interface.
///
/// # Errors
/// In words, that there is none of that kind.
pub(crate) fn between(
    ours: &[SocketAddr],
    theirs: SocketAddr,
) -> Result<(SocketAddr, SocketAddr), String> {
    let same = ours.iter().find(|our| our.is_ipv6() == theirs.is_ipv6());
    let Some(from) = same.copied() else {
        let list: Vec<String> = ours.iter().map(|our| our.ip().to_string()).collect();
        return Err(format!(
            "the other side listens at {theirs}, and the port here has {}: both need an address of one kind",
            list.join(", ")
        ));
    };
    let mut to = theirs;
    if let (SocketAddr::V6(from), SocketAddr::V6(to)) = (&from, &mut to) {
        to.set_scope_id(from.scope_id());
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(String, SocketAddr)> {
        [
            ("lo", "127.0.0.1:0"),
            ("eth0", "10.0.0.7:0"),
            ("ib0", "[fe80::1%5]:0"),
            ("ib0", "[fd00::7]:0"),
            ("ib0", "10.1.0.7:0"),
            ("ib0.8001", "10.2.0.7:0"),
        ]
        .map(|(name, address)| (name.to_owned(), address.parse().expect("an address")))
        .to_vec()
    }

    fn texts(found: &[SocketAddr]) -> Vec<String> {
        found.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn a_port_has_the_addresses_of_its_gid_or_of_its_interfaces() {
        let gid = |text: &str| of_gid(&all(), text.parse().expect("an address"));
        assert_eq!(texts(&gid("10.0.0.7")), ["10.0.0.7:0"]);
        // With the interface that a link's address needs.
        assert_eq!(texts(&gid("fe80::1")), ["[fe80::1%5]:0"]);
        assert!(gid("10.0.0.8").is_empty());
        assert_eq!(
            texts(&over(&all(), &["ib0", "ib0.8001"])),
            ["10.1.0.7:0", "10.2.0.7:0", "[fd00::7]:0"]
        );
        assert!(over(&all(), &["ib1"]).is_empty());
    }

    #[test]
    fn both_ends_of_a_connection_are_of_one_kind() {
        let ours: Vec<SocketAddr> = all().into_iter().map(|(_, a)| a).skip(1).take(2).collect();
        let to = |text: &str| between(&ours, text.parse().expect("an address"));
        let (from, theirs) = to("10.0.0.8:4711").expect("IPv4");
        assert_eq!(texts(&[from, theirs]), ["10.0.0.7:0", "10.0.0.8:4711"]);
        // The other side's interface has a number of its own.
        let (_, theirs) = to("[fe80::2%9]:4711").expect("IPv6");
        assert_eq!(theirs.to_string(), "[fe80::2%5]:4711");
        let why = between(&ours[..1], "[fd00::1]:1".parse().expect("an address"));
        let why = why.expect_err("no IPv6");
        assert!(
            why.contains("[fd00::1]:1") && why.contains("10.0.0.7"),
            "{why}"
        );
    }
}
