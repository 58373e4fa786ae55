//! The controller as its clients find it, over the socket.

mod admin;
mod bring_up;
mod data;
mod features_and_logs;
mod liars;
mod models;
mod rig;
mod served;
