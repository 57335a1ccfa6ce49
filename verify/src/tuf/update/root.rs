//! Clause 5.3: the chain of roots, one version after the other.

use std::sync::Arc;

use super::top::listed;
use super::{Answer, Stage, Update, bytes, check_expiry};
use crate::hash::hex;
use crate::limits;
use crate::memory::{Keys, Memory, RootFloor, Signers};
use crate::outcome::{Denial, Refusal};
use crate::tuf::document::{Document, Identity, RoleKeys, Signed};
use crate::tuf::metadata::Root;
use crate::tuf::tree::ROOT;

/// The root that a source starts with: whoever configures it vouches for it.
#[derive(Debug, Clone)]
pub struct InitialRoot {
    pub(in crate::tuf) root: Arc<Signed<Root>>,
}

impl InitialRoot {
    /// Reads it.
    ///
    /// # Errors
    /// Where it is malformed, or not signed as it says.
    pub fn read(bytes: &[u8]) -> Result<Self, Denial> {
        let document = Document::read(ROOT, bytes, limits::TUF_ROOT_BYTES)?;
        let (header, root) = Root::read(&document)?;
        let (keys, file) = (root.root.clone(), |version| Identity::of(bytes, version));
        let root = Signed::read(ROOT, &document, &keys, |_| Ok((header, root)), file)?;
        Ok(Self { root: Arc::new(root) })
    }

    /// sha256 of the file in hex.
    pub fn anchor(&self) -> String {
        hex(&self.root.file.sha256)
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.root.header.version
    }
}

impl Update {
    pub(super) fn take_root(&mut self, answer: Answer<'_>) -> Result<(), Refusal> {
        match answer {
            Answer::Absent => Ok(self.end_of_roots()?),
            other => bytes(ROOT, other).and_then(|bytes| Ok(self.next_root(bytes)?)),
        }
    }

    fn next_root(&mut self, bytes: &[u8]) -> Result<(), Denial> {
        if self.rotations >= limits::ROOT_ROTATIONS {
            let what = "the number of root rotations in one update".to_owned();
            return Err(Denial::LimitExceeded { what, limit: limits::ROOT_ROTATIONS });
        }
        self.check_root(&self.root)?;
        let document = Document::read(ROOT, bytes, limits::TUF_ROOT_BYTES)?;
        let (header, root) = Root::read(&document)?;
        // 5.3.5. Versions do not wrap: of the highest there is no successor.
        let wanted = self.root.header.version.checked_add(1);
        if wanted != Some(header.version) {
            let newest = self.root.header.version;
            let reason = format!("it is of version {}, after version {newest}", header.version);
            return Err(Denial::MalformedMetadata { file: ROOT.to_owned(), reason });
        }
        // 5.3.4: by the keys of the root before it, and by its own.
        let by =
            format!("root {}, by the keys of root {},", header.version, self.root.header.version);
        self.root.content.root.verify(&by, &document.sealed)?;
        let (keys, file) = (root.root.clone(), |version| Identity::of(bytes, version));
        let root = Signed::read(ROOT, &document, &keys, |_| Ok((header, root)), file)?;
        self.check_root(&root)?;
        self.root = Arc::new(root);
        self.rotations += 1;
        self.remember_root();
        Ok(())
    }

    /// 5.3.10 and 5.3.11: only the last root's expiry counts.
    fn end_of_roots(&mut self) -> Result<(), Denial> {
        let root = Arc::clone(&self.root);
        self.check_root(&root)?;
        if let Some(floor) = &self.memory.root
            && root.header.version < floor.version
        {
            let (found, remembered) = (root.header.version, floor.version);
            return Err(Denial::Rollback { role: ROOT.to_owned(), found, remembered });
        }
        check_expiry(ROOT, root.header.expires, self.now)?;
        self.stage = Stage::Timestamp;
        self.read_kept();
        Ok(())
    }

    /// Refuses a root that is another one than was seen of its version.
    fn check_root(&self, root: &Signed<Root>) -> Result<(), Denial> {
        let Some(floor) = &self.memory.root else { return Ok(()) };
        let sha256 = hex(&root.file.sha256);
        let version = root.header.version;
        if version != floor.version || sha256 == floor.sha256 {
            return Ok(());
        }
        let seen = &floor.sha256;
        let reason = format!("version {version} has sha256 {sha256}, and {seen} was seen before");
        Err(Denial::MalformedMetadata { file: ROOT.to_owned(), reason })
    }

    /// An initial root is what somebody wrote: it is not remembered before anything was seen that
    /// its keys have signed. Floors that it does not leave fall with it: later nobody could tell
    /// which verified step lowered them.
    pub(super) fn remember_root(&mut self) {
        let keys = |keys: &RoleKeys| Keys {
            keys: listed(&keys.fingerprints()),
            threshold: keys.threshold(),
        };
        let content = &self.root.content;
        let signers =
            Signers { timestamp: keys(&content.timestamp), snapshot: keys(&content.snapshot) };
        let root = RootFloor {
            version: self.root.header.version,
            sha256: hex(&self.root.file.sha256),
            signers: Some(Box::new(signers)),
        };
        let memory = Memory { root: Some(root), ..Memory::default() };
        self.memory = std::mem::take(&mut self.memory).merged(memory);
    }
}
