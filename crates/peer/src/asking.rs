//! The measuring side of a trial's conversation.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde::de::{DeserializeOwned, IgnoredAny};
use strata_units::Nanos;

use crate::pulse::Pulse;
use crate::{Answer, Other, PeerError, Say, Seen};

/// How long one look at the control channel lasts.
const LOOK: Nanos = Nanos::from_millis(100);

/// How long an other side that is not wanted any more may take to say that it has stopped.
const STOPS: Nanos = Nanos::SECOND;

/// How long it may take to tell its clock.
const TELLS: Nanos = Nanos(15_000_000_000);

/// Waits, while the trial is set up, for what the other side says next in its layer's own words. One that takes longer than
/// `within` is given up, one that is not wanted any more is told to stop.
///
/// # Errors
/// [`PeerError::Failed`] when it says why it cannot, [`PeerError::Unwanted`] when `interrupted`, others when it is lost or
/// says something else.
pub fn answer<M: DeserializeOwned>(
    other: &mut impl Other,
    within: Nanos,
    interrupted: &AtomicBool,
) -> Result<M, PeerError> {
    match next(other, within, interrupted)? {
        Answer::Own(own) => Ok(own),
        _ => Err(PeerError::unasked()),
    }
}

fn next<M: DeserializeOwned>(
    other: &mut impl Other,
    within: Nanos,
    interrupted: &AtomicBool,
) -> Result<Answer<M, IgnoredAny>, PeerError> {
    let begun = Instant::now();
    loop {
        if interrupted.load(Ordering::Relaxed) {
            stop(other);
            return Err(PeerError::Unwanted);
        }
        match other.receive_within(LOOK) {
            Ok(Answer::Alive) | Err(PeerError::Silent(_))
                if Nanos::from(begun.elapsed()) < within => {}
            Ok(Answer::Failed(why)) => return Err(PeerError::Failed(why)),
            Err(PeerError::Silent(_)) => return Err(PeerError::Silent(within)),
            found => return found,
        }
    }
}

/// The other side's clock by the quickest of some questions.
///
/// # Errors
/// As [`answer`].
pub fn clock(other: &mut impl Other, interrupted: &AtomicBool) -> Result<Seen, PeerError> {
    const MORE: usize = 7;
    let mut ask = || {
        let asked = Instant::now();
        other.send(&Say::<()>::Clock)?;
        match next::<IgnoredAny>(other, TELLS, interrupted)? {
            Answer::Clock(theirs) => Ok(Seen {
                theirs,
                ours: (asked, Instant::now()),
            }),
            _ => Err(PeerError::unasked()),
        }
    };
    let mut best = ask()?;
    for _ in 0..MORE {
        best = best.closer(ask()?);
    }
    Ok(best)
}

/// Does this side's `work` while somebody listens to the other side, until that has said what it found; what came of both.
///
/// `enough` is set when nothing more will come from there: it has found what it looked for, or is lost. It is told to stop
/// when `interrupted`, or when this side's work has failed. `each` is called about every tenth of a second, and at once with
/// each thing that the other side says in its layer's own words; what it fails of ends the listening. Where nothing is said
/// so, it is [`unasked`].
pub fn beside<O: Other, M: DeserializeOwned, R: DeserializeOwned + Send, T, E>(
    other: &mut O,
    interrupted: &AtomicBool,
    enough: &AtomicBool,
    each: impl FnMut(&mut O, Option<M>) -> Result<(), PeerError> + Send,
    work: impl FnOnce() -> Result<T, E>,
) -> (Result<T, E>, Result<R, PeerError>) {
    let given_up = AtomicBool::new(false);
    let unwanted = || interrupted.load(Ordering::Relaxed) || given_up.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let listening = scope.spawn(|| {
            let found = finished(other, unwanted, each);
            // A lost other side ends the trial here as one that is done does.
            enough.store(true, Ordering::Relaxed);
            found
        });
        let worked = work();
        // What was not begun here need not be waited for there.
        given_up.store(worked.is_err(), Ordering::Relaxed);
        let found = listening.join().unwrap_or_else(|_| {
            Err(io::Error::other("listening to it panicked; this is a bug of strata").into())
        });
        (worked, found)
    })
}

/// Waits for what the other side finds, as long as it gives signs of life.
fn finished<O: Other, M: DeserializeOwned, R: DeserializeOwned>(
    other: &mut O,
    unwanted: impl Fn() -> bool,
    mut each: impl FnMut(&mut O, Option<M>) -> Result<(), PeerError>,
) -> Result<R, PeerError> {
    let mut pulse = Pulse::new();
    loop {
        let own = match pulse.next(other, LOOK, &Say::<()>::Alive)? {
            None | Some(Answer::Alive) => None,
            Some(Answer::Own(own)) => Some(own),
            Some(Answer::Done(found)) => return Ok(found),
            Some(Answer::Failed(why)) => return Err(PeerError::Failed(why)),
            Some(Answer::Clock(_)) => return Err(PeerError::unasked()),
        };
        each(other, own)?;
        if unwanted() {
            stop(other);
            return Err(PeerError::Unwanted);
        }
    }
}

/// Tells the other side to stop, and waits a little until it has: the channel may be used again.
pub fn stop(other: &mut impl Other) {
    if other.send(&Say::<()>::Stop).is_err() {
        return;
    }
    let begun = Instant::now();
    while Nanos::from(begun.elapsed()) < STOPS {
        match other.receive_within::<Answer<IgnoredAny, IgnoredAny>>(LOOK) {
            Ok(Answer::Done(_) | Answer::Failed(_)) => return,
            Ok(_) | Err(PeerError::Silent(_)) => {}
            Err(_) => return,
        }
    }
}

/// For a layer that has no words of its own while the trial runs: whatever comes is what nobody asked for.
///
/// # Errors
/// [`PeerError::Garbled`] of anything.
pub fn unasked<O, M>(_: &mut O, own: Option<M>) -> Result<(), PeerError> {
    own.map_or(Ok(()), |_| Err(PeerError::unasked()))
}
