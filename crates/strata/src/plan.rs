//! `strata run PLAN.toml`: each table of the plan is read as its layer's command is.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use clap::{Args, CommandFactory, FromArgMatches};
use strata_record::{Cell, Layer};
use strata_runner::plan::{LONGEST, PlanError, PlanFile, PlanPart, parse};

use crate::cli::{BlockArgs, Cli, NvmeArgs, RdmaArgs, RunArgs, TcpArgs};
use crate::host::Host;
use crate::session::{Ready, Session};
use crate::{End, Usage, block, nvme, rdma, tcp};

/// Rounds of a plan that names none: enough for a claim.
const ROUNDS: u32 = 8;

/// A table of the plan, checked.
enum Table {
    Block(Box<BlockArgs>, Vec<block::Shape>),
    Nvme(Box<NvmeArgs>, Vec<nvme::Shape>),
    Tcp(Box<TcpArgs>, Vec<tcp::Shape>),
    Rdma(Box<RdmaArgs>, Vec<rdma::Shape>),
}

pub(crate) fn run(path: &Path, args: &RunArgs) -> Result<End> {
    let plan = read(path)?;
    let places = places(path, &plan);
    let mut tables = plan
        .parts
        .iter()
        .zip(&places)
        .map(|(part, place)| table(part).map_err(|e| Usage::error(format!("{place}: {e:#}"))))
        .collect::<Result<Vec<Table>>>()?;
    let host = Host::read()?;
    for (table, place) in tables.iter_mut().zip(&places) {
        if let Table::Nvme(args, _) = table {
            // Before a file of another table is filled for minutes.
            nvme::find(&host, args)
                .and_then(|()| nvme::placement(&host, args))
                .map_err(|e| Usage::error(format!("{place}: {e:#}")))?;
        }
    }
    let mut keeping = args.keeping.clone();
    keeping.seed = keeping.seed.or(plan.seed);
    let session = Session::begin(&plan.name, keeping, args.printing.clone())?;
    let mut ready = Ready::default();
    for (n, (table, place)) in tables.iter().zip(&places).enumerate() {
        let before = ready.cells.len();
        match table {
            Table::Block(args, shapes) => {
                let name = format!("target-{n}.dat");
                block::add(&mut ready, args, shapes, &host, &session, &name, false)
            }
            Table::Nvme(args, shapes) => nvme::add(&mut ready, args, shapes, &host, &session),
            Table::Tcp(args, shapes) => tcp::Wire::of(&mut ready, args).and_then(|wire| {
                let cells = tcp::cells(&host, &wire, shapes, args)?;
                tcp::add(&mut ready, cells, &wire, shapes, args, &host, &session)
            }),
            Table::Rdma(args, shapes) => rdma::wire(&mut ready.peers, args).and_then(|wire| {
                let cells = rdma::cells(&host, &wire, shapes, args)?;
                rdma::add(&mut ready, cells, &wire, &host)
            }),
        }
        .with_context(|| place.clone())?;
        apart(ready.cells.split_at(before)).map_err(|e| Usage::error(format!("{place}: {e:#}")))?;
    }
    let rounds = args.repeats.or(plan.rounds).unwrap_or(ROUNDS);
    session.run(ready, rounds)
}

/// Refuses cells that records could not tell from those of the tables before.
fn apart((before, new): (&[Cell], &[Cell])) -> Result<()> {
    let again = |cell: &&Cell| before.iter().any(|b| b.key() == cell.key());
    match new.iter().find(again) {
        None => Ok(()),
        Some(cell) => Err(anyhow!(
            "its cell {} is in a table before it too; name each cell once (files of one size on one file system are one target: give each a run of its own)",
            cell.key()
        )),
    }
}

/// What each table is called: its file, its layer, and its number among those of that layer.
fn places(path: &Path, plan: &PlanFile) -> Vec<String> {
    let (mut block, mut nvme, mut tcp, mut rdma) = (0, 0, 0, 0);
    let layers = plan.parts.iter().map(|part| part.layer);
    layers
        .map(|layer| {
            let number = match layer {
                Layer::Block => &mut block,
                Layer::Nvme => &mut nvme,
                Layer::Tcp => &mut tcp,
                Layer::Rdma => &mut rdma,
            };
            *number += 1;
            format!("{}: [[{layer}]] number {number}", path.display())
        })
        .collect()
}

fn read(path: &Path) -> Result<PlanFile> {
    use std::io::Read as _;
    let shown = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        // One byte more than a plan may have, so that a longer one is told from the longest.
        .and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| {
            anyhow!("cannot read the plan {shown}: {e}; name a plan file that you may read")
        })?;
    // A character that the limit has cut is no reason to call a plan that is too long no text.
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.as_bytes().len() > LONGEST => {
            return Err(Usage::error(format!("{shown}: {}", PlanError::TooLong)));
        }
        Err(e) => {
            return Err(Usage::error(format!(
                "{shown}: the plan is no text in UTF-8 (byte {}); name a TOML file",
                e.utf8_error().valid_up_to()
            )));
        }
    };
    parse(&text).map_err(|e| Usage::error(format!("{shown}: {e}")))
}

fn table(part: &PlanPart) -> Result<Table> {
    match part.layer {
        Layer::Block => {
            let args: BlockArgs = arguments("block", &part.options)?;
            let shapes = block::shapes(&args)?;
            Ok(Table::Block(Box::new(args), shapes))
        }
        Layer::Nvme => {
            let args: NvmeArgs = arguments("nvme", &part.options)?;
            let shapes = nvme::shapes(&args)?;
            Ok(Table::Nvme(Box::new(args), shapes))
        }
        Layer::Tcp => {
            let args: TcpArgs = arguments("tcp", &part.options)?;
            let shapes = tcp::shapes(&args)?;
            Ok(Table::Tcp(Box::new(args), shapes))
        }
        Layer::Rdma => {
            let args: RdmaArgs = arguments("rdma", &part.options)?;
            let shapes = rdma::shapes(&args)?;
            Ok(Table::Rdma(Box::new(args), shapes))
        }
    }
}

/// The options as the command of that name takes them.
pub(crate) fn arguments<A: Args + FromArgMatches>(
    name: &'static str,
    options: &[String],
) -> Result<A> {
    let help = Cli::command();
    let about = help
        .find_subcommand(name)
        .and_then(clap::Command::get_about);
    let command = A::augment_args(clap::Command::new(name).no_binary_name(true))
        .disable_help_flag(true)
        .about(about.cloned().unwrap_or_default());
    let matches = command
        .try_get_matches_from(options)
        .map_err(|e| Usage::error(first_line(&e)))?;
    Ok(A::from_arg_matches(&matches)?)
}

/// What is wrong, without the usage that clap adds for a command line.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let told: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:"))
        .map(|line| line.trim().trim_start_matches("error: "))
        .filter(|line| !line.is_empty())
        .collect();
    // clap ends the line above a list with a colon.
    told.join("; ").replace(":; ", ": ")
}
