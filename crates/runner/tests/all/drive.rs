//! A drive that changes its driver, jobs that hold it as long as they live, and a switch that notices when they do too long.

use std::cell::{Cell as Counter, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::{Job, JobError, Trial, TrialResult};
use strata_record::{Binding, Cell, Driver, FunctionProof, HostProof, Record, Run};
use strata_runner::{Ended, Store, Switch, execute};

use crate::support::{Told, well};

pub(crate) fn on(slot: u8, driver: Driver) -> Binding {
    Binding {
        function: format!("0000:{slot:02x}:00.0").parse().expect("an address"),
        driver,
    }
}

pub(crate) const NVME: Driver = Driver::Nvme;
pub(crate) const VFIO: Driver = Driver::VfioPci;

/// What happened, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Enter(Binding),
    Leave,
    /// Number of the cell.
    Trial(usize),
}

/// A drive that is on the driver that it was put on last, and the jobs that hold it.
#[derive(Default)]
struct Drive {
    events: RefCell<Vec<Event>>,
    held: Counter<usize>,
    is_on: Counter<Option<Binding>>,
}

impl Drive {
    fn log(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn entered(&self) -> usize {
        let events = self.events.borrow();
        let enters = events.iter().filter(|e| matches!(e, Event::Enter(_)));
        enters.count()
    }
}

/// Answers a trial, by its number among all that this process made.
pub(crate) type Answer = Rc<dyn Fn(usize) -> Result<TrialResult, JobError>>;

struct Holding {
    drive: Rc<Drive>,
    cell: usize,
    binding: Option<Binding>,
    answer: Answer,
}

impl Holding {
    fn job(drive: &Rc<Drive>, run: &Run, cell: usize, answer: &Answer) -> Box<dyn Job> {
        let binding = run.plan.cells[cell].binding;
        drive
            .held
            .set(drive.held.get() + usize::from(binding.is_some()));
        Box::new(Holding {
            drive: Rc::clone(drive),
            cell,
            binding,
            answer: Rc::clone(answer),
        })
    }
}

impl Job for Holding {
    fn run(&mut self, _: &Trial<'_>) -> Result<TrialResult, JobError> {
        let events = self.drive.events.borrow();
        let number = events
            .iter()
            .filter(|e| matches!(e, Event::Trial(_)))
            .count();
        drop(events);
        if self.binding.is_some() {
            assert_eq!(
                self.drive.is_on.get(),
                self.binding,
                "measured under its driver"
            );
        }
        self.drive.log(Event::Trial(self.cell));
        let mut done = (self.answer)(number)?;
        done.proof.host = self.binding.map(seen_on);
        Ok(done)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mine = usize::from(self.binding.is_some());
        self.drive.held.set(self.drive.held.get() - mine);
    }
}

/// A host on which that driver held the drive.
pub(crate) fn seen_on(binding: Binding) -> HostProof {
    let name = Some(binding.driver.name().to_owned());
    HostProof {
        functions: vec![FunctionProof {
            function: binding.function,
            before: name.clone(),
            after: name,
            version: None,
            source_version: None,
        }],
        ..HostProof::default()
    }
}

/// Refuses changes by their number, from 0.
pub(crate) type Refuses = Box<dyn Fn(usize, Binding) -> Option<String>>;

struct Changes {
    drive: Rc<Drive>,
    run: Run,
    answer: Answer,
    refuses: Refuses,
    stop: Option<usize>,
}

impl Switch for Changes {
    fn enter(
        &mut self,
        level: Binding,
        cells: &[&Cell],
        interrupted: &AtomicBool,
    ) -> Result<Vec<Box<dyn Job>>, String> {
        assert_eq!(
            self.drive.held.get(),
            0,
            "something holds a drive that changes its driver"
        );
        let number = self.drive.entered();
        self.drive.log(Event::Enter(level));
        if self.stop == Some(number) {
            interrupted.store(true, Ordering::Relaxed);
            return Err("interrupted".to_owned());
        }
        if let Some(why) = (self.refuses)(number, level) {
            return Err(why);
        }
        self.drive.is_on.set(Some(level));
        let plan = &self.run.plan.cells;
        let of_level = |n: &usize| plan[*n].binding == Some(level);
        let numbers: Vec<usize> = (0..plan.len()).filter(of_level).collect();
        let asked: Vec<&Cell> = numbers.iter().map(|n| &plan[*n]).collect();
        assert_eq!(asked, cells, "all cells of the level, in the plan's order");
        let job = |n: &usize| Holding::job(&self.drive, &self.run, *n, &self.answer);
        Ok(numbers.iter().map(job).collect())
    }

    fn leave(&mut self) {
        assert_eq!(self.drive.held.get(), 0, "jobs go before their level");
        self.drive.log(Event::Leave);
    }
}

/// How the rest of a run is made.
pub(crate) struct Making {
    pub(crate) run: Run,
    pub(crate) records: Vec<Record>,
    pub(crate) answer: Answer,
    pub(crate) refuses: Refuses,
    /// The change during which the user presses Ctrl-C.
    pub(crate) stop: Option<usize>,
}

impl Making {
    pub(crate) fn of(run: &Run) -> Making {
        Making {
            run: run.clone(),
            records: Vec::new(),
            answer: Rc::new(|_| Ok(well())),
            refuses: Box::new(|_, _| None),
            stop: None,
        }
    }

    pub(crate) fn go_on(self, store: Option<&mut Store>) -> (Ended, Vec<Record>, Vec<Event>) {
        let Making {
            run, mut records, ..
        } = self;
        let drive = Rc::new(Drive::default());
        let free = (0..run.plan.cells.len()).filter(|n| run.plan.cells[*n].binding.is_none());
        let mut jobs: Vec<Box<dyn Job>> = free
            .map(|n| Holding::job(&drive, &run, n, &self.answer))
            .collect();
        let mut switch = Changes {
            drive: Rc::clone(&drive),
            run: run.clone(),
            answer: self.answer,
            refuses: self.refuses,
            stop: self.stop,
        };
        let interrupted = AtomicBool::new(false);
        let ended = execute(
            &run,
            &mut jobs,
            &mut switch,
            &mut records,
            store,
            &interrupted,
            &mut Told::default(),
        )
        .expect("nothing is written");
        assert_eq!(drive.held.get(), 0, "nothing is held when a run has ended");
        let events = drive.events.borrow().clone();
        (ended, records, events)
    }

    pub(crate) fn whole(self) -> (Vec<Record>, Vec<Event>) {
        let (ended, records, events) = self.go_on(None);
        assert_eq!(ended, Ended::Done);
        (records, events)
    }
}
