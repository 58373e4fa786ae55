//! Cutting a request into commands: none moves more than a controller takes, none crosses a namespace's boundary.

use strata_units::{ByteOffset, Bytes};

/// The pieces of `len` bytes from `at` on: each one's offset in the request, and its length.
///
/// No piece is longer than `most` (MDTS), and none crosses a multiple of `boundary` in the namespace (NOIOB). A limit of 0 is
/// none, as on the wire.
#[inline]
pub(crate) fn pieces(
    at: ByteOffset,
    len: Bytes,
    most: Option<Bytes>,
    boundary: Option<Bytes>,
) -> impl Iterator<Item = (Bytes, Bytes)> {
    let most = most.map_or(u64::MAX, |most| most.0);
    let most = if most == 0 { u64::MAX } else { most };
    let boundary = boundary.map_or(0, |boundary| boundary.0);
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = len.0 - done;
        if left == 0 {
            return None;
        }
        let mut piece = left.min(most);
        if boundary > 0 {
            // Wrapping, since nothing of a namespace lies above 64 bits, and a request that does is refused elsewhere.
            piece = piece.min(boundary - at.0.wrapping_add(done) % boundary);
        }
        let start = done;
        done += piece;
        Some((Bytes(start), Bytes(piece)))
    })
}

/// The most [`pieces`] that a request of `len` bytes has wherever it starts at a multiple of `align`: never fewer than there
/// are, and where sizes are powers of two no more than there can be.
pub(crate) fn most_pieces(
    len: Bytes,
    most: Option<Bytes>,
    boundary: Option<Bytes>,
    align: Bytes,
) -> u64 {
    let len = len.0;
    if len == 0 {
        return 0;
    }
    let given = |limit: Option<Bytes>| limit.map(|limit| limit.0).filter(|limit| *limit > 0);
    let most = given(most).unwrap_or(u64::MAX);
    let Some(boundary) = given(boundary) else {
        return len.div_ceil(most);
    };
    // Starts are multiples of this behind a boundary, and so are the ends of what lies between cuts.
    let unit = gcd(align.0, boundary);
    // Parts up to the first boundary and behind the last are multiples of this, as are their cuts.
    let grain = gcd(gcd(unit, len), most);
    // Between them lie whole stretches from boundary to boundary: of the two numbers that are possible, the worse one.
    let whole = len.saturating_sub(unit) / boundary;
    (whole.saturating_sub(1)..=whole)
        .map(|whole| {
            let ends = len - whole * boundary;
            // Two ends of x and y with x + y = ends are cut into ⌊(x - g) / m⌋ + 1 and ⌊(y - g) / m⌋ + 1, g being the grain;
            // one alone is possible where they fit between two boundaries.
            let two = ends
                .checked_sub(2 * grain)
                .map_or(0, |ends| ends / most + 2);
            let one = ends.div_ceil(most);
            whole * boundary.div_ceil(most) + two.max(one)
        })
        .max()
        .unwrap_or(0)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1024;

    fn cut(at: u64, len: u64, most: u64, boundary: u64) -> Vec<(u64, u64)> {
        let limit = |limit| Some(Bytes(limit)).filter(|limit| limit.0 > 0);
        pieces(ByteOffset(at), Bytes(len), limit(most), limit(boundary))
            .map(|(start, len)| (start.0, len.0))
            .collect()
    }

    #[test]
    fn requests_are_cut_where_they_must_be() {
        assert_eq!(cut(512, 4096, 0, 0), [(0, 4096)]);
        assert_eq!(cut(0, 0, 4096, 4096), []);
        let k = |pieces: &[(u64, u64)]| -> Vec<_> {
            pieces
                .iter()
                .map(|(at, len)| (at * KIB, len * KIB))
                .collect()
        };
        assert_eq!(
            cut(0, 300 * KIB, 128 * KIB, 0),
            k(&[(0, 128), (128, 128), (256, 44)])
        );
        // The boundary at 128 KiB of the namespace comes first, then the limit, then the boundary again.
        assert_eq!(
            cut(124 * KIB, 140 * KIB, 96 * KIB, 128 * KIB),
            k(&[(0, 4), (4, 96), (100, 32), (132, 8)])
        );
        // A boundary that is no power of two.
        assert_eq!(cut(20, 30, 0, 24), [(0, 4), (4, 24), (28, 2)]);
        let zero = Some(Bytes(0));
        let all: Vec<_> = pieces(ByteOffset(8), Bytes(24), zero, zero).collect();
        assert_eq!(all, [(Bytes(0), Bytes(24))], "limits of 0 are none");
    }

    proptest! {
        #[test]
        fn pieces_cover_the_request_and_keep_the_limits(
            at in prop_oneof![0u64..10_000, (u64::MAX - 10_000)..=u64::MAX],
            len in 0u64..10_000,
            most in 0u64..3_000,
            boundary in 0u64..3_000,
        ) {
            let all = cut(at, len, most, boundary);
            let mut end = 0;
            for (index, (start, piece)) in all.iter().copied().enumerate() {
                prop_assert_eq!(start, end);
                prop_assert!(piece > 0);
                prop_assert!(most == 0 || piece <= most);
                let from = at.wrapping_add(start);
                if boundary > 0 {
                    prop_assert!(from % boundary + piece <= boundary, "{} crosses", from);
                }
                // None is cut without need.
                if index + 1 < all.len() {
                    let full = piece == most;
                    let stands = boundary > 0 && from % boundary + piece == boundary;
                    prop_assert!(full || stands);
                }
                end = start + piece;
            }
            prop_assert_eq!(end, len);
        }

        #[test]
        fn no_start_has_more_pieces_than_the_most(
            align in 1u64..40,
            len in 0u64..2_000,
            most in 0u64..300,
            boundary in 0u64..300,
        ) {
            let limit = |limit| Some(Bytes(limit)).filter(|limit| limit.0 > 0);
            let bound = most_pieces(Bytes(len), limit(most), limit(boundary), Bytes(align));
            let starts = boundary.max(1);
            let worst = (0..starts)
                .map(|n| cut(n * align, len, most, boundary).len() as u64)
                .max();
            prop_assert!(worst.unwrap_or(0) <= bound, "{:?} above {}", worst, bound);
        }

        #[test]
        fn of_powers_of_two_some_start_has_the_most(
            align in 9u32..13,
            len in 9u32..17,
            most in 12u32..17,
            boundary in prop_oneof![Just(None), (9u32..17).prop_map(Some)],
        ) {
            let limit = Some(Bytes(1 << most));
            let border = boundary.map(|power| Bytes(1 << power));
            let (align, len) = (Bytes(1 << align), Bytes(1 << len));
            let bound = most_pieces(len, limit, border, align);
            let starts = border.map_or(1, |border| border.0.div_ceil(align.0));
            let worst = (0..starts)
                .map(|n| pieces(ByteOffset(n * align.0), len, limit, border).count() as u64)
                .max();
            prop_assert_eq!(worst, Some(bound));
        }
    }
}
