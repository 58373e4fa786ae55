//! Memory stays as it is, whatever clients come and go. Alone in its process, since it is the process's memory that counts.

#[path = "all/rig.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod rig;
#[path = "all/served.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod served;

use rig::{DATA, Host};
use served::Emulator;

/// Bytes of this process that are in memory (proc_pid_statm(5)); none where that cannot be read.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ')
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|pages| pages * 4096)
}

fn client(emulator: &Emulator) {
    let mut host = Host::new(emulator);
    let mut rings = [host.pair(1, 64, None), host.pair(2, 64, None)];
    for round in 0..10 {
        for ring in &mut rings {
            for n in 0..60 {
                // Every third is beyond the end, and stands in the error log.
                let first = if n % 3 == 0 { 1 << 20 } else { n };
                host.push(
                    ring,
                    host.transfer(round % 2 == 0, 1, first, 512, DATA, 4096),
                );
            }
            host.ring(ring);
            for _ in 0..60 {
                host.wait(ring);
            }
        }
    }
}

#[test]
fn clients_leave_no_memory_behind() {
    let Some(_) = resident() else {
        println!("SKIP clients_leave_no_memory_behind: /proc/self/statm cannot be read");
        return;
    };
    for models in [
        "",
        "[performance]\nlatency = { uniform = [\"1us\", \"50us\"] }",
    ] {
        let toml = format!("{models}\n[[namespace]]\nsize = \"1MiB\"");
        let emulator = Emulator::new(&toml);
        (0..5).for_each(|_| client(&emulator));
        let before = resident().expect("read before");
        (0..20).for_each(|_| client(&emulator));
        let after = resident().expect("read before");
        assert!(after < before + (1 << 20), "{before} bytes, then {after}");
        emulator.end();
    }
}
