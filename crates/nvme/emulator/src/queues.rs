//! The queues that exist.

use strata_nvme_spec::QueueId;
use strata_units::{Bytes, Iova};

use crate::ring::{Completions, Submissions};

/// The queues that exist, and no places of others, so that polling looks at nothing else. The admin queues stand first.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) submissions: Vec<Submissions>,
    pub(crate) completions: Vec<Completions>,
}

impl Queues {
    /// The place of a submission queue in the list.
    pub(crate) fn submission(&self, id: QueueId) -> Option<usize> {
        self.submissions.iter().position(|queue| queue.id == id)
    }

    /// The place of a completion queue in the list.
    pub(crate) fn completion(&self, id: QueueId) -> Option<usize> {
        self.completions.iter().position(|queue| queue.id == id)
    }

    /// A submission queue and the completion queue that it completes to.
    #[inline(always)]
    pub(crate) fn pair(&mut self, index: usize) -> Option<(&mut Submissions, &mut Completions)> {
        let submissions = self.submissions.get_mut(index)?;
        let completions = self.completions.get_mut(submissions.completions)?;
        Some((submissions, completions))
    }

    /// Adds a completion queue.
    pub(crate) fn add_completions(&mut self, queue: Completions) {
        self.completions.push(queue);
    }

    /// Adds a submission queue.
    pub(crate) fn add_submissions(&mut self, queue: Submissions) {
        if let Some(completions) = self.completions.get_mut(queue.completions) {
            completions.users += 1;
        }
        self.submissions.push(queue);
    }

    /// Removes the submission queue at this place.
    pub(crate) fn remove_submissions(&mut self, index: usize) {
        let queue = self.submissions.remove(index);
        if let Some(completions) = self.completions.get_mut(queue.completions) {
            completions.users -= 1;
        }
        queue.end();
    }

    /// Removes the completion queue at this place, which no submission queue uses.
    pub(crate) fn remove_completions(&mut self, index: usize) {
        self.completions.remove(index).end();
        for queue in &mut self.submissions {
            if queue.completions > index {
                queue.completions -= 1;
            }
        }
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        self.submissions.clear();
        self.completions.clear();
    }

    /// Whether any lies in this memory.
    pub(crate) fn lie_in(&self, start: Iova, len: Bytes) -> bool {
        let end = Iova(start.0.saturating_add(len.0));
        let submissions = &mut self.submissions.iter();
        let completions = &mut self.completions.iter();
        submissions.any(|queue| queue.lies_in(start, end))
            || completions.any(|queue| queue.lies_in(start, end))
    }
}
