//! Reports of runs whose figures are given.

#[path = "../../analysis/tests/support/mod.rs"]
mod support;

use std::path::Path;

use strata_analysis::analyse;
use strata_record::{
    Cell, Environment, InterfaceProof, Op, Polling, Preconditioning, QueuePairsProof, RdmaEnd,
    RdmaPortProof, Record, Role, Run, Status, StreamCandidate, StreamSweep, Warning, WarningCode,
};
use strata_report::{html, markdown};
use strata_units::{Bytes, NodeId};
use support::{assert_valid, block, kernel, native, noise, rdma, records, run, tcp, trial};

/// A run with what a report has to cope with: two engines, three depths, a stream without latencies, a skipped cell, a
/// moved thread, a voided round.
fn rich() -> (Run, Vec<Record>) {
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 32),
            block("psync", Op::Read, 1),
            tcp(Op::ReqRep),
            tcp(Op::Stream),
            block("io_uring_cmd", Op::RandRead, 1),
        ],
        10,
    );
    let mut all = records(&run, |cell, round| {
        let rate = [
            20_000.0, 18_000.0, 90_000.0, 31_000.0, 24_000.0, 60_000.0, 1.0,
        ][cell];
        rate * noise(0.05, 90, round) * noise(0.01, cell, round)
    });
    for record in &mut all {
        match (record.what.engine.as_str(), record.round) {
            ("io_uring_cmd", _) => {
                let mut skipped = Record::new(&run.id, record.what.clone());
                (skipped.round, skipped.trial) = (record.round, record.trial);
                skipped.status = Status::Skipped;
                skipped.reason =
                    Some("the target is a file; passthrough needs an NVMe namespace".to_owned());
                *record = skipped;
            }
            ("psync", 4) if record.what.workload.op == Op::Read => {
                record.proof.as_mut().expect("a proof").contradictions =
                    vec!["thread 1 was asked on CPU 1 and seen on CPU 0".to_owned()];
            }
            ("tcp", 7) if record.what.workload.op == Op::ReqRep => {
                record.status = Status::Failed;
                record.reason = Some("the other side closed the connection".to_owned());
            }
            ("io_uring", 2) if record.what.workload.depth.get() == 32 => {
                record.warnings.push(Warning {
                    code: WarningCode::KernelWorkers,
                    text: "other work took 4 % of CPU 1".to_owned(),
                })
            }
            _ => {}
        }
    }
    let again: Vec<Record> = all
        .iter()
        .filter(|r| r.round == 7 && r.status != Status::Skipped)
        .map(|r| {
            let rate = r.result.as_ref().map_or(0.0, |m| m.ops_per_s);
            let mut again = trial(&run, &r.what, 7, rate * 1.01);
            again.attempt = 1;
            again.started_s = 100.0 + f64::from(r.trial % 7);
            again
        })
        .collect();
    all.extend(again);
    assert_valid(&all);
    (run, all)
}

/// Attributes and CSS that would make a browser ask for something.
fn loads(html: &str) -> Vec<&str> {
    let lower = html.to_ascii_lowercase();
    let mut found = Vec::new();
    for asks in [
        "src=",
        "src =",
        "@import",
        "fetch(",
        "url(",
        "<script",
        "<link",
        "<img",
        "<iframe",
        "http-equiv=\"refresh",
    ] {
        found.extend(lower.contains(asks).then_some(asks));
    }
    for (at, _) in lower.match_indices("href=") {
        let target = &html[at + "href=".len()..];
        if !target.starts_with("\"#") {
            found.push(target.lines().next().unwrap_or_default());
        }
    }
    found
}

/// Values of an attribute wherever it stands.
fn attributes<'h>(html: &'h str, name: &str) -> Vec<&'h str> {
    let begin = format!(" {name}=\"");
    html.match_indices(&begin)
        .filter_map(|(at, found)| html[at + found.len()..].split('"').next())
        .collect()
}

#[test]
fn the_page_is_one_file_that_loads_nothing() {
    let (run, records) = rich();
    let page = html(&run, &analyse(&run, &records)).expect("a page");
    assert_eq!(loads(&page), Vec::<&str>::new());
    // Where a browser can look at it.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    std::fs::write(&kept, &page).expect("the page can be kept");
}

#[test]
fn every_number_of_a_plot_is_one_and_lies_inside() {
    let (run, records) = rich();
    let page = html(&run, &analyse(&run, &records)).expect("a page");
    let mut seen = 0;
    for (attribute, most) in [
        ("x", 440.0),
        ("x1", 440.0),
        ("x2", 440.0),
        ("cx", 440.0),
        ("y", 262.0),
        ("y1", 262.0),
        ("y2", 262.0),
        ("cy", 262.0),
    ] {
        for value in attributes(&page, attribute) {
            let number: f64 = value
                .parse()
                .unwrap_or_else(|_| panic!("{attribute}={value}"));
            assert!((0.0..=most).contains(&number), "{attribute}={value}");
            seen += 1;
        }
    }
    for points in attributes(&page, "points") {
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').expect("a point");
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            assert!(
                (0.0..=440.0).contains(&x) && (0.0..=262.0).contains(&y),
                "{point}"
            );
            seen += 1;
        }
    }
    assert!(seen > 1000, "{seen}");
    assert!(!page.contains("NaN") && !page.contains(">inf"));
    // Six measured cells have throughput, five of them latencies.
    assert_eq!(page.matches("<svg ").count(), 11);
    assert_eq!(
        page.matches("<svg ").count(),
        page.matches("</svg>").count()
    );
}

#[test]
fn tags_are_closed_in_order() {
    let (run, records) = rich();
    let page = html(&run, &analyse(&run, &records)).expect("a page");
    let mut open: Vec<&str> = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split('>').next().unwrap_or_default();
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap_or_default();
        if tag.starts_with('!') || tag.ends_with('/') || name == "meta" {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn hostile_text_stays_text() {
    const HOSTILE: &str = "<script>alert(1)</script>\"onload='x'|`a`";
    let mut cell = block(HOSTILE, Op::RandRead, 1);
    cell.via = HOSTILE.to_owned();
    cell.target.identity = HOSTILE.to_owned();
    let mut run = run(vec![cell], 2);
    run.id = HOSTILE.to_owned();
    run.command.push(HOSTILE.to_owned());
    let mut environment = serde_json::to_value(&run.environment).expect("JSON");
    environment["hostname"] = HOSTILE.into();
    environment["sysctls"][HOSTILE] = HOSTILE.into();
    environment["drives"][0]["model"] = HOSTILE.into();
    run.environment = serde_json::from_value(environment).expect("an environment");
    run.peers = vec![Environment {
        boot_id: Some("of another machine".to_owned()),
        ..run.environment.clone()
    }];
    let mut all = records(&run, |_, _| 2000.0);
    all[1].status = Status::Failed;
    all[1].reason = Some(HOSTILE.to_owned());
    all[0].proof.as_mut().expect("a proof").missing = vec![HOSTILE.to_owned()];
    assert_valid(&all);
    let analysed = analyse(&run, &all);
    let page = html(&run, &analysed).expect("a page");
    assert!(!page.contains("<script"));
    assert!(page.contains("&#60;script&#62;"));
    assert!(!page.contains("\"onload"));
    let text = markdown(&run, &analysed);
    assert!(!text.contains(" <script") && text.contains(r"\<script\>"));
    assert!(!text.replace(r"\`", "").contains('`'));
}

#[test]
fn the_page_says_what_the_markdown_says() {
    let (run, records) = rich();
    let analysed = analyse(&run, &records);
    let page = html(&run, &analysed).expect("a page");
    let text = markdown(&run, &analysed);
    for expected in [
        "block io_uring randread 4KiB qd32",
        "io_uring ÷ psync at randread 4KiB qd1",
        "seen on CPU 0",
        "passthrough needs an NVMe namespace",
        "virtual drive",
        "1 of 10 rounds were voided",
        "the other side closed the connection",
        "received at the far end",
        "reply back",
        "Example 7000",
        "15.6 GiB",
        "net.core.rmem_max",
        "strata run quick",
        "no steady state",
        "Depth at the device",
        "virtio1-req.0 on CPU 1, up to 20000 times in a trial",
        "39 to 41 °C",
        "TCP sent again",
        "all connections of this network namespace counted",
        "none; frequency by cpuinfo",
    ] {
        assert!(page.contains(expected), "page: {expected}");
        assert!(text.contains(expected), "Markdown: {expected}");
    }
    // The trial with the moved thread and the voided ones are drawn as left out.
    assert!(page.contains("round 4, left out"));
    assert!(page.contains("class=\"left-out\""));
}

#[test]
fn records_from_before_hosts_were_watched_have_a_report() {
    let (run, mut records) = rich();
    for record in &mut records {
        if let Some(proof) = &mut record.proof {
            proof.host = None;
        }
    }
    let analysed = analyse(&run, &records);
    let page = html(&run, &analysed).expect("a page");
    for absent in ["Depth at the device", "Interrupts of the device", "CPUs in"] {
        assert!(!page.contains(absent), "{absent}");
    }
    assert!(page.contains("Threads over") && page.contains("Pages of the buffers"));
}

#[test]
fn ports_and_wires_are_told_beside_the_figure() {
    let run = run(vec![tcp(Op::ReqRep)], 2);
    let mut records = records(&run, |_, round| 1000.0 + f64::from(round));
    for record in &mut records {
        let proof = record.proof.as_mut().expect("a proof");
        let host = proof.host.as_mut().expect("watched");
        host.ports = vec![RdmaPortProof {
            device: "mlx5_0".to_owned(),
            port: 1,
            sent_bytes: Some(Bytes::GIB),
            xmit_wait_ticks: Some(12),
            retransmissions: Some(u64::from(record.round) * 3),
            cnps_handled: Some(0),
            errors: [("symbol_error".to_owned(), 1)].into(),
            ..RdmaPortProof::default()
        }];
        host.interfaces = vec![InterfaceProof {
            name: "eth2".to_owned(),
            link_downs: Some(0),
            fec: Some("rs".to_owned()),
            statistics: (10..30).map(|n| (format!("rx_prio{n}_pause"), n)).collect(),
            ..InterfaceProof::default()
        }];
        proof.peer_host = Some(host.clone());
    }
    assert_valid(&records);
    let text = markdown(&run, &analyse(&run, &records));
    for expected in [
        "- RDMA port: mlx5_0 port 1: sent 1.00 GiB, received untold, sent again 0 to 3, CNPs obeyed 0, ticks without leave to send 12, symbol_error 1 in a trial\n",
        "- RDMA port of the other side: mlx5_0 port 1: sent 1.00 GiB",
        "- Wire: eth2: error correction rs, link down 0 times, rx_prio10_pause 10, ",
        "rx_prio21_pause 21, and 8 others in a trial\n",
        "- Wire of the other side: eth2: ",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn queue_pairs_are_told_by_side_and_rail() {
    let run = run(vec![rdma(Op::Write)], 8);
    let mut all = records(&run, |_, round| 10_000.0 * noise(0.01, 1, round));
    let of = |role, device: &str, node, bytes| QueuePairsProof {
        role,
        end: RdmaEnd {
            device: device.to_owned(),
            port: 1,
            gid_index: Some(1),
        },
        node,
        count: 2,
        link_layer: "Ethernet".to_owned(),
        gid: Some("::ffff:10.0.0.1".to_owned()),
        pkey: 0xffff,
        mtu_bytes: Bytes(4096),
        inline_bytes: Bytes(64),
        reads: 16,
        ops: 100,
        bytes: Bytes(bytes),
        received: 0,
        memory_bytes: Bytes::MIB,
        seen_by: None,
    };
    for record in &mut all {
        // A rail that carried more, one that carried less, and the other side's.
        record.proof.as_mut().expect("a proof").queue_pairs = vec![
            of(Role::Measure, "mlx5_0", Some(NodeId(0)), 4 << 20),
            of(Role::Measure, "mlx5_1", None, 1 << 20),
            of(Role::Peer, "mlx5_0", Some(NodeId(1)), 0),
        ];
    }
    // What does not count carried nothing that counts.
    all[3].proof.as_mut().expect("a proof").contradictions = vec!["moved".to_owned()];
    assert_valid(&all);
    for text in both(&run, &all) {
        let told = |words: &str| assert!(text.contains(words), "no {words:?} in {text}");
        told(
            "2 of mlx5_0/1 on node 0, Ethernet, GID ::ffff:10.0.0.1, P_Key 0xffff, packets of 4KiB, 1MiB registered; 28MiB carried in all trials",
        );
        told("2 of mlx5_1/1 of no known node, Ethernet");
        told("7MiB carried in all trials");
        told("Queue pairs of the other side");
        told("2 of mlx5_0/1 on node 1");
        told("when its bytes need be neither visible to its CPUs nor persistent");
    }
}

#[test]
fn why_verbs_have_no_latency_is_told() {
    type Change = fn(&mut Cell);
    let changes: [(Change, &str); 2] = [
        (
            |c| {
                let verbs = c.verbs.as_mut().expect("queue pairs");
                verbs.signal_every = 16;
            },
            "a completion stands for several operations",
        ),
        (
            |c| c.workload.verify = true,
            "making and checking what the messages carry",
        ),
    ];
    for (change, why) in changes {
        let mut cell = rdma(Op::Write);
        change(&mut cell);
        let run = run(vec![cell], 8);
        let mut all = records(&run, |_, round| 10_000.0 * noise(0.01, 1, round));
        for record in &mut all {
            record.result.as_mut().expect("a figure").latency_ns = None;
        }
        for text in both(&run, &all) {
            assert!(text.contains(why), "no {why:?} in {text}");
        }
    }
}

#[test]
fn the_other_side_is_named() {
    let mut run = run(vec![tcp(Op::ReqRep)], 2);
    run.environment.boot_id = Some("here".to_owned());
    let mut there = Environment {
        hostname: Some("storage2".to_owned()),
        boot_id: Some("there".to_owned()),
        kernel_release: Some("6.1.0-other".to_owned()),
        ..run.environment.clone()
    };
    there.cpu.model = Some("Example 9000".to_owned());
    let named = "The other side: storage2 (kernel 6.1.0-other, CPU Example 9000)";
    let part = "Other side storage2: Sysctls";
    let said = |run: &Run| {
        let analysed = analyse(run, &[]);
        [
            html(run, &analysed).expect("a page"),
            markdown(run, &analysed),
        ]
    };
    for text in said(&run) {
        assert!(!text.contains("The other side: "), "nobody else was there");
    }
    run.peers = vec![there];
    for text in said(&run) {
        assert!(text.contains(named) && text.contains(part), "{text}");
    }
    // Another network namespace of the machine that measures is no other machine.
    run.peers[0].boot_id = run.environment.boot_id.clone();
    for text in said(&run) {
        assert!(text.contains("storage2, which is this machine"), "{text}");
        assert!(!text.contains(part), "its environment stands there once");
    }
}

#[test]
fn a_run_without_trials_has_a_report() {
    let run = run(vec![block("psync", Op::RandRead, 1)], 8);
    let analysed = analyse(&run, &[]);
    let page = html(&run, &analysed).expect("a page");
    assert!(page.contains("No figure: every trial was skipped, failed or left out."));
    assert!(page.contains("The run has no trial of it."));
    assert!(!page.contains("<svg"));
}

/// Both forms of a report on these records.
fn both(run: &Run, records: &[Record]) -> [String; 2] {
    let analysed = analyse(run, records);
    [
        html(run, &analysed).expect("a page"),
        markdown(run, &analysed),
    ]
}

#[test]
fn what_was_done_before_the_first_trial_is_told() {
    let mut elsewhere = block("psync", Op::RandWrite, 1);
    elsewhere.via = "/dev/other".to_owned();
    elsewhere.target.identity = "another drive".to_owned();
    let mut run = run(vec![block("psync", Op::RandWrite, 1), elsewhere], 2);
    let prepared = |via: &str| Preconditioning {
        via: via.to_owned(),
        bytes: strata_units::Bytes(3 << 30),
        seconds: 12.5,
        workload: Some("psync randwrite 4KiB qd1".to_owned()),
        rounds_ops_per_s: vec![2000.0, 1000.0],
        steady: true,
    };
    for text in both(&run, &[]) {
        assert!(text.contains("Storage is read and written without preconditioning"));
        assert!(!text.contains("Sweep of streams"));
    }
    run.preconditioning = vec![prepared("/var/tmp/strata.data")];
    run.sweeps = vec![StreamSweep {
        of: "tcp stream 128KiB".to_owned(),
        candidates: [(1, 1.0), (2, 2.0)]
            .map(|(streams, gib)| StreamCandidate {
                threads: 1,
                streams,
                bytes_per_s: vec![gib * f64::from(1 << 30); 2],
            })
            .into(),
        chosen: 1,
        sure: false,
    }];
    for text in both(&run, &[]) {
        for told in [
            "/dev/other is read and written without preconditioning",
            "/var/tmp/strata.data: 3.00 GiB written in 12.5 s; rounds of psync randwrite 4KiB qd1: 2.00 k/s, 1.00 k/s; the \
             last five were steady",
            "tcp stream 128KiB, threads × connections of each: 1 × 1 brought 1.00 GiB/s and 1.00 GiB/s; 1 × 2 brought 2.00 \
             GiB/s and 2.00 GiB/s; chosen 1 × 2, though more may bring more",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
    run.preconditioning.push(prepared("/dev/other"));
    run.preconditioning[0].steady = false;
    for text in both(&run, &[]) {
        assert!(!text.contains("without preconditioning"), "{text}");
        assert!(text.contains("1.00 k/s; never five that were steady"));
    }
}

#[test]
fn a_region_is_told_with_where_it_begins() {
    let mut behind = block("psync", Op::RandRead, 1);
    behind.target.region_from_bytes = strata_units::ByteOffset(512 << 30);
    let run = run(vec![block("psync", Op::RandRead, 1), behind], 2);
    for text in both(&run, &[]) {
        assert!(text.contains("1GiB, its first 1GiB; on node 0"), "{text}");
        assert!(
            text.contains("1GiB, 1GiB from 512GiB on; on node 0"),
            "{text}"
        );
    }
}

#[test]
fn polls_are_told_of_a_cell_that_is_polled_and_of_no_other() {
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 32),
        ],
        6,
    );
    let mut all = records(&run, |_, _| 10_000.0);
    for text in both(&run, &all) {
        assert!(!text.contains("Empty polls"), "{text}");
    }
    for record in all.iter_mut().filter(|r| r.what.engine == "io_uring") {
        let result = record.result.as_mut().expect("a figure");
        result.polling = Some(Polling {
            polls: 8000,
            empty: 6000,
            completions_per_poll: Some(31.25),
        });
    }
    for text in both(&run, &all) {
        assert_eq!(text.matches("Empty polls").count(), 1, "{text}");
    }
    let text = markdown(&run, &analyse(&run, &all));
    assert_eq!(text.matches("| 75 % | 31.2 |").count(), 6, "{text}");
}

#[test]
fn what_is_checked_depends_on_the_operation() {
    const EACH_READ: &str = "each read";
    const LEDGER: &str = "writes recorded in a ledger";
    let mixed = Op::RandRw { read_percent: 70 };
    for (op, verify, told) in [
        (Op::RandRead, true, EACH_READ.to_owned()),
        (Op::RandWrite, true, LEDGER.to_owned()),
        (mixed, true, format!("{EACH_READ}, and {LEDGER}")),
        (mixed, false, "no".to_owned()),
    ] {
        let mut cell = block("psync", op, 1);
        cell.workload.verify = verify;
        let run = run(vec![cell], 2);
        let text = markdown(&run, &analyse(&run, &[]));
        // Between how it is timed and where it runs.
        let entry = format!("| operation | {told} | 1 |");
        assert!(text.contains(&entry), "{op} {verify}: {text}");
    }
}

#[test]
fn why_there_is_no_ratio_is_told() {
    const NO_PAIR: &str = "no two cells of one reality and target differ in one thing alone";
    const NO_ROUND: &str = "no round holds figures of both that count";
    let alone = run(vec![block("psync", Op::RandRead, 1)], 2);
    for text in both(&alone, &[]) {
        assert!(text.contains(NO_PAIR) && !text.contains(NO_ROUND), "{text}");
    }
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 1),
        ],
        2,
    );
    let mut all = records(&run, |_, _| 2000.0);
    for text in both(&run, &all) {
        assert!(
            !text.contains(NO_PAIR) && !text.contains(NO_ROUND),
            "{text}"
        );
    }
    // Each has figures, of rounds that the other was not in.
    all.retain(|r| (r.what.engine == "psync") == (r.round == 0));
    for text in both(&run, &all) {
        assert!(text.contains(NO_ROUND) && !text.contains(NO_PAIR), "{text}");
    }
}

#[test]
fn markdown_of_a_small_run() {
    let run = run(
        vec![
            block("psync", Op::RandRead, 1),
            block("io_uring", Op::RandRead, 1),
        ],
        8,
    );
    let records = records(&run, |cell, round| {
        [20_000.0, 17_000.0][cell] * noise(0.05, 90, round) * noise(0.005, cell, round)
    });
    assert_valid(&records);
    insta::assert_snapshot!(markdown(&run, &analyse(&run, &records)));
}

/// What a browser without a network makes of a page, in a window of this size.
struct Seen {
    /// Width of what is shown, in the window's pixels, and of the window.
    wide: f64,
    window: f64,
    /// Where the answer, the doubts and the table of figures begin.
    tops: [f64; 3],
    /// What it asked for beside the page.
    asked: f64,
}

/// None, and why, where no browser can be started.
fn look(page: &str, width: u32, height: u32) -> Result<Seen, String> {
    const PROBE: &str = "<script>onload = () => {
        const top = s => document.querySelector(s).getBoundingClientRect().top;
        document.documentElement.dataset.seen = [document.documentElement.scrollWidth, innerWidth, top('.answer'),
            top('.doubts li'), top('table'), performance.getEntriesByType('resource').length].join(' ');
    }</script>";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{width}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("page.html");
    // Its policy lets no script run, not the test's either.
    let policy = page.find("<meta http-equiv=").expect("a policy");
    let after = policy + page[policy..].find('>').expect("closed") + 1;
    let probed = [&page[..policy], PROBE, &page[after..]].concat();
    std::fs::write(&file, probed).expect("the page can be kept");
    let ran = std::process::Command::new("unshare")
        .args([
            "--net",
            "--map-root-user",
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
        ])
        .arg(format!("--window-size={width},{height}"))
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .args(["--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .output()
        .map_err(|e| format!("cannot run unshare: {e}"))?;
    let dom = String::from_utf8_lossy(&ran.stdout);
    let Some(seen) = attributes(&dom, "data-seen").first().copied() else {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(said.lines().last().unwrap_or("it shows nothing").to_owned());
    };
    let numbers: Vec<f64> = seen
        .split(' ')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let [wide, window, answer, doubts, table, asked] = numbers[..] else {
        panic!("{seen}");
    };
    Ok(Seen {
        wide,
        window,
        tops: [answer, doubts, table],
        asked,
    })
}

#[test]
fn a_browser_without_a_network_has_all_on_its_first_screen() {
    let (run, records) = rich();
    let page = html(&run, &analyse(&run, &records)).expect("a page");
    for (width, height) in [(1280, 900), (520, 900)] {
        let seen = match look(&page, width, height) {
            Ok(seen) => seen,
            Err(why) => {
                println!("SKIP a_browser_without_a_network_has_all_on_its_first_screen: {why}");
                return;
            }
        };
        assert_eq!(seen.asked, 0.0, "it loads nothing");
        assert!(
            seen.wide <= seen.window,
            "{} of {} at {width}: tables scroll in themselves, not the page",
            seen.wide,
            seen.window
        );
        let [answer, doubts, table] = seen.tops;
        assert!(answer < doubts && doubts < table, "{:?}", seen.tops);
        // On a narrow screen the figures may lie below.
        let below = if width > 1000 { table } else { doubts };
        assert!(below < f64::from(height), "{:?} at {width}", seen.tops);
    }
}

#[test]
fn a_split_plot_is_told_with_its_drivers_and_the_gain_past_the_kernel() {
    let run = run(vec![kernel("io_uring", 1), native(1), tcp(Op::ReqRep)], 8);
    let mut all = records(&run, |cell, round| {
        [12_000.0, 17_160.0, 8_000.0][cell] * noise(0.004, cell, round)
    });
    for record in &mut all {
        record.switch_s = record
            .what
            .binding
            .map(|_| 0.5 + f64::from(record.round) / 10.0);
    }
    assert_valid(&all);
    let analysed = analyse(&run, &all);
    let page = html(&run, &analysed).expect("a page");
    let text = markdown(&run, &analysed);
    for expected in [
        "split plot: 0000:11:00.0 on nvme (1 cell), 0000:11:00.0 on vfio-pci (1 cell). In each round each of these was bound \
         once",
        "1 cell without a driver of its own stood among them",
        "16 changes took 500 ms to 1.20 s each",
        "Measured with",
        "0000:11:00.0: nvme (1.0)",
        "0000:11:00.0: vfio-pci",
        "nvme native ÷ block io_uring at randread 4KiB qd1 (virtual)",
        "the operations a second of block io_uring",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(page.contains(expected), "{expected}");
    }
    let unbound = markdown(&run, &analyse(&run, &all[..0]));
    assert!(unbound.contains("split plot") && !unbound.contains("changes took"));
}
