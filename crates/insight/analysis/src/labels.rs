//! Short names of cells that tell each from every other.

use strata_record::Cell;
use strata_units::Bytes;

/// A label for each cell: its own, and where several share it, whatever of placement, target, path or window tells them
/// apart, or at last its number.
pub(crate) fn labels(cells: &[&Cell]) -> Vec<String> {
    let plain: Vec<String> = cells.iter().map(|c| c.label()).collect();
    let parts: [fn(&Cell) -> String; 13] = [
        |c| format!("cpus {}", c.placement.cpus),
        |c| format!("peer cpus {}", c.placement.peer_cpus),
        |c| match c.placement.poll_cpus.is_empty() {
            true => "no poll cpus".to_owned(),
            false => format!("poll cpus {}", c.placement.poll_cpus),
        },
        |c| match c.placement.mem_node {
            Some(node) => format!("memory on node {node}"),
            None => "memory unbound".to_owned(),
        },
        |c| c.reality.to_string(),
        |c| match c.binding {
            Some(binding) => binding.to_string(),
            None => "no driver of its own".to_owned(),
        },
        |c| format!("at {}", c.via),
        |c| format!("from {} on", Bytes(c.target.region_from_bytes.0)),
        |c| match c.target.region_bytes {
            Some(region) => format!("{region} of it"),
            None => "all of it".to_owned(),
        },
        |c| format!("timed by {}", c.workload.timed_by),
        |c| match (c.workload.duration_ns, c.workload.ops) {
            (Some(span), _) => format!("for {span}"),
            (None, ops) => format!("for {} operations", ops.unwrap_or(0)),
        },
        |c| format!("ramp {}", c.workload.ramp_ns),
        |c| {
            if c.workload.verify {
                "verified"
            } else {
                "not verified"
            }
            .to_owned()
        },
    ];
    let told: Vec<String> = cells
        .iter()
        .enumerate()
        .map(|(at, cell)| {
            let same: Vec<&Cell> = (0..cells.len())
                .filter(|other| plain[*other] == plain[at])
                .map(|other| cells[other])
                .collect();
            let telling = parts
                .iter()
                .filter(|part| same.iter().any(|other| part(other) != part(cell)))
                .map(|part| part(cell));
            let mut label = plain[at].clone();
            for part in telling {
                label.push_str(", ");
                label.push_str(&part);
            }
            label
        })
        .collect();
    told.iter()
        .enumerate()
        .map(
            |(at, label)| match told.iter().filter(|l| *l == label).count() {
                1 => label.clone(),
                _ => format!("{label}, cell {}", at + 1),
            },
        )
        .collect()
}
