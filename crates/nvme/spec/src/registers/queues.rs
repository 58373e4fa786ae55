//! Admin Queue Attributes.

use crate::QueueSize;
use crate::bits::get;

/// Admin Queue Attributes, AQA: the sizes of both admin queues (Base 3.1.4.8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aqa(pub u32);

impl Aqa {
    /// The most entries that an admin queue has.
    pub const LARGEST: u32 = 4096;

    /// Queues of these sizes; `None` above 4096 entries.
    pub fn new(submission: QueueSize, completion: QueueSize) -> Option<Aqa> {
        if submission.entries().max(completion.entries()) > Aqa::LARGEST {
            return None;
        }
        Some(Aqa(
            u32::from(completion.field()) << 16 | u32::from(submission.field())
        ))
    }

    /// The submission queue's, ASQS; `None` where it is 0, too small for a ring.
    pub fn submission(self) -> Option<QueueSize> {
        QueueSize::from_field(get(self.0.into(), 0, 12) as u16)
    }

    /// The completion queue's, ACQS; `None` where it is 0, too small for a ring.
    pub fn completion(self) -> Option<QueueSize> {
        QueueSize::from_field(get(self.0.into(), 16, 12) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_from_zero() {
        let size = |entries| QueueSize::new(entries).expect("a size");
        let aqa = Aqa::new(size(32), size(4096)).expect("small enough");
        assert_eq!(aqa, Aqa(0x0fff_001f));
        assert_eq!(
            (aqa.submission(), aqa.completion()),
            (Some(size(32)), Some(size(4096)))
        );
        assert_eq!(Aqa::new(size(4097), size(2)), None);
        assert_eq!(Aqa::new(size(2), size(65_536)), None);
        assert_eq!((Aqa(0).submission(), Aqa(0).completion()), (None, None));
    }
}
