//! Persistent reservations: what an NVMe namespace's Reservation Report says, from its bytes.

use std::{fmt, io};

use crate::ioctl::Answer;

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

/// What a report says before its registrants, and whole even where they are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The type of the reservation held, as in [`Report::kind`].
    pub kind: Option<u8>,
    /// How many hosts are registered.
    pub registrants: usize,
}

/// The report is shorter than it says. Whoever meets this must still look at `head`: it may forbid a write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the drive's Reservation Report has {found} bytes, and {expected} were expected; ask it again with a larger buffer"
)]
pub struct Short {
    /// Its length.
    pub found: usize,
    /// What it should have.
    pub expected: usize,
    /// Its start, where there is that much.
    pub head: Option<Head>,
}

/// Reads a report; `extended` says which of the two structures was asked for (Extended Data Structure, command dword 11).
///
/// # Errors
/// It ends before the registrants that it counts.
pub fn report(bytes: &[u8], extended: bool) -> Result<Report, Short> {
    // The short structure has 24 bytes and 24 a registrant, the extended one 64 and 64 (figures 402 to 405).
    let unit = if extended { 64 } else { 24 };
    let head = Head::of(bytes);
    let short = |expected| Short {
        found: bytes.len(),
        expected,
        head,
    };
    let (Some(head), Some((start, entries))) = (head, bytes.split_at_checked(unit)) else {
        return Err(short(unit));
    };
    let number = |from: &[u8]| {
        from.iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    let length = head.registrants * unit;
    let entries = entries.get(..length).ok_or_else(|| short(unit + length))?;
    Ok(Report {
        generation: u32::from_le_bytes([start[0], start[1], start[2], start[3]]),
        kind: head.kind,
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

impl Head {
    /// The start of a report in either structure; `None` where it does not reach so far.
    pub fn of(bytes: &[u8]) -> Option<Head> {
        let bytes: &[u8; 7] = bytes.first_chunk()?;
        Some(Head {
            kind: Some(bytes[4]).filter(|kind| *kind != 0),
            registrants: usize::from(u16::from_le_bytes([bytes[5], bytes[6]])),
        })
    }

    /// Whether nobody is registered and nothing is held.
    pub fn is_free(&self) -> bool {
        self.kind.is_none() && self.registrants == 0
    }
}

/// What a namespace's report says against a write, from a function that gives the report in the extended structure or the short
/// one, with room for so many bytes. `None` where the drive has no reservations, or nobody has one.
///
/// # Errors
/// Why it cannot be known.
pub(crate) fn ask(
    mut drive: impl FnMut(bool, u32) -> io::Result<Answer>,
) -> Result<Option<String>, String> {
    /// Room for 63 hosts of the extended structure.
    const ROOM: u32 = 4096;
    /// Status codes without "do not retry": Invalid Command Opcode, Invalid Field (NVM Express Base 2.0 §3.3.3.2.1).
    const UNKNOWN: [u32; 2] = [0x01, 0x02];
    /// Host Identifier Inconsistent Format: the host has given the drive an identifier of the short structure's length.
    const OTHER_FORMAT: u32 = 0x18;
    let code = |answer: &io::Result<Answer>| match answer {
        Ok(Answer::Status(status)) => Some(status & 0x7ff),
        _ => None,
    };
    let mut extended = true;
    let mut answer = drive(extended, ROOM);
    // A drive may have reservations and not the extended structure, which came later; only what it answers to the
    // short one tells that it has none.
    if code(&answer).is_some_and(|code| UNKNOWN.contains(&code) || code == OTHER_FORMAT) {
        extended = false;
        answer = drive(extended, ROOM);
        if code(&answer).is_some_and(|code| UNKNOWN.contains(&code)) {
            return Ok(None);
        }
    }
    let bytes = match answer {
        Ok(Answer::Data(bytes)) => bytes,
        Ok(Answer::Status(status)) => {
            return Err(format!(
                "the drive answers Reservation Report with status {status:#x}"
            ));
        }
        Err(why) => return Err(why.to_string()),
    };
    let mut read = report(&bytes, extended);
    // For the names of hosts that are too many; that there are some is known already, whatever comes of it.
    if let Err(short) = &read
        && let Ok(room) = u32::try_from(short.expected.next_multiple_of(ROOM as usize))
        && let Ok(Answer::Data(bytes)) = drive(extended, room)
        && let Ok(whole) = report(&bytes, extended)
        && !whole.is_free()
    {
        read = Ok(whole);
    }
    match read {
        Ok(report) => Ok((!report.is_free()).then(|| report.to_string())),
        Err(Short {
            head: Some(head), ..
        }) if !head.is_free() => Ok(Some(format!(
            "{head}; their names do not fit into what the drive gives"
        ))),
        Err(short) => Err(short.to_string()),
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "a reservation of type {kind} is held, ")?,
            None => write!(f, "no reservation is held, ")?,
        }
        write!(f, "{} hosts are registered", self.registrants)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = Head {
            kind: self.kind,
            registrants: self.registrants.len(),
        };
        write!(f, "{head}")?;
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
            assert!(error.head.is_some_and(|head| !head.is_free()));
        }
        assert!(report(&[0; 24], false).expect("a report").is_free());
        assert!(report(&[0; 63], true).is_err());
    }

    /// A report that says so much of itself and is as long as the room given for it, at most.
    fn cut(kind: u8, hosts: u16, extended: bool, room: usize) -> Vec<u8> {
        let unit = if extended { 64 } else { 24 };
        let mut bytes = vec![0; unit * (usize::from(hosts) + 1)];
        bytes[4] = kind;
        bytes[5..7].copy_from_slice(&hosts.to_le_bytes());
        bytes.resize(room, 0);
        bytes
    }

    #[test]
    fn more_hosts_than_fit_are_asked_again_and_refuse_in_any_case() {
        let mut rooms = Vec::new();
        let told = ask(|extended, room| {
            rooms.push(room);
            Ok(Answer::Data(cut(0, 100, extended, room as usize)))
        });
        let told = told.expect("an answer").expect("hosts");
        assert_eq!(rooms, [4096, 8192]);
        assert!(
            told.starts_with("no reservation is held, 100 hosts are registered; host 0"),
            "{told}"
        );
        // The larger report is refused, by the kernel or the drive, or comes back as short or as no report at all.
        for (kind, hosts) in [(0, 64), (3, u16::MAX)] {
            for second in 0..4 {
                let mut asked = 0;
                let told = ask(|extended, room| {
                    asked += 1;
                    match (asked, second) {
                        (1, _) | (2, 0) => Ok(Answer::Data(cut(kind, hosts, extended, 4096))),
                        (2, 1) => Ok(Answer::Status(0x4002)),
                        (2, 2) => Ok(Answer::Data(vec![0; room as usize])),
                        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
                    }
                });
                let told = told.expect("an answer").expect("hosts");
                assert!(
                    told.contains(&format!("{hosts} hosts are registered; their names")),
                    "{told}"
                );
                assert_eq!(told.contains("type 3 is held"), kind == 3, "{told}");
            }
        }
        // Too short for its own structure, and yet it says that something is held.
        let told = ask(|_, _| Ok(Answer::Data(vec![0, 0, 0, 0, 1, 0, 0])));
        assert!(
            told.expect("an answer")
                .expect("held")
                .contains("type 1 is held")
        );
        let told = ask(|_, _| Ok(Answer::Data(vec![0; 6])));
        assert!(told.expect_err("no report").contains("has 6 bytes"));
        assert_eq!(
            ask(|_, room| Ok(Answer::Data(vec![0; room as usize]))),
            Ok(None)
        );
    }

    #[test]
    fn only_the_short_structure_tells_that_there_are_none() {
        /// What is told, and which structures were asked for, of a drive that answers both so.
        fn told(
            extended: u32,
            short: Result<Vec<u8>, u32>,
        ) -> (Result<Option<String>, String>, Vec<bool>) {
            let mut asked = Vec::new();
            let told = ask(|is_extended, _| {
                asked.push(is_extended);
                Ok(match (is_extended, &short) {
                    (true, _) => Answer::Status(extended),
                    (false, Ok(bytes)) => Answer::Data(bytes.clone()),
                    (false, Err(status)) => Answer::Status(*status),
                })
            });
            (told, asked)
        }
        // "Do not retry" (4000h) and "more" (2000h) stand beside the code.
        for refused in [0x01, 0x02, 0x18, 0x4002, 0x6018] {
            let (held, asked) = told(refused, Ok(two_hosts(false)));
            let held = held.expect("an answer").expect("hosts");
            assert!(held.contains("type 3 is held, 2 hosts"), "{held}");
            assert_eq!(asked, [true, false]);
            assert_eq!(told(refused, Ok(vec![0; 24])).0, Ok(None));
            for none in [0x4001, 0x02] {
                assert_eq!(told(refused, Err(none)).0, Ok(None));
            }
            for other in [0x18, 0x102, 0x06] {
                let why = told(refused, Err(other)).0.expect_err("no answer");
                assert!(why.contains(&format!("{other:#x}")), "{why}");
            }
        }
        let (failed, asked) = told(0x06, Ok(two_hosts(false)));
        assert!(failed.is_err());
        assert_eq!(asked, [true]);
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
