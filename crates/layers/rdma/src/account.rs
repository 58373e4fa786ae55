//! What threads leave behind for the trial's proof: they end, with all that they had, before it is made.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use strata_record::{PagesProof, QueuePairsProof, Role};
use strata_units::Bytes;

use crate::port::OpenPort;

/// What one thread did over its port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    /// Which of the trial's rails.
    pub(crate) rail: usize,
    pub(crate) queue_pairs: u64,
    pub(crate) mtu: Bytes,
    pub(crate) inline: Bytes,
    pub(crate) reads: u8,
    /// Operations that it began and that completed.
    pub(crate) ops: u64,
    pub(crate) bytes: Bytes,
    pub(crate) received: u64,
    /// Messages of the other side's that never came.
    pub(crate) lost: u64,
    pub(crate) memory: Bytes,
    pub(crate) seen_by: Option<&'static str>,
    pub(crate) pages: Vec<PagesProof>,
    pub(crate) notes: Vec<String>,
    /// What was found wrong in its memory, or about what came.
    pub(crate) wrong: Option<String>,
}

/// The accounts of all threads of one side.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<Vec<Account>>);

impl Accounts {
    pub(crate) fn add(&self, account: Account) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(account);
    }

    pub(crate) fn all(&self) -> Vec<Account> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A line a port.
pub(crate) fn proofs(all: &[Account], ports: &[OpenPort], role: Role) -> Vec<QueuePairsProof> {
    let mut lines: BTreeMap<usize, QueuePairsProof> = BTreeMap::new();
    for account in all {
        let Some(port) = ports.get(account.rail) else {
            continue;
        };
        let line = lines
            .entry(account.rail)
            .or_insert_with(|| QueuePairsProof {
                role,
                end: port.end.clone(),
                node: port.node,
                count: 0,
                link_layer: if port.told.ethernet {
                    "Ethernet"
                } else {
                    "InfiniBand"
                }
                .to_owned(),
                gid: port
                    .told
                    .gid
                    .map(|gid| std::net::Ipv6Addr::from(gid).to_string()),
                pkey: port.told.pkey,
                mtu_bytes: account.mtu,
                inline_bytes: account.inline,
                reads: account.reads,
                ops: 0,
                bytes: Bytes(0),
                received: 0,
                memory_bytes: Bytes(0),
                seen_by: account.seen_by.map(str::to_owned),
            });
        line.count += account.queue_pairs;
        line.ops += account.ops;
        line.bytes = line.bytes + account.bytes;
        line.received += account.received;
        line.memory_bytes = line.memory_bytes + account.memory;
    }
    lines.into_values().collect()
}
