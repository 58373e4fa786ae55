//! In the window nothing is allocated and the kernel is not called.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{gettid, set_no_new_privs};
use strata_measure::{Edge, Step, Window};
use strata_record::Op;
use strata_units::{Bytes, Nanos};

use super::emulator::{Emulator, LONG};
use super::{driven, engine};

const DEADLINE: Nanos = Nanos::from_millis(60_000);

/// Long enough for turns of both threads where they share a core.
const WINDOW: Window = Window::Time(Nanos::from_millis(300));

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
        count();
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

/// Allocations of this thread from the opening of a window to its closing; `within` is done at each interval.
fn allocations(op: Op, block: Bytes, depth: u64, mut within: impl FnMut()) -> u64 {
    let emulator = Emulator::new("transfer = \"32KiB\"\nboundary = \"64KiB\"");
    let controller = emulator.controller();
    let mut engine = engine(&controller, block, depth, DEADLINE);
    let (mut opened, mut closed, mut intervals) = (None, None, 0);
    let tally = driven(&mut engine, op, block, WINDOW, &mut |edge| {
        match edge {
            Edge::Open => opened = Some(ALLOCATIONS.get()),
            Edge::Interval => {
                intervals += 1;
                within();
            }
            Edge::Close => closed = Some(ALLOCATIONS.get()),
        }
        Step::Go
    });
    assert_eq!((tally.broken(), tally.errors()), (None, 0));
    assert!(tally.ops() > 0 && intervals > 0, "{intervals} intervals");
    drop((engine, controller));
    emulator.end();
    closed.expect("it closed") - opened.expect("it opened")
}

#[test]
fn nothing_is_allocated() {
    for (op, block, depth) in [
        (Op::RandRead, Bytes(4096), 1),
        (Op::RandWrite, Bytes(4096), 32),
        // With lists, and several commands a request.
        (Op::RandRead, Bytes(256 << 10), 8),
        (Op::RandRw { read_percent: 50 }, Bytes(48 << 10), 8),
    ] {
        let found = allocations(op, block, depth, || {});
        assert_eq!(found, 0, "{op} of {block} at depth {depth}");
    }
    let found = allocations(Op::RandRead, Bytes(4096), 1, || {
        drop(std::hint::black_box(Box::new(1)));
    });
    assert!(found >= 2, "what is allocated is counted: {found}");
}

/// Says to the process that it is to be measured, and whether it is to call the kernel.
const CALLS: &str = "STRATA_TEST_CALLS";

/// From now on the kernel kills this thread when it calls it (seccomp(2)); whether it will. Its strict mode would do so
/// too, but takes the time-stamp counter away.
fn forbid_calls() -> bool {
    let mut kill = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_KILL_THREAD,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut kill,
    };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its one instruction live through the call, which copies them.
    set_no_new_privs(true).is_ok()
        && unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } == 0
}

#[test]
fn the_kernel_is_not_called() {
    const NAME: &str = "tests::window::the_kernel_is_not_called";
    if let Some(calls) = std::env::var_os(CALLS) {
        return watched(calls == "yes");
    }
    for (calls, words) in [
        ("no", "the window closed without a call"),
        ("yes", "a call was noticed"),
    ] {
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args([NAME, "--exact", "--nocapture"])
            .env(CALLS, calls)
            .output()
            .expect("a child");
        let out = String::from_utf8_lossy(&child.stdout);
        if let Some(line) = out.lines().find(|line| line.starts_with("SKIP")) {
            println!("{line}");
            return;
        }
        assert!(
            child.status.success() && out.contains(words),
            "{} {out}{}",
            child.status,
            String::from_utf8_lossy(&child.stderr)
        );
    }
}

static REFUSED: AtomicBool = AtomicBool::new(false);
static OPENED: AtomicBool = AtomicBool::new(false);
static CLOSED: AtomicBool = AtomicBool::new(false);
static THREAD: AtomicI32 = AtomicI32::new(0);

/// Measures in a thread of its own, and leaves the process when it is known what became of that.
fn watched(calls: bool) {
    let emulator = Emulator::new("");
    let controller = emulator.controller();
    // Not joined: it cannot even end any more.
    thread::spawn(move || {
        let mut engine = engine(&controller, Bytes(4096), 32, DEADLINE);
        THREAD.store(gettid().as_raw_nonzero().get(), Ordering::SeqCst);
        driven(
            &mut engine,
            Op::RandRead,
            Bytes(4096),
            WINDOW,
            &mut |edge| {
                match edge {
                    Edge::Open => {
                        REFUSED.store(!forbid_calls(), Ordering::SeqCst);
                        OPENED.store(true, Ordering::SeqCst);
                    }
                    Edge::Interval if calls => thread::yield_now(),
                    Edge::Interval => {}
                    Edge::Close => {
                        CLOSED.store(true, Ordering::SeqCst);
                        loop {
                            std::hint::spin_loop();
                        }
                    }
                }
                Step::Go
            },
        );
    });
    let begin = Instant::now();
    let verdict = loop {
        if REFUSED.load(Ordering::SeqCst) {
            break "SKIP the_kernel_is_not_called: this process may not filter its system calls (seccomp)";
        }
        if CLOSED.load(Ordering::SeqCst) {
            break "the window closed without a call";
        }
        if OPENED.load(Ordering::SeqCst) && !alive() {
            break "a call was noticed";
        }
        assert!(begin.elapsed() < LONG, "neither closed nor killed");
        thread::sleep(Duration::from_millis(10));
    };
    println!("{verdict}");
    std::process::exit(0);
}

/// Whether the measuring thread lives.
fn alive() -> bool {
    let task = PathBuf::from(format!("/proc/self/task/{}", THREAD.load(Ordering::SeqCst)));
    task.exists()
}
