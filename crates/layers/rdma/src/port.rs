//! The ports that a trial goes over, opened and looked at before anything is asked of them.

use std::fs;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};
use strata_record::{RdmaEnd, Transport, Verbs};
use strata_units::{Bytes, NodeId};

use crate::verbs::{Context, LinkLayer, Mtu, Port, PortState, ProtectionDomain, VerbsError, open};

/// Bit 15 of a P_Key: full membership.
const FULL: u16 = 1 << 15;

/// A port of this side's, open.
pub(crate) struct OpenPort {
    pub(crate) end: RdmaEnd,
    pub(crate) context: Context,
    /// One a session: nothing of another's is reached by its keys.
    pub(crate) domain: ProtectionDomain,
    pub(crate) port: Port,
    pub(crate) node: Option<NodeId>,
    pub(crate) told: PortEnd,
}

/// What the other side must know of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortEnd {
    /// `mlx5_0/1`.
    pub(crate) name: String,
    /// Whether its packets are addressed by GIDs alone.
    pub(crate) ethernet: bool,
    pub(crate) lid: u16,
    /// 16 bytes in network order; none where the port was given none.
    pub(crate) gid: Option<[u8; 16]>,
    /// What the kernel calls its kind (`RoCE v2`); none where it does not say.
    pub(crate) gid_kind: Option<String>,
    pub(crate) mtu: Bytes,
    pub(crate) pkey: u16,
    /// RDMA reads and atomics that a queue pair has outstanding, and answers.
    pub(crate) reads: u8,
    pub(crate) answers: u8,
}

impl PortEnd {
    fn gid_text(&self) -> String {
        self.gid
            .map_or_else(|| "none".to_owned(), |gid| Ipv6Addr::from(gid).to_string())
    }
}

impl OpenPort {
    /// Opens it.
    ///
    /// # Errors
    /// The device or port is not there, or carries no data as it is, and why.
    pub(crate) fn open(end: &RdmaEnd, verbs: &Verbs) -> Result<OpenPort, VerbsError> {
        let context = open(&end.device)?;
        let port = context.port(end.port)?;
        usable(end, &port)?;
        let gid_index = match (port.link_layer, end.gid_index) {
            (_, Some(index)) => Some(index),
            (LinkLayer::InfiniBand, None) => None,
            (LinkLayer::Ethernet, None) => {
                return Err(VerbsError::Port(format!(
                    "{end} is Ethernet, whose packets are addressed by GIDs, and none was chosen; give --gid-index"
                )));
            }
        };
        let gid = gid_index
            .map(|index| context.gid(end.port, index.into()))
            .transpose()?;
        if gid.is_some_and(|gid| gid == [0; 16]) {
            return Err(VerbsError::Port(format!(
                "entry {} of the GIDs of {end} is empty: its interface has no such address; `strata rdma list` tells which there are, change --gid-index",
                gid_index.unwrap_or_default()
            )));
        }
        let pkey = context.pkey(end.port, verbs.pkey_index)?;
        if pkey & !FULL == 0 {
            return Err(VerbsError::Port(format!(
                "entry {} of the P_Keys of {end} is empty; `strata rdma list` tells which there are, change --pkey-index",
                verbs.pkey_index
            )));
        }
        let limits = *context.limits();
        let folder = format!("/sys/class/infiniband/{}", end.device);
        let kind = gid_index.and_then(|index| {
            let path = format!("{folder}/ports/{}/gid_attrs/types/{index}", end.port);
            Some(fs::read_to_string(path).ok()?.trim().to_owned())
        });
        let node = fs::read_to_string(format!("{folder}/device/numa_node"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(NodeId);
        let told = PortEnd {
            name: end.to_string(),
            ethernet: port.link_layer == LinkLayer::Ethernet,
            lid: port.lid,
            gid,
            gid_kind: kind,
            mtu: port.mtu.bytes(),
            pkey,
            reads: limits.reads_as_initiator,
            answers: limits.reads_as_responder,
        };
        Ok(OpenPort {
            end: RdmaEnd {
                gid_index,
                ..end.clone()
            },
            domain: ProtectionDomain::new(&context)?,
            context,
            port,
            node,
            told,
        })
    }

    /// How this port comes to that of the other side: with which packets, and how many reads at once.
    ///
    /// # Errors
    /// In words, what does not fit, before anything times out of it.
    pub(crate) fn agree(&self, theirs: &PortEnd, verbs: &Verbs) -> Result<Agreed, String> {
        let ours = &self.told;
        if ours.ethernet != theirs.ethernet {
            let layer = |ethernet| if ethernet { "Ethernet" } else { "InfiniBand" };
            return Err(format!(
                "{} is {} and {} of the other side is {}: they cannot reach each other; change --device or --peer-device",
                ours.name,
                layer(ours.ethernet),
                theirs.name,
                layer(theirs.ethernet)
            ));
        }
        if ours.gid.is_some() != theirs.gid.is_some() {
            return Err(format!(
                "{} has the GID {} and {} of the other side {}: both need one, or neither; change --gid-index or --peer-gid-index",
                ours.name,
                ours.gid_text(),
                theirs.name,
                theirs.gid_text()
            ));
        }
        if let (Some(our), Some(their)) = (&ours.gid_kind, &theirs.gid_kind)
            && our != their
        {
            return Err(format!(
                "the GID of {} is of {our} and that of {} of the other side of {their}: their packets differ; change --gid-index or --peer-gid-index (`strata rdma list` tells the kinds)",
                ours.name, theirs.name
            ));
        }
        let is_ipv4 = |gid: [u8; 16]| Ipv6Addr::from(gid).to_ipv4_mapped().is_some();
        if let (Some(our), Some(their)) = (ours.gid, theirs.gid)
            && ours.ethernet
            && is_ipv4(our) != is_ipv4(their)
        {
            return Err(format!(
                "the GID of {} is {} and that of {} of the other side {}: one is IPv4 and the other IPv6; change --gid-index or --peer-gid-index",
                ours.name,
                ours.gid_text(),
                theirs.name,
                theirs.gid_text()
            ));
        }
        self.agree_on_partition(theirs)?;
        let most = ours.mtu.min(theirs.mtu);
        let asked = verbs.mtu_bytes.unwrap_or(most);
        if asked > most {
            return Err(format!(
                "an --mtu of {asked} is more than both ports have: {} {}, {} of the other side {}",
                ours.name, ours.mtu, theirs.name, theirs.mtu
            ));
        }
        let Some(mtu) = Mtu::of_bytes(asked) else {
            return Err(format!(
                "an --mtu of {asked} is none; give 256, 512, 1KiB, 2KiB or 4KiB"
            ));
        };
        let (can, answered) = (ours.reads, theirs.answers);
        let reads = match verbs.reads {
            Some(reads) if reads > can.min(answered) => {
                return Err(format!(
                    "{reads} outstanding reads are beyond the devices: {} begins {can} and {} of the other side answers {answered}; lower --reads",
                    ours.name, theirs.name
                ));
            }
            Some(reads) => reads,
            None => can.min(answered),
        };
        Ok(Agreed {
            mtu,
            reads,
            answers: ours.answers.min(theirs.reads).max(1),
        })
    }

    fn agree_on_partition(&self, theirs: &PortEnd) -> Result<(), String> {
        let (our, their) = (self.told.pkey, theirs.pkey);
        let names = format!("{} and {} of the other side", self.told.name, theirs.name);
        if our & !FULL != their & !FULL {
            return Err(format!(
                "{names} are of different partitions (P_Keys {our:#06x} and {their:#06x}); change --pkey-index, or ask the subnet manager's partitions.conf"
            ));
        }
        if our & FULL == 0 && their & FULL == 0 {
            return Err(format!(
                "{names} are both limited members of partition {our:#06x}, who do not reach each other; change --pkey-index, or make one a full member"
            ));
        }
        Ok(())
    }
}

/// What two ports agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) mtu: Mtu,
    pub(crate) reads: u8,
    pub(crate) answers: u8,
}

/// Whether a port carries data as it is.
fn usable(end: &RdmaEnd, port: &Port) -> Result<(), VerbsError> {
    let why = match (port.state, port.link_layer) {
        (PortState::Active, _) => return Ok(()),
        (PortState::Init, LinkLayer::InfiniBand) if port.lid == 0 => {
            "is in INIT and has LID 0: no subnet manager has seen it; start opensm on a node of the fabric, or the switch's own".to_owned()
        }
        (PortState::Init | PortState::Armed, LinkLayer::InfiniBand) => {
            "is not active yet: a subnet manager has begun with it; wait, or look at its log".to_owned()
        }
        (PortState::Down, LinkLayer::Ethernet) => {
            "is down: bring its interface up (`ip link set DEV up`), look at cable and switch".to_owned()
        }
        (PortState::Down, LinkLayer::InfiniBand) => {
            "is down: look at cable and switch, and whether it is disabled (`ibportstate`)".to_owned()
        }
        (state, _) => format!("is in a state that carries no data ({state:?}); look at `strata rdma list`"),
    };
    Err(VerbsError::Port(format!("{end} {why}")))
}

/// Whether messages of that size fit.
///
/// # Errors
/// In words, by which port they do not.
pub(crate) fn fits(
    end: &RdmaEnd,
    port: &Port,
    transport: Transport,
    mtu: Mtu,
    bytes: Bytes,
) -> Result<(), String> {
    let (most, by) = if transport == Transport::Ud {
        (mtu.bytes(), "a datagram is one packet, of at most")
    } else {
        (port.message, "the port's largest message is")
    };
    if bytes <= most {
        return Ok(());
    }
    Err(format!(
        "a message of {bytes} does not go over {end}: {by} {most}; lower --bs"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(state: PortState, link_layer: LinkLayer, lid: u16) -> Port {
        Port {
            number: 1,
            state,
            link_layer,
            mtu: Mtu::of_bytes(Bytes(4096)).expect("an MTU"),
            message: Bytes(1 << 30),
            lid,
            sm_lid: 0,
            gids: 1,
            pkeys: 1,
        }
    }

    fn end() -> RdmaEnd {
        RdmaEnd {
            device: "mlx5_0".to_owned(),
            port: 1,
            gid_index: None,
        }
    }

    #[test]
    fn a_port_that_carries_nothing_says_why() {
        for (state, layer, lid, word) in [
            (
                PortState::Init,
                LinkLayer::InfiniBand,
                0,
                "no subnet manager",
            ),
            (PortState::Armed, LinkLayer::InfiniBand, 4, "not active yet"),
            (PortState::Down, LinkLayer::Ethernet, 0, "ip link set"),
            (PortState::Down, LinkLayer::InfiniBand, 0, "ibportstate"),
            (
                PortState::Other(9),
                LinkLayer::Ethernet,
                0,
                "strata rdma list",
            ),
        ] {
            let why = usable(&end(), &port(state, layer, lid)).expect_err("unusable");
            let why = why.to_string();
            assert!(
                why.starts_with("mlx5_0/1 is") && why.contains(word),
                "{why}"
            );
        }
        let active = port(PortState::Active, LinkLayer::Ethernet, 0);
        assert!(usable(&end(), &active).is_ok());
    }

    #[test]
    fn a_message_that_does_not_fit_says_by_what() {
        let (port, mtu) = (
            port(PortState::Active, LinkLayer::Ethernet, 0),
            Mtu::of_bytes(Bytes(1024)).expect("an MTU"),
        );
        let fits = |transport, bytes| fits(&end(), &port, transport, mtu, Bytes(bytes));
        assert_eq!(fits(Transport::Ud, 1024), Ok(()));
        let why = fits(Transport::Ud, 1025).expect_err("too long");
        assert!(why.contains("one packet") && why.contains("--bs"), "{why}");
        assert!(fits(Transport::Rc, 1 << 31).is_err());
    }
}
