//! What reviews read of the policies and sources: one immutable value, swapped whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_verify::policy::PolicySet;

use crate::api::{Compiled, Source};
use crate::cluster::Labels;

/// The policies and sources of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The policies.
    pub policies: PolicySet,
    /// The sources they name, by name.
    pub sources: BTreeMap<String, Arc<Source>>,
    /// The registries that may be contacted: those that a policy or the configuration names.
    pub registries: BTreeSet<String>,
    /// The labels of namespaces, where they were read with the policies.
    pub namespaces: BTreeMap<String, Arc<Labels>>,
}

impl Snapshot {
    /// From compiled resources, and the registries that the configuration names.
    pub fn new(compiled: Compiled, configured_registries: &BTreeSet<String>) -> Self {
        let mut registries = compiled.registries;
        registries.extend(configured_registries.iter().cloned());
        let sources =
            compiled.sources.into_iter().map(|(name, source)| (name, Arc::new(source))).collect();
        Self {
            policies: PolicySet::new(compiled.policies),
            sources,
            registries,
            namespaces: BTreeMap::new(),
        }
    }
}
