//! TrustPolicy: which images must be signed, and by whom.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Status;

/// Which images must be signed, and by whom.
#[derive(Debug, Clone, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "TrustPolicy",
    plural = "trustpolicies",
    shortname = "tp",
    category = "countersign",
    status = "Status",
    derive = "PartialEq",
    doc = "Which images must be signed, and by whom. Every policy that matches an image must be satisfied.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.verify) != has(self.allowUnverified)",
     "message": "exactly one of verify and allowUnverified is required"},
    {"rule": "!has(self.allowUnverified) || (has(self.match.images.exclude) && has(self.match.namespaceSelector) && (has(self.match.namespaceSelector.matchLabels) || has(self.match.namespaceSelector.matchExpressions)))",
     "message": "allowUnverified needs match.images.exclude and match.namespaceSelector written out; [] excludes nothing, {matchLabels: {}} is every namespace"},
]))]
pub struct TrustPolicySpec {
    /// The images and namespaces that the policy speaks for.
    pub r#match: Match,
    /// What happens to images that do not satisfy the policy.
    #[serde(default)]
    pub action: ActionName,
    /// What becomes of tags in pods.
    #[serde(default)]
    pub tags: TagsRule,
    /// Whose signatures are needed. Exactly one of verify and allowUnverified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// Asks for no signature. Other policies that match the image still do. Needs
    /// match.images.exclude and match.namespaceSelector written out, so that a mistyped one cannot
    /// widen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_unverified: Option<AllowUnverified>,
    /// Time-boxed holes. Each one in use is in every warning, and counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub exceptions: Vec<Exception>,
    /// Whether rejections may name other tags, digests and key ids.
    #[serde(default)]
    pub disclose: bool,
    /// Where the developer finds help: an https URL, or a text of at most 200 characters. It
    /// ends every rejection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub help: Option<String>,
}

/// The images and namespaces that a policy speaks for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// The images, by patterns.
    pub images: Images,
    /// The namespaces, by their labels; without it, every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// Patterns of images. They are matched component by component on registry/repository: `*` within
/// one component, `**` across any number of them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// The policy speaks for images that one of these patterns covers, as
    /// registry.example.com/payments/**.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024)))]
    pub include: Vec<String>,
    /// The policy does not speak for images that one of these patterns covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    pub exclude: Option<Vec<String>>,
}

/// A label selector: every requirement has to hold. An empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels with the values they must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Requirements on labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub match_expressions: Option<Vec<LabelRequirement>>,
}

impl LabelSelector {
    /// Whether it says anything, be it "nothing is required": `{}` may be what the API server
    /// left of one with a mistyped field.
    pub(super) fn is_written_out(&self) -> bool {
        self.match_labels.is_some() || self.match_expressions.is_some()
    }
}

/// A requirement on one label.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In and NotIn compare with values; Exists and DoesNotExist take none.
    pub operator: LabelOperator,
    /// The values of In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// What has to hold of a label's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum LabelOperator {
    /// It is one of the values.
    In,
    /// It is absent, or none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// What happens to images that do not satisfy a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ActionName {
    /// The request is refused.
    #[default]
    Deny,
    /// The request is let in, with a warning.
    Warn,
    /// It is counted and logged.
    Audit,
}

/// What becomes of tags in pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TagsRule {
    /// Pods get tag@digest.
    #[default]
    PinDigest,
    /// The author has to write a digest.
    RequireDigest,
    /// A tag is enough: only "signed when admitted" is promised.
    Float,
}

/// Whose signatures a policy asks for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "size(self.authorities) <= 1 || has(self.minAuthorities)",
     "message": "minAuthorities is required with more than one authority"},
    {"rule": "!has(self.minAuthorities) || self.minAuthorities <= size(self.authorities)",
     "message": "minAuthorities is greater than the number of authorities"},
]))]
pub struct Verify {
    /// How many of the authorities must have signed. Two that rest on the same keys count once.
    /// Required with more than one authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16), extend("format" = "int32"))]
    pub min_authorities: Option<u32>,
    /// The authorities.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub authorities: Vec<Authority>,
}

/// Someone whose signature a policy asks for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.notary) != has(self.tuf)",
     "message": "exactly one of notary and tuf is required"},
]))]
pub struct Authority {
    /// The authority's name; rejections show it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The TrustSource that holds its signatures.
    pub source_ref: SourceRef,
    /// How to look it up in a Notary source. Exactly one of notary and tuf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notary: Option<NotaryLookup>,
    /// How to look it up in a TUF source. Exactly one of notary and tuf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuf: Option<TufLookup>,
}

/// A TrustSource.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceRef {
    /// The TrustSource's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Which roles' signatures count in a Notary source.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.lookup) != has(self.requireRoles)",
     "message": "exactly one of lookup and requireRoles is required"},
]))]
pub struct NotaryLookup {
    /// Docker: what docker trust does, targets/releases first and then targets. Exactly one of
    /// lookup and requireRoles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupKind>,
    /// Every one of these roles must have signed the image, as targets/qa and targets/security.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255)))]
    pub require_roles: Option<Vec<String>>,
}

/// How a tag's signature is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum LookupKind {
    /// As Docker Content Trust does.
    Docker,
}

/// Which target files and roles count in a TUF source. A target file is the image's manifest.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.acceptRoles) != has(self.requireRoles)",
     "message": "exactly one of acceptRoles and requireRoles is required"},
]))]
pub struct TufLookup {
    /// The target's name for a tag, as `{registry}/{repository}/{tag}`. A placeholder is a whole
    /// component. `{registry}` may be left out where the policy's images are of one literal host,
    /// `{repository}` where they are of one literal repository.
    #[schemars(length(min = 1, max = 512))]
    pub target: String,
    /// The target's name for a digest, as `{registry}/{repository}/{digest}`, where digests are
    /// signed under names of their own. Without it a digest is signed where a tag of its
    /// repository is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub digest_target: Option<String>,
    /// Roles of which any one may have signed the image; `*` is every role that the repository
    /// lets sign the name. Exactly one of acceptRoles and requireRoles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255)))]
    pub accept_roles: Option<Vec<String>>,
    /// Roles of which every one must have signed the image. Exactly one of acceptRoles and
    /// requireRoles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255)))]
    pub require_roles: Option<Vec<String>>,
}

/// Asks for no signature.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowUnverified {
    /// Why no signature is needed; it is logged with every image let in.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
}

/// A time-boxed hole in a policy.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exception {
    /// The exception's name; warnings show it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Patterns of the images; here one may end in a literal tag or, better, digest.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024)))]
    pub images: Vec<String>,
    /// The namespaces, by name.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// When it ends, in RFC 3339, as 2026-12-01T00:00:00Z.
    #[schemars(extend("format" = "date-time"))]
    pub expires_at: String,
    /// Why it exists.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
}

/// The schema of an enum of plain names. The derived one lists each variant's documentation as a
/// `oneOf`, which a structural schema does not take inside an optional field.
macro_rules! plain_enum_schema {
    ($type:ident, $description:literal, [$($variant:ident),+]) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": $description,
                    "enum": [$(stringify!($variant)),+],
                })
            }
        }
    };
}

plain_enum_schema!(
    LabelOperator,
    "What has to hold of the label's value.",
    [In, NotIn, Exists, DoesNotExist]
);
plain_enum_schema!(
    ActionName,
    "Deny: the request is refused. Warn: it is let in, with a warning. Audit: it is counted and logged.",
    [Deny, Warn, Audit]
);
plain_enum_schema!(
    TagsRule,
    "PinDigest: pods get tag@digest. RequireDigest: the author has to write a digest. Float: a tag is enough, only \"signed when admitted\" is promised.",
    [PinDigest, RequireDigest, Float]
);
plain_enum_schema!(LookupKind, "Docker: as Docker Content Trust does.", [Docker]);
