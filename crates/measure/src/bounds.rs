//! What a figure is held against: the bounds beside it, and what follows where it is above one.

use strata_record::{Ceiling, CeilingKind, Direction, Op, Warning, WarningCode, Workload};
use strata_units::show;

use crate::job::TrialResult;

/// A bound by the physics of a link or port, full duplex.
#[derive(Debug, Clone, PartialEq)]
pub struct NominalBound {
    /// Its name (`link of 0000:81:00.0 (16 GT/s x4)`).
    pub name: String,
    /// Bytes a second in each direction at most, after line encoding.
    pub bytes_per_s: f64,
}

/// The nominal bounds of a cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Nominal {
    /// Those that are known.
    pub bounds: Vec<NominalBound>,
    /// The same less what packets take for themselves, as far as that can be reckoned: above it is only warned of.
    pub estimates: Vec<NominalBound>,
    /// Why others are not, a sentence each.
    pub missing: Vec<String>,
}

/// Puts the nominal bounds of a cell beside those that its result has, with the figure's part of each. A figure above a
/// nominal bound by more than the clock's error, and than what was on its way when the window opened, is none: the trial
/// fails. Above a measured bound it is only warned of.
///
/// The bytes of a figure go over a link in two directions, of which the busier binds: of a mix with 70 % reads 70 % go up,
/// so that the bound of the whole is 1 / 0.7 of the link's.
pub fn hold_against(result: &mut TrialResult, nominal: &Nominal, workload: &Workload) {
    let busier = busier(workload);
    for (bounds, kind) in [
        (&nominal.bounds, CeilingKind::Nominal),
        (&nominal.estimates, CeilingKind::Estimate),
    ] {
        result.bounds.extend(bounds.iter().map(|bound| Ceiling {
            ops_per_s: None,
            bytes_per_s: Some(bound.bytes_per_s / busier),
            bound_by: bound.name.clone(),
            kind,
            share: None,
        }));
    }
    for bound in &mut result.bounds {
        bound.share = bound.share_of(&result.measured);
    }
    result.proof.missing.extend(nominal.missing.iter().cloned());
    let refused = refused(result, workload);
    result.failed = match (result.failed.take(), refused) {
        (Some(why), Some(refused)) => Some(format!("{why}; {refused}")),
        (why, refused) => why.or(refused),
    };
    let above = result.bounds.iter().filter_map(|bound| {
        let share = bound.share.filter(|share| *share > 1.0)?;
        let text = match bound.kind {
            CeilingKind::Nominal => return None,
            CeilingKind::Measured => format!(
                "the figure is {:.1} % of a measured bound, {}: one of the two was measured wrong; measure again on a quiet host",
                share * 100.0,
                bound.bound_by
            ),
            CeilingKind::Estimate => format!(
                "the figure is {:.1} % of an estimated bound, {}: packets have other headers than was reckoned with, or the figure is wrong; hold it against the port's counters",
                share * 100.0,
                bound.bound_by
            ),
        };
        Some(Warning {
            code: WarningCode::AboveCeiling,
            text,
        })
    });
    result.warnings.extend(above);
}

/// The part of a figure's bytes that goes in the busier of both directions; above 1 where more goes there than is counted.
fn busier(w: &Workload) -> f64 {
    match w.op {
        Op::RandRw { read_percent } => {
            let reads = f64::from(read_percent.min(100)) / 100.0;
            reads.max(1.0 - reads)
        }
        // Replies are what is counted.
        Op::ReqRep => {
            let reply = w.reply_bytes.unwrap_or(w.block_bytes);
            w.block_bytes.max(reply).0 as f64 / reply.0.max(1) as f64
        }
        // Of both directions' bytes half go in each.
        _ if w.direction == Some(Direction::Both) => 0.5,
        _ => 1.0,
    }
}

/// Why the figure is refused as wrong.
fn refused(result: &TrialResult, w: &Workload) -> Option<String> {
    let m = &result.measured;
    let figure = m.bytes_per_s?;
    let lanes = u64::from(w.threads) * u64::from(w.streams) * u64::from(w.depth.get());
    let in_flight = w.block_bytes.max(w.reply_bytes.unwrap_or_default()).0 as f64 * lanes as f64;
    let over = |bytes_per_s: f64| {
        let clock = bytes_per_s * result.proof.clock.error_ppm * 1e-6;
        let begun_before = if m.window_s > 0.0 {
            in_flight / m.window_s
        } else {
            f64::INFINITY
        };
        figure > bytes_per_s + clock + begun_before
    };
    let bound = result
        .bounds
        .iter()
        .find(|bound| bound.kind == CeilingKind::Nominal && bound.bytes_per_s.is_some_and(over))?;
    Some(format!(
        "refused as wrong: {} is above what {} lets through ({}), which physics does not allow; was the data cached, or the link trained anew?",
        show::bandwidth(figure),
        bound.bound_by,
        bound.bytes_per_s.map(show::bandwidth).unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_record::{
        ClockProof, ClockSource, Completes, Cost, Harness, Measured, Proof, Series,
    };
    use strata_units::{Bytes, QueueDepth};

    const LINK: f64 = 4e9;

    /// A second of 4 KiB operations at `bytes_per_s` on a core that could do a million.
    fn trial(bytes_per_s: f64) -> TrialResult {
        let ops_per_s = bytes_per_s / 4096.0;
        TrialResult {
            measured: Measured {
                ops: ops_per_s as u64,
                window_s: 1.0,
                ops_per_s,
                bytes_per_s: Some(bytes_per_s),
                errors: 0,
                lost: 0,
                completes: Completes::Device,
                latency_ns: None,
                series: Series {
                    interval_s: 0.1,
                    ops: Vec::new(),
                },
                stationarity: None,
                mean_depth: None,
                open: None,
                flows: Vec::new(),
                polling: None,
            },
            cost: Cost {
                cpu_ns_per_op: 1.0,
                system_share: None,
                peer_cpu_ns_per_op: None,
                instructions_per_op: None,
            },
            proof: Proof {
                threads: Vec::new(),
                pages: Vec::new(),
                clock: ClockProof {
                    source: ClockSource::Tsc,
                    hertz: 1e9,
                    error_ppm: 100.0,
                    read_ns: 10.0,
                },
                host: None,
                peer_host: None,
                connections: Vec::new(),
                queue_pairs: Vec::new(),
                contradictions: Vec::new(),
                missing: Vec::new(),
            },
            bounds: vec![Ceiling {
                ops_per_s: Some(1e6),
                bytes_per_s: None,
                bound_by: "the core".to_owned(),
                kind: CeilingKind::Measured,
                share: None,
            }],
            harness: Harness {
                ns_per_op: 1000.0,
                ops: 1,
            },
            warnings: Vec::new(),
            failed: None,
        }
    }

    fn held(bytes_per_s: f64, workload: &Workload) -> TrialResult {
        let mut result = trial(bytes_per_s);
        let nominal = Nominal {
            bounds: vec![NominalBound {
                name: "link of 0000:81:00.0".to_owned(),
                bytes_per_s: LINK,
            }],
            missing: vec!["no other bound".to_owned()],
            ..Nominal::default()
        };
        hold_against(&mut result, &nominal, workload);
        result
    }

    fn plain(op: Op) -> Workload {
        Workload::plain(op, Bytes(4096))
    }

    #[test]
    fn the_lowest_bound_is_the_ceiling() {
        let result = held(2e9, &plain(Op::RandRead));
        assert_eq!(result.failed, None);
        assert_eq!(result.warnings, []);
        assert_eq!(result.proof.missing, ["no other bound"]);
        let shares: Vec<f64> = result.bounds.iter().filter_map(|b| b.share).collect();
        assert!((shares[0] - 2e9 / 4096.0 / 1e6).abs() < 1e-9 && (shares[1] - 0.5).abs() < 1e-9);
        let lowest = Ceiling::lowest(&result.bounds).expect("two");
        assert_eq!(lowest.bound_by, "link of 0000:81:00.0");
        // Small operations meet the core first.
        let mut small = trial(2e9);
        small.measured.ops_per_s = 9e5;
        small.measured.bytes_per_s = Some(9e5 * 512.0);
        hold_against(&mut small, &Nominal::default(), &plain(Op::RandRead));
        let lowest = Ceiling::lowest(&small.bounds).expect("one");
        assert_eq!(
            (lowest.bound_by.as_str(), lowest.share),
            ("the core", Some(0.9))
        );
    }

    #[test]
    fn above_a_nominal_bound_there_is_no_figure() {
        // Within the clock's error of 100 ppm and the one block that was under way.
        assert_eq!(held(LINK * 1.0001, &plain(Op::Read)).failed, None);
        let refused = held(LINK * 1.001, &plain(Op::Read));
        let why = refused.failed.expect("refused");
        assert!(
            why.starts_with("refused as wrong: ") && why.contains("link of 0000:81:00.0"),
            "{why}"
        );
        assert_eq!(refused.warnings, [], "that is no doubt");
        // 1 % of the window's bytes may have been read before it opened.
        let deep = Workload {
            depth: QueueDepth::new(2_500).expect("a depth"),
            threads: 4,
            ..plain(Op::Read)
        };
        assert_eq!(held(LINK * 1.01, &deep).failed, None);
        assert!(held(LINK * 1.02, &deep).failed.is_some());
        let mut broken = trial(LINK * 2.0);
        broken.failed = Some("3 operations failed".to_owned());
        let nominal = Nominal {
            bounds: vec![NominalBound {
                name: "a link".to_owned(),
                bytes_per_s: LINK,
            }],
            ..Nominal::default()
        };
        hold_against(&mut broken, &nominal, &plain(Op::Read));
        let why = broken.failed.expect("it was");
        assert!(why.starts_with("3 operations failed; refused"), "{why}");
    }

    #[test]
    fn above_a_measured_bound_it_is_warned_of() {
        let result = held(4.2e9 * 0.95, &plain(Op::Read));
        assert_eq!((result.failed, result.warnings), (None, Vec::new()));
        let mut fast = trial(1e6 * 4096.0 * 1.5);
        hold_against(&mut fast, &Nominal::default(), &plain(Op::Read));
        assert_eq!(fast.failed, None);
        let [warning] = &fast.warnings[..] else {
            panic!("{:?}", fast.warnings)
        };
        assert_eq!(warning.code, WarningCode::AboveCeiling);
        assert!(warning.text.contains("150.0 %") && warning.text.contains("the core"));
    }

    #[test]
    fn above_an_estimate_it_is_warned_of_too() {
        let mut result = trial(LINK * 0.99);
        let bound = |name: &str, bytes_per_s| NominalBound {
            name: name.to_owned(),
            bytes_per_s,
        };
        let nominal = Nominal {
            bounds: vec![bound("a line", LINK)],
            estimates: vec![bound("a line less headers", LINK * 0.98)],
            ..Nominal::default()
        };
        hold_against(&mut result, &nominal, &plain(Op::Read));
        assert_eq!(result.failed, None);
        let [warning] = &result.warnings[..] else {
            panic!("{:?}", result.warnings)
        };
        assert!(warning.text.contains("estimated bound"), "{}", warning.text);
        let lowest = Ceiling::lowest(&result.bounds).expect("some");
        assert_eq!(lowest.bound_by, "a line less headers");
    }

    #[test]
    fn the_busier_direction_binds() {
        let mix = |read_percent| plain(Op::RandRw { read_percent });
        let both = Workload {
            direction: Some(Direction::Both),
            ..plain(Op::Stream)
        };
        let asks = Workload {
            reply_bytes: Some(Bytes(1024)),
            ..plain(Op::ReqRep)
        };
        for (workload, most) in [
            (plain(Op::Write), 1.0),
            (mix(100), 1.0),
            (mix(0), 1.0),
            (mix(50), 2.0),
            (mix(80), 1.25),
            (plain(Op::Stream), 1.0),
            (both, 2.0),
            (plain(Op::ReqRep), 1.0),
            (asks, 0.25),
        ] {
            let bound = &held(1e6, &workload).bounds[1];
            let found = bound.bytes_per_s.expect("bytes") / LINK;
            assert!((found - most).abs() < 1e-9, "{workload:?}: {found}");
        }
    }
}
