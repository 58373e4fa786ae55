//! From records: summaries, contrasts, exclusions.
