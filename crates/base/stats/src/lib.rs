//! Contrasts, intervals, equivalence, Stein, Holm: pure numbers.
