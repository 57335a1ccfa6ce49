//! Policies from files, followed as the files change.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api;
use crate::review::Reviewer;
use crate::snapshot::Snapshot;

/// How often the files are looked at. Looking finds what file events miss: kubelet swaps a
/// symbolic link above the files of a mounted ConfigMap.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows policy files for as long as it runs.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    registries: BTreeSet<String>,
    seen: u64,
}

impl Watch {
    /// Reads the files for the first time. Everything wrong with them is an error.
    pub fn start(
        paths: Vec<PathBuf>,
        registries: BTreeSet<String>,
    ) -> Result<(Self, Snapshot), Vec<String>> {
        // Looked at before they are read: what changes in between is read again.
        let seen = look(&paths);
        let compiled = api::load(&paths, Timestamp::now())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let snapshot = Snapshot::new(compiled, &registries);
        Ok((Self { paths, registries, seen }, snapshot))
    }

    /// Puts every change in place. Files that cannot be read change nothing; resources that do
    /// not compile deny what they match.
    pub async fn follow(mut self, reviewer: Arc<Reviewer>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looked = tokio::task::spawn_blocking(move || {
                let changed = self.changed();
                (self, changed)
            });
            let Ok((watch, changed)) = looked.await else {
                tracing::error!("policies are no longer followed: restart Countersign");
                return;
            };
            self = watch;
            if let Some(snapshot) = changed {
                tracing::info!(policies = snapshot.policies.policies().len(), "policies changed");
                reviewer.replace(snapshot);
            }
        }
    }

    fn changed(&mut self) -> Option<Snapshot> {
        let seen = look(&self.paths);
        if seen == self.seen {
            return None;
        }
        self.seen = seen;
        match api::read(&self.paths) {
            Ok(resources) => {
                let compiled = api::compile(&resources, Timestamp::now());
                for problem in &compiled.problems {
                    tracing::error!(%problem, "a resource does not compile: it denies what it matches");
                }
                Some(Snapshot::new(compiled, &self.registries))
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!(%problem, "policies cannot be read: the former ones stay");
                }
                None
            }
        }
    }
}

/// What tells one state of the files from another without reading them.
fn look(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let mut files: Vec<PathBuf> = match fs::read_dir(path) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        files.sort();
        files.push(path.clone());
        files.iter().for_each(|file| look_at(file, &mut hasher));
    }
    hasher.finish()
}

fn look_at(file: &Path, hasher: &mut impl Hasher) {
    file.hash(hasher);
    if let Ok(found) = fs::metadata(file) {
        (found.dev(), found.ino(), found.len()).hash(hasher);
        (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()).hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = [folder.path().to_owned()];
        let mut states = vec![look(&paths)];
        let mut next = |what: &str| {
            let state = look(&paths);
            assert!(!states.contains(&state), "{what}");
            states.push(state);
        };
        let file = folder.path().join("a.yaml");
        fs::write(&file, "one").expect("written");
        next("a new file");
        fs::write(&file, "two").expect("written");
        next("other content of the same length");
        fs::write(folder.path().join("b"), "two").expect("written");
        fs::rename(folder.path().join("b"), &file).expect("renamed");
        next("a file replaced");
        let versions = folder.path().join("..v1");
        fs::create_dir(&versions).expect("made");
        fs::write(versions.join("a.yaml"), "two").expect("written");
        fs::remove_file(&file).expect("removed");
        std::os::unix::fs::symlink("..v1/a.yaml", &file).expect("linked");
        next("a link in its place");
        fs::remove_file(&file).expect("removed");
        next("a file gone");
    }
}
