//! The command line: what may be typed, before any of it is checked against the machine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use strata_block::BlockEngine;
use strata_record::{Op, TimedBy};
use strata_units::{Bytes, CpuList, Nanos, NodeId, QueueDepth};

const EXAMPLES: &str = "\
Examples:
  strata run quick                      the whole machine in two minutes, with a report
  strata block --target /data/f --engine psync,io_uring --depth 1
  strata tcp --op reqrep --bs 64
  strata topology                       nodes, CPUs, drives and links
  strata report results/RUN             renders a run's report again

Exit codes: 0 done, 1 failed, 2 usage, 3 a check or threshold not met, 130 interrupted (what was measured is kept).";

/// Measures an HPC storage node layer by layer, so that a gain can be laid to the layer that gave it.
#[derive(Debug, Parser)]
#[command(name = "strata", version = crate::built::VERSION, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure a whole plan, or go on with a run that was stopped
    Run(RunArgs),
    /// Measure the kernel's storage path on a file
    Block(BlockArgs),
    /// Measure TCP between two processes of this machine
    Tcp(TcpArgs),
    /// Show nodes, CPUs, drives, adapters and what this process may use
    Topology(TopologyArgs),
    /// Render the report of a run again
    Report(ReportArgs),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  strata completions bash > /etc/bash_completion.d/strata")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(after_help = "Example:\n  strata man /usr/local/share/man/man1")]
    Man {
        /// The folder that they are written to
        folder: PathBuf,
    },
    /// The other side of a trial; started by strata itself
    #[command(hide = true)]
    Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanName {
    /// Kernel storage and TCP in ten rounds, under three minutes
    Quick,
}

/// What every measuring command prints.
#[derive(Debug, Clone, Args)]
pub(crate) struct Printing {
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
    /// Print neither progress nor results, only errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Where a run is kept, and how it is repeated.
#[derive(Debug, Clone, Args)]
pub(crate) struct Keeping {
    /// The run's folder, made if absent [default: a new one under results/]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Seed of the order of trials and of their operations [default: a new one, kept in the record]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata run quick
  strata run quick --target /mnt/nvme/strata.dat --output results/before
  strata run --resume results/before")]
pub(crate) struct RunArgs {
    /// The plan
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) plan: Option<PlanName>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "seed", "target", "size", "repeats"])]
    pub(crate) resume: Option<PathBuf>,
    /// The file to measure storage on; an absent one is made, filled and removed again [default: one in the run's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) target: Option<PathBuf>,
    /// Size of a file that is made
    #[arg(long, default_value = "1GiB")]
    pub(crate) size: Bytes,
    /// Rounds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeats: u32,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

/// Window, placement and repeats, common to the layers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Measuring {
    /// Length of the measured window [default: 2s]
    #[arg(long, value_name = "TIME", conflicts_with = "ops")]
    pub(crate) duration: Option<Nanos>,
    /// Close the window after so many operations a thread, instead of after a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ops: Option<u64>,
    /// Time under load before the window opens
    #[arg(long, value_name = "TIME", default_value = "300ms")]
    pub(crate) ramp: Nanos,
    /// Measuring threads, each on a CPU of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// CPUs of the measuring threads, such as 2,4-6 [default: chosen near the target]
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<CpuList>,
    /// Node of the buffers [default: that of the CPUs]
    #[arg(long, value_name = "NODE")]
    pub(crate) mem_node: Option<NodeId>,
    /// One clock reading an operation, or one a reaped batch (its error is recorded)
    #[arg(long, value_name = "WHAT", default_value = "operation", value_parser = timed_by)]
    pub(crate) timed_by: TimedBy,
    /// Rounds; intervals need 6, claims 8
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeats: u32,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Several engines, operations, sizes or depths, with commas between, make a cell of each combination.

Examples:
  strata block --target /data/strata.dat
  strata block --target /data/strata.dat --engine psync,io_uring --depth 1 --repeats 12
  strata block --target /data/strata.dat --op randrw:70 --bs 4KiB,64KiB --depth 32 --json"
)]
pub(crate) struct BlockArgs {
    /// psync, libaio, io_uring, io_uring_cmd; the last two with +registered, +iopoll, and +sqpoll or +taskrun
    #[arg(long, value_delimiter = ',', default_value = "io_uring")]
    pub(crate) engine: Vec<BlockEngine>,
    /// The file: an absent one is made and filled, an existing one is only read unless strata made it
    /// [default: one in the run's folder, removed afterwards]
    #[arg(long, value_name = "FILE")]
    pub(crate) target: Option<PathBuf>,
    /// Size of a file that is made, or the part that is used of one that exists [default: 1GiB, or the whole file]
    #[arg(long)]
    pub(crate) size: Option<Bytes>,
    /// randread, randwrite, randrw:PERCENT_READ, read, write
    #[arg(long, value_delimiter = ',', default_value = "randread")]
    pub(crate) op: Vec<Op>,
    /// Size of an operation, a multiple of 512
    #[arg(
        long,
        value_name = "SIZE",
        value_delimiter = ',',
        default_value = "4KiB"
    )]
    pub(crate) bs: Vec<Bytes>,
    /// Operations in flight a thread, 1 to 4096
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) depth: Vec<QueueDepth>,
    /// Check each read against what strata wrote
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Several operations, sizes or depths, with commas between, make a cell of each combination.

Examples:
  strata tcp --op reqrep --bs 64
  strata tcp --op stream --bs 128KiB --duration 5s --cpus 2 --peer-cpus 4
  strata tcp --op reqrep --bs 64,4KiB --depth 1,16 --json"
)]
pub(crate) struct TcpArgs {
    /// reqrep, stream
    #[arg(long, value_delimiter = ',', default_value = "reqrep")]
    pub(crate) op: Vec<Op>,
    /// Size of a message, 1 to 16MiB [default: 64B for reqrep, 128KiB for stream]
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub(crate) bs: Vec<Bytes>,
    /// Requests in flight a connection
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) depth: Vec<QueueDepth>,
    /// CPUs of the other side's threads [default: chosen beside --cpus]
    #[arg(long, value_name = "LIST")]
    pub(crate) peer_cpus: Option<CpuList>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata topology\n  strata topology --json\n  strata topology --root /tmp/recorded-tree"
)]
pub(crate) struct TopologyArgs {
    /// Read a recorded tree (with sys and proc in it) instead of this machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  strata report results/20260102T030405Z-quick")]
pub(crate) struct ReportArgs {
    /// The run's folder
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

fn timed_by(text: &str) -> Result<TimedBy, String> {
    match text {
        "operation" => Ok(TimedBy::Operation),
        "batch" => Ok(TimedBy::Batch),
        _ => Err("expected operation or batch".to_owned()),
    }
}
