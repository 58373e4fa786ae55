//! Persistent reservations: what an NVMe namespace's Reservation Report says, from its bytes.

use std::fmt;

/// Who holds what (NVM Express Base Specification 2.0 §7.6, Reservation Status data structure).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Counts registrations and releases; wraps.
    pub generation: u32,
    /// The type of the reservation held (1: write exclusive … 6: exclusive access, all registrants); `None` when none is.
    pub kind: Option<u8>,
    /// Hosts registered.
    pub registrants: Vec<Registrant>,
}

/// A host registered with a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrant {
    /// The controller that it came through; ffff when that is in another subsystem's dynamic model.
    pub controller: u16,
    /// Whether it holds the reservation.
    pub holds: bool,
    /// Its host identifier, 8 or 16 bytes.
    pub host: Vec<u8>,
    /// Its key.
    pub key: u64,
}

/// The report is shorter than it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the drive's Reservation Report has {found} bytes, and {expected} were expected; ask it again with a larger buffer"
)]
pub struct Short {
    /// Its length.
    pub found: usize,
    /// What it should have.
    pub expected: usize,
}

/// Reads a report; `extended` says which of the two structures was asked for (Extended Data Structure, command dword 11).
///
/// # Errors
/// It ends before the registrants that it counts.
pub fn report(bytes: &[u8], extended: bool) -> Result<Report, Short> {
    // The short structure has 24 bytes and 24 a registrant, the extended one 64 and 64 (figures 402 to 405).
    let unit = if extended { 64 } else { 24 };
    let short = |expected| Short {
        found: bytes.len(),
        expected,
    };
    let Some((head, entries)) = bytes.split_at_checked(unit) else {
        return Err(short(unit));
    };
    let number = |from: &[u8]| {
        from.iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    let count = usize::from(head[5]) | usize::from(head[6]) << 8;
    let entries = entries
        .get(..count * unit)
        .ok_or_else(|| short(unit + count * unit))?;
    Ok(Report {
        generation: u32::from_le_bytes([head[0], head[1], head[2], head[3]]),
        kind: Some(head[4]).filter(|kind| *kind != 0),
        registrants: entries
            .chunks_exact(unit)
            .map(|entry| Registrant {
                controller: u16::from_le_bytes([entry[0], entry[1]]),
                holds: entry[2] & 1 == 1,
                host: if extended {
                    entry[16..32].to_vec()
                } else {
                    entry[8..16].to_vec()
                },
                key: number(if extended {
                    &entry[8..16]
                } else {
                    &entry[16..24]
                }),
            })
            .collect(),
    })
}

impl Report {
    /// Whether nobody is registered and nothing is held.
    pub fn is_free(&self) -> bool {
        self.kind.is_none() && self.registrants.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "a reservation of type {kind} is held, ")?,
            None => write!(f, "no reservation is held, ")?,
        }
        write!(f, "{} hosts are registered", self.registrants.len())?;
        for registrant in &self.registrants {
            let host: String = registrant
                .host
                .iter()
                .rev()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let holds = if registrant.holds {
                ", which holds it"
            } else {
                ""
            };
            write!(
                f,
                "; host {host} by controller {}{holds}",
                registrant.controller
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A report of two hosts in either structure, laid out by the specification's figures.
    fn two_hosts(extended: bool) -> Vec<u8> {
        let unit = if extended { 64 } else { 24 };
        let mut bytes = vec![0; unit * 3];
        bytes[..7].copy_from_slice(&[7, 0, 0, 0, 3, 2, 0]);
        for (n, key) in [(0, 0xaa), (1, 0xbb)] {
            let entry = &mut bytes[unit * (n + 1)..][..unit];
            entry[0] = 1 + n as u8;
            entry[2] = n as u8;
            let (host, at_key) = if extended { (16, 8) } else { (8, 16) };
            entry[host] = 0x10 + n as u8;
            entry[at_key] = key;
        }
        bytes
    }

    #[test]
    fn both_structures_are_read() {
        for extended in [false, true] {
            let bytes = two_hosts(extended);
            let found = report(&bytes, extended).expect("a report");
            assert_eq!((found.generation, found.kind), (7, Some(3)));
            assert!(!found.is_free());
            let hosts: Vec<_> = found
                .registrants
                .iter()
                .map(|r| (r.controller, r.holds, r.host[0], r.key))
                .collect();
            assert_eq!(hosts, [(1, false, 0x10, 0xaa), (2, true, 0x11, 0xbb)]);
            assert_eq!(
                found.registrants[0].host.len(),
                if extended { 16 } else { 8 }
            );
            let text = found.to_string();
            assert!(
                text.contains("type 3 is held") && text.contains("controller 2, which holds it"),
                "{text}"
            );
            let error = report(&bytes[..bytes.len() - 1], extended).expect_err("cut off");
            assert_eq!(error.expected, bytes.len());
        }
        assert!(report(&[0; 24], false).expect("a report").is_free());
        assert!(report(&[0; 63], true).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), extended in any::<bool>()) {
            if let Ok(found) = report(&bytes, extended) {
                prop_assert!(found.registrants.len() * 24 <= bytes.len());
            }
        }
    }
}
