//! Writes the resources that users write, as the YAML files that `--policies` reads.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// A folder of resources.
pub struct Policies {
    folder: PathBuf,
}

/// A pin of a [`Source`].
#[derive(Debug, Clone)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// The pattern of the repositories that it speaks for.
    pub repositories: String,
    /// The root's public keys, as PEM; at least one, of which one has to have signed.
    pub public_keys: Vec<String>,
}

/// A TrustSource of the kind `notary`.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// The server's address.
    pub url: String,
    /// Its pins.
    pub pins: Vec<Pin>,
    /// The authority of the server's certificate, as PEM; written as a ConfigMap beside it.
    pub authority: String,
    /// A user and password for the server; written as a Secret beside it.
    pub credentials: Option<(String, String)>,
    /// The hosts (with ports) that a challenge for a token may name.
    pub token_hosts: Vec<String>,
    /// `freshness.refreshAfterSeconds`.
    pub refresh_after: u32,
    /// `freshness.refuseAfterSeconds`.
    pub refuse_after: u32,
}

/// A TrustPolicy with one authority.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The patterns of its images.
    pub include: Vec<String>,
    /// The patterns of images that it leaves out; empty for none.
    pub exclude: Vec<String>,
    /// A label of the namespaces that it is for, as `team: payments`; empty for all namespaces.
    pub namespaces: String,
    /// The name of a namespace that it is not for; empty for none.
    pub not_in: String,
    /// The source's name.
    pub source: String,
    /// `notary.requireRoles`; empty for Docker's lookup.
    pub require_roles: Vec<String>,
    /// `Deny`, `Warn` or `Audit`.
    pub action: &'static str,
    /// `PinDigest`, `RequireDigest` or `Float`.
    pub tags: &'static str,
    /// Whether rejections may name other tags, digests and key ids.
    pub disclose: bool,
    /// Ends every rejection; empty for none.
    pub help: String,
}

impl Source {
    /// A source of this server that is asked again for every review older than a second.
    pub fn new(name: &str, url: &str, authority: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            pins: Vec::new(),
            authority: authority.to_owned(),
            credentials: None,
            token_hosts: Vec::new(),
            refresh_after: 1,
            refuse_after: 86_400,
        }
    }

    /// Adds a pin with one key.
    #[must_use]
    pub fn pin(mut self, name: &str, repositories: &str, public_key: &str) -> Self {
        self.pins.push(Pin {
            name: name.to_owned(),
            repositories: repositories.to_owned(),
            public_keys: vec![public_key.to_owned()],
        });
        self
    }

    /// The TrustSource as YAML.
    pub fn yaml(&self) -> String {
        let mut yaml = format!(
            "apiVersion: countersign.dev/v1alpha1\nkind: TrustSource\nmetadata:\n  name: {}\nspec:\n  \
             notary:\n    url: {}\n    pins:{}\n",
            self.name,
            self.url,
            if self.pins.is_empty() { " []" } else { "" }
        );
        for pin in &self.pins {
            let _ = write!(
                yaml,
                "    - name: {}\n      repositories: [\"{}\"]\n      publicKeys:\n",
                pin.name, pin.repositories
            );
            for key in &pin.public_keys {
                let _ = write!(yaml, "      - |\n{}", indented(key, 8));
            }
            if pin.public_keys.len() > 1 {
                yaml.push_str("      threshold: 1\n");
            }
        }
        let _ = write!(
            yaml,
            "  connection:\n    caConfigMapRef:\n      name: {}-ca\n      key: ca.crt\n",
            self.name
        );
        if self.credentials.is_some() {
            let _ = writeln!(yaml, "    credentialsSecretRef:\n      name: {}-login", self.name);
        }
        if !self.token_hosts.is_empty() {
            let _ = writeln!(yaml, "    tokenHosts: [{}]", quoted(&self.token_hosts));
        }
        let _ = write!(
            yaml,
            "  freshness:\n    refreshAfterSeconds: {}\n    refuseAfterSeconds: {}\n",
            self.refresh_after, self.refuse_after
        );
        yaml
    }

    /// The ConfigMap that it names, as YAML.
    pub fn config_map(&self) -> String {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}-ca\ndata:\n  ca.crt: |\n{}",
            self.name,
            indented(&self.authority, 4)
        )
    }

    fn secret(&self, user: &str, password: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {}-login\nstringData:\n  \
             username: {user}\n  password: {password}\n  host: {}\n",
            self.name,
            self.url.trim_start_matches("https://")
        )
    }
}

impl Policy {
    /// A denying policy for these images with Docker's lookup and pinned tags.
    pub fn new(name: &str, include: &str, source: &str) -> Self {
        Self {
            name: name.to_owned(),
            include: vec![include.to_owned()],
            exclude: Vec::new(),
            namespaces: String::new(),
            not_in: String::new(),
            source: source.to_owned(),
            require_roles: Vec::new(),
            action: "Deny",
            tags: "PinDigest",
            disclose: false,
            help: String::new(),
        }
    }

    /// The TrustPolicy as YAML.
    pub fn yaml(&self) -> String {
        let notary = if self.require_roles.is_empty() {
            "lookup: Docker".to_owned()
        } else {
            format!("requireRoles: [{}]", quoted(&self.require_roles))
        };
        let selector = match (self.namespaces.as_str(), self.not_in.as_str()) {
            ("", "") => String::new(),
            (label, "") => format!("    namespaceSelector: {{matchLabels: {{{label}}}}}\n"),
            (_, other) => format!(
                "    namespaceSelector:\n      matchExpressions:\n      - {{key: \
                 kubernetes.io/metadata.name, operator: NotIn, values: [{other}]}}\n"
            ),
        };
        let exclude = match self.exclude.as_slice() {
            [] => String::new(),
            patterns => format!("      exclude: [{}]\n", quoted(patterns)),
        };
        let mut yaml = format!(
            "apiVersion: countersign.dev/v1alpha1\nkind: TrustPolicy\nmetadata:\n  name: {}\nspec:\n  \
             match:\n    images:\n      include: [{}]\n{exclude}{selector}  action: {}\n  tags: {}\n  verify:\n    \
             authorities:\n    - name: release-team\n      sourceRef:\n        name: {}\n      \
             notary:\n        {notary}\n",
            self.name,
            quoted(&self.include),
            self.action,
            self.tags,
            self.source
        );
        if self.disclose {
            yaml.push_str("  disclose: true\n");
        }
        if !self.help.is_empty() {
            let _ = writeln!(yaml, "  help: \"{}\"", self.help);
        }
        yaml
    }
}

impl Policies {
    /// Starts an empty folder of resources.
    pub fn new(folder: &Path) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a source, and the ConfigMap and the Secret that it names, into one file.
    pub fn source(&self, source: &Source) -> Outcome<()> {
        let mut yaml = format!("{}---\n{}", source.config_map(), source.yaml());
        if let Some((user, password)) = &source.credentials {
            let _ = write!(yaml, "---\n{}", source.secret(user, password));
        }
        self.write(&format!("source-{}", source.name), &yaml)
    }

    /// Writes a policy.
    pub fn policy(&self, policy: &Policy) -> Outcome<()> {
        self.write(&format!("policy-{}", policy.name), &policy.yaml())
    }

    /// Writes any other resource, or a broken one, as `name.yaml`.
    pub fn write(&self, name: &str, yaml: &str) -> Outcome<()> {
        Ok(fs::write(self.folder.join(format!("{name}.yaml")), yaml)?)
    }
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

fn quoted(items: &[String]) -> String {
    items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}
