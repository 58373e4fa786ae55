//! Levels of factors that are hard to change: entered once a round, left before the next is.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use strata_measure::Job;
use strata_record::{Binding, Cell, Proof};

/// Brings the host to a level of a factor that is hard to change.
pub trait Switch {
    /// Puts the drive on the driver, and makes a job of each of `cells`, which are all cells of this level, in their order.
    ///
    /// It is called once for each level of each round, even when the round before ended with this level: what one binding
    /// leaves behind (where memory came to lie, which vector went to which CPU) is then drawn anew for each round, so that
    /// the rounds stay independent of one another. Only one level is entered at a time.
    ///
    /// # Errors
    /// In words, why the host is not at the level, with the next step. Nothing is held then, and [`Switch::leave`] is not
    /// called.
    fn enter(
        &mut self,
        level: Binding,
        cells: &[&Cell],
        interrupted: &AtomicBool,
    ) -> Result<Vec<Box<dyn Job>>, String>;

    /// Lets go of whatever is still held of the level that was entered last, whose jobs are gone already: when this returns,
    /// no descriptor of the drive is open, neither of its block devices nor of its VFIO group. Which driver it is on
    /// then does not matter, for the next level may be of another drive.
    fn leave(&mut self);

    /// Brings the host back to what it was before the first level; told in words is what could not be brought back, each with the
    /// next step. Nothing is entered afterwards.
    fn end(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The switch of a run in which no cell has a binding.
#[derive(Debug, Clone, Copy)]
pub struct AsItIs;

impl Switch for AsItIs {
    fn enter(
        &mut self,
        level: Binding,
        _: &[&Cell],
        _: &AtomicBool,
    ) -> Result<Vec<Box<dyn Job>>, String> {
        Err(format!(
            "{level} is asked for, and this command changes no driver; begin the run again with the command that made its plan"
        ))
    }

    fn leave(&mut self) {}
}

/// The jobs of a plan's cells: those without a binding for all of the run, the others while their level lasts.
pub(crate) struct Bench<'a> {
    cells: &'a [Cell],
    free: &'a mut [Box<dyn Job>],
    switch: &'a mut dyn Switch,
    entered: Option<Entered>,
}

/// A level that was entered, or was to be.
struct Entered {
    level: Binding,
    /// Which of the run's attempts at a round it is for.
    attempt: usize,
    jobs: Result<Vec<Box<dyn Job>>, String>,
}

impl<'a> Bench<'a> {
    /// `free` are the jobs of the cells without a binding, in the plan's order.
    pub(crate) fn new(
        cells: &'a [Cell],
        free: &'a mut [Box<dyn Job>],
        switch: &'a mut dyn Switch,
    ) -> Bench<'a> {
        Bench {
            cells,
            free,
            switch,
            entered: None,
        }
    }

    /// Brings the host to the level of a cell, unless it is there in this attempt or could not be brought there. How long
    /// that took, in seconds, when it was brought there by this call.
    pub(crate) fn reach(
        &mut self,
        cell: usize,
        attempt: usize,
        interrupted: &AtomicBool,
    ) -> Option<f64> {
        let level = self.cells[cell].binding?;
        let there = |e: &Entered| (e.level, e.attempt) == (level, attempt);
        if self.entered.as_ref().is_some_and(there) {
            return None;
        }
        let begun = Instant::now();
        self.leave();
        let of_level: Vec<&Cell> = self.of(Some(level)).collect();
        let jobs = self.switch.enter(level, &of_level, interrupted);
        let took = jobs.is_ok().then(|| begun.elapsed().as_secs_f64());
        self.entered = Some(Entered {
            level,
            attempt,
            jobs,
        });
        took
    }

    /// The job of a cell whose level was reached, or why it was not.
    pub(crate) fn job(&mut self, cell: usize) -> Result<&mut dyn Job, String> {
        let binding = self.cells[cell].binding;
        let place = self.cells[..cell]
            .iter()
            .filter(|c| c.binding == binding)
            .count();
        let jobs = match (binding, &mut self.entered) {
            (None, _) => &mut *self.free,
            (Some(level), Some(entered)) if entered.level == level => match &mut entered.jobs {
                Ok(jobs) => jobs.as_mut_slice(),
                Err(why) => return Err(format!("{level}: {why}")),
            },
            _ => &mut [],
        };
        match jobs.get_mut(place) {
            Some(job) => Ok(job.as_mut()),
            None => Err("a job is missing; this is a bug of strata".to_owned()),
        }
    }

    /// Ends the level that was entered last: its jobs first, for they hold the drive.
    fn leave(&mut self) {
        if let Some(Entered { jobs: Ok(jobs), .. }) = self.entered.take() {
            drop(jobs);
            self.switch.leave();
        }
    }

    fn of(&self, binding: Option<Binding>) -> impl Iterator<Item = &'a Cell> + use<'a> {
        let of_level = move |cell: &&Cell| cell.binding == binding;
        self.cells.iter().filter(of_level)
    }
}

impl Drop for Bench<'_> {
    /// However a run ends, nothing of its last level stays open.
    fn drop(&mut self) {
        self.leave();
    }
}

/// Holds the drivers that were found against the binding that was asked for.
pub(crate) fn prove(binding: Binding, proof: &mut Proof) {
    let functions = proof.host.iter().flat_map(|host| &host.functions);
    let found = functions
        .into_iter()
        .find(|f| f.function == binding.function);
    let Some(found) = found else {
        proof.missing.push(format!(
            "that {} held {}: nobody looked which driver did",
            binding.driver, binding.function
        ));
        return;
    };
    let wanted = Some(binding.driver.name());
    if (found.before.as_deref(), found.after.as_deref()) != (wanted, wanted) {
        let name = |driver: &Option<String>| driver.clone().unwrap_or_else(|| "none".to_owned());
        proof.contradictions.push(format!(
            "{} was to be on {}, and its driver was {} before the trial and {} after it; nothing else may bind it while the run lasts (driverctl, udev rules)",
            binding.function,
            binding.driver,
            name(&found.before),
            name(&found.after)
        ));
    }
}
