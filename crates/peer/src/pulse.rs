//! Signs of life, on a channel that gives none by itself.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use strata_units::Nanos;

use crate::{Other, PeerError};

/// How often each side says that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// After how long a silence a side is taken for lost.
const STALL: Duration = Duration::from_secs(4);

/// When something was last heard and said in a trial.
pub(crate) struct Pulse {
    heard: Instant,
    said: Instant,
}

impl Pulse {
    pub(crate) fn new() -> Pulse {
        let now = Instant::now();
        Pulse {
            heard: now,
            said: now,
        }
    }

    /// The other side's next message, if one comes within `span`. Says now and then, by `alive`, that we are here.
    ///
    /// # Errors
    /// Why it is lost: it ended, fell silent, or sent what nobody sends.
    pub(crate) fn next<T: DeserializeOwned, A: Serialize>(
        &mut self,
        other: &mut impl Other,
        span: Nanos,
        alive: &A,
    ) -> Result<Option<T>, PeerError> {
        let mut said = Ok(());
        if self.said.elapsed() >= BEAT {
            self.said = Instant::now();
            said = other.send(alive);
        }
        let begun = Instant::now();
        let found = other.receive_within(span);
        if let Some(why) = other.lost() {
            return Err(why);
        }
        match found {
            Ok(message) => {
                self.heard = Instant::now();
                Ok(Some(message))
            }
            // Who has ended may have said all there is to say before: it is heard first.
            Err(PeerError::Silent(_)) if said.is_err() => said.map(|()| None),
            Err(PeerError::Silent(_)) => {
                // Who was stopped itself has not listened: what it slept is no silence of the other side's.
                let slept = begun.elapsed().saturating_sub(span.as_duration() * 2);
                self.heard += slept;
                if self.heard.elapsed() > STALL {
                    return Err(PeerError::Silent(Nanos::from(STALL)));
                }
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}
