//! The answering side of a trial's conversation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde::de::{DeserializeOwned, IgnoredAny};
use strata_units::Nanos;

use crate::pulse::Pulse;
use crate::{Answer, Other, PeerError, Say, Task};

/// How long one look at the control channel lasts.
const LOOK: Nanos = Nanos::from_millis(50);

/// What is answered and belongs to no layer.
type Plain = Answer<(), ()>;

/// Waits for the next task, however long.
///
/// # Errors
/// [`PeerError`] when the channel breaks.
pub fn next_task(channel: &mut impl Other) -> Result<Task, PeerError> {
    loop {
        if let Some(why) = channel.lost() {
            return Err(why);
        }
        match channel.receive_within::<Say<IgnoredAny>>(Nanos::SECOND) {
            Ok(Say::Task(task)) => return Ok(task),
            // A trial's last words may come when it is over.
            Ok(Say::Alive | Say::Stop | Say::Own(_)) | Err(PeerError::Silent(_)) => {}
            Ok(Say::Clock) => channel.send(&Plain::Clock(Nanos(0)))?,
            Err(e) => return Err(e),
        }
    }
}

/// Answers that a task cannot be done, and why; the channel is good for the next.
///
/// # Errors
/// [`PeerError`] when the channel breaks.
pub fn refuse(channel: &mut impl Other, why: String) -> Result<(), PeerError> {
    channel.send(&Plain::Failed(why))
}

/// A task that is being done, as the measuring side hears of it: its clock is zero when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Answering {
    began: Instant,
}

impl Answering {
    /// Begins now.
    pub fn begin() -> Answering {
        Answering {
            began: Instant::now(),
        }
    }

    /// What this side's clock showed then.
    pub fn shown(&self, at: Instant) -> Nanos {
        at.saturating_duration_since(self.began).into()
    }

    /// Waits, while the trial is set up, for what the measuring side says next in its layer's own words, at most so long.
    ///
    /// # Errors
    /// [`PeerError::Unwanted`] when it wants the task no more, [`PeerError::Silent`] when it says nothing of its own
    /// `within` that time: both are to be answered by [`refuse`]. Others when it is lost.
    pub fn own<M: DeserializeOwned>(
        &self,
        channel: &mut impl Other,
        within: Nanos,
    ) -> Result<M, PeerError> {
        let (begun, mut pulse) = (Instant::now(), Pulse::new());
        while Nanos::from(begun.elapsed()) < within {
            match self.hear(channel, &mut pulse)? {
                Heard::Nothing => {}
                Heard::Stop => return Err(PeerError::Unwanted),
                Heard::Own(own) => return Ok(own),
            }
        }
        Err(PeerError::Silent(within))
    }

    /// Does the `work` while somebody listens to the measuring side; what came of it. It is to end soon when `stopped`, which
    /// is set when that side wants it no more or is lost. `each` is called some times a second, and at once with each thing
    /// that the measuring side says in its layer's own words; what it fails of is a loss. Where nothing is said so, it is
    /// [`unasked`](crate::unasked).
    ///
    /// # Errors
    /// Why the measuring side is lost; the work is over then too.
    pub fn work<O: Other, M: DeserializeOwned, R: Send>(
        &self,
        channel: &mut O,
        stopped: &AtomicBool,
        each: impl FnMut(&mut O, Option<M>) -> Result<(), PeerError>,
        work: impl FnOnce() -> Result<R, String> + Send,
    ) -> Result<Result<R, String>, PeerError> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let working = scope.spawn(|| {
                let _ended = Ended(&over);
                work()
            });
            let attended = self.attend(channel, stopped, &over, each);
            // Whoever waits for a side that is gone is not waited for.
            if attended.is_err() {
                stopped.store(true, Ordering::Relaxed);
            }
            let worked = working.join().unwrap_or_else(|_| {
                Err("the other side's work panicked; this is a bug of strata".to_owned())
            });
            attended.map(|()| worked)
        })
    }

    fn attend<O: Other, M: DeserializeOwned>(
        &self,
        channel: &mut O,
        stopped: &AtomicBool,
        over: &AtomicBool,
        mut each: impl FnMut(&mut O, Option<M>) -> Result<(), PeerError>,
    ) -> Result<(), PeerError> {
        let mut pulse = Pulse::new();
        while !over.load(Ordering::Relaxed) {
            let own = match self.hear(channel, &mut pulse)? {
                Heard::Nothing => None,
                Heard::Stop => {
                    stopped.store(true, Ordering::Relaxed);
                    None
                }
                Heard::Own(own) => Some(own),
            };
            each(channel, own)?;
        }
        Ok(())
    }

    /// One look at the channel; what every layer answers alike is answered.
    fn hear<M: DeserializeOwned>(
        &self,
        channel: &mut impl Other,
        pulse: &mut Pulse,
    ) -> Result<Heard<M>, PeerError> {
        match pulse.next(channel, LOOK, &Plain::Alive)? {
            None | Some(Say::Alive) => Ok(Heard::Nothing),
            Some(Say::Clock) => channel
                .send(&Plain::Clock(self.shown(Instant::now())))
                .map(|()| Heard::Nothing),
            Some(Say::Stop) => Ok(Heard::Stop),
            Some(Say::Own(own)) => Ok(Heard::Own(own)),
            Some(Say::Task(_)) => Err(PeerError::Garbled(
                "a second task in the midst of one".to_owned(),
            )),
        }
    }
}

/// What one look found.
enum Heard<M> {
    Nothing,
    Stop,
    Own(M),
}

/// Says that the work is over, however it ended.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
