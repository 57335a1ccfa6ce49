//! A repository's metadata, made and signed for one test.

use std::collections::BTreeMap;

use countersign_verify::image::Digest;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Proof, Refusal};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::shell::tags;
use crate::signer::Signer;

pub const NAME: &str = "registry.example.com/payments/api";

/// What the verifier is told that the time is.
pub fn now() -> Timestamp {
    time("2030-01-01T12:00:00Z")
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

pub fn sha512(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes).as_ref().to_vec()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// OLPC's canonical JSON, written a second time so that the verifier is not its own witness.
pub fn canonical(value: &Value) -> Vec<u8> {
    fn text(text: &str) -> String {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
    match value {
        Value::String(string) => text(string).into_bytes(),
        Value::Array(values) => {
            let parts: Vec<Vec<u8>> = values.iter().map(canonical).collect();
            [b"[".to_vec(), parts.join(&b","[..]), b"]".to_vec()].concat()
        }
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let parts: Vec<Vec<u8>> = names
                .iter()
                .map(|name| [text(name).into_bytes(), canonical(&members[*name])].join(&b':'))
                .collect();
            [b"{".to_vec(), parts.join(&b","[..]), b"}".to_vec()].concat()
        }
        scalar => scalar.to_string().into_bytes(),
    }
}

/// One file before it is signed.
#[derive(Clone)]
pub struct File {
    pub signed: Value,
    pub signers: Vec<Signer>,
}

impl File {
    pub fn seal(&self) -> Vec<u8> {
        let message = canonical(&self.signed);
        let signature = |key: &Signer| json!({"keyid": key.id, "sig": hex(&key.sign(&message))});
        let signatures: Vec<Value> = self.signers.iter().map(signature).collect();
        serde_json::to_vec(&json!({"signatures": signatures, "signed": self.signed})).unwrap()
    }
}

/// `{"keyids": .., "threshold": ..}`
pub fn role_keys(keys: &[Signer], threshold: u64) -> Value {
    let ids: Vec<&String> = keys.iter().map(|key| &key.id).collect();
    json!({"keyids": ids, "threshold": threshold})
}

/// `{id: key, ..}`
pub fn key_table<'k>(keys: impl IntoIterator<Item = &'k Signer>) -> Value {
    Value::Object(keys.into_iter().map(|key| (key.id.clone(), key.json())).collect())
}

pub fn hashes(bytes: &[u8]) -> Value {
    json!({"sha256": hex(&sha256(bytes)), "sha512": hex(&sha512(bytes))})
}

/// An image's manifest, by a word.
pub fn manifest(word: &str) -> Vec<u8> {
    format!("the manifest of {word}").into_bytes()
}

pub fn digest(word: &str) -> Digest {
    Digest::sha256(&manifest(word))
}

/// Tags are names below [`NAME`], unless they have a slash.
fn entries(targets: &[(&str, &str)]) -> Value {
    let entry = |word: &str| {
        let hashes = json!({"sha256": hex(&sha256(&manifest(word)))});
        json!({"length": manifest(word).len(), "hashes": hashes})
    };
    let entries = targets.iter().map(|(name, word)| (path(name), entry(word)));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// The target of a tag; a name that has a slash is a target already.
pub fn path(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{NAME}/{name}") }
}

/// A repository before it is sealed.
#[derive(Clone)]
pub struct Repo {
    pub root_keys: Vec<Signer>,
    pub root_threshold: u64,
    pub timestamp_key: Signer,
    pub snapshot_key: Signer,
    pub targets_key: Signer,
    /// By version.
    pub roots: BTreeMap<u64, File>,
    pub timestamp: File,
    pub snapshot: File,
    /// `targets` and delegated roles.
    pub roles: BTreeMap<String, File>,
    /// Whether files are listed with hashes and lengths.
    pub hashes: bool,
    pub consistent: bool,
}

/// A repository's files, as a server has them, by role.
#[derive(Clone)]
pub struct Files {
    pub roots: BTreeMap<u64, Vec<u8>>,
    pub roles: BTreeMap<String, Vec<u8>>,
}

fn header(kind: &str, version: u64, expires: &str) -> Value {
    json!({"_type": kind, "spec_version": "1.0.31", "version": version, "expires": expires})
}

impl Repo {
    /// One key per role, and no entries.
    pub fn new() -> Self {
        let [timestamp_key, snapshot_key, targets_key] = [0; 3].map(|_| Signer::default());
        let file = |kind, expires, key: &Signer| File {
            signed: header(kind, 1, expires),
            signers: vec![key.clone()],
        };
        let mut repo = Self {
            root_keys: vec![Signer::default()],
            root_threshold: 1,
            timestamp: file("timestamp", "2030-01-08T00:00:00Z", &timestamp_key),
            snapshot: file("snapshot", "2030-02-01T00:00:00Z", &snapshot_key),
            roots: BTreeMap::new(),
            roles: BTreeMap::new(),
            timestamp_key,
            snapshot_key,
            targets_key,
            hashes: true,
            consistent: true,
        };
        repo.set_role("targets", &[], &[repo.targets_key.clone()]);
        repo.roots.insert(1, repo.root(1));
        repo
    }

    /// With tags in `targets`.
    pub fn signing(targets: &[(&str, &str)]) -> Self {
        let mut repo = Self::new();
        repo.targets(targets);
        repo
    }

    /// A root of this version for the present keys, signed by its own root keys.
    pub fn root(&self, version: u64) -> File {
        let others = [&self.timestamp_key, &self.snapshot_key, &self.targets_key];
        let one = |key: &Signer| role_keys(std::slice::from_ref(key), 1);
        let mut signed = header("root", version, "2039-01-01T00:00:00Z");
        signed["consistent_snapshot"] = json!(self.consistent);
        signed["keys"] = key_table(self.root_keys.iter().chain(others));
        signed["roles"] = json!({
            "root": role_keys(&self.root_keys, self.root_threshold),
            "timestamp": one(&self.timestamp_key),
            "snapshot": one(&self.snapshot_key),
            "targets": one(&self.targets_key),
        });
        File { signed, signers: self.root_keys.clone() }
    }

    /// The next root for the present keys, signed by its own root keys and those before it. The
    /// timestamp, snapshot and targets are signed by the present keys from now on.
    pub fn rotate(&mut self) -> u64 {
        let (last, before) = self.roots.last_key_value().unwrap();
        let (version, before) = (last + 1, before.signers.clone());
        let mut root = self.root(version);
        for key in before {
            if root.signers.iter().all(|signer| signer.id != key.id) {
                root.signers.push(key);
            }
        }
        self.roots.insert(version, root);
        self.timestamp.signers = vec![self.timestamp_key.clone()];
        self.snapshot.signers = vec![self.snapshot_key.clone()];
        self.roles.get_mut("targets").unwrap().signers = vec![self.targets_key.clone()];
        version
    }

    /// Sets a targets role's entries, keeping its delegations.
    pub fn set_role(&mut self, role: &str, targets: &[(&str, &str)], signers: &[Signer]) {
        let delegations = self.roles.get(role).map(|file| file.signed["delegations"].clone());
        let mut signed = header("targets", 1, "2032-01-01T00:00:00Z");
        signed["targets"] = entries(targets);
        if let Some(delegations) = delegations.filter(|it| !it.is_null()) {
            signed["delegations"] = delegations;
        }
        self.roles.insert(role.to_owned(), File { signed, signers: signers.to_vec() });
    }

    /// Sets `targets`' own entries.
    pub fn targets(&mut self, targets: &[(&str, &str)]) {
        let key = self.targets_key.clone();
        self.set_role("targets", targets, &[key]);
    }

    /// Adds a delegation to the parent, without a file; `rule` is its paths, prefixes and
    /// whether it is terminating.
    pub fn delegate(
        &mut self,
        parent: &str,
        role: &str,
        rule: Value,
        keys: &[Signer],
        threshold: u64,
    ) {
        let signed = &mut self.roles.get_mut(parent).unwrap().signed;
        if signed["delegations"].is_null() {
            signed["delegations"] = json!({"keys": {}, "roles": []});
        }
        for key in keys {
            signed["delegations"]["keys"][&key.id] = key.json();
        }
        let mut delegation = role_keys(keys, threshold);
        delegation["name"] = json!(role);
        delegation["terminating"] = json!(false);
        for (member, value) in rule.as_object().unwrap() {
            delegation[member] = value.clone();
        }
        signed["delegations"]["roles"].as_array_mut().unwrap().push(delegation);
    }

    /// Adds a delegated role of these paths with one key, its file included.
    pub fn delegated(
        &mut self,
        parent: &str,
        role: &str,
        paths: &[&str],
        targets: &[(&str, &str)],
    ) -> Signer {
        let key = Signer::default();
        self.delegate(parent, role, json!({"paths": paths}), std::slice::from_ref(&key), 1);
        self.set_role(role, targets, std::slice::from_ref(&key));
        key
    }

    /// Sets a member of a role's last delegation.
    pub fn set_delegation(&mut self, parent: &str, member: &str, value: Value) {
        let roles = &mut self.roles.get_mut(parent).unwrap().signed["delegations"]["roles"];
        roles.as_array_mut().unwrap().last_mut().unwrap()[member] = value;
    }

    pub fn role(&mut self, role: &str) -> &mut File {
        match role {
            "timestamp" => &mut self.timestamp,
            "snapshot" => &mut self.snapshot,
            "root" => self.roots.values_mut().next_back().unwrap(),
            _ => self.roles.get_mut(role).unwrap(),
        }
    }

    /// Sets a member of what a role signs.
    pub fn set(&mut self, role: &str, member: &str, value: Value) {
        self.role(role).signed[member] = value;
    }

    fn meta(&self, bytes: &[u8]) -> Value {
        let file: Value = serde_json::from_slice(bytes).unwrap();
        let version = &file["signed"]["version"];
        if self.hashes {
            json!({"version": version, "length": bytes.len(), "hashes": hashes(bytes)})
        } else {
            json!({"version": version})
        }
    }

    /// Signs everything, and lists it in snapshot and timestamp.
    pub fn seal(&self) -> Files {
        self.seal_with(|_| {}, |_| {})
    }

    /// The same, with the lists changed before they are signed.
    pub fn seal_with(
        &self,
        edit_snapshot: impl FnOnce(&mut Value),
        edit_timestamp: impl FnOnce(&mut Value),
    ) -> Files {
        let roots = self.roots.iter().map(|(version, file)| (*version, file.seal())).collect();
        let mut roles: BTreeMap<String, Vec<u8>> =
            self.roles.iter().map(|(name, file)| (name.clone(), file.seal())).collect();
        let mut snapshot = self.snapshot.clone();
        snapshot.signed["meta"] = json!({});
        for (name, bytes) in &roles {
            snapshot.signed["meta"][format!("{name}.json")] = self.meta(bytes);
        }
        edit_snapshot(&mut snapshot.signed);
        let snapshot = snapshot.seal();
        let mut timestamp = self.timestamp.clone();
        timestamp.signed["meta"] = json!({"snapshot.json": self.meta(&snapshot)});
        edit_timestamp(&mut timestamp.signed);
        roles.insert("snapshot".to_owned(), snapshot);
        roles.insert("timestamp".to_owned(), timestamp.seal());
        Files { roots, roles }
    }

    /// Signs, verifies from the first root without memory, and looks a tag up.
    pub fn find(&self, tag: &str, word: &str) -> Result<Proof, Refusal> {
        self.seal().run(tags(tag), &Memory::default()).find(word)
    }
}
