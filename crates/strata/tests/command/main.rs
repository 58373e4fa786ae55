//! The command as a user meets it: what it prints, what it leaves, and how it fails.

#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod about;
mod folders;
mod full;
mod network;
mod permission;
mod printed;
mod quick;
mod stopped;
mod usage;
mod verify;
