//! What fuzzers ask of everything that reads what somebody else wrote: each target takes any bytes, and panics when what
//! must hold of them does not.
//!
//! Besides that nothing panics: what is printed is read back as the same, a stranger never hears a byte, and what was
//! found lies within what was given. Time and memory are the fuzzer's to bound (`scripts/fuzz`). The committed corpora are
//! replayed by a test of the command, which takes this file in, so it stays free of libFuzzer.

#![forbid(unsafe_code)]

mod peer;
mod plan;
mod quantities;
mod signatures;
mod store;
mod tree;
mod vfio_user;

use tempfile::TempDir;

/// What a fuzzer runs on the bytes that it makes.
pub type Target = fn(&[u8]);

/// What is fuzzed: its name, which its corpus and dictionary carry too, and what any bytes must do.
pub const TARGETS: [(&str, Target); 13] = [
    ("channel", peer::channel),
    ("frames", peer::frames),
    ("ledger", store::ledger),
    ("liars", peer::liars),
    ("plan", plan::plan),
    ("quantities", quantities::quantities),
    ("run", store::run),
    ("signatures", signatures::signatures),
    ("strangers", peer::strangers),
    ("topology", tree::topology),
    ("trials", store::trials),
    ("vfio_user", vfio_user::serve),
    ("vfio_user_answers", vfio_user::answers),
];

/// The target of this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    let (_, run) = TARGETS.iter().find(|(known, _)| *known == name)?;
    Some(*run)
}

/// A folder that goes with its owner; in memory where there is any.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .expect("room for a folder")
}
