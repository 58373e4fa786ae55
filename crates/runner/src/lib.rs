//! Plans, order, trials, resume.
