//! The answering side: for each whole request a reply, until the client closes.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_measure::{Fatal, thread_proof};
use strata_record::{Role, ThreadProof};
use strata_topology::{ThreadWatch, pin_current_thread};
use strata_units::{CpuId, CpuList, Nanos};

use crate::account::{Account, Ledger, sum};
use crate::half::{Moved, Rx, Tx, last_notifications};
use crate::info::Facts;
use crate::options::SLEEP;
use crate::ready::Ready;
use crate::shape::Shape;
use crate::sys::{For, Sleep, wait};

/// What one answering thread brings home.
pub(crate) struct Answered {
    pub(crate) thread: ThreadProof,
    pub(crate) missing: Option<String>,
    pub(crate) replies: u64,
}

/// One connection that is answered.
struct Line {
    socket: TcpStream,
    rx: Rx,
    tx: Tx,
    open: bool,
}

impl Line {
    /// One look: takes what has come, and answers what is whole. Whether any byte moved, and how many replies are due.
    #[inline]
    fn look(&mut self, most: usize, reply: u64, sleep: Sleep) -> Result<(bool, u64), Fatal> {
        // Who has not taken its replies yet is not read from asleep.
        let sleep = if self.tx.owed() > 0 { Sleep::No } else { sleep };
        let mut moved = false;
        match self.rx.pull(&self.socket, most, sleep, false)? {
            Moved::All | Moved::Some => moved = true,
            Moved::Nothing => {}
            Moved::End => {
                self.open = false;
                return Ok((false, 0));
            }
        }
        let due = self.rx.take_all();
        self.tx.owe(due * reply);
        while self.tx.owed() > 0 && self.tx.push(&self.socket, Sleep::No)?.any() {
            moved = true;
        }
        self.open &= !self.tx.closed;
        Ok((moved, due))
    }
}

/// Answers the connections of one thread on `cpu`.
pub(crate) fn answer(
    sockets: Vec<TcpStream>,
    cpu: CpuId,
    shape: &Shape,
    ledger: &Ledger,
    stopped: &AtomicBool,
) -> Result<Answered, Fatal> {
    /// How many looks lie between two at the clock's side of things: whether to stop, and where we run.
    const LOOKS: u64 = 1 << 9;
    /// After so many looks at connections that have something, the others are asked for.
    const EACH: u64 = 4;
    let asked: CpuList = [cpu].into_iter().collect();
    pin_current_thread(&asked).map_err(|e| Fatal(e.to_string()))?;
    let mut watch = ThreadWatch::start();
    let w = &shape.workload;
    let (depth, spin) = (usize::from(w.depth.get()), shape.engine.spin);
    let reply = shape.reply();
    let mut lines = Vec::new();
    for socket in sockets {
        lines.push(Line {
            socket,
            rx: Rx::new(w.block_bytes.as_usize(), depth, w.verify, None)?,
            tx: Tx::new(
                reply.as_usize(),
                depth,
                shape.engine.zerocopy,
                w.verify,
                None,
            )?,
            open: true,
        });
    }
    let mut ready = if lines.len() > 1 {
        Some(Ready::of(lines.iter().map(|l| (&l.socket, true, true)))?)
    } else {
        None
    };
    let sleep = if spin || lines.len() > 1 {
        Sleep::No
    } else {
        Sleep::Yes
    };
    let (mut replies, mut looks) = (0, 0u64);
    while lines.iter().any(|l| l.open) {
        looks += 1;
        if looks.is_multiple_of(LOOKS) {
            watch.sample();
        }
        // A look that slept is rare; one that spun is not.
        if (!spin || looks.is_multiple_of(LOOKS)) && stopped.load(Ordering::Relaxed) {
            break;
        }
        let mut any = false;
        for (n, line) in lines.iter_mut().enumerate().filter(|(_, l)| l.open) {
            if let Some(ready) = &mut ready {
                let state = ready.state(n);
                if !state.bytes && (line.tx.owed() == 0 || !state.room) {
                    continue;
                }
            }
            let (moved, due) = line.look(depth, reply.0, sleep)?;
            replies += due;
            any |= moved;
            if let (Some(ready), false) = (&mut ready, moved) {
                let state = ready.state(n);
                (state.bytes, state.room) = (false, false);
            }
        }
        // One that always has something shall not keep the others from being heard of.
        if any && (ready.is_none() || !looks.is_multiple_of(EACH)) {
            continue;
        }
        match (&mut ready, lines.first()) {
            (Some(ready), _) => ready.wait(if spin || any { Nanos(0) } else { SLEEP })?,
            (None, Some(line)) if line.tx.owed() > 0 && !spin => {
                wait(&line.socket, For::BytesOrRoom, SLEEP);
            }
            _ => {}
        }
    }
    let mut senders: Vec<(&TcpStream, &mut Tx)> =
        lines.iter_mut().map(|l| (&l.socket, &mut l.tx)).collect();
    last_notifications(&mut senders)?;
    ledger.add(Account {
        role: Role::Peer,
        direction: None,
        facts: lines.iter().map(|l| Facts::of(&l.socket)).collect(),
        zerocopy: sum(lines.iter().filter_map(|l| l.tx.zerocopy())),
    });
    let (thread, missing) = thread_proof(Role::Peer, asked, watch.finish());
    Ok(Answered {
        thread,
        missing,
        replies,
    })
}
