//! Interrupts: how many came on which CPU, and where those of a device may go.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strata_units::{CpuId, CpuList};

use crate::root::{Reader, Root, numbered};

pub(crate) const TABLE: &str = "proc/interrupts";
pub(crate) const SOFT_TABLE: &str = "proc/softirqs";

/// Some kB a line on the largest machines, and some thousand lines.
const LONGEST: u64 = 64 << 20;

/// What `/proc/interrupts` counts, at one moment or over a span (proc_interrupts(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterruptTable {
    /// The CPUs that were online, in the order of the columns.
    pub cpus: Vec<CpuId>,
    /// Lines by their names: an interrupt's number (`36`) or the architecture's short name (`LOC`, `TLB`); of
    /// `/proc/softirqs`, whose lines say no more than that, `NET_RX` and the like. Totals that are not told by CPU (`ERR`,
    /// `MIS`) are left out.
    pub lines: BTreeMap<String, Interrupts>,
}

/// One line of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interrupts {
    /// Who asked for it (`nvme0q3`, `mlx5_comp0@pci:0000:41:00.0`), several with commas between; for the architecture's own
    /// what the kernel calls it (`Local timer interrupts`). Empty when nobody has it.
    pub name: String,
    /// Counts in the order of the table's CPUs.
    pub counts: Vec<u64>,
}

impl Interrupts {
    /// Over all CPUs.
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Those who share the line.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.name.split(',').map(str::trim)
    }

    /// Whether somebody has both: on a shared line drivers come and go, and it counts on.
    fn has_owner_of(&self, other: &Interrupts) -> bool {
        self.owners()
            .any(|one| other.owners().any(|two| one == two))
    }
}

/// Why interrupts are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot count interrupts by {path}: found {found}, expected a line of CPUs and a line an interrupt (proc_interrupts(5)); mount procfs, or do without this proof"
)]
pub struct InterruptsError {
    /// The file.
    pub path: String,
    /// What was found.
    pub found: String,
}

impl InterruptTable {
    /// Reads the counts since the machine started.
    ///
    /// # Errors
    /// `/proc/interrupts` is absent, may not be read, or is no such table.
    pub fn read(root: &Root) -> Result<InterruptTable, InterruptsError> {
        let reader = Reader::new(root);
        let text = reader.long_text(TABLE, LONGEST);
        let fail = |found: String| InterruptsError {
            path: root.path().join(TABLE).display().to_string(),
            found,
        };
        let Some(text) = text else {
            let why = reader.into_notes().pop().map(|note| note.why);
            return Err(fail(why.unwrap_or_else(|| "no such file".to_owned())));
        };
        InterruptTable::parse(&text).ok_or_else(|| {
            let first = text.lines().next().unwrap_or_default();
            fail(format!("{:?}", first.chars().take(60).collect::<String>()))
        })
    }

    /// The table in a file of this form; `None` when it is absent or masked, as containers have it.
    pub(crate) fn read_with(reader: &Reader, path: &str) -> Option<InterruptTable> {
        InterruptTable::parse(&reader.long_text(path, LONGEST)?)
    }

    /// The table in a text; `None` when its first line names no CPU. Lines that are not understood are left out.
    pub fn parse(text: &str) -> Option<InterruptTable> {
        let mut lines = text.lines();
        let cpus: Vec<CpuId> = lines
            .next()?
            .split_whitespace()
            .map(|word| numbered(word, "CPU").map(CpuId))
            .collect::<Option<_>>()?;
        if cpus.is_empty() {
            return None;
        }
        let lines = lines
            .filter_map(|line| {
                let (key, rest) = line.split_once(':')?;
                let mut words = rest.split_whitespace();
                let counts: Vec<u64> = words
                    .by_ref()
                    .take(cpus.len())
                    .map(|word| word.parse().ok())
                    .collect::<Option<_>>()?;
                let words: Vec<&str> = words.collect();
                let key = key.trim().to_owned();
                let name = if key.parse::<u32>().is_ok() {
                    owner(&words)
                } else {
                    words.join(" ")
                };
                (counts.len() == cpus.len()).then_some((key, Interrupts { name, counts }))
            })
            .collect();
        Some(InterruptTable { cpus, lines })
    }

    /// What came since `earlier`, by the CPUs of this table; lines with none are left out.
    ///
    /// A CPU or a line that `earlier` does not have counts from nought; so does a number that was given back and handed
    /// out again, to others than any who had it or with fewer counts than before.
    pub fn difference(&self, earlier: &InterruptTable) -> InterruptTable {
        let columns: Vec<Option<usize>> = self
            .cpus
            .iter()
            .map(|cpu| earlier.cpus.iter().position(|before| before == cpu))
            .collect();
        let lines = self.lines.iter().filter_map(|(key, now)| {
            let before = earlier
                .lines
                .get(key)
                .filter(|before| before.has_owner_of(now));
            let counts: Vec<u64> = now
                .counts
                .iter()
                .zip(&columns)
                .map(|(now, column)| {
                    let before = column.and_then(|at| before?.counts.get(at));
                    since(*now, before.copied().unwrap_or_default())
                })
                .collect();
            counts.iter().any(|count| *count > 0).then(|| {
                let name = now.name.clone();
                (key.clone(), Interrupts { name, counts })
            })
        });
        InterruptTable {
            lines: lines.collect(),
            cpus: self.cpus.clone(),
        }
    }

    /// The line of an interrupt's number.
    pub fn of(&self, irq: u32) -> Option<&Interrupts> {
        self.lines.get(&irq.to_string())
    }

    /// The same where somebody has it.
    fn named(&self, irq: u32) -> Option<&Interrupts> {
        self.of(irq).filter(|line| !line.name.is_empty())
    }

    /// What a line counted on one CPU; `None` for a CPU without a column, as those have that are offline.
    pub fn on(&self, line: &Interrupts, cpu: CpuId) -> Option<u64> {
        let column = self.cpus.iter().position(|known| *known == cpu)?;
        line.counts.get(column).copied()
    }
}

/// The kernel's counters have 32 bits, and turn over; one that went back by more than half of that was set to 0.
pub(crate) fn since(now: u64, before: u64) -> u64 {
    const TURN: u64 = 1 << 32;
    match now.checked_sub(before) {
        Some(more) => more,
        None if before < TURN && now + TURN - before < TURN / 2 => now + TURN - before,
        None => now,
    }
}

/// What follows the chip, its own number and the trigger: `IR-PCI-MSI 1572864-edge nvme0q0`, `GICv3 23 Level arch_timer`.
fn owner(words: &[&str]) -> String {
    let is_trigger = |word: &&str| {
        let kind = word.rsplit_once('-').map_or(*word, |(_, kind)| kind);
        ["edge", "level", "fasteoi", "none"].contains(&kind.to_ascii_lowercase().as_str())
    };
    let after = words.iter().position(is_trigger).map_or(0, |at| at + 1);
    words[after..].join(" ")
}

/// One interrupt of a device and where it goes (`Documentation/core-api/irq/irq-affinity.rst` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vector {
    /// Its number.
    pub irq: u32,
    /// Who asked for it, by `/proc/interrupts` (`nvme0q3`); `None` when nobody has.
    pub name: Option<String>,
    /// The CPUs that it may go to.
    pub affinity: Option<CpuList>,
    /// The CPUs, as a rule one, that it does go to.
    pub effective: Option<CpuList>,
}

/// Vectors by their numbers, read once for a whole tree.
pub(crate) struct Vectors<'a, 'r> {
    reader: &'a Reader<'r>,
    table: InterruptTable,
}

impl<'a, 'r> Vectors<'a, 'r> {
    pub(crate) fn new(reader: &'a Reader<'r>) -> Self {
        Vectors {
            reader,
            table: InterruptTable::read_with(reader, TABLE).unwrap_or_default(),
        }
    }

    /// Those of the PCI function in `folder`.
    pub(crate) fn of(&self, folder: &str) -> Vec<Vector> {
        numbers_of(self.reader, &self.table, folder)
            .into_iter()
            .map(|irq| {
                let list = |file: &str| self.reader.list(&format!("proc/irq/{irq}/{file}"));
                Vector {
                    irq,
                    name: self.table.named(irq).map(|line| line.name.clone()),
                    affinity: list("smp_affinity_list"),
                    effective: list("effective_affinity_list")
                        .filter(|cpus: &CpuList| !cpus.is_empty()),
                }
            })
            .collect()
    }
}

/// Numbers of the interrupts of the PCI function in `folder`: its message-signalled ones, else the line that it has by its
/// pin, if any (`Documentation/ABI/testing/sysfs-bus-pci` of the kernel, `msi_irqs` and `irq`).
pub(crate) fn numbers_of(reader: &Reader, table: &InterruptTable, folder: &str) -> Vec<u32> {
    let mut irqs = reader.numbered(&format!("{folder}/msi_irqs"), "");
    if irqs.is_empty() {
        let line: Option<u32> = reader.value(&format!("{folder}/irq"), "an interrupt's number");
        // A function that no driver holds tells a line too; nobody has asked for that.
        irqs.extend(line.filter(|irq| table.named(*irq).is_some()));
    }
    irqs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "            CPU0       CPU2
   9:          0          4  IR-IO-APIC    9-fasteoi   acpi
  36:          7       8559 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
  37:          1          0  IR-PCI-MSI 1572864-edge      nvme0q0, nvme0q1
  38:          0          0   ITS-MSI 524288 Edge
  39:          0          6     GICv3  23 Level     arch_timer
 LOC:    2505201    2871930   Local timer interrupts
 ERR:          0
 bad line
  40:          x          1  nothing";

    #[test]
    fn lines_of_all_kinds() {
        let table = InterruptTable::parse(TABLE).expect("a table");
        assert_eq!(table.cpus, [CpuId(0), CpuId(2)]);
        let names: Vec<_> = table
            .lines
            .iter()
            .map(|(key, line)| (key.as_str(), line.name.as_str(), line.total()))
            .collect();
        assert_eq!(
            names,
            [
                ("36", "virtio1-req.0", 8566),
                ("37", "nvme0q0, nvme0q1", 1),
                ("38", "", 0),
                ("39", "arch_timer", 6),
                ("9", "acpi", 4),
                ("LOC", "Local timer interrupts", 5_377_131),
            ]
        );
        for bad in ["", "CPU0 GPU1\n 1: 2 3", "\n", "irq: 3"] {
            assert_eq!(InterruptTable::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn differences_by_cpu() {
        let before = InterruptTable::parse(TABLE).expect("a table");
        assert_eq!(before.difference(&before).lines.len(), 0);
        // CPU 1 came, CPU 0 went; interrupt 37 was handed to another; 36 turned over on CPU 2 in the second table.
        let after = InterruptTable::parse(
            "  CPU1 CPU2\n 36: 3 8560 PCI-MSIX 1-edge virtio1-req.0\n 37: 5 0 PCI-MSI 2-edge eth0\n 39: 0 2 GICv3 23 Level arch_timer",
        )
        .expect("a table");
        let came = after.difference(&before);
        assert_eq!(came.cpus, [CpuId(1), CpuId(2)]);
        let counts = |table: &InterruptTable, irq| table.of(irq).map(|line| line.counts.clone());
        assert_eq!(counts(&came, 36), Some(vec![3, 1]));
        assert_eq!(counts(&came, 37), Some(vec![5, 0]));
        assert_eq!(counts(&came, 39), Some(vec![0, 2]), "counted anew");
        assert_eq!(since(5, u64::from(u32::MAX)), 6, "32 bits turn over");
        assert_eq!(since(5, (1 << 31) - 10), 5, "set to 0");
        let line = came.of(39).expect("a line");
        assert_eq!(came.on(line, CpuId(2)), Some(2));
        assert_eq!(came.on(line, CpuId(0)), None, "gone offline");
    }

    #[test]
    fn a_shared_line_counts_on_when_a_driver_joins() {
        let parse = |text| InterruptTable::parse(text).expect("a table");
        let before = parse("CPU0\n 9: 4 IO-APIC 9-fasteoi acpi\n 10: 4 IO-APIC 10-fasteoi uhci");
        let after =
            parse("CPU0\n 9: 6 IO-APIC 9-fasteoi acpi, i801_smbus\n 10: 6 IO-APIC 10-fasteoi ehci");
        let came = after.difference(&before);
        let total = |irq| came.of(irq).map(Interrupts::total);
        assert_eq!((total(9), total(10)), (Some(2), Some(6)));
    }

    #[test]
    fn softirqs_have_no_owner() {
        let parse = |text| InterruptTable::parse(text).expect("a table");
        let before = parse("   CPU0 CPU1\n HI: 1 0\n NET_RX: 4294967290 7");
        let after = parse("   CPU0 CPU1\n HI: 1 0\n NET_RX: 4 9");
        let came = after.difference(&before);
        let line = came.lines.get("NET_RX").expect("it came");
        assert_eq!(
            (came.lines.len(), line.counts.as_slice()),
            (1, &[10, 2][..])
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(CPU[0-9] )?[0-9A-Z: a-z\n-]{0,80}", other in "CPU0 CPU1\n[0-9: \n]{0,60}") {
            if let (Some(a), Some(b)) = (InterruptTable::parse(&text), InterruptTable::parse(&other)) {
                let since = a.difference(&b);
                prop_assert!(since.lines.values().all(|line| line.total() > 0));
            }
        }
    }
}
