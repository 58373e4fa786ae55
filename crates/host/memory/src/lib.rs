//! Node-bound, locked, huge regions of memory for I/O.
