//! Looking an image up in a repository's verified roles.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::compare::{Match, compare};
use super::delegation::Name;
use super::glob::Effort;
use super::metadata::Entry;
use super::repository::{Repository, Target};
use super::template::Template;
use super::tree::{Halt, Role, Tree, not_loaded};
use super::{Accept, Image, Lookup};
use crate::image::{Digest, Reference};
use crate::limits;
use crate::outcome::{Denial, KeyFingerprint, Proof, Refusal, listed};

/// An entry, in a role that signs it.
struct Hit<'t> {
    role: String,
    entry: &'t Entry,
    signers: &'t BTreeSet<KeyFingerprint>,
}

/// What every lookup rests on, and what it has relied on by now.
pub(super) struct Search<'t> {
    pub(super) tree: &'t Tree,
    pub(super) max_delegations: usize,
    pub(super) now: Timestamp,
    /// The earliest expiry so far.
    pub(super) expires: Timestamp,
    /// What is left of it is for all names of one image.
    pub(super) effort: Rc<Effort>,
}

impl Repository {
    /// Looks an image up. Every expiry of the chain that the answer rests on is checked against
    /// `now`.
    ///
    /// # Errors
    /// Where the accepted roles have not signed the image, or a role on the lookup's path is bad,
    /// gone, could not be had or was not loaded.
    pub fn find(
        &self,
        lookup: &Lookup,
        image: Image<'_>,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        self.search(now)?.evaluate(lookup, image).map_err(|halt| refusal(halt, image))
    }

    /// Whether the accepted roles have signed this tag at all, for whatever image.
    ///
    /// # Errors
    /// As for [`Repository::find`], but for the digest and size.
    pub fn signs_tag(
        &self,
        lookup: &Lookup,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let nothing = nobodys_digest();
        let image = Image { reference, digest: &nothing, size: None, manifest: None };
        match self.search(now)?.evaluate(lookup, image) {
            Ok(_)
            | Err(Halt::Manifest | Halt::Refused(Refusal::Denied(Denial::DigestMismatch { .. }))) => {
                Ok(())
            }
            Err(halt) => Err(refusal(halt, image)),
        }
    }

    /// Whether the image's roles have to be loaded first: see [`super::Update::want`].
    pub fn needs_roles(&self, lookup: &Lookup, image: Image<'_>, now: Timestamp) -> bool {
        let evaluate = |mut search: Search<'_>| search.evaluate(lookup, image);
        matches!(self.search(now).map(evaluate), Ok(Err(Halt::Missing(_))))
    }

    /// Whether the image's manifest has to be known first: its target lists no hash of the
    /// digest's algorithm.
    pub fn needs_manifest(&self, lookup: &Lookup, image: Image<'_>, now: Timestamp) -> bool {
        let evaluate = |mut search: Search<'_>| search.evaluate(lookup, image);
        matches!(self.search(now).map(evaluate), Ok(Err(Halt::Manifest)))
    }

    /// A target file by its name, by whichever role answers for it; `None` where none does.
    ///
    /// # Errors
    /// Where a role on its path is bad, expired, could not be had or was not loaded.
    pub fn target(&self, name: &str, now: Timestamp) -> Result<Option<Target>, Refusal> {
        let mut search = self.search(now)?;
        match search.resolve(name) {
            Ok(hit) => Ok(hit.ok().map(|hit| Target::new(&hit.role, hit.entry))),
            Err(Halt::Refused(refusal)) => Err(refusal),
            Err(Halt::Missing(needs)) => {
                Err(not_loaded(needs.first().map_or("", |need| &need.role)).into())
            }
            Err(Halt::Manifest) => Ok(None),
        }
    }

    fn search(&self, now: Timestamp) -> Result<Search<'_>, Denial> {
        let mut search = Search {
            tree: &self.tree,
            max_delegations: self.max_delegations,
            now,
            expires: Timestamp::MAX,
            effort: Rc::default(),
        };
        search.rely_on("root", self.root.header.expires)?;
        search.rely_on("timestamp", self.timestamp.header.expires)?;
        search.rely_on("snapshot", self.snapshot.header.expires)?;
        Ok(search)
    }
}

/// Signed for an image that nobody has: every other check is made.
pub(super) fn nobodys_digest() -> Digest {
    Digest::sha256(b"")
}

fn refusal(halt: Halt, image: Image<'_>) -> Refusal {
    match halt {
        Halt::Refused(refusal) => refusal,
        Halt::Missing(needs) => not_loaded(needs.first().map_or("", |need| &need.role)).into(),
        Halt::Manifest => {
            let wanted = format!("{} by {}", describe(image), image.digest);
            Denial::Unsigned { wanted, looked_in: Vec::new() }.into()
        }
    }
}

fn describe(image: Image<'_>) -> String {
    match by_tag(image.reference) {
        Some(tag) => format!("tag \"{tag}\""),
        None => format!("digest {}", image.digest),
    }
}

/// The tag, where it is what counts.
fn by_tag(reference: &Reference) -> Option<&str> {
    reference.tag().filter(|_| reference.digest().is_none())
}

impl<'t> Search<'t> {
    fn rely_on(&mut self, role: &str, expires: Timestamp) -> Result<(), Denial> {
        if expires <= self.now {
            let (role, now) = (role.to_owned(), self.now);
            return Err(Denial::Expired { role, expired: expires, now });
        }
        self.expires = self.expires.min(expires);
        Ok(())
    }

    /// The proof that accepted roles have signed the image, or what is missing.
    pub(super) fn evaluate(&mut self, lookup: &Lookup, image: Image<'_>) -> Result<Proof, Halt> {
        let image = Image { digest: image.reference.digest().unwrap_or(image.digest), ..image };
        if let Some(tag) = by_tag(image.reference) {
            let name = lookup.target.for_tag(image.reference, tag);
            return self.prove(lookup, image, &name);
        }
        self.prove_digest(lookup, image)
    }

    /// A digest is signed if some name that the templates give resolves to it, shadowing included.
    fn prove_digest(&mut self, lookup: &Lookup, image: Image<'_>) -> Result<Proof, Halt> {
        let mut found = Found::default();
        let base = self.expires;
        if let Some(template) = &lookup.digest_target {
            let name = template.for_digest(image.reference, image.digest);
            if let Some(proved) = found.note(self.prove(lookup, image, &name)) {
                return proved;
            }
        }
        let components = lookup.target.components(image.reference);
        let parts: Vec<Option<&str>> = components.iter().map(Option::as_deref).collect();
        let (roles, bad) = self.tree.survey(&parts, &self.effort, self.max_delegations)?;
        let (names, unknown) = names_of(&roles, &components, image);
        if names.len() > limits::DIGEST_TAGS {
            let what = format!("the number of targets of digest {}", image.digest);
            return Err(Denial::LimitExceeded { what, limit: limits::DIGEST_TAGS as u64 }.into());
        }
        for name in names {
            self.expires = base;
            if let Some(proved) = found.note(self.prove(lookup, image, name)) {
                return proved;
            }
        }
        if unknown || found.manifest {
            return Err(Halt::Manifest);
        }
        // What may have signed it and cannot be read is the cause, rather than that nobody has.
        let wanted = describe(image);
        let unsigned = || Denial::Unsigned { wanted, looked_in: looked_in(lookup) }.into();
        Err(Halt::Refused(found.refusal.or(bad).unwrap_or_else(unsigned)))
    }

    /// The proof that accepted roles have signed the image under this name.
    fn prove(&mut self, lookup: &Lookup, image: Image<'_>, name: &str) -> Result<Proof, Halt> {
        match &lookup.accept {
            Accept::Any(accepted) => {
                let hit = match self.resolve(name)? {
                    Ok(hit) => hit,
                    Err(looked_in) => {
                        return Err(Denial::Unsigned { wanted: describe(image), looked_in }.into());
                    }
                };
                if !accepted.iter().any(|role| role == "*" || *role == hit.role) {
                    let (wanted, role) = (describe(image), hit.role);
                    return Err(Denial::UntrustedSigner { wanted, role }.into());
                }
                check(&hit, image, name)?;
                self.proof(image, &hit.role, name, hit.signers)
            }
            Accept::All(required) => self.prove_by_all(required, image, name),
        }
    }

    /// Clause 5.6.7: the first role in order that has the name answers for it; else the roles that
    /// were looked in, as a refusal lists them.
    fn resolve(&mut self, name: &str) -> Result<Result<Hit<'t>, Vec<String>>, Halt> {
        let (mut hit, mut looked_in) = (None, Vec::new());
        self.walk(name, |role_name, role| {
            looked_in.push(role_name.to_owned());
            hit = hit_in(role_name, role, name);
            hit.is_some()
        })?;
        Ok(hit.ok_or_else(|| listed(looked_in.into_iter())))
    }

    /// Every required role's own entry, however the name is shadowed: none falls back on another.
    fn prove_by_all(
        &mut self,
        required: &[String],
        image: Image<'_>,
        name: &str,
    ) -> Result<Proof, Halt> {
        let mut seen = BTreeMap::new();
        self.walk(name, |role_name, role| {
            if required.iter().any(|role| role == role_name) {
                seen.insert(role_name.to_owned(), hit_in(role_name, role, name));
            }
            required.iter().all(|role| seen.contains_key(role))
        })?;
        let mut keys = BTreeSet::new();
        for role in required {
            let wanted = describe(image);
            let hit = match seen.get(role) {
                Some(Some(hit)) => hit,
                Some(None) => {
                    let looked_in = vec![role.clone()];
                    return Err(Denial::Unsigned { wanted, looked_in }.into());
                }
                None => return Err(Denial::NotDelegated { role: role.clone(), wanted }.into()),
            };
            check(hit, image, name)?;
            keys.extend(hit.signers.iter().copied());
        }
        self.proof(image, &required.join(", "), name, &keys)
    }

    fn walk(
        &mut self,
        name: &str,
        mut is_enough: impl FnMut(&str, &'t Role) -> bool,
    ) -> Result<(), Halt> {
        let (tree, max_delegations) = (self.tree, self.max_delegations);
        let effort = Rc::clone(&self.effort);
        tree.walk(&Name::new(name), &effort, max_delegations, |role_name, role| {
            self.rely_on(role_name, role.header.expires)?;
            Ok(is_enough(role_name, role))
        })
    }

    fn proof(
        &self,
        image: Image<'_>,
        role: &str,
        name: &str,
        keys: &BTreeSet<KeyFingerprint>,
    ) -> Result<Proof, Halt> {
        let (digest, name) = (image.digest.clone(), name.to_owned());
        Proof::new(digest, role.to_owned(), name, keys.clone(), self.expires).ok_or_else(|| {
            let looked_in = vec![role.to_owned()];
            Denial::Unsigned { wanted: describe(image), looked_in }.into()
        })
    }
}

/// What came of the names of one digest that did not prove it.
#[derive(Default)]
struct Found {
    /// The first that says more than that it is not signed.
    refusal: Option<Refusal>,
    manifest: bool,
}

impl Found {
    /// The answer, where there is no need to go on.
    fn note(&mut self, proved: Result<Proof, Halt>) -> Option<Result<Proof, Halt>> {
        match proved {
            Err(Halt::Refused(Refusal::Denied(Denial::Unsigned { .. }))) => {}
            Err(Halt::Refused(refusal)) => {
                self.refusal.get_or_insert(refusal);
            }
            Err(Halt::Manifest) => self.manifest = true,
            answer => return Some(answer),
        }
        None
    }
}

fn looked_in(lookup: &Lookup) -> Vec<String> {
    match &lookup.accept {
        Accept::Any(roles) if roles.iter().any(|role| role == "*") => vec!["any role".to_owned()],
        Accept::Any(roles) | Accept::All(roles) => roles.clone(),
    }
}

fn hit_in<'t>(role_name: &str, role: &'t Role, name: &str) -> Option<Hit<'t>> {
    let entry = role.content.entries.get(name)?;
    Some(Hit { role: role_name.to_owned(), entry, signers: &role.signers })
}

/// The names of these components that some role signs for the image's digest, and whether there
/// are others of which the manifest would tell.
fn names_of<'t>(
    roles: &[&'t Role],
    components: &[Option<String>],
    image: Image<'_>,
) -> (BTreeSet<&'t str>, bool) {
    let known = components.iter().map_while(Option::as_deref);
    let prefix: String = known.flat_map(|component| [component, "/"]).collect();
    let (mut names, mut unknown) = (BTreeSet::new(), false);
    for role in roles {
        let entries = role.content.entries.beginning_with(&prefix);
        for (name, entry) in entries.filter(|(name, _)| Template::gives(components, name)) {
            match compare(entry, image) {
                Match::Same => drop(names.insert(name)),
                Match::Unknown => unknown = true,
                Match::Other { .. } | Match::Nothing => {}
            }
        }
    }
    (names, unknown)
}

fn check(hit: &Hit<'_>, image: Image<'_>, name: &str) -> Result<(), Halt> {
    match compare(hit.entry, image) {
        Match::Same => Ok(()),
        Match::Unknown => Err(Halt::Manifest),
        Match::Nothing => {
            let looked_in = vec![hit.role.clone()];
            Err(Denial::Unsigned { wanted: describe(image), looked_in }.into())
        }
        Match::Other { signed, found } => {
            let name = by_tag(image.reference).unwrap_or(name).to_owned();
            Err(Denial::DigestMismatch { role: hit.role.clone(), name, signed, found }.into())
        }
    }
}

/// A lookup that an update has to load the roles for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) lookup: Arc<Lookup>,
    pub(super) reference: Reference,
    pub(super) digest: Digest,
}
