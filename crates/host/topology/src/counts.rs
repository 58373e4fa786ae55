//! Interrupts by CPU: `/proc/interrupts` and `/proc/softirqs`.

use std::collections::BTreeMap;

use strata_units::CpuId;

use crate::root::{Reader, Root, numbered};

/// A row for each vector with eleven characters for each CPU: 16 MiB hold 512 CPUs with 2900 vectors.
const MOST: u64 = 16 << 20;

/// A table of counts, a row a source and a column a CPU (`Documentation/filesystems/proc.rst` of the kernel).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountTable {
    cpus: Vec<CpuId>,
    rows: Vec<CountRow>,
}

/// One source of interrupts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountRow {
    /// Number of the interrupt, or the letters of one that has none (`LOC`, `NET_RX`).
    pub label: String,
    /// Counts in the order of the table's CPUs.
    counts: Vec<u64>,
    /// What the kernel says of it: chip and handlers, or what the letters mean.
    pub description: String,
}

impl CountTable {
    /// `/proc/interrupts` below a root; `None` when it is absent or empty, as containers mask it.
    pub fn read(root: &Root) -> Option<CountTable> {
        Self::read_with(&Reader::new(root), "proc/interrupts")
    }

    pub(crate) fn read_with(reader: &Reader, path: &str) -> Option<CountTable> {
        Self::parse(&reader.long_text(path, MOST)?)
    }

    fn parse(text: &str) -> Option<CountTable> {
        let mut lines = text.lines();
        let cpus: Vec<CpuId> = lines
            .next()?
            .split_whitespace()
            .map(|name| numbered(name, "CPU").map(CpuId))
            .collect::<Option<_>>()?;
        let rows = lines
            .filter_map(|line| CountRow::parse(line, cpus.len()))
            .collect();
        (!cpus.is_empty()).then_some(CountTable { cpus, rows })
    }

    /// The rows, in the kernel's order.
    pub fn rows(&self) -> impl Iterator<Item = &CountRow> {
        self.rows.iter()
    }

    /// Whether the table has a column for `cpu`: offline CPUs have none.
    pub fn has(&self, cpu: CpuId) -> bool {
        self.cpus.contains(&cpu)
    }

    /// What a row counted on each CPU, zeros left out.
    pub fn counts<'t>(&'t self, row: &'t CountRow) -> impl Iterator<Item = (CpuId, u64)> + 't {
        let all = self.cpus.iter().copied().zip(row.counts.iter().copied());
        all.filter(|(_, count)| *count > 0)
    }

    /// What a row counted on one CPU.
    pub fn on(&self, row: &CountRow, cpu: CpuId) -> u64 {
        let at = self.cpus.iter().position(|c| *c == cpu);
        at.and_then(|at| row.counts.get(at)).copied().unwrap_or(0)
    }

    /// What was counted since `earlier`. A row or a column that was not there then had counted nothing.
    pub fn difference(&self, earlier: &CountTable) -> CountTable {
        let before: BTreeMap<&str, &CountRow> =
            earlier.rows.iter().map(|r| (r.label.as_str(), r)).collect();
        let places: Vec<Option<usize>> = self
            .cpus
            .iter()
            .map(|cpu| earlier.cpus.iter().position(|c| c == cpu))
            .collect();
        let rows = self
            .rows
            .iter()
            .map(|row| {
                let old = before.get(row.label.as_str());
                let old = |at: usize| {
                    let at = places.get(at).copied().flatten()?;
                    old?.counts.get(at).copied()
                };
                let counts = row.counts.iter().enumerate();
                CountRow {
                    counts: counts
                        .map(|(at, now)| grown(old(at).unwrap_or(0), *now))
                        .collect(),
                    ..row.clone()
                }
            })
            .collect();
        CountTable {
            cpus: self.cpus.clone(),
            rows,
        }
    }
}

/// The kernel counts in 32 bits and begins again at 0; a counter that went back by more was set to 0.
fn grown(before: u64, now: u64) -> u64 {
    const WRAP: u64 = 1 << 32;
    match now.checked_sub(before) {
        Some(more) => more,
        None if before < WRAP && now + WRAP - before < WRAP / 2 => now + WRAP - before,
        None => now,
    }
}

impl CountRow {
    /// `36:  0  85 PCI-MSIX-0000:00:02.0  1-edge  virtio1-req.0`. Rows that count for no CPU (`ERR:  0`) are none.
    fn parse(line: &str, columns: usize) -> Option<CountRow> {
        let (label, mut rest) = line.split_once(':')?;
        let mut counts = Vec::with_capacity(columns);
        while counts.len() < columns {
            rest = rest.trim_start();
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            counts.push(rest.get(..end)?.parse().ok()?);
            rest = &rest[end..];
        }
        Some(CountRow {
            label: label.trim().to_owned(),
            counts,
            description: rest.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    }

    /// The interrupt's number; none of those that have letters.
    pub fn irq(&self) -> Option<u32> {
        numbered(&self.label, "")
    }

    /// The names of its handlers (`nvme0q3`), which stand behind its chip and trigger (`IR-PCI-MSI 1-edge`, on Arm `Edge`).
    pub fn handlers(&self) -> &str {
        const TRIGGERS: [&str; 3] = ["edge", "level", "fasteoi"];
        let mut at = 0;
        for word in self.description.split(' ') {
            at += word.len() + 1;
            let last = word.rsplit('-').next().unwrap_or(word);
            if TRIGGERS.iter().any(|t| last.eq_ignore_ascii_case(t)) {
                return self.description.get(at..).unwrap_or_default();
            }
        }
        &self.description
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEFORE: &str = "\
           CPU0       CPU2
  9:          0          4   IO-APIC   9-fasteoi   acpi
 36:         10 4294967290 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
 40:          7          0 GICv3  27 Level     arch_timer
LOC:        100        200   Local timer interrupts
ERR:          0
";
    const AFTER: &str = "\
           CPU0       CPU2       CPU3
  9:          0          4          0   IO-APIC   9-fasteoi   acpi, i801_smbus
 36:         15          4          1 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
 40:          2          0          0 GICv3  27 Level     arch_timer
 41:          0          0          9 ITS-MSI 524288 Edge  nvme0q0
LOC:        150        201          6   Local timer interrupts
ERR:          3
";

    #[test]
    fn what_fired_where_since() {
        let parse = |text| CountTable::parse(text).expect("a table");
        let since = parse(AFTER).difference(&parse(BEFORE));
        let found: Vec<(Option<u32>, &str, Vec<(u32, u64)>)> = since
            .rows()
            .map(|row| {
                let counts = since.counts(row).map(|(cpu, n)| (cpu.0, n)).collect();
                (row.irq(), row.handlers(), counts)
            })
            .collect();
        assert_eq!(
            found,
            [
                (Some(9), "acpi, i801_smbus", vec![]),
                // CPU 2 has gone through 32 bits.
                (Some(36), "virtio1-req.0", vec![(0, 5), (2, 10), (3, 1)]),
                (Some(40), "arch_timer", vec![(0, 2)]),
                (Some(41), "nvme0q0", vec![(3, 9)]),
                (
                    None,
                    "Local timer interrupts",
                    vec![(0, 50), (2, 1), (3, 6)]
                ),
            ]
        );
        let local = since.rows().last().expect("LOC");
        assert_eq!(
            (since.on(local, CpuId(2)), since.on(local, CpuId(1))),
            (1, 0)
        );
        assert!(since.has(CpuId(3)) && !since.has(CpuId(1)));
    }

    #[test]
    fn what_is_masked_is_no_table() {
        for text in ["", "\n", "CPU0 processor", "nothing at all"] {
            assert_eq!(CountTable::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(CPU[0-9] )?[0-9A-Z: a-z\n-]{0,80}", other in "CPU0 CPU1\n[0-9: \n]{0,60}") {
            if let (Some(a), Some(b)) = (CountTable::parse(&text), CountTable::parse(&other)) {
                let since = a.difference(&b);
                prop_assert_eq!(since.rows().count(), a.rows().count());
            }
        }
    }
}
