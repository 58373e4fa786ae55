//! How long a command takes by itself: distributions, and drawing from them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use strata_stats::{Rng, normal_quantile};
use strata_units::Nanos;

use super::error::{ModelError, Place};
use super::quoted::Quoted;

/// A distribution of latencies: one of the first five keys, and a tail if wanted. A text alone is a constant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// Always this.
    pub constant: Option<Quoted<Nanos>>,
    /// Equally likely between the two.
    pub uniform: Option<[Quoted<Nanos>; 2]>,
    /// Normal; what would be negative is 0.
    pub normal: Option<Normal>,
    /// Lognormal: many a little below the median, few far above.
    pub lognormal: Option<Lognormal>,
    /// Pairs of a probability and the latency that is not exceeded with it, linear in between; from 0 to 1.
    pub quantiles: Option<Vec<(f64, Quoted<Nanos>)>>,
    /// A few commands that take a time of their own.
    pub tail: Option<Tail>,
}

/// A normal distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normal {
    /// Its mean.
    pub mean: Quoted<Nanos>,
    /// Its standard deviation.
    pub deviation: Quoted<Nanos>,
}

/// A lognormal distribution, by two quantiles that data sheets quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lognormal {
    /// Half are not above it.
    pub median: Quoted<Nanos>,
    /// 99 of 100 are not above it.
    pub p99: Quoted<Nanos>,
}

/// Commands outside of the distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Their share, 0 to 1.
    pub share: f64,
    /// What they take.
    pub latency: Quoted<Nanos>,
}

/// Reads a latency, which is a table or, when constant, a text.
pub(super) fn text_or_table<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Latency>, D::Error> {
    struct TextOrTable;

    impl<'de> de::Visitor<'de> for TextOrTable {
        type Value = Latency;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time in quotes, such as \"100us\", or a table with constant, uniform, normal, lognormal or quantiles")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Latency, E> {
            Ok(Latency {
                constant: Some(Quoted(text.parse().map_err(E::custom)?)),
                ..Latency::default()
            })
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Latency, A::Error> {
            Latency::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }

    from.deserialize_any(TextOrTable).map(Some)
}

/// A latency that was checked, ready to be drawn from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    shape: Shape,
    tail: Option<(u64, f64)>,
}

/// In nanoseconds.
#[derive(Debug, Clone)]
enum Shape {
    Constant(f64),
    Uniform { least: f64, span: f64 },
    Normal { mean: f64, deviation: f64 },
    Lognormal { median: f64, sigma: f64 },
    Quantiles(Box<[(f64, f64)]>),
}

const ONE_SHAPE: &str = "one of constant, uniform, normal, lognormal and quantiles";
const CHOOSE: &str = "say which one is meant";

impl Source {
    /// # Errors
    /// Not one shape, or one that is none.
    pub(super) fn new(latency: &Latency, place: &Place) -> Result<Source, ModelError> {
        let shapes = [
            latency.constant.map(|Quoted(t)| Ok(Shape::Constant(ns(t)))),
            latency.uniform.map(|ends| uniform(ends, place)),
            latency.normal.map(|n| {
                Ok(Shape::Normal {
                    mean: ns(n.mean.0),
                    deviation: ns(n.deviation.0),
                })
            }),
            latency.lognormal.map(|l| lognormal(l, place)),
            latency.quantiles.as_deref().map(|q| quantiles(q, place)),
        ];
        let mut shapes = shapes.into_iter().flatten();
        let shape = shapes
            .next()
            .unwrap_or_else(|| Err(place.error("latency", "none", ONE_SHAPE, CHOOSE)))?;
        let more = shapes.count();
        place.check(
            more == 0,
            "latency",
            format!("{} of them", more + 1),
            ONE_SHAPE,
            CHOOSE,
        )?;
        let tail = latency.tail.map(|tail| {
            place.check(
                tail.share > 0.0 && tail.share <= 1.0,
                "tail.share",
                tail.share,
                "a number above 0 and up to 1",
                "leave the tail out if there is none",
            )?;
            Ok((chance(tail.share), ns(tail.latency.0)))
        });
        Ok(Source {
            shape,
            tail: tail.transpose()?,
        })
    }

    /// A latency in nanoseconds.
    #[inline]
    pub(super) fn draw(&self, rng: &mut Rng, gauss: &Gauss) -> f64 {
        if let Some((share, latency)) = self.tail
            && rng.next_u64() < share
        {
            return latency;
        }
        match &self.shape {
            Shape::Constant(latency) => *latency,
            Shape::Uniform { least, span } => least + span * rng.uniform(),
            Shape::Normal { mean, deviation } => (mean + deviation * gauss.draw(rng)).max(0.0),
            Shape::Lognormal { median, sigma } => median * (sigma * gauss.draw(rng)).exp(),
            Shape::Quantiles(knots) => at(knots, rng.uniform()),
        }
    }
}

/// A probability as what a random word is below with it.
pub(super) fn chance(probability: f64) -> u64 {
    // 2⁶⁴; the conversion saturates, so that 1 misses one word of 2⁶⁴.
    (probability * 18_446_744_073_709_551_616.0) as u64
}

fn ns(time: Nanos) -> f64 {
    time.0 as f64
}

fn uniform([least, most]: [Quoted<Nanos>; 2], place: &Place) -> Result<Shape, ModelError> {
    place.check(
        least <= most,
        "latency.uniform",
        format!("{} to {}", least.0, most.0),
        "the shorter time first",
        "swap them",
    )?;
    Ok(Shape::Uniform {
        least: ns(least.0),
        span: ns(most.0 - least.0),
    })
}

fn lognormal(l: Lognormal, place: &Place) -> Result<Shape, ModelError> {
    place.check(
        l.median.0.0 > 0 && l.p99 >= l.median,
        "latency.lognormal",
        format!("a median of {} and a p99 of {}", l.median.0, l.p99.0),
        "a median above 0 and a p99 not below it",
        "take both from the same data sheet or measurement",
    )?;
    let (median, p99) = (ns(l.median.0), ns(l.p99.0));
    Ok(Shape::Lognormal {
        median,
        sigma: (p99 / median).ln() / quantile_of_normal(0.99),
    })
}

fn quantiles(knots: &[(f64, Quoted<Nanos>)], place: &Place) -> Result<Shape, ModelError> {
    let ends = (knots.first().map(|k| k.0), knots.last().map(|k| k.0));
    let rising = knots
        .windows(2)
        .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
    place.check(
        ends == (Some(0.0), Some(1.0)) && rising,
        "latency.quantiles",
        knots
            .iter()
            .map(|(p, t)| format!("{p}: {}", t.0))
            .collect::<Vec<_>>()
            .join(", "),
        "probabilities that rise from 0 to 1, with latencies that do not fall",
        "give the least latency for 0 and the longest for 1",
    )?;
    Ok(Shape::Quantiles(
        knots.iter().map(|(p, t)| (*p, ns(t.0))).collect(),
    ))
}

/// The latency at a probability in [0, 1).
fn at(knots: &[(f64, f64)], probability: f64) -> f64 {
    // The first knot is at 0 and the last at 1, so there is one on either side.
    let above = knots.partition_point(|knot| knot.0 <= probability);
    let ((p0, t0), (p1, t1)) = (knots[above - 1], knots[above]);
    t0 + (t1 - t0) * ((probability - p0) / (p1 - p0))
}

fn quantile_of_normal(p: f64) -> f64 {
    normal_quantile(p).expect("the probability lies between 0 and 1")
}

/// Cells of the table.
const CELLS: usize = 1024;
/// Bits of a random word that place a draw within its cell.
const WITHIN: u32 = 52;

/// Standard normal numbers by their quantiles: between the ends of 1024 equally likely cells linearly, and in the two
/// outermost, where that would cut the tails, exactly. A tenth of the cost of two logarithms and a cosine.
#[derive(Debug, Clone)]
pub(super) struct Gauss {
    /// The quantile at i/1024; the first and last are not used.
    ends: Box<[f64; CELLS + 1]>,
}

impl Gauss {
    pub(super) fn new() -> Gauss {
        let mut ends = Box::new([0.0; CELLS + 1]);
        for (cell, end) in ends.iter_mut().enumerate().take(CELLS).skip(1) {
            *end = quantile_of_normal(cell as f64 / CELLS as f64);
        }
        Gauss { ends }
    }

    #[inline]
    fn draw(&self, rng: &mut Rng) -> f64 {
        let word = rng.next_u64();
        let cell = (word >> (u64::BITS - CELLS.ilog2())) as usize;
        // In (0, 1), and so is its difference to 1: both are whole multiples of 2⁻⁵³.
        let within = ((word & ((1 << WITHIN) - 1)) as f64 + 0.5) / (1_u64 << WITHIN) as f64;
        match cell {
            0 => quantile_of_normal(within / CELLS as f64),
            c if c == CELLS - 1 => -quantile_of_normal((1.0 - within) / CELLS as f64),
            _ => self.ends[cell] + (self.ends[cell + 1] - self.ends[cell]) * within,
        }
    }
}
