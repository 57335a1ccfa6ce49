//! The chain of roots, from the highest one that pinned keys alone sign up to the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::certificate::{Unfit, chains_to, check_bundle};
use super::key::Key;
use super::metadata::{Envelope, FileMeta, Root};
use super::pin::{Pin, PinnedKeys};
use super::role::RoleKeys;
use super::{Memory, RootFloor};
use crate::limits;
use crate::outcome::{Denial, KeyFingerprint};
use crate::threshold::{Sealed, Verifier};

const FILE: &str = "root";

/// What roots are judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) pin: &'a Pin,
    pub(super) repository: &'a str,
    pub(super) memory: &'a Memory,
    pub(super) now: Timestamp,
}

/// The newest root, shown to be the pinned keys' own or their successors'.
#[derive(Debug)]
pub(super) struct TrustedRoot {
    pub(super) root: Root,
    pub(super) file: FileMeta,
    /// Until when enough of the certificates that it rests on are valid.
    pub(super) certified_until: Timestamp,
    /// The version that pinned keys alone sign.
    pub(super) start: u64,
    /// The newest root's own keys that signed it.
    pub(super) signers: BTreeSet<KeyFingerprint>,
}

/// What a walk has come to.
pub(super) enum Progress {
    Trusted(Box<TrustedRoot>),
    /// Older roots are needed, of these versions.
    Needs(Box<Walk>, RangeInclusive<u64>),
}

/// A walk under way: down from the newest root, every step checked as it is taken.
#[derive(Debug)]
pub(super) struct Walk {
    newest: RootFile,
    /// The lowest root so far, where it is not the newest.
    lowest: Option<RootFile>,
    asked: RangeInclusive<u64>,
}

/// One root file, signed by its own threshold of keys that keep to the certificate rules.
#[derive(Debug)]
struct RootFile {
    root: Root,
    sealed: Sealed,
    file: FileMeta,
    /// The root keys that keep to the rules, and their certificates' NotAfter by key id.
    keys: RoleKeys,
    not_after: BTreeMap<String, Timestamp>,
}

impl Walk {
    /// Starts at the newest root.
    pub(super) fn start(judge: Judge<'_>, bytes: &[u8]) -> Result<Progress, Denial> {
        let newest = RootFile::read(judge, bytes, None)?;
        if let Some(until) = newest.pinned_until(judge, true) {
            return Ok(Progress::trusted(newest, None, until));
        }
        let version = newest.version();
        let walk = Self { newest, lowest: None, asked: version..=version };
        walk.next_batch(judge)
    }

    /// Goes on with the versions asked for.
    pub(super) fn older(
        mut self,
        judge: Judge<'_>,
        files: &BTreeMap<u64, Vec<u8>>,
    ) -> Result<Progress, Denial> {
        for version in self.asked.clone().rev() {
            let bytes = files.get(&version).ok_or_else(|| self.not_pinned(judge))?;
            let file = RootFile::read(judge, bytes, Some(version))?;
            self.lowest().check_successor_of(&file)?;
            if file.pinned_until(judge, false).is_some() {
                let until = self.newest.signed_until(self.newest.root.root.threshold(), |id, _| {
                    self.newest.not_after.get(id).copied()
                });
                let until = until.ok_or_else(|| self.not_pinned(judge))?;
                return Ok(Progress::trusted(self.newest, Some(version), until));
            }
            self.lowest = Some(file);
        }
        self.next_batch(judge)
    }

    fn lowest(&self) -> &RootFile {
        self.lowest.as_ref().unwrap_or(&self.newest)
    }

    fn next_batch(mut self, judge: Judge<'_>) -> Result<Progress, Denial> {
        let end = self.lowest().version() - 1;
        if end == 0 {
            return Err(self.not_pinned(judge));
        }
        let left = limits::ROOT_ROTATIONS.saturating_sub(self.newest.version() - 1 - end);
        if left == 0 {
            return Err(Denial::LimitExceeded {
                what: "the number of root rotations since a root signed by pinned keys".to_owned(),
                limit: limits::ROOT_ROTATIONS,
            });
        }
        let size = limits::ROOT_BATCH.min(left).min(end);
        self.asked = end - size + 1..=end;
        let asked = self.asked.clone();
        Ok(Progress::Needs(Box::new(self), asked))
    }

    fn not_pinned(&self, judge: Judge<'_>) -> Denial {
        let found = self.newest.root.root.fingerprints();
        Denial::RootNotPinned {
            repository: judge.repository.to_owned(),
            pin: Some(judge.pin.name.clone()),
            more: found.len().saturating_sub(limits::LISTED),
            found: found.into_iter().take(limits::LISTED).collect(),
        }
    }
}

impl Progress {
    fn trusted(newest: RootFile, start: Option<u64>, certified_until: Timestamp) -> Self {
        let start = start.unwrap_or(newest.version());
        let signers = newest.keys.signers(&newest.sealed);
        let RootFile { root, file, .. } = newest;
        Self::Trusted(Box::new(TrustedRoot { root, file, certified_until, start, signers }))
    }
}

impl TrustedRoot {
    pub(super) fn floor(&self) -> RootFloor {
        RootFloor {
            version: self.root.header.version,
            sha256: self.file.sha256_hex(),
            signers: None,
        }
    }
}

impl RootFile {
    /// Reads a root: the newest, or an older one of the version that its name tells.
    fn read(judge: Judge<'_>, bytes: &[u8], version: Option<u64>) -> Result<Self, Denial> {
        let envelope = Envelope::read(FILE, bytes, limits::ROOT_BYTES)?;
        let root = Root::read(&envelope)?;
        let file = FileMeta::of(bytes);
        check_version(&root, &file, version, judge.memory)?;
        let mut not_after = BTreeMap::new();
        let mut unfit: Option<Unfit> = None;
        for (id, key) in root.root.iter() {
            match check_bundle(key.certificates(), judge, version.is_none()) {
                Ok(until) => drop(not_after.insert(id.to_owned(), until)),
                Err(reason) => unfit = unfit.or(Some(reason)),
            }
        }
        let keys = root.root.filter(|id, _| not_after.contains_key(id));
        if let Err(too_few) = keys.verify(FILE, &envelope.sealed) {
            // Where the signatures are there but their keys do not count, the rule is the cause.
            return Err(match unfit {
                Some(unfit) if root.root.verify(FILE, &envelope.sealed).is_ok() => {
                    unfit.denial(judge.now)
                }
                _ => too_few,
            });
        }
        Ok(Self { root, sealed: envelope.sealed, file, keys, not_after })
    }

    fn version(&self) -> u64 {
        self.root.header.version
    }

    /// notary-v1 rule 12: signed by the predecessor's threshold too.
    fn check_successor_of(&self, older: &Self) -> Result<(), Denial> {
        let (version, predecessor) = (self.version(), older.version());
        let role = format!("root {version}, by the keys of root {predecessor},");
        older.keys.verify(&role, &self.sealed).map(drop)
    }

    /// Whether pinned keys alone meet both the root's threshold and the pin's; if so, until when.
    fn pinned_until(&self, judge: Judge<'_>, is_final: bool) -> Option<Timestamp> {
        let pinned: Vec<KeyFingerprint> = match &judge.pin.keys {
            PinnedKeys::PublicKeys { keys, .. } => {
                keys.iter().map(|key| KeyFingerprint(super::sha256(key))).collect()
            }
            _ => Vec::new(),
        };
        let until = |id: &str, key: &Key| {
            let not_after = self.not_after.get(id).copied()?;
            match &judge.pin.keys {
                PinnedKeys::PublicKeys { .. } => {
                    pinned.contains(&key.fingerprint()?).then_some(not_after)
                }
                PinnedKeys::RootKeyIds { ids, .. } => {
                    ids.iter().any(|pinned| pinned == id).then_some(not_after)
                }
                PinnedKeys::CertificateAuthorities(authorities) => {
                    chains_to(authorities, key.certificates(), judge.now, is_final)
                }
            }
        };
        self.signed_until(self.root.root.threshold().max(judge.pin.threshold()), until)
    }

    /// Until when at least `threshold` signers' keys hold, of those keys for which `until` tells a
    /// time; `None` where there are not as many signers.
    fn signed_until(
        &self,
        threshold: u64,
        until: impl Fn(&str, &Key) -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        let mut times = BTreeMap::new();
        let signed = |id: &str| self.sealed.signatures.iter().any(|it| it.key_id == id);
        let keys = self.keys.filter(|id, key| {
            // Chains of certificates are worth building for signers only.
            if !signed(id) {
                return false;
            }
            let (Some(until), Some(fingerprint)) = (until(id, key), key.fingerprint()) else {
                return false;
            };
            let time = times.entry(fingerprint).or_insert(until);
            *time = until.min(*time);
            true
        });
        let signers = keys.signers(&self.sealed);
        let mut times: Vec<_> = signers.iter().filter_map(|key| times.get(key).copied()).collect();
        times.sort_by(|a, b| b.cmp(a));
        let last = usize::try_from(threshold).ok()?.checked_sub(1)?;
        times.get(last).copied()
    }
}

fn check_version(
    root: &Root,
    file: &FileMeta,
    named: Option<u64>,
    memory: &Memory,
) -> Result<(), Denial> {
    let found = root.header.version;
    let malformed = |reason| Err(Denial::MalformedMetadata { file: FILE.to_owned(), reason });
    if let Some(named) = named.filter(|named| *named != found) {
        return malformed(format!("{named}.root.json is of version {found}"));
    }
    let Some(floor) = &memory.root else { return Ok(()) };
    if named.is_none() && found < floor.version {
        let remembered = floor.version;
        return Err(Denial::Rollback { role: FILE.to_owned(), found, remembered });
    }
    let sha256 = file.sha256_hex();
    if found == floor.version && sha256 != floor.sha256 {
        let seen = &floor.sha256;
        return malformed(format!(
            "version {found} has sha256 {sha256}, and {seen} was seen before"
        ));
    }
    Ok(())
}
