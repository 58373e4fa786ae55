//! `strata verify`: what verified writes left on a target.

use anyhow::{Context, Result};
use serde::Serialize;
use strata_block::{Verified, Wanted, inspect, verify};
use strata_measure::{Ledger, payload};
use strata_units::Bytes;

use crate::block::usage_or_not;
use crate::cli::VerifyArgs;
use crate::{End, interrupt, output};

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
    let wanted = Wanted {
        smallest: Bytes(0),
        ..Wanted::reads(payload::SECTOR)
    };
    let target = inspect(&args.target, &wanted).map_err(usage_or_not)?;
    let found = verify(&target, ledger.as_ref(), &interrupted).map_err(usage_or_not)?;
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
