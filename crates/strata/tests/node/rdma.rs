//! RDMA devices on a machine that has one, of software.

use std::process::Command;

use serde_json::{Value, json};
use strata_virtual_node::{SOFT_ROCE, on};

use crate::support::{done, strata};

/// The interface below the device.
const BELOW: &str = "roce0";

fn list() -> Value {
    let told = done(strata(["rdma", "list", "--json"])).out;
    serde_json::from_str(&told).expect("one document")
}

fn ip(words: &str) {
    let mut command = Command::new("ip");
    let ran = command.args(words.split_whitespace()).status();
    assert!(ran.expect("iproute2 is there").success(), "ip {words}");
}

/// Puts the interface back for other tests, in whatever state this one left it.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        for words in [
            format!("link set {BELOW} mtu 4200 up"),
            format!("address replace {SOFT_ROCE}/24 dev {BELOW}"),
        ] {
            let mut command = Command::new("ip");
            let _ = command.args(words.split_whitespace()).status();
        }
    }
}

#[test]
fn soft_roce_is_listed_and_what_becomes_wrong_with_it_is_told() {
    on("verbs", |_| {
        let found = list();
        assert_eq!(found["findings"], json!([]));
        let device = &found["devices"][0];
        assert_eq!(device["name"], "rxe0");
        assert_eq!(
            (&device["kind"], &device["reality"], &device["pci"]),
            (&json!("CA"), &json!("software"), &Value::Null)
        );
        let verbs = device["verbs"].as_str().expect("a device file");
        assert!(verbs.starts_with("uverbs"), "{verbs}");
        let port = &device["ports"][0];
        assert_eq!(port["state"], "ACTIVE");
        assert_eq!(port["interfaces"], json!([BELOW]));
        // The kernel says 2.5 Gb/s of an interface that tells no speed.
        assert_eq!(port["data_rate_bits_per_s"], Value::Null);
        let gids = port["gids"].as_array().expect("GIDs");
        let usual = gids.iter().find(|gid| gid["index"] == port["usual_gid"]);
        let usual = usual.expect("the one of its choice");
        assert_eq!(usual["gid"], format!("::ffff:{SOFT_ROCE}"));
        assert_eq!(
            (&usual["kind"], &usual["interface"]),
            (&json!("RoCE v2"), &json!(BELOW))
        );
        assert_eq!(port["networks"][0]["addresses"], json!([SOFT_ROCE]));

        let _restored = Restored;
        let wrong = |what: &str| {
            let found = list();
            let findings = found["findings"].as_array().expect("findings");
            let told: Vec<&str> = findings.iter().filter_map(|f| f["what"].as_str()).collect();
            assert_eq!(told.len(), 1, "{what}: {told:?}");
            assert!(told[0].contains(what), "{what}: {told:?}");
            assert_eq!(findings[0]["on"], "rxe0 port 1");
        };
        ip(&format!("link set {BELOW} mtu 1500"));
        wrong("the MTU of roce0 is 1500");
        ip(&format!("link set {BELOW} mtu 4200"));
        ip(&format!("address del {SOFT_ROCE}/24 dev {BELOW}"));
        wrong("roce0 has no IP address");
        ip(&format!("link set {BELOW} down"));
        wrong("DOWN (Disabled)");
    });
}
