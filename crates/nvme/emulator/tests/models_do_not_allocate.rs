//! Asking the models allocates nothing, whatever they hold.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use strata_nvme_emulator::model::{Access, AccessKind, Dice, Faults, Pace, Performance};
use strata_nvme_spec::{Lba, NamespaceId};
use strata_units::{Bytes, Nanos};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: everything is handed on to the system's allocator; the counter needs no allocation and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_hot_path_allocates_nothing() {
    let performance: Performance = toml::from_str(
        r#"
        iops = 900_000
        bytes_per_s = "6GiB"
        parallel = 64
        latency = { normal = { mean = "10us", deviation = "2us" } }
        read.latency = { lognormal = { median = "80us", p99 = "200us" }, tail = { share = 0.01, latency = "5ms" } }
        flush.latency = { uniform = ["1us", "2us"] }
        other.latency = { quantiles = [[0, "1us"], [0.5, "3us"], [1, "9us"]] }
        slc = { bytes = "1MiB", bytes_per_s = "600MiB", latency = "90us", drain_bytes_per_s = "400MiB" }
        [thermal]
        ambient_celsius = 30
        rise_per_gb_per_s = 50
        time_constant = "1ms"
        warning_celsius = 40
        critical_celsius = 50
        throttle = [{ from_celsius = 45, until_celsius = 42, factor = 2 }]
        "#,
    )
    .expect("a model");
    let faults: Faults = toml::from_str(
        "[[rule]]\nfault = \"lost\"\nrate = 0.01\n[[rule]]\nfault = \"corrupt\"\nnth = 10\ntimes = 3",
    )
    .expect("faults");
    let mut pace = Pace::new(&performance, 1).expect("a model");
    let mut dice = Dice::new(&faults, 1).expect("faults");
    let kinds = [
        AccessKind::Read,
        AccessKind::Write,
        AccessKind::Flush,
        AccessKind::Other,
    ];
    let before = ALLOCATIONS.get();
    assert!(before > 0, "the counter counts");
    // Enough for the tails of the distributions and the temperature's steps.
    for n in 0..100_000 {
        let now = Nanos(n * 1_500);
        let access = Access {
            kind: kinds[n as usize % kinds.len()],
            nsid: NamespaceId(1),
            first: Lba(n),
            blocks: 8,
            bytes: Bytes(4096),
        };
        assert!(pace.due(now, &access) >= now);
        dice.fate(now, &access);
        pace.temperature(now);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
