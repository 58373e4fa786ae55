//! Drives that go to and fro between the kernel and user space while a run is made.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow, bail};
use strata_measure::Job;
use strata_nvme::binding::{Bound, Holder, by_vfio, plan};
use strata_record::{Binding, Cell, Driver};
use strata_runner::Switch;
use strata_settings::{Journal, Live};
use strata_units::PciAddress;

use super::disk;
use crate::host::Host;
use crate::nvme::Controllers;
use crate::session::{Desk, Own};
use crate::{block, nvme};

/// Puts drives on the driver that cells need. What it has taken from the kernel is in the journal, and goes back when this is
/// dropped.
pub(crate) struct Rebinding {
    desk: Desk,
    /// Serial numbers that the user typed.
    typed: Vec<String>,
    /// What is open of a drive; closed before its driver is changed.
    controllers: Controllers,
    own: Own,
    bound: BTreeMap<PciAddress, Bound<Live>>,
}

impl Rebinding {
    /// Of the drives with these serial numbers.
    pub(crate) fn new(desk: &Desk, typed: &[String]) -> Rebinding {
        Rebinding {
            desk: desk.clone(),
            typed: typed.to_vec(),
            controllers: Controllers::default(),
            own: Own::default(),
            bound: BTreeMap::new(),
        }
    }

    fn give(&mut self, function: PciAddress, holder: Holder) -> Result<()> {
        if let Some(bound) = self.bound.get_mut(&function) {
            return Ok(bound.give_to(holder)?);
        }
        if holder == Holder::Kernel {
            // It has it from the beginning.
            return Ok(());
        }
        let mut kernel = Live::default();
        let place = Journal::place();
        let plan = plan(&mut kernel, &place, &by_vfio, function, false)?;
        // Of those of several drives, the one that is of this.
        let is_its = |typed: &&String| plan.typed_matches(std::slice::from_ref(*typed)).is_ok();
        let typed: Vec<String> = self.typed.iter().filter(is_its).cloned().collect();
        let what_for = format!("strata run node, in {}", self.desk.folder().display());
        let bound = plan.bind(kernel, &place, &typed, &what_for)?;
        self.bound.insert(function, bound);
        Ok(())
    }

    fn jobs(&mut self, level: Binding, cells: &[&Cell]) -> Result<Vec<Box<dyn Job>>> {
        let host = Host::read()?;
        match level.driver {
            Driver::VfioPci => nvme::again(&host, &self.desk, &mut self.controllers, cells, None),
            Driver::Nvme => {
                // The kernel may give it another name each time.
                let drive = host.topology.nvme.iter();
                let drive = drive.clone().find(|d| d.pci == Some(level.function));
                let drive = drive.ok_or_else(|| anyhow!("the kernel does not have it"))?;
                let path = disk(drive)?;
                let Some(path) = path.to_str() else {
                    bail!("{} is no text", path.display());
                };
                let here: Vec<Cell> = cells
                    .iter()
                    .map(|cell| Cell {
                        via: path.to_owned(),
                        ..(*cell).clone()
                    })
                    .collect();
                let here: Vec<&Cell> = here.iter().collect();
                block::again(&host, &self.desk, &here, None, &mut self.own)
            }
        }
    }
}

impl Switch for Rebinding {
    fn enter(
        &mut self,
        level: Binding,
        cells: &[&Cell],
        _: &AtomicBool,
    ) -> Result<Vec<Box<dyn Job>>, String> {
        let holder = match level.driver {
            Driver::Nvme => Holder::Kernel,
            Driver::VfioPci => Holder::Vfio,
        };
        let given = self.give(level.function, holder);
        let jobs = given.and_then(|()| {
            let jobs = self.jobs(level, cells);
            jobs.with_context(|| format!("cannot measure {}", level.function))
        });
        jobs.map_err(|why| {
            self.leave();
            format!("{why:#}")
        })
    }

    fn leave(&mut self) {
        self.controllers = Controllers::default();
    }
}
