//! Where the threads of one side meet the other side's, over the control channel that a thread of its own listens to.
//!
//! Each side tells its *ends* (queue pairs, memory), is *connected* when it may be reached, is *over* when its window is and it
//! needs nothing more of the other side, and has *closed* when it begins nothing more. Between, both sides' threads go their
//! own ways.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use strata_measure::Fatal;

use crate::port::PortEnd;
use crate::verbs::Remote;

/// A queue pair, as the other side must know it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LaneEnd {
    pub(crate) queue_pair: u32,
    /// The number of its first packet.
    pub(crate) psn: u32,
}

/// What a thread tells the other side's thread of the same number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ThreadEnd {
    pub(crate) port: PortEnd,
    /// The queue pairs over which it begins, to those over which the other one takes.
    pub(crate) out: Vec<LaneEnd>,
    pub(crate) into: Vec<LaneEnd>,
    /// Where it waits for connections by rdma_cm.
    pub(crate) listens: Option<SocketAddr>,
    /// What the other one may reach, where operations reach memory.
    pub(crate) memory: Option<Remote>,
    /// Whether writes may be looked for in this side's memory.
    pub(crate) in_order: bool,
}

/// What a thread has done in the whole trial, for the other side's to hold its own against.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Deeds {
    /// Messages that it sent over each queue pair.
    pub(crate) sent: Vec<u64>,
    /// Of writes that are checked: the number of the last message to each place.
    pub(crate) last: Vec<Option<u64>>,
    /// What it added; none where it does not know, since some of it never came back.
    pub(crate) added: Option<u64>,
}

/// What the two sides say to each other while a trial runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    /// The measuring side has asked what it wanted to know before.
    Begin,
    /// An end a thread.
    Ends(Vec<ThreadEnd>),
    /// All queue pairs may be reached.
    Connected,
    /// The window is over.
    Over,
    /// Nothing more is begun.
    Closed(Vec<Deeds>),
}

#[derive(Default)]
struct State {
    ours: Vec<Option<ThreadEnd>>,
    theirs: Option<Vec<ThreadEnd>>,
    connected: usize,
    they_are_connected: bool,
    finished: usize,
    they_are_over: bool,
    deeds: Vec<Option<Deeds>>,
    their_deeds: Option<Vec<Deeds>>,
    /// How many words were said.
    said: usize,
    /// Why it ended before its time.
    ended: Option<String>,
}

/// The meeting of one trial.
pub(crate) struct Meeting<'a> {
    state: Mutex<State>,
    changed: Condvar,
    threads: usize,
    /// Set when the user wants to stop, or the other side does.
    interrupted: &'a AtomicBool,
    /// Set when this side's loops are to end: nothing more comes of the other side, or they only send what that has counted.
    pub(crate) enough: AtomicBool,
    /// Whether this side sends until the other one has closed.
    only_sends: bool,
}

/// What who waits is told when nothing more comes of the other side; why, the channel to it says.
pub(crate) const GONE: &str = "the other side has ended";

/// How long the other side may take to set up: its program may come from a cold disk, its memory be large.
const SETS_UP: Duration = Duration::from_secs(60);

impl<'a> Meeting<'a> {
    pub(crate) fn new(threads: usize, only_sends: bool, interrupted: &'a AtomicBool) -> Self {
        let state = State {
            ours: (0..threads).map(|_| None).collect(),
            deeds: (0..threads).map(|_| None).collect(),
            ..State::default()
        };
        Meeting {
            state: Mutex::new(state),
            changed: Condvar::new(),
            threads,
            interrupted,
            enough: AtomicBool::new(false),
            only_sends,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the thread that listens: what is to be said next, if it is time.
    pub(crate) fn to_say(&self) -> Option<Word> {
        let mut state = self.state();
        let word = match state.said {
            0 => Word::Ends(state.ours.iter().cloned().collect::<Option<_>>()?),
            1 if state.connected == self.threads => Word::Connected,
            2 if state.finished == self.threads => Word::Over,
            3 => Word::Closed(state.deeds.iter().cloned().collect::<Option<_>>()?),
            _ => return None,
        };
        state.said += 1;
        Some(word)
    }

    /// For the thread that listens: what was heard.
    ///
    /// # Errors
    /// Both sides are not of one mind about how many threads there are.
    pub(crate) fn hear(&self, word: Word) -> Result<(), String> {
        let mut state = self.state();
        let many = match word {
            Word::Begin => {
                return Err("it began twice; both must be one version of strata".to_owned());
            }
            Word::Ends(ends) => {
                let many = ends.len();
                state.theirs = Some(ends);
                many
            }
            Word::Connected => {
                state.they_are_connected = true;
                self.threads
            }
            Word::Over => {
                state.they_are_over = true;
                if self.only_sends {
                    self.enough.store(true, Ordering::Relaxed);
                }
                self.threads
            }
            Word::Closed(deeds) => {
                let many = deeds.len();
                state.their_deeds = Some(deeds);
                many
            }
        };
        drop(state);
        self.changed.notify_all();
        if many == self.threads {
            Ok(())
        } else {
            Err(format!(
                "the other side has {many} threads, and this one {}; both must be one version of strata",
                self.threads
            ))
        }
    }

    /// The other side is lost, or the device is: nobody waits any more, and the loops end.
    pub(crate) fn end(&self, why: &str) {
        let mut state = self.state();
        state.ended.get_or_insert_with(|| why.to_owned());
        drop(state);
        self.enough.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Why it has ended before its time.
    pub(crate) fn ended(&self) -> Option<String> {
        self.state().ended.clone()
    }

    /// Whether it is to be broken off.
    pub(crate) fn is_off(&self) -> bool {
        let gone = !self.only_sends && self.enough.load(Ordering::Relaxed);
        gone || self.interrupted.load(Ordering::Relaxed) || self.state().ended.is_some()
    }

    /// Why it is.
    pub(crate) fn why_off(&self) -> String {
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        let otherwise = || if interrupted { "interrupted" } else { GONE }.to_owned();
        self.ended().unwrap_or_else(otherwise)
    }

    fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Fatal> {
        /// So often an interruption is looked for.
        const LOOK: Duration = Duration::from_millis(50);
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            if let Some(found) = found(&mut state) {
                return Ok(found);
            }
            if let Some(why) = &state.ended {
                return Err(Fatal(why.clone()));
            }
            if self.enough.load(Ordering::Relaxed) {
                return Err(Fatal(GONE.to_owned()));
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Fatal("interrupted".to_owned()));
            }
            if begun.elapsed() > within {
                return Err(Fatal(format!(
                    "the other side did not say {what} within {within:?}; look at its own messages"
                )));
            }
            (state, _) = self
                .changed
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the end of a thread, and waits for that of the other side's thread of the same number.
    pub(crate) fn exchange(&self, thread: usize, end: ThreadEnd) -> Result<ThreadEnd, Fatal> {
        if let Some(ours) = self.state().ours.get_mut(thread) {
            *ours = Some(end);
        }
        self.wait("what it would connect", SETS_UP, |state| {
            state.theirs.as_ref()?.get(thread).cloned()
        })
    }

    /// A thread's queue pairs may be reached.
    pub(crate) fn connected(&self) {
        self.state().connected += 1;
    }

    /// Waits until the other side's may be reached.
    pub(crate) fn until_connected(&self) -> Result<(), Fatal> {
        self.wait("that it has connected", SETS_UP, |state| {
            state.they_are_connected.then_some(())
        })
    }

    /// A thread's window is over.
    pub(crate) fn finish(&self) {
        self.state().finished += 1;
    }

    /// Whether the other side's windows are over.
    pub(crate) fn they_are_over(&self) -> bool {
        self.state().they_are_over
    }

    /// A thread begins nothing more, and has done so much; the first word counts.
    pub(crate) fn close(&self, thread: usize, deeds: Deeds) {
        if let Some(ours) = self.state().deeds.get_mut(thread) {
            ours.get_or_insert(deeds);
        }
    }

    /// What the other side's thread of the same number has done, once that side has closed.
    pub(crate) fn their_deeds(&self, thread: usize) -> Option<Deeds> {
        self.state().their_deeds.as_ref()?.get(thread).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn end(queue_pair: u32) -> ThreadEnd {
        ThreadEnd {
            port: PortEnd {
                name: "rxe0/1".to_owned(),
                ethernet: true,
                lid: 0,
                gid: None,
                gid_kind: None,
                mtu: strata_units::Bytes(1024),
                pkey: 0xffff,
                reads: 1,
                answers: 1,
            },
            out: vec![LaneEnd { queue_pair, psn: 0 }],
            into: Vec::new(),
            listens: None,
            memory: None,
            in_order: true,
        }
    }

    #[test]
    fn threads_get_each_others_ends_and_nothing_is_said_out_of_turn() {
        let go = AtomicBool::new(false);
        let (a, b) = (Meeting::new(2, false, &go), Meeting::new(2, true, &go));
        thread::scope(|scope| {
            let sides: Vec<_> = [(&a, 10), (&b, 20)]
                .into_iter()
                .flat_map(|(side, from)| (0..2).map(move |n| (side, from, n)))
                .map(|(side, from, n)| {
                    scope.spawn(move || {
                        let theirs = side.exchange(n, end(from + n as u32)).expect("an end");
                        side.connected();
                        side.until_connected().expect("connected");
                        theirs.out[0].queue_pair
                    })
                })
                .collect();
            let begun = Instant::now();
            let mut said = [0, 0];
            while said != [2, 2] {
                assert!(begun.elapsed() < Duration::from_secs(20), "{said:?}");
                for (n, (from, to)) in [(&a, &b), (&b, &a)].into_iter().enumerate() {
                    if let Some(word) = from.to_say() {
                        said[n] += 1;
                        to.hear(word).expect("heard");
                    }
                }
            }
            let found: Vec<u32> = sides
                .into_iter()
                .map(|t| t.join().expect("no panic"))
                .collect();
            assert_eq!(found, [20, 21, 10, 11]);
        });
        assert!(a.to_say().is_none(), "no window is over");
        (0..2).for_each(|_| a.finish());
        let over = a.to_say().expect("over");
        assert!(a.to_say().is_none(), "no thread has closed");
        for n in 0..2 {
            let added = Some(n as u64);
            let deeds = Deeds {
                added,
                ..Deeds::default()
            };
            a.close(n, deeds);
        }
        let closed = a.to_say().expect("closed");
        assert!(a.to_say().is_none(), "once");
        let is_enough = || b.enough.load(Ordering::Relaxed);
        assert!(!is_enough() && !b.they_are_over());
        b.hear(over).expect("heard");
        assert!(is_enough() && b.they_are_over(), "it only sends");
        b.hear(closed).expect("heard");
        assert_eq!(b.their_deeds(1).expect("deeds").added, Some(1));
        assert!(b.hear(Word::Closed(Vec::new())).is_err());
    }

    #[test]
    fn who_waits_is_let_go_when_the_other_side_is_lost() {
        let go = AtomicBool::new(false);
        let meeting = Meeting::new(1, false, &go);
        thread::scope(|scope| {
            let waits = scope.spawn(|| meeting.exchange(0, end(1)));
            meeting.end("it died");
            let why = waits.join().expect("no panic").expect_err("lost");
            assert_eq!(why.0, "it died");
        });
        assert!(meeting.is_off());
        assert_eq!(meeting.why_off(), "it died");
        let meeting = Meeting::new(1, false, &go);
        meeting.enough.store(true, Ordering::Relaxed);
        assert_eq!(
            (meeting.is_off(), meeting.why_off()),
            (true, GONE.to_owned())
        );
        go.store(true, Ordering::Relaxed);
        assert_eq!(meeting.why_off(), "interrupted");
    }
}
