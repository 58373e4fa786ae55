//! What became of a command, with the specification's names.

use std::fmt;

use strata_units::Nanos;

use crate::bits;

/// The status of a completion: its 15 bits without the phase tag (Base 4.2.3), as the kernel's passthrough gives it too.
///
/// Code (SC) in bits 7:0, its type (SCT) in bits 10:8, retry delay (CRD) in bits 12:11, More in bit 13, Do Not Retry in bit 14.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Status(u16);

impl Status {
    /// From the 15 bits; bit 15 is ignored.
    #[inline]
    pub const fn from_field(field: u16) -> Status {
        Status(field & 0x7fff)
    }

    /// The code `sc` of type `sct` (bits above 2 ignored), which may be retried.
    pub const fn new(sct: u8, sc: u8) -> Status {
        Status((sct as u16 & 0b111) << 8 | sc as u16)
    }

    /// The 15 bits.
    #[inline]
    pub const fn field(self) -> u16 {
        self.0
    }

    /// The same, not to be retried (DNR).
    #[must_use]
    pub const fn do_not_retry(self) -> Status {
        Status(self.0 | 1 << 14)
    }

    /// The same, and the error log says more (M).
    #[must_use]
    pub const fn with_more(self) -> Status {
        Status(self.0 | 1 << 13)
    }

    /// Its type, SCT: 0 generic, 1 command specific, 2 media and data integrity, 3 path related, 7 vendor specific.
    pub const fn kind(self) -> u8 {
        bits::get(self.0 as u64, 8, 3) as u8
    }

    /// Its code, SC.
    pub const fn code(self) -> u8 {
        self.0 as u8
    }

    /// Whether the command was carried out.
    #[inline]
    pub const fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// Whether it failed and the same command may succeed when given again: DNR is not set.
    pub const fn is_retryable(self) -> bool {
        !self.is_success() && !bits::is_set(self.0 as u64, 14)
    }

    /// Whether the error log holds an entry on it.
    pub const fn has_more(self) -> bool {
        bits::is_set(self.0 as u64, 13)
    }

    /// How long to wait before a retry, by `delays` of Identify Controller (CRDT1 to CRDT3); none where CRD is 0. CRD means
    /// something only after the host enabled it (Host Behavior Support).
    pub fn retry_delay(self, delays: [Nanos; 3]) -> Nanos {
        match bits::get(self.0.into(), 11, 2) {
            0 => Nanos(0),
            n => delays[n as usize - 1],
        }
    }

    /// Whether it is the same code of the same type, whatever its flags.
    pub const fn is(self, other: Status) -> bool {
        self.0 & 0x7ff == other.0 & 0x7ff
    }
}

/// `Invalid Field in Command (type 0h, code 02h, do not retry)`; what has no name here shows its numbers only.
impl Status {
    /// What to do about a failure of a read or write, whichever driver was told of it.
    pub fn next(self) -> &'static str {
        /// Of media and data integrity errors (Base 4.2.3.3).
        const MEDIA: u8 = 2;
        if self.is(Status::ACCESS_DENIED) {
            "the namespace is locked, or closed to this host; unlock it (sedutil-cli, nvme security-send), or measure another"
        } else if self.kind() == MEDIA {
            "look at the drive's health and its error log (nvme smart-log, nvme error-log)"
        } else {
            "look at the drive's error log (nvme error-log)"
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or(match self.kind() {
            0 => "Generic Command Status",
            1 => "Command Specific Status",
            2 => "Media and Data Integrity Error",
            3 => "Path Related Status",
            7 => "Vendor Specific Status",
            _ => "Reserved Status",
        });
        write!(
            f,
            "{name} (type {:x}h, code {:02x}h",
            self.kind(),
            self.code()
        )?;
        if !self.is_success() && !self.is_retryable() {
            f.write_str(", do not retry")?;
        }
        if self.has_more() {
            f.write_str(", more in the error log")?;
        }
        f.write_str(")")
    }
}

macro_rules! codes {
    ($($kind:literal $code:literal $constant:ident $name:literal)*) => {
        impl Status {
            $(
                #[doc = concat!($name, ".")]
                pub const $constant: Status = Status::new($kind, $code);
            )*

            /// The specification's name of it (Base 4.2.3.1 and the tables after it; NVM for codes of 80h and above);
            /// `None` for what is reserved, vendor specific, or of another command set.
            pub const fn name(self) -> Option<&'static str> {
                match (self.kind(), self.code()) {
                    $(($kind, $code) => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    0 0x00 SUCCESS "Successful Completion"
    0 0x01 INVALID_OPCODE "Invalid Command Opcode"
    0 0x02 INVALID_FIELD "Invalid Field in Command"
    0 0x03 COMMAND_ID_CONFLICT "Command ID Conflict"
    0 0x04 DATA_TRANSFER_ERROR "Data Transfer Error"
    0 0x05 POWER_LOSS "Commands Aborted due to Power Loss Notification"
    0 0x06 INTERNAL_ERROR "Internal Error"
    0 0x07 ABORT_REQUESTED "Command Abort Requested"
    0 0x08 SQ_DELETED "Command Aborted due to SQ Deletion"
    0 0x09 FUSED_FAILED "Command Aborted due to Failed Fused Command"
    0 0x0a FUSED_MISSING "Command Aborted due to Missing Fused Command"
    0 0x0b INVALID_NAMESPACE "Invalid Namespace or Format"
    0 0x0c SEQUENCE_ERROR "Command Sequence Error"
    0 0x0d SGL_INVALID_SEGMENT "Invalid SGL Segment Descriptor"
    0 0x0e SGL_INVALID_COUNT "Invalid Number of SGL Descriptors"
    0 0x0f SGL_INVALID_LENGTH "Data SGL Length Invalid"
    0 0x10 SGL_INVALID_METADATA_LENGTH "Metadata SGL Length Invalid"
    0 0x11 SGL_INVALID_TYPE "SGL Descriptor Type Invalid"
    0 0x12 INVALID_USE_OF_CMB "Invalid Use of Controller Memory Buffer"
    0 0x13 PRP_OFFSET_INVALID "PRP Offset Invalid"
    0 0x14 ATOMIC_UNIT_EXCEEDED "Atomic Write Unit Exceeded"
    0 0x15 OPERATION_DENIED "Operation Denied"
    0 0x16 SGL_OFFSET_INVALID "SGL Offset Invalid"
    0 0x18 HOST_ID_FORMAT "Host Identifier Inconsistent Format"
    0 0x19 KEEP_ALIVE_EXPIRED "Keep Alive Timer Expired"
    0 0x1a KEEP_ALIVE_INVALID "Keep Alive Timeout Invalid"
    0 0x1b PREEMPTED "Command Aborted due to Preempt and Abort"
    0 0x1c SANITIZE_FAILED "Sanitize Failed"
    0 0x1d SANITIZE_IN_PROGRESS "Sanitize In Progress"
    0 0x1e SGL_INVALID_GRANULARITY "SGL Data Block Granularity Invalid"
    0 0x1f NOT_SUPPORTED_IN_CMB "Command Not Supported for Queue in CMB"
    0 0x20 WRITE_PROTECTED "Namespace is Write Protected"
    0 0x21 INTERRUPTED "Command Interrupted"
    0 0x22 TRANSIENT_TRANSPORT_ERROR "Transient Transport Error"
    0 0x23 LOCKED_DOWN "Command Prohibited by Command and Feature Lockdown"
    0 0x24 MEDIA_NOT_READY "Admin Command Media Not Ready"
    0 0x80 LBA_OUT_OF_RANGE "LBA Out of Range"
    0 0x81 CAPACITY_EXCEEDED "Capacity Exceeded"
    0 0x82 NAMESPACE_NOT_READY "Namespace Not Ready"
    0 0x83 RESERVATION_CONFLICT "Reservation Conflict"
    0 0x84 FORMAT_IN_PROGRESS "Format In Progress"
    1 0x00 CQ_INVALID "Completion Queue Invalid"
    1 0x01 INVALID_QUEUE_ID "Invalid Queue Identifier"
    1 0x02 INVALID_QUEUE_SIZE "Invalid Queue Size"
    1 0x03 ABORT_LIMIT "Abort Command Limit Exceeded"
    1 0x05 EVENT_REQUEST_LIMIT "Asynchronous Event Request Limit Exceeded"
    1 0x06 INVALID_FIRMWARE_SLOT "Invalid Firmware Slot"
    1 0x07 INVALID_FIRMWARE_IMAGE "Invalid Firmware Image"
    1 0x08 INVALID_VECTOR "Invalid Interrupt Vector"
    1 0x09 INVALID_LOG_PAGE "Invalid Log Page"
    1 0x0a INVALID_FORMAT "Invalid Format"
    1 0x0b FIRMWARE_NEEDS_CONVENTIONAL_RESET "Firmware Activation Requires Conventional Reset"
    1 0x0c INVALID_QUEUE_DELETION "Invalid Queue Deletion"
    1 0x0d FEATURE_NOT_SAVEABLE "Feature Identifier Not Saveable"
    1 0x0e FEATURE_NOT_CHANGEABLE "Feature Not Changeable"
    1 0x0f FEATURE_NOT_PER_NAMESPACE "Feature Not Namespace Specific"
    1 0x10 FIRMWARE_NEEDS_SUBSYSTEM_RESET "Firmware Activation Requires NVM Subsystem Reset"
    1 0x11 FIRMWARE_NEEDS_CONTROLLER_RESET "Firmware Activation Requires Controller Level Reset"
    1 0x12 FIRMWARE_NEEDS_TIME "Firmware Activation Requires Maximum Time Violation"
    1 0x13 FIRMWARE_PROHIBITED "Firmware Activation Prohibited"
    1 0x14 OVERLAPPING_RANGE "Overlapping Range"
    1 0x15 INSUFFICIENT_CAPACITY "Namespace Insufficient Capacity"
    1 0x16 NAMESPACE_ID_UNAVAILABLE "Namespace Identifier Unavailable"
    1 0x18 ALREADY_ATTACHED "Namespace Already Attached"
    1 0x19 NAMESPACE_PRIVATE "Namespace Is Private"
    1 0x1a NOT_ATTACHED "Namespace Not Attached"
    1 0x1b THIN_NOT_SUPPORTED "Thin Provisioning Not Supported"
    1 0x1c CONTROLLER_LIST_INVALID "Controller List Invalid"
    1 0x1d SELF_TEST_IN_PROGRESS "Device Self-test In Progress"
    1 0x1e BOOT_PARTITION_PROTECTED "Boot Partition Write Prohibited"
    1 0x1f INVALID_CONTROLLER_ID "Invalid Controller Identifier"
    1 0x20 INVALID_SECONDARY_STATE "Invalid Secondary Controller State"
    1 0x21 INVALID_RESOURCE_COUNT "Invalid Number of Controller Resources"
    1 0x22 INVALID_RESOURCE_ID "Invalid Resource Identifier"
    1 0x80 CONFLICTING_ATTRIBUTES "Conflicting Attributes"
    1 0x81 INVALID_PROTECTION_INFORMATION "Invalid Protection Information"
    1 0x82 WRITE_TO_READ_ONLY "Attempted Write to Read Only Range"
    1 0x83 COMMAND_SIZE_EXCEEDED "Command Size Limit Exceeded"
    2 0x80 WRITE_FAULT "Write Fault"
    2 0x81 UNRECOVERED_READ_ERROR "Unrecovered Read Error"
    2 0x82 GUARD_CHECK "End-to-end Guard Check Error"
    2 0x83 APPLICATION_TAG_CHECK "End-to-end Application Tag Check Error"
    2 0x84 REFERENCE_TAG_CHECK "End-to-end Reference Tag Check Error"
    2 0x85 COMPARE_FAILURE "Compare Failure"
    2 0x86 ACCESS_DENIED "Access Denied"
    2 0x87 UNWRITTEN_BLOCK "Deallocated or Unwritten Logical Block"
    2 0x88 STORAGE_TAG_CHECK "End-to-end Storage Tag Check Error"
    3 0x00 INTERNAL_PATH_ERROR "Internal Path Error"
    3 0x01 ANA_PERSISTENT_LOSS "Asymmetric Access Persistent Loss"
    3 0x02 ANA_INACCESSIBLE "Asymmetric Access Inaccessible"
    3 0x03 ANA_TRANSITION "Asymmetric Access Transition"
    3 0x60 CONTROLLER_PATHING_ERROR "Controller Pathing Error"
    3 0x70 HOST_PATHING_ERROR "Host Pathing Error"
    3 0x71 ABORTED_BY_HOST "Command Aborted By Host"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_say_their_name_and_whether_to_retry() {
        for (field, text, retry) in [
            (0x0000, "Successful Completion (type 0h, code 00h)", false),
            (
                0x4002,
                "Invalid Field in Command (type 0h, code 02h, do not retry)",
                false,
            ),
            (
                0x2281,
                "Unrecovered Read Error (type 2h, code 81h, more in the error log)",
                true,
            ),
            (0x0102, "Invalid Queue Size (type 1h, code 02h)", true),
            (
                0x67c5,
                "Vendor Specific Status (type 7h, code c5h, do not retry, more in the error log)",
                false,
            ),
            (0x0017, "Generic Command Status (type 0h, code 17h)", true),
        ] {
            let status = Status::from_field(field);
            assert_eq!(status.to_string(), text);
            assert_eq!(status.is_retryable(), retry, "{field:#x}");
        }
        assert!(Status::from_field(0x4281).is(Status::UNRECOVERED_READ_ERROR));
        assert_eq!(
            Status::LBA_OUT_OF_RANGE.do_not_retry().with_more().field(),
            0x6080
        );
    }

    #[test]
    fn the_retry_delay_is_the_one_that_is_named() {
        let delays = [1, 2, 3].map(Nanos::from_millis);
        let waits =
            [0u16, 1, 2, 3].map(|crd| Status::from_field(crd << 11 | 0x21).retry_delay(delays));
        assert_eq!(waits, [0, 1, 2, 3].map(Nanos::from_millis));
    }

    proptest! {
        #[test]
        fn no_status_panics(field in any::<u16>()) {
            let status = Status::from_field(field);
            prop_assert_eq!(status.field(), field & 0x7fff);
            prop_assert!(!status.to_string().is_empty());
            prop_assert!(!(status.is_success() && status.is_retryable()));
        }
    }
}
