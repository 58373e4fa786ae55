//! What this binary was built from.

use strata_record::Built;

/// Version of the package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Version, commit and profile, as `run.json` keeps them.
pub(crate) fn built() -> Built {
    Built {
        version: VERSION.to_owned(),
        commit: option_env!("STRATA_COMMIT").map(str::to_owned),
        profile: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        }
        .to_owned(),
    }
}
