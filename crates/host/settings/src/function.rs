//! The driver of a PCI function, and how it gets another (`Documentation/ABI/testing/sysfs-bus-pci`: driver_override,
//! unbind, drivers_probe).

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use strata_topology::{Root, Topology};
use strata_units::{Nanos, PciAddress};

use crate::change::{Left, Undone};
use crate::module::is_registered;
use crate::tree::{exists, link, text};
use crate::users::{Uses, in_use_for_long};
use crate::{ChangeError, Kernel, Name};

/// How often a state that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What binds a function: the driver that has it, and the only one that may get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The driver; none when it is unbound.
    pub driver: Option<Name>,
    /// `driver_override`; none when any driver that knows the function may get it.
    pub driver_override: Option<Name>,
}

impl Binding {
    /// That of a driver which may get it and no other.
    pub fn only(driver: Name) -> Binding {
        Binding {
            driver: Some(driver.clone()),
            driver_override: Some(driver),
        }
    }

    /// That of a driver which knows it by itself.
    pub fn plain(driver: Name) -> Binding {
        Binding {
            driver: Some(driver),
            driver_override: None,
        }
    }

    /// The function's, as it is now.
    ///
    /// # Errors
    /// There is no such function, or sysfs does not tell.
    pub fn of(root: &Root, function: PciAddress) -> Result<Binding, ChangeError> {
        let folder = folder(function);
        if !exists(root, &folder) {
            return Err(ChangeError::Gone { function });
        }
        let told = |what, found: io::Result<Option<String>>| {
            let found = found.and_then(|name| {
                // Never set, the kernel prints a null pointer.
                let name = name.filter(|name| !name.is_empty() && name != "(null)");
                name.map(|name| name.parse::<Name>().map_err(io::Error::other))
                    .transpose()
            });
            found.map_err(|why| ChangeError::Unknown {
                what,
                function,
                why,
            })
        };
        Ok(Binding {
            driver: told("the driver", link(root, &format!("{folder}/driver")))?,
            driver_override: told(
                "driver_override",
                text(root, &format!("{folder}/driver_override")),
            )?,
        })
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            Some(driver) => write!(f, "the driver {driver}")?,
            None => f.write_str("no driver")?,
        }
        match &self.driver_override {
            Some(name) if self.driver_override != self.driver => {
                write!(f, " (driver_override {name})")
            }
            _ => Ok(()),
        }
    }
}

/// That a function gets another driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionDriver {
    /// The function.
    pub function: PciAddress,
    /// What binds it before.
    pub before: Binding,
    /// What is to bind it.
    pub after: Binding,
    /// The block devices that stand on it before; so many are waited for when it is undone.
    pub devices: Vec<String>,
}

impl FunctionDriver {
    /// That the function is in the state before.
    pub(crate) fn begins(&self, root: &Root) -> Result<(), ChangeError> {
        match Binding::of(root, self.function)? {
            found if found == self.before => Ok(()),
            found => Err(ChangeError::Changed {
                function: self.function,
                found,
                expected: self.before.clone(),
            }),
        }
    }

    /// Makes the change, from the state before it.
    pub(crate) fn apply(&self, kernel: &mut dyn Kernel) -> Result<(), ChangeError> {
        self.begins(kernel.root())?;
        self.set(kernel, &self.after)
    }

    /// Gives the function one of the two bindings.
    pub(crate) fn set(&self, kernel: &mut dyn Kernel, wanted: &Binding) -> Result<(), ChangeError> {
        rebind(kernel, self.function, wanted)?;
        match &wanted.driver {
            // Also when it has that driver already: whoever gave it that may have been stopped while its drives came up.
            Some(driver) if *wanted == self.before => {
                wait_for_devices(kernel, self.function, driver, self.devices.len())
            }
            _ => Ok(()),
        }
    }

    /// Does what is missing of the state before, from any state that the change passes through; from others too, if forced.
    pub(crate) fn undo(&self, kernel: &mut dyn Kernel, force: bool) -> Undone {
        let found = match Binding::of(kernel.root(), self.function) {
            Ok(found) => found,
            Err(ChangeError::Gone { .. }) => return Undone::Gone,
            Err(why) => return Undone::Left(Left::Failed(why)),
        };
        if found == self.before {
            // Whoever made the change may have been stopped while its drives came up.
            let back =
                self.before.driver.as_ref().map(|driver| {
                    wait_for_devices(kernel, self.function, driver, self.devices.len())
                });
            return match back {
                Some(Err(why)) => Undone::Left(Left::NotBack(why)),
                _ => Undone::Before,
            };
        }
        if !force && !self.passes_through(&found) {
            return Undone::Left(Left::Foreign {
                function: self.function,
                found,
                expected: self.after.clone(),
            });
        }
        match self.set(kernel, &self.before) {
            Ok(()) => Undone::Restored,
            Err(why) => Undone::Left(Left::Failed(why)),
        }
    }

    /// Whether making or undoing the change, stopped at any step, leaves this.
    fn passes_through(&self, found: &Binding) -> bool {
        let ends = [&self.before, &self.after];
        let driver = found.driver.is_none() || ends.iter().any(|end| end.driver == found.driver);
        let name = found.driver_override.is_none()
            || ends.iter().any(|end| {
                // While one of the drivers is bound it is the only one that may be.
                found.driver_override == end.driver_override || found.driver_override == end.driver
            });
        driver && name
    }
}

fn folder(function: PciAddress) -> String {
    format!("sys/bus/pci/devices/{function}")
}

fn write(kernel: &mut dyn Kernel, attribute: String, value: String) -> Result<(), ChangeError> {
    kernel
        .write(&attribute, &value)
        .map_err(|why| ChangeError::Write {
            attribute,
            value,
            why,
        })
}

/// Gives a function what is wanted, from whatever it has.
fn rebind(
    kernel: &mut dyn Kernel,
    function: PciAddress,
    wanted: &Binding,
) -> Result<(), ChangeError> {
    let folder = folder(function);
    let only = |kernel: &mut dyn Kernel, name: Option<&Name>| {
        // An empty line takes it away.
        let value = name.map(ToString::to_string).unwrap_or_default() + "\n";
        write(kernel, format!("{folder}/driver_override"), value)
    };
    let mut now = Binding::of(kernel.root(), function)?;
    let moves = now.driver != wanted.driver;
    if moves {
        // Held until the driver is gone, so that nobody begins to use it meanwhile.
        let _uses = free(kernel.root(), function, now.driver.as_ref())?;
        if let Some(driver) = &wanted.driver {
            if !is_registered(kernel.root(), driver) {
                let driver = driver.clone();
                return Err(ChangeError::NoDriver { function, driver });
            }
            // Whoever else knows the function (by new_id) must not be faster.
            if now.driver_override.as_ref() != Some(driver) {
                only(kernel, Some(driver))?;
            }
        }
        if now.driver.is_some() {
            unbind(kernel, function)?;
        }
    }
    if let Some(driver) = wanted.driver.as_ref().filter(|_| moves) {
        let probe = "sys/bus/pci/drivers_probe".to_owned();
        write(kernel, probe, function.to_string())?;
        bound(kernel, function, driver)?;
    }
    now = Binding::of(kernel.root(), function)?;
    if now.driver_override != wanted.driver_override {
        only(kernel, wanted.driver_override.as_ref())?;
    }
    match Binding::of(kernel.root(), function)? {
        found if found == *wanted => Ok(()),
        found => Err(ChangeError::NotBound {
            function,
            found,
            expected: wanted.clone(),
            within: Nanos(0),
        }),
    }
}

/// That a function may be taken from its driver.
fn free(
    root: &Root,
    function: PciAddress,
    driver: Option<&Name>,
) -> Result<Option<Uses>, ChangeError> {
    let Some(driver) = driver else {
        return Ok(None);
    };
    let uses = in_use_for_long(root, function, driver);
    match uses.reasons.is_empty() {
        true => Ok(Some(uses)),
        false => Err(ChangeError::InUse {
            function,
            driver: driver.clone(),
            reasons: uses.reasons,
        }),
    }
}

fn unbind(kernel: &mut dyn Kernel, function: PciAddress) -> Result<(), ChangeError> {
    let attribute = format!("{}/driver/unbind", folder(function));
    let written = write(kernel, attribute, function.to_string());
    let found = Binding::of(kernel.root(), function)?;
    match (&found.driver, written) {
        // Also where somebody else was faster.
        (None, _) => Ok(()),
        (Some(_), Err(why)) => Err(why),
        (Some(_), Ok(())) => Err(ChangeError::NotBound {
            function,
            expected: Binding {
                driver: None,
                ..found.clone()
            },
            found,
            within: Nanos(0),
        }),
    }
}

/// Waits for what `done` finds.
fn wait<T>(
    within: Nanos,
    mut done: impl FnMut() -> Result<Option<T>, ChangeError>,
) -> Result<Option<T>, ChangeError> {
    let begun = Instant::now();
    loop {
        let found = done()?;
        if found.is_some() || Nanos::from(begun.elapsed()) >= within {
            return Ok(found);
        }
        thread::sleep(LOOK);
    }
}

/// Waits until a driver has the function: some bind later than the probe returns.
fn bound(kernel: &mut dyn Kernel, function: PciAddress, driver: &Name) -> Result<(), ChangeError> {
    let within = kernel.patience();
    let found = wait(within, || {
        let found = Binding::of(kernel.root(), function)?;
        Ok((found.driver.as_ref() == Some(driver)).then_some(()))
    })?;
    match found {
        Some(()) => Ok(()),
        None => Err(ChangeError::NotBound {
            function,
            found: Binding::of(kernel.root(), function)?,
            expected: Binding::only(driver.clone()),
            within,
        }),
    }
}

/// Waits until so many block devices stand on a function, on controllers that are live; with the driver nvme there is one of
/// these at least, also where it has no namespaces.
///
/// # Errors
/// [`ChangeError::NotBack`] or [`ChangeError::NotLive`]
pub fn wait_for_devices(
    kernel: &mut dyn Kernel,
    function: PciAddress,
    driver: &Name,
    expected: usize,
) -> Result<(), ChangeError> {
    let within = kernel.patience();
    // A Volume Management Device may have no drives behind it.
    let controllers = usize::from(*driver == Name::nvme());
    let (mut live, mut found) = (0, 0);
    let back = wait(within, || {
        (live, found) = match Topology::read(kernel.root()) {
            Ok(topology) => topology
                .nvme_below(function)
                .filter(|controller| controller.state.as_deref() == Some("live"))
                .fold((0, 0), |(live, found), controller| {
                    (live + 1, found + controller.namespaces.len())
                }),
            Err(why) => {
                return Err(ChangeError::Unknown {
                    what: "the block devices",
                    function,
                    why: io::Error::other(why),
                });
            }
        };
        Ok((live >= controllers && found >= expected).then_some(()))
    })?;
    match back {
        Some(()) => Ok(()),
        None if found >= expected => Err(ChangeError::NotLive {
            function,
            driver: driver.clone(),
            within,
        }),
        None => Err(ChangeError::NotBack {
            function,
            driver: driver.clone(),
            found,
            expected,
            within,
        }),
    }
}
