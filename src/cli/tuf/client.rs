//! One run against one repository: what is trusted is in the folder, and every file that has been
//! verified is put there at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use countersign_verify::tuf::{Repository, Target, Update};
use jiff::Timestamp;
use tokio::time::Instant;
use url::Url;

use super::folder::Folder;
use super::unknown_keys_of;
use crate::metadata::tuf::{Drive, Mirror};

/// How long all metadata of one run may take.
const TIMEOUT: Duration = Duration::from_secs(120);

const TIMESTAMP: &str = "timestamp";
const SNAPSHOT: &str = "snapshot";

/// A repository, as one run sees it.
#[derive(Debug)]
pub(super) struct Client<'a> {
    folder: &'a Folder,
    url: &'a Url,
    mirror: Mirror,
    deadline: Instant,
    /// The time that expiries are compared with throughout the run (5.1).
    now: Timestamp,
    _alone: File,
}

impl<'a> Client<'a> {
    pub(super) fn new(folder: &'a Folder, url: &'a Url) -> Result<Self, String> {
        let mirror = Mirror::plain(url).map_err(|error| format!("--metadata-url: {error}"))?;
        // Before anything is made in a folder that is not ours.
        folder.root()?;
        let alone = folder.lock()?;
        let deadline = Instant::now() + TIMEOUT;
        Ok(Self { folder, url, mirror, deadline, now: Timestamp::now(), _alone: alone })
    }

    /// Updates root, timestamp, snapshot and `targets`.
    pub(super) async fn refresh(&self) -> Result<Repository, String> {
        let root = self.folder.root()?;
        let kept =
            [(TIMESTAMP, limits::TUF_TIMESTAMP_BYTES), (SNAPSHOT, limits::TUF_SNAPSHOT_BYTES)];
        let kept = kept
            .into_iter()
            .filter_map(|(role, limit)| Some((role.to_owned(), self.folder.read(role, limit)?)));
        let kept: BTreeMap<_, _> = kept.collect();
        let update = Update::new(&root, Memory::default(), self.now).with_kept_files(kept);
        self.run(update).await
    }

    /// A target of an updated repository, and the repository with the roles that were loaded for
    /// it; `None` where no role signs it.
    pub(super) async fn target(
        &self,
        repository: Repository,
        name: &str,
    ) -> Result<(Repository, Option<Target>), String> {
        let mut update = Update::within(&repository, self.now);
        update.want_target(name);
        let repository = self.run(update).await?;
        let target =
            repository.target(name, self.now).map_err(|refusal| self.told(&refusal, None))?;
        Ok((repository, target))
    }

    /// Gives the update what it wants, one file after the other, from the folder where the right
    /// one is there.
    async fn run(&self, mut update: Update) -> Result<Repository, String> {
        let name = self.url.as_str();
        let drive =
            Drive { mirror: &self.mirror, name, room: None, deadline: self.deadline, ahead: false };
        let mut offered = None;
        while let Some(file) = update.wanted().into_iter().next() {
            let role = file.role.as_str();
            if offered.as_deref() != Some(role) {
                offered = Some(role.to_owned());
                if let Some(kept) = self.folder.read(role, limits::TUF_TARGETS_BYTES) {
                    update.offer(role, &kept);
                    continue;
                }
            }
            let (bytes, given) = drive.one(&mut update, &file).await;
            if let Some(bytes) = bytes.as_deref().filter(|bytes| update.rests_on(role, bytes)) {
                self.folder.write(role, bytes)?;
            }
            given.map_err(|refusal| self.told(&refusal, bytes.as_deref()))?;
        }
        update.finish().map_err(|refusal| self.told(&refusal, None))
    }

    /// What went wrong, where, and what to do about it.
    fn told(&self, refusal: &Refusal, file: Option<&[u8]>) -> String {
        let url = self.url;
        match refusal {
            Refusal::Unavailable(Unavailable::SourceUnavailable { cause, .. }) => {
                format!("{}{cause}", folder_url(url))
            }
            Refusal::Denied(denial @ Denial::ThresholdNotMet { .. }) => {
                let kept = |role| self.folder.read(role, limits::TUF_TARGETS_BYTES);
                let (root, targets) = (kept("root"), kept("targets"));
                let files = [file, root.as_deref(), targets.as_deref()];
                let files: Vec<&[u8]> = files.into_iter().flatten().collect();
                format!(
                    "{url}: {denial}{}; is {} of this repository?",
                    unknown_keys_of(&files),
                    self.folder.path().join("root.json").display()
                )
            }
            Refusal::Denied(denial @ Denial::Expired { .. }) => format!(
                "{url}: {denial}; nothing newer is served: its owner has to sign it again, unless \
                 the clock is wrong or somebody keeps newer files from you"
            ),
            Refusal::Denied(denial @ Denial::Rollback { .. }) => format!(
                "{url}: {denial}, and is in {}: the server is behind, or somebody plays old files",
                self.folder.path().display()
            ),
            refusal => format!("{url}: {refusal}"),
        }
    }
}

fn folder_url(url: &Url) -> String {
    let text = url.as_str();
    if text.ends_with('/') { text.to_owned() } else { format!("{text}/") }
}
