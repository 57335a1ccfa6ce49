//! What a root says of its keys before anything is trusted: for the person who is to pin them.

use jiff::Timestamp;

use super::certificate::describe;
use super::metadata::{Envelope, Root};
use crate::limits;
use crate::outcome::{Denial, KeyFingerprint};

/// A root key as a root file lists it. Nothing here is verified: whoever pins it must know from
/// elsewhere that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// Its id, in hex.
    pub id: String,
    /// What identifies the key in proofs, denials and pins.
    pub fingerprint: KeyFingerprint,
    /// Its DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// The CN of its certificate: the repository, as its owner named it.
    pub common_name: Option<String>,
    /// The NotAfter of its certificate.
    pub not_after: Option<Timestamp>,
    /// Whether this key has signed the file that lists it.
    pub signed: bool,
}

/// The usable root keys of a `root.json`, by id.
///
/// # Errors
/// Where the file is malformed or over a limit.
pub fn listed_root_keys(bytes: &[u8]) -> Result<Vec<ListedKey>, Denial> {
    let envelope = Envelope::read("root", bytes, limits::ROOT_BYTES)?;
    let root = Root::read(&envelope)?.root;
    let signers = root.signers(&envelope);
    let listed = root.iter().filter_map(|(id, key)| {
        let fingerprint = key.fingerprint()?;
        let (common_name, not_after) = describe(key.certificates());
        Some(ListedKey {
            id: id.to_owned(),
            fingerprint,
            spki: key.spki()?.to_vec(),
            common_name,
            not_after,
            signed: signers.contains(&fingerprint),
        })
    });
    Ok(listed.collect())
}
