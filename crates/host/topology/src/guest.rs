//! Whether the machine is a guest of a hypervisor.

use strata_record::Guest;

use crate::root::Reader;

/// What a guest's firmware calls itself (DMI system vendor or product) and what that means.
const DMI: [(&str, &str); 12] = [
    ("QEMU", "QEMU"),
    ("KVM", "KVM"),
    ("Amazon EC2", "Amazon EC2"),
    ("Google Compute Engine", "Google Compute Engine"),
    ("VMware", "VMware"),
    ("VirtualBox", "VirtualBox"),
    ("innotek", "VirtualBox"),
    ("Xen", "Xen"),
    ("Virtual Machine", "Hyper-V"),
    ("OpenStack", "OpenStack"),
    ("Parallels", "Parallels"),
    ("Bochs", "Bochs"),
];

/// On x86 the CPU's own flag decides (CPUID leaf 1, ECX bit 31), for a cloud's bare-metal machines have its DMI
/// names too; elsewhere DMI does.
pub(crate) fn read(reader: &Reader) -> Guest {
    let dmi: Vec<String> = ["sys_vendor", "product_name"]
        .iter()
        .filter_map(|file| reader.word(&format!("sys/class/dmi/id/{file}")))
        .collect();
    let named = DMI
        .iter()
        .find(|(text, _)| dmi.iter().any(|name| name.contains(text)))
        .map(|(_, name)| (*name).to_owned());
    let xen = reader.word("sys/hypervisor/type");
    let told = |is_guest, hypervisor, told_by: &str| Guest {
        is_guest,
        hypervisor,
        told_by: told_by.to_owned(),
    };
    if let Some(kind) = xen {
        // The control domain drives the hardware itself.
        let control = reader
            .word("proc/xen/capabilities")
            .is_some_and(|text| text.contains("control_d"));
        return told(Some(!control), Some(kind), "/sys/hypervisor/type");
    }
    match cpu_flags(reader) {
        Some(flags) if flags.iter().any(|flag| flag == "hypervisor") => {
            told(Some(true), named, "the hypervisor flag of /proc/cpuinfo")
        }
        Some(_) => told(Some(false), None, "no hypervisor flag in /proc/cpuinfo"),
        None if named.is_some() => told(Some(true), named, "DMI"),
        None if !dmi.is_empty() => told(Some(false), None, "DMI names no hypervisor"),
        None => told(None, None, "neither CPU flags nor DMI to be read"),
    }
}

/// The flags of the first x86 CPU; other architectures have `Features`, which tell no hypervisor.
pub(crate) fn cpu_flags(reader: &Reader) -> Option<Vec<String>> {
    let text = reader.text("proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("flags"))?;
    let flags = line.split_once(':')?.1;
    Some(flags.split_whitespace().map(str::to_owned).collect())
}
