//! Whole trials over Soft-RoCE of a virtual node, or the device of this machine that STRATA_TEST_RDMA names: every operation that
//! it has, and what is told when something is wrong. The other side is a thread that is spoken to over a socket.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strata_measure::{Job, JobError, Trial, TrialResult};
use strata_peer::{Channel, PeerError, Reach, next_task};
use strata_rdma::{Faults, RdmaJob, serve_task};
use strata_record::{
    Arrivals, Cell, Completes, Connect, Direction, Layer, Op, Placement, Rail, Rate, RdmaEnd,
    Reality, Role, Target, TargetKind, Transport, Verbs, WarningCode, Workload,
};
use strata_units::{ByteOffset, Bytes, CpuList, Nanos, QueueDepth};
use strata_virtual_node::on;

type Line = Channel<UnixStream, UnixStream>;

/// The other side, in a thread of this process for each trial.
struct Here;

impl Reach for Here {
    type Side<'a> = Line;

    fn reach(&mut self) -> Result<Line, PeerError> {
        let (ours, theirs) = UnixStream::pair()?;
        let line = |of: UnixStream| Ok::<_, PeerError>(Channel::new(of.try_clone()?, of));
        let mut there = line(theirs)?;
        thread::spawn(move || {
            while let Ok(task) = next_task(&mut there) {
                if serve_task(&mut there, &task, |_| None).is_err() {
                    return;
                }
            }
        });
        line(ours)
    }

    fn address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn name(&self) -> String {
        "the other thread".to_owned()
    }
}

fn end() -> RdmaEnd {
    let device = std::env::var("STRATA_TEST_RDMA").unwrap_or_else(|_| "rxe0".to_owned());
    RdmaEnd {
        device,
        port: 1,
        gid_index: Some(1),
    }
}

/// A cell of so many messages of 64 bytes at depth 8.
fn cell(op: Op) -> Cell {
    let pingpong = op.is_pingpong();
    let list = |text: &str| -> CpuList { text.parse().expect("a list") };
    Cell {
        layer: Layer::Rdma,
        engine: "verbs".to_owned(),
        reality: Reality::Software,
        target: Target {
            kind: TargetKind::Wire,
            identity: "a wire".to_owned(),
            region_from_bytes: ByteOffset(0),
            region_bytes: None,
            node: None,
        },
        via: "here".to_owned(),
        workload: Workload {
            depth: depth(if pingpong { 1 } else { 8 }),
            direction: (!pingpong).then_some(Direction::Send),
            duration_ns: None,
            ops: Some(40),
            ..Workload::plain(op, Bytes(if op == Op::FetchAdd { 8 } else { 64 }))
        },
        timeout_ns: None,
        sockets: None,
        verbs: Some(Verbs {
            inline_bytes: Verbs::inlined(op),
            ..Verbs::over(vec![Rail {
                ours: end(),
                theirs: end(),
            }])
        }),
        binding: None,
        placement: Placement {
            cpus: list("0"),
            peer_cpus: list("1"),
            poll_cpus: CpuList::default(),
            mem_node: None,
        },
    }
}

fn depth(n: u64) -> QueueDepth {
    QueueDepth::new(n).expect("a depth")
}

fn verbs(cell: &mut Cell) -> &mut Verbs {
    cell.verbs.as_mut().expect("queue pairs")
}

fn ran(cell: &Cell, faults: (Faults, Faults)) -> Result<TrialResult, JobError> {
    let job = RdmaJob::reaching(cell.clone(), Here).expect("a job");
    let interrupted = AtomicBool::new(false);
    job.wronged(faults.0, faults.1).run(&Trial {
        seed: 7,
        interrupted: &interrupted,
    })
}

/// Runs a trial that is to go well.
fn good(cell: &Cell) -> TrialResult {
    let what = cell.label();
    let begun = Instant::now();
    let result = ran(cell, <(Faults, Faults)>::default());
    let result = result.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(result.failed, None, "{what}");
    assert_eq!(result.measured.errors, 0, "{what}");
    println!("{what}: {} in {:?}", result.measured.ops, begun.elapsed());
    result
}

/// Runs a trial that is to fail, within 10 s, and gives what it says.
fn bad(cell: &Cell, faults: (Faults, Faults)) -> String {
    let what = cell.label();
    let begun = Instant::now();
    let why = match ran(cell, faults) {
        Err(JobError::Failed(why)) => why,
        Err(other) => panic!("{what}: {other:?}"),
        Ok(result) => result.failed.unwrap_or_else(|| panic!("{what} went well")),
    };
    assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {why}");
    println!("{what}: {why}");
    why
}

/// Soft-RoCE's own time over and over.
const BOTH: [&str; 2] = ["verbs", "verbs-ex"];

fn every_operation_brings_what_was_sent_in_every_size() {
    for engine in BOTH {
        for op in [Op::Write, Op::WriteImm, Op::Read, Op::Send] {
            for bytes in [1, 65, 4097, 70_001] {
                let mut cell = cell(op);
                cell.engine = engine.to_owned();
                cell.workload.block_bytes = Bytes(bytes);
                cell.workload.verify = true;
                let result = good(&cell);
                let m = &result.measured;
                assert_eq!(m.ops, 40);
                let expected = if op == Op::Read {
                    Completes::RoundTrip
                } else {
                    Completes::RemoteAcked
                };
                assert_eq!(m.completes, expected);
                // What makes and checks the bytes would be in it.
                assert!(m.latency_ns.is_none());
                let [ours, theirs] = &result.proof.queue_pairs[..] else {
                    panic!("{:?}", result.proof.queue_pairs)
                };
                assert_eq!((ours.role, theirs.role), (Role::Measure, Role::Peer));
                assert!(ours.ops >= 40 && theirs.ops == 0, "{ours:?} {theirs:?}");
                assert_eq!(ours.bytes, Bytes(bytes) * ours.ops);
                if matches!(op, Op::Send | Op::WriteImm) {
                    assert_eq!(theirs.received, ours.ops);
                }
            }
        }
    }
}

fn additions_of_four_queue_pairs_add_up() {
    for engine in BOTH {
        let mut cell = cell(Op::FetchAdd);
        cell.engine = engine.to_owned();
        cell.workload.streams = 4;
        cell.workload.depth = depth(4);
        // The sum is held against what was done by the trial itself.
        let result = good(&cell);
        assert_eq!(result.measured.completes, Completes::RoundTrip);
        let m = &result.measured;
        assert_eq!(m.latency_ns.as_ref().map(|l| l.count), Some(m.ops));
        assert_eq!(result.proof.queue_pairs[0].count, 4);
    }
}

fn messages_go_to_and_fro() {
    for engine in BOTH {
        for (op, seen_by) in [
            (Op::WritePingPong, Some("memory")),
            (Op::WriteImmPingPong, Some("immediate")),
            (Op::SendPingPong, None),
        ] {
            for (bytes, pairs) in [(1, 1), (64, 3), (5000, 1)] {
                let mut cell = cell(op);
                cell.engine = engine.to_owned();
                cell.workload.block_bytes = Bytes(bytes);
                cell.workload.streams = pairs;
                // More than a byte counts.
                cell.workload.ops = Some(300);
                let result = good(&cell);
                assert_eq!(result.measured.completes, Completes::RoundTrip);
                let pairs = &result.proof.queue_pairs[0];
                assert_eq!(pairs.seen_by.as_deref(), seen_by);
            }
        }
    }
    let mut datagrams = cell(Op::SendPingPong);
    verbs(&mut datagrams).transport = Transport::Ud;
    good(&datagrams);
}

fn each_side_may_begin_or_both() {
    for op in [Op::Write, Op::Read, Op::Send, Op::WriteImm] {
        for direction in [Direction::Receive, Direction::Both] {
            let mut cell = cell(op);
            cell.workload.direction = Some(direction);
            cell.workload.block_bytes = Bytes(2000);
            cell.workload.verify = true;
            if direction == Direction::Both {
                cell.workload.ops = None;
                cell.workload.duration_ns = Some(Nanos::from_millis(200));
            }
            let result = good(&cell);
            let flows = &result.measured.flows;
            match direction {
                Direction::Both => {
                    assert_eq!(flows.len(), 2);
                    assert!(flows.iter().all(|f| f.ops > 0), "{flows:?}");
                    let sum: u64 = flows.iter().map(|f| f.ops).sum();
                    assert_eq!(sum, result.measured.ops);
                }
                _ => {
                    assert!(flows.is_empty());
                    assert_eq!(result.proof.queue_pairs[0].ops, 0);
                    assert!(result.proof.queue_pairs[1].ops >= 40);
                }
            }
        }
    }
}

fn what_is_not_acknowledged_is_counted_where_it_arrives() {
    for (transport, op, bytes) in [
        (Transport::Uc, Op::Send, 64),
        (Transport::Uc, Op::Send, 9000),
        (Transport::Uc, Op::WriteImm, 64),
        (Transport::Ud, Op::Send, 8),
        (Transport::Ud, Op::Send, 4096),
    ] {
        for direction in [Direction::Send, Direction::Receive, Direction::Both] {
            let mut cell = cell(op);
            verbs(&mut cell).transport = transport;
            cell.workload.direction = Some(direction);
            cell.workload.block_bytes = Bytes(bytes);
            cell.workload.verify = op == Op::Send;
            cell.workload.ops = Some(3);
            if direction == Direction::Both {
                // A slow receiver loses most of what takes several packets.
                if bytes > 4096 {
                    continue;
                }
                cell.workload.ops = None;
                cell.workload.duration_ns = Some(Nanos::from_millis(300));
            }
            let result = good(&cell);
            let m = &result.measured;
            assert_eq!(m.completes, Completes::Received);
            assert!(m.ops > 0 && m.latency_ns.is_none());
            // What one side has sent came, or is told of.
            let [a, b] = &result.proof.queue_pairs[..] else {
                panic!("{:?}", result.proof.queue_pairs)
            };
            assert!(a.received + b.received >= m.ops);
            let lost = result
                .warnings
                .iter()
                .any(|w| w.code == WarningCode::MessagesLost);
            assert_eq!(lost, m.lost > 0, "{:?}", result.warnings);
            println!("lost {} of {}", m.lost, a.received + b.received + m.lost);
        }
    }
}

fn what_has_no_completion_of_its_own_has_no_latency() {
    for engine in BOTH {
        for (batch, every, depth_, pairs, verify) in [
            (4, 1, 8, 1, false),
            (4, 1, 8, 1, true),
            (1, 4, 8, 2, true),
            (8, 8, 8, 1, true),
            (3, 5, 7, 3, true),
        ] {
            let mut cell = cell(Op::Write);
            cell.engine = engine.to_owned();
            cell.workload.depth = depth(depth_);
            cell.workload.streams = pairs;
            cell.workload.verify = verify;
            cell.workload.ops = Some(100);
            verbs(&mut cell).batch = batch;
            verbs(&mut cell).signal_every = every;
            let result = good(&cell);
            assert!(result.measured.ops >= 100);
            assert_eq!(result.measured.latency_ns.is_some(), every == 1 && !verify);
        }
    }
}

/// What tells that all before it has completed goes over queue pairs that do nothing else of its kind.
fn what_is_left_at_the_end_completes_whatever_the_operation() {
    for op in [Op::Send, Op::Read, Op::FetchAdd, Op::WriteImm] {
        let mut cell = cell(op);
        cell.workload.depth = depth(20);
        verbs(&mut cell).signal_every = 16;
        good(&cell);
    }
    let mut both = cell(Op::WriteImm);
    verbs(&mut both).transport = Transport::Uc;
    verbs(&mut both).signal_every = 4;
    both.workload.direction = Some(Direction::Both);
    both.workload.ops = None;
    both.workload.duration_ns = Some(Nanos::from_millis(150));
    good(&both);
}

fn who_sleeps_is_woken_and_who_has_a_schedule_keeps_it() {
    for (op, engine) in [
        (Op::Write, "verbs+events"),
        (Op::Send, "verbs-ex+events"),
        (Op::SendPingPong, "verbs+events"),
        (Op::WritePingPong, "verbs+events"),
        (Op::WriteImmPingPong, "verbs-ex+events"),
    ] {
        let mut cell = cell(op);
        cell.engine = engine.to_owned();
        let result = good(&cell);
        assert!(result.measured.polling.is_none());
        // Nobody sleeps until a time is over.
        let latency = result.measured.latency_ns.expect("latencies");
        assert!(latency.min < 15e6, "{}: {latency:?}", cell.label());
    }
    let mut open = cell(Op::Read);
    open.workload.streams = 2;
    open.workload.rate = Some(Rate {
        ops_per_s: 100,
        arrivals: Arrivals::Poisson,
    });
    open.workload.ops = None;
    open.workload.duration_ns = Some(Nanos::from_millis(500));
    let open = good(&open).measured.open.expect("an open loop");
    assert!((open.offered_ops_per_s - 100.0).abs() < 1.0);
}

fn threads_take_rails_in_turn() {
    let mut cell = cell(Op::Write);
    cell.workload.threads = 2;
    let rail = Rail {
        ours: end(),
        theirs: end(),
    };
    verbs(&mut cell).rails = vec![rail.clone(), rail];
    cell.placement.cpus = "0,2".parse().expect("a list");
    cell.placement.peer_cpus = "1,3".parse().expect("a list");
    let result = good(&cell);
    // A line a side and rail, each with what went over it.
    let lines = &result.proof.queue_pairs;
    assert_eq!(lines.len(), 4);
    let ours = lines.iter().filter(|l| l.role == Role::Measure);
    assert!(ours.clone().all(|l| l.ops >= 40), "{lines:?}");
}

fn what_goes_wrong_is_told_by_both_sides_with_what_to_do() {
    let none = Faults::default();
    let wrong_key = Faults {
        wrong_key: true,
        ..none
    };
    let why = bad(&cell(Op::Write), (wrong_key, none));
    assert!(why.contains("remote access error"), "{why}");
    assert!(why.contains("a wrong key or address"), "{why}");
    let mut theirs = cell(Op::Read);
    theirs.workload.direction = Some(Direction::Receive);
    let why = bad(&theirs, (none, wrong_key));
    assert!(why.contains("the other side: "), "{why}");
    assert!(why.contains("remote access error"), "{why}");

    let no_receives = Faults {
        no_receives: true,
        ..none
    };
    let mut send = cell(Op::Send);
    verbs(&mut send).rnr_retries = 1;
    let why = bad(&send, (none, no_receives));
    assert!(why.contains("no receive posted"), "{why}");
    assert!(why.contains("--rnr-retries"), "{why}");

    let small = Faults {
        small_queue: true,
        ..none
    };
    let mut deep = cell(Op::Write);
    deep.workload.depth = depth(64);
    verbs(&mut deep).batch = 64;
    let why = bad(&deep, (small, none));
    assert!(why.contains("completion queue of rxe0 overran"), "{why}");
}

fn what_cannot_be_connected_says_why_at_once() {
    let none = <(Faults, Faults)>::default();
    type Change = fn(&mut Cell);
    let cases: [(Change, &str); 9] = [
        (
            |c| verbs(c).rails[0].ours.device = "mlx5_7".to_owned(),
            "there is no RDMA device mlx5_7",
        ),
        (
            |c| verbs(c).rails[0].theirs.device = "mlx5_7".to_owned(),
            "there is no RDMA device mlx5_7",
        ),
        (|c| verbs(c).rails[0].ours.port = 9, "rxe0/9"),
        (
            |c| verbs(c).rails[0].ours.gid_index = Some(99),
            "--gid-index",
        ),
        // One of IPv6 and one of IPv4.
        (
            |c| verbs(c).rails[0].theirs.gid_index = Some(0),
            "one is IPv4 and the other IPv6",
        ),
        (
            |c| verbs(c).mtu_bytes = Some(Bytes(8192)),
            "is more than both ports have",
        ),
        (|c| verbs(c).inline_bytes = Bytes(1 << 20), "--inline"),
        (|c| verbs(c).reads = Some(255), "lower --reads"),
        (|c| verbs(c).pkey_index = 500, "--pkey-index"),
    ];
    for (change, word) in cases {
        let mut cell = cell(Op::Read);
        if word == "--inline" {
            cell = self::cell(Op::Write);
            cell.workload.block_bytes = Bytes(1 << 20);
        }
        change(&mut cell);
        let why = bad(&cell, none);
        assert!(why.contains(word), "{word}: {why}");
    }
}

/// The GID that a port has of itself is one of IPv6.
fn packets_of_ipv6_and_of_other_sizes_go_too() {
    for mtu in [256, 1024] {
        let mut cell = cell(Op::Write);
        cell.workload.block_bytes = Bytes(3000);
        cell.workload.verify = true;
        let verbs = verbs(&mut cell);
        verbs.mtu_bytes = Some(Bytes(mtu));
        verbs.traffic_class = 104;
        verbs.rails[0].ours.gid_index = Some(0);
        verbs.rails[0].theirs.gid_index = Some(0);
        let result = good(&cell);
        for pairs in &result.proof.queue_pairs {
            assert_eq!(pairs.mtu_bytes, Bytes(mtu));
            let gid = pairs.gid.as_deref().expect("a GID");
            assert!(gid.starts_with("fe80::"), "{gid}");
        }
    }
}

/// Of both kinds of addresses, and each queue pair to its own of the other side's: contents are told apart by them.
fn whoever_is_connected_by_an_address_does_the_same() {
    for (op, gid_index, direction) in [
        (Op::Send, 1, Some(Direction::Both)),
        (Op::Write, 0, Some(Direction::Receive)),
        (Op::Read, 1, None),
        (Op::WriteImmPingPong, 1, None),
    ] {
        let mut cell = cell(op);
        cell.workload.streams = 3;
        cell.workload.direction = direction;
        cell.workload.verify = !op.is_pingpong();
        if direction == Some(Direction::Both) {
            cell.workload.ops = None;
            cell.workload.duration_ns = Some(Nanos::from_millis(200));
        }
        let verbs = verbs(&mut cell);
        verbs.connect = Connect::Cm;
        verbs.traffic_class = 104;
        verbs.rails[0].ours.gid_index = Some(gid_index);
        verbs.rails[0].theirs.gid_index = Some(gid_index);
        good(&cell);
    }
}

fn who_is_stopped_ends_soon() {
    let mut cell = cell(Op::Send);
    cell.workload.ops = None;
    cell.workload.duration_ns = Some(Nanos::SECOND * 60);
    let interrupted = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        let interrupted = &interrupted;
        let running = scope.spawn(move || {
            let mut job = RdmaJob::reaching(cell, Here).expect("a job");
            job.run(&Trial {
                seed: 7,
                interrupted,
            })
        });
        thread::sleep(Duration::from_millis(1500));
        interrupted.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let ended = running.join().expect("no panic");
        assert!(begun.elapsed() < Duration::from_secs(4), "{ended:?}");
        ended
    });
    assert_eq!(ended, Err(JobError::Interrupted));
}

fn a_link_that_goes_down_ends_the_trial_and_what_was_measured_is_kept() {
    if std::env::var("STRATA_TEST_RDMA").is_ok() {
        println!("SKIP a link that goes down: not on a device of this machine's");
        return;
    }
    let ip = |words: &str| {
        let ran = std::process::Command::new("ip")
            .args(words.split_whitespace())
            .status();
        assert!(ran.expect("iproute2").success(), "ip {words}");
    };
    let mut cell = cell(Op::Write);
    cell.workload.ops = None;
    cell.workload.duration_ns = Some(Nanos::SECOND * 30);
    let begun = Instant::now();
    let result = thread::scope(|scope| {
        let running = scope.spawn(|| ran(&cell, <(Faults, Faults)>::default()));
        thread::sleep(Duration::from_secs(3));
        ip("link set roce0 down");
        let result = running.join().expect("no panic");
        // And none is begun over it as it is.
        let why = bad(&self::cell(Op::Write), <(Faults, Faults)>::default());
        ip("link set roce0 up");
        assert!(why.contains("rxe0/1 is down"), "{why}");
        assert!(why.contains("ip link set"), "{why}");
        result
    });
    assert!(begun.elapsed() < Duration::from_secs(13));
    let result = result.expect("what was measured");
    let why = result.failed.expect("it is void");
    assert!(why.contains("went down in mid-trial"), "{why}");
    assert!(result.measured.ops > 0, "{why}");
    // And the next is as if nothing had been.
    thread::sleep(Duration::from_secs(1));
    good(&self::cell(Op::Write));
}

/// All in one guest: to boot one takes longer than most of them.
#[test]
fn trials_over_verbs() {
    type Case = (&'static str, fn());
    let cases: [Case; 15] = [
        ("sizes", every_operation_brings_what_was_sent_in_every_size),
        ("sums", additions_of_four_queue_pairs_add_up),
        ("to and fro", messages_go_to_and_fro),
        ("directions", each_side_may_begin_or_both),
        (
            "unreliable",
            what_is_not_acknowledged_is_counted_where_it_arrives,
        ),
        (
            "signalled",
            what_has_no_completion_of_its_own_has_no_latency,
        ),
        (
            "the end",
            what_is_left_at_the_end_completes_whatever_the_operation,
        ),
        (
            "waiting",
            who_sleeps_is_woken_and_who_has_a_schedule_keeps_it,
        ),
        ("rails", threads_take_rails_in_turn),
        (
            "faults",
            what_goes_wrong_is_told_by_both_sides_with_what_to_do,
        ),
        ("IPv6", packets_of_ipv6_and_of_other_sizes_go_too),
        (
            "addresses",
            whoever_is_connected_by_an_address_does_the_same,
        ),
        ("refusals", what_cannot_be_connected_says_why_at_once),
        ("stopped", who_is_stopped_ends_soon),
        (
            "link",
            a_link_that_goes_down_ends_the_trial_and_what_was_measured_is_kept,
        ),
    ];
    let all = || {
        for (name, case) in cases {
            let begun = Instant::now();
            println!("== {name}");
            case();
            println!("== {name}: {:?}", begun.elapsed());
        }
    };
    match std::env::var("STRATA_TEST_RDMA") {
        Ok(_) => all(),
        Err(_) => on("verbs", |_| all()),
    }
}
