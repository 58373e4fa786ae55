//! What a workload does, named as fio's and perftest's users name it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The operation of a workload; written `randread`, `randwrite`, `randrw:70`, `read`, `write`, `stream`, `reqrep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Reads at random places.
    RandRead,
    /// Writes at random places.
    RandWrite,
    /// Reads and writes at random places.
    RandRw {
        /// How many of a hundred are reads, 0 to 100.
        read_percent: u8,
    },
    /// Reads one after another.
    Read,
    /// Writes one after another.
    Write,
    /// Bytes in one direction, as many as pass.
    Stream,
    /// A request and its reply.
    ReqRep,
}

/// Why a text names no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no operation: expected randread, randwrite, randrw:PERCENT_READ, read, write, stream or reqrep"
)]
pub struct OpParseError(String);

impl Op {
    /// Whether any of its operations changes the target.
    pub fn writes(self) -> bool {
        match self {
            Op::RandWrite | Op::Write => true,
            Op::RandRw { read_percent } => read_percent < 100,
            Op::RandRead | Op::Read | Op::Stream | Op::ReqRep => false,
        }
    }

    /// Whether any of its operations reads the target.
    pub fn reads(self) -> bool {
        match self {
            Op::RandRead | Op::Read => true,
            Op::RandRw { read_percent } => read_percent > 0,
            Op::RandWrite | Op::Write | Op::Stream | Op::ReqRep => false,
        }
    }

    /// Whether its places are random.
    pub fn is_random(self) -> bool {
        matches!(self, Op::RandRead | Op::RandWrite | Op::RandRw { .. })
    }

    /// Whether it is an operation on storage.
    pub fn is_storage(self) -> bool {
        !matches!(self, Op::Stream | Op::ReqRep)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::RandRead => f.pad("randread"),
            Op::RandWrite => f.pad("randwrite"),
            Op::RandRw { read_percent } => f.pad(&format!("randrw:{read_percent}")),
            Op::Read => f.pad("read"),
            Op::Write => f.pad("write"),
            Op::Stream => f.pad("stream"),
            Op::ReqRep => f.pad("reqrep"),
        }
    }
}

impl FromStr for Op {
    type Err = OpParseError;

    fn from_str(text: &str) -> Result<Self, OpParseError> {
        Ok(match text {
            "randread" => Op::RandRead,
            "randwrite" => Op::RandWrite,
            "randrw" => Op::RandRw { read_percent: 50 },
            "read" => Op::Read,
            "write" => Op::Write,
            "stream" => Op::Stream,
            "reqrep" => Op::ReqRep,
            other => {
                let read_percent = other
                    .strip_prefix("randrw:")
                    .and_then(|p| p.parse().ok())
                    .filter(|p| *p <= 100)
                    .ok_or_else(|| OpParseError(text.to_owned()))?;
                Op::RandRw { read_percent }
            }
        })
    }
}

impl Serialize for Op {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Op {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Op {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Op".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The operation of a workload.",
            "type": "string",
            "pattern": "^(randread|randwrite|randrw:(100|[0-9]{1,2})|read|write|stream|reqrep)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_round_trip() {
        for text in [
            "randread",
            "randwrite",
            "randrw:70",
            "read",
            "write",
            "stream",
            "reqrep",
        ] {
            assert_eq!(
                text.parse::<Op>().map(|op| op.to_string()),
                Ok(text.to_owned())
            );
        }
        for bad in ["", "randrw:", "randrw:101", "trim", "READ"] {
            assert!(bad.parse::<Op>().is_err(), "{bad}");
        }
        assert!("randrw:99".parse::<Op>().is_ok_and(Op::writes));
        assert!(!"randrw:100".parse::<Op>().is_ok_and(Op::writes));
        assert!(!"randrw:0".parse::<Op>().is_ok_and(Op::reads));
    }
}
