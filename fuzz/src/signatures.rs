//! The write guard's eyes: the first and last bytes of a drive.
//!
//! An input tells a sparse image: the size of the target (eight bytes, little-endian), the binary logarithm of its logical
//! block, then pieces, each with a place (three bytes; from its half on, counted from the end), a length (two) and bytes.

use strata_guard::{Ends, FIRST, LAST, signatures as look};
use strata_units::Bytes;

/// Takes `N` bytes off the front.
fn number<const N: usize>(bytes: &mut &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    let mut whole = [0; 8];
    whole[..N].copy_from_slice(head);
    Some(u64::from_le_bytes(whole))
}

/// What is found lies on the target, in order; nothing is found in zeros.
pub(crate) fn signatures(mut bytes: &[u8]) {
    let input = &mut bytes;
    let (Some(size), Some(shift)) = (number::<8>(input), number::<1>(input)) else {
        return;
    };
    let size = Bytes(size);
    let length = |most: Bytes| most.0.min(size.0) as usize;
    let (mut first, mut last) = (vec![0; length(FIRST)], vec![0; length(LAST)]);
    while let (Some(place), Some(long)) = (number::<3>(input), number::<2>(input)) {
        let piece;
        (piece, *input) = input.split_at(input.len().min(long as usize));
        let end = 1 << 24;
        let (into, from) = if place < end / 2 {
            (&mut first, place as usize)
        } else {
            let from = last.len().saturating_sub((end - place) as usize);
            (&mut last, from)
        };
        for (to, byte) in into.iter_mut().skip(from).zip(piece) {
            *to = *byte;
        }
    }
    let ends = Ends {
        first: &first,
        last: &last,
        size,
        logical_block: Bytes(1 << (shift % 64)),
    };
    let found = look(&ends);
    assert!(found.iter().all(|one| one.at.0 < size.0), "{found:?}");
    assert!(found.is_sorted_by_key(|one| one.at), "{found:?}");
    let told: usize = found.iter().map(|one| one.to_string().len()).sum();
    assert!(told < 1 << 20, "{told} bytes of words");
    if !found.is_empty() {
        assert!(!ends.are_zero(), "{found:?} in nothing but zeros");
    }
}
