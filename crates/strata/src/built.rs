//! What this binary was built from.

use strata_record::Built;

/// Version of the package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Version, commit and profile, as `run.json` keeps them.
pub(crate) fn built() -> Built {
    Built {
        version: VERSION.to_owned(),
        commit: option_env!("STRATA_COMMIT").map(str::to_owned),
        profile: match (cfg!(debug_assertions), env!("STRATA_OPT_LEVEL")) {
            (true, _) => "debug".to_owned(),
            (false, "3") => "release".to_owned(),
            (false, less) => format!("low-optimisation (opt-level {less})"),
        },
    }
}
