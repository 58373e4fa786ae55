//! What of a workload cannot be done by verbs, and which option to change.

use strata_record::{Connect, Direction, Op, Transport};
use strata_units::{Bytes, QueueDepth};

use crate::shape::{BUDGET, PACKET, Shape, WORD};

/// The largest message: what the devices' largest is, or a region.
const MOST: Bytes = Bytes(1 << 30);

/// The most queue pairs of one side.
const MOST_PAIRS: u64 = 4096;

impl Shape {
    /// Whether it can be.
    ///
    /// # Errors
    /// What of it cannot, and which option to change.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (w, v) = (&self.workload, &self.verbs);
        let (op, service) = (w.op, v.transport);
        if !op.is_rdma() {
            return Err(format!(
                "`{op}` is no operation of the rdma layer; expected write, write-imm, read, send, fetch-add, or write-pingpong, write-imm-pingpong, send-pingpong"
            ));
        }
        let of_rc = matches!(op, Op::Read | Op::FetchAdd);
        if of_rc && service != Transport::Rc {
            return Err(format!("{service} has no {op}; give --transport rc"));
        }
        if service == Transport::Ud && !matches!(op, Op::Send | Op::SendPingPong) {
            return Err(format!(
                "ud has no {op}: datagrams are sent only; give --op send, or --transport rc"
            ));
        }
        if service == Transport::Uc && op == Op::Write {
            return Err("a write over uc is acknowledged by nobody and seen by nobody, so that none can be counted; give --op write-imm, or --transport rc".to_owned());
        }
        if op == Op::FetchAdd && w.block_bytes != WORD {
            return Err(format!(
                "an atomic works on 8 bytes, and {} were given; leave --bs out",
                w.block_bytes
            ));
        }
        let most = if service == Transport::Ud {
            PACKET
        } else {
            MOST
        };
        if w.block_bytes < Bytes(1) || w.block_bytes > most {
            return Err(format!(
                "a message of {} is none; give a --bs from 1 to {most}",
                w.block_bytes
            ));
        }
        if w.streams == 0 || w.threads == 0 || v.batch == 0 || v.signal_every == 0 {
            return Err("--qps, --threads, --batch and --signal-every are 1 at least".to_owned());
        }
        if v.rails.is_empty() {
            return Err("there is no port to go over; give --device".to_owned());
        }
        if v.rails.len() > usize::from(w.threads) {
            return Err(format!(
                "{} rails need a thread each, and there are {}; raise --threads",
                v.rails.len(),
                w.threads
            ));
        }
        if op.is_pingpong() {
            self.check_pingpong()?;
        } else {
            self.check_stream()?;
        }
        if v.connect == Connect::Cm && service != Transport::Rc {
            return Err(format!(
                "{service} is not connected by rdma_cm here; give --connect control, or --transport rc"
            ));
        }
        let pairs = u64::from(w.streams) * u64::from(w.threads) * 2;
        if pairs > MOST_PAIRS {
            return Err(format!(
                "{pairs} queue pairs are more than {MOST_PAIRS}; lower --qps or --threads"
            ));
        }
        let slots = u64::from(w.depth.get()) * u64::from(w.streams);
        if slots > u64::from(QueueDepth::MAX.get()) {
            return Err(format!(
                "{} queue pairs at depth {} are {slots} operations in flight on a thread, and the most is {}; lower --qps or --depth",
                w.streams,
                w.depth,
                QueueDepth::MAX
            ));
        }
        Ok(())
    }

    fn check_pingpong(&self) -> Result<(), String> {
        let (w, v) = (&self.workload, &self.verbs);
        if w.depth.get() > 1 || v.batch > 1 || v.signal_every > 1 {
            return Err("of a ping-pong one message is under way on a queue pair; leave --depth, --batch and --signal-every out, or raise --qps".to_owned());
        }
        if w.direction.is_some() {
            return Err("a ping-pong goes both ways; leave --direction out".to_owned());
        }
        if w.verify {
            return Err("a ping-pong's content is not checked; leave --verify out, or give --op send, write or read".to_owned());
        }
        if self.places().number < self.lanes() {
            return Err(format!(
                "{} messages of {} are more than {BUDGET} a thread, within which each queue pair has a place of its own; lower --qps or --bs",
                w.streams, w.block_bytes
            ));
        }
        if w.op == Op::WritePingPong && v.relaxed_ordering {
            return Err("a ping-pong that looks into memory for the last byte needs bytes to be placed in order; leave --relaxed-ordering out, or give --op write-imm-pingpong".to_owned());
        }
        Ok(())
    }

    fn check_stream(&self) -> Result<(), String> {
        let (w, v) = (&self.workload, &self.verbs);
        let depth = w.depth.get();
        if v.signal_every > depth || v.batch > depth {
            return Err(format!(
                "with {depth} in flight no {} come together; raise --depth, or lower --signal-every and --batch",
                v.signal_every.max(v.batch)
            ));
        }
        if w.rate.is_some() && (v.signal_every > 1 || v.batch > 1) {
            return Err("what comes by a schedule waits for no batch; leave --batch and --signal-every out, or --rate".to_owned());
        }
        if v.signal_every > 1 && v.transport == Transport::Ud {
            return Err("datagrams complete one by one here; leave --signal-every out".to_owned());
        }
        if w.rate.is_some() && !v.transport.is_reliable() {
            return Err(format!(
                "over {} the receiver counts, and has no schedule; leave --rate out, or give --transport rc",
                v.transport
            ));
        }
        if w.direction == Some(Direction::Both) && w.duration_ns.is_none() {
            return Err(
                "both directions are measured over equal times; give --duration, not --ops"
                    .to_owned(),
            );
        }
        if w.verify {
            if w.block_bytes < Bytes(8) && !v.transport.is_reliable() {
                return Err("what may be lost is checked by the number that it carries, in 8 bytes; raise --bs, or leave --verify out".to_owned());
            }
            if w.op == Op::WriteImm && !v.transport.is_reliable() {
                return Err(format!(
                    "over {} writes that are lost leave older ones in their places, which look wrong; leave --verify out, or give --op send",
                    v.transport
                ));
            }
            if self.places().number < self.slots() {
                return Err(format!(
                    "{} messages of {} are more than {BUDGET} a thread, within which each has a place to be checked; lower --depth, --qps or --bs",
                    self.slots(),
                    w.block_bytes
                ));
            }
        }
        Ok(())
    }
}
