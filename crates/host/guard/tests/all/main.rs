//! Signatures of crafted and real images, uses in made trees, and the guard on loop devices.

mod bytes;
mod crafted;
mod loops;
mod support;
mod tools;
mod trees;
