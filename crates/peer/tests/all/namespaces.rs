//! Two hosts, as far as their network stacks are concerned: two namespaces joined by a pair of virtual Ethernet devices.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use crate::processes::{START, Side};
use crate::rig::{KeyFile, NOTICED};

fn ip(arguments: &str) -> Result<(), String> {
    let out = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|e| format!("cannot run ip: {e}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        )),
    }
}

/// The two hosts; dropping them takes them down.
struct Hosts {
    names: [String; 2],
}

impl Hosts {
    fn new() -> Result<Hosts, String> {
        let id = std::process::id();
        let hosts = Hosts {
            names: ["a", "b"].map(|side| format!("strata-peer-{id}-{side}")),
        };
        let [a, b] = &hosts.names;
        for host in [a, b] {
            ip(&format!("netns add {host}"))?;
        }
        ip(&format!(
            "-n {a} link add wire type veth peer name wire netns {b}"
        ))?;
        for (host, n) in [(a, 1), (b, 2)] {
            ip(&format!("-n {host} address add 192.0.2.{n}/24 dev wire"))?;
            ip(&format!("-n {host} link set wire up"))?;
        }
        Ok(hosts)
    }

    fn start(&self, host: usize, role: &str, address: SocketAddr, key: &KeyFile) -> Side {
        Side::start(
            &["ip", "netns", "exec", &self.names[host]],
            role,
            address,
            key,
        )
    }

    fn wire(&self, host: usize, state: &str) {
        ip(&format!("-n {} link set wire {state}", self.names[host])).expect("it is ours");
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &self.names {
            // One that was not made cannot be taken down.
            let _ = ip(&format!("netns delete {host}"));
        }
    }
}

#[test]
fn a_cut_wire_ends_both_sides_and_the_server_serves_on() {
    let hosts = match Hosts::new() {
        Ok(hosts) => hosts,
        Err(why) => {
            println!("SKIP a_cut_wire_ends_both_sides_and_the_server_serves_on: {why}");
            return;
        }
    };
    let file = KeyFile::new(10);
    let address = "192.0.2.1:7171".parse().expect("an address");
    let server = hosts.start(0, "server", address, &file);
    server.hear("listening", START);
    // Once the server's own end is taken down, once the other.
    for cut in [0, 1] {
        let client = hosts.start(1, "client", address, &file);
        client.hear("talking", START);
        hosts.wire(cut, "down");
        let begun = Instant::now();
        for side in [&client, &server] {
            let over = side.hear("over", NOTICED);
            assert!(over.contains("Stalled"), "{over}");
        }
        println!("cut at {cut}: both noticed within {:?}", begun.elapsed());
        hosts.wire(cut, "up");
    }
    let next = hosts.start(1, "client", address, &file);
    next.hear("talking", START);
    drop(next);
    let over = server.hear("over", NOTICED);
    assert!(over.contains("Gone"), "{over}");
}
