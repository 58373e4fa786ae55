//! What to do where a connection does not come about.

use strata_rdma_sys::cm::{
    RDMA_CM_EVENT_ADDR_ERROR, RDMA_CM_EVENT_DEVICE_REMOVAL, RDMA_CM_EVENT_DISCONNECTED,
    RDMA_CM_EVENT_REJECTED, RDMA_CM_EVENT_ROUTE_ERROR,
};

use crate::verbs::VerbsError;

/// The kernel has no connection manager for this program.
pub(super) fn cannot_reach_kernel(errno: i32) -> &'static str {
    match errno {
        libc::EACCES | libc::EPERM => {
            "this user may not open /dev/infiniband/rdma_cm; its mode (0666 by udev's rules of rdma-core) must let it, or give --connect control"
        }
        libc::EMFILE | libc::ENFILE => "too many files are open; raise `ulimit -n`",
        _ => {
            "it is missing, or of another version: `modprobe rdma_ucm`, and in a container pass the device in, or give --connect control"
        }
    }
}

/// An address could not be listened at.
pub(super) fn cannot_listen(errno: i32) -> &'static str {
    match errno {
        libc::EADDRNOTAVAIL | libc::ENODEV => {
            "no RDMA device of this machine has that address: look at `strata rdma list` and `ip address`"
        }
        libc::EADDRINUSE => "somebody else listens there",
        _ => "look at dmesg",
    }
}

/// An address could not be resolved, to a neighbour or to a device.
pub(super) fn cannot_resolve(errno: i32) -> &'static str {
    match errno {
        libc::ENODEV | libc::EADDRNOTAVAIL => {
            "the way there goes by no RDMA device: look at `ip route get` and `strata rdma list`, change --device or --peer-device"
        }
        libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH => {
            "nobody answers for that address: `ping` it from this interface, look at `ip neigh` and `ip route`"
        }
        _ => "look at `ip route`, `ip neigh` and dmesg",
    }
}

/// A path could not be had: on InfiniBand the subnet manager gives it.
const NO_ROUTE: &str = "no path there: on InfiniBand look whether a subnet manager runs (`sminfo`), else at `ip route`";

/// The request was sent, and nothing came.
pub(super) const NO_ANSWER: &str = "no connection manager answers there: `ping` the address from this one's interface, look at firewalls (UDP port 4791 of RoCE v2), and whether it is an RDMA interface's (`strata rdma list` there)";

/// Nobody has come.
pub(super) const NO_REQUEST: &str = "the other side did not connect in time; look at its own messages, and at firewalls (UDP port 4791 of RoCE v2)";

/// A reason for which a connection manager rejects, in words, and what to do.
fn rejected(reason: i32) -> (&'static str, &'static str) {
    match reason {
        1 | 3 => (
            "no queue pair or resources",
            "the other side's device has no more; lower --qps",
        ),
        4 => ("it timed out", NO_ANSWER),
        8 => (
            "nobody listens there",
            "the other side has ended its trial, or the address is another machine's; look at its own messages",
        ),
        10 => (
            "an older connection of that queue pair is remembered",
            "it is forgotten within seconds; try again",
        ),
        12 | 13 => (
            "the address is not that of its port",
            "look at GIDs and LIDs (`strata rdma list`) on both sides",
        ),
        14 => ("its service level", "change --service-level"),
        15 => ("its traffic class", "change --traffic-class"),
        26 => ("its MTU", "lower --mtu"),
        27 => ("more reads than it answers at once", "lower --reads"),
        28 => (
            "whoever listens does not want it",
            "it is not of the trial that runs there; look whether several trials share the address",
        ),
        29 => ("its RNR retries", "change --rnr-retries"),
        _ => (
            "no reason that is known here",
            "look it up in the REJ reasons of the InfiniBand specification, and at dmesg on both sides",
        ),
    }
}

/// The error that an event other than the awaited one tells.
pub(super) fn told(call: &'static str, object: String, kind: i32, status: i32) -> VerbsError {
    let next = match kind {
        RDMA_CM_EVENT_REJECTED => {
            let (why, next) = rejected(status);
            return VerbsError::Rejected {
                call,
                object,
                reason: status,
                why,
                next,
            };
        }
        RDMA_CM_EVENT_ADDR_ERROR => cannot_resolve(status.abs()),
        RDMA_CM_EVENT_ROUTE_ERROR => NO_ROUTE,
        RDMA_CM_EVENT_DEVICE_REMOVAL => "the device is gone; look at dmesg",
        RDMA_CM_EVENT_DISCONNECTED => {
            "the other side closed it before it was complete; look at its own messages"
        }
        // Unreachable, and errors of connecting: nothing came in the connection manager's own time.
        _ => NO_ANSWER,
    };
    let errno = match (kind, status) {
        (RDMA_CM_EVENT_DEVICE_REMOVAL, _) => libc::ENODEV,
        (RDMA_CM_EVENT_DISCONNECTED, _) => libc::ECONNRESET,
        (_, 0) => libc::EHOSTUNREACH,
        (_, status) => status,
    };
    VerbsError::call(call, object, errno, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_rdma_sys::cm::RDMA_CM_EVENT_UNREACHABLE;

    #[test]
    fn what_the_kernel_tells_becomes_an_error_that_says_what_to_do() {
        let told = |kind, status| told("rdma_x", "a to b".to_owned(), kind, status).to_string();
        for (kind, status, words) in [
            (RDMA_CM_EVENT_REJECTED, 8, ["nobody listens", "messages"]),
            (RDMA_CM_EVENT_REJECTED, 28, ["28", "not of the trial"]),
            (RDMA_CM_EVENT_REJECTED, 99, ["99", "InfiniBand"]),
            (
                RDMA_CM_EVENT_ADDR_ERROR,
                -libc::ENODEV,
                ["No such device", "--device"],
            ),
            (
                RDMA_CM_EVENT_ADDR_ERROR,
                -libc::ETIMEDOUT,
                ["timed out", "ip neigh"],
            ),
            (
                RDMA_CM_EVENT_ROUTE_ERROR,
                -libc::EINVAL,
                ["Invalid", "sminfo"],
            ),
            (RDMA_CM_EVENT_UNREACHABLE, 0, ["No route", "firewalls"]),
            (RDMA_CM_EVENT_DISCONNECTED, 0, ["reset", "closed it"]),
        ] {
            let told = told(kind, status);
            assert!(told.starts_with("rdma_x on a to b: "), "{told}");
            for word in words {
                assert!(told.contains(word), "{word}: {told}");
            }
        }
    }
}
