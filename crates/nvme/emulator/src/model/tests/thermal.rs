//! Heat comes, stays and goes as a body of one time constant has it.

use strata_nvme_spec::Kelvin;

use super::*;

/// At 1 GB/s it would go from 30 to 90 °C.
const BODY: &str = "[thermal]\nambient_celsius = 30\nrise_per_gb_per_s = 60\ntime_constant = \"10s\"\n\
    warning_celsius = 70\ncritical_celsius = 80\n";

/// 1 GB/s from `begin` to `end`, in writes of 1 MB each millisecond.
fn load(pace: &mut Pace, begin: u64, end: u64) {
    for ms in begin * 1000..end * 1000 {
        pace.due(Nanos::from_millis(ms), &write(1_000_000));
    }
}

fn celsius(pace: &mut Pace, seconds: u64) -> i32 {
    pace.temperature(Nanos(seconds * SECOND)).celsius()
}

/// Seconds.
fn close(found: Nanos, expected: f64) {
    let error = (found.as_secs_f64() - expected).abs();
    assert!(error < 0.03, "found {found}, expected {expected} s");
}

#[test]
fn it_goes_where_the_load_takes_it_by_its_time_constant() {
    let mut body = pace(BODY);
    assert_eq!(body.thresholds(), Some((Kelvin(343), Kelvin(353))));
    assert_eq!(celsius(&mut body, 0), 30);
    load(&mut body, 0, 10);
    // 60 · (1 − 1/e) = 37.9 above ambient.
    assert_eq!(celsius(&mut body, 10), 68);
    load(&mut body, 10, 80);
    assert_eq!(celsius(&mut body, 80), 90);
    // 60 / e = 22.1.
    assert_eq!(celsius(&mut body, 90), 52);
    assert_eq!(celsius(&mut body, 200), 30);
}

#[test]
fn commands_warm_too() {
    let mut body = pace(&BODY.replace("rise_per_gb_per_s = 60", "rise_per_kiops = 20"));
    for n in 0..160_000 {
        body.due(Nanos(n * 500_000), &access(AccessKind::Flush, 0));
    }
    // 2000 commands a second.
    assert_eq!(celsius(&mut body, 80), 70);
}

#[test]
fn time_above_the_thresholds_is_counted() {
    let mut body = pace(BODY);
    load(&mut body, 0, 80);
    celsius(&mut body, 80);
    // 40 above ambient is reached after 10 · ln 3 seconds, 50 after 10 · ln 6.
    let (warning, critical) = body.too_warm();
    close(warning, 10.0 * (6.0_f64.ln() - 3.0_f64.ln()));
    close(critical, 80.0 - 10.0 * 6.0_f64.ln());
    // Cooling within one pause: 50 after 10 · ln 1.2, 40 after 10 · ln 1.5.
    celsius(&mut body, 1000);
    let (warm, hot) = body.too_warm();
    close(warm - warning, 10.0 * (1.5_f64.ln() - 1.2_f64.ln()));
    close(hot - critical, 10.0 * 1.2_f64.ln());
    celsius(&mut body, 2000);
    assert_eq!(body.too_warm(), (warm, hot));
}

#[test]
fn a_crossing_within_a_step_is_found() {
    // Steps of a second, in the first of which it goes nearly straight from 30 to 110 °C.
    let mut body = pace(
        &BODY
            .replace("10s", "1024s")
            .replace("= 60", "= 1000")
            .replace("= 80", "= 90"),
    );
    body.due(Nanos(0), &write(81_920_000_000));
    assert_eq!(celsius(&mut body, 1), 110);
    // It passed 70 after half a second, 90 after three quarters.
    for time in [body.too_warm().0, body.too_warm().1] {
        assert!((time.as_secs_f64() - 0.25).abs() < 0.001, "{time}");
    }
}

#[test]
fn it_slows_down_at_a_level_and_recovers_below_a_lower_one() {
    let levels = "throttle = [{ from_celsius = 85, until_celsius = 82, factor = 10 },\n\
        { from_celsius = 75, until_celsius = 60, factor = 2 }]\n";
    let mut body = pace(&format!("latency = \"100us\"\n{BODY}{levels}"));
    // Each factor, and the degree at which it began.
    let mut factors: Vec<(u64, i32)> = Vec::new();
    let mut step = |pace: &mut Pace, ms: u64, bytes: u64| {
        let now = Nanos::from_millis(ms);
        let factor = (pace.due(now, &write(bytes)) - now).0 / 100_000;
        if factors.last().is_none_or(|(known, _)| *known != factor) {
            factors.push((factor, pace.temperature(now).celsius()));
        }
    };
    for ms in 0..60_000 {
        step(&mut body, ms, 1_000_000);
    }
    for ms in 60_000..120_000 {
        step(&mut body, ms, 0);
    }
    assert_eq!(factors, [(1, 30), (2, 75), (10, 85), (2, 82), (1, 60)]);
}

#[test]
fn throttling_stretches_limits_too() {
    let hot = format!(
        "iops = 1000\nbytes_per_s = \"1000000000B\"\n{BODY}throttle = [{{ from_celsius = 75, until_celsius = 60, factor = 4 }}]"
    );
    let mut body = pace(&hot);
    load(&mut body, 0, 60);
    let begin = body.due(Nanos(60 * SECOND), &write(1_000_000));
    let next = body.due(Nanos(60 * SECOND), &write(1_000_000));
    assert_eq!((next - begin).0, 4_000_000);
}
