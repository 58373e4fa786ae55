//! PRP entries: laid out and followed again they give the same bytes; what is wrong is refused.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use strata_nvme_spec::prp::{ENTRY, Pointers, PrpError, PrpFault, Span, contiguous, walk};
use strata_nvme_spec::{PageSize, Status};
use strata_units::{Bytes, Iova};

const PAGE: PageSize = PageSize::FOUR_KIB;

fn page(bytes: u64) -> PageSize {
    PageSize::new(Bytes(bytes)).expect("a page size")
}

/// Memory that a controller reads lists from.
type Memory = HashMap<u64, u64>;

/// Lays `span` out over a buffer and lists at these places.
fn point(
    span: Span,
    buffer: impl Fn(u64) -> Iova,
    list: impl Fn(u64) -> Iova,
) -> Result<(Pointers, Memory), PrpError> {
    let mut memory = Memory::new();
    let at = |n, entry| list(n).0 + entry * ENTRY;
    let data = span.point(&buffer, &list, |n, entry, value| {
        let before = memory.insert(at(n, entry), value.0);
        assert_eq!(before, None, "entry {entry} of list page {n} is put twice");
    })?;
    Ok((data, memory))
}

/// All pieces, one after the other.
fn pieces(
    size: PageSize,
    data: Pointers,
    len: u64,
    memory: &Memory,
) -> Result<Vec<(u64, u64)>, PrpFault> {
    walk(size, data, Bytes(len), |at| memory.get(&at.0).copied())
        .map(|piece| piece.map(|(start, len)| (start.0, len.0)))
        .collect()
}

#[test]
fn one_and_two_pages_need_no_list() {
    let nowhere = |_| -> Iova { panic!("no list is needed") };
    let place = |n| Iova(0x10_0000 + n * 0x1_0000);
    for (offset, len, pages, prp2) in [
        (0u64, 512u64, 1u64, 0u64),
        (0, 4096, 1, 0),
        (0xe00, 512, 1, 0),
        (4, 4096, 2, 0x11_0000),
        (0xffc, 8, 2, 0x11_0000),
        (0, 8192, 2, 0x11_0000),
        (0x1004, 4096, 2, 0x12_0000),
    ] {
        let span = Span::new(PAGE, Bytes(offset), Bytes(len)).expect("a span");
        assert_eq!(span.pages(), pages);
        assert_eq!(span.list_pages(Bytes(0)), 0);
        let (data, memory) = point(span, place, nowhere).expect("aligned");
        assert_eq!(data.prp2, Iova(prp2), "{offset:#x} {len}");
        assert_eq!(data.prp1.0 & 0xfff, offset & 0xfff);
        assert!(memory.is_empty());
    }
}

/// 4 MiB of 4 KiB pages: 1023 entries behind PRP 1, 511 and 512 in two pages of list.
#[test]
fn a_list_of_several_pages_is_chained_by_its_last_entry() {
    let list = |n| Iova(0x8000 + n * 0x2000);
    let buffer = |n| Iova((0x1_0000 + n) << 12);
    let span = Span::new(PAGE, Bytes(0), Bytes(4 << 20)).expect("a span");
    assert_eq!((span.pages(), span.list_pages(Bytes(0))), (1024, 2));
    let (data, memory) = point(span, buffer, list).expect("aligned");
    assert_eq!((data.prp1, data.prp2), (Iova(0x1000_0000), Iova(0x8000)));
    assert_eq!(memory.len(), 1024);
    assert_eq!(memory[&0x8000], 0x1000_1000);
    assert_eq!(memory[&(0x8000 + 510 * 8)], 0x101f_f000);
    assert_eq!(memory[&(0x8000 + 511 * 8)], 0xa000);
    assert_eq!(memory[&0xa000], 0x1020_0000);
    assert_eq!(memory[&(0xa000 + 511 * 8)], 0x103f_f000);
}

/// 513 pages: the list's first page is full to its last entry, which is data, since no more than one page is left.
#[test]
fn a_list_that_just_fits_is_not_chained() {
    let buffer = |n| Iova((0x1_0000 + n) << 12);
    let list = |n: u64| Iova(0x8000 + n * 0x1000);
    let span = Span::new(PAGE, Bytes(0), Bytes(513 * 4096)).expect("a span");
    assert_eq!(span.list_pages(Bytes(0)), 1);
    let (data, memory) = point(span, buffer, list).expect("aligned");
    assert_eq!(memory.len(), 512);
    assert_eq!(memory[&0x8ff8], 0x1020_0000);
    let all = pieces(PAGE, data, 513 * 4096, &memory).expect("no fault");
    assert_eq!((all.len(), all[512]), (513, (0x1020_0000, 4096)));
    let span = Span::new(PAGE, Bytes(0), Bytes(514 * 4096)).expect("a span");
    assert_eq!(span.list_pages(Bytes(0)), 2);
    let (_, memory) = point(span, buffer, list).expect("aligned");
    assert_eq!((memory[&0x8ff8], memory.len()), (0x9000, 514));
    // A list that starts at its page's last entry holds nothing but the address of its next page.
    assert_eq!(span.list_pages(Bytes(4088)), 3);
    let (data, memory) = point(span, buffer, |n| match n {
        0 => Iova(0x8ff8),
        n => list(n),
    })
    .expect("aligned");
    assert_eq!((data.prp2, memory[&0x8ff8]), (Iova(0x8ff8), 0x9000));
    assert_eq!(
        pieces(PAGE, data, 514 * 4096, &memory).map(|all| all.len()),
        Ok(514)
    );
}

#[test]
fn what_cannot_be_pointed_to_is_refused() {
    assert_eq!(Span::new(PAGE, Bytes(0), Bytes(0)), Err(PrpError::Empty));
    for at in [1, 2, 3, 4097] {
        assert_eq!(
            Span::new(PAGE, Bytes(at), Bytes(512)),
            Err(PrpError::NotDword { at })
        );
    }
    let far = Span::new(PAGE, Bytes(u64::MAX - 3), Bytes(5));
    assert!(matches!(far, Err(PrpError::TooLong { .. })));
    let span = Span::new(PAGE, Bytes(0), Bytes(4 * 4096)).expect("a span");
    let aligned = |n| Iova(n << 12);
    let odd = point(span, |n| Iova((n << 12) + u64::from(n == 2) * 512), aligned);
    let error = odd.expect_err("page 2 is not aligned");
    assert_eq!(
        error.to_string(),
        "page 2 of the buffer is at 0x2200, which is no multiple of the memory page of 4KiB; map the buffer by whole pages"
    );
    let odd = point(span, aligned, |_| Iova(0x8004)).expect_err("the list is not aligned");
    assert_eq!(
        odd,
        PrpError::ListStart {
            found: Iova(0x8004)
        }
    );
    let span = Span::new(PAGE, Bytes(0), Bytes(4 << 20)).expect("a span");
    let odd = point(span, aligned, |n| Iova(0x8000 + n * 0x1008)).expect_err("its next is not");
    assert!(matches!(odd, PrpError::ListPage { index: 1, .. }));
}

#[test]
fn a_hosts_wrong_entries_are_faults() {
    let read = |at: Iova| match at.0 {
        0x8000 => Some(0x3000),
        0x8008 => Some(0x4004),
        _ => None,
    };
    let follow = |prp1, prp2, len| {
        let data = Pointers {
            prp1: Iova(prp1),
            prp2: Iova(prp2),
        };
        walk(PAGE, data, Bytes(len), read).collect::<Vec<_>>()
    };
    let first = Ok((Iova(0x1000), Bytes(4096)));
    let offset = |found, expected| {
        Err(PrpFault::Offset {
            found: Iova(found),
            expected: Bytes(expected),
        })
    };
    assert_eq!(follow(0x1002, 0, 512), [offset(0x1002, 4)]);
    assert_eq!(follow(0x1000, 0x2004, 8192), [first, offset(0x2004, 4096)]);
    assert_eq!(follow(0x1000, 0x8004, 16_384), [first, offset(0x8004, 8)]);
    assert_eq!(
        follow(0x1000, 0x8000, 16_384),
        [first, Ok((Iova(0x3000), Bytes(4096))), offset(0x4004, 4096)]
    );
    let unreadable = PrpFault::Unreadable { at: Iova(0x9000) };
    assert_eq!(follow(0x1000, 0x9000, 16_384), [first, Err(unreadable)]);
    assert!(unreadable.status().is(Status::DATA_TRANSFER_ERROR));
    // What is not needed is not looked at.
    assert_eq!(follow(0x1000, 0x2003, 4096), [first]);
    assert_eq!(follow(0x1001, 3, 0), []);
    let fault = follow(0x1002, 0, 512)[0].expect_err("a fault");
    assert!(fault.status().is(Status::PRP_OFFSET_INVALID) && !fault.status().is_retryable());
}

/// A list that points back to itself still ends when all bytes are found.
#[test]
fn a_list_in_a_circle_ends() {
    let read = |at: Iova| Some(if at.0 % 4096 == 4088 { 0x8000 } else { 0x5000 });
    let data = Pointers {
        prp1: Iova(0x1000),
        prp2: Iova(0x8ff8),
    };
    let found: u64 = walk(PAGE, data, Bytes(64 << 20), read)
        .map(|piece| piece.expect("no fault").1.0)
        .sum();
    assert_eq!(found, 64 << 20);
}

/// Page sizes of 4 to 64 KiB.
fn page_sizes() -> impl Strategy<Value = PageSize> {
    (12u32..=16).prop_map(|shift| page(1 << shift))
}

/// Lengths of one block to a little over 4 MiB, short ones often.
fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![
        (1u64..=64).prop_map(|blocks| blocks * 512),
        (1u64..=8200).prop_map(|blocks| blocks * 512),
        1u64..=(4 << 20) + 70_000,
    ]
}

proptest! {
    #[test]
    fn what_is_laid_out_is_found_again(
        size in page_sizes(), offset in 0u64..100_000, len in lengths(), list_offset in 0u64..8192, salt in any::<u32>(),
    ) {
        let offset = offset * 4;
        let bytes = size.bytes().0;
        // Pages and lists are scattered, each at a place of its own.
        let scatter = |n: u64| (n ^ u64::from(salt)) << size.shift();
        let buffer = |n: u64| Iova(1 << 60 | scatter(n));
        let list_offset = list_offset * ENTRY % bytes;
        let list = |n: u64| Iova((1 << 61 | scatter(n)) + if n == 0 { list_offset } else { 0 });
        let span = Span::new(size, Bytes(offset), Bytes(len)).expect("a span");
        let (data, memory) = point(span, buffer, list).expect("aligned");

        let mut expected = Vec::new();
        let mut at = offset;
        while at < offset + len {
            let end = (at / bytes + 1) * bytes;
            let piece = end.min(offset + len) - at;
            expected.push((buffer(at / bytes).0 + at % bytes, piece));
            at += piece;
        }
        prop_assert_eq!(span.pages(), expected.len() as u64);
        prop_assert_eq!(pieces(size, data, len, &memory), Ok(expected));

        // As many pages of list are used as were foretold, each entry within its page.
        let used: HashSet<u64> = memory.keys().map(|at| at / bytes).collect();
        prop_assert_eq!(used.len() as u64, span.list_pages(Bytes(list_offset)));
        prop_assert!(memory.keys().all(|at| at >> 61 == 1 && at % ENTRY == 0));
    }

    #[test]
    fn what_is_contiguous_is_found_again(size in page_sizes(), start in any::<u64>(), len in lengths()) {
        let start = start & 0x0fff_ffff_ffff_fffc;
        let list = |n: u64| Iova(1 << 62 | n << size.shift());
        let mut memory = Memory::new();
        let data = contiguous(size, Iova(start), Bytes(len), list, |n, entry, value| {
            memory.insert(list(n).0 + entry * ENTRY, value.0);
        });
        let mut next = start;
        for (at, piece) in pieces(size, data.expect("aligned"), len, &memory).expect("no fault") {
            prop_assert_eq!(at, next);
            prop_assert!(at % size.bytes().0 + piece <= size.bytes().0);
            next += piece;
        }
        prop_assert_eq!(next, start + len);
    }

    /// Whatever the host wrote: each piece lies within a page, and no more is found than was asked for.
    #[test]
    fn no_entries_panic(
        size in (0u8..16).prop_map(PageSize::from_field), prp1 in any::<u64>(), prp2 in any::<u64>(), len in 0u64..8 << 20,
        aligned in any::<bool>(), seed in any::<u64>(), holes in 0u64..200,
    ) {
        let bytes = size.bytes().0;
        // Mostly aligned, so that the walk goes beyond its first steps.
        let place = |value: u64| if aligned { value & !(bytes - 1) } else { value };
        let data = Pointers { prp1: Iova(place(prp1)), prp2: Iova(place(prp2)) };
        let read = |at: Iova| {
            let noise = (at.0 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (noise >> 32 >= holes * 100_000).then_some(place(noise))
        };
        let (mut found, mut faults) = (0, 0);
        for piece in walk(size, data, Bytes(len), read) {
            match piece {
                Ok((at, piece)) => {
                    prop_assert!(faults == 0 && piece.0 > 0);
                    prop_assert!(at.0 % bytes + piece.0 <= bytes);
                    found += piece.0;
                }
                Err(_) => faults += 1,
            }
        }
        prop_assert!(faults <= 1 && found <= len);
        prop_assert_eq!(found == len, faults == 0);
    }
}
