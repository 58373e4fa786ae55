//! How long a controller may take to become ready.

use strata_units::Nanos;

use super::{Cap, HALF_SECOND};

/// Controller Ready Timeouts, CRTO (Base 3.1.4.21); there where CAP.CRMS is not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crto(pub u32);

impl Crto {
    /// The longest until ready with media, CRWMT.
    pub fn with_media(self) -> Nanos {
        HALF_SECOND * u64::from(self.0 & 0xffff)
    }

    /// The longest until ready independent of media, CRIMT.
    pub fn independent_of_media(self) -> Nanos {
        HALF_SECOND * u64::from(self.0 >> 16)
    }

    /// These times, rounded up to half seconds; at most 32767.5 s each.
    pub fn new(with_media: Nanos, independent: Nanos) -> Crto {
        let field = |time: Nanos| time.0.div_ceil(HALF_SECOND.0).min(0xffff) as u32;
        Crto(field(independent) << 16 | field(with_media))
    }
}

/// How long CSTS.RDY may take to follow CC.EN: CRTO's time where CAP.CRMS is not 0, else CAP.TO (Base 3.5.4, "Controller Ready
/// Timeouts During Initialization").
///
/// `crto` is to be read only where CAP.CRMS is not 0, and is not looked at otherwise; `independent` is CC.CRIME. CRTO should
/// never be below CAP.TO; where a controller gets that wrong the longer time counts, as with Linux.
pub fn ready_timeout(cap: Cap, crto: Crto, independent: bool) -> Nanos {
    if !cap.ready_with_media() && !cap.ready_independent_of_media() {
        return cap.timeout();
    }
    let told = if independent {
        crto.independent_of_media()
    } else {
        crto.with_media()
    };
    told.max(cap.timeout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_crtos_where_there_is_one() {
        let crto = Crto(0x0003_0100);
        assert_eq!(crto.with_media(), Nanos::SECOND * 128);
        assert_eq!(crto.independent_of_media(), Nanos::from_millis(1500));
        assert_eq!(
            Crto::new(Nanos::SECOND * 128, Nanos::from_millis(1400)),
            crto
        );
        let cap = Cap::default().with_timeout(Nanos::SECOND);
        let modes = cap.with_ready_modes(true, true);
        assert_eq!(ready_timeout(cap, crto, false), Nanos::SECOND);
        assert_eq!(ready_timeout(modes, crto, false), Nanos::SECOND * 128);
        assert_eq!(ready_timeout(modes, crto, true), Nanos::from_millis(1500));
        assert_eq!(ready_timeout(modes, Crto(0), true), Nanos::SECOND);
    }
}
