//! The emulated controller through the SPDK of this node, where `STRATA_SPDK_PLUGIN` names its plugin: without huge pages, as
//! an ordinary user may. One test, since a process can start SPDK once.

#![allow(unsafe_code, reason = "buffers are told to SPDK by their addresses")]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use strata_measure::{Clock, Engine, Load, Scratch, Step, Stream, Window, drive};
use strata_memory::Region;
use strata_nvme_emulator::{Config, serve};
use strata_nvme_spec::Status;
use strata_record::{Completes, Op, TimedBy};
use strata_spdk::{
    Completion, Controller, Doing, Environment, Pages, Part, Plugin, Post, QueuePair, Queues, Spdk,
    SpdkEngine, SpdkError, Transport,
};
use strata_units::{Bytes, CpuId, Nanos, QueueDepth};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);
const BLOCK: u64 = 512;

/// The emulated controller, served in a thread.
struct Emulator {
    folder: TempDir,
    stop: Arc<AtomicBool>,
}

impl Emulator {
    fn new(config: &str) -> Emulator {
        let config: Config = toml::from_str(config).expect(config);
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir();
        let folder = folder.expect("a folder");
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (folder.path().to_owned(), Arc::clone(&stop));
        spawn(move || serve(&config, &path, None, &stopped).expect("served"));
        let begun = Instant::now();
        while !folder.path().join("cntrl").exists() {
            assert!(begun.elapsed() < LONG, "no socket");
            sleep(Duration::from_millis(5));
        }
        Emulator { folder, stop }
    }

    fn transport(&self) -> Transport {
        at(self.folder.path())
    }
}

fn at(folder: &Path) -> Transport {
    let words = format!(
        "trtype:VFIOUSER traddr:{} subnqn:nqn.2014-08.org.nvmexpress:strata",
        folder.display()
    );
    words.parse().expect("a transport")
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Completions until there are so many.
fn reap(pair: &mut QueuePair, many: usize) -> Vec<Completion> {
    let begun = Instant::now();
    let mut found = Vec::new();
    while found.len() < many {
        assert!(
            begun.elapsed() < LONG,
            "{} of {many} completions",
            found.len()
        );
        found.extend(pair.poll().expect("a sound queue pair"));
        pair.ring().expect("a sound queue pair");
    }
    found
}

/// Hands over one request for each slot, of so many blocks each, one behind the other.
fn all(
    pair: &mut QueuePair,
    region: &Region,
    doing: Doing,
    slots: u16,
    blocks: u32,
) -> Vec<Completion> {
    let len = u64::from(blocks) * BLOCK;
    for slot in 0..slots {
        let at = usize::try_from(u64::from(slot) * len).expect("a place");
        let post = Post {
            doing,
            slot,
            block: u64::from(slot) * u64::from(blocks),
            blocks,
            // SAFETY: the region has room for all slots.
            buffer: unsafe { region.as_ptr().as_ptr().add(at) },
        };
        // SAFETY: the buffer is of SPDK's memory, which outlives the queue pair; each slot is free again.
        unsafe { pair.post(post) };
    }
    pair.ring().expect("handed over");
    reap(pair, usize::from(slots))
}

/// Reads and writes of the one loop, each with its time.
fn under_the_loop(controller: &Controller) {
    for (mix, depth, len) in [
        (Op::RandRead, 1, 4096),
        (Op::RandRead, 128, 512),
        (Op::Write, 32, 65536),
    ] {
        let part = Part {
            namespace: 1,
            block: Bytes(BLOCK),
            len: Bytes(len),
            depth: QueueDepth::new(depth).expect("a depth"),
            node: None,
        };
        let mut engine = SpdkEngine::new(controller, &part).expect("an engine");
        assert_eq!(engine.limits().completes, Completes::Device);
        let load = Load {
            depth: part.depth,
            offer: None,
            ramp: Nanos(0),
            window: Window::Ops(500),
            timed_by: TimedBy::Operation,
            patience: Nanos::SECOND * 20,
        };
        let mut stream = Stream::new(mix, part.len, 1000, 1);
        let (clock, scratch) = (Clock::get(), Scratch::new(&load, &mut stream));
        let (begun, mut go) = (clock.now(), |_| Step::Go);
        let tally = drive(
            &mut engine,
            &mut stream,
            &load,
            clock,
            scratch,
            begun,
            &mut go,
        );
        assert_eq!((tally.broken(), tally.errors()), (None, 0));
        let measured = tally.measured(Completes::Device);
        assert_eq!(measured.ops, 500, "{mix}");
        assert_eq!(measured.latency_ns.map(|l| l.count), Some(500));
        let pages = engine.pages().expect("the kernel tells");
        assert!(pages.iter().map(|p| p.pages).sum::<u64>() > 0);
        // What is beyond the namespace is told by the controller.
        let said = engine.explain(strata_measure::FailCode(0x80));
        assert!(
            said.contains("LBA Out of Range") && said.contains("error log"),
            "{said}"
        );
    }
}

#[test]
fn an_emulated_controller_is_driven_by_the_nodes_spdk() {
    let plugin = match Plugin::find() {
        Ok(plugin) => plugin,
        Err(why) => {
            println!("SKIP an_emulated_controller_is_driven_by_the_nodes_spdk: {why}");
            return;
        }
    };
    let environment = Environment {
        pages: Pages::Small(Bytes(256 << 20)),
        ..Environment::on(CpuId(0), Vec::new())
    };
    let spdk = Spdk::start(plugin, environment.clone()).expect("SPDK starts");
    let again = Spdk::start(plugin, environment).err();
    assert_eq!(again, Some(SpdkError::Again));
    let _ = spdk.said();

    let nowhere = TempDir::new().expect("a folder");
    let why = Controller::attach(&spdk, &at(nowhere.path()))
        .err()
        .expect("nobody is there");
    assert!(
        why.to_string()
            .contains("SPDK cannot attach to trtype:VFIOUSER"),
        "{why}"
    );

    for transfer in ["8KiB", "128KiB"] {
        let emulator = Emulator::new(&format!(
            "serial = \"S1\"\nmodel = \"Emulated\"\ntransfer = \"{transfer}\"\nentries = 1024"
        ));
        let controller = Controller::attach(&spdk, &emulator.transport()).expect("attached");
        let identity = controller.identify().expect("a page");
        assert_eq!(&identity[4..8], b"S1  ", "the serial number");
        assert_eq!(controller.namespaces(), [1]);
        assert_eq!(controller.largest(), transfer.parse().expect("bytes"));
        let page = controller.identify_namespace(1).expect("a page");
        let size = u64::from_le_bytes(page[..8].try_into().expect("eight"));
        assert_eq!(Bytes(size * BLOCK), Bytes::GIB);
        let why = controller.identify_namespace(7).expect_err("none");
        assert!(
            why.to_string().starts_with("Identify of a namespace of"),
            "{why}"
        );

        for (slots, blocks) in [(1, 1), (1, 256), (32, 8), (128, 1), (128, 64), (7, 9)] {
            let len = Bytes(u64::from(blocks) * BLOCK * u64::from(slots));
            let memory = spdk.memory(len, None).expect("memory");
            let region = Region::lent(Box::new(memory), false);
            let whole = len.as_usize();
            let written: Vec<u8> = (0..whole)
                .map(|n| (n * 7 + n / 512 + whole) as u8)
                .collect();
            let queues = Queues {
                namespace: 1,
                slots,
                commands: 32,
                late_doorbell: true,
            };
            let mut pair = controller.queue_pair(&queues).expect("a queue pair");
            region.copy_in(Bytes(0), &written);
            for doing in [Doing::Write, Doing::Read] {
                let came = all(&mut pair, &region, doing, slots, blocks);
                let slots_told: BTreeSet<u16> = came.iter().map(|c| c.slot).collect();
                assert_eq!(slots_told.len(), usize::from(slots), "each once");
                assert!(came.iter().all(|c| c.status.is_success()), "{came:?}");
                let mut found = vec![0; whole];
                region.copy_out(Bytes(0), &mut found);
                assert!(
                    found == written,
                    "{doing:?} of {slots} times {blocks} blocks"
                );
                // What is read next is seen to have come.
                region.copy_in(Bytes(0), &vec![0xa5; whole]);
            }
            let beyond = Post {
                doing: Doing::Read,
                slot: 0,
                block: size,
                blocks: 1,
                buffer: region.as_ptr().as_ptr(),
            };
            // SAFETY: as in `all`.
            unsafe { pair.post(beyond) };
            pair.ring().expect("handed over");
            let told = reap(&mut pair, 1)[0];
            let expected = Status::LBA_OUT_OF_RANGE;
            assert!(told.slot == 0 && told.status.is(expected), "{told:?}");
            let flush = Post {
                doing: Doing::Flush,
                slot: 0,
                block: 0,
                blocks: 0,
                buffer: std::ptr::null_mut(),
            };
            // SAFETY: a flush has no buffer.
            unsafe { pair.post(flush) };
            pair.ring().expect("handed over");
            assert!(reap(&mut pair, 1)[0].status.is_success());
            assert_eq!(region.page(), Bytes(4096));
        }
        under_the_loop(&controller);
        controller.attend().expect("it is there");
        assert!(!controller.has_failed());
        controller.reset().expect("it comes back");
        assert!(!controller.has_failed());
    }
}
