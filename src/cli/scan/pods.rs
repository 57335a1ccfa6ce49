//! The images of running pods, and which workloads they are of.

use std::collections::{BTreeMap, BTreeSet};

use countersign_verify::image::Reference;
use futures_util::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Error, Resource as _};
use serde::{Deserialize, Serialize};

use crate::admission::{PodSpec, pod_images};
use crate::cluster::pages::{self, ListError, Page};
use crate::review::ImageUse;

/// Largest page, in bytes: a pod is seldom more than 20 KiB, and a page has 250.
const PAGE_BYTES: u64 = 256 << 20;

/// Those that still run or will, and may be made anew.
const NOT_FINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The kind of what controls a mirror pod: it shows a static pod, which no webhook keeps from
/// running.
const STATIC: &str = "Node";

/// Where ephemeral containers are: no pod is made anew with those of its predecessor.
const EPHEMERAL: &str = "spec.ephemeralContainers[";

/// An image in a namespace: what is reviewed once, however many pods have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Image {
    pub(super) namespace: String,
    pub(super) image: String,
    /// Whether no pod names it like this: it is the image of pods that name its digest too, which
    /// their template may have left to Countersign to add.
    pub(super) by_tag: bool,
}

impl Image {
    /// The same without its digest, and the digest; `None` where it has no tag beside a digest.
    pub(super) fn unpinned(&self) -> Option<(Self, String)> {
        let reference = Reference::parse(&self.image).ok()?;
        let (_, digest) = (reference.tag()?, reference.digest()?);
        let (tagged, _) = self.image.split_once('@')?;
        let tagged =
            Self { namespace: self.namespace.clone(), image: tagged.to_owned(), by_tag: true };
        Some((tagged, digest.to_string()))
    }
}

/// Whoever makes pods anew: what controls them, or the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Owner {
    pub(super) kind: String,
    pub(super) name: String,
}

/// Where an image is in a workload's pods.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// How many of its pods have it.
    pub(super) pods: usize,
    /// Of its containers and volumes, as `spec.containers[name=api]`.
    pub(super) paths: BTreeSet<String>,
    /// Of an image by its tag: what its pods name beside it.
    pub(super) digests: BTreeSet<String>,
}

/// What runs.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) pods: usize,
    pub(super) images: BTreeMap<Image, BTreeMap<Owner, Place>>,
}

impl Running {
    fn add(&mut self, pod: Seen) {
        if pod.owner.kind == STATIC {
            return;
        }
        self.pods += 1;
        let mut counted = BTreeSet::new();
        let mut count = |key: Image, path: String, digest: Option<String>| {
            let first = counted.insert(key.clone());
            let place = self.images.entry(key).or_default().entry(pod.owner.clone()).or_default();
            place.pods += usize::from(first);
            place.paths.insert(path);
            place.digests.extend(digest);
        };
        for ImageUse { path, image } in pod.uses {
            if path.starts_with(EPHEMERAL) {
                continue;
            }
            let key = Image { namespace: pod.namespace.clone(), image, by_tag: false };
            if pod.has_template
                && let Some((tagged, digest)) = key.unpinned()
            {
                count(tagged, path.clone(), Some(digest));
            }
            count(key, path, None);
        }
    }
}

/// What is taken of a pod.
#[derive(Debug)]
struct Seen {
    namespace: String,
    owner: Owner,
    /// Whether the owner is another that made the pod from its template.
    has_template: bool,
    uses: Vec<ImageUse>,
}

/// Lists the pods of a namespace, or of all but some, that are not finished.
pub(super) async fn running(
    client: &Client,
    namespace: Option<&str>,
    left_out: &BTreeSet<String>,
) -> Result<Running, ListError> {
    let list = Request::new(Pod::url_path(&(), namespace));
    let mut params = ListParams::default().fields(NOT_FINISHED);
    for name in left_out {
        params.field_selector =
            params.field_selector.map(|all| format!("{all},metadata.namespace!={name}"));
    }
    let fetch = async |params: &ListParams| {
        let request = list.list(params).map_err(Error::BuildRequest)?;
        page(client, request, PAGE_BYTES).await
    };
    pages::all(&params, fetch, Running::add).await
}

/// A page of at most so many bytes.
async fn page(
    client: &Client,
    request: http::Request<Vec<u8>>,
    bytes: u64,
) -> Result<Page<Seen>, ListError> {
    let mut body = Vec::new();
    let answer = client.request_stream(request).await?;
    // One more tells what is too large from what just fits.
    answer.take(bytes + 1).read_to_end(&mut body).await.map_err(Error::ReadEvents)?;
    if body.len() as u64 > bytes {
        return Err(ListError::Large { bytes });
    }
    Ok(read(&body).map_err(Error::SerdeError)?)
}

#[derive(Deserialize)]
struct PodList<'a> {
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Vec<RawPod<'a>>,
}

#[derive(Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    more: Option<String>,
}

#[derive(Deserialize)]
struct RawPod<'a> {
    metadata: PodMeta,
    #[serde(borrow, default)]
    spec: PodSpec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeta {
    name: String,
    namespace: String,
    #[serde(default)]
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize)]
struct OwnerReference {
    kind: String,
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

fn read(body: &[u8]) -> Result<Page<Seen>, serde_json::Error> {
    let list: PodList<'_> = serde_json::from_slice(body)?;
    let seen = |pod: RawPod<'_>| {
        let PodMeta { name, namespace, owner_references } = pod.metadata;
        let mut owners = owner_references.into_iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let has_template = controller.is_some();
        let owner = match controller {
            Some(OwnerReference { kind, name, .. }) => Owner { kind, name },
            None => Owner { kind: "Pod".to_owned(), name },
        };
        Seen { namespace, owner, has_template, uses: pod_images(&pod.spec) }
    };
    Ok((list.items.into_iter().map(seen).collect(), list.metadata.more))
}

#[cfg(test)]
mod tests;
