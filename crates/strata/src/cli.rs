//! The command line: what may be typed, before any of it is checked against the machine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use strata_block::BlockEngine;
use strata_nvme::NvmeEngine;
use strata_rdma::VerbsEngine;
use strata_record::{Connect, Direction, Op, TimedBy, Transport};
use strata_tcp::TcpEngine;
use strata_units::{Bytes, CpuId, CpuList, Nanos, NodeId, PciAddress, QueueDepth};

const EXAMPLES: &str = "\
Examples:
  strata run quick                      the whole machine in three minutes, with a report
  strata block --target /data/f --engine psync,io_uring --depth 1
  strata nvme --emulated --depth 1,32   our driver, polled, on a controller that is always at hand
  strata tcp --op reqrep --bs 64
  strata topology                       nodes, CPUs, drives and links
  strata rdma --peer storage2 --key-file K --op write,read --bs 64KiB --depth 16
  strata rdma list                      RDMA devices, and what is wrong with them
  strata bind 0000:81:00.0 --dry-run    what giving a drive to vfio-pci would mean
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
    /// Measure the kernel's storage path on a file or drive
    Block(BlockArgs),
    /// Measure NVMe queue pairs polled from user space
    Nvme(NvmeArgs),
    /// Measure TCP between two processes, of this machine or of two
    Tcp(TcpArgs),
    /// Measure RDMA verbs between two processes, of this machine or of two
    Rdma(RdmaArgs),
    /// Be the other side of `strata tcp --peer` and `strata rdma --peer`
    Serve(ServeArgs),
    /// Be an emulated NVMe controller, for `strata nvme --target` and other drivers
    Emu(EmuArgs),
    /// Give a drive of the kernel to vfio-pci, for drivers in user space
    Bind(BindArgs),
    /// Give a drive back to the kernel
    Unbind(UnbindArgs),
    /// Undo what ended or killed commands left changed of this host
    Restore(RestoreArgs),
    /// Check what verified writes left on a target
    Verify(VerifyArgs),
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

/// A plan that the command knows, or a file that holds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlanName {
    /// Kernel storage, polled NVMe on an emulated controller, and TCP, in ten rounds, under three minutes.
    Quick,
    /// Drives through the kernel and past it, TCP and RDMA to another node, in twelve rounds.
    Node,
    /// A plan file.
    File(PathBuf),
}

fn plan_name(text: &str) -> Result<PlanName, String> {
    match text {
        "quick" => Ok(PlanName::Quick),
        "node" => Ok(PlanName::Node),
        _ if text.ends_with(".toml") => Ok(PlanName::File(PathBuf::from(text))),
        _ => Err("expected quick, node, or a plan file that ends in .toml".to_owned()),
    }
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
  strata run node --drive PHLN1234 --peer 192.0.2.7 --key-file K
  strata run drive-a.toml
  strata run --resume results/before

node reads each drive through the kernel (io_uring and others) and past it (our driver, over VFIO), on the same blocks
from the same CPU, and measures TCP and, where both have it on that wire, RDMA to a --peer. The kernel loses a drive for a part of each round: it is refused while
anything uses it or stands on it, and goes back at the end, whatever that is; after a crash by `strata restore`.

A plan file has a name, rounds, and tables whose keys are the options of `strata block`,
`strata nvme`, `strata tcp` and `strata rdma`:
  name = \"drive-a\"
  rounds = 12
  [[block]]
  target = \"/data/strata.dat\"
  engine = [\"psync\", \"io_uring\"]
  depth = [1, 32]
  [[tcp]]
  op = \"reqrep\"
What this machine cannot run of a plan is recorded as skipped, with the reason.")]
pub(crate) struct RunArgs {
    /// quick, node, or a plan file (PLAN.toml)
    #[arg(required_unless_present = "resume", conflicts_with = "resume", value_parser = plan_name)]
    pub(crate) plan: Option<PlanName>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "seed", "target", "size", "repeats"])]
    pub(crate) resume: Option<PathBuf>,
    /// Of quick: the file to measure storage on; an absent one is made, filled and removed again
    /// [default: one in the run's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) target: Option<PathBuf>,
    /// Of quick: size of a file that is made [default: 1GiB]
    #[arg(long)]
    pub(crate) size: Option<Bytes>,
    /// Of node, and of --resume of one: the serial numbers of the drives that the kernel may lose meanwhile
    #[arg(long, value_name = "SERIAL", value_delimiter = ',')]
    pub(crate) drive: Vec<String>,
    /// Of node: another node, where `strata serve` runs
    #[arg(long, value_name = "HOST", conflicts_with = "resume")]
    pub(crate) peer: Option<String>,
    /// Of node with RDMA on the wire: as many TCP streams as it is held against besides one alone; auto finds how many saturate
    /// the wire [default: auto]
    #[arg(long, value_name = "N", requires = "peer", value_parser = streams)]
    pub(crate) streams: Option<Streams>,
    /// Of quick and node: length of each measured window [default: 1250ms]
    #[arg(long, value_name = "TIME", conflicts_with = "resume")]
    pub(crate) duration: Option<Nanos>,
    /// Of quick and node: time under load before each window opens [default: 300ms]
    #[arg(long, value_name = "TIME", conflicts_with = "resume")]
    pub(crate) ramp: Option<Nanos>,
    /// Rounds [default: those of the plan, 10 for quick, 12 for node]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeats: Option<u32>,
    /// Of node and --resume: the key of the run's peers
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Of --resume: the serial number of the drive that the run writes to, which destroys what it holds
    #[arg(long, value_name = "SERIAL", requires = "resume")]
    pub(crate) destroy: Option<String>,
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
    /// Start so many operations a second, of all threads together, whether or not those before have completed; times then
    /// run from the moment at which an operation was to start [default: as many as complete]
    #[arg(long, value_name = "OPS_PER_S", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) rate: Option<u64>,
    /// Let them arrive as of a Poisson process, rather than at equal distances
    #[arg(long, requires = "rate")]
    pub(crate) poisson: bool,
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

Drives are only read, unless --destroy tells the one that may be lost by its serial number (`strata topology` shows
it) and nothing is found on it: no mounts, partitions, holders, file systems, or other users.

Examples:
  strata block --target /data/strata.dat
  strata block --target /dev/nvme0n1 --engine libaio,io_uring,io_uring+iopoll --depth 1,32
  strata block --target /data/strata.dat --engine psync,io_uring --depth 1 --repeats 12
  strata block --target /data/strata.dat --op randrw:70 --bs 4KiB,64KiB --depth 32 --json"
)]
pub(crate) struct BlockArgs {
    /// psync, libaio, io_uring, io_uring_cmd; the last two with +registered, +iopoll, and +sqpoll or +taskrun
    #[arg(long, value_delimiter = ',', default_value = "io_uring")]
    pub(crate) engine: Vec<BlockEngine>,
    /// The file, block device, or NVMe namespace (/dev/ng0n1): an absent file is made and filled, an existing one is only
    /// read unless strata made it [default: a file in the run's folder, removed afterwards]
    #[arg(long, value_name = "PATH")]
    pub(crate) target: Option<PathBuf>,
    /// Size of a file that is made, or the part that is used of what exists [default: 1GiB, or all]
    #[arg(long)]
    pub(crate) size: Option<Bytes>,
    /// Where the part that is used begins, a multiple of --bs
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub(crate) offset: Bytes,
    /// Allow writes to a drive, and lose what it holds: its serial number, typed out (a loop device's is its file)
    #[arg(long, value_name = "SERIAL")]
    pub(crate) destroy: Option<String>,
    /// Write the region as SNIA's test specification asks before the first trial: twice over in sequence, then the first
    /// writing workload until its rate is steady
    #[arg(long)]
    pub(crate) precondition: bool,
    /// CPUs of the threads with which the kernel polls for io_uring+sqpoll, one a measuring thread
    #[arg(long, value_name = "LIST")]
    pub(crate) poll_cpus: Option<CpuList>,
    #[command(flatten)]
    pub(crate) load: StorageLoad,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

/// What is asked of a storage layer.
#[derive(Debug, Args)]
pub(crate) struct StorageLoad {
    /// randread, randwrite, randrw:PERCENT_READ, read, write
    #[arg(long, value_delimiter = ',', default_value = "randread")]
    pub(crate) op: Vec<Op>,
    /// Size of an operation, a multiple of 512 and of the target's block
    #[arg(
        long,
        value_name = "SIZE",
        value_delimiter = ',',
        default_value = "4KiB"
    )]
    pub(crate) bs: Vec<Bytes>,
    /// Operations in flight a thread, 1 to 4096 (4095 of native); with --rate the most that may be
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) depth: Vec<QueueDepth>,
    /// Visit each block once before any is visited again, in random operations
    #[arg(long)]
    pub(crate) random_map: bool,
    /// Check each read against what strata wrote: place, generation and checksum of every sector. Writes are kept in the
    /// run's ledger.bin, for `strata verify`
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Besides",
    after_help = "Several operations, sizes or depths, with commas between, make a cell of each combination.

The driver polls on --cpus; an emulated controller polls in a process of its own, on --peer-cpus.
It needs a CPU that no thread of --cpus has. Its figures show what the driver can do, and no drive:
they are marked emulated, and stand in no ratio with the kernel's path. It keeps its data in
memory, and loses it at the end. A model, in TOML, gives it latencies, limits and faults
(`strata emu --help`).

A drive, and what is behind a socket, is only read, unless --destroy names it by its serial number
and nothing is found on it: no partitions and no file systems.

Examples:
  strata nvme --emulated
  strata nvme --emulated --op randrw:70 --bs 4KiB,128KiB --depth 1,32 --verify
  strata nvme --emulated --no-data --depth 1,32,128     what the driver alone can do
  strata nvme --emulated drive.toml --depth 1           a controller with a model
  strata nvme --target 0000:81:00.0 --depth 1,32        a drive that is with vfio-pci
  strata nvme --target /run/emu --namespace 2           one behind the socket /run/emu/cntrl
  strata nvme list                                      the controllers of this machine"
)]
pub(crate) struct NvmeArgs {
    #[command(subcommand)]
    pub(crate) command: Option<NvmeCommand>,
    /// native (our own driver)
    #[arg(long, value_delimiter = ',', default_value = "native")]
    pub(crate) engine: Vec<NvmeEngine>,
    /// Measure an emulated controller, started for the run; with a file, as that models it
    #[arg(long, value_name = "MODEL", num_args = 0..=1, conflicts_with = "target")]
    pub(crate) emulated: Option<Option<PathBuf>>,
    /// A drive that is with vfio-pci (`strata bind`), by its PCI address or serial number; or the folder of a controller's
    /// vfio-user socket, such as `strata emu` serves
    #[arg(long, value_name = "DRIVE")]
    pub(crate) target: Option<NvmeAt>,
    /// Let the emulated controller only answer, and move no data: what the driver alone costs
    #[arg(long, requires = "emulated")]
    pub(crate) no_data: bool,
    /// The namespace
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) namespace: u32,
    /// The part of the namespace that is used; an emulated one's size [default: all; 256MiB of an emulated one without a model]
    #[arg(long)]
    pub(crate) size: Option<Bytes>,
    /// Where the part that is used begins, a multiple of --bs
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub(crate) offset: Bytes,
    /// Allow writes to a drive of --target, and lose what it holds: its serial number, typed out
    #[arg(long, value_name = "SERIAL", conflicts_with = "emulated")]
    pub(crate) destroy: Option<String>,
    /// Abort a command that takes longer, and reset the controller if that does not bring it back [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Nanos>,
    #[command(flatten)]
    pub(crate) load: StorageLoad,
    /// CPU of the emulated controller [default: chosen beside --cpus]
    #[arg(long, value_name = "CPU", conflicts_with = "target")]
    pub(crate) peer_cpus: Option<CpuList>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NvmeCommand {
    /// Show the NVMe controllers of this machine, who drives them, and who uses them
    List(NvmeListArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "A drive that is with vfio-pci tells what it is to its driver only: --open brings each one that
nobody holds up for a moment, and resets it with that. Without it no drive is touched.

Examples:
  strata nvme list
  strata nvme list --open
  strata nvme list --json"
)]
pub(crate) struct NvmeListArgs {
    /// Ask the drives that are with vfio-pci, and that nobody holds, what they are
    #[arg(long, conflicts_with = "root")]
    pub(crate) open: bool,
    /// Read a recorded tree (with sys and proc in it) instead of this machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The controller polls its queues on a core of its own while it has a client, and serves one at a
time over the vfio-user protocol at FOLDER/cntrl. The folder is made with mode 0700 if it is absent;
one that others may enter is refused. Data is lost with the process, unless a namespace is a file.
Ctrl-C ends it, with exit code 0.

Examples:
  strata emu /run/emu --cpu 3
  strata emu /run/emu --model drive.toml
  spdk_nvme_perf --no-huge -s 512 -c 0x2 -q 32 -o 4096 -w randread -t 5 \\
    -r 'trtype:VFIOUSER traddr:/run/emu subnqn:nqn.2014-08.org.nvmexpress:any'   SPDK as the client

A model. Every key may be left out, but the fault of a rule:
  serial = \"NODE7-0\"
  queues = 8                # I/O queue pairs, a thread needs one
  [[namespace]]             # a second such table is namespace 2
  size = \"64GiB\"
  block = 4096              # or 512
  memory = \"ordinary\"     # \"huge\", or { file = \"/data/namespace\" } of that size
  [performance]
  iops = 500000
  bytes_per_s = \"6GiB\"
  [performance.read]        # write, flush, other
  latency = \"80us\"
  [performance.slc]         # writes are slower once it is full
  bytes = \"32GiB\"
  bytes_per_s = \"600MiB\"
  [[faults.rule]]
  fault = \"status\"        # lost, late, twice, wrong-phase, corrupt, fatal, removed
  status = \"Unrecovered Read Error\"
  rate = 0.0001"
)]
pub(crate) struct EmuArgs {
    /// The folder of the socket
    pub(crate) folder: PathBuf,
    /// What the controller is: namespaces, latencies, limits, faults (TOML) [default: one of 1GiB that completes at once]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Only answer, and move no data
    #[arg(long)]
    pub(crate) no_data: bool,
    /// Size of the first namespace
    #[arg(long)]
    pub(crate) size: Option<Bytes>,
    /// The CPU that it polls on [default: any]
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<CpuId>,
    /// End with whoever holds our standard input
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// Print only errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Several engines, operations, sizes, depths or directions, with commas between, make a cell of each combination.

Without --peer the other side is a second process of this machine, over loopback. With it, `strata serve` runs there.

Examples:
  strata tcp --op reqrep --bs 64 --engine tcp,tcp+spin
  strata tcp --op stream --bs 128KiB --duration 5s --cpus 2 --peer-cpus 4
  strata tcp --peer storage2 --key-file ~/.strata.key --op stream --direction send,receive,both --streams auto
  strata tcp --op reqrep --bs 64,4KiB --depth 1,16 --json"
)]
pub(crate) struct TcpArgs {
    /// The other side: HOST, HOST:PORT, or an IPv6 address in brackets with :PORT, where `strata serve` runs [default: this machine]
    #[arg(long, value_name = "HOST")]
    pub(crate) peer: Option<String>,
    /// The key that both sides hold: a file of 32 bytes or more that nobody else may read; needed off this machine
    #[arg(long, value_name = "FILE", requires = "peer")]
    pub(crate) key_file: Option<PathBuf>,
    /// tcp (blocking), tcp+spin, tcp+zerocopy, tcp+spin+zerocopy
    #[arg(long, value_delimiter = ',', default_value = "tcp")]
    pub(crate) engine: Vec<TcpEngine>,
    /// reqrep, stream
    #[arg(long, value_delimiter = ',', default_value = "reqrep")]
    pub(crate) op: Vec<Op>,
    /// Size of a message, 1 to 16MiB [default: 64B for reqrep, 128KiB for stream]
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub(crate) bs: Vec<Bytes>,
    /// Size of a reply [default: that of its request]
    #[arg(long, value_name = "SIZE")]
    pub(crate) reply_bs: Option<Bytes>,
    /// Requests in flight a connection
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) depth: Vec<QueueDepth>,
    /// Which way a stream's bytes go: send, receive, or both at once [default: send]
    #[arg(long, value_name = "WAY", value_delimiter = ',', value_parser = direction)]
    pub(crate) direction: Vec<Direction>,
    /// Connections a thread (and direction); auto finds how many threads and connections saturate
    /// the path, on CPUs of --cpus and --peer-cpus where those are given
    #[arg(long, value_name = "N", default_value = "1", value_parser = streams)]
    pub(crate) streams: Streams,
    /// Gather small messages (Nagle's algorithm) rather than send them at once [default for stream]
    #[arg(long, conflicts_with = "nodelay")]
    pub(crate) nagle: bool,
    /// Send each message at once (TCP_NODELAY) [default for reqrep]
    #[arg(long)]
    pub(crate) nodelay: bool,
    /// Send buffer of each socket (SO_SNDBUF) [default: the kernel's]
    #[arg(long, value_name = "SIZE")]
    pub(crate) sndbuf: Option<Bytes>,
    /// Receive buffer of each socket (SO_RCVBUF) [default: the kernel's]
    #[arg(long, value_name = "SIZE")]
    pub(crate) rcvbuf: Option<Bytes>,
    /// Congestion control, such as cubic or bbr [default: the kernel's]
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Let the kernel poll the device for so long before it sleeps (SO_BUSY_POLL)
    #[arg(long, value_name = "TIME")]
    pub(crate) busy_poll: Option<Nanos>,
    /// The interface that the sockets are bound to (SO_BINDTODEVICE)
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// Over ::1 rather than 127.0.0.1, where the other side is of this machine
    #[arg(long, conflicts_with = "peer")]
    pub(crate) ipv6: bool,
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
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Besides",
    after_help = "Several engines, operations, sizes, depths or directions, with commas between, make a cell of each
combination; a size may be a range, 1..64KiB, of which each power of two is taken.

Without --peer the other side is a second process of this machine, over the same port. With it,
`strata serve` runs there. Ports, and the GIDs that the network would choose, are found by the
address at which the peer is reached.

Latencies are of whole round trips, also those of a ping-pong (perftest's ib_write_lat and
ib_send_lat tell half of one). A read's and an atomic's is until its answer is there, a write's or
send's until the other side's device has acknowledged it: its bytes are then neither visible to its
CPUs nor persistent for sure. Over uc and ud the receiver counts.

Keys and addresses of memory are told over the control channel, which authenticates, to the peer
alone, and are void after the trial. The data plane itself asks for nothing but such a key, and is
not encrypted: trust the fabric.

Examples:
  strata rdma list                                          devices, ports, GIDs, and what is wrong
  strata rdma --op write-pingpong --bs 8
  strata rdma --peer storage2 --key-file K --op write,read --bs 64KiB --depth 16
  strata rdma --peer storage2 --key-file K --op write --bs 1..8MiB --depth 64 --direction both
  strata rdma --peer storage2 --key-file K --op send --transport ud --bs 64 --depth 128
  strata rdma --peer storage2 --key-file K --device mlx5_0,mlx5_1 --threads 2 --bs 1MiB --depth 8
  strata rdma --op fetch-add --qps 4 --depth 8 --engine verbs,verbs-ex"
)]
pub(crate) struct RdmaArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RdmaCommand>,
    /// The other side: HOST, HOST:PORT, or an IPv6 address in brackets with :PORT, where `strata serve` runs [default: this machine]
    #[arg(long, value_name = "HOST")]
    pub(crate) peer: Option<String>,
    /// The key that both sides hold: a file of 32 bytes or more that nobody else may read; needed off this machine
    #[arg(long, value_name = "FILE", requires = "peer")]
    pub(crate) key_file: Option<PathBuf>,
    /// verbs, verbs-ex (ibv_wr_post and ibv_start_poll); with +events threads sleep until a completion is told of
    #[arg(long, value_delimiter = ',', default_value = "verbs")]
    pub(crate) engine: Vec<VerbsEngine>,
    /// write, write-imm, read, send, fetch-add; write-pingpong, write-imm-pingpong, send-pingpong
    #[arg(long, value_delimiter = ',', default_value = "write")]
    pub(crate) op: Vec<Op>,
    /// Size of a message, 1 to 1GiB, or a range FIRST..LAST [default: 64KiB; 64B for a ping-pong, 8B for fetch-add]
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub(crate) bs: Vec<Sizes>,
    /// Operations in flight a queue pair
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) depth: Vec<QueueDepth>,
    /// Queue pairs a thread (and direction)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) qps: u16,
    /// rc, uc, ud
    #[arg(long, value_name = "SERVICE", default_value = "rc")]
    pub(crate) transport: Transport,
    /// Who begins operations: this side (send), the other (receive), or both at once [default: send]
    #[arg(long, value_name = "WAY", value_delimiter = ',', value_parser = direction)]
    pub(crate) direction: Vec<Direction>,
    /// The ports here, such as mlx5_0 or mlx5_0/2; several are rails, taken by the threads in turn [default: that of the peer's route]
    #[arg(long, value_name = "DEVICE", value_delimiter = ',')]
    pub(crate) device: Vec<PortName>,
    /// The ports there, one each [default: that of the address which the peer is reached at]
    #[arg(long, value_name = "DEVICE", value_delimiter = ',')]
    pub(crate) peer_device: Vec<PortName>,
    /// Index of the GID here [default: the one that the network would choose]
    #[arg(long, value_name = "N")]
    pub(crate) gid_index: Option<u8>,
    /// Index of the GID there
    #[arg(long, value_name = "N")]
    pub(crate) peer_gid_index: Option<u8>,
    /// How queue pairs come to know each other: control (over the control channel) or cm (rdma_cm)
    #[arg(long, value_name = "HOW", default_value = "control")]
    pub(crate) connect: Connect,
    /// Payload of a packet: 256, 512, 1KiB, 2KiB, 4KiB [default: the ports' largest]
    #[arg(long, value_name = "SIZE")]
    pub(crate) mtu: Option<Bytes>,
    /// Copy messages of up to so many bytes into their requests [default: 64B for a ping-pong, else none]
    #[arg(long, value_name = "SIZE")]
    pub(crate) inline: Option<Bytes>,
    /// Gather so many requests behind one doorbell
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) batch: u16,
    /// Let one of so many requests have a completion; there are no latencies then
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) signal_every: u16,
    /// Let devices write memory in another order than bytes came (PCI Express's relaxed ordering)
    #[arg(long)]
    pub(crate) relaxed_ordering: bool,
    /// RDMA reads and atomics that a queue pair has outstanding [default: the devices' most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) reads: Option<u8>,
    /// Index of the partition's key (P_Key)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) pkey_index: u16,
    /// Service level, 0 to 15
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=15))]
    pub(crate) service_level: u8,
    /// Traffic class of packets with a GID; of RoCE v2 that is the IP header's
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) traffic_class: u8,
    /// An acknowledgement is awaited for 4.096 µs × 2^N, 1 to 31
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u8).range(1..=31))]
    pub(crate) qp_timeout: u8,
    /// How often a packet is sent again, 0 to 7
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) retries: u8,
    /// How often a receiver that is not ready is tried again, 0 to 7; 7 is forever
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) rnr_retries: u8,
    /// Check every byte that arrives; nothing has a latency then, which would time the making and checking too
    #[arg(long)]
    pub(crate) verify: bool,
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

/// A size, or each power of two of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    first: Bytes,
    last: Bytes,
}

impl Sizes {
    /// Each of them.
    pub(crate) fn each(self) -> impl Iterator<Item = Bytes> {
        std::iter::successors(Some(self.first), move |size| {
            let next = Bytes((size.0 + 1).checked_next_power_of_two()?);
            (next <= self.last).then_some(next)
        })
    }
}

impl std::str::FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let size = |text: &str| text.parse::<Bytes>().map_err(|e| e.to_string());
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (size(first)?, size(last)?),
            None => (size(text)?, size(text)?),
        };
        if first > last {
            return Err("expected the smaller size first, such as 1..64KiB".to_owned());
        }
        Ok(Sizes { first, last })
    }
}

/// A port of an RDMA device as it is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortName {
    pub(crate) device: String,
    pub(crate) port: u8,
}

impl std::str::FromStr for PortName {
    type Err = String;

    /// `mlx5_0`, `mlx5_0/2`, or as others write it `mlx5_0:2`.
    fn from_str(text: &str) -> Result<PortName, String> {
        let (device, port) = text.split_once(['/', ':']).unwrap_or((text, "1"));
        match port.parse() {
            Ok(port) if port > 0 && !device.is_empty() => Ok(PortName {
                device: device.to_owned(),
                port,
            }),
            _ => Err("expected DEVICE or DEVICE/PORT, such as mlx5_0/1".to_owned()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RdmaCommand {
    /// Show the RDMA devices and ports of this machine, their GIDs, and what is wrong with them
    List(RdmaListArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "A star marks the GID of each port that the network would choose: RoCE v2 with the IPv4 address
of the port's own interface, where there is one. What is wrong stands at the end, each with its
remedy; the exit code is 0 all the same. Libraries, device files and addresses of IPoIB are looked
at on this machine only, not in a recorded tree.

Examples:
  strata rdma list
  strata rdma list --json
  strata rdma list --root /tmp/recorded-tree"
)]
pub(crate) struct RdmaListArgs {
    /// Read a recorded tree (with sys and proc in it) instead of this machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "All that the kernel would lose is named, and nothing is done until the serial number of each of these drives
was typed out. A drive that is in use or carries anything is refused: mounts, partitions, holders, swap,
exports, open descriptors, reservations, file systems, blobstores. What is changed is written to the
journal first, in /run/strata (or where STRATA_JOURNAL says), and stays until unbind or restore.

Examples:
  strata bind 0000:81:00.0 --dry-run
  strata bind 0000:81:00.0 --serial S4EVNX0R123456
  strata bind 0000:81:00.0 --whole-group --serial S4EVNX0R123456,S4EVNX0R123457

Exit code 3 when a --dry-run finds something against it."
)]
pub(crate) struct BindArgs {
    /// The drive, or Volume Management Device: its PCI address, or the drive's serial number
    #[arg(value_name = "BDF", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) drive: String,
    /// The serial numbers of all drives that the kernel loses by it, typed out
    #[arg(long, value_name = "SERIAL", value_delimiter = ',')]
    pub(crate) serial: Vec<String>,
    /// Take other drives of the same IOMMU group along, when none of them is in use
    #[arg(long)]
    pub(crate) whole_group: bool,
    /// Only tell what it means and what stands against it
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What strata bound is undone by the journal. What somebody else gave to vfio-pci is refused while a
process has it open, and when it carries anything, such as a blobstore.

Examples:
  strata unbind 0000:81:00.0
  strata unbind S4EVNX0R123456"
)]
pub(crate) struct UnbindArgs {
    /// The drive, or Volume Management Device: its PCI address, or the drive's serial number
    #[arg(value_name = "BDF", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) drive: String,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The journal is in /run/strata, or where STRATA_JOURNAL says. From whatever step a command was killed
at, what is there is compared with what was before, and what is missing is done. What a running command
changed, and what somebody else changed since, is told and left, unless forced; a drive that is in use
is left all the same.

Examples:
  strata restore
  strata restore --force

Exit code 3 when something was left."
)]
pub(crate) struct RestoreArgs {
    /// Undo what running commands changed too, put back what others changed since, and remove entries that cannot be read
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A ledger outlives the writer, however it ended: every block must hold a write between the last that
was acknowledged and the last that was begun, whole.

Examples:
  strata verify --target /data/strata.dat
  strata verify --target /data/strata.dat --ledger results/RUN/ledger.bin
  strata verify --target /run/emu --namespace 2 --ledger results/RUN/ledger.bin

Exit code 3 when a sector is wrong."
)]
pub(crate) struct VerifyArgs {
    /// The file or drive that was written, the PCI address of one that is with vfio-pci, or the folder of a controller's
    /// vfio-user socket, such as `strata emu` serves
    #[arg(long, value_name = "PATH")]
    pub(crate) target: PathBuf,
    /// The namespace, where it is a controller [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) namespace: Option<u32>,
    /// The ledger of the run that wrote it: its region and generations are checked too
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
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

#[derive(Debug, Args)]
#[command(
    after_help = "One client at a time has the cores; a second is told so. Without a key only this machine is served.

Examples:
  strata serve
  head -c 32 /dev/urandom > strata.key && chmod 600 strata.key      (and the same file on the other machine)
  strata serve --listen 0.0.0.0 --key-file strata.key --cpus 2-5 --data-ports 7472-7535

Ctrl-C ends it."
)]
pub(crate) struct ServeArgs {
    /// Addresses to listen on, HOST or HOST:PORT [default: 127.0.0.1:7471]
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "127.0.0.1"
    )]
    pub(crate) listen: Vec<String>,
    /// The key that clients must hold: a file of 32 bytes or more that nobody else may read
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// CPUs that clients may have [default: all that this process may use]
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<CpuList>,
    /// Ports for the data, FIRST-LAST, for firewalls [default: any that are free]
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    pub(crate) data_ports: Option<(u16, u16)>,
    /// Tell only errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// How many connections a thread has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// So many.
    Number(u16),
    /// As many as saturate the path.
    Auto,
}

fn streams(text: &str) -> Result<Streams, String> {
    if text == "auto" {
        return Ok(Streams::Auto);
    }
    text.parse()
        .ok()
        .filter(|n| (1..=1024).contains(n))
        .map(Streams::Number)
        .ok_or_else(|| "expected 1 to 1024, or auto".to_owned())
}

/// Where a controller is that is there without us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NvmeAt {
    /// Behind a vfio-user socket in this folder.
    Folder(PathBuf),
    /// A PCI function.
    Function(PciAddress),
    /// The PCI function of the drive with this serial number.
    Serial(String),
}

impl std::str::FromStr for NvmeAt {
    type Err = String;

    fn from_str(text: &str) -> Result<NvmeAt, String> {
        if let Ok(at) = text.parse() {
            return Ok(NvmeAt::Function(at));
        }
        if text.trim().is_empty() {
            return Err("expected a PCI address, a serial number, or a folder".to_owned());
        }
        // A folder of this one's may be named without a slash.
        if text.contains('/') || text.starts_with('.') || PathBuf::from(text).is_dir() {
            return Ok(NvmeAt::Folder(PathBuf::from(text)));
        }
        Ok(NvmeAt::Serial(text.to_owned()))
    }
}

fn direction(text: &str) -> Result<Direction, String> {
    [Direction::Send, Direction::Receive, Direction::Both]
        .into_iter()
        .find(|d| d.to_string() == text)
        .ok_or_else(|| "expected send, receive or both".to_owned())
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let expected = || "expected FIRST-LAST, such as 7472-7535".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(expected)?;
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok((first, last)),
        _ => Err(expected()),
    }
}

fn timed_by(text: &str) -> Result<TimedBy, String> {
    match text {
        "operation" => Ok(TimedBy::Operation),
        "batch" => Ok(TimedBy::Batch),
        _ => Err("expected operation or batch".to_owned()),
    }
}
