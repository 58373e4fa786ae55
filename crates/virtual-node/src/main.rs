//! `scripts/virtual-node`: a shell in a virtual node, or one command in it.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use strata_virtual_node::{Guest, Image, NODES, Seen, Share, description, lacking, shell};

/// A storage node in a QEMU guest, on any machine: NVMe drives, an IOMMU, two memory nodes, a wire.
#[derive(Parser)]
#[command(
    name = "scripts/virtual-node",
    after_help = "Examples:
  scripts/virtual-node                            a shell in a node with two memory nodes and two drives
  scripts/virtual-node shell mine.toml            in one of your own; `list` shows those that come along
  scripts/virtual-node run -- nvme list           one command, and its exit status
  scripts/virtual-node run -- strata topology

In it lie strata, as the working tree has it, Debian 12's nvme-cli, fio, perftest, iproute2 and numactl, and all
modules of its kernel. These are fetched once (some 140 MB) and kept in ~/.cache/strata, or where STRATA_NODE_CACHE
says; another mirror than this machine's is named by STRATA_DEBIAN_MIRROR. STRATA_NODE_ACCEL=tcg or kvm says how it
runs; else the host's processor does where it can. What is written there is gone with it, but what lies in --keep."
)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    sees: Sees,
}

/// What a guest sees of this machine.
#[derive(Args)]
struct Sees {
    /// A program that it has in its PATH
    #[arg(long, value_name = "FILE", global = true)]
    with: Vec<PathBuf>,
    /// A folder that it sees, read only, at its own path
    #[arg(long, value_name = "DIR", global = true)]
    share: Vec<PathBuf>,
    /// A folder that it may write to, at its own path; made if absent
    #[arg(long, value_name = "DIR", global = true)]
    keep: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// A shell; the node ends with it
    Shell {
        /// A node that comes along, or a file that ends in .toml
        #[arg(default_value = "usual")]
        node: String,
    },
    /// One command, whose output is printed when it ends
    Run {
        /// A node that comes along, or a file that ends in .toml
        #[arg(default_value = "usual")]
        node: String,
        /// What the guest at the other end of the wire does meanwhile
        #[arg(long, value_name = "COMMAND")]
        peer: Option<String>,
        /// The most seconds that it may take
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
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
    });
    if !matches!(what, What::List)
        && let Some(why) = lacking()
    {
        anyhow::bail!(why);
    }
    let mut say = |what: &str| eprintln!("virtual-node: {what}");
    let image = || Image::ready(&mut say.clone());
    match what {
        What::Shell { node } => {
            let seen = cli.sees.seen()?;
            let status = shell(&image()?, &description(&node)?, &seen, &mut say)?;
            Ok(if status.success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        What::Run {
            node,
            peer,
            within,
            command,
        } => {
            let mut guest = Guest::start(&image()?, &description(&node)?, &cli.sees.seen()?)?;
            say(&format!("the virtual node runs {}", guest.runs()));
            if let Some(peer) = peer {
                guest.begin_on_peer(&peer)?;
            }
            let ran = guest.run(&command.join(" "), Duration::from_secs(within))?;
            std::io::stdout().write_all(ran.output.as_bytes())?;
            Ok(u8::try_from(ran.status).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        What::List => {
            let mut all = String::new();
            for (name, text) in NODES {
                let lines = text.lines().map(|line| format!("    {line}\n"));
                all += &format!("{name}\n\n{}\n", lines.collect::<String>());
            }
            match std::io::stdout().write_all(all.as_bytes()) {
                // Whoever reads it has read enough (`| head`).
                Err(why) if why.kind() == ErrorKind::BrokenPipe => {}
                told => told?,
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

impl Sees {
    fn seen(&self) -> Result<Seen> {
        let mut folders = Vec::new();
        for path in &self.keep {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
            folders.push(Share {
                path: absolute(path)?,
                writable: true,
            });
        }
        for path in &self.share {
            folders.push(Share::read_only(absolute(path)?));
        }
        let programs = self.with.iter().map(|path| absolute(path));
        Ok(Seen {
            folders,
            programs: programs.collect::<Result<_>>()?,
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| path.display().to_string())
}
