//! The shell's part of an update, and what is asked of its end.

use std::sync::Arc;

use countersign_verify::image::Reference;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Proof, Refusal};
use countersign_verify::tuf::{
    Accept, Answer, Image, InitialRoot, Lookup, Repository, Template, Update,
};

use crate::builder::{Files, NAME, digest, manifest, now};

/// A lookup of an image, as a policy asks for it.
#[derive(Clone)]
pub struct Question {
    pub lookup: Arc<Lookup>,
    pub reference: Reference,
}

pub fn lookup(accept: Accept) -> Lookup {
    let target = Template::for_tags("{registry}/{repository}/{tag}").unwrap();
    Lookup { target, digest_target: None, accept }
}

pub fn any() -> Accept {
    Accept::Any(vec!["*".to_owned()])
}

pub fn roles(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The tag of [`NAME`], in any role.
pub fn tags(tag: &str) -> Question {
    question(&format!("{NAME}:{tag}"), any())
}

/// The digest of a word's manifest in [`NAME`], in any role.
pub fn digests(word: &str) -> Question {
    question(&format!("{NAME}@{}", digest(word)), any())
}

pub fn question(reference: &str, accept: Accept) -> Question {
    let reference = Reference::parse(reference).unwrap();
    Question { lookup: Arc::new(lookup(accept)), reference }
}

/// What an update came to, what it left remembered, and what it asked for.
pub struct Updated {
    pub question: Question,
    pub repository: Result<Repository, Refusal>,
    pub memory: Memory,
    pub asked: Vec<String>,
}

impl Updated {
    /// The outcome for an image with a word's manifest.
    pub fn find(&self, word: &str) -> Result<Proof, Refusal> {
        find(self.repository.as_ref().map_err(Clone::clone)?, &self.question, word)
    }

    pub fn denial(&self) -> Denial {
        denial(self.find("new"))
    }
}

pub fn find(repository: &Repository, question: &Question, word: &str) -> Result<Proof, Refusal> {
    let (digest, size) = (digest(word), Some(manifest(word).len() as u64));
    let digest = question.reference.digest().unwrap_or(&digest);
    let image = Image { reference: &question.reference, digest, size, manifest: None };
    repository.find(&question.lookup, image, now())
}

impl Files {
    pub fn initial(&self) -> InitialRoot {
        InitialRoot::read(self.roots.first_key_value().unwrap().1).unwrap()
    }

    /// An update from the first root, at [`now`].
    pub fn run(&self, question: Question, memory: &Memory) -> Updated {
        self.drive(Update::new(&self.initial(), memory.clone(), now()), question)
    }

    pub fn verify(&self, question: Question) -> Result<Repository, Refusal> {
        self.run(question, &Memory::default()).repository
    }

    /// An update as the shell drives it.
    pub fn drive(&self, mut update: Update, question: Question) -> Updated {
        update.want(&question.lookup, &question.reference, None);
        let mut asked = Vec::new();
        loop {
            let wanted = update.wanted();
            if wanted.is_empty() {
                break;
            }
            for file in wanted {
                asked.push(file.path.clone());
                let bytes = match file.role.as_str() {
                    "root" => {
                        let version = file.path.split('.').next().unwrap();
                        version.parse().ok().and_then(|version: u64| self.roots.get(&version))
                    }
                    role => self.roles.get(role),
                };
                let answer = bytes.map_or(Answer::Absent, |bytes| Answer::Bytes(bytes));
                if update.take(&file.role, answer).is_err() {
                    assert!(update.wanted().is_empty());
                }
            }
        }
        let memory = update.memory().clone();
        Updated { question, repository: update.finish(), memory, asked }
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
