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

/// A policy that speaks for an image.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// Whether it surely does. One that may refuses like any other, and its satisfaction lifts
    /// nothing: whatever the namespace is, the image is then let in only if it may be.
    pub certain: bool,
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

    /// The policies that speak for an image in a namespace, or may, in the order given.
    pub fn select(&self, image: &Reference, namespace: Namespace<'_>) -> Vec<Selected<'_>> {
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
            .filter_map(|policy| match policy.matches(image, namespace) {
                Some(false) => None,
                matches => Some(Selected { policy, certain: matches.is_some() }),
            })
            .collect()
    }
}
