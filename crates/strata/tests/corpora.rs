//! The fuzzers' corpora, replayed: what a fuzzer once found, or what leads it to all of a parser, holds on every build.
//! New inputs are looked for by `make soak`.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

// Taken in as a source, since the fuzzers' package is none of this workspace.
#[allow(unreachable_pub, reason = "public for the fuzzers")]
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

/// Files and bytes of all corpora together: seeds and findings, not what a fuzzer gathers on its way.
const MOST_FILES: usize = 200;
const MOST_BYTES: usize = 300 << 10;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpora")
}

fn below(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[test]
fn every_corpus_is_replayed() {
    let mut failed = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    for (name, _) in fuzz::TARGETS {
        let run = fuzz::target(name).expect("a target of the table");
        let corpus = below(&corpora().join(name));
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for path in corpus {
            let input = fs::read(&path).expect("an input");
            (files, bytes) = (files + 1, bytes + input.len());
            if catch_unwind(|| run(&input)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "what was mended is back: {failed:#?}");
    assert!(
        files <= MOST_FILES && bytes <= MOST_BYTES,
        "{files} files of {bytes} bytes: minimise them (`scripts/fuzz --minimise`)"
    );
}

#[test]
fn every_corpus_has_its_target() {
    let known: BTreeSet<PathBuf> = fuzz::TARGETS
        .iter()
        .map(|(n, _)| corpora().join(n))
        .collect();
    assert_eq!(below(&corpora()), known);
    assert!(fuzz::target("nothing").is_none());
}
