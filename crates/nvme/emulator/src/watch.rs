//! What is looked at now and then between polling: doorbells that cannot be, memory that is gone, the temperature.

use strata_nvme_spec::QueueId;
use strata_nvme_spec::feature::FeatureId;
use strata_nvme_spec::registers::Doorbell;
use strata_units::Nanos;

use crate::controller::Controller;
use crate::events;

/// How often the temperature is looked at.
const GLANCE: Nanos = Nanos::from_millis(10);

/// What was looked at last.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The queue whose doorbells are looked at next, in case it is none.
    scanned: u16,
    glanced: Nanos,
    hot: bool,
}

impl Controller {
    /// A doorbell is rung by a message.
    pub(crate) fn ring(&mut self, at: u64, value: u32) {
        let doorbell = Doorbell::at(at, self.registers.cap.doorbell_stride());
        let exists = match doorbell {
            Some(Doorbell::Tail(id)) => self.queues.submission(id).is_some(),
            Some(Doorbell::Head(id)) => self.queues.completion(id).is_some(),
            None => false,
        };
        match doorbell {
            Some(doorbell) if exists => {
                self.page.store_u32(self.place_of(doorbell), value);
            }
            Some(Doorbell::Tail(id) | Doorbell::Head(id)) => self.stray(id),
            None => self.stray(QueueId(u16::MAX)),
        }
    }

    /// The doorbell of a queue that is not there was rung.
    fn stray(&mut self, id: QueueId) {
        self.io.health.bad_doorbell(id);
        self.events.raise(events::INVALID_DOORBELL);
    }

    /// What is looked at now and then: doorbells that cannot be, and the temperature.
    pub(crate) fn tend(&mut self, busy: Nanos) {
        self.io.health.busy = self.io.health.busy + busy;
        if !self.live {
            return;
        }
        // Of what holds a queue, commands themselves do not find that it is gone.
        self.io.look();
        if self.io.torn {
            self.fail();
            return;
        }
        for index in 0..self.queues.submissions.len() {
            if self.queues.submissions[index].was_wrong() {
                let id = self.queues.submissions[index].id;
                self.io.health.bad_doorbell(id);
                self.events.raise(events::INVALID_VALUE);
            }
        }
        for index in 0..self.queues.completions.len() {
            self.queues.completions[index].look();
            if self.queues.completions[index].was_wrong() {
                let id = self.queues.completions[index].id;
                self.io.health.bad_doorbell(id);
                self.events.raise(events::INVALID_VALUE);
            }
        }
        self.scan();
        let now = self.clock.now();
        if now - self.watch.glanced >= GLANCE {
            self.watch.glanced = now;
            self.feel(now);
        }
    }

    /// Looks at the doorbells of one queue, in case there is none.
    fn scan(&mut self) {
        let id = QueueId(self.watch.scanned);
        self.watch.scanned = if self.watch.scanned >= self.pairs {
            0
        } else {
            self.watch.scanned + 1
        };
        let tail = self
            .queues
            .submission(id)
            .is_none()
            .then_some(Doorbell::Tail(id));
        let head = self
            .queues
            .completion(id)
            .is_none()
            .then_some(Doorbell::Head(id));
        for doorbell in [tail, head].into_iter().flatten() {
            let place = self.place_of(doorbell);
            if self.page.load_u32(place).is_some_and(|value| value != 0) {
                self.page.store_u32(place, 0);
                self.stray(id);
            }
        }
    }

    /// Tells of a temperature that went beyond its threshold, where that was asked for.
    fn feel(&mut self, now: Nanos) {
        let temperature = self.models.pace.temperature(now);
        let hot = self.features.is_beyond(temperature);
        let news = hot && !self.watch.hot;
        self.watch.hot = hot;
        let asked = self.features.value(FeatureId::EVENT_CONFIG) >> 1 & 1 == 1;
        if news && asked {
            self.events.raise(events::TEMPERATURE);
        }
    }
}
