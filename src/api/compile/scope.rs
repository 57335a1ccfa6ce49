//! Which images and namespaces a policy speaks for.

use std::collections::BTreeSet;

use countersign_verify::image::Pattern;
use countersign_verify::policy::{NamespaceSelector, Operator, Requirement};

use super::{Wrong, check_count, name_patterns, wrong};
use crate::api::{LabelOperator, LabelRequirement, LabelSelector, Match, bounds};

/// Which images and namespaces a policy speaks for.
pub(super) struct Scope {
    pub(super) include: Vec<Pattern>,
    pub(super) exclude: Vec<Pattern>,
    pub(super) namespaces: NamespaceSelector,
}

impl Scope {
    pub(super) fn everything() -> Self {
        Self {
            include: vec![Pattern::everything()],
            exclude: Vec::new(),
            namespaces: NamespaceSelector::default(),
        }
    }
}

/// What cannot be read covers everything: a mistake must not take images out of a policy.
pub(super) fn compile(spec: &Match) -> (Scope, Vec<Wrong>) {
    let mut scope = Scope::everything();
    let mut wrongs = Vec::new();
    match include(&spec.images.include) {
        Ok(include) => {
            scope.include = include;
            let exclude = spec.images.exclude.as_deref().unwrap_or_default();
            match name_patterns("spec.match.images.exclude", exclude) {
                Ok(exclude) => scope.exclude = exclude,
                Err(wrong) => wrongs.push(wrong),
            }
        }
        Err(wrong) => wrongs.push(wrong),
    }
    match spec.namespace_selector.as_ref().map(selector).transpose() {
        Ok(namespaces) => scope.namespaces = namespaces.unwrap_or_default(),
        Err(wrong) => wrongs.push(wrong),
    }
    (scope, wrongs)
}

fn include(texts: &[String]) -> Result<Vec<Pattern>, Wrong> {
    let field = "spec.match.images.include";
    check_count(field, texts.len(), bounds::PATTERNS)?;
    name_patterns(field, texts)
}

fn selector(spec: &LabelSelector) -> Result<NamespaceSelector, Wrong> {
    let mut requirements = Vec::new();
    for (key, value) in spec.match_labels.iter().flatten() {
        let field = format!("spec.match.namespaceSelector.matchLabels[{key}]");
        check_key(&field, key)?;
        check_value(&field, value)?;
        let operator = Operator::In(BTreeSet::from([value.clone()]));
        requirements.push(Requirement { key: key.clone(), operator });
    }
    for (index, expression) in spec.match_expressions.iter().flatten().enumerate() {
        let field = format!("spec.match.namespaceSelector.matchExpressions[{index}]");
        requirements.push(requirement(&field, expression)?);
    }
    Ok(NamespaceSelector { requirements })
}

fn requirement(field: &str, spec: &LabelRequirement) -> Result<Requirement, Wrong> {
    check_key(&format!("{field}.key"), &spec.key)?;
    let values_field = format!("{field}.values");
    spec.values.iter().try_for_each(|value| check_value(&values_field, value))?;
    let values: BTreeSet<String> = spec.values.iter().cloned().collect();
    let operator = match (spec.operator, values.is_empty()) {
        (LabelOperator::In, false) => Operator::In(values),
        (LabelOperator::NotIn, false) => Operator::NotIn(values),
        (LabelOperator::Exists, true) => Operator::Exists,
        (LabelOperator::DoesNotExist, true) => Operator::DoesNotExist,
        (LabelOperator::In | LabelOperator::NotIn, true) => {
            return wrong(values_field, "In and NotIn need at least one value");
        }
        (LabelOperator::Exists | LabelOperator::DoesNotExist, false) => {
            return wrong(values_field, "Exists and DoesNotExist take no values");
        }
    };
    Ok(Requirement { key: spec.key.clone(), operator })
}

/// A label's key: a name of at most 63 characters, perhaps after a DNS subdomain and a slash.
fn check_key(field: &str, key: &str) -> Result<(), Wrong> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !name.is_empty() && is_label_text(name) && prefix.is_none_or(is_dns_subdomain) {
        return Ok(());
    }
    wrong(
        field,
        format!("\"{}\" is not a label's key, as kubernetes.io/metadata.name", key.escape_debug()),
    )
}

fn check_value(field: &str, value: &str) -> Result<(), Wrong> {
    if is_label_text(value) {
        return Ok(());
    }
    wrong(
        field,
        format!(
            "\"{}\" cannot be a label's value: at most 63 letters, digits, dots, dashes and underscores, a letter or digit at both ends",
            value.escape_debug()
        ),
    )
}

fn is_label_text(text: &str) -> bool {
    let end = |character: Option<char>| character.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && end(text.chars().next())
        && end(text.chars().next_back())
}

/// A name of a Kubernetes object.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= bounds::OBJECT_NAME_CHARS && text.split('.').all(|label| is_dns_label(label, 253))
}

/// Whether a text can be a namespace's name.
pub fn is_namespace(text: &str) -> bool {
    is_dns_label(text, 63)
}

fn is_dns_label(text: &str, most: usize) -> bool {
    !text.is_empty()
        && text.len() <= most
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
