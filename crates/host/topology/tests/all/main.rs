//! The crate from outside: recorded trees of our own and of real machines, garbage, and the machine that we are on.

mod adapters;
mod ceilings;
mod garbage;
mod host_watch;
mod machine;
mod placement;
mod port_watch;
mod real_trees;
mod storage_node;
mod support;
mod trees;
