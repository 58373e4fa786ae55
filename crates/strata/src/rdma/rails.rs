//! Which ports a cell goes over: those that were named, or those of the peer's route.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use strata_record::{Rail, RdmaEnd, Reality};
use strata_topology::Topology;
use strata_units::NodeId;

use crate::Usage;
use crate::cli::{PortName, RdmaArgs};

/// A port of a machine, as the other side must know it to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortOffer {
    pub(crate) device: String,
    pub(crate) port: u8,
    /// The network interfaces over it, its own first.
    pub(crate) interfaces: Vec<String>,
    /// The GID that the network would choose for whoever reaches the machine at the address at which it was asked.
    pub(crate) gid_index: Option<u8>,
    pub(crate) active: bool,
    pub(crate) node: Option<NodeId>,
    pub(crate) reality: Reality,
}

impl PortOffer {
    /// Its name, which is that of its interface where it has one: what goes over the interface goes over the port.
    fn name(&self) -> String {
        match self.interfaces.first() {
            Some(interface) => interface.clone(),
            None => format!("{}/{}", self.device, self.port),
        }
    }

    fn end(&self, gid_index: Option<u8>) -> RdmaEnd {
        RdmaEnd {
            device: self.device.clone(),
            port: self.port,
            gid_index: gid_index.or(self.gid_index),
        }
    }

    fn is(&self, name: &PortName) -> bool {
        (&self.device, self.port) == (&name.device, name.port)
    }
}

/// The ports of a machine, for whoever reaches it at `address`.
pub(crate) fn offers(topology: &Topology, address: Option<IpAddr>) -> Vec<PortOffer> {
    let mut offers = Vec::new();
    for device in &topology.rdma {
        for port in &device.ports {
            let Ok(number) = u8::try_from(port.number) else {
                continue;
            };
            // On InfiniBand packets carry a GID only where one is asked for.
            let gid = port.usual_gid(address).filter(|_| port.is_ethernet());
            offers.push(PortOffer {
                device: device.name.clone(),
                port: number,
                interfaces: port.interfaces.clone(),
                gid_index: gid.and_then(|gid| u8::try_from(gid.index).ok()),
                active: port.state.as_deref() == Some("ACTIVE"),
                node: device.node,
                reality: device.judgement.reality.unwrap_or(Reality::Unknown),
            });
        }
    }
    offers
}

/// A machine's ports, and what is known of the way to it.
pub(crate) struct Ports<'a> {
    /// What to call the machine: `this machine`, or the peer's name.
    pub(crate) of: &'a str,
    pub(crate) offers: &'a [PortOffer],
    /// The interface by which the two machines reach each other.
    pub(crate) interface: Option<&'a str>,
}

impl<'a> Ports<'a> {
    /// Those that were named, or the one of the interface, or the only one that carries data.
    fn choose(&self, option: &str, named: &[PortName]) -> Result<Vec<&'a PortOffer>> {
        if !named.is_empty() {
            return named
                .iter()
                .map(|name| {
                    let found = self.offers.iter().find(|offer| offer.is(name));
                    found.ok_or_else(|| {
                        Usage::error(format!(
                            "{option} {}/{}: {} has {}; `strata rdma list` tells more",
                            name.device,
                            name.port,
                            self.of,
                            self.names()
                        ))
                    })
                })
                .collect();
        }
        let on = |offer: &&PortOffer| {
            self.interface
                .is_some_and(|interface| offer.interfaces.iter().any(|i| i == interface))
        };
        let active: Vec<&PortOffer> = self.offers.iter().filter(|o| o.active).collect();
        if let Some(found) = self.offers.iter().find(on) {
            return Ok(vec![found]);
        }
        match active[..] {
            [only] => Ok(vec![only]),
            [] if self.offers.is_empty() => Err(anyhow::anyhow!(
                "{} has no RDMA device; `strata rdma list` tells what is missing",
                self.of
            )),
            [] => Err(anyhow::anyhow!(
                "no port of {} carries data: {}; `strata rdma list` tells why",
                self.of,
                self.names()
            )),
            _ => Err(Usage::error(format!(
                "{} has {}; choose by {option}",
                self.of,
                self.names()
            ))),
        }
    }

    fn names(&self) -> String {
        if self.offers.is_empty() {
            return "no RDMA device".to_owned();
        }
        let names: Vec<String> = self
            .offers
            .iter()
            .map(|o| format!("{}/{}", o.device, o.port))
            .collect();
        names.join(", ")
    }
}

/// The rails of a cell.
pub(crate) struct Rails {
    pub(crate) all: Vec<Rail>,
    /// The names of both ends, a rail each.
    pub(crate) names: Vec<(String, String)>,
    pub(crate) node: Option<NodeId>,
    pub(crate) realities: Vec<Reality>,
}

/// What was said of ports and GIDs, here and there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) devices: (&'a [PortName], &'a [PortName]),
    pub(crate) gid_indexes: (Option<u8>, Option<u8>),
}

impl<'a> Said<'a> {
    pub(crate) fn by(args: &'a RdmaArgs) -> Said<'a> {
        Said {
            devices: (&args.device, &args.peer_device),
            gid_indexes: (args.gid_index, args.peer_gid_index),
        }
    }

    /// Where the other side is of this machine: over the same ports, if nobody says otherwise.
    pub(crate) fn on_one_machine(self) -> Said<'a> {
        let ((ours, theirs), (our, their)) = (self.devices, self.gid_indexes);
        match theirs {
            [] => Said {
                devices: (ours, ours),
                gid_indexes: (our, their.or(our)),
            },
            _ => self,
        }
    }
}

/// Pairs the ports of both sides.
pub(crate) fn rails(ours: &Ports<'_>, theirs: &Ports<'_>, said: Said<'_>) -> Result<Rails> {
    let here = ours.choose("--device", said.devices.0)?;
    let there = theirs.choose("--peer-device", said.devices.1)?;
    if here.len() != there.len() {
        return Err(Usage::error(format!(
            "{} ports here and {} there make no rails; give as many --device as --peer-device",
            here.len(),
            there.len()
        )));
    }
    let nodes: Vec<Option<NodeId>> = here.iter().map(|o| o.node).collect();
    let first = nodes.first().copied().flatten();
    Ok(Rails {
        all: here
            .iter()
            .zip(&there)
            .map(|(ours, theirs)| Rail {
                ours: ours.end(said.gid_indexes.0),
                theirs: theirs.end(said.gid_indexes.1),
            })
            .collect(),
        names: here
            .iter()
            .zip(&there)
            .map(|(ours, theirs)| (ours.name(), theirs.name()))
            .collect(),
        // Rails on several nodes are near to none.
        node: first.filter(|_| nodes.iter().all(|n| *n == first)),
        realities: here.iter().chain(&there).map(|o| o.reality).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn offer(device: &str, interface: Option<&str>, active: bool) -> PortOffer {
        PortOffer {
            device: device.to_owned(),
            port: 1,
            interfaces: interface.map(str::to_owned).into_iter().collect(),
            gid_index: Some(3),
            active,
            node: Some(NodeId(1)),
            reality: Reality::Hardware,
        }
    }

    fn args(words: &str) -> RdmaArgs {
        let words = format!("strata rdma {words}");
        match Cli::try_parse_from(words.split_whitespace())
            .expect("understood")
            .command
        {
            Command::Rdma(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_port_of_the_route_is_chosen_and_a_name_goes_before() {
        let offers = [
            offer("mlx5_0", Some("ens1"), true),
            offer("mlx5_1", Some("ens2"), true),
            offer("mlx5_2", None, false),
        ];
        let ports = |interface| Ports {
            of: "this machine",
            offers: &offers,
            interface,
        };
        let found = rails(
            &ports(Some("ens2")),
            &ports(Some("ens1")),
            Said::by(&args("")),
        )
        .expect("a rail");
        assert_eq!(found.names, [("ens2".to_owned(), "ens1".to_owned())]);
        assert_eq!(found.all[0].ours.device, "mlx5_1");
        assert_eq!(found.all[0].ours.gid_index, Some(3));
        let named = args("--device mlx5_0,mlx5_2/1 --peer-device mlx5_1:1,mlx5_0 --gid-index 5");
        let found = rails(&ports(None), &ports(None), Said::by(&named)).expect("two rails");
        assert_eq!(found.names[1], ("mlx5_2/1".to_owned(), "ens1".to_owned()));
        assert_eq!(found.all[1].ours.gid_index, Some(5));
        assert_eq!(found.node, Some(NodeId(1)));
        for (words, interface, says) in [
            ("", None, "choose by --device"),
            ("--device mlx4_0", None, "this machine has mlx5_0/1"),
            ("--device mlx5_0,mlx5_1", Some("ens1"), "make no rails"),
        ] {
            let why = rails(&ports(interface), &ports(interface), Said::by(&args(words)));
            let why = why.err().expect("refused").to_string();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn the_only_port_that_carries_data_needs_no_name() {
        let offers = [offer("rxe0", None, true), offer("rxe1", None, false)];
        let ports = Ports {
            of: "this machine",
            offers: &offers,
            interface: Some("eth9"),
        };
        let found = rails(&ports, &ports, Said::by(&args(""))).expect("a rail");
        assert_eq!(found.all[0].theirs.device, "rxe0");
        let none = Ports {
            of: "storage2",
            offers: &[],
            interface: None,
        };
        let why = rails(&none, &ports, Said::by(&args("")))
            .err()
            .expect("none");
        assert!(
            why.to_string().contains("storage2 has no RDMA device"),
            "{why}"
        );
    }
}
