//! `strata tcp`: cells of TCP between two processes, of this machine or of two.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow};
use strata_measure::{Job, JobError, Trial};
use strata_record::{
    Cell, Direction, Layer, Op, Placement, Reality, Sockets, StreamCandidate, StreamSweep, Target,
    TargetKind, Workload,
};
use strata_tcp::{Sweep, TcpEngine, TcpJob, interface_of, saturate, settable};
use strata_topology::WatchList;
use strata_units::{ByteOffset, Bytes, CpuList, QueueDepth};

use crate::block::workload;
use crate::cli::{Measuring, Streams, TcpArgs};
use crate::host::Host;
use crate::peer::{Peer, Peers, Remote};
use crate::session::{Ready, Session};
use crate::{End, Usage};

/// One shape of load on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) engine: TcpEngine,
    pub(crate) op: Op,
    pub(crate) bs: Bytes,
    pub(crate) reply: Option<Bytes>,
    pub(crate) depth: QueueDepth,
    pub(crate) direction: Option<Direction>,
    pub(crate) streams: Streams,
}

impl Shape {
    /// One connection that blocks, sending.
    pub(crate) fn plain(op: Op, bs: Bytes) -> Shape {
        Shape {
            engine: TcpEngine {
                spin: false,
                zerocopy: false,
            },
            op,
            bs,
            reply: None,
            depth: QueueDepth::ONE,
            direction: (op == Op::Stream).then_some(Direction::Send),
            streams: Streams::Number(1),
        }
    }
}

pub(crate) fn run(args: TcpArgs) -> Result<End> {
    let shapes = shapes(&args)?;
    let host = Host::read()?;
    let mut ready = Ready::default();
    // The other side is reached, and CPUs are checked, before a folder is made.
    let wire = Wire::of(&mut ready, &args)?;
    let cells = cells(&host, &wire, &shapes, &args)?;
    for (cell, shape) in cells.iter().zip(&shapes) {
        can_be_set(cell, shape).map_err(Usage::error)?;
    }
    let session = Session::begin("tcp", args.keeping.clone(), args.printing.clone())?;
    add(&mut ready, cells, &wire, &shapes, &args, &host, &session)?;
    session.run(ready, args.measuring.repeats)
}

/// How the identity of a wire ends whose other side is a process of our own.
fn own_loopback(address: &str) -> String {
    format!(": {address} to {address}")
}

/// Whether this machine's sockets can be what the cell asks for.
fn can_be_set(cell: &Cell, shape: &Shape) -> Result<(), String> {
    settable(
        &cell.sockets.clone().unwrap_or_default(),
        shape.engine.zerocopy,
    )
}

/// Where the other side is.
pub(crate) enum Wire {
    /// A second process of this machine; over IPv6's loopback, or IPv4's.
    Loopback { ipv6: bool },
    /// Where `strata serve` runs.
    Peer(Arc<Peer>),
}

impl Wire {
    /// Reaches what the options name.
    pub(crate) fn of(ready: &mut Ready, args: &TcpArgs) -> Result<Wire> {
        Ok(match &args.peer {
            None => Wire::Loopback { ipv6: args.ipv6 },
            Some(name) => Wire::Peer(ready.peers.reach(name, args.key_file.as_deref())?),
        })
    }

    /// The wire of a cell of a run that is gone on with: loopback, or the peer that it was begun with, which must be there as
    /// it was.
    pub(crate) fn again(
        host: &Host,
        peers: &mut Peers,
        cell: &Cell,
        key_file: Option<&Path>,
    ) -> Result<Wire> {
        let (begun_on, via) = (&cell.target.identity, cell.via.as_str());
        // A peer may be reached at 127.0.0.1 too; what it is as a target says which of the two it was.
        let wire = if begun_on.ends_with(&own_loopback(via)) {
            Wire::Loopback { ipv6: via == "::1" }
        } else {
            Wire::Peer(peers.reach(via, key_file)?)
        };
        let (found, ..) = wire.target(host);
        if found.identity != *begun_on {
            return Err(Usage::error(format!(
                "{via} is now the wire {}, and the run was begun on {begun_on}; go on where that is, or begin a new run",
                found.identity
            )));
        }
        Ok(wire)
    }

    /// What the wire is as a target, what stands behind it, and how it is reached.
    fn target(&self, host: &Host) -> (Target, Reality, String) {
        let (identity, reality, via, node) = match self {
            Wire::Loopback { ipv6 } => {
                let address = if *ipv6 { "::1" } else { "127.0.0.1" };
                let identity = format!("lo of {}{}", host.name, own_loopback(address));
                (identity, Reality::Software, address.to_owned(), None)
            }
            Wire::Peer(peer) => {
                let ours = interface_of(peer.here).unwrap_or_else(|_| peer.here.to_string());
                let known = host.topology.interfaces.iter().find(|i| i.name == ours);
                let theirs = &peer.welcome;
                let there = theirs.environment.hostname.as_deref().unwrap_or("unnamed");
                let identity = format!(
                    "{ours} of {} to {} of {there}",
                    host.name,
                    theirs.interface.as_deref().unwrap_or("an interface")
                );
                let here = if peer.here.is_loopback() {
                    Reality::Software
                } else {
                    known
                        .and_then(|i| i.judgement.reality)
                        .unwrap_or(Reality::Unknown)
                };
                let node = known.and_then(|i| i.node);
                (
                    identity,
                    weaker(here, theirs.reality),
                    peer.name.clone(),
                    node,
                )
            }
        };
        let target = Target {
            kind: TargetKind::Wire,
            identity,
            region_from_bytes: ByteOffset(0),
            region_bytes: None,
            node,
        };
        (target, reality, via)
    }

    /// Where threads and memory go, on both sides.
    pub(crate) fn place(
        &self,
        host: &Host,
        measuring: &Measuring,
        peer_cpus: Option<&CpuList>,
        target: &Target,
    ) -> Result<Placement> {
        match self {
            Wire::Loopback { .. } => host.place(measuring, Some(peer_cpus), None),
            Wire::Peer(peer) => {
                let threads = usize::from(measuring.threads);
                let offered = &peer.welcome.cpus;
                // On one machine the two sides stay apart if they can.
                let theirs = peer_cpus.filter(|_| peer.same_host).cloned();
                let own = host.place_beside(measuring, &theirs.unwrap_or_default(), target.node)?;
                let chosen = match peer_cpus {
                    Some(given) => {
                        self.check_theirs(host, given)?;
                        given.clone()
                    }
                    None => self.some_of_theirs(host, offered, threads, target, &own.cpus)?,
                };
                if chosen.len() != threads {
                    return Err(Usage::error(format!(
                        "{threads} threads need as many CPUs there, and {} has {chosen}; change --threads or --peer-cpus",
                        peer.name
                    )));
                }
                Ok(Placement {
                    peer_cpus: chosen,
                    ..own
                })
            }
        }
    }
}

impl Wire {
    /// Whether both sides have the same CPUs to choose from.
    fn is_one_machine(&self) -> bool {
        match self {
            Wire::Loopback { .. } => true,
            Wire::Peer(peer) => peer.same_host,
        }
    }

    /// The CPUs that the other side may have.
    fn theirs<'a>(&'a self, host: &'a Host) -> &'a CpuList {
        match self {
            Wire::Loopback { .. } => &host.allowed.cpus,
            Wire::Peer(peer) => &peer.welcome.cpus,
        }
    }

    /// Whether the other side may have the CPUs that are asked for.
    fn check_theirs(&self, host: &Host, given: &CpuList) -> Result<()> {
        match self {
            Wire::Loopback { .. } => host.check("--peer-cpus", given),
            Wire::Peer(peer) if given.without(&peer.welcome.cpus).is_empty() => Ok(()),
            Wire::Peer(peer) => Err(Usage::error(format!(
                "--peer-cpus {given}: {} offers CPUs {}",
                peer.name, peer.welcome.cpus
            ))),
        }
    }

    /// So many of the other side's CPUs, or as many as there are: of this machine those that lie well beside `ours`; of
    /// another, whose cores are not known, the first.
    fn some_of_theirs(
        &self,
        host: &Host,
        among: &CpuList,
        threads: usize,
        target: &Target,
        ours: &CpuList,
    ) -> Result<CpuList> {
        if self.is_one_machine() && among.len() >= threads {
            host.choose_among(among, threads, target.node, ours)
        } else {
            Ok(among.iter().take(threads).collect())
        }
    }

    /// Where `threads` threads of each side go, whose number is not the user's: lists that are given say what may be used.
    fn place_some(
        &self,
        host: &Host,
        args: &TcpArgs,
        threads: u16,
        target: &Target,
    ) -> Result<Placement> {
        let mut measuring = Measuring {
            threads,
            ..args.measuring.clone()
        };
        let count = usize::from(threads);
        if let Some(among) = &args.measuring.cpus {
            host.check("--cpus", among)?;
            let theirs = args.peer_cpus.clone().filter(|_| self.is_one_machine());
            let beside = theirs.unwrap_or_default();
            measuring.cpus = Some(host.choose_among(among, count, target.node, &beside)?);
        }
        let peer_cpus = match &args.peer_cpus {
            Some(among) => {
                self.check_theirs(host, among)?;
                let ours = measuring.cpus.clone().unwrap_or_default();
                Some(self.some_of_theirs(host, among, count, target, &ours)?)
            }
            None => None,
        };
        self.place(host, &measuring, peer_cpus.as_ref(), target)
    }

    /// How many threads each side may have: as many as CPUs that it may use, and half of those of both where they are of one
    /// machine.
    fn most_threads(&self, host: &Host, args: &TcpArgs) -> u16 {
        let ours = args.measuring.cpus.as_ref().unwrap_or(&host.allowed.cpus);
        let theirs = args.peer_cpus.as_ref().unwrap_or_else(|| self.theirs(host));
        most_apart(ours, theirs, self.is_one_machine())
    }
}

fn most_apart(ours: &CpuList, theirs: &CpuList, one_machine: bool) -> u16 {
    let mut most = ours.len().min(theirs.len());
    if one_machine {
        let both: CpuList = ours.iter().chain(theirs.iter()).collect();
        most = most.min(both.len() / 2);
    }
    u16::try_from(most.max(1)).unwrap_or(u16::MAX)
}

/// The reality of what is made of two: that of the part that says least of a machine.
pub(crate) fn weaker(a: Reality, b: Reality) -> Reality {
    const ORDER: [Reality; 7] = [
        Reality::Unknown,
        Reality::Software,
        Reality::Memory,
        Reality::Emulated,
        Reality::Virtual,
        Reality::Passthrough,
        Reality::Hardware,
    ];
    ORDER
        .into_iter()
        .find(|r| *r == a || *r == b)
        .unwrap_or(Reality::Unknown)
}

/// The shapes that are asked for, each once.
pub(crate) fn shapes(args: &TcpArgs) -> Result<Vec<Shape>> {
    if !args.direction.is_empty() && !args.op.contains(&Op::Stream) {
        return Err(Usage::error(
            "--direction is of a stream, and requests and replies go both ways; leave it out, or give --op stream",
        ));
    }
    if args.reply_bs.is_some() && !args.op.contains(&Op::ReqRep) {
        return Err(Usage::error(
            "--reply-bs is of a request's reply, and a stream has none; leave it out, or give --op reqrep",
        ));
    }
    if let (None, Some(name)) = (&args.peer, args.interface.as_deref())
        && name != "lo"
    {
        return Err(Usage::error(format!(
            "--interface {name} does not lead to the other side, which is of this machine and reached over lo; leave it out, or give --peer"
        )));
    }
    let mut shapes = Vec::new();
    for op in &args.op {
        let usual = match op {
            Op::ReqRep => Bytes(64),
            Op::Stream => Bytes::KIB * 128,
            other => {
                return Err(Usage::error(format!(
                    "--op {other} is none of the tcp layer; give reqrep or stream"
                )));
            }
        };
        if *op == Op::Stream && args.measuring.rate.is_some() {
            return Err(Usage::error(
                "--rate is of requests: a stream sends as much as passes; give --op reqrep",
            ));
        }
        let sizes = if args.bs.is_empty() {
            vec![usual]
        } else {
            args.bs.clone()
        };
        let directions: Vec<Option<Direction>> = match op {
            Op::Stream if args.direction.is_empty() => vec![Some(Direction::Send)],
            Op::Stream => args.direction.iter().copied().map(Some).collect(),
            _ => vec![None],
        };
        for bs in sizes {
            for depth in &args.depth {
                for direction in &directions {
                    for engine in &args.engine {
                        let shape = Shape {
                            engine: *engine,
                            op: *op,
                            bs,
                            reply: args.reply_bs.filter(|r| *op == Op::ReqRep && *r != bs),
                            depth: *depth,
                            direction: *direction,
                            streams: args.streams,
                        };
                        if !shapes.contains(&shape) {
                            shapes.push(shape);
                        }
                    }
                }
            }
        }
    }
    if args.streams == Streams::Auto && args.measuring.threads != 1 {
        return Err(Usage::error(format!(
            "--streams auto finds the number of threads, and --threads {} was given; leave one of them out, or say by --cpus and --peer-cpus what may be used",
            args.measuring.threads
        )));
    }
    if args.streams == Streams::Auto && shapes.iter().any(|s| s.op != Op::Stream) {
        return Err(Usage::error(
            "--streams auto finds what saturates a stream; give --op stream, or a number",
        ));
    }
    Ok(shapes)
}

/// A cell a shape; one whose number of streams is to be found has one so far.
pub(crate) fn cells(
    host: &Host,
    wire: &Wire,
    shapes: &[Shape],
    args: &TcpArgs,
) -> Result<Vec<Cell>> {
    let sockets = |op| Sockets {
        nodelay: match (args.nagle, args.nodelay) {
            (true, _) => false,
            (_, true) => true,
            _ => Sockets::of(op).nodelay,
        },
        send_buffer_bytes: args.sndbuf,
        receive_buffer_bytes: args.rcvbuf,
        congestion: args.congestion.clone(),
        busy_poll_ns: args.busy_poll,
        interface: args.interface.clone(),
    };
    shapes
        .iter()
        .map(|shape| {
            let m = &args.measuring;
            let place = |target: &Target| match shape.streams {
                Streams::Number(_) => wire.place(host, m, args.peer_cpus.as_ref(), target),
                Streams::Auto => wire.place_some(host, args, m.threads, target),
            };
            cell_at(host, wire, shape, m, &sockets(shape.op), place)
        })
        .collect()
}

pub(crate) fn cell(
    host: &Host,
    wire: &Wire,
    shape: &Shape,
    measuring: &Measuring,
    sockets: &Sockets,
) -> Result<Cell> {
    let place = |target: &Target| wire.place(host, measuring, None, target);
    cell_at(host, wire, shape, measuring, sockets, place)
}

fn cell_at(
    host: &Host,
    wire: &Wire,
    shape: &Shape,
    measuring: &Measuring,
    sockets: &Sockets,
    place: impl FnOnce(&Target) -> Result<Placement>,
) -> Result<Cell> {
    let (target, reality, via) = wire.target(host);
    Ok(Cell {
        layer: Layer::Tcp,
        engine: shape.engine.to_string(),
        reality,
        placement: place(&target)?,
        target,
        via,
        timeout_ns: None,
        sockets: Some(sockets.clone()),
        verbs: None,
        binding: None,
        workload: Workload {
            reply_bytes: shape.reply,
            direction: shape.direction,
            streams: match shape.streams {
                Streams::Number(n) => n,
                Streams::Auto => 1,
            },
            ..workload(shape.op, shape.bs, shape.depth, measuring)
        },
    })
}

/// Adds the cells and their jobs; numbers of streams that are to be found are found first.
pub(crate) fn add(
    ready: &mut Ready,
    cells: Vec<Cell>,
    wire: &Wire,
    shapes: &[Shape],
    args: &TcpArgs,
    host: &Host,
    session: &Session,
) -> Result<()> {
    if let Wire::Peer(peer) = wire {
        ready.machine(&peer.welcome.environment);
    }
    for (cell, shape) in cells.into_iter().zip(shapes) {
        let cell = match shape.streams {
            Streams::Number(_) => cell,
            // What cannot be set is skipped in its turn.
            Streams::Auto if can_be_set(&cell, shape).is_err() => cell,
            Streams::Auto => {
                let (cell, sweep) = saturated(host, wire, args, &cell, session)?;
                ready.sweeps.push(sweep);
                cell
            }
        };
        ready.jobs.push(job(host, wire, &cell)?);
        ready.cells.push(cell);
    }
    Ok(())
}

/// The cell with as many threads and connections as saturate the path.
fn saturated(
    host: &Host,
    wire: &Wire,
    args: &TcpArgs,
    cell: &Cell,
    session: &Session,
) -> Result<(Cell, StreamSweep)> {
    let of = cell.label();
    let most = wire.most_threads(host, args);
    let sweep = Sweep {
        seed: session.seed(),
        ..Sweep::default()
    };
    session.say(&format!(
        "{of}: looking for the number of streams that saturates the path, at least {}",
        sweep.takes(most)
    ));
    let interrupted: &AtomicBool = session.interrupted();
    let place = |threads| {
        let placed = wire.place_some(host, args, threads, &cell.target);
        placed.map_err(|e| format!("{e:#}"))
    };
    let found = saturate(cell, &sweep, most, place, |cell, seed| {
        let mut job = job(host, wire, cell).map_err(|e| format!("{e:#}"))?;
        let done = job.run(&Trial { seed, interrupted }).map_err(|e| match e {
            JobError::Interrupted => "interrupted".to_owned(),
            e => e.to_string(),
        })?;
        match done.failed {
            Some(why) => Err(why),
            None => Ok(done.measured.bytes_per_s.unwrap_or(0.0)),
        }
    });
    if interrupted.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(crate::interrupt::Stopped.into());
    }
    let found = found.map_err(|e| anyhow!("--streams auto: {e}"))?;
    let chosen = found
        .candidates
        .get(found.chosen)
        .ok_or_else(|| anyhow!("--streams auto: nothing was chosen; this is a bug of strata"))?;
    session.say(&format!(
        "{of}: {} streams, {} threads of {}{}",
        chosen.streams(),
        chosen.threads,
        chosen.connections,
        if found.sure {
            ""
        } else {
            "; whether more bring more, the sweep could not tell"
        }
    ));
    let candidates = found
        .candidates
        .iter()
        .map(|c| StreamCandidate {
            threads: c.threads,
            streams: c.connections,
            bytes_per_s: c.bytes_per_s.clone(),
        })
        .collect();
    let record = StreamSweep {
        of,
        candidates,
        chosen: found.chosen,
        sure: found.sure,
    };
    Ok((chosen.cell(cell), record))
}

/// The job of a cell; over loopback the other side is this program again.
pub(crate) fn job(host: &Host, wire: &Wire, cell: &Cell) -> Result<Box<dyn Job>> {
    let (cpus, theirs) = (
        cell.placement.cpus.clone(),
        cell.placement.peer_cpus.clone(),
    );
    match wire {
        Wire::Loopback { .. } => {
            let program = std::env::current_exe()
                .context("cannot find this program to start the other side with")?;
            let watch = WatchList::of_interface(&host.topology, "lo", cpus, theirs);
            let job = TcpJob::new(cell.clone(), program, vec!["peer".to_owned()])
                .map_err(Usage::error)?;
            Ok(Box::new(job.watching(watch)))
        }
        Wire::Peer(peer) => {
            let job =
                TcpJob::reaching(cell.clone(), Remote(Arc::clone(peer))).map_err(Usage::error)?;
            let Ok(name) = interface_of(peer.here) else {
                return Ok(Box::new(job));
            };
            // Over loopback the other side watches nothing: this one does.
            let watched = if peer.here.is_loopback() {
                theirs
            } else {
                CpuList::default()
            };
            let watch = WatchList::of_interface(&host.topology, &name, cpus, watched);
            let bounds = host.wire_bounds(&watch);
            Ok(Box::new(job.watching(watch).bounded(bounds)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    use clap::Parser as _;
    use strata_topology::{Allowed, Root, Topology};
    use strata_units::NodeId;

    use crate::cli::{Cli, Command};

    /// Two nodes of two cores of two hardware threads.
    fn host() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |path: String, text: String| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("made");
            fs::write(path, text + "\n").expect("written");
        };
        let system = "sys/devices/system";
        for list in ["online", "present", "possible"] {
            put(format!("{system}/cpu/{list}"), "0-7".to_owned());
        }
        for cpu in 0..8 {
            let at = format!("{system}/cpu/cpu{cpu}/topology");
            let first = cpu / 2 * 2;
            for list in ["thread_siblings_list", "core_cpus_list"] {
                put(format!("{at}/{list}"), format!("{first}-{}", first + 1));
            }
            put(format!("{at}/core_id"), (cpu / 2 % 2).to_string());
            put(format!("{at}/physical_package_id"), (cpu / 4).to_string());
        }
        put(format!("{system}/node/online"), "0-1".to_owned());
        put(
            "proc/self/status".to_owned(),
            "Cpus_allowed_list:\t0-7\nMems_allowed_list:\t0-1".to_owned(),
        );
        for (node, cpus, far) in [(0, "0-3", "10 21"), (1, "4-7", "21 10")] {
            let at = format!("{system}/node/node{node}");
            put(format!("{at}/cpulist"), cpus.to_owned());
            put(format!("{at}/distance"), far.to_owned());
        }
        let root = Root::new(folder.path());
        let topology = Topology::read(&root).expect("a topology");
        let allowed = Allowed::read(&root, &topology);
        assert_eq!(allowed.cpus, list("0-7"));
        Host {
            topology,
            allowed,
            name: "recorded".to_owned(),
        }
    }

    fn list(text: &str) -> CpuList {
        text.parse().expect("a list")
    }

    fn auto(words: &str) -> TcpArgs {
        let words = format!("strata tcp --op stream --streams auto {words}");
        match Cli::try_parse_from(words.split_whitespace())
            .expect("understood")
            .command
        {
            Command::Tcp(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_number_of_threads_has_a_place_of_its_own() {
        let (host, wire) = (host(), Wire::Loopback { ipv6: false });
        let (target, _, _) = wire.target(&host);
        let placed = |args: &TcpArgs, threads| {
            let p = wire
                .place_some(&host, args, threads, &target)
                .expect("a place");
            (p.cpus.to_string(), p.peer_cpus.to_string(), p.mem_node)
        };
        let any = auto("");
        assert_eq!(wire.most_threads(&host, &any), 4);
        // Not the lowest of those that four threads have, and with a node.
        let few = placed(&any, 1);
        assert_eq!(few, ("4".to_owned(), "2".to_owned(), Some(NodeId(1))));
        let all = placed(&any, 4);
        assert_eq!(all, ("0,2,4,6".to_owned(), "1,3,5,7".to_owned(), None));
        // Lists say what may be used: not how many there are, and the two sides stay apart.
        let some = auto("--cpus 2-4 --peer-cpus 2,3");
        assert_eq!(wire.most_threads(&host, &some), 1);
        assert_eq!(placed(&some, 1).0, "4");
        let apart = auto("--cpus 0,2,6 --peer-cpus 1,4,7");
        assert_eq!(wire.most_threads(&host, &apart), 3);
        let (ours, theirs, _) = placed(&apart, 2);
        assert_eq!(list(&ours).without(&list("0,2,6")), CpuList::default());
        assert_eq!(list(&theirs).without(&list("1,4,7")), CpuList::default());
        assert_eq!((list(&ours).len(), list(&theirs).len()), (2, 2));
        let absent = auto("--cpus 2,99");
        let why = wire
            .place_some(&host, &absent, 1, &target)
            .expect_err("absent");
        assert!(why.to_string().contains("CPU 99"), "{why}");
    }

    #[test]
    fn two_sides_of_one_machine_have_half_of_it_each() {
        let all = list("0-7");
        assert_eq!(most_apart(&all, &all, true), 4, "also to a server on it");
        assert_eq!(most_apart(&all, &all, false), 8);
        assert_eq!(most_apart(&list("0-3"), &list("2-7"), true), 4);
        assert_eq!(most_apart(&list("0"), &list("0"), true), 1);
    }
}
