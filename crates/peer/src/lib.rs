//! The other side of a measurement: a second process, here or on another host, and the control channel to it.
//!
//! Control and measurement are apart: what is measured goes over its own sockets, and the channel says what to do and what
//! came of it, in messages of at most 16 MiB of JSON after both sides have told their protocol's version. [`Child`] is a
//! process that this one starts, spoken to over its standard input and output: when this process dies, however it dies, the
//! child's input ends and so does the child. [`Session`] is a conversation with a [`Server`] over TCP: without a [`Key`] on
//! this host's loopback only, with one after each side has proved to the other that it holds it, every frame then carrying
//! its tag. [`Other`] is whichever of them, and a [`Reach`] is how a job comes to it.
//!
//! The conversation of a trial is the same for every layer: the measuring side gives a [`Task`], both sides give signs of life
//! while they work, the other side tells its clock ([`clock`]; [`overlap`] is what two clocks that nobody set are good for) and
//! at last what it found. What a layer has to say beside, its own messages say ([`Say::Own`], [`Answer::Own`]).

#![forbid(unsafe_code)]

mod answering;
mod asking;
mod channel;
mod child;
mod connect;
#[cfg(test)]
mod conversation;
mod door;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod key;
mod other;
mod overlap;
mod pulse;
mod reach;
mod seal;
mod server;
mod session;
mod wait;
mod words;

pub use answering::{Answering, next_task, refuse};
pub use asking::{answer, beside, clock, stop, unasked};
pub use channel::Channel;
pub use child::{Child, Parent, hello_from_child};
pub use connect::{connect, resolve};
pub use error::PeerError;
pub use key::{Key, KeyError, secret};
pub use other::Other;
pub use overlap::{Seen, overlap};
pub use reach::{Local, Reach, loopback};
pub use server::{Event, Server};
pub use session::Session;
pub use words::{Answer, Say, Task};

/// The protocol that both sides must speak; raised with every change of a message.
const PROTOCOL: u32 = 2;

/// The largest frame; a result with its histogram and series takes some tens of KiB.
const LARGEST: u32 = 16 << 20;
