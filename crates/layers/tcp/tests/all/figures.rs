//! What is counted is what arrived, for every size, depth and number of connections.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use strata_measure::TrialResult;
use strata_record::{Cell, Completes, Op, Role, WarningCode};
use strata_topology::{Root, Topology, WatchList};
use strata_units::{Bytes, CpuList, Nanos};

use crate::support::{GO, allowed, cell, children, job, run, timed};

pub(crate) const TESTS: [(&str, fn()); 8] = [
    ("requests_of_every_size_are_answered_and_timed", requests),
    ("streams_are_counted_by_their_receiver", streams),
    ("two_connections_count_together", two_connections),
    ("a_window_by_time_is_as_long_as_asked", by_time),
    ("what_the_ramp_did_is_in_no_figure", ramp),
    ("one_job_makes_many_trials", again),
    ("a_shared_cpu_is_warned_of", shared_cpu),
    ("the_interface_counts_what_went_through_it", watched),
];

/// Runs it, and checks what holds of every trial that went well.
#[track_caller]
fn measured(cell: &Cell) -> TrialResult {
    let label = cell.label();
    let result = run(&mut job(cell.clone()), &GO).unwrap_or_else(|e| panic!("{label}: {e}"));
    assert_eq!(result.failed, None, "{label}");
    let (m, w) = (&result.measured, &cell.workload);
    assert_eq!((m.errors, m.lost), (0, 0), "{label}");
    assert!(m.ops > 0 && m.window_s > 0.0, "{label}: {m:?}");
    close(m.ops_per_s * m.window_s, m.ops as f64, &label);
    let bytes = m.bytes_per_s.expect("bytes were moved") * m.window_s;
    close(bytes, (m.ops * w.block_bytes.0) as f64, &label);
    assert!(m.series.ops.iter().sum::<u64>() <= m.ops, "{label}");

    if w.op == Op::Stream {
        assert_eq!(m.completes, Completes::Received, "{label}");
        assert_eq!(m.latency_ns, None, "{label}: what is received has none");
    } else {
        assert_eq!(m.completes, Completes::RoundTrip, "{label}");
        let latency = m.latency_ns.as_ref().expect("round trips have latencies");
        assert_eq!(latency.count, m.ops, "{label}: each is timed");
        assert_eq!(decoded(&latency.histogram).len(), m.ops, "{label}");
        let slots = f64::from(w.depth.get()) * f64::from(w.threads);
        let most = slots * (1.0 + latency.max / (m.window_s * 1e9));
        let depth = m.mean_depth.expect("Little's law");
        assert!(
            depth > 0.0 && depth <= most * 1.001,
            "{label}: {depth} of {most}"
        );
    }
    assert!(result.harness.ns_per_op > 0.0, "{label}");
    assert!(result.bounds[0].share.is_some_and(|s| s > 0.0), "{label}");
    let peer = result.cost.peer_cpu_ns_per_op;
    assert!(peer.is_some_and(|ns| ns >= 0.0), "{label}: {peer:?}");

    let proof = &result.proof;
    assert_eq!(proof.contradictions, [""; 0], "{label}");
    for (role, asked) in [
        (Role::Measure, &cell.placement.cpus),
        (Role::Peer, &cell.placement.peer_cpus),
    ] {
        let threads: Vec<_> = proof.threads.iter().filter(|t| t.role == role).collect();
        let where_asked: CpuList = threads.iter().flat_map(|t| t.asked.iter()).collect();
        assert_eq!(
            (threads.len(), &where_asked),
            (usize::from(w.threads), asked),
            "{label}: {role:?}"
        );
        for thread in threads {
            assert_eq!(
                (&thread.seen, &thread.mask),
                (&thread.asked, &thread.asked),
                "{label}: {role:?}"
            );
        }
    }
    if proof.pages.is_empty() {
        assert!(!proof.missing.is_empty(), "{label}: untold without a word");
        println!("SKIP pages of {label}: {}", proof.missing.join("; "));
    }
    assert_eq!(children(), [], "{label}: the other side has ended");
    result
}

fn decoded(text: &str) -> Histogram<u64> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64");
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .expect("V2-deflate")
}

#[track_caller]
fn close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= expected.abs() * 1e-9,
        "{what}: {found}, expected {expected}"
    );
}

fn requests() {
    for (block, ops) in [
        (Bytes(1), 500),
        (Bytes(64), 500),
        // No divisor of what the other side reads at once.
        (Bytes(1000), 500),
        (Bytes(4096), 500),
        (Bytes::MIB, 40),
    ] {
        for depth in [1, 16] {
            let result = measured(&cell(Op::ReqRep, block, depth, ops));
            assert_eq!(result.measured.ops, ops, "{block} at depth {depth}");
        }
    }
}

fn streams() {
    for (block, ops) in [
        (Bytes::KIB, 5000),
        (Bytes::KIB * 128, 200),
        (Bytes::MIB, 50),
    ] {
        let result = measured(&cell(Op::Stream, block, 1, ops));
        assert_eq!(result.measured.ops, ops, "{block}");
    }
}

fn two_connections() {
    let [first, .., last] = allowed()[..] else {
        println!("SKIP two_connections_count_together: this process may use one CPU only");
        return;
    };
    for (op, block, depth, ops) in [
        (Op::ReqRep, Bytes(64), 1, 200),
        (Op::ReqRep, Bytes(4096), 16, 500),
        (Op::Stream, Bytes::KIB * 128, 1, 200),
    ] {
        let mut cell = cell(op, block, depth, ops);
        cell.workload.threads = 2;
        cell.placement.cpus = vec![first, last].into();
        cell.placement.peer_cpus = vec![first, last].into();
        let result = measured(&cell);
        assert_eq!(result.measured.ops, 2 * ops, "{}", cell.label());
    }
}

fn by_time() {
    let window = Nanos::from_millis(205);
    for (op, block, depth) in [
        (Op::ReqRep, Bytes(64), 1),
        (Op::ReqRep, Bytes(64), 16),
        (Op::Stream, Bytes::KIB, 1),
        (Op::Stream, Bytes::MIB, 1),
    ] {
        let mut cell = timed(cell(op, block, depth, 0), window);
        cell.workload.ramp_ns = Nanos::from_millis(30);
        let found = measured(&cell).measured;
        assert!(
            (found.window_s - window.as_secs_f64()).abs() < 1e-6,
            "{}: {}",
            cell.label(),
            found.window_s
        );
        assert_eq!(found.series.ops.len(), 20, "{}", cell.label());
    }
}

fn ramp() {
    for (op, block) in [(Op::ReqRep, Bytes(64)), (Op::Stream, Bytes::KIB)] {
        let mut cell = cell(op, block, 1, 3);
        // Many more than these are done in the ramp.
        cell.workload.ramp_ns = Nanos::from_millis(60);
        let result = measured(&cell);
        assert_eq!(result.measured.ops, 3, "{}", cell.label());
        let few = |w: &strata_record::Warning| w.code == WarningCode::FewOperations;
        assert!(result.warnings.iter().any(few), "{:?}", result.warnings);
    }
}

fn again() {
    let mut job = job(cell(Op::Stream, Bytes::KIB, 1, 1000));
    for _ in 0..3 {
        let result = run(&mut job, &GO).expect("a result");
        assert_eq!((result.measured.ops, result.failed), (1000, None));
    }
}

fn shared_cpu() {
    let cpus = allowed();
    let warned = |peer: usize| {
        let mut cell = cell(Op::ReqRep, Bytes(64), 1, 200);
        cell.placement.peer_cpus = vec![cpus[peer]].into();
        let warnings = measured(&cell).warnings;
        warnings.iter().any(|w| w.code == WarningCode::SharedCpu)
    };
    assert!(warned(0));
    if cpus.len() > 1 {
        assert!(!warned(1));
    } else {
        println!("SKIP a_shared_cpu_is_warned_of: this process may use one CPU only");
    }
}

fn watched() {
    let name = "the_interface_counts_what_went_through_it";
    let topology = Topology::read(&Root::live()).expect("this machine");
    for (op, block) in [(Op::ReqRep, Bytes(64)), (Op::Stream, Bytes::KIB * 64)] {
        let cell = timed(cell(op, block, 1, 1), Nanos::from_millis(200));
        let p = &cell.placement;
        let list = WatchList::of_interface(&topology, "lo", p.cpus.clone(), p.peer_cpus.clone());
        let mut job = job(cell).watching(list);
        let result = run(&mut job, &GO).expect("a result");
        let host = result.proof.host.as_ref().expect("watched");
        assert!(host.span_s >= result.measured.window_s, "{host:?}");
        let cpus = allowed().len().min(2);
        assert_eq!(host.cpus.len(), cpus, "both sides' CPUs, each once");
        let Some(lo) = host.interfaces.first() else {
            println!("SKIP {name}: {:?}", result.proof.missing);
            return;
        };
        // Others may use the loopback too: at least ours went through.
        let moved = result.measured.ops * block.0;
        assert!(lo.rx_bytes.0 >= moved, "{moved}: {lo:?}");
        let tcp = host.tcp.expect("counted where interfaces are");
        assert!(tcp.sent_segments > 0, "{tcp:?}");
        let again = |w: &strata_record::Warning| w.code == WarningCode::Retransmissions;
        assert_eq!(
            result.warnings.iter().any(again),
            tcp.retransmitted > 0,
            "{:?}",
            result.warnings
        );
    }
}
