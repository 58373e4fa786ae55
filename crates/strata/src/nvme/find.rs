//! A drive by its serial number.

use anyhow::Result;
use strata_nvme::{Controller, Options, Vfio};
use strata_units::PciAddress;

use crate::Usage;
use crate::cli::{NvmeArgs, NvmeAt};
use crate::host::Host;

/// Puts the PCI address in the place of a serial number in what was typed.
///
/// What is with vfio-pci tells its serial number to nobody but its driver: each such controller that nobody holds is brought up
/// for a moment, until the one is found.
pub(crate) fn find(host: &Host, args: &mut NvmeArgs) -> Result<()> {
    let Some(NvmeAt::Serial(serial)) = &args.target else {
        return Ok(());
    };
    let wanted = serial.trim();
    let controllers = &host.topology.nvme;
    let is_it = |told: &Option<String>| told.as_deref().map(str::trim) == Some(wanted);
    if let Some(of_kernel) = controllers.iter().find(|c| is_it(&c.serial)) {
        let name = of_kernel.name.as_deref().unwrap_or("a controller");
        let Some(at) = of_kernel.pci else {
            return Err(Usage::error(format!(
                "{wanted} is {name}, which the kernel reached over a fabric; measure it by its block device (strata block)"
            )));
        };
        args.target = Some(NvmeAt::Function(at));
        return Ok(());
    }
    let mut silent = Vec::new();
    for controller in controllers.iter().filter(|c| c.name.is_none()) {
        let Some(at) = controller.pci else { continue };
        match serial_of(at) {
            Ok(found) if found.trim() == wanted => {
                args.target = Some(NvmeAt::Function(at));
                return Ok(());
            }
            Ok(_) => {}
            Err(why) => silent.push(format!("; {why:#}")),
        }
    }
    Err(Usage::error(format!(
        "no drive of this machine has the serial number {wanted}, and it is no PCI address and no folder; `strata nvme list` shows the drives{}",
        silent.concat()
    )))
}

/// The serial number of a function that is with vfio-pci.
fn serial_of(at: PciAddress) -> Result<String> {
    let controller = Controller::open(Box::new(Vfio::open(at)?), &Options::default())?;
    Ok(controller.identity().serial.clone())
}
