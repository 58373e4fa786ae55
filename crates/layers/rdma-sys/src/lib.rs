//! What is used of libibverbs and librdmacm (rdma-core 22 and later): their types by the names of `infiniband/verbs.h` and
//! `rdma/rdma_cma.h`, and their functions, loaded at run time, so that one program serves nodes with and without them.
//!
//! The layouts are those of rdma-core on 64-bit Linux. Where its headers are installed, the test `abi` has the C compiler tell
//! every size, offset and number, and compares them.

#![deny(unsafe_code)]
#![allow(
    non_camel_case_types,
    missing_docs,
    reason = "names and meaning are those of verbs(7) and rdma_cm(7)"
)]

pub mod cm;
pub mod extended;
#[allow(unsafe_code, reason = "the functions of C libraries are called")]
mod library;
pub mod verbs;

pub use library::{Cm, LoadError, Verbs};
