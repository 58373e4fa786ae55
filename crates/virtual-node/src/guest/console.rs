//! What a guest prints on its console, of which the end is kept.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

/// How much is kept.
const LINES: usize = 60;

/// The last lines of a console.
#[derive(Clone, Default)]
pub(super) struct Console(Arc<Mutex<VecDeque<String>>>);

impl Console {
    /// Reads what a machine prints, and what QEMU itself says, until it ends.
    pub(super) fn of(child: &mut Child) -> Console {
        let console = Console::default();
        if let Some(out) = child.stdout.take() {
            console.read(out);
        }
        if let Some(err) = child.stderr.take() {
            console.read(err);
        }
        console
    }

    fn read(&self, from: impl Read + Send + 'static) {
        let console = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut lines = console.0.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LINES {
                    lines.pop_front();
                }
                lines.push_back(text);
            }
        });
    }

    /// The last lines.
    pub(super) fn last(&self) -> String {
        // What was printed last may be on its way.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = lines.iter().map(|line| format!("  | {line}")).collect();
        lines.join("\n")
    }
}
