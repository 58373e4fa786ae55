//! Verbs as this house uses them: what is made of something holds it alive, queue pairs go from state to state by type,
//! requests are posted by guards, keys are types, and errors say what to do.

pub mod cm;
mod completion;
mod device;
mod error;
mod event;
mod memory;
mod post;
mod queue_pair;

pub use completion::{Completion, CompletionQueue, Completions, Interface, Status};
pub use device::{Context, DeviceLimits, LinkLayer, Mtu, Port, PortState, names, open};
pub use error::VerbsError;
pub use event::Event;
pub use memory::{Access, LocalKey, MemoryRegion, ProtectionDomain, Remote, RemoteKey};
pub use post::{AddressHandle, Batch, PostError, Receives, Request, Requests, Verb};
pub use queue_pair::{
    Connection, Init, QueuePair, Ready, Reset, Route, SharedQueue, Terms, Wanted,
};
