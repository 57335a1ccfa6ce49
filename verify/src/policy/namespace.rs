//! Namespaces, and the selectors over them.

use std::collections::{BTreeMap, BTreeSet};

/// What is known of the namespace that asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Namespace<'a> {
    /// Its name; `None` where the request has none.
    pub name: Option<&'a str>,
    /// Its labels; `None` where they cannot be looked up.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// A label selector over namespaces, as Kubernetes has it: every requirement has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceSelector {
    /// No requirement matches every namespace.
    pub requirements: Vec<Requirement>,
}

/// One requirement of a [`NamespaceSelector`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What has to hold of its value.
    pub operator: Operator,
}

/// What has to hold of a label's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// It is one of these.
    In(BTreeSet<String>),
    /// It is absent, or none of these.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// The label that Kubernetes puts on every namespace itself.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl NamespaceSelector {
    /// Whether the selector speaks for this namespace; `None` where that hangs on labels that
    /// cannot be looked up.
    pub fn matches(&self, namespace: Namespace<'_>) -> Option<bool> {
        let holds = || self.requirements.iter().map(|requirement| requirement.holds(namespace));
        if holds().any(|holds| holds == Some(false)) {
            return Some(false);
        }
        holds().all(|holds| holds.is_some()).then_some(true)
    }
}

impl Requirement {
    fn holds(&self, namespace: Namespace<'_>) -> Option<bool> {
        let value = match (self.key.as_str(), namespace) {
            (NAME_LABEL, Namespace { name: Some(name), .. }) => Some(name),
            (_, Namespace { labels: Some(labels), .. }) => {
                labels.get(&self.key).map(String::as_str)
            }
            _ => return None,
        };
        Some(match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        })
    }
}
