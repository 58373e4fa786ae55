//! Log pages that every controller has (Base 5.1.12.1): errors, health, firmware.

mod error;
mod firmware;
mod smart;

pub use error::ErrorEntry;
pub use firmware::FirmwareSlots;
pub use smart::{CriticalWarning, SmartLog, Throttling, data_units};
