//! The files: their envelope, and what each kind holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::role::{Delegation, KeyTable, RoleKeys, TARGETS, read_keys, read_role_keys};
use crate::json::{Node, Value, canonical, parse};
use crate::limits::{self, check_count, check_length};
use crate::outcome::{Denial, shortened};
use crate::sorted::{ALLOCATION, Sorted};
use crate::threshold::{Sealed, Signature};

/// A file as read: what is signed, and what signatures cover. Nothing
/// in it is trusted.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    file: &'a str,
    signed: Value<'a>,
    pub(super) sealed: Sealed,
}

/// What every file holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// At least 1.
    pub(super) version: u64,
    pub(super) expires: Timestamp,
}

impl<'a> Envelope<'a> {
    /// Reads a file of at most `limit` bytes; `file` is its name in refusals.
    pub(super) fn read(file: &'a str, bytes: &'a [u8], limit: u64) -> Result<Self, Denial> {
        check_length(file, bytes.len() as u64, limit)?;
        let mut whole = parse(file, bytes)?;
        let node = Node::whole(file, &whole);
        let listed = node.get("signatures")?.elements()?;
        check_count(node, "signatures", listed.len(), limits::SIGNATURES)?;
        let signatures = listed.map(read_signature).collect::<Result<_, _>>()?;
        node.get("signed")?.object()?;
        let signed = whole.take("signed");
        let sealed = Sealed { message: canonical(&signed), signatures };
        Ok(Self { file, signed, sealed })
    }

    fn signed(&self) -> Node<'_> {
        Node::whole(self.file, &self.signed)
    }

    /// The version and expiry, where `_type` is `kind`.
    pub(super) fn header(&self, kind: &str) -> Result<Header, Denial> {
        let signed = self.signed();
        let found = signed.get("_type")?.string()?;
        if found != kind {
            let found = shortened(found);
            return Err(signed.malformed(format!("its _type is {found:?}, not {kind:?}")));
        }
        Ok(Header {
            version: signed.get("version")?.positive()?,
            expires: signed.get("expires")?.time()?,
        })
    }
}

fn read_signature(node: Node<'_>) -> Result<Signature, Denial> {
    Ok(Signature {
        key_id: node.get("keyid")?.string()?.to_owned(),
        method: node.get("method")?.string()?.to_owned(),
        bytes: node.get("sig")?.base64()?,
    })
}

/// The hashes and length by which one file lists another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Always listed.
    pub sha256: [u8; 32],
    /// Where it is listed.
    pub sha512: Option<[u8; 64]>,
    /// In bytes.
    pub length: u64,
}

impl FileMeta {
    fn read(node: Node<'_>) -> Result<Self, Denial> {
        let hashes = node.get("hashes")?;
        Ok(Self {
            sha256: hashes.get("sha256")?.bytes()?,
            sha512: hashes.optional("sha512")?.map(|hash| hash.bytes()).transpose()?,
            length: node.get("length")?.unsigned()?,
        })
    }

    /// The hashes and length of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (sha256, sha512) = (super::sha256(bytes), super::sha512(bytes));
        Self { sha256, sha512: Some(sha512), length: bytes.len() as u64 }
    }

    /// Whether this lists a file whose every hash and length is known.
    pub(super) fn lists(&self, file: &Self) -> bool {
        self.length == file.length
            && self.sha256 == file.sha256
            && (self.sha512.is_none() || self.sha512 == file.sha512)
    }

    /// Whether `bytes` have this length and every listed hash.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() as u64
            && self.sha256 == super::sha256(bytes)
            && self.sha512.is_none_or(|hash| hash == super::sha512(bytes))
    }

    /// The sha256 in hex, as in the name `snapshot.<sha256>.json`.
    pub fn sha256_hex(&self) -> String {
        super::hex(&self.sha256)
    }

    /// Refuses bytes that are not the listed ones; `by` is the file that lists them.
    pub(super) fn check(&self, file: &str, bytes: &[u8], by: &str) -> Result<(), Denial> {
        if self.matches(bytes) {
            return Ok(());
        }
        let found = super::hex(&super::sha256(bytes));
        let reason = format!(
            "it is {} bytes with sha256 {found}; {by} lists {} bytes with sha256 {}",
            bytes.len(),
            self.length,
            self.sha256_hex()
        );
        Err(Denial::MalformedMetadata { file: file.to_owned(), reason })
    }
}

/// What root.json says: who signs the top-level roles.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) header: Header,
    pub(super) root: RoleKeys,
    pub(super) timestamp: RoleKeys,
    pub(super) snapshot: RoleKeys,
    pub(super) targets: RoleKeys,
}

impl Root {
    pub(super) fn read(envelope: &Envelope<'_>) -> Result<Self, Denial> {
        let header = envelope.header("Root")?;
        let signed = envelope.signed();
        let table = read_keys(signed.get("keys")?)?;
        let roles = signed.get("roles")?;
        let keys = |role| read_role_keys(roles.get(role)?, &table);
        Ok(Self {
            header,
            root: keys("root")?,
            timestamp: keys("timestamp")?,
            snapshot: keys("snapshot")?,
            targets: keys(TARGETS)?,
        })
    }
}

/// What timestamp.json or snapshot.json says: the files that belong together, by role.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) header: Header,
    pub(super) meta: BTreeMap<String, FileMeta>,
}

impl Listing {
    pub(super) fn read(envelope: &Envelope<'_>, kind: &str) -> Result<Self, Denial> {
        let header = envelope.header(kind)?;
        let meta = envelope.signed().get("meta")?.members()?;
        let meta = meta
            .map(|(role, node)| Ok((role.to_owned(), FileMeta::read(node)?)))
            .collect::<Result<_, Denial>>()?;
        Ok(Self { header, meta })
    }
}

/// What a targets file says.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) header: Header,
    pub(super) entries: Sorted<Box<str>, Entry>,
    pub(super) delegations: Vec<Delegation>,
}

/// A signed image.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) sha512: Option<Box<[u8; 64]>>,
    /// The manifest's size in bytes.
    pub(super) length: u64,
}

impl Targets {
    /// Reads the file of `role`.
    pub(super) fn read(envelope: &Envelope<'_>, role: &str) -> Result<Self, Denial> {
        let header = envelope.header("Targets")?;
        let signed = envelope.signed();
        let entries = match signed.optional("targets")? {
            Some(listed) => listed.each_member(Entry::read)?,
            None => Sorted::default(),
        };
        let delegations = match signed.optional("delegations")? {
            Some(node) => read_delegations(node, role)?,
            None => Vec::new(),
        };
        Ok(Self { header, entries, delegations })
    }
}

fn read_delegations(node: Node<'_>, role: &str) -> Result<Vec<Delegation>, Denial> {
    let table = node.optional("keys")?.map_or_else(|| Ok(KeyTable::new()), read_keys)?;
    let mut delegations = Vec::new();
    let mut names = BTreeSet::new();
    if let Some(listed) = node.optional("roles")? {
        let listed = listed.elements()?;
        check_count(node, "delegations", listed.len(), limits::DELEGATIONS_LISTED)?;
        for listed in listed {
            let delegation = Delegation::read(listed, &table, role)?;
            if !names.insert(delegation.name.clone()) {
                return Err(node.malformed(format!("it delegates to {} twice", delegation.name)));
            }
            delegations.push(delegation);
        }
    }
    Ok(delegations)
}

impl Entry {
    /// What it points to, in bytes.
    pub(super) fn footprint(&self) -> usize {
        self.sha512.as_ref().map_or(0, |_| ALLOCATION + 64)
    }

    fn read(node: Node<'_>) -> Result<Self, Denial> {
        let hashes = node.get("hashes")?;
        Ok(Self {
            sha256: hashes.optional("sha256")?.map(|hash| hash.bytes()).transpose()?,
            sha512: hashes
                .optional("sha512")?
                .map(|hash| hash.bytes().map(Box::new))
                .transpose()?,
            length: node.get("length")?.unsigned()?,
        })
    }
}
