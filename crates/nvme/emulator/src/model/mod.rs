//! How fast the controller is, and what goes wrong with it.
//!
//! Pure: the time is given (since the controller began), and what is random follows from a seed.

mod access;
mod dice;
mod error;
mod pace;

pub use access::{Access, AccessKind};
pub use dice::{Dice, Fate, Faults};
pub use error::ModelError;
pub use pace::{Pace, Performance};
