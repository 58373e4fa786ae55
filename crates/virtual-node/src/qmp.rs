//! QEMU's machine protocol (QEMU's docs/interop/qmp-spec): a JSON document a line, requests and replies, events between.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

/// A connection to a machine's monitor.
pub(crate) struct Monitor {
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Greets and is greeted.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Monitor> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut monitor = Monitor {
            reader: BufReader::new(stream),
        };
        monitor.line()?;
        monitor.execute(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// The reply to a request: `return` or `error`.
    pub(crate) fn execute(&mut self, request: &Value) -> io::Result<Value> {
        writeln!(self.reader.get_mut(), "{request}")?;
        loop {
            let line = self.line()?;
            if line.get("return").is_some() || line.get("error").is_some() {
                return Ok(line);
            }
        }
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "QEMU has ended",
            ));
        }
        serde_json::from_str(&line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}
