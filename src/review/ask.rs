//! What an authority says of an image, by the evidence: no I/O here.

use countersign_verify::image::{Digest, Reference};
use countersign_verify::notary::{self, Wanted};
use countersign_verify::outcome::{Denial, Proof, Refusal, Unavailable};
use countersign_verify::policy::{Authority, Lookup};
use countersign_verify::tuf::{self, Image};
use jiff::Timestamp;

use super::evidence::Evidence;
use crate::registry::Resolved;

/// The authority's proof for the image, or why there is none. Remarks go into `notes`.
pub(super) fn ask(
    authority: &Authority,
    reference: &Reference,
    evidence: &Evidence,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Result<Proof, Refusal> {
    authority.usable.clone()?;
    let source_name = || authority.source.clone();
    let not_found = || Denial::SourceNotFound { source_name: source_name() };
    let repository = evidence.repository(authority, reference).ok_or_else(not_found)??;
    let signatures = match (&authority.lookup, repository.notary(), repository.tuf()) {
        (Lookup::Notary(lookup), Some(repository), _) => Signatures::Notary { lookup, repository },
        (Lookup::Tuf(lookup), _, Some(repository)) => {
            Signatures::Tuf(Targets { lookup, repository, evidence })
        }
        // The source has become one of the other kind, under the same name.
        _ => return Err(not_found().into()),
    };
    match (reference.digest(), reference.tag()) {
        (Some(digest), tag) => {
            let proof = signatures.of_digest(reference, digest, now)?;
            if let Some(tag) = tag
                && !signatures.agree_on_tag(reference, digest, now)
            {
                notes.push(format!(
                    "the digest counts: tag \"{tag}\" is not signed for it by {}",
                    authority.name
                ));
            }
            Ok(proof)
        }
        (None, Some(_)) => {
            let not_asked = || {
                Err(Unavailable::RegistryNotAllowed { registry: reference.registry().to_owned() })
            };
            match evidence.digest(reference).unwrap_or_else(not_asked) {
                Ok(found) => signatures.of_tag(reference, &found, now),
                // Who may not read the registry's tags does not learn from us which of them
                // exist: a tag that is not signed is refused for that, there or not.
                Err(unavailable) => {
                    signatures.sign_tag(reference, now)?;
                    Err(unavailable.into())
                }
            }
        }
        (None, None) => Err(Denial::InvalidReference {
            image: reference.to_string(),
            reason: "it has neither a tag nor a digest".to_owned(),
        }
        .into()),
    }
}

/// What an authority has signed, in its source's dialect.
enum Signatures<'a> {
    Notary { lookup: &'a notary::Lookup, repository: &'a notary::Repository },
    Tuf(Targets<'a>),
}

/// Target files, of which one has to be the image's manifest.
struct Targets<'a> {
    lookup: &'a tuf::Lookup,
    repository: &'a tuf::Repository,
    evidence: &'a Evidence,
}

impl Signatures<'_> {
    /// The proof for a digest, by whatever name.
    fn of_digest(
        &self,
        reference: &Reference,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        match self {
            Self::Notary { lookup, repository } => {
                repository.find(lookup, Wanted::Digest { digest }, now)
            }
            Self::Tuf(targets) => targets.find(reference, digest, None, now),
        }
    }

    /// The proof for a tag that the registry resolves so.
    fn of_tag(
        &self,
        reference: &Reference,
        found: &Resolved,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        let Resolved { digest, size } = found;
        match self {
            Self::Notary { lookup, repository } => {
                let tag = reference.tag().unwrap_or_default();
                repository.find(lookup, Wanted::Tag { tag, digest, size: *size }, now)
            }
            Self::Tuf(targets) => targets.find(reference, digest, *size, now),
        }
    }

    /// Whether the image's tag is signed for this digest, too.
    fn agree_on_tag(&self, reference: &Reference, digest: &Digest, now: Timestamp) -> bool {
        let Some(by_tag) = reference.by_tag() else { return false };
        let found = Resolved { digest: digest.clone(), size: None };
        self.of_tag(&by_tag, &found, now).is_ok()
    }

    /// Whether the image's tag is signed at all.
    fn sign_tag(&self, reference: &Reference, now: Timestamp) -> Result<(), Refusal> {
        match self {
            Self::Notary { lookup, repository } => {
                repository.signs_tag(lookup, reference.tag().unwrap_or_default(), now)
            }
            Self::Tuf(Targets { lookup, repository, .. }) => {
                repository.signs_tag(lookup, reference, now)
            }
        }
    }
}

impl Targets<'_> {
    fn find(
        &self,
        reference: &Reference,
        digest: &Digest,
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        let Self { lookup, repository, evidence } = self;
        let manifest = evidence.manifest(&reference.with_digest(digest.clone()));
        let bytes = manifest.as_ref().and_then(|manifest| manifest.as_ref().ok());
        let image = Image { reference, digest, size, manifest: bytes.map(AsRef::as_ref) };
        match manifest {
            // Without it nothing can be said, where it is needed.
            Some(Err(unavailable)) if repository.needs_manifest(lookup, image, now) => {
                Err(unavailable.into())
            }
            _ => repository.find(lookup, image, now),
        }
    }
}

/// The roles below `targets` that a lookup names, so that they can be fetched with the first files
/// rather than after them.
pub(super) fn named_roles(lookup: &notary::Lookup) -> &[String] {
    match lookup {
        notary::Lookup::Docker => &[],
        notary::Lookup::RequireRoles(roles) => roles,
    }
}
