//! A controller that is enabled and has no I/O queue leaves the processor to others. Alone in its process, since it is the
//! process's time that counts.

#[path = "all/rig.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod rig;
#[path = "all/served.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod served;

use std::time::Duration;

use rig::{DATA, Host};
use served::Emulator;

/// The processor time of this process, in hundredths of a second (proc_pid_stat(5)); none where that cannot be read.
fn used() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = text.rsplit_once(')')?.1;
    let mut times = after_name.split_whitespace().skip(11);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

#[test]
fn a_controller_without_io_queues_rests() {
    let emulator = Emulator::new("[[namespace]]\nsize = \"1MiB\"");
    let mut host = Host::new(&emulator);
    let Some(before) = used() else {
        println!("SKIP a_controller_without_io_queues_rests: /proc/self/stat cannot be read");
        return;
    };
    std::thread::sleep(Duration::from_millis(600));
    let spent = used().expect("read before") - before;
    assert!(spent < 15, "{spent} of 60 hundredths of a second");
    // It is awake when it is wanted.
    let mut ring = host.pair(1, 8, None);
    let sqe = host.transfer(false, 1, 0, 512, DATA, 512);
    assert!(host.run(&mut ring, sqe).status().is_success());
    emulator.end();
}
