//! `countersign crds`: the resources' definitions, to be applied to a cluster.

use std::io::{self, Write};

/// Prints the CustomResourceDefinitions as YAML. Fails where standard output does.
pub(super) fn run() -> io::Result<()> {
    io::stdout().lock().write_all(crate::api::crds().as_bytes())
}
