//! One update of a Notary repository: what is fetched, and in which order it is verified.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use countersign_verify::limits;
use countersign_verify::notary::{
    FileMeta, Memory, Pin, RELEASES, Repository, RootStep, SnapshotStep, TARGETS, Update,
};
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Live;
use crate::http::{Ask, Endpoint, FetchError};

/// One update of one repository.
pub(super) struct Fetch<'a> {
    endpoint: &'a Endpoint,
    live: &'a Live,
    pin: &'a Pin,
    deadline: Instant,
    scope: String,
}

/// The newest files, fetched side by side before it is known which of them belong together.
type Files = HashMap<String, Result<Bytes, FetchError>>;

impl<'a> Fetch<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        live: &'a Live,
        pin: &'a Pin,
        deadline: Instant,
    ) -> Self {
        let scope = format!("repository:{}:pull", live.repository);
        Self { endpoint, live, pin, deadline, scope }
    }

    /// The verified repository or why there is none, and what is to be remembered either way.
    pub(super) async fn run(
        &self,
        remembered: &Memory,
        now: Timestamp,
    ) -> (Memory, Result<Repository, Refusal>) {
        let mut memory = remembered.clone();
        // The snapshot may name a newer root than the one that was fetched beside it: once, the
        // files are fetched again together.
        for last_try in [false, true] {
            let mut update = Update::new(self.pin, &self.live.repository, memory.clone(), now);
            let attempt = self.attempt(&mut update).await;
            memory = update.memory().clone();
            match attempt {
                Err(refusal) => return (memory, Err(refusal)),
                Ok(SnapshotStep::Trusted) => return (memory, update.finish()),
                Ok(SnapshotStep::RootChanged) if last_try => break,
                Ok(SnapshotStep::RootChanged) => {}
            }
        }
        let denial = Denial::MalformedMetadata {
            file: "snapshot".to_owned(),
            reason: "it names another root than the newest one".to_owned(),
        };
        (memory, Err(denial.into()))
    }

    async fn attempt(&self, update: &mut Update<'_>) -> Result<SnapshotStep, Refusal> {
        let files = self.newest().await;
        let mut step = update.root(&self.take(&files, "root")?)?;
        while let RootStep::Needs(versions) = step {
            step = update.older_roots(self.older_roots(versions).await?)?;
        }
        update.timestamp(&self.take(&files, "timestamp")?)?;
        let wanted = update.snapshot_file().ok_or_else(|| missing("snapshot"))?;
        let snapshot = self.exact("snapshot", &wanted, &files, limits::SNAPSHOT_BYTES).await?;
        if let SnapshotStep::RootChanged = update.snapshot(&snapshot)? {
            return Ok(SnapshotStep::RootChanged);
        }
        loop {
            let wanted = update.wanted_roles();
            if wanted.is_empty() {
                return Ok(SnapshotStep::Trusted);
            }
            let fetched = join_all(
                wanted
                    .iter()
                    .map(|(role, meta)| self.exact(role, meta, &files, limits::TARGETS_BYTES)),
            )
            .await;
            for ((role, _), file) in wanted.iter().zip(fetched) {
                update.role(role, file.as_deref().map_err(Clone::clone));
            }
        }
    }

    /// Everything that a repository surely or likely has, in one round trip.
    async fn newest(&self) -> Files {
        let roles = self.live.roles.iter().map(String::as_str);
        let roles = BTreeSet::from_iter(roles.chain([TARGETS, RELEASES]));
        let first = [
            ("root", limits::ROOT_BYTES),
            ("timestamp", limits::TIMESTAMP_BYTES),
            ("snapshot", limits::SNAPSHOT_BYTES),
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

    fn take(&self, files: &Files, role: &str) -> Result<Bytes, Refusal> {
        match files.get(role) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(error)) => Err(self.refused(role, error)),
            None => Err(missing(role).into()),
        }
    }

    async fn get(&self, file: &str, limit: u64) -> Result<Bytes, FetchError> {
        let prefix = self.live.source.url.path().trim_end_matches('/');
        let path = format!("{prefix}/v2/{}/_trust/tuf/{file}.json", self.live.repository);
        let ask = Ask {
            accept: None,
            scope: Some(&self.scope),
            max_bytes: limit,
            deadline: self.deadline,
        };
        self.endpoint.get(&path, &ask).await.map(|answer| answer.body)
    }

    /// A repository without a root was never signed, which is evidence; everything else is the
    /// lack of it.
    fn refused(&self, file: &str, error: &FetchError) -> Refusal {
        match (file, error) {
            ("root", FetchError::NotFound) => Denial::Unsigned {
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
        super::unavailable(self.live, &format!("{file}.json: {error}"))
    }
}

fn missing(role: &str) -> Denial {
    Denial::MalformedMetadata {
        file: role.to_owned(),
        reason: "no file above it names it".to_owned(),
    }
}
