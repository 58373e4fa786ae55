//! Nodes, CPUs, devices and links, read under a given root; choose, pin, prove.
