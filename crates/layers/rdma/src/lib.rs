//! Verbs between two processes, of one machine or of two: RDMA reads, writes, sends and atomics.
//!
//! Who begins an operation counts it where the other side's device acknowledges (reliable connections); elsewhere the receiver
//! counts, and tells what was lost. A ping-pong is timed from before the message goes to the moment at which the one that
//! comes back is seen, a read or atomic until its answer is there: whole round trips. A write's completion is the responder's
//! acknowledgement, neither visibility nor persistence. Queue pairs are made on the thread that uses them; their numbers, keys
//! and addresses go over the control channel, which authenticates; the data plane itself asks for nothing but a key.

#![deny(unsafe_code)]

mod account;
mod address;
mod attend;
mod bench;
mod connect;
mod content;
mod engine;
mod job;
mod looped;
mod maker;
mod meeting;
mod message;
mod part;
mod pingpong;
mod port;
mod possible;
mod server;
mod shape;
mod side;
mod sink;
mod source;
mod ticket;
#[allow(
    unsafe_code,
    reason = "objects of a C library, and memory that a device writes"
)]
pub mod verbs;

pub use engine::{UnknownEngine, VerbsEngine};
pub use job::RdmaJob;
pub use maker::Faults;
pub use message::LAYER;
pub use server::serve_task;
