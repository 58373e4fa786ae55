//! Which driver holds a PCI function.

use strata_record::FunctionProof;
use strata_units::PciAddress;

use crate::pci;
use crate::root::Reader;

/// The driver of each function; none where it has none.
pub(crate) fn drivers(reader: &Reader, functions: &[PciAddress]) -> Vec<Option<String>> {
    functions
        .iter()
        .map(|function| reader.link(&format!("{}/driver", pci::folder_of(*function))))
        .collect()
}

/// The drivers before and after, with what the module of the later one tells of its version.
pub(crate) fn proof(
    reader: &Reader,
    function: PciAddress,
    before: Option<&String>,
    after: Option<&String>,
) -> FunctionProof {
    // The driver's name is not always that of its module: vfio-pci is of vfio_pci.
    let module =
        after.and_then(|driver| reader.link(&format!("sys/bus/pci/drivers/{driver}/module")));
    let told = |file: &str| {
        let module = module.as_ref()?;
        reader.word(&format!("sys/module/{module}/{file}"))
    };
    FunctionProof {
        function,
        before: before.cloned(),
        after: after.cloned(),
        version: told("version"),
        source_version: told("srcversion"),
    }
}
