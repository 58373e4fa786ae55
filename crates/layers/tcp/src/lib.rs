//! Sockets: request and reply, and streams, between two processes.
