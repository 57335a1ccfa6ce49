//! A root's keys as it lists them, for people who are about to pin them.

use jiff::Timestamp;

use super::certificate::not_after;
use super::metadata::{Envelope, Root};
use crate::limits;
use crate::outcome::{Denial, KeyFingerprint};
use crate::threshold::Verifier;

/// What an untrusted root says of itself. Nothing follows from it but what to ask its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntrustedRoot {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Timestamp,
    /// How many of its keys must sign its successor.
    pub threshold: u64,
    /// Its keys.
    pub keys: Vec<UntrustedRootKey>,
}

/// A key of an [`UntrustedRoot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntrustedRootKey {
    /// What to compare with its owner.
    pub fingerprint: KeyFingerprint,
    /// The DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// When its certificate ends.
    pub not_after: Timestamp,
}

/// Reads a `root.json` that nothing vouches for.
///
/// # Errors
/// Where it is malformed, does not meet its own threshold, or lists a root key without a
/// certificate.
pub fn untrusted_root(bytes: &[u8]) -> Result<UntrustedRoot, Denial> {
    let envelope = Envelope::read("root", bytes, limits::ROOT_BYTES)?;
    let root = Root::read(&envelope)?;
    root.root.verify("root", &envelope.sealed)?;
    let keys = root.root.iter().map(|(id, key)| {
        let listed = key.spki().zip(key.fingerprint()).zip(not_after(key.certificates()));
        let ((public_key, fingerprint), not_after) =
            listed.ok_or_else(|| Denial::MalformedMetadata {
                file: "root".to_owned(),
                reason: format!("root key {id} has no certificate that can be read"),
            })?;
        Ok(UntrustedRootKey { fingerprint, public_key: public_key.to_owned(), not_after })
    });
    Ok(UntrustedRoot {
        version: root.header.version,
        expires: root.header.expires,
        threshold: root.root.threshold(),
        keys: keys.collect::<Result<_, Denial>>()?,
    })
}
