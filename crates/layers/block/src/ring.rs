//! Rings as the modifiers want them, or why this kernel gives none. A mode that cannot be had is an error and never another
//! mode: what an engine's name says is what was measured.

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use strata_units::CpuId;

use crate::engine::{Issue, RingMode};

/// How long the kernel's polling thread goes on without work before it sleeps, in milliseconds: longer than any pause of a
/// closed loop, and short enough that one that is forgotten does no harm.
const SQ_IDLE_MS: u32 = 1000;

/// A ring of `entries` submissions and twice as many completions, so that none overflows. `sq_cpu` is where the kernel's
/// polling thread runs, if the mode has one.
///
/// # Errors
/// In words, with the next step.
pub(crate) fn make<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
    entries: u32,
    mode: RingMode,
    sq_cpu: Option<CpuId>,
) -> Result<IoUring<S, C>, String> {
    let mut builder = IoUring::<S, C>::builder();
    if mode.iopoll {
        builder.setup_iopoll();
    }
    match mode.issue {
        // The flag tells, without a system call, that there are completions to be asked for.
        Issue::Deferred => {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag();
        }
        Issue::SqPoll => {
            builder.setup_sqpoll(SQ_IDLE_MS);
            if let Some(cpu) = sq_cpu {
                builder.setup_sqpoll_cpu(cpu.0);
            }
        }
        Issue::TaskRun => {}
    }
    let no = |error: &io::Error| refusal(entries, mode, sq_cpu, error, &disabled());
    let ring: IoUring<S, C> = builder.build(entries).map_err(|e| no(&e))?;
    // Without it no wait has an end (IORING_ENTER_EXT_ARG): such a kernel has too little of io_uring, as one without any.
    if ring.params().is_feature_ext_arg() {
        Ok(ring)
    } else {
        Err(no(&io::Error::from_raw_os_error(libc::ENOSYS)))
    }
}

/// Whether this kernel lets this process make a ring of this mode.
pub(crate) fn available(mode: RingMode) -> Result<(), String> {
    make::<squeue::Entry, cqueue::Entry>(1, mode, None).map(drop)
}

/// The same for one that takes a device's commands.
pub(crate) fn available_cmd(mode: RingMode) -> Result<(), String> {
    let ring = make::<squeue::Entry128, cqueue::Entry32>(1, mode, None)?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|e| format!("cannot ask io_uring for its operations: {e}; use io_uring"))?;
    if probe.is_supported(opcode::UringCmd80::CODE) {
        Ok(())
    } else {
        Err("this kernel's io_uring takes no commands of devices (5.19 or later does); give --engine io_uring".to_owned())
    }
}

/// What `kernel.io_uring_disabled` says; empty where the kernel has no such setting (before 6.6).
fn disabled() -> String {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn refusal(
    entries: u32,
    mode: RingMode,
    sq_cpu: Option<CpuId>,
    error: &io::Error,
    disabled: &str,
) -> String {
    let next = match error.raw_os_error() {
        Some(libc::EPERM) if matches!(disabled, "1" | "2") => format!(
            "kernel.io_uring_disabled is {disabled}; `sysctl kernel.io_uring_disabled=0`, or --engine libaio"
        ),
        Some(libc::EPERM | libc::EACCES) => {
            "a seccomp filter, as containers have, forbids it; run outside of it or with one that allows io_uring, or --engine libaio".to_owned()
        }
        Some(libc::ENOSYS) => {
            "this kernel has none (5.11 or later is needed), or a seccomp filter hides it; give --engine libaio".to_owned()
        }
        Some(libc::ENOMEM) => {
            "too little locked memory (RLIMIT_MEMLOCK); raise it with `ulimit -l unlimited` or LimitMEMLOCK=infinity, or lower --depth".to_owned()
        }
        Some(libc::EINVAL) => match (mode.issue, sq_cpu) {
            (Issue::Deferred, _) => {
                "this kernel does not defer completions until they are asked for (6.1 or later does); give +taskrun, such as --engine io_uring+taskrun".to_owned()
            }
            (Issue::SqPoll, Some(cpu)) => {
                format!("its polling thread cannot run on CPU {cpu}; name another for +sqpoll, one that is online and of this cgroup's")
            }
            _ => "this kernel does not know a mode of it; leave the modifiers out".to_owned(),
        },
        Some(libc::EMFILE | libc::ENFILE) => {
            "too many files are open; raise the limit with `ulimit -n 65536`, or --engine libaio".to_owned()
        }
        _ => "give --engine libaio or psync".to_owned(),
    };
    format!("cannot make an io_uring of {entries} entries: {error}; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: i32, issue: Issue, cpu: Option<CpuId>, disabled: &str) -> String {
        let mode = RingMode {
            issue,
            ..RingMode::default()
        };
        refusal(8, mode, cpu, &io::Error::from_raw_os_error(code), disabled)
    }

    #[test]
    fn each_refusal_names_its_cause_and_the_next_step() {
        use Issue::{Deferred, SqPoll, TaskRun};
        let cpu = Some(CpuId(7));
        for (code, issue, cpu, disabled, expected) in [
            (
                libc::EPERM,
                Deferred,
                None,
                "2",
                "io_uring_disabled is 2; `sysctl kernel.io_uring_disabled=0`",
            ),
            (libc::EPERM, Deferred, None, "1", "io_uring_disabled is 1"),
            (libc::EPERM, Deferred, None, "0", "seccomp"),
            (libc::EPERM, Deferred, None, "", "seccomp"),
            (libc::ENOSYS, TaskRun, None, "", "5.11"),
            (libc::ENOMEM, TaskRun, None, "0", "ulimit -l"),
            (libc::EINVAL, Deferred, None, "0", "io_uring+taskrun"),
            (libc::EINVAL, SqPoll, cpu, "0", "CPU 7"),
            (libc::EINVAL, TaskRun, None, "0", "leave the modifiers out"),
            (libc::EMFILE, TaskRun, None, "0", "ulimit -n"),
            (libc::EIO, TaskRun, None, "0", "--engine libaio"),
        ] {
            let why = told(code, issue, cpu, disabled);
            assert!(why.contains(expected) && !why.contains('\n'), "{why}");
        }
    }
}
