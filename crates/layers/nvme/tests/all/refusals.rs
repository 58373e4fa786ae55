//! What cannot be measured is refused before anything is done, in words that say what to give.

use strata_nvme::{Blocking, NvmeJob, TargetError, Unusable, Wanted, Whose};
use strata_nvme_spec::NamespaceId;
use strata_record::{Cell, Op};
use strata_units::{ByteOffset, Bytes};

use crate::cells::{NEVER, cell, prepare, run, target, wanted};
use crate::emulator::Emulator;

const BLOCK: Bytes = Bytes(4096);

#[test]
fn more_than_a_queue_holds_is_refused_by_numbers() {
    let emulator = Emulator::new("entries = 64\ntransfer = \"8KiB\"");
    let controller = emulator.controller();
    let target = target(&controller, BLOCK);
    let deepest = cell(Op::RandRead, BLOCK, 63, &target);
    assert_eq!(run(&deepest, &target, NEVER).expect("it fits").failed, None);
    for (block, depth, commands) in [(BLOCK, 64, 64), (Bytes(64 << 10), 8, 64)] {
        let cell = cell(Op::RandRead, block, depth, &target);
        let Err(why) = NvmeJob::new(cell, target.clone(), NEVER) else {
            panic!("{depth} requests of {block}");
        };
        let words = format!("{depth} requests of {block} are up to {commands} commands of");
        assert!(
            why.contains(&words)
                && why.contains("holds 63")
                && why.contains("smaller --depth or --bs"),
            "{why}"
        );
    }
    drop((target, controller));
    emulator.end();
}

#[test]
fn places_that_do_not_fit_are_refused() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"\nblock = 4096");
    let controller = emulator.controller();
    let good = wanted(1, BLOCK);
    type Change = fn(&mut Wanted<'_>);
    let cases: [(Change, &str); 7] = [
        (
            |w| w.smallest = Bytes(512),
            "blocks of 4KiB, and a --bs of 512B",
        ),
        (
            |w| w.from = ByteOffset(512),
            "an --offset of 512B is no multiple of the block of 4KiB",
        ),
        (
            |w| (w.from, w.block) = (ByteOffset(4096), Bytes(8192)),
            "an --offset of 4KiB is no multiple of the block of 8KiB",
        ),
        (
            |w| w.from = ByteOffset(1 << 20),
            "holds 0B from --offset 1MiB on, and 4KiB are asked for",
        ),
        (
            |w| w.size = Some(Bytes(1)),
            "holds 1MiB from --offset 0B on, and 4KiB",
        ),
        (
            |w| (w.size, w.from) = (Some(Bytes::MIB), ByteOffset(4096)),
            "holds 1020KiB from --offset 4KiB on, and 1MiB are asked for",
        ),
        (|w| w.namespace = NamespaceId(2), "namespace"),
    ];
    for (change, words) in cases {
        let mut wanted = good;
        change(&mut wanted);
        let why = prepare(&controller, &wanted).map(drop).expect_err(words);
        let text = why.to_string();
        assert!(text.contains(words) && !text.contains('\n'), "{text}");
        assert!(why.is_usage(), "{text}");
    }
    // Nothing was written meanwhile.
    assert_eq!(controller.smart().expect("health").host_writes.get(), 0);
    drop(controller);
    emulator.end();
}

#[test]
fn cells_that_cannot_be_are_refused() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"\nblock = 4096");
    let controller = emulator.controller();
    let wanted = wanted(1, BLOCK);
    let ours = prepare(&controller, &wanted).expect("a target");
    let read_only = prepare(
        &controller,
        &Wanted {
            writes: false,
            ..wanted
        },
    )
    .expect("a target");
    type Change = fn(&mut Cell);
    let cases: [(Change, &str); 6] = [
        (|c| c.engine = "spdk".to_owned(), "expected native"),
        (
            |c| c.workload.block_bytes = Bytes(512),
            "blocks of 4KiB, and a --bs of 512B",
        ),
        (
            |c| c.workload.block_bytes = Bytes(6144),
            "no multiple of that",
        ),
        (|c| c.workload.op = Op::RandWrite, "may only be read"),
        (
            |c| c.workload.block_bytes = Bytes::MIB * 2,
            "does not fit the namespace",
        ),
        (|c| c.workload.threads = 2, "2 threads need as many CPUs"),
    ];
    for (change, words) in cases {
        let mut cell = cell(Op::RandRead, BLOCK, 1, &read_only);
        change(&mut cell);
        let why = NvmeJob::new(cell, read_only.clone(), NEVER)
            .map(drop)
            .expect_err(words);
        assert!(why.contains(words) && !why.contains('\n'), "{why}");
    }
    // The same may be written where that was asked for.
    let write = cell(Op::RandWrite, BLOCK, 1, &ours);
    assert!(NvmeJob::new(write, ours.clone(), NEVER).is_ok());
    drop((ours, read_only, controller));
    emulator.end();
}

/// Some of the bytes that file systems and partition tables are known by.
fn signed(what: &str) -> (usize, Vec<u8>) {
    match what {
        "ext4" => {
            let mut head = vec![0; 4096];
            head[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
            (0, head)
        }
        "GPT" => {
            let mut head = vec![0; 4096];
            head[512..520].copy_from_slice(b"EFI PART");
            (0, head)
        }
        // The second one of the two, where the first was overwritten.
        _ => {
            let mut tail = vec![0; 4096];
            tail[4096 - 512..][..8].copy_from_slice(b"EFI PART");
            ((2 << 20) - 4096, tail)
        }
    }
}

#[test]
fn somebodys_drive_is_written_only_when_it_is_named_and_empty() {
    let toml = "serial = \"NODE7-0\"\n[[namespace]]\nsize = \"2MiB\"";
    let theirs = |typed| Wanted {
        whose: Whose::Theirs(typed),
        ..wanted(1, BLOCK)
    };
    let emulator = Emulator::new(toml);
    let controller = emulator.controller();
    let why = prepare(&controller, &theirs(None)).map(drop);
    let why = why.expect_err("nobody named it");
    assert!(
        matches!(why, TargetError::NotNamed { .. }) && why.is_usage(),
        "{why}"
    );
    assert!(why.to_string().contains("--destroy"), "{why}");
    for typed in ["", " ", "NODE7", "NODE7-00", "node7-0", "E1"] {
        let why = prepare(&controller, &theirs(Some(typed))).map(drop);
        let why = why.expect_err("another drive's");
        assert!(matches!(why, TargetError::Another { .. }), "{typed}: {why}");
    }
    assert_eq!(controller.smart().expect("health").host_writes.get(), 0);
    let namespace = controller.namespace(NamespaceId(1)).expect("usable");
    let mut blocking = Blocking::new(&controller, namespace).expect("a queue");
    for what in ["ext4", "GPT", "the other GPT"] {
        let (at, bytes) = signed(what);
        let at = ByteOffset(at as u64);
        blocking.write(at, &bytes).expect("written");
        let why = prepare(&controller, &theirs(Some("NODE7-0"))).map(drop);
        let why = why.expect_err(what);
        assert!(matches!(why, TargetError::Signed { .. }), "{what}: {why}");
        let name = if what == "ext4" { "ext" } else { "gpt" };
        assert!(why.to_string().contains(name), "{why}");
        // Reading it does no harm.
        let reads = Wanted {
            writes: false,
            ..theirs(None)
        };
        prepare(&controller, &reads).expect("readable");
        blocking.write(at, &vec![0; bytes.len()]).expect("wiped");
    }
    let target = prepare(&controller, &theirs(Some(" NODE7-0 "))).expect("named and empty");
    let write = cell(Op::RandWrite, BLOCK, 4, &target);
    assert_eq!(run(&write, &target, NEVER).expect("written").failed, None);
    drop((target, blocking, controller));
    emulator.end();
}

#[test]
fn namespaces_that_do_not_take_it_say_so() {
    let emulator = Emulator::new(
        r#"
        [[namespace]]
        size = "1MiB"
        metadata = 8
        [[namespace]]
        size = "1MiB"
        metadata = 8
        protection = 1
        [[namespace]]
        size = "1MiB"
        write_protected = true
        [[namespace]]
        size = "1MiB"
        locked = true
        "#,
    );
    let controller = emulator.controller();
    let refused = |id, writes| {
        let wanted = Wanted {
            writes,
            whose: Whose::Theirs(None),
            ..wanted(id, BLOCK)
        };
        prepare(&controller, &wanted).map(drop)
    };
    for (id, words) in [(1, "metadata"), (2, "protection information")] {
        let why = refused(id, false).expect_err(words);
        assert!(
            matches!(
                why,
                TargetError::Unusable(Unusable::Metadata { .. } | Unusable::Protection { .. })
            ) && why.to_string().contains(words),
            "{why}"
        );
    }
    let why = refused(3, true).expect_err("protected");
    assert!(matches!(why, TargetError::Protected { .. }), "{why}");
    refused(3, false).expect("it may be read");
    let why = refused(4, false).expect_err("locked").to_string();
    assert!(
        why.contains("Access Denied") && why.contains("locked") && why.contains("unlock"),
        "{why}"
    );
    drop(controller);
    emulator.end();
}
