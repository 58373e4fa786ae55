//! Quantities and identities: what is read is printed so that it is read again.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use strata_record::Op;
use strata_units::{Bytes, CpuList, Nanos, NodeList, PciAddress, QueueDepth};

pub(crate) fn quantities(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    read_back::<Bytes>(text);
    read_back::<CpuList>(text);
    read_back::<Nanos>(text);
    read_back::<NodeList>(text);
    read_back::<Op>(text);
    read_back::<PciAddress>(text);
    read_back::<QueueDepth>(text);
}

fn read_back<T: FromStr + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert_eq!(
            printed.parse().ok(),
            Some(value),
            "{text:?} prints as {printed:?}"
        );
    }
}
