//! The other side of a trial: it listens, does its part, and says what it found.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use strata_measure::two_sides::Report;
use strata_measure::{Clock, Crew, Fatal, Member, Stream, contradictions};
use strata_peer::{Answering, Other, PeerError, Task, loopback, refuse, unasked};
use strata_record::{Proof, Role, ThreadProof};
use strata_topology::{HostWatch, Root, WatchList};
use strata_units::CpuId;

use crate::account::Ledger;
use crate::answer::{Answered, answer};
use crate::connections::Connections;
use crate::info::proofs;
use crate::message::{Answer, Listening, TcpTask};
use crate::options::{Side, after};
use crate::shape::{Lane, Shape};
use crate::wire::{ACCEPT, accept, listen, make_room};

/// Where data connections are awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address: of a session over the network, the control channel's own. None is loopback, of the kind that the
    /// measuring side asks for.
    pub ip: Option<IpAddr>,
    /// The ports that may be used; 0 is any that is free.
    pub ports: RangeInclusive<u16>,
    /// What of this host is watched during each task, beside the CPUs that the task has; none where the measuring side is on
    /// it and watches itself.
    pub watch: Option<WatchList>,
}

impl Default for Listen {
    /// Any free port of loopback.
    fn default() -> Self {
        Self {
            ip: None,
            ports: 0..=0,
            watch: None,
        }
    }
}

/// Does one task of this layer, and answers what came of it. What fails in the task is answered, and the channel is good for
/// the next.
///
/// # Errors
/// [`PeerError`] when the channel breaks, or the other side is lost in mid-trial; the trial has ended then, its threads
/// and sockets are gone.
pub fn serve_task(channel: &mut impl Other, task: &Task, at: &Listen) -> Result<(), PeerError> {
    let task: TcpTask = match task.body() {
        Ok(asked) => asked,
        Err(why) => return refuse(channel, why.to_string()),
    };
    let ip = at.ip.unwrap_or_else(|| loopback(task.ipv6));
    let prepared = Shape::new(&task.workload, &task.engine, Some(&task.sockets))
        .and_then(|shape| {
            let cpus: Vec<CpuId> = task.cpus.iter().collect();
            if cpus.len() == usize::from(shape.workload.threads) {
                Ok((shape, cpus))
            } else {
                Err(format!(
                    "{} threads need as many CPUs, and {} were given",
                    shape.workload.threads, task.cpus
                ))
            }
        })
        .and_then(|(shape, cpus)| {
            make_room(shape.connections());
            let listener = listen(ip, &at.ports, &shape.sockets).map_err(|e| e.0)?;
            Ok((shape, cpus, listener))
        });
    let (shape, cpus, (listener, address)) = match prepared {
        Ok(all) => all,
        Err(why) => return refuse(channel, why),
    };
    channel.send(&Answer::Own(Listening(address.port())))?;

    let (stopped, answering) = (AtomicBool::new(false), Answering::begin());
    let trial = Serving {
        shape: &shape,
        cpus: &cpus,
        ledger: Ledger::new(shape.senders(Side::Other)),
        stopped: &stopped,
        answering,
    };
    let live = Root::live();
    let list = at.watch.as_ref().map(|list| WatchList {
        peer_cpus: task.cpus.clone(),
        ..list.clone()
    });
    let watch = list.as_ref().map(|list| HostWatch::start(&live, list));
    let found = answering.work(channel, &stopped, unasked::<_, ()>, || {
        trial.work(&listener, task.token).map_err(|fatal| fatal.0)
    })?;
    match found {
        Ok(mut report) => {
            if let Some((host, missing)) = watch.map(HostWatch::finish) {
                report.proof.host = Some(host);
                report.proof.missing.extend(missing);
            }
            channel.send(&Answer::Done(report))
        }
        Err(why) => refuse(channel, why),
    }
}

/// One trial on this side.
struct Serving<'a> {
    shape: &'a Shape,
    cpus: &'a [CpuId],
    ledger: Ledger,
    stopped: &'a AtomicBool,
    answering: Answering,
}

impl Serving<'_> {
    fn work(&self, listener: &TcpListener, token: u64) -> Result<Report, Fatal> {
        let wanted = self.shape.connections();
        let stopped = || self.stopped.load(Ordering::Relaxed);
        let mut sockets = accept(listener, token, wanted, ACCEPT, &stopped)?;
        for socket in &sockets {
            after(socket, &self.shape.sockets, self.shape.engine.zerocopy)?;
        }
        let each = wanted / self.cpus.len();
        let threads: Vec<Vec<TcpStream>> = self
            .cpus
            .iter()
            .map(|_| sockets.drain(..each).collect())
            .collect();
        let answers = self.shape.lanes_of(Side::Other).contains(&Lane::Answers);
        let mut report = if answers {
            self.answer(threads)?
        } else {
            self.stream(threads)?
        };
        let proof = &mut report.proof;
        proof.connections = proofs(&self.ledger.accounts(), &mut proof.missing);
        if stopped() {
            return Err(Fatal("stopped in mid-trial".to_owned()));
        }
        Ok(report)
    }

    fn stream(&self, threads: Vec<Vec<TcpStream>>) -> Result<Report, Fatal> {
        let shape = self.shape;
        let load = shape.load(Side::Other).map_err(|e| Fatal(e.to_string()))?;
        let threads: Vec<_> = threads.into_iter().map(|t| Mutex::new(Some(t))).collect();
        let crew = Crew {
            cpus: self.cpus,
            role: Role::Peer,
            load,
            mem_node: None,
            interrupted: self.stopped,
            enough: Some(&self.ledger.enough),
            other: None,
            watch: None,
        };
        let run = crew
            .run(|n| {
                let sockets = threads
                    .get(n)
                    .and_then(|t| t.lock().unwrap_or_else(PoisonError::into_inner).take())
                    .ok_or_else(|| {
                        Fatal("a connection is missing; this is a bug of strata".to_owned())
                    })?;
                let engine = Connections::new(
                    sockets,
                    shape,
                    Side::Other,
                    None,
                    &self.ledger,
                    self.stopped,
                )?;
                Ok(Member {
                    engine,
                    stream: Stream::receiving(shape.workload.block_bytes),
                })
            })
            .map_err(|e| Fatal(e.to_string()))?;
        let began = self.ledger.begins.span();
        let shown = |at| self.answering.shown(at);
        Ok(Report::new(
            run,
            !shape.only_sends(Side::Other),
            began.map(|(a, b)| (shown(a), shown(b))),
        ))
    }

    fn answer(&self, threads: Vec<Vec<TcpStream>>) -> Result<Report, Fatal> {
        let answered: Vec<Answered> = thread::scope(|scope| {
            let threads: Vec<_> = threads
                .into_iter()
                .zip(self.cpus)
                .map(|(sockets, cpu)| {
                    scope.spawn(move || {
                        answer(sockets, *cpu, self.shape, &self.ledger, self.stopped)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| {
                    t.join().unwrap_or_else(|_| {
                        Err(Fatal(
                            "an answering thread panicked; this is a bug of strata".to_owned(),
                        ))
                    })
                })
                .collect::<Result<_, _>>()
        })?;
        let cpu_ns: u64 = answered
            .iter()
            .map(|a| (a.thread.user_ns + a.thread.system_ns).0)
            .sum();
        let replies: u64 = answered.iter().map(|a| a.replies).sum();
        let missing = answered.iter().filter_map(|a| a.missing.clone()).collect();
        let threads: Vec<ThreadProof> = answered.into_iter().map(|a| a.thread).collect();
        Ok(Report {
            cpu_ns_per_op: cpu_ns as f64 / replies.max(1) as f64,
            proof: Proof {
                contradictions: contradictions(&threads, &[], None),
                threads,
                pages: Vec::new(),
                clock: Clock::get().proof(),
                host: None,
                peer_host: None,
                connections: Vec::new(),
                queue_pairs: Vec::new(),
                missing,
            },
            received: None,
            began: None,
            failed: None,
        })
    }
}
