//! Commands that were fetched and complete later, in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use strata_nvme_spec::{CommandId, QueueId, Status};
use strata_units::Nanos;

/// How a command completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    /// As it should.
    Once,
    /// A second time.
    Again,
    /// With the phase tag of the round before.
    Stale,
}

/// A completion that is due later. Ordered by its time, and among equal times by when it was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) at: Nanos,
    order: u64,
    pub(crate) queue: QueueId,
    pub(crate) cid: CommandId,
    pub(crate) how: How,
    status: u16,
}

impl Due {
    pub(crate) fn status(&self) -> Status {
        Status::from_field(self.status)
    }
}

/// What is due later.
#[derive(Debug, Default)]
pub(crate) struct Later {
    heap: BinaryHeap<Reverse<Due>>,
    order: u64,
    /// What there is to be room for.
    promised: usize,
}

impl Later {
    /// Makes room for so many more than were promised room already, so that none is made between commands.
    pub(crate) fn promise(&mut self, more: usize) {
        self.promised += more;
        let missing = self.promised.saturating_sub(self.heap.len());
        self.heap.reserve(missing);
    }

    /// So many of them will not come.
    pub(crate) fn release(&mut self, less: usize) {
        self.promised = self.promised.saturating_sub(less);
    }

    pub(crate) fn add(
        &mut self,
        at: Nanos,
        (queue, cid): (QueueId, CommandId),
        how: How,
        status: Status,
    ) {
        self.order += 1;
        self.heap.push(Reverse(Due {
            at,
            order: self.order,
            queue,
            cid,
            how,
            status: status.field(),
        }));
    }

    /// The next one, if its time has come.
    #[inline]
    pub(crate) fn next(&mut self, now: Nanos) -> Option<Due> {
        if self.heap.peek()?.0.at > now {
            return None;
        }
        self.heap.pop().map(|due| due.0)
    }

    /// Takes one command out that completes once; whether it was there.
    pub(crate) fn take(&mut self, queue: QueueId, cid: CommandId) -> bool {
        let is_it = |due: &Due| (due.queue, due.cid) == (queue, cid) && due.how == How::Once;
        // A host that gives an identifier twice waits for two completions.
        let mut found = false;
        if self.heap.iter().any(|due| is_it(&due.0)) {
            self.heap.retain(|due| {
                found || !is_it(&due.0) || {
                    found = true;
                    false
                }
            });
        }
        found
    }

    /// Takes all of a queue out, and tells each that was to complete.
    pub(crate) fn take_all(&mut self, queue: QueueId, mut told: impl FnMut(&Due)) {
        self.heap.retain(|due| {
            let stays = due.0.queue != queue;
            if !stays {
                told(&due.0);
            }
            stays
        });
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.promised = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_the_sum() {
        let mut later = Later::default();
        later.promise(100);
        later.promise(1000);
        assert!(later.heap.capacity() >= 1100);
        later.release(1000);
        later.promise(900);
        assert_eq!(later.promised, 1000);
    }

    #[test]
    fn they_come_in_order_of_time_and_then_of_fetching() {
        let mut later = Later::default();
        let of = |cid| (QueueId(1), CommandId(cid));
        for (at, cid) in [(30, 1), (10, 2), (20, 3), (10, 4), (40, 5)] {
            later.add(Nanos(at), of(cid), How::Once, Status::SUCCESS);
        }
        later.add(
            Nanos(5),
            (QueueId(2), CommandId(9)),
            How::Again,
            Status::SUCCESS,
        );
        assert!(later.take(QueueId(1), CommandId(3)) && !later.take(QueueId(1), CommandId(3)));
        assert!(
            !later.take(QueueId(2), CommandId(9)),
            "it completed once already"
        );
        assert_eq!(later.next(Nanos(4)), None);
        for at in [50, 51] {
            later.add(Nanos(at), of(8), How::Once, Status::SUCCESS);
        }
        assert!(later.take(QueueId(1), CommandId(8)) && later.take(QueueId(1), CommandId(8)));
        let order: Vec<u16> = std::iter::from_fn(|| later.next(Nanos(30)))
            .map(|due| due.cid.0)
            .collect();
        assert_eq!(order, [9, 2, 4, 1]);
        let mut left = Vec::new();
        later.take_all(QueueId(1), |due| left.push(due.cid.0));
        assert_eq!(left, [5]);
        assert_eq!(later.next(Nanos(u64::MAX)), None);
    }
}
