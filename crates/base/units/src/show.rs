//! Figures for people: three significant digits with a unit.

/// `value` with three significant digits: `0.123`, `1.23`, `12.3`, `123`, `1230`.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    let places = match size {
        _ if !value.is_finite() => return "–".to_owned(),
        s if s >= 99.95 || s == 0.0 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut at = 0;
    while value.abs() >= base * 0.9995 && at + 1 < units.len() {
        value /= base;
        at += 1;
    }
    let unit = units[at];
    format!(
        "{}{}{unit}",
        digits(value),
        if unit.is_empty() { "" } else { " " }
    )
}

/// Operations a second: `421 k/s`, `1.23 M/s`.
pub fn per_second(rate: f64) -> String {
    scaled(rate, 1000.0, &["/s", "k/s", "M/s", "G/s"])
}

/// A time given in nanoseconds: `812 ns`, `2.41 µs`, `1.03 ms`, `2.00 s`.
pub fn time(nanos: f64) -> String {
    scaled(nanos, 1000.0, &["ns", "µs", "ms", "s"])
}

/// Bytes a second in binary units: `1.42 GiB/s`.
pub fn bandwidth(bytes_per_s: f64) -> String {
    scaled(
        bytes_per_s,
        1024.0,
        &["B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s"],
    )
}

/// Bytes a second as a link's rate in decimal bits: `12.2 Gb/s`.
pub fn link_rate(bytes_per_s: f64) -> String {
    scaled(
        bytes_per_s * 8.0,
        1000.0,
        &["b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"],
    )
}

/// An amount of memory in binary units: `15.6 GiB`.
pub fn amount(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_with_a_unit() {
        assert_eq!(per_second(421_234.0), "421 k/s");
        assert_eq!(per_second(999_960.0), "1.00 M/s");
        assert_eq!(time(812.0), "812 ns");
        assert_eq!(time(2_412.0), "2.41 µs");
        assert_eq!(time(0.0), "0 ns");
        assert_eq!(bandwidth(1024.0 * 1024.0 * 1024.0), "1.00 GiB/s");
        assert_eq!(link_rate(1.25e9), "10.0 Gb/s");
        assert_eq!(digits(f64::NAN), "–");
        assert_eq!(digits(0.01234), "0.012");
    }
}
