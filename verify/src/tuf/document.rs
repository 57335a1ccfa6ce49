//! A metadata file as read: its envelope, and what every role's file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::key::Key;
use crate::hash::{hex, sha256, sha512, unhex};
use crate::json::{Node, Value, canonical, parse};
use crate::limits::{self, check_count, check_length};
use crate::outcome::{Denial, KeyFingerprint, shortened};
use crate::sorted::ALLOCATION;
use crate::threshold::{Sealed, Signature};

/// Who signs a role.
pub(super) type RoleKeys = crate::threshold::RoleKeys<Key>;

/// A file. Nothing in it is trusted.
#[derive(Debug)]
pub(super) struct Document<'a> {
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

impl<'a> Document<'a> {
    /// Reads a file of at most `limit` bytes; `file` is its name in refusals.
    pub(super) fn read(file: &'a str, bytes: &'a [u8], limit: u64) -> Result<Self, Denial> {
        check_length(file, bytes.len() as u64, limit)?;
        let mut whole = parse(file, bytes)?;
        let node = Node::whole(file, &whole);
        let listed = node.get("signatures")?.elements()?;
        check_count(node, "signatures", listed.len(), limits::SIGNATURES)?;
        let mut signatures = Vec::new();
        let mut ids = BTreeSet::new();
        for listed in listed {
            let key_id = listed.get("keyid")?.string()?.to_owned();
            // Clause 4.2.1: key ids are unique. python-tuf refuses such a file as well.
            if !ids.insert(key_id.clone()) {
                let key_id = shortened(&key_id);
                return Err(node.malformed(format!("it has two signatures of key {key_id:?}")));
            }
            // An unsigned place, as tuf-on-ci leaves it, or what is no signature, counts nothing.
            let Some(bytes) = unhex(listed.get("sig")?.string()?) else { continue };
            signatures.push(Signature { key_id, method: String::new(), bytes });
        }
        node.get("signed")?.object()?;
        let signed = whole.take("signed");
        let sealed = Sealed { message: canonical(&signed), signatures };
        Ok(Self { file, signed, sealed })
    }

    pub(super) fn signed(&self) -> Node<'_> {
        Node::whole(self.file, &self.signed)
    }

    /// The version and expiry, where `_type` is `kind` and the specification's version 1.
    pub(super) fn header(&self, kind: &str) -> Result<Header, Denial> {
        let signed = self.signed();
        let found = signed.get("_type")?.string()?;
        if found != kind {
            let found = shortened(found);
            return Err(signed.malformed(format!("its _type is {found:?}, not {kind:?}")));
        }
        let spec = signed.get("spec_version")?.string()?;
        let mut numbers = spec.split('.').map(|part| part.parse::<u32>().ok());
        if numbers.next() != Some(Some(1)) || !numbers.all(|number| number.is_some()) {
            let spec = shortened(spec);
            let reason = format!("its spec_version is {spec:?}; only 1.x is understood");
            return Err(signed.malformed(reason));
        }
        Ok(Header {
            version: signed.get("version")?.positive()?,
            expires: signed.get("expires")?.time()?,
        })
    }
}

/// The keys of a root or targets file, by id.
pub(super) type KeyTable = BTreeMap<String, Arc<Key>>;

/// Reads a key table.
pub(super) fn read_keys(node: Node<'_>) -> Result<KeyTable, Denial> {
    let members = node.members()?;
    check_count(node, "keys", members.len(), limits::KEYS)?;
    members.map(|(id, key)| Ok((id.to_owned(), Arc::new(Key::read(key)?)))).collect()
}

/// Reads `keyids` and `threshold`. An id that the table does not have counts nothing.
pub(super) fn read_role_keys(node: Node<'_>, table: &KeyTable) -> Result<RoleKeys, Denial> {
    let mut keys = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for id in node.get("keyids")?.elements()? {
        let id = id.string()?;
        if !ids.insert(id) {
            let id = shortened(id);
            return Err(node.malformed(format!("it lists key {id:?} twice for one role")));
        }
        if let Some(key) = table.get(id) {
            keys.insert(id.to_owned(), Arc::clone(key));
        }
    }
    Ok(RoleKeys::new(keys, node.get("threshold")?.positive()?))
}

/// How one file lists another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The version.
    pub version: u64,
    /// In bytes, where it is listed.
    pub length: Option<u64>,
    /// Where it is listed.
    pub sha256: Option<[u8; 32]>,
    /// Where it is listed.
    pub sha512: Option<Box<[u8; 64]>>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) version: u64,
    pub(super) length: u64,
    pub(super) sha256: [u8; 32],
    sha512: [u8; 64],
}

impl Identity {
    pub(super) fn of(bytes: &[u8], version: u64) -> Self {
        let (sha256, sha512) = (sha256(bytes), sha512(bytes));
        Self { version, length: bytes.len() as u64, sha256, sha512 }
    }
}

impl Listed {
    pub(super) fn read(node: Node<'_>) -> Result<Self, Denial> {
        let hashes = node.optional("hashes")?;
        let (sha256, sha512) = match hashes {
            Some(hashes) => read_hashes(hashes)?,
            None => (None, None),
        };
        if hashes.is_some() && sha256.is_none() && sha512.is_none() {
            return Err(node.malformed("it lists hashes, but neither sha256 nor sha512"));
        }
        let length = node.optional("length")?.map(|length| length.unsigned()).transpose()?;
        Ok(Self { version: node.get("version")?.positive()?, length, sha256, sha512 })
    }

    /// What it points to, in bytes.
    pub(super) fn footprint(&self) -> usize {
        self.sha512.as_ref().map_or(0, |_| ALLOCATION + 64)
    }

    /// Whether this lists the file.
    pub(super) fn lists(&self, file: &Identity) -> bool {
        self.version == file.version
            && self.length.is_none_or(|length| length == file.length)
            && self.sha256.is_none_or(|hash| hash == file.sha256)
            && self.sha512.as_ref().is_none_or(|hash| **hash == file.sha512)
    }

    /// Clauses 5.5.2 and 5.6.2: refuses bytes of another length or hash, before they are parsed;
    /// `by` is the file that lists them. Whether the version is the listed one they tell later.
    pub(super) fn check(&self, file: &str, bytes: &[u8], by: &str) -> Result<Identity, Denial> {
        let found = Identity::of(bytes, self.version);
        if self.lists(&found) {
            return Ok(found);
        }
        let wanted = self.length.map_or_else(String::new, |length| format!("{length} bytes "));
        let hash = self.sha256.map(|hash| format!("sha256 {}", hex(&hash)));
        let reason = format!(
            "it is {} bytes with sha256 {}; {by} lists {wanted}{}",
            found.length,
            hex(&found.sha256),
            hash.as_deref().unwrap_or("with another hash")
        );
        Err(Denial::MalformedMetadata { file: file.to_owned(), reason })
    }
}

/// The sha256 and sha512 of a list of hashes. Others are not known here and not needed.
pub(super) type Hashes = (Option<[u8; 32]>, Option<Box<[u8; 64]>>);

pub(super) fn read_hashes(node: Node<'_>) -> Result<Hashes, Denial> {
    let sha256 = node.optional("sha256")?.map(|hash| hash.hex()).transpose()?;
    let sha512 = node.optional("sha512")?.map(|hash| hash.hex().map(Box::new)).transpose()?;
    Ok((sha256, sha512))
}

/// A verified file's content, and what it takes to verify it again without reading it again.
#[derive(Debug)]
pub(super) struct Signed<T> {
    pub(super) content: T,
    pub(super) header: Header,
    pub(super) file: Identity,
    pub(super) signers: BTreeSet<KeyFingerprint>,
    /// The keys that it was verified by.
    pub(super) keys: RoleKeys,
}

impl<T> Signed<T> {
    /// Reads what a document holds. Its signatures come first: what nobody has signed must not make
    /// us take time and memory for it. `file` is asked for the file of a version.
    pub(super) fn read(
        role: &str,
        document: &Document<'_>,
        keys: &RoleKeys,
        read: impl FnOnce(&Document<'_>) -> Result<(Header, T), Denial>,
        file: impl FnOnce(u64) -> Identity,
    ) -> Result<Self, Denial> {
        let signers = keys.verify(role, &document.sealed)?;
        let (header, content) = read(document)?;
        Ok(Self { content, header, file: file(header.version), signers, keys: keys.clone() })
    }

    /// Whether the keys that signed it still are enough.
    pub(super) fn is_signed_by(&self, keys: &RoleKeys) -> bool {
        let now = keys.fingerprints();
        self.signers.intersection(&now).count() as u64 >= keys.threshold()
    }
}
