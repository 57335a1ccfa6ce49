//! Pins: who may sign the roots of a source's repositories.

use crate::image::Pattern;
use crate::outcome::Denial;

/// Who may sign the roots of a source's repositories.
#[derive(Debug, Clone, Default)]
pub struct Pins(pub Vec<Pin>);

/// Who may sign the roots of some repositories.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Its name in the source.
    pub name: String,
    /// The repositories it speaks for.
    pub repositories: Vec<Pattern>,
    /// The keys.
    pub keys: PinnedKeys,
}

/// The keys of a pin.
#[derive(Debug, Clone)]
pub enum PinnedKeys {
    /// DER SubjectPublicKeyInfo of keys, so many of which must have signed.
    PublicKeys {
        /// Each key's DER SubjectPublicKeyInfo.
        keys: Vec<Vec<u8>>,
        /// At least 1.
        threshold: usize,
    },
    /// DER certificates of authorities that issue the root keys' certificates.
    CertificateAuthorities(Vec<Vec<u8>>),
    /// Key ids as root.json lists them.
    RootKeyIds {
        /// 64 lower-case hex digits each.
        ids: Vec<String>,
        /// At least 1.
        threshold: usize,
    },
}

impl Pins {
    /// The pin that speaks for a repository (`registry/repository`, normalised): the one with the
    /// most specific matching pattern, a literal name above all; of equals the first.
    ///
    /// # Errors
    /// [`Denial::RootNotPinned`] where no pin matches: there is no trust on first use.
    pub fn find(&self, repository: &str) -> Result<&Pin, Denial> {
        let rank = |pin: &Pin| {
            let matching = pin.repositories.iter().filter(|it| it.matches_name(repository));
            matching
                .map(|it| (it.literal_name().is_some(), it.specificity(), it.literal_bytes()))
                .max()
        };
        let mut best = None;
        for pin in &self.0 {
            let Some(rank) = rank(pin) else { continue };
            if best.is_none_or(|(highest, _)| rank > highest) {
                best = Some((rank, pin));
            }
        }
        best.map(|(_, pin)| pin).ok_or_else(|| Denial::RootNotPinned {
            repository: repository.to_owned(),
            pin: None,
            found: Vec::new(),
            more: 0,
        })
    }
}

impl Pin {
    /// sha256 in hex that names the pin's keys and threshold, in whatever order they are written:
    /// what a repository's [`super::Memory`] is kept under.
    pub fn anchor(&self) -> String {
        let hashes =
            |keys: &[Vec<u8>]| keys.iter().map(|key| super::hex(&super::sha256(key))).collect();
        let (kind, mut keys): (_, Vec<String>) = match &self.keys {
            PinnedKeys::PublicKeys { keys, .. } => ("publicKeys", hashes(keys)),
            PinnedKeys::CertificateAuthorities(keys) => ("certificateAuthorities", hashes(keys)),
            PinnedKeys::RootKeyIds { ids, .. } => ("rootKeyIDs", ids.clone()),
        };
        keys.sort();
        keys.dedup();
        let text = format!("{kind}\n{}\n{}", self.threshold(), keys.join("\n"));
        super::hex(&super::sha256(text.as_bytes()))
    }

    /// How many pinned keys must have signed: at least 1.
    pub(super) fn threshold(&self) -> u64 {
        match &self.keys {
            PinnedKeys::PublicKeys { threshold, .. } | PinnedKeys::RootKeyIds { threshold, .. } => {
                (*threshold).max(1) as u64
            }
            PinnedKeys::CertificateAuthorities(_) => 1,
        }
    }
}
