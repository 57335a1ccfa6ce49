//! What is remembered of repositories, in TrustCheckpoint objects that all replicas share.
//!
//! A watch keeps them at hand, so that an update reads nothing, and a deletion, which is the one
//! manual reset, reaches every replica. What the watch does not tell in time loosens nothing: the
//! floors that hold are the most that this replica has verified or seen, until it sees the object
//! deleted.

mod known;
mod object;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_verify::notary::Memory;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::FIELD_MANAGER;
use super::freshness::{Freshness, Heard};
use super::problem::{because, is_conflict};
use super::store::map;
use super::watch::Follow;
use crate::api::bounds::CHECKPOINT_ROLES;
use crate::api::{API_VERSION, TrustCheckpoint, TrustCheckpointSpec};
use crate::metadata::{Place, Remembered};
use crate::telemetry::{CheckpointOutcome, Metrics};
use known::{Known, Step};

/// Longest time for one raise, whatever the API server does. It comes on top of the update, and
/// both fit into a review's deadline where the source answers within seconds.
const RAISE: Duration = Duration::from_secs(3);

/// Most attempts of one raise: as many replicas may write the same object at the same time.
const ATTEMPTS: usize = 8;

/// Most checkpoints of one source; one with many roles counts for several. Each takes about 2 KiB
/// in etcd and 3 KiB in every replica, and whoever may sign under a pin makes as many repositories
/// as it likes. Twice the ten thousand repositories of the largest installations: after a change of
/// its pin a repository has another checkpoint, beside that of before.
pub(crate) const CHECKPOINTS: usize = 20_000;

/// Most checkpoints that a log line about deleted ones names.
const NAMED: usize = 5;

/// Why what is remembered cannot be known or kept. Without it rollback cannot be refused, so nothing
/// is verified.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// What the API server has is not known, or has not been for too long.
    #[error("{0}; until then it is not known which versions were seen")]
    NotHeard(String),
    /// The object is not one that Countersign wrote.
    #[error(
        "TrustCheckpoint \"{name}\" cannot be used: {reason}; deleting it forgets which versions \
         were seen, so do that only if you know why it changed"
    )]
    Malformed {
        /// The object.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object was deleted while the repository was read on top of what it said.
    #[error("TrustCheckpoint \"{name}\" was deleted meanwhile; try again")]
    Deleted {
        /// The object.
        name: String,
    },
    /// The repository had too many roles by now.
    #[error(
        "TrustCheckpoint \"{name}\" would hold more than {CHECKPOINT_ROLES} roles; deleting it \
         forgets those that are not there any more, and which versions were seen"
    )]
    Roles {
        /// The object.
        name: String,
    },
    /// The source had too many checkpoints by now.
    #[error(
        "TrustSource \"{of}\" has {CHECKPOINTS} TrustCheckpoints, and no repository that was never \
         seen is read any more, nor beyond twice as many one that gains roles; see who makes so \
         many (kubectl get trustcheckpoints), and delete those of repositories that are not there \
         any more"
    )]
    Full {
        /// The source.
        of: String,
    },
    /// It could not be written.
    #[error(
        "TrustCheckpoint \"{name}\" cannot be written: {problem}; Countersign needs get, list, \
         watch, create and patch on trustcheckpoints"
    )]
    Write {
        /// The object.
        name: String,
        /// What the API server says, or that it says nothing.
        problem: String,
    },
}

/// The newest versions seen, as the replicas share them.
pub struct Checkpoints {
    follow: Follow,
    api: Api<DynamicObject>,
    known: Mutex<Known>,
    freshness: Freshness,
    metrics: Metrics,
}

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints").field("freshness", &self.freshness).finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// Nothing is known before [`Self::follow`] runs. Where nothing was heard of the watch for
    /// longer than `stale_after`, nothing is known any more.
    pub(super) fn new(client: &Client, stale_after: Duration, metrics: &Metrics) -> Self {
        let heard = Heard::new("TrustCheckpoints");
        let freshness = Freshness::new(vec![Arc::clone(&heard)], stale_after);
        freshness.put_in_place(true);
        let resource = ApiResource::erase::<TrustCheckpoint>(&());
        Self {
            follow: Follow::new(client, heard, stale_after),
            api: Api::all_with(client.clone(), &resource),
            known: Mutex::default(),
            freshness,
            metrics: metrics.clone(),
        }
    }

    /// Follows the checkpoints for ever.
    pub(super) async fn follow(&self) {
        let resource = ApiResource::erase::<TrustCheckpoint>(&());
        let api = Api::all_with(self.follow.client.clone(), &resource);
        let take = |event| {
            let deleted = self.known().take(map(event, object::read));
            self.forgotten(&deleted);
        };
        self.follow.clone().run(api, take).await;
    }

    /// Why nothing can be verified yet: they have never been listed.
    pub(super) fn unlisted(&self) -> Option<String> {
        if self.known().listed() {
            return None;
        }
        self.freshness.check().err()
    }

    /// How many there are of each source; one with many roles counts for several.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.known().counts()
    }

    /// What is remembered; nothing at first. No I/O.
    pub(crate) fn load(&self, place: &Place) -> Result<Remembered, CheckpointError> {
        self.freshness.check().map_err(CheckpointError::NotHeard)?;
        self.known().load(&object::name(place), place)
    }

    /// What the API server has, as far as this replica was told; nothing where it has nothing.
    pub(crate) fn stored(&self, place: &Place) -> Memory {
        self.known().stored(&object::name(place))
    }

    /// Raises what is remembered to `memory`, which rests on what was `loaded`, and tells what is
    /// remembered then: what others raised meanwhile stays. Asks the API server only where
    /// something changed, for [`RAISE`] at most. Where it fails the floors are raised in this
    /// replica all the same.
    pub(crate) async fn raise(
        &self,
        place: &Place,
        loaded: &Remembered,
        memory: &Memory,
    ) -> Result<Memory, CheckpointError> {
        let name = object::name(place);
        let raising = self.attempts(&name, place, loaded, memory);
        let raised = timeout(RAISE, raising).await.unwrap_or_else(|_| {
            let problem = format!("the API server did not answer within {} s", RAISE.as_secs());
            Err(CheckpointError::Write { name, problem })
        });
        if let Err(CheckpointError::Write { .. } | CheckpointError::Full { .. }) = &raised {
            self.metrics.checkpoint(CheckpointOutcome::Failed);
        }
        raised
    }

    async fn attempts(
        &self,
        name: &str,
        place: &Place,
        loaded: &Remembered,
        memory: &Memory,
    ) -> Result<Memory, CheckpointError> {
        let resets = loaded.resets;
        let failed = |problem| CheckpointError::Write { name: name.to_owned(), problem };
        for _ in 0..ATTEMPTS {
            let step = self.known().plan(name, place, loaded, memory)?;
            let (written, before) = match step {
                Step::Done(floors) => return Ok(floors),
                Step::Create(spec) => (self.create(name, &spec).await, None),
                Step::Change { stored, spec } => {
                    (self.change(name, &stored.version, &spec).await, Some(stored.uid))
                }
            };
            match (written, before) {
                (Ok(object), _) => {
                    self.metrics.checkpoint(CheckpointOutcome::Written);
                    self.answered(name, resets, object);
                }
                // Someone else wrote first.
                (Err(error), before) if is_conflict(&error) => match self.api.get(name).await {
                    Ok(object) => self.answered(name, resets, object),
                    Err(error) if is_missing(&error, name) => {
                        before.iter().for_each(|uid| self.gone(name, uid));
                    }
                    Err(error) => return Err(failed(because(&error))),
                },
                (Err(error), Some(uid)) if is_missing(&error, name) => self.gone(name, &uid),
                (Err(error), _) => return Err(failed(because(&error))),
            }
        }
        Err(failed(format!("others wrote first {ATTEMPTS} times")))
    }

    async fn create(&self, name: &str, spec: &TrustCheckpointSpec) -> kube::Result<DynamicObject> {
        let resource = ApiResource::erase::<TrustCheckpoint>(&());
        let object = DynamicObject {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..DynamicObject::new(name, &resource).data(json!({"spec": spec}))
        };
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.api.create(&params, &object).await
    }

    /// Leaves labels and annotations alone; the resourceVersion makes one of two writers fail.
    async fn change(
        &self,
        name: &str,
        version: &str,
        spec: &TrustCheckpointSpec,
    ) -> kube::Result<DynamicObject> {
        let patch: Value = json!({
            "apiVersion": API_VERSION, "kind": "TrustCheckpoint",
            "metadata": {"resourceVersion": version}, "spec": spec,
        });
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.api.patch(name, &params, &Patch::Merge(patch)).await
    }

    fn answered(&self, name: &str, resets: u64, object: DynamicObject) {
        let (_, read) = object::read(object);
        if self.known().answered(name, resets, read) {
            self.forgotten(&[name.to_owned()]);
        }
    }

    fn gone(&self, name: &str, uid: &str) {
        if self.known().gone(name, uid) {
            self.forgotten(&[name.to_owned()]);
        }
    }

    /// Tells of checkpoints that were seen deleted.
    fn forgotten(&self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        names.iter().for_each(|_| self.metrics.checkpoint(CheckpointOutcome::Deleted));
        let some = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        tracing::warn!(
            count = names.len(),
            names = some,
            "TrustCheckpoints were deleted: what was seen of their repositories is forgotten, and \
             older versions that have not expired are trusted again"
        );
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // It is whole between any two calls.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the API server says that it has no such object, and not that it does not know the path:
/// that it says also while it starts.
fn is_missing(error: &kube::Error, name: &str) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.name == name)
}
