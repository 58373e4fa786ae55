//! The specification's tables by hand, against what this crate makes of them.

mod commands;
mod dumps;
mod hostile;
mod lists;
mod prp;
