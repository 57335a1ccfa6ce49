//! One update of a Notary repository: what is fetched, and in which order it is verified.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use countersign_verify::limits;
use countersign_verify::notary::{
    FileMeta, Memory, Pin, RELEASES, Repository, RootStep, SnapshotStep, TARGETS, Update,
};
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use tracing::Instrument as _;

use super::heavy::off_the_way;
use super::set::{Kept, Set};
use super::update::{At, Fetched};
use super::{Live, Repository as Either, not_had};
use crate::http::{Ask, Endpoint, FetchError};
use crate::telemetry::SPANS;

const ROOT: &str = "root";
const TIMESTAMP: &str = "timestamp";
const SNAPSHOT: &str = "snapshot";

/// One update of one repository.
pub(super) struct Fetch<'a> {
    endpoint: &'a Endpoint,
    prefix: &'a str,
    live: &'a Live,
    pin: &'a Pin,
    at: &'a At<'a>,
    scope: String,
}

/// The newest files, fetched side by side before it is known which of them belong together; or
/// those at hand.
type Files = HashMap<String, Result<Bytes, FetchError>>;

/// With the set at hand: one file was fetched, and it is as it was.
fn unchanged(set: &Set) -> Fetched {
    let answer = Arc::clone(&set.repository);
    let keep = Some(Arc::clone(&answer));
    Fetched { answer, keep, files: Arc::clone(&set.files), is_unchanged: true, is_extension: false }
}

/// With a new set, which is kept where it is complete.
fn new(repository: Repository, files: Kept) -> Fetched {
    let is_complete = repository.is_complete();
    let answer = Arc::new(Either::Notary(Box::new(repository)));
    let keep = is_complete.then(|| Arc::clone(&answer));
    Fetched { answer, keep, files: Arc::new(files), is_unchanged: false, is_extension: false }
}

impl<'a> Fetch<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        prefix: &'a str,
        live: &'a Live,
        pin: &'a Pin,
        at: &'a At<'a>,
    ) -> Self {
        let scope = format!("repository:{}:pull", live.repository);
        Self { endpoint, prefix, live, pin, at, scope }
    }

    /// The verified repository or why there is none, and what is to be remembered either way.
    pub(super) async fn run(
        &self,
        remembered: &Memory,
        now: Timestamp,
    ) -> (Memory, Result<Fetched, Refusal>) {
        let mut memory = remembered.clone();
        if let Some(set) = self.at.set {
            let timestamp = match self.get(TIMESTAMP, limits::TIMESTAMP_BYTES).await {
                Ok(timestamp) => timestamp,
                Err(error) => return (memory, Err(self.refused(TIMESTAMP, &error))),
            };
            let before = set.repository.notary();
            if before.is_some_and(|it| it.is_confirmed_by(&timestamp, remembered, now)) {
                return (memory, Ok(unchanged(set)));
            }
            let mut files: Files =
                set.files.iter().map(|(role, file)| (role.clone(), Ok(file.clone()))).collect();
            files.insert(TIMESTAMP.to_owned(), Ok(timestamp));
            // Where a newer root is needed, or anything else is wrong, everything is fetched anew;
            // where there is no room for some, there is none for all.
            match self.attempt(&mut memory, &files, now).await {
                Ok(Some(new)) => return (memory, Ok(new)),
                Err(refusal) if refusal == Unavailable::Overloaded.into() => {
                    return (memory, Err(refusal));
                }
                _ => {}
            }
        }
        // The snapshot may name a newer root than the one that was fetched beside it: once, the
        // files are fetched again together.
        for _ in 0..2 {
            self.at.room.empty();
            let files = self.newest().await;
            match self.attempt(&mut memory, &files, now).await {
                Ok(None) => {}
                Ok(Some(new)) => return (memory, Ok(new)),
                Err(refusal) => return (memory, Err(refusal)),
            }
        }
        let denial = Denial::MalformedMetadata {
            file: "snapshot".to_owned(),
            reason: "it names another root than the newest one".to_owned(),
        };
        (memory, Err(denial.into()))
    }

    /// One update with these files; `None` where the snapshot names another root. What it
    /// verifies is remembered, however it ends.
    async fn attempt(
        &self,
        memory: &mut Memory,
        files: &Files,
        now: Timestamp,
    ) -> Result<Option<Fetched>, Refusal> {
        let mut update = Update::new(self.pin, &self.live.repository, memory.clone(), now);
        let span = tracing::info_span!(target: SPANS, "verify", files = files.len());
        let verified = self.verify(&mut update, files).instrument(span).await;
        *memory = update.memory().clone();
        self.at.verified(memory);
        let Some(files) = verified? else { return Ok(None) };
        Ok(Some(new(update.finish()?, files)))
    }

    /// Gives the update its files in their order; those that it took, or `None` where the snapshot
    /// names another root.
    async fn verify(
        &self,
        update: &mut Update<'_>,
        files: &Files,
    ) -> Result<Option<Kept>, Refusal> {
        let mut taken = Kept::new();
        let mut keep = |role: &str, file: Bytes| drop(taken.insert(role.to_owned(), file));
        let root = self.take(files, ROOT)?;
        let (host, until) = (self.live.source.host(), self.at.deadline);
        let mut step = off_the_way(&host, root.len(), until, || update.root(&root)).await??;
        while let RootStep::Needs(versions) = step {
            let older = self.older_roots(versions).await?;
            let length = older.values().map(Vec::len).sum();
            step = off_the_way(&host, length, until, || update.older_roots(older)).await??;
        }
        keep(ROOT, root);
        let timestamp = self.take(files, TIMESTAMP)?;
        off_the_way(&host, timestamp.len(), until, || update.timestamp(&timestamp)).await??;
        self.at.verified(update.memory());
        let wanted = update.snapshot_file().ok_or_else(|| missing(SNAPSHOT))?;
        let snapshot = self.exact(SNAPSHOT, &wanted, files, limits::SNAPSHOT_BYTES).await?;
        let step =
            off_the_way(&host, snapshot.len(), until, || update.snapshot(&snapshot)).await??;
        if let SnapshotStep::RootChanged = step {
            return Ok(None);
        }
        keep(SNAPSHOT, snapshot);
        loop {
            let wanted = update.wanted_roles();
            if wanted.is_empty() {
                return Ok(Some(taken));
            }
            let files = wanted.iter().map(|(role, meta)| self.of_role(role, meta, files));
            for ((role, _), file) in wanted.iter().zip(try_join_all(files).await?) {
                let length = file.as_ref().map_or(0, Bytes::len);
                let take = || update.role(role, file.as_deref().map_err(Clone::clone));
                off_the_way(&host, length, until, take).await?;
                if let Ok(file) = file {
                    keep(role, file);
                }
            }
        }
    }

    /// Everything that a repository surely or likely has, in one round trip.
    async fn newest(&self) -> Files {
        let roles = self.live.roles.iter().map(String::as_str);
        let roles = BTreeSet::from_iter(roles.chain([TARGETS, RELEASES]));
        let first = [
            (ROOT, limits::ROOT_BYTES),
            (TIMESTAMP, limits::TIMESTAMP_BYTES),
            (SNAPSHOT, limits::SNAPSHOT_BYTES),
        ];
        let roles = roles.into_iter().map(|role| (role, limits::SPECULATIVE_TARGETS_BYTES));
        let all = first.into_iter().chain(roles);
        join_all(
            all.map(|(role, limit)| async move { (role.to_owned(), self.get(role, limit).await) }),
        )
        .await
        .into_iter()
        .collect()
    }

    async fn older_roots(
        &self,
        versions: std::ops::RangeInclusive<u64>,
    ) -> Result<BTreeMap<u64, Vec<u8>>, Refusal> {
        let fetched = join_all(versions.map(|version| async move {
            (version, self.get(&format!("{version}.root"), limits::ROOT_BYTES).await)
        }))
        .await;
        let mut roots = BTreeMap::new();
        for (version, file) in fetched {
            match file {
                Ok(bytes) => drop(roots.insert(version, bytes.to_vec())),
                // Whether the chain can do without it is the verifier's to say.
                Err(FetchError::NotFound) => {}
                Err(error) => return Err(self.refused(&format!("{version}.root"), &error)),
            }
        }
        Ok(roots)
    }

    /// The file whose hash the metadata names: the newest one if it fits, or by its hash.
    async fn exact(
        &self,
        role: &str,
        wanted: &FileMeta,
        files: &Files,
        limit: u64,
    ) -> Result<Bytes, Unavailable> {
        if let Some(Ok(bytes)) = files.get(role)
            && wanted.matches(bytes)
        {
            return Ok(bytes.clone());
        }
        let name = format!("{role}.{}", wanted.sha256_hex());
        self.get(&name, limit.min(wanted.length))
            .await
            .map_err(|error| self.unavailable(&name, &error))
    }

    /// A role's file, or why the role lacks it. Where there is no room for one, there is none for
    /// the others either.
    async fn of_role(
        &self,
        role: &str,
        wanted: &FileMeta,
        files: &Files,
    ) -> Result<Result<Bytes, Unavailable>, Unavailable> {
        match self.exact(role, wanted, files, limits::TARGETS_BYTES).await {
            Err(Unavailable::Overloaded) => Err(Unavailable::Overloaded),
            file => Ok(file),
        }
    }

    fn take(&self, files: &Files, role: &str) -> Result<Bytes, Refusal> {
        match files.get(role) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(error)) => Err(self.refused(role, error)),
            None => Err(missing(role).into()),
        }
    }

    async fn get(&self, file: &str, limit: u64) -> Result<Bytes, FetchError> {
        let (prefix, repository) = (self.prefix, &self.live.repository);
        let path = format!("{prefix}/v2/{repository}/_trust/tuf/{file}.json");
        let ask = Ask {
            accept: None,
            scope: Some(&self.scope),
            max_bytes: limit,
            room: Some(self.at.room),
            deadline: self.at.deadline,
        };
        self.endpoint.get(&path, &ask).await.map(|answer| answer.body)
    }

    /// A repository without a root was never signed, which is evidence; everything else is the
    /// lack of it.
    fn refused(&self, file: &str, error: &FetchError) -> Refusal {
        match (file, error) {
            (ROOT, FetchError::NotFound) => Denial::Unsigned {
                wanted: format!("repository {}", self.live.repository),
                looked_in: vec![format!("TrustSource \"{}\"", self.live.source.name)],
            }
            .into(),
            (_, FetchError::TooLarge { limit }) => {
                Denial::LimitExceeded { what: format!("{file}.json in bytes"), limit: *limit }
                    .into()
            }
            _ => self.unavailable(file, error).into(),
        }
    }

    fn unavailable(&self, file: &str, error: &FetchError) -> Unavailable {
        not_had(&self.live.source.name, &format!("{file}.json"), error)
    }
}

fn missing(role: &str) -> Denial {
    Denial::MalformedMetadata {
        file: role.to_owned(),
        reason: "no file above it names it".to_owned(),
    }
}
