//! The cache is full at its byte.

use proptest::prelude::*;

use super::*;

#[test]
fn the_latency_changes_at_the_exact_byte() {
    let mut cached = pace(
        "write.latency = \"10us\"\nread.latency = \"70us\"\nslc = { bytes = \"1MiB\", latency = \"90us\" }",
    );
    let mut latency = |access: Access| cached.due(Nanos(0), &access).0 / 1000;
    for _ in 0..255 {
        assert_eq!(latency(write(4096)), 10);
    }
    // One byte is left after this one; what is read, or not data, takes none.
    assert_eq!(latency(write(4095)), 10);
    assert_eq!(latency(read(4096)), 70);
    assert_eq!(latency(access(AccessKind::Flush, 0)), 0);
    assert_eq!(latency(write(0)), 10);
    assert_eq!(latency(write(1)), 10);
    assert_eq!(latency(write(1)), 90);
    assert_eq!(latency(write(0)), 10);

    let mut straddled =
        pace("write.latency = \"10us\"\nslc = { bytes = \"1MiB\", latency = \"90us\" }");
    assert_eq!(
        straddled.due(Nanos(0), &write((1 << 20) + 1)),
        Nanos(90_000)
    );
}

#[test]
fn the_rate_falls_when_it_is_full() {
    let mut pace = pace(
        "write.bytes_per_s = \"1000000000B\"\nslc = { bytes = \"200000000B\", bytes_per_s = \"100000000B\" }",
    );
    let mut bytes = 0;
    closed_loop(
        &mut pace,
        8,
        Nanos(0),
        || write(100_000),
        |done| bytes += done.bytes.0,
    );
    // 200 MB in 0.2 s, then 0.8 s of 100 MB a second.
    assert!((279_900_000..=280_000_000).contains(&bytes), "{bytes}");
}

#[test]
fn it_is_emptied_while_no_write_is_under_way() {
    let mut pace = pace(
        "write.latency = \"10us\"\n\
         slc = { bytes = \"3000000B\", latency = \"90us\", drain_bytes_per_s = \"1000000B\" }",
    );
    let mut latency = |now: u64, bytes| (pace.due(Nanos(now), &write(bytes)).0 - now) / 1000;
    assert_eq!(latency(0, 3_000_000), 10);
    // Idle from 10 µs on, for 1 s and 2.5 µs at a byte a microsecond: a million and two bytes, and half of one.
    let now = SECOND + 12_500;
    assert_eq!(latency(now, 1_000_002), 10);
    assert_eq!(latency(now, 1), 90);
    // Busy until 90 µs after that, then idle for two bytes and a half, which make three with the half of before.
    assert_eq!(latency(now + 92_500, 3), 10);
    assert_eq!(latency(now + 92_500, 1), 90);
    // More is never emptied than was written.
    assert_eq!(latency(100 * SECOND, 3_000_000), 10);
    assert_eq!(latency(100 * SECOND, 1), 90);
}

proptest! {
    #[test]
    fn each_byte_beyond_it_takes_the_slow_time(
        sizes in prop::collection::vec(1_u64..1_000_000, 1..60),
        holds in 1_u64..20_000_000,
    ) {
        let mut pace = pace(&format!(
            "write.bytes_per_s = \"1000000000B\"\nslc = {{ bytes = \"{holds}B\", bytes_per_s = \"100000000B\" }}"
        ));
        let mut total = 0;
        for size in sizes {
            total += size;
            // 1 ns a byte, then 10.
            let expected = total.min(holds) + 10 * total.saturating_sub(holds);
            prop_assert_eq!(pace.due(Nanos(0), &write(size)), Nanos(expected));
        }
    }
}
