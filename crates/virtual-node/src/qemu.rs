//! The command line of the machine that a description asks for.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::description::{Description, Drive, port};
use crate::image::Image;

/// How the guest's instructions are executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// By the host's processor.
    Kvm,
    /// By translation: slower by tens, and on any machine. With the reason why not by the processor.
    Tcg(String),
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accelerator::Kvm => f.write_str("by KVM"),
            Accelerator::Tcg(why) => write!(f, "by translation: {why}"),
        }
    }
}

/// The host's end of the wire between two guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WireEnd {
    /// Makes the socket.
    Serves(PathBuf),
    /// Comes to it.
    Comes(PathBuf),
}

/// A folder of the host that the guest sees at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The folder.
    pub path: PathBuf,
    /// Whether the guest may write to it.
    pub writable: bool,
}

impl Share {
    /// A folder that is only read.
    pub fn read_only(path: PathBuf) -> Share {
        Share {
            path,
            writable: false,
        }
    }
}

/// What is given to one guest.
pub(crate) struct Machine<'a> {
    pub(crate) image: &'a Image,
    pub(crate) description: &'a Description,
    /// The guest's own folder: its /strata is `share` within, its drives and sockets lie beside that.
    pub(crate) folder: &'a Path,
    pub(crate) shares: &'a [Share],
    pub(crate) accelerator: &'a Accelerator,
    pub(crate) wire: Option<WireEnd>,
    /// Whether its console is the terminal, rather than a pipe.
    pub(crate) on_terminal: bool,
}

/// The program; where it cannot be found there is no virtual node.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

impl Machine<'_> {
    /// Makes the drives' files, and says what to start.
    ///
    /// # Errors
    /// There is no room for a drive, or the node is one that this cannot make.
    pub(crate) fn command(&self) -> Result<Command> {
        // QEMU ends with the thread that starts it, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", QEMU]);
        let mut add = |name: &str, value: String| {
            command.arg(name).arg(value);
        };
        let iommu = self.description.iommu;
        add("-machine", "q35".to_owned());
        match self.accelerator {
            Accelerator::Kvm => {
                add("-accel", "kvm,kernel-irqchip=split".to_owned());
                add("-cpu", "host".to_owned());
            }
            Accelerator::Tcg(_) => {
                add("-accel", "tcg,thread=multi".to_owned());
                add("-cpu", "max".to_owned());
            }
        }
        // These are taken as they are.
        add("-kernel", text(&self.image.kernel())?.to_owned());
        add("-initrd", text(&self.image.initrd())?.to_owned());
        add("-append", self.kernel_line());
        self.memory(&mut add);
        if iommu {
            add(
                "-device",
                "intel-iommu,intremap=on,caching-mode=on".to_owned(),
            );
        }
        add("-device", "virtio-rng-pci,bus=pcie.0".to_owned());
        self.folders(&mut add)?;
        self.channels(&mut add)?;
        if let (Some(end), Some(wire)) = (&self.wire, &self.description.wire) {
            let (server, path) = match end {
                WireEnd::Serves(path) => ("on", path),
                WireEnd::Comes(path) => ("off", path),
            };
            let path = option(path)?;
            add(
                "-netdev",
                format!("stream,id=wire,server={server},addr.type=unix,addr.path={path}"),
            );
            let mac = if server == "on" { 1 } else { 2 };
            add(
                "-device",
                format!(
                    "virtio-net-pci,netdev=wire,bus=pcie.0,host_mtu={},mac=52:54:00:57:00:0{mac}",
                    wire.mtu
                ),
            );
        }
        self.drives(&mut add)?;
        command.args(["-nodefaults", "-nographic", "-no-reboot"]);
        command.args([
            "-serial",
            if self.on_terminal {
                "mon:stdio"
            } else {
                "stdio"
            },
        ]);
        Ok(command)
    }

    fn kernel_line(&self) -> String {
        let mut words = vec![
            "console=ttyS0",
            // A panic ends the machine, which is seen at once.
            "panic=-1",
            "quiet",
            "rdinit=/init",
            // Under load the emulated timer's interrupt may come too late for the kernel's check, which then panics.
            "no_timer_check",
            // Without them no operation can be polled for through the kernel.
            "nvme.poll_queues=2",
        ];
        if let Accelerator::Tcg(_) = self.accelerator {
            // Translated CPUs all read the host's counter. Left to its own check the kernel finds them unlike, and reads the HPET
            // instead: by a system call, and one CPU at a time.
            words.push("tsc=reliable");
        }
        if self.description.iommu {
            words.extend(["intel_iommu=on", "iommu=pt"]);
        }
        words.extend(self.description.kernel.iter().map(String::as_str));
        words.join(" ")
    }

    fn memory(&self, add: &mut impl FnMut(&str, String)) {
        let nodes = &self.description.nodes;
        let all: u64 = nodes.iter().map(|n| n.memory.0).sum();
        add("-m", format!("{}K", all >> 10));
        add("-smp", self.description.cpus().to_string());
        let mut first = 0;
        for (n, node) in nodes.iter().enumerate() {
            let last = first + node.cpus - 1;
            add(
                "-object",
                format!("memory-backend-ram,id=m{n},size={}K", node.memory.0 >> 10),
            );
            add(
                "-numa",
                format!("node,nodeid={n},cpus={first}-{last},memdev=m{n}"),
            );
            first = last + 1;
        }
        for from in 0..nodes.len() {
            for to in 0..from {
                add(
                    "-numa",
                    format!("dist,src={from},dst={to},val={}", self.description.distance),
                );
            }
        }
    }

    fn folders(&self, add: &mut impl FnMut(&str, String)) -> Result<()> {
        let mut share = |tag: &str, path: &Path, mode: &str| {
            let path = option(path)?;
            add(
                "-fsdev",
                format!("local,id={tag},path={path},security_model=none{mode}"),
            );
            add(
                "-device",
                format!("virtio-9p-pci,fsdev={tag},mount_tag={tag},bus=pcie.0"),
            );
            Ok::<_, anyhow::Error>(())
        };
        share("root", &self.image.root(), ",readonly=on")?;
        share("strata", &self.folder.join("share"), "")?;
        for (n, Share { path, writable }) in self.shares.iter().enumerate() {
            share(&tag(n), path, if *writable { "" } else { ",readonly=on" })?;
        }
        Ok(())
    }

    fn channels(&self, add: &mut impl FnMut(&str, String)) -> Result<()> {
        let at = |name: &str| option(&self.folder.join(name));
        add("-qmp", format!("unix:{},server=on,wait=off", at("qmp")?));
        add("-device", "virtio-serial-pci,bus=pcie.0".to_owned());
        for name in ["run", "ask"] {
            add(
                "-chardev",
                format!("socket,id={name},path={},server=on,wait=off", at(name)?),
            );
            add(
                "-device",
                format!("virtserialport,chardev={name},name=strata.{name}"),
            );
        }
        Ok(())
    }

    fn drives(&self, add: &mut impl FnMut(&str, String)) -> Result<()> {
        let drives = &self.description.drives;
        let mut buses: Vec<u32> = drives.iter().filter_map(|d| d.node).collect();
        buses.sort_unstable();
        buses.dedup();
        for node in buses {
            let number = (node + 1) * 16;
            add(
                "-device",
                format!("pxb-pcie,bus=pcie.0,id=bus{node},bus_nr={number},numa_node={node}"),
            );
        }
        for (n, drive) in drives.iter().enumerate() {
            let serial = &drive.serial;
            let (port, function) = match &drive.shares {
                Some(first) => (format!("port-{first}"), ",addr=00.1"),
                None => {
                    let above = drive
                        .node
                        .map_or("pcie.0".to_owned(), |n| format!("bus{n}"));
                    add(
                        "-device",
                        format!(
                            "pcie-root-port,id=port-{serial},bus={above},chassis={},slot={}{}",
                            n + 1,
                            n + 1,
                            link(drive)
                        ),
                    );
                    (format!("port-{serial}"), ",addr=00.0,multifunction=on")
                }
            };
            let mut disk = self.disk(drive)?;
            if let Some(iops) = drive.iops {
                disk.push_str(&format!(",throttling.iops-total={iops}"));
            }
            add("-drive", format!("if=none,id=disk-{serial},{disk}"));
            add(
                "-device",
                format!("nvme,id={serial},bus={port}{function},serial={serial}"),
            );
            add(
                "-device",
                format!(
                    "nvme-ns,bus={serial},drive=disk-{serial},logical_block_size={0},physical_block_size={0}",
                    drive.block
                ),
            );
        }
        Ok(())
    }

    /// The drive's file, sparse; or none.
    fn disk(&self, drive: &Drive) -> Result<String> {
        if !drive.keeps {
            let size = drive.size.0;
            return Ok(format!(
                "file=null-co://,format=raw,file.size={size},file.read-zeroes=on"
            ));
        }
        let path = self.folder.join(format!("{}.{DISK}", drive.serial));
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        file.set_len(drive.size.0)
            .with_context(|| format!("cannot make {} of {}", path.display(), drive.size))?;
        let path = option(&path)?;
        Ok(match drive.bad {
            None => format!("file={path},format=raw,cache=unsafe,discard=unmap"),
            // QEMU's docs/devel/blkdebug: sectors of 512 bytes; errno 5 is EIO.
            Some(at) => format!(
                "driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={path},\
                 file.inject-error.0.event=none,file.inject-error.0.iotype=read,file.inject-error.0.errno=5,\
                 file.inject-error.0.sector={}",
                at.0 / 512
            ),
        })
    }
}

/// How the names of drives' files end.
pub(crate) const DISK: &str = "img";

/// The tag of a further share.
pub(crate) fn tag(n: usize) -> String {
    format!("share{n}")
}

fn link(drive: &Drive) -> String {
    match drive.link.as_deref().and_then(port) {
        Some((speed, width)) => format!(",x-speed={speed},x-width={width}"),
        None => String::new(),
    }
}

/// A path as the value of an option, where a comma begins the next, and two stand for one (qemu(1), -drive).
fn option(path: &Path) -> Result<String> {
    Ok(text(path)?.replace(',', ",,"))
}

/// A path as a line of text, which is how it comes into the guest.
fn text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains('\n') => Ok(text),
        _ => bail!(
            "{path:?}: the virtual node takes no path that is not UTF-8 or has a line's end in it; use another"
        ),
    }
}
