//! TCP between two processes of this machine: the baseline of every network layer.
//!
//! A *stream* counts whole blocks in the receiver, whose window is the trial's: what a sender's kernel has only accepted is
//! no throughput. A *request and reply* is timed by the client, from before the send to the reply's last byte. The other
//! side is a process of its own, started for each trial and spoken to over a control channel; what is measured goes over
//! sockets on the loopback interface, which only the two of them know the token of.

#![deny(unsafe_code)]

mod client;
mod engine;
mod job;
mod message;
mod server;
#[allow(unsafe_code, reason = "system calls on raw buffers")]
mod sys;

pub use job::TcpJob;
pub use server::serve;
