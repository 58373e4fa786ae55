//! What a guest may ask of the outside, a JSON document a line: `{"qmp": {…}}`, a request to its machine's monitor, and
//! `{"peer": "script"}`, to be started in the second guest. The reply is a line as well: the monitor's, or `{"return": {}}`,
//! or `{"error": "…"}`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Alone, begin};
use crate::qmp::Monitor;

/// Answers until the guest ends; `changed` is set when it has lost a device for good.
pub(super) fn serve(
    stream: UnixStream,
    mut monitor: Monitor,
    peer: Option<Arc<Mutex<Alone>>>,
    changed: Arc<AtomicBool>,
) -> Result<()> {
    let mut replies = stream.try_clone()?;
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if line.trim().is_empty() {
                continue;
            }
            if line.contains("device_del") {
                changed.store(true, Ordering::Relaxed);
            }
            let reply = answer(&line, &mut monitor, peer.as_deref())
                .unwrap_or_else(|why| json!({"error": format!("{why:#}")}));
            if writeln!(replies, "{reply}").is_err() {
                break;
            }
        }
    });
    Ok(())
}

fn answer(line: &str, monitor: &mut Monitor, peer: Option<&Mutex<Alone>>) -> Result<Value> {
    let asked: Value = serde_json::from_str(line).context("no JSON")?;
    if let Some(request) = asked.get("qmp") {
        return Ok(monitor.execute(request)?);
    }
    let script = asked["peer"].as_str().context("neither qmp nor peer")?;
    begin(peer, script)?;
    Ok(json!({"return": {}}))
}
