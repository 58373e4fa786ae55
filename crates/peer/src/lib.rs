//! The other side: the control channel to a second process.
