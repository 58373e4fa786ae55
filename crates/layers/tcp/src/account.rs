//! What an engine leaves behind for the trial's proof: it ends with its thread, the proof is made afterwards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use strata_measure::two_sides::Begins;
use strata_record::{Direction, Role, ZeroCopyProof};

use crate::info::Facts;

/// The connections of one thread that carried one kind of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) role: Role,
    /// Which way this side's bytes went; none for requests and replies.
    pub(crate) direction: Option<Direction>,
    pub(crate) facts: Vec<Facts>,
    pub(crate) zerocopy: Option<ZeroCopyProof>,
}

/// What all threads of one side share in a trial.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: Mutex<Vec<Account>>,
    /// When they began.
    pub(crate) begins: Begins,
    /// Threads whose receivers have not all closed.
    sending: AtomicUsize,
    /// Set when the trial is over by somebody else's word: all receivers have closed, or the other side is lost.
    pub(crate) enough: AtomicBool,
}

impl Ledger {
    /// For so many sending threads.
    pub(crate) fn new(sending: usize) -> Ledger {
        Ledger {
            sending: AtomicUsize::new(sending),
            ..Ledger::default()
        }
    }

    pub(crate) fn add(&self, account: Account) {
        self.accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(account);
    }

    /// The receivers of one more thread have closed. With the last of them it is enough; before, the others' still need
    /// what their threads send.
    pub(crate) fn sent_all(&self) {
        if self.sending.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enough.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn accounts(&self) -> Vec<Account> {
        std::mem::take(&mut self.accounts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Several connections' sends without a copy together; none where they were not asked for.
pub(crate) fn sum(of: impl Iterator<Item = ZeroCopyProof>) -> Option<ZeroCopyProof> {
    of.reduce(|sum, one| ZeroCopyProof {
        sends: sum.sends + one.sends,
        completions: sum.completions + one.completions,
        copied: sum.copied + one.copied,
        no_room: sum.no_room + one.no_room,
    })
}
