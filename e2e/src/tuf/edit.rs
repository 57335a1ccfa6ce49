//! What a repository is made of, as its writers read it.

use std::time::Duration;

use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`
    EcdsaP384,
    /// `rsassa-pss-sha256`, 2048 bits
    RsaPss,
}

impl Scheme {
    /// As TUF names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::RsaPss => "rsassa-pss-sha256",
        }
    }
}

/// New keys of a role. It is signed by all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// One key of each.
    pub schemes: Vec<Scheme>,
    /// So many have to sign.
    pub threshold: usize,
}

impl Keys {
    /// One key.
    pub fn one(scheme: Scheme) -> Self {
        Self { schemes: vec![scheme], threshold: 1 }
    }

    /// These keys, all of which have to sign.
    pub fn all(schemes: &[Scheme]) -> Self {
        Self { schemes: schemes.to_vec(), threshold: schemes.len() }
    }

    pub(super) fn onto(&self, mut edit: Value) -> Value {
        let schemes: Vec<&str> = self.schemes.iter().map(|scheme| scheme.name()).collect();
        edit["keys"] = json!(schemes);
        edit["threshold"] = json!(self.threshold);
        edit
    }
}

/// The top-level roles of a new repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Whether file names begin with versions, and target files' with hashes.
    pub consistent: bool,
    /// The keys of `root`.
    pub root: Keys,
    /// The keys of `targets`.
    pub targets: Keys,
    /// The keys of `snapshot`.
    pub snapshot: Keys,
    /// The keys of `timestamp`.
    pub timestamp: Keys,
    /// When roles expire, counted from when they are made.
    pub expires: Duration,
}

impl Default for Layout {
    /// Consistent snapshots, one ed25519 key for each role, a day.
    fn default() -> Self {
        let keys = Keys::one(Scheme::Ed25519);
        Self {
            consistent: true,
            root: keys.clone(),
            targets: keys.clone(),
            snapshot: keys.clone(),
            timestamp: keys,
            expires: DAY,
        }
    }
}

impl Layout {
    pub(super) fn edit(&self) -> Value {
        let [root, targets, snapshot, timestamp] =
            [&self.root, &self.targets, &self.snapshot, &self.timestamp]
                .map(|keys| keys.onto(json!({})));
        json!({
            "op": "init", "consistent": self.consistent, "expires": self.expires.as_secs(),
            "roles": {
                "root": root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp,
            },
        })
    }
}

/// A delegated role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: Keys,
    /// Whether no later role is asked for a name that is in its paths.
    pub terminating: bool,
    /// Globs.
    pub paths: Vec<String>,
}

impl Delegation {
    /// Delegates by globs to one ed25519 key, not terminating.
    pub fn by_paths(name: &str, paths: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            keys: Keys::one(Scheme::Ed25519),
            terminating: false,
            paths: paths.iter().map(ToString::to_string).collect(),
        }
    }

    /// The same, for these keys.
    #[must_use]
    pub fn with(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// The same, terminating.
    #[must_use]
    pub fn terminating(self) -> Self {
        Self { terminating: true, ..self }
    }

    pub(super) fn edit(&self, parent: &str, expires: u64) -> Value {
        self.keys.onto(json!({
            "op": "delegate", "parent": parent, "name": self.name, "paths": self.paths,
            "terminating": self.terminating, "expires": expires,
        }))
    }
}

/// Delegations of all names, by their hashes: `2^bits` roles with the same keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bins {
    /// What the names of the roles begin with.
    pub prefix: String,
    /// The logarithm of their number.
    pub bits: u32,
    /// Their keys.
    pub keys: Keys,
    /// Whether in the short form of TAP 15.
    pub succinct: bool,
}

impl Bins {
    /// Bins that list their hash prefixes, signed by one ed25519 key.
    pub fn hashed(prefix: &str, bits: u32) -> Self {
        let keys = Keys::one(Scheme::Ed25519);
        Self { prefix: prefix.to_owned(), bits, keys, succinct: false }
    }

    /// Bins of TAP 15, signed by one ed25519 key.
    pub fn succinct(prefix: &str, bits: u32) -> Self {
        Self { succinct: true, ..Self::hashed(prefix, bits) }
    }

    pub(super) fn edit(&self, parent: &str, expires: u64) -> Value {
        let op = if self.succinct { "succinct_bins" } else { "hashed_bins" };
        self.keys.onto(json!({
            "op": op, "parent": parent, "prefix": self.prefix, "bits": self.bits,
            "expires": expires,
        }))
    }
}
