//! The driver against controllers: the emulated one, and a fake one in this process that is as wrong as a test wants it.

mod answers;
mod blocking;
mod bring_up;
mod carrier;
mod cells;
mod data;
mod emulated;
#[allow(dead_code, reason = "other tests use more of it")]
mod emulator;
mod fake;
mod faults;
mod hostile;
mod logs;
mod namespaces;
mod queues;
mod record;
mod refusals;
mod resets;
mod together;

use std::sync::Arc;

use strata_nvme::{Controller, Layout, NvmeError, Options};
use strata_nvme_spec::QueueSize;
use strata_units::{Bytes, Nanos};

use fake::Fake;

/// Deadlines that a test waits for.
fn options() -> Options {
    Options {
        admin_deadline: Nanos::from_millis(40),
        ready_at_most: Nanos::from_millis(40),
        ..Options::default()
    }
}

/// Deadlines that no test meets.
fn patient() -> Options {
    Options {
        admin_deadline: Nanos::SECOND * 30,
        ready_at_most: Nanos::SECOND * 30,
        ..Options::default()
    }
}

fn open(fake: &Fake) -> Arc<Controller> {
    Controller::open(fake.carrier(), &patient()).expect("a sound controller")
}

fn refusal(fake: &Fake) -> NvmeError {
    match Controller::open(fake.carrier(), &options()) {
        Ok(_) => panic!("it opens"),
        Err(why) => why,
    }
}

fn layout(submission: u32, completion: u32) -> Layout {
    let size = |entries| QueueSize::new(entries).expect("a size");
    Layout {
        submission: size(submission),
        completion: size(completion),
        scratch: Bytes(4096),
        node: None,
    }
}
