//! Commands as entries: against bytes put together from the specification's figures, and there and back.

use proptest::prelude::*;
use strata_nvme_spec::command::admin::{
    Abort, Cns, GetFeatures, GetLogPage, Identify, LogPage, Select, SetFeatures,
    async_event_request,
};
use strata_nvme_spec::command::nvm::{
    DatasetManagement, DatasetRange, ReadWrite, Transfers, WriteZeroes, flush,
};
use strata_nvme_spec::command::{
    CreateCompletionQueue, CreateSubmissionQueue, Priority, delete_completion_queue,
    delete_submission_queue, queue_id,
};
use strata_nvme_spec::feature::{FeatureId, QueueCounts};
use strata_nvme_spec::prp::Pointers;
use strata_nvme_spec::{
    BlockCount, CommandId, Cqe, Lba, NamespaceId, QueueId, QueueSize, Sqe, Status,
};
use strata_units::{Bytes, Iova};
use zerocopy::{FromBytes, IntoBytes};

/// 64 bytes, zero but for these at these places.
fn golden(parts: &[(usize, &[u8])]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

fn size(entries: u32) -> QueueSize {
    QueueSize::new(entries).expect("a queue's size")
}

#[test]
fn a_read_is_laid_out_as_the_figures_say() {
    let read = ReadWrite {
        write: false,
        nsid: NamespaceId(7),
        first: Lba(0x1234_5678_9abc),
        blocks: BlockCount::new(16).expect("a count"),
        fua: true,
    };
    let sqe = read.sqe().with_cid(CommandId(0xbeef)).with_data(Pointers {
        prp1: Iova(0x1122_3344_5566_7780),
        prp2: Iova(0x9000),
    });
    let expected = golden(&[
        (0, &[0x02, 0, 0xef, 0xbe, 7]),
        (24, &[0x80, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]),
        (32, &[0, 0x90]),
        (40, &[0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12]),
        // NLB 15, FUA in bit 30.
        (48, &[15, 0, 0, 0x40]),
    ]);
    assert_eq!(sqe.as_bytes(), expected);
    assert!(sqe.uses_prp() && !sqe.is_fused());
    let write = ReadWrite {
        write: true,
        ..read
    };
    assert_eq!(write.sqe().opcode, 0x01);
    let mut words = [0u8; 64];
    for (bytes, word) in words.chunks_mut(8).zip(sqe.words()) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    assert_eq!(words, expected);
}

#[test]
fn queues_are_created_and_deleted_as_the_figures_say() {
    let completions = CreateCompletionQueue {
        id: QueueId(3),
        size: size(1024),
        at: Iova(0x4000),
        contiguous: true,
        vector: None,
    };
    assert_eq!(
        completions.sqe().as_bytes(),
        golden(&[
            (0, &[0x05]),
            (24, &[0, 0x40]),
            (40, &[3, 0, 0xff, 0x03]),
            (44, &[1])
        ])
    );
    let interrupting = CreateCompletionQueue {
        vector: Some(9),
        ..completions
    };
    assert_eq!(interrupting.sqe().cdw11.get(), 0x0009_0003);
    let submissions = CreateSubmissionQueue {
        id: QueueId(4),
        size: size(65_536),
        at: Iova(0x8000),
        contiguous: true,
        priority: Priority::Medium,
        completions: QueueId(3),
    };
    assert_eq!(
        submissions.sqe().as_bytes(),
        golden(&[
            (0, &[0x01]),
            (24, &[0, 0x80]),
            (40, &[4, 0, 0xff, 0xff]),
            (44, &[0b101, 0, 3, 0])
        ])
    );
    assert_eq!(
        delete_submission_queue(QueueId(4)).as_bytes(),
        golden(&[(40, &[4])])
    );
    assert_eq!(
        delete_completion_queue(QueueId(3)).as_bytes(),
        golden(&[(0, &[0x04]), (40, &[3])])
    );
    // A queue of one entry, QSIZE 0, is refused.
    let mut bad = submissions.sqe();
    bad.cdw10 = 4.into();
    let refusal = CreateSubmissionQueue::of(&bad).expect_err("no ring");
    assert!(refusal.is(Status::INVALID_QUEUE_SIZE) && !refusal.is_retryable());
    assert!(CreateCompletionQueue::of(&bad).is_err());
}

#[test]
fn admin_commands_are_laid_out_as_the_figures_say() {
    let identify = Identify {
        cns: Cns::Descriptors,
        nsid: NamespaceId(0x0102),
    };
    assert_eq!(
        identify.sqe().as_bytes(),
        golden(&[(0, &[0x06]), (4, &[2, 1]), (40, &[3])])
    );
    let log = GetLogPage {
        page: LogPage::Errors,
        nsid: NamespaceId::ALL,
        len: Bytes(64 * 64),
        from: Bytes(0x1_0000_0040),
        retain_event: true,
    };
    assert_eq!(
        log.sqe().as_bytes(),
        golden(&[
            (0, &[0x02]),
            (4, &[0xff; 4]),
            // LID 1, RAE in bit 15, 1024 dwords counted from 0.
            (40, &[0x01, 0x80, 0xff, 0x03]),
            (48, &[0x40]),
            (52, &[1]),
        ])
    );
    let most = GetLogPage {
        len: Bytes(16 << 30),
        ..log
    };
    assert_eq!(
        (most.sqe().cdw10.get() >> 16, most.sqe().cdw11.get()),
        (0xffff, 0xffff)
    );
    let queues = SetFeatures {
        feature: FeatureId::NUMBER_OF_QUEUES,
        nsid: NamespaceId::NONE,
        value: QueueCounts::new(8, 4).expect("counts").dword(),
        save: true,
    };
    assert_eq!(
        queues.sqe().as_bytes(),
        golden(&[(0, &[0x09]), (40, &[7, 0, 0, 0x80]), (44, &[7, 0, 3, 0])])
    );
    let ask = GetFeatures {
        feature: FeatureId::VOLATILE_WRITE_CACHE,
        nsid: NamespaceId::NONE,
        select: Select::Saved,
        detail: 0,
    };
    assert_eq!(ask.sqe().as_bytes(), golden(&[(0, &[0x0a]), (40, &[6, 2])]));
    let abort = Abort {
        queue: QueueId(2),
        command: CommandId(0x55),
    };
    assert_eq!(
        abort.sqe().as_bytes(),
        golden(&[(0, &[0x08]), (40, &[2, 0, 0x55])])
    );
    assert!(Abort::was_aborted(Abort::dword(true)) && !Abort::was_aborted(Abort::dword(false)));
    assert!(Abort::was_aborted(0));
    assert_eq!(async_event_request().as_bytes(), golden(&[(0, &[0x0c])]));
}

#[test]
fn nvm_commands_are_laid_out_as_the_figures_say() {
    assert_eq!(flush(NamespaceId(1)).as_bytes(), golden(&[(4, &[1])]));
    let zeroes = WriteZeroes {
        nsid: NamespaceId(1),
        first: Lba(8),
        blocks: BlockCount::new(65_536).expect("a count"),
        deallocate: true,
        fua: false,
    };
    assert_eq!(
        zeroes.sqe().as_bytes(),
        golden(&[
            (0, &[0x08]),
            (4, &[1]),
            (40, &[8]),
            (48, &[0xff, 0xff, 0, 0x02])
        ])
    );
    let mut trim = DatasetManagement {
        nsid: NamespaceId(1),
        ranges: 256,
        deallocate: true,
    };
    assert_eq!(
        trim.sqe().expect("a command").as_bytes(),
        golden(&[(0, &[0x09]), (4, &[1]), (40, &[0xff]), (44, &[4])])
    );
    for wrong in [0, 257, u16::MAX] {
        trim.ranges = wrong;
        assert_eq!(trim.sqe(), None);
    }
    let range = DatasetRange {
        attributes: 0.into(),
        blocks: 8.into(),
        first: 0x0102_0304_0506.into(),
    };
    assert_eq!(
        range.as_bytes(),
        [0, 0, 0, 0, 8, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0]
    );
}

#[test]
fn completions_are_laid_out_as_the_figures_say() {
    let bytes = [
        0x3f, 0, 0x1f, 0, 0, 0, 0, 0, 0x12, 0, 0x01, 0, 0xef, 0xbe, 0x05, 0x80,
    ];
    let cqe = Cqe::read_from_bytes(&bytes).expect("16 bytes");
    assert_eq!(cqe.dw0.get(), 0x001f_003f);
    assert_eq!(
        (cqe.sqhd.get(), cqe.sqid(), cqe.cid()),
        (0x12, QueueId(1), CommandId(0xbeef))
    );
    assert!(cqe.phase());
    assert_eq!(cqe.status(), Status::INVALID_FIELD.do_not_retry());
    let made = Cqe::new(
        CommandId(0xbeef),
        QueueId(1),
        0x12,
        0x001f_003f,
        Status::INVALID_FIELD.do_not_retry(),
        true,
    );
    assert_eq!((made, made.as_bytes()), (cqe, &bytes[..]));
    // The phase tag is the lowest bit of the last two bytes, so of the second word.
    let mut other = cqe;
    other.status_phase = (cqe.status_phase.get() & !1).into();
    assert_eq!(other.words()[0], cqe.words()[0]);
    assert_ne!(other.words()[1], cqe.words()[1]);
}

fn queue_ids() -> impl Strategy<Value = QueueId> {
    any::<u16>().prop_map(QueueId)
}

fn sizes() -> impl Strategy<Value = QueueSize> {
    (2u32..=65_536).prop_map(size)
}

proptest! {
    #[test]
    fn queue_commands_go_and_come(
        id in queue_ids(), completions in queue_ids(), size in sizes(), at in any::<u64>(), contiguous in any::<bool>(),
        vector in proptest::option::of(any::<u16>()),
        priority in prop_oneof![
            Just(Priority::Urgent), Just(Priority::High), Just(Priority::Medium), Just(Priority::Low)
        ],
    ) {
        let cq = CreateCompletionQueue { id, size, at: Iova(at), contiguous, vector };
        prop_assert_eq!(CreateCompletionQueue::of(&cq.sqe()), Ok(cq));
        let sq = CreateSubmissionQueue { id, size, at: Iova(at), contiguous, priority, completions };
        prop_assert_eq!(CreateSubmissionQueue::of(&sq.sqe()), Ok(sq));
        prop_assert_eq!(queue_id(&delete_completion_queue(id)), id);
        prop_assert_eq!(queue_id(&delete_submission_queue(id)), id);
    }

    #[test]
    fn admin_commands_go_and_come(
        nsid in any::<u32>(), value in any::<u32>(), feature in any::<u8>(), yes in any::<bool>(), dwords in 1u64..=1 << 32,
        from in any::<u64>(), ids in any::<(u16, u16)>(),
        page in prop_oneof![Just(LogPage::Errors), Just(LogPage::Smart), Just(LogPage::Firmware)],
        cns in prop_oneof![
            Just(Cns::Namespace), Just(Cns::Controller), Just(Cns::ActiveNamespaces), Just(Cns::Descriptors)
        ],
        select in prop_oneof![
            Just(Select::Current), Just(Select::Default), Just(Select::Saved), Just(Select::Capabilities)
        ],
    ) {
        let (nsid, feature) = (NamespaceId(nsid), FeatureId(feature));
        let identify = Identify { cns, nsid };
        prop_assert_eq!(Identify::of(&identify.sqe()), Ok(identify));
        let log = GetLogPage { page, nsid, len: Bytes(dwords * 4), from: Bytes(from), retain_event: yes };
        prop_assert_eq!(GetLogPage::of(&log.sqe()), Ok(log));
        let set = SetFeatures { feature, nsid, value, save: yes };
        prop_assert_eq!(SetFeatures::of(&set.sqe()), set);
        let get = GetFeatures { feature, nsid, select, detail: value };
        prop_assert_eq!(GetFeatures::of(&get.sqe()), Ok(get));
        let abort = Abort { queue: QueueId(ids.0), command: CommandId(ids.1) };
        prop_assert_eq!(Abort::of(&abort.sqe()), abort);
    }

    #[test]
    fn nvm_commands_go_and_come(
        nsid in any::<u32>(), lba in any::<u64>(), blocks in 1u32..=65_536, yes in any::<(bool, bool)>(), ranges in 1u16..=256,
    ) {
        let blocks = BlockCount::new(blocks).expect("a count");
        let (nsid, first) = (NamespaceId(nsid), Lba(lba));
        let rw = ReadWrite { write: yes.0, nsid, first, blocks, fua: yes.1 };
        prop_assert_eq!(ReadWrite::of(&rw.sqe()), rw);
        let cid = CommandId(ranges);
        let quick = Transfers::of(nsid).sqe(cid, yes.0, first, blocks);
        prop_assert_eq!(quick, ReadWrite { fua: false, ..rw }.sqe().with_cid(cid));
        let zeroes = WriteZeroes { nsid, first, blocks, deallocate: yes.0, fua: yes.1 };
        prop_assert_eq!(WriteZeroes::of(&zeroes.sqe()), zeroes);
        let trim = DatasetManagement { nsid, ranges, deallocate: yes.0 };
        prop_assert_eq!(trim.sqe().map(|sqe| DatasetManagement::of(&sqe)), Some(trim));
    }

    #[test]
    fn words_are_the_entry(words in any::<[u64; 8]>()) {
        let sqe = Sqe::from_words(words);
        prop_assert_eq!(sqe.words(), words);
        let cqe = Cqe::from_words([words[0], words[1]]);
        prop_assert_eq!(cqe.words(), [words[0], words[1]]);
        let again = Cqe::new(cqe.cid(), cqe.sqid(), cqe.sqhd.get(), cqe.dw0.get(), cqe.status(), cqe.phase());
        prop_assert_eq!(again.words()[1], words[1]);
    }
}
