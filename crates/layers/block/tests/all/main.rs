//! Whole trials of the block layer on real files: both engines through the one loop.

mod faults;
mod figures;
mod placement;
mod support;
