//! Whether what was found after a trial agrees with the placement that was asked for.

use strata_record::{PagesProof, Role, ThreadProof};
use strata_topology::Watched;
use strata_units::{CpuList, NodeId};

/// What a watch found about a thread that was asked to run on `asked`, as a record has it; and what it could not find out.
pub fn thread_proof(role: Role, asked: CpuList, found: Watched) -> (ThreadProof, Option<String>) {
    let proof = ThreadProof {
        role,
        asked,
        mask: found.mask.unwrap_or_default(),
        seen: found.seen,
        samples: found.samples,
        migrations: found.migrations,
        voluntary_switches: found.voluntary_switches,
        involuntary_switches: found.involuntary_switches,
        user_ns: found.user,
        system_ns: found.system,
    };
    (proof, found.migrations_unknown)
}

/// What contradicts the placement, a sentence each; empty when all agrees. The rule never looks at the figure.
///
/// A thread contradicts it when it was seen on, or may still run on, a CPU other than those asked for, or when the kernel
/// moved it; buffers contradict it when any of their pages lies on another node than `mem_node`, or in no memory at all.
pub fn contradictions(
    threads: &[ThreadProof],
    pages: &[PagesProof],
    mem_node: Option<NodeId>,
) -> Vec<String> {
    let mut found = Vec::new();
    for thread in threads {
        let who = match thread.role {
            Role::Measure => "a measuring thread",
            Role::Peer => "a thread of the other side",
        };
        let asked = &thread.asked;
        let strayed = thread.seen.without(asked);
        if !strayed.is_empty() {
            found.push(format!(
                "{who} asked for CPU {asked} was seen on CPU {strayed}"
            ));
        }
        if thread.mask != *asked {
            found.push(format!(
                "{who} pinned to CPU {asked} may run on CPU {} at its end",
                thread.mask
            ));
        }
        if let Some(moves @ 1..) = thread.migrations {
            found.push(format!(
                "{who} on CPU {asked} was moved {moves} times by the kernel"
            ));
        }
    }
    if let Some(wanted) = mem_node {
        for part in pages
            .iter()
            .filter(|p| p.pages > 0 && p.node != Some(wanted))
        {
            let place = part
                .node
                .map_or_else(|| "in no memory".to_owned(), |n| format!("on node {n}"));
            found.push(format!(
                "{} pages of the buffers asked for on node {wanted} are {place}",
                part.pages
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_units::{Bytes, Nanos};

    fn thread(seen: &str, mask: &str, migrations: Option<u64>) -> ThreadProof {
        let list = |text: &str| text.parse().expect("a list");
        ThreadProof {
            role: Role::Measure,
            asked: list("3"),
            mask: list(mask),
            seen: list(seen),
            samples: 10,
            migrations,
            voluntary_switches: 0,
            involuntary_switches: 0,
            user_ns: Nanos(0),
            system_ns: Nanos(0),
        }
    }

    fn pages(node: Option<u32>, pages: u64) -> PagesProof {
        PagesProof {
            node: node.map(NodeId),
            pages,
            page_bytes: Bytes(4096),
        }
    }

    #[test]
    fn a_kept_placement_is_not_contradicted() {
        let threads = [thread("3", "3", Some(0)), thread("", "3", None)];
        assert_eq!(
            contradictions(&threads, &[pages(Some(1), 8)], Some(NodeId(1))),
            [""; 0]
        );
        assert_eq!(
            contradictions(&[], &[pages(Some(1), 8)], None),
            [""; 0],
            "unbound memory may lie anywhere"
        );
    }

    #[test]
    fn each_falsified_placement_is_found_out() {
        for (threads, pages, what) in [
            (vec![thread("2,3", "3", None)], vec![], "seen on CPU 2"),
            (vec![thread("3", "0-7", None)], vec![], "may run on CPU 0-7"),
            (vec![thread("3", "3", Some(2))], vec![], "moved 2 times"),
            (
                vec![],
                vec![pages(Some(1), 7), pages(Some(0), 1)],
                "1 pages of the buffers asked for on node 1 are on node 0",
            ),
            (vec![], vec![pages(None, 4)], "in no memory"),
        ] {
            let found = contradictions(&threads, &pages, Some(NodeId(1)));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(what), "{found:?}");
        }
    }
}
