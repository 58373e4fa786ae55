//! What is where, on a machine with two memory nodes.

use serde_json::Value;
use strata_virtual_node::on;

use crate::support::{done, strata};

#[test]
fn the_topology_has_both_nodes_and_each_drive_on_its_own() {
    on("usual", |node| {
        let told = done(strata(["topology", "--json"])).out;
        let found: Value = serde_json::from_str(&told).expect("one document");
        let found = &found["topology"];
        let functions = found["pci"].as_array().unwrap_or_else(|| panic!("{found}"));
        for (serial, at) in [("STRATA0", 0), ("STRATA1", 1)] {
            let address = node.function(serial);
            let function = functions.iter().find(|f| f["address"] == address.as_str());
            let function = function.unwrap_or_else(|| panic!("{address} is not in {functions:?}"));
            assert_eq!(function["node"], at, "{function}");
            assert_eq!(function["driver"], "nvme", "{function}");
        }
        let nodes = found["nodes"].as_array().expect("nodes");
        assert_eq!(nodes.len(), 2);
        let far = &nodes[0]["distances"][1];
        assert_eq!(far, &serde_json::json!({"to": 1, "distance": 21}));
    });
}
