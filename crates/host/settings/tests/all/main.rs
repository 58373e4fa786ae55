//! The journal and what it undoes, on made trees.

#![forbid(unsafe_code)]

mod journal;
mod kernel;
mod others;
mod scopes;
mod tree;
mod undo;
