//! What the sockets of a trial are set to, and what the kernel made of it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use strata_measure::Fatal;
use strata_record::Sockets;
use strata_units::{Bytes, Nanos};

use crate::sys;

/// The longest sleep in the kernel before a loop looks at its clock.
pub(crate) const SLEEP: Nanos = Nanos::from_millis(100);

/// The most that SO_BUSY_POLL takes, an int of microseconds.
const MOST_POLL: u64 = i32::MAX as u64;

/// Which side's socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that measures: its interface is bound to.
    Measuring,
    /// The other one: an interface's name means nothing on another machine, and it answers on the address that it was
    /// reached at.
    Other,
}

/// Sets what must stand before a connection does: buffers decide the window that it offers (tcp(7)).
pub(crate) fn before(socket: &impl AsFd, options: &Sockets, side: Side) -> Result<(), Fatal> {
    if let Some(asked) = options.send_buffer_bytes {
        buffer(socket, asked, "SO_SNDBUF", "--sndbuf", "net.core.wmem_max")?;
    }
    if let Some(asked) = options.receive_buffer_bytes {
        buffer(socket, asked, "SO_RCVBUF", "--rcvbuf", "net.core.rmem_max")?;
    }
    if let Some(name) = &options.congestion {
        congestion(socket, name)?;
    }
    if let Some(span) = options.busy_poll_ns {
        let us = i32::try_from(span.0.div_ceil(1000).min(MOST_POLL)).unwrap_or(i32::MAX);
        sys::set_option(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, us).map_err(|e| {
            let next = match e.raw_os_error() {
                Some(libc::EPERM) => "more than net.core.busy_read takes CAP_NET_ADMIN; run as root, or set that sysctl",
                _ => "the kernel must be built with CONFIG_NET_RX_BUSY_POLL",
            };
            Fatal(format!("cannot poll the device for {us} µs (SO_BUSY_POLL): {e}; {next}, or leave --busy-poll out"))
        })?;
    }
    if let Some(name) = options
        .interface
        .as_ref()
        .filter(|_| side == Side::Measuring)
    {
        setsockopt(socket, sockopt::BindToDevice, &OsString::from(name)).map_err(|e| {
            let next = match e {
                Errno::EPERM => "it takes CAP_NET_RAW; run as root".to_owned(),
                _ => format!("this machine has {}", interfaces()),
            };
            Fatal(format!(
                "cannot bind to the interface `{name}` (SO_BINDTODEVICE): {e}; {next}, or leave --interface out"
            ))
        })?;
    }
    Ok(())
}

/// Sets what each connected socket needs: no sleep in the kernel outlasts the loop's look at its clock.
pub(crate) fn after(socket: &impl AsFd, options: &Sockets, zerocopy: bool) -> Result<(), Fatal> {
    let fatal = |what: &str, e: &dyn std::fmt::Display| {
        Fatal(format!(
            "cannot set {what} of a connection: {e}; look at its last words and dmesg"
        ))
    };
    timeout(socket, SLEEP).map_err(|e| fatal("the time-outs", &e))?;
    setsockopt(socket, sockopt::TcpNoDelay, &options.nodelay)
        .map_err(|e| fatal("TCP_NODELAY", &e))?;
    if zerocopy {
        without_copy(socket)?;
    }
    Ok(())
}

/// Lets a socket send without a copy.
pub(crate) fn without_copy(socket: &impl AsFd) -> Result<(), Fatal> {
    sys::set_option(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1).map_err(|e| {
        Fatal(format!(
            "cannot send without a copy (SO_ZEROCOPY): {e}; it takes Linux 4.14 or later; give --engine tcp"
        ))
    })
}

/// The longest that a call on the socket sleeps.
pub(crate) fn timeout(socket: &impl AsFd, span: Nanos) -> Result<(), Errno> {
    let span = TimeVal::nanoseconds(i64::try_from(span.0).unwrap_or(i64::MAX));
    setsockopt(socket, sockopt::ReceiveTimeout, &span)?;
    setsockopt(socket, sockopt::SendTimeout, &span)
}

/// The kernel doubles what is asked for, for its own book-keeping, and cuts it off at the limit without a word (socket(7)).
fn buffer(
    socket: &impl AsFd,
    asked: Bytes,
    what: &str,
    option: &str,
    limit: &str,
) -> Result<(), Fatal> {
    let name = if what == "SO_SNDBUF" {
        libc::SO_SNDBUF
    } else {
        libc::SO_RCVBUF
    };
    let value = i32::try_from(asked.0).map_err(|_| {
        Fatal(format!(
            "{option} {asked} is more than a socket can have; give less than 2GiB"
        ))
    })?;
    sys::set_option(socket, libc::SOL_SOCKET, name, value).map_err(|e| {
        Fatal(format!(
            "cannot set {what} to {asked}: {e}; change {option}"
        ))
    })?;
    let made = number(socket, libc::SOL_SOCKET, name).unwrap_or(0);
    if made / 2 < asked.0 {
        return Err(Fatal(format!(
            "{what} of {asked} was asked for and the kernel gives {}; raise {limit} (sysctl) to {} or lower {option}",
            Bytes(made / 2),
            asked.0
        )));
    }
    Ok(())
}

fn congestion(socket: &impl AsFd, name: &str) -> Result<(), Fatal> {
    setsockopt(socket, sockopt::TcpCongestion, &OsString::from(name)).map_err(|e| {
        let next = match e {
            Errno::EPERM => format!(
                "without CAP_NET_ADMIN only {} are allowed",
                control("allowed")
            ),
            _ => format!(
                "available here: {}; others are modules (modprobe tcp_{name})",
                control("available")
            ),
        };
        Fatal(format!(
            "cannot use the congestion control `{name}` (TCP_CONGESTION): {e}; {next}; change --congestion"
        ))
    })
}

fn control(which: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{which}_congestion_control"))
        .map_or_else(|e| format!("(not told: {e})"), |s| s.trim().to_owned())
}

fn interfaces() -> String {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        // `bonding_masters` is a plain file in the same folder.
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.join(", ")
}

/// An option that is a number; none when the kernel does not tell it.
pub(crate) fn number(socket: &impl AsFd, level: i32, name: i32) -> Option<u64> {
    let mut bytes = [0; 4];
    let len = sys::option(socket, level, name, &mut bytes).ok()?;
    (len == 4).then(|| u64::from(u32::from_ne_bytes(bytes)))
}

/// The congestion control in use.
pub(crate) fn congestion_of(socket: &impl AsFd) -> io::Result<String> {
    Ok(getsockopt(socket, sockopt::TcpCongestion)?
        .to_string_lossy()
        .trim_end_matches('\0')
        .to_owned())
}
