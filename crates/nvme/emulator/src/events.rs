//! Asynchronous events (Base 5.1.2): requests that wait, and events that wait for a request.

use std::collections::VecDeque;

use strata_nvme_spec::command::admin::LogPage;
use strata_nvme_spec::{AsyncEvent, CommandId};

/// Requests that wait at a time.
pub(crate) const REQUESTS: usize = 4;

/// Events that wait at a time; a host that does not ask misses those after.
const EVENTS: usize = 8;

/// A doorbell that belongs to no queue was written.
pub(crate) const INVALID_DOORBELL: AsyncEvent = error(0);
/// A doorbell was given a value that it cannot have.
pub(crate) const INVALID_VALUE: AsyncEvent = error(1);
/// A temperature is beyond its threshold.
pub(crate) const TEMPERATURE: AsyncEvent = AsyncEvent {
    kind: 1,
    info: 1,
    log_page: LogPage::Smart.id(),
};

const fn error(info: u8) -> AsyncEvent {
    AsyncEvent {
        kind: 0,
        info,
        log_page: LogPage::Errors.id(),
    }
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Events {
    requests: VecDeque<CommandId>,
    events: VecDeque<AsyncEvent>,
    /// By type: one was reported whose log page was not read since.
    masked: u8,
}

impl Events {
    /// Takes a request; whether there was room for it.
    pub(crate) fn ask(&mut self, request: CommandId) -> bool {
        let room = self.requests.len() < REQUESTS;
        if room {
            self.requests.push_back(request);
        }
        room
    }

    /// Takes a request back; whether there was one.
    pub(crate) fn withdraw(&mut self, request: CommandId) -> bool {
        let before = self.requests.len();
        self.requests.retain(|waiting| *waiting != request);
        self.requests.len() < before
    }

    /// Something happened. One that waits already is told once.
    pub(crate) fn raise(&mut self, event: AsyncEvent) {
        if self.events.len() < EVENTS && !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }

    /// The next event, with the request that it completes. Its type is masked until its log page is read.
    pub(crate) fn next(&mut self) -> Option<(CommandId, AsyncEvent)> {
        let open = |event: &AsyncEvent| self.masked >> event.kind & 1 == 0;
        let index = self.events.iter().position(open)?;
        let request = *self.requests.front()?;
        let event = self.events.remove(index)?;
        self.requests.pop_front();
        self.masked |= 1 << event.kind;
        Some((request, event))
    }

    /// Whether [`Events::next`] has one.
    pub(crate) fn has_next(&self) -> bool {
        let open = |event: &AsyncEvent| self.masked >> event.kind & 1 == 0;
        !self.requests.is_empty() && self.events.iter().any(open)
    }

    /// A log page was read: events of its type are told again.
    pub(crate) fn was_read(&mut self, page: LogPage) {
        match page {
            LogPage::Errors => self.masked &= !(1 << INVALID_DOORBELL.kind),
            LogPage::Smart => self.masked &= !(1 << TEMPERATURE.kind),
            LogPage::Firmware => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_once_until_its_log_is_read() {
        let mut events = Events::default();
        events.raise(INVALID_VALUE);
        events.raise(INVALID_VALUE);
        assert_eq!(events.next(), None, "nobody asked");
        for cid in 0..REQUESTS as u16 {
            assert!(events.ask(CommandId(cid)));
        }
        assert!(!events.ask(CommandId(9)));
        assert_eq!(events.next(), Some((CommandId(0), INVALID_VALUE)));
        events.raise(INVALID_DOORBELL);
        assert!(!events.has_next(), "errors are masked");
        events.raise(TEMPERATURE);
        assert_eq!(events.next(), Some((CommandId(1), TEMPERATURE)));
        events.was_read(LogPage::Errors);
        assert_eq!(events.next(), Some((CommandId(2), INVALID_DOORBELL)));
        assert!(events.withdraw(CommandId(3)) && !events.withdraw(CommandId(3)));
    }
}
