//! `strata verify`: what verified writes left on a target.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use serde::Serialize;
use strata_block::{Verified, Wanted, inspect};
use strata_measure::{Ledger, payload, storage};
use strata_nvme::{Blocking, Carrier, Controller, Options, Stands, Vfio, VfioUser};
use strata_nvme_spec::NamespaceId;
use strata_units::{ByteOffset, Bytes, PciAddress};

use crate::block::usage_or_not;
use crate::cli::VerifyArgs;
use crate::interrupt::Stopped;
use crate::{End, Usage, interrupt, output};

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    target: String,
    sectors: u64,
    wrong_sectors: u64,
    faults: Vec<Line<'a>>,
    acknowledged_blocks: Option<u64>,
    open_blocks: Option<u64>,
}

#[derive(Serialize)]
struct Line<'a> {
    sector: u64,
    why: &'a str,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<End> {
    let interrupted = interrupt::watch().context("cannot watch for Ctrl-C")?;
    let ledger = args
        .ledger
        .as_deref()
        .map(|path| Ledger::open(path, false))
        .transpose()?;
    let function = args.target.to_str().map(str::parse::<PciAddress>);
    let namespace = NamespaceId(args.namespace.unwrap_or(1));
    let found = if let Some(Ok(function)) = function {
        let carrier = Box::new(Vfio::open(function)?);
        polled(carrier, namespace, ledger.as_ref(), &interrupted)?
    } else if args.target.is_dir() {
        let socket = args.target.join("cntrl");
        if socket
            .symlink_metadata()
            .is_err_and(|e| e.kind() == ErrorKind::NotFound)
        {
            return Err(Usage::error(format!(
                "{} is a folder and holds no socket of a controller (cntrl); name the file or drive that was written, or the folder that `strata emu` serves in",
                args.target.display()
            )));
        }
        let patience = Options::default().register_patience;
        let carrier = Box::new(VfioUser::connect(&args.target, patience)?);
        polled(carrier, namespace, ledger.as_ref(), &interrupted)?
    } else if args.namespace.is_some() {
        return Err(Usage::error(format!(
            "--namespace is of a controller that our driver drives, and {} is no folder that holds a socket and no PCI address; leave it out",
            args.target.display()
        )));
    } else {
        kernel(&args.target, ledger.as_ref(), &interrupted)?
    };
    let name = args.target.display().to_string();
    if args.printing.json {
        let whys: Vec<String> = found.faults.iter().map(|f| f.wrong.to_string()).collect();
        output::json(&Document {
            schema: strata_record::SCHEMA,
            target: name,
            sectors: found.sectors,
            wrong_sectors: found.wrong,
            faults: found
                .faults
                .iter()
                .zip(&whys)
                .map(|(fault, why)| Line {
                    sector: fault.sector,
                    why,
                })
                .collect(),
            acknowledged_blocks: ledger.is_some().then_some(found.acknowledged),
            open_blocks: ledger.is_some().then_some(found.open),
        })?;
    } else if !args.printing.quiet {
        output::text(&text(&name, &found, ledger.is_some()))?;
    }
    Ok(if found.wrong == 0 {
        End::Done
    } else {
        End::NotMet
    })
}

/// What a file or drive holds, as the kernel reads it.
fn kernel(path: &Path, ledger: Option<&Ledger>, interrupted: &AtomicBool) -> Result<Verified> {
    let wanted = Wanted {
        smallest: Bytes(0),
        ..Wanted::reads(payload::SECTOR)
    };
    let target = inspect(path, &wanted).map_err(usage_or_not)?;
    strata_block::verify(&target, ledger, interrupted).map_err(usage_or_not)
}

/// What a namespace holds, as our driver reads it.
fn polled(
    carrier: Box<dyn Carrier>,
    namespace: NamespaceId,
    ledger: Option<&Ledger>,
    interrupted: &AtomicBool,
) -> Result<Verified> {
    let controller = Controller::open(carrier, &Options::default())?;
    let name = format!("namespace {namespace} of {}", controller.name());
    if controller.stands()? == Stands::Null {
        return Err(Usage::error(format!(
            "{name} moves no data, so there is nothing to check; name a controller that was served without --no-data"
        )));
    }
    let namespace = controller.namespace(namespace).map_err(Usage::error)?;
    let (block, size) = (namespace.block, namespace.size);
    let (from, length) = match ledger.map(Ledger::head) {
        None => (ByteOffset(0), size),
        Some(head) => (head.from, head.length()),
    };
    let fits = size
        .0
        .checked_sub(from.0)
        .is_some_and(|rest| length.0 <= rest);
    if !fits || !from.0.is_multiple_of(block.0) || !length.is_multiple_of(block) {
        return Err(Usage::error(format!(
            "{name} holds {size} in blocks of {block}, and the ledger tells of {length} from {} on: it is of another target; name that, or the ledger of this one",
            Bytes(from.0)
        )));
    }
    let mut blocking = Blocking::new(&controller, namespace)?;
    let read = |at: ByteOffset, into: &mut [u8]| blocking.read(at, into);
    storage::verify(read, from, length, ledger, interrupted)
        .with_context(|| format!("cannot read {name}"))?
        .ok_or_else(|| {
            anyhow::Error::new(Stopped).context(format!("{name} is not checked to its end"))
        })
}

fn text(name: &str, found: &Verified, recorded: bool) -> String {
    let bytes = Bytes(found.sectors * payload::SECTOR.0);
    let mut text = if found.wrong == 0 {
        format!(
            "{name}: all {} sectors ({bytes}) are right\n",
            found.sectors
        )
    } else {
        format!(
            "{name}: {} of {} sectors are wrong\n",
            found.wrong, found.sectors
        )
    };
    for fault in &found.faults {
        text.push_str(&format!("  sector {} {}\n", fault.sector, fault.wrong));
    }
    if recorded {
        text.push_str(&format!(
            "ledger: {} blocks were written and acknowledged; {} had a write that was begun and never acknowledged\n",
            found.acknowledged, found.open
        ));
    } else if found.wrong == 0 {
        text.push_str("without a --ledger: whether these are the last writes is not known\n");
    }
    text
}
