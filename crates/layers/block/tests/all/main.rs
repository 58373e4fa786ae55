//! Whole trials of the block layer on real files: each engine through the one loop.

mod faults;
mod figures;
mod host;
mod placement;
mod rings;
mod support;
