//! The environment of `run.json` as tables, whatever its fields.

use serde_json::{Map, Value};
use strata_units::{CpuId, CpuList, show};

use crate::table::Table;
use crate::text::NONE;

/// One part of the environment.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) title: String,
    /// What is known of it, as name and value.
    pub(crate) facts: Vec<(String, String)>,
    /// Its lists of things of one kind.
    pub(crate) lists: Vec<Table>,
}

/// A part for each key of the object; loose values stand in one part at the head.
pub(crate) fn parts(environment: &Value) -> Vec<Part> {
    let mut loose = Part::new("General");
    let mut parts = Vec::new();
    match environment {
        Value::Object(fields) => {
            for (key, value) in fields {
                if holds_fields(value) {
                    let mut part = Part::new(&title(key));
                    part.add("", key, value);
                    parts.push(part);
                } else {
                    loose.add("", key, value);
                }
            }
        }
        Value::Null => {}
        other => loose.add("", "environment", other),
    }
    if !loose.facts.is_empty() {
        parts.insert(0, loose);
    }
    parts
}

fn holds_fields(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => items.iter().any(Value::is_object),
        _ => false,
    }
}

impl Part {
    fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            facts: Vec::new(),
            lists: Vec::new(),
        }
    }

    /// Adds a value under the names above it.
    fn add(&mut self, above: &str, key: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (inner, value) in fields {
                    let name = join(above, inner);
                    match value {
                        Value::Object(_) | Value::Array(_) if holds_fields(value) => {
                            self.add(&name, inner, value);
                        }
                        _ => self.facts.push((name, scalar(inner, value))),
                    }
                }
            }
            Value::Array(items) if holds_fields(value) => {
                // The part's own title says what they are.
                let caption = if above.is_empty() {
                    format!("{} in all", items.len())
                } else {
                    above.to_owned()
                };
                self.lists.push(list(caption, items));
            }
            _ => self.facts.push((join(above, key), scalar(key, value))),
        }
    }
}

fn join(above: &str, key: &str) -> String {
    if above.is_empty() {
        title(key)
    } else {
        format!("{above} · {}", plain(key))
    }
}

/// One row an item, and a column for each key that any of them has.
fn list(caption: String, items: &[Value]) -> Table {
    let objects: Vec<&Map<String, Value>> = items.iter().filter_map(Value::as_object).collect();
    let mut keys: Vec<&String> = Vec::new();
    for key in objects.iter().flat_map(|o| o.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    // A row is known by its name or its node, and that stands first.
    keys.sort_by_key(|k| match k.as_str() {
        "name" => 0,
        "node" if !objects.iter().any(|o| o.contains_key("name")) => 0,
        _ => 1,
    });
    let titles: Vec<String> = keys.iter().map(|k| title(k)).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut table = Table::new(caption, &titles);
    for object in objects {
        table.push(
            keys.iter()
                .map(|k| {
                    object
                        .get(*k)
                        .map_or_else(|| NONE.to_owned(), |v| scalar(k, v))
                })
                .collect(),
        );
    }
    table
}

/// Shows a number with its unit.
type Unit = fn(f64) -> String;

/// Suffixes of keys that name a unit, and how a number with it is shown.
const UNITS: [(&str, Unit); 3] = [
    ("_bytes", show::amount),
    ("_ns", show::time),
    ("_hz", |hertz| format!("{} MHz", show::digits(hertz / 1e6))),
];

/// Words of keys that are written in their own way.
const ABBREVIATIONS: [&str; 14] = [
    "CPU", "CPUs", "SMT", "NUMA", "PCI", "PCIe", "NVMe", "RDMA", "RAM", "THP", "TSC", "ID", "OS",
    "MTU",
];

/// A key in plain words, without the unit that its values print.
fn plain(key: &str) -> String {
    // Names of the system (`net.core.rmem_max`) are nobody's to change.
    if key.contains(['.', '/', ' ']) {
        return key.to_owned();
    }
    let key = UNITS
        .iter()
        .find_map(|(suffix, _)| key.strip_suffix(suffix))
        .unwrap_or(key);
    let words: Vec<&str> = key
        .split('_')
        .map(|word| {
            ABBREVIATIONS
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(word))
                .unwrap_or(word)
        })
        .collect();
    words.join(" ")
}

fn title(key: &str) -> String {
    let text = plain(key);
    if text.contains(['.', '/']) {
        return text;
    }
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn scalar(key: &str, value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(n) => UNITS
            .iter()
            .find(|(suffix, _)| key.ends_with(suffix))
            .and_then(|(_, unit)| n.as_f64().map(unit))
            .unwrap_or_else(|| n.to_string()),
        Value::String(text) if text.is_empty() => NONE.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => NONE.to_owned(),
        Value::Array(items) => ids(items).unwrap_or_else(|| {
            let shown: Vec<String> = items.iter().map(|item| scalar(key, item)).collect();
            shown.join(", ")
        }),
        Value::Object(fields) if fields.is_empty() => NONE.to_owned(),
        Value::Object(fields) => {
            let shown: Vec<String> = fields
                .iter()
                .map(|(k, v)| format!("{} {}", plain(k), scalar(k, v)))
                .collect();
            shown.join("; ")
        }
    }
}

/// Numbers of CPUs or nodes in the kernel's list format; none where the items are no such numbers in ascending order.
fn ids(items: &[Value]) -> Option<String> {
    let ids: Vec<CpuId> = items
        .iter()
        .map(|item| item.as_u64().and_then(|n| u32::try_from(n).ok()).map(CpuId))
        .collect::<Option<_>>()?;
    let ascending = ids.windows(2).all(|pair| pair[0] < pair[1]);
    ascending.then(|| CpuList::from(ids).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_object_becomes_parts() {
        let parts = parts(&serde_json::json!({
            "hostname": "node1",
            "memory": {"total_bytes": 2048, "huge_pages": {"free": 0, "size_bytes": 2_097_152}},
            "sysctls": {"net.core.rmem_max": "212992"},
            "devices": [{"name": "vda", "link_up": true}, {"name": "vdb", "serial": null}],
            "cpu": {"governor": null, "caches": [{"level": 1, "size_bytes": 32768}], "flags": ["a", "b"], "online": [0, 1, 2, 5]}
        }));
        let of = |title: &str| {
            parts
                .iter()
                .find(|p| p.title == title)
                .unwrap_or_else(|| panic!("no part {title}: {parts:?}"))
        };
        let fact = |part: &Part, name: &str| {
            part.facts
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone())
                .unwrap_or_else(|| panic!("no fact {name}: {part:?}"))
        };
        assert_eq!(fact(of("General"), "Hostname"), "node1");
        assert_eq!(fact(of("Memory"), "Total"), "2.00 KiB");
        assert_eq!(fact(of("Memory"), "Huge pages · size"), "2.00 MiB");
        assert_eq!(fact(of("Sysctls"), "net.core.rmem_max"), "212992");
        assert_eq!(fact(of("CPU"), "Governor"), NONE);
        assert_eq!(fact(of("CPU"), "Flags"), "a, b");
        assert_eq!(fact(of("CPU"), "Online"), "0-2,5");
        assert_eq!(of("CPU").lists[0].caption, "Caches");
        let devices = &of("Devices").lists[0];
        let names: Vec<&str> = devices.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["Name", "Link up", "Serial"]);
        let rows: Vec<&[String]> = devices.rows.iter().map(|r| r.entries.as_slice()).collect();
        assert_eq!(rows, [["vda", "yes", NONE], ["vdb", NONE, NONE]]);
    }

    #[test]
    fn what_is_no_object_is_shown_all_the_same() {
        assert!(parts(&Value::Null).is_empty());
        assert_eq!(parts(&serde_json::json!("x"))[0].facts[0].1, "x");
    }
}
