//! Clock, histogram, load shape, the Engine trait, the one loop, the gate.
