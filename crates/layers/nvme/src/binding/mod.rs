//! Drives between the kernel and user space: what it means to give one to vfio-pci, and the way there and back.
//!
//! A [`Plan`] names all that the kernel would lose and gathers every reason against it; [`Plan::bind`] does it, by the journal,
//! when the serial numbers of the drives were typed out. A [`Bound`] holds for a scope, and moves between both drivers as
//! often as a run wants. [`unbind`] gives a drive back.

mod carried;
mod plan;
mod refusal;
mod scope;
mod unbind;

pub use carried::{Open, by_vfio};
pub use plan::{Already, Drive, Move, Plan, plan};
pub use refusal::{BindError, Refusal, Untyped};
pub use scope::{Bound, Holder};
pub use unbind::{Unbound, unbind};
