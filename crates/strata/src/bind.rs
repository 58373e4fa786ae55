//! `strata bind`, `strata unbind` and `strata restore`: drives between the kernel and user space, and the way back from whatever
//! was changed of the host.

mod became;

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use serde::Serialize;
use strata_nvme::binding::{self, Already, BindError, Plan, Unbound, by_vfio, plan};
use strata_settings::{Binding, Journal, Live, Name, SettingsError};
use strata_topology::{Root, Topology};
use strata_units::PciAddress;

use self::became::{RestoredEntry, tell};
use crate::cli::{BindArgs, Printing, RestoreArgs, UnbindArgs};
use crate::nvme::by_serial;
use crate::{End, Usage, interrupt, output};

/// What `strata bind --json` prints.
#[derive(Serialize)]
struct BindDocument {
    schema: u32,
    function: PciAddress,
    iommu_group: Option<u32>,
    /// It is with vfio-pci now.
    bound: bool,
    takes: Vec<Takes>,
    modules: Vec<Name>,
    refusals: Vec<String>,
    unasked: Vec<String>,
}

#[derive(Serialize)]
struct Takes {
    function: PciAddress,
    before: Binding,
    drives: Vec<Drive>,
}

#[derive(Serialize)]
struct Drive {
    function: PciAddress,
    controller: String,
    model: String,
    block_devices: Vec<String>,
}

/// What `strata unbind --json` prints.
#[derive(Serialize)]
struct UnbindDocument {
    schema: u32,
    function: PciAddress,
    /// Its driver now; none where it has none, or is gone.
    driver: Option<Name>,
    /// It was given back, or had not to be.
    done: bool,
    refusals: Vec<String>,
    /// What the journal said of it.
    entries: Vec<RestoredEntry>,
}

/// What `strata restore --json` prints.
#[derive(Serialize)]
struct RestoreDocument {
    schema: u32,
    /// Nothing stays changed but modules that others use.
    done: bool,
    entries: Vec<RestoredEntry>,
}

/// The function that was typed: an address, or a drive's serial number.
fn function(typed: &str) -> Result<PciAddress> {
    match typed.parse() {
        Ok(at) => Ok(at),
        Err(_) => by_serial(&Topology::read(&Root::live())?, typed),
    }
}

/// What the user may mend by typing something else is a mistake of theirs.
fn usage_or_not(why: BindError) -> anyhow::Error {
    match why.is_usage() {
        true => Usage::error(why),
        false => why.into(),
    }
}

pub(crate) fn bind(args: &BindArgs) -> Result<End> {
    let stop = interrupt::watch().context("cannot watch for Ctrl-C")?;
    let function = function(&args.drive)?;
    let mut kernel = Live::default();
    let place = Journal::place();
    let found = plan(&mut kernel, &place, &by_vfio, function, args.whole_group);
    let found = found.map_err(usage_or_not)?;
    let mut document = document(&found);
    let mut text = text(&found);
    let refused: Vec<String> = found.refusals.iter().map(ToString::to_string).collect();
    let untyped = found.typed_matches(&args.serial).err();
    if args.dry_run && !refused.is_empty() {
        text.push_str(&format!("Against it:\n  - {}\n", refused.join("\n  - ")));
    }
    let only_tell = args.dry_run || !refused.is_empty() || found.already.is_some();
    if only_tell || untyped.is_some() {
        print(&args.printing, &document, &text)?;
        return match (args.dry_run, refused.is_empty(), untyped) {
            (true, true, _) => Ok(End::Done),
            (true, false, _) => Ok(End::NotMet),
            (false, false, _) => {
                refused.iter().for_each(|why| output::tell(why));
                Ok(End::Failed)
            }
            (false, true, Some(untyped)) if found.already.is_none() => Err(Usage::error(untyped)),
            (false, true, _) => Ok(End::Done),
        };
    }
    let what_for = format!("strata bind {function}");
    // From here on no Ctrl-C stops it in the middle.
    let _held = interrupt::hold();
    if stop.load(Ordering::SeqCst) {
        return Ok(End::Interrupted);
    }
    let bound = found.bind(kernel, &place, &args.serial, &what_for);
    bound.map_err(usage_or_not)?.keep();
    document.bound = true;
    let text = format!(
        "{text}Done. `strata unbind {function}` gives it back; so does `strata restore`.\n"
    );
    print(&args.printing, &document, &text)?;
    Ok(End::Done)
}

pub(crate) fn unbind(args: &UnbindArgs) -> Result<End> {
    let stop = interrupt::watch().context("cannot watch for Ctrl-C")?;
    let function = function(&args.drive)?;
    let _held = interrupt::hold();
    if stop.load(Ordering::SeqCst) {
        return Ok(End::Interrupted);
    }
    let unbound = binding::unbind(Live::default(), &Journal::place(), &by_vfio, function);
    let now = Binding::of(&Root::live(), function).ok();
    let mut document = UnbindDocument {
        schema: strata_record::SCHEMA,
        function,
        driver: now.and_then(|now| now.driver),
        done: true,
        refusals: Vec::new(),
        entries: Vec::new(),
    };
    let text = match unbound {
        Ok(Unbound::Undone(told)) => {
            let told = tell(&args.printing, told);
            document.done = told.done;
            document.entries = told.entries;
            print(&args.printing, &document, &told.text)?;
            return Ok(told.end);
        }
        Ok(Unbound::Already(driver)) => format!("{function} is with {driver} already\n"),
        Ok(Unbound::Given(driver)) => format!(
            "{function} is with {driver} now; `strata restore` gives it to whoever had it before\n"
        ),
        Err(BindError::Refused(refusals)) => {
            document.done = false;
            document.refusals = refusals.iter().map(ToString::to_string).collect();
            print(&args.printing, &document, "")?;
            document.refusals.iter().for_each(|why| output::tell(why));
            return Ok(End::Failed);
        }
        Err(why) => return Err(usage_or_not(why)),
    };
    print(&args.printing, &document, &text)?;
    Ok(End::Done)
}

pub(crate) fn restore(args: &RestoreArgs) -> Result<End> {
    let stop = interrupt::watch().context("cannot watch for Ctrl-C")?;
    let mut kernel = Live::default();
    let journal =
        Journal::existing(&Journal::place(), &Root::live()).map_err(SettingsError::from)?;
    let _held = interrupt::hold();
    if stop.load(Ordering::SeqCst) {
        return Ok(End::Interrupted);
    }
    let told = journal
        .map(|journal| strata_settings::restore(&journal, &mut kernel, None, args.force))
        .transpose()
        .map_err(SettingsError::from)?;
    let told = tell(&args.printing, told.unwrap_or_default());
    let document = RestoreDocument {
        schema: strata_record::SCHEMA,
        done: told.done,
        entries: told.entries,
    };
    print(&args.printing, &document, &told.text)?;
    Ok(told.end)
}

fn print<T: Serialize>(printing: &Printing, document: &T, text: &str) -> Result<()> {
    if printing.json {
        output::json(document)
    } else if printing.quiet {
        Ok(())
    } else {
        output::text(text)
    }
}

fn document(plan: &Plan) -> BindDocument {
    let takes = plan.moves.iter().map(|of| Takes {
        function: of.function,
        before: of.before.clone(),
        drives: of
            .drives
            .iter()
            .map(|drive| Drive {
                function: drive.function,
                controller: drive.controller.clone(),
                model: drive.model.clone(),
                block_devices: drive.disks.clone(),
            })
            .collect(),
    });
    BindDocument {
        schema: strata_record::SCHEMA,
        function: plan.function,
        iommu_group: plan.group,
        bound: plan.already.is_some(),
        takes: takes.collect(),
        modules: plan.modules.clone(),
        refusals: plan.refusals.iter().map(ToString::to_string).collect(),
        unasked: plan.unasked.iter().map(ToString::to_string).collect(),
    }
}

/// What a plan means, for people.
fn text(plan: &Plan) -> String {
    let group = plan
        .group
        .map_or_else(String::new, |group| format!(", IOMMU group {group}"));
    let mut text = match plan.already {
        Some(Already::Ours) => format!(
            "{}{group}: with vfio-pci already, by strata\n",
            plan.function
        ),
        Some(Already::Theirs) => {
            format!(
                "{}{group}: with vfio-pci already, by somebody else\n",
                plan.function
            )
        }
        None => format!("{}{group}: to vfio-pci\n", plan.function),
    };
    for of in &plan.moves {
        text.push_str(&format!("  {} has {}\n", of.function, of.before));
        for drive in &of.drives {
            let disks = match &drive.disks[..] {
                [] => "no namespaces".to_owned(),
                disks => disks.join(", "),
            };
            text.push_str(&format!(
                "    the kernel loses {} ({}, {}): {disks}\n",
                drive.controller, drive.function, drive.model
            ));
        }
    }
    if !plan.modules.is_empty() {
        let modules: Vec<String> = plan.modules.iter().map(ToString::to_string).collect();
        text.push_str(&format!(
            "  modules loaded for it: {}\n",
            modules.join(", ")
        ));
    }
    for unasked in &plan.unasked {
        text.push_str(&format!("  {unasked}\n"));
    }
    text
}
