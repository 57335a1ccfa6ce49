//! Where every kind of workload keeps its pod spec, and the images in it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use super::wire::{Container, GroupName, PodSpec};
use crate::review::ImageUse;

/// A custom kind that carries a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomKind {
    /// Its API group, as `argoproj.io`.
    pub group: String,
    /// Its kind, as `Rollout`.
    pub kind: String,
    /// The path of its pod template, members joined by dots, as `spec.template`.
    pub template: String,
}

/// Reads `GROUP/KIND=PATH`; the error says what to write.
impl FromStr for CustomKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(name, template)| {
            let (group, kind) = name.split_once('/')?;
            Some((group, kind, template))
        });
        match parts {
            Some((group, kind, template)) if ![group, kind, template].contains(&"") => Ok(Self {
                group: group.to_owned(),
                kind: kind.to_owned(),
                template: template.to_owned(),
            }),
            _ => Err("write it as GROUP/KIND=PATH, as in argoproj.io/Rollout=spec.template"),
        }
    }
}

/// Why a [`CustomKind`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--custom-kind {group}/{kind}: {reason}")]
pub struct InvalidCustomKind {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Every kind whose images can be found.
#[derive(Debug, Clone)]
pub struct Kinds(Vec<Shape>);

#[derive(Debug, Clone)]
struct Shape {
    group: Cow<'static, str>,
    kind: Cow<'static, str>,
    /// `None` for a custom kind: it is configured by its kind alone.
    resource: Option<&'static str>,
    /// The members that lead to the pod spec.
    steps: Vec<Cow<'static, str>>,
    /// The same, as an author reads it.
    path: String,
}

/// Group, kind, resource, path of the pod spec. The pod comes first, see [`Kinds::is_pod`].
const BUILT_IN: [(&str, &str, &str, &str); 9] = [
    ("", "Pod", "pods", "spec"),
    ("", "PodTemplate", "podtemplates", "template.spec"),
    ("", "ReplicationController", "replicationcontrollers", "spec.template.spec"),
    ("apps", "Deployment", "deployments", "spec.template.spec"),
    ("apps", "ReplicaSet", "replicasets", "spec.template.spec"),
    ("apps", "StatefulSet", "statefulsets", "spec.template.spec"),
    ("apps", "DaemonSet", "daemonsets", "spec.template.spec"),
    ("batch", "Job", "jobs", "spec.template.spec"),
    ("batch", "CronJob", "cronjobs", "spec.jobTemplate.spec.template.spec"),
];

/// What a request's object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The request changes no image: it deletes, connects, or is about a status or a scale.
    Unaffected,
    /// A kind that is neither built in nor configured.
    Unknown,
    /// One of [`Kinds`].
    Known(usize),
}

impl Kinds {
    /// The built-in kinds and these. A custom kind that names no group, a built-in kind, a kind
    /// twice, or no path is an error.
    pub fn new(custom: &[CustomKind]) -> Result<Self, InvalidCustomKind> {
        let built_in = BUILT_IN.iter().map(|(group, kind, resource, path)| Shape {
            group: Cow::Borrowed(group),
            kind: Cow::Borrowed(kind),
            resource: Some(resource),
            steps: path.split('.').map(Cow::Borrowed).collect(),
            path: (*path).to_owned(),
        });
        let mut kinds = Self(built_in.collect());
        for kind in custom {
            let shape = kinds.custom(kind).map_err(|reason| InvalidCustomKind {
                group: kind.group.clone(),
                kind: kind.kind.clone(),
                reason,
            })?;
            kinds.0.push(shape);
        }
        Ok(kinds)
    }

    /// Group and resource of every built-in kind: what webhooks' rules have to cover.
    pub fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.into_iter().map(|(group, _, resource, _)| (group, resource))
    }

    fn custom(&self, custom: &CustomKind) -> Result<Shape, &'static str> {
        if custom.group.is_empty() || custom.kind.is_empty() {
            return Err("a custom kind needs its group and its kind");
        }
        if self.0.iter().any(|shape| shape.group == custom.group && shape.kind == custom.kind) {
            return Err("this kind is built in, or is there twice");
        }
        let path = format!("{}.spec", custom.template);
        if path.split('.').any(str::is_empty) {
            return Err("template is the path of the pod template, as spec.template");
        }
        let steps = path.split('.').map(|step| Cow::Owned(step.to_owned())).collect();
        let (group, kind) = (Cow::Owned(custom.group.clone()), Cow::Owned(custom.kind.clone()));
        Ok(Shape { group, kind, resource: None, steps, path })
    }

    /// Built-in kinds are known by group, kind and resource, so that a custom kind that is named
    /// like one is not mistaken for it.
    pub(super) fn place(&self, kind: &GroupName<'_>, resource: &str, sub_resource: &str) -> Place {
        if matches!(sub_resource, "status" | "scale") {
            return Place::Unaffected;
        }
        let is = |shape: &Shape| {
            shape.kind == *kind.kind
                && shape.group == *kind.group
                && shape.resource.is_none_or(|name| name == resource)
        };
        self.0.iter().position(is).map_or(Place::Unknown, Place::Known)
    }

    /// The members that lead to the pod spec.
    pub(super) fn steps(&self, place: Place) -> Option<&[Cow<'static, str>]> {
        self.shape(place).map(|shape| shape.steps.as_slice())
    }

    /// The path of the pod spec, as `spec.template.spec`.
    pub(super) fn path(&self, place: Place) -> &str {
        self.shape(place).map_or("", |shape| &shape.path)
    }

    /// The path of a custom kind's pod template: someone configured it, and may have erred.
    pub(super) fn configured(&self, place: Place) -> Option<&str> {
        let shape = self.shape(place).filter(|shape| shape.resource.is_none())?;
        shape.path.strip_suffix(".spec")
    }

    /// Whether the object is a pod, not a template of pods.
    pub(super) fn is_pod(&self, place: Place) -> bool {
        place == Place::Known(0)
    }

    fn shape(&self, place: Place) -> Option<&Shape> {
        match place {
            Place::Known(index) => self.0.get(index),
            Place::Unaffected | Place::Unknown => None,
        }
    }
}

/// The lists of a pod spec that name images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum List {
    Containers,
    InitContainers,
    EphemeralContainers,
    Volumes,
}

impl List {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
            Self::EphemeralContainers => "ephemeralContainers",
            Self::Volumes => "volumes",
        }
    }

    /// Where an entry holds its image.
    pub(super) fn member(self) -> &'static str {
        match self {
            Self::Volumes => "image/reference",
            _ => "image",
        }
    }
}

/// One image of a pod spec, and where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) list: List,
    pub(super) index: usize,
    name: &'a str,
    image: &'a str,
}

/// Every image of a pod spec. An empty one is listed too: it is for the reviewer to refuse.
pub(super) fn items<'a>(spec: &'a PodSpec<'_>) -> Vec<Item<'a>> {
    fn listed<'a>(
        list: List,
        containers: &'a Option<Vec<Container<'_>>>,
    ) -> impl Iterator<Item = Item<'a>> {
        containers.iter().flatten().enumerate().map(move |(index, container)| Item {
            list,
            index,
            name: &container.name,
            image: &container.image,
        })
    }
    let volumes = spec.volumes.iter().flatten().enumerate().filter_map(|(index, volume)| {
        let image = &volume.image.as_ref()?.reference;
        Some(Item { list: List::Volumes, index, name: &volume.name, image })
    });
    listed(List::Containers, &spec.containers)
        .chain(listed(List::InitContainers, &spec.init_containers))
        .chain(listed(List::EphemeralContainers, &spec.ephemeral_containers))
        .chain(volumes)
        .collect()
}

/// How an entry is told from the others of its list: by its name where that is usable and its
/// own, else by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Name(List, &'a str),
    Index(List, usize),
}

fn keys<'a>(items: &[Item<'a>]) -> Vec<Key<'a>> {
    let mut count: HashMap<(List, &str), usize> = HashMap::with_capacity(items.len());
    for item in items {
        *count.entry((item.list, item.name)).or_default() += 1;
    }
    let usable = |item: &Item<'_>| {
        (1..=253).contains(&item.name.len())
            && item.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            && count.get(&(item.list, item.name)) == Some(&1)
    };
    let key = |item: &Item<'a>| match usable(item) {
        true => Key::Name(item.list, item.name),
        false => Key::Index(item.list, item.index),
    };
    items.iter().map(key).collect()
}

/// The image uses to review, each with its place; `path` is that of the pod spec. With `old`
/// only those whose image is another than before; for a template, all of them if any is.
pub(super) fn uses<'a>(
    items: Vec<Item<'a>>,
    old: Option<&PodSpec<'_>>,
    path: &str,
    is_pod: bool,
) -> Vec<(Item<'a>, ImageUse)> {
    let keys = keys(&items);
    let old_items = old.map(self::items).unwrap_or_default();
    let old_images: HashMap<Key<'_>, &str> =
        self::keys(&old_items).into_iter().zip(old_items.iter().map(|item| item.image)).collect();
    let changed = |(item, key): &(Item<'_>, Key<'_>)| old_images.get(key) != Some(&item.image);
    let mut found: Vec<_> = items.into_iter().zip(keys).collect();
    if is_pod {
        found.retain(changed);
    } else if !found.iter().any(changed) {
        found.clear();
    }
    let usage = |(item, key): (Item<'a>, Key<'_>)| {
        let list = item.list.as_str();
        let mut path = match key {
            Key::Name(_, name) => format!("{path}.{list}[name={name}]"),
            Key::Index(_, index) => format!("{path}.{list}[{index}]"),
        };
        if item.list == List::Volumes {
            path.push_str(".image.reference");
        }
        (item, ImageUse { path, image: item.image.to_owned() })
    };
    found.into_iter().map(usage).collect()
}

/// The image uses of a pod that is there, each with its place.
pub(crate) fn pod_images(spec: &PodSpec<'_>) -> Vec<ImageUse> {
    uses(items(spec), None, "spec", true).into_iter().map(|(_, usage)| usage).collect()
}
