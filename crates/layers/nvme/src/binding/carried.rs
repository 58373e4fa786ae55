//! What a drive carries that the kernel does not see.

use std::error::Error;
use std::sync::Arc;

use strata_guard::Unasked;
use strata_units::PciAddress;

use super::Refusal;
use crate::ends::signed;
use crate::{Blocking, Controller, Options, Vfio};

/// How the controller of a function that is with vfio-pci is brought up.
pub type Open<'a> = &'a dyn Fn(PciAddress) -> Result<Arc<Controller>, Box<dyn Error + Send + Sync>>;

/// By our own driver, over VFIO.
///
/// # Errors
/// It cannot be opened ([`crate::VfioError`]) or brought up ([`crate::NvmeError`]).
pub fn by_vfio(function: PciAddress) -> Result<Arc<Controller>, Box<dyn Error + Send + Sync>> {
    let carrier = Vfio::open(function)?;
    Ok(Controller::open(Box::new(carrier), &Options::default())?)
}

/// What was found on the namespaces of a function that is with vfio-pci.
pub(super) struct Carried {
    pub(super) refusals: Vec<Refusal>,
    pub(super) unasked: Vec<Unasked>,
    /// How many namespaces there are.
    pub(super) namespaces: usize,
}

/// Reads the ends of all namespaces. The controller is let go of afterwards.
pub(super) fn carried(function: PciAddress, open: Open<'_>) -> Carried {
    let mut found = Carried {
        refusals: Vec::new(),
        unasked: Vec::new(),
        namespaces: 0,
    };
    let unreadable = |why| Refusal::Unreadable { function, why };
    let controller = match open(function) {
        Ok(controller) => controller,
        Err(why) => {
            found.refusals.push(unreadable(why));
            return found;
        }
    };
    if controller.identity().reserves {
        found.unasked.push(Unasked {
            question: "reservations of other hosts",
            why: "the drive is with vfio-pci".to_owned(),
        });
    }
    for id in controller.namespaces() {
        found.namespaces += 1;
        let signatures = || -> Result<_, Box<dyn Error + Send + Sync>> {
            let namespace = controller.namespace(id)?;
            let mut blocking = Blocking::new(&controller, namespace.clone())?;
            Ok(signed(&mut blocking, &namespace)?)
        };
        match signatures() {
            Ok(signatures) => {
                let carries = signatures.into_iter().map(|signature| Refusal::Carries {
                    function,
                    namespace: id,
                    signature,
                });
                found.refusals.extend(carries);
            }
            Err(why) => found.refusals.push(unreadable(why)),
        }
    }
    found
}
