//! How a guest's instructions are executed here, found out once.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};

use super::files::{first_script, folder, share};
use super::{NotUp, Seen, come_up};
use crate::description::Description;
use crate::image::{Image, cache};
use crate::qemu::{Accelerator, Machine};

/// How long the smallest guest may take to come up by the host's processor.
const BOOT_KVM: Duration = Duration::from_secs(20);

/// The host's processor where it can run a guest, else translation. A /dev/kvm that is there and does not work is found out
/// once a boot of the host.
pub(super) fn accelerator(image: &Image) -> Result<Accelerator> {
    let asked = "STRATA_NODE_ACCEL";
    match std::env::var(asked).as_deref() {
        Ok("kvm") => return Ok(Accelerator::Kvm),
        Ok("tcg") => return Ok(Accelerator::Tcg(format!("{asked} asks for it"))),
        Ok(other) => bail!("{asked}={other}: expected kvm or tcg"),
        Err(_) => {}
    }
    let device = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if let Err(e) = device {
        return Ok(Accelerator::Tcg(format!("cannot open /dev/kvm: {e}")));
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = cache()?.join("kvm");
    if let Ok(text) = fs::read_to_string(&known)
        && let Some(found) = text.strip_prefix(boot.trim())
    {
        if found.trim() == "works" {
            return Ok(Accelerator::Kvm);
        }
        if let Some(why) = found.trim().strip_prefix("fails ") {
            return Ok(fails(why));
        }
    }
    // Where what was found cannot be kept it is found out again.
    let keep = |word: &str| {
        let _ = fs::write(&known, format!("{} {word}\n", boot.trim()));
    };
    match try_kvm(image) {
        Ok(()) => {
            keep("works");
            Ok(Accelerator::Kvm)
        }
        Err(why) => {
            let told = match why.downcast_ref::<NotUp>() {
                Some(NotUp { what, console }) => {
                    let last = console.lines().last().unwrap_or_default();
                    let last = last.trim_start_matches([' ', '|']);
                    let told = format!("{what}: {last}");
                    keep(&format!("fails {told}"));
                    told
                }
                // No room, say: it may be well the next time.
                None => format!("{why:#}"),
            };
            Ok(fails(&told))
        }
    }
}

fn fails(why: &str) -> Accelerator {
    Accelerator::Tcg(format!("KVM fails here ({why})"))
}

/// Boots the smallest guest by the host's processor.
fn try_kvm(image: &Image) -> Result<()> {
    let description = Description::parse("[[node]]\ncpus = 1\nmemory = \"512MiB\"\n")?;
    let folder = folder()?;
    let first = first_script(&Seen::default(), None, false, "serve", "node");
    share(image, folder.path(), &first)?;
    let machine = Machine {
        image,
        description: &description,
        folder: folder.path(),
        shares: &[],
        accelerator: &Accelerator::Kvm,
        wire: None,
        on_terminal: false,
    };
    let command = machine.command()?;
    come_up(command, folder, BOOT_KVM).map(drop)
}
