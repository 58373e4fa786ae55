//! The kernel's part, played on a tree in a folder: PCI drivers with driver_override, unbind and drivers_probe, NVMe controllers
//! and their namespaces, and modules. All of it stands in files, so that another process goes on where one was killed.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use strata_settings::{Kernel, Name};
use strata_topology::Root;
use strata_units::{Nanos, PciAddress};

/// A drive's PCI function, alone in IOMMU group 7 and of serial number S0.
pub(crate) const DRIVE: &str = "0000:81:00.0";

const EBUSY: i32 = 16;

/// Name of a driver or module.
pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A function's address.
pub(crate) fn address(text: &str) -> PciAddress {
    text.parse().expect("an address")
}

/// The kernel on a tree.
pub(crate) struct Played {
    root: Root,
    /// What was asked of it, a line each.
    pub(crate) asked: Vec<String>,
    /// What is done instead of a step, and after which.
    #[allow(clippy::type_complexity, reason = "a hook is told once")]
    pub(crate) hook: Option<Box<dyn FnMut(&str) -> io::Result<()>>>,
    /// A driver that takes no function.
    pub(crate) refuses: Option<Name>,
    /// Whether there are no modules at all.
    pub(crate) lacks_modules: bool,
}

impl Played {
    /// On a tree that is there.
    pub(crate) fn on(tree: &Path) -> Played {
        Played {
            root: Root::new(tree),
            asked: Vec::new(),
            hook: None,
            refuses: None,
            lacks_modules: false,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn step(&mut self, what: String) -> io::Result<()> {
        self.asked.push(what.clone());
        match &mut self.hook {
            Some(hook) => hook(&what),
            None => Ok(()),
        }
    }

    fn driver_of(&self, function: &str) -> Option<String> {
        let link = fs::read_link(self.path(&format!("sys/bus/pci/devices/{function}/driver")));
        Some(link.ok()?.file_name()?.to_string_lossy().into_owned())
    }

    fn unbind(&self, function: &str) {
        let Some(driver) = self.driver_of(function) else {
            return;
        };
        let device = format!("sys/bus/pci/devices/{function}");
        fs::remove_file(self.path(&format!("{device}/driver"))).expect("bound");
        fs::remove_file(self.path(&format!("sys/bus/pci/drivers/{driver}/{function}")))
            .expect("bound");
        if driver == "nvme" {
            self.lose(function);
        }
    }

    /// The controller and its namespaces go from their classes.
    fn lose(&self, function: &str) {
        let nvme = self.path(&format!("sys/bus/pci/devices/{function}/nvme"));
        for (controller, namespaces) in children(&nvme) {
            let _ = fs::remove_file(self.path(&format!("sys/class/nvme/{controller}")));
            for namespace in namespaces {
                let _ = fs::remove_file(self.path(&format!("sys/class/block/{namespace}")));
                let _ = fs::remove_file(self.path(&format!("sys/block/{namespace}")));
            }
        }
    }

    fn probe(&self, function: &str) {
        let device = format!("sys/bus/pci/devices/{function}");
        if self.driver_of(function).is_some() {
            return;
        }
        let only = fs::read_to_string(self.path(&format!("{device}/driver_override")));
        let driver = match only.expect("driver_override").trim() {
            "" | "(null)" => "nvme".to_owned(),
            only => only.to_owned(),
        };
        let folder = self.path(&format!("sys/bus/pci/drivers/{driver}"));
        if !folder.is_dir()
            || self
                .refuses
                .as_ref()
                .is_some_and(|no| no.as_str() == driver)
        {
            return;
        }
        symlink(&folder, self.path(&format!("{device}/driver"))).expect("a link");
        symlink(self.path(&device), folder.join(function)).expect("a link");
        if driver == "nvme" {
            self.find(function);
        }
    }

    fn find(&self, function: &str) {
        let nvme = self.path(&format!("sys/bus/pci/devices/{function}/nvme"));
        for (controller, namespaces) in children(&nvme) {
            let of = nvme.join(&controller);
            symlink(&of, self.path(&format!("sys/class/nvme/{controller}"))).expect("a link");
            for namespace in namespaces {
                let at = self.path(&format!("sys/class/block/{namespace}"));
                symlink(of.join(&namespace), at).expect("a link");
            }
        }
    }
}

/// Controllers below a function, with their namespaces.
fn children(nvme: &Path) -> Vec<(String, Vec<String>)> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("nvme"))
            .collect()
    };
    names(nvme)
        .into_iter()
        .map(|controller| (controller.clone(), names(&nvme.join(controller))))
        .collect()
}

impl Kernel for Played {
    fn root(&self) -> &Root {
        &self.root
    }

    fn write(&mut self, attribute: &str, value: &str) -> io::Result<()> {
        self.step(format!("{attribute} {}", value.trim()))?;
        let parts: Vec<&str> = attribute.split('/').collect();
        match parts[..] {
            ["sys", "bus", "pci", "devices", _, "driver_override"] => {
                let shown = match value.trim() {
                    "" => "(null)",
                    shown => shown,
                };
                fs::write(self.path(attribute), format!("{shown}\n"))?;
            }
            ["sys", "bus", "pci", "devices", of, "driver", "unbind"] if of == value => {
                if self.driver_of(of).is_none() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.unbind(of);
            }
            ["sys", "bus", "pci", "drivers_probe"] => self.probe(value),
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    fn needs(&mut self, module: &Name) -> io::Result<Vec<Name>> {
        let on = match module.as_module().as_str() {
            "vfio_iommu_type1" => "vfio",
            "vfio_pci" => "vfio_pci_core",
            _ => return Err(io::Error::other("no such module")),
        };
        if self.lacks_modules {
            return Err(io::Error::other("not found in /lib/modules"));
        }
        Ok(vec![name("vfio"), name(on), module.as_module()])
    }

    fn load(&mut self, module: &Name) -> io::Result<()> {
        self.step(format!("load {module}"))?;
        let folder = self.path(&format!("sys/module/{}", module.as_module()));
        fs::create_dir_all(folder.join("drivers"))?;
        fs::write(folder.join("initstate"), "live\n")?;
        fs::write(folder.join("refcnt"), "0\n")?;
        if module.as_module().as_str() == "vfio_pci" {
            let driver = self.path("sys/bus/pci/drivers/vfio-pci");
            fs::create_dir_all(&driver)?;
            symlink(driver, folder.join("drivers/pci:vfio-pci"))?;
        }
        Ok(())
    }

    fn unload(&mut self, module: &Name) -> io::Result<()> {
        self.step(format!("unload {module}"))?;
        let folder = self.path(&format!("sys/module/{}", module.as_module()));
        let count = fs::read_to_string(folder.join("refcnt"))?;
        if count.trim() != "0" {
            return Err(io::Error::from_raw_os_error(EBUSY));
        }
        if module.as_module().as_str() == "vfio_pci" {
            fs::remove_dir_all(self.path("sys/bus/pci/drivers/vfio-pci"))?;
        }
        fs::remove_dir_all(folder)
    }

    fn patience(&self) -> Nanos {
        Nanos::from_millis(300)
    }
}
