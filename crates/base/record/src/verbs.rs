//! How queue pairs of the rdma layer are made and connected (verbs(7), rdma_cm(7)).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, NodeId};

use crate::{Op, Role};

/// The service of a queue pair (InfiniBand Architecture Specification, volume 1, 9.7 and 9.8).
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Reliable connection: acknowledged, in order, nothing lost.
    #[default]
    Rc,
    /// Unreliable connection: what is lost stays lost.
    Uc,
    /// Unreliable datagrams: no connection, and a message is a packet.
    Ud,
}

impl Transport {
    /// Whether the other side acknowledges.
    pub fn is_reliable(self) -> bool {
        self == Transport::Rc
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transport::Rc => "rc",
            Transport::Uc => "uc",
            Transport::Ud => "ud",
        })
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Transport, String> {
        match text {
            "rc" => Ok(Transport::Rc),
            "uc" => Ok(Transport::Uc),
            "ud" => Ok(Transport::Ud),
            "dc" | "xrc" | "srd" | "rd" => {
                Err(format!("{text} is not supported; expected rc, uc or ud"))
            }
            _ => Err("expected rc, uc or ud".to_owned()),
        }
    }
}

/// How two queue pairs come to know each other.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Connect {
    /// Over the control channel.
    #[default]
    Control,
    /// By the connection manager, from IP addresses (rdma_cm(7)).
    Cm,
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Connect::Control => "control",
            Connect::Cm => "cm",
        })
    }
}

impl FromStr for Connect {
    type Err = String;

    fn from_str(text: &str) -> Result<Connect, String> {
        match text {
            "control" => Ok(Connect::Control),
            "cm" => Ok(Connect::Cm),
            _ => Err("expected control or cm".to_owned()),
        }
    }
}

/// A port of one side, and which of its addresses is used.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct RdmaEnd {
    /// The device (`mlx5_0`).
    pub device: String,
    /// Its port, from 1.
    pub port: u8,
    /// Index of the GID; null on a port that was given none.
    pub gid_index: Option<u8>,
}

impl fmt::Display for RdmaEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.port)
    }
}

/// A pair of ports.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Rail {
    /// Of the side that was asked to measure.
    pub ours: RdmaEnd,
    /// Of the other side.
    pub theirs: RdmaEnd,
}

/// How the queue pairs of a cell are made. Threads take its rails in turn.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Verbs {
    /// The pairs of ports.
    pub rails: Vec<Rail>,
    /// The service.
    pub transport: Transport,
    /// How they are connected.
    pub connect: Connect,
    /// Payload of a packet; null: as large as both ports have.
    pub mtu_bytes: Option<Bytes>,
    /// Messages of up to so many bytes are copied into their requests.
    pub inline_bytes: Bytes,
    /// So many requests, at least, go behind one doorbell.
    pub batch: u16,
    /// Each so manyeth request has a completion of its own.
    pub signal_every: u16,
    /// Whether devices may write memory in another order than bytes came.
    pub relaxed_ordering: bool,
    /// RDMA reads and atomics that a queue pair has outstanding; null: as many as both devices have.
    pub reads: Option<u8>,
    /// Index of the partition's key.
    pub pkey_index: u16,
    /// Service level.
    pub service_level: u8,
    /// Traffic class of packets with a GID.
    pub traffic_class: u8,
    /// An acknowledgement is awaited for 4.096 µs × 2^this.
    pub timeout: u8,
    /// How often a packet is sent again.
    pub retries: u8,
    /// How often a receiver that is not ready is tried again; 7 is forever.
    pub rnr_retries: u8,
}

impl Verbs {
    /// The usual ones over these ports: as perftest has them.
    pub fn over(rails: Vec<Rail>) -> Verbs {
        Verbs {
            rails,
            transport: Transport::Rc,
            connect: Connect::Control,
            mtu_bytes: None,
            inline_bytes: Bytes(0),
            batch: 1,
            signal_every: 1,
            relaxed_ordering: false,
            reads: None,
            pkey_index: 0,
            service_level: 0,
            traffic_class: 0,
            timeout: 14,
            retries: 7,
            rnr_retries: 7,
        }
    }

    /// Bytes inlined where nobody says otherwise: a ping-pong's small messages, whose way through memory would be timed.
    pub fn inlined(op: Op) -> Bytes {
        Bytes(if op.is_pingpong() { 64 } else { 0 })
    }

    /// What differs from the usual, a word each: `uc`, `mtu=1KiB`, `batch=16`, `signal=32`.
    pub fn words(&self, op: Op) -> Vec<String> {
        let usual = Verbs {
            inline_bytes: Verbs::inlined(op),
            ..Verbs::over(Vec::new())
        };
        let mut words = Vec::new();
        let mut word = |differs: bool, said: String| {
            if differs {
                words.push(said);
            }
        };
        word(
            self.transport != usual.transport,
            self.transport.to_string(),
        );
        word(self.connect != usual.connect, self.connect.to_string());
        word(
            self.mtu_bytes.is_some(),
            format!("mtu={}", self.mtu_bytes.unwrap_or_default()),
        );
        word(
            self.inline_bytes != usual.inline_bytes,
            format!("inline={}", self.inline_bytes),
        );
        word(self.batch != usual.batch, format!("batch={}", self.batch));
        word(
            self.signal_every != usual.signal_every,
            format!("signal={}", self.signal_every),
        );
        word(self.relaxed_ordering, "relaxed".to_owned());
        word(
            self.reads.is_some(),
            format!("reads={}", self.reads.unwrap_or_default()),
        );
        for (what, is, was) in [
            ("pkey", self.pkey_index, usual.pkey_index),
            ("sl", self.service_level.into(), 0),
            ("tc", self.traffic_class.into(), 0),
            ("timeout", self.timeout.into(), usual.timeout.into()),
            ("retries", self.retries.into(), usual.retries.into()),
            ("rnr", self.rnr_retries.into(), usual.rnr_retries.into()),
        ] {
            word(is != was, format!("{what}={is}"));
        }
        word(self.rails.len() > 1, format!("{} rails", self.rails.len()));
        words
    }
}

/// What the queue pairs of one side over one rail were, and what they carried in the whole trial, its ramp included. A
/// write's completion is the responder's acknowledgement (or the device's, where nothing is acknowledged): it tells neither
/// that the bytes are visible to its CPUs nor that they are persistent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueuePairsProof {
    /// The side.
    pub role: Role,
    /// Its port.
    #[serde(flatten)]
    pub end: RdmaEnd,
    /// The memory node of its device; null when untold.
    pub node: Option<NodeId>,
    /// How many queue pairs.
    pub count: u64,
    /// `InfiniBand` or `Ethernet`.
    pub link_layer: String,
    /// The GID in use; null for packets that carry none.
    pub gid: Option<String>,
    /// The key of the partition; bit 15 is full membership.
    pub pkey: u16,
    /// Payload of a packet.
    pub mtu_bytes: Bytes,
    /// Bytes that a request may carry inline.
    pub inline_bytes: Bytes,
    /// RDMA reads and atomics that each may have outstanding.
    pub reads: u8,
    /// Operations that they began and that completed.
    pub ops: u64,
    /// Bytes of those.
    pub bytes: Bytes,
    /// Messages that arrived, of those that take a receive.
    pub received: u64,
    /// Registered memory.
    pub memory_bytes: Bytes,
    /// By what a write's arrival is seen: `memory`, `immediate`; null for other operations.
    pub seen_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_what_is_not_supported_is_said() {
        for transport in [Transport::Rc, Transport::Uc, Transport::Ud] {
            assert_eq!(transport.to_string().parse(), Ok(transport));
        }
        for connect in [Connect::Control, Connect::Cm] {
            assert_eq!(connect.to_string().parse(), Ok(connect));
        }
        let why = "dc".parse::<Transport>().expect_err("not ours");
        assert!(why.contains("not supported"), "{why}");
    }

    #[test]
    fn only_what_is_not_usual_is_told() {
        let usual = Verbs::over(Vec::new());
        assert_eq!(usual.words(Op::Write), [""; 0]);
        let other = Verbs {
            transport: Transport::Uc,
            mtu_bytes: Some(Bytes(1024)),
            signal_every: 32,
            ..usual
        };
        assert_eq!(other.words(Op::Write), ["uc", "mtu=1KiB", "signal=32"]);
        // Of a ping-pong small messages are inlined.
        assert_eq!(
            Verbs::over(Vec::new()).words(Op::SendPingPong),
            ["inline=0B"]
        );
    }
}
