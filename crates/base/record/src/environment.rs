//! The machine that a run was made on.
