//! Each operation that was taken has one answer, whatever the controller does.

use strata_measure::{
    Buffers, Engine, FailCode, Fatal, Limits, Op, Outcome, Refused, Slot, Step, Stuck, Tally, Tick,
    Wait, Window,
};
use strata_record::Op as Mix;
use strata_units::{Bytes, Nanos};

use super::emulator::Emulator;
use super::{driven, engine};
use crate::native::Native;

const BLOCK: Bytes = Bytes(4096);
const DEADLINE: Nanos = Nanos::from_millis(80);

/// Counts what goes into an engine and what comes out, slot by slot.
struct Counted {
    inner: Native,
    taken: Vec<u64>,
    answered: Vec<u64>,
    /// The most answers of one look.
    most: usize,
}

impl Counted {
    fn of(inner: Native) -> Counted {
        let slots = usize::from(inner.limits().depth);
        Counted {
            inner,
            taken: vec![0; slots],
            answered: vec![0; slots],
            most: 0,
        }
    }

    /// Operations that were taken and never answered to the loop.
    fn open(&self) -> u64 {
        let slots = self.taken.iter().zip(&self.answered);
        slots.map(|(taken, answered)| taken - answered).sum()
    }
}

impl Engine for Counted {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        let index = slot.index();
        assert_eq!(
            self.taken[index], self.answered[index],
            "slot {index} is given while it is out"
        );
        self.inner.post(slot, op)?;
        self.taken[index] += 1;
        Ok(())
    }

    fn ring(&mut self) -> Result<(), Fatal> {
        self.inner.ring()
    }

    fn reap(&mut self, wait: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        let (taken, answered) = (&self.taken, &mut self.answered);
        let mut count = 0;
        let reaped = self.inner.reap(wait, |slot, outcome| {
            let index = slot.index();
            answered[index] += 1;
            assert_eq!(taken[index], answered[index], "slot {index} twice");
            count += 1;
            done(slot, outcome);
        });
        if let Ok(reaped) = &reaped {
            assert_eq!(*reaped, count, "as many as it says");
            self.most = self.most.max(count);
        }
        reaped
    }

    fn quiesce(&mut self, by: Tick) -> Result<(), Stuck> {
        self.inner.quiesce(by)
    }

    fn buffers(&self) -> Option<&Buffers> {
        self.inner.buffers()
    }

    fn explain(&self, code: FailCode) -> String {
        self.inner.explain(code)
    }
}

/// Drives against a controller with these faults: the counts, and what of the operations the loop was not told of.
fn against(faults: &str, mix: Mix, depth: u64, ops: u64) -> (Tally, u64) {
    let emulator = Emulator::new(&format!("transfer = \"8KiB\"\n{faults}"));
    let controller = emulator.controller();
    // Two commands a request.
    let block = BLOCK * 4;
    let mut counted = Counted::of(engine(&controller, block, depth, DEADLINE));
    let tally = driven(&mut counted, mix, block, Window::Ops(ops), &mut |_| {
        Step::Go
    });
    assert_eq!(counted.inner.in_flight(), 0, "{faults}");
    let open = counted.open();
    let told: u64 = counted.answered.iter().sum();
    // Writes that the ramp or the drain had are in no figure; there is no ramp here, and failures are all counted.
    let least = tally.ops() + tally.errors();
    assert!(
        (least..=least + depth).contains(&told),
        "{told} answers, {least} counted: {faults}"
    );
    drop((counted, controller));
    emulator.end();
    (tally, open)
}

fn rule(fault: &str, more: &str) -> String {
    format!("[[faults.rule]]\nfault = \"{fault}\"\n{more}\n")
}

const BOTH: [(Mix, u64); 4] = [
    (Mix::RandRead, 1),
    (Mix::RandWrite, 1),
    (Mix::RandRead, 32),
    (Mix::RandWrite, 32),
];

#[test]
fn what_is_taken_at_a_look_leaves_the_controller_as_much_to_do() {
    let emulator = Emulator::new("transfer = \"8KiB\"");
    let controller = emulator.controller();
    for (block, depth, most) in [(1, 1, 1), (1, 3, 1), (1, 16, 8), (4, 16, 8)] {
        let block = BLOCK * block;
        // What was called back at its deadline would be answered at once.
        let long = Nanos::SECOND * 60;
        let mut counted = Counted::of(engine(&controller, block, depth, long));
        let tally = driven(
            &mut counted,
            Mix::RandRead,
            block,
            Window::Ops(3000),
            &mut |_| Step::Go,
        );
        assert_eq!((tally.ops(), tally.broken()), (3000, None));
        assert!(
            (1..=most).contains(&counted.most),
            "{} of {depth}",
            counted.most
        );
    }
    drop(controller);
    emulator.end();
}

#[test]
fn failed_late_and_slow_ones_are_answered_once() {
    let faults = rule("status", "status = \"Internal Error\"\nrate = 0.01")
        + &rule("late", "delay = \"1h\"\nnth = 800")
        + &rule("late", "delay = \"15ms\"\nrate = 0.005");
    for (mix, depth) in BOTH {
        let (tally, open) = against(&faults, mix, depth, 3000);
        assert_eq!((tally.ops(), open, tally.broken()), (3000, 0, None));
        assert!(tally.errors() > 10, "{}", tally.errors());
    }
}

#[test]
fn of_a_reset_each_slot_has_one_answer() {
    for fault in ["lost", "wrong-phase", "fatal"] {
        for (mix, depth) in BOTH {
            let (tally, open) = against(&rule(fault, "nth = 999"), mix, depth, 3000);
            assert!(tally.broken().is_some_and(|why| why.contains("was reset")));
            assert_eq!(open, 0, "{fault} {mix} at {depth}");
            // All that was in flight, and nothing else.
            assert!(
                (1..=depth).contains(&tally.errors()),
                "{fault} {mix} at {depth}: {}",
                tally.errors()
            );
        }
    }
}

#[test]
fn of_a_duplicate_nothing_comes_out_twice() {
    for delay in ["0ns", "1us", "100us"] {
        let faults = rule("twice", &format!("delay = \"{delay}\"\nnth = 999"));
        for (mix, depth) in BOTH {
            let (tally, open) = against(&faults, mix, depth, 3000);
            let why = tally.broken().expect("a duplicate").to_owned();
            assert!(why.contains("which was not outstanding"), "{why}");
            // What was in flight then is answered by the reset.
            assert!(tally.errors() <= depth, "{}: {why}", tally.errors());
            assert_eq!(open, 0, "{why}");
        }
    }
}
