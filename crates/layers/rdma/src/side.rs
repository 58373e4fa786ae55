//! One side of a trial: its ports, its threads, and what they found.

use std::sync::atomic::AtomicBool;
use std::thread;

use strata_measure::two_sides::{Begins, Report};
use strata_measure::{Clock, Crew, CrewError, CrewRun, Member, Stream, contradictions};
use strata_record::{
    Cost, Op, PagesProof, Proof, RdmaEnd, Role, ThreadProof, Warning, WarningCode,
};
use strata_topology::{HostWatch, Root, WatchList};
use strata_units::{CpuId, Nanos, NodeId};

use crate::account::{Account, Accounts, proofs};
use crate::attend::{Attended, attend};
use crate::looped::VerbsLoop;
use crate::maker::{Faults, Maker};
use crate::meeting::Meeting;
use crate::port::{OpenPort, fits};
use crate::shape::{Shape, Side};

/// One side, ready to run.
pub(crate) struct Running<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) side: Side,
    pub(crate) ports: &'a [OpenPort],
    pub(crate) cpus: &'a [CpuId],
    pub(crate) node: Option<NodeId>,
    pub(crate) meeting: &'a Meeting<'a>,
    pub(crate) interrupted: &'a AtomicBool,
    pub(crate) watch: Option<&'a WatchList>,
    pub(crate) secret: u64,
    pub(crate) faults: Faults,
}

/// What a side's threads came to.
pub(crate) enum Ran {
    /// They measured, or sent what the other side measured.
    Drove(Box<CrewRun>),
    /// They attended.
    Attended(Vec<Attended>, Box<Proof>),
}

/// The same, with what the threads left behind.
pub(crate) struct Found {
    pub(crate) ran: Ran,
    pub(crate) begins: Begins,
    pub(crate) accounts: Vec<Account>,
}

/// Opens the ports of one side, each once.
///
/// # Errors
/// In words, which cannot be opened, or does not carry messages of that size; said before there is memory for them.
pub(crate) fn open_all<'a>(
    ends: impl Iterator<Item = &'a RdmaEnd>,
    shape: &Shape,
) -> Result<Vec<OpenPort>, String> {
    let open = |end| {
        let open = OpenPort::open(end, &shape.verbs).map_err(|e| e.to_string())?;
        let (transport, bytes) = (shape.verbs.transport, shape.bytes());
        fits(end, &open.port, transport, open.port.mtu, bytes)?;
        Ok(open)
    };
    ends.map(open).collect()
}

/// Whether this process may pin so much memory; what registration would refuse later, and say less of.
pub(crate) fn may_pin(shape: &Shape) -> Result<(), String> {
    let Some(limit) = strata_memory::memlock_limit() else {
        return Ok(());
    };
    let mut places = shape.places().bytes();
    if shape.receives() > 0 {
        places = places + shape.receive_places().bytes();
    }
    let needed = places * u64::from(shape.workload.threads);
    if needed <= limit || strata_memory::may_lock_any(std::path::Path::new("/")) {
        return Ok(());
    }
    Err(format!(
        "{needed} of memory are to be registered, which pins it, and this process may lock {limit} (`ulimit -l`); raise that (LimitMEMLOCK=infinity, /etc/security/limits.d), or lower --bs, --depth or --threads"
    ))
}

/// What a device tells of its own accord ends the trial.
pub(crate) fn listen(ports: &[OpenPort], meeting: &Meeting<'_>) {
    for port in ports {
        loop {
            match port.context.event() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if let Some(why) = event.breaks(&port.end.device, port.end.port) {
                        meeting.end(&why);
                    }
                }
                Err(gone) => {
                    meeting.end(&gone.to_string());
                    break;
                }
            }
        }
    }
}

impl Running<'_> {
    fn role(&self) -> Role {
        match self.side {
            Side::Measuring => Role::Measure,
            Side::Other => Role::Peer,
        }
    }

    fn maker(&self) -> Maker<'_> {
        Maker {
            shape: self.shape,
            side: self.side,
            ports: self.ports,
            node: self.node,
            meeting: self.meeting,
            secret: self.secret,
            faults: self.faults,
        }
    }

    /// Runs its threads.
    pub(crate) fn run(&self) -> Result<Found, CrewError> {
        let (begins, accounts) = (Begins::default(), Accounts::default());
        let drives = self.shape.counts(self.side).is_some() || self.shape.only_sends(self.side);
        let ran = if drives {
            self.drive(&begins, &accounts)
                .map(|run| Ran::Drove(Box::new(run)))
        } else {
            self.attend(&accounts)
        };
        // Whoever waits is let go, and told why.
        let ran = ran.inspect_err(|e| self.meeting.end(&e.to_string()))?;
        Ok(Found {
            ran,
            begins,
            accounts: accounts.all(),
        })
    }

    fn drive(&self, begins: &Begins, accounts: &Accounts) -> Result<CrewRun, CrewError> {
        let load = self
            .shape
            .load(self.side)
            .map_err(|e| CrewError::SetUp(e.to_string()))?;
        let crew = Crew {
            cpus: self.cpus,
            role: self.role(),
            load,
            mem_node: self.node,
            interrupted: self.interrupted,
            enough: Some(&self.meeting.enough),
            other: None,
            watch: self.watch,
        };
        let maker = self.maker();
        crew.run(|thread| {
            let bench = maker.make(thread).inspect_err(|e| self.meeting.end(&e.0))?;
            let engine =
                VerbsLoop::new(bench, self.shape, self.side, self.meeting, accounts, begins);
            // What is moved is the engine's business: the loop looks into no buffer.
            let stream = Stream::new(Op::Send, self.shape.bytes(), 1, self.secret);
            Ok(Member { engine, stream })
        })
    }

    fn attend(&self, accounts: &Accounts) -> Result<Ran, CrewError> {
        let maker = self.maker();
        let live = Root::live();
        let watch = self.watch.map(|list| HostWatch::start(&live, list));
        let (role, meeting) = (self.role(), self.meeting);
        let attended: Result<Vec<Attended>, CrewError> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .cpus
                .iter()
                .enumerate()
                .map(|(n, cpu)| {
                    let maker = &maker;
                    scope.spawn(move || {
                        let did = attend(maker, n, *cpu, role, accounts);
                        did.inspect_err(|e| meeting.end(&e.0))
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| match thread.join() {
                    Ok(Ok(did)) => Ok(did),
                    Ok(Err(why)) => Err(CrewError::SetUp(why.0)),
                    Err(_) => {
                        let why = "a thread panicked; this is a bug of strata";
                        meeting.end(why);
                        Err(CrewError::SetUp(why.to_owned()))
                    }
                })
                .collect()
        });
        let attended = attended?;
        let threads: Vec<ThreadProof> = attended.iter().map(|a| a.thread.clone()).collect();
        let mut missing: Vec<String> = attended.iter().filter_map(|a| a.missing.clone()).collect();
        let mut host = None;
        if let Some((found, unknown)) = watch.map(HostWatch::finish) {
            host = Some(found);
            missing.extend(unknown);
        }
        let proof = Proof {
            contradictions: contradictions(&threads, &[], None),
            threads,
            pages: Vec::new(),
            clock: Clock::get().proof(),
            host,
            peer_host: None,
            connections: Vec::new(),
            queue_pairs: Vec::new(),
            missing,
        };
        Ok(Ran::Attended(attended, Box::new(proof)))
    }

    /// The other side's report.
    pub(crate) fn report(&self, found: Found, began: Option<(Nanos, Nanos)>) -> Report {
        let accounts = &found.accounts;
        let mut report = match found.ran {
            Ran::Drove(run) => Report::new(*run, self.shape.counts(self.side).is_some(), began),
            Ran::Attended(attended, proof) => Report {
                cpu_ns_per_op: cpu_of(&attended).0 as f64
                    / attended.iter().map(|a| a.done).sum::<u64>().max(1) as f64,
                proof: with_pages(*proof, accounts),
                received: None,
                began: None,
                failed: None,
            },
        };
        report.proof.queue_pairs = proofs(accounts, self.ports, self.role());
        if let Some(received) = &mut report.received {
            received.measured.lost += lost(accounts);
        }
        report.failed = and(report.failed.take(), self.wrong(accounts));
        report
    }

    /// Why what its threads found is void.
    pub(crate) fn wrong(&self, accounts: &[Account]) -> Option<String> {
        let wrong = accounts.iter().find_map(|a| a.wrong.clone());
        and(self.meeting.ended(), wrong)
    }
}

/// Two reasons, as far as there are.
pub(crate) fn and(a: Option<String>, b: Option<String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) if a.contains(&b) => Some(a),
        (Some(a), Some(b)) if b.contains(&a) => Some(b),
        (Some(a), Some(b)) => Some(format!("{a}; {b}")),
        (a, b) => a.or(b),
    }
}

/// CPU time of threads that attended.
pub(crate) fn cpu_of(attended: &[Attended]) -> Nanos {
    let all = attended
        .iter()
        .map(|a| a.thread.user_ns + a.thread.system_ns);
    all.fold(Nanos(0), |sum, one| sum + one)
}

/// Messages that never came.
pub(crate) fn lost(accounts: &[Account]) -> u64 {
    accounts.iter().map(|a| a.lost).sum()
}

/// The pages of threads that attended, which no crew has added up.
pub(crate) fn with_pages(mut proof: Proof, accounts: &[Account]) -> Proof {
    for part in accounts.iter().flat_map(|a| &a.pages) {
        let same = |p: &&mut PagesProof| (p.node, p.page_bytes) == (part.node, part.page_bytes);
        match proof.pages.iter_mut().find(same) {
            Some(sum) => sum.pages += part.pages,
            None => proof.pages.push(*part),
        }
    }
    proof
}

/// The warnings that accounts give: memory that is not as wished, messages that were lost.
pub(crate) fn warnings(accounts: &[Account], lost: u64, received: u64) -> Vec<Warning> {
    let mut notes: Vec<&String> = accounts.iter().flat_map(|a| &a.notes).collect();
    notes.sort();
    notes.dedup();
    let mut warnings: Vec<Warning> = notes
        .into_iter()
        .map(|text| Warning {
            code: WarningCode::Memory,
            text: text.clone(),
        })
        .collect();
    if lost > 0 {
        let part = lost as f64 / (lost + received) as f64 * 100.0;
        warnings.push(Warning {
            code: WarningCode::MessagesLost,
            text: format!(
                "{lost} messages were lost ({part:.2} % of what was sent in the whole trial): the receiver or the network does not keep up, and nothing is sent again over an unreliable service; lower --depth, or give --transport rc"
            ),
        });
    }
    warnings
}

/// What CPU time came to of operations that another side counted.
pub(crate) fn cost(attended: &[Attended], ops: u64, peer: f64) -> Cost {
    let (user, system) = attended.iter().fold((0, 0), |(user, system), a| {
        (user + a.thread.user_ns.0, system + a.thread.system_ns.0)
    });
    let all = (user + system) as f64;
    Cost {
        cpu_ns_per_op: all / ops.max(1) as f64,
        system_share: (all > 0.0).then(|| system as f64 / all),
        peer_cpu_ns_per_op: Some(peer),
        instructions_per_op: None,
    }
}
