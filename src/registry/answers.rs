//! What registries answered, for a short time, and each question asked once at a time.

use std::sync::Arc;
use std::time::Duration;

use countersign_verify::image::Reference;
use countersign_verify::outcome::Unavailable;
use moka::Expiry;
use moka::sync::Cache;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

use super::unavailable;
use crate::gate::Gate;
use crate::http::Basic;
use crate::singleflight::SingleFlight;
use crate::telemetry::Asker;

/// The least time to wait for a turn, and for the answer then, also where who asked first has less:
/// others may have joined, and the answer is remembered.
const LEAST_TIME: Duration = Duration::from_secs(10);

/// What is asked, and as whom: an answer is for those with the same credentials only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) image: Reference,
    pub(super) credentials: Option<Basic>,
}

/// Answers of one kind.
pub(super) struct Answers<T> {
    known: Cache<Question, Result<T, Unavailable>>,
    gate: Arc<Gate>,
    /// Each namespace waits for a turn of its own: one that asks for much holds up no answer that
    /// another needs as well.
    waiting: SingleFlight<(String, Question), Result<T, Unavailable>>,
    asking: SingleFlight<Question, Result<T, Unavailable>>,
    span: fn(&Reference) -> Span,
}

impl<T: Clone + Send + Sync + 'static> Answers<T> {
    /// Remembers as much as `weights` sum up to; a refusal weighs 1. `span` is that of asking, for
    /// which `gate` gives turns.
    pub(super) fn new(
        expiry: AnswerExpiry,
        gate: &Arc<Gate>,
        capacity: u64,
        weight: fn(&T) -> u32,
        span: fn(&Reference) -> Span,
    ) -> Self {
        let known = Cache::builder()
            .max_capacity(capacity)
            .weigher(move |_, answer: &Result<T, Unavailable>| answer.as_ref().map_or(1, weight))
            .expire_after(expiry)
            .build();
        let (waiting, asking) = (SingleFlight::default(), SingleFlight::default());
        Self { known, gate: Arc::clone(gate), waiting, asking, span }
    }

    pub(super) fn known(&self, question: &Question) -> Option<Result<T, Unavailable>> {
        self.known.get(question)
    }

    /// The answer that is known, or that of `ask` once it is this namespace's turn. It is asked once
    /// for all who wait, until the deadline that `ask` is given.
    pub(super) async fn answer<F, Fut>(
        self: &Arc<Self>,
        question: Question,
        namespace: &str,
        deadline: Instant,
        ask: F,
    ) -> Result<T, Unavailable>
    where
        F: FnOnce(Question, Instant) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Unavailable>> + Send + 'static,
    {
        if let Some(answer) = self.known(&question) {
            return answer;
        }
        let (answers, asker, namespace) =
            (Arc::clone(self), Asker::current(), namespace.to_owned());
        let registry = question.image.registry().to_owned();
        let key = (namespace.clone(), question.clone());
        let answer = self.waiting.run(key, move || async move {
            let turn = answers.gate.enter(question.image.registry(), &namespace);
            let turn = timeout_at(least(deadline), turn).await;
            let _turn = turn.unwrap_or(Err(Unavailable::Overloaded))?;
            answers.asked(question, asker, move |question| ask(question, least(deadline))).await
        });
        answer.await.unwrap_or_else(|aborted| Err(unavailable(&registry, &aborted)))
    }

    async fn asked<F, Fut>(
        self: &Arc<Self>,
        question: Question,
        asker: Asker,
        ask: F,
    ) -> Result<T, Unavailable>
    where
        F: FnOnce(Question) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Unavailable>> + Send + 'static,
    {
        let (answers, asked) = (Arc::clone(self), question.clone());
        let registry = question.image.registry().to_owned();
        let answer = self.asking.run(question, move || async move {
            // It may have been answered between the last look and now.
            if let Some(answer) = answers.known(&asked) {
                return answer;
            }
            let span = asker.asks((answers.span)(&asked.image));
            let answer = ask(asked.clone()).instrument(span.clone()).await;
            span.record("code", answer.as_ref().err().map_or("", Unavailable::code));
            answers.known.insert(asked, answer.clone());
            answer
        });
        answer.await.unwrap_or_else(|aborted| Err(unavailable(&registry, &aborted)))
    }
}

fn least(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + LEAST_TIME)
}

/// Lets refusals expire sooner than answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerExpiry {
    pub(super) good: Duration,
    pub(super) refused: Duration,
}

impl AnswerExpiry {
    fn of<T>(&self, answer: &Result<T, Unavailable>) -> Option<Duration> {
        Some(if answer.is_ok() { self.good } else { self.refused })
    }
}

impl<T> Expiry<Question, Result<T, Unavailable>> for AnswerExpiry {
    fn expire_after_create(
        &self,
        _: &Question,
        answer: &Result<T, Unavailable>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        self.of(answer)
    }

    fn expire_after_update(
        &self,
        _: &Question,
        answer: &Result<T, Unavailable>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.of(answer)
    }
}
