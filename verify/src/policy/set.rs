//! All policies, indexed so that a review does not read those of other repositories.

use std::collections::HashMap;

use super::{Namespace, Policy};
use crate::image::Reference;

/// All policies of an installation.
///
/// Each is filed under the literal components that its `include` patterns begin with, so finding
/// an image's policies costs a look-up per component of its name, however many policies there are.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    policies: Vec<Policy>,
    by_prefix: HashMap<String, Vec<usize>>,
}

impl PolicySet {
    /// Indexes `policies`.
    pub fn new(policies: Vec<Policy>) -> Self {
        let mut by_prefix: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, policy) in policies.iter().enumerate() {
            for pattern in &policy.include {
                let filed = by_prefix.entry(pattern.literal_prefix().to_owned()).or_default();
                if filed.last() != Some(&index) {
                    filed.push(index);
                }
            }
        }
        Self { policies, by_prefix }
    }

    /// The policies, in the order given.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policies that speak for an image in a namespace, in the order given.
    pub fn select(&self, image: &Reference, namespace: Namespace<'_>) -> Vec<&Policy> {
        let name = image.name();
        let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
        let mut found: Vec<usize> = std::iter::once("")
            .chain(ends.map(|end| &name[..end]))
            .filter_map(|prefix| self.by_prefix.get(prefix))
            .flatten()
            .copied()
            .collect();
        found.sort_unstable();
        found.dedup();
        found
            .into_iter()
            .map(|index| &self.policies[index])
            .filter(|policy| policy.matches(image, namespace))
            .collect()
    }
}
