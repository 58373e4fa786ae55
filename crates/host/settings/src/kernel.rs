//! The ways to the kernel by which settings are changed.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::process::{Command, Stdio};

use nix::kmod::{DeleteModuleFlags, delete_module};
use strata_topology::Root;
use strata_units::Nanos;

use crate::Name;

/// Where the kernel says what loads modules (`Documentation/admin-guide/sysctl/kernel.rst`, modprobe).
const MODPROBE: &str = "/proc/sys/kernel/modprobe";

/// What changes settings: each call is one step, after which the process may be gone.
pub trait Kernel {
    /// Where `sys` and `proc` are read and written.
    fn root(&self) -> &Root;

    /// Writes an attribute, named below the root, by one write(2).
    ///
    /// # Errors
    /// The kernel's.
    fn write(&mut self, attribute: &str, value: &str) -> io::Result<()>;

    /// The modules that loading this one would load, itself last; loaded ones and built-in ones may be among them.
    ///
    /// # Errors
    /// There is no such module, or what loads modules cannot be run.
    fn needs(&mut self, module: &Name) -> io::Result<Vec<Name>>;

    /// Loads a module and those that it needs.
    ///
    /// # Errors
    /// As [`Kernel::needs`], or it is refused.
    fn load(&mut self, module: &Name) -> io::Result<()>;

    /// Unloads a module, and no other.
    ///
    /// # Errors
    /// It is in use, or may not be unloaded.
    fn unload(&mut self, module: &Name) -> io::Result<()>;

    /// How long a driver may take to bind, and then a controller to come up: CAP.TO lets one take 127.5 s (NVMe Base 2.x,
    /// Controller Capabilities).
    fn patience(&self) -> Nanos {
        Nanos::SECOND * 130
    }
}

/// This machine's kernel.
#[derive(Debug)]
pub struct Live {
    root: Root,
}

impl Default for Live {
    fn default() -> Self {
        Live { root: Root::live() }
    }
}

impl Kernel for Live {
    fn root(&self) -> &Root {
        &self.root
    }

    fn write(&mut self, attribute: &str, value: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .open(self.root.path().join(attribute))?;
        // sysfs takes a value by one call; the rest of a short write would be another value.
        match file.write(value.as_bytes())? {
            written if written == value.len() => Ok(()),
            written => Err(io::Error::other(format!(
                "only {written} of {} bytes were taken",
                value.len()
            ))),
        }
    }

    fn needs(&mut self, module: &Name) -> io::Result<Vec<Name>> {
        Ok(needed(&modprobe(&["--show-depends", module.as_str()])?))
    }

    fn load(&mut self, module: &Name) -> io::Result<()> {
        modprobe(&[module.as_str()]).map(drop)
    }

    fn unload(&mut self, module: &Name) -> io::Result<()> {
        let name = CString::new(module.as_module().as_str())?;
        Ok(delete_module(&name, DeleteModuleFlags::O_NONBLOCK)?)
    }
}

/// Runs modprobe(8) and gives what it prints.
fn modprobe(arguments: &[&str]) -> io::Result<String> {
    let set = fs::read_to_string(MODPROBE).unwrap_or_default();
    let program = Some(set.trim())
        .filter(|set| !set.is_empty())
        .unwrap_or("/sbin/modprobe");
    let out = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|why| io::Error::new(why.kind(), format!("cannot run {program}: {why}")))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    Err(io::Error::other(match said.join("; ") {
        said if said.is_empty() => format!("{program}: {}", out.status),
        said => format!("{program}: {said}"),
    }))
}

/// The modules of `insmod /lib/modules/6.1.0/kernel/drivers/vfio/vfio.ko.xz`, a line each; `builtin vfio` is none.
fn needed(printed: &str) -> Vec<Name> {
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        let path = words
            .next()
            .filter(|word| *word == "insmod")
            .and(words.next())?;
        let file = path.rsplit('/').next()?;
        let stem = file.split_once(".ko").map_or(file, |(stem, _)| stem);
        Some(stem.parse::<Name>().ok()?.as_module())
    };
    printed.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_modprobe_prints_names_modules() {
        let printed = "insmod /lib/modules/6.1/kernel/virt/lib/irqbypass.ko.xz \n\
                       builtin vfio\n\
                       insmod /lib/modules/6.1/kernel/drivers/vfio/pci/vfio-pci.ko disable_vga=1\n\
                       install /bin/true\n\n";
        let names = needed(printed);
        assert_eq!(
            names.iter().map(Name::as_str).collect::<Vec<_>>(),
            ["irqbypass", "vfio_pci"]
        );
    }

    #[test]
    fn a_module_that_is_not_there_is_told() {
        let mut live = Live::default();
        let none: Name = "strata_no_such_module".parse().expect("a name");
        assert!(live.needs(&none).is_err() && live.unload(&none).is_err());
    }

    #[test]
    fn no_attribute_is_made() {
        let mut live = Live::default();
        let why = live
            .write("sys/bus/pci/strata-no-such", "x")
            .expect_err("absent");
        assert!(why.raw_os_error().is_some(), "{why}");
    }
}
