//! Heat: a body that commands warm and the air cools.

use serde::{Deserialize, Serialize};
use strata_nvme_spec::Kelvin;
use strata_units::{Bytes, Nanos};

use super::error::{ModelError, Place};
use super::quoted::Quoted;

/// The table `[performance.thermal]`: a body of one time constant, in degrees Celsius.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thermal {
    /// What it has when nothing is asked of it, and at first.
    pub ambient_celsius: f64,
    /// By how much 10⁹ bytes a second, kept up, warm it.
    #[serde(default)]
    pub rise_per_gb_per_s: f64,
    /// By how much 1000 commands a second, kept up, warm it.
    #[serde(default)]
    pub rise_per_kiops: f64,
    /// After this time it has come 63 % of the way to where it goes.
    pub time_constant: Quoted<Nanos>,
    /// From here on it is too warm: WCTEMP.
    pub warning_celsius: f64,
    /// From here on it is dangerously warm: CCTEMP.
    pub critical_celsius: f64,
    /// How it slows itself down.
    #[serde(default)]
    pub throttle: Vec<Throttle>,
}

/// One level of slowing down, `[[performance.thermal.throttle]]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// It begins at this temperature
    pub from_celsius: f64,
    /// and ends at this one, which is lower.
    pub until_celsius: f64,
    /// Meanwhile everything takes so many times as long; of several levels that hold, the highest counts.
    pub factor: f64,
}

/// The body at work. Temperatures are those above ambient, times are nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Body {
    ambient: f64,
    constant: f64,
    /// Heat is spread over steps, so that an exponential is needed once a step and not once a command.
    step: Nanos,
    per_byte: f64,
    per_command: f64,
    warning: f64,
    critical: f64,
    levels: Box<[Level]>,
    /// As of `at`.
    above: f64,
    at: Nanos,
    /// What the commands since `at` would warm it by if all came at once.
    pending: f64,
    factor: f64,
    time_warning: f64,
    time_critical: f64,
}

#[derive(Debug, Clone)]
struct Level {
    from: f64,
    until: f64,
    factor: f64,
    holds: bool,
}

/// Steps in a time constant: what is shown is never older than one.
const STEPS: u64 = 1024;

/// As the specification counts: 0 °C are 273 K (Base 5.1.12.1.3).
const ZERO_CELSIUS: f64 = 273.0;

fn kelvin(celsius: f64) -> Kelvin {
    // Saturates at 0 K.
    Kelvin((celsius + ZERO_CELSIUS).round() as u16)
}

impl Body {
    pub(super) fn new(thermal: &Thermal, place: &Place) -> Result<Body, ModelError> {
        check(thermal, place)?;
        let constant = thermal.time_constant.0.0 as f64;
        let above = |celsius: f64| celsius - thermal.ambient_celsius;
        let mut levels: Vec<Level> = thermal
            .throttle
            .iter()
            .map(|level| Level {
                from: above(level.from_celsius),
                until: above(level.until_celsius),
                factor: level.factor,
                holds: false,
            })
            .collect();
        levels.sort_by(|a, b| b.from.total_cmp(&a.from));
        Ok(Body {
            ambient: thermal.ambient_celsius,
            constant,
            step: Nanos(thermal.time_constant.0.0 / STEPS),
            // A rate r of impulses i ends at r · i · constant; 10⁹ bytes a second are one a nanosecond.
            per_byte: thermal.rise_per_gb_per_s / constant,
            per_command: thermal.rise_per_kiops * 1e6 / constant,
            warning: above(thermal.warning_celsius),
            critical: above(thermal.critical_celsius),
            levels: levels.into(),
            above: 0.0,
            at: Nanos(0),
            pending: 0.0,
            factor: 1.0,
            time_warning: 0.0,
            time_critical: 0.0,
        })
    }

    /// Takes the heat of a command at `now`: how many times as long as usual it takes.
    #[inline]
    pub(super) fn warm(&mut self, now: Nanos, bytes: Bytes) -> f64 {
        self.advance(now);
        self.pending += self.per_command + bytes.0 as f64 * self.per_byte;
        self.factor
    }

    pub(super) fn temperature(&mut self, now: Nanos) -> Kelvin {
        self.advance(now);
        kelvin(self.ambient + self.above)
    }

    pub(super) fn thresholds(&self) -> (Kelvin, Kelvin) {
        let at = |above: f64| kelvin(self.ambient + above);
        (at(self.warning), at(self.critical))
    }

    pub(super) fn too_warm(&self) -> (Nanos, Nanos) {
        (
            Nanos(self.time_warning as u64),
            Nanos(self.time_critical as u64),
        )
    }

    #[inline]
    fn advance(&mut self, now: Nanos) {
        let span = now - self.at;
        if span >= self.step {
            self.advance_by(span);
            self.at = now;
        }
    }

    /// The heat came within a step of `at`, since it would have been spread otherwise; after it the body only cools.
    #[cold]
    fn advance_by(&mut self, span: Nanos) {
        let step = self.step.0 as f64;
        let source = std::mem::take(&mut self.pending) / step;
        self.segment(step, source * self.constant);
        let rest = span - self.step;
        if rest > Nanos(0) {
            self.segment(rest.0 as f64, 0.0);
        }
    }

    /// Goes for `span` exponentially towards `goal`.
    fn segment(&mut self, span: f64, goal: f64) {
        let begin = self.above;
        let end = goal + (begin - goal) * (-span / self.constant).exp();
        let at_least = |threshold: f64| {
            // Where it crosses, by the same exponential.
            let crossing = || self.constant * ((begin - goal) / (threshold - goal)).ln();
            match (begin >= threshold, end >= threshold) {
                (true, true) => span,
                (false, false) => 0.0,
                (false, true) => (span - crossing()).clamp(0.0, span),
                (true, false) => crossing().clamp(0.0, span),
            }
        };
        let (warning, critical) = (at_least(self.warning), at_least(self.critical));
        self.time_warning += (warning - critical).max(0.0);
        self.time_critical += critical;
        self.above = end;
        for level in &mut self.levels {
            level.holds = end >= level.from || level.holds && end > level.until;
        }
        let highest = self.levels.iter().find(|level| level.holds);
        self.factor = highest.map_or(1.0, |level| level.factor);
    }
}

fn check(thermal: &Thermal, place: &Place) -> Result<(), ModelError> {
    const CELSIUS: &str = "degrees Celsius from -40 to 200";
    const NUMBER: &str = "leave the table out if there is no thermal model";
    for (key, celsius) in [
        ("ambient_celsius", thermal.ambient_celsius),
        ("warning_celsius", thermal.warning_celsius),
        ("critical_celsius", thermal.critical_celsius),
    ] {
        let sound = (-40.0..=200.0).contains(&celsius);
        place.check(sound, key, celsius, CELSIUS, NUMBER)?;
    }
    for (key, rise) in [
        ("rise_per_gb_per_s", thermal.rise_per_gb_per_s),
        ("rise_per_kiops", thermal.rise_per_kiops),
    ] {
        let sound = (0.0..=1e6).contains(&rise);
        place.check(sound, key, rise, "degrees from 0 to 1000000", NUMBER)?;
    }
    place.check(
        thermal.rise_per_gb_per_s + thermal.rise_per_kiops > 0.0,
        "rise_per_gb_per_s",
        "neither it nor rise_per_kiops above 0",
        "what warms the controller",
        "give one of them",
    )?;
    let constant = thermal.time_constant.0;
    place.check(
        (Nanos::from_millis(1)..=Nanos::SECOND * 86_400).contains(&constant),
        "time_constant",
        constant,
        "1ms to 24h",
        "a drive with a heat sink needs minutes",
    )?;
    let (ambient, warning) = (thermal.ambient_celsius, thermal.warning_celsius);
    place.check(
        ambient < warning && warning < thermal.critical_celsius,
        "warning_celsius",
        warning,
        "more than ambient_celsius and less than critical_celsius",
        "put the three in order",
    )?;
    for (n, level) in (1..).zip(&thermal.throttle) {
        let place = place.within(&format!("throttle number {n}"));
        let order = ambient < level.until_celsius
            && level.until_celsius < level.from_celsius
            && level.from_celsius <= 200.0;
        place.check(
            order,
            "from_celsius",
            format!(
                "{} with until_celsius at {}",
                level.from_celsius, level.until_celsius
            ),
            "more than until_celsius, which is more than ambient_celsius, and at most 200",
            "put the three in order",
        )?;
        place.check(
            (1.0..=1e6).contains(&level.factor),
            "factor",
            level.factor,
            "1 to 1000000",
            "4 makes everything take four times as long",
        )?;
    }
    Ok(())
}
