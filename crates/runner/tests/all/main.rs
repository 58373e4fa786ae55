//! Rounds, their records and their folder, with jobs that answer as they are told.

mod drive;
mod levels;
mod resume;
mod rounds;
mod store;
mod support;
