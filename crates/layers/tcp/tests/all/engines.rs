//! Every way of driving the layer moves every byte: directions, engines, sizes, connections, families, options.

use std::net::{Ipv6Addr, TcpListener};
use std::thread;

use strata_measure::{JobError, TrialResult};
use strata_record::{Cell, ConnectionsProof, Direction, Op, Role, Sockets, WarningCode};
use strata_tcp::{Sweep, TcpEngine, TcpJob, saturate};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::support::{GO, allowed, cell, children, job, run, timed};

pub(crate) const TESTS: [(&str, fn()); 12] = [
    ("every_engine_sends_every_size_whole", streams),
    ("every_engine_answers_requests_of_every_size", requests),
    ("both_directions_at_once_are_told_apart", both),
    ("many_connections_and_threads_count_together", many),
    ("ipv6_is_spoken", ipv6),
    ("options_are_read_back", options),
    ("options_that_cannot_be_are_named", wrong_options),
    (
        "every_notification_of_a_send_without_copy_comes_back",
        zerocopy,
    ),
    ("the_kernel_tells_of_each_connection", connections),
    ("an_interface_is_bound_to", interface),
    ("saturation_is_found_on_real_sockets", saturation),
    ("cells_that_cannot_be_say_what_to_give", bad_cells),
];

const FLOWS: [Direction; 3] = [Direction::Send, Direction::Receive, Direction::Both];

/// Runs it with each byte checked.
#[track_caller]
fn checked(cell: &Cell) -> TrialResult {
    let mut cell = cell.clone();
    cell.workload.verify = true;
    let label = format!("{} {}", cell.engine, cell.label());
    let result = run(&mut job(cell.clone()), &GO).unwrap_or_else(|e| panic!("{label}: {e}"));
    assert_eq!(result.failed, None, "{label}");
    assert_eq!(children(), [], "{label}");
    let (m, w) = (&result.measured, &cell.workload);
    // A short window on a busy machine may hold no whole block of both; each side has received one after it.
    assert!(m.ops > 0 || w.direction == Some(Direction::Both), "{label}");
    let reply = w.reply_bytes.unwrap_or(w.block_bytes);
    let bytes = m.bytes_per_s.expect("bytes") * m.window_s;
    if m.flows.is_empty() {
        let expected = (m.ops * reply.0) as f64;
        assert!((bytes - expected).abs() <= expected * 1e-9, "{label}");
    }
    result
}

fn engine(mut cell: Cell, engine: TcpEngine) -> Cell {
    cell.engine = engine.to_string();
    cell
}

fn flowing(direction: Direction, block: Bytes, ops: u64) -> Cell {
    let mut cell = cell(Op::Stream, block, 1, ops);
    cell.workload.direction = Some(direction);
    if direction == Direction::Both {
        cell = timed(cell, Nanos::from_millis(120));
    }
    cell
}

fn streams() {
    for how in TcpEngine::ALL {
        for direction in FLOWS {
            for (block, ops) in [
                (Bytes(1), 2000),
                (Bytes(64), 2000),
                (Bytes(1000), 500),
                (Bytes::KIB * 128, 40),
                (Bytes::MIB * 16, 2),
            ] {
                let cell = engine(flowing(direction, block, ops), how);
                let result = checked(&cell);
                if direction != Direction::Both {
                    assert_eq!(result.measured.ops, ops, "{how} {direction} {block}");
                }
            }
        }
    }
}

fn requests() {
    for how in TcpEngine::ALL {
        for (ask, reply, depth, ops) in [
            (Bytes(1), None, 1, 200),
            (Bytes(64), None, 1, 200),
            (Bytes(64), Some(Bytes::KIB * 4), 16, 400),
            (Bytes::KIB * 128, Some(Bytes(1)), 4, 40),
            (Bytes(1), Some(Bytes::MIB * 16), 2, 4),
            (Bytes::MIB * 16, None, 1, 2),
        ] {
            let mut cell = engine(cell(Op::ReqRep, ask, depth, ops), how);
            cell.workload.reply_bytes = reply;
            let result = checked(&cell);
            assert_eq!(result.measured.ops, ops, "{how} {ask}:{reply:?}");
            let latency = result.measured.latency_ns.expect("round trips");
            assert_eq!(latency.count, ops);
        }
    }
}

fn both() {
    let window = Nanos::from_millis(500);
    for how in TcpEngine::ALL {
        let mut cell = engine(flowing(Direction::Both, Bytes::KIB * 16, 0), how);
        cell = timed(cell, window);
        cell.workload.ramp_ns = Nanos::from_millis(20);
        let m = checked(&cell).measured;
        assert_eq!(m.flows.len(), 2, "{how}");
        let directions: Vec<_> = m.flows.iter().map(|f| f.direction).collect();
        assert_eq!(directions, [Direction::Send, Direction::Receive]);
        for flow in &m.flows {
            assert!((flow.window_s - window.as_secs_f64()).abs() < 1e-6, "{how}");
            let bytes = flow.bytes_per_s * flow.window_s;
            let expected = (flow.ops * (16 << 10)) as f64;
            assert!(
                flow.ops > 0 && (bytes - expected).abs() <= expected * 1e-9,
                "{how}: {flow:?}"
            );
            // A busy machine parts the two sides, but hardly by half of the window.
            assert!((0.3..=1.0).contains(&flow.overlap), "{how}: {flow:?}");
        }
        assert_eq!(m.ops, m.flows.iter().map(|f| f.ops).sum::<u64>());
        assert!(m.series.ops.iter().sum::<u64>() <= m.ops);
    }
}

fn many() {
    let [first, .., last] = allowed()[..] else {
        println!(
            "SKIP many_connections_and_threads_count_together: this process may use one CPU only"
        );
        return;
    };
    for how in TcpEngine::ALL {
        for direction in [
            None,
            Some(Direction::Send),
            Some(Direction::Receive),
            Some(Direction::Both),
        ] {
            let op = if direction.is_some() {
                Op::Stream
            } else {
                Op::ReqRep
            };
            let mut cell = engine(cell(op, Bytes::KIB, 1, 300), how);
            cell.workload.direction = direction;
            if direction == Some(Direction::Both) {
                cell = timed(cell, Nanos::from_millis(100));
            }
            if direction.is_none() {
                cell.workload.depth = QueueDepth::new(4).expect("four");
            }
            cell.workload.threads = 2;
            cell.workload.streams = 5;
            cell.placement.cpus = vec![first, last].into();
            cell.placement.peer_cpus = vec![first, last].into();
            let result = checked(&cell);
            if direction != Some(Direction::Both) {
                assert_eq!(result.measured.ops, 600, "{how} {direction:?}");
            }
            let sides = if direction == Some(Direction::Both) {
                4
            } else {
                2
            };
            let counts: Vec<u64> = result.proof.connections.iter().map(|c| c.count).collect();
            assert_eq!(counts, vec![10; sides], "{how} {direction:?}");
        }
    }
}

fn ipv6() {
    if let Err(e) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        println!("SKIP ipv6_is_spoken: no ::1 here: {e}");
        return;
    }
    for op in [Op::ReqRep, Op::Stream] {
        let mut cell = cell(op, Bytes(64), 1, 300);
        cell.via = "::1".to_owned();
        let result = checked(&cell);
        assert_eq!(result.measured.ops, 300);
        for side in &result.proof.connections {
            assert_eq!(side.family, "ipv6", "{side:?}");
            assert_eq!(side.interface.as_ref().map(|i| i.name.as_str()), Some("lo"));
        }
    }
}

fn with(op: Op, sockets: Sockets) -> Cell {
    let mut cell = cell(op, Bytes(64), 1, 100);
    cell.sockets = Some(sockets);
    cell
}

#[track_caller]
fn side(result: &TrialResult, role: Role) -> &ConnectionsProof {
    let found = result.proof.connections.iter().find(|c| c.role == role);
    found.expect("both sides tell")
}

fn options() {
    let result = checked(&with(
        Op::ReqRep,
        Sockets {
            nodelay: false,
            send_buffer_bytes: Some(Bytes::KIB * 64),
            receive_buffer_bytes: Some(Bytes::KIB * 32),
            congestion: Some("reno".to_owned()),
            ..Sockets::default()
        },
    ));
    for role in [Role::Measure, Role::Peer] {
        let found = side(&result, role);
        assert!(!found.nodelay, "{found:?}");
        assert_eq!(found.congestion, ["reno"], "{found:?}");
        // Twice what is asked for (socket(7)).
        let doubled = |kib: u64| Some((kib << 11, kib << 11));
        let buffer = |b: Option<strata_record::Spread>| b.map(|b| (b.min, b.max));
        assert_eq!(buffer(found.send_buffer_bytes), doubled(64), "{found:?}");
        assert_eq!(buffer(found.receive_buffer_bytes), doubled(32), "{found:?}");
    }
    for (op, nodelay) in [(Op::ReqRep, true), (Op::Stream, false)] {
        let plain = checked(&with(op, Sockets::of(op)));
        for role in [Role::Measure, Role::Peer] {
            assert_eq!(side(&plain, role).nodelay, nodelay, "{op:?} {role:?}");
        }
    }
}

fn wrong_options() {
    let none = Sockets::default;
    for (sockets, expected) in [
        (
            Sockets {
                congestion: Some("no-such".to_owned()),
                ..none()
            },
            ["--congestion", "no-such", "reno"],
        ),
        (
            Sockets {
                send_buffer_bytes: Some(Bytes(1 << 30)),
                ..none()
            },
            ["--sndbuf", "net.core.wmem_max", "SO_SNDBUF"],
        ),
        (
            Sockets {
                receive_buffer_bytes: Some(Bytes(1 << 30)),
                ..none()
            },
            ["--rcvbuf", "net.core.rmem_max", "SO_RCVBUF"],
        ),
        (
            Sockets {
                interface: Some("no-such0".to_owned()),
                ..none()
            },
            ["--interface", "no-such0", "lo"],
        ),
    ] {
        // It is for whoever runs a plan on several machines to tell this from a failure.
        let Err(JobError::Skipped(why)) = run(&mut job(with(Op::Stream, sockets)), &GO) else {
            panic!("{expected:?}");
        };
        for word in expected {
            assert!(why.contains(word), "{why}");
        }
        assert_eq!(children(), []);
    }
}

fn zerocopy() {
    for spin in [false, true] {
        for direction in [
            None,
            Some(Direction::Send),
            Some(Direction::Receive),
            Some(Direction::Both),
        ] {
            let op = if direction.is_some() {
                Op::Stream
            } else {
                Op::ReqRep
            };
            let mut cell = engine(
                cell(op, Bytes::KIB * 64, 1, 300),
                TcpEngine {
                    spin,
                    zerocopy: true,
                },
            );
            cell.workload.direction = direction;
            if direction == Some(Direction::Both) {
                cell = timed(cell, Nanos::from_millis(120));
            }
            let result = checked(&cell);
            let mut senders = 0;
            for side in &result.proof.connections {
                let Some(found) = side.zerocopy else {
                    assert_eq!(side.direction, Some(Direction::Receive), "{side:?}");
                    continue;
                };
                senders += 1;
                assert!(found.sends > 0, "{direction:?}: {side:?}");
                assert_eq!(found.completions, found.sends, "{direction:?}: {side:?}");
                // Loopback hands the pages to a receiver, and so copies them; what a closed connection never sent was not.
                assert!(
                    (1..=found.sends).contains(&found.copied),
                    "{direction:?}: {side:?}"
                );
            }
            let expected = if matches!(direction, None | Some(Direction::Both)) {
                2
            } else {
                1
            };
            assert_eq!(senders, expected, "{direction:?}");
        }
    }
    let plain = checked(&cell(Op::ReqRep, Bytes(64), 1, 100));
    assert!(plain.proof.connections.iter().all(|c| c.zerocopy.is_none()));
}

fn connections() {
    let result = checked(&cell(Op::Stream, Bytes::KIB * 128, 1, 200));
    let (ours, theirs) = (side(&result, Role::Measure), side(&result, Role::Peer));
    assert_eq!(ours.direction, Some(Direction::Send));
    assert_eq!(theirs.direction, Some(Direction::Receive));
    for found in [ours, theirs] {
        assert_eq!((found.count, found.family.as_str()), (1, "ipv4"));
        assert_eq!(found.congestion.len(), 1);
        let queues = found
            .interface
            .as_ref()
            .map(|i| (i.name.as_str(), !i.receive_queues.is_empty()));
        assert_eq!(queues, Some(("lo", true)), "{found:?}");
        assert!(found.mss_bytes.is_some_and(|s| s.min >= 536), "{found:?}");
        assert!(found.retransmitted_segments.is_some(), "{found:?}");
    }
    assert!(ours.rtt_us.is_some_and(|s| s.min > 0), "{ours:?}");
    assert!(ours.send_window_segments.is_some_and(|s| s.min > 0));
    let sent = ours.sent_segments.expect("Linux tells it since 4.2");
    // 25 MiB in segments of 64 KiB at most.
    assert!(sent >= 400, "{sent}");
    assert!(ours.delivered_segments.is_some_and(|n| n > 0 && n <= sent));
    assert!(ours.busy_us.is_some_and(|s| s.max > 0), "{ours:?}");
}

fn interface() {
    let mut cell = with(
        Op::Stream,
        Sockets {
            interface: Some("lo".to_owned()),
            ..Sockets::default()
        },
    );
    match run(&mut job(cell.clone()), &GO) {
        Err(JobError::Skipped(why)) if why.contains("CAP_NET_RAW") => {
            println!("SKIP an_interface_is_bound_to: {why}");
            return;
        }
        found => assert_eq!(found.map(|r| r.measured.ops), Ok(100)),
    }
    // Bound to an interface that does not lead there, it comes to nothing: the binding is real.
    let Some(other) = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .find(|name| {
            name != "lo"
                && std::fs::read_to_string(format!("/sys/class/net/{name}/operstate"))
                    .is_ok_and(|s| s.trim() == "up")
        })
    else {
        println!(
            "SKIP an_interface_is_bound_to, its other half: there is no second interface that is up"
        );
        return;
    };
    cell.sockets = Some(Sockets {
        interface: Some(other.clone()),
        ..Sockets::default()
    });
    let found = run(&mut job(cell), &GO);
    assert!(
        matches!(&found, Err(JobError::Failed(why)) if why.contains("127.0.0.1")),
        "{other}: {found:?}"
    );
}

fn saturation() {
    let base = cell(Op::Stream, Bytes::KIB * 128, 1, 1);
    let sweep = Sweep {
        window: Nanos::from_millis(30),
        ramp: Nanos::from_millis(5),
        most: 2,
        ..Sweep::default()
    };
    let mut trials = 0;
    let found = saturate(
        &base,
        &sweep,
        1,
        |_| Ok(base.placement.clone()),
        |cell, _| {
            trials += 1;
            let mut job = job(cell.clone());
            let result = run(&mut job, &GO).map_err(|e| e.to_string())?;
            // Another's build may take both CPUs for so long.
            Ok(result.measured.bytes_per_s.unwrap_or(1.0))
        },
    )
    .expect("two candidates");
    assert_eq!((trials, found.candidates.len()), (12, 2));
    assert!(
        found
            .candidates
            .iter()
            .all(|c| c.bytes_per_s.iter().all(|b| *b > 0.0))
    );
    // Which one it is, this machine's load decides.
    let other = &found.candidates[1 - found.chosen];
    assert!(other.ratio.is_some_and(|r| r > 0.0) && other.interval.is_some());
}

fn bad_cells() {
    type Change = fn(&mut Cell);
    let cases: [(Change, &str); 8] = [
        (|c| c.engine = "tcp+warp".to_owned(), "+spin"),
        (|c| c.workload.reply_bytes = Some(Bytes(0)), "--reply-bs"),
        (|c| c.workload.streams = 0, "--streams"),
        (
            |c| {
                c.workload.streams = 100;
                c.workload.depth = QueueDepth::new(100).expect("a depth");
            },
            "--depth",
        ),
        (
            |c| c.workload.direction = Some(Direction::Send),
            "--direction",
        ),
        (
            |c| {
                c.workload.op = Op::Stream;
                c.workload.direction = Some(Direction::Both);
            },
            "--duration",
        ),
        (
            |c| {
                c.workload.op = Op::Stream;
                c.workload.reply_bytes = Some(Bytes(1));
            },
            "--reply",
        ),
        (
            |c| {
                c.workload.op = Op::Stream;
                c.workload.streams = 5000;
            },
            "--streams",
        ),
    ];
    for (change, expected) in cases {
        let mut cell = cell(Op::ReqRep, Bytes(64), 1, 10);
        change(&mut cell);
        let why = TcpJob::new(cell, "x".into(), Vec::new())
            .map(drop)
            .expect_err(expected);
        assert!(why.contains(expected) && !why.contains('\n'), "{why}");
    }
    // Two threads of one process at once are no trouble to one another.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let result =
                    run(&mut job(cell(Op::ReqRep, Bytes(64), 1, 50)), &GO).expect("a result");
                assert!(
                    result
                        .warnings
                        .iter()
                        .all(|w| w.code != WarningCode::SharedCpu)
                        || allowed().len() == 1
                );
            });
        }
    });
}
