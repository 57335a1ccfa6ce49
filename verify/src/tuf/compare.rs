//! Whether a signed target file is an image's manifest.

use super::Image;
use super::metadata::Entry;
use crate::hash::{hex, sha256, sha512};
use crate::image::Algorithm;

/// How an entry compares with an image.
pub(super) enum Match {
    Same,
    /// It is signed for this other image.
    Other {
        signed: String,
        found: String,
    },
    /// It lists no hash of the digest's algorithm, and the manifest is not known.
    Unknown,
    /// It lists no hash that is known here.
    Nothing,
}

pub(super) fn compare(entry: &Entry, image: Image<'_>) -> Match {
    let other = |signed: String, found: String| Match::Other { signed, found };
    let digest = image.digest;
    let (algorithm, listed) = match digest.algorithm() {
        Algorithm::Sha256 => ("sha256", entry.sha256.as_ref().map(|hash| hex(hash))),
        Algorithm::Sha512 => ("sha512", entry.sha512.as_ref().map(|hash| hex(&**hash))),
    };
    if let Some(listed) = &listed
        && listed != digest.hex()
    {
        return other(format!("{algorithm}:{listed}"), digest.to_string());
    }
    if entry.sha256.is_none() && entry.sha512.is_none() {
        return Match::Nothing;
    }
    // A manifest counts only where it is the one that the digest names.
    let manifest = image.manifest.filter(|manifest| digest.verifies(manifest));
    if listed.is_none() && manifest.is_none() {
        return Match::Unknown;
    }
    if let Some(manifest) = manifest {
        if let Some(signed) = entry.sha512.as_ref().filter(|hash| ***hash != sha512(manifest)) {
            return other(format!("sha512:{}", hex(&**signed)), digest.to_string());
        }
        if let Some(signed) = entry.sha256.filter(|hash| *hash != sha256(manifest)) {
            return other(format!("sha256:{}", hex(&signed)), digest.to_string());
        }
    }
    match manifest.map(|manifest| manifest.len() as u64).or(image.size) {
        Some(size) if size != entry.length => {
            other(format!("{} bytes", entry.length), format!("{size} bytes"))
        }
        _ => Match::Same,
    }
}
