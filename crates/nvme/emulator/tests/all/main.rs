//! The controller as its clients find it, over the socket.

mod admin;
mod bring_up;
mod data;
mod liars;
mod models;
mod rig;
