//! The engine under the one loop, against the emulated controller: what only this crate can see of it.

mod answers;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../tests/all/emulator.rs"]
mod emulator;
#[allow(
    unsafe_code,
    reason = "an allocator that counts hands on to the system's"
)]
mod window;

use std::sync::Arc;

use strata_measure::{
    Buffers, Clock, Edge, Engine, Load, Scratch, Step, Stream, Tally, Window, drive,
};
use strata_memory::{Huge, Lock, Want};
use strata_nvme_spec::NamespaceId;
use strata_record::{Op, Workload};
use strata_units::{Bytes, Nanos, QueueDepth};

use crate::Controller;
use crate::native::Native;
use crate::requests::{Requests, Shape};

/// An engine with so many requests of so many bytes on namespace 1.
fn engine(controller: &Arc<Controller>, block: Bytes, depth: u64, deadline: Nanos) -> Native {
    let depth = QueueDepth::new(depth).expect("a depth");
    let want = Want {
        bytes: Bytes(0),
        node: None,
        huge: Huge::Never,
        lock: Lock::Prefer,
    };
    let buffers = Buffers::shared(depth, block, want).expect("memory");
    let shape = Shape {
        depth: depth.get(),
        len: block,
        align: block,
        stride: buffers.stride(),
        node: None,
        deadline,
        whole: false,
    };
    let namespace = controller.namespace(NamespaceId(1)).expect("usable");
    let memory = controller.function().map(buffers).expect("mapped");
    let requests = Requests::new(controller, namespace, memory, shape).expect("a queue");
    Native::new(requests, depth.get(), true)
}

/// Drives operations on the first blocks of the namespace.
fn driven<E: Engine>(
    engine: &mut E,
    op: Op,
    block: Bytes,
    window: Window,
    on_edge: &mut dyn FnMut(Edge) -> Step,
) -> Tally {
    let workload = Workload {
        depth: QueueDepth::new(u64::from(engine.limits().depth)).expect("a depth"),
        ..Workload::plain(op, block)
    };
    let load = Load {
        window,
        ..Load::of(&workload).expect("a load")
    };
    let mut stream = Stream::new(op, block, 256, 5);
    let scratch = Scratch::new(&load, &mut stream);
    let clock = Clock::get();
    drive(
        engine,
        &mut stream,
        &load,
        clock,
        scratch,
        clock.now(),
        on_edge,
    )
}
