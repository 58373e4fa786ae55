//! What two crews found, each as one side of a trial, in one result.

use std::sync::atomic::AtomicBool;

use strata_measure::two_sides::{Report, both, join, there};
use strata_measure::{Crew, CrewRun, Load, Member, NullEngine, Stream, Window};
use strata_record::{Direction, Op, Role, TimedBy};
use strata_topology::{Allowed, Root, Topology};
use strata_units::{Bytes, CpuId, Nanos, QueueDepth};

const BLOCK: Bytes = Bytes(4096);

/// A side that did so many operations.
fn side(role: Role, ops: u64) -> CrewRun {
    let root = Root::live();
    let topology = Topology::read(&root).expect("this machine");
    let cpus: Vec<CpuId> = Allowed::read(&root, &topology).cpus.iter().collect();
    let stop = AtomicBool::new(false);
    let crew = Crew {
        cpus: &cpus[..1],
        role,
        load: Load {
            depth: QueueDepth::new(4).expect("a depth"),
            offer: None,
            ramp: Nanos(0),
            window: Window::Ops(ops),
            timed_by: TimedBy::Operation,
            patience: Load::PATIENCE,
        },
        mem_node: None,
        interrupted: &stop,
        enough: None,
        other: None,
        watch: None,
    };
    let member = |_| {
        Ok(Member {
            engine: NullEngine::new(crew.load.depth),
            stream: Stream::new(Op::RandRead, BLOCK, 1000, 1),
        })
    };
    crew.run(member).expect("a run")
}

/// Its report, which has gone over the wire.
fn report(run: CrewRun, receives: bool) -> Report {
    let sent = Report::new(run, receives, Some((Nanos(3), Nanos(9))));
    let text = serde_json::to_string(&sent).expect("JSON");
    serde_json::from_str(&text).expect("a report")
}

fn near(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= expected.abs() * 1e-9,
        "{found} is not {expected}"
    );
}

#[test]
fn both_directions_make_one_figure() {
    let (ours, theirs) = (side(Role::Measure, 30_000), side(Role::Peer, 10_000));
    let alone = ours.clone().into_result(Vec::new());
    let mut report = report(theirs, true);
    assert_eq!(report.began, Some((Nanos(3), Nanos(9))));
    let received = report.received.take().expect("a receiver's figure");
    let result = both(ours, report.cpu_ns_per_op, received.clone(), 0.75);

    let (a, b, m) = (&alone.measured, &received.measured, &result.measured);
    assert_eq!((a.ops, b.ops, m.ops), (30_000, 10_000, 40_000));
    near(m.ops_per_s, a.ops_per_s + b.ops_per_s);
    near(m.bytes_per_s.expect("bytes"), m.ops_per_s * BLOCK.0 as f64);
    let [out, back] = m.flows[..] else {
        panic!("{:?}", m.flows);
    };
    // What arrived there was sent, and what arrived here received.
    assert_eq!((out.direction, out.ops), (Direction::Send, 10_000));
    assert_eq!((back.direction, back.ops), (Direction::Receive, 30_000));
    assert_eq!((out.overlap, back.overlap), (0.75, 0.75));
    assert_eq!(m.latency_ns, None, "of two sides' operations there is none");
    // Of an operation's cost each side bears the part of those that it counted.
    near(result.cost.cpu_ns_per_op, alone.cost.cpu_ns_per_op * 0.75);
    let peer = result.cost.peer_cpu_ns_per_op.expect("the peer's cost");
    near(peer, report.cpu_ns_per_op * 0.25);
    let most = |of: &strata_record::Ceiling| of.ops_per_s.expect("a bound");
    near(
        most(&result.bounds[0]),
        most(&alone.bounds[0]) + most(&received.ceiling),
    );
}

#[test]
fn a_receivers_figure_is_the_trials() {
    let (ours, theirs) = (side(Role::Measure, 30_000), side(Role::Peer, 10_000));
    let cost = ours.cost(None);
    let mut report = report(theirs, true);
    let received = report.received.take().expect("a receiver's figure");
    let mut result = there(ours, report.cpu_ns_per_op, received.clone());
    assert_eq!(result.measured, received.measured);
    assert_eq!(result.bounds, [received.ceiling]);
    assert_eq!(result.cost.cpu_ns_per_op, cost.cpu_ns_per_op);
    assert_eq!(result.cost.peer_cpu_ns_per_op, Some(report.cpu_ns_per_op));

    result.proof.missing = vec!["retransmissions".to_owned()];
    let mut proof = report.proof;
    proof.contradictions = vec!["strayed".to_owned()];
    proof.missing = vec!["retransmissions".to_owned(), "pages".to_owned()];
    join(&mut result, proof, Some("cut".to_owned()));
    let roles: Vec<Role> = result.proof.threads.iter().map(|t| t.role).collect();
    assert_eq!(roles, [Role::Measure, Role::Peer]);
    assert_eq!(result.proof.missing, ["retransmissions", "pages"]);
    assert_eq!(
        result.proof.contradictions.last().map(String::as_str),
        Some("strayed")
    );
    assert_eq!(result.failed.as_deref(), Some("the other side: cut"));
    join(
        &mut result,
        side(Role::Peer, 10).proof,
        Some("lost".to_owned()),
    );
    assert_eq!(
        result.failed.as_deref(),
        Some("the other side: cut; the other side: lost")
    );
}

#[test]
fn a_sender_reports_no_figure() {
    let report = report(side(Role::Peer, 1_000), false);
    assert!(report.received.is_none() && report.failed.is_none());
    assert!(report.cpu_ns_per_op > 0.0);
}
