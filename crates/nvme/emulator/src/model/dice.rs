//! What becomes of each command.

use strata_nvme_spec::{NamespaceId, Status};
use strata_stats::{Rng, split_mix};
use strata_units::Nanos;

use super::error::Place;
use super::faults::{Fault, Faults, Rule};
use super::latency::chance;
use super::{Access, AccessKind, ModelError};

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Well,
    /// It is not carried out and completes with this status.
    Status(Status),
    /// It is carried out and never completes.
    Lost,
    /// It is carried out and completes so much later than it would have.
    Late(Nanos),
    /// It is carried out and completes twice, the second time so much after the first.
    Twice(Nanos),
    /// Its completion is written with the phase tag of the round before.
    WrongPhase,
    /// It completes with success, and its data are not what they should be.
    Corrupt,
    /// The controller stops with CSTS.CFS set (Base 3.1.4.6).
    Fatal,
    /// The controller is gone: all registers read as ones.
    Removed,
}

/// Decides the fate of commands.
#[derive(Debug, Clone)]
pub struct Dice {
    ready: bool,
    rules: Box<[Die]>,
}

/// A rule at work.
#[derive(Debug, Clone)]
struct Die {
    fate: Fate,
    kind: Option<AccessKind>,
    namespace: Option<NamespaceId>,
    /// First and last.
    blocks: Option<(u64, u64)>,
    after: Nanos,
    when: When,
    /// How often it may strike yet.
    left: u64,
}

#[derive(Debug, Clone)]
enum When {
    Always,
    /// A random word below this strikes.
    Rate(u64, Rng),
    Nth {
        n: u64,
        seen: u64,
    },
}

impl Dice {
    /// Dice that fall as `faults` say, always the same way for a seed and a sequence of commands; each rule has a generator
    /// of its own, so that none changes what another does with the commands that it sees.
    ///
    /// # Errors
    /// A rule that makes no sense.
    pub fn new(faults: &Faults, seed: u64) -> Result<Dice, ModelError> {
        let mut seeds = seed;
        let rules = (1..).zip(&faults.rules).map(|(n, rule)| {
            let place = Place::new(format!("[[faults.rule]] number {n}"));
            Die::new(rule, split_mix(&mut seeds), &place)
        });
        Ok(Dice {
            ready: !faults.never_ready,
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Whether every command goes well, so that [`fate`](Self::fate) need not be asked.
    #[inline]
    pub fn is_fair(&self) -> bool {
        self.rules.is_empty()
    }

    /// What becomes of a command that was fetched at `now`.
    #[inline]
    pub fn fate(&mut self, now: Nanos, access: &Access) -> Fate {
        self.rules
            .iter_mut()
            .find_map(|rule| rule.strikes(now, access).then_some(rule.fate))
            .unwrap_or(Fate::Well)
    }

    /// Whether the controller becomes ready after it is enabled.
    pub fn becomes_ready(&self) -> bool {
        self.ready
    }
}

impl Die {
    fn new(rule: &Rule, seed: u64, place: &Place) -> Result<Die, ModelError> {
        Ok(Die {
            fate: fate(rule, place)?,
            kind: rule.kind,
            namespace: rule.namespace.map(NamespaceId),
            blocks: blocks(rule, place)?,
            after: rule.after.map_or(Nanos(0), |after| after.0),
            when: when(rule, seed, place)?,
            left: times(rule, place)?,
        })
    }

    fn strikes(&mut self, now: Nanos, access: &Access) -> bool {
        if self.left == 0 || now < self.after || !self.matches(access) {
            return false;
        }
        let strikes = match &mut self.when {
            When::Always => true,
            When::Rate(chance, rng) => rng.next_u64() < *chance,
            When::Nth { n, seen } => {
                *seen += 1;
                let strikes = seen == n;
                if strikes {
                    *seen = 0;
                }
                strikes
            }
        };
        self.left -= u64::from(strikes);
        strikes
    }

    fn matches(&self, access: &Access) -> bool {
        let kind = match self.kind {
            Some(kind) => kind == access.kind,
            None => self.fate != Fate::Corrupt || moves_data(access.kind),
        };
        let namespace = self
            .namespace
            .is_none_or(|nsid| nsid == access.nsid || access.nsid == NamespaceId::ALL);
        let blocks = self.blocks.is_none_or(|(first, last)| {
            let count = u64::from(access.blocks);
            count > 0 && access.first.0 <= last && access.first.0.saturating_add(count - 1) >= first
        });
        kind && namespace && blocks
    }
}

fn moves_data(kind: AccessKind) -> bool {
    matches!(kind, AccessKind::Read | AccessKind::Write)
}

fn fate(rule: &Rule, place: &Place) -> Result<Fate, ModelError> {
    const STATUS: &str = "a failure's name or number with the fault `status`, and none with others";
    const DELAY: &str = "a time with the faults `late` and `twice`, and none with others";
    let is_status = rule.fault == Fault::Status;
    let delays = matches!(rule.fault, Fault::Late | Fault::Twice);
    place.check(
        rule.status.is_some() == is_status && (is_status || !rule.do_not_retry),
        "status",
        match (rule.status, rule.do_not_retry) {
            (Some(status), _) => status.0.to_string(),
            (None, true) => "do_not_retry without a status".to_owned(),
            (None, false) => "none".to_owned(),
        },
        STATUS,
        "such as fault = \"status\" with status = \"Unrecovered Read Error\"",
    )?;
    place.check(
        rule.delay.is_some() == delays,
        "delay",
        rule.delay.map_or("none".to_owned(), |d| d.0.to_string()),
        DELAY,
        "such as fault = \"late\" with delay = \"50ms\"",
    )?;
    let delay = rule.delay.unwrap_or_default().0;
    Ok(match rule.fault {
        Fault::Status => {
            let status = rule.status.map_or(Status::SUCCESS, |name| name.0);
            let next = "leave the rule out if nothing is to go wrong";
            place.check(!status.is_success(), "status", status, STATUS, next)?;
            Fate::Status(if rule.do_not_retry {
                status.do_not_retry()
            } else {
                status
            })
        }
        Fault::Lost => Fate::Lost,
        Fault::Late => Fate::Late(delay),
        Fault::Twice => Fate::Twice(delay),
        Fault::WrongPhase => Fate::WrongPhase,
        Fault::Corrupt => {
            let kind = rule.kind.filter(|kind| !moves_data(*kind));
            place.check(
                kind.is_none(),
                "kind",
                kind.map_or(String::new(), |kind| format!("{kind:?}")),
                "read or write with the fault `corrupt`",
                "other commands have no data",
            )?;
            Fate::Corrupt
        }
        Fault::Fatal => Fate::Fatal,
        Fault::Removed => Fate::Removed,
    })
}

fn blocks(rule: &Rule, place: &Place) -> Result<Option<(u64, u64)>, ModelError> {
    let (first, last) = (
        rule.first_lba.unwrap_or(0),
        rule.last_lba.unwrap_or(u64::MAX),
    );
    place.check(
        first <= last,
        "last_lba",
        format!("{last} with first_lba at {first}"),
        "first_lba or a block after it",
        "both are part of the range",
    )?;
    Ok((rule.first_lba.is_some() || rule.last_lba.is_some()).then_some((first, last)))
}

fn when(rule: &Rule, seed: u64, place: &Place) -> Result<When, ModelError> {
    match (rule.rate, rule.nth) {
        (None, None) => Ok(When::Always),
        (Some(rate), None) => {
            place.check(
                rate > 0.0 && rate <= 1.0,
                "rate",
                rate,
                "a probability above 0 and up to 1",
                "0.01 strikes one match of a hundred",
            )?;
            Ok(When::Rate(chance(rate), Rng::new(seed)))
        }
        (None, Some(n)) => {
            let next = "1000 strikes the 1000th match, the 2000th and so on";
            place.check(n > 0, "nth", n, "1 or more", next)?;
            Ok(When::Nth { n, seen: 0 })
        }
        (Some(rate), Some(n)) => Err(place.error(
            "nth",
            format!("{n} beside a rate of {rate}"),
            "one of nth and rate",
            "make two rules of it",
        )),
    }
}

fn times(rule: &Rule, place: &Place) -> Result<u64, ModelError> {
    let next = "leave the key out if the number is not bounded";
    place.check(rule.times != Some(0), "times", 0, "1 or more", next)?;
    Ok(rule.times.unwrap_or(u64::MAX))
}
