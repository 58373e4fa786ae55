//! Drives that go to and fro between the kernel and user space while a run is made.

use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow, bail};
use strata_measure::Job;
use strata_nvme::binding::{Bound, Holder, by_vfio, plan};
use strata_record::{Binding, Cell, Driver};
use strata_runner::Switch;
use strata_settings::{Journal, Left, Live, Undone};
use strata_units::PciAddress;

use super::disk;
use crate::host::Host;
use crate::nvme::Controllers;
use crate::session::{Desk, Own};
use crate::{block, interrupt, nvme, output};

/// Puts drives on the driver that cells need. What it has taken from the kernel is in the journal, and goes back when this is
/// dropped.
pub(crate) struct Rebinding {
    desk: Desk,
    /// Serial numbers that the user typed.
    typed: Vec<String>,
    /// What is open of a drive; closed before its driver is changed.
    controllers: Controllers,
    own: Own,
    /// In the order in which they were taken: the first has what is loaded for all of them.
    bound: Vec<Taken>,
}

/// A drive that was taken from the kernel.
struct Taken {
    function: PciAddress,
    bound: Bound<Live>,
    /// Who has it now.
    holder: Holder,
    /// Whether that got it a moment ago, for the level that is entered.
    fresh: bool,
    /// Until it is back a second Ctrl-C does not end the process.
    _held: interrupt::Held,
}

impl Rebinding {
    /// Of the drives with these serial numbers.
    pub(crate) fn new(desk: &Desk, typed: &[String]) -> Rebinding {
        Rebinding {
            desk: desk.clone(),
            typed: typed.to_vec(),
            controllers: Controllers::default(),
            own: Own::default(),
            bound: Vec::new(),
        }
    }

    /// Gives the drive to a holder anew, also where that has it already: each round's binding is one of its own.
    fn give(&mut self, function: PciAddress, holder: Holder) -> Result<()> {
        let taken = match self.bound.iter().position(|of| of.function == function) {
            Some(at) => &mut self.bound[at],
            None => self.take(function)?,
        };
        if taken.holder == holder && !std::mem::take(&mut taken.fresh) {
            let other = match holder {
                Holder::Kernel => Holder::Vfio,
                Holder::Vfio => Holder::Kernel,
            };
            taken.bound.give_to(other)?;
            taken.holder = other;
        }
        if taken.holder != holder {
            taken.bound.give_to(holder)?;
            taken.holder = holder;
        }
        taken.fresh = false;
        Ok(())
    }

    fn take(&mut self, function: PciAddress) -> Result<&mut Taken> {
        let held = interrupt::hold();
        let mut kernel = Live::default();
        let place = Journal::place();
        let plan = plan(&mut kernel, &place, &by_vfio, function, false)?;
        // Of those of several drives, the one that is of this.
        let is_its = |typed: &&String| plan.typed_matches(std::slice::from_ref(*typed)).is_ok();
        let typed: Vec<String> = self.typed.iter().filter(is_its).cloned().collect();
        let what_for = format!("strata run node, in {}", self.desk.folder().display());
        let bound = plan.bind(kernel, &place, &typed, &what_for)?;
        self.bound.push(Taken {
            function,
            bound,
            holder: Holder::Vfio,
            fresh: true,
            _held: held,
        });
        self.bound.last_mut().context("it was taken")
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

    fn end(&mut self) -> Vec<String> {
        self.leave();
        let mut left = Vec::new();
        while let Some(taken) = self.bound.pop() {
            let function = taken.function;
            let mut tell = |why: String| {
                left.push(format!(
                    "{function} could not be given back: {why}; mend that, then `strata restore` does it"
                ));
            };
            match taken.bound.undo() {
                Ok(undone) => undone
                    .into_iter()
                    .filter_map(|(_, undone)| match undone {
                        // Somebody else needs the module now.
                        Undone::Left(Left::Shared { .. }) => None,
                        Undone::Left(why) => Some(why.to_string()),
                        _ => None,
                    })
                    .for_each(&mut tell),
                Err(why) => tell(why.to_string()),
            }
        }
        left
    }
}

impl Drop for Rebinding {
    fn drop(&mut self) {
        self.end().iter().for_each(|why| output::tell(why));
    }
}
