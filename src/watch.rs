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
#[derive(Debug, Clone)]
pub struct Watch {
    paths: Vec<PathBuf>,
    registries: BTreeSet<String>,
    read: Read,
    /// The state of the files that are in place.
    seen: u64,
    /// Why a later state is not, as far as it has been told.
    told: Vec<String>,
}

/// How files become policies; an error tells why the former ones stay.
type Read = fn(&[PathBuf], &BTreeSet<String>) -> Result<Snapshot, Vec<String>>;

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
        Ok((Self { paths, registries, read, seen, told: Vec::new() }, snapshot))
    }

    /// Puts every change in place. Files that cannot be read, or hold no policy, change nothing;
    /// resources that do not compile deny what they match.
    pub async fn follow(mut self, reviewer: Arc<Reviewer>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(snapshot) = self.look_again().await {
                tracing::info!(policies = snapshot.policies.policies().len(), "policies changed");
                reviewer.replace(snapshot);
            }
        }
    }

    async fn look_again(&mut self) -> Option<Snapshot> {
        let mut watch = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let changed = watch.changed();
            (watch, changed)
        });
        match looked.await {
            Ok((watch, changed)) => {
                *self = watch;
                changed
            }
            // Whatever is wrong with these files, the next ones may be sound.
            Err(error) => {
                self.tell(vec![format!("reading them failed, which is a bug: {error}")]);
                None
            }
        }
    }

    fn changed(&mut self) -> Option<Snapshot> {
        let seen = look(&self.paths);
        if seen == self.seen {
            self.told.clear();
            return None;
        }
        match (self.read)(&self.paths, &self.registries) {
            Ok(snapshot) => {
                self.seen = seen;
                self.told.clear();
                Some(snapshot)
            }
            Err(problems) => {
                self.tell(problems);
                None
            }
        }
    }

    /// Logs problems once: they are found again at every look.
    fn tell(&mut self, problems: Vec<String>) {
        if problems == self.told {
            return;
        }
        for problem in &problems {
            tracing::error!(%problem, "policies cannot be read: the former ones stay");
        }
        self.told = problems;
    }
}

fn read(paths: &[PathBuf], registries: &BTreeSet<String>) -> Result<Snapshot, Vec<String>> {
    let resources = api::read(paths)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    // An empty folder is a mistake, or a moment between two states: it must not end what it asked.
    if resources.policies.is_empty() {
        let folders: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(vec![format!("no TrustPolicy was found in {}", folders.join(", "))]);
    }
    let compiled = api::compile(&resources, Timestamp::now());
    for problem in &compiled.problems {
        tracing::error!(%problem, "a resource does not compile: it denies what it matches");
    }
    Ok(Snapshot::new(compiled, registries))
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

    const POLICY: &str = "
apiVersion: countersign.dev/v1alpha1
kind: TrustPolicy
metadata: {name: all}
spec:
  match:
    images: {include: ['registry.example.com/**'], exclude: []}
    namespaceSelector: {matchLabels: {}}
  allowUnverified: {reason: a test}
";

    /// A watch of a folder whose policy is in place.
    fn watched(folder: &Path) -> (Watch, PathBuf) {
        let file = folder.join("a.yaml");
        fs::write(&file, POLICY).expect("written");
        let paths = vec![folder.to_owned()];
        let seen = look(&paths);
        let registries = BTreeSet::new();
        (Watch { paths, registries, read, seen, told: Vec::new() }, file)
    }

    #[tokio::test]
    async fn files_without_a_policy_change_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut watch, file) = watched(folder.path());
        fs::write(&file, "").expect("written");
        assert!(watch.look_again().await.is_none());
        fs::remove_file(&file).expect("removed");
        assert!(watch.look_again().await.is_none());
        assert!(watch.told[0].contains("no TrustPolicy"), "{:?}", watch.told);
        fs::write(&file, POLICY).expect("written");
        let snapshot = watch.look_again().await.expect("a policy again");
        assert_eq!(snapshot.policies.policies().len(), 1);
        assert!(watch.look_again().await.is_none());
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_read_again_though_it_looks_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut watch, file) = watched(folder.path());
        fs::write(&file, format!("{POLICY}\n")).expect("written");
        watch.read = |_, _| Err(vec!["for the moment".to_owned()]);
        assert!(watch.look_again().await.is_none());
        assert_eq!(watch.told, ["for the moment"]);
        watch.read = read;
        assert!(watch.look_again().await.is_some());
        assert!(watch.told.is_empty());
    }

    #[tokio::test]
    async fn a_panic_while_reading_does_not_end_following() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut watch, file) = watched(folder.path());
        fs::write(&file, format!("{POLICY}\n")).expect("written");
        watch.read = |_, _| panic!("the test's own");
        assert!(watch.look_again().await.is_none());
        assert_eq!(watch.told.len(), 1);
        watch.read = read;
        assert!(watch.look_again().await.is_some());
    }
}
