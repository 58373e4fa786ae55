//! What the controller is, as its file in TOML says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strata_nvme_spec::{PageSize, QueueSize};
use strata_units::{Bytes, Nanos};

use crate::ConfigError;
use crate::model::{AccessKind, Fault, Faults, Performance, Quoted, Rule};

/// The smallest memory page, CAP.MPSMIN, which MDTS counts.
pub(crate) const SMALLEST_PAGE: PageSize = PageSize::FOUR_KIB;

/// The largest memory page that a host may choose, CAP.MPSMAX: 64 KiB.
pub(crate) const LARGEST_PAGE: PageSize = PageSize::from_field(4);

/// The most I/O queue pairs.
const MOST_QUEUES: u16 = 64;

/// The most I/O queue pairs of which each has its doorbells in a cache line of its own; what is emulated when nothing is said.
const APART: u16 = 63;

/// The most namespaces; each list of active ones holds as many.
const MOST_NAMESPACES: usize = 1024;

/// An emulated controller. Without any key it is one of a gigabyte that completes at once and keeps what is written while it
/// lives.
///
/// ```
/// let config: strata_nvme_emulator::Config = toml::from_str(
///     r#"
///     serial = "NODE7-0"
///     queues = 8
///     transfer = "256KiB"              # or "none": no limit
///     boundary = "128KiB"
///
///     [[namespace]]
///     size = "64GiB"                   # memory is taken when it is written
///     block = 4096
///
///     [[namespace]]
///     size = "1GiB"
///     memory = { file = "/var/tmp/namespace2" }
///     "#,
/// )?;
/// config.check()?;
/// assert_eq!(config.namespace[1].block, 512);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Serial number: up to 20 printable ASCII characters.
    pub serial: String,
    /// Model number: up to 40.
    pub model: String,
    /// Firmware revision: up to 8.
    pub firmware: String,
    /// I/O queue pairs, 1 to 64. Doorbells of a pair lie in a cache line of their own up to 63, the default.
    pub queues: u16,
    /// Entries of the largest I/O queue (CAP.MQES), 2 to 65536.
    pub entries: u32,
    /// The most that one command may move (MDTS): a power of two from 8 KiB, or none.
    pub transfer: Transfer,
    /// The boundary that an I/O should not cross (NOIOB): a power of two of blocks; none when not said.
    pub boundary: Option<Quoted<Bytes>>,
    /// From CC.EN to CSTS.RDY; a host is told to wait half a second more.
    pub ready_after: Quoted<Nanos>,
    /// Whether data is moved and kept. Without, commands complete and no byte is touched.
    pub moves_data: bool,
    /// What random behaviour of the models follows from.
    pub seed: u64,
    /// Namespaces 1, 2, and so on.
    pub namespace: Vec<NamespaceConfig>,
    /// How fast it is.
    pub performance: Performance,
    /// What goes wrong with it.
    pub faults: Faults,
}

/// The limit of one command's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Transfer(pub Option<Bytes>);

impl TryFrom<String> for Transfer {
    type Error = strata_units::ParseError;

    fn try_from(text: String) -> Result<Transfer, Self::Error> {
        match text.as_str() {
            "none" => Ok(Transfer(None)),
            size => size.parse().map(|bytes| Transfer(Some(bytes))),
        }
    }
}

impl From<Transfer> for String {
    fn from(transfer: Transfer) -> String {
        transfer
            .0
            .map_or_else(|| "none".to_owned(), |bytes| bytes.to_string())
    }
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceConfig {
    /// Its size, a multiple of the block.
    pub size: Quoted<Bytes>,
    /// The logical block: 512 or 4096.
    pub block: u64,
    /// Where its blocks are kept.
    pub memory: Memory,
    /// Bytes of metadata of each block. It is reported and not kept: reads and writes are refused.
    pub metadata: u16,
    /// Type of protection information, 1 to 3, reported and not kept; 0 is none. Needs 8 bytes of metadata.
    pub protection: u8,
    /// Whether it is locked: reads and writes are answered with Access Denied.
    pub locked: bool,
    /// Whether it is write protected.
    pub write_protected: bool,
}

/// Where a namespace's blocks are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Memory of the process, taken page by page as blocks are written.
    #[default]
    Ordinary,
    /// Pages of 2 MiB, all taken at the start.
    Huge,
    /// A file, which is there and stays as long as it is. Where it ends before, or has a hole that a full disk has no blocks for,
    /// the controller fails for good when it gets there.
    File(PathBuf),
}

impl Default for Config {
    fn default() -> Config {
        Config {
            serial: "STRATA0000000001".to_owned(),
            model: "Strata emulated controller".to_owned(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
            queues: APART,
            entries: 4096,
            transfer: Transfer(Some(Bytes(128 << 10))),
            boundary: None,
            ready_after: Quoted(Nanos(0)),
            moves_data: true,
            seed: 1,
            namespace: vec![NamespaceConfig::default()],
            performance: Performance::default(),
            faults: Faults::default(),
        }
    }
}

impl Default for NamespaceConfig {
    fn default() -> NamespaceConfig {
        NamespaceConfig {
            size: Quoted(Bytes::GIB),
            block: 512,
            memory: Memory::Ordinary,
            metadata: 0,
            protection: 0,
            locked: false,
            write_protected: false,
        }
    }
}

impl Config {
    /// Whether it makes sense. What only the machine can tell (memory, files) is found when it is served.
    ///
    /// # Errors
    /// The first key whose value makes no sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, text, most) in [
            ("serial", &self.serial, 20),
            ("model", &self.model, 40),
            ("firmware", &self.firmware, 8),
        ] {
            let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            let fits = (1..=most).contains(&text.len()) && printable;
            want(fits, key, format!("{text:?}"), || {
                format!("1 to {most} printable ASCII characters")
            })?;
        }
        want(
            (1..=MOST_QUEUES).contains(&self.queues),
            "queues",
            self.queues,
            || format!("1 to {MOST_QUEUES} I/O queue pairs"),
        )?;
        let size = QueueSize::new(self.entries);
        want(size.is_some(), "entries", self.entries, || {
            "2 to 65536".to_owned()
        })?;
        if let Some(bytes) = self.transfer.0 {
            let sound = bytes.0.is_power_of_two() && bytes > SMALLEST_PAGE.bytes();
            want(sound, "transfer", bytes, || {
                "a power of two from 8KiB on, or \"none\"".to_owned()
            })?;
        }
        let count = self.namespace.len();
        want(count <= MOST_NAMESPACES, "namespace", count, || {
            format!("at most {MOST_NAMESPACES}")
        })?;
        let timeout = Nanos::SECOND * 120;
        want(
            self.ready_after.0 <= timeout,
            "ready_after",
            self.ready_after.0,
            || format!("at most {timeout}, which CAP.TO can tell"),
        )?;
        let mut numbered = (1..).zip(&self.namespace);
        numbered.try_for_each(|(number, namespace)| self.check_namespace(number, namespace))?;
        let mut numbered = (1..).zip(&self.faults.rules);
        numbered.try_for_each(|(number, rule)| self.check_rule(number, rule))
    }

    /// Whether a rule can ever strike this controller.
    fn check_rule(&self, number: u32, rule: &Rule) -> Result<(), ConfigError> {
        let key = |key: &str| format!("[[faults.rule]] number {number}, {key}");
        want(
            self.moves_data || rule.fault != Fault::Corrupt,
            &key("fault"),
            "corrupt where moves_data = false",
            || "another one, since there is no data to be wrong".to_owned(),
        )?;
        let count = self.namespace.len() as u64;
        if let Some(nsid) = rule.namespace {
            let there = (1..=count).contains(&nsid.into());
            want(there, &key("namespace"), nsid, || {
                format!("1 to {count}, the number of a namespace")
            })?;
        }
        let blocks = |it: &NamespaceConfig| it.size.0.0 / it.block.max(1);
        let named = |number: u64| rule.namespace.is_none_or(|nsid| number == u64::from(nsid));
        let mut numbered = (1..).zip(&self.namespace);
        if let Some(first) = rule.first_lba {
            let there = numbered.any(|(number, it)| named(number) && first < blocks(it));
            want(there, &key("first_lba"), first, || {
                "a block of its namespace".to_owned()
            })?;
        }
        let ranged = rule.first_lba.or(rule.last_lba).is_some();
        if let Some(kind @ (AccessKind::Flush | AccessKind::Deallocate | AccessKind::Other)) =
            rule.kind
        {
            want(
                !ranged,
                &key("kind"),
                format!("{kind} with a range of blocks"),
                || "read, write or write-zeroes, which name one, or no range".to_owned(),
            )?;
        }
        Ok(())
    }

    fn check_namespace(&self, number: u32, it: &NamespaceConfig) -> Result<(), ConfigError> {
        let key = |key: &str| format!("namespace {number}: {key}");
        want(
            matches!(it.block, 512 | 4096),
            &key("block"),
            it.block,
            || "512 or 4096".to_owned(),
        )?;
        let block = Bytes(it.block);
        let largest = Bytes(1 << 46);
        let sound = it.size.0.is_multiple_of(block) && it.size.0 <= largest;
        want(sound, &key("size"), it.size.0, || {
            format!("a multiple of {block} up to {largest}")
        })?;
        let (protection, metadata) = (it.protection, it.metadata);
        want(
            protection <= 3 && (protection == 0 || metadata >= 8),
            &key("protection"),
            format!("type {protection} with {metadata} bytes of metadata"),
            || "type 1 to 3 with 8 bytes of metadata or more, or 0".to_owned(),
        )?;
        want(
            self.moves_data || it.memory == Memory::Ordinary,
            &key("memory"),
            "memory of its own where moves_data = false",
            || "\"ordinary\", since no byte of it is touched".to_owned(),
        )?;
        if let Some(Quoted(boundary)) = self.boundary {
            let blocks = boundary.0 / it.block;
            let sound = boundary.is_multiple_of(block)
                && blocks.is_power_of_two()
                && u16::try_from(blocks).is_ok();
            want(sound, "boundary", boundary, || {
                format!(
                    "a power of two from {block} to {} (of namespace {number})",
                    block * (1 << 15)
                )
            })?;
        }
        Ok(())
    }
}

fn want(
    sound: bool,
    key: &str,
    found: impl ToString,
    expected: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if sound {
        return Ok(());
    }
    Err(ConfigError {
        key: key.to_owned(),
        found: found.to_string(),
        expected: expected(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let refused = |text: &str| {
            let config: Config = toml::from_str(text).expect(text);
            config.check().expect_err(text).to_string()
        };
        for (text, words) in [
            ("serial = \"\"", "serial: found \"\", expected 1 to 20"),
            ("serial = \"ü\"", "serial: found"),
            ("firmware = \"123456789\"", "expected 1 to 8 printable"),
            ("queues = 0", "queues: found 0, expected 1 to 64"),
            ("queues = 65", "queues: found 65"),
            ("entries = 1", "entries: found 1, expected 2 to 65536"),
            ("transfer = \"12KiB\"", "transfer: found 12KiB"),
            ("transfer = \"4KiB\"", "transfer: found 4KiB"),
            ("ready_after = \"10min\"", "ready_after: found"),
            (
                "[[namespace]]\nblock = 1024",
                "namespace 1: block: found 1024",
            ),
            (
                "[[namespace]]\nsize = \"1000B\"",
                "namespace 1: size: found 1000B",
            ),
            (
                "[[namespace]]\nprotection = 1",
                "namespace 1: protection: found type 1",
            ),
            ("boundary = \"100KiB\"", "boundary: found 100KiB"),
            ("boundary = \"32MiB\"", "boundary: found 32MiB"),
            (
                "moves_data = false\n[[namespace]]\nmemory = \"huge\"",
                "namespace 1: memory",
            ),
            (
                "moves_data = false\n[[faults.rule]]\nfault = \"corrupt\"",
                "[[faults.rule]] number 1, fault: found corrupt",
            ),
            (
                "[[faults.rule]]\nfault = \"lost\"\n[[faults.rule]]\nfault = \"lost\"\nnamespace = 2",
                "[[faults.rule]] number 2, namespace: found 2, expected 1 to 1",
            ),
            (
                "[[faults.rule]]\nfault = \"lost\"\nkind = \"flush\"\nlast_lba = 9",
                "[[faults.rule]] number 1, kind: found flush with a range",
            ),
            (
                "[[namespace]]\nsize = \"1MiB\"\nblock = 4096\n[[namespace]]\nblock = 4096\n[[faults.rule]]\nfault = \"lost\"\nnamespace = 1\nfirst_lba = 256",
                "[[faults.rule]] number 1, first_lba: found 256",
            ),
        ] {
            let why = refused(text);
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_all_keys_go_and_come() {
        for text in ["colour = 1", "[[namespace]]\nsise = \"1GiB\"", "memory = 1"] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
        let text = "transfer = \"none\"\n[[namespace]]\nmemory = { file = \"/x\" }";
        let config: Config = toml::from_str(text).expect("a file");
        assert_eq!(config.transfer, Transfer(None));
        assert_eq!(config.namespace[0].memory, Memory::File("/x".into()));
        let again = toml::to_string(&config).expect("text");
        assert_eq!(toml::from_str::<Config>(&again).expect(&again), config);
        assert!(Config::default().check().is_ok());
    }
}
