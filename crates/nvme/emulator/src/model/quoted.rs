//! Quantities in quotes with their unit: `"100us"`, `"4KiB"`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use strata_units::ParseError;

/// A quantity that is written as text, by the rules of `strata-units`, so that its unit stands beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quoted<T>(pub T);

impl<T: fmt::Display> Serialize for Quoted<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err = ParseError>> Deserialize<'de> for Quoted<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);

        impl<T: FromStr<Err = ParseError>> de::Visitor<'_> for Text<T> {
            type Value = Quoted<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity in quotes with its unit, such as \"100us\" or \"4KiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quoted<T>, E> {
                text.parse().map(Quoted).map_err(E::custom)
            }
        }

        from.deserialize_str(Text(PhantomData))
    }
}
