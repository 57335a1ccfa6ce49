//! Resources out of YAML and JSON files.
