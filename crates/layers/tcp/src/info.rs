//! What the kernel says about a connection: TCP_INFO, and its options read back.

use std::net::{IpAddr, TcpStream};

use strata_record::{ConnectionsProof, Spread};

use crate::account::{Account, sum};
use crate::interface;
use crate::options::{congestion_of, number};
use crate::sys;

/// What was found about one connection at its end.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    local: Option<IpAddr>,
    congestion: Option<String>,
    nodelay: bool,
    send_buffer: Option<u64>,
    receive_buffer: Option<u64>,
    busy_poll: Option<u64>,
    info: Info,
}

impl Facts {
    pub(crate) fn of(socket: &TcpStream) -> Facts {
        let option = |name| number(socket, libc::SOL_SOCKET, name);
        Facts {
            local: socket.local_addr().ok().map(|a| a.ip()),
            congestion: congestion_of(socket).ok(),
            nodelay: socket.nodelay().unwrap_or(false),
            send_buffer: option(libc::SO_SNDBUF),
            receive_buffer: option(libc::SO_RCVBUF),
            busy_poll: option(libc::SO_BUSY_POLL),
            info: Info::of(socket),
        }
    }
}

/// `struct tcp_info` of linux/tcp.h, as many bytes of it as this kernel has: it only ever grew at its end.
#[derive(Debug, Clone)]
struct Info(Vec<u8>);

impl Info {
    fn of(socket: &TcpStream) -> Info {
        // More than any kernel has so far.
        let mut bytes = vec![0; 512];
        let len = sys::option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut bytes).unwrap_or(0);
        bytes.truncate(len);
        Info(bytes)
    }

    fn u32(&self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..at + 4)?;
        Some(u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..at + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// What has the greatest number for "not known" or "no limit".
    fn known(value: Option<u64>, unknown: u64) -> Option<u64> {
        value.filter(|n| *n != unknown)
    }
}

/// The connections of one side and kind in one line, and what of them could not be proved. Of no connections there is none.
pub(crate) fn proof(accounts: &[&Account], missing: &mut Vec<String>) -> Option<ConnectionsProof> {
    let first = accounts.first()?;
    let facts: Vec<&Facts> = accounts.iter().flat_map(|a| &a.facts).collect();
    let local = facts.first()?.local;
    let spread =
        |of: &dyn Fn(&Facts) -> Option<u64>| Spread::of(facts.iter().filter_map(|f| of(f)));
    let total = |of: &dyn Fn(&Facts) -> Option<u64>| {
        facts
            .iter()
            .filter_map(|f| of(f))
            .reduce(u64::saturating_add)
    };
    let mut congestion: Vec<String> = facts.iter().filter_map(|f| f.congestion.clone()).collect();
    congestion.sort();
    congestion.dedup();
    let interface = local.and_then(|ip| match interface::of(ip) {
        Ok((found, unknown)) => {
            missing.extend(unknown);
            Some(found)
        }
        Err(why) => {
            missing.push(why);
            None
        }
    });
    let zerocopy = sum(accounts.iter().filter_map(|a| a.zerocopy));
    Some(ConnectionsProof {
        role: first.role,
        direction: first.direction,
        count: facts.len() as u64,
        family: if local.is_some_and(|ip| ip.is_ipv6()) {
            "ipv6"
        } else {
            "ipv4"
        }
        .to_owned(),
        congestion,
        nodelay: facts.iter().all(|f| f.nodelay),
        send_buffer_bytes: spread(&|f| f.send_buffer),
        receive_buffer_bytes: spread(&|f| f.receive_buffer),
        busy_poll_us: spread(&|f| f.busy_poll),
        mss_bytes: spread(&|f| f.info.u32(16)),
        lost_segments: total(&|f| f.info.u32(32)),
        rtt_us: spread(&|f| f.info.u32(68)),
        rttvar_us: spread(&|f| f.info.u32(72)),
        send_window_segments: spread(&|f| f.info.u32(80)),
        reordering_segments: spread(&|f| f.info.u32(88)),
        retransmitted_segments: total(&|f| f.info.u32(100)),
        pacing_bytes_per_s: spread(&|f| Info::known(f.info.u64(104), u64::MAX)),
        sent_segments: total(&|f| f.info.u32(136)),
        min_rtt_us: spread(&|f| Info::known(f.info.u32(148), u64::from(u32::MAX))),
        busy_us: spread(&|f| f.info.u64(168)),
        rwnd_limited_us: spread(&|f| f.info.u64(176)),
        sndbuf_limited_us: spread(&|f| f.info.u64(184)),
        delivered_segments: total(&|f| f.info.u32(192)),
        retransmitted_bytes: total(&|f| f.info.u64(208)),
        zerocopy,
        interface,
    })
}

/// All lines of one side.
pub(crate) fn proofs(accounts: &[Account], missing: &mut Vec<String>) -> Vec<ConnectionsProof> {
    let mut kinds: Vec<_> = accounts.iter().map(|a| a.direction).collect();
    kinds.sort();
    kinds.dedup();
    kinds
        .into_iter()
        .filter_map(|kind| {
            let of: Vec<&Account> = accounts.iter().filter(|a| a.direction == kind).collect();
            proof(&of, missing)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn a_shorter_structure_of_an_older_kernel_has_fewer_fields() {
        let info = Info((0..104).collect());
        assert_eq!(
            info.u32(100),
            Some(u64::from(u32::from_ne_bytes([100, 101, 102, 103])))
        );
        assert_eq!(
            (info.u32(101), info.u64(104), info.u64(208)),
            (None, None, None)
        );
    }

    /// The C library's structure ends at tcpi_total_retrans, but what it has is where we look.
    #[test]
    fn fields_lie_where_the_c_library_has_them() {
        for (ours, theirs) in [
            (16, offset_of!(libc::tcp_info, tcpi_snd_mss)),
            (32, offset_of!(libc::tcp_info, tcpi_lost)),
            (68, offset_of!(libc::tcp_info, tcpi_rtt)),
            (72, offset_of!(libc::tcp_info, tcpi_rttvar)),
            (80, offset_of!(libc::tcp_info, tcpi_snd_cwnd)),
            (88, offset_of!(libc::tcp_info, tcpi_reordering)),
            (100, offset_of!(libc::tcp_info, tcpi_total_retrans)),
        ] {
            assert_eq!(ours, theirs);
        }
    }
}
