//! The kernel's storage path on the kernel's NVMe driver.

use strata_virtual_node::on;

use crate::support::{done, records, scratch, strata};

#[test]
fn every_engine_reads_a_drive_through_the_kernels_driver() {
    on("usual", |node| {
        let folder = scratch();
        let disk = node.disk("STRATA1");
        let passthrough = disk.to_string_lossy().replace("/dev/nvme", "/dev/ng");
        for (target, engines) in [
            (
                disk.display().to_string(),
                "psync,libaio,io_uring,io_uring+registered,io_uring+iopoll,io_uring+sqpoll,io_uring+taskrun",
            ),
            (passthrough, "io_uring_cmd,io_uring_cmd+iopoll"),
        ] {
            let output = folder.path().join(target.trim_start_matches("/dev/"));
            let mut command = strata(["block", "--ramp", "0s", "--repeats", "1", "--ops", "50"]);
            command.args([
                "--engine", engines, "--target", &target, "--depth", "1", "--cpus", "2",
            ]);
            command.args(["--poll-cpus", "3"]);
            command.arg("--output").arg(&output);
            done(command);
            let found = records(&output);
            assert_eq!(found.len(), engines.split(',').count());
            for record in &found {
                let engine = &record["engine"];
                assert_eq!(record["status"], "ok", "{engine}: {}", record["reason"]);
                assert_eq!(record["reality"], "virtual", "{engine}");
                assert_eq!(record["target"]["node"], 1, "{engine}");
                assert_eq!(record["result"]["ops"], 50, "{engine}");
                assert_eq!(record["result"]["errors"], 0, "{engine}");
            }
        }
    });
}
