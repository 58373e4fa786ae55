//! Short names of cells that tell each from every other.

use strata_record::Cell;

/// A label for each cell: its own, and where several share it, whatever of placement, path or window tells them apart.
pub(crate) fn labels(cells: &[&Cell]) -> Vec<String> {
    let plain: Vec<String> = cells.iter().map(|c| c.label()).collect();
    let parts: [fn(&Cell) -> String; 6] = [
        |c| format!("cpus {}", c.placement.cpus),
        |c| format!("peer cpus {}", c.placement.peer_cpus),
        |c| match c.placement.mem_node {
            Some(node) => format!("memory on node {node}"),
            None => "memory unbound".to_owned(),
        },
        |c| format!("at {}", c.via),
        |c| format!("timed by {}", c.workload.timed_by),
        |c| match (c.workload.duration_ns, c.workload.ops) {
            (Some(span), _) => format!("for {span}"),
            (None, ops) => format!("for {} operations", ops.unwrap_or(0)),
        },
    ];
    cells
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
        .collect()
}
