//! The text that a person reads.
