//! Two sides and strangers over real connections: in one process, in two, and on two hosts made of network namespaces.

mod namespaces;
mod processes;
mod rig;
mod sessions;
mod strangers;
