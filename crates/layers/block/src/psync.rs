//! `psync`: one system call an operation, done when the bell is rung.

use std::fs::File;
use std::os::fd::AsFd;

use strata_measure::{
    Buffers, Engine, FailCode, Fatal, Limits, Op, Outcome, Refusal, Refused, Slot, Stuck, Tick,
    Wait,
};
use strata_record::Completes;
use strata_units::Bytes;

use crate::engine::{SHORT, code_of, explain};
use crate::sys::transfer;

/// pread(2) and pwrite(2).
pub(crate) struct Psync {
    file: File,
    buffers: Buffers,
    align: Bytes,
    completes: Completes,
    posted: Option<(Slot, Op)>,
    done: Option<(Slot, Outcome)>,
}

impl Psync {
    pub(crate) fn new(file: File, buffers: Buffers, align: Bytes, completes: Completes) -> Psync {
        Psync {
            file,
            buffers,
            align,
            completes,
            posted: None,
            done: None,
        }
    }
}

impl Engine for Psync {
    fn limits(&self) -> Limits {
        Limits {
            depth: 1,
            align: self.align,
            completes: self.completes,
            has_latency: true,
            wait: Wait::Spin,
        }
    }

    #[inline]
    fn post(&mut self, slot: Slot, op: Op) -> Result<(), Refused> {
        if self.posted.is_some() || self.done.is_some() {
            return Err(Refused {
                slot,
                op,
                why: Refusal::Full,
            });
        }
        self.posted = Some((slot, op));
        Ok(())
    }

    #[inline]
    fn ring(&mut self) -> Result<(), Fatal> {
        if let Some((slot, op)) = self.posted.take() {
            let outcome = match transfer(self.file.as_fd(), &self.buffers.of(&slot), op) {
                Ok(n) if n as u64 == op.len.0 => Outcome::Done(op.len),
                Ok(_) => Outcome::Failed(SHORT),
                Err(error) => Outcome::Failed(code_of(&error)),
            };
            self.done = Some((slot, outcome));
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self, _: Wait, mut done: impl FnMut(Slot, Outcome)) -> Result<usize, Fatal> {
        match self.done.take() {
            Some((slot, outcome)) => {
                done(slot, outcome);
                Ok(1)
            }
            None => Ok(0),
        }
    }

    fn quiesce(&mut self, _: Tick) -> Result<(), Stuck> {
        Ok(())
    }

    fn buffers(&self) -> Option<&Buffers> {
        Some(&self.buffers)
    }

    fn explain(&self, code: FailCode) -> String {
        explain(code)
    }
}
