//! Features (Base 5.1.11, 5.1.25): kept, given out again, and forgotten at a reset; none is saved.

use strata_nvme_spec::command::admin::{GetFeatures, Select, SetFeatures};
use strata_nvme_spec::feature::{
    FeatureId, QueueCounts, TemperatureThreshold, write_cache_enabled,
};
use strata_nvme_spec::{Kelvin, NamespaceId, Sqe, Status};

use super::INVALID_FIELD;
use crate::controller::Controller;

/// Get Features' answer to what a feature can: it can be changed.
const CHANGEABLE: u32 = 1 << 2;

/// The value of each feature.
pub(crate) struct Features {
    /// By their number, where a feature has one value only.
    values: [u32; COUNT],
    over: Kelvin,
    under: Kelvin,
    /// Interrupt vectors that are not coalesced, by their number.
    single: Vec<bool>,
    pairs: u16,
    warning: Kelvin,
}

const COUNT: usize = FeatureId::EVENT_CONFIG.0 as usize + 1;

/// The lowest and the highest threshold that are never crossed.
const NEVER: (Kelvin, Kelvin) = (Kelvin(0), Kelvin(u16::MAX));

impl Features {
    /// Of a controller with so many I/O queue pairs and these warning and critical temperatures.
    pub(crate) fn new(pairs: u16, too_warm: Option<(Kelvin, Kelvin)>) -> Features {
        let warning = too_warm.map_or(NEVER.1, |(warning, _)| warning);
        let mut features = Features {
            values: [0; COUNT],
            over: warning,
            under: NEVER.0,
            single: Vec::new(),
            pairs,
            warning,
        };
        features.reset();
        features
    }

    /// As at the start.
    pub(crate) fn reset(&mut self) {
        self.values = [0; COUNT];
        self.values[usize::from(FeatureId::NUMBER_OF_QUEUES.0)] = counts(self.pairs.into());
        self.values[usize::from(FeatureId::VOLATILE_WRITE_CACHE.0)] = 1;
        (self.over, self.under) = (self.warning, NEVER.0);
        self.single = vec![false; usize::from(self.pairs) + 1];
    }

    /// The value of a feature that has one.
    pub(crate) fn value(&self, feature: FeatureId) -> u32 {
        self.values
            .get(usize::from(feature.0))
            .copied()
            .unwrap_or(0)
    }

    /// I/O queues of each kind that were granted.
    pub(crate) fn granted(&self) -> u16 {
        let counts = QueueCounts::from_dword(self.value(FeatureId::NUMBER_OF_QUEUES));
        u16::try_from(counts.pairs()).unwrap_or(u16::MAX)
    }

    /// Whether a temperature is beyond a threshold.
    pub(crate) fn is_beyond(&self, temperature: Kelvin) -> bool {
        temperature >= self.over || temperature <= self.under
    }
}

fn counts(pairs: u32) -> u32 {
    QueueCounts::new(pairs, pairs).map_or(0, QueueCounts::dword)
}

fn known(feature: FeatureId) -> Result<usize, Status> {
    let known = [
        FeatureId::ARBITRATION,
        FeatureId::POWER_MANAGEMENT,
        FeatureId::TEMPERATURE_THRESHOLD,
        FeatureId::ERROR_RECOVERY,
        FeatureId::VOLATILE_WRITE_CACHE,
        FeatureId::NUMBER_OF_QUEUES,
        FeatureId::INTERRUPT_COALESCING,
        FeatureId::INTERRUPT_VECTOR,
        FeatureId::WRITE_ATOMICITY,
        FeatureId::EVENT_CONFIG,
    ];
    known
        .contains(&feature)
        .then_some(usize::from(feature.0))
        .ok_or(INVALID_FIELD)
}

/// The composite temperature's threshold that is meant, or that of all; there are no sensors.
fn threshold(dword: u32) -> Result<TemperatureThreshold, Status> {
    TemperatureThreshold::from_dword(dword)
        .filter(|threshold| matches!(threshold.sensor, 0 | 0xf))
        .ok_or(INVALID_FIELD)
}

impl Controller {
    pub(super) fn get_features(&self, sqe: &Sqe) -> Result<u32, Status> {
        let asked = GetFeatures::of(sqe)?;
        let index = known(asked.feature)?;
        let mut first = None;
        let features = match asked.select {
            Select::Capabilities => return Ok(CHANGEABLE),
            Select::Current => &self.features,
            // None is saved, so that what is saved is what is there at the start.
            Select::Default | Select::Saved => {
                first.insert(Features::new(self.pairs, self.models.pace.thresholds()))
            }
        };
        Ok(match asked.feature {
            FeatureId::TEMPERATURE_THRESHOLD => {
                let threshold = threshold(asked.detail)?;
                if threshold.sensor != 0 {
                    return Err(INVALID_FIELD);
                }
                let at = if threshold.under {
                    features.under
                } else {
                    features.over
                };
                at.0.into()
            }
            FeatureId::INTERRUPT_VECTOR => {
                let vector = asked.detail & 0xffff;
                let single = features.single.get(vector as usize).ok_or(INVALID_FIELD)?;
                vector | u32::from(*single) << 16
            }
            _ => features.values[index],
        })
    }

    pub(super) fn set_features(&mut self, sqe: &Sqe) -> Result<u32, Status> {
        let asked = SetFeatures::of(sqe);
        let index = known(asked.feature)?;
        if asked.save {
            return Err(Status::FEATURE_NOT_SAVEABLE.do_not_retry());
        }
        let for_all = matches!(asked.nsid, NamespaceId::NONE | NamespaceId::ALL);
        if !for_all && asked.feature != FeatureId::ERROR_RECOVERY {
            return Err(Status::FEATURE_NOT_PER_NAMESPACE.do_not_retry());
        }
        let value = asked.value;
        let features = &mut self.features;
        match asked.feature {
            FeatureId::NUMBER_OF_QUEUES => {
                if value & 0xffff == 0xffff || value >> 16 == 0xffff {
                    return Err(INVALID_FIELD);
                }
                // The admin queues are always there.
                if self.queues.completions.len() > 1 || self.queues.submissions.len() > 1 {
                    return Err(Status::SEQUENCE_ERROR.do_not_retry());
                }
                let wanted = QueueCounts::from_dword(value);
                let most = wanted.submission().max(wanted.completion());
                let granted = counts(most.min(self.pairs.into()));
                features.values[index] = granted;
                return Ok(granted);
            }
            FeatureId::TEMPERATURE_THRESHOLD => {
                let threshold = threshold(value)?;
                match threshold.under {
                    true => features.under = threshold.at,
                    false => features.over = threshold.at,
                }
            }
            FeatureId::INTERRUPT_VECTOR => {
                let vector = (value & 0xffff) as usize;
                *features.single.get_mut(vector).ok_or(INVALID_FIELD)? = value >> 16 & 1 == 1;
            }
            // There is one power state.
            FeatureId::POWER_MANAGEMENT if value & 0x1f != 0 => return Err(INVALID_FIELD),
            // Errors on deallocated blocks (DULBE) are not offered.
            FeatureId::ERROR_RECOVERY if value >> 16 & 1 == 1 => return Err(INVALID_FIELD),
            FeatureId::VOLATILE_WRITE_CACHE => {
                features.values[index] = value & 1;
                self.io.write_through = !write_cache_enabled(value);
            }
            _ => features.values[index] = value,
        }
        Ok(0)
    }
}
