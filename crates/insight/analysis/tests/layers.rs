//! The kernel's layer against the one that goes past it: on one drive, and on one wire.

mod support;

use strata_analysis::{Analysis, Factor, Response, analyse};
use strata_record::{
    Arrivals, Cell, Contrast, Direction, Op, Rate, Reality, Record, Run, Status, Verdict,
};
use strata_units::{ByteOffset, Bytes, CpuId, NodeId, QueueDepth};
use support::{assert_valid, kernel, native, noise, rdma, records, run, tcp};

/// The ratios of layers in a response.
fn of_layers<'a>(analysis: &'a Analysis<'_>, response: Response) -> Vec<&'a Contrast> {
    let both = analysis.summary.contrasts.iter().zip(&analysis.contrasts);
    both.filter(|(_, d)| (d.factor, d.response) == (Factor::Layer, response))
        .map(|(contrast, _)| contrast)
        .collect()
}

/// A drive at depths 1 and 32: two engines of the kernel's, and one past it that is 1.43 times as fast as io_uring.
fn drive(rounds: u32) -> (Run, Vec<Record>) {
    let mut cells = Vec::new();
    for depth in [1, 32] {
        cells.extend([
            kernel("libaio", depth),
            native(depth),
            kernel("io_uring", depth),
        ]);
    }
    cells.push(tcp(Op::ReqRep));
    let run = run(cells, rounds);
    let mut records = records(&run, |cell, round| {
        let rate = [
            10_000.0, 17_160.0, 12_000.0, 90_000.0, 143_000.0, 100_000.0, 8_000.0,
        ][cell];
        rate * noise(0.1, 90, round) * noise(0.004, cell, round)
    });
    // The first cell of each driver in a round is the one behind the change.
    for record in &mut records {
        record.switch_s = match record.trial % 7 {
            0 => Some(1.25),
            1 => Some(0.75),
            _ => None,
        };
    }
    assert_valid(&records);
    (run, records)
}

#[test]
fn past_the_kernel_is_set_against_each_of_its_engines_at_the_same_depth() {
    let (run, records) = drive(10);
    let analysis = analyse(&run, &records);
    let names: Vec<&str> = of_layers(&analysis, Response::OpsPerS)
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "nvme native ÷ block libaio at randread 4KiB qd1",
            "nvme native ÷ block io_uring at randread 4KiB qd1",
            "nvme native ÷ block libaio at randread 4KiB qd32",
            "nvme native ÷ block io_uring at randread 4KiB qd32",
        ]
    );
    let uring = of_layers(&analysis, Response::OpsPerS)[1];
    assert_eq!((uring.verdict, uring.rounds), (Verdict::Higher, 10));
    assert!((uring.ratio - 1.43).abs() < 0.01, "{}", uring.ratio);
    let (low, high) = (uring.ci95_low.expect("low"), uring.ci95_high.expect("high"));
    assert!(
        low < 1.43 && 1.43 < high && high - low < 0.02,
        "[{low}, {high}]"
    );
    assert!(
        uring.words.starts_with("nvme native does 1.4")
            && uring.words.contains(" times [1.4")
            && uring
                .words
                .ends_with("] the operations a second of block io_uring"),
        "{}",
        uring.words
    );
    // Latency where nothing waits, CPU time at every depth.
    assert_eq!(of_layers(&analysis, Response::Mean).len(), 2);
    assert_eq!(of_layers(&analysis, Response::CpuPerOp).len(), 4);
    let mean = of_layers(&analysis, Response::Mean)[1];
    assert_eq!(mean.verdict, Verdict::Lower);
    assert!(
        mean.words
            .ends_with("as long with nvme native as with block io_uring (mean latency)"),
        "{}",
        mean.words
    );
}

#[test]
fn layers_engines_and_depths_are_one_family_a_response() {
    let (run, records) = drive(10);
    let analysis = analyse(&run, &records);
    let sizes: Vec<(Response, usize)> = analysis
        .families
        .iter()
        .map(|f| (f.response, f.size))
        .collect();
    // Of layers 4; of engines, without psync io_uring against the first, 2; of depths 3.
    assert_eq!(
        sizes,
        [
            (Response::OpsPerS, 9),
            (Response::Mean, 3),
            (Response::CpuPerOp, 6)
        ]
    );
    let rate = |c: &&Contrast| c.response == Response::OpsPerS.key();
    let all: Vec<&Contrast> = analysis.summary.contrasts.iter().filter(rate).collect();
    let least = all.iter().filter_map(|c| c.p_holm).fold(1.0, f64::min);
    let alone = {
        let mut run = run.clone();
        run.plan
            .cells
            .retain(|c| c.workload.depth == QueueDepth::ONE && c.engine != "libaio");
        let records: Vec<Record> = records
            .iter()
            .filter(|r| run.plan.cells.iter().any(|c| c.key() == r.cell))
            .cloned()
            .collect();
        let analysis = analyse(&run, &records);
        of_layers(&analysis, Response::OpsPerS)[0]
            .p_holm
            .expect("p")
    };
    let same = all[1].p_holm.expect("p");
    assert!(
        same > alone * 1.5 && least <= same,
        "corrected for the whole family: {same} of 9, {alone} of 1"
    );
}

#[test]
fn the_answer_tells_of_the_engine_that_came_nearest() {
    let (run, records) = drive(10);
    let analysis = analyse(&run, &records);
    let told = &analysis.answer;
    assert!(
        told.starts_with("randread 4KiB qd1 (virtual): nvme native does 1.4")
            && told
                .contains("of block io_uring; of 2 engines of block there io_uring came nearest."),
        "{told}"
    );
    assert!(told.contains("Most measured: "), "{told}");
}

#[test]
fn in_an_open_loop_the_nearest_is_that_of_the_least_latency() {
    let open = |mut cell: Cell| {
        cell.workload.rate = Some(Rate {
            ops_per_s: 5_000,
            arrivals: Arrivals::Fixed,
        });
        cell
    };
    let run = run(
        vec![
            open(kernel("io_uring", 32)),
            open(kernel("libaio", 32)),
            open(native(32)),
        ],
        8,
    );
    let mut all = records(&run, |_, _| 5_000.0);
    for record in &mut all {
        let mean = match record.what.engine.as_str() {
            "io_uring" => 80_000.0,
            "libaio" => 120_000.0,
            _ => 60_000.0,
        };
        let result = record.result.as_mut().expect("a figure");
        result.latency_ns.as_mut().expect("latencies").mean =
            mean * noise(0.004, record.what.engine.len(), record.round);
    }
    assert_valid(&all);
    let analysis = analyse(&run, &all);
    assert_eq!(of_layers(&analysis, Response::OpsPerS).len(), 0);
    assert!(
        analysis
            .answer
            .contains(" as long with nvme native as with block io_uring"),
        "{}",
        analysis.answer
    );
}

#[test]
fn layers_are_never_divided_but_for_one_target_workload_and_place() {
    type Change = fn(&mut Cell);
    let changes: [(Change, &str); 13] = [
        (|c| c.reality = Reality::Hardware, "reality"),
        (|c| c.target.identity.push('1'), "drive"),
        (|c| c.target.region_bytes = Some(Bytes::MIB), "region"),
        (
            |c| c.target.region_from_bytes = ByteOffset(4096),
            "where the region begins",
        ),
        (|c| c.workload.op = Op::Read, "operation"),
        (|c| c.workload.block_bytes = Bytes(512), "size"),
        (
            |c| c.workload.depth = QueueDepth::new(2).expect("a depth"),
            "depth",
        ),
        (|c| c.workload.threads = 2, "threads"),
        (|c| c.workload.random_map = true, "pattern"),
        (|c| c.workload.verify = true, "checks"),
        (
            |c| {
                c.workload.rate = Some(Rate {
                    ops_per_s: 100,
                    arrivals: Arrivals::Poisson,
                });
            },
            "rate",
        ),
        (|c| c.placement.cpus = vec![CpuId(0)].into(), "CPU"),
        (|c| c.placement.mem_node = Some(NodeId(1)), "memory node"),
    ];
    for (change, what) in changes {
        let mut past = native(1);
        change(&mut past);
        let run = run(vec![kernel("io_uring", 1), past], 8);
        let records = records(&run, |cell, round| 10_000.0 * noise(0.01, cell, round));
        assert_valid(&records);
        let analysis = analyse(&run, &records);
        assert_eq!(analysis.pairs, 0, "another {what}");
        assert_eq!(analysis.summary.contrasts, [], "another {what}");
    }
    // A path, a time limit and a CPU on which the kernel polls are of the layer and its engine.
    let mut polled = kernel("io_uring+sqpoll", 1);
    polled.placement.poll_cpus = vec![CpuId(3)].into();
    let mut past = native(1);
    past.timeout_ns = Some(strata_units::Nanos::SECOND);
    let run = run(vec![polled, past], 8);
    let records = records(&run, |cell, round| 10_000.0 * noise(0.01, cell, round));
    let analysis = analyse(&run, &records);
    let [rate] = of_layers(&analysis, Response::OpsPerS)[..] else {
        panic!("{:?}", analysis.summary.contrasts)
    };
    assert!(
        rate.words.ends_with(
            "; block io_uring+sqpoll had one more CPU, on which the kernel polled for it (3)"
        ),
        "{}",
        rate.words
    );
}

#[test]
fn engines_under_different_drivers_are_no_pair() {
    let mut elsewhere = kernel("libaio", 1);
    elsewhere.binding = None;
    let run = run(vec![kernel("io_uring", 1), elsewhere], 8);
    assert_eq!(analyse(&run, &[]).pairs, 0);
}

#[test]
fn a_layer_at_its_ceiling_makes_the_gain_a_bound() {
    let (run, mut all) = drive(8);
    for record in all.iter_mut().filter(|r| r.what.engine == "native") {
        let rate = record.result.as_ref().expect("a figure").ops_per_s;
        let ceiling = record.ceiling.as_mut().expect("a ceiling");
        ceiling.ops_per_s = Some(rate / 0.99);
        ceiling.bound_by = "the drive".to_owned();
    }
    let analysis = analyse(&run, &all);
    for rate in of_layers(&analysis, Response::OpsPerS) {
        assert!(
            rate.words.ends_with(
                "; ≥, because the ceiling (the drive) and not the change made the ratio"
            ),
            "{}",
            rate.words
        );
    }
    // What is not throughput is not bounded by it.
    for cost in of_layers(&analysis, Response::CpuPerOp) {
        assert!(!cost.words.contains("ceiling"), "{}", cost.words);
    }
}

#[test]
fn rounds_in_which_the_driver_could_not_be_changed_are_lost_to_its_ratios() {
    for (failed, told) in [(2, true), (3, false)] {
        let (run, mut all) = drive(10);
        for record in all
            .iter_mut()
            .filter(|r| r.round < failed && r.what.engine == "native")
        {
            record.status = Status::Failed;
            record.reason = Some("0000:11:00.0 on vfio-pci: the group is not viable".to_owned());
            (record.result, record.proof, record.switch_s) = (None, None, None);
        }
        assert_valid(&all);
        let analysis = analyse(&run, &all);
        for rate in of_layers(&analysis, Response::OpsPerS) {
            assert_eq!(rate.rounds, 10 - failed);
            assert_eq!(rate.verdict == Verdict::Higher, told, "{}", rate.words);
        }
        // Engines of the kernel's were measured in all of them.
        let engines = analysis
            .summary
            .contrasts
            .iter()
            .filter(|c| c.name.starts_with("io_uring ÷"));
        assert!(engines.clone().count() > 0);
        assert!(engines.into_iter().all(|c| c.rounds == 10));
        assert!(
            analysis
                .summary
                .doubts
                .iter()
                .any(|d| d.contains("the group is not viable")),
            "{:#?}",
            analysis.summary.doubts
        );
    }
}

#[test]
fn the_arrangement_of_a_split_plot_is_that_of_its_records() {
    let (run, records) = drive(8);
    let analysis = analyse(&run, &records);
    let split = analysis.split_plot.expect("drivers were changed");
    let levels: Vec<(String, usize)> = split
        .levels
        .iter()
        .map(|l| (l.binding.to_string(), l.cells))
        .collect();
    assert_eq!(
        levels,
        [
            ("0000:11:00.0 on nvme".to_owned(), 4),
            ("0000:11:00.0 on vfio-pci".to_owned(), 2)
        ]
    );
    assert_eq!((split.free, split.changes), (1, 16));
    let took = split.change_s.expect("known");
    assert_eq!((took.least, took.most), (0.75, 1.25));
    let native = &analysis.cells[1];
    let host = native.proof.as_ref().and_then(|p| p.host.as_ref());
    let functions = &host.expect("watched").functions;
    assert_eq!(functions[0].drivers, ["vfio-pci"]);

    let plain = support::run(vec![tcp(Op::ReqRep)], 8);
    assert_eq!(analyse(&plain, &[]).split_plot, None);
}

/// Streams, and one message there and back, by TCP and by verbs over one wire.
fn wire() -> [Cell; 4] {
    let mut cells = [
        tcp(Op::Stream),
        tcp(Op::ReqRep),
        rdma(Op::Write),
        rdma(Op::SendPingPong),
    ];
    for (cell, size) in cells.iter_mut().zip([65_536, 64, 65_536, 64]) {
        cell.workload.block_bytes = Bytes(size);
        cell.target.identity = "eth1 ↔ eth1".to_owned();
        if size > 64 {
            cell.workload.direction = Some(Direction::Send);
        }
    }
    // As many in flight as each saturates the wire with.
    cells[0].workload.streams = 4;
    cells[2].workload.depth = QueueDepth::new(16).expect("a depth");
    cells
}

/// Eight rounds of these.
fn on_wire(cells: &[Cell]) -> (Run, Vec<Record>) {
    let run = run(cells.to_vec(), 8);
    let rates = [10_000.0, 20_000.0, 30_000.0, 50_000.0];
    let all = records(&run, |cell, round| rates[cell] * noise(0.01, cell, round));
    assert_valid(&all);
    (run, all)
}

#[test]
fn verbs_are_set_against_tcp_where_both_do_the_same_over_one_wire() {
    let plainly = |analysis: &Analysis<'_>| {
        let doubts = &analysis.summary.doubts;
        doubts.iter().any(|d| d.contains("bypass nothing"))
    };
    let (run, all) = on_wire(&wire());
    let analysis = analyse(&run, &all);
    let found = of_layers(&analysis, Response::OpsPerS);
    let names: Vec<&str> = found.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "rdma verbs write qd16 ÷ tcp stream 4 streams at 64KiB send",
            "rdma verbs send-pingpong ÷ tcp reqrep at 64B",
        ]
    );
    assert!((found[0].ratio - 3.0).abs() < 0.1, "{}", found[0].ratio);
    assert!((found[1].ratio - 2.5).abs() < 0.1, "{}", found[1].ratio);
    // One reality on both sides: no word of a bypass that is none.
    assert!(!plainly(&analysis), "{:#?}", analysis.summary.doubts);

    let mut cells = wire();
    for cell in &mut cells[..2] {
        cell.reality = Reality::Virtual;
    }
    let (run, all) = on_wire(&cells);
    let analysis = analyse(&run, &all);
    assert_eq!(of_layers(&analysis, Response::OpsPerS).len(), 2);
    assert!(plainly(&analysis), "{:#?}", analysis.summary.doubts);
}

#[test]
fn verbs_are_set_against_no_other_work_and_no_other_wire() {
    type Change = fn(&mut Cell);
    let changes: [(Change, &str); 9] = [
        (|c| c.target.identity.push('2'), "wire"),
        (|c| c.workload.block_bytes = Bytes(1), "size"),
        (|c| c.workload.verify = true, "checks"),
        (|c| c.workload.duration_ns = None, "window"),
        (|c| c.workload.ramp_ns = strata_units::Nanos(1), "ramp"),
        (
            |c| {
                c.workload.rate = Some(Rate {
                    ops_per_s: 100,
                    arrivals: Arrivals::Fixed,
                });
            },
            "rate",
        ),
        // Of a ping-pong, how many are under way is part of the work.
        (
            |c| {
                c.workload.direction = Some(Direction::Receive);
                c.workload.depth = QueueDepth::new(2).expect("a depth");
            },
            "side or depth",
        ),
        (
            |c| {
                c.workload.direction = Some(Direction::Both);
                c.workload.streams = 2;
            },
            "direction or number of queue pairs",
        ),
        (|c| c.workload.op = Op::FetchAdd, "operation"),
    ];
    for (change, what) in changes {
        let mut cells = wire();
        cells[2..].iter_mut().for_each(change);
        let (run, all) = on_wire(&cells);
        let analysis = analyse(&run, &all);
        let found = of_layers(&analysis, Response::OpsPerS);
        assert_eq!(found, [] as [&Contrast; 0], "another {what}");
    }
}
