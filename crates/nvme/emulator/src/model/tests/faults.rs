//! Rules strike whom they name, when they say.

use proptest::prelude::*;
use strata_nvme_spec::Status;

use super::super::{Dice, Fate, Faults, StatusName};
use super::*;

fn dice(toml: &str) -> Dice {
    let faults: Faults = toml::from_str(toml).expect(toml);
    Dice::new(&faults, 11).expect(toml)
}

fn struck(dice: &mut Dice, count: u64) -> Vec<u64> {
    (1..=count)
        .filter(|_| dice.fate(Nanos(0), &read(512)) != Fate::Well)
        .collect()
}

fn at(kind: AccessKind, nsid: u32, first: u64, blocks: u32) -> Access {
    Access {
        kind,
        nsid: NamespaceId(nsid),
        first: Lba(first),
        blocks,
        bytes: Bytes(u64::from(blocks) * 512),
    }
}

#[test]
fn nothing_said_is_fair() {
    let mut fair = dice("");
    assert!(fair.is_fair() && fair.becomes_ready());
    assert!(struck(&mut fair, 100).is_empty());
    let never = dice("never_ready = true");
    assert!(never.is_fair() && !never.becomes_ready());
    assert!(!dice("[[rule]]\nfault = \"lost\"").is_fair());
}

#[test]
fn every_fault_has_its_fate() {
    for (rule, fate) in [
        (
            "fault = \"status\"\nstatus = 0x281",
            Fate::Status(Status::UNRECOVERED_READ_ERROR),
        ),
        (
            "fault = \"status\"\nstatus = \"internal-error\"\ndo_not_retry = true",
            Fate::Status(Status::INTERNAL_ERROR.do_not_retry()),
        ),
        ("fault = \"lost\"", Fate::Lost),
        (
            "fault = \"late\"\ndelay = \"50ms\"",
            Fate::Late(Nanos::from_millis(50)),
        ),
        (
            "fault = \"twice\"\ndelay = \"1us\"",
            Fate::Twice(Nanos(1000)),
        ),
        ("fault = \"wrong-phase\"", Fate::WrongPhase),
        ("fault = \"corrupt\"", Fate::Corrupt),
        ("fault = \"fatal\"", Fate::Fatal),
        ("fault = \"removed\"", Fate::Removed),
    ] {
        let mut dice = dice(&format!("[[rule]]\n{rule}"));
        assert_eq!(dice.fate(Nanos(0), &read(512)), fate, "{rule}");
    }
}

#[test]
fn a_rule_strikes_only_its_scope() {
    let mut ranged = dice(
        "[[rule]]\nfault = \"lost\"\nkind = \"read\"\nnamespace = 2\nfirst_lba = 100\nlast_lba = 199",
    );
    for (access, strikes) in [
        (at(AccessKind::Read, 2, 100, 1), true),
        (at(AccessKind::Read, 2, 99, 1), false),
        (at(AccessKind::Read, 2, 99, 2), true),
        (at(AccessKind::Read, 2, 199, 8), true),
        (at(AccessKind::Read, 2, 200, 8), false),
        (at(AccessKind::Read, 2, 0, 1000), true),
        (at(AccessKind::Read, 2, 150, 0), false),
        (at(AccessKind::Read, 1, 150, 1), false),
        (at(AccessKind::Write, 2, 150, 1), false),
        (at(AccessKind::Read, 2, u64::MAX, u32::MAX), false),
    ] {
        let fate = ranged.fate(Nanos(0), &access);
        assert_eq!(fate == Fate::Lost, strikes, "{access:?}");
    }
    let mut open = dice("[[rule]]\nfault = \"lost\"\nfirst_lba = 100");
    assert_eq!(
        open.fate(Nanos(0), &at(AccessKind::Write, 9, 99, 1)),
        Fate::Well
    );
    assert_eq!(
        open.fate(Nanos(0), &at(AccessKind::Write, 9, u64::MAX, 1)),
        Fate::Lost
    );
    let mut flushes = dice("[[rule]]\nfault = \"lost\"\nnamespace = 2");
    assert_eq!(
        flushes.fate(Nanos(0), &at(AccessKind::Flush, u32::MAX, 0, 0)),
        Fate::Lost
    );
    assert_eq!(
        flushes.fate(Nanos(0), &at(AccessKind::Flush, 1, 0, 0)),
        Fate::Well
    );
}

#[test]
fn only_data_are_corrupted() {
    let mut dice = dice("[[rule]]\nfault = \"corrupt\"");
    for (kind, fate) in [
        (AccessKind::Read, Fate::Corrupt),
        (AccessKind::Write, Fate::Corrupt),
        (AccessKind::Flush, Fate::Well),
        (AccessKind::WriteZeroes, Fate::Well),
        (AccessKind::Deallocate, Fate::Well),
        (AccessKind::Other, Fate::Well),
    ] {
        assert_eq!(dice.fate(Nanos(0), &access(kind, 512)), fate, "{kind:?}");
    }
}

#[test]
fn a_rule_strikes_when_it_says() {
    let mut nth = dice("[[rule]]\nfault = \"lost\"\nnth = 3");
    assert_eq!(struck(&mut nth, 10), [3, 6, 9]);
    let mut twice = dice("[[rule]]\nfault = \"lost\"\nnth = 3\ntimes = 2");
    assert_eq!(struck(&mut twice, 20), [3, 6]);
    let mut once = dice("[[rule]]\nfault = \"lost\"\ntimes = 1");
    assert_eq!(struck(&mut once, 20), [1]);
    let mut late = dice("[[rule]]\nfault = \"lost\"\nafter = \"2s\"\nnth = 2");
    let fates: Vec<bool> = [1, 1, 1, 2, 2, 3]
        .map(|s| late.fate(Nanos(s * SECOND), &read(512)) == Fate::Lost)
        .into();
    assert_eq!(fates, [false, false, false, false, true, false]);
}

#[test]
fn the_first_rule_that_strikes_decides() {
    let mut both =
        dice("[[rule]]\nfault = \"lost\"\nnth = 2\n[[rule]]\nfault = \"wrong-phase\"\nnth = 2");
    let fates: Vec<Fate> = (0..6).map(|_| both.fate(Nanos(0), &read(512))).collect();
    // The second rule does not see what the first struck: of the 1st, 3rd and 5th, the 3rd is its second.
    assert_eq!(
        fates,
        [
            Fate::Well,
            Fate::Lost,
            Fate::WrongPhase,
            Fate::Lost,
            Fate::Well,
            Fate::Lost
        ]
    );
}

#[test]
fn a_rate_is_kept_within_binomial_limits() {
    let count = 1_000_000;
    for rate in [0.01, 0.5, 0.000_1] {
        let mut dice = dice(&format!("[[rule]]\nfault = \"lost\"\nrate = {rate}"));
        let hits = struck(&mut dice, count).len() as u64;
        assert!(binomial(hits, count, rate), "{rate}: {hits}");
    }
    let mut always = dice("[[rule]]\nfault = \"lost\"\nrate = 1");
    assert_eq!(struck(&mut always, 1000).len(), 1000);
}

#[test]
fn a_rules_generator_is_its_own() {
    let rate = "[[rule]]\nfault = \"lost\"\nrate = 0.1\nkind = \"read\"\n";
    let other = "[[rule]]\nfault = \"lost\"\nrate = 0.1\nkind = \"write\"\n";
    let (mut alone, mut beside) = (dice(rate), dice(&format!("{rate}{other}")));
    for _ in 0..1000 {
        assert_eq!(
            alone.fate(Nanos(0), &read(1)),
            beside.fate(Nanos(0), &read(1))
        );
        beside.fate(Nanos(0), &write(1));
    }
    // Two rules with the same rate do not strike alike.
    let mut pair = dice(&format!("{rate}{other}"));
    let pairs: Vec<bool> = (0..1000)
        .map(|_| pair.fate(Nanos(0), &read(1)) == pair.fate(Nanos(0), &write(1)))
        .collect();
    assert!(pairs.contains(&false));
}

proptest! {
    #[test]
    fn every_status_is_written_and_read_back(field in 1_u16..0x8000) {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Only {
            status: StatusName,
        }
        let only = Only { status: StatusName(Status::from_field(field)) };
        let text = toml::to_string(&only).expect("TOML");
        prop_assert_eq!(toml::from_str::<Only>(&text).expect("its own text"), only, "{}", text);
    }
}
