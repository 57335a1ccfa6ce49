//! The smallest shell there is: it feeds the verifier from the folder that a server would publish.

use std::path::Path;
use std::sync::Arc;

use countersign_e2e::{Failure, Outcome};
use countersign_verify::image::{Digest, Reference};
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Proof, Refusal};
use countersign_verify::tuf::{
    Accept, Answer, File, Image, InitialRoot, Lookup, Repository, Template, Update,
};
use jiff::Timestamp;

/// The image name of the tests.
pub(crate) const NAME: &str = "registry.example.com/payments/api";

/// Who reads a repository: the initial root it starts at, and what it remembers.
pub(crate) struct Reader {
    initial: InitialRoot,
    memory: Memory,
    lookup: Arc<Lookup>,
}

/// A lookup in any role.
fn lookup(target: &str) -> Arc<Lookup> {
    Arc::new(Lookup {
        target: template(target),
        digest_target: Template::for_digests("{registry}/{repository}/{digest}").ok(),
        accept: Accept::Any(vec!["*".to_owned()]),
    })
}

fn template(text: &str) -> Template {
    Template::for_tags(text).unwrap_or_else(|_| unreachable!("a fixed template"))
}

/// A file of `metadata`, as a server answers for it.
fn read(metadata: &Path, file: &File) -> Option<Vec<u8>> {
    std::fs::read(metadata.join(&file.path)).ok()
}

impl Reader {
    pub(crate) fn new(root: &[u8]) -> Outcome<Self> {
        Self::with_template(root, "{registry}/{repository}/{tag}")
    }

    /// With another template for tags.
    pub(crate) fn with_template(root: &[u8], target: &str) -> Outcome<Self> {
        let initial = InitialRoot::read(root).map_err(|denial| Failure::new(denial.to_string()))?;
        Ok(Self { initial, memory: Memory::default(), lookup: lookup(target) })
    }

    /// Updates from the initial root, for this image (`NAME:TAG` or `NAME@DIGEST`), and looks it
    /// up; `manifest` is what the registry has under it.
    pub(crate) fn find(
        &mut self,
        metadata: &Path,
        image: &str,
        manifest: &[u8],
    ) -> Result<Proof, Refusal> {
        let reference = Reference::parse(image).expect("a fixed reference");
        let repository = self.update(metadata, &reference)?;
        let digest = Digest::sha256(manifest);
        let image = Image {
            reference: &reference,
            digest: &digest,
            size: Some(manifest.len() as u64),
            manifest: Some(manifest),
        };
        repository.find(&self.lookup, image, Timestamp::now())
    }

    fn update(&mut self, metadata: &Path, reference: &Reference) -> Result<Repository, Refusal> {
        let mut update = Update::new(&self.initial, self.memory.clone(), Timestamp::now());
        update.want(&self.lookup, reference, None);
        loop {
            let wanted = update.wanted();
            if wanted.is_empty() {
                break;
            }
            for file in wanted {
                let bytes = read(metadata, &file);
                let answer = bytes.as_deref().map_or(Answer::Absent, Answer::Bytes);
                if update.take(&file.role, answer).is_err() {
                    break;
                }
            }
        }
        self.memory = update.memory().clone();
        update.finish()
    }
}

/// The code of what came out, and for a proof the role that signed.
pub(crate) fn verdict(result: &Result<Proof, Refusal>) -> String {
    match result {
        Ok(proof) => format!("signed by {}", proof.role()),
        Err(refusal) => refusal.code().to_owned(),
    }
}
