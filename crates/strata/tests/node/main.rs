//! The command on the real drivers of Linux: each test runs in a virtual node (QEMU), which has drives, an IOMMU and memory
//! nodes whatever the machine has.

#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod support;

mod bind;
mod block;
mod native;
mod places;
mod rdma;
mod run;
mod unplugged;
