//! How fast the controller is, and what goes wrong with it.
//!
//! Both are said in TOML and are pure: the time is given (since the controller began), what is random follows from a seed, so
//! that a run can be repeated. Nothing here knows a queue or a byte of data. [`Pace`] says when a command completes, [`Dice`]
//! what becomes of it; the controller asks them once a command, in the order in which it fetches the commands.
//!
//! ```
//! use strata_nvme_emulator::model::{Dice, Faults, Pace, Performance};
//!
//! #[derive(serde::Deserialize)]
//! struct Models {
//!     performance: Performance,
//!     faults: Faults,
//! }
//!
//! let models: Models = toml::from_str(
//!     r#"
//!     [performance]
//!     latency = "10us"                    # of each command whose kind says nothing
//!     iops = 900_000                      # all kinds together
//!     bytes_per_s = "6GiB"
//!     parallel = 64                       # commands whose latency runs at a time
//!
//!     [performance.read]
//!     latency = { lognormal = { median = "80us", p99 = "200us" }, tail = { share = 0.0001, latency = "5ms" } }
//!     iops = 800_000                      # of reads, within the 900 000
//!
//!     [performance.write]
//!     latency = { quantiles = [[0, "10us"], [0.5, "15us"], [0.99, "40us"], [1, "2ms"]] }
//!     bytes_per_s = "3GiB"
//!
//!     [performance.flush]
//!     latency = { uniform = ["100us", "900us"] }
//!
//!     [performance.other]
//!     latency = { normal = { mean = "50us", deviation = "5us" } }
//!
//!     [performance.slc]                   # what writes fill up
//!     bytes = "32GiB"
//!     bytes_per_s = "600MiB"              # of bytes that it does not hold
//!     latency = "90us"                    # of writes of which it does not hold every byte
//!     drain_bytes_per_s = "400MiB"        # while no write is under way
//!
//!     [performance.thermal]
//!     ambient_celsius = 35
//!     rise_per_gb_per_s = 8               # 10^9 bytes a second, kept up
//!     rise_per_kiops = 0.01
//!     time_constant = "90s"
//!     warning_celsius = 77                # WCTEMP
//!     critical_celsius = 85               # CCTEMP
//!
//!     [[performance.thermal.throttle]]
//!     from_celsius = 75
//!     until_celsius = 70
//!     factor = 2                          # everything takes twice as long
//!
//!     [faults]
//!     never_ready = false                 # true: CSTS.RDY stays 0
//!
//!     [[faults.rule]]                     # the first rule that strikes decides
//!     fault = "status"
//!     status = "Unrecovered Read Error"   # or 0x281
//!     do_not_retry = true
//!     kind = "read"                       # write, flush, write-zeroes, deallocate, other
//!     namespace = 1
//!     first_lba = 2048
//!     last_lba = 4095
//!
//!     [[faults.rule]]
//!     fault = "late"                      # or "twice"
//!     delay = "50ms"
//!     rate = 0.01
//!
//!     [[faults.rule]]
//!     fault = "lost"                      # or "wrong-phase", "corrupt", "fatal", "removed"
//!     nth = 1000                          # the 1000th match, the 2000th,
//!     times = 3                           # and the 3000th
//!     after = "2s"
//!     "#,
//! )?;
//! let pace = Pace::new(&models.performance, 1)?;
//! let dice = Dice::new(&models.faults, 1)?;
//! assert!(!pace.is_instant() && !dice.is_fair() && dice.becomes_ready());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod dice;
mod error;
mod faults;
mod latency;
mod limit;
mod pace;
mod quoted;
mod slc;
mod thermal;

pub use access::{Access, AccessKind};
pub use dice::{Dice, Fate};
pub use error::ModelError;
pub use faults::{Fault, Faults, Rule, StatusName};
pub use latency::{Latency, Lognormal, Normal, Tail};
pub use limit::HEAD_START;
pub use pace::{Kind, Pace, Performance};
pub use quoted::Quoted;
pub use slc::Slc;
pub use thermal::{Thermal, Throttle};
