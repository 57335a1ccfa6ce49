//! Answers AdmissionReviews over HTTP.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request as HttpRequest, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use countersign_verify::outcome::Unavailable;
use futures_util::{FutureExt, poll};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Decide;
use super::body::{BODY_BYTES, Bodies, Rejected};
use super::owner;
use super::read::{self, Request};
use super::resources::{Checks, REVIEW_BYTES};
use super::respond::{Answer, Templates};
use super::span;
use super::wire::{Object, Operation};
use super::workload::{self, Item, Kinds, Place};
use crate::cluster::Latest;
use crate::cluster::events::Events;
use crate::fair::{self, Places};
use crate::review::{self, ImageUse, Puller, Review, Subject};
use crate::server::Peer;
use crate::telemetry::{DecisionLog, DecisionRecord, Metrics, Outcome};

/// Most images in one object; a pod has a handful.
const IMAGES: usize = 1000;

/// What the answer needs of the API server's timeout, to be written and travel.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// Shortest deadline, however short the API server's timeout.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(100);

/// What a reviewer has beyond its deadline to say itself what was slow.
const LAST_RESORT: Duration = Duration::from_millis(250);

/// The review of a request that was answered without one.
const NOTHING: Review = Review { images: Vec::new() };

/// How requests are answered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The built-in and custom kinds.
    pub kinds: Kinds,
    /// What a refused template means.
    pub templates: Templates,
    /// Longest time for a review; shorter where the API server's own timeout is.
    pub deadline: Duration,
    /// Most reviews that wait for a registry or a source; more are refused as `Overloaded`. Half of
    /// them are the most for one namespace.
    pub max_in_flight: usize,
}

impl Settings {
    /// 8 s, 2048 waiting reviews, refused templates are denied.
    pub fn new(kinds: Kinds) -> Self {
        let deadline = Duration::from_secs(8);
        Self { kinds, templates: Templates::default(), deadline, max_in_flight: 2048 }
    }
}

/// Everything that answering takes.
#[derive(Debug)]
pub struct Admission<D> {
    decide: D,
    settings: Settings,
    metrics: Metrics,
    log: DecisionLog,
    events: Option<Events>,
    in_flight: Arc<Places<String>>,
    bodies: Bodies,
    checks: Checks,
}

impl<D: Decide> Admission<D> {
    /// Answers by `decide`, counts in `metrics`, writes decisions to `log`.
    pub fn new(decide: D, settings: Settings, metrics: Metrics, log: DecisionLog) -> Self {
        let in_flight = Places::new(settings.max_in_flight);
        let (bodies, checks) = (Bodies::default(), Checks::default());
        Self { decide, settings, metrics, log, events: None, in_flight, bodies, checks }
    }

    /// Tells the owners of what was refused, too.
    pub fn with_events(self, events: Option<Events>) -> Self {
        Self { events, ..self }
    }
}

/// `POST /validate` and `POST /mutate`.
pub fn router<D: Decide>(admission: Arc<Admission<D>>) -> Router {
    Router::new()
        .route("/validate", post(validate::<D>))
        .route("/mutate", post(mutate::<D>))
        .with_state(admission)
}

/// `POST /resources`: checks TrustPolicies and TrustSources beside those of `latest`.
pub fn resources_router<D: Decide>(admission: Arc<Admission<D>>, latest: Arc<Latest>) -> Router {
    Router::new().route("/resources", post(check::<D>)).with_state((admission, latest))
}

#[derive(Debug, Clone, Copy)]
enum Webhook<'a> {
    Validate,
    Mutate,
    Resources(&'a Arc<Latest>),
}

impl Webhook<'_> {
    fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Mutate => "mutate",
            Self::Resources(_) => "resources",
        }
    }
}

async fn validate<D: Decide>(
    State(admission): State<Arc<Admission<D>>>,
    request: HttpRequest<Body>,
) -> Response {
    admission.answer(Webhook::Validate, request).await
}

async fn mutate<D: Decide>(
    State(admission): State<Arc<Admission<D>>>,
    request: HttpRequest<Body>,
) -> Response {
    admission.answer(Webhook::Mutate, request).await
}

async fn check<D: Decide>(
    State((admission, latest)): State<(Arc<Admission<D>>, Arc<Latest>)>,
    request: HttpRequest<Body>,
) -> Response {
    admission.answer(Webhook::Resources(&latest), request).await
}

impl<D: Decide> Admission<D> {
    async fn answer(&self, webhook: Webhook<'_>, request: HttpRequest<Body>) -> Response {
        let arrival = Instant::now();
        let deadline = arrival + deadline(self.settings.deadline, request.uri());
        let sender = request.extensions().get::<Peer>().map(|Peer(address)| *address);
        let limit = match webhook {
            Webhook::Resources(_) => REVIEW_BYTES,
            Webhook::Validate | Webhook::Mutate => BODY_BYTES,
        };
        let Some(mut held) = self.bodies.begin(sender) else {
            // With a body it would take room until that is read.
            return self.rejected(&Rejected::TooMany).0.into_response();
        };
        let answered = async {
            let body = held.read(request.into_body(), limit).await?;
            let json = self.answer_body(webhook, &body, arrival, deadline).await?;
            held.grow(body.len(), json.len())?;
            Ok(json)
        };
        match answered.await {
            Ok(json) => {
                let json = fair::until_sent(json, held);
                ([(header::CONTENT_TYPE, "application/json")], json).into_response()
            }
            Err(rejected) => {
                let (status, text) = self.rejected(&rejected);
                (status, fair::until_sent(text + "\n", held)).into_response()
            }
        }
    }

    /// Counts and logs it.
    fn rejected(&self, rejected: &Rejected) -> (StatusCode, String) {
        let (status, reason) = rejected.status();
        self.metrics.rejected(reason);
        let error = shortened(rejected);
        tracing::info!(reason, %error, "request rejected");
        (status, error)
    }

    async fn answer_body(
        &self,
        webhook: Webhook<'_>,
        body: &Bytes,
        arrival: Instant,
        deadline: Instant,
    ) -> Result<Vec<u8>, Rejected> {
        let reading = AssertUnwindSafe(|| read::read(body, &self.settings.kinds));
        let request = catch_unwind(reading).map_err(|_| {
            self.metrics.panicked();
            Rejected::Failed
        })??;
        let judging = async {
            match webhook {
                Webhook::Resources(latest) => {
                    let answer = self.checks.answer(latest, &request, body, deadline).await?;
                    Ok((answer, NOTHING))
                }
                Webhook::Validate | Webhook::Mutate => {
                    self.judge(webhook, &request, deadline).await
                }
            }
        };
        let span = span::review(webhook.as_str(), &request);
        let judging = AssertUnwindSafe(judging.instrument(span.clone()));
        let (answer, review) = match judging.catch_unwind().await {
            Ok(judged) => judged?,
            Err(_) => {
                self.metrics.panicked();
                (failed(webhook), NOTHING)
            }
        };
        span.record("outcome", answer.outcome.as_str());
        span.record("code", answer.code);
        drop(span);
        let took = arrival.elapsed();
        self.metrics.answered(webhook.as_str(), answer.outcome, answer.code, took);
        self.log(webhook, &request, &review, &answer, took);
        self.tell_owner(&request, &review, &answer, body);
        answer.to_json(&request.uid).map_err(|_| Rejected::Failed)
    }

    async fn judge(
        &self,
        webhook: Webhook<'_>,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<(Answer, Review), Rejected> {
        let alone = |answer| Ok((answer, NOTHING));
        let kinds = &self.settings.kinds;
        let is_pod = kinds.is_pod(request.place);
        let unaffected = request.place == Place::Unaffected;
        if unaffected || (matches!(webhook, Webhook::Mutate) && !is_pod) {
            return alone(Answer::allowed());
        }
        if request.place == Place::Unknown {
            return alone(Answer::unknown_kind(&request.kind));
        }
        let spec = match &request.object {
            Object::Read(Some(spec)) => spec,
            Object::Read(None) => {
                return alone(Answer::no_template(kinds.configured(request.place)));
            }
            Object::Absent | Object::Skipped => Err(read::Malformed::NoObject)?,
        };
        let old = match &request.old_object {
            Object::Read(Some(old)) if request.operation == Operation::Update => Some(old),
            _ => None,
        };
        let items = workload::items(spec);
        if items.len() > IMAGES {
            let message = format!("{} images are over the limit of {IMAGES}", items.len());
            return alone(Answer::forbidden("LimitExceeded", message));
        }
        let found = workload::uses(items, old, kinds.path(request.place), is_pod);
        if found.is_empty() {
            return alone(Answer::allowed());
        }
        let (items, uses): (Vec<Item<'_>>, Vec<ImageUse>) = found.into_iter().unzip();
        let subject = match (is_pod, webhook) {
            (false, _) => Subject::Template,
            (true, Webhook::Mutate) => Subject::PodToPin,
            (true, _) => Subject::Pod,
        };
        let secrets: Vec<&str> =
            spec.image_pull_secrets.iter().flatten().map(|secret| &*secret.name).collect();
        let puller = Puller { service_account: &spec.service_account_name, secrets: &secrets };
        let Some(review) = self.review(request, subject, uses, puller, deadline).await else {
            return alone(failed(webhook));
        };
        let answer = match webhook {
            Webhook::Mutate => Answer::mutate(&review, items.into_iter()),
            _ => Answer::validate(&review, subject, self.settings.templates),
        };
        self.metrics.reviewed(&review);
        Ok((answer, review))
    }

    /// `None` where the reviewer did not answer for every image: a bug of its.
    async fn review(
        &self,
        request: &Request<'_>,
        subject: Subject,
        uses: Vec<ImageUse>,
        puller: Puller<'_>,
        deadline: Instant,
    ) -> Option<Review> {
        let namespace = Some(&*request.namespace).filter(|namespace| !namespace.is_empty());
        let asked = review::Request { namespace, subject, uses: &uses, puller, deadline };
        match self.within(self.decide.review(&asked), &request.namespace, deadline).await {
            Ok(review) => {
                let complete = review.images.iter().map(|image| &image.usage).eq(&uses);
                complete.then_some(review)
            }
            Err(unavailable) => Some(Review::unavailable(&uses, &unavailable)),
        }
    }

    /// A review that is ready at once takes no place among those that wait, and one that finds none
    /// has begun nothing yet.
    async fn within(
        &self,
        review: impl Future<Output = Review>,
        namespace: &str,
        deadline: Instant,
    ) -> Result<Review, Unavailable> {
        let mut review = pin!(review);
        if let Poll::Ready(review) = poll!(&mut review) {
            return Ok(review);
        }
        let Some(_place) = self.in_flight.try_take(namespace.to_owned()) else {
            return Err(Unavailable::Overloaded);
        };
        let _waiting = self.metrics.waiting();
        let late = tokio::time::timeout_at(deadline + LAST_RESORT, review).await;
        late.map_err(|_| Unavailable::DeadlineExceeded)
    }

    fn log(
        &self,
        webhook: Webhook<'_>,
        request: &Request<'_>,
        review: &Review,
        answer: &Answer,
        took: Duration,
    ) {
        self.log.record(&DecisionRecord {
            action: webhook.as_str(),
            uid: &request.uid,
            namespace: &request.namespace,
            group: &request.kind.group,
            kind: &request.kind.kind,
            name: &request.name,
            operation: request.operation.as_str(),
            dry_run: request.dry_run,
            outcome: answer.outcome,
            code: answer.code,
            took,
            review,
        });
    }

    /// Controllers keep refusals and warnings to themselves, so what they own is told. The author of
    /// anything else reads the answer.
    fn tell_owner(&self, request: &Request<'_>, review: &Review, answer: &Answer, body: &[u8]) {
        let Some(events) = &self.events else { return };
        let silent = answer.outcome == Outcome::Allowed || answer.code.is_empty();
        if silent || request.dry_run {
            return;
        }
        events.tell(|| owner::told(request, review, answer, body));
    }
}

/// An error that quotes the request must not fill the log, nor the answer.
fn shortened(error: &Rejected) -> String {
    error.to_string().chars().take(600).collect()
}

/// The mutating webhook refuses nothing, not even then.
fn failed(webhook: Webhook<'_>) -> Answer {
    let mut answer = match webhook {
        Webhook::Mutate => Answer::allowed(),
        Webhook::Validate | Webhook::Resources(_) => Answer::failed(),
    };
    answer.code = "Panic";
    answer
}

/// kube-apiserver appends `?timeout=10s` to the webhook's URL.
fn deadline(configured: Duration, uri: &Uri) -> Duration {
    let asked = uri
        .query()
        .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("timeout=")))
        .and_then(|timeout| timeout.strip_suffix('s')?.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).saturating_sub(TIMEOUT_MARGIN));
    asked.map_or(configured, |asked| configured.min(asked)).max(SHORTEST_DEADLINE)
}
