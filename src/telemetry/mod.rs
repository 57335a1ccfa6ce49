//! Logs and metrics, from the one decision value.
