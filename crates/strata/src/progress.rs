//! Progress on standard error, between trials only, and only where somebody looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use strata_record::{Record, Status};
use strata_runner::{Observer, Progress};

/// One line that is written over before each trial; silent off a terminal.
pub(crate) struct Line {
    shown: bool,
    begun: Instant,
    made: u32,
    failed: Vec<String>,
}

impl Line {
    /// `quiet` silences it on a terminal too.
    pub(crate) fn new(quiet: bool) -> Line {
        Line {
            shown: !quiet && std::io::stderr().is_terminal(),
            begun: Instant::now(),
            made: 0,
            failed: Vec::new(),
        }
    }

    fn write(&self, text: &str) {
        if self.shown {
            // Progress that cannot be written is not worth a run.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
        }
    }

    /// Clears the line and tells why trials failed, each reason once.
    pub(crate) fn finish(self, quiet: bool) {
        self.write("");
        if !quiet {
            for why in self.failed {
                crate::output::tell(&why);
            }
        }
    }
}

impl Observer for Line {
    fn begins(&mut self, at: Progress<'_>) {
        let left = (at.trials - at.trial.min(at.trials)) as u32;
        let left = if self.made == 0 {
            String::new()
        } else {
            format!(" · {} left", about(self.begun.elapsed() / self.made * left))
        };
        self.write(&format!(
            "[{}/{}] round {}{left} · {}",
            at.trial + 1,
            at.trials,
            at.round + 1,
            at.cell.label()
        ));
    }

    fn ended(&mut self, record: &Record) {
        self.made += 1;
        if record.status != Status::Ok {
            let why = format!(
                "{}: {}",
                record.what.label(),
                record.reason.as_deref().unwrap_or("failed")
            );
            if !self.failed.contains(&why) {
                self.failed.push(why);
            }
        }
    }
}

/// `1 min 20 s`, `45 s`: a forecast needs no more digits.
pub(crate) fn about(span: Duration) -> String {
    let seconds = span.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forecasts_are_short() {
        assert_eq!(about(Duration::from_millis(44_600)), "45 s");
        assert_eq!(about(Duration::from_secs(80)), "1 min 20 s");
        assert_eq!(about(Duration::from_secs(7_260)), "2 h 1 min");
    }
}
