//! Looking an image up in a repository's verified roles.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::metadata::Entry;
use super::repository::{Repository, Role, RoleState, unpublished};
use super::role::{RELEASES, TARGETS};
use super::update::check_expiry;
use super::{Lookup, Wanted};
use crate::image::{Algorithm, Digest, is_tag};
use crate::limits;
use crate::outcome::{Denial, KeyFingerprint, Proof, Refusal};

/// An entry, in the role that answers for its name.
struct Hit<'r> {
    role: &'r str,
    entry: &'r Entry,
    signers: &'r BTreeSet<KeyFingerprint>,
}

/// How an entry compares with an image.
enum Match {
    Same,
    /// It is signed for this other digest.
    Other(String),
    /// It lists no hash of the wanted algorithm.
    Unknown,
}

/// The roles of one lookup that were relied on, each held to its expiry.
struct Trail {
    now: Timestamp,
    expires: Timestamp,
}

impl Trail {
    fn rely_on(&mut self, role: &str, expires: Timestamp) -> Result<(), Denial> {
        check_expiry(role, expires, self.now)?;
        self.expires = self.expires.min(expires);
        Ok(())
    }
}

impl Repository {
    /// Looks an image up. Every expiry of the chain that the answer rests on is checked against
    /// `now`.
    ///
    /// # Errors
    /// Where the accepted roles have not signed the image, or a role on the lookup's path is bad,
    /// gone or could not be had.
    pub fn find(
        &self,
        lookup: &Lookup,
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        match (lookup, wanted) {
            (Lookup::Docker, Wanted::Tag { tag, digest, size }) => {
                self.docker_tag(tag, digest, size, now)
            }
            (Lookup::Docker, Wanted::Digest { digest }) => self.docker_digest(digest, now),
            (Lookup::RequireRoles(roles), _) => self.required(roles, wanted, now),
        }
    }

    /// Whether the accepted roles have signed this tag at all, for whatever image.
    ///
    /// # Errors
    /// As for [`Repository::find`], but for the digest and size.
    pub fn signs_tag(&self, lookup: &Lookup, tag: &str, now: Timestamp) -> Result<(), Refusal> {
        // Signed for an image that nobody has: every other check is made.
        let nothing = Digest::sha256(b"");
        match self.find(lookup, Wanted::Tag { tag, digest: &nothing, size: None }, now) {
            Ok(_) | Err(Refusal::Denied(Denial::DigestMismatch { .. })) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn trail(&self, now: Timestamp) -> Result<Trail, Denial> {
        let mut trail = Trail { now, expires: Timestamp::MAX };
        trail.rely_on("root", self.base.root.expires)?;
        trail.rely_on("timestamp", self.base.timestamp.expires)?;
        trail.rely_on("snapshot", self.base.snapshot.expires)?;
        Ok(trail)
    }

    /// A role that has to be good; `None` if it was never published.
    fn good(&self, name: &str, trail: &mut Trail) -> Result<Option<&Role>, Refusal> {
        match self.roles.get(name) {
            Some(RoleState::Good(role)) => {
                trail.rely_on(name, role.standing.expires)?;
                Ok(Some(role))
            }
            Some(RoleState::Bad(refusal)) => Err(refusal.clone()),
            Some(RoleState::Unpublished) => Ok(None),
            None => Err(unpublished(name).into()),
        }
    }

    fn targets(&self, trail: &mut Trail) -> Result<&Role, Refusal> {
        self.good(TARGETS, trail)?.ok_or_else(|| unpublished(TARGETS).into())
    }

    /// notary-v1 rule 17, the ordinary lookup of a name: the subtree of `targets/releases`, then
    /// `targets`. What shadows an entry, or could and cannot be read, decides.
    fn resolve(&self, name: &str, trail: &mut Trail) -> Result<Option<Hit<'_>>, Refusal> {
        let targets = self.targets(trail)?;
        match targets.delegation(RELEASES) {
            Some(releases) if releases.covers(name) => {
                if let Some(hit) = self.resolve_under(&releases.name, name, trail)? {
                    return Ok(Some(hit));
                }
            }
            _ => {}
        }
        Ok(hit(TARGETS, targets, name))
    }

    /// Pre-order. Recursion ends with [`crate::limits::DELEGATION_DEPTH`]: no deeper role is good.
    fn resolve_under<'r>(
        &'r self,
        role_name: &'r str,
        name: &str,
        trail: &mut Trail,
    ) -> Result<Option<Hit<'r>>, Refusal> {
        let role = match self.good(role_name, trail)? {
            Some(role) => role,
            // notary-v1 rule 16, the sole exception.
            None if role_name == RELEASES => return Ok(None),
            None => return Err(unpublished(role_name).into()),
        };
        if let Some(hit) = hit(role_name, role, name) {
            return Ok(Some(hit));
        }
        for delegation in role.delegations.iter().filter(|delegation| delegation.covers(name)) {
            if let Some(hit) = self.resolve_under(&delegation.name, name, trail)? {
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    fn docker_tag(
        &self,
        tag: &str,
        digest: &Digest,
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        let mut trail = self.trail(now)?;
        let wanted = format!("tag \"{tag}\"");
        let Some(hit) = self.resolve(tag, &mut trail)? else {
            let signed =
                |role: &Role| role.entries.get(tag).is_some_and(|entry| is_same(entry, digest));
            return Err(self.unsigned(wanted, signed).into());
        };
        if !is_accepted(hit.role) {
            return Err(Denial::UntrustedSigner { wanted, role: hit.role.to_owned() }.into());
        }
        check_entry(&hit, tag, digest, size)?;
        proof(digest, hit.role, tag, hit.signers, trail.expires)
    }

    /// A digest is signed if some tag resolves to it in an accepted role, shadowing included.
    fn docker_digest(&self, digest: &Digest, now: Timestamp) -> Result<Proof, Refusal> {
        let mut refusal = None;
        let mut tried = BTreeSet::new();
        for role in [RELEASES, TARGETS] {
            let Some(RoleState::Good(role)) = self.roles.get(role) else { continue };
            let names = names_of(role, digest).filter(|name| tried.insert(*name));
            for (count, name) in names.enumerate() {
                if count == limits::DIGEST_TAGS {
                    let what = format!("the number of tags of digest {digest}");
                    let limit = limits::DIGEST_TAGS as u64;
                    return Err(Denial::LimitExceeded { what, limit }.into());
                }
                let mut trail = self.trail(now)?;
                match self.resolve(name, &mut trail) {
                    Ok(Some(hit)) if is_accepted(hit.role) && is_same(hit.entry, digest) => {
                        return proof(digest, hit.role, name, hit.signers, trail.expires);
                    }
                    Ok(_) => {}
                    Err(found) => refusal = refusal.or(Some(found)),
                }
            }
        }
        // What may have signed it and cannot be read is the cause, rather than that nobody has.
        let mut trail = self.trail(now)?;
        let targets = self.targets(&mut trail)?;
        if targets.delegation(RELEASES).is_some() {
            self.good(RELEASES, &mut trail)?;
        }
        let unsigned = || {
            let signed = |role: &Role| role.entries.iter().any(|(_, entry)| is_same(entry, digest));
            self.unsigned(format!("digest {digest}"), signed).into()
        };
        Err(refusal.unwrap_or_else(unsigned))
    }

    /// That no accepted role has signed it; names another role that has, if there is one.
    fn unsigned(&self, wanted: String, signed: impl Fn(&Role) -> bool) -> Denial {
        let other = self.roles.iter().find(|(name, state)| {
            !is_accepted(name) && matches!(state, RoleState::Good(role) if signed(role))
        });
        if let Some((role, _)) = other {
            return Denial::UntrustedSigner { wanted, role: role.clone() };
        }
        let mut looked_in = vec![TARGETS.to_owned()];
        if self.roles.contains_key(RELEASES) {
            looked_in.insert(0, RELEASES.to_owned());
        }
        Denial::Unsigned { wanted, looked_in }
    }

    fn required(
        &self,
        roles: &[String],
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        let mut trail = self.trail(now)?;
        let mut keys = BTreeSet::new();
        let mut names = BTreeSet::new();
        let (Wanted::Tag { digest, .. } | Wanted::Digest { digest }) = wanted;
        for role in roles {
            let (name, hit) = self.required_hit(role, wanted, &mut trail)?;
            keys.extend(hit.signers.iter().copied());
            names.insert(name);
        }
        let names: Vec<&str> = names.into_iter().collect();
        proof(digest, &roles.join(", "), &names.join(", "), &keys, trail.expires)
    }

    /// One required role's own entry, within the paths of the chain that delegates to it.
    fn required_hit<'r>(
        &'r self,
        role_name: &'r str,
        wanted: Wanted<'r>,
        trail: &mut Trail,
    ) -> Result<(&'r str, Hit<'r>), Refusal> {
        let text = describe(wanted);
        let not_delegated =
            || Denial::NotDelegated { role: role_name.to_owned(), wanted: text.clone() };
        let unsigned =
            || Denial::Unsigned { wanted: text.clone(), looked_in: vec![role_name.to_owned()] };
        let mut role = self.targets(trail)?;
        let mut paths = None;
        if role_name != TARGETS {
            let below = role_name.strip_prefix("targets/").ok_or_else(not_delegated)?;
            let start = role_name.len() - below.len();
            let ends = below.match_indices('/').map(|(at, _)| start + at).chain([role_name.len()]);
            for end in ends {
                let name = &role_name[..end];
                let delegation = role.delegation(name).ok_or_else(not_delegated)?;
                paths = Some(delegation);
                role = match self.good(name, trail)? {
                    Some(role) => role,
                    None if end == role_name.len() => return Err(unsigned().into()),
                    None => return Err(not_delegated().into()),
                };
            }
        }
        let covered = |name: &str| paths.is_none_or(|delegation| delegation.covers(name));
        match wanted {
            Wanted::Tag { tag, digest, size } => {
                if !covered(tag) {
                    return Err(not_delegated().into());
                }
                let hit = hit(role_name, role, tag).ok_or_else(unsigned)?;
                check_entry(&hit, tag, digest, size)?;
                Ok((tag, hit))
            }
            Wanted::Digest { digest } => {
                let name = names_of(role, digest).find(|name| covered(name));
                let name = name.ok_or_else(unsigned)?;
                Ok((name, hit(role_name, role, name).ok_or_else(unsigned)?))
            }
        }
    }
}

fn is_accepted(role: &str) -> bool {
    role == RELEASES || role == TARGETS
}

fn describe(wanted: Wanted<'_>) -> String {
    match wanted {
        Wanted::Tag { tag, .. } => format!("tag \"{tag}\""),
        Wanted::Digest { digest } => format!("digest {digest}"),
    }
}

fn hit<'r>(role_name: &'r str, role: &'r Role, name: &str) -> Option<Hit<'r>> {
    let entry = role.entries.get(name)?;
    Some(Hit { role: role_name, entry, signers: &role.standing.signers })
}

/// The tags that a role itself signs for a digest.
fn names_of<'r>(role: &'r Role, digest: &'r Digest) -> impl Iterator<Item = &'r str> {
    let same = role.entries.iter().filter(|(_, entry)| is_same(entry, digest));
    // Entries of any other name are not images of this repository.
    same.map(|(name, _)| name).filter(|name| is_tag(name))
}

fn compare(entry: &Entry, digest: &Digest) -> Match {
    let (algorithm, hash) = listed(entry, digest.algorithm());
    match hash {
        None => Match::Unknown,
        Some(hash) if is_hex_of(digest.hex(), hash) => Match::Same,
        Some(hash) => Match::Other(format!("{algorithm}:{}", super::hex(hash))),
    }
}

fn is_same(entry: &Entry, digest: &Digest) -> bool {
    let (_, hash) = listed(entry, digest.algorithm());
    hash.is_some_and(|hash| is_hex_of(digest.hex(), hash))
}

/// The algorithm's name, and the entry's hash by it.
fn listed(entry: &Entry, algorithm: Algorithm) -> (&'static str, Option<&[u8]>) {
    match algorithm {
        Algorithm::Sha256 => ("sha256", entry.sha256.as_ref().map(<[u8; 32]>::as_slice)),
        Algorithm::Sha512 => ("sha512", entry.sha512.as_ref().map(|hash| hash.as_slice())),
    }
}

/// Compares without allocating: a digest is looked for among all of a role's entries.
fn is_hex_of(hex: &str, hash: &[u8]) -> bool {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    hex.bytes().eq(digits.map(|digit| DIGITS[usize::from(digit)]))
}

fn check_entry(hit: &Hit<'_>, tag: &str, digest: &Digest, size: Option<u64>) -> Result<(), Denial> {
    let mismatch = |signed: String, found: String| {
        let (role, name) = (hit.role.to_owned(), tag.to_owned());
        Err(Denial::DigestMismatch { role, name, signed, found })
    };
    match compare(hit.entry, digest) {
        Match::Same => {}
        Match::Other(signed) => return mismatch(signed, digest.to_string()),
        Match::Unknown => {
            let wanted = format!("tag \"{tag}\" by {digest}");
            return Err(Denial::Unsigned { wanted, looked_in: vec![hit.role.to_owned()] });
        }
    }
    match size {
        Some(size) if size != hit.entry.length => {
            mismatch(format!("{} bytes", hit.entry.length), format!("{size} bytes"))
        }
        _ => Ok(()),
    }
}

fn proof(
    digest: &Digest,
    role: &str,
    name: &str,
    signers: &BTreeSet<KeyFingerprint>,
    expires: Timestamp,
) -> Result<Proof, Refusal> {
    Proof::new(digest.clone(), role.to_owned(), name.to_owned(), signers.clone(), expires)
        .ok_or_else(|| {
            let wanted = format!("digest {digest}");
            Denial::Unsigned { wanted, looked_in: vec![role.to_owned()] }.into()
        })
}
