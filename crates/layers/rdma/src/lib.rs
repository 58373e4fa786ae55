//! Verbs between two processes, of one machine or of two: RDMA reads, writes, sends and atomics.

#![deny(unsafe_code)]

#[allow(
    unsafe_code,
    reason = "objects of a C library, and memory that a device writes"
)]
pub mod verbs;
