//! The journal's folder and files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;
use strata_settings::{Entry, Found, Journal, JournalError, Outcome, Scope, restore};
use strata_units::Nanos;

use crate::kernel::DRIVE;
use crate::tree::{Tree, to_vfio};

/// What a process that has ended since has written down, and made.
fn kept(tree: &Tree) -> Vec<u8> {
    let scope = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio());
    scope.expect("done").keep();
    tree.ends(std::process::id());
    tree.own(9000);
    fs::read(tree.folder().join("journal/1.json")).expect("the entry")
}

#[test]
fn an_entry_tells_boot_process_time_purpose_and_both_states() {
    let tree = Tree::new();
    let text = String::from_utf8(kept(&tree)).expect("text");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["format"], 1);
    assert_eq!(value["boot_id"], "11111111-2222-3333-4444-555555555555");
    assert_eq!(value["process"]["pid"], std::process::id());
    assert_eq!(value["process"]["started_ticks"], 500);
    assert_eq!(value["what_for"], "a test");
    assert!(
        value["at"].as_str().is_some_and(|at| at.ends_with('Z')),
        "{text}"
    );
    let driver = &value["changes"][3];
    assert_eq!(
        (driver["what"].as_str(), driver["function"].as_str()),
        (Some("driver"), Some(DRIVE))
    );
    assert_eq!(driver["before"]["driver"], "nvme");
    assert!(driver["before"]["driver_override"].is_null());
    assert_eq!(driver["after"]["driver"], "vfio-pci");
    assert_eq!(driver["devices"][0], "nvme0n1");
    assert_eq!(value["changes"][2]["module"], "vfio_pci");
    let mode = fs::metadata(tree.folder().join("journal/1.json")).expect("there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

#[test]
fn nothing_is_changed_that_is_not_written_down() {
    let tree = Tree::new();
    let before = tree.now();
    let journal = tree.journal();
    // Its file cannot be written: a folder has its name.
    fs::create_dir(tree.folder().join("journal/1.json")).expect("a folder");
    let mut kernel = tree.kernel();
    kernel.hook = Some(Box::new(|step| panic!("{step}")));
    let why = Scope::begin(journal, kernel, "a test", to_vfio())
        .err()
        .expect("no journal");
    assert!(why.to_string().contains("1.json"), "{why}");
    assert_eq!(tree.now(), before);
}

#[test]
fn a_garbled_entry_is_told_and_keeps_changes_from_beginning() {
    let whole = kept(&Tree::new());
    let text = String::from_utf8(whole.clone()).expect("text");
    let cases = [
        (Vec::new(), "it is empty"),
        (whole[..whole.len() / 2].to_vec(), "it is no JSON"),
        (b"\xff\xfe".to_vec(), "it is no JSON"),
        (b"{}".to_vec(), "it tells no format"),
        (b"[1]".to_vec(), "it tells no format"),
        (
            text.replace("\"format\": 1", "\"format\": 0").into(),
            "its format is 0",
        ),
        (
            text.replace("\"nvme\"", "\"../nvme\"").into(),
            "no name of a driver",
        ),
        (text.replace(DRIVE, "../../x").into(), "PCI address"),
        (
            text.replace("\"what_for\"", "\"for_what\"").into(),
            "unknown field",
        ),
        (
            text.replace("\"module\"", "\"sysctl\"").into(),
            "unknown variant",
        ),
    ];
    for (bytes, expected) in cases {
        let tree = Tree::new();
        let journal = tree.journal();
        let file = tree.folder().join("journal/1.json");
        fs::write(&file, &bytes).expect("written");
        let told = restore(&journal, &mut tree.kernel(), None, false).expect("told");
        let why = match &told[0].outcome {
            Outcome::Garbled {
                why,
                removed: false,
                ..
            } => why.clone(),
            other => panic!("{expected}: {other:?}"),
        };
        assert!(why.contains(expected), "{expected}: {why}");
        assert!(!told[0].outcome.is_done());
        let mut kernel = tree.kernel();
        kernel.hook = Some(Box::new(|step| panic!("{step}")));
        let refused = Scope::begin(tree.journal(), kernel, "a test", to_vfio());
        let refused = refused.err().expect("refused").to_string();
        assert!(
            refused.contains("1.json") && refused.contains("remove it"),
            "{refused}"
        );
        assert_eq!(fs::read(&file).expect("left"), bytes);
        let told = restore(&journal, &mut tree.kernel(), None, true).expect("told");
        assert!(matches!(
            told[0].outcome,
            Outcome::Garbled { removed: true, .. }
        ));
        assert!(!file.exists() && told[0].outcome.is_done());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a file holds, it is told.
    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..2000, at in 0usize..2000, to in any::<u8>()) {
        let tree = Tree::new();
        let journal = tree.journal();
        let mut changed = ENTRY.as_bytes().to_vec();
        changed.truncate(cut.max(1).min(changed.len()));
        let at = at % changed.len();
        changed[at] = to;
        for bytes in [bytes, changed] {
            fs::write(tree.folder().join("journal/1.json"), &bytes).expect("written");
            let found = journal.read().expect("read");
            prop_assert_eq!(found.len(), 1);
        }
    }
}

const ENTRY: &str = r#"{"format":1,"boot_id":"11111111-2222-3333-4444-555555555555","process":{"pid":7,"started_ticks":100},
"at":"2026-01-02T03:04:05Z","what_for":"strata bind","changes":[{"what":"module","module":"vfio"},
{"what":"driver","function":"0000:81:00.0","before":{"driver":"nvme","driver_override":null},
"after":{"driver":"vfio-pci","driver_override":"vfio-pci"},"devices":["nvme0n1"]}]}"#;

/// What stands in files today must be understood tomorrow.
#[test]
fn an_entry_of_format_1_is_understood() {
    let tree = Tree::new();
    fs::write(tree.journal().folder().join("12.json"), ENTRY).expect("written");
    let found = tree.journal().read().expect("readable");
    let [Found::Entry(12, entry)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(entry.changes.len(), 2);
    let again: Entry =
        serde_json::from_str(&serde_json::to_string(entry).expect("JSON")).expect("an entry");
    assert_eq!(again, *entry);
}

#[test]
fn a_later_format_is_refused() {
    let tree = Tree::new();
    let file = tree.journal().folder().join("3.json");
    fs::write(&file, r#"{"format":2,"what":{"never":"heard of"}}"#).expect("written");
    let told = restore(&tree.journal(), &mut tree.kernel(), None, true).expect("told");
    assert!(
        matches!(told[0].outcome, Outcome::Newer { format: 2, .. }),
        "{told:?}"
    );
    assert!(!told[0].outcome.is_done() && file.exists());
    let why = Scope::begin(tree.journal(), tree.kernel(), "a test", to_vfio());
    let why = why.err().expect("refused").to_string();
    assert!(
        why.contains("format is 2") && why.contains("knows 1"),
        "{why}"
    );
}

#[test]
fn an_entry_of_another_boot_is_dropped_and_undoes_nothing() {
    let tree = Tree::new();
    kept(&tree);
    tree.put(
        "proc/sys/kernel/random/boot_id",
        "99999999-2222-3333-4444-555555555555",
    );
    let mut kernel = tree.kernel();
    kernel.hook = Some(Box::new(|step| panic!("{step}")));
    let told = restore(&tree.journal(), &mut kernel, None, false).expect("told");
    assert!(matches!(told[0].outcome, Outcome::OtherBoot), "{told:?}");
    assert!(told[0].outcome.is_done());
    assert_eq!(tree.entries(), 0);
}

#[test]
fn a_folder_that_others_enter_is_not_used() {
    let tree = Tree::new();
    let place = tree.folder().join("place");
    let refused = |expected: &str| {
        for found in [
            Journal::open(&place, &tree.root()).err(),
            Journal::existing(&place, &tree.root()).err(),
        ] {
            let why = found.expect(expected);
            assert!(matches!(why, JournalError::Open { .. }), "{why}");
            assert!(why.to_string().contains(expected), "{why}");
        }
    };
    assert!(
        Journal::existing(&place, &tree.root())
            .expect("absent")
            .is_none()
    );
    fs::write(&place, "").expect("a file");
    refused("it is no folder");
    fs::remove_file(&place).expect("ours");
    symlink(tree.journal().folder(), &place).expect("a link");
    refused("it is no folder");
    fs::remove_file(&place).expect("ours");
    fs::create_dir(&place).expect("a folder");
    fs::set_permissions(&place, Permissions::from_mode(0o755)).expect("ours");
    refused("its mode is 0755");
    fs::set_permissions(&place, Permissions::from_mode(0o700)).expect("ours");
    Journal::open(&place, &tree.root()).expect("private");
    let why = Journal::open(&place.join("a/b"), &tree.root()).expect_err("nowhere");
    assert!(why.to_string().contains("STRATA_JOURNAL"), "{why}");
}

#[test]
fn two_processes_change_one_after_the_other() {
    let tree = Tree::new();
    let journal = tree.journal();
    let lock = journal.lock().expect("locked");
    let why = journal
        .lock_within(Nanos::from_millis(50))
        .expect_err("locked");
    let told = why.to_string();
    assert!(matches!(why, JournalError::Locked { .. }), "{told}");
    assert!(
        told.contains(&format!("process {}", std::process::id())),
        "{told}"
    );
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _lock = journal.lock().expect("it waits");
            tell.send(()).expect("heard");
        });
        assert!(
            told.recv_timeout(std::time::Duration::from_millis(100))
                .is_err()
        );
        drop(lock);
        told.recv().expect("its turn");
    });
}
