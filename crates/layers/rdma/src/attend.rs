//! A thread that measures nothing: it takes what comes, answers, or only holds what the other side works on.

use std::time::Duration;

use strata_measure::{Fatal, thread_proof};
use strata_record::{Role, ThreadProof};
use strata_topology::{ThreadWatch, pin_current_thread};
use strata_units::{CpuId, CpuList, Nanos};

use crate::account::Accounts;
use crate::bench::Bench;
use crate::maker::Maker;
use crate::meeting::Deeds;
use crate::sink::RECEIVED;

/// What attending came to.
pub(crate) struct Attended {
    pub(crate) thread: ThreadProof,
    /// What could not be found out about it.
    pub(crate) missing: Option<String>,
    /// Messages that it took or answered, or that the other side's device brought or fetched meanwhile.
    pub(crate) done: u64,
}

/// A spinning thread looks so often at what is not its queue.
const LOOKS: u64 = 1 << 12;

/// The longest sleep of one that waits for completions.
const SLEEP: Nanos = Nanos::from_millis(20);

/// How long nothing comes before all has.
const QUIET: Duration = Duration::from_millis(5);

/// One thread's whole part in a trial.
pub(crate) fn attend(
    maker: &Maker<'_>,
    number: usize,
    cpu: CpuId,
    role: Role,
    accounts: &Accounts,
) -> Result<Attended, Fatal> {
    let asked: CpuList = [cpu].into_iter().collect();
    pin_current_thread(&asked).map_err(|e| Fatal(e.to_string()))?;
    let mut bench = maker.make(number)?;
    let mut watch = ThreadWatch::start();
    // It has nothing of its own to finish.
    maker.meeting.finish();
    maker.meeting.close(number, Deeds::default());
    maker.meeting.until_connected()?;
    let done = work(maker, &mut bench, number, &mut watch)?;
    let theirs = maker.meeting.their_deeds(number);
    accounts.add(bench.account(theirs.as_ref()));
    let (thread, missing) = thread_proof(role, asked, watch.finish());
    Ok(Attended {
        thread,
        missing,
        done,
    })
}

fn work(
    maker: &Maker<'_>,
    bench: &mut Bench,
    number: usize,
    watch: &mut ThreadWatch,
) -> Result<u64, Fatal> {
    let meeting = maker.meeting;
    let closed = || meeting.their_deeds(number).is_some();
    let spins = !maker.shape.engine.events;
    let (mut done, mut looks) = (0, 0u64);
    if let Some(pingpong) = &mut bench.pingpong {
        pingpong.await_all();
    } else if bench.sink.is_none() {
        // The other side's device does all of it.
        while !closed() && !meeting.is_off() {
            watch.sample();
            std::thread::sleep(Duration::from_millis(2));
        }
        let begun = meeting.their_deeds(number).map(|deeds| deeds.sent);
        return Ok(begun.unwrap_or_default().iter().sum());
    }
    let mut came = Vec::new();
    let mut quiet = std::time::Instant::now();
    loop {
        looks += 1;
        let (taken, found) = answer(bench, &mut came)?;
        done += taken as u64;
        if found == 0 && !spins {
            let queue = std::rc::Rc::clone(&bench.queue);
            let fatal = |e: crate::verbs::VerbsError| Fatal(e.to_string());
            queue.borrow_mut().arm().map_err(fatal)?;
            let (taken, found) = answer(bench, &mut came)?;
            done += taken as u64;
            if found == 0 {
                queue.borrow_mut().wait(SLEEP).map_err(fatal)?;
            }
        }
        if found > 0 && spins && !looks.is_multiple_of(LOOKS) {
            continue;
        }
        if found > 0 {
            quiet = std::time::Instant::now();
        }
        if !spins || looks.is_multiple_of(LOOKS) {
            watch.sample();
            if meeting.is_off() && !closed() {
                return meeting.ended().map_or(Ok(done), |why| Err(Fatal(why)));
            }
            if !closed() {
                quiet = std::time::Instant::now();
            } else if quiet.elapsed() > QUIET {
                return Ok(done);
            }
        }
    }
}

/// Takes or answers what has come; how many, and how much was seen.
#[inline]
fn answer(bench: &mut Bench, came: &mut Vec<usize>) -> Result<(usize, usize), Fatal> {
    if let Some(pingpong) = &mut bench.pingpong {
        came.clear();
        let polled = pingpong.poll(|lane| came.push(lane))?;
        for lane in came.iter() {
            pingpong.send(*lane)?;
        }
        return Ok((came.len(), polled));
    }
    let Some(sink) = &mut bench.sink else {
        return Ok((0, 0));
    };
    let mut queue = bench.queue.borrow_mut();
    let polled = queue.poll().map_err(|e| Fatal(e.to_string()))?;
    let found = polled.len();
    for c in polled {
        if !c.status.is_success() {
            // The first says why; those after it were flushed.
            return Err(Fatal(c.status.explain()));
        }
        if c.id & RECEIVED != 0 {
            let n = sink.arrived(c.id, c.bytes);
            sink.post(n);
        }
    }
    sink.ring()?;
    Ok((found, found))
}
