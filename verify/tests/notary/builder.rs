//! A repository's metadata, made and signed for one test, and the shell's part of an update.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_verify::image::{Digest, Pattern};
use countersign_verify::notary::{
    Lookup, Memory, Pin, PinnedKeys, Repository, RootStep, SnapshotStep, Update, Wanted,
};
use countersign_verify::outcome::{Denial, Proof, Refusal};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::signer::{Cert, Kind, Signer};

pub const GUN: &str = "registry.example.com/payments/api";

/// What the verifier is told that the time is.
pub fn now() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

fn sha512(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes).as_ref().to_vec()
}

/// Docker's canonical JSON, written a second time so that the verifier is not its own witness.
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

/// Files by what they sign and by whom.
type Sealed = HashMap<(Vec<u8>, Vec<String>), Vec<u8>>;

thread_local! {
    /// What has been signed before: a server does not sign a file twice, and neither does a test.
    static SEALED: RefCell<Sealed> = RefCell::default();
}

impl File {
    pub fn seal(&self) -> Vec<u8> {
        let message = canonical(&self.signed);
        let signers = self.signers.iter().map(|key| key.id() + &key.method).collect();
        let key = (message, signers);
        if let Some(sealed) = SEALED.with_borrow(|sealed| sealed.get(&key).cloned()) {
            return sealed;
        }
        let sealed = self.sign(&key.0);
        SEALED.with_borrow_mut(|cache| cache.insert(key, sealed.clone()));
        sealed
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = |key: &Signer| {
            let signature = BASE64_STANDARD.encode(key.sign(message));
            json!({"keyid": key.id(), "method": key.method, "sig": signature})
        };
        let signatures: Vec<Value> = self.signers.iter().map(signature).collect();
        serde_json::to_vec(&json!({"signatures": signatures, "signed": self.signed})).unwrap()
    }
}

/// `{"keyids": .., "threshold": ..}`
pub fn role_keys(keys: &[Signer], threshold: u64) -> Value {
    let ids: Vec<String> = keys.iter().map(Signer::id).collect();
    json!({"keyids": ids, "threshold": threshold})
}

/// `{id: key, ..}`
pub fn key_table<'k>(keys: impl IntoIterator<Item = &'k Signer>) -> Value {
    let keys = keys.into_iter().map(|key| (key.id(), key.json()));
    Value::Object(keys.collect::<Map<_, _>>())
}

/// Hashes and length as a snapshot or timestamp lists them.
pub fn meta(bytes: &[u8]) -> Value {
    let encode = |hash: &[u8]| BASE64_STANDARD.encode(hash);
    let hashes = json!({"sha256": encode(&sha256(bytes)), "sha512": encode(&sha512(bytes))});
    json!({"hashes": hashes, "length": bytes.len()})
}

/// An image's manifest, by a word.
pub fn manifest(word: &str) -> Vec<u8> {
    format!("the manifest of {word}").into_bytes()
}

pub fn digest(word: &str) -> Digest {
    Digest::sha256(&manifest(word))
}

pub fn digest512(word: &str) -> Digest {
    let hex: String = sha512(&manifest(word)).iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&format!("sha512:{hex}")).unwrap()
}

fn entries(tags: &[(&str, &str)]) -> Value {
    let entry = |word: &str| {
        let hashes = json!({"sha256": BASE64_STANDARD.encode(sha256(&manifest(word)))});
        json!({"hashes": hashes, "length": manifest(word).len()})
    };
    let entries = tags.iter().map(|(tag, word)| ((*tag).to_owned(), entry(word)));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// A repository before it is sealed.
#[derive(Clone)]
pub struct Repo {
    pub root_key: Signer,
    pub timestamp_key: Signer,
    pub snapshot_key: Signer,
    pub targets_key: Signer,
    /// By version; the last is `root.json`.
    pub roots: BTreeMap<u64, File>,
    pub timestamp: File,
    pub snapshot: File,
    /// `targets` and delegations.
    pub roles: BTreeMap<String, File>,
}

/// A repository's files, as a server has them.
#[derive(Clone)]
pub struct Files {
    pub roots: BTreeMap<u64, Vec<u8>>,
    pub timestamp: Vec<u8>,
    pub snapshot: Vec<u8>,
    pub roles: BTreeMap<String, Vec<u8>>,
}

fn listing(kind: &str) -> Value {
    json!({"_type": kind, "expires": "2030-02-01T00:00:00.123456789Z", "meta": {}, "version": 1})
}

impl Repo {
    /// One key per role, of the types that notary itself uses, and no entries.
    pub fn new(gun: &str) -> Self {
        let root = Signer::x509(Kind::P256, &Cert::named(gun));
        Self::with_keys(root, [Kind::P256, Kind::P256, Kind::Ed25519].map(Signer::new))
    }

    /// With these keys for root, and timestamp, snapshot and targets.
    pub fn with_keys(root_key: Signer, others: [Signer; 3]) -> Self {
        let [timestamp_key, snapshot_key, targets_key] = others;
        let file = |signed, key: &Signer| File { signed, signers: vec![key.clone()] };
        let mut repo = Self {
            timestamp: file(listing("Timestamp"), &timestamp_key),
            snapshot: file(listing("Snapshot"), &snapshot_key),
            roles: BTreeMap::new(),
            roots: BTreeMap::new(),
            root_key,
            timestamp_key,
            snapshot_key,
            targets_key,
        };
        repo.set_role("targets", &[], &[repo.targets_key.clone()]);
        let root = repo.root(1, &[repo.root_key.clone()], 1);
        repo.roots.insert(1, root);
        repo
    }

    /// A root of this version for the present keys, signed by its own root keys.
    pub fn root(&self, version: u64, root_keys: &[Signer], threshold: u64) -> File {
        let others = [&self.timestamp_key, &self.snapshot_key, &self.targets_key];
        let one = |key: &Signer| role_keys(std::slice::from_ref(key), 1);
        let signed = json!({
            "_type": "Root",
            "consistent_snapshot": false,
            "expires": "2039-01-01T00:00:00Z",
            "keys": key_table(root_keys.iter().chain(others)),
            "roles": {
                "root": role_keys(root_keys, threshold),
                "timestamp": one(&self.timestamp_key),
                "snapshot": one(&self.snapshot_key),
                "targets": one(&self.targets_key),
            },
            "version": version,
        });
        File { signed, signers: root_keys.to_vec() }
    }

    /// Sets a targets role's entries, keeping its delegations.
    pub fn set_role(&mut self, role: &str, tags: &[(&str, &str)], signers: &[Signer]) {
        let delegations = match self.roles.get(role) {
            Some(file) => file.signed["delegations"].clone(),
            None => json!({"keys": {}, "roles": []}),
        };
        let signed = json!({
            "_type": "Targets",
            "delegations": delegations,
            "expires": "2032-01-01T00:00:00Z",
            "targets": entries(tags),
            "version": 1,
        });
        self.roles.insert(role.to_owned(), File { signed, signers: signers.to_vec() });
    }

    /// Sets `targets`' own entries.
    pub fn targets(&mut self, tags: &[(&str, &str)]) {
        let key = self.targets_key.clone();
        self.set_role("targets", tags, &[key]);
    }

    /// Adds a delegation to the parent, without a file.
    pub fn delegate(&mut self, role: &str, paths: &[&str], keys: &[Signer], threshold: u64) {
        let (parent, _) = role.rsplit_once('/').unwrap();
        let delegations = &mut self.roles.get_mut(parent).unwrap().signed["delegations"];
        for key in keys {
            delegations["keys"][key.id()] = key.json();
        }
        let mut delegation = role_keys(keys, threshold);
        delegation["name"] = json!(role);
        delegation["paths"] = json!(paths);
        delegations["roles"].as_array_mut().unwrap().push(delegation);
    }

    /// Adds a delegated role with one key, its file included.
    pub fn delegated(&mut self, role: &str, paths: &[&str], tags: &[(&str, &str)]) -> Signer {
        let key = Signer::new(Kind::P256);
        self.delegate(role, paths, std::slice::from_ref(&key), 1);
        self.set_role(role, tags, std::slice::from_ref(&key));
        key
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
        let roots: BTreeMap<u64, Vec<u8>> =
            self.roots.iter().map(|(version, file)| (*version, file.seal())).collect();
        let roles: BTreeMap<String, Vec<u8>> =
            self.roles.iter().map(|(name, file)| (name.clone(), file.seal())).collect();
        let mut snapshot = self.snapshot.clone();
        let listed = &mut snapshot.signed["meta"];
        listed["root"] = meta(roots.values().next_back().unwrap());
        for (name, bytes) in &roles {
            listed[name] = meta(bytes);
        }
        edit_snapshot(&mut snapshot.signed);
        let snapshot = snapshot.seal();
        let mut timestamp = self.timestamp.clone();
        timestamp.signed["meta"]["snapshot"] = meta(&snapshot);
        edit_timestamp(&mut timestamp.signed);
        Files { roots, timestamp: timestamp.seal(), snapshot, roles }
    }

    /// A pin of the root key.
    pub fn pin(&self) -> Pin {
        pin(&[&self.root_key], 1)
    }
}

/// A pin of these public keys for [`GUN`]'s registry.
pub fn pin(keys: &[&Signer], threshold: usize) -> Pin {
    let keys = keys.iter().map(|key| key.spki()).collect();
    pin_of(PinnedKeys::PublicKeys { keys, threshold })
}

pub fn pin_of(keys: PinnedKeys) -> Pin {
    let repositories = vec![Pattern::parse("registry.example.com/payments/**").unwrap()];
    Pin { name: "payments".to_owned(), repositories, keys }
}

/// What an update came to, and what it left remembered.
pub struct Updated {
    pub repository: Result<Repository, Refusal>,
    pub memory: Memory,
}

/// That the snapshot lists another root; a shell would start again.
pub fn root_changed() -> Refusal {
    let reason = "the test's sign of RootChanged".to_owned();
    Denial::MalformedMetadata { file: "snapshot".to_owned(), reason }.into()
}

impl Files {
    pub fn root(&self) -> &[u8] {
        self.roots.values().next_back().unwrap()
    }

    /// An update as the shell drives it.
    pub fn update(&self, pin: &Pin, gun: &str, memory: &Memory, now: Timestamp) -> Updated {
        let mut update = Update::new(pin, gun, memory.clone(), now);
        let done = self.drive(&mut update);
        let memory = update.memory().clone();
        Updated { repository: done.and_then(|()| update.finish()), memory }
    }

    fn drive(&self, update: &mut Update<'_>) -> Result<(), Refusal> {
        let mut step = update.root(self.root())?;
        while let RootStep::Needs(versions) = step {
            let files = versions.filter_map(|v| Some((v, self.roots.get(&v)?.clone())));
            step = update.older_roots(files.collect())?;
        }
        update.timestamp(&self.timestamp)?;
        if update.snapshot(&self.snapshot)? == SnapshotStep::RootChanged {
            return Err(root_changed());
        }
        loop {
            let wanted = update.wanted_roles();
            if wanted.is_empty() {
                return Ok(());
            }
            for (role, _) in wanted {
                update.role(&role, Ok(self.roles.get(&role).map_or(&[], Vec::as_slice)));
            }
        }
    }

    /// An update without memory, at [`now`], of [`GUN`].
    pub fn verify(&self, pin: &Pin) -> Result<Repository, Refusal> {
        self.update(pin, GUN, &Memory::default(), now()).repository
    }
}

pub fn denial<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Denial {
    match result {
        Err(Refusal::Denied(denial)) => denial,
        other => panic!("not a denial: {other:?}"),
    }
}

pub fn code<T>(result: &Result<T, Refusal>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(refusal) => refusal.code(),
    }
}

/// Looks up `tag` for the manifest of `word`, by Docker's lookup.
pub fn find_tag(repo: &Repository, tag: &str, word: &str) -> Result<Proof, Refusal> {
    let (digest, size) = (digest(word), Some(manifest(word).len() as u64));
    repo.find(&Lookup::Docker, Wanted::Tag { tag, digest: &digest, size }, now())
}

/// Looks up the digest of the manifest of `word`, by Docker's lookup.
pub fn find_digest(repo: &Repository, word: &str) -> Result<Proof, Refusal> {
    repo.find(&Lookup::Docker, Wanted::Digest { digest: &digest(word) }, now())
}
