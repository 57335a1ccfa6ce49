//! The targets roles that are loaded, and the order in which they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::TARGETS;
use super::delegation::{Name, Step};
use super::document::{RoleKeys, Signed};
use super::glob::Effort;
use super::metadata::Targets;
use crate::outcome::{Denial, Refusal};

/// A verified targets role.
pub(super) type Role = Signed<Targets>;

/// What delegates to `targets`.
pub(super) const ROOT: &str = "root";

/// What is known of a role, as one that another role delegates to: each gives its own keys.
#[derive(Debug, Clone)]
pub(super) enum State {
    Good(Arc<Role>),
    Bad(Refusal),
}

impl State {
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Bad(Refusal::Unavailable(_)))
    }
}

/// The roles that are loaded, by name and by the role that delegates to them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree(BTreeMap<String, BTreeMap<String, State>>);

/// A role that has to be loaded before a lookup can go on.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) role: String,
    pub(super) parent: String,
    pub(super) keys: RoleKeys,
}

/// Why a lookup did not come to its end.
#[derive(Debug)]
pub(super) enum Halt {
    Missing(Vec<Need>),
    /// The image's manifest is needed.
    Manifest,
    Refused(Refusal),
}

impl From<Denial> for Halt {
    fn from(denial: Denial) -> Self {
        Self::Refused(denial.into())
    }
}

impl Tree {
    pub(super) fn get(&self, role: &str, parent: &str) -> Option<&State> {
        self.0.get(role)?.get(parent)
    }

    pub(super) fn insert(&mut self, role: &str, parent: &str, state: State) {
        self.0.entry(role.to_owned()).or_default().insert(parent.to_owned(), state);
    }

    /// The roles, by what delegates to them.
    pub(super) fn by_parent(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (role, parent, _) in self.iter() {
            below.entry(parent.to_owned()).or_default().insert(role.to_owned());
        }
        below
    }

    /// Those roles only that could be had, good or bad.
    pub(super) fn without_unavailable(mut self) -> Self {
        for parents in self.0.values_mut() {
            parents.retain(|_, state| !state.is_unavailable());
        }
        self
    }

    /// Whether the role was verified, and its file has this sha256.
    pub(super) fn has(&self, role: &str, sha256: &[u8; 32]) -> bool {
        let mut states = self.0.get(role).into_iter().flat_map(BTreeMap::values);
        states.any(|state| matches!(state, State::Good(role) if role.file.sha256 == *sha256))
    }

    /// Every role with what delegates to it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, &State)> {
        self.0.iter().flat_map(|(role, parents)| {
            parents.iter().map(move |(parent, state)| (role.as_str(), parent.as_str(), state))
        })
    }

    fn load(&self, next: Next<'_>) -> Result<&Role, Halt> {
        match self.get(&next.role, &next.parent) {
            Some(State::Good(role)) => Ok(role),
            Some(State::Bad(refusal)) => Err(Halt::Refused(refusal.clone())),
            None => Err(match next.keys {
                Some(keys) => {
                    let (role, parent, keys) = (next.role, next.parent, keys.clone());
                    Halt::Missing(vec![Need { role, parent, keys }])
                }
                None => not_loaded(TARGETS).into(),
            }),
        }
    }

    /// Clause 5.6.7: the roles that may answer for a name, in their order, until `visit` says
    /// that it has seen enough. Each is visited once, and at most `max_delegations` but
    /// `targets`.
    pub(super) fn walk<'t>(
        &'t self,
        name: &Name<'_>,
        effort: &Effort,
        max_delegations: usize,
        mut visit: impl FnMut(&str, &'t Role) -> Result<bool, Halt>,
    ) -> Result<(), Halt> {
        let mut stack = vec![Next::top()];
        let mut visited = BTreeSet::new();
        while let Some(next) = stack.pop() {
            if visited.contains(&next.role) {
                continue;
            }
            if visited.len() > max_delegations {
                return Err(too_many(max_delegations).into());
            }
            let role_name = next.role.clone();
            visited.insert(role_name.clone());
            let role = self.load(next)?;
            if visit(&role_name, role)? {
                return Ok(());
            }
            let mut children = Vec::new();
            for step in role.content.delegations.on_path(name, effort)? {
                let terminating = step.terminating;
                children.push(Next::below(&role_name, step));
                if terminating {
                    stack.clear();
                    break;
                }
            }
            stack.extend(children.into_iter().rev());
        }
        Ok(())
    }

    /// Every role, bins left out, that may sign some name of these components; `None` is any.
    /// One that cannot be read, or is one too many, is told in the end, and harms no other.
    pub(super) fn survey<'t>(
        &'t self,
        components: &[Option<&str>],
        effort: &Effort,
        max_delegations: usize,
    ) -> Result<(Vec<&'t Role>, Option<Refusal>), Halt> {
        let mut stack = vec![Next::top()];
        let mut visited = BTreeSet::new();
        let (mut roles, mut missing, mut bad) = (Vec::new(), Vec::new(), None);
        while let Some(next) = stack.pop() {
            if visited.contains(&next.role) {
                continue;
            }
            if visited.len() > max_delegations {
                bad = bad.or(Some(too_many(max_delegations).into()));
                break;
            }
            let role_name = next.role.clone();
            visited.insert(role_name.clone());
            match self.load(next) {
                Ok(role) => {
                    let below = role.content.delegations.that_may_cover(components, effort)?;
                    stack.extend(below.into_iter().map(|step| Next::below(&role_name, step)));
                    roles.push(role);
                }
                Err(Halt::Missing(needs)) => missing.extend(needs),
                Err(Halt::Refused(refusal)) => bad = bad.or(Some(refusal)),
                Err(Halt::Manifest) => return Err(Halt::Manifest),
            }
        }
        if missing.is_empty() { Ok((roles, bad)) } else { Err(Halt::Missing(missing)) }
    }
}

/// A role to be visited.
struct Next<'t> {
    role: String,
    parent: String,
    keys: Option<&'t RoleKeys>,
}

impl<'t> Next<'t> {
    fn top() -> Self {
        Self { role: TARGETS.to_owned(), parent: ROOT.to_owned(), keys: None }
    }

    fn below(parent: &str, step: Step<'t>) -> Self {
        let Step { role, keys, .. } = step;
        Self { role: role.into_owned(), parent: parent.to_owned(), keys: Some(keys) }
    }
}

fn too_many(limit: usize) -> Denial {
    let what = "the number of delegations visited for one name".to_owned();
    Denial::LimitExceeded { what, limit: limit as u64 }
}

/// A caller's mistake, which must not become an admission.
pub(super) fn not_loaded(role: &str) -> Denial {
    let reason = "it was not loaded".to_owned();
    Denial::MalformedMetadata { file: role.to_owned(), reason }
}
