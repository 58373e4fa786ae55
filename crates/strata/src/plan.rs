//! `strata run PLAN.toml`: each table of the plan is read as its layer's command is.

use std::path::Path;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, FromArgMatches};
use strata_record::Layer;
use strata_runner::plan::{LONGEST, PlanFile, PlanPart, parse};

use crate::cli::{BlockArgs, Cli, RunArgs, TcpArgs};
use crate::host::Host;
use crate::session::{Ready, Session};
use crate::{End, Usage, block, tcp};

/// Rounds of a plan that names none: enough for a claim.
const ROUNDS: u32 = 8;

/// A table of the plan, checked.
enum Table {
    Block(Box<BlockArgs>, Vec<block::Shape>),
    Tcp(Box<TcpArgs>, Vec<tcp::Shape>),
}

pub(crate) fn run(path: &Path, args: &RunArgs) -> Result<End> {
    let plan = read(path)?;
    let tables = plan
        .parts
        .iter()
        .enumerate()
        .map(|(n, part)| {
            table(part).map_err(|e| {
                let layer = part.layer;
                Usage::error(format!(
                    "{}: [[{layer}]], table {}: {e:#}",
                    path.display(),
                    n + 1
                ))
            })
        })
        .collect::<Result<Vec<Table>>>()?;
    let host = Host::read()?;
    let mut keeping = args.keeping.clone();
    keeping.seed = keeping.seed.or(plan.seed);
    let session = Session::begin(&plan.name, keeping, args.printing.clone())?;
    let mut ready = Ready::default();
    for (n, table) in tables.iter().enumerate() {
        match table {
            Table::Block(args, shapes) => {
                let name = format!("target-{n}.dat");
                block::add(&mut ready, args, shapes, &host, &session, &name, false)?;
            }
            Table::Tcp(args, shapes) => {
                let wire = tcp::Wire::of(&mut ready, args)?;
                let cells = tcp::cells(&host, &wire, shapes, args)?;
                tcp::add(&mut ready, cells, &wire, shapes, &host, &session)?;
            }
        }
    }
    let rounds = args.repeats.or(plan.rounds).unwrap_or(ROUNDS);
    session.run(ready, rounds)
}

fn read(path: &Path) -> Result<PlanFile> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        // One byte more than a plan may have, so that a longer one is told from the longest.
        .and_then(|file| file.take(LONGEST as u64 + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read the plan {}", path.display()))?;
    parse(&text).map_err(|e| Usage::error(format!("{}: {e}", path.display())))
}

fn table(part: &PlanPart) -> Result<Table> {
    match part.layer {
        Layer::Block => {
            let args: BlockArgs = arguments("block", &part.options)?;
            let shapes = block::shapes(&args)?;
            Ok(Table::Block(Box::new(args), shapes))
        }
        Layer::Tcp => {
            let args: TcpArgs = arguments("tcp", &part.options)?;
            let shapes = tcp::shapes(&args)?;
            Ok(Table::Tcp(Box::new(args), shapes))
        }
    }
}

/// The options as the command of that name takes them.
fn arguments<A: Args + FromArgMatches>(name: &'static str, options: &[String]) -> Result<A> {
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
    told.join("; ")
}
