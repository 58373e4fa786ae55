//! A plan as its user writes it: TOML tables of the options that the layers' commands take.
//!
//! ```toml
//! name = "drive-a"
//! rounds = 12
//!
//! [[block]]
//! target = "/data/strata.dat"
//! engine = ["psync", "io_uring", "io_uring+registered"]
//! bs = "4KiB"
//! depth = [1, 32]
//!
//! [[tcp]]
//! op = "reqrep"
//! ```
//!
//! A key is the name of an option, a list the values that it takes with commas between, and `true` an option without a
//! value. So a plan can say what the command line can, in the same words, and is checked by the same rules; what this
//! room reads is only the form.

use std::fmt::Write as _;

use strata_record::Layer;
use toml::{Table, Value};

/// The longest plan that is read.
pub const LONGEST: usize = 1 << 20;

/// The most tables of a plan.
const MOST_PARTS: usize = 1000;

/// A plan as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFile {
    /// Its name.
    pub name: String,
    /// Its rounds; none when it does not say.
    pub rounds: Option<u32>,
    /// Its seed; none when it does not say.
    pub seed: Option<u64>,
    /// Its tables: those of storage first, each kind in the order in which they were written.
    pub parts: Vec<PlanPart>,
}

/// A table of a plan: a command of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanPart {
    /// The layer.
    pub layer: Layer,
    /// The command's options, each `--name=value` or `--name`.
    pub options: Vec<String>,
}

/// Why a text is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is too long.
    #[error("the plan is longer than 1 MiB; a plan names cells, and does not list them")]
    TooLong,
    /// It is no TOML.
    #[error("the plan is no TOML: line {line}: {why}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A key means nothing.
    #[error(
        "`{0}` is no key of a plan; expected name, rounds, seed, [[block]], [[nvme]] and [[tcp]]"
    )]
    UnknownKey(String),
    /// A value is of the wrong kind.
    #[error("{place}: found {found}, expected {expected}")]
    WrongValue {
        /// The key.
        place: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// There is nothing to measure.
    #[error("the plan has no tables; add [[block]], [[nvme]], [[tcp]] or [[rdma]]")]
    Empty,
    /// There is too much.
    #[error("the plan has {0} tables, more than 1000; give lists of values instead")]
    TooMany(usize),
}

/// Options that belong to the whole run, or to the command that reads the plan.
const OF_THE_RUN: [&str; 8] = [
    "help", "json", "output", "quiet", "repeats", "resume", "seed", "version",
];

/// Reads a plan.
///
/// # Errors
/// [`PlanError`], with the place and what was expected there.
pub fn parse(text: &str) -> Result<PlanFile, PlanError> {
    if text.len() > LONGEST {
        return Err(PlanError::TooLong);
    }
    let table: Table = text.parse().map_err(|e| syntax(text, &e))?;
    let mut plan = PlanFile {
        name: String::new(),
        rounds: None,
        seed: None,
        parts: Vec::new(),
    };
    for (key, value) in &table {
        match key.as_str() {
            "name" => plan.name = name(value)?,
            "rounds" => plan.rounds = Some(number(key, value, 1, 10_000)? as u32),
            "seed" => plan.seed = Some(number(key, value, 0, i64::MAX)?),
            "block" | "nvme" | "tcp" | "rdma" => {}
            _ => return Err(PlanError::UnknownKey(key.clone())),
        }
    }
    if plan.name.is_empty() {
        return Err(wrong("name", "nothing", NAME));
    }
    for layer in [Layer::Block, Layer::Nvme, Layer::Tcp, Layer::Rdma] {
        let key = layer.to_string();
        let key = key.as_str();
        let Some(value) = table.get(key) else {
            continue;
        };
        let expected = "tables, each under [[block]], [[nvme]], [[tcp]] or [[rdma]]";
        let tables = value
            .as_array()
            .ok_or_else(|| wrong(key, value.type_str(), expected))?;
        for (n, value) in (1..).zip(tables) {
            let place = format!("[[{key}]] number {n}");
            let table = value
                .as_table()
                .ok_or_else(|| wrong(&place, value.type_str(), expected))?;
            plan.parts.push(PlanPart {
                layer,
                options: options(&place, table)?,
            });
        }
    }
    match plan.parts.len() {
        0 => Err(PlanError::Empty),
        1..=MOST_PARTS => Ok(plan),
        n => Err(PlanError::TooMany(n)),
    }
}

/// In one line: the picture that the parser draws of the place needs several.
fn syntax(text: &str, error: &toml::de::Error) -> PlanError {
    let before = error.span().and_then(|span| text.get(..span.start));
    PlanError::Syntax {
        line: before.map_or(1, |before| before.matches('\n').count() + 1),
        why: error.message().lines().collect::<Vec<_>>().join(", "),
    }
}

fn wrong(place: &str, found: impl Into<String>, expected: &'static str) -> PlanError {
    PlanError::WrongValue {
        place: place.to_owned(),
        found: found.into(),
        expected,
    }
}

const NAME: &str =
    "1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit";

/// The name becomes part of a folder's.
fn name(value: &Value) -> Result<String, PlanError> {
    let text = value
        .as_str()
        .ok_or_else(|| wrong("name", value.type_str(), NAME))?;
    let sound = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if sound {
        Ok(text.to_owned())
    } else {
        Err(wrong("name", format!("{text:?}"), NAME))
    }
}

fn number(key: &str, value: &Value, least: i64, most: i64) -> Result<u64, PlanError> {
    value
        .as_integer()
        .filter(|n| (least..=most).contains(n))
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| wrong(key, value.to_string(), "a whole number in its range"))
}

fn options(place: &str, table: &Table) -> Result<Vec<String>, PlanError> {
    let mut options = Vec::new();
    for (key, value) in table {
        let place = format!("{place}, {key}");
        let named = !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !named || OF_THE_RUN.contains(&key.as_str()) {
            return Err(wrong(&place, "a key", "an option of the layer's command"));
        }
        let mut option = format!("--{key}");
        match value {
            Value::Boolean(true) => {}
            Value::Boolean(false) => continue,
            Value::Array(values) if !values.is_empty() => {
                for (n, value) in values.iter().enumerate() {
                    option.push(if n == 0 { '=' } else { ',' });
                    option.push_str(&scalar(&place, value)?);
                }
            }
            other => {
                let _ = write!(option, "={}", scalar(&place, other)?);
            }
        }
        options.push(option);
    }
    Ok(options)
}

fn scalar(place: &str, value: &Value) -> Result<String, PlanError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(n) => Ok(n.to_string()),
        Value::Float(x) if x.is_finite() => Ok(x.to_string()),
        other => Err(wrong(
            place,
            other.type_str(),
            "a text, a number, true, or a list of texts and numbers",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plan_becomes_the_options_of_commands() {
        let plan = parse(
            r#"
            name = "drive-a"
            rounds = 12
            seed = 7
            [[tcp]]
            op = "reqrep"
            [[block]]
            target = "/data/a b.dat"
            engine = ["psync", "io_uring+registered"]
            depth = [1, 32]
            verify = true
            precondition = false
            duration = "1s"
            "#,
        )
        .expect("a plan");
        assert_eq!(
            (plan.name.as_str(), plan.rounds, plan.seed),
            ("drive-a", Some(12), Some(7))
        );
        let [block, tcp] = plan.parts.as_slice() else {
            panic!("{:?}", plan.parts)
        };
        assert_eq!((block.layer, tcp.layer), (Layer::Block, Layer::Tcp));
        assert_eq!(tcp.options, ["--op=reqrep"]);
        let mut options = block.options.clone();
        options.sort();
        assert_eq!(
            options,
            [
                "--depth=1,32",
                "--duration=1s",
                "--engine=psync,io_uring+registered",
                "--target=/data/a b.dat",
                "--verify",
            ]
        );
    }

    #[test]
    fn what_is_no_plan_is_told_with_its_place() {
        for (text, said) in [
            ("", "name: found nothing"),
            ("name = 1", "name: found integer"),
            ("name = '../x'\n[[tcp]]", "found \"../x\""),
            ("name = 'x'", "no tables"),
            ("name = 'x'\nrounds = 0\n[[tcp]]", "rounds: found 0"),
            ("name = 'x'\ncells = 3", "`cells` is no key"),
            ("name = 'x'\ntcp = 3", "tcp: found integer"),
            (
                "name = 'x'\nblock = [3]",
                "[[block]] number 1: found integer",
            ),
            (
                "name = 'x'\n[[tcp]]\noutput = 'y'",
                "[[tcp]] number 1, output",
            ),
            ("name = 'x'\n[[tcp]]\nop = []", "op: found array"),
            ("name = 'x'\n[[tcp]]\nop = {a=1}", "op: found table"),
            ("name = 'x'\n[[tcp]]\n'o p' = 1", "o p: found a key"),
            ("name = 'x'\n[[tcp]]\nrate = nan", "rate: found float"),
            ("name = ", "no TOML"),
        ] {
            let found = parse(text).map(|_| ()).map_err(|e| e.to_string());
            assert!(
                found.as_ref().is_err_and(|e| e.contains(said)),
                "{text:?}: {found:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = parse(&text);
            let _ = parse(&format!("name = 'x'\n[[block]]\n{text}"));
        }
    }
}
