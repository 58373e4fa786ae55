//! Drives between the kernel and user space: plans, refusals and the way back, on made trees; what is with vfio-pci there is an
//! emulated controller.

#![forbid(unsafe_code)]

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../all/emulator.rs"]
mod emulator;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../../../host/settings/tests/all/kernel.rs"]
mod kernel;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../../../host/settings/tests/all/tree.rs"]
mod tree;

mod given;
mod plans;
mod rig;
