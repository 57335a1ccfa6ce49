//! Clause 5.6: targets and delegated roles, as far as lookups ask for them.

use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Answer, Stage, Update, bytes, check_expiry, check_version};
use crate::hash::sha256;
use crate::limits::{self, check_length};
use crate::outcome::{Denial, Refusal};
use crate::tuf::delegation::Name;
use crate::tuf::document::{Document, RoleKeys, Signed};
use crate::tuf::glob::Effort;
use crate::tuf::lookup::{Query, Search};
use crate::tuf::metadata::Targets;
use crate::tuf::tree::{Halt, Need, ROOT, Role, State};
use crate::tuf::{Image, SNAPSHOT, TIMESTAMP};

impl Update {
    pub(super) fn take_role(&mut self, role: &str, answer: &Answer<'_>) -> Result<(), Refusal> {
        let needs = std::mem::take(&mut self.pending);
        let (taken, rest): (Vec<_>, Vec<_>) = needs.into_iter().partition(|need| need.role == role);
        self.pending = rest;
        for need in taken {
            let loaded = bytes(role, answer.clone())
                .and_then(|bytes| self.load(&need, bytes).map_err(Refusal::from));
            match loaded {
                Ok(role) => self.settle(&need, State::Good(role)),
                Err(refusal) if need.parent == ROOT => return Err(refusal),
                Err(refusal) => self.settle(&need, State::Bad(refusal)),
            }
        }
        self.go_on();
        Ok(())
    }

    /// Offers a file from an earlier run for a delegated role, or `targets`, that is wanted now. It
    /// is verified like any other; one that is not what is needed is ignored, and stays wanted.
    pub fn offer(&mut self, role: &str, bytes: &[u8]) {
        let needs = std::mem::take(&mut self.pending);
        for need in needs {
            match (need.role == role).then(|| self.load(&need, bytes)) {
                Some(Ok(loaded)) => self.settle(&need, State::Good(loaded)),
                _ => self.pending.push(need),
            }
        }
        self.go_on();
    }

    /// Whether these bytes are a role's file that has been verified and that the update rests on by
    /// now: then they may be kept for a later one.
    pub fn rests_on(&self, role: &str, bytes: &[u8]) -> bool {
        let sha256 = sha256(bytes);
        let file = match role {
            ROOT => Some(&self.root.file),
            TIMESTAMP => self.timestamp.as_ref().map(|timestamp| &timestamp.file),
            SNAPSHOT => self.snapshot.as_ref().map(|snapshot| &snapshot.file),
            _ => return self.tree.has(role, &sha256),
        };
        file.is_some_and(|file| file.sha256 == sha256)
    }

    fn settle(&mut self, need: &Need, state: State) {
        self.tree.insert(&need.role, &need.parent, state);
        self.carry_over(&need.role, &need.parent);
    }

    /// Takes what was loaded below a role before, so that lookups other than this update's find it
    /// as well. Each pair of roles is taken once.
    fn carry_over(&mut self, role: &str, parent: &str) {
        let mut stack = vec![(role.to_owned(), parent.to_owned())];
        while let Some((role, parent)) = stack.pop() {
            let Some(State::Good(good)) = self.tree.get(&role, &parent) else { continue };
            let good = Arc::clone(good);
            let Some(names) = self.old.below.get(&role) else { continue };
            let names = names.iter().map(String::as_str).collect();
            for (child, keys) in good.content.delegations.among(&names) {
                let is_new = self.tree.get(child, &role).is_none();
                if let Some(old) = self.reusable(child, &role, keys).filter(|_| is_new) {
                    self.tree.insert(child, &role, State::Good(old));
                    stack.push((child.to_owned(), role.clone()));
                }
            }
        }
    }

    /// A role that was verified before, where it still is what the snapshot and the role that
    /// delegates to it say.
    fn reusable(&self, role: &str, parent: &str, keys: &RoleKeys) -> Option<Arc<Role>> {
        let listed = self.listed(role)?;
        match self.old.tree.get(role, parent)? {
            State::Good(old) if listed.lists(&old.file) && old.is_signed_by(keys) => {
                Some(Arc::clone(old))
            }
            _ => None,
        }
    }

    /// Loads what the lookups need next from what is there already, and notes what has to be
    /// fetched. Every turn loads a role, of which a lookup visits a bounded number.
    pub(super) fn go_on(&mut self) {
        while self.stage == Stage::Roles && self.pending.is_empty() {
            let needs = self.needs();
            if needs.is_empty() {
                return;
            }
            for need in needs {
                self.prepare(need);
            }
        }
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        let mut add = |halt: Halt| {
            let Halt::Missing(missing) = halt else { return };
            for need in missing {
                let known = |it: &Need| it.role == need.role && it.parent == need.parent;
                if !needs.iter().any(known) {
                    needs.push(need);
                }
            }
        };
        for Query { lookup, reference, digest } in &self.queries {
            let image = Image { reference, digest, size: None, manifest: None };
            let mut search = Search {
                tree: &self.tree,
                max_delegations: self.max_delegations,
                now: self.now,
                expires: Timestamp::MAX,
                effort: Rc::default(),
            };
            if let Err(halt) = search.evaluate(lookup, image) {
                add(halt);
            }
        }
        for name in &self.names {
            let has = |_: &str, role: &Role| Ok(role.content.entries.get(name).is_some());
            if let Err(halt) =
                self.tree.walk(&Name::new(name), &Effort::default(), self.max_delegations, has)
            {
                add(halt);
            }
        }
        needs
    }

    /// Loads a role from an earlier update or run, or notes that it has to be fetched.
    pub(super) fn prepare(&mut self, need: Need) {
        let Some(listed) = self.listed(&need.role) else {
            let refusal = unlisted(&need.role).into();
            return self.settle(&need, State::Bad(refusal));
        };
        if let Err(denial) =
            check_length(&need.role, listed.length.unwrap_or(0), limits::TUF_TARGETS_BYTES)
        {
            return self.settle(&need, State::Bad(denial.into()));
        }
        // As if it was read now: without `targets` there is no repository.
        let serves = |old: &Arc<Role>| need.parent != ROOT || self.now < old.header.expires;
        if let Some(old) = self.reusable(&need.role, &need.parent, &need.keys).filter(serves) {
            return self.settle(&need, State::Good(old));
        }
        if let Some(kept) = self.kept.get(&need.role).cloned()
            && let Ok(role) = self.load(&need, &kept)
        {
            return self.settle(&need, State::Good(role));
        }
        self.pending.push(need);
    }

    /// Clause 5.6, but for its version's floor, which the snapshot was held to.
    fn load(&mut self, need: &Need, bytes: &[u8]) -> Result<Arc<Role>, Denial> {
        let role = need.role.as_str();
        let listed = self.listed(role).ok_or_else(|| unlisted(role))?.clone();
        let file = listed.check(role, bytes, SNAPSHOT)?;
        let document = Document::read(role, bytes, limits::TUF_TARGETS_BYTES)?;
        let signed = Signed::read(role, &document, &need.keys, Targets::read, |_| file)?;
        check_version(role, signed.header.version, listed.version, SNAPSHOT)?;
        check_expiry(role, signed.header.expires, self.now)?;
        Ok(Arc::new(signed))
    }
}

fn unlisted(role: &str) -> Denial {
    let reason = "it is delegated to, but the snapshot does not list it".to_owned();
    Denial::MalformedMetadata { file: role.to_owned(), reason }
}
