//! One event object for everything that is the same, with a count.

use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Error};
use serde_json::json;

use crate::cluster::FIELD_MANAGER;
use crate::cluster::problem::is_conflict;

/// Most requests that write: the event of another replica may stand in the way, and have expired
/// when it is counted on.
pub(super) const ATTEMPTS: usize = 4;

/// How often the same was refused.
///
/// The API server lets nothing of an event change but its series. All replicas count in one event,
/// each on top of the resource version that it knows.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// Refusals that the event does not count yet.
    due: i32,
    /// The event, as it was seen last.
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    version: Option<String>,
    count: i32,
}

impl Seen {
    fn new(event: &Event) -> Self {
        // An event without a series is one occurrence.
        let count = event.series.as_ref().map_or(1, |series| series.count);
        Self { version: event.metadata.resource_version.clone(), count }
    }
}

impl Series {
    /// Once more.
    pub(super) fn occurred(&mut self) {
        self.due = self.due.saturating_add(1);
    }

    /// Writes what is due to the event of this name; `new` makes it where there is none.
    pub(super) async fn write(
        &mut self,
        api: &Api<Event>,
        name: &str,
        new: impl Fn() -> Event,
    ) -> Result<(), Error> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let error = match self.attempt(api, name, &new).await {
                Ok(event) => {
                    self.seen = Some(Seen::new(&event));
                    self.due = 0;
                    return Ok(());
                }
                Err(error) => error,
            };
            if attempts == 0 {
                return Err(error);
            }
            if is_conflict(&error) {
                self.seen = look(api, name).await?;
            } else if self.seen.is_some() && is_gone(&error) {
                self.seen = None;
            } else {
                return Err(error);
            }
        }
    }

    async fn attempt(
        &self,
        api: &Api<Event>,
        name: &str,
        new: impl Fn() -> Event,
    ) -> Result<Event, Error> {
        let series = |count| EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) };
        let Some(seen) = &self.seen else {
            // The API server takes no series of one.
            let event = Event { series: (self.due > 1).then(|| series(self.due)), ..new() };
            let manager = Some(FIELD_MANAGER.to_owned());
            return api
                .create(&PostParams { field_manager: manager, ..PostParams::default() }, &event)
                .await;
        };
        let patch = json!({
            "metadata": {"resourceVersion": seen.version},
            "series": series(seen.count.saturating_add(self.due)),
        });
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        api.patch(name, &params, &Patch::Merge(patch)).await
    }
}

/// The event of this name. A patch without a change reads it, so that no right to read events is
/// needed.
async fn look(api: &Api<Event>, name: &str) -> Result<Option<Seen>, Error> {
    match api.patch(name, &PatchParams::default(), &Patch::Merge(json!({}))).await {
        Ok(event) => Ok(Some(Seen::new(&event))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}
