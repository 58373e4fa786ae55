//! Plots as the texts of an SVG: a latency distribution, and throughput over time.
//!
//! Lines are told apart without colour: the middle round is thick, the others thin, what is left out dashed, and those
//! that matter carry their name at their end.

use strata_analysis::CellDetail;
use strata_record::Measured;
use strata_units::show;

/// Size of a plot in the units of its own coordinates, which are pixels where there is room.
pub(crate) const WIDTH: f64 = 440.0;
/// See [`WIDTH`].
pub(crate) const HEIGHT: f64 = 262.0;
/// The frame's four sides; beside it stand the marks of the axes, and to its right the names of lines.
pub(crate) const LEFT: f64 = 62.0;
/// See [`LEFT`].
pub(crate) const RIGHT: f64 = WIDTH - 122.0;
/// See [`LEFT`].
pub(crate) const TOP: f64 = 16.0;
/// See [`LEFT`].
pub(crate) const BOTTOM: f64 = HEIGHT - 46.0;
/// Least distance of two names, one above the other.
const LINE: f64 = 14.0;
/// More rounds than this are not each drawn: the thin lines of the others would be a grey area, and a heavy file.
const MOST_LINES: usize = 40;

/// A plot, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    /// What it shows, for those who see it and those who hear it.
    pub(crate) title: String,
    pub(crate) x_name: &'static str,
    pub(crate) y_name: &'static str,
    pub(crate) x_ticks: Vec<Tick>,
    pub(crate) y_ticks: Vec<Tick>,
    pub(crate) lines: Vec<Line>,
    pub(crate) dots: Vec<Dot>,
    pub(crate) names: Vec<Name>,
}

/// A mark on an axis.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) at: String,
    pub(crate) text: String,
}

/// A line through points.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) class: &'static str,
    pub(crate) points: String,
}

/// A point with its figure.
#[derive(Debug, Clone)]
pub(crate) struct Dot {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) text_x: String,
    pub(crate) text_y: String,
    /// Which end of the text stands at its place.
    pub(crate) anchor: &'static str,
    pub(crate) text: String,
}

/// The name of a line, at its end.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// What a round is in a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Other,
    LeftOut,
    Middle,
}

impl Kind {
    fn class(self) -> &'static str {
        match self {
            Kind::Other => "other",
            Kind::LeftOut => "left-out",
            Kind::Middle => "middle",
        }
    }
}

/// One round's line in the axes' own units, ascending in x.
struct Round {
    kind: Kind,
    round: u32,
    points: Vec<(f64, f64)>,
}

/// Maps the axes' units to coordinates; y may be logarithmic.
struct Frame {
    x_most: f64,
    y_least: f64,
    y_most: f64,
    log: bool,
}

impl Frame {
    fn x(&self, x: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (x / self.x_most).clamp(0.0, 1.0)
    }

    fn y(&self, y: f64) -> f64 {
        let part = if self.log {
            (y / self.y_least).ln() / (self.y_most / self.y_least).ln()
        } else {
            (y - self.y_least) / (self.y_most - self.y_least)
        };
        BOTTOM - (BOTTOM - TOP) * part.clamp(0.0, 1.0)
    }

    fn line(&self, round: &Round) -> Line {
        let mut points = String::new();
        for (x, y) in &round.points {
            if !points.is_empty() {
                points.push(' ');
            }
            points.push_str(&format!("{:.1},{:.1}", self.x(*x), self.y(*y)));
        }
        Line {
            class: round.kind.class(),
            points,
        }
    }
}

fn coordinate(at: f64) -> String {
    format!("{at:.1}")
}

/// The latencies of a cell's rounds by percentile, on an axis of nines; none when it has none.
pub(crate) fn latency(cell: &CellDetail<'_>) -> Option<Plot> {
    let rounds: Vec<Round> = cell
        .curves
        .iter()
        .map(|curve| Round {
            kind: kind(cell, curve.trial),
            round: cell.trials[curve.trial].record.round,
            points: curve
                .points
                .iter()
                .filter(|p| p.quantile < 1.0 && p.nanos > 0.0)
                .map(|p| (nines(p.quantile), p.nanos))
                .collect(),
        })
        .filter(|r| r.points.len() > 1)
        .collect();
    let all = || rounds.iter().flat_map(|r| &r.points);
    let x_most = all().map(|p| p.0).reduce(f64::max)?;
    let least = all().map(|p| p.1).reduce(f64::min)?;
    let most = all().map(|p| p.1).reduce(f64::max)?;
    let (y_least, y_most) = (step_down(least), step_up(most * 1.05));
    let frame = Frame {
        x_most,
        y_least,
        y_most,
        log: true,
    };
    let wanted = [
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
        (0.999_999, "99.9999 %"),
    ];
    let x_ticks = wanted
        .iter()
        .filter(|(q, _)| nines(*q) <= x_most + 1e-9)
        .map(|(q, text)| Tick {
            at: coordinate(frame.x(nines(*q))),
            text: (*text).to_owned(),
        })
        .collect();
    let middle = rounds.iter().find(|r| r.kind == Kind::Middle);
    let dots = middle.map_or_else(Vec::new, |middle| {
        // The curve rises to the right, so that there is room to the right of and below its beginning, and to the left of
        // and above its end.
        [
            (0.5, "p50", "start", 5.0, 18.0),
            (0.99, "p99", "end", -5.0, -8.0),
        ]
        .iter()
        .filter_map(|(q, name, anchor, aside, down)| {
            let at = nines(*q);
            let point = middle.points.iter().find(|p| p.0 >= at - 1e-9)?;
            let (x, y) = (frame.x(at), frame.y(point.1));
            Some(Dot {
                x: coordinate(x),
                y: coordinate(y),
                text_x: coordinate(x + aside),
                text_y: coordinate(y + down),
                anchor,
                text: format!("{name} {}", show::time(point.1)),
            })
        })
        .collect()
    });
    Some(Plot {
        title: format!("Latency of {} by percentile", cell.label),
        x_name: "part of the operations that took no longer",
        y_name: "latency",
        x_ticks,
        y_ticks: log_ticks(&frame, show::time),
        lines: lines(&frame, &rounds),
        dots,
        names: names(&frame, &rounds),
    })
}

/// Operations a second over the window, a line a round; none when no series has two intervals.
pub(crate) fn throughput(cell: &CellDetail<'_>) -> Option<Plot> {
    let series = |result: &Measured| -> Vec<(f64, f64)> {
        let step = result.series.interval_s;
        result
            .series
            .ops
            .iter()
            .enumerate()
            .map(|(at, ops)| ((at as f64 + 0.5) * step, *ops as f64 / step))
            .collect()
    };
    let rounds: Vec<Round> = cell
        .trials
        .iter()
        .enumerate()
        .filter_map(|(at, trial)| {
            let result = trial.record.result.as_ref()?;
            (result.series.interval_s > 0.0).then(|| Round {
                kind: kind(cell, at),
                round: trial.record.round,
                points: series(result),
            })
        })
        .filter(|r| r.points.len() > 1)
        .collect();
    let all = || rounds.iter().flat_map(|r| &r.points);
    let x_most = all().map(|p| p.0).reduce(f64::max)?;
    let most = all().map(|p| p.1).reduce(f64::max)?;
    let step = linear_step(most.max(f64::MIN_POSITIVE));
    let frame = Frame {
        x_most,
        y_least: 0.0,
        y_most: step * (most * 1.02 / step).ceil().max(1.0),
        log: false,
    };
    let ticks = |most: f64, step: f64| {
        (0..=20)
            .map(move |n| f64::from(n) * step)
            .take_while(move |at| *at <= most * 1.0001)
    };
    Some(Plot {
        title: format!("Throughput of {} over the window", cell.label),
        x_name: "time in the window",
        y_name: "operations a second, from 0",
        x_ticks: ticks(x_most, linear_step(x_most))
            .map(|at| Tick {
                at: coordinate(frame.x(at)),
                text: zero_or(at, |at| show::time(at * 1e9)),
            })
            .collect(),
        y_ticks: ticks(frame.y_most, step)
            .map(|at| Tick {
                at: coordinate(frame.y(at)),
                text: zero_or(at, show::per_second),
            })
            .collect(),
        lines: lines(&frame, &rounds),
        dots: Vec::new(),
        names: names(&frame, &rounds),
    })
}

fn kind(cell: &CellDetail<'_>, trial: usize) -> Kind {
    if cell.middle == Some(trial) {
        Kind::Middle
    } else if cell.trials[trial].counts() {
        Kind::Other
    } else {
        Kind::LeftOut
    }
}

/// −log₁₀(1 − q): 1 at 90 %, 2 at 99 %.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// The lines to draw, the middle round last, so that it lies on top.
fn lines(frame: &Frame, rounds: &[Round]) -> Vec<Line> {
    let mut drawn: Vec<&Round> = rounds.iter().collect();
    drawn.sort_by_key(|r| r.kind);
    let others = drawn.iter().filter(|r| r.kind == Kind::Other).count();
    let every = others.div_ceil(MOST_LINES).max(1);
    drawn
        .into_iter()
        .enumerate()
        .filter(|(at, r)| r.kind != Kind::Other || at % every == 0)
        .map(|(_, r)| frame.line(r))
        .collect()
}

/// Names at the ends of the lines that matter: the middle round, what is left out, and the highest and the lowest end of
/// the others; moved apart where they would cover each other.
fn names(frame: &Frame, rounds: &[Round]) -> Vec<Name> {
    let end = |r: &Round| r.points.last().map_or(0.0, |p| frame.y(p.1));
    let others = || rounds.iter().filter(|r| r.kind == Kind::Other);
    let highest = others().min_by(|a, b| end(a).total_cmp(&end(b)));
    let lowest = others().max_by(|a, b| end(a).total_cmp(&end(b)));
    let mut wanted: Vec<(&Round, String)> = Vec::new();
    for round in rounds {
        let is = |other: Option<&Round>| other.is_some_and(|o| std::ptr::eq(o, round));
        match round.kind {
            Kind::Middle => wanted.push((round, format!("round {}, middle", round.round))),
            Kind::LeftOut => wanted.push((round, format!("round {}, left out", round.round))),
            Kind::Other if is(highest) || is(lowest) => {
                wanted.push((round, format!("round {}", round.round)));
            }
            Kind::Other => {}
        }
    }
    // The most important ones get their place first.
    wanted.sort_by_key(|(r, _)| std::cmp::Reverse(r.kind));
    let room = ((BOTTOM - TOP) / LINE) as usize;
    wanted.truncate(room);
    wanted.sort_by(|a, b| end(a.0).total_cmp(&end(b.0)));
    let mut names: Vec<(f64, &Round, String)> = Vec::new();
    for (round, text) in wanted {
        let lowest_free = names.last().map_or(TOP, |(y, ..)| y + LINE);
        names.push((end(round).max(lowest_free), round, text));
    }
    // Where the last ones were pushed below the frame, all above move up.
    let mut limit = BOTTOM;
    for (y, ..) in names.iter_mut().rev() {
        *y = y.min(limit);
        limit = *y - LINE;
    }
    names
        .into_iter()
        .map(|(y, round, text)| Name {
            x: coordinate(RIGHT + 6.0),
            y: coordinate(y + 4.0),
            class: round.kind.class(),
            text,
        })
        .collect()
}

/// The mark at 0 needs no unit.
fn zero_or(at: f64, unit: fn(f64) -> String) -> String {
    if at == 0.0 { "0".to_owned() } else { unit(at) }
}

/// 1, 2 or 5 times a power of ten.
fn steps() -> impl Iterator<Item = f64> {
    (-3..16).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
}

fn step_down(value: f64) -> f64 {
    steps().take_while(|s| *s <= value).last().unwrap_or(value)
}

fn step_up(value: f64) -> f64 {
    steps().find(|s| *s >= value).unwrap_or(value)
}

/// A round step that divides up to `most` into four or more parts.
fn linear_step(most: f64) -> f64 {
    let power = 10f64.powf(most.log10().floor());
    let step = [0.1, 0.2, 0.25, 0.5, 1.0]
        .into_iter()
        .map(|part| part * power)
        .find(|step| most / step <= 5.5);
    step.unwrap_or(2.0 * power)
}

/// Marks at 1, 2 and 5, or at powers of ten alone where these would stand too close.
fn log_ticks(frame: &Frame, unit: fn(f64) -> String) -> Vec<Tick> {
    let within = |s: &f64| *s >= frame.y_least * 0.999 && *s <= frame.y_most * 1.001;
    let all: Vec<f64> = steps().filter(within).collect();
    let sparse = all.len() > 10;
    all.into_iter()
        .filter(|s| !sparse || (s.log10() - s.log10().round()).abs() < 1e-9)
        .map(|s| Tick {
            at: coordinate(frame.y(s)),
            text: unit(s),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!((step_down(3_400.0), step_up(3_400.0)), (2_000.0, 5_000.0));
        assert_eq!((step_down(1_000.0), step_up(1_000.0)), (1_000.0, 1_000.0));
        assert_eq!(linear_step(1.0), 0.2);
        assert_eq!(linear_step(23_000.0), 5_000.0);
        assert_eq!(linear_step(95_000.0), 20_000.0);
    }

    #[test]
    fn names_do_not_cover_each_other_and_stay_inside() {
        let frame = Frame {
            x_most: 1.0,
            y_least: 0.0,
            y_most: 1.0,
            log: false,
        };
        let rounds: Vec<Round> = (0..8u8)
            .map(|n| Round {
                kind: match n {
                    0 => Kind::Middle,
                    1..=5 => Kind::LeftOut,
                    _ => Kind::Other,
                },
                round: u32::from(n),
                points: vec![(0.0, 0.0), (1.0, 0.001 * f64::from(n))],
            })
            .collect();
        let names = names(&frame, &rounds);
        assert_eq!(names.len(), 8);
        let ys: Vec<f64> = names
            .iter()
            .map(|n| n.y.parse().expect("a number"))
            .collect();
        for pair in ys.windows(2) {
            assert!(pair[1] - pair[0] >= LINE - 0.1, "{ys:?}");
        }
        assert!(
            ys.iter().all(|y| (TOP..=BOTTOM + 4.1).contains(y)),
            "{ys:?}"
        );
    }
}
