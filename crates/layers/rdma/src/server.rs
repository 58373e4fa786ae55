//! The other side of a trial: it opens its ports, does its part, and says what it found.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use strata_peer::{Answer, Answering, Other, PeerError, Task as AnyTask, refuse};
use strata_topology::WatchList;
use strata_units::{CpuId, Nanos};

use crate::meeting::{Meeting, Word};
use crate::message::Task;
use crate::port::OpenPort;
use crate::shape::{Shape, Side};
use crate::side::{Running, listen, may_pin, open_all};

/// How long the measuring side may take to compare clocks.
const BEGINS: Nanos = Nanos(10_000_000_000);

/// Does one task of this layer's, and answers what came of it. What fails in the task is answered, and the channel is good
/// for the next. `watch` is what of this host is watched beside the CPUs that the task has, none where the measuring side is
/// on it and watches itself; given the task's ends.
///
/// # Errors
/// [`PeerError`] when the channel breaks, or the other side is lost in mid-trial; the trial has ended then, its threads,
/// queue pairs and registrations are gone.
pub fn serve_task(
    channel: &mut impl Other,
    task: &AnyTask,
    watch: impl Fn(&[strata_record::RdmaEnd]) -> Option<WatchList>,
) -> Result<(), PeerError> {
    let task: Task = match task.body() {
        Ok(task) => task,
        Err(why) => return refuse(channel, why.to_string()),
    };
    let (shape, cpus, ports) = match prepare(&task) {
        Ok(all) => all,
        Err(why) => return refuse(channel, why),
    };
    let (stopped, answering) = (AtomicBool::new(false), Answering::begin());
    // Nothing is said before the clocks are compared, so that nothing comes between.
    match answering.own(channel, BEGINS) {
        Ok(Word::Begin) => {}
        Ok(_) => return refuse(channel, "it did not begin with the beginning".to_owned()),
        Err(PeerError::Unwanted) => return refuse(channel, "stopped".to_owned()),
        Err(PeerError::Silent(_)) => {
            return refuse(channel, "nobody said that it begins".to_owned());
        }
        Err(lost) => return Err(lost),
    }
    let only_sends = shape.only_sends(Side::Other);
    let meeting = Meeting::new(cpus.len(), only_sends, &stopped);
    let ends: Vec<_> = ports.iter().map(|port| port.end.clone()).collect();
    let list = watch(&ends).map(|list| WatchList {
        peer_cpus: task.cpus.clone(),
        ..list
    });
    let running = Running {
        shape: &shape,
        side: Side::Other,
        ports: &ports,
        cpus: &cpus,
        node: None,
        meeting: &meeting,
        interrupted: &stopped,
        watch: list.as_ref(),
        secret: task.secret,
        faults: task.faults,
    };
    let each = |channel: &mut _, word: Option<Word>| {
        listen(&ports, &meeting);
        if let Some(word) = word {
            meeting.hear(word).map_err(PeerError::Garbled)?;
        }
        while let Some(word) = meeting.to_say() {
            Other::send(channel, &Answer::<Word, ()>::Own(word))?;
        }
        Ok(())
    };
    let found = answering.work(channel, &stopped, each, || {
        let found = running.run().map_err(|e| e.to_string())?;
        let shown = |at: Instant| answering.shown(at);
        let began = found.begins.span().map(|(a, b)| (shown(a), shown(b)));
        Ok(running.report(found, began))
    });
    // Whoever waits for a side that is gone is not waited for.
    let found = found?;
    // The last words: what was closed after the channel was looked at.
    while let Some(word) = meeting.to_say() {
        channel.send(&Answer::<Word, ()>::Own(word))?;
    }
    match found {
        Ok(report) => channel.send(&Answer::<Word, _>::Done(report)),
        Err(why) => refuse(channel, why),
    }
}

fn prepare(task: &Task) -> Result<(Shape, Vec<CpuId>, Vec<OpenPort>), String> {
    let shape = Shape::new(&task.workload, &task.engine, &task.verbs)?;
    let cpus: Vec<CpuId> = task.cpus.iter().collect();
    if cpus.len() != usize::from(shape.workload.threads) {
        return Err(format!(
            "{} threads need as many CPUs, and {} were given",
            shape.workload.threads, task.cpus
        ));
    }
    may_pin(&shape)?;
    let ends = task.verbs.rails.iter().map(|rail| &rail.theirs);
    let ports = open_all(ends, &shape)?;
    Ok((shape, cpus, ports))
}
