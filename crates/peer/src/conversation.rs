//! Whole conversations over a pair of sockets, both sides in this process.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use strata_units::Nanos;

use crate::{
    Answer, Answering, Channel, Other, PeerError, Say, Task, answer, beside, clock, next_task,
    refuse, stop, unasked,
};

type Line = Channel<UnixStream, UnixStream>;

/// A layer's own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Word {
    Ends(u64),
    Connected,
    Closed,
}

const SOON: Nanos = Nanos(20_000_000_000);

static GO: AtomicBool = AtomicBool::new(false);

fn pair() -> (Line, Line) {
    let (a, b) = UnixStream::pair().expect("a pair");
    let line = |of: UnixStream| Channel::new(of.try_clone().expect("a second handle"), of);
    (line(a), line(b))
}

fn say(line: &mut Line, word: Say<Word>) {
    line.send(&word).expect("sent");
}

fn task(bytes: u64) -> Say<Word> {
    Say::Task(Task::new("rdma", &bytes).expect("JSON"))
}

/// Waits for the flag, as one who measures.
fn until(flag: &AtomicBool) {
    let begun = Instant::now();
    while !flag.load(Ordering::Relaxed) {
        assert!(begun.elapsed() < SOON.as_duration(), "never told");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A server of one layer with words of its own: ends are exchanged, then it works until the other side has closed.
fn serve(line: &mut Line) -> Result<(), PeerError> {
    let task = next_task(line)?;
    assert_eq!(task.layer, "rdma");
    let bytes: u64 = match task.body() {
        Ok(bytes) => bytes,
        Err(why) => return refuse(line, why.to_string()),
    };
    let answering = Answering::begin();
    line.send(&Answer::<_, u64>::Own(Word::Ends(bytes + 1)))?;
    let theirs = match answering.own::<Word>(line, SOON) {
        Ok(word) => word,
        Err(why @ PeerError::Unwanted) => return refuse(line, why.to_string()),
        Err(lost) => return Err(lost),
    };
    assert_eq!(theirs, Word::Ends(bytes + 2));
    line.send(&Answer::<_, u64>::Own(Word::Connected))?;
    let (stopped, closed) = (AtomicBool::new(false), AtomicBool::new(false));
    let hear = |line: &mut Line, word: Option<Word>| match word {
        Some(Word::Closed) => {
            closed.store(true, Ordering::Relaxed);
            line.send(&Answer::<_, u64>::Own(Word::Closed))
        }
        word => unasked(line, word),
    };
    let found = answering.work(line, &stopped, hear, || {
        while !closed.load(Ordering::Relaxed) {
            if stopped.load(Ordering::Relaxed) {
                return Err("stopped in mid-trial".to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(bytes * 2)
    })?;
    match found {
        Ok(found) => line.send(&Answer::<Word, u64>::Done(found)),
        Err(why) => refuse(line, why),
    }
}

fn set_up(line: &mut Line) {
    say(line, task(70));
    let ends = answer::<Word>(line, SOON, &GO).expect("its ends");
    assert_eq!(ends, Word::Ends(71));
    say(line, Say::Own(Word::Ends(72)));
    let connected = answer::<Word>(line, SOON, &GO).expect("connected");
    assert_eq!(connected, Word::Connected);
}

#[test]
fn a_layers_own_words_go_both_ways_and_its_finding_comes_back() {
    let (mut here, mut there) = pair();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            for _ in 0..2 {
                serve(&mut there)?;
            }
            Ok::<_, PeerError>(())
        });
        for _ in 0..2 {
            // Of the trial before, and nobody's any more.
            say(&mut here, Say::Own(Word::Closed));
            say(&mut here, Say::Stop);
            set_up(&mut here);
            let seen = clock(&mut here, &GO).expect("it tells");
            assert!(seen.theirs < SOON, "{seen:?}");
            let (enough, measured) = (AtomicBool::new(false), AtomicBool::new(false));
            let mut closing = false;
            let each = |line: &mut Line, word: Option<Word>| {
                if word == Some(Word::Closed) {
                    return Ok(());
                }
                if !closing && measured.load(Ordering::Relaxed) {
                    closing = true;
                    line.send(&Say::Own(Word::Closed))?;
                }
                unasked(line, word)
            };
            let (ours, theirs) = beside(&mut here, &GO, &enough, each, || {
                measured.store(true, Ordering::Relaxed);
                until(&enough);
                Ok::<_, String>(7)
            });
            assert_eq!(ours, Ok(7));
            assert_eq!(theirs.ok(), Some(140u64));
        }
        serving.join().expect("no panic").expect("a good channel");
    });
}

#[test]
fn who_is_interrupted_stops_the_other_side_and_keeps_the_channel() {
    let (mut here, mut there) = pair();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            for _ in 0..3 {
                serve(&mut there)?;
            }
            Ok::<_, PeerError>(())
        });
        // In mid-set-up.
        let interrupted = AtomicBool::new(true);
        say(&mut here, task(70));
        let why = answer::<Word>(&mut here, SOON, &interrupted);
        assert!(matches!(why, Err(PeerError::Unwanted)), "{why:?}");
        // In mid-trial; once by the user, once since this side's part has failed.
        for ours in [Ok(()), Err("no such CPU")] {
            set_up(&mut here);
            let interrupted = AtomicBool::new(ours.is_ok());
            let enough = AtomicBool::new(false);
            let (_, theirs) = beside(&mut here, &interrupted, &enough, unasked::<_, Word>, || {
                ours
            });
            let theirs: Result<u64, PeerError> = theirs;
            assert!(matches!(theirs, Err(PeerError::Unwanted)), "{theirs:?}");
            assert!(enough.load(Ordering::Relaxed));
        }
        serving.join().expect("no panic").expect("a good channel");
    });
}

#[test]
fn what_a_layer_cannot_do_is_told_in_words() {
    let (mut here, mut there) = pair();
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&mut there));
        say(
            &mut here,
            Say::Task(Task::new("rdma", &"no number").expect("JSON")),
        );
        let why = answer::<Word>(&mut here, SOON, &GO).expect_err("no number");
        assert!(
            matches!(&why, PeerError::Failed(w) if w.contains("rdma task")),
            "{why:?}"
        );
        serving.join().expect("no panic").expect("a good channel");
    });
}

#[test]
fn a_side_that_is_gone_ends_the_work_of_the_other() {
    let (here, mut there) = pair();
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            Answering::begin().work(&mut there, &stopped, unasked::<_, Word>, || {
                until(&stopped);
                Ok(())
            })
        });
        drop(here);
        let lost = working.join().expect("no panic");
        assert!(matches!(lost, Err(PeerError::Gone)), "{lost:?}");
    });

    let (mut here, there) = pair();
    drop(there);
    let enough = AtomicBool::new(false);
    let (ours, theirs) = beside(&mut here, &GO, &enough, unasked::<_, Word>, || {
        until(&enough);
        Ok::<_, String>(())
    });
    let theirs: Result<u64, PeerError> = theirs;
    assert!(ours.is_ok());
    assert!(matches!(theirs, Err(PeerError::Gone)), "{theirs:?}");
}

#[test]
fn work_that_panics_is_named_and_the_listener_lives() {
    let (_here, mut there) = pair();
    let stopped = AtomicBool::new(false);
    let found = Answering::begin().work(
        &mut there,
        &stopped,
        unasked::<_, Word>,
        || -> Result<(), _> {
            panic!("on purpose");
        },
    );
    let why = found.expect("a good channel").expect_err("it panicked");
    assert!(why.contains("panicked"), "{why}");
}

#[test]
fn what_has_no_place_in_the_conversation_is_garbled() {
    // To the side that works: words of its own where there are none, and a second task.
    for word in [Say::Own(Word::Connected), task(1)] {
        let (mut here, mut there) = pair();
        say(&mut here, word);
        let stopped = AtomicBool::new(false);
        let found = Answering::begin().work(&mut there, &stopped, unasked::<_, Word>, || {
            until(&stopped);
            Ok(())
        });
        assert!(matches!(found, Err(PeerError::Garbled(_))), "{found:?}");
    }
    // To the side that measures: a clock that nobody asked for, words where there are none.
    for word in [Answer::Clock(Nanos(3)), Answer::Own(Word::Connected)] {
        let (mut here, mut there) = pair();
        there.send::<Answer<Word, u64>>(&word).expect("sent");
        let enough = AtomicBool::new(false);
        let (_, theirs) = beside(&mut here, &GO, &enough, unasked::<_, Word>, || {
            until(&enough);
            Ok::<_, String>(())
        });
        let theirs: Result<u64, PeerError> = theirs;
        assert!(matches!(theirs, Err(PeerError::Garbled(_))), "{theirs:?}");
    }
    let (mut here, mut there) = pair();
    there.send(&Answer::<Word, u64>::Done(3)).expect("sent");
    let why = answer::<Word>(&mut here, SOON, &GO);
    assert!(matches!(why, Err(PeerError::Garbled(_))), "{why:?}");
}

#[test]
fn silence_in_the_set_up_has_an_end() {
    let (mut here, mut there) = pair();
    let span = Nanos::from_millis(150);
    let why = answer::<Word>(&mut here, span, &GO);
    assert!(
        matches!(why, Err(PeerError::Silent(s)) if s == span),
        "{why:?}"
    );
    let why = Answering::begin().own::<Word>(&mut there, span);
    assert!(
        matches!(why, Err(PeerError::Silent(s)) if s == span),
        "{why:?}"
    );
    // One who never says that it has stopped is not waited for long.
    let begun = Instant::now();
    stop(&mut here);
    assert!(begun.elapsed() < Duration::from_secs(8));
    let told: Say<Word> = Other::receive_within(&mut there, SOON).expect("told");
    assert!(matches!(told, Say::Stop), "{told:?}");
}
