//! Short ways to ask.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use strata_nvme::Controller;
use strata_nvme::binding::{BindError, Bound, Plan, Refusal, plan};
use strata_units::PciAddress;

use crate::kernel::{DRIVE, Played, address};
use crate::tree::Tree;

/// No drive is with vfio-pci here.
pub(crate) fn nobody(
    function: PciAddress,
) -> Result<Arc<Controller>, Box<dyn Error + Send + Sync>> {
    Err(format!("{function} was opened").into())
}

/// Where the journal is.
pub(crate) fn place(tree: &Tree) -> PathBuf {
    tree.folder().join("journal")
}

/// The plan for a function, which must be there.
pub(crate) fn planned(tree: &Tree, function: &str, whole_group: bool) -> Plan {
    let found = plan(
        &mut tree.kernel(),
        &place(tree),
        &nobody,
        address(function),
        whole_group,
    );
    found.expect("a plan")
}

/// What stands against it, in words.
pub(crate) fn against(plan: &Plan) -> Vec<String> {
    plan.refusals.iter().map(Refusal::to_string).collect()
}

/// The one thing that stands against binding the drive.
pub(crate) fn only(tree: &Tree) -> String {
    let mut all = against(&planned(tree, DRIVE, false));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Binds what was planned.
pub(crate) fn bind(tree: &Tree, plan: Plan, typed: &[&str]) -> Result<Bound<Played>, BindError> {
    let typed: Vec<String> = typed.iter().map(|typed| (*typed).to_owned()).collect();
    plan.bind(tree.kernel(), &place(tree), &typed, "a test")
}
