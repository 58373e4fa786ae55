//! The kernel's storage path on a file.
