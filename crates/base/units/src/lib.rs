//! Quantities and identities as types, parsed and printed one way everywhere.
