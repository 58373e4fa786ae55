//! Sets of CPUs and nodes in the kernel's list format (`0-3,8,10-11`, cpuset(7) "List format").

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CpuId, NodeId, ParseError};

/// The largest identifier that a list may hold; guards against `0-4000000000` filling memory.
const LARGEST: u32 = 65_535;

/// Identifiers in ascending order, each once.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(from = "Vec<T>", bound(deserialize = "T: Ord + Deserialize<'de>"))]
pub struct IdList<T>(Vec<T>);

/// A set of CPUs.
pub type CpuList = IdList<CpuId>;
/// A set of memory nodes.
pub type NodeList = IdList<NodeId>;

impl<T> Default for IdList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> From<Vec<T>> for IdList<T> {
    fn from(ids: Vec<T>) -> Self {
        ids.into_iter().collect()
    }
}

impl<T: Ord> FromIterator<T> for IdList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(ids: I) -> Self {
        let mut ids: Vec<T> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }
}

impl<T: Ord + Copy> IdList<T> {
    /// The identifiers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.0.iter().copied()
    }

    /// The identifiers as a slice, ascending.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least one.
    pub fn first(&self) -> Option<T> {
        self.0.first().copied()
    }

    /// Whether `id` is among them.
    pub fn contains(&self, id: T) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// Those that are in both.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.iter().filter(|id| other.contains(*id)).collect())
    }

    /// Those that are here but not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        Self(self.iter().filter(|id| !other.contains(*id)).collect())
    }
}

impl<T: Copy + Into<u32>> fmt::Display for IdList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut ids = self.0.iter().map(|id| (*id).into()).peekable();
        while let Some(first) = ids.next() {
            let mut last: u32 = first;
            while let Some(next) = ids.next_if(|n| *n == last + 1) {
                last = next;
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&first.to_string());
            if last > first {
                text.push(if last == first + 1 { ',' } else { '-' });
                text.push_str(&last.to_string());
            }
        }
        f.pad(&text)
    }
}

impl<T: Ord + From<u32>> FromStr for IdList<T> {
    type Err = ParseError;

    /// An empty or blank text is the empty list, as the kernel writes it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("list", text, why);
        let mut ids = Vec::new();
        let mut told = 0;
        for part in text
            .trim()
            .split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
        {
            let (range, stride) = part
                .split_once(':')
                .map_or((part, None), |(r, s)| (r, Some(s)));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |t: &str| {
                t.trim()
                    .parse::<u32>()
                    .ok()
                    .filter(|n| *n <= LARGEST)
                    .ok_or_else(|| fail("expected numbers and ranges, such as 0-3,8"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(fail("a range ends before it begins"));
            }
            // So that a text of many ranges, each short to write, takes neither memory nor time.
            told += last - first + 1;
            if told > LARGEST + 1 {
                return Err(fail("its ranges hold more than 65536 numbers together"));
            }
            match stride {
                None => ids.extend((first..=last).map(T::from)),
                Some(stride) => {
                    let (used, group) = stride
                        .split_once('/')
                        .ok_or_else(|| fail("expected USED/GROUP after the colon"))?;
                    let (used, group) = (number(used)?, number(group)?);
                    if group == 0 || used > group {
                        return Err(fail("a group must hold what is used of it"));
                    }
                    ids.extend(
                        (first..=last)
                            .filter(|n| (n - first) % group < used)
                            .map(T::from),
                    );
                }
            }
        }
        Ok(ids.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kernel_lists() {
        let list: CpuList = "0-3,8,10-11\n".parse().expect("a list");
        assert_eq!(list.len(), 7);
        assert_eq!(list.to_string(), "0-3,8,10,11");
        assert_eq!("".parse::<CpuList>().map(|l| l.len()), Ok(0));
        assert_eq!(
            "0-31:2/8".parse::<CpuList>().expect("strided").to_string(),
            "0,1,8,9,16,17,24,25"
        );
        for bad in [
            "a",
            "3-1",
            "1-",
            "0-4000000000",
            "0-7:3",
            "0-7:9/8",
            "0-7:1/0",
            "0-65535,7",
            "0-65535:0/1,0-65535:0/1",
        ] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn lists_round_trip(ids in proptest::collection::vec(0u32..300, 0..40)) {
            let list: NodeList = ids.into_iter().map(NodeId).collect();
            prop_assert_eq!(list.to_string().parse(), Ok(list));
        }

        #[test]
        fn sets_behave(a in proptest::collection::vec(0u32..40, 0..20), b in proptest::collection::vec(0u32..40, 0..20)) {
            let a: CpuList = a.into_iter().map(CpuId).collect();
            let b: CpuList = b.into_iter().map(CpuId).collect();
            let both = a.and(&b);
            let only = a.without(&b);
            prop_assert_eq!(both.len() + only.len(), a.len());
            prop_assert!(both.iter().all(|id| b.contains(id)) && only.iter().all(|id| !b.contains(id)));
        }

        #[test]
        fn no_text_panics(text in "[0-9,:/ -]{0,20}") {
            let _ = text.parse::<CpuList>();
        }
    }
}
