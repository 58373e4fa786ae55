//! A drive by its serial number.

use anyhow::Result;
use strata_nvme::{Controller, Options, Vfio};
use strata_topology::Topology;
use strata_units::PciAddress;

use crate::Usage;
use crate::cli::{NvmeArgs, NvmeAt};
use crate::host::Host;

/// Puts the PCI address in the place of a serial number in what was typed.
pub(crate) fn find(host: &Host, args: &mut NvmeArgs) -> Result<()> {
    if let Some(NvmeAt::Serial(serial)) = &args.target {
        args.target = Some(NvmeAt::Function(by_serial(&host.topology, serial)?));
    }
    Ok(())
}

/// The PCI function of the drive with this serial number.
///
/// What is with vfio-pci tells its serial number to nobody but its driver: each such controller that nobody holds is brought up
/// for a moment, until the one is found.
pub(crate) fn by_serial(topology: &Topology, serial: &str) -> Result<PciAddress> {
    let wanted = serial.trim();
    let controllers = &topology.nvme;
    let is_it = |told: &Option<String>| told.as_deref().map(str::trim) == Some(wanted);
    let of_kernel: Vec<_> = controllers.iter().filter(|c| is_it(&c.serial)).collect();
    if let [_, _, ..] = of_kernel[..] {
        let names = of_kernel.iter().filter_map(|c| c.name.as_deref());
        let names: Vec<&str> = names.collect();
        return Err(Usage::error(format!(
            "{wanted} is the serial number of {}: several controllers lead to that drive; give the PCI address of one (`strata nvme list`)",
            names.join(" and ")
        )));
    }
    if let Some(of_kernel) = of_kernel.first() {
        let name = of_kernel.name.as_deref().unwrap_or("a controller");
        return of_kernel.pci.ok_or_else(|| {
            Usage::error(format!(
                "{wanted} is {name}, which the kernel reached over a fabric; measure it by its block device (strata block)"
            ))
        });
    }
    let mut silent = Vec::new();
    for controller in controllers.iter().filter(|c| c.name.is_none()) {
        let Some(at) = controller.pci else { continue };
        match serial_of(at) {
            Ok(found) if found.trim() == wanted => return Ok(at),
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
