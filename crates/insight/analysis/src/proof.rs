//! What the proofs of a cell's trials say together.

use std::collections::{BTreeMap, BTreeSet};

use strata_record::{ClockSource, Proof, Role, ThreadProof};
use strata_units::{Bytes, CpuId, CpuList, Nanos, NodeId};

use crate::{HostDigest, Trial};

/// One thread over all trials of a cell, the excluded ones too: that is where a contradiction shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadDigest {
    /// Its side.
    pub role: Role,
    /// The CPUs that it was to run on.
    pub asked: CpuList,
    /// Its affinity as read back, of all trials together.
    pub mask: CpuList,
    /// The CPUs on which it was seen, of all trials together.
    pub seen: CpuList,
    /// How often it was looked at, in all trials.
    pub samples: u64,
    /// Most migrations of one trial; none when the kernel did not say for any.
    pub migrations: Option<u64>,
    /// Most context switches of one trial that it asked for.
    pub voluntary_switches: u64,
    /// Most context switches of one trial that were forced on it.
    pub involuntary_switches: u64,
    /// Its CPU time outside the kernel, in all trials.
    pub user_ns: Nanos,
    /// Its CPU time in the kernel, in all trials.
    pub system_ns: Nanos,
}

/// Pages of one node and size: the least and the greatest number found in a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagesDigest {
    /// The node; none for pages that are not in memory.
    pub node: Option<NodeId>,
    /// Their size.
    pub page_bytes: Bytes,
    /// Fewest in one trial.
    pub least: u64,
    /// Most in one trial.
    pub most: u64,
}

/// How time was told, at worst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockDigest {
    /// What told it.
    pub source: ClockSource,
    /// Largest error of a span in parts per million.
    pub error_ppm: f64,
    /// Largest cost of a reading in nanoseconds.
    pub read_ns: f64,
}

/// What the proofs of a cell's trials say together.
#[derive(Debug, Clone, PartialEq)]
pub struct ProofDigest {
    /// How many trials have a proof.
    pub trials: usize,
    /// A line a thread, in the order of the records.
    pub threads: Vec<ThreadDigest>,
    /// A line for each node and size of page.
    pub pages: Vec<PagesDigest>,
    /// The clock.
    pub clock: ClockDigest,
    /// What the host did meanwhile; none when no trial's was watched.
    pub host: Option<HostDigest>,
    /// What contradicts the placement: round and finding.
    pub contradictions: Vec<(u32, String)>,
    /// What could not be proved, each once.
    pub missing: Vec<String>,
}

impl ProofDigest {
    pub(crate) fn of(trials: &[Trial<'_>]) -> Option<Self> {
        let proofs: Vec<(u32, &Proof)> = trials
            .iter()
            .filter_map(|t| Some((t.record.round, t.record.proof.as_ref()?)))
            .collect();
        let (_, first) = proofs.first()?;
        let most = |of: fn(&Proof) -> f64| proofs.iter().map(|(_, p)| of(p)).fold(0.0, f64::max);
        let threads = proofs
            .iter()
            .map(|(_, p)| p.threads.len())
            .max()
            .unwrap_or(0);
        Some(Self {
            trials: proofs.len(),
            threads: (0..threads)
                .filter_map(|at| thread(proofs.iter().filter_map(|(_, p)| p.threads.get(at))))
                .collect(),
            pages: pages(&proofs),
            clock: ClockDigest {
                source: first.clock.source,
                error_ppm: most(|p| p.clock.error_ppm),
                read_ns: most(|p| p.clock.read_ns),
            },
            host: HostDigest::of(proofs.iter().map(|(_, p)| *p)),
            contradictions: proofs
                .iter()
                .flat_map(|(round, p)| p.contradictions.iter().map(|c| (*round, c.clone())))
                .collect(),
            missing: proofs
                .iter()
                .flat_map(|(_, p)| p.missing.iter().cloned())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        })
    }
}

fn thread<'p>(mut proofs: impl Iterator<Item = &'p ThreadProof>) -> Option<ThreadDigest> {
    let union = |a: &CpuList, b: &CpuList| -> CpuList {
        a.iter().chain(b.iter()).collect::<Vec<CpuId>>().into()
    };
    let first = proofs.next()?;
    let start = ThreadDigest {
        role: first.role,
        asked: first.asked.clone(),
        mask: first.mask.clone(),
        seen: first.seen.clone(),
        samples: first.samples,
        migrations: first.migrations,
        voluntary_switches: first.voluntary_switches,
        involuntary_switches: first.involuntary_switches,
        user_ns: first.user_ns,
        system_ns: first.system_ns,
    };
    Some(proofs.fold(start, |so_far, next| ThreadDigest {
        role: so_far.role,
        asked: union(&so_far.asked, &next.asked),
        mask: union(&so_far.mask, &next.mask),
        seen: union(&so_far.seen, &next.seen),
        samples: so_far.samples.saturating_add(next.samples),
        migrations: so_far.migrations.max(next.migrations),
        voluntary_switches: so_far.voluntary_switches.max(next.voluntary_switches),
        involuntary_switches: so_far.involuntary_switches.max(next.involuntary_switches),
        user_ns: Nanos(so_far.user_ns.0.saturating_add(next.user_ns.0)),
        system_ns: Nanos(so_far.system_ns.0.saturating_add(next.system_ns.0)),
    }))
}

fn pages(proofs: &[(u32, &Proof)]) -> Vec<PagesDigest> {
    let mut found: BTreeMap<(Option<NodeId>, Bytes), Vec<u64>> = BTreeMap::new();
    for (_, proof) in proofs {
        for pages in &proof.pages {
            found
                .entry((pages.node, pages.page_bytes))
                .or_default()
                .push(pages.pages);
        }
    }
    found
        .into_iter()
        .map(|((node, page_bytes), counts)| PagesDigest {
            node,
            page_bytes,
            // A trial without pages of this kind had none.
            least: if counts.len() < proofs.len() {
                0
            } else {
                counts.iter().copied().min().unwrap_or(0)
            },
            most: counts.iter().copied().max().unwrap_or(0),
        })
        .collect()
}
