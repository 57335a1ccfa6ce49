//! Thresholds: how many distinct keys have signed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::hash::{hex, sha256};
use crate::outcome::{Denial, KeyFingerprint};
use crate::sorted::Sorted;

/// One signature of a file.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) key_id: String,
    /// How it was made, where the signature says so rather than the key; else empty.
    pub(crate) method: String,
    pub(crate) bytes: Vec<u8>,
}

/// What signatures cover, and the signatures.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) message: Vec<u8>,
    pub(crate) signatures: Vec<Signature>,
}

/// A key as a dialect lists it.
pub(crate) trait Verifier {
    /// What names the key under every id; `None` where it cannot be used.
    fn fingerprint(&self) -> Option<KeyFingerprint>;
    /// Whether the signature is the key's own over `message`.
    fn verifies(&self, message: &[u8], signature: &Signature) -> bool;
}

/// Who signs a role.
#[derive(Debug)]
pub(crate) struct RoleKeys<K> {
    keys: Sorted<Box<str>, Arc<K>>,
    threshold: u64,
}

impl<K> Clone for RoleKeys<K> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), threshold: self.threshold }
    }
}

impl<K: Verifier> RoleKeys<K> {
    /// By id; `threshold` is at least 1.
    pub(crate) fn new(keys: BTreeMap<String, Arc<K>>, threshold: u64) -> Self {
        Self { keys: keys.into(), threshold }
    }

    /// The same role with those keys only that `keep` accepts, by id.
    pub(crate) fn filter(&self, mut keep: impl FnMut(&str, &K) -> bool) -> Self {
        Self { keys: self.keys.filter(|id, key| keep(id, key)), threshold: self.threshold }
    }

    /// The role's threshold, at least 1.
    pub(crate) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// The keys that can be used, each once.
    pub(crate) fn fingerprints(&self) -> BTreeSet<KeyFingerprint> {
        self.keys.iter().filter_map(|(_, key)| key.fingerprint()).collect()
    }

    /// The memory that listing the keys takes, in bytes, without the keys.
    pub(crate) fn footprint(&self) -> usize {
        self.keys.footprint()
    }

    /// The keys by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &K)> {
        self.keys.iter().map(|(id, key)| (id, key.as_ref()))
    }

    /// Names the keys and the threshold: a floor holds while this stays the same.
    pub(crate) fn name(&self) -> String {
        let mut text = String::new();
        for (id, _) in self.keys.iter() {
            text.push_str(id);
            text.push('\n');
        }
        text.push_str(&self.threshold.to_string());
        hex(&sha256(text.as_bytes()))
    }

    /// The distinct keys with a valid signature.
    pub(crate) fn signers(&self, sealed: &Sealed) -> BTreeSet<KeyFingerprint> {
        let mut signers = BTreeSet::new();
        for signature in &sealed.signatures {
            let Some(key) = self.keys.get(&signature.key_id) else { continue };
            let Some(fingerprint) = key.fingerprint() else { continue };
            if !signers.contains(&fingerprint) && key.verifies(&sealed.message, signature) {
                signers.insert(fingerprint);
            }
        }
        signers
    }

    /// The distinct keys with a valid signature, if they meet the threshold.
    pub(crate) fn verify(
        &self,
        role: &str,
        sealed: &Sealed,
    ) -> Result<BTreeSet<KeyFingerprint>, Denial> {
        let signers = self.signers(sealed);
        if (signers.len() as u64) < self.threshold {
            return Err(Denial::ThresholdNotMet {
                role: role.to_owned(),
                found: signers.len(),
                wanted: self.threshold,
            });
        }
        Ok(signers)
    }
}
