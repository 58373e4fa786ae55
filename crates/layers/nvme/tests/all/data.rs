//! What the engine writes and reads lands where it belongs: sizes, alignments, formats, limits and boundaries, checked by
//! who comes later.

use std::path::Path;
use std::process::Command;

use strata_measure::Ledger;
use strata_measure::storage::{WrittenState, verify};
use strata_nvme::{Blocking, Controller, NvmeTarget, Options, VfioUser, Wanted, Whose};
use strata_record::Op;
use strata_units::{ByteOffset, Bytes};

use crate::cells::{GO, NEVER, cell, job, measured, once, ops, prepare, verified, wanted};
use crate::emulator::Emulator;

const KIB: u64 = 1024;

/// Blocks that are written, each once.
const BLOCKS: u64 = 5;

/// A region of some blocks that begins off the boundaries, filled.
fn region(controller: &std::sync::Arc<Controller>, namespace: u32, block: Bytes) -> NvmeTarget {
    let wanted = Wanted {
        size: Some(block * BLOCKS),
        from: ByteOffset(block.0 * 3),
        ..wanted(namespace, block)
    };
    prepare(controller, &wanted).expect("a target")
}

/// Writes a region in verified writes through the engine, reads it back, and has another connection check each sector.
fn there_and_back(toml: &str, namespace: u32, block: Bytes, depth: u64) {
    let label = format!("{block} at depth {depth} of {namespace}: {toml}");
    let emulator = Emulator::new(toml);
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = folder.path().join("ledger.bin");
    let controller = emulator.controller();
    let target = region(&controller, namespace, block);
    let write = ops(verified(cell(Op::Write, block, depth, &target)), BLOCKS * 3);
    let mut writes = job(&write, &target, NEVER).with_ledger(ledger.clone());
    let result = once(&mut writes).expect(&label);
    assert_eq!(result.failed, None, "{label}");
    for op in [Op::Read, Op::RandRead] {
        let read = verified(cell(op, block, depth, &target));
        measured(&ops(read, BLOCKS * 2), &target);
    }
    drop((writes, target, controller));

    let controller = emulator.controller();
    let found = controller.namespace(strata_nvme_spec::NamespaceId(namespace));
    let mut later = Blocking::new(&controller, found.expect("usable")).expect("a queue");
    let ledger = Ledger::open(&ledger, false).expect("kept");
    let head = ledger.head();
    assert_eq!(head.from, ByteOffset(block.0 * 3), "{label}");
    let verified = verify(
        |at, into| later.read(at, into),
        head.from,
        head.length(),
        Some(&ledger),
        &GO,
    );
    let verified = verified.expect("read").expect("not interrupted");
    assert_eq!(verified.wrong, 0, "{label}: {:?}", verified.faults);
    assert_eq!(verified.sectors, block.0 * BLOCKS / 512, "{label}");
    assert_eq!(
        (verified.acknowledged, verified.open),
        (BLOCKS, 0),
        "{label}"
    );
    // Nothing fell beside.
    for at in [head.from.0 - block.0, head.from.0 + head.length().0] {
        let mut beside = vec![1; block.0.min(KIB * KIB) as usize];
        later.read(ByteOffset(at), &mut beside).expect("read");
        assert!(beside.iter().all(|byte| *byte == 0), "{label}");
    }
    drop((later, controller));
    emulator.end();
}

fn namespace(block: u64) -> String {
    format!("[[namespace]]\nsize = \"64MiB\"\nblock = {block}\n")
}

#[test]
fn small_transfers_and_boundaries() {
    let head = "transfer = \"8KiB\"\nboundary = \"128KiB\"\n";
    for format in [512, 4096] {
        let toml = head.to_owned() + &namespace(format);
        // Sizes that the boundary is a multiple of, and such that it is not.
        for kib in [4, 12, 64, 192] {
            there_and_back(&toml, 1, Bytes(kib * KIB), 4);
        }
    }
}

#[test]
fn sectors_and_odd_numbers_of_them() {
    for sectors in [1, 3, 13] {
        for boundary in ["", "boundary = \"4KiB\"\n"] {
            let toml = boundary.to_owned() + &namespace(512);
            there_and_back(&toml, 1, Bytes(sectors * 512), 32);
        }
    }
}

#[test]
fn lists_of_several_pages() {
    for head in ["transfer = \"none\"\n", "transfer = \"8KiB\"\n"] {
        let toml = head.to_owned() + &namespace(4096);
        there_and_back(&toml, 1, Bytes(4 * KIB * KIB), 2);
    }
}

#[test]
fn each_namespace_has_blocks_of_its_own() {
    let toml = namespace(512) + &namespace(4096) + &namespace(512);
    let emulator = Emulator::new(&toml);
    let controller = emulator.controller();
    let block = Bytes(16 * KIB);
    let targets = [1, 2, 3].map(|id| region(&controller, id, block));
    for target in &targets {
        measured(&ops(cell(Op::Write, block, 4, target), BLOCKS), target);
    }
    // Each holds what was put there, and not what another of the same numbers was given.
    for target in &targets {
        let read = verified(cell(Op::Read, block, 4, target));
        measured(&ops(read, BLOCKS), target);
    }
    let mut of_each = targets.map(|target| {
        let mut one = Blocking::new(&target.controller, target.namespace.clone()).expect("a queue");
        let mut bytes = vec![0; 4096];
        one.read(target.from, &mut bytes).expect("read");
        bytes
    });
    of_each.sort();
    assert!(of_each.windows(2).all(|two| two[0] != two[1]));
    drop(controller);
    emulator.end();
}

#[test]
fn a_region_that_was_filled_is_known_again() {
    let emulator = Emulator::new(&namespace(4096));
    let controller = emulator.controller();
    let whole = Wanted {
        size: Some(Bytes::MIB),
        ..wanted(1, Bytes(4096))
    };
    assert_eq!(
        prepare(&controller, &whole).expect("ours").state,
        WrittenState::Ours
    );
    drop(controller);
    let controller = emulator.controller();
    let theirs = Wanted {
        writes: false,
        whose: Whose::Theirs(None),
        ..whole
    };
    let target = prepare(&controller, &theirs).expect("readable");
    assert_eq!(target.state, WrittenState::Ours);
    measured(
        &verified(cell(Op::RandRead, Bytes(4096), 8, &target)),
        &target,
    );
    // Behind it nothing was ever written.
    let rest = Wanted {
        from: ByteOffset(1 << 20),
        ..theirs
    };
    let target = prepare(&controller, &rest).expect("readable");
    assert_eq!(target.state, WrittenState::Unwritten);
    let result = measured(&cell(Op::RandRead, Bytes(4096), 8, &target), &target);
    assert!(
        result
            .warnings
            .iter()
            .any(|warning| warning.text.contains("blocks of zeros")),
        "{:?}",
        result.warnings
    );
    drop((target, controller));
    emulator.end();
}

/// The second process, when there is one; else nothing to do.
const FOLDER: &str = "STRATA_TEST_CONTROLLER";

#[test]
fn a_second_process_finds_what_the_first_one_wrote() {
    const NAME: &str = "data::a_second_process_finds_what_the_first_one_wrote";
    if let Some(folder) = std::env::var_os(FOLDER) {
        return check_from_here(Path::new(&folder));
    }
    let emulator = Emulator::new(&namespace(512));
    let controller = emulator.controller();
    let target = region(&controller, 1, Bytes(64 * KIB));
    let write = ops(
        verified(cell(Op::Write, Bytes(64 * KIB), 4, &target)),
        BLOCKS * 2,
    );
    measured(&write, &target);
    drop((target, controller));
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args([NAME, "--exact", "--nocapture"])
        .env(FOLDER, emulator.folder())
        .output()
        .expect("a child");
    let out = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && out.contains("checked 640 sectors"),
        "{out}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    emulator.end();
}

fn check_from_here(folder: &Path) {
    let options = Options::default();
    let carrier = VfioUser::connect(folder, options.register_patience).expect("it serves");
    let controller = Controller::open(Box::new(carrier), &options).expect("a controller");
    let found = controller.namespace(strata_nvme_spec::NamespaceId(1));
    let mut one = Blocking::new(&controller, found.expect("usable")).expect("a queue");
    let block = 64 * KIB;
    let from = ByteOffset(block * 3);
    let read = |at, into: &mut [u8]| one.read(at, into);
    let found = verify(read, from, Bytes(block * BLOCKS), None, &GO).expect("read");
    let found = found.expect("not interrupted");
    assert_eq!(found.wrong, 0, "{:?}", found.faults);
    println!("checked {} sectors", found.sectors);
}
