//! Asynchronous events.

use std::fmt;

use crate::bits;

/// What an Asynchronous Event Request's completion says in dword 0 (Base 5.1.2, "Completion Queue Entry Dword 0").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AsyncEvent {
    /// Its type: 0 error, 1 SMART / health, 2 notice, 3 immediate, 4 one-shot, 6 I/O command set specific, 7 vendor specific.
    pub kind: u8,
    /// What happened, by its type.
    pub info: u8,
    /// The log page that tells more and, once read, lets the next event of this type come.
    pub log_page: u8,
}

impl AsyncEvent {
    /// From dword 0.
    pub fn from_dword(dword: u32) -> AsyncEvent {
        AsyncEvent {
            kind: bits::get(dword.into(), 0, 3) as u8,
            info: bits::get(dword.into(), 8, 8) as u8,
            log_page: bits::get(dword.into(), 16, 8) as u8,
        }
    }

    /// As dword 0.
    pub fn dword(self) -> u32 {
        u32::from(self.kind & 0b111) | u32::from(self.info) << 8 | u32::from(self.log_page) << 16
    }

    /// The specification's name of what happened; `None` for what is reserved or vendor specific.
    pub fn name(self) -> Option<&'static str> {
        Some(match (self.kind, self.info) {
            (0, 0) => "Write to Invalid Doorbell Register",
            (0, 1) => "Invalid Doorbell Write Value",
            (0, 2) => "Diagnostic Failure",
            (0, 3) => "Persistent Internal Error",
            (0, 4) => "Transient Internal Error",
            (0, 5) => "Firmware Image Load Error",
            (1, 0) => "NVM Subsystem Reliability",
            (1, 1) => "Temperature Threshold",
            (1, 2) => "Spare Below Threshold",
            (2, 0) => "Namespace Attribute Changed",
            (2, 1) => "Firmware Activation Starting",
            (2, 2) => "Telemetry Log Changed",
            (2, 3) => "Asymmetric Namespace Access Change",
            (2, 4) => "Predictable Latency Event Aggregate Log Change",
            (2, 5) => "LBA Status Information Alert",
            (2, 6) => "Endurance Group Event Aggregate Log Page Change",
            (6, 0) => "Reservation Log Page Available",
            (6, 1) => "Sanitize Operation Completed",
            (6, 2) => "Sanitize Operation Completed With Unexpected Deallocation",
            _ => return None,
        })
    }
}

/// `Temperature Threshold (type 1h, information 01h, log page 02h)`.
impl fmt::Display for AsyncEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or("Asynchronous Event");
        write!(
            f,
            "{name} (type {:x}h, information {:02x}h, log page {:02x}h)",
            self.kind, self.info, self.log_page
        )
    }
}

/// Which events a controller shall report: the value of the feature Asynchronous Event Configuration (Base 5.1.25.1.5). Bits
/// from 8 up lie as those of OAES in Identify Controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EventConfig(pub u32);

impl EventConfig {
    /// Each critical warning of the SMART / Health log (bits 7:0, of which 5:0 are named).
    pub const CRITICAL_WARNINGS: EventConfig = EventConfig(0x3f);
    /// Namespaces that come, go or change.
    pub const NAMESPACES: EventConfig = EventConfig(1 << 8);
    /// Activation of firmware that pauses processing of commands.
    pub const FIRMWARE: EventConfig = EventConfig(1 << 9);

    /// Both.
    #[must_use]
    pub fn and(self, other: EventConfig) -> EventConfig {
        EventConfig(self.0 | other.0)
    }

    /// Whether all of `other` is asked for.
    pub fn has(self, other: EventConfig) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_are_told_apart() {
        let hot = AsyncEvent::from_dword(0x0002_0101);
        assert_eq!(
            hot.to_string(),
            "Temperature Threshold (type 1h, information 01h, log page 02h)"
        );
        assert_eq!(hot.dword(), 0x0002_0101);
        let own = AsyncEvent::from_dword(0x00c0_4207);
        assert_eq!(
            own.to_string(),
            "Asynchronous Event (type 7h, information 42h, log page c0h)"
        );
        let config = EventConfig::CRITICAL_WARNINGS.and(EventConfig::NAMESPACES);
        assert_eq!(config, EventConfig(0x13f));
        assert!(config.has(EventConfig::NAMESPACES) && !config.has(EventConfig::FIRMWARE));
    }

    proptest! {
        #[test]
        fn events_go_and_come(dword in any::<u32>()) {
            let event = AsyncEvent::from_dword(dword);
            prop_assert_eq!(event.dword(), dword & 0x00ff_ff07);
            prop_assert!(!event.to_string().is_empty());
        }
    }
}
