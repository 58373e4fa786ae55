//! Faults as their user writes them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use strata_nvme_spec::Status;
use strata_units::Nanos;

use super::AccessKind;
use super::quoted::Quoted;

/// The table `[faults]`; without keys nothing goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// CSTS.RDY stays 0 after the host enables the controller.
    pub never_ready: bool,
    /// Each `[[faults.rule]]`, in order: the first that strikes a command decides, and those after it do not see it.
    #[serde(rename = "rule", deserialize_with = "numbered")]
    pub rules: Vec<Rule>,
}

/// A rule: what goes wrong, with which commands, and when. Every command that its scope names is a match; it strikes every
/// match unless `rate` or `nth` says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What goes wrong.
    pub fault: Fault,
    /// The status, with the fault `status` only.
    pub status: Option<StatusName>,
    /// Whether the status says Do Not Retry.
    #[serde(default)]
    pub do_not_retry: bool,
    /// How much later, with the faults `late` and `twice` only.
    pub delay: Option<Quoted<Nanos>>,
    /// Commands of this kind only.
    pub kind: Option<AccessKind>,
    /// Commands on this namespace only, and those on all namespaces.
    pub namespace: Option<u32>,
    /// Commands only that touch a block from this one on
    pub first_lba: Option<u64>,
    /// up to this one.
    pub last_lba: Option<u64>,
    /// It strikes each match with this probability.
    pub rate: Option<f64>,
    /// It strikes every so many-th match: with 1000 the 1000th, the 2000th and so on.
    pub nth: Option<u64>,
    /// What comes earlier in the controller's life is no match.
    pub after: Option<Quoted<Nanos>>,
    /// It strikes so often at most.
    pub times: Option<u64>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The command fails with a status.
    Status,
    /// It never completes.
    Lost,
    /// It completes later.
    Late,
    /// It completes twice.
    Twice,
    /// Its completion has the wrong phase tag.
    WrongPhase,
    /// Its data are wrong; reads and writes only.
    Corrupt,
    /// The controller stops with CSTS.CFS set.
    Fatal,
    /// The controller is gone.
    Removed,
}

/// A status by the specification's name or by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusName(pub Status);

impl StatusName {
    /// By its name, whatever the case, with hyphens or underscores for spaces if wanted.
    fn named(name: &str) -> Option<Status> {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], " ");
        let wanted = plain(name.trim());
        // Type and code; the flags above are no part of a name.
        (0..1 << 11)
            .map(Status::from_field)
            .find(|status| status.name().is_some_and(|name| plain(name) == wanted))
    }
}

impl Serialize for StatusName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.name() {
            Some(name) if self.0.field() < 1 << 11 => to.serialize_str(name),
            _ => to.serialize_u16(self.0.field()),
        }
    }
}

impl<'de> Deserialize<'de> for StatusName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrNumber;

        impl de::Visitor<'_> for NameOrNumber {
            type Value = StatusName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status by the specification's name, such as \"Unrecovered Read Error\", or by its 15 bits, such as 0x281")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<StatusName, E> {
                StatusName::named(name)
                    .map(StatusName)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(name), &self))
            }

            fn visit_u64<E: de::Error>(self, field: u64) -> Result<StatusName, E> {
                match u16::try_from(field) {
                    Ok(field @ ..=0x7fff) => Ok(StatusName(Status::from_field(field))),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(field), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, field: i64) -> Result<StatusName, E> {
                match u64::try_from(field) {
                    Ok(field) => self.visit_u64(field),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(field), &self)),
                }
            }
        }

        from.deserialize_any(NameOrNumber)
    }
}

/// Reads the rules, so that what is wrong with one names its number.
fn numbered<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Rule>, D::Error> {
    struct Rules;

    impl<'de> de::Visitor<'de> for Rules {
        type Value = Vec<Rule>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("rules, each under [[faults.rule]]")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut rules: A) -> Result<Vec<Rule>, A::Error> {
            let mut read = Vec::new();
            loop {
                match rules.next_element() {
                    Ok(Some(rule)) => read.push(rule),
                    Ok(None) => return Ok(read),
                    Err(why) => {
                        let number = read.len() + 1;
                        return Err(de::Error::custom(format_args!(
                            "[[faults.rule]] number {number}: {why}"
                        )));
                    }
                }
            }
        }
    }

    from.deserialize_seq(Rules)
}
