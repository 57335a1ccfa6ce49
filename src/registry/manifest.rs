//! A tag's manifest, and what may be believed of it (distribution API v2).

use std::fmt;

use bytes::Bytes;
use countersign_verify::image::{Digest, Reference};
use countersign_verify::outcome::shortened;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

use super::Resolved;
use crate::http::{Ask, Endpoint, FetchError, Room};

/// Largest manifest read, in bytes. Source: the distribution specification asks registries to
/// take manifests of 4 MiB.
const MANIFEST_BYTES: u64 = 4 << 20;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Schema 1's media types begin so; the signed form ends in `+prettyjws`.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Why a tag's digest is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("it is named without a digest")]
    NoDigest,
    #[error("the registry gave another manifest than the digest's")]
    Another,
    #[error("the manifest is schema 1, which has no digest of its own")]
    Schema1,
    #[error("media type {0} is no image manifest or index")]
    MediaType(MediaType),
    #[error("the body says that it is {body}, its Content-Type {header}")]
    MediaTypeMismatch { header: String, body: String },
    #[error("the body can be read as manifest and as index")]
    Ambiguous,
    #[error("the manifest cannot be read: {0}")]
    Malformed(String),
    #[error("the registry says {header}, but the manifest's digest is {body}")]
    LyingHeader { header: Digest, body: Digest },
}

/// A `Content-Type` without its parameters, in lower case and shortened; none where there is not exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MediaType(Option<String>);

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("(none)"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Index,
    Manifest,
}

/// A manifest, and what it takes to ask for it.
struct Wanted {
    path: String,
    scope: String,
    accept: String,
}

impl Wanted {
    /// That of this tag or digest.
    fn new(image: &Reference, reference: impl fmt::Display) -> Self {
        let repository = image.repository();
        Self {
            path: format!("/v2/{repository}/manifests/{reference}"),
            scope: format!("repository:{repository}:pull"),
            accept: [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", "),
        }
    }

    fn ask<'a>(&'a self, room: &'a Room, deadline: Instant) -> Ask<'a> {
        Ask {
            accept: Some(&self.accept),
            scope: Some(&self.scope),
            max_bytes: MANIFEST_BYTES,
            room: Some(room),
            deadline,
        }
    }
}

/// Asks what the image's tag stands for: by HEAD where its answer is enough, otherwise by GET.
pub(super) async fn resolve(
    endpoint: &Endpoint,
    image: &Reference,
    room: &Room,
    deadline: Instant,
) -> Result<Resolved, ManifestError> {
    let wanted = Wanted::new(image, image.tag().unwrap_or("latest"));
    let ask = wanted.ask(room, deadline);
    match endpoint.head(&wanted.path, &ask).await {
        Ok(answer) => {
            if let Some(resolved) = from_head(&answer.headers)? {
                return Ok(resolved);
            }
        }
        // Registries that do not know HEAD answer it in these ways.
        Err(FetchError::NotFound | FetchError::Status(400 | 405 | 406 | 415 | 501)) => {}
        Err(error) => return Err(error.into()),
    }
    let answer = endpoint.get(&wanted.path, &ask).await?;
    from_body(&answer.headers, &answer.body)
}

/// Asks for the manifest of the image's digest, and checks that it is that.
pub(super) async fn fetch(
    endpoint: &Endpoint,
    image: &Reference,
    room: &Room,
    deadline: Instant,
) -> Result<Bytes, ManifestError> {
    let digest = image.digest().ok_or(ManifestError::NoDigest)?;
    let wanted = Wanted::new(image, digest);
    let body = endpoint.get(&wanted.path, &wanted.ask(room, deadline)).await?.body;
    if digest.verifies(&body) { Ok(body) } else { Err(ManifestError::Another) }
}

/// The digest as the headers tell it; `None` where only the body can.
fn from_head(headers: &HeaderMap) -> Result<Option<Resolved>, ManifestError> {
    let media_type = media_type(headers);
    let known = match kind(&media_type) {
        Err(ManifestError::Schema1) => return Err(ManifestError::Schema1),
        known => known.is_ok(),
    };
    let digests = digests(headers);
    match digests.as_slice() {
        [Some(digest)] if known => {
            Ok(Some(Resolved { digest: digest.clone(), size: content_length(headers) }))
        }
        _ => Ok(None),
    }
}

/// The digest of the body, if it is what the headers say.
fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<Resolved, ManifestError> {
    let media_type = media_type(headers);
    let kind = kind(&media_type)?;
    check_body(kind, &media_type, body)?;
    let digest = Digest::sha256(body);
    if let Some(header) = digests(headers).into_iter().flatten().find(|d| !d.verifies(body)) {
        return Err(ManifestError::LyingHeader { header, body: digest });
    }
    Ok(Resolved { digest, size: Some(body.len() as u64) })
}

/// What manifests and indexes are told apart by.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

/// CVE-2021-41190: a body that reads as manifest and as index is one thing to us and another to
/// the node.
fn check_body(kind: Kind, media_type: &MediaType, body: &[u8]) -> Result<(), ManifestError> {
    let malformed = |reason: &str| Err(ManifestError::Malformed(shortened(reason).into_owned()));
    let body: Body = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => return malformed(&error.to_string()),
    };
    if body.schema_version == Some(1) || body.fs_layers.is_some() {
        return Err(ManifestError::Schema1);
    }
    if body.schema_version != Some(2) {
        return malformed("schemaVersion is not 2");
    }
    if let (Some(declared), Some(header)) = (body.media_type, &media_type.0)
        && &declared != header
    {
        let body = shortened(&declared).into_owned();
        return Err(ManifestError::MediaTypeMismatch { header: header.clone(), body });
    }
    let like_index = body.manifests.is_some();
    let like_manifest = body.layers.is_some() || body.config.is_some();
    match (kind, like_index, like_manifest) {
        (_, true, true) => Err(ManifestError::Ambiguous),
        (Kind::Index, true, false) | (Kind::Manifest, false, true) => Ok(()),
        (Kind::Index, ..) => malformed("an index without manifests"),
        (Kind::Manifest, ..) => malformed("a manifest without config and layers"),
    }
}

fn kind(media_type: &MediaType) -> Result<Kind, ManifestError> {
    match media_type.0.as_deref() {
        Some(OCI_INDEX | DOCKER_LIST) => Ok(Kind::Index),
        Some(OCI_MANIFEST | DOCKER_MANIFEST) => Ok(Kind::Manifest),
        Some(other) if other.starts_with(SCHEMA_1) => Err(ManifestError::Schema1),
        _ => Err(ManifestError::MediaType(media_type.clone())),
    }
}

fn media_type(headers: &HeaderMap) -> MediaType {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return MediaType(None);
    };
    let essence = value.to_str().ok().and_then(|text| text.split(';').next());
    MediaType(essence.map(|essence| shortened(essence.trim()).to_ascii_lowercase()))
}

/// Each `Docker-Content-Digest`; `None` for one that is ill-formed.
fn digests(headers: &HeaderMap) -> Vec<Option<Digest>> {
    let values = headers.get_all(DOCKER_CONTENT_DIGEST).iter();
    values.map(|value| Digest::parse(value.to_str().ok()?).ok()).collect()
}

/// The length of what GET would give. Some registries answer HEAD with a length of 0.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (length > 0).then_some(length)
}
