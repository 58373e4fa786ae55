//! The first message and its answer: the version, and what each side takes, as JSON that ends with a NUL.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zerocopy::IntoBytes;

use crate::dma::{MOST_MAPS, PAGE};
use crate::frame::{MOST_DATA, MOST_FDS};
use crate::wire::{MINOR, Version, split};

/// What a side takes; the protocol's defaults for what it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Descriptors in one message.
    pub(crate) fds: usize,
    /// Bytes of data in one message.
    pub(crate) data: u32,
    /// Writes of several places in one message.
    pub(crate) write_multiple: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            fds: 1,
            data: 1 << 20,
            write_multiple: false,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Said<T> {
    capabilities: T,
}

#[derive(Serialize)]
struct Ours {
    max_msg_fds: usize,
    max_data_xfer_size: u32,
    max_dma_maps: usize,
    pgsizes: u64,
    // A capability, unlike the limits above: said only to who proposed it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    write_multiple: bool,
}

/// The body of our message.
pub(crate) fn say(minor: u16, write_multiple: bool) -> Vec<u8> {
    let said = Said {
        capabilities: Ours {
            max_msg_fds: MOST_FDS,
            max_data_xfer_size: MOST_DATA,
            max_dma_maps: MOST_MAPS,
            pgsizes: PAGE,
            write_multiple,
        },
    };
    let version = Version {
        major: crate::wire::MAJOR.into(),
        minor: minor.into(),
    };
    let mut body = version.as_bytes().to_vec();
    body.extend(serde_json::json!(said).to_string().into_bytes());
    body.push(0);
    body
}

/// The other side's version (ours at most, as for its minor) and capabilities, leniently: what cannot be read or is not
/// known is taken as not said. None when there is no version at all.
pub(crate) fn hear(body: &[u8]) -> Option<(u16, u16, Capabilities)> {
    let (version, json) = split::<Version>(body)?;
    let end = json.iter().position(|byte| *byte == 0);
    let json = &json[..end.unwrap_or(json.len())];
    let said: Option<Said<Value>> = serde_json::from_slice(json).ok();
    let said = said.map(|said| said.capabilities).unwrap_or_default();
    let number = |name: &str| said.get(name).and_then(Value::as_u64);
    let ours = Capabilities::default();
    let caps = Capabilities {
        fds: number("max_msg_fds").map_or(ours.fds, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        // A side that takes nothing is taken to mean its default, else nothing could ever be asked.
        data: number("max_data_xfer_size")
            .filter(|n| *n > 0)
            .map_or(ours.data, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        write_multiple: said.get("write_multiple") == Some(&Value::Bool(true)),
    };
    Some((version.major.get(), version.minor.get().min(MINOR), caps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(json: &str) -> Capabilities {
        let body = [&[0, 0, 1, 0], json.as_bytes()].concat();
        hear(&body).expect("a version").2
    }

    #[test]
    fn we_hear_what_we_say() {
        let body = say(1, true);
        assert_eq!(body.last(), Some(&0));
        let ours = Capabilities {
            fds: MOST_FDS,
            data: MOST_DATA,
            write_multiple: true,
        };
        assert_eq!(hear(&body), Some((0, 1, ours)));
        let less = String::from_utf8(say(0, false)).expect("text");
        assert!(!less.contains("write_multiple"), "{less}");
    }

    #[test]
    fn whatever_json_there_is_or_not() {
        let defaults = Capabilities::default();
        for json in [
            "",
            "\0",
            "{}\0",
            "nonsense",
            "[1]\0",
            "{\"capabilities\":7}\0",
        ] {
            assert_eq!(heard(json), defaults, "{json}");
        }
        let told = heard(
            r#"{"capabilities":{"max_msg_fds":8,"migration":{"pgsize":4096},"new":[]},"x":1}"#,
        );
        assert_eq!(told, Capabilities { fds: 8, ..defaults });
        let odd = heard(
            r#"{"capabilities":{"max_msg_fds":-1,"max_data_xfer_size":0,"write_multiple":1}}"#,
        );
        assert_eq!(odd, defaults);
        assert_eq!(hear(&[0, 0, 9, 0]).map(|(_, minor, _)| minor), Some(MINOR));
        assert_eq!(hear(&[0, 0, 9]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), json in ".{0,60}") {
            hear(&bytes);
            heard(&json);
        }
    }
}
