//! libFuzzer over the target that `STRATA_FUZZ_TARGET` names; `scripts/fuzz` builds and calls it.

#![no_main]

use std::env;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("STRATA_FUZZ_TARGET").unwrap_or_default();
    strata_fuzz::target(&name).unwrap_or_else(|| {
        let known = strata_fuzz::TARGETS.map(|(name, _)| name);
        panic!("STRATA_FUZZ_TARGET is {name:?}, which is none of {known:?}")
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
