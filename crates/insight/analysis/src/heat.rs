//! METHOD 3: trials that heat made unlike form no contrast.

use strata_record::{HostProof, Record};

/// Drive temperatures farther apart than this are not alike.
const APART: f64 = 10.0;

/// Why two trials form no contrast: heat held one of them back, or their drives' temperatures are more than 10 °C apart.
/// None where they may, and where nobody looked. The rule never looks at the figures.
pub(crate) fn unlike(a: &Record, b: &Record) -> Option<String> {
    let (one, other) = (host(a)?, host(b)?);
    if let Some(why) = one.throttled().or_else(|| other.throttled()) {
        return Some(why);
    }
    let (one, other) = (one.hottest_celsius()?, other.hottest_celsius()?);
    ((one - other).abs() > APART).then(|| {
        let (cool, hot) = (one.min(other), one.max(other));
        format!("the drive was at {cool:.0} °C in one trial and at {hot:.0} °C in the other")
    })
}

fn host(record: &Record) -> Option<&HostProof> {
    record.proof.as_ref()?.host.as_ref()
}
