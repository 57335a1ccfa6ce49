//! Live repositories: fetched, verified, kept.
