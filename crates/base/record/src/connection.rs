//! What the kernel says about the connections of a trial (tcp(7), TCP_INFO).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{Bytes, CpuList};

use crate::{Direction, Role};

/// Least and greatest over some connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Least.
    pub min: u64,
    /// Greatest.
    pub max: u64,
}

impl Spread {
    /// That of some numbers; none when there are none.
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Option<Spread> {
        numbers
            .into_iter()
            .map(|n| Spread { min: n, max: n })
            .reduce(|a, b| Spread {
                min: a.min.min(b.min),
                max: a.max.max(b.max),
            })
    }
}

/// The connections of one side that carried one kind of bytes, read at the trial's end. A connection is of one trial, so
/// counts and times are the trial's, its ramp included. What a kernel does not tell (fields were added over the years) is
/// null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionsProof {
    /// The side that was asked.
    pub role: Role,
    /// Which way that side's bytes went; null for requests and replies.
    pub direction: Option<Direction>,
    /// How many there were.
    pub count: u64,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The congestion control in use (TCP_CONGESTION), each once.
    pub congestion: Vec<String>,
    /// Whether small messages went at once (TCP_NODELAY), on all of them.
    pub nodelay: bool,
    /// The send buffer at the end (SO_SNDBUF): the kernel doubles what is asked for, and lets others grow.
    pub send_buffer_bytes: Option<Spread>,
    /// The receive buffer at the end (SO_RCVBUF), likewise.
    pub receive_buffer_bytes: Option<Spread>,
    /// How long the kernel polled the device's queue (SO_BUSY_POLL).
    pub busy_poll_us: Option<Spread>,
    /// Largest segment that was sent (tcpi_snd_mss).
    pub mss_bytes: Option<Spread>,
    /// Smoothed round-trip time.
    pub rtt_us: Option<Spread>,
    /// Its mean deviation.
    pub rttvar_us: Option<Spread>,
    /// Least round-trip time.
    pub min_rtt_us: Option<Spread>,
    /// Congestion window in segments.
    pub send_window_segments: Option<Spread>,
    /// Segments that may arrive out of order before one counts as lost.
    pub reordering_segments: Option<Spread>,
    /// The rate at which segments may leave.
    pub pacing_bytes_per_s: Option<Spread>,
    /// Segments sent, all together.
    pub sent_segments: Option<u64>,
    /// Segments sent once more, all together.
    pub retransmitted_segments: Option<u64>,
    /// Bytes sent once more, all together.
    pub retransmitted_bytes: Option<u64>,
    /// Segments taken for lost at the end and not yet sent once more.
    pub lost_segments: Option<u64>,
    /// Segments that arrived.
    pub delivered_segments: Option<u64>,
    /// Time with something to send.
    pub busy_us: Option<Spread>,
    /// Part of it that the other side's receive window held back.
    pub rwnd_limited_us: Option<Spread>,
    /// Part of it that the own send buffer held back.
    pub sndbuf_limited_us: Option<Spread>,
    /// Sends without a copy (MSG_ZEROCOPY); null when they were not asked for.
    pub zerocopy: Option<ZeroCopyProof>,
    /// The interface of their addresses; null when it could not be told.
    pub interface: Option<InterfaceLayout>,
}

/// What became of sends with MSG_ZEROCOPY (Documentation/networking/msg_zerocopy.rst of the kernel).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ZeroCopyProof {
    /// Calls that sent something.
    pub sends: u64,
    /// Calls whose notification came back.
    pub completions: u64,
    /// Notifications that said that the kernel had copied after all; over loopback all of them do.
    pub copied: u64,
    /// Calls that found no room for one more notification (ENOBUFS) and were repeated.
    pub no_room: u64,
}

/// A network interface and how what arrives there is spread over CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceLayout {
    /// Its name.
    pub name: String,
    /// Its device's driver; null for an interface without a device.
    pub driver: Option<String>,
    /// The CPUs that each receive queue hands packets on to (rps_cpus), in the queues' order; an empty list: none, packets
    /// stay where the interrupt went.
    pub receive_queues: Vec<CpuList>,
    /// How many send queues there are.
    pub send_queues: u64,
    /// Largest packet.
    pub mtu_bytes: Option<Bytes>,
}
