//! The command as a user meets it: what it prints, what it leaves, and how it fails.

#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod about;
mod bind;
mod controllers;
mod drives;
mod emulator;
mod folders;
mod full;
mod ledger;
mod network;
mod nvme;
mod permission;
mod plans;
mod printed;
mod quick;
mod rates;
mod rdma;
mod soak;
mod stopped;
mod usage;
mod verbs;
mod verify;
