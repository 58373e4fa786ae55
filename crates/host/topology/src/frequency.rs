//! Frequency of CPUs, what governs it, and how often heat slowed them.

use std::collections::BTreeMap;

use strata_record::{CpuFrequency, CpuThrottling, FrequencySource};
use strata_units::{CpuId, CpuList};

use crate::root::Reader;

const FOLDER: &str = "sys/devices/system/cpu";

/// Frequencies of the CPUs now, in Hz: `scaling_cur_freq`, and for those that have none `cpu MHz` of `/proc/cpuinfo`.
pub(crate) fn now(reader: &Reader, cpus: &CpuList) -> BTreeMap<CpuId, (FrequencySource, u64)> {
    let mut found: BTreeMap<CpuId, (FrequencySource, u64)> = cpus
        .iter()
        .filter_map(|cpu| {
            let hertz = kilohertz(reader, cpu, "scaling_cur_freq")?;
            Some((cpu, (FrequencySource::Cpufreq, hertz)))
        })
        .collect();
    if found.len() < cpus.len() {
        // A block of some 1.5 KiB a CPU.
        let text = reader.long_text("proc/cpuinfo", 4 << 20);
        for (cpu, hertz) in cpuinfo(&text.unwrap_or_default()) {
            if cpus.contains(cpu) {
                found
                    .entry(cpu)
                    .or_insert((FrequencySource::Cpuinfo, hertz));
            }
        }
    }
    found
}

/// `processor : 3` and later `cpu MHz : 2400.000`, a block a CPU.
fn cpuinfo(text: &str) -> Vec<(CpuId, u64)> {
    let mut cpu = None;
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        match name.trim() {
            "processor" => cpu = value.trim().parse().ok().map(CpuId),
            "cpu MHz" => {
                let megahertz: Option<f64> = value.trim().parse().ok();
                if let (Some(cpu), Some(mhz)) = (cpu, megahertz.filter(|m| *m > 0.0 && *m < 1e6)) {
                    found.push((cpu, (mhz * 1e6).round() as u64));
                }
            }
            _ => {}
        }
    }
    found
}

fn kilohertz(reader: &Reader, cpu: CpuId, file: &str) -> Option<u64> {
    let path = format!("{FOLDER}/cpu{cpu}/cpufreq/{file}");
    let khz: u64 = reader.value(&path, "a number of kHz")?;
    khz.checked_mul(1000).filter(|hertz| *hertz > 0)
}

/// What governs a CPU's frequency (`Documentation/admin-guide/pm/cpufreq.rst`), with its frequency before and after.
pub(crate) fn governed(
    reader: &Reader,
    cpu: CpuId,
    source: FrequencySource,
    (before_hz, after_hz): (u64, u64),
) -> CpuFrequency {
    let word = |file: &str| reader.word(&format!("{FOLDER}/cpu{cpu}/cpufreq/{file}"));
    CpuFrequency {
        source,
        before_hz,
        after_hz,
        min_hz: kilohertz(reader, cpu, "scaling_min_freq"),
        max_hz: kilohertz(reader, cpu, "scaling_max_freq"),
        base_hz: kilohertz(reader, cpu, "base_frequency"),
        governor: word("scaling_governor"),
        driver: word("scaling_driver"),
        energy_preference: word("energy_performance_preference"),
    }
}

/// How often heat has slowed a CPU since it was started (`thermal_throttle`, which Intel's CPUs count).
pub(crate) fn throttled(reader: &Reader, cpu: CpuId) -> Option<CpuThrottling> {
    let count = |what: &str| {
        let path = format!("{FOLDER}/cpu{cpu}/thermal_throttle/{what}_throttle_count");
        reader.value(&path, "a count")
    };
    Some(CpuThrottling {
        core: count("core")?,
        package: count("package").unwrap_or(0),
    })
}
