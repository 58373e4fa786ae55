//! `scripts/virtual-node`: a shell in a virtual node, or one command in it.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use strata_virtual_node::{Guest, Image, NODES, description, lacking, shell};

/// A storage node in a QEMU guest, on any machine: NVMe drives, an IOMMU, two memory nodes, a wire.
#[derive(Parser)]
#[command(
    name = "virtual-node",
    after_help = "Examples:
  scripts/virtual-node                            a shell in a node with two memory nodes and two drives
  scripts/virtual-node shell mine.toml            in one of your own; the nodes that come along show how
  scripts/virtual-node run -- nvme list           one command, and its exit status
  scripts/virtual-node run wire -- strata topology

In it lie Debian 12's nvme-cli, fio, perftest, iproute2 and numactl, all modules of its kernel, and what --share
names. It is fetched once (some 140 MB) and kept in ~/.cache/strata, or where STRATA_NODE_CACHE says; another
mirror than this machine's is named by STRATA_DEBIAN_MIRROR. STRATA_NODE_ACCEL=tcg or kvm says how it runs."
)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// A shell; it ends with the shell
    Shell {
        /// A node that comes along, or a file that ends in .toml
        #[arg(default_value = "usual")]
        node: String,
        /// Folders that it sees, read only, at their own paths
        #[arg(long)]
        share: Vec<PathBuf>,
    },
    /// One command, whose output is printed when it ends
    Run {
        /// A node that comes along, or a file that ends in .toml
        #[arg(default_value = "usual")]
        node: String,
        /// Folders that it sees, read only, at their own paths
        #[arg(long)]
        share: Vec<PathBuf>,
        /// The most seconds that it may take
        #[arg(long, default_value_t = 600)]
        within: u64,
        /// The command, by a shell
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// The nodes that come along
    List,
    /// Only fetch what a node boots
    Fetch,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("virtual-node: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let what = cli.what.unwrap_or(What::Shell {
        node: "usual".to_owned(),
        share: Vec::new(),
    });
    if !matches!(what, What::List)
        && let Some(why) = lacking()
    {
        anyhow::bail!(why);
    }
    let image = || Image::ready(&mut |what| eprintln!("virtual-node: {what}"));
    let absolute = |paths: Vec<PathBuf>| -> Result<Vec<PathBuf>> {
        Ok(paths
            .iter()
            .map(std::fs::canonicalize)
            .collect::<std::io::Result<_>>()?)
    };
    match what {
        What::Shell { node, share } => {
            let status = shell(&image()?, &description(&node)?, &absolute(share)?)?;
            Ok(if status.success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        What::Run {
            node,
            share,
            within,
            command,
        } => {
            let mut guest = Guest::start(&image()?, &description(&node)?, &absolute(share)?)?;
            let ran = guest.run(&command.join(" "), Duration::from_secs(within))?;
            std::io::stdout().write_all(ran.output.as_bytes())?;
            Ok(u8::try_from(ran.status).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        What::List => {
            for (name, text) in NODES {
                println!("{name}\n");
                for line in text.lines() {
                    println!("    {line}");
                }
                println!();
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Fetch => {
            let image = image()?;
            println!("Linux {} in {}", image.release()?, image.root().display());
            Ok(ExitCode::SUCCESS)
        }
    }
}
