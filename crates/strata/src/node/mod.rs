//! `strata run node`: each drive through the kernel and past it, and the wire to another node.

mod rebinding;

use anyhow::{Context, Result, anyhow};
use strata_block::{BlockEngine, Wanted};
use strata_nvme::binding::{by_vfio, plan};
use strata_record::{Binding, Cell, Driver, Op};
use strata_settings::{Journal, Live};
use strata_topology::NvmeController;
use strata_units::{Bytes, PciAddress};

use crate::cli::{Measuring, RdmaArgs, RunArgs, Streams, TcpArgs};
use crate::host::Host;
use crate::quick::{deep, measuring};
use crate::session::{Ready, Session};
use crate::{End, Usage, block, nvme, output, plan as plans, rdma, tcp};

pub(crate) use rebinding::Rebinding;

/// Rounds of `node`: enough for a claim, with some to lose.
const ROUNDS: u32 = 12;

/// The largest operation.
const LARGEST: Bytes = Bytes(128 << 10);

/// The smallest message over the wire.
const SMALL: Bytes = Bytes(64);

pub(crate) fn run(args: &RunArgs) -> Result<End> {
    let host = Host::read()?;
    let drives = args
        .drive
        .iter()
        .map(|serial| named(&host, serial))
        .collect::<Result<Vec<&NvmeController>>>()?;
    if drives.is_empty() {
        return Err(Usage::error(nothing_named(&host)));
    }
    for (at, drive) in drives.iter().enumerate() {
        if drives[..at].iter().any(|before| before.pci == drive.pci) {
            return Err(Usage::error(format!(
                "--drive names {} twice; name each drive once",
                told(drive)
            )));
        }
        may_be_given(drive, &args.drive)?;
    }
    if args.key_file.is_some() && args.peer.is_none() {
        return Err(Usage::error(
            "--key-file without --peer: there is nobody to prove it to; name the other node by --peer",
        ));
    }
    let measuring = measuring(args);
    let session = Session::begin("node", args.keeping.clone(), args.printing.clone())?;
    let mut ready = Ready::default();
    for drive in drives {
        let cells = cells(&host, &session, drive, &measuring)
            .with_context(|| format!("cannot measure {}", told(drive)))?;
        ready.cells.extend(cells);
    }
    rebinding(&mut ready, &session, &args.drive);
    let wire = match &args.peer {
        None => {
            session.say("SKIP tcp: no --peer names another node where `strata serve` runs");
            Ok(())
        }
        Some(peer) => on_wire(&mut ready, &host, &session, peer, args, &measuring),
    };
    wire.context("cannot measure the wire")?;
    session.run(ready, args.repeats.unwrap_or(ROUNDS))
}

/// A drive in words.
fn told(drive: &NvmeController) -> String {
    let serial = drive.serial.as_deref().unwrap_or_default().trim();
    format!("{} ({serial})", drive.name.as_deref().unwrap_or("a drive"))
}

/// Says which drives there are to be named.
fn nothing_named(host: &Host) -> String {
    let drives = &host.topology.nvme;
    let known: Vec<&str> = drives
        .iter()
        .filter(|d| d.pci.is_some())
        .filter_map(|d| Some(d.serial.as_deref()?.trim()))
        .collect();
    let next = match known[..] {
        [] => "this machine's kernel has none; `strata run quick` needs none".to_owned(),
        _ => format!("of those that the kernel has here: {}", known.join(", ")),
    };
    format!(
        "no drive is named: the kernel loses it for half of each round, so that its serial number has to be typed (--drive SERIAL), {next}"
    )
}

/// The drive of a serial number, which the kernel has.
fn named<'a>(host: &'a Host, serial: &str) -> Result<&'a NvmeController> {
    let at = nvme::by_serial(&host.topology, serial)?;
    let found = host.topology.nvme.iter().find(|d| d.pci == Some(at));
    let found = found.filter(|drive| drive.name.is_some());
    found.ok_or_else(|| {
        anyhow!("{serial} ({at}) is not with the kernel's driver; give it back first (`strata restore`, or `strata unbind {at}`)")
    })
}

/// Puts the drives with these serial numbers on the drivers that cells need, while the run is made.
fn rebinding(ready: &mut Ready, session: &Session, typed: &[String]) {
    ready.switch = Some(Box::new(Rebinding::new(session.desk(), typed)));
    ready.drives = typed.to_vec();
}

/// Makes a run of `node` that is gone on with ready to take its drives again, if they are where they were and may be taken.
pub(crate) fn again(
    ready: &mut Ready,
    host: &Host,
    session: &Session,
    cells: &[Cell],
    typed: &[String],
) -> Result<()> {
    let mut functions: Vec<PciAddress> = cells
        .iter()
        .filter_map(|cell| Some(cell.binding?.function))
        .collect();
    functions.sort_unstable();
    functions.dedup();
    if functions.is_empty() {
        return match typed {
            [] => Ok(()),
            _ => Err(Usage::error(
                "--drive: the run takes no drive from the kernel; leave it out",
            )),
        };
    }
    if typed.is_empty() {
        return Err(Usage::error(
            "the kernel loses the run's drives for a part of each round; type their serial numbers again (--drive SERIAL)",
        ));
    }
    for function in functions {
        let found = host.topology.nvme.iter();
        let found = found
            .clone()
            .find(|d| d.pci == Some(function) && d.name.is_some());
        let drive = found.ok_or_else(|| {
            Usage::error(format!(
                "{function} is not with the kernel's driver; give it back first (`strata restore`)"
            ))
        })?;
        may_be_given(drive, typed)?;
    }
    rebinding(ready, session, typed);
    Ok(())
}

/// Whatever forbids to take the drive from the kernel is told before anything is begun.
fn may_be_given(drive: &NvmeController, typed: &[String]) -> Result<()> {
    let at = function(drive)?;
    let found = plan(&mut Live::default(), &Journal::place(), &by_vfio, at, false)?;
    // Each of those of several drives is one of these.
    let is_typed = |serial: &String| found.typed_matches(std::slice::from_ref(serial)).is_ok();
    if !typed.iter().any(is_typed) {
        found.typed_matches(typed).map_err(Usage::error)?;
    }
    if let Some((last, others)) = found.refusals.split_last() {
        others.iter().for_each(|why| output::tell(&why.to_string()));
        return Err(anyhow!("{last}"));
    }
    Ok(())
}

fn function(drive: &NvmeController) -> Result<PciAddress> {
    drive
        .pci
        .ok_or_else(|| anyhow!("{} is no PCI function", told(drive)))
}

/// The namespace that is measured: its block device's path.
fn disk(drive: &NvmeController) -> Result<std::path::PathBuf> {
    let first = drive.namespaces.first();
    let first = first.ok_or_else(|| anyhow!("{} has no namespace", told(drive)))?;
    Ok(std::path::Path::new("/dev").join(first))
}

/// The same load on the same blocks from the same CPU, through the kernel and past it.
fn cells(
    host: &Host,
    session: &Session,
    drive: &NvmeController,
    measuring: &Measuring,
) -> Result<Vec<Cell>> {
    let function = function(drive)?;
    let path = disk(drive)?;
    for other in drive.namespaces.iter().skip(1) {
        session.say(&format!(
            "SKIP {other}: of {} its first namespace is measured",
            told(drive)
        ));
    }
    let wanted = Wanted {
        smallest: Bytes(4096),
        ..Wanted::reads(LARGEST)
    };
    let target = block::make(session.desk(), &path, &wanted)?;
    let ring = BlockEngine::best_ring();
    let polled: Option<BlockEngine> = "io_uring+iopoll".parse().ok();
    let polled = polled.filter(|engine| match engine.available_on(&target) {
        Ok(()) => true,
        Err(why) => {
            session.say(&format!("SKIP {engine}: {why}"));
            false
        }
    });
    let mut shapes = Vec::new();
    for (op, bs, depth) in [
        (Op::RandRead, Bytes(4096), 1),
        (Op::RandRead, Bytes(4096), 32),
        (Op::Read, LARGEST, 8),
    ] {
        let call = (depth == 1).then_some(BlockEngine::Psync);
        for engine in [call, Some(ring), polled].into_iter().flatten() {
            shapes.push(block::Shape {
                engine,
                op,
                bs,
                depth: deep(depth)?,
                random_map: false,
                verify: false,
            });
        }
    }
    let mut cells = block::cells(host, &target, &shapes, measuring, None)?;
    let namespace = host
        .topology
        .disk(
            path.file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default(),
        )
        .and_then(|disk| Some(disk.namespace.as_ref()?.nsid));
    let namespace = namespace.ok_or_else(|| anyhow!("{} tells no namespace", path.display()))?;
    // One of each load goes past the kernel: where the ring's goes, with all else alike.
    let past: Vec<Cell> = cells
        .iter()
        .filter(|cell| cell.engine == ring.to_string())
        .map(|cell| nvme::past_the_kernel(cell, function, namespace))
        .collect();
    for cell in &mut cells {
        cell.binding = Some(Binding {
            function,
            driver: Driver::Nvme,
        });
    }
    cells.extend(past);
    Ok(cells)
}

/// The cells of the wire, on no drive's driver.
fn on_wire(
    ready: &mut Ready,
    host: &Host,
    session: &Session,
    peer: &str,
    args: &RunArgs,
    measuring: &Measuring,
) -> Result<()> {
    let mut options = vec![format!("--peer={peer}")];
    options.extend(
        args.key_file
            .as_ref()
            .map(|key| format!("--key-file={}", key.display())),
    );
    let mut common: TcpArgs = plans::arguments("tcp", &options)?;
    common.measuring = measuring.clone();
    let wire = tcp::Wire::of(ready, &common)?;
    let mut shapes = vec![
        tcp::Shape::plain(Op::ReqRep, SMALL),
        tcp::Shape::plain(Op::Stream, LARGEST),
    ];
    let verbs = over_verbs(host, &wire, &options, measuring);
    let streams = args.streams.unwrap_or(Streams::Auto);
    if verbs.is_ok() && streams != Streams::Number(1) {
        // What verbs are held against is TCP at its best too, not with one stream alone.
        shapes.push(tcp::Shape {
            streams,
            ..tcp::Shape::plain(Op::Stream, LARGEST)
        });
    }
    let cells = tcp::cells(host, &wire, &shapes, &common)?;
    tcp::add(ready, cells, &wire, &shapes, &common, host, session)?;
    match verbs {
        Ok(cells) => rdma::add(ready, cells, &wire, host),
        Err(why) => {
            session.say(&format!("SKIP rdma: {why:#}"));
            Ok(())
        }
    }
}

/// The cells of verbs over the wire that TCP goes over.
fn over_verbs(
    host: &Host,
    wire: &tcp::Wire,
    options: &[String],
    measuring: &Measuring,
) -> Result<Vec<Cell>> {
    let each = [
        (vec!["--op=send-pingpong".to_owned()], SMALL),
        (
            vec!["--op=write,read".to_owned(), "--depth=8".to_owned()],
            LARGEST,
        ),
    ];
    let mut cells = Vec::new();
    for (mut words, size) in each {
        words.push(format!("--bs={size}"));
        words.extend_from_slice(options);
        let mut args: RdmaArgs = plans::arguments("rdma", &words)?;
        args.measuring = measuring.clone();
        let shapes = rdma::shapes(&args)?;
        cells.extend(rdma::cells(host, wire, &shapes, &args)?);
    }
    Ok(cells)
}
