//! What a workload does, named as fio's and perftest's users name it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The operation of a workload; written `randread`, `randwrite`, `randrw:70`, `read`, `write`, `stream`, `reqrep`,
/// `write-imm`, `send`, `fetch-add`, `write-pingpong`, `write-imm-pingpong`, `send-pingpong`. `read` and `write` are RDMA's too.
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
    /// RDMA writes that the other side is told of.
    WriteImm,
    /// Messages into the other side's receives.
    Send,
    /// Atomic additions to a word of the other side's.
    FetchAdd,
    /// An RDMA write there, and one back when it is seen in memory.
    WritePingPong,
    /// An RDMA write that the other side is told of, and one back.
    WriteImmPingPong,
    /// A message there and one back.
    SendPingPong,
}

/// Why a text names no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no operation: expected randread, randwrite, randrw:PERCENT_READ, read, write, stream, reqrep, write-imm, send, fetch-add, write-pingpong, write-imm-pingpong or send-pingpong"
)]
pub struct OpParseError(String);

impl Op {
    /// Whether any of its operations changes the target.
    pub fn writes(self) -> bool {
        match self {
            Op::RandWrite | Op::Write => true,
            Op::RandRw { read_percent } => read_percent < 100,
            _ => false,
        }
    }

    /// Whether any of its operations reads the target.
    pub fn reads(self) -> bool {
        match self {
            Op::RandRead | Op::Read => true,
            Op::RandRw { read_percent } => read_percent > 0,
            _ => false,
        }
    }

    /// Whether its places are random.
    pub fn is_random(self) -> bool {
        matches!(self, Op::RandRead | Op::RandWrite | Op::RandRw { .. })
    }

    /// Whether it is an operation on storage.
    pub fn is_storage(self) -> bool {
        matches!(
            self,
            Op::RandRead | Op::RandWrite | Op::RandRw { .. } | Op::Read | Op::Write
        )
    }

    /// Whether it is an operation of the rdma layer.
    pub fn is_rdma(self) -> bool {
        matches!(
            self,
            Op::Read | Op::Write | Op::WriteImm | Op::Send | Op::FetchAdd
        ) || self.is_pingpong()
    }

    /// Whether the other side answers each with one of its own.
    pub fn is_pingpong(self) -> bool {
        matches!(
            self,
            Op::WritePingPong | Op::WriteImmPingPong | Op::SendPingPong
        )
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
            Op::WriteImm => f.pad("write-imm"),
            Op::Send => f.pad("send"),
            Op::FetchAdd => f.pad("fetch-add"),
            Op::WritePingPong => f.pad("write-pingpong"),
            Op::WriteImmPingPong => f.pad("write-imm-pingpong"),
            Op::SendPingPong => f.pad("send-pingpong"),
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
            "write-imm" => Op::WriteImm,
            "send" => Op::Send,
            "fetch-add" => Op::FetchAdd,
            "write-pingpong" => Op::WritePingPong,
            "write-imm-pingpong" => Op::WriteImmPingPong,
            "send-pingpong" => Op::SendPingPong,
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
            "pattern": "^(randread|randwrite|randrw:(100|[0-9]{1,2})|read|write|stream|reqrep|write-imm|send|fetch-add|(write|write-imm|send)-pingpong)$",
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
            "write-imm",
            "send",
            "fetch-add",
            "write-pingpong",
            "write-imm-pingpong",
            "send-pingpong",
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
