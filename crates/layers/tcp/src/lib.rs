//! TCP between two processes, of one machine or of two: the baseline of every network layer.
//!
//! A *stream* counts whole blocks in the receiver, whose window is the trial's: what a sender's kernel has only accepted is
//! no throughput. It goes to the other side, from it, or both ways at once over connections of their own; the windows of
//! both ways are equally long, and how far they lay in one another is told, since two machines share no clock. A *request
//! and reply* is timed by the client, from before the send to the reply's last byte. One thread drives several connections;
//! it sleeps in the kernel or spins, and sends with a copy or without. Every received byte is copied to user memory. The
//! other side is spoken to over a control channel; what is measured goes over sockets of their own, which only the two know
//! the token of. What the kernel says about them afterwards stands in the record.

#![deny(unsafe_code)]

mod account;
mod answer;
mod connections;
mod engine;
mod half;
mod info;
mod interface;
mod job;
mod message;
mod options;
mod ready;
mod saturate;
mod server;
mod shape;
#[allow(unsafe_code, reason = "system calls on raw buffers")]
mod sys;
mod wire;

pub use engine::{TcpEngine, UnknownEngine};
pub use interface::name_of as interface_of;
pub use job::TcpJob;
pub use saturate::{Candidate, Saturation, Sweep, saturate};
pub use server::{Listen, serve_task};
pub use wire::settable;
