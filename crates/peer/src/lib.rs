//! The other side of a measurement: a second process, and the control channel to it.
//!
//! Control and measurement are apart: what is measured goes over its own sockets, and the channel says what to do and what
//! came of it. A frame is a length (four bytes, little-endian, at most 16 MiB) and as many bytes of JSON; both sides say
//! their protocol's version first. Here the other side is a child process, spoken to over its standard input and output:
//! when this process dies, however it dies, the child's input ends and so does the child.

#![forbid(unsafe_code)]

mod channel;
mod child;

pub use channel::{Channel, PeerError};
pub use child::{Child, hello_from_child};
